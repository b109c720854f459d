"""Noise on clips: the paths, what is to be predicted, the weights, and schedules that end in pure noise."""

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from videogen.sampling.noise import seeded_generator
from videogen.sampling.schedulers import flow_scheduler
from videogen.train.objectives.noise_process import (
    DiffusionProcess,
    FlowProcess,
    changed_scheduler,
    make_noise_process,
    min_snr_weights,
)


def ddim(**settings: Any) -> DDIMScheduler:
    """The noise schedule of Stable Diffusion and ModelScope."""
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**(schedule | settings))


def process_of(scheduler: SchedulerMixin, snr_gamma: float | None = None) -> Any:
    return make_noise_process(scheduler, snr_gamma, time_mean=0.5, time_std=1.4)


@pytest.fixture
def clips() -> tuple[Tensor, Tensor]:
    """Latents and noise, `(3, 4, 2, 4, 4)` each."""
    latents, noise = torch.randn(2, 3, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    return latents, noise


def test_flow(clips: tuple[Tensor, Tensor]) -> None:
    latents, noise = clips
    noisy = process_of(flow_scheduler()).add_noise(latents, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(noisy.sample[0], latents[0]) and torch.equal(noisy.sample[2], noise[2])
    torch.testing.assert_close(noisy.sample[1], 0.75 * latents[1] + 0.25 * noise[1])
    assert noisy.timesteps.tolist() == [0, 250, 1000] and noisy.weights.tolist() == [1, 1, 1]
    assert noisy.levels.tolist() == [0, 0.25, 1]
    assert torch.equal(noisy.target, noise - latents)


def test_times_of_a_flow_have_the_distribution_asked_for() -> None:
    process = FlowProcess(time_mean=0.7, time_std=1.3)
    times = process.draw_times([seeded_generator(0, idx) for idx in range(1000)])
    logits = torch.logit(times.double())
    assert logits.mean() == pytest.approx(0.7, abs=0.1) and logits.std() == pytest.approx(1.3, abs=0.1)


def test_times_are_the_same_in_any_batch_and_keep_their_precision() -> None:
    """Those of fine-tuning are computed in float64: a resumed run keeps them, to the last bit."""
    for process in (FlowProcess(0.5, 1.4), process_of(flow_scheduler()), process_of(ddim())):
        together = process.draw_times([seeded_generator(3, idx) for idx in range(64)])
        alone = [process.draw_times([seeded_generator(3, idx)])[0] for idx in range(64)]
        torch.testing.assert_close(together, torch.stack(alone), rtol=1e-6, atol=0)
    normals = [torch.randn((), generator=seeded_generator(3, idx)).item() for idx in range(64)]
    exact = [1 / (1 + math.exp(-0.5 - 1.4 * normal)) for normal in normals]
    times = process_of(flow_scheduler()).draw_times([seeded_generator(3, idx) for idx in range(64)])
    assert torch.equal(times, torch.tensor(exact))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_levels_of_diffusion_are_the_times_of_a_flow(
    clips: tuple[Tensor, Tensor], prediction_type: str
) -> None:
    """Noisy latents of a level are those of a straight path at that time, up to a factor."""
    latents, noise = clips
    noisy = process_of(ddim(prediction_type=prediction_type)).add_noise(
        latents, noise, torch.tensor([0, 400, 999])
    )
    path = FlowProcess(0.0, 1.0).add_noise(latents, noise, noisy.levels).sample
    for sample, one in zip(noisy.sample, path, strict=True):
        torch.testing.assert_close(sample / sample.norm(), one / one.norm())


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_diffusion_is_that_of_diffusers(clips: tuple[Tensor, Tensor], prediction_type: str) -> None:
    latents, noise = clips
    scheduler = ddim(prediction_type=prediction_type)
    times = torch.tensor([0, 400, 999])
    noisy = process_of(scheduler).add_noise(latents, noise, times.float())
    torch.testing.assert_close(noisy.sample, scheduler.add_noise(latents, noise, times))  # type: ignore[arg-type]
    velocity = scheduler.get_velocity(latents, noise, times)  # type: ignore[arg-type]
    torch.testing.assert_close(noisy.target, velocity if prediction_type == "v_prediction" else noise)
    assert torch.equal(noisy.timesteps, times) and noisy.weights.tolist() == [1, 1, 1]


def test_steps_of_diffusion_come_all_alike() -> None:
    process = process_of(ddim(num_train_timesteps=10))
    steps = process.draw_times([seeded_generator(0, idx) for idx in range(2000)])
    counts = steps.bincount(minlength=10)
    assert len(counts) == 10 and counts.min() > 150 and counts.max() < 250


@pytest.mark.parametrize("kind", [DDIMScheduler, DPMSolverMultistepScheduler])
def test_the_schedule_is_read_off_any_scheduler(kind: Any) -> None:
    process = process_of(kind.from_config(ddim().config))
    torch.testing.assert_close(process.alphas_cumprod, ddim().alphas_cumprod)


# Min-SNR

ALPHAS = torch.tensor([0.5, 0.9, 0.2])  # signal to noise 1, 9, 0.25


@pytest.mark.parametrize(
    ("prediction_type", "gamma", "expected"),
    [
        ("epsilon", 5.0, [1, 5 / 9, 1]),
        ("epsilon", 0.5, [0.5, 0.5 / 9, 1]),
        ("v_prediction", 5.0, [0.5, 0.5, 0.2]),
        ("v_prediction", 0.5, [0.25, 0.05, 0.2]),
    ],
)
def test_min_snr_weights(prediction_type: str, gamma: float, expected: list[float]) -> None:
    torch.testing.assert_close(min_snr_weights(ALPHAS, gamma, prediction_type), torch.tensor(expected))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_is_one_weight_on_the_clip(clips: tuple[Tensor, Tensor], prediction_type: str) -> None:
    """Whatever is predicted, an error of the clip counts min(SNR, gamma)."""
    latents, noise = (part.double() for part in clips)
    process = DiffusionProcess(ALPHAS.double(), prediction_type, snr_gamma=2.0)
    noisy = process.add_noise(latents, noise, torch.arange(3))
    predicted = noisy.target + torch.randn(
        latents.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    signal, spread = (
        part.sqrt()[:, None, None, None, None] for part in (ALPHAS.double(), 1 - ALPHAS.double())
    )
    if prediction_type == "epsilon":
        clip = (noisy.sample - spread * predicted) / signal
    else:
        clip = signal * noisy.sample - spread * predicted
    on_clip = (clip - latents).square().mean((1, 2, 3, 4)) * torch.tensor([1.0, 2.0, 0.25])
    on_prediction = (predicted - noisy.target).square().mean((1, 2, 3, 4)) * noisy.weights
    torch.testing.assert_close(on_prediction, on_clip)


# Zero terminal SNR


@pytest.mark.parametrize("kind", [DDIMScheduler, DPMSolverMultistepScheduler])
def test_the_last_step_becomes_pure_noise(clips: tuple[Tensor, Tensor], kind: Any) -> None:
    """As it is, the schedule leaves 7% of the clip; after the change exactly nothing, and the network is
    asked for the clip alone.
    """
    latents, noise = clips
    last = torch.full((3,), 999.0)
    scheduler = kind.from_config(ddim().config)
    before = process_of(scheduler).add_noise(latents, noise, last).sample
    assert 0.06 < (before * latents).mean() - (noise * latents).mean() * 0.998 < 0.08
    changed = changed_scheduler(scheduler, "v_prediction", zero_terminal_snr=True)
    after = process_of(changed).add_noise(latents, noise, last)
    assert torch.equal(after.sample, noise)
    assert torch.equal(after.target, -latents)
    first = process_of(changed).add_noise(latents, noise, torch.zeros(3)).sample
    torch.testing.assert_close(first, process_of(scheduler).add_noise(latents, noise, torch.zeros(3)).sample)


def test_the_changed_scheduler_keeps_all_else() -> None:
    scheduler = ddim(clip_sample=False, steps_offset=1)
    changed = changed_scheduler(scheduler, "v_prediction", zero_terminal_snr=True)
    expected = {
        **scheduler.config,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    ignored = "_use_default_values"
    assert {k: v for k, v in changed.config.items() if k != ignored} == {  # type: ignore[attr-defined]
        k: v for k, v in expected.items() if k != ignored
    }
    changed.set_timesteps(4)  # type: ignore[attr-defined]
    assert changed.timesteps.tolist() == [999, 749, 499, 249]  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheduler", [flow_scheduler(), ddim()])
def test_nothing_to_change(scheduler: SchedulerMixin) -> None:
    assert changed_scheduler(scheduler, None, zero_terminal_snr=False) is scheduler


@pytest.mark.parametrize(("present", "wanted"), [("epsilon", "v_prediction"), ("v_prediction", "epsilon")])
def test_one_prediction_for_the_other(present: str, wanted: str) -> None:
    changed = changed_scheduler(ddim(prediction_type=present), wanted, zero_terminal_snr=False)
    assert process_of(changed).prediction_type == wanted


ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


@pytest.mark.parametrize(
    ("scheduler", "wanted", "zero_snr", "message"),
    [
        (flow_scheduler(), "epsilon", False, "`prediction_type` must be 'flow_prediction' or None"),
        (flow_scheduler(), None, True, "`zero_terminal_snr` must be False for a flow model"),
        (ddim(), "flow_prediction", False, "`prediction_type` must be 'epsilon' or None"),
        (ddim(), "sample", False, "`prediction_type` must be 'epsilon' or None"),
        (ddim(), None, True, "`prediction_type` must be 'v_prediction' where the last step is pure noise"),
        (ddim(**ZERO_SNR), "epsilon", False, "must be 'v_prediction' where the last step is pure noise"),
        (PNDMScheduler(), "v_prediction", True, "PNDMScheduler.* has no setting 'rescale_betas_zero_snr'"),
    ],
)
def test_changes_that_make_no_sense(
    scheduler: SchedulerMixin, wanted: str | None, zero_snr: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        changed_scheduler(scheduler, wanted, zero_snr)


def test_models_that_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="`snr_gamma` must be None for a flow model, got 5"):
        process_of(flow_scheduler(), snr_gamma=5.0)
    with pytest.raises(
        ValueError, match=r"must predict flow_prediction, epsilon or v_prediction .* 'sample'"
    ):
        process_of(ddim(prediction_type="sample"))
