"""Whether a scheduler fits a model: by its class, and by a trial on data whose right sample is known."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videogen.sampling.gaussian import GaussianDenoiser
from videogen.sampling.noise import sample_noise
from videogen.sampling.schedulers import (
    FLOW_TIMESTEPS,
    SCHEDULERS,
    check_prediction_type,
    initial_noise_sigma,
    scale_model_input,
    set_timesteps,
    step_arguments,
)

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

TOLERANCE = 0.1
"""How far a trial may end from the right sample: some schedulers stop at the least noise of the training."""

TRIAL_STEPS = (8, 40)
"""Steps of trials: with few a wrong path shows, with many what goes wrong where timesteps come close."""

_FLOW_SOLVERS = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler")
FLOW_CLASSES = (
    *("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"),
    *_FLOW_SOLVERS,
)
"""Classes of diffusers that lead a flow from noise to the clip."""

DIFFUSION_CLASSES = (
    *("DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler"),
    *("DEISMultistepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler"),
    *("HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LCMScheduler"),
    *("LMSDiscreteScheduler", "PNDMScheduler", "SASolverScheduler", "TCDScheduler"),
    *_FLOW_SOLVERS,
)
"""Classes of diffusers that do so for the other predictions."""

# diffusers checks settings where they first do harm, and then raises whatever comes.
_SCHEDULER_ERRORS = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


def fitted_scheduler(
    scheduler: SchedulerMixin,
    prediction_type: str,
    trained: SchedulerMixin,
    num_inference_steps: int | None = None,
) -> SchedulerMixin:
    """A copy of a scheduler for one call, which is known to lead from noise to the clip.

    A solver that was made with `from_config` of a flow scheduler is set for flows, as diffusers leaves it set
    for the prediction of noise.

    Args:
        scheduler: Left as it is.
        prediction_type: What the denoiser predicts, a key of `SCHEDULERS`.
        trained: The model's own scheduler, whose noise schedule the denoiser was trained with.
        num_inference_steps: Of the call, if it is known: some schedulers have a least or a largest number.

    Raises:
        ValueError: If the scheduler does not fit, or has not so many steps, with the reason.
    """
    scheduler = copy.deepcopy(scheduler)
    kind, config = type(scheduler), scheduler.config  # type: ignore[attr-defined]
    is_flow = prediction_type == "flow_prediction"
    if is_flow and kind.__name__ in _FLOW_SOLVERS and "shift" in config and not config["use_flow_sigmas"]:
        shift = config["shift"] if config["flow_shift"] == 1 else config["flow_shift"]
        settings = {"prediction_type": prediction_type, "use_flow_sigmas": True, "flow_shift": shift}
        scheduler = kind.from_config(config, **settings)  # type: ignore[attr-defined]
    check_prediction_type(scheduler, prediction_type)
    classes = FLOW_CLASSES if is_flow else DIFFUSION_CLASSES
    if kind.__name__ not in classes:
        raise ValueError(
            f"`scheduler` {kind.__name__} does not fit a model with {prediction_type!r}: "
            f"use one of {', '.join(classes)}"
        )
    _check_noise_schedule(scheduler, is_flow, trained)
    try:
        distance = max(run_trial(scheduler, prediction_type, trained, steps) for steps in TRIAL_STEPS)
    except _SCHEDULER_ERRORS as error:
        raise ValueError(f"`scheduler` {kind.__name__} fails{_settings_of(scheduler)}: {error}") from error
    if distance > TOLERANCE:
        hint = f"use `make_scheduler` with {', '.join(SCHEDULERS[prediction_type])}"
        if is_flow and kind.__name__ in _FLOW_SOLVERS:
            hint = f"set use_flow_sigmas=True and no other sigmas, or {hint}"
        raise ValueError(
            f"`scheduler` {kind.__name__} does not lead from noise to the clip for a model with "
            f"{prediction_type!r}{_settings_of(scheduler)}: on data whose only clip is known it ends "
            f"{distance:.2g} away from it; {hint}"
        )
    if num_inference_steps is not None:
        try:
            if run_trial(scheduler, prediction_type, trained, num_inference_steps) == torch.inf:
                raise FloatingPointError("what it gives is not finite")
        except _SCHEDULER_ERRORS as error:
            raise ValueError(
                f"`num_inference_steps` {num_inference_steps} cannot be used with `scheduler` "
                f"{kind.__name__}{_settings_of(scheduler)}: {error}"
            ) from error
    return scheduler


def run_trial(
    scheduler: SchedulerMixin, prediction_type: str, trained: SchedulerMixin, num_steps: int
) -> float:
    """How far a scheduler ends from the only clip there is, when the denoiser knows that clip.

    The prediction is then right at every noise level, and every method is exact, in however few steps: what
    is left is noise that it did not remove, or what its settings made of the denoiser's timesteps.
    """
    scheduler = copy.deepcopy(scheduler)
    config = trained.config  # type: ignore[attr-defined]
    bound = config.get("clip_sample_range", 1.0) if config.get("clip_sample", False) else 2.0
    clip = torch.linspace(-bound, bound, 16, device="cpu", dtype=torch.float32).view(1, 1, 1, 4, 4)
    is_flow = prediction_type == "flow_prediction"
    alphas_cumprod: Tensor | None = None if is_flow else trained.alphas_cumprod  # type: ignore[attr-defined]
    denoiser = GaussianDenoiser(clip, 1e-6, prediction_type, alphas_cumprod)
    generator = torch.Generator().manual_seed(0)
    set_timesteps(scheduler, num_steps, torch.device("cpu"))
    latents = sample_noise(clip.shape[1:], [generator]) * initial_noise_sigma(scheduler)
    extras = step_arguments(scheduler, [generator])
    for timestep in scheduler.timesteps:  # type: ignore[attr-defined]
        prediction = denoiser(scale_model_input(scheduler, latents, timestep), timestep)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **extras)[0]  # type: ignore[attr-defined]
    return (latents - clip).abs().nan_to_num(torch.inf).max().item()


def _check_noise_schedule(scheduler: SchedulerMixin, is_flow: bool, trained: SchedulerMixin) -> None:
    """Raise ValueError if a timestep means another amount of noise than it did in training."""
    name, config = type(scheduler).__name__, scheduler.config  # type: ignore[attr-defined]
    if is_flow:
        if config["num_train_timesteps"] != FLOW_TIMESTEPS:
            raise ValueError(
                f"`scheduler` {name} must have num_train_timesteps={FLOW_TIMESTEPS} on a flow, got "
                f"{config['num_train_timesteps']}"
            )
        return
    if type(trained).__name__ not in DIFFUSION_CLASSES:
        raise ValueError(f"the model's own {type(trained).__name__} has no noise schedule that is known here")
    own: Tensor = scheduler.alphas_cumprod  # type: ignore[attr-defined]
    expected: Tensor = trained.alphas_cumprod  # type: ignore[attr-defined]
    if own.shape != expected.shape or not torch.allclose(own, expected, rtol=0, atol=1e-5):
        # Spelled out, as `from_config` leaves out what is the default of the class that the config is from.
        said = trained.config  # type: ignore[attr-defined]
        names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
        settings = ", ".join(f"{key}={said[key]!r}" for key in names if key in said)
        raise ValueError(
            f"`scheduler` {name} has another noise schedule than the model was trained with: make it with "
            f"{name}.from_config(pipeline.scheduler.config, {settings})"
        )


def _settings_of(scheduler: SchedulerMixin) -> str:
    """The settings that are not those of the class, for a message."""
    defaults = inspect.signature(type(scheduler)).parameters
    config = scheduler.config  # type: ignore[attr-defined]
    own = [
        f"{name}={config[name]!r}"
        for name, parameter in defaults.items()
        if name in config and config[name] != parameter.default
    ]
    return f" with {', '.join(own)}" if own else ""
