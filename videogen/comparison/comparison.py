"""Runs a comparison: every model on every prompt, then the same measures for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

import torch
from torch import Tensor

from videogen.comparison.models import FAILURES, GeneratedClip, run_model
from videogen.comparison.report import ComparisonReport, Distances, ModelResult, Movement
from videogen.data.shapes.render import render
from videogen.data.shapes.world import BACKGROUNDS, Background, place
from videogen.metrics.features import ClipFeatures, FeatureExtractor, extract_features
from videogen.metrics.intervals import bootstrap_mean
from videogen.metrics.motion import flicker, frozen_share, motion_magnitude
from videogen.metrics.prompt_accuracy import AccuracyReport, EvaluationPrompt, measure_prompt_accuracy
from videogen.metrics.video_distance import frechet_video_distance, kernel_video_distance

NUM_REFERENCE_CLIPS = 512
"""Rendered clips that generated ones are held against, of the same prompts in turn."""

_LEAST_PARSED_FRAMES = 4

OnModel = Callable[[str], Callable[[], object]]
"""Told the name of each model that begins; gives what is called after each of its clips."""


def compare(
    models: Sequence[str],
    prompts: Sequence[EvaluationPrompt],
    extractor: FeatureExtractor,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    reference_prompts: Sequence[EvaluationPrompt] | None = None,
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
        reference_prompts: What the rendered clips show that generated ones are held against; other prompts
            from where `prompts` come from. By default `prompts` themselves.
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
    references = _References(prompts, reference_prompts or prompts, extractor, num_reference_clips)
    results: list[ModelResult] = []
    clips_of_models: list[list[GeneratedClip]] = []
    for model in models:
        on_clip = on_model(model)
        try:
            clips, cost = run_model(model, prompts, seed, device, on_clip)
        except FAILURES as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            results.append(ModelResult(model, failure=reason))
            clips_of_models.append([])
            continue
        made = torch.stack([clip.pixels for clip in clips if clip.pixels is not None])
        results.append(
            ModelResult(
                model,
                failed_clips=tuple((k, clip.failure) for k, clip in enumerate(clips) if clip.pixels is None),
                clip_shape=(made.shape[2], made.shape[3], made.shape[4]),
                accuracy=_accuracy(clips, prompts),
                distances=references.distances(clips),
                movement=_movement(made),
                cost=cost,
            )
        )
        clips_of_models.append(clips)
    report = ComparisonReport(
        prompts=tuple(prompt.caption for prompt in prompts),
        num_checked=sum(bool(prompt.objects) for prompt in prompts),
        seed=seed,
        device=str(device),
        num_threads=torch.get_num_threads(),
        same_prompts=reference_prompts is None,
        left_out=tuple(left_out),
        models=tuple(results),
    )
    return report, clips_of_models


class _References:
    """Features of rendered clips, made once for each shape of clips."""

    def __init__(
        self,
        prompts: Sequence[EvaluationPrompt],
        reference_prompts: Sequence[EvaluationPrompt],
        extractor: FeatureExtractor,
        num_clips: int,
    ) -> None:
        self.prompts, self.extractor, self.num_clips = prompts, extractor, num_clips
        self.shown = [prompt for prompt in reference_prompts if prompt.objects]
        self.features: dict[torch.Size, ClipFeatures] = {}

    def distances(self, clips: Sequence[GeneratedClip]) -> Distances | None:
        """Of the clips of prompts that can be rendered; None for under two."""
        pairs = zip(clips, self.prompts, strict=True)
        made = [(clip.pixels, prompt) for clip, prompt in pairs if prompt.objects and clip.pixels is not None]
        if len(made) < 2 or not self.shown:
            return None
        shape = made[0][0].shape
        if shape not in self.features:
            drawn = [self.shown[number % len(self.shown)] for number in range(self.num_clips)]
            self.features[shape] = extract_features(_render(drawn, shape, "reference"), self.extractor)
        reference = self.features[shape]
        generated = extract_features((pixels for pixels, _ in made), self.extractor)
        ideal = extract_features(_render([prompt for _, prompt in made], shape, "ideal"), self.extractor)
        return Distances(
            frechet=frechet_video_distance(generated, reference),
            kernel=kernel_video_distance(generated, reference),
            rendered=frechet_video_distance(ideal, reference),
        )


def _render(prompts: Sequence[EvaluationPrompt], shape: torch.Size, stream: str) -> Iterator[Tensor]:
    """A clip `(3, F, H, W)` of each prompt, with everything that the prompt does not say drawn at random."""
    _, num_frames, height, width = shape
    for number, prompt in enumerate(prompts):
        rng = Random(f"{stream}/{number}")
        background = prompt.background or Background(rng.choice(list(BACKGROUNDS)))
        yield render([place(prompt.objects, background, rng, num_frames)], (height, width))[0]


def _accuracy(clips: Sequence[GeneratedClip], prompts: Sequence[EvaluationPrompt]) -> AccuracyReport | None:
    """What the parser reads in the clips of prompts that it can check; it reads nothing in a failed one."""
    shape = next(clip.pixels.shape for clip in clips if clip.pixels is not None)
    if shape[1] < _LEAST_PARSED_FRAMES or not any(prompt.objects for prompt in prompts):
        return None
    blank = torch.zeros(shape)
    checked = [
        (blank if clip.pixels is None else clip.pixels, prompt)
        for clip, prompt in zip(clips, prompts, strict=True)
        if prompt.objects
    ]
    return measure_prompt_accuracy((clip for clip, _ in checked), [prompt for _, prompt in checked])


def _movement(clips: Tensor) -> Movement | None:
    if clips.shape[2] < 3 or min(clips.shape[3:]) < 4:
        return None
    measures = (motion_magnitude(clips), 100 * flicker(clips), 100 * frozen_share(clips))
    return Movement(*(bootstrap_mean(values.tolist()) for values in measures))
