"""The recurrent generator: draws one latent frame after the other, without end, or goes on from given ones.

After SVG-LP (Denton and Fergus 2018, arXiv:1802.07687): for every frame a few numbers are drawn, from a prior
that is learned and has seen the frames before, and a recurrent predictor makes the frame from them and the
frame before. Frame encoders and the predictor are Transformer blocks over the tokens of a single frame, which
read the prompt; the recurrences are convolutional gated units (ConvGRU, Ballas et al. 2016,
arXiv:1511.06432). Nothing knows the number of a frame, so that a clip may be longer than any in training.
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


@dataclass(frozen=True, eq=False)
class RNNOutput:
    """A pass over clips that were given.

    Attributes:
        sample: What was predicted of each frame, `(B, C, f, h, w)`.
        kl: Divergence `(B, f)` of the posterior of each frame from its prior, in nats.
    """

    sample: Tensor
    kl: Tensor


class RecurrentVAE3D(AlignedWeights, ModelMixin, ConfigMixin):
    """A text-conditioned stochastic predictor of latent frames.

    Args:
        in_channels: Channels C of the latents.
        hidden_size: Width D.
        encoder_layers: Blocks that look at a frame.
        num_layers: Blocks that make one.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        state_size: Channels of each recurrent state.
        noise_dim: Numbers that are drawn for a frame.
        conv_dim: Channels of the convolutions at the end, at the full resolution of the latents.

    Raises:
        ValueError: If the width of a head is not a multiple of 8.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        hidden_size: int = 192,
        encoder_layers: int = 1,
        num_layers: int = 3,
        num_attention_heads: int = 4,
        cross_attention_dim: int = 256,
        state_size: int = 96,
        noise_dim: int = 16,
        conv_dim: int = 96,
    ) -> None:
        super().__init__()
        sizes = (num_attention_heads, cross_attention_dim)
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)
        self.proj_in = nn.Linear(in_channels * PATCH**2, hidden_size)
        self.no_frame = nn.Parameter(torch.zeros(hidden_size))
        self.encoder = GridTransformer(hidden_size, encoder_layers, *sizes)
        self.prior = RecurrentGaussian(hidden_size, state_size, noise_dim)
        self.posterior = RecurrentGaussian(hidden_size, state_size, noise_dim)
        self.noise_embedding = nn.Linear(noise_dim, hidden_size)
        self.memory = ConvGRU(hidden_size, state_size)
        self.from_memory = nn.Linear(state_size, hidden_size)
        self.predictor = GridTransformer(hidden_size, num_layers, *sizes)
        self.head = LatentsHead(hidden_size, in_channels, conv_dim)

    def forward(
        self,
        sample: Tensor,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        *,
        generators: Sequence[torch.Generator],
        fed_back: Tensor | None = None,
    ) -> RNNOutput | tuple[Tensor, Tensor]:
        """Predict every frame of clips, with numbers drawn from the posterior, which has seen the frame.

        Args:
            sample: Latents `(B, C, f, h, w)` of unit variance; any f, h and w.
            encoder_hidden_states: Prompt embeddings `(B, L, D)`, or what `text_context` made of them.
            encoder_attention_mask: `(B, L)` bool, True where there is a word; all of them by default.
            return_dict: Whether to return a `RNNOutput` rather than a tuple.
            generators: One for each clip, for the draws.
            fed_back: `(B,)` bool, the clips whose frames are predicted from predicted frames, as when they
                are generated, and not from the given ones; none by default.

        Raises:
            ValueError: If a shape does not fit.
        """
        check_latents(sample, self.config["in_channels"])
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        state = self._start(text, (sample.shape[3], sample.shape[4]))
        predictions, divergences = [], []
        for frame in sample.unbind(2):
            prior = self.prior(state.seen, state, "prior")
            target = self._look(frame, text)
            posterior = self.posterior(target, state, "posterior")
            divergences.append(posterior.kl_from(prior).sum(-1))
            predicted = self._predict(state, posterior.sample(generators), text)
            predictions.append(predicted)
            state.seen = target
            if fed_back is not None:
                own = self._look(predicted, text)
                state.seen = torch.where(fed_back[:, None, None], own, target)
        latents, kl = torch.stack(predictions, dim=2), torch.stack(divergences, dim=1)
        return RNNOutput(latents, kl) if return_dict else (latents, kl)

    @apply_forward_hook
    @torch.no_grad()
    def sample(
        self,
        text: TextContext,
        size: tuple[int, int, int],
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        first_frames: Tensor | None = None,
    ) -> Tensor:
        """Draw clips frame by frame.

        Args:
            text: Of B prompts.
            size: Of the latents: f, h and w; any f.
            generators: One for each clip.
            temperature: Scales the deviations of the prior.
            first_frames: Latents `(B, C, k, h, w)` to go on from, k at most f; they are kept as they are.

        Returns:
            Latents `(B, C, f, h, w)`.
        """
        num_frames, height, width = size
        state = self._start(text, (height, width))
        given = [] if first_frames is None else list(first_frames.unbind(2))
        frames: list[Tensor] = []
        for idx in range(num_frames):
            prior = self.prior(state.seen, state, "prior")
            frame = self._predict(state, prior.sample(generators, temperature), text)
            if idx < len(given):
                frame = given[idx].to(frame)
            frames.append(frame)
            state.seen = self._look(frame, text)
        return torch.stack(frames, dim=2)

    @apply_forward_hook
    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepare prompts `(B, L, D)` with a mask `(B, L)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        return prepare_text(self, self.text_embedding, encoder_hidden_states, encoder_attention_mask)

    def _start(self, text: TextContext, size: tuple[int, int]) -> RecurrentState:
        """Before the first frame: no frame was seen, but the prompt was read, which the prior depends on."""
        grid = grid_of((1, *size))
        nothing = self.no_frame + self.encoder.positions(grid)
        empty = nothing.new_zeros(text.num_prompts, self.config["state_size"], *grid[1:])
        memories = dict.fromkeys(("prior", "posterior", "predictor"), empty)
        assert text.pooled is not None
        tokens = nothing.expand(text.num_prompts, -1, -1)
        seen = self.encoder(tokens, grid, text, F.silu(text.pooled))
        return RecurrentState(size, seen, memories)

    def _look(self, frame: Tensor, text: TextContext) -> Tensor:
        """Tokens `(B, n, D)` of a latent frame `(B, C, h, w)`."""
        patches, grid = patchify(frame[:, :, None])
        assert text.pooled is not None
        tokens = self.proj_in(patches.to(self.no_frame.dtype)) + self.encoder.positions(grid)
        return self.encoder(tokens, grid, text, F.silu(text.pooled))

    def _predict(self, state: RecurrentState, noise: Tensor, text: TextContext) -> Tensor:
        """The next frame `(B, C, h, w)`, from those before and drawn numbers `(B, Z)`."""
        assert text.pooled is not None
        drawn = self.noise_embedding(noise.to(self.no_frame.dtype))
        grid = grid_of((1, *state.size))
        remembered = state.remember("predictor", self.memory, state.seen + drawn[:, None])
        tokens = state.seen + drawn[:, None] + self.from_memory(remembered)
        tokens = tokens + self.predictor.positions(grid)
        condition = F.silu(text.pooled + drawn)
        tokens = self.predictor(tokens, grid, text, condition)
        return self.head(tokens, (1, *state.size), condition)[:, :, 0]


@dataclass(eq=False)
class RecurrentState:
    """What is carried from frame to frame.

    Attributes:
        size: Height and width of the latents.
        seen: Tokens `(B, n, D)` of the last frame.
        memories: States `(B, S, rows, columns)` by the name of the recurrence they belong to.
    """

    size: tuple[int, int]
    seen: Tensor
    memories: dict[str, Tensor]

    def remember(self, name: str, memory: ConvGRU, tokens: Tensor) -> Tensor:
        """Let a recurrence take up tokens `(B, n, D)`; returns its new state as tokens `(B, n, S)`."""
        rows = self.memories[name].shape[2]
        maps = tokens.transpose(1, 2).unflatten(2, (rows, -1))
        self.memories[name] = memory(maps, self.memories[name])
        return self.memories[name].flatten(2).transpose(1, 2)


class RecurrentGaussian(nn.Module):
    """A distribution over the numbers of a frame, given all frames that it has been shown."""

    def __init__(self, hidden_size: int, state_size: int, noise_dim: int) -> None:
        super().__init__()
        self.memory = ConvGRU(hidden_size, state_size)
        self.to_hidden = nn.Linear(hidden_size + state_size, hidden_size)
        self.to_parameters = nn.Linear(hidden_size, 2 * noise_dim)
        for parameter in self.to_parameters.parameters():
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, state: RecurrentState, name: str) -> Gaussian:
        """Look at the tokens `(B, n, D)` of a frame; the distribution is of `(B, Z)`."""
        remembered = state.remember(name, self.memory, tokens)
        both = torch.cat([F.layer_norm(tokens, tokens.shape[-1:]), remembered], dim=-1)
        return Gaussian.of(self.to_parameters(F.silu(self.to_hidden(both)).mean(1)))


class ConvGRU(nn.Module):
    """A gated recurrent unit whose products are 3x3 convolutions."""

    def __init__(self, in_channels: int, state_size: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(in_channels + state_size, 2 * state_size, 3, padding=1)
        self.candidate = nn.Conv2d(in_channels + state_size, state_size, 3, padding=1)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Take up inputs `(B, C, H, W)`; state `(B, S, H, W)` and the result are in [-1, 1]."""
        update, reset = self.gates(torch.cat([inputs, state], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat([inputs, reset * state], dim=1)).tanh()
        return torch.lerp(state, candidate.to(state), update.to(state))
