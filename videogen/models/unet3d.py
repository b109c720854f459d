"""The temporal 3D-UNet denoiser of ModelScope's text-to-video model.

Source: Wang et al. 2023, "ModelScope Text-to-Video Technical Report", arXiv:2308.06571, section 3. The module
names are those of diffusers' `UNet3DConditionModel`, so that the public weights of this family (ModelScope,
ZeroScope, Potat1) load as they are.

A UNet over images becomes one over clips by following each spatial module with a temporal one:

    latents -> conv_in -> transformer_in (temporal) -> down_blocks -> mid_block -> up_blocks -> conv_out

    one layer of a block:  ResnetBlock          3x3 convolutions, shifted by the timestep      within a frame
                           TemporalConvBlock    four convolutions over three frames            across frames
                           SpatialTransformer   self-attention, then attention to the text     within a frame
                           TemporalTransformer  self-attention of each pixel over time, twice  across frames

Nothing tells the attention which frame is which: order comes from the temporal convolutions alone. The
spatial modules normalise each frame by itself, the temporal ones all frames of a clip together.

Hidden states are (B, F, H, W, C), contiguous, from the first convolution to the last. In this layout the
tokens of a frame, the frames of a pixel and the images for a convolution (torch's `channels_last` format) are
all views, and a temporal convolution is a 2-D convolution over an (F, H*W) image.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from videogen.models.attention import attention
from videogen.models.embeddings import TimestepEmbedding, sinusoidal_embedding
from videogen.models.output import DenoiserOutput
from videogen.models.text_context import TextContext, check_prompts_fit, repeat_for_prompts

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"silu": F.silu, "mish": F.mish, "gelu": F.gelu, "relu": F.relu}
# The names of the block types in a config, and whether a block of this type attends.
DOWN_BLOCK_TYPES = {"CrossAttnDownBlock3D": True, "DownBlock3D": False}
UP_BLOCK_TYPES = {"CrossAttnUpBlock3D": True, "UpBlock3D": False}


class SpatialConv(nn.Conv2d):
    """A convolution within each frame."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to (B, F, H', W', C')."""
        images = hidden_states.flatten(0, 1).permute(0, 3, 1, 2)  # (B*F, C, H, W)
        return super().forward(images).permute(0, 2, 3, 1).contiguous().unflatten(0, hidden_states.shape[:2])


class TemporalConv(nn.Conv3d):
    """A convolution over three neighbouring frames."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=(3, 1, 1), padding=(1, 0, 0))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        images = hidden_states.flatten(2, 3).permute(0, 3, 1, 2)  # (B, C, F, H*W)
        # Run in 2-D: on a CPU torch has no fast kernel for a Conv3d of this shape.
        images = F.conv2d(images, self.weight.flatten(3), self.bias, padding=(1, 0))
        return images.permute(0, 2, 3, 1).reshape(hidden_states.shape)


class FrameNorm(nn.GroupNorm):
    """Group normalisation of each frame by itself."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        images = hidden_states.flatten(0, 1).permute(0, 3, 1, 2)  # (B*F, C, H, W)
        return super().forward(images).permute(0, 2, 3, 1).reshape(hidden_states.shape)


