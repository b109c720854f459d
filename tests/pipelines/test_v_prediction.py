"""Models that predict v: the clips of the same model that predicts noise, and a start from pure noise."""

import re
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from tests.tiny_pipeline import latents_of, make_pipeline
from videogen.models.unet3d import UNet3D
from videogen.pipelines.generation import TextToVideo
from videogen.sampling.schedulers import SCHEDULERS, make_scheduler

PROMPT = "a red circle"

BEGIN_AT_PURE_NOISE = ["ddim", "ddpm", "euler", "euler_a", "dpm++2m", "dpm++sde", "unipc"]
pytestmark = pytest.mark.filterwarnings("ignore:.*distilled:UserWarning")


def ddim(**settings: Any) -> DDIMScheduler:
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**({"clip_sample": False, "steps_offset": 1} | schedule | settings))


# PNDM of diffusers averages what the network predicts, be it noise or v, which is not the same.
@pytest.mark.parametrize("name", [name for name in SCHEDULERS["v_prediction"] if name != "pndm"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_clips_equal_those_of_a_prediction_of_the_noise(name: str, guidance_scale: float) -> None:
    """The same network, whose noise is turned into v on its way out: both are linear, and so is guidance."""
    noise_model = make_pipeline(TextToVideo, UNet3D, scheduler=make_scheduler(name, "epsilon", ddim()))
    v_scheduler = make_scheduler(name, "v_prediction", ddim(prediction_type="v_prediction"))
    v_model = make_pipeline(TextToVideo, UNet3D, scheduler=v_scheduler)
    assert v_model.prediction_type == "v_prediction"
    alphas_cumprod = ddim().alphas_cumprod
    rescaled = name == "euler"  # whose network sees x / sqrt(1 + sigma^2), as that of the others sees x

    def to_velocity(_: nn.Module, arguments: tuple[Any, ...], output: tuple[Tensor]) -> tuple[Tensor]:
        sample, timestep = arguments[:2]
        step = float(timestep)
        lower = int(step)
        alpha = alphas_cumprod[lower]
        if rescaled and step != lower:  # between two steps Euler takes sigma linearly
            upper = min(lower + 1, 999)
            sigmas = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
            sigma = torch.lerp(sigmas[lower], sigmas[upper], step - lower)
            alpha = 1 / (1 + sigma**2)
        return ((output[0] - (1 - alpha).sqrt() * sample) / alpha.sqrt(),)

    v_model.unet.register_forward_hook(to_velocity)
    options: dict[str, Any] = {"seed": 3, "num_inference_steps": 4, "guidance_scale": guidance_scale}
    expected = latents_of(noise_model, PROMPT, **options)
    # With this spacing the network is told rounded timesteps, and the two divide by slightly other alphas.
    tolerance = 2e-2 if name == "dpm++2m_karras" else 1e-3
    velocity = latents_of(v_model, PROMPT, **options)
    torch.testing.assert_close(velocity, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [*BEGIN_AT_PURE_NOISE, "dpm++2m_karras", "lcm", "tcd"])
def test_a_rescaled_schedule_begins_at_the_step_of_pure_noise(name: str) -> None:
    trained = ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler = make_scheduler(name, "v_prediction", trained)
    pipeline = make_pipeline(TextToVideo, UNet3D, scheduler=scheduler)
    seen: list[tuple[Tensor, float]] = []
    pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], float(inputs[1]))))
    noise = torch.randn(1, 4, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    latents = latents_of(pipeline, PROMPT, latents=noise, num_inference_steps=4, guidance_scale=1.0, seed=0)
    assert latents.isfinite().all()
    assert seen[0][1] == 999 and len(seen) == 4
    torch.testing.assert_close(seen[0][0], noise, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["pndm", "heun", "lms", "dpm++2s", "deis"])
def test_samplers_that_cannot_begin_at_pure_noise_are_refused(name: str) -> None:
    trained = ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(ValueError, match=f"'{re.escape(name)}' cannot begin at pure noise, .*: use ddim"):
        make_scheduler(name, "v_prediction", trained)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++2m", "unipc"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_the_velocity_of_a_single_clip_leads_to_it(name: str, zero_terminal_snr: bool) -> None:
    spacing = "trailing" if zero_terminal_snr else "leading"
    trained = ddim(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=zero_terminal_snr,
        timestep_spacing=spacing,
        set_alpha_to_one=True,
    )
    generator = torch.Generator().manual_seed(0)
    clip, noise = torch.randn(2, 1, 4, 2, 2, 3, generator=generator)
    alphas_cumprod = trained.alphas_cumprod
    pipeline = make_pipeline(TextToVideo, UNet3D, scheduler=make_scheduler(name, "v_prediction", trained))

    def velocity(_: nn.Module, arguments: tuple[Any, ...], output: tuple[Tensor]) -> tuple[Tensor]:
        """Of the path from the clip to this sample, which the network sees at unit variance."""
        sample, timestep = arguments[:2]
        step = float(timestep)
        low, high = alphas_cumprod[int(step)], alphas_cumprod[min(int(step) + 1, 999)]
        alpha = torch.lerp(low, high, step - int(step))
        spread = (1 - alpha).sqrt()
        on_path = (sample - alpha.sqrt() * clip) / spread
        return (alpha.sqrt() * on_path - spread * clip,)

    pipeline.unet.register_forward_hook(velocity)
    latents = latents_of(pipeline, PROMPT, latents=noise, num_inference_steps=10, guidance_scale=1.0)
    torch.testing.assert_close(latents, clip, rtol=0, atol=0.05)
