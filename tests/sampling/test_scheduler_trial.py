"""Which schedulers fit: all classes of diffusers, with all settings that change their sigmas.

What decides is an experiment of its own on Gaussian data, whose right samples are known.
"""

import inspect
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_ancestral_discrete import KDPM2AncestralDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from videogen.sampling.gaussian import GaussianDenoiser
from videogen.sampling.predictions import predict_clean
from videogen.sampling.scheduler_trial import DIFFUSION_CLASSES, FLOW_CLASSES, fitted_scheduler
from videogen.sampling.schedulers import (
    FLOW_SHIFT,
    flow_scheduler,
    initial_noise_sigma,
    prediction_type_of,
    scale_model_input,
    set_timesteps,
    step_arguments,
)

MEAN, STD = 0.5, 0.5
NUM_STEPS = 40
SETTINGS: dict[str, tuple[Any, ...]] = {
    "use_karras_sigmas": (True,),
    "use_exponential_sigmas": (True,),
    "use_beta_sigmas": (True,),
    "use_lu_lambdas": (True,),
    "use_flow_sigmas": (True, False),
    "use_dynamic_shifting": (True,),
    "invert_sigmas": (True,),
    "shift": (1.0, 7.0),
    "flow_shift": (3.0,),
    "shift_terminal": (0.1,),
    "final_sigmas_type": ("sigma_min",),
    "num_train_timesteps": (50,),
    "timestep_spacing": ("trailing", "leading", "linspace"),
    "steps_offset": (1,),
    "rescale_betas_zero_snr": (True,),
    "beta_schedule": ("linear", "squaredcos_cap_v2"),
    "timestep_type": ("continuous",),
    "interpolation_type": ("log_linear",),
    "sigma_min": (0.1,),
    "sigma_max": (100.0,),
    "solver_order": (1, 3),
    "solver_type": ("heun", "bh1"),
    "algorithm_type": ("dpmsolver", "sde-dpmsolver", "sde-dpmsolver++"),
    "lower_order_final": (False,),
    "euler_at_final": (True,),
    "predict_x0": (False,),
    "clip_sample": (True,),
    "thresholding": (True,),
    "skip_prk_steps": (True,),
    "set_alpha_to_one": (False,),
}
# They renew all noise at every step, which only models that were distilled for it do well with.
FOR_DISTILLED = ("FlowMatchLCMScheduler", "LCMScheduler")


def scheduler_classes() -> list[str]:
    """All that diffusers exports, without those that need a library that is not installed."""
    found = [(name, getattr(diffusers, name)) for name in dir(diffusers) if name.endswith("Scheduler")]
    return [name for name, kind in found if type(kind) is type and issubclass(kind, SchedulerMixin)]


def trained_for(kind: str) -> SchedulerMixin:
    if kind == "flow_prediction":
        return flow_scheduler()
    betas: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return DDIMScheduler(**betas, clip_sample=False, prediction_type=kind)


def denoiser_for(kind: str, trained: Any, std: float) -> GaussianDenoiser:
    return GaussianDenoiser(MEAN, std, kind, None if kind == "flow_prediction" else trained.alphas_cumprod)


def variants(name: str, kind: str) -> list[SchedulerMixin]:
    """Instances of a class, set for a prediction, each with one setting changed."""
    scheduler_class = getattr(diffusers, name)
    accepted = inspect.signature(scheduler_class.__init__).parameters
    wanted = {"prediction_type": kind, "use_flow_sigmas": kind == "flow_prediction", "shift": FLOW_SHIFT}
    config = trained_for(kind).config  # type: ignore[attr-defined]
    wanted |= {
        key: config[key]
        for key in ("beta_start", "beta_end", "beta_schedule", "clip_sample")
        if key in config
    }
    base = {key: value for key, value in wanted.items() if key in accepted}
    changes: list[dict[str, Any]] = [{}] + [
        {key: value} for key, values in SETTINGS.items() if key in accepted for value in values
    ]
    made = []
    for change in changes:
        try:
            made.append(scheduler_class(**base | change))
        except (NotImplementedError, TypeError, ValueError):
            continue  # no such scheduler can be had of diffusers
    return made


def gaussian_error(scheduler: Any, kind: str, trained: Any) -> float:
    """How far mean or deviation of samples are off."""
    denoiser = denoiser_for(kind, trained, STD)
    set_timesteps(scheduler, NUM_STEPS, torch.device("cpu"))
    noise = torch.randn(1, 1, 1, 40, 50, generator=torch.Generator().manual_seed(0))
    latents = noise * initial_noise_sigma(scheduler)
    extras = step_arguments(scheduler, [torch.Generator().manual_seed(1)])
    for timestep in scheduler.timesteps:
        prediction = denoiser(scale_model_input(scheduler, latents, timestep), timestep)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **extras)[0]
    error = max(abs(latents.mean().item() - MEAN), abs(latents.std().item() - STD))
    return error if error == error else float("inf")