class ClipNorm(nn.GroupNorm):
    """Group normalisation of all frames of a clip together."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        images = hidden_states.flatten(2, 3).permute(0, 3, 1, 2)  # (B, C, F, H*W)
        return super().forward(images).permute(0, 2, 3, 1).reshape(hidden_states.shape)


class ResnetBlock(nn.Module):
    """Two convolutions within each frame, shifted by the timestep in between, around a shortcut."""

    def __init__(
        self, in_dim: int, out_dim: int, temb_dim: int, groups: int, eps: float, act: Activation, scale: float
    ) -> None:
        super().__init__()
        self.act = act
        self.scale = scale
        self.norm1 = FrameNorm(groups, in_dim, eps)
        self.conv1 = SpatialConv(in_dim, out_dim, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb_dim, out_dim)
        self.norm2 = FrameNorm(groups, out_dim, eps)
        self.conv2 = SpatialConv(out_dim, out_dim, 3, padding=1)
        same = in_dim == out_dim
        self.conv_shortcut = nn.Identity() if same else SpatialConv(in_dim, out_dim, 1)

    def forward(self, hidden_states: Tensor, temb: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) and the activated time embedding (B, T) to (B, F, H, W, C')."""
        residual = self.conv1(self.act(self.norm1(hidden_states)))
        shift = self.time_emb_proj(temb)[:, None, None, None]  # one per clip
        residual = residual + repeat_for_prompts(shift, len(residual))
        residual = self.conv2(self.act(self.norm2(residual)))
        hidden_states = self.conv_shortcut(hidden_states) + residual
        return hidden_states if self.scale == 1 else hidden_states / self.scale


class TemporalConvBlock(nn.Module):
    """Four convolutions across frames around a shortcut; the last starts at zero, as the identity."""

    def __init__(self, channels: int, groups: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(ClipNorm(groups, channels), nn.SiLU(), TemporalConv(channels))
        self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(ClipNorm(groups, channels), nn.SiLU(), nn.Dropout(dropout), TemporalConv(channels))
            for _ in range(3)
        )
        for parameter in self.conv4[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        return hidden_states + self.conv4(self.conv3(self.conv2(self.conv1(hidden_states))))


class Attention(nn.Module):
    """Multi-head attention along axis 1 of the queries; all axes between it and the last are independent."""

    def __init__(self, dim: int, head_dim: int, context_dim: int | None = None) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N, heads, K, d) of (N, K, ..., E); axes between become more heads."""
        return self._heads(self.to_k(context)), self._heads(self.to_v(context))

    def forward(
        self, queries: Tensor, keys_values: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Attends from (N, L, ..., D) to itself, or from (B, L, D) to the given keys and values.

        Those may be of N = n * B prompts, and have a mask (N, 1, 1, K); then the result is (N, L, D).
        """
        keys, values = self.keys_values(queries) if keys_values is None else keys_values
        q = repeat_for_prompts(self._heads(self.to_q(queries)), len(keys))
        attended = attention(q, keys, values, mask).transpose(1, 2)
        return self.to_out[0](attended.reshape(len(keys), *queries.shape[1:]))

    def _heads(self, states: Tensor) -> Tensor:
        # (N, heads, L, d): a view, whichever axis is attended along.
        return states.view(*states.shape[:2], -1, self.head_dim).transpose(1, 2)


class GEGLU(nn.Module):
    """A linear layer gated by the GELU of another (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_dim, 2 * out_dim)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (..., D) to (..., D')."""
        hidden_states, gate = self.proj(hidden_states).chunk(2, dim=-1)
        return hidden_states * F.gelu(gate)


class TransformerBlock(nn.Module):
    """Self-attention along axis 1, attention to the text (or once more to itself), feed-forward."""

    def __init__(self, dim: int, head_dim: int, text_dim: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, head_dim, text_dim)
        self.norm3 = nn.LayerNorm(dim)
        # Layers 0 and 2: between them, where the public weights had a dropout of zero, there is nothing.
        layers = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))
        self.ff = nn.Sequential(OrderedDict(net=layers))

    def forward(self, hidden_states: Tensor, num_clips: int = 1, text: TextContext | None = None) -> Tensor:
        """Maps (B * F, L, ..., D) of `num_clips` clips to (N * F, L, ..., D), one clip for each prompt."""
        hidden_states = hidden_states + self.attn1(self.norm1(hidden_states))
        queries = self.norm2(hidden_states)
        if text is None:
            hidden_states = hidden_states + self.attn2(queries)
        else:  # all frames of a clip ask as one sequence, so that keys and values exist once
            queries = queries.view(num_clips, -1, queries.shape[-1])
            attended = self.attn2(queries, text.keys_values[self.attn2], text.mask)
            hidden_states = repeat_for_prompts(
                hidden_states, len(hidden_states) // num_clips * text.num_prompts
            )
            hidden_states = hidden_states + attended.view(hidden_states.shape)
        return hidden_states + self.ff(self.norm3(hidden_states))


