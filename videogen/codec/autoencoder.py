"""Our latent video codec: four frames at a time become one grid of latents, eight times smaller each way.

The network has no normalisation layers and its residual branches start at zero, so that at initialisation it
is a linear autoencoder: group statistics in a codec tie distant pixels together, and training from a linear
map is fast and stable. Every group of frames is coded by itself; decoding a stream group by group therefore
equals decoding it whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.codec.contract import check_pixel_shape

_PATCH = 4  # side of the pixel patches that become channels before the first convolution
_SMALLEST_SQUARE = 1e-4  # below it a place counts as empty, and its noise is not brought to unit size
_MERGE = 2  # further reduction in space, at which the frames of a group are joined


@dataclass
class CodecOutput(BaseOutput):
    """What a codec leaves of clips.

    Attributes:
        sample: Pixels `(B, 3, F, H, W)`, meant for [-1, 1] but not clamped.
    """

    sample: Tensor


class VideoAutoencoder(AlignedWeights, ModelMixin, ConfigMixin):
    """Autoencoder for clips with a fixed-variance Gaussian posterior (Ghosh et al. 2020, arXiv:1903.12436).

    While training, noise of standard deviation `posterior_std` is added to the latents, so that the decoder
    tolerates the small errors a generator makes; the L2 penalty that goes with it belongs to the codec
    objective.

    Args:
        latent_channels: Channels of the latents.
        frames_per_latent: Frames that are coded together, the compression in time.
        encoder_dims: Channels of the encoder before and after the frames of a group are joined.
        decoder_dims: Channels of the decoder after and before the frames of a group are split (fine, coarse).
        encoder_depths: Residual blocks of the encoder at the two resolutions (fine, coarse).
        decoder_depths: Residual blocks of the decoder at the two resolutions (fine, coarse).
        posterior_std: Standard deviation of the posterior, in units of the normalised latents.
        latent_bound: Normalised latents up to this size are decoded as they are, larger ones as less than
            twice it; see `soft_bound`. None for no bound.
        pixel_margin: How far beyond [-1, 1] decoded pixels can lie; see `soft_bound`. None for no bound.
        normalize_branches: Whether what enters a residual branch is brought to unit size at each place
            (Zhang and Sennrich 2019, arXiv:1910.07467), so that no branch can outgrow the others.
    """

    latents_mean: Tensor
    latents_std: Tensor

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        frames_per_latent: int = 4,
        encoder_dims: tuple[int, int] = (32, 128),
        decoder_dims: tuple[int, int] = (48, 192),
        encoder_depths: tuple[int, int] = (1, 2),
        decoder_depths: tuple[int, int] = (2, 3),
        posterior_std: float = 0.04,
        latent_bound: float | None = None,
        pixel_margin: float | None = None,
        normalize_branches: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("latent_bound", latent_bound), ("pixel_margin", pixel_margin)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be above 0 or None, got {value}")
        self.compression = (frames_per_latent, _PATCH * _MERGE)
        self.use_slicing = False
        self.encoder = Encoder(
            latent_channels, frames_per_latent, encoder_dims, encoder_depths, normalize_branches
        )
        self.decoder = Decoder(
            latent_channels, frames_per_latent, decoder_dims, decoder_depths, normalize_branches
        )
        self.register_buffer("latents_mean", torch.zeros(latent_channels))
        self.register_buffer("latents_std", torch.ones(latent_channels))

    def forward(self, sample: Tensor, return_dict: bool = True) -> CodecOutput | tuple[Tensor]:
        """Compress clips and reconstruct them.

        Args:
            sample: Pixels, as for `encode`.
            return_dict: Whether to return a `CodecOutput` rather than a tuple.

        Raises:
            ValueError: See `encode`.
        """
        pixels = self.decode(self.encode(sample))
        return CodecOutput(pixels) if return_dict else (pixels,)

    @apply_forward_hook  # which brings the weights where they are offloaded
    def encode(self, pixels: Tensor) -> Tensor:
        """Compress clips.

        Args:
            pixels: `(B, 3, F, H, W)` in [-1, 1]; F a multiple of `compression[0]`, H and W of the other.

        Returns:
            The posterior means `(B, C, f, h, w)`, of unit variance over the training data.

        Raises:
            ValueError: If the shape does not fit; the message names the nearest sizes that do.
        """
        self.check_pixel_shape(pixels.shape)
        return self.normalize(self.encoder(pixels))

    def normalize(self, latents: Tensor) -> Tensor:
        """Bring what the encoder gives, `(B, C, f, h, w)`, to unit variance over the training data."""
        return (latents - _per_channel(self.latents_mean)) / _per_channel(self.latents_std)

    @apply_forward_hook
    def decode(self, latents: Tensor) -> Tensor:
        """Reconstruct whole clips.

        Args:
            latents: `(B, C, f, h, w)` of unit variance.

        Returns:
            Pixels `(B, 3, F, H, W)`, meant for [-1, 1] but not clamped to it. With a `pixel_margin` they stay
            within it of [-1, 1], whatever the latents are.

        Raises:
            ValueError: If `latents` has another number of dimensions or channels.
        """
        channels = self.config["latent_channels"]
        if latents.ndim != 5 or latents.shape[1] != channels:
            raise ValueError(f"`latents` must be (B, {channels}, f, h, w), got {tuple(latents.shape)}")
        if self.config["latent_bound"] is not None:
            latents = soft_bound(latents, self.config["latent_bound"], self.config["latent_bound"])
        latents = latents * _per_channel(self.latents_std) + _per_channel(self.latents_mean)
        slices = latents.split(1) if self.use_slicing else [latents]
        pixels = torch.cat([self.decoder(clips) for clips in slices])
        if self.config["pixel_margin"] is not None:
            pixels = soft_bound(pixels, 1.0, self.config["pixel_margin"])
        return pixels

    def iter_decode(self, latents: Tensor, latents_per_chunk: int = 1) -> Iterator[Tensor]:
        """Reconstruct clips piece by piece, with memory that does not grow with their length.

        Args:
            latents: `(B, C, f, h, w)` of unit variance.
            latents_per_chunk: How many latent frames are decoded at a time.

        Yields:
            Pixels `(B, 3, F_chunk, H, W)`; together they equal `decode(latents)`.

        Raises:
            ValueError: If `latents_per_chunk` is below 1, or `latents` has a wrong shape.
        """
        if latents_per_chunk < 1:
            raise ValueError(f"`latents_per_chunk` must be at least 1, got {latents_per_chunk}")
        for chunk in latents.split(latents_per_chunk, dim=2):
            yield self.decode(chunk)

    def enable_slicing(self) -> None:
        """Decode the clips of a batch one by one: less memory, and the same pixels up to rounding."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """Decode the clips of a batch together."""
        self.use_slicing = False

    def check_pixel_shape(self, shape: torch.Size | tuple[int, ...]) -> None:
        """Raise ValueError unless clips of this shape `(B, 3, F, H, W)` can be encoded exactly."""
        check_pixel_shape(shape, self.compression)


class Encoder(nn.Module):
    """`(B, 3, F, H, W)` to `(B, C, f, h, w)`: each frame by itself, then the frames of a group together."""

    def __init__(
        self,
        latent_channels: int,
        frames_per_latent: int,
        dims: tuple[int, int],
        depths: tuple[int, int],
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.frames_per_latent = frames_per_latent
        fine_dim, coarse_dim = dims
        self.conv_in = nn.Conv2d(3 * _PATCH**2, fine_dim, 3, padding=1)
        self.fine_blocks = nn.Sequential(*[ResBlock(fine_dim, normalize) for _ in range(depths[0])])
        self.join = nn.Conv2d(fine_dim * _MERGE**2 * frames_per_latent, coarse_dim, 1)
        self.coarse_blocks = nn.Sequential(*[ResBlock(coarse_dim, normalize) for _ in range(depths[1])])
        self.conv_out = nn.Conv2d(coarse_dim, latent_channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels `(B, 3, F, H, W)` to latents `(B, C, f, h, w)`, not normalised."""
        batch_size, _, num_frames = pixels.shape[:3]
        frames = pixels.transpose(1, 2).flatten(0, 1)  # (B*F, 3, H, W)
        hidden_states = self.fine_blocks(self.conv_in(nn.functional.pixel_unshuffle(frames, _PATCH)))
        hidden_states = nn.functional.pixel_unshuffle(hidden_states, _MERGE)
        groups = hidden_states.unflatten(0, (-1, self.frames_per_latent))
        groups = groups.flatten(1, 2)  # (B*f, frames*c, h, w)
        latents = self.conv_out(self.coarse_blocks(self.join(groups)))
        return latents.unflatten(0, (batch_size, num_frames // self.frames_per_latent)).transpose(1, 2)


class Decoder(nn.Module):
    """`(B, C, f, h, w)` to `(B, 3, F, H, W)`: the mirror of `Encoder`."""

    def __init__(
        self,
        latent_channels: int,
        frames_per_latent: int,
        dims: tuple[int, int],
        depths: tuple[int, int],
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.frames_per_latent = frames_per_latent
        fine_dim, coarse_dim = dims
        self.conv_in = nn.Conv2d(latent_channels, coarse_dim, 3, padding=1)
        self.coarse_blocks = nn.Sequential(*[ResBlock(coarse_dim, normalize) for _ in range(depths[1])])
        self.split = nn.Conv2d(coarse_dim, fine_dim * _MERGE**2 * frames_per_latent, 1)
        self.fine_blocks = nn.Sequential(*[ResBlock(fine_dim, normalize) for _ in range(depths[0])])
        self.conv_out = nn.Conv2d(fine_dim, 3 * _PATCH**2, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents `(B, C, f, h, w)`, not normalised, to pixels `(B, 3, F, H, W)`."""
        batch_size = latents.shape[0]
        hidden_states = self.coarse_blocks(self.conv_in(latents.transpose(1, 2).flatten(0, 1)))
        hidden_states = self.split(hidden_states).unflatten(1, (self.frames_per_latent, -1)).flatten(0, 1)
        hidden_states = nn.functional.pixel_shuffle(hidden_states, _MERGE)  # (B*F, c, 2h, 2w)
        frames = nn.functional.pixel_shuffle(self.conv_out(self.fine_blocks(hidden_states)), _PATCH)
        return frames.unflatten(0, (batch_size, -1)).transpose(1, 2)


class ResBlock(nn.Module):
    """Two convolutions beside an identity; the second starts at zero.

    Args:
        dim: Channels.
        normalize: Whether the channels of each place are brought to a root mean square of 1 before them.
    """

    def __init__(self, dim: int, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `(N, dim, h, w)` to the same shape."""
        inputs = hidden_states
        if self.normalize:
            mean_square = hidden_states.square().mean(1, keepdim=True)
            inputs = hidden_states * torch.rsqrt(mean_square + _SMALLEST_SQUARE)
        return hidden_states + self.conv2(nn.functional.silu(self.conv1(inputs)))


def soft_bound(values: Tensor, limit: float, margin: float) -> Tensor:
    """Leave values of up to `limit` as they are, and bring larger ones to below `limit + margin`, smoothly.

    Beyond the limit an excess e becomes `e * margin / (e + margin)`: its slope is 1 at first, and falls
    slowly enough to train through.
    """
    inside = values.clamp(-limit, limit)
    excess = values - inside
    return inside + excess / (1 + excess.abs() / margin)


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None, None]
