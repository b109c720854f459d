"""The adversarial pair over latent clips: a generator that needs one step, and the discriminator that trains
it.

The generator turns noise and a prompt into a clip with Transformer blocks over space and time, as the
denoisers do, and convolutions at the full resolution. The discriminator follows R3GAN (Huang et al. 2024,
arXiv:2501.05441): residual convolutions without normalisation, leaky ReLU, last layers of branches at zero.
It looks at frames and along time, and judges a clip by itself and, by projection (Miyato and Koyama 2018,
arXiv:1802.05637), with its caption.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.models.output import DiscriminatorOutput, GeneratorOutput
from videogen.models.text_context import TextContext
from videogen.models.transformer_layers import (
    PATCH,
    GridTransformer,
    LatentsHead,
    check_latents,
    grid_of,
    patchify,
    prepare_text,
)
from videogen.sampling.noise import sample_noise

_NOISE_GAIN = 4.0  # noise starts louder than places, so that it is not ignored


class GANGenerator3D(AlignedWeights, ModelMixin, ConfigMixin):
    """From noise and a prompt to a latent clip, in one step.

    Args:
        in_channels: Channels C of the latents, as the other networks call it.
        noise_dim: Numbers that a clip is made from.
        hidden_size: Width D.
        num_layers: Blocks.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        conv_dim: Channels of the convolutions at the end, at the full resolution of the latents.

    Raises:
        ValueError: If the width of a head is not a multiple of 8.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        noise_dim: int = 32,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_attention_heads: int = 4,
        cross_attention_dim: int = 256,
        conv_dim: int = 96,
    ) -> None:
        super().__init__()
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)
        last = nn.Linear(hidden_size, hidden_size)
        with torch.no_grad():
            last.weight *= _NOISE_GAIN
        self.noise_embedding = nn.Sequential(nn.Linear(noise_dim, hidden_size), nn.SiLU(), last)
        self.transformer = GridTransformer(hidden_size, num_layers, num_attention_heads, cross_attention_dim)
        self.head = LatentsHead(hidden_size, in_channels, conv_dim)

    def forward(
        self,
        noise: Tensor,
        size: tuple[int, int, int],
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> GeneratorOutput | tuple[Tensor]:
        """Make clips.

        Args:
            noise: `(B, noise_dim)`, standard normal.
            size: Of the latents: f, h and w.
            encoder_hidden_states: Prompt embeddings `(B, L, D)`, or what `text_context` made of them.
            encoder_attention_mask: `(B, L)` bool, True where there is a word; all of them by default.
            return_dict: Whether to return a `GeneratorOutput` rather than a tuple.

        Returns:
            Latents `(B, C, f, h, w)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        noise_dim = self.config["noise_dim"]
        if noise.ndim != 2 or noise.shape[1] != noise_dim:
            raise ValueError(f"`noise` must be (B, {noise_dim}), got {tuple(noise.shape)}")
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        assert text.pooled is not None
        grid = grid_of(size)
        drawn = self.noise_embedding(noise)
        condition = F.silu(text.pooled + drawn)
        tokens = self.transformer.positions(grid) + drawn[:, None]
        tokens = self.transformer(tokens, grid, text, condition)
        latents = self.head(tokens, size, condition)
        return GeneratorOutput(latents) if return_dict else (latents,)

    @apply_forward_hook
    @torch.no_grad()
    def sample(
        self,
        text: TextContext,
        size: tuple[int, int, int],
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw clips.

        Args:
            text: Of B prompts.
            size: Of the latents: f, h and w.
            generators: One for each clip.
            temperature: Deviation of the noise.

        Returns:
            Latents `(B, C, f, h, w)`.
        """
        noise = temperature * sample_noise((self.config["noise_dim"],), generators)
        return self(noise.to(self.text_embedding.weight), size, text, return_dict=False)[0]

    @apply_forward_hook
    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepare prompts `(B, L, D)` with a mask `(B, L)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        return prepare_text(self, self.text_embedding, encoder_hidden_states, encoder_attention_mask)


class GANDiscriminator3D(AlignedWeights, ModelMixin, ConfigMixin):
    """Says of a latent clip and a caption how real they look together.

    Args:
        in_channels: Channels C of the latents.
        hidden_size: Channels at half the resolution of the latents, where it works: four cells go into one.
        num_layers: Residual blocks.
        cross_attention_dim: Width of the caption embeddings.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        hidden_size: int = 192,
        num_layers: int = 3,
        cross_attention_dim: int = 256,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels * PATCH**2, hidden_size, 3, padding=1)
        self.blocks = nn.ModuleList(CriticBlock(hidden_size) for _ in range(num_layers))
        self.to_features = nn.Linear(hidden_size, hidden_size)
        self.to_score = nn.Linear(hidden_size, 1)
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)

    def forward(
        self, sample: Tensor, text: Tensor, return_dict: bool = True
    ) -> DiscriminatorOutput | tuple[Tensor]:
        """Judge clips.

        Args:
            sample: Latents `(B, C, f, h, w)` of unit variance; any f, h and w.
            text: Embedding `(B, D)` of each caption as a whole.
            return_dict: Whether to return a `DiscriminatorOutput` rather than a tuple.

        Returns:
            Scores `(B,)`, unbounded: the higher the more real.

        Raises:
            ValueError: If a shape does not fit.
        """
        scores = self.scores(self.features(sample), text)
        return DiscriminatorOutput(scores) if return_dict else (scores,)

    def features(self, sample: Tensor) -> Tensor:
        """What there is to say of clips `(B, C, f, h, w)` before their captions are known: `(B, c)`."""
        check_latents(sample, self.config["in_channels"])
        patches, (num_frames, rows, _) = patchify(sample)
        maps = patches.transpose(1, 2).unflatten(2, (num_frames, rows, -1))  # (B, 4C, f, rows, columns)
        maps = self.conv_in(maps.transpose(1, 2).flatten(0, 1))
        for block in self.blocks:
            maps = block(maps, num_frames)
        pooled = maps.unflatten(0, (-1, num_frames)).mean((1, 3, 4))
        return F.leaky_relu(self.to_features(pooled), 0.2)

    def scores(self, features: Tensor, text: Tensor) -> Tensor:
        """Scores `(B,)` of clips with these features together with captions `(B, D)`."""
        return self.to_score(features)[:, 0] + self.agreement(features, text).diagonal()

    def agreement(self, features: Tensor, text: Tensor) -> Tensor:
        """How well each of B clips goes with each of K captions `(K, D)`, `(B, K)`: part of its score."""
        return features @ self.text_embedding(text).T * features.shape[1] ** -0.5


class CriticBlock(nn.Module):
    """Convolutions of each frame, and of each place along time, in residual branches that start at zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv_time = nn.Conv2d(dim, dim, (3, 1), padding=(1, 0))  # over (f, h * w)
        self.conv_after = nn.Conv2d(dim, dim, 1)
        for layer in (self.conv2, self.conv_after):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, maps: Tensor, num_frames: int) -> Tensor:
        """Map `(B*f, c, h, w)` to the same shape."""
        maps = maps + self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(maps, 0.2)), 0.2))
        courses = F.leaky_relu(maps, 0.2).unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(3)
        courses = self.conv_after(F.leaky_relu(self.conv_time(courses), 0.2))  # (B, c, f, h*w)
        return maps + courses.transpose(1, 2).reshape(maps.shape)
