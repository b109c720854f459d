"""Adapters (LoRA) of a pipeline that is in use: put in, weighed anew, and taken out again without a trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videogen.models.lora import Lora, adapted_weights, merge_lora, read_lora
from videogen.text.words import WORDS_NAME, add_words, read_words


class Adapters:
    """The methods of diffusers for adapters, to stand among the bases of a pipeline with a denoiser `unet`.

    Adapters are merged into the weights, so that they cost nothing in a call and are part of what
    `save_pretrained` writes. The weights that they change are kept as they were, to be put back.
    """

    unet: Any
    text_encoder: Any

    def __init__(self) -> None:
        self._loras: dict[str, Lora] = {}
        self._scales: dict[str, float] = {}
        self._own_weights: dict[str, Tensor] = {}
        self._own_text_encoder: nn.Module | None = None  # where adapters came with words

    def load_lora_weights(
        self, path: str | Path, adapter_name: str | None = None, *, weight_name: str | None = None
    ) -> None:
        """Put adapters in, with a weight of 1, beside those that are there.

        Args:
            path: A file or a folder, as for `videogen.load(loras=...)`.
            adapter_name: For `set_adapters`; by default `default_0`, `default_1`, ...
            weight_name: Of the file in the folder, where it is not the usual one.

        Raises:
            ValueError: If the file is missing, broken or made for another model, or the name is taken; the
                pipeline is then as it was.
        """
        name = f"default_{len(self._loras)}" if adapter_name is None else adapter_name
        if name in self._loras:
            raise ValueError(f"`adapter_name` {name!r} is taken: choose another one, or unload the adapters")
        lora = read_lora(path if weight_name is None else Path(path, weight_name))
        fresh = adapted_weights(self.unet, lora)
        encoder = self.text_encoder
        if (Path(path) / WORDS_NAME).is_file():
            encoder = add_words(encoder, read_words(path), Path(path))
        scales = {**self._scales, name: 1.0}
        self._merge({})
        for module, weight in fresh.items():
            self._own_weights.setdefault(module, weight.detach().clone())
        self._loras[name] = lora
        self._merge(scales)
        if encoder is not self.text_encoder:
            self._own_text_encoder = self._own_text_encoder or self.text_encoder
            self.text_encoder = encoder

    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float] | None = None
    ) -> None:
        """Say which adapters are in use, and how strongly.

        Args:
            adapter_names: One or several; the others have no effect from here on.
            adapter_weights: One for all, or one for each; 1 by default.

        Raises:
            ValueError: If a name is unknown, or the weights do not fit the names or are not finite.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        unknown = [name for name in names if name not in self._loras]
        if unknown:
            known = ", ".join(self._loras) or "none"
            raise ValueError(f"`adapter_names` has {unknown[0]!r}, which is not loaded: loaded are {known}")
        given: Any = 1.0 if adapter_weights is None else adapter_weights
        scales = [given] * len(names) if isinstance(given, int | float) else list(given)
        if len(scales) != len(names) or not all(math.isfinite(scale) for scale in scales):
            raise ValueError(
                f"`adapter_weights` must be finite, one for all or one for each of {len(names)} adapters, "
                f"got {adapter_weights!r}"
            )
        self._merge(dict(zip(names, scales, strict=True)))

    def get_active_adapters(self) -> list[str]:
        """Names of the adapters that are in use."""
        return list(self._scales)

    def unload_lora_weights(self) -> None:
        """Take all adapters out: the weights are those of before, bit for bit, and so are the clips."""
        self._merge({})
        self.text_encoder = self._own_text_encoder or self.text_encoder
        Adapters.__init__(self)

    @torch.no_grad()
    def _merge(self, scales: Mapping[str, float]) -> None:
        for lora in self._loras.values():
            for module, weight in adapted_weights(self.unet, lora).items():
                weight.copy_(self._own_weights[module])
        for name, scale in scales.items():
            merge_lora(self.unet, self._loras[name], scale)
        self._scales = dict(scales)
