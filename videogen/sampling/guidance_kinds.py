"""The kinds of guidance that a call can be given: settings, and when the pass without the prompt is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.models.step_cache import StepCache
from videogen.sampling.guidance import Evaluation, adaptive_projected, classifier_free, rescaled

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_utils import SchedulerMixin


@dataclass(frozen=True)
class Guidance(ABC):
    """Settings of a guidance; it keeps nothing itself, so that one object serves any number of calls."""

    name: ClassVar[str]
    """As on the command line, a key of `GUIDANCE_KINDS`."""
    decides_passes: ClassVar[bool] = False
    """Whether it leaves out passes by what it has seen, and so cannot share that with a `StepCache`."""

    @abstractmethod
    def combine(
        self,
        noise_pred_uncond: Tensor,
        noise_pred_text: Tensor,
        guidance_scale: float,
        evaluation: Evaluation,
    ) -> Tensor:
        """The guided prediction, `(B, C, f, h, w)` like the other two."""

    def needs_uncond(self, evaluation: Evaluation) -> bool:
        """Whether the network has to run without the prompt too; if not, its prediction is taken as it is."""
        return True

    def check_fits(self, guidance_scale: float, step_cache: StepCache | None) -> None:
        """Raise ValueError where it would have no effect, or not the one that the cache promises."""
        if guidance_scale <= 1:
            raise ValueError(
                f"`guidance` {str(self)!r} needs a `guidance_scale` above 1, got {guidance_scale:g}"
            )
        if self.decides_passes and step_cache is not None and "guidance" in step_cache.reused:
            raise ValueError(
                f"`guidance` {str(self)!r} and `step_cache` with `guidance_every` both leave out passes "
                "without the prompt: use one of them"
            )

    def __str__(self) -> str:
        settings = ",".join(f"{item.name}={getattr(self, item.name):g}" for item in fields(self))
        return f"{self.name}:{settings}" if settings else self.name

    def _check_range(self, setting: str, low: float, high: float) -> None:
        value = getattr(self, setting)
        if not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(
                f"`{setting}` of guidance {self.name!r} must be between {low:g} and {high:g}, got {value!r}"
            )


@dataclass(frozen=True)
class ClassifierFreeGuidance(Guidance):
    """See `classifier_free`; what a call uses where it is given no guidance."""

    name: ClassVar[str] = "cfg"

    def combine(
        self,
        noise_pred_uncond: Tensor,
        noise_pred_text: Tensor,
        guidance_scale: float,
        evaluation: Evaluation,
    ) -> Tensor:
        """See `Guidance`."""
        return classifier_free(noise_pred_uncond, noise_pred_text, guidance_scale, evaluation)


@dataclass(frozen=True)
class RescaledGuidance(Guidance):
    """See `rescaled`.

    Attributes:
        phi: In [0, 1]; the paper takes 0.7.
    """

    name: ClassVar[str] = "rescaled"
    phi: float = 0.7

    def __post_init__(self) -> None:
        self._check_range("phi", 0, 1)

    def combine(
        self,
        noise_pred_uncond: Tensor,
        noise_pred_text: Tensor,
        guidance_scale: float,
        evaluation: Evaluation,
    ) -> Tensor:
        """See `Guidance`."""
        return rescaled(noise_pred_uncond, noise_pred_text, guidance_scale, evaluation, phi=self.phi)


@dataclass(frozen=True)
class IntervalGuidance(ClassifierFreeGuidance):
    """Guidance only where there is neither too much nor too little noise (arXiv:2404.07724, section 3).

    Elsewhere the network runs for the prompt alone, at half the cost.

    Attributes:
        low: Noise level above which there is guidance, in [0, 1] (see
            `videogen.sampling.predictions.noise_level`).
        high: Noise level up to which there is. The paper's best intervals, in sigma up to 2.9 and 5.4, end at
            0.74 and 0.84, and begin at 0.22.
    """

    name: ClassVar[str] = "interval"
    low: float = 0.2
    high: float = 0.9

    def __post_init__(self) -> None:
        self._check_range("high", 0, 1)
        self._check_range("low", 0, self.high)

    def needs_uncond(self, evaluation: Evaluation) -> bool:
        """See `Guidance`."""
        level = evaluation.noise_level
        return self.low < level <= self.high or (self.low == 0 == level)


@dataclass(frozen=True)
class ProjectedGuidance(Guidance):
    """See `adaptive_projected`.

    Attributes:
        eta: In [0, 1].
        momentum: In (-1, 1); the paper takes -0.5 to -0.75, with a norm. Without one it spoils clips at large
            scales.
        norm: At least 0; 0 is none.
    """

    name: ClassVar[str] = "apg"
    eta: float = 0.5
    momentum: float = 0.0
    norm: float = 0.0

    def __post_init__(self) -> None:
        self._check_range("eta", 0, 1)
        self._check_range("momentum", -0.999, 0.999)
        self._check_range("norm", 0, 1e6)

    def combine(
        self,
        noise_pred_uncond: Tensor,
        noise_pred_text: Tensor,
        guidance_scale: float,
        evaluation: Evaluation,
    ) -> Tensor:
        """See `Guidance`."""
        return adaptive_projected(
            noise_pred_uncond,
            noise_pred_text,
            guidance_scale,
            evaluation,
            eta=self.eta,
            momentum=self.momentum,
            norm=self.norm,
        )


@dataclass(frozen=True)
class AdaptiveGuidance(Guidance):
    """Guidance until both predictions agree (Castillo et al. 2023, arXiv:2312.12487, section 5).

    The paper compares predictions of noise, and models of diffusion. At pure noise those of a flow are always
    equal, so that here the clean clips are compared. Each clip goes on without guidance once its two agree;
    the pass without the prompt is left out once all clips of the batch do.

    Attributes:
        similarity: Cosine of the two predicted clean clips from which on they agree, in [-1, 1].
    """

    name: ClassVar[str] = "adaptive"
    decides_passes: ClassVar[bool] = True
    similarity: float = 0.99

    def __post_init__(self) -> None:
        self._check_range("similarity", -1, 1)

    def needs_uncond(self, evaluation: Evaluation) -> bool:
        """See `Guidance`."""
        return "agreed" not in evaluation.memory or not bool(evaluation.memory["agreed"].all())

    def combine(
        self,
        noise_pred_uncond: Tensor,
        noise_pred_text: Tensor,
        guidance_scale: float,
        evaluation: Evaluation,
    ) -> Tensor:
        """See `Guidance`."""
        agreed = evaluation.memory.get("agreed", torch.zeros(len(noise_pred_text), dtype=torch.bool))
        agreed = agreed.to(noise_pred_text.device)
        guided = classifier_free(noise_pred_uncond, noise_pred_text, guidance_scale, evaluation)
        clean_uncond = evaluation.to_clean(noise_pred_uncond).flatten(1)
        clean_text = evaluation.to_clean(noise_pred_text).flatten(1)
        evaluation.memory["agreed"] = agreed | (
            F.cosine_similarity(clean_uncond, clean_text) >= self.similarity
        )
        return torch.where(agreed[:, None, None, None, None], noise_pred_text, guided)


GUIDANCE_KINDS: dict[str, type[Guidance]] = {
    kind.name: kind
    for kind in (
        ClassifierFreeGuidance,
        RescaledGuidance,
        IntervalGuidance,
        ProjectedGuidance,
        AdaptiveGuidance,
    )
}
"""Kinds of guidance by the names that users type."""


def parse_guidance(text: str) -> Guidance:
    """A guidance as the command line takes it: `NAME` or `NAME:setting=number,...`, like `apg:eta=0.2`.

    Raises:
        ValueError: If the name or a setting is unknown, or a number is none or out of range.
    """
    name, _, rest = text.strip().partition(":")
    if name not in GUIDANCE_KINDS:
        raise ValueError(f"`guidance` {name!r} is unknown: known are {', '.join(GUIDANCE_KINDS)}")
    kind = GUIDANCE_KINDS[name]
    known = [item.name for item in fields(kind)]
    settings: dict[str, float] = {}
    for part in rest.split(",") if rest else []:
        setting, _, number = (piece.strip() for piece in part.partition("="))
        if setting not in known or setting in settings:
            takes = f"takes each of {', '.join(known)} at most once" if known else "takes no settings"
            raise ValueError(f"guidance {name!r} {takes}, got {part.strip()!r}")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"`{setting}` of guidance {name!r} must be a number, got {number!r}") from None
        settings[setting] = int(value) if value.is_integer() else value
    return kind(**settings)


@dataclass(frozen=True, eq=False)
class GuidanceCall:
    """A guidance at work in one call of a pipeline, with what it remembers there.

    Attributes:
        guidance: Its settings.
        scheduler: Of the call.
        prediction_type: Of its denoiser.
        memory: See `Evaluation`; to be cleared where the prompts change.
    """

    guidance: Guidance
    scheduler: SchedulerMixin
    prediction_type: str
    memory: dict[str, Any] = field(default_factory=dict)

    def evaluation(self, latents: Tensor, timestep: Tensor) -> Evaluation:
        """What the network is asked next."""
        return Evaluation(latents, timestep, self.scheduler, self.prediction_type, self.memory)
