"""Schedulers by the names users know, each with the settings that the prediction of a denoiser needs."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

FLOW_SHIFT = 3.0
"""Time shift of flow schedulers (Esser et al. 2024, arXiv:2403.03206, eq. 23): more steps at high noise."""

FLOW_TIMESTEPS = 1000
"""Timesteps are the time of a flow, in [0, 1], times this."""

_SOLVER_ON_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": FLOW_SHIFT}

# Latents have no bounds to clip to; a model whose own scheduler says otherwise is heard.
_ON_DIFFUSION: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm++2s": ("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {"clip_sample": False}),
    "tcd": ("TCDScheduler", {"clip_sample": False}),
}

SCHEDULERS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "flow_prediction": {
        "euler": ("FlowMatchEulerDiscreteScheduler", {"shift": FLOW_SHIFT}),
        "flow_euler": ("FlowMatchEulerDiscreteScheduler", {"shift": FLOW_SHIFT}),
        "heun": ("FlowMatchHeunDiscreteScheduler", {"shift": FLOW_SHIFT}),
        "flow_heun": ("FlowMatchHeunDiscreteScheduler", {"shift": FLOW_SHIFT}),
        "dpm++2s": ("DPMSolverSinglestepScheduler", _SOLVER_ON_FLOW | {"lower_order_final": True}),
        "dpm++2m": ("DPMSolverMultistepScheduler", _SOLVER_ON_FLOW),
        "dpm++sde": ("DPMSolverMultistepScheduler", _SOLVER_ON_FLOW | {"algorithm_type": "sde-dpmsolver++"}),
        "unipc": ("UniPCMultistepScheduler", _SOLVER_ON_FLOW),
        "lcm": ("FlowMatchLCMScheduler", {"shift": FLOW_SHIFT}),
    },
    "epsilon": _ON_DIFFUSION,
    "v_prediction": _ON_DIFFUSION,
    "sample": {name: made for name, made in _ON_DIFFUSION.items() if name not in ("pndm", "euler_a")},
}
"""For each prediction: name, class in diffusers, settings beside those of the model's own scheduler.

