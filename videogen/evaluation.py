"""Measures a text-to-video model: what its clips show, how exact its codec is, how long a clip takes."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import product
from statistics import median

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from videogen.codec.contract import Codec
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.world import MOTIONS, SHAPES, WORLDS
from videogen.metrics.intervals import MeanInterval, Proportion, bootstrap_mean
from videogen.metrics.prompt_accuracy import (
    COLUMNS,
    AccuracyReport,
    EvaluationPrompt,
    evaluation_prompts,
    measure_prompt_accuracy,
)
from videogen.metrics.reconstruction import psnr
from videogen.pipelines.latent_generation import LatentGenerator
from videogen.pipelines.output import BadClipsError

PROMPT_KINDS: dict[str, tuple[bool, int]] = {
    "seen": (False, 1),
    "held out": (True, 1),
    "two objects": (False, 2),
}
"""Kinds of prompts by name: whether they are held out of training, and how many objects they name."""
BATCH_SIZE = 8
UNSEEN_STREAM = 1
"""Seed of the clips that the codec is measured on; training draws stream 0."""
NUM_TIMINGS = 5


@dataclass(frozen=True)
class SettingResult:
    """What was measured with one number of steps and one guidance scale.

    Attributes:
        num_inference_steps: Denoising steps.
        guidance_scale: Of classifier-free guidance.
        seconds_per_clip: From one prompt to frames, warm; median of five calls.
        accuracy: For each kind of prompts (`PROMPT_KINDS`) what their clips show.
    """

    num_inference_steps: int
    guidance_scale: float
    seconds_per_clip: float
    accuracy: dict[str, AccuracyReport]


@dataclass(frozen=True)
class EvaluationReport:
    """All that was measured of a model.

    Attributes:
        model: Its name, as given.
        world: What the prompts are about, a key of `WORLDS`.
        num_prompts: Prompts of each kind.
        seed: Of the prompts, and of the noise: clip k of a kind is made from `seed + k`.
        device: Where the networks ran.
        num_threads: Of the CPU.
        codec_psnr: Of the codec on unseen clips, in dB, with the bootstrap interval of the mean.
        settings: One for each combination of steps and guidance.
    """

    model: str
    world: str
    num_prompts: int
    seed: int
    device: str
    num_threads: int
    codec_psnr: MeanInterval
    settings: tuple[SettingResult, ...]

    def best(self) -> SettingResult:
        """The setting with the most right clips of held-out prompts; of several the first."""
        return max(self.settings, key=lambda setting: setting.accuracy["held out"].all_right.successes)

    def accuracy_table(self, *, brief: bool = False) -> tuple[list[str], list[list[str]]]:
        """Header and rows: one row for each setting and kind of prompts.

        Args:
            brief: Whether only the last column has its interval, as fits into a terminal.
        """
        header = [
            "steps",
            "guidance",
            "s per clip",
            "prompts",
            *(name.replace("_", " ") for name in COLUMNS),
        ]
        rows = []
        for setting in self.settings:
            numbers = [str(setting.num_inference_steps), f"{setting.guidance_scale:g}"]
            for kind, accuracy in setting.accuracy.items():
                shares = [getattr(accuracy, column) for column in COLUMNS]
                assert None not in shares  # all prompts of an evaluation name a background
                cells = [f"{share.share:.1%}" if brief else str(share) for share in shares[:-1]]
                rows.append([*numbers, f"{setting.seconds_per_clip:.2f}", kind, *cells, str(shares[-1])])
        return header, rows

    def breakdown_table(self, attribute: str) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the best setting: right objects of all objects, for each shape or motion.

        Args:
            attribute: `shape` or `motion`.
        """
        accuracy = self.best().accuracy
        parts: list[dict[str, Proportion]] = [getattr(item, f"by_{attribute}") for item in accuracy.values()]
        rows = [
            [name, *(f"{part[name].successes}/{part[name].total}" if name in part else "" for part in parts)]
            for name in {"shape": SHAPES, "motion": MOTIONS}[attribute]
            if any(name in part for part in parts)
        ]
        return [attribute, *accuracy], rows

    def to_markdown(self) -> str:
        """The whole report as a page of Markdown."""
        best = self.best()
        return "\n".join(
            [
                f"# Evaluation of {self.model}",
                "",
                f"World `{self.world}`, {self.num_prompts} prompts of each kind, seed {self.seed}, on "
                f"{self.device} ({self.num_threads} CPU threads). In brackets 95 % intervals.",
                "",
                markdown_table(*self.accuracy_table()),
                "",
                "A clip is right in an attribute if all objects of its prompt are, and all right if they are "
                "in colour, shape, size and motion. `held out` names a (colour, shape, motion) that training "
                "never shows. Seconds are of one prompt a call, with the model loaded.",
                "",
                f"Codec: PSNR {self.codec_psnr} dB, mean of {self.codec_psnr.num_values} unseen clips.",
                "",
                f"## Right objects: {best.num_inference_steps} steps, guidance {best.guidance_scale:g}",
                "",
                markdown_table(*self.breakdown_table("motion")),
                "",
                markdown_table(*self.breakdown_table("shape")),
                "",
            ]
        )

    def to_json(self) -> str:
        """All numbers, also the breakdowns of every setting."""
        return json.dumps(asdict(self), indent=2)


