"""Runs a grid of sampler settings: the same prompts and noise with each of them, measured and kept."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import diffusers
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from videogen import __version__
from videogen.codec.pixels import pixels_to_frames
from videogen.data.shapes.parser import matches, parse_clip
from videogen.exploration.fitting import Reference, fitting_grid
from videogen.exploration.folder import ExplorationFolder
from videogen.exploration.grid import DEFAULT_SCHEDULERS, DEFAULT_STEPS, Grid, GridPoint
from videogen.exploration.measures import counted_passes, look_at, pairwise_distance
from videogen.exploration.point_maker import MadeClips, PointMaker
from videogen.exploration.results import ClipMeasures, Exploration, PointResult, TrajectoryStep
from videogen.folder_lock import locked
from videogen.metrics.prompt_accuracy import ATTRIBUTES, EvaluationPrompt
from videogen.metrics.reconstruction import psnr
from videogen.models.weights_hash import weights_hash
from videogen.pipelines.checks import find_bad_clips
from videogen.pipelines.generation import TextToVideo
from videogen.sampling.guidance_kinds import Guidance

MAX_PSNR = 100.0  # of clips that come out equal
NUM_SHOWN = 4  # clips of a point that are kept to be looked at
NUM_PICTURES = 8  # of a trajectory
_SPEED_SECONDS = 1800.0  # over which the time left is reckoned; one batch may take minutes

FeatureNetwork = Callable[[Tensor], Tensor]
"""Gives features `(B, D)` of pixels `(B, 3, F, H, W)` in [-1, 1]."""


def explore(
    pipeline: TextToVideo,
    prompts: Sequence[str | EvaluationPrompt],
    *,
    schedulers: Sequence[str] = DEFAULT_SCHEDULERS,
    steps: Sequence[int] = DEFAULT_STEPS,
    guidance_scales: Sequence[float] | None = None,
    guidance: Sequence[Guidance | str] = ("cfg",),
    caches: Sequence[str | None] = (None,),
    seeds: Sequence[int] = (0,),
    reference_steps: int = 50,
    features: FeatureNetwork | None = None,
    batch_size: int = 1,
    budget: float | None = None,
    folder: str | os.PathLike[str],
    model: str = "the model",
    show_progress: bool = False,
) -> Exploration:
    """Make the clips of all prompts and seeds with every combination of settings, and measure them.

    Points that are in the folder already are not run again, so that a grid can be stopped and grown. The clip
    of prompt i and seed s is the one that a call makes with the seed `s + i`.

    Args:
        pipeline: The model, on its device and in its dtype; nothing in it is changed.
        prompts: Texts or `EvaluationPrompt`s. Where it is known what a clip must show, the parser judges it.
        schedulers: Names that `make_scheduler` knows.
        steps: Numbers of denoising steps.
        guidance_scales: Of guidance; by default the model's own.
        guidance: Kinds of guidance, as objects or as `parse_guidance` reads them.
        caches: Step caches, as `StepCache.parse` reads them; None for none.
        seeds: Of the noise; two or more give diversity.
        reference_steps: Steps of the clips to compare with, of the same noise and guidance without a cache,
            see `Reference`. 0 compares with nothing.
        features: Network for a distance of features to the reference; it is asked of one clip at a time.
        batch_size: Clips that are made in one call. More take less time in all; seconds and passes are then
            known of a batch alone, so that there are fewer of them.
        budget: Seconds after which no further point is begun.
        folder: Where everything is kept, see `ExplorationFolder`.
        model: Its name, for the report; a folder belongs to one model.
        show_progress: Whether to show a bar with the time left.

    A clip that comes out blank or not finite counts as wrong; the other measures are of the good ones.

    Returns:
        The points that are done. Ctrl-C ends the exploration with those; `stopped` tells why.

    Raises:
        ValueError: If an argument is out of range or does not fit the model, or another process explores
            into the same folder; before any computation.
    """
    grid = fitting_grid(
        pipeline,
        schedulers=schedulers,
        steps=steps,
        guidance_scales=guidance_scales,
        guidance=guidance,
        caches=caches,
    )
    check_sampling(prompts, seeds, reference_steps, batch_size, budget)
    run = _Run(pipeline, prompts, seeds, reference_steps, features, batch_size, folder, model)
    with locked(run.folder.path, "folder"):
        done = run.folder.results()
        start, stopped = time.monotonic(), None
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(
            *columns,
            console=Console(stderr=True),
            disable=not show_progress,
            speed_estimate_period=_SPEED_SECONDS,
        ) as progress:
            task = progress.add_task("", total=run.cost(grid), completed=run.cost_done(grid, done))
            try:
                for number, point in enumerate(grid, 1):
                    if point in done:
                        continue
                    if budget is not None and time.monotonic() - start > budget:
                        stopped = f"the budget of {budget:g} s is used up"
                        break
                    progress.update(task, description=f"{number} of {len(grid)}: {point.label}")
                    done[point] = run.point(point, lambda cost: progress.advance(task, cost))
                    run.folder.add(done[point])
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
    batch_size: int = 1,
) -> float:
    """About how long a grid takes, without what is done already: from a batch of its first point, timed.

    Args:
        pipeline: As for `explore`.
        prompts: Likewise.
        grid: Of `fitting_grid`.
        num_seeds: Seeds for each prompt.
        reference_steps: As for `explore`.
        batch_size: Likewise.
    """
    first, maker = next(iter(grid)), PointMaker(pipeline)
    captions = [_as_prompt(prompt).caption for prompt in prompts[:batch_size]]
    maker.clips(first, captions[:1], [0])
    start = time.perf_counter()
    maker.clips(first, captions, range(len(captions)))
    seconds = (time.perf_counter() - start) / len(captions) / first.cost
    reference = Reference.of_model(pipeline, reference_steps) if reference_steps else None
    return seconds * _cost_of_a_clip(grid, reference) * len(prompts) * num_seeds


def _cost_of_a_clip(grid: Grid, reference: Reference | None) -> int:
    """Passes of the network for one clip of every point, with what they are compared with."""
    goals = [] if reference is None else reference.points(grid)
    return grid.cost + sum(goal.cost for goal in goals)


class _Run:
    """One exploration: what its points have in common, and how one of them is measured."""

    def __init__(
        self,
        pipeline: TextToVideo,
        prompts: Sequence[str | EvaluationPrompt],
        seeds: Sequence[int],
        reference_steps: int,
        features: FeatureNetwork | None,
        batch_size: int,
        folder: str | os.PathLike[str],
        model: str,
    ) -> None:
        self.maker = PointMaker(pipeline)
        self.defaults, self.network = pipeline.defaults, pipeline.unet
        self.prompts = [_as_prompt(prompt) for prompt in prompts]
        self.features, self.batch_size = features, batch_size
        self.order = [(idx, seed + idx) for idx in range(len(prompts)) for seed in seeds]
        self.num_seeds = len(seeds)
        self.reference = Reference.of_model(pipeline, reference_steps) if reference_steps else None
        networks = (pipeline.vae, pipeline.text_encoder, pipeline.unet)
        weights = "".join(weights_hash(network) for network in networks)  # type: ignore[arg-type]
        self.setup = {
            "model": model,
            "weights": hashlib.sha256(weights.encode()).hexdigest(),
            "prediction_type": pipeline.prediction_type,
            "prompts": [prompt.caption for prompt in self.prompts],
            "judged": [bool(prompt.objects) for prompt in self.prompts],
            "seeds": list(seeds),
            "reference_steps": reference_steps,
            "clip": [self.defaults.num_frames, self.defaults.height, self.defaults.width],
            "device": str(pipeline.execution_device),
            "dtype": str(pipeline.unet.dtype).removeprefix("torch."),
            "batch_size": batch_size,
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

    def cost(self, grid: Grid) -> int:
        """Passes of the network for all clips of a grid."""
        return _cost_of_a_clip(grid, self.reference) * len(self.order)

    def cost_done(self, grid: Grid, done: Iterable[GridPoint]) -> int:
        """Of these, the ones that need not be made again."""
        passes = sum(point.cost for point in done if point in grid) * len(self.order)
        for goal in [] if self.reference is None else self.reference.points(grid):
            kept = self.folder.reference(goal.key)
            passes += 0 if kept is None else goal.cost * len(kept)
        return passes

    def point(self, point: GridPoint, advance: Callable[[int], object]) -> PointResult:
        """Make and measure all clips of a point; tell `advance` of the passes that are done."""
        references = self.references(point, advance)
        if not self._warm:
            self.make(point, self.order[: self.batch_size])
            self._warm = True
        measured: list[ClipMeasures] = []
        diversity: list[float] = []
        alike: list[Tensor] = []  # clips of one prompt
        for start in range(0, len(self.order), self.batch_size):
            batch = slice(start, start + self.batch_size)
            goals = None if references is None else references[batch]
            clips, pixels = self.measure(point, self.order[batch], goals)
            measured += clips
            for place, (clip, shown) in enumerate(zip(clips, pixels, strict=True), start):
                prompt_idx, seed_idx = divmod(place, self.num_seeds)
                alike = alike if seed_idx else []
                if clip.failure is None:
                    alike.append(shown.clamp(-1, 1) / 2)
                    if seed_idx == 0 and prompt_idx < NUM_SHOWN:
                        self.show(f"{point.key}-{prompt_idx}", shown)
                if seed_idx == self.num_seeds - 1 and len(alike) > 1:
                    diversity.append(pairwise_distance(torch.stack(alike)))
            advance(point.cost * len(clips))
        good = [place for place, clip in enumerate(measured) if clip.failure is None]
        if not good:
            reason = f"none of {len(measured)} clips is good: the first {measured[0].failure}"
            return PointResult(point, tuple(measured), failure=reason)
        trajectory = self.trajectory(point, good[0], None if references is None else references[good[0]])
        return PointResult(point, tuple(measured), tuple(diversity), trajectory)

    def make(self, point: GridPoint, clips: Sequence[tuple[int, int]], **options: Any) -> MadeClips:
        """Make clips `(prompt_idx, seed)`, see `PointMaker.clips`."""
        captions = [self.prompts[idx].caption for idx, _ in clips]
        return self.maker.clips(point, captions, [seed for _, seed in clips], **options)

    def measure(
        self, point: GridPoint, clips: Sequence[tuple[int, int]], references: Tensor | None
    ) -> tuple[list[ClipMeasures], Tensor]:
        """A batch of clips `(prompt_idx, seed)`: their measures and their pixels `(B, 3, F, H, W)`."""
        start = time.perf_counter()
        with counted_passes(self.network) as passes:
            made = self.make(point, clips)
        seconds = time.perf_counter() - start
        goals = None if references is None else self.maker.decode(references)
        bad_goals = {} if goals is None else find_bad_clips(pixels_to_frames(goals))
        good = [place for place in range(len(clips)) if place not in made.bad_clips]
        measured = []
        for place, (prompt_idx, seed) in enumerate(clips):
            prompt, clip = self.prompts[prompt_idx], made.pixels[place]
            numbers: dict[str, Any] = {"failure": made.bad_clips.get(place)}
            if place in good:
                numbers |= asdict(look_at(clip))
                if references is not None and goals is not None and place not in bad_goals:
                    numbers |= self.compare(clip, goals[place])
                    numbers["error"] = _distance(made.latents[place], references[place])
            if prompt.objects:
                numbers |= _judge(prompt, clip if place in good else torch.zeros_like(clip))
            if place in good[:1]:
                numbers |= {"seconds": seconds / len(clips), "passes": sum(passes)}
            measured.append(ClipMeasures(prompt_idx, seed, **numbers))
        return measured, made.pixels

    def compare(self, pixels: Tensor, reference: Tensor) -> dict[str, float]:
        """Distances of the pixels `(3, F, H, W)` of a clip to those of its reference."""
        clip, goal = pixels.clamp(-1, 1)[None], reference.clamp(-1, 1)[None]
        distances = {"psnr": min(psnr(clip, goal).item(), MAX_PSNR)}
        if self.features is not None:
            with torch.no_grad():
                difference = self.features(clip) - self.features(goal)
            distances["feature_distance"] = difference.double().norm().item()
        return distances

    def references(self, point: GridPoint, advance: Callable[[int], object]) -> Tensor | None:
        """Latents `(clips, C, f, h, w)` to compare a point with; those that are not there yet are made."""
        if self.reference is None:
            return None
        goal = self.reference.point(point.guidance_scale, point.guidance)
        if goal.key not in self._references:
            latents = self.folder.reference(goal.key)
            for start in range(0 if latents is None else len(latents), len(self.order), self.batch_size):
                clips = self.order[start : start + self.batch_size]
                made = self.make(goal, clips)
                for place, reason in made.bad_clips.items():
                    prompt_idx, seed = clips[place]
                    named = f"{self.prompts[prompt_idx].caption!r} with seed {seed}"
                    warnings.warn(
                        f"the reference of {named} {reason}: nothing is compared with it", stacklevel=4
                    )
                latents = made.latents if latents is None else torch.cat([latents, made.latents])
                self.folder.add_reference(goal.key, latents)
                advance(goal.cost * len(clips))
            assert latents is not None
            self._references[goal.key] = latents
        return self._references[goal.key]

    def trajectory(
        self, point: GridPoint, place: int, reference: Tensor | None
    ) -> tuple[TrajectoryStep, ...]:
        """The predicted clean clip along the way of the clip at a place of the order; some are kept."""
        seen: list[tuple[float, Tensor]] = []

        def note(_: Any, __: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Any]:
            seen.append((float(timestep), tensors["predicted_latents"].cpu()))
            return {}

        end = self.make(
            point,
            self.order[place : place + 1],
            callback_on_step_end=note,
            callback_on_step_end_tensor_inputs=("predicted_latents",),
        ).latents
        if reference is not None and not bool(reference.isfinite().all()):
            reference = None
        places = torch.linspace(0, len(seen) - 1, min(NUM_PICTURES, len(seen))).round().int().tolist()
        pictures = [self.maker.decode(seen[place][1])[0] for place in places]
        self.show(f"{point.key}-trajectory", torch.cat(pictures, dim=-1))
        return tuple(
            TrajectoryStep(
                timestep,
                _distance(predicted, end),
                None if reference is None else _distance(predicted[0], reference),
            )
            for timestep, predicted in seen
        )

    def show(self, name: str, pixels: Tensor) -> None:
        """Keep pixels `(3, F, H, W)` as a clip that plays."""
        frames = (pixels.clamp(-1, 1) + 1) / 2
        self.folder.add_clip(name, frames.permute(1, 2, 3, 0).numpy(), self.defaults.fps)


def _as_prompt(prompt: str | EvaluationPrompt) -> EvaluationPrompt:
    return EvaluationPrompt.of(prompt) if isinstance(prompt, str) else prompt


def _judge(prompt: EvaluationPrompt, pixels: Tensor) -> dict[str, bool]:
    """Whether a clip is right in each attribute."""
    found = matches(prompt.objects, parse_clip(pixels.clamp(-1, 1), num_objects=len(prompt.objects)))
    right = {name: all(getattr(match, name) for match in found) for name in ATTRIBUTES}
    return {"accuracy" if name == "all_right" else name: value for name, value in right.items()}


def _distance(latents: Tensor, other: Tensor) -> float:
    return (latents - other).square().mean().sqrt().item()


def check_sampling(
    prompts: Sequence[str | EvaluationPrompt],
    seeds: Sequence[int],
    reference_steps: int,
    batch_size: int,
    budget: float | None,
) -> None:
    """Look at all arguments of `explore` that are not of its grid.

    Raises:
        ValueError: If one is out of range.
    """
    if isinstance(prompts, str) or not prompts:
        raise ValueError("`prompts` must be a list with at least one prompt")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"`seeds` must be different, and at least one, got {list(seeds)}")
    if min(seeds) < 0:
        raise ValueError(f"`seeds` must be at least 0, got {min(seeds)}")
    if reference_steps < 0:
        raise ValueError(f"`reference_steps` must be at least 0, got {reference_steps}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
    if budget is not None and not budget > 0:
        raise ValueError(f"`budget` must be above 0 seconds, got {budget}")