`benchmarks/scheduler_pairs.py` runs all of them on data whose right samples are known.
"""

_NO_FLOW = "it needs a noise schedule of diffusion, which a flow does not have"
_FLOW_ONLY = "it is for models that predict a velocity of a flow"
_UNFIT: dict[str, dict[str, str]] = {
    "flow_prediction": {
        "ddim": f"{_NO_FLOW}; on a flow the same method is euler",
        "ddpm": f"{_NO_FLOW}; use dpm++sde to add noise on the way",
        "pndm": f"{_NO_FLOW}; use dpm++2m",
        "euler_a": f"{_NO_FLOW}; use dpm++sde to add noise on the way",
        "lms": f"{_NO_FLOW}; use dpm++2m",
        "dpm++2m_karras": "its spacing starts from an infinite sigma on a flow, and gives NaN; use dpm++2m",
        "deis": "that of diffusers ends a flow at its last sigma, with noise left in the clip; use dpm++2m",
        "tcd": f"{_NO_FLOW}; use lcm for a distilled flow",
    },
    "epsilon": {name: f"{_FLOW_ONLY}; use {name[5:]}" for name in ("flow_euler", "flow_heun")},
    "sample": {"pndm": "diffusers has not written it for 'sample'; use dpm++2m"}
    | {"euler_a": "diffusers has not written it for 'sample'; use ddpm"},
}
_UNFIT["v_prediction"] = _UNFIT["epsilon"]
_UNFIT["sample"] |= _UNFIT["epsilon"]
"""Names that exist for other predictions, with the reason why not for this one."""

_DISTILLED = ("lcm", "tcd")

_TRAINED_SETTINGS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "prediction_type",
    "clip_sample",
    "set_alpha_to_one",
    "steps_offset",
    "rescale_betas_zero_snr",
)


def flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The default for denoisers that predict a velocity."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT)


def make_scheduler(name: str, prediction_type: str, trained: SchedulerMixin) -> SchedulerMixin:
    """A scheduler by name, for a model that was saved with the scheduler `trained`.

    Args:
        name: A key of `SCHEDULERS[prediction_type]`.
        prediction_type: What the denoiser predicts, a key of `SCHEDULERS`.
        trained: The model's own scheduler, whose noise schedule is kept.

    `lcm` and `tcd` are for models that were distilled to jump. Weights do not tell whether they were, and
    adapters can make them so, hence these names are allowed everywhere; unless the model was saved with such
    a scheduler, a warning says what to expect.

    Raises:
        ValueError: If the name is unknown, or does not fit the prediction or noise schedule of the model,
            with the reason; the message lists the known ones.
    """
    check_scheduler_name(name, prediction_type)
    import diffusers

    class_name, settings = SCHEDULERS[prediction_type][name]
    if name in _DISTILLED and not type(trained).__name__.endswith(("LCMScheduler", "TCDScheduler")):
        warnings.warn(
            f"`scheduler` {name!r} is for models that were distilled for it, and is allowed in case that "
            f"adapters did so: the model was saved with {type(trained).__name__}, and if nothing distilled "
            "it, clips come out too smooth and too much alike",
            stacklevel=2,
        )
    kind = getattr(diffusers, class_name)
    if prediction_type == "flow_prediction":
        return kind(**settings)
    config = trained.config  # type: ignore[attr-defined]
    accepted = inspect.signature(kind).parameters
    names = list(_TRAINED_SETTINGS)
    if config.get("rescale_betas_zero_snr", False):
        if "rescale_betas_zero_snr" not in accepted:
            raise ValueError(
                f"`scheduler` {name!r} cannot begin at pure noise, as this model was trained to: "
                "use ddim, ddpm, euler, euler_a, dpm++2m or unipc"
            )
        names.append("timestep_spacing")  # which has to begin at the very last step, the one of noise alone
    kept = {key: config[key] for key in names if key in config and key in accepted}
    return kind(**settings | kept)


def set_timesteps(scheduler: SchedulerMixin, num_inference_steps: int, device: torch.device) -> None:
    """Lay out the steps of a call.

    On a flow diffusers' Euler spreads n steps from noise to the last step of training, where the clip is all
    but clean: the last step then removes nothing, and n steps do the work of n - 1. Here each of them removes
    one n-th, before the shift.
    """
    steps: dict[str, Any] = {"num_inference_steps": num_inference_steps}
    if type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler":
        steps = {"sigmas": [1 - step / num_inference_steps for step in range(num_inference_steps)]}
    scheduler.set_timesteps(**steps, device=device)  # type: ignore[attr-defined]
    if isinstance(getattr(type(scheduler), "begin_index", None), property):
        # Else diffusers looks the first timestep up, and of two that are equal takes the second.
        scheduler.set_begin_index(0)  # type: ignore[attr-defined]


def check_scheduler_name(name: str, prediction_type: str) -> None:
    """Raise ValueError if a name is unknown or does not fit a prediction; see `make_scheduler`."""
    if prediction_type not in SCHEDULERS:
        raise ValueError(
            f"no `scheduler` can be chosen by name for a model with {prediction_type!r}: "
            f"it is so for {', '.join(SCHEDULERS)}"
        )
    choices = SCHEDULERS[prediction_type]
    if name in _UNFIT[prediction_type]:
        raise ValueError(
            f"`scheduler` {name!r} does not fit a model with {prediction_type!r}: "
            f"{_UNFIT[prediction_type][name]}. Known are {', '.join(choices)}"
        )
    if name not in choices:
        raise ValueError(
            f"`scheduler` {name!r} is unknown for a model with {prediction_type!r}: "
            f"known are {', '.join(choices)}"
        )


def prediction_type_of(scheduler: SchedulerMixin) -> str:
    """What the denoiser must predict: `flow_prediction`, `epsilon`, `v_prediction` or `sample`.

    Raises:
        ValueError: If the scheduler does not say it.
    """
    if type(scheduler).__name__.startswith("FlowMatch"):
        return "flow_prediction"
    config = scheduler.config  # type: ignore[attr-defined]
    if "prediction_type" not in config:
        raise ValueError(
            f"`scheduler` {type(scheduler).__name__} is of no use here: it does not say what the denoiser "
            f"predicts, one of {', '.join(SCHEDULERS)}"
        )
    return config["prediction_type"]


def check_prediction_type(scheduler: SchedulerMixin, prediction_type: str) -> None:
    """Raise ValueError if a scheduler is made for another prediction than the denoiser's."""
    expected = prediction_type_of(scheduler)
    if expected != prediction_type:
        raise ValueError(
            f"`scheduler` {type(scheduler).__name__} is set for {expected!r}, but the model predicts "
            f"{prediction_type!r}"
        )


def scale_model_input(scheduler: SchedulerMixin, latents: Tensor, timestep: Tensor) -> Tensor:
    """Scale noisy latents as the denoiser expects them; diffusers' flow schedulers have no such method."""
    scale = getattr(scheduler, "scale_model_input", None)
    return latents if scale is None else scale(latents, timestep)


def initial_noise_sigma(scheduler: SchedulerMixin) -> float:
    """Standard deviation of the initial noise; flow schedulers do not state theirs, which is 1."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def step_arguments(scheduler: SchedulerMixin, generators: list[torch.Generator]) -> dict[str, Any]:
    """What `scheduler.step` takes beyond its three tensors: generators, where the sampler is stochastic."""
    accepted = inspect.signature(scheduler.step).parameters  # type: ignore[attr-defined]
    return {"generator": generators} if "generator" in accepted else {}
