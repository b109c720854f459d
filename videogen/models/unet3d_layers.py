"""The layers of the temporal 3D-UNet: each maps hidden states (B, F, H, W, C), contiguous, to such.

In this layout the tokens of a frame, the frames of a pixel and the images for a convolution (torch's
`channels_last` format) are all views, and a temporal convolution is a 2-D convolution over an (F, H*W) image.
The spatial modules normalise each frame by itself, the temporal ones all frames of a clip together.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.models.attention import attention
from videogen.models.step_cache import FeatureCache, reuse
from videogen.models.text_context import TextContext, repeat_for_prompts

Activation = Callable[[Tensor], Tensor]


class Checkpointed(nn.Module):
    """A module whose parts may be computed again for the backward pass, rather than keep what it needs.

    Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174. The parts are small,
    as at the peak one is there as a whole. `ModelMixin.enable_gradient_checkpointing` sets both attributes.
    """

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Tensor]

    def run_part(self, part: Callable[..., Tensor], *args: object) -> Tensor:
        """Calls a part of this module on its arguments."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(part, *args)
        return part(*args)


class SpatialConv(nn.Conv2d):
    """A convolution within each frame."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to (B, F, H', W', C')."""
        if self._is_fast_as_linear(hidden_states):
            return F.linear(_neighbourhoods(hidden_states), self.weight.flatten(1), self.bias)
        images = hidden_states.flatten(0, 1).permute(0, 3, 1, 2)  # (B*F, C, H, W)
        return super().forward(images).permute(0, 2, 3, 1).contiguous().unflatten(0, hidden_states.shape[:2])

    def _is_fast_as_linear(self, hidden_states: Tensor) -> bool:
        # On a CPU oneDNN takes two to three times as long, above all backwards, for images this small.
        height, width = hidden_states.shape[2:4]
        keeps_size = self.kernel_size == (3, 3) and self.stride == (1, 1) and self.padding == (1, 1)
        return hidden_states.device.type == "cpu" and height * width <= 4 and keeps_size and self.groups == 1


def _neighbourhoods(hidden_states: Tensor) -> Tensor:
    """The 3x3 places around each, in the order of a convolution's weight: (B, F, H, W, C) to (..., 9 * C)."""
    height, width = hidden_states.shape[2:4]
    padded = F.pad(hidden_states, (0, 0, 1, 1, 1, 1))
    places = [
        padded[:, :, row : row + height, column : column + width] for row in range(3) for column in range(3)
    ]
    return torch.stack(places, dim=-1).flatten(4)


class TemporalConv(nn.Conv3d):
    """A convolution over neighbouring frames, three by default.

    It is made like its base, as peft makes the two factors of an adapter from the class they adapt; kernel
    and padding are 1 and 0 within a frame, and the stride is 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int, int] = (3, 1, 1),
        stride: tuple[int, int, int] = (1, 1, 1),
        padding: tuple[int, int, int] = (1, 0, 0),
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.frame_padding = kernel_size[0] // 2

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to (B, F, H, W, C')."""
        images = hidden_states.flatten(2, 3).permute(0, 3, 1, 2)  # (B, C, F, H*W)
        # Run in 2-D: on a CPU torch has no fast kernel for a Conv3d of this shape.
        images = F.conv2d(images, self.weight.flatten(3), self.bias, padding=(self.frame_padding, 0))
        return images.permute(0, 2, 3, 1).reshape(*hidden_states.shape[:-1], -1)


def _layout_for_norm(images: Tensor) -> Tensor:
    """Images (N, C, H, W), channels last, in the layout in which torch normalises them fast.

    In bfloat16 on a CPU its group norm takes up to 17 times as long with channels last as on a copy without,
    forwards, and up to 5 times forwards and backwards; in float32 both are alike. Forwards it has from 1024
    pixels on a kernel for channels last that is four to eight times as fast as the copy.
    """
    if images.dtype != torch.bfloat16 or images.device.type != "cpu":
        return images
    num_pixels = images.shape[2] * images.shape[3]
    return images if num_pixels >= 1024 and not torch.is_grad_enabled() else images.contiguous()


class FrameNorm(nn.GroupNorm):
    """Group normalisation of each frame by itself."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        images = _layout_for_norm(hidden_states.flatten(0, 1).permute(0, 3, 1, 2))  # (B*F, C, H, W)
        return super().forward(images).permute(0, 2, 3, 1).reshape(hidden_states.shape)


class ClipNorm(nn.GroupNorm):
    """Group normalisation of all frames of a clip together."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        images = _layout_for_norm(hidden_states.flatten(2, 3).permute(0, 3, 1, 2))  # (B, C, F, H*W)
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
        self.conv1 = nn.Sequential(ClipNorm(groups, channels), nn.SiLU(), TemporalConv(channels, channels))
        self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(
                ClipNorm(groups, channels), nn.SiLU(), nn.Dropout(dropout), TemporalConv(channels, channels)
            )
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
        self.is_cross = context_dim is not None
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


