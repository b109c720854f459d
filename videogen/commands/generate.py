"""`videogen generate`: load a model, make clips one by one, and write each with its recipe."""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from videogen import __version__
from videogen.commands.denoising_bar import StepBar
from videogen.commands.planned_clips import PlannedClip
from videogen.io import WrittenClip, frame_rate, frames_to_uint8, write_clip
from videogen.models.attention import set_attention_backend
from videogen.models.step_cache import StepCache
from videogen.pipelines.denoising import DenoisingStep
from videogen.pipelines.devices import check_device
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.latent_generation import LatentGenerator
from videogen.pipelines.loading import (
    DTYPES,
    LoraChoice,
    find_folder,
    generator_class,
    lora_hash,
    model_hash,
    read_packed_components,
    split_lora_choice,
)
from videogen.pipelines.output import BadClipsError, VideoPipelineOutput
from videogen.recipe import EMBEDDED, LoraInRecipe, Recipe
from videogen.sampling.guidance_kinds import parse_guidance
from videogen.sampling.schedulers import make_scheduler

_NUMBERS = (
    "num_frames",
    "height",
    "width",
    "fps",
    "num_inference_steps",
    "guidance_scale",
    "temperature",
)


@dataclass(frozen=True)
class Settings:
    """How to make clips; None stands for the model's own.

    Attributes:
        model: A folder or an id on the hub; None is the embedded model.
        device: `cpu`, `mps`, `cuda` or `cuda:1`, ...
        dtype: A key of `DTYPES`.
        scheduler: A name that `make_scheduler` knows.
        negative_prompt: What to steer away from.
        num_inference_steps: Denoising steps.
        guidance_scale: Of guidance.
        guidance: Its kind, as `parse_guidance` reads it.
        num_frames: Frames per clip.
        height: In pixels.
        width: In pixels.
        fps: Frames per second.
        cache: What steps take over from earlier ones, as `StepCache.parse` reads it.
        temperature: Scales what is random, for families that have it.
        attention: One of `ATTENTION_BACKENDS`.
        loras: Adapters to merge, each `PATH`, `PATH:SCALE` or both in a pair.
        check_memory: Whether clips that need more memory than there is are refused.
    """

    model: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    scheduler: str | None = None
    negative_prompt: str = ""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance: str | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    cache: str | None = None
    temperature: float | None = None
    attention: str = "sdpa"
    loras: tuple[LoraChoice, ...] = ()
    check_memory: bool = True