class SpatialTransformer(nn.Module):
    """Attention among the pixels of each frame, and from them to the text, around a shortcut."""

    def __init__(self, channels: int, head_dim: int, text_dim: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, head_dim, text_dim)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, hidden_states: Tensor, text: TextContext) -> Tensor:
        """Maps (B, F, H, W, C) to (N, F, H, W, C), one clip for each prompt of the text."""
        tokens = self.proj_in(self.norm(hidden_states)).flatten(2, 3).flatten(0, 1)  # (B*F, H*W, C)
        for block in self.transformer_blocks:
            num_clips = len(tokens) // hidden_states.shape[1]
            tokens = block(tokens, num_clips, text)  # (N*F, H*W, C)
        hidden_states = repeat_for_prompts(hidden_states, text.num_prompts)
        return hidden_states + self.proj_out(tokens).view(hidden_states.shape)


class TemporalTransformer(nn.Module):
    """Attention among the frames of each pixel, around a shortcut."""

    def __init__(self, channels: int, head_dim: int, groups: int, inner_dim: int | None = None) -> None:
        super().__init__()
        inner_dim = inner_dim or channels
        self.norm = ClipNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner_dim)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(inner_dim, head_dim)])
        self.proj_out = nn.Linear(inner_dim, channels)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        tokens = self.proj_in(self.norm(hidden_states))  # (B, F, H, W, D)
        for block in self.transformer_blocks:
            tokens = block(tokens)
        return hidden_states + self.proj_out(tokens)


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = SpatialConv(channels, channels, 3, stride=2, padding=padding)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to (B, F, H', W', C): half, rounded up, or down without padding."""
        if self.conv.padding == (0, 0):
            hidden_states = F.pad(hidden_states, (0, 0, 0, 1, 0, 1))  # at the right and at the bottom only
        return self.conv(hidden_states)


class Upsample(nn.Module):
    """Enlarges to the height and width of the next features: twice, or one less where those are odd."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SpatialConv(channels, channels, 3, padding=1)

    def forward(self, hidden_states: Tensor, size: Sequence[int]) -> Tensor:
        """Maps (B, F, H, W, C) to (B, F, *size, C)."""
        images = hidden_states.flatten(0, 1).permute(0, 3, 1, 2)  # (B*F, C, H, W)
        images = F.interpolate(images, size=tuple(size), mode="nearest").permute(0, 2, 3, 1)
        return self.conv(images.unflatten(0, hidden_states.shape[:2]))