def evaluate(
    pipeline: LatentGenerator,
    world: str = "shapes",
    *,
    num_inference_steps: Sequence[int],
    guidance_scales: Sequence[float],
    num_prompts: int = 400,
    num_codec_clips: int = 256,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    model: str = "the model",
    show_progress: bool = False,
) -> EvaluationReport:
    """Judge the clips of every combination of steps and guidance, from the same prompts and noise.

    Args:
        pipeline: What to measure, on the device where it shall run.
        world: A key of `WORLDS`. In a world without pairs there are no prompts of two objects.
        num_inference_steps: Numbers of steps to try; of no effect on a model that has none.
        guidance_scales: Guidance scales to try; likewise.
        num_prompts: Prompts of each kind.
        num_codec_clips: Clips that the codec is measured on.
        seed: Of prompts and noise.
        batch_size: Clips that are made in one call; each is the one made alone but for rounding.
        model: Name of the model in the report.
        show_progress: Whether to show a bar with the time left.

    Raises:
        ValueError: If an argument is out of range; before any computation.
    """
    _check_arguments(world, num_inference_steps, guidance_scales, num_prompts, num_codec_clips, batch_size)
    prompts = {
        kind: evaluation_prompts(
            WORLDS[world], num_prompts, held_out=held_out, num_objects=num_objects, seed=seed
        )
        for kind, (held_out, num_objects) in PROMPT_KINDS.items()
        if num_objects == 1 or WORLDS[world].two_object_rate
    }
    combinations = list(product(num_inference_steps, guidance_scales))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)  # the report alone belongs on the standard output
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not show_progress) as progress:
        task = progress.add_task("clips", total=len(combinations) * len(prompts) * num_prompts)
        settings = []
        for steps, scale in combinations:
            seconds = seconds_per_clip(pipeline, prompts["seen"][0].caption, steps, scale)
            accuracy = {}
            for kind, wanted in prompts.items():
                progress.update(task, description=f"{steps} steps, guidance {scale:g}, {kind}")
                clips = generate_clips(
                    pipeline,
                    wanted,
                    steps,
                    scale,
                    seed,
                    lambda count: progress.advance(task, count),
                    batch_size,
                )
                accuracy[kind] = measure_prompt_accuracy(clips, wanted)
            settings.append(SettingResult(steps, scale, seconds, accuracy))
    defaults = pipeline.defaults
    quality = codec_psnr(pipeline.vae, num_codec_clips, world, defaults.num_frames, defaults.height)
    return EvaluationReport(
        model=model,
        world=world,
        num_prompts=num_prompts,
        seed=seed,
        device=str(pipeline.execution_device),
        num_threads=torch.get_num_threads(),
        codec_psnr=bootstrap_mean(quality.tolist()),
        settings=tuple(settings),
    )


