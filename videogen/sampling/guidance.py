"""Guidance: how the predictions with and without the prompt become one.

The functions have one signature: both predictions, the scale, and what they are predictions of
(`Evaluation`). What is remembered from one evaluation of the network to the next belongs to a call of a
pipeline, and lives in the evaluations of that call. `videogen.sampling.guidance_kinds` has the settings that
users choose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from videogen.sampling.predictions import noise_level, predict_clean, predict_from_clean

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a denoiser was asked: its predictions are of these latents at this time.

    Attributes:
        latents: `(B, C, f, h, w)` float32, not scaled for the network.
        timestep: Of the scheduler.
        scheduler: Before its step.
        prediction_type: As for `predict_clean`.
        memory: What guidance keeps from evaluation to evaluation; one dict for all of a call.
    """

    latents: Tensor
    timestep: Tensor
    scheduler: SchedulerMixin
    prediction_type: str
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def noise_level(self) -> float:
        """In [0, 1]: see `videogen.sampling.predictions.noise_level`."""
        return noise_level(self.scheduler, self.timestep)

    def to_clean(self, prediction: Tensor) -> Tensor:
        """The clean latents that a prediction means."""
        return predict_clean(prediction, self.latents, self.timestep, self.scheduler, self.prediction_type)

    def from_clean(self, clean: Tensor) -> Tensor:
        """The prediction that means these clean latents."""
        return predict_from_clean(clean, self.latents, self.timestep, self.scheduler, self.prediction_type)


def classifier_free(
    noise_pred_uncond: Tensor,
    noise_pred_text: Tensor,
    guidance_scale: float,
    evaluation: Evaluation | None = None,
) -> Tensor:
    """Go `guidance_scale` times the way from the unconditional to the conditional prediction.

    Ho and Salimans 2022, arXiv:2207.12598, eq. 6, with the scale w + 1 of that paper. All tensors have one
    shape.
    """
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


def rescaled(
    noise_pred_uncond: Tensor,
    noise_pred_text: Tensor,
    guidance_scale: float,
    evaluation: Evaluation | None = None,
    *,
    phi: float,
) -> Tensor:
    """Classifier-free guidance, brought back to the standard deviation of the conditional prediction.

    Lin et al. 2023, arXiv:2305.08891, section 3.4, eq. 15 and 16, on what the model predicts, as there. The
    deviation is that of a clip.

    Args:
        noise_pred_uncond: `(B, C, f, h, w)`.
        noise_pred_text: The same shape.
        guidance_scale: Of classifier-free guidance.
        evaluation: Not needed.
        phi: In [0, 1], the share of the rescaled prediction; 0 is classifier-free guidance.
    """
    guided = classifier_free(noise_pred_uncond, noise_pred_text, guidance_scale)
    ratio = _per_clip(noise_pred_text.flatten(1).std(1) / guided.flatten(1).std(1))
    return phi * (guided * ratio) + (1 - phi) * guided


def adaptive_projected(
    noise_pred_uncond: Tensor,
    noise_pred_text: Tensor,
    guidance_scale: float,
    evaluation: Evaluation,
    *,
    eta: float,
    momentum: float,
    norm: float,
) -> Tensor:
    """Guidance of the clean clip, without the part that only makes it stronger.

    Sadat et al. 2024, arXiv:2410.02416, algorithm 1. The difference of the two clean clips is averaged over
    the evaluations, cut to a norm, and split into a part along the conditional clean clip, which saturates
    colours, and one across it.

    Args:
        noise_pred_uncond: `(B, C, f, h, w)`.
        noise_pred_text: The same shape.
        guidance_scale: Of classifier-free guidance.
        evaluation: What the predictions are of; its memory keeps the average.
        eta: How much of the part along the clip is kept; 1 keeps all.
        momentum: Weight of earlier differences, in (-1, 1); negative ones push away from them, 0 is none.
        norm: Largest root mean square of the difference; 0 sets no limit. The radius of the paper is this
            times the root of the number of values: its 15 for 4x64x64 latents is 0.117.
    """
    clean = evaluation.to_clean(noise_pred_text)
    difference = clean - evaluation.to_clean(noise_pred_uncond)
    if momentum:
        if "average" in evaluation.memory:
            difference = difference + momentum * evaluation.memory["average"]
        evaluation.memory["average"] = difference
    if norm:
        size = difference.square().flatten(1).mean(1).sqrt()
        difference = difference * _per_clip((norm / size.clamp(min=1e-12)).clamp(max=1))
    direction = clean.flatten(1).double()
    direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
    length = (difference.flatten(1).double() * direction).sum(1, keepdim=True)
    along = (length * direction).to(difference).view_as(difference)
    update = difference - along + eta * along
    return evaluation.from_clean(clean + (guidance_scale - 1) * update)


def _per_clip(values: Tensor) -> Tensor:
    """Numbers `(B,)` as `(B, 1, 1, 1, 1)`."""
    return values[:, None, None, None, None]