class UNetBlock(nn.Module):
    """The layers of one resolution, the first `num_attentions` of which attend, and their resampler."""

    def __init__(
        self,
        resnets: list[ResnetBlock],
        channels: int,
        num_attentions: int,
        head_dim: int,
        text_dim: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.temp_convs = nn.ModuleList([TemporalConvBlock(channels, groups) for _ in resnets])
        self.attentions = nn.ModuleList(
            [SpatialTransformer(channels, head_dim, text_dim, groups) for _ in range(num_attentions)]
        )
        self.temp_attentions = nn.ModuleList(
            [TemporalTransformer(channels, head_dim, groups) for _ in range(num_attentions)]
        )
        self.downsamplers = nn.ModuleList()
        self.upsamplers = nn.ModuleList()

    def forward(
        self,
        layer_idx: int,
        hidden_states: Tensor,
        skip: Tensor | None,
        temb: Tensor,
        text: TextContext,
    ) -> Tensor:
        """Runs one layer on (B, F, H, W, C), joined to a skip connection (B, F, H, W, C') on the way up."""
        if skip is not None:
            hidden_states = torch.cat([hidden_states, repeat_for_prompts(skip, len(hidden_states))], dim=-1)
        hidden_states = self.resnets[layer_idx](hidden_states, temb)
        hidden_states = self.temp_convs[layer_idx](hidden_states)
        if layer_idx < len(self.attentions):
            hidden_states = self.attentions[layer_idx](hidden_states, text)
            hidden_states = self.temp_attentions[layer_idx](hidden_states)
        return hidden_states


class UNet3D(ModelMixin, ConfigMixin):
    """A UNet that denoises the latents of a clip, given a timestep and a text. The defaults are ModelScope's.

    Args:
        sample_size: height and width of the latents the weights were trained on; other sizes work as well.
        in_channels: channels of the latents.
        out_channels: channels of the prediction.
        down_block_types: per resolution, finest first: keys of `DOWN_BLOCK_TYPES`.
        up_block_types: per resolution, coarsest first: keys of `UP_BLOCK_TYPES`.
        block_out_channels: channels per resolution, finest first.
        layers_per_block: layers per resolution on the way down; on the way up there is one more.
        downsample_padding: 1, or 0 to pad at the right and the bottom only.
        mid_block_scale_factor: divides what the resnets of the middle block return.
        act_fn: activation of the resnets and of the time embedding, a key of `ACTIVATIONS`.
        norm_num_groups: groups of each group normalisation.
        norm_eps: epsilon of the group normalisations of the resnets and of the output.
        cross_attention_dim: channels of the text.
        attention_head_dim: channels of one attention head; a block has channels / attention_head_dim heads.
        time_cond_proj_dim: channels of `timestep_cond`, None for a network without it.

    Raises:
        ValueError: if the arguments contradict each other.
    """

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns = ("norm", "time_embedding")  # type: ignore[assignment]
    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Tensor]

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = 32,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = 3 * ("CrossAttnDownBlock3D",) + ("DownBlock3D",),
        up_block_types: tuple[str, ...] = ("UpBlock3D",) + 3 * ("CrossAttnUpBlock3D",),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1.0,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        time_cond_proj_dim: int | None = None,
    ) -> None:
        super().__init__()
        _check_choices("down_block_types", down_block_types, DOWN_BLOCK_TYPES)
        _check_choices("up_block_types", up_block_types, UP_BLOCK_TYPES)
        _check_choices("act_fn", [act_fn], ACTIVATIONS)
        _check_choices("downsample_padding", [downsample_padding], (0, 1))
        if layers_per_block < 1:
            raise ValueError(f"`layers_per_block` must be at least 1, got {layers_per_block}")
        down_attends = [DOWN_BLOCK_TYPES[block_type] for block_type in down_block_types]
        up_attends = [UP_BLOCK_TYPES[block_type] for block_type in up_block_types]
        _check_channels(block_out_channels, down_attends, up_attends, norm_num_groups, attention_head_dim)

        self.in_channels = in_channels
        self.cross_attention_dim = cross_attention_dim
        self.time_cond_proj_dim = time_cond_proj_dim
        self.act = ACTIVATIONS[act_fn]
        first, last = block_out_channels[0], block_out_channels[-1]
        temb_dim = 4 * first
        num_resamplers = len(block_out_channels) - 1

        def block(
            layer_channels: list[int], channels: int, num_attentions: int, scale: float = 1.0
        ) -> UNetBlock:
            resnets = [
                ResnetBlock(in_dim, channels, temb_dim, norm_num_groups, norm_eps, self.act, scale)
                for in_dim in layer_channels
            ]
            sizes = (attention_head_dim, cross_attention_dim, norm_num_groups)
            return UNetBlock(resnets, channels, num_attentions, *sizes)

        self.time_embedding = TimestepEmbedding(first, temb_dim, self.act, time_cond_proj_dim)
        self.conv_in = SpatialConv(in_channels, first, 3, padding=1)
        # Always eight heads, whatever the channels: 512 inner channels beside ModelScope's 320.
        self.transformer_in = TemporalTransformer(
            first, attention_head_dim, norm_num_groups, inner_dim=8 * attention_head_dim
        )

        self.down_blocks = nn.ModuleList()
        skip_channels = [first]
        for channels, attends in zip(block_out_channels, down_attends, strict=True):
            layer_channels = [skip_channels[-1]] + [channels] * (layers_per_block - 1)
            down_block = block(layer_channels, channels, layers_per_block * attends)
            skip_channels += [channels] * layers_per_block
            if len(self.down_blocks) < num_resamplers:
                down_block.downsamplers.append(Downsample(channels, downsample_padding))
                skip_channels.append(channels)
            self.down_blocks.append(down_block)

        self.mid_block = block([last, last], last, 1, mid_block_scale_factor)

        self.up_blocks = nn.ModuleList()
        hidden_channels = last
        for channels, attends in zip(reversed(block_out_channels), up_attends, strict=True):
            layer_channels = [hidden_channels] + [channels] * layers_per_block
            layer_channels = [hidden + skip_channels.pop() for hidden in layer_channels]
            up_block = block(layer_channels, channels, (layers_per_block + 1) * attends)
            if len(self.up_blocks) < num_resamplers:
                up_block.upsamplers.append(Upsample(channels))
            self.up_blocks.append(up_block)
            hidden_channels = channels

        self.conv_norm_out = FrameNorm(norm_num_groups, first, norm_eps)
        self.conv_out = SpatialConv(first, out_channels, 3, padding=1)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        *,
        timestep_cond: Tensor | None = None,
    ) -> DenoiserOutput | tuple[Tensor]:
        """Predicts what the scheduler asks for from noisy latents.

        Args:
            sample: (B, C, f, h, w), noisy latents, scaled as the scheduler asks; any f, h and w will do.
            timestep: diffusion time, a number or (B,), in [0, 1000) for the public weights.
            encoder_hidden_states: (N, L, D), the text, or what `text_context` made of it. N is B or a
                multiple: prompt n goes with sample n % B, and what precedes the first attention to the text
                is computed once for all of them.
            encoder_attention_mask: (N, L) bool, True for the tokens to attend to; None attends to all.
            return_dict: whether to return a `DenoiserOutput`, or a tuple of one tensor.
            timestep_cond: (B, `time_cond_proj_dim`), added to the time embedding after a projection.

        Returns:
            The prediction, `sample` (N, C, f, h, w).

        Raises:
            ValueError: if the shapes do not fit each other or the network.
        """
        self._check_inputs(sample, timestep, timestep_cond)
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        check_prompts_fit(text.num_prompts, len(sample))
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        temb = sinusoidal_embedding(timesteps, self.conv_in.out_channels).to(sample.dtype)
        temb = self.act(self.time_embedding(temb, timestep_cond))  # (B, T), activated once for all resnets

        def run(
            block: nn.Module, layer_idx: int, hidden_states: Tensor, skip: Tensor | None = None
        ) -> Tensor:
            args = (layer_idx, hidden_states, skip, temb, text)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                return self._gradient_checkpointing_func(block, *args)
            return block(*args)

        hidden_states = self.conv_in(sample.permute(0, 2, 3, 4, 1))  # (B, f, h, w, C)
        hidden_states = self.transformer_in(hidden_states)

        skips = [hidden_states]
        for block in cast(Iterable[UNetBlock], self.down_blocks):
            for layer_idx in range(len(block.resnets)):
                hidden_states = run(block, layer_idx, hidden_states)
                skips.append(hidden_states)
            for downsample in block.downsamplers:
                hidden_states = downsample(hidden_states)
                skips.append(hidden_states)

        for layer_idx in range(len(self.mid_block.resnets)):
            hidden_states = run(self.mid_block, layer_idx, hidden_states)

        for block in cast(Iterable[UNetBlock], self.up_blocks):
            for layer_idx in range(len(block.resnets)):
                hidden_states = run(block, layer_idx, hidden_states, skips.pop())
            for upsample in block.upsamplers:
                hidden_states = upsample(hidden_states, size=skips[-1].shape[2:4])

        hidden_states = self.conv_out(F.silu(self.conv_norm_out(hidden_states)))
        model_pred = hidden_states.permute(0, 4, 1, 2, 3)  # (B, C, f, h, w)
        return DenoiserOutput(sample=model_pred) if return_dict else (model_pred,)

    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepares prompts for any number of steps.

        Args:
            encoder_hidden_states: (N, L, D), the text.
            encoder_attention_mask: (N, L) bool, True for the tokens to attend to; None attends to all.

        Raises:
            ValueError: if the shapes do not fit each other or the network.
        """
        text, mask = encoder_hidden_states, encoder_attention_mask
        if text.ndim != 3 or text.shape[2] != self.cross_attention_dim:
            expected = f"(N, L, {self.cross_attention_dim})"
            raise ValueError(f"`encoder_hidden_states` must be {expected}, got {tuple(text.shape)}")
        if mask is not None and (mask.shape != text.shape[:2] or mask.dtype != torch.bool):
            expected = f"{tuple(text.shape[:2])} torch.bool, as `encoder_hidden_states`"
            raise ValueError(
                f"`encoder_attention_mask` must be {expected}, got {tuple(mask.shape)} {mask.dtype}"
            )
        spatial = [module for module in self.modules() if isinstance(module, SpatialTransformer)]
        blocks = [cast(TransformerBlock, block) for module in spatial for block in module.transformer_blocks]
        keys_values: dict[nn.Module, tuple[Tensor, Tensor]] = {
            block.attn2: block.attn2.keys_values(text) for block in blocks
        }
        return TextContext(len(text), keys_values, None if mask is None else mask[:, None, None])

    def _check_inputs(self, sample: Tensor, timestep: Tensor | float, timestep_cond: Tensor | None) -> None:
        B, C = len(sample), self.in_channels
        if sample.ndim != 5 or sample.shape[1] != C or 0 in sample.shape:
            raise ValueError(f"`sample` must be ({B}, {C}, f, h, w), not empty, got {tuple(sample.shape)}")
        if isinstance(timestep, Tensor) and timestep.shape not in {(), (1,), (B,)}:
            raise ValueError(f"`timestep` must be a number or ({B},), got {tuple(timestep.shape)}")
        if timestep_cond is not None and timestep_cond.shape != (B, self.time_cond_proj_dim):
            expected = f"({B}, time_cond_proj_dim={self.time_cond_proj_dim})"
            raise ValueError(f"`timestep_cond` must be {expected}, got {tuple(timestep_cond.shape)}")


def _check_choices(name: str, values: Iterable[object], choices: Collection[object]) -> None:
    for value in values:
        if value not in choices:
            raise ValueError(f"`{name}` must be chosen from {list(choices)}, got {value!r}")


def _check_channels(
    channels: Sequence[int], down_attends: list[bool], up_attends: list[bool], groups: int, head_dim: int
) -> None:
    if not len(channels) == len(down_attends) == len(up_attends) > 0:
        raise ValueError(
            "`block_out_channels`, `down_block_types` and `up_block_types` must be equally long, not empty, "
            f"got {len(channels)}, {len(down_attends)} and {len(up_attends)} entries"
        )
    up_attends = [True, *up_attends[1:]]  # the middle block always attends, with the coarsest channels
    for size, down, up in zip(channels, down_attends, reversed(up_attends), strict=True):
        if size % groups:
            raise ValueError(
                f"`block_out_channels` must be multiples of norm_num_groups={groups}, got {size}"
            )
        if (down or up) and size % head_dim:
            raise ValueError(
                "`block_out_channels` of blocks with attention must be multiples of "
                f"attention_head_dim={head_dim}, got {size}"
            )
