"""The hierarchical variational autoencoder over latent clips, which draws a whole clip in one pass.

After NVAE (Vahdat and Kautz 2020, arXiv:2007.03898) and VDVAE (Child 2020, arXiv:2011.10650): what is drawn
comes in groups from coarse to fine, each from a prior that depends on the groups before it and on the prompt.
The first group belongs to the clip, the next to its frames, the last to single tokens; Transformer blocks
stand between them in place of convolutions, since a clip is a few dozen tokens.

The posterior is not relative to the prior, as it is in NVAE (section 3.2). There the divergence does not
depend on the prior's parameters, so that a prior learns only what the reconstruction still lacks. What the
posterior says well from the start, as the background, it never came to read in the prompt.

The codec is an autoencoder too. This one stands on its latents and is a generator: it has a prior to draw
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.models.gaussian import Gaussian
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

GROUPS = ("clip", "frame", "token")
"""What a group of numbers belongs to, in the order in which they are drawn."""


@dataclass(frozen=True, eq=False)
class VAEOutput:
    """A pass through the autoencoder.

    Attributes:
        sample: Reconstruction `(B, C, f, h, w)`.
        kl: For each of `GROUPS` the divergence `(B,)` of its posterior from its prior, in nats per clip.
    """

    sample: Tensor
    kl: dict[str, Tensor]


class HierarchicalVAE3D(AlignedWeights, ModelMixin, ConfigMixin):
    """A text-conditioned variational autoencoder of latent clips with a learned prior in three groups.

    Args:
        in_channels: Channels C of the latents.
        hidden_size: Width D.
        encoder_layers: Blocks that look at the clip to be coded.
        num_layers: Blocks that draw a clip: one after each group, and the rest at the end; at least 3.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        clip_dim: Numbers that are drawn for a clip.
        frame_dim: For each of its frames.
        token_dim: For each token.
        conv_dim: Channels of the convolutions at the end, at the full resolution of the latents.

    Raises:
        ValueError: If the width of a head is not a multiple of 8, or there are fewer blocks than groups.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        hidden_size: int = 192,
        encoder_layers: int = 2,
        num_layers: int = 4,
        num_attention_heads: int = 4,
        cross_attention_dim: int = 256,
        clip_dim: int = 24,
        frame_dim: int = 8,
        token_dim: int = 4,
        conv_dim: int = 96,
    ) -> None:
        super().__init__()
        if num_layers < len(GROUPS):
            raise ValueError(f"`num_layers` must be at least {len(GROUPS)}, got {num_layers}")
        sizes = (num_attention_heads, cross_attention_dim)
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)
        self.proj_in = nn.Linear(in_channels * PATCH**2, hidden_size)
        self.encoder = GridTransformer(hidden_size, encoder_layers, *sizes)
        self.decoder = GridTransformer(hidden_size, num_layers, *sizes)
        self.draws = nn.ModuleDict(
            {
                "clip": Draw(hidden_size, clip_dim),
                "frame": Draw(hidden_size, frame_dim),
                "token": Draw(hidden_size, token_dim),
            }
        )
        self.clip_condition = nn.Linear(clip_dim, hidden_size)
        self.head = LatentsHead(hidden_size, in_channels, conv_dim)

    def forward(
        self,
        sample: Tensor,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        *,
        generators: Sequence[torch.Generator],
    ) -> VAEOutput | tuple[Tensor, dict[str, Tensor]]:
        """Code and reconstruct clips.

        Args:
            sample: Latents `(B, C, f, h, w)` of unit variance; any f, h and w.
            encoder_hidden_states: Prompt embeddings `(B, L, D)`, or what `text_context` made of them.
            encoder_attention_mask: `(B, L)` bool, True where there is a word; all of them by default.
            return_dict: Whether to return a `VAEOutput` rather than a tuple.
            generators: One for each clip, for the draws from the posterior.

        Raises:
            ValueError: If a shape does not fit.
        """
        check_latents(sample, self.config["in_channels"])
        text = self._text(encoder_hidden_states, encoder_attention_mask)
        assert text.pooled is not None
        patches, grid = patchify(sample)
        tokens = self.proj_in(patches) + self.encoder.positions(grid)
        seen = self.encoder(tokens, grid, text, F.silu(text.pooled))
        latents, kl = self._draw(text, (sample.shape[2], sample.shape[3], sample.shape[4]), generators, seen)
        return VAEOutput(latents, kl) if return_dict else (latents, kl)

    @apply_forward_hook
    @torch.no_grad()
    def sample(
        self,
        text: TextContext,
        size: tuple[int, int, int],
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw clips from the prior.

        Args:
            text: Of B prompts.
            size: Of the latents: f, h and w.
            generators: One for each clip.
            temperature: Scales the deviations of the prior.

        Returns:
            Latents `(B, C, f, h, w)`.
        """
        return self._draw(text, size, generators, None, temperature)[0]

    def _draw(
        self,
        text: TextContext,
        size: tuple[int, int, int],
        generators: Sequence[torch.Generator],
        seen: Tensor | None,
        temperature: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw group after group: from the posterior if tokens of a clip were seen, else from the prior."""
        grid = grid_of(size)
        pooled = text.pooled
        assert pooled is not None
        tokens = self.decoder.positions(grid).expand(len(pooled), -1, -1)
        condition, kl = F.silu(pooled), {}
        for layer, group in enumerate(GROUPS):
            draw = self.draws[group]
            assert isinstance(draw, Draw)
            known = pooled[:, None] if group == "clip" else _mean_of(tokens, grid, group)
            looked = None if seen is None else _mean_of(seen, grid, group)
            values, kl[group] = draw(known, looked, generators, temperature)
            if group == "clip":
                condition = F.silu(pooled + self.clip_condition(values[:, 0]))
            tokens = tokens + _spread(draw.proj_out(values), grid, group)
            last = layer == len(GROUPS) - 1
            blocks = slice(layer, None if last else layer + 1)
            tokens = self.decoder(tokens, grid, text, condition, layers=blocks)
        return self.head(tokens, size, condition), kl

    @apply_forward_hook
    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepare prompts `(B, L, D)` with a mask `(B, L)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        return prepare_text(self, self.text_embedding, encoder_hidden_states, encoder_attention_mask)

    def _text(self, text: Tensor | TextContext, mask: Tensor | None) -> TextContext:
        return self.text_context(text, mask) if isinstance(text, Tensor) else text


class Draw(nn.Module):
    """One group: its prior, its posterior, and the way of what is drawn into the tokens."""

    def __init__(self, hidden_size: int, dim: int) -> None:
        super().__init__()
        self.prior = _perceptron(hidden_size, hidden_size, 2 * dim)
        self.posterior = _perceptron(2 * hidden_size, hidden_size, 2 * dim)
        self.proj_out = nn.Linear(dim, hidden_size)

    def forward(
        self,
        known: Tensor,
        seen: Tensor | None,
        generators: Sequence[torch.Generator],
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        """Draw values `(B, M, Z)` for known and seen states `(B, M, D)`; with their divergence `(B,)`."""
        known = F.layer_norm(known, known.shape[-1:])
        prior = Gaussian.of(self.prior(known))
        if seen is None:
            values = prior.sample(generators, temperature)
            return values.to(known.dtype), values.new_zeros(len(values))
        both = torch.cat([known, F.layer_norm(seen, seen.shape[-1:])], dim=-1)
        posterior = Gaussian.of(self.posterior(both))
        divergence = posterior.kl_from(prior).sum((1, 2))
        return posterior.sample(generators).to(known.dtype), divergence


def _perceptron(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, out_dim))
    for parameter in layers[2].parameters():
        nn.init.zeros_(parameter)
    return layers


def _mean_of(tokens: Tensor, grid: tuple[int, int, int], group: str) -> Tensor:
    """Tokens `(B, N, D)` averaged over what a group belongs to: `(B, 1, D)`, `(B, f, D)` or as they are."""
    if group == "token":
        return tokens
    return tokens.unflatten(1, (1 if group == "clip" else grid[0], -1)).mean(2)


def _spread(states: Tensor, grid: tuple[int, int, int], group: str) -> Tensor:
    """States of a group, one for each token of a frame where they belong to frames."""
    return states.repeat_interleave(grid[1] * grid[2], dim=1) if group == "frame" else states
