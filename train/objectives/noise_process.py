"""How noise is put on clips at random times, what is to be predicted then, and how much a time counts."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from videogen.sampling.schedulers import prediction_type_of

PREDICTION_TYPES = ("epsilon", "v_prediction")
"""What models of diffusion may predict, one in place of the other."""


@dataclass(frozen=True, eq=False)
class NoisyLatents:
    """Clips under noise, as a denoiser is trained on them.

    Attributes:
        sample: `(B, C, f, h, w)`.
        timesteps: `(B,)`, as the denoiser is told them.
        target: `(B, C, f, h, w)`, what it shall predict.
        weights: `(B,)`, how much the squared error of each clip counts.
        levels: `(B,)` in [0, 1], the share of noise: noise is to latents as `level` is to `1 - level`. On the
            straight path of a flow it is the time.
    """

    sample: Tensor
    timesteps: Tensor
    target: Tensor
    weights: Tensor
    levels: Tensor


class NoiseProcess(ABC):
    """A way from clips to noise, on which a denoiser is trained."""

    @abstractmethod
    def draw_times(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Random times of training `(B,)`, one from each generator, on the CPU."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> NoisyLatents:
        """Put noise on clips.

        Args:
            latents: `(B, C, f, h, w)` of unit variance, float32.
            noise: The same shape.
            times: `(B,)`, from `draw_times`.
        """


@dataclass(frozen=True, eq=False)
class FlowProcess(NoiseProcess):
    """Straight paths (Lipman et al. 2022, arXiv:2210.02747): `(1 - t) x + t noise`, velocity `noise - x`.

    Attributes:
        time_mean: Mean of the logit of t (Esser et al. 2024, arXiv:2403.03206, section 3.1).
        time_std: Its standard deviation.
        time_dtype: In which t is computed before it is rounded to float32. A run that is resumed has to keep
            it: the last bits of its times depend on it.
    """

    time_mean: float
    time_std: float
    time_dtype: torch.dtype = torch.float32

    def draw_times(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Times in (0, 1), float32."""
        return self.times(torch.stack([torch.randn((), generator=generator) for generator in generators]))

    def times(self, normal: Tensor) -> Tensor:
        """Times in (0, 1), float32, of standard normal numbers of any shape."""
        return torch.sigmoid(self.time_mean + self.time_std * normal.to(self.time_dtype)).float()

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> NoisyLatents:
        """See `NoiseProcess`; latents may have any shape `(B, ...)`. The denoiser is told 1000 t."""
        t = times.to(latents)
        sample = torch.lerp(latents, noise, t.view(-1, *[1] * (latents.ndim - 1)))
        return NoisyLatents(sample, 1000 * t, noise - latents, torch.ones_like(t), levels=t)


