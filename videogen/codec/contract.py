"""What every codec of the library takes and gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from videogen.models.weights_hash import weights_hash


class Codec(Protocol):
    """Anything that compresses clips to latents and back."""

    @property
    def compression(self) -> tuple[int, int]:
        """Frames per latent in time, and pixels per latent in height and in width."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the pixels and latents that it takes."""
        ...

    @property
    def device(self) -> torch.device:
        """Of the pixels and latents that it takes."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """Compresses pixels `(B, 3, F, H, W)` in [-1, 1] to latents `(B, C, f, h, w)` of unit variance."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Reconstructs pixels `(B, 3, F, H, W)`, meant for [-1, 1], from latents `(B, C, f, h, w)`."""
        ...

    def iter_decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Yields, with memory that does not grow with F, pieces in time that together equal `decode`."""
        ...

    def check_pixel_shape(self, shape: torch.Size | tuple[int, ...]) -> None:
        """Raises ValueError unless clips of this shape `(B, 3, F, H, W)` can be encoded exactly."""
        ...


def check_pixel_shape(shape: torch.Size | tuple[int, ...], compression: tuple[int, int]) -> None:
    """Raise ValueError unless clips of this shape `(B, 3, F, H, W)` can be compressed so."""
    if len(shape) != 5 or shape[1] != 3:
        raise ValueError(f"`pixels` must be (B, 3, F, H, W), got {tuple(shape)}")
    check_clip_size((shape[2], shape[3], shape[4]), compression)


def check_clip_size(size: tuple[int, int, int], compression: tuple[int, int]) -> None:
    """Raise ValueError unless clips of this size (frames, height, width) can be compressed so."""
    per_time, per_space = compression
    for name, value, factor in zip(
        ("num_frames", "height", "width"), size, (per_time, per_space, per_space), strict=True
    ):
        check_multiple(name, value, factor)


def check_multiple(name: str, value: int, factor: int) -> None:
    """Raise ValueError unless `value` is a positive multiple of `factor`, naming the nearest two that are."""
    if value >= 1 and value % factor == 0:
        return
    below = max(value, 0) // factor * factor
    choices = f"{below} or {below + factor}" if below else f"{factor} or {2 * factor}"
    raise ValueError(f"`{name}` must be a multiple of {factor} for this codec, got {value}: use {choices}")


_DECODING = ("decoder.", "post_quant_conv.")
"""Beginnings of the names of weights that latents do not depend on, in our codec and in diffusers'."""


def codec_hash(codec: nn.Module) -> str:
    """SHA-256 over what makes the latents of a codec, by which they are told from those of others.

    That is all but the decoder, which may be trained further or exchanged: the latents stay. See
    `weights_hash`.
    """
    return weights_hash(codec, without=_DECODING)


def check_codec_hash(codec: object, expected: str | None) -> None:
    """Raise ValueError if a codec is another one than a network was trained with.

    Args:
        codec: Whatever keeps the contract; one that is no network of ours has no hash to compare.
        expected: The hash of the right one; None if that is not known. In float16, which rounds otherwise
            than bfloat16 does, no two hashes are compared.
    """
    if expected is None or not isinstance(codec, nn.Module) or codec.dtype == torch.float16:
        return
    found = codec_hash(codec)
    if found != expected:
        raise ValueError(
            f"`vae` is another codec than the model was trained with: its hash is {found[:12]}, expected "
            f"{expected[:12]}"
        )
