"""Runs a grid of sampler settings: the same prompts and noise with each of them, measured and kept."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from videogen import __version__
from videogen.data.shapes.parser import matches, parse_clip
from videogen.exploration.folder import ExplorationFolder
from videogen.exploration.grid import Grid, GridPoint, make_grid
from videogen.exploration.measures import counted_passes, look_at, pairwise_distance
from videogen.exploration.results import ClipMeasures, Exploration, PointResult, TrajectoryStep
from videogen.metrics.prompt_accuracy import ATTRIBUTES, EvaluationPrompt
from videogen.metrics.reconstruction import psnr
from videogen.models.step_cache import StepCache
from videogen.pipelines.generation import TextToVideo
from videogen.sampling.guidance_kinds import Guidance, parse_guidance
from videogen.sampling.schedulers import make_scheduler

REFERENCE_SCHEDULER = "heun"
MAX_PSNR = 100.0  # of clips that come out equal
NUM_SHOWN = 4  # clips of a point that are kept to be looked at
NUM_PICTURES = 8  # of a trajectory

FeatureNetwork = Callable[[Tensor], Tensor]
"""Gives features `(B, D)` of pixels `(B, 3, F, H, W)` in [-1, 1]."""


def explore(
    pipeline: TextToVideo,
    prompts: Sequence[str | EvaluationPrompt],
    *,
    schedulers: Sequence[str] = ("euler", "heun", "dpm++2m", "unipc"),
    steps: Sequence[int] = (4, 8, 16),
    guidance_scales: Sequence[float] | None = None,
    guidance: Sequence[Guidance | str] = ("cfg",),
    caches: Sequence[str | None] = (None,),
    seeds: Sequence[int] = (0,),
    reference_steps: int = 50,
    features: FeatureNetwork | None = None,
    budget: float | None = None,
    folder: str | os.PathLike[str],
    model: str = "the model",
    show_progress: bool = False,
) -> Exploration:
    """Make the clips of all prompts and seeds with every combination of settings, and measure them.

    Points that are in the folder already are not run again, so that a grid can be stopped and grown. The clip
    of prompt i and seed s is the one that a call makes with the seed `s + i`; clips are made one at a time.

    Args:
        pipeline: The model, on its device; nothing in it is changed.
        prompts: Texts, or prompts of a captioned world, whose clips its parser judges.
        schedulers: Names that `make_scheduler` knows.
        steps: Numbers of denoising steps.
        guidance_scales: Of guidance; by default the model's own.
        guidance: Kinds of guidance, as objects or as `parse_guidance` reads them.
        caches: Step caches, as `StepCache.parse` reads them; None for none.
        seeds: Of the noise; two or more give diversity.
        reference_steps: Steps of `REFERENCE_SCHEDULER` that make the clips to compare with, of the same
            noise and guidance without a cache. Guidance that leaves out passes is compared with
            classifier-free guidance, which it replaces. 0 compares with nothing.
        features: Network for a distance of features to the reference; it is asked of one clip at a time.
        budget: Seconds after which no further point is begun.
        folder: Where everything is kept, see `ExplorationFolder`.
        model: Its name, for the report; a folder belongs to one name.
        show_progress: Whether to show a bar with the time left.

    Returns:
        The points that are done. Ctrl-C ends the exploration with those; `stopped` tells why.

    Raises:
        ValueError: If an argument is out of range or does not fit the model; before any computation.
    """
    scales = (pipeline.defaults.guidance_scale,) if guidance_scales is None else guidance_scales
    grid = make_grid(schedulers, steps, scales, guidance, caches)
    grid.check(pipeline.prediction_type, pipeline.unet.cache_kinds)
    for name in grid.schedulers:  # which may not fit the model's noise schedule
        make_scheduler(name, pipeline.prediction_type, pipeline.scheduler)
    _check_rest(prompts, seeds, reference_steps, budget)
    run = _Run(pipeline, prompts, seeds, reference_steps, features, folder, model)
    done = run.folder.results()
    start, stopped = time.monotonic(), None
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show_progress) as progress:
        task = progress.add_task("", total=grid.cost * run.num_clips)
        try:
            for number, point in enumerate(grid, 1):
                if point not in done:
                    if budget is not None and time.monotonic() - start > budget:
                        stopped = f"the budget of {budget:g} s is used up"
                        break
                    progress.update(task, description=f"{number} of {len(grid)}: {point.label}")
                    done[point] = run.point(point, lambda cost: progress.advance(task, cost))
                    run.folder.add(done[point])
                else:
                    progress.advance(task, point.cost * run.num_clips)
        except KeyboardInterrupt:
            stopped = "interrupted"
    results = tuple(result for point, result in done.items() if point in grid)
    return Exploration(run.setup, results, len(grid), stopped, run.folder.clip)


def estimate_seconds(
    pipeline: TextToVideo,
    prompts: Sequence[str | EvaluationPrompt],
    grid: Grid,
    num_seeds: int = 1,
    reference_steps: int = 50,
) -> float:
    """About how long a grid takes, without what is done already: from one clip of its first point, timed.

    Args:
        pipeline: As for `explore`.
        prompts: Likewise.
        grid: Checked.
        num_seeds: Seeds for each prompt.
        reference_steps: As for `explore`.
    """
    first, quiet = next(iter(grid)), _quiet_copy(pipeline)
    make = _Maker(quiet, pipeline.scheduler)
    make.clip(first, _caption(prompts[0]), 0)
    start = time.perf_counter()
    make.clip(first, _caption(prompts[0]), 0)
    seconds = (time.perf_counter() - start) / first.cost
    references = 4 * reference_steps * len(grid.guidance_scales) * len(grid.guidance)
    return seconds * (grid.cost + references) * len(prompts) * num_seeds


class _Maker:
    """Makes clips with the settings of a point, on a copy of a pipeline that is its own."""

    def __init__(self, pipeline: TextToVideo, trained: Any) -> None:
        self.pipeline, self.trained = pipeline, trained

    @torch.no_grad()
    def clip(self, point: GridPoint, caption: str, seed: int, **options: Any) -> tuple[Tensor, Tensor]:
        """Latents `(C, f, h, w)` and pixels `(3, F, H, W)`, neither clamped, on the CPU."""
        pipeline = self.pipeline
        pipeline.scheduler = make_scheduler(point.scheduler, pipeline.prediction_type, self.trained)
        latents = pipeline(
            caption,
            num_inference_steps=point.num_inference_steps,
            guidance_scale=point.guidance_scale,
            guidance=None if point.guidance is None else parse_guidance(point.guidance),
            step_cache=None if point.cache is None else StepCache.parse(point.cache),
            seed=seed,
            output_type="latent",
            return_dict=False,
            **options,
        )[0]
        return latents[0].cpu(), self.decode(latents)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The pixels of the first of `(B, C, f, h, w)`."""
        codec = self.pipeline.codec
        return codec.decode(latents[:1].to(codec.device, codec.dtype))[0].float().cpu()