class TransformerBlock(Checkpointed):
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

    def forward(
        self,
        hidden_states: Tensor,
        num_clips: int = 1,
        text: TextContext | None = None,
        cache: FeatureCache | None = None,
    ) -> Tensor:
        """Maps (B * F, L, ..., D) of `num_clips` clips to (N * F, L, ..., D), one clip for each prompt."""
        hidden_states = self.attend(hidden_states, num_clips, text, cache)
        return hidden_states + self.run_part(self._feed_forward, hidden_states)

    def attend(
        self,
        hidden_states: Tensor,
        num_clips: int = 1,
        text: TextContext | None = None,
        cache: FeatureCache | None = None,
    ) -> Tensor:
        """The same without the feed-forward layers at the end."""
        hidden_states = hidden_states + reuse(
            cache,
            "spatial",
            self,
            len(hidden_states),
            lambda: self.run_part(self._attend, self.norm1, self.attn1, hidden_states),
        )
        if text is None:
            return hidden_states + self.run_part(self._attend, self.norm2, self.attn2, hidden_states)
        attended = reuse(
            cache,
            "text",
            self,
            text.num_prompts,
            lambda: self.run_part(self._attend_to_text, hidden_states, num_clips, text),
        )
        hidden_states = repeat_for_prompts(hidden_states, len(hidden_states) // num_clips * text.num_prompts)
        return hidden_states + attended.view(hidden_states.shape)

    def _attend(self, norm: nn.Module, attn: nn.Module, hidden_states: Tensor) -> Tensor:
        return attn(norm(hidden_states))

    def _feed_forward(self, hidden_states: Tensor) -> Tensor:
        return self.ff(self.norm3(hidden_states))

    def _attend_to_text(self, hidden_states: Tensor, num_clips: int, text: TextContext) -> Tensor:
        # All frames of a clip ask as one sequence, so that keys and values exist once: (N, F*L, D).
        queries = self.norm2(hidden_states).view(num_clips, -1, hidden_states.shape[-1])
        return self.attn2(queries, text.keys_values[self.attn2], text.mask)


class SpatialTransformer(nn.Module):
    """Attention among the pixels of each frame, and from them to the text, around a shortcut."""

    def __init__(self, channels: int, head_dim: int, text_dim: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, head_dim, text_dim)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, hidden_states: Tensor, text: TextContext, cache: FeatureCache | None = None) -> Tensor:
        """Maps (B, F, H, W, C) to (N, F, H, W, C), one clip for each prompt of the text."""
        tokens = self.proj_in(self.norm(hidden_states)).flatten(2, 3).flatten(0, 1)  # (B*F, H*W, C)
        for block in self.transformer_blocks:
            num_clips = len(tokens) // hidden_states.shape[1]
            tokens = block(tokens, num_clips, text, cache)  # (N*F, H*W, C)
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

    def forward(self, hidden_states: Tensor, cache: FeatureCache | None = None) -> Tensor:
        """Maps (B, F, H, W, C) to the same shape."""
        return hidden_states + reuse(
            cache, "temporal", self, len(hidden_states), lambda: self._residual(hidden_states)
        )

    def _residual(self, hidden_states: Tensor) -> Tensor:
        tokens = self.proj_in(self.norm(hidden_states))  # (B, F, H, W, D)
        for block in self.transformer_blocks:
            tokens = block(tokens)
        return self.proj_out(tokens)


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.conv = SpatialConv(channels, channels, 3, stride=2, padding=padding)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Maps (B, F, H, W, C) to (B, F, H', W', C): half, rounded up, or down without padding."""
        if self.padding == 0:
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


class UNetBlock(Checkpointed):
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
        cache: FeatureCache | None = None,
    ) -> Tensor:
        """Runs one layer on (B, F, H, W, C), joined to a skip connection (B, F, H, W, C') on the way up."""
        hidden_states = self.run_part(self._convolve, layer_idx, hidden_states, skip, temb)
        if layer_idx < len(self.attentions):
            hidden_states = self.attentions[layer_idx](hidden_states, text, cache)
            hidden_states = self.temp_attentions[layer_idx](hidden_states, cache)
        return hidden_states

    def _convolve(self, layer_idx: int, hidden_states: Tensor, skip: Tensor | None, temb: Tensor) -> Tensor:
        if skip is not None:
            hidden_states = torch.cat([hidden_states, repeat_for_prompts(skip, len(hidden_states))], dim=-1)
        return self.temp_convs[layer_idx](self.resnets[layer_idx](hidden_states, temb))
