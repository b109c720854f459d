"""A diffusion Transformer for latent clips: tokens and attention throughout, no convolution of the latents.

After DiT (Peebles and Xie 2022, arXiv:2212.09748) with cross-attention to the words as in PixArt (Chen et al.
2023, arXiv:2310.00426), and joint attention over space and time. It predicts what `UViT3D` predicts, with the
same preconditioning, so that the two are exchanged without another objective, scheduler or pipeline.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.models.embeddings import StepSizeEmbedding, TimestepEmbedding, sinusoidal_embedding
from videogen.models.growing import add_step_size, check_condition_channels, checked_condition
from videogen.models.output import DenoiserOutput
from videogen.models.preconditioning import flow_preconditioning, per_clip
from videogen.models.step_cache import FeatureCache
from videogen.models.text_context import TextContext, check_prompts_fit, repeat_for_prompts
from videogen.models.transformer_layers import (
    PATCH,
    GridTransformer,
    check_latents,
    patchify,
    prepare_text,
    unpatchify,
)

_TIME_CHANNELS = 256


class DiT3D(AlignedWeights, ModelMixin, ConfigMixin):
    """A denoiser for latent clips that is a Transformer and nothing else.

    Args:
        in_channels: Channels of the latents.
        hidden_size: Width D.
        num_layers: Blocks.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        token_convs: Whether every second block also convolves its tokens, which draws better outlines.
        condition_channels: Channels of the condition, as `num_condition_channels` of `videogen.conditioning`
            counts them; 0 for a network that takes none.
        step_size_embedding: Whether the network can be told how far the next step goes.

    Raises:
        ValueError: If the width of a head is not a multiple of 8, or `condition_channels` is below 0.
    """

    cache_kinds = ("spatial", "text")

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        hidden_size: int = 256,
        num_layers: int = 6,
        num_attention_heads: int = 4,
        cross_attention_dim: int = 256,
        token_convs: bool = False,
        condition_channels: int = 0,
        step_size_embedding: bool = False,
    ) -> None:
        super().__init__()
        check_condition_channels(condition_channels)
        self.time_embedding = TimestepEmbedding(_TIME_CHANNELS, hidden_size)
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)
        self.proj_in = nn.Linear(in_channels * PATCH**2, hidden_size)
        self.transformer = GridTransformer(
            hidden_size, num_layers, num_attention_heads, cross_attention_dim, token_convs
        )
        self.proj_latents = nn.Linear(hidden_size, in_channels * PATCH**2)
        for parameter in self.proj_latents.parameters():
            nn.init.zeros_(parameter)
        self.proj_condition = None
        if condition_channels:
            self.proj_condition = nn.Linear(condition_channels * PATCH**2, hidden_size, bias=False)
            nn.init.zeros_(self.proj_condition.weight)
        self.step_embedding = StepSizeEmbedding(_TIME_CHANNELS, hidden_size) if step_size_embedding else None

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        *,
        condition: Tensor | None = None,
        step_size: Tensor | float | None = None,
        cache: FeatureCache | None = None,
    ) -> DenoiserOutput | tuple[Tensor]:
        """Predict the velocity `noise - latents` of noisy latents `(1 - t) latents + t noise`.

        Args:
            sample: Noisy latents `(B, C, f, h, w)` of about unit variance; any f, h and w.
            timestep: 1000 t, scalar or `(B,)`, in [0, 1000].
            encoder_hidden_states: Prompt embeddings `(N, L, D)`, or what `text_context` made of them. N is B
                or a multiple: prompt n goes with sample n % B.
            encoder_attention_mask: `(N, L)` bool, True where there is a word; all of them by default.
            return_dict: Whether to return a `DenoiserOutput` rather than a tuple.
            condition: What is known of the clips, `(B, condition_channels, f, h, w)`, the same at all noise
                levels. None is nothing known, and equals zeros.
            step_size: How far the next step goes: a number or `(B,)` in [0, 1], as a share of the way from
                noise to clip. None equals 0, the velocity at this very time.
            cache: What earlier steps have kept, of use where no gradients are recorded.

        Returns:
            The prediction, `(N, C, f, h, w)`.

        Raises:
            ValueError: If a shape does not fit, or a cache is given while gradients are recorded.
        """
        check_latents(sample, self.config["in_channels"])
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        check_prompts_fit(text.num_prompts, len(sample))
        known = checked_condition(condition, sample, self.config["condition_channels"])
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        skip_scale, out_scale = flow_preconditioning(timesteps / 1000)
        time = self.time_embedding(sinusoidal_embedding(timesteps, _TIME_CHANNELS).to(sample.dtype))
        time = add_step_size(time, self.step_embedding, step_size)
        assert text.pooled is not None
        modulator = F.silu(repeat_for_prompts(time, text.num_prompts) + text.pooled)

        patches, grid = patchify(sample * per_clip(out_scale, sample))  # to unit variance
        tokens = self.proj_in(patches) + self.transformer.positions(grid)  # (B, f*rows*columns, D)
        if known is not None and self.proj_condition is not None:
            tokens = tokens + self.proj_condition(patchify(known)[0])
        tokens = repeat_for_prompts(tokens, text.num_prompts)
        tokens = self.transformer(tokens, grid, text, modulator, cache=cache)
        patches = self.proj_latents(F.layer_norm(tokens, tokens.shape[-1:]))
        output = unpatchify(patches, grid, *sample.shape[3:])
        output = output.unflatten(0, (-1, len(sample)))  # (N / B, B, C, f, h, w)
        prediction = per_clip(skip_scale, sample) * sample + per_clip(out_scale, sample) * output
        prediction = prediction.flatten(0, 1)
        return DenoiserOutput(sample=prediction) if return_dict else (prediction,)

    @apply_forward_hook
    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepare prompts `(N, L, D)` with a mask `(N, L)` for any number of steps.

        Raises:
            ValueError: If a shape does not fit.
        """
        return prepare_text(self, self.text_embedding, encoder_hidden_states, encoder_attention_mask)