class Stopwatch:
    """Seconds spent in each phase, in the order in which the phases were first met."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done within to a phase; what fails is not counted."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


@dataclass(frozen=True)
class MadeClip:
    """A clip before it is written.

    Attributes:
        frames: `(F, H, W, 3)` uint8.
        recipe: How to make it again.
        interrupted: Whether the user stopped it: it shows what was foreseen then.
    """

    frames: np.ndarray
    recipe: Recipe
    interrupted: bool


class ClipMaker:
    """A loaded model with settings, which makes and writes clips.

    Clips are made one at a time: memory does not grow with their number, those that are written stay when the
    command is interrupted, and each is bit for bit what a command for it alone gives.

    Args:
        settings: How to make the clips.
        num_clips: How many will be made, for the bar.
        watch: Counts the seconds.
        preview: Whether to draw what is foreseen, see `StepBar`.

    Raises:
        ValueError: If a setting is unknown here, or the model cannot be loaded.
    """

    def __init__(
        self, settings: Settings, num_clips: int, watch: Stopwatch, preview: bool | None = False
    ) -> None:
        self.step_cache = None if settings.cache is None else StepCache.parse(settings.cache)
        self.guidance = None if settings.guidance is None else parse_guidance(settings.guidance)
        dtype = check_dtype(settings.dtype)
        device = check_device(settings.device)
        set_attention_backend(settings.attention, device)
        self.watch = watch
        with watch.phase("load"):
            folder = find_folder(settings.model)
            parts = read_packed_components(folder, dtype, device, settings.loras)
            self.generator: LatentGenerator = generator_class(folder)(**parts)
            self.generator.check_memory = settings.check_memory
            self.bar = StepBar(num_clips, preview)
            self.generator.progress_bar = self.bar.of_a_clip  # type: ignore[method-assign]
            self.model_hash = model_hash(folder)
            choices = [split_lora_choice(lora) for lora in settings.loras]
            self.loras = tuple(LoraInRecipe(path, scale, lora_hash(path)) for path, scale in choices)
        self.settings = settings
        own = asdict(self.generator.defaults)
        given = {name: getattr(settings, name) for name in _NUMBERS if getattr(settings, name) is not None}
        self._check_given(own, given)
        self.numbers = {**own, **given}
        if not isinstance(self.generator, TextToVideo):
            return
        if settings.scheduler is not None:
            self.generator.scheduler = make_scheduler(
                settings.scheduler, self.generator.prediction_type, self.generator.scheduler
            )
        if settings.negative_prompt and self.numbers["guidance_scale"] <= 1:
            # The pipeline would say so of prompts, but here it is given embeddings.
            warnings.warn("the negative prompt is ignored: it needs a guidance above 1", stacklevel=2)

    @property
    def fps(self) -> float:
        """Frames per second of the files."""
        return float(self.numbers["fps"])

    def _check_given(self, own: dict[str, Any], given: dict[str, Any]) -> None:
        """Raise ValueError for a setting that this family of generators does not have."""
        settings = self.settings
        without = [name for name in given if name not in own]
        if settings.negative_prompt and "guidance_scale" not in own:
            without.append("negative_prompt")
        if not isinstance(self.generator, TextToVideo):
            of_diffusion = ("scheduler", "cache", "guidance")
            without += [name for name in of_diffusion if getattr(settings, name) is not None]
        if without:
            raise ValueError(
                f"`{without[0]}` is no setting of this model, a {type(self.generator.network).__name__}"
            )

    def make(self, clip: PlannedClip, stop_after_step: int | None = None) -> MadeClip:
        """Make a clip.

        Ctrl-C ends the denoising, and the clip becomes what was foreseen at the last whole step; a second one
        gets through, as does one before the first step is done.

        Args:
            clip: What to make.
            stop_after_step: Evaluations of the denoiser to do, if not all: the clip becomes what is foreseen
                then.

        Raises:
            ValueError: If a setting does not fit the model; before any computation.
            BadClipsError: If the latents become NaN or infinite, naming the step, or the clip is blank.
        """
        interrupted = False
        if isinstance(self.generator, TextToVideo):
            latents, stopped_after_step, interrupted = self._denoise(self.generator, clip, stop_after_step)
        elif stop_after_step is None:
            latents, stopped_after_step = self._draw(clip), None
        else:
            raise ValueError(
                f"the recipe stops after step {stop_after_step}, which this model, a "
                f"{type(self.generator.network).__name__}, cannot"
            )
        with self.watch.phase("decode"):
            try:
                frames = frames_to_uint8(self.generator.decode_latents(latents)[0].numpy())
            except BadClipsError:
                if interrupted:  # nothing can be seen yet of what was to be kept
                    raise KeyboardInterrupt from None
                raise
        return MadeClip(frames, self._recipe(clip, frames, stopped_after_step), interrupted)

    def _denoise(
        self, generator: TextToVideo, clip: PlannedClip, stop_after_step: int | None
    ) -> tuple[Tensor, int | None, bool]:
        """Latents; after which step they were foreseen, if not after all; whether the user stopped there."""
        with torch.no_grad(), self.watch.phase("text"):
            prompt_embeds, negative_prompt_embeds = generator.encode_prompt(
                clip.prompt,
                negative_prompt=self.settings.negative_prompt,
                do_classifier_free_guidance=self.numbers["guidance_scale"] > 1,
            )
        if not bool(torch.isfinite(prompt_embeds).all()):  # in a call that is a user's fault
            reason = "has a prompt whose embeddings are not finite"
            raise BadClipsError({0: reason}, VideoPipelineOutput(prompt_embeds[:0]))
        steps = generator.stream(
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            **self._call_numbers,
            seed=clip.seed,
            step_cache=self.step_cache,
            guidance=self.guidance,
            output_type="latent",
        )
        last: DenoisingStep | None = None
        interrupted = False
        with self.watch.phase("denoise"):
            try:
                for step in steps:
                    last = step
                    if stop_after_step is not None and stop_after_step > step.num_steps:
                        raise ValueError(
                            f"the recipe stops after step {stop_after_step}, but there are {step.num_steps}"
                        )
                    if stop_after_step == step.step_idx + 1:
                        break
                    self.bar.show(step, generator.codec.compression[0])
            except KeyboardInterrupt:
                if last is None or last.output is not None:
                    raise
                interrupted = True
        assert last is not None
        if last.output is not None and stop_after_step is None:
            return last.latents, None, False
        return last.predicted_latents, last.step_idx + 1, interrupted

    def _draw(self, clip: PlannedClip) -> Tensor:
        negative = {"negative_prompt": self.settings.negative_prompt} if self.settings.negative_prompt else {}
        with self.watch.phase("draw"):
            latents: Tensor = self.generator(
                clip.prompt,
                **negative,
                **self._call_numbers,
                seed=clip.seed,
                output_type="latent",
                return_dict=False,
            )[0]
        return latents

    @property
    def _call_numbers(self) -> dict[str, Any]:
        """The numbers that a call takes: all but the frame rate, which belongs to the file."""
        return {name: value for name, value in self.numbers.items() if name != "fps"}

    def write(self, clip: PlannedClip) -> WrittenClip:
        """Make a clip and write it.

        Raises:
            KeyboardInterrupt: If the user stopped the denoising, after what was foreseen is written.
        """
        made = self.make(clip)
        with self.watch.phase("write"):
            written = write_clip(made.frames, clip.path, fps=self.fps, recipe=made.recipe.to_dict())
        if made.interrupted:
            raise KeyboardInterrupt(
                f"interrupted: {clip.path} shows the clip as predicted after step "
                f"{made.recipe.stopped_after_step}"
            )
        return written

    def _recipe(self, clip: PlannedClip, frames: np.ndarray, stopped_after_step: int | None) -> Recipe:
        settings, generator = self.settings, self.generator
        numbers: dict[str, Any] = {name: self.numbers.get(name) for name in _NUMBERS}
        scheduler = type(generator.scheduler).__name__ if isinstance(generator, TextToVideo) else None
        return Recipe(
            prompt=clip.prompt,
            negative_prompt=settings.negative_prompt,
            seed=clip.seed,
            **numbers,
            scheduler=settings.scheduler,
            scheduler_class=scheduler,
            guidance=None if self.guidance is None else str(self.guidance),
            cache=settings.cache,
            dtype=settings.dtype,
            device=settings.device,
            attention=settings.attention,
            model=settings.model or EMBEDDED,
            model_hash=self.model_hash,
            loras=self.loras,
            frames_sha256=hashlib.sha256(frames.tobytes()).hexdigest(),
            versions={
                "videogen": __version__,
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
            },
            num_threads=torch.get_num_threads(),
            processor=processor_name(torch.device(settings.device)),
            stopped_after_step=stopped_after_step,
        )


def generate_clips(
    clips: Sequence[PlannedClip], settings: Settings, watch: Stopwatch, preview: bool | None
) -> Iterator[tuple[PlannedClip, WrittenClip | BadClipsError]]:
    """Make and write clips, and tell of each when its file is there, or why it is not: it came out bad.

    Raises:
        ValueError: If a setting is unknown or does not fit the model; before any computation.
        OSError: If a file cannot be written.
        KeyboardInterrupt: See `ClipMaker.write`.
    """
    maker = ClipMaker(settings, len(clips), watch, preview)
    for clip in clips:
        frame_rate(maker.fps, clip.path)
    for clip in clips:
        with maker.bar.progress:  # not around the yield: what is printed there would run into the bar
            try:
                made: WrittenClip | BadClipsError = maker.write(clip)
            except BadClipsError as error:
                made = error
        yield clip, made


def check_dtype(name: str) -> torch.dtype:
    """The dtype of a name, or a ValueError that lists the known ones."""
    if name not in DTYPES:
        raise ValueError(f"`dtype` {name!r} is unknown: known are {', '.join(DTYPES)}")
    return DTYPES[name]


def processor_name(device: torch.device) -> str:
    """What computes there: the instructions that torch uses on a CPU, the name of a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
