"""Schedulers by name: each set for what the denoiser predicts, with the noise schedule of the model."""

import inspect
import re
import warnings

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from videogen.sampling.guidance import classifier_free
from videogen.sampling.schedulers import (
    FLOW_SHIFT,
    SCHEDULERS,
    flow_scheduler,
    initial_noise_sigma,
    make_scheduler,
    prediction_type_of,
    scale_model_input,
    step_arguments,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*distilled:UserWarning")

STOCHASTIC = {"ddpm", "euler_a", "dpm++sde", "lcm", "tcd"}
NAMES = [(kind, name) for kind, names in SCHEDULERS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_scheduler_is_set_for_its_prediction(kind: str, name: str) -> None:
    trained = flow_scheduler() if kind == "flow_prediction" else DDPMScheduler(prediction_type=kind)
    scheduler = make_scheduler(name, kind, trained)
    assert type(scheduler).__name__ == SCHEDULERS[kind][name][0]
    assert prediction_type_of(scheduler) == kind


@pytest.mark.parametrize("name", SCHEDULERS["epsilon"])
def test_the_noise_schedule_of_the_model_is_kept(name: str) -> None:
    trained = DDIMScheduler(beta_start=0.001, beta_end=0.02, beta_schedule="scaled_linear")
    scheduler = make_scheduler(name, "epsilon", trained)
    torch.testing.assert_close(scheduler.alphas_cumprod, trained.alphas_cumprod)  # type: ignore[attr-defined]


def test_a_scheduler_of_the_same_class_is_the_same() -> None:
    trained = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    same = make_scheduler("ddim", "epsilon", trained)
    for key in trained.config.keys() - {"_use_default_values"}:
        assert same.config[key] == trained.config[key]  # type: ignore[attr-defined]
    ddpm = make_scheduler("ddpm", "epsilon", trained)
    assert not ddpm.config["clip_sample"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(SCHEDULERS["flow_prediction"].keys() - STOCHASTIC))
@pytest.mark.parametrize("num_steps", [2, 8])
def test_flow_schedulers_lead_from_noise_to_the_clip(name: str, num_steps: int) -> None:
    """With the velocity of a single clip every path is straight: noise - x, at every time."""
    generator = torch.Generator().manual_seed(0)
    clip, noise = torch.randn(2, 1, 4, 3, 2, 2, generator=generator)
    scheduler = make_scheduler(name, "flow_prediction", flow_scheduler())
    scheduler.set_timesteps(num_steps)  # type: ignore[attr-defined]
    timesteps = scheduler.timesteps  # type: ignore[attr-defined]
    assert 950 <= timesteps[0] <= 1000 and timesteps[-1] > 0 and (timesteps.diff() <= 0).all()
    latents = initial_noise_sigma(scheduler) * noise
    for timestep in timesteps:
        model_input = scale_model_input(scheduler, latents, timestep)
        expected = torch.lerp(clip, noise, float(timestep) / 1000)
        torch.testing.assert_close(model_input, expected, rtol=0, atol=0.02)
        latents = scheduler.step(noise - clip, timestep, latents, return_dict=False)[0]  # type: ignore[attr-defined]
    torch.testing.assert_close(latents, clip, rtol=0, atol=0.02)


def test_the_default_takes_more_of_its_steps_at_high_noise() -> None:
    scheduler = flow_scheduler()
    assert isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    scheduler.set_timesteps(8)
    linear = torch.linspace(1, 1 / 1000, 8)
    shifted = FLOW_SHIFT * linear / (1 + (FLOW_SHIFT - 1) * linear)
    assert (scheduler.timesteps / 1000 >= linear - 1e-6).all()
    assert scheduler.timesteps[0] == 1000
    assert (scheduler.timesteps > 500).sum() > 4
    assert abs(scheduler.timesteps[3] / 1000 - shifted[3]) < 0.05


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_unknown_names_list_the_known(kind: str) -> None:
    with pytest.raises(ValueError, match=f"`scheduler` 'foo' is unknown for a model with '{kind}'") as error:
        make_scheduler("foo", kind, flow_scheduler())
    assert str(error.value).endswith(f"known are {', '.join(SCHEDULERS[kind])}")


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("flow_prediction", "ddim", "on a flow the same method is euler"),
        ("flow_prediction", "dpm++2m_karras", "gives NaN; use dpm"),
        ("flow_prediction", "tcd", "use lcm for a distilled flow"),
        ("epsilon", "flow_heun", "it is for models that predict a velocity of a flow; use heun"),
        ("sample", "pndm", "diffusers has not written it for 'sample'"),
    ],
)
def test_names_that_do_not_fit_are_refused_with_the_reason(kind: str, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"does not fit a model with '{kind}': .*{reason}.* Known are "):
        make_scheduler(name, kind, flow_scheduler())


def test_every_name_is_known_or_refused_with_a_reason() -> None:
    names = {name for kind in SCHEDULERS for name in SCHEDULERS[kind]}
    for kind, known in SCHEDULERS.items():
        for name in sorted(names - known.keys()):
            with pytest.raises(ValueError, match=re.escape(f"`scheduler` {name!r} does not fit")):
                make_scheduler(name, kind, flow_scheduler())


def test_a_prediction_without_any_choice() -> None:
    with pytest.raises(ValueError, match=r"no `scheduler` can be chosen .* 'score': .* flow_prediction, eps"):
        make_scheduler("euler", "score", flow_scheduler())


def test_schedulers_of_distilled_models_are_allowed_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"for models that were distilled .* saved with DDIMScheduler"):
        scheduler = make_scheduler("lcm", "epsilon", DDIMScheduler(clip_sample=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_scheduler("tcd", "epsilon", scheduler)


def test_prediction_types() -> None:
    assert prediction_type_of(DDIMScheduler(prediction_type="v_prediction")) == "v_prediction"
    assert prediction_type_of(DPMSolverMultistepScheduler()) == "epsilon"
    assert prediction_type_of(flow_scheduler()) == "flow_prediction"


def test_scales_of_input_and_noise() -> None:
    latents = torch.ones(1, 4, 2, 2, 2)
    flow = flow_scheduler()
    flow.set_timesteps(4)
    assert initial_noise_sigma(flow) == 1.0
    assert scale_model_input(flow, latents, flow.timesteps[0]) is latents
    euler = EulerDiscreteScheduler()
    euler.set_timesteps(4)
    assert initial_noise_sigma(euler) > 10
    timestep = euler.timesteps[0]
    expected = euler.scale_model_input(latents, timestep)
    assert torch.equal(scale_model_input(euler, latents, timestep), expected) and expected.max() < 0.2


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_generators_go_where_they_are_taken(kind: str, name: str) -> None:
    trained = flow_scheduler() if kind == "flow_prediction" else DDPMScheduler(prediction_type=kind)
    scheduler = make_scheduler(name, kind, trained)
    generators = [torch.Generator()]
    takes = "generator" in inspect.signature(scheduler.step).parameters  # type: ignore[attr-defined]
    assert step_arguments(scheduler, generators) == ({"generator": generators} if takes else {})


def test_classifier_free_guidance() -> None:
    unconditional, conditional = torch.randn(2, 1, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(classifier_free(unconditional, conditional, 0.0), unconditional)
    torch.testing.assert_close(classifier_free(unconditional, conditional, 1.0), conditional)
    torch.testing.assert_close(
        classifier_free(unconditional, conditional, 3.0), 3 * conditional - 2 * unconditional
    )
