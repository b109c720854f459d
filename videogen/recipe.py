"""The recipe inside a clip: all that is needed to make it again, and what it was made with."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videogen import __version__
from videogen.io import read_recipe
from videogen.json_fields import read_fields

EMBEDDED = "embedded"
"""The name of the embedded model in recipes."""


@dataclass(frozen=True)
class LoraInRecipe:
    """Adapters that were merged.

    Attributes:
        path: A file or folder, as it was given.
        scale: Of what they add.
        sha256: Of the adapters, see `lora_hash`.
    """

    path: str
    scale: float
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """How a clip was made.

    Attributes:
        prompt: What it was to show.
        negative_prompt: What it was to steer away from.
        seed: Of its noise.
        num_frames: Of the clip.
        height: In pixels.
        width: In pixels.
        fps: Frames per second.
        num_inference_steps: Denoising or decoding steps; None for a model that makes a clip at once.
        guidance_scale: Of classifier-free guidance; None for a model without.
        scheduler: A name that `make_scheduler` knows; None for the model's own.
        scheduler_class: Its class in diffusers; None for a model that is no diffusion model.
        cache: What steps took over from earlier ones, as `StepCache.parse` reads it.
        dtype: Of the networks.
        device: Where they ran.
        model: A folder or an id on the hub, as it was given, or `EMBEDDED`.
        model_hash: See `videogen.pipelines.loading.model_hash`.
        loras: What was merged into the model.
        frames_sha256: Of the bytes of the frames, `(F, H, W, 3)` uint8.
        versions: Of videogen, torch and diffusers.
        temperature: Scaled what was random; None for a model without.
        guidance: Its kind, as `parse_guidance` reads it; None for classifier-free guidance.
        attention: One of `ATTENTION_BACKENDS`.
        num_threads: Of the CPU.
        processor: What computed it; on another, sums may be rounded otherwise.
        stopped_after_step: Of a clip that was predicted when denoising was stopped: evaluations of the
            denoiser that were done. None for a clip that was finished.
    """

    prompt: str
    negative_prompt: str
    seed: int
    num_frames: int
    height: int
    width: int
    fps: float
    num_inference_steps: int | None
    guidance_scale: float | None
    scheduler: str | None
    scheduler_class: str | None
    cache: str | None
    dtype: str
    device: str
    model: str
    model_hash: str
    loras: tuple[LoraInRecipe, ...]
    frames_sha256: str
    versions: dict[str, str]
    # The first recipes had none of these.
    temperature: float | None = None
    guidance: str | None = None
    attention: str = "sdpa"
    num_threads: int | None = None
    processor: str | None = None
    stopped_after_step: int | None = None

    @classmethod
    def of_clip(cls, path: str | Path) -> Recipe:
        """The recipe of a clip.

        Raises:
            ValueError: If the clip cannot be read, carries no recipe, or one that this version cannot follow;
                the message names the field.
        """
        found = read_recipe(path)
        if found is None:
            raise ValueError(f"{path} carries no recipe, so how it was made is not known")
        source = f"the recipe of {path}"
        _check_version(found, source)
        recipe = read_fields(cls, found, source)
        if recipe.stopped_after_step is not None and recipe.stopped_after_step < 1:
            raise ValueError(
                f"`stopped_after_step` in {source} must be at least 1, got {recipe.stopped_after_step}"
            )
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """As it is written into files."""
        return asdict(self) | {"loras": [asdict(lora) for lora in self.loras]}

    def settings(self) -> dict[str, Any]:
        """What `videogen.commands.generate.Settings` takes to make it again."""
        return {
            "model": None if self.model == EMBEDDED else self.model,
            "device": self.device,
            "dtype": self.dtype,
            "scheduler": self.scheduler,
            "negative_prompt": self.negative_prompt,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "guidance": self.guidance,
            "num_frames": self.num_frames,
            "height": self.height,
            "width": self.width,
            "fps": self.fps,
            "cache": self.cache,
            "temperature": self.temperature,
            "attention": self.attention,
            "loras": tuple((lora.path, lora.scale) for lora in self.loras),
        }

    def differences(self, other: Recipe) -> list[str]:
        """In what surroundings two recipes were followed that may have made the clips differ, one a line."""
        mine, theirs = self._surroundings(), other._surroundings()
        return [
            f"{name}: {mine.get(name, 'unknown')} in the clip, {theirs.get(name, 'unknown')} now"
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        ]

    def _surroundings(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "model hash": self.model_hash[:12],
            **{f"LoRA {number} hash": lora.sha256[:12] for number, lora in enumerate(self.loras)},
            **self.versions,
            "device": self.device,
            "dtype": self.dtype,
            "attention": self.attention,
            "scheduler": self.scheduler_class,
            "processor": self.processor,
            "threads": self.num_threads,
        }
        return {name: value for name, value in found.items() if value is not None}


def _check_version(found: object, source: str) -> None:
    """Raise ValueError for a recipe of a newer version, whose fields may mean what is not known here."""
    versions = found.get("versions") if isinstance(found, dict) else None
    made_by = versions.get("videogen") if isinstance(versions, dict) else None
    if isinstance(made_by, str) and _release(made_by) > _release(__version__):
        raise ValueError(f"{source} comes from videogen {made_by}, newer than this {__version__}: update it")


def _release(version: str) -> list[int]:
    """The numbers at the start of a version: [0, 12, 1] of `0.12.1.dev3`."""
    leading = re.match(r"\d+(\.\d+)*", version, re.ASCII)
    return [int(number) for number in leading[0].split(".")] if leading else []