@torch.no_grad()
def generate_clips(
    pipeline: LatentGenerator,
    prompts: Sequence[EvaluationPrompt],
    num_inference_steps: int,
    guidance_scale: float,
    seed: int,
    on_batch: Callable[[int], object],
    batch_size: int = BATCH_SIZE,
    num_frames: int | None = None,
) -> Iterator[Tensor]:
    """Yield for each prompt its clip `(3, F, H, W)` in [-1, 1]; tell `on_batch` how many were just made.

    F is `num_frames`, or what the pipeline makes by default.

    A clip that is not finite is named in a warning and becomes a grey one, which is as wrong as a blank one.
    """
    for first in range(0, len(prompts), batch_size):
        captions = [prompt.caption for prompt in prompts[first : first + batch_size]]
        try:
            output = pipeline(
                captions,
                **_settings_of(pipeline, num_inference_steps, guidance_scale),
                num_frames=num_frames or pipeline.defaults.num_frames,
                seed=seed + first,
                output_type="latent",
            )
            bad_clips = {}
        except BadClipsError as error:
            output, bad_clips = error.output, error.bad_clips
        # Not through the pipeline, which refuses a blank clip: here it is a wrong one.
        pixels = pipeline.vae.decode(output.frames.to(pipeline.vae.dtype)).float().clamp(-1, 1).cpu()
        for idx, reason in bad_clips.items():
            pixels[idx] = 0
            warnings.warn(
                f"the clip of {captions[idx]!r} with seed {seed + first + idx} {reason}: it counts as wrong",
                stacklevel=2,
            )
        yield from pixels
        on_batch(len(captions))


def seconds_per_clip(
    pipeline: LatentGenerator, prompt: str, num_inference_steps: int, guidance_scale: float
) -> float:
    """Median time from prompt to frames, whatever they show, after one call to warm up."""
    seconds = []
    for _ in range(1 + NUM_TIMINGS):
        start = time.perf_counter()
        with suppress(BadClipsError):
            pipeline(
                prompt,
                **_settings_of(pipeline, num_inference_steps, guidance_scale),
                seed=0,
            )
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


@torch.no_grad()
def codec_psnr(
    vae: Codec, num_clips: int = 256, world: str = "shapes", num_frames: int = 16, size: int = 64
) -> Tensor:
    """PSNR in dB, `(num_clips,)`, of what remains of unseen clips after encoding, decoding and clamping."""
    source = ShapesClips(world, num_frames, size, seed=UNSEEN_STREAM)
    values = []
    for first in range(0, num_clips, BATCH_SIZE):
        pixels = source.batch(range(first, min(first + BATCH_SIZE, num_clips))).pixels
        decoded = vae.decode(vae.encode(pixels.to(vae.device, vae.dtype))).clamp(-1, 1)
        values.append(psnr(decoded.cpu(), pixels))
    return torch.cat(values)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned for the eye as well."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (header, rule, *rows)
    )


def _settings_of(
    pipeline: LatentGenerator, num_inference_steps: int, guidance_scale: float
) -> dict[str, float]:
    """Those settings that a pipeline has: some families draw a clip in one step, or without guidance."""
    settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    names = {field.name for field in fields(pipeline.defaults)}
    return {name: value for name, value in settings.items() if name in names}


def _check_arguments(
    world: str,
    num_inference_steps: Sequence[int],
    guidance_scales: Sequence[float],
    num_prompts: int,
    num_codec_clips: int,
    batch_size: int,
) -> None:
    if world not in WORLDS:
        raise ValueError(f"`world` must be one of {', '.join(WORLDS)}, got {world!r}")
    counts = {"num_prompts": num_prompts, "num_codec_clips": num_codec_clips, "batch_size": batch_size}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}")
    if not num_inference_steps or min(num_inference_steps) < 1:
        raise ValueError(
            f"`num_inference_steps` must be numbers of at least 1, got {list(num_inference_steps)}"
        )
    if not guidance_scales or not all(0 <= scale < math.inf for scale in guidance_scales):
        raise ValueError(
            f"`guidance_scales` must be finite numbers of at least 0, got {list(guidance_scales)}"
        )
