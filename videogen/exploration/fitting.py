"""Grids that fit a model, and the slow settings whose clips those of a point are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from videogen.exploration.grid import Grid, GridPoint, make_grid
from videogen.pipelines.generation import TextToVideo
from videogen.sampling.guidance_kinds import Guidance, parse_guidance
from videogen.sampling.schedulers import make_scheduler, set_timesteps

REFERENCE_SCHEDULER = "heun"
ZERO_SNR_REFERENCE_SCHEDULER = "dpm++2m"
"""For models that were trained down to pure noise, where `heun` cannot begin."""


def fitting_grid(
    pipeline: object,
    *,
    schedulers: Sequence[str],
    steps: Sequence[int],
    guidance_scales: Sequence[float] | None,
    guidance: Sequence[Guidance | str],
    caches: Sequence[str | None],
) -> Grid:
    """The grid of some settings, of which each was found to fit the model; arguments are those of `explore`.

    Raises:
        ValueError: If the model is none of diffusion, a list is empty, or a setting is unknown, out of range
            or unfit, with the reason; nothing is computed.
    """
    if not isinstance(pipeline, TextToVideo):
        raise ValueError(
            f"only a model of diffusion has samplers to explore, and this is a {type(pipeline).__name__}"
        )
    scales = (pipeline.defaults.guidance_scale,) if guidance_scales is None else guidance_scales
    grid = make_grid(schedulers, steps, scales, guidance, caches)
    grid.check(pipeline.prediction_type, pipeline.unet.cache_kinds)
    for name in grid.schedulers:
        scheduler = make_scheduler(name, pipeline.prediction_type, pipeline.scheduler)
        try:
            set_timesteps(scheduler, max(grid.steps), torch.device("cpu"))  # of which some allow few
        except ValueError as error:
            raise ValueError(f"`scheduler` {name!r} with {max(grid.steps)} steps: {error}") from error
    return grid


@dataclass(frozen=True)
class Reference:
    """Settings of the clips that others are compared with, whose noise and guidance they share.

    Attributes:
        scheduler: A name that `make_scheduler` knows.
        num_inference_steps: Above 0.
    """

    scheduler: str
    num_inference_steps: int

    @classmethod
    def of_model(cls, pipeline: TextToVideo, num_inference_steps: int) -> Reference:
        """That of a model: a scheduler of second order which can begin where the model's noise does."""
        config = pipeline.scheduler.config  # type: ignore[attr-defined]
        zero_snr = config.get("rescale_betas_zero_snr", False)
        return cls(ZERO_SNR_REFERENCE_SCHEDULER if zero_snr else REFERENCE_SCHEDULER, num_inference_steps)

    def point(self, guidance_scale: float, guidance: str | None) -> GridPoint:
        """The point to compare those of a guidance with.

        A guidance that leaves out passes by what it sees is compared with `cfg`, which it replaces.
        """
        if guidance is not None and parse_guidance(guidance).decides_passes:
            guidance = "cfg"
        return GridPoint(self.scheduler, self.num_inference_steps, guidance_scale, guidance)

    def points(self, grid: Grid) -> list[GridPoint]:
        """All that the points of a grid are compared with."""
        return list(dict.fromkeys(self.point(scale, kind) for scale, kind in grid.guidances))
