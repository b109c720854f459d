"""The masked Transformer: completes clips of continuous tokens, many at a time, in a few decoding steps.

After MAR (Li et al. 2024, arXiv:2406.11838): a bidirectional Transformer looks at the tokens that are there
and says for each missing one what it knows of it; a small network draws the token from that. The codec is
continuous, so no token is looked up in a code book. The small network follows a flow (MAR's denoises),
preconditioned like the denoisers. Which tokens come when is MaskGIT's cosine schedule (Chang et al. 2022,
arXiv:2202.04200).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.models.embeddings import TimestepEmbedding, sinusoidal_embedding
from videogen.models.output import TokensOutput
from videogen.models.preconditioning import flow_preconditioning
from videogen.models.text_context import TextContext, check_prompts_fit, repeat_for_prompts
from videogen.models.transformer_layers import (
    PATCH,
    GridTransformer,
    check_latents,
    grid_of,
    modulate,
    patchify,
    prepare_text,
    unpatchify,
)
from videogen.sampling.guidance import classifier_free
from videogen.sampling.noise import sample_noise

_TIME_CHANNELS = 128


class MaskedTransformer3D(AlignedWeights, ModelMixin, ConfigMixin):
    """A Transformer over the tokens of a latent clip, 2x2 cells each, with a flow for each missing one.

    Args:
        in_channels: Channels C of the latents.
        hidden_size: Width D.
        num_layers: Blocks.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        head_size: Width of the network that draws a token.
        head_layers: Its blocks.
        token_convs: Whether every second block of the Transformer also convolves its tokens.

    Raises:
        ValueError: If the width of a head is not a multiple of 8.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        hidden_size: int = 192,
        num_layers: int = 5,
        num_attention_heads: int = 4,
        cross_attention_dim: int = 256,
        head_size: int = 256,
        head_layers: int = 3,
        token_convs: bool = True,
    ) -> None:
        super().__init__()
        token_dim = in_channels * PATCH**2
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)
        self.proj_in = nn.Linear(token_dim, hidden_size)
        self.mask_embedding = nn.Parameter(torch.zeros(hidden_size))
        self.transformer = GridTransformer(
            hidden_size, num_layers, num_attention_heads, cross_attention_dim, token_convs
        )
        self.head = FlowHead(token_dim, hidden_size, head_size, head_layers)

    def forward(
        self,
        sample: Tensor,
        known: Tensor,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> TokensOutput | tuple[Tensor]:
        """What the Transformer knows of each token: the condition of `head`.

        Args:
            sample: Latents `(B, C, f, h, w)` of unit variance; any f, h and w.
            known: `(B, n)` bool, True for the tokens that may be looked at; n is f * ceil(h/2) * ceil(w/2).
            encoder_hidden_states: Prompt embeddings `(N, L, D)`, or what `text_context` made of them. N is B
                or a multiple: prompt n goes with sample n % B.
            encoder_attention_mask: `(N, L)` bool, True where there is a word; all of them by default.
            return_dict: Whether to return a `TokensOutput` rather than a tuple.

        Returns:
            `(N, n, D)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        check_latents(sample, self.config["in_channels"])
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        check_prompts_fit(text.num_prompts, len(sample))
        patches, grid = patchify(sample)
        if known.shape != patches.shape[:2]:
            raise ValueError(f"`known` must be {tuple(patches.shape[:2])}, got {tuple(known.shape)}")
        hidden_states = self._complete(patches, known, grid, text)
        return TokensOutput(hidden_states) if return_dict else (hidden_states,)

    def _complete(
        self, patches: Tensor, known: Tensor, grid: tuple[int, int, int], text: TextContext
    ) -> Tensor:
        tokens = torch.where(known[..., None], self.proj_in(patches), self.mask_embedding.to(patches.dtype))
        tokens = repeat_for_prompts(tokens + self.transformer.positions(grid), text.num_prompts)
        assert text.pooled is not None
        tokens = self.transformer(tokens, grid, text, F.silu(text.pooled))
        return F.layer_norm(tokens, tokens.shape[-1:])

    @apply_forward_hook
    @torch.no_grad()
    def sample(
        self,
        text: TextContext,
        size: tuple[int, int, int],
        generators: Sequence[torch.Generator],
        *,
        num_inference_steps: int,
        num_flow_steps: int,
        guidance_scale: float = 1.0,
        temperature: float = 1.0,
        on_step: Callable[[], object] = lambda: None,
    ) -> Tensor:
        """Draw clips: in each step some tokens of a random order, given those drawn before.

        Args:
            text: Of B prompts, or of B negative ones followed by B prompts for guidance.
            size: Of the latents: f, h and w.
            generators: One for each of the B clips, for the order and the noise.
            num_inference_steps: Decoding steps; more than there are tokens are as many as there are.
            num_flow_steps: Steps of the flow that draws a token.
            guidance_scale: Of classifier-free guidance, on the velocities of the flow.
            temperature: Deviation of the noise that tokens are drawn from.
            on_step: Called after each decoding step.

        Returns:
            Latents `(B, C, f, h, w)` float32.
        """
        grid = grid_of(size)
        num_tokens = math.prod(grid)
        token_dim = self.config["in_channels"] * PATCH**2
        order = torch.stack(
            [torch.randperm(num_tokens, generator=generator).argsort() for generator in generators]
        )
        noise = temperature * sample_noise((num_tokens, token_dim), generators)
        device, dtype = self.mask_embedding.device, self.mask_embedding.dtype
        order, noise = order.to(device), noise.to(device)
        patches = torch.zeros_like(noise)
        for start, stop in decoding_schedule(num_tokens, num_inference_steps):
            context = self._complete(patches.to(dtype), order < start, grid, text)
            places = ((order >= start) & (order < stop)).nonzero(as_tuple=True)
            contexts = context.unflatten(0, (-1, len(order)))[:, *places]  # (1 or 2, M, D)
            patches[places] = self.head.sample(noise[places], contexts, num_flow_steps, guidance_scale)
            on_step()
        return unpatchify(patches, grid, *size[1:])

    @apply_forward_hook
    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepare prompts `(N, L, D)` with a mask `(N, L)` for any number of steps.

        Raises:
            ValueError: If a shape does not fit.
        """
        return prepare_text(self, self.text_embedding, encoder_hidden_states, encoder_attention_mask)


class FlowHead(nn.Module):
    """Draws a token, given what the Transformer knows of it: a velocity field over single tokens."""

    def __init__(self, token_dim: int, condition_dim: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.time_embedding = TimestepEmbedding(_TIME_CHANNELS, hidden_size)
        self.condition_embedding = nn.Linear(condition_dim, hidden_size)
        self.proj_in = nn.Linear(token_dim, hidden_size)
        self.blocks = nn.ModuleList(HeadBlock(hidden_size) for _ in range(num_layers))
        self.proj_out = nn.Linear(hidden_size, token_dim)
        for parameter in self.proj_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, noisy: Tensor, times: Tensor, context: Tensor) -> Tensor:
        """Velocity `noise - token` of noisy tokens `(M, T)`, times `(M,)` in [0, 1] and context `(M, D)`."""
        skip_scale, out_scale = (scale.to(noisy.dtype)[:, None] for scale in flow_preconditioning(times))
        time = self.time_embedding(sinusoidal_embedding(1000 * times, _TIME_CHANNELS).to(context.dtype))
        condition = F.silu(time + self.condition_embedding(context))
        hidden_states = self.proj_in((noisy * out_scale).to(context.dtype))
        for block in self.blocks:
            hidden_states = block(hidden_states, condition)
        output = self.proj_out(F.layer_norm(hidden_states, hidden_states.shape[-1:]))
        return skip_scale * noisy + out_scale * output.to(noisy.dtype)

    def sample(self, noise: Tensor, contexts: Tensor, num_steps: int, guidance_scale: float) -> Tensor:
        """Follow the flow from noise `(M, T)` to tokens, by Heun's rule with an Euler step at the end.

        Contexts are `(1, M, D)`, or `(2, M, D)` with those of the negative prompts first.
        """
        rows = contexts.flatten(0, 1)
        times = torch.linspace(1, 0, num_steps + 1, device=noise.device, dtype=torch.float32)

        def velocity(tokens: Tensor, time: Tensor) -> Tensor:
            repeated = tokens.repeat(len(contexts), 1)
            found = self(repeated, time.expand(len(repeated)), rows)
            if len(contexts) == 1:
                return found
            without_prompt, with_prompt = found.chunk(2)
            return classifier_free(without_prompt, with_prompt, guidance_scale)

        tokens = noise
        for time, after in pairwise(times):
            first = velocity(tokens, time)
            reached = tokens + (after - time) * first
            if after > 0:
                reached = tokens + (after - time) * (first + velocity(reached, after)) / 2
            tokens = reached
        return tokens


class HeadBlock(nn.Module):
    """A perceptron in a residual branch, modulated by time and context; starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(dim, 2 * dim)
        self.linear_1 = nn.Linear(dim, dim)
        self.linear_2 = nn.Linear(dim, dim)
        for parameter in self.linear_2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, hidden_states: Tensor, condition: Tensor) -> Tensor:
        """Map `(M, D)` to the same shape; condition `(M, D)`."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return hidden_states + self.linear_2(F.silu(self.linear_1(modulate(hidden_states, shift, scale))))


def decoding_schedule(num_tokens: int, num_steps: int) -> list[tuple[int, int]]:
    """For each decoding step, which ranks of the random order it draws: from the first up to, without, the
    last.

    After step k of K, `cos(pi k / 2 K)` of the tokens are missing (MaskGIT, section 3.2), but each step draws
    one at least; so steps beyond the number of tokens are left out.
    """
    num_steps = min(num_steps, num_tokens)
    ends: list[int] = []
    for step in range(1, num_steps + 1):
        end = num_tokens - math.floor(num_tokens * math.cos(math.pi / 2 * step / num_steps) + 1e-9)
        least, most = (ends[-1] if ends else 0) + 1, num_tokens - (num_steps - step)
        ends.append(min(max(end, least), most))
    return list(zip([0, *ends[:-1]], ends, strict=True))