class _Run:
    """One exploration: what its points have in common, and how one of them is measured."""

    def __init__(
        self,
        pipeline: TextToVideo,
        prompts: Sequence[str | EvaluationPrompt],
        seeds: Sequence[int],
        reference_steps: int,
        features: FeatureNetwork | None,
        folder: str | os.PathLike[str],
        model: str,
    ) -> None:
        self.maker = _Maker(_quiet_copy(pipeline), pipeline.scheduler)
        self.defaults, self.network = pipeline.defaults, pipeline.unet
        self.prompts, self.features, self.reference_steps = prompts, features, reference_steps
        self.order = [(idx, seed + idx) for idx in range(len(prompts)) for seed in seeds]
        self.num_clips, self.num_seeds = len(self.order), len(seeds)
        self.setup = {
            "model": model,
            "prediction_type": pipeline.prediction_type,
            "prompts": [_caption(prompt) for prompt in prompts],
            "judged": [isinstance(prompt, EvaluationPrompt) for prompt in prompts],
            "seeds": list(seeds),
            "reference_steps": reference_steps,
            "clip": [self.defaults.num_frames, self.defaults.height, self.defaults.width],
            "device": str(pipeline.execution_device),
            "num_threads": torch.get_num_threads(),
            "versions": {
                "videogen": __version__,
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
            },
        }
        self.folder = ExplorationFolder(folder, self.setup)
        self._references: dict[str, Tensor] = {}
        self._warm = False

    def point(self, point: GridPoint, advance: Callable[[int], object]) -> PointResult:
        """Make and measure all clips of a point; tell `advance` of the passes that are done."""
        try:
            references = self.reference(point)
            if not self._warm:
                self.maker.clip(point, _caption(self.prompts[0]), self.order[0][1])
                self._warm = True
            measured, pixels = [], []
            for place, (idx, seed) in enumerate(self.order):
                reference = None if references is None else references[place]
                clip, decoded = self.measure(point, idx, seed, reference)
                measured.append(clip)
                if self.num_seeds > 1:
                    pixels.append(decoded.clamp(-1, 1))
                if place % self.num_seeds == 0 and place // self.num_seeds < NUM_SHOWN:
                    self.show(f"{point.key}-{idx}", decoded)
                advance(point.cost)
            trajectory = self.trajectory(point, None if references is None else references[0])
        except FloatingPointError as error:
            return PointResult(point, failure=str(error))
        diversity = [
            pairwise_distance(torch.stack(pixels[first : first + self.num_seeds]) / 2)
            for first in range(0, len(pixels), self.num_seeds)
        ]
        return PointResult(point, tuple(measured), tuple(diversity), trajectory)

    def measure(
        self, point: GridPoint, prompt_idx: int, seed: int, reference: Tensor | None
    ) -> tuple[ClipMeasures, Tensor]:
        """One clip: its measures and its pixels `(3, F, H, W)`."""
        prompt = self.prompts[prompt_idx]
        start = time.perf_counter()
        with counted_passes(self.network) as passes:
            latents, pixels = self.maker.clip(point, _caption(prompt), seed)
        seconds = time.perf_counter() - start
        look = look_at(pixels)
        compared: dict[str, Any] = {} if reference is None else self.compare(latents, pixels, reference)
        return ClipMeasures(
            prompt_idx=prompt_idx,
            seed=seed,
            seconds=seconds,
            passes=sum(passes),
            flicker=look.flicker,
            saturation=look.saturation,
            clipped=look.clipped,
            **compared,
            **(_judge(prompt, pixels) if isinstance(prompt, EvaluationPrompt) else {}),
        ), pixels

    def compare(self, latents: Tensor, pixels: Tensor, reference: Tensor) -> dict[str, float]:
        """Distances of a clip to the latents of its reference."""
        goal = self.maker.decode(reference[None]).clamp(-1, 1)[None]
        clip = pixels.clamp(-1, 1)[None]
        distances = {
            "error": _distance(latents, reference),
            "psnr": min(psnr(clip, goal).item(), MAX_PSNR),
        }
        if self.features is not None:
            with torch.no_grad():
                difference = self.features(clip) - self.features(goal)
            distances["feature_distance"] = difference.double().norm().item()
        return distances

    def reference(self, point: GridPoint) -> Tensor | None:
        """Latents `(clips, C, f, h, w)` to compare a point with, made where they are not there yet."""
        if not self.reference_steps:
            return None
        kind = point.guidance
        if kind is not None and parse_guidance(kind).decides_passes:
            kind = "cfg"
        goal = GridPoint(REFERENCE_SCHEDULER, self.reference_steps, point.guidance_scale, kind)
        if goal.key not in self._references:
            latents = self.folder.reference(goal.key)
            if latents is None:
                clips = [
                    self.maker.clip(goal, _caption(self.prompts[idx]), seed)[0] for idx, seed in self.order
                ]
                latents = torch.stack(clips)
                self.folder.add_reference(goal.key, latents)
            self._references[goal.key] = latents
        return self._references[goal.key]

    def trajectory(self, point: GridPoint, reference: Tensor | None) -> tuple[TrajectoryStep, ...]:
        """The predicted clean clip along the way of the first clip, and some of these clips to look at."""
        idx, seed = self.order[0]
        seen: list[tuple[float, Tensor]] = []

        def note(_: Any, __: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
            seen.append((float(timestep), tensors["predicted_latents"].cpu()))
            return {}

        end, _ = self.maker.clip(
            point,
            _caption(self.prompts[idx]),
            seed,
            callback_on_step_end=note,
            callback_on_step_end_tensor_inputs=("predicted_latents",),
        )
        places = torch.linspace(0, len(seen) - 1, min(NUM_PICTURES, len(seen))).round().int().tolist()
        pictures = [self.maker.decode(seen[place][1]).clamp(-1, 1) for place in places]
        self.show(f"{point.key}-trajectory", torch.cat(pictures, dim=-1))
        return tuple(
            TrajectoryStep(
                timestep,
                _distance(predicted[0], end),
                None if reference is None else _distance(predicted[0], reference),
            )
            for timestep, predicted in seen
        )

    def show(self, name: str, pixels: Tensor) -> None:
        """Keep pixels `(3, F, H, W)` as a clip that plays."""
        frames = (pixels.clamp(-1, 1) + 1) / 2
        self.folder.add_clip(name, frames.permute(1, 2, 3, 0).numpy(), self.defaults.fps)


class _NoBar:
    """A progress bar that nobody sees."""

    def update(self, count: int = 1) -> None:
        """Show nothing."""


@contextmanager
def _no_bar(total: int) -> Iterator[_NoBar]:
    yield _NoBar()


def _quiet_copy(pipeline: TextToVideo) -> TextToVideo:
    """The same components in an object of its own, whose scheduler can be replaced, without a bar."""
    twin = copy.copy(pipeline)
    twin.progress_bar = _no_bar  # type: ignore[method-assign]
    return twin


def _caption(prompt: str | EvaluationPrompt) -> str:
    return prompt if isinstance(prompt, str) else prompt.caption


def _judge(prompt: EvaluationPrompt, pixels: Tensor) -> dict[str, bool]:
    """Whether a clip is right in each attribute."""
    found = matches(prompt.objects, parse_clip(pixels.clamp(-1, 1), num_objects=len(prompt.objects)))
    right = {name: all(getattr(match, name) for match in found) for name in ATTRIBUTES}
    return {"accuracy" if name == "all_right" else name: value for name, value in right.items()}


def _distance(latents: Tensor, other: Tensor) -> float:
    return (latents - other).square().mean().sqrt().item()


def _check_rest(
    prompts: Sequence[str | EvaluationPrompt],
    seeds: Sequence[int],
    reference_steps: int,
    budget: float | None,
) -> None:
    if isinstance(prompts, str) or not prompts:
        raise ValueError("`prompts` must be a list with at least one prompt")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"`seeds` must be different, and at least one, got {list(seeds)}")
    if reference_steps < 0:
        raise ValueError(f"`reference_steps` must be at least 0, got {reference_steps}")
    if budget is not None and not budget > 0:
        raise ValueError(f"`budget` must be above 0 seconds, got {budget}")
