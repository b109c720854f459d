"""Runs a comparison: every model on every prompt, then the same measures for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

import torch
from torch import Tensor

from videogen.comparison.models import FAILURES, GeneratedClip, run_model
from videogen.comparison.prompts import ComparisonPrompt
from videogen.comparison.report import ComparisonReport, ModelResult, Movement
from videogen.data.shapes.render import render
from videogen.data.shapes.world import BACKGROUNDS, Background, place
from videogen.metrics.features import ClipFeatures, FeatureExtractor, extract_features
from videogen.metrics.intervals import bootstrap_mean
from videogen.metrics.motion import flicker, frozen_share, motion_magnitude
from videogen.metrics.prompt_accuracy import AccuracyReport, EvaluationPrompt, measure_prompt_accuracy
from videogen.metrics.video_distance import VideoDistance, frechet_video_distance, kernel_video_distance

NUM_REFERENCE_CLIPS = 512
"""Rendered clips that generated ones are held against, of the same prompts in turn."""

_LEAST_PARSED_FRAMES = 4

OnModel = Callable[[str], Callable[[], object]]
"""Told the name of each model that begins; gives what is called after each of its clips."""


def compare(
    models: Sequence[str],
    prompts: Sequence[ComparisonPrompt],
    extractor: FeatureExtractor,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    left_out: Sequence[str] = (),
    num_reference_clips: int = NUM_REFERENCE_CLIPS,
    on_model: OnModel = lambda _: lambda: None,
) -> tuple[ComparisonReport, list[list[GeneratedClip]]]:
    """Run every model on every prompt, one after the other; a model that fails does not stop the others.

    Args:
        models: Names, folders or ids, as `videogen.load` takes them; `embedded` for the embedded one.
        prompts: At least one.
        extractor: The feature network of the distances.
        seed: Clip k is made from prompt k and `seed + k`.
        device: Where the models run.
        left_out: Notes on prompts that are not among `prompts`.
        num_reference_clips: Rendered clips that generated ones are held against, at least 2.
        on_model: For a display of progress.

    Returns:
        The report, and for each model its clips in the order of the prompts; none of a model that failed.

    Raises:
        ValueError: If there are no models or prompts, a model is named twice, or a number is out of range.
    """
    repeated = [model for number, model in enumerate(models) if model in models[:number]]
    if not models or repeated:
        raise ValueError(f"`models` must be at least one, each once, got {', '.join(models) or 'none'}")
    if not prompts:
        raise ValueError("`prompts` is empty: there is nothing to compare on")
    if not 0 <= seed < 2**63 - len(prompts):
        raise ValueError(f"`seed` must be between 0 and 2**63 - 1, got {seed}")
    if num_reference_clips < 2:
        raise ValueError(f"`num_reference_clips` must be at least 2, got {num_reference_clips}")
    device = torch.device(device)
    references = _References(prompts, extractor, num_reference_clips)
    results, clips_of_models = [], []
    for model in models:
        on_clip = on_model(model)
        try:
            clips, cost = run_model(model, prompts, seed, device, on_clip)
        except FAILURES as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            results.append(ModelResult(model, failure=reason))
            clips_of_models.append([])
            continue
        frechet, kernel = references.distances(clips)
        made = torch.stack([clip.pixels for clip in clips if clip.pixels is not None])
        results.append(
            ModelResult(
                model,
                failed_clips=tuple((k, clip.failure) for k, clip in enumerate(clips) if clip.pixels is None),
                clip_shape=(made.shape[2], made.shape[3], made.shape[4]),
                accuracy=_accuracy(clips, prompts),
                frechet=frechet,
                kernel=kernel,
                movement=_movement(made),
                cost=cost,
            )
        )
        clips_of_models.append(clips)
    report = ComparisonReport(
        prompts=tuple(prompt.text for prompt in prompts),
        num_checked=sum(bool(prompt.objects) for prompt in prompts),
        seed=seed,
        device=str(device),
        num_threads=torch.get_num_threads(),
        left_out=tuple(left_out),
        models=tuple(results),
    )
    return report, clips_of_models


class _References:
    """Features of rendered clips of the prompts, made once for each shape of clips."""

    def __init__(
        self, prompts: Sequence[ComparisonPrompt], extractor: FeatureExtractor, num_clips: int
    ) -> None:
        self.prompts, self.extractor, self.num_clips = prompts, extractor, num_clips
        self.features: dict[torch.Size, ClipFeatures] = {}

    def distances(self, clips: Sequence[GeneratedClip]) -> tuple[VideoDistance | None, VideoDistance | None]:
        """Fréchet and kernel distance of the clips of prompts that can be rendered; None for under two."""
        pairs = zip(clips, self.prompts, strict=True)
        made = [clip.pixels for clip, prompt in pairs if prompt.objects and clip.pixels is not None]
        if len(made) < 2:
            return None, None
        shape = made[0].shape
        if shape not in self.features:
            self.features[shape] = extract_features(self._render(shape), self.extractor)
        features = extract_features(made, self.extractor)
        reference = self.features[shape]
        return frechet_video_distance(features, reference), kernel_video_distance(features, reference)

    def _render(self, shape: torch.Size) -> Iterator[Tensor]:
        """Clips `(3, F, H, W)` of the prompts in turn, each in another place."""
        _, num_frames, height, width = shape
        shown = [prompt for prompt in self.prompts if prompt.objects]
        for number in range(self.num_clips):
            prompt, rng = shown[number % len(shown)], Random(f"reference/{number}")
            background = prompt.background or Background(rng.choice(list(BACKGROUNDS)))
            scene = place(prompt.objects, background, rng, num_frames)
            yield render([scene], (height, width))[0]


def _accuracy(clips: Sequence[GeneratedClip], prompts: Sequence[ComparisonPrompt]) -> AccuracyReport | None:
    """What the parser reads in the clips of prompts that it can check; it reads nothing in a failed one."""
    shape = next(clip.pixels.shape for clip in clips if clip.pixels is not None)
    if shape[1] < _LEAST_PARSED_FRAMES or not any(prompt.objects for prompt in prompts):
        return None
    blank = torch.zeros(shape)
    checked = [
        (blank if clip.pixels is None else clip.pixels, EvaluationPrompt(prompt.text, prompt.objects))
        for clip, prompt in zip(clips, prompts, strict=True)
        if prompt.objects
    ]
    return measure_prompt_accuracy((clip for clip, _ in checked), [prompt for _, prompt in checked])


def _movement(clips: Tensor) -> Movement | None:
    if clips.shape[2] < 3 or min(clips.shape[3:]) < 4:
        return None
    measures = (motion_magnitude(clips), 100 * flicker(clips), 100 * frozen_share(clips))
    return Movement(*(bootstrap_mean(values.tolist()) for values in measures))
