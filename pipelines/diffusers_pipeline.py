"""What our diffusers pipelines share: where networks run, their bar, and a look at what a folder holds."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from videogen.alignment import align
from videogen.pipelines.families import GENERATORS
from videogen.pipelines.model_index import INDEX, read_index


class LatentPipeline(DiffusionPipeline):
    """A `DiffusionPipeline`, to stand before a `LatentGenerator` among the bases of a class.

    A pipeline of ours is known to `DiffusionPipeline.from_pretrained`, see `videogen.names_in_diffusers`; so
    is a subclass of one, once its module is imported.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # It looks for the class that a folder names in diffusers' own namespace, and nowhere else.
        setattr(diffusers, cls.__name__, cls)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """See `DiffusionPipeline.from_pretrained`.

        Raises:
            ValueError: If a folder holds a pipeline of ours of another class.
        """
        folder = Path(pretrained_model_name_or_path)
        if (folder / INDEX).is_file():
            found = read_index(folder).get("_class_name")
            if found in GENERATORS and found not in {base.__name__ for base in cls.__mro__}:
                raise ValueError(f"{folder} holds a {found}, not a {cls.__name__}: use videogen.load")
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **options)
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):  # those of diffusers and transformers too
                align(component)
        return pipeline

    def enable_sequential_cpu_offload(self, *arguments: Any, **options: Any) -> None:
        """Refused: use `enable_model_cpu_offload`.

        diffusers brings the weights of one layer at a time, when it is called. Our networks prepare prompts
        once for all steps, from the weights of many layers that are not called for that.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`enable_sequential_cpu_offload` cannot be used: the networks use weights of layers that are not "
            "called, which it would not bring. Use `enable_model_cpu_offload`"
        )

    def enable_vae_slicing(self) -> None:
        """Decode the clips of a batch one by one: less memory, the same frames up to rounding."""
        self._require("vae")
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Decode the clips of a batch together."""
        self._require("vae")
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Refused but for ModelScope's folders: our codec decodes frames whole.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`enable_vae_tiling` cannot be used: the codec decodes frames whole, a few at a time. Use "
            "`enable_vae_slicing`"
        )

    @property
    def execution_device(self) -> torch.device:
        """Where the networks run, also while they are offloaded."""
        return self._execution_device

    def progress_bar(self, total: int) -> AbstractContextManager[Any]:
        """The bar of diffusers, which `set_progress_bar_config` adjusts."""
        return DiffusionPipeline.progress_bar(self, total=total)
