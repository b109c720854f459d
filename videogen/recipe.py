"""The recipe inside a clip: all that is needed to make it again, and what it was made with."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from videogen import __version__
from videogen.io import read_recipe
from videogen.json_fields import read_fields
from videogen.settings import GenerationSettings


@dataclass(frozen=True)
class RequestedClip:
    """Which clip is to be made, whatever the settings.

    Attributes:
        prompt: What it shows.
        seed: Of its noise.
    """

    prompt: str
    seed: int


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


@dataclass(frozen=True, kw_only=True)
class Recipe(GenerationSettings, RequestedClip):
    """How a clip was made: what was asked for, all settings, and what made it.

    A setting is None where the model has none such, and in recipes that are older than the setting.

    Attributes:
        loras: What was merged into the model.
        model_hash: See `videogen.pipelines.loading.model_hash`.
        scheduler_class: The scheduler in diffusers; None for a model that is no diffusion model.
        frames_sha256: Of the bytes of the frames, `(F, H, W, 3)` uint8.
        versions: Of videogen, torch and diffusers.
        num_threads: Of the CPU.
        processor: What computed it; on another, sums may be rounded otherwise.
        stopped_after_step: Of a clip that was predicted when denoising was stopped: evaluations of the
            denoiser that were done. None for a clip that was finished.
    """

    # Of the settings, every recipe has had these from the first on.
    scheduler: str | None = field()
    num_inference_steps: int | None = field()
    guidance_scale: float | None = field()
    cache: str | None = field()
    negative_prompt: str = field()
    num_frames: int = field()
    height: int = field()
    width: int = field()
    fps: float = field()
    model: str = field()
    loras: tuple[LoraInRecipe, ...] = field()  # type: ignore[assignment] # with their hashes
    device: str = field()
    dtype: str = field()
    attention: str = "sdpa"
    model_hash: str
    scheduler_class: str | None
    frames_sha256: str
    versions: dict[str, str]
    # The first recipes had none of these.
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

    def given(self) -> dict[str, Any]:
        """All settings that make it again, by name."""
        return super().given() | {"loras": tuple(f"{lora.path}:{lora.scale!r}" for lora in self.loras)}

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
