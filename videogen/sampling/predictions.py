"""What a denoiser predicts, turned into the clean clip that it means, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from videogen.sampling.schedulers import initial_noise_sigma

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin


def signal_and_noise(scheduler: SchedulerMixin, timestep: Tensor | float) -> tuple[float, float]:
    """Factors a and s with which latents at a timestep are `a * clean + s * noise`.

    Call it before `scheduler.step`, for the latents that are given to that step, before they are scaled for
    the network. diffusers' schedulers keep latents in three ways:

        flow                                        a = 1 - s, s the scheduler's sigma
        starting from noise of sigma above 1        a = 1, s the scheduler's sigma (Euler, Heun, ...)
        all others                                  a^2 + s^2 = 1

    Args:
        scheduler: With its timesteps set.
        timestep: The one of its timesteps that comes next.
    """
    config = scheduler.config  # type: ignore[attr-defined]
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:  # DDPM, DDIM and what is made like them know a timestep by its number alone
        alpha_cumprod = float(scheduler.alphas_cumprod[int(timestep)])  # type: ignore[attr-defined]
        return alpha_cumprod**0.5, (1 - alpha_cumprod) ** 0.5
    if type(scheduler).__name__ == "KDPM2DiscreteScheduler" and not scheduler.state_in_first_order:  # type: ignore[attr-defined]
        sigmas = scheduler.sigmas_interpol  # type: ignore[attr-defined] # latents are half a step on
    step_idx = scheduler.step_index  # type: ignore[attr-defined]
    if step_idx is None:
        step_idx = scheduler.index_for_timestep(timestep)  # type: ignore[attr-defined]
    sigma = float(sigmas[step_idx])
    if type(scheduler).__name__.startswith("FlowMatch") or config.get("use_flow_sigmas", False):
        return 1 - sigma, sigma
    if initial_noise_sigma(scheduler) > 1:
        return 1.0, sigma
    signal = (1 + sigma**2) ** -0.5
    return signal, sigma * signal


def noise_level(scheduler: SchedulerMixin, timestep: Tensor | float) -> float:
    """The share of noise at a timestep, `s / (a + s)` of `signal_and_noise`: from 0, the clean clip, to 1.

    For a flow it is its time; in terms of sigma of Karras et al. 2022 (arXiv:2206.00364) it is
    `sigma / (1 + sigma)`.
    """
    signal, noise = signal_and_noise(scheduler, timestep)
    return noise / (signal + noise)


def predict_clean(
    model_pred: Tensor,
    latents: Tensor,
    timestep: Tensor | float,
    scheduler: SchedulerMixin,
    prediction_type: str,
) -> Tensor:
    """The clean latents that a prediction means.

    Args:
        model_pred: What the denoiser predicts, `(B, C, f, h, w)`.
        latents: Those before the step, not scaled for the network, `(B, C, f, h, w)`.
        timestep: Of the step.
        scheduler: Before its step.
        prediction_type: `flow_prediction` (`noise - clean`, Lipman et al. 2022, arXiv:2210.02747), `epsilon`
            (Ho et al. 2020, arXiv:2006.11239), `v_prediction` (Salimans and Ho 2022, arXiv:2202.00512,
            appendix D) or `sample`.

    Returns:
        `(B, C, f, h, w)`.

    Raises:
        ValueError: If the prediction type is unknown.
    """
    keep, factor = _clean_by_prediction(scheduler, timestep, prediction_type)
    return keep * latents + factor * model_pred


def predict_from_clean(
    clean: Tensor,
    latents: Tensor,
    timestep: Tensor | float,
    scheduler: SchedulerMixin,
    prediction_type: str,
) -> Tensor:
    """The inverse of `predict_clean`: what the denoiser would have predicted, to mean these clean latents."""
    keep, factor = _clean_by_prediction(scheduler, timestep, prediction_type)
    return (clean - keep * latents) / factor


def _clean_by_prediction(
    scheduler: SchedulerMixin, timestep: Tensor | float, prediction_type: str
) -> tuple[float, float]:
    """Factors of the latents and of the prediction, whose sum is the clean clip."""
    signal, noise = signal_and_noise(scheduler, timestep)
    if prediction_type == "sample":
        return 0.0, 1.0
    if prediction_type == "flow_prediction":
        return 1.0, -noise
    if prediction_type == "epsilon":
        return 1 / signal, -noise / signal
    if prediction_type == "v_prediction":  # which is defined for latents of a^2 + s^2 = 1
        norm = (signal**2 + noise**2) ** 0.5
        return signal / norm**2, -noise / norm
    raise ValueError(
        f"`prediction_type` must be flow_prediction, epsilon, v_prediction or sample, got {prediction_type!r}"
    )
