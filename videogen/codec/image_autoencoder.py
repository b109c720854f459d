"""diffusers' image autoencoder behind the codec contract: each frame of a clip is an image of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videogen.codec.contract import check_pixel_shape
from videogen.files import read_json
from videogen.models.weight_files import WEIGHTS_NAME, fill, find_weights, read_weights

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

MEMORY_BUDGET = 2**30

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class ImageAutoencoder:
    """An adapter around `AutoencoderKL`; it owns nothing, and follows the network to its device and dtype.

    Images go through the network in batches that fit a memory budget. One image takes about three times its
    widest features at full resolution, `3 * channels * H * W` numbers with the second of the network's
    `block_out_channels`: 192 MiB for 256x256 pixels in float32 with the public weights. The weights are not
    counted, and at least one image is processed at a time.

    Args:
        vae: The network.
        memory_budget: Bytes for the features of the images that are processed at a time.

    Raises:
        ValueError: If `memory_budget` is not positive.
    """

    def __init__(self, vae: AutoencoderKL, memory_budget: int = MEMORY_BUDGET) -> None:
        if memory_budget < 1:
            raise ValueError(f"`memory_budget` must be positive, got {memory_budget}")
        self.vae = vae
        self.memory_budget = memory_budget

    @property
    def compression(self) -> tuple[int, int]:
        """1 in time, and in space what the network halves: 8 for the public weights."""
        return 1, 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the network."""
        return self.vae.dtype

    @property
    def device(self) -> torch.device:
        """Of the network."""
        return self.vae.device

    def encode(self, pixels: Tensor) -> Tensor:
        """Compress clips.

        Args:
            pixels: `(B, 3, F, H, W)` in [-1, 1]; H and W multiples of `compression[1]`.

        Returns:
            The posterior means `(B, C, F, h, w)`, of unit variance over the training data.

        Raises:
            ValueError: If the shape does not fit; the message names the nearest sizes that do.
        """
        self.check_pixel_shape(pixels.shape)
        images = pixels.transpose(1, 2).flatten(0, 1)  # (B*F, 3, H, W)
        batches = images.split(self._images_per_batch(*pixels.shape[3:]))
        means = torch.cat([self.vae.encode(batch, return_dict=False)[0].mode() for batch in batches])
        shift, scale = self._normalisation()
        return (means.unflatten(0, (len(pixels), -1)).transpose(1, 2) - shift) * scale

    def decode(self, latents: Tensor) -> Tensor:
        """Reconstruct whole clips.

        Args:
            latents: `(B, C, F, h, w)` of unit variance.

        Returns:
            Pixels `(B, 3, F, H, W)`, meant for [-1, 1] but not clamped.

        Raises:
            ValueError: If `latents` has another number of dimensions or channels.
        """
        return torch.cat(list(self.iter_decode(latents)), dim=2)

    def iter_decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Reconstruct clips piece by piece, within the memory budget.

        Args:
            latents: `(B, C, F, h, w)` of unit variance.

        Yields:
            Pixels `(B, 3, F_chunk, H, W)`; together they equal `decode(latents)`.

        Raises:
            ValueError: If `latents` has another number of dimensions or channels.
        """
        channels = self.vae.config["latent_channels"]
        if latents.ndim != 5 or latents.shape[1] != channels:
            raise ValueError(f"`latents` must be (B, {channels}, F, h, w), got {tuple(latents.shape)}")
        height, width = (size * self.compression[1] for size in latents.shape[3:])
        images_per_batch = self._images_per_batch(height, width)
        shift, scale = self._normalisation()
        for chunk in latents.split(max(1, images_per_batch // len(latents)), dim=2):
            images = chunk.transpose(1, 2).flatten(0, 1) / scale + shift  # (B*F_chunk, C, h, w)
            batches = images.split(images_per_batch)
            pixels = torch.cat([self.vae.decode(batch, return_dict=False)[0] for batch in batches])
            yield pixels.unflatten(0, (len(latents), -1)).transpose(1, 2)

    def check_pixel_shape(self, shape: torch.Size | tuple[int, ...]) -> None:
        """Raise ValueError unless clips of this shape `(B, 3, F, H, W)` can be encoded exactly."""
        check_pixel_shape(shape, self.compression)

    def _normalisation(self) -> tuple[float, float]:
        """Mean and inverse standard deviation of the network's latents over its training data."""
        return self.vae.config["shift_factor"] or 0.0, self.vae.config["scaling_factor"]

    def _images_per_batch(self, height: int, width: int) -> int:
        widest = max(self.vae.config["block_out_channels"][:2])
        bytes_per_image = 3 * widest * height * width * self.dtype.itemsize
        return max(1, self.memory_budget // bytes_per_image)


def load_autoencoder_kl(folder: Path, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Load diffusers' image autoencoder, in evaluation mode and on the CPU.

    Files from before 2023 name the parts of their attention query, key, value and proj_attn.

    Args:
        folder: Of the network, with its config.json.
        dtype: Of the network, whatever it is on disk.

    Raises:
        ValueError: If a file or a tensor is missing, broken, unknown, of a wrong shape or not finite, or the
            config cannot be used; the message names it.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    config = read_json(folder / "config.json")
    files = find_weights(folder, pickle_name=WEIGHTS_NAME)
    try:
        with torch.device("meta"):
            vae = AutoencoderKL.from_config(config)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the config of AutoencoderKL cannot be used: {error}") from error
    pattern = re.compile(rf"(?<=\.attentions\.0\.)({'|'.join(_OLD_ATTENTION)})(?=\.)")
    state_dict = {
        pattern.sub(lambda match: _OLD_ATTENTION[match[0]], name): tensor
        for name, tensor in read_weights(files).items()
    }
    fill(vae, state_dict, files[0], dtype)
    return vae.eval()
