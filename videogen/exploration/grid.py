"""The grid of settings that an exploration runs through, and the prompts it does so with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from videogen.models.step_cache import StepCache
from videogen.sampling.guidance_kinds import Guidance, parse_guidance
from videogen.sampling.schedulers import check_scheduler_name
from videogen.settings import GenerationSettings

DEFAULT_SCHEDULERS = ("euler", "heun", "dpm++2m", "unipc")
DEFAULT_STEPS = (4, 8, 16)

SECOND_ORDER = ("heun", "flow_heun")
"""Schedulers that evaluate the network twice a step."""


@dataclass(frozen=True)
class GridPoint:
    """One combination of settings.

    Attributes:
        scheduler: A name that `make_scheduler` knows.
        num_inference_steps: Denoising steps.
        guidance_scale: Of guidance; 1 and below is none.
        guidance: Its kind, as `parse_guidance` reads it; None where there is no guidance.
        cache: As `StepCache.parse` reads it; None for none.
    """

    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    guidance: str | None = "cfg"
    cache: str | None = None

    @property
    def label(self) -> str:
        """The settings in a few words."""
        parts = [f"{self.scheduler} {self.num_inference_steps}", f"scale {self.guidance_scale:g}"]
        return ", ".join(parts + [text for text in (self.guidance, self.cache) if text not in (None, "cfg")])

    @property
    def key(self) -> str:
        """The settings as a part of a file name, unlike that of any other point."""
        text = "_".join("none" if value is None else str(value) for value in asdict(self).values())
        return re.sub(r"[^A-Za-z0-9+.=,_-]", "-", text)

    @property
    def cost(self) -> int:
        """Passes of the network for a clip, if none is left out."""
        per_step = (2 if self.guidance_scale > 1 else 1) * (2 if self.scheduler in SECOND_ORDER else 1)
        return self.num_inference_steps * per_step

    def as_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)

    def settings(self) -> GenerationSettings:
        """The point among all settings."""
        return GenerationSettings(**asdict(self))


@dataclass(frozen=True)
class Grid:
    """All combinations of some settings, few steps first; nothing is listed before it is asked for.

    Where there is no guidance, its kinds and the caches that reuse it would change nothing, and are left out.

    Attributes:
        schedulers: Names that `make_scheduler` knows for the model.
        steps: Numbers of denoising steps.
        guidance_scales: Scales; 1 and below is no guidance.
        guidance: Kinds of guidance, as `parse_guidance` reads them.
        caches: As `StepCache.parse` reads them; None for none.
    """

    schedulers: tuple[str, ...]
    steps: tuple[int, ...]
    guidance_scales: tuple[float, ...]
    guidance: tuple[str, ...] = ("cfg",)
    caches: tuple[str | None, ...] = (None,)

    def __iter__(self) -> Iterator[GridPoint]:
        plain_caches = self._caches_without_guidance()
        for steps in self.steps:
            for scheduler in self.schedulers:
                for scale, kind in self.guidances:
                    for cache in plain_caches if kind is None else self.caches:
                        yield GridPoint(scheduler, steps, scale, kind, cache)

    def __contains__(self, point: object) -> bool:
        if not isinstance(point, GridPoint):
            return False
        guided = point.guidance_scale > 1
        return (
            point.scheduler in self.schedulers
            and point.num_inference_steps in self.steps
            and point.guidance_scale in self.guidance_scales
            and point.guidance in (self.guidance if guided else (None,))
            and point.cache in (self.caches if guided else self._caches_without_guidance())
        )

    def __len__(self) -> int:
        return len(self.schedulers) * len(self.steps) * sum(map(self._num_variants, self.guidance_scales))

    @property
    def guidances(self) -> list[tuple[float, str | None]]:
        """Scales with the kinds that each is run with; None where there is no guidance."""
        return [
            (scale, kind)
            for scale in self.guidance_scales
            for kind in (self.guidance if scale > 1 else (None,))
        ]

    @property
    def cost(self) -> int:
        """Passes of the network for one clip of every point, if none is left out."""
        orders = sum(2 if name in SECOND_ORDER else 1 for name in self.schedulers)
        passes = sum((2 if scale > 1 else 1) * self._num_variants(scale) for scale in self.guidance_scales)
        return orders * sum(self.steps) * passes

    def check(self, prediction_type: str, cache_kinds: Sequence[str]) -> None:
        """Look at every setting, and at those that have to fit each other.

        Args:
            prediction_type: Of the model.
            cache_kinds: What its network can reuse.

        Raises:
            ValueError: If a list is empty or has an entry twice, or a setting is unknown, out of range or
                unfit, with the reason.
        """
        for name in ("schedulers", "steps", "guidance_scales", "guidance", "caches"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"`{name}` is empty: the grid has no point")
            if len(set(values)) < len(values):
                raise ValueError(f"`{name}` has an entry twice: {', '.join(map(str, values))}")
        for scheduler in self.schedulers:
            check_scheduler_name(scheduler, prediction_type)
        for steps in self.steps:
            if not isinstance(steps, int) or steps < 1:
                raise ValueError(f"`steps` must be whole numbers of at least 1, got {steps!r}")
        for scale in self.guidance_scales:
            if not 0 <= scale < float("inf"):
                raise ValueError(f"`guidance_scales` must be finite and at least 0, got {scale!r}")
        kinds = [parse_guidance(kind) for kind in self.guidance]
        if max(self.guidance_scales) <= 1 and self.guidance != ("cfg",):
            raise ValueError(
                f"`guidance` {', '.join(self.guidance)} needs a scale above 1 among `guidance_scales`, "
                f"got {', '.join(f'{scale:g}' for scale in self.guidance_scales)}"
            )
        for text in self.caches:
            cache = None if text is None else StepCache.parse(text)
            for scale in self.guidance_scales:
                if cache is not None and (scale > 1 or text in self._caches_without_guidance()):
                    for steps in self.steps:
                        cache.check_fits(cache_kinds, steps, scale > 1)
                for kind in kinds if scale > 1 else []:
                    kind.check_fits(scale, cache)

    def _num_variants(self, scale: float) -> int:
        if scale > 1:
            return len(self.guidance) * len(self.caches)
        return len(self._caches_without_guidance())

    def _caches_without_guidance(self) -> tuple[str | None, ...]:
        return tuple(
            text for text in self.caches if text is None or "guidance" not in StepCache.parse(text).reused
        )


def make_grid(
    schedulers: Sequence[str],
    steps: Sequence[int],
    guidance_scales: Sequence[float],
    guidance: Sequence[Guidance | str],
    caches: Sequence[str | None],
) -> Grid:
    """A grid, its kinds of guidance written in full.

    Raises:
        ValueError: If a kind of guidance is unknown or out of range.
    """
    kinds = tuple(str(parse_guidance(kind) if isinstance(kind, str) else kind) for kind in guidance)
    return Grid(tuple(schedulers), tuple(steps), tuple(guidance_scales), kinds, tuple(caches))