@dataclass(frozen=True, eq=False)
class DiffusionProcess(NoiseProcess):
    """Diffusion in discrete steps (Ho et al. 2020, arXiv:2006.11239, eq. 4).

    Noisy latents are `sqrt(a) x + sqrt(1 - a) noise`. The target is the noise, or the velocity
    `sqrt(a) noise - sqrt(1 - a) x` (Salimans and Ho 2022, arXiv:2202.00512, appendix D).

    Attributes:
        alphas_cumprod: a of each step, `(T,)` float32.
        prediction_type: One of `PREDICTION_TYPES`.
        snr_gamma: Of `min_snr_weights`; None for weights of 1.
    """

    alphas_cumprod: Tensor
    prediction_type: str
    snr_gamma: float | None = None

    def draw_times(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Steps in {0, ..., T - 1}, all alike, int64."""
        num_steps = len(self.alphas_cumprod)
        return torch.stack([torch.randint(num_steps, (), generator=generator) for generator in generators])

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> NoisyLatents:
        """See `NoiseProcess`."""
        timesteps = times.to(latents.device, torch.int64)
        alphas = self.alphas_cumprod.to(latents.device)[timesteps]
        signal, spread = (part.sqrt()[:, None, None, None, None] for part in (alphas, 1 - alphas))
        target = signal * noise - spread * latents if self.prediction_type == "v_prediction" else noise
        weights = torch.ones_like(alphas)
        if self.snr_gamma is not None:
            weights = min_snr_weights(alphas, self.snr_gamma, self.prediction_type)
        levels = (spread / (signal + spread)).flatten()
        return NoisyLatents(signal * latents + spread * noise, timesteps, target, weights, levels)


def min_snr_weights(alphas_cumprod: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Weights that keep steps of little noise from ruling the loss (Hang et al. 2023, arXiv:2303.09556).

    `min(SNR, gamma)` on the error of the clip, section 3.4, is `min(SNR, gamma) / SNR` on that of the noise
    and `min(SNR, gamma) / (SNR + 1)` on that of the velocity. Where there is noise only, it is 0.

    Args:
        alphas_cumprod: `(B,)`, in (0, 1); also 0 for a velocity.
        gamma: Above 0; the paper takes 5.
        prediction_type: One of `PREDICTION_TYPES`.

    Returns:
        `(B,)`.
    """
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return snr.clamp(max=gamma) / (snr + 1 if prediction_type == "v_prediction" else snr)


def make_noise_process(
    scheduler: SchedulerMixin, snr_gamma: float | None, time_mean: float, time_std: float
) -> NoiseProcess:
    """The process whose way a model's scheduler goes back.

    Args:
        scheduler: Of the model.
        snr_gamma: See `DiffusionProcess`.
        time_mean: See `FlowProcess`.
        time_std: See `FlowProcess`.

    Raises:
        ValueError: If the model predicts neither noise nor a velocity, or `snr_gamma` is given for a flow.
    """
    prediction_type = prediction_type_of(scheduler)
    if prediction_type == "flow_prediction":
        if snr_gamma is not None:
            raise ValueError(f"`snr_gamma` must be None for a flow model, got {snr_gamma}")
        return FlowProcess(time_mean, time_std, torch.float64)
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"the model must predict flow_prediction, {' or '.join(PREDICTION_TYPES)} to be trained here, "
            f"got {prediction_type!r}"
        )
    # Solvers raise the last value of a rescaled schedule a little, to divide by it. DDPM has it as it is.
    schedule = DDPMScheduler.from_config(scheduler.config)  # type: ignore[attr-defined]
    return DiffusionProcess(schedule.alphas_cumprod, prediction_type, snr_gamma)


def changed_scheduler(
    scheduler: SchedulerMixin, prediction_type: str | None, zero_terminal_snr: bool
) -> SchedulerMixin:
    """The scheduler of a model that is trained to predict something else, or down to pure noise.

    Args:
        scheduler: Of the model as it is.
        prediction_type: What it shall predict; None for what it does.
        zero_terminal_snr: Whether its betas are rescaled so that the last step is noise alone, and clips are
            made from that step on (Lin et al. 2023, arXiv:2305.08891, algorithm 1 and section 3.3).

    Raises:
        ValueError: If a flow is to become anything else or the reverse, or noise is to be predicted from
            nothing but noise.
    """
    present = prediction_type_of(scheduler)
    wanted = prediction_type or present
    if wanted != present and not {wanted, present} <= {*PREDICTION_TYPES}:
        raise ValueError(
            f"`prediction_type` must be {present!r} or None for this model, got {wanted!r}: "
            f"only {' and '.join(PREDICTION_TYPES)} may replace each other"
        )
    if zero_terminal_snr and wanted == "flow_prediction":
        raise ValueError(
            "`zero_terminal_snr` must be False for a flow model, which ends in pure noise as it is"
        )
    kind, config = type(scheduler), scheduler.config  # type: ignore[attr-defined]
    if (zero_terminal_snr or config.get("rescale_betas_zero_snr", False)) and wanted != "v_prediction":
        raise ValueError(
            f"`prediction_type` must be 'v_prediction' where the last step is pure noise, got {wanted!r}: "
            "to find the noise there says nothing about the clip"
        )
    changes: dict[str, Any] = {} if wanted == present else {"prediction_type": wanted}
    if zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    unknown = sorted(changes.keys() - inspect.signature(kind).parameters.keys())
    if unknown:
        raise ValueError(f"{kind.__name__}, the scheduler of this model, has no setting {unknown[0]!r}")
    return kind.from_config(config, **changes) if changes else scheduler  # type: ignore[attr-defined]
