"""`videogen generate`: load a model, make clips one by one, and write each with its recipe."""

from __future__ import annotations

import hashlib
import inspect
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
    find_folder,
    generator_class,
    lora_hash,
    model_hash,
    read_packed_components,
    split_lora_choice,
)
from videogen.pipelines.output import BadClipsError, VideoPipelineOutput
from videogen.recipe import LoraInRecipe, Recipe
from videogen.sampling.guidance_kinds import parse_guidance
from videogen.sampling.schedulers import make_scheduler
from videogen.settings import DEFAULTS, SETTINGS, GenerationSettings, merge


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
        check_memory: Whether clips that need more memory than there is are refused.

    Raises:
        ValueError: If a setting is unknown here, or the model cannot be loaded.
    """

    def __init__(
        self,
        settings: GenerationSettings,
        num_clips: int,
        watch: Stopwatch,
        preview: bool | None = False,
        check_memory: bool = True,
    ) -> None:
        step_cache = None if settings.cache is None else StepCache.parse(settings.cache)
        self.guidance = None if settings.guidance is None else parse_guidance(settings.guidance)
        where = merge(DEFAULTS, settings).given()
        dtype = check_dtype(where["dtype"])
        device = check_device(where["device"])
        set_attention_backend(where["attention"], device)
        self.watch = watch
        with watch.phase("load"):
            folder = find_folder(where["model"])
            parts = read_packed_components(folder, dtype, device, where["loras"])
            self.generator: LatentGenerator = generator_class(folder)(**parts)
            self.generator.check_memory = check_memory
            self.bar = StepBar(num_clips, preview)
            self.generator.progress_bar = self.bar.of_a_clip  # type: ignore[method-assign]
            self.model_hash = model_hash(folder)
            choices = [split_lora_choice(lora) for lora in where["loras"]]
            self.loras = tuple(LoraInRecipe(path, scale, lora_hash(path)) for path, scale in choices)
        own = asdict(self.generator.defaults)
        of_model = GenerationSettings(**{name: value for name, value in own.items() if name in SETTINGS})
        chosen = merge(DEFAULTS, of_model, settings)
        self.values, self.arguments = chosen.given(), self._arguments(chosen, settings)
        if not isinstance(self.generator, TextToVideo):
            return
        self.arguments |= {"step_cache": step_cache, "guidance": self.guidance}
        scheduler = self.arguments.pop("scheduler", None)
        if scheduler is not None:
            self.generator.scheduler = make_scheduler(
                scheduler, self.generator.prediction_type, self.generator.scheduler
            )
        if self.arguments["negative_prompt"] and self.arguments["guidance_scale"] <= 1:
            # The pipeline would say so of prompts, but here it is given embeddings.
            warnings.warn("the negative prompt is ignored: it needs a guidance above 1", stacklevel=2)

    @property
    def fps(self) -> float:
        """Frames per second of the files."""
        return float(self.values["fps"])

    def _arguments(self, chosen: GenerationSettings, given: GenerationSettings) -> dict[str, Any]:
        """Of all settings those that calls of the generator take, by the names of their arguments.

        Raises:
            ValueError: If the user gave one that this family of generators does not have.
        """
        taken = inspect.signature(self.generator.__call__).parameters
        for name, value in given.given().items():
            setting = SETTINGS[name]
            if setting.argument is not None and setting.argument not in taken and value != setting.default:
                raise ValueError(
                    f"`{name}` is no setting of this model, a {type(self.generator.network).__name__}"
                )
        return {name: value for name, value in chosen.arguments().items() if name in taken}

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
        arguments = dict(self.arguments)
        with torch.no_grad(), self.watch.phase("text"):
            prompt_embeds, negative_prompt_embeds = generator.encode_prompt(
                clip.prompt,
                negative_prompt=arguments.pop("negative_prompt"),
                do_classifier_free_guidance=arguments["guidance_scale"] > 1,
            )
        if not bool(torch.isfinite(prompt_embeds).all()):  # in a call that is a user's fault
            reason = "has a prompt whose embeddings are not finite"
            raise BadClipsError({0: reason}, VideoPipelineOutput(prompt_embeds[:0]))
        steps = generator.stream(
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            **arguments,
            seed=clip.seed,
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
        with self.watch.phase("draw"):
            latents: Tensor = self.generator(
                clip.prompt, **self.arguments, seed=clip.seed, output_type="latent", return_dict=False
            )[0]
        return latents

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
        generator = self.generator
        scheduler = type(generator.scheduler).__name__ if isinstance(generator, TextToVideo) else None
        settings: dict[str, Any] = dict.fromkeys(SETTINGS) | self.values | {"loras": self.loras}
        if self.guidance is not None:
            settings["guidance"] = str(self.guidance)
        return Recipe(
            prompt=clip.prompt,
            seed=clip.seed,
            **settings,
            scheduler_class=scheduler,
            model_hash=self.model_hash,
            frames_sha256=hashlib.sha256(frames.tobytes()).hexdigest(),
            versions={
                "videogen": __version__,
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
            },
            num_threads=torch.get_num_threads(),
            processor=processor_name(torch.device(self.values["device"])),
            stopped_after_step=stopped_after_step,
        )


def generate_clips(
    clips: Sequence[PlannedClip],
    settings: GenerationSettings,
    watch: Stopwatch,
    preview: bool | None,
    check_memory: bool,
) -> Iterator[tuple[PlannedClip, WrittenClip | BadClipsError]]:
    """Make and write clips, and tell of each when its file is there, or why it is not: it came out bad.

    Raises:
        ValueError: If a setting is unknown or does not fit the model; before any computation.
        OSError: If a file cannot be written.
        KeyboardInterrupt: See `ClipMaker.write`.
    """
    maker = ClipMaker(settings, len(clips), watch, preview, check_memory)
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