@pytest.mark.parametrize("kind", ["flow_prediction", "epsilon", "v_prediction"])
@pytest.mark.parametrize("name", scheduler_classes())
def test_what_is_accepted_samples_the_data(name: str, kind: str) -> None:
    """Every other setting is refused with a ValueError, whatever diffusers itself would raise."""
    trained = trained_for(kind)
    accepted = []
    for scheduler in variants(name, kind):
        try:
            fitted = fitted_scheduler(scheduler, kind, trained)
        except ValueError:
            continue
        accepted.append(scheduler)
        settings = fitted.config  # type: ignore[attr-defined]
        distilled = name in FOR_DISTILLED or settings.get("stochastic_sampling", False)
        assert gaussian_error(fitted, kind, trained) < (
            0.25 if distilled else 0.15
        )  # wrong ones: 0.4 and more
    fitting = FLOW_CLASSES if kind == "flow_prediction" else DIFFUSION_CLASSES
    assert bool(accepted) == (name in fitting)


@pytest.mark.parametrize("kind", ["flow_prediction", "epsilon", "v_prediction"])
@pytest.mark.parametrize("name", sorted({*FLOW_CLASSES, *DIFFUSION_CLASSES}))
def test_from_config_of_the_models_own_scheduler_fits(name: str, kind: str) -> None:
    """`pipeline.scheduler = Scheduler.from_config(pipeline.scheduler.config)`, as in diffusers."""
    trained: Any = trained_for(kind)
    scheduler = getattr(diffusers, name).from_config(trained.config)
    fits = name in (FLOW_CLASSES if kind == "flow_prediction" else DIFFUSION_CLASSES)
    if not fits:
        with pytest.raises(ValueError, match=f"`scheduler` {name}"):
            fitted_scheduler(scheduler, kind, trained)
        return
    fitted: Any = fitted_scheduler(scheduler, kind, trained)
    assert prediction_type_of(fitted) == kind
    if "flow_shift" in fitted.config and kind == "flow_prediction":
        assert fitted.config["flow_shift"] == FLOW_SHIFT
    again = type(trained).from_config(fitted.config)
    fitted_scheduler(again, kind, trained)


@pytest.mark.parametrize("kind", ["flow_prediction", "epsilon", "v_prediction"])
@pytest.mark.parametrize("name", sorted({*FLOW_CLASSES, *DIFFUSION_CLASSES}))
def test_predictions_mean_the_same_clip_at_every_step(name: str, kind: str) -> None:
    if name not in (FLOW_CLASSES if kind == "flow_prediction" else DIFFUSION_CLASSES):
        pytest.skip("not for this prediction")
    trained: Any = trained_for(kind)
    made = getattr(diffusers, name).from_config(trained.config)
    scheduler: Any = fitted_scheduler(made, kind, trained)
    denoiser = denoiser_for(kind, trained, 1e-6)
    set_timesteps(scheduler, 8, torch.device("cpu"))
    noise = torch.randn(1, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    latents = noise * initial_noise_sigma(scheduler)
    extras = step_arguments(scheduler, [torch.Generator().manual_seed(1)])
    for timestep in scheduler.timesteps:
        prediction = denoiser(scale_model_input(scheduler, latents, timestep), timestep)
        clean = predict_clean(prediction, latents, timestep, scheduler, kind)
        torch.testing.assert_close(clean, torch.full_like(clean, MEAN), rtol=0, atol=0.05)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **extras)[0]


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (DPMSolverMultistepScheduler(prediction_type="flow_prediction"), "set use_flow_sigmas=True"),
        (DPMSolverSinglestepScheduler(prediction_type="flow_prediction"), "set use_flow_sigmas=True"),
        (UniPCMultistepScheduler(prediction_type="flow_prediction"), "set use_flow_sigmas=True"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "with invert_sigmas=True: .* away from it"),
        (FlowMatchEulerDiscreteScheduler(num_train_timesteps=50), "num_train_timesteps=1000 .*, got 50"),
        (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), "fails with .* `mu` must be passed"),
        (DPMSolverMultistepScheduler(), "set for 'epsilon'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, SchedulerMixin) else value,
)
def test_the_reason_names_the_setting(scheduler: SchedulerMixin, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fitted_scheduler(scheduler, "flow_prediction", flow_scheduler())


def test_another_noise_schedule_than_that_of_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"another noise schedule .* DDIMScheduler.from_config\(pipeline"):
        fitted_scheduler(DDIMScheduler(num_train_timesteps=50), "epsilon", DDIMScheduler())
    # Its default betas are others, and `from_config` leaves out what is the default of DDIM's.
    other: Any = KDPM2AncestralDiscreteScheduler.from_config(DDIMScheduler(clip_sample=False).config)
    with pytest.raises(ValueError, match=r"beta_start=0.0001, beta_end=0.02, beta_schedule='linear'"):
        fitted_scheduler(other, "epsilon", DDIMScheduler(clip_sample=False))
    config = DDIMScheduler(clip_sample=False).config
    spelled = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
    other = KDPM2AncestralDiscreteScheduler.from_config(config, **spelled)
    assert fitted_scheduler(other, "epsilon", DDIMScheduler(clip_sample=False)) is not other


def test_the_scheduler_is_left_as_it_is() -> None:
    scheduler: Any = DPMSolverMultistepScheduler.from_config(flow_scheduler().config)
    before = dict(scheduler.config)
    fitted_scheduler(scheduler, "flow_prediction", flow_scheduler())
    assert dict(scheduler.config) == before and scheduler.step_index is None
