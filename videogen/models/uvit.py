"""The embedded denoiser: convolutions at full latent resolution around a Transformer over space and time.

After U-ViT of "simple diffusion" (Hoogeboom et al. 2023, arXiv:2301.11093): most weights sit in a Transformer
at half the resolution, where joint attention over every frame is cheap; temporal convolutions stand beside
the spatial ones. Its blocks follow DiT and PixArt (Peebles and Xie 2022, arXiv:2212.09748; Chen et al. 2023,
arXiv:2310.00426): one shared modulation by time and prompt, a learned offset of it per block, and
cross-attention to the words; they stand, with their positions, in `transformer_layers`. With features of each
axis by itself the network hardly ever finds motion. What attention places, convolutions within every second
block (`token_convs`) draw.

The prediction is a velocity, preconditioned as in EDM (Karras et al. 2022, arXiv:2206.00364, section 5), with
the factors that its derivation gives for straight paths: noise need not be copied through the network, and at
high noise the loss speaks of the clip alone.
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
from videogen.models.step_cache import FeatureCache, reuse
from videogen.models.text_context import TextContext, check_prompts_fit, repeat_for_prompts
from videogen.models.transformer_layers import (
    PATCH,
    POSITION_FREQUENCIES,
    ConvBlock,
    TransformerBlock,
    check_head_dim,
    check_latents,
    for_convolution,
    fourier_features,
    from_patches,
    prepare_text,
    random_frequencies,
    rotary_factors,
    to_patches,
    token_places,
)

_TIME_CHANNELS = 256


class UViT3D(AlignedWeights, ModelMixin, ConfigMixin):
    """A denoiser for latent clips with joint space-time attention.

    Args:
        in_channels: Channels of the latents.
        conv_dim: Channels of the convolutional stages.
        num_conv_blocks: Residual blocks before and, again, after the Transformer.
        hidden_size: Width D of the Transformer.
        num_layers: Blocks of the Transformer.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        token_convs: Whether every second block of the Transformer also convolves its tokens. Outlines come
            out far better; a network that has learned without can be `grown` to have these and the next two.
        condition_channels: Channels of the condition, as `num_condition_channels` of `videogen.conditioning`
            counts them; 0 for a network that takes none.
        step_size_embedding: Whether the network can be told how far the next step goes.

    Raises:
        ValueError: If the width of a head is not a multiple of 8, or `condition_channels` is below 0.
    """

    position_frequencies: Tensor

    cache_kinds = ("deep", "spatial", "text")
    _supports_gradient_checkpointing = True
    _repeated_blocks = ["TransformerBlock"]  # noqa: RUF012 - as diffusers declares it

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        conv_dim: int = 64,
        num_conv_blocks: int = 1,
        hidden_size: int = 256,
        num_layers: int = 6,
        num_attention_heads: int = 4,
        cross_attention_dim: int = 256,
        token_convs: bool = False,
        condition_channels: int = 0,
        step_size_embedding: bool = False,
    ) -> None:
        super().__init__()
        check_head_dim(hidden_size, num_attention_heads)
        check_condition_channels(condition_channels)
        self.gradient_checkpointing = False
        self.time_embedding = TimestepEmbedding(_TIME_CHANNELS, hidden_size)
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)

        self.conv_in = nn.Conv2d(in_channels, conv_dim, 3, padding=1)
        self.down_blocks = nn.ModuleList(ConvBlock(conv_dim, hidden_size) for _ in range(num_conv_blocks))
        self.proj_in = nn.Linear(conv_dim * PATCH**2, hidden_size)
        self.position_embedding = nn.Linear(2 * POSITION_FREQUENCIES, hidden_size)
        self.register_buffer("position_frequencies", random_frequencies())
        self.blocks = nn.ModuleList(
            TransformerBlock(
                hidden_size,
                num_attention_heads,
                cross_attention_dim,
                token_conv=token_convs and layer % 2 == 1,
            )
            for layer in range(num_layers)
        )
        self.proj_out = nn.Linear(hidden_size, conv_dim * PATCH**2)
        self.up_blocks = nn.ModuleList(ConvBlock(conv_dim, hidden_size) for _ in range(num_conv_blocks))
        self.norm_out = nn.GroupNorm(8, conv_dim)
        self.conv_out = nn.Conv2d(conv_dim, in_channels, 3, padding=1)
        for parameter in (*self.modulation.parameters(), *self.conv_out.parameters()):
            nn.init.zeros_(parameter)
        self.conv_condition = None
        if condition_channels:
            self.conv_condition = nn.Conv2d(condition_channels, conv_dim, 3, padding=1, bias=False)
            nn.init.zeros_(self.conv_condition.weight)
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
        output_attentions: bool = False,
    ) -> DenoiserOutput | tuple[Tensor] | tuple[Tensor, tuple[Tensor, ...]]:
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
            cache: What earlier steps have kept, of use where no gradients are recorded. `deep` is the
                Transformer, `spatial` its attention among all tokens.
            output_attentions: Whether to return the attention to the words too, block by block, with its
                gradients; see `DenoiserOutput`. On a GPU it is then not computed by the fused kernel.

        Returns:
            The prediction, `(N, C, f, h, w)`, and the attentions if they are asked for.

        Raises:
            ValueError: If a shape does not fit, a cache is given while gradients are recorded, or attentions
                are asked for with a cache, which may leave them out.
        """
        check_latents(sample, self.config["in_channels"])
        if output_attentions and cache is not None:
            raise ValueError("`output_attentions` must be False with a `cache`, got True: give no cache")
        attentions: list[Tensor] | None = [] if output_attentions else None
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        check_prompts_fit(text.num_prompts, len(sample))
        known = checked_condition(condition, sample, self.config["condition_channels"])
        num_frames, height, width = sample.shape[2:]
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        skip_scale, out_scale = flow_preconditioning(timesteps / 1000)
        time = self.time_embedding(sinusoidal_embedding(timesteps, _TIME_CHANNELS).to(sample.dtype))
        time = add_step_size(time, self.step_embedding, step_size)
        assert text.pooled is not None
        modulator = F.silu(repeat_for_prompts(time, text.num_prompts) + text.pooled)
        frame_modulator = modulator.repeat_interleave(num_frames, dim=0)

        hidden_states = self.conv_in(_frames(sample * per_clip(out_scale, sample)))  # of unit variance
        if known is not None and self.conv_condition is not None:
            hidden_states = hidden_states + self.conv_condition(_frames(known))
        hidden_states = repeat_for_prompts(hidden_states, text.num_prompts * num_frames)
        for block in self.down_blocks:
            hidden_states = block(hidden_states, frame_modulator, num_frames)
        skip = hidden_states
        hidden_states = skip + reuse(
            cache, "deep", self, len(skip), lambda: self._transform(skip, modulator, text, cache, attentions)
        )
        for block in self.up_blocks:
            hidden_states = block(hidden_states, frame_modulator, num_frames)
        hidden_states = self.conv_out(F.silu(self.norm_out(hidden_states)))[..., :height, :width]
        output = hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2)
        output = output.unflatten(0, (-1, len(sample)))  # (N / B, B, C, f, h, w)
        prediction = per_clip(skip_scale, sample) * sample + per_clip(out_scale, sample) * output
        prediction = prediction.flatten(0, 1)
        kept = None if attentions is None else tuple(attentions)
        if return_dict:
            return DenoiserOutput(sample=prediction, attentions=kept)
        return (prediction,) if kept is None else (prediction, kept)

    def _transform(
        self,
        hidden_states: Tensor,
        modulator: Tensor,
        text: TextContext,
        cache: FeatureCache | None,
        attentions: list[Tensor] | None,
    ) -> Tensor:
        """What the Transformer adds to hidden_states `(N*f, c, h, w)`; modulator `(N, D)`.

        If there is a list, the attention of each block to the words is put there.
        """
        num_frames = len(hidden_states) // text.num_prompts
        rows, columns = hidden_states.shape[2] // PATCH, hidden_states.shape[3] // PATCH
        tokens = self.proj_in(to_patches(hidden_states))  # (N*f, rows, columns, D)
        tokens = tokens.reshape(text.num_prompts, num_frames * rows * columns, -1)
        places = token_places(num_frames, rows, columns, tokens.device)
        features = fourier_features(places, self.position_frequencies).to(tokens.dtype)
        tokens = tokens + self.position_embedding(features)
        rotations = rotary_factors(places, self._head_dim)
        modulation = self.modulation(modulator).unflatten(-1, (6, -1))  # (N, 6, D)
        for block in self.blocks:
            arguments = (tokens, modulation, text, rotations, modulator, (num_frames, rows, columns), cache)
            wanted = attentions is not None
            if self.gradient_checkpointing and torch.is_grad_enabled():
                result = self._gradient_checkpointing_func(block, *arguments, wanted)
            else:
                result = block(*arguments, wanted)
            if attentions is None:
                tokens = result
            else:
                tokens, weights = result
                attentions.append(weights)
        tokens = self.proj_out(F.layer_norm(tokens, tokens.shape[-1:]))
        return from_patches(tokens.reshape(-1, rows, columns, tokens.shape[-1]))

    @property
    def _head_dim(self) -> int:
        return int(self.config["hidden_size"]) // int(self.config["num_attention_heads"])

    @apply_forward_hook
    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepare prompts for any number of steps.

        Args:
            encoder_hidden_states: Prompt embeddings `(N, L, D)`.
            encoder_attention_mask: `(N, L)` bool, True where there is a word; all of them by default.

        Raises:
            ValueError: If a shape does not fit.
        """
        return prepare_text(self, self.text_embedding, encoder_hidden_states, encoder_attention_mask)


def _frames(latents: Tensor) -> Tensor:
    """Latents `(B, C, f, h, w)` as frames `(B*f, C, h', w')`, filled up to whole tokens."""
    frames = latents.transpose(1, 2).flatten(0, 1)
    height, width = latents.shape[3:]
    return for_convolution(F.pad(frames, (0, width % PATCH, 0, height % PATCH), mode="replicate"))
