"""Networks rearranged for inference on a CPU: the same numbers, up to the order of additions, sooner.

- Weights are put into oneDNN's blocked layouts once, instead of at every call, and biases are added where the
  product is stored, not in a pass before it.
- Queries, keys and values of self-attention come from one product; a GEGLU is two, with the activation and
  the gating fused into them.
- A 3x3 convolution of an image of four pixels or fewer multiplies mostly by padding: it becomes a plain
  product of the whole image, which for 2x2 pixels is 16 small products instead of 36.

The operators are those that torch's own compiler emits; they are not part of torch's public interface.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from videogen.models.attention import attention
from videogen.models.unet3d_layers import GEGLU, Attention, SpatialConv, TemporalConv

_MAX_DENSE_PIXELS = 4
_MAX_DENSE_NUMEL = 1 << 22  # of the matrix of a whole image; larger ones are slower to read than to avoid


def pack_for_inference(network: nn.Module) -> None:
    """Rearrange a network in place.

    Afterwards it runs on the CPU, in the dtype it has, without gradients; it can be neither saved nor moved.

    Args:
        network: A denoiser or any other module; layers that are not known here are left as they are.

    Raises:
        ValueError: If a parameter is not on the CPU, or this build of torch lacks oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        raise ValueError("packing needs a torch with oneDNN, which this build lacks")
    for name, parameter in network.named_parameters():
        if parameter.device.type != "cpu":
            raise ValueError(f"`network` must be on the CPU to be packed, {name} is on {parameter.device}")
    _pack_children(network)


def _pack_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        packed = _packed(child)
        if packed is None:
            _pack_children(child)
        else:
            setattr(module, name, packed)


def _packed(layer: nn.Module) -> nn.Module | None:
    match layer:
        case Attention() if not layer.is_cross:
            return PackedSelfAttention(layer)
        case GEGLU():
            return PackedGEGLU(layer)
        case SpatialConv():
            return PackedSpatialConv(layer)
        case TemporalConv():
            return PackedTemporalConv(layer)
        case nn.Conv2d():
            return PackedConv2d(layer)
        case nn.Linear():
            return PackedLinear(layer.weight, layer.bias)
        case _:
            return None


class PackedLinear(nn.Module):
    """`nn.Linear`, optionally with an activation or with a product by a tensor of the result's shape."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self.bias = None if bias is None else bias.detach()
        self.activation = activation

    def forward(self, states: Tensor, factor: Tensor | None = None) -> Tensor:
        """Map (..., D) to (..., D'), times `factor` (..., D') if it is given."""
        if factor is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(states, factor, self.weight, self.bias, "mul")
        return torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, self.activation, [], "none")


class PackedGEGLU(nn.Module):
    """`GEGLU`: the gate, then the product gated by it."""

    def __init__(self, layer: GEGLU) -> None:
        super().__init__()
        value, gate = layer.proj.weight.chunk(2)
        value_bias, gate_bias = layer.proj.bias.chunk(2)
        self.value = PackedLinear(value, value_bias)
        self.gate = PackedLinear(gate, gate_bias, activation="gelu")

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map (..., D) to (..., D')."""
        return self.value(hidden_states, self.gate(hidden_states))


class PackedSelfAttention(nn.Module):
    """`Attention` of a sequence to itself, with queries, keys and values from one product."""

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        # Head by head, so that a head's part of the result is one stretch of channels: (heads, 3, d).
        parts = [
            part.weight.unflatten(0, (-1, layer.head_dim)) for part in (layer.to_q, layer.to_k, layer.to_v)
        ]
        self.head_dim = layer.head_dim
        self.to_qkv = PackedLinear(torch.stack(parts, dim=1).flatten(0, 2), None)
        to_out = cast(nn.Linear, layer.to_out[0])
        self.to_out = PackedLinear(to_out.weight, to_out.bias)

    def forward(self, queries: Tensor) -> Tensor:
        """Attend from (N, L, ..., D) to itself along axis 1."""
        qkv = self.to_qkv(queries)
        heads = qkv.view(*qkv.shape[:2], -1, 3, self.head_dim).transpose(1, 2)  # (N, heads, L, 3, d)
        attended = attention(*heads.unbind(3)).transpose(1, 2)
        return self.to_out(attended.reshape(queries.shape))


class PackedConv2d(nn.Module):
    """`nn.Conv2d`; the result has the memory format of the images."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            layer.weight.detach(), *self.geometry, None
        )
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        return torch.ops.mkldnn._convolution_pointwise(
            images, self.weight, self.bias, *self.geometry, "none", [], "none"
        )


class PackedSpatialConv(PackedConv2d):
    """`SpatialConv`."""

    def __init__(self, layer: SpatialConv) -> None:
        super().__init__(layer)
        self.is_same = layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.padding == (1, 1)
        self.numel = layer.weight[0, :, 0, 0].numel() * len(layer.weight)
        self.whole_images: dict[tuple[int, int], PackedLinear] = {}

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map (B, F, H, W, C) to (B, F, H', W', C')."""
        clips, frames, height, width, _ = hidden_states.shape
        num_pixels = height * width
        if self.is_same and num_pixels <= min(_MAX_DENSE_PIXELS, (_MAX_DENSE_NUMEL / self.numel) ** 0.5):
            whole_image = self.whole_images.get((height, width))
            if whole_image is None:
                whole_image = self.whole_images[height, width] = self._whole_image(height, width)
            return whole_image(hidden_states.flatten(2)).view(clips, frames, height, width, -1)
        images = hidden_states.flatten(0, 1).permute(0, 3, 1, 2)  # (B*F, C, H, W)
        return super().forward(images).permute(0, 2, 3, 1).contiguous().unflatten(0, (clips, frames))

    def _whole_image(self, height: int, width: int) -> PackedLinear:
        """The matrix from all pixels and channels of an image to all of the result."""
        weight = self.weight.to_dense()  # (C', C, 3, 3)
        rows, columns = (torch.arange(height * width) // width, torch.arange(height * width) % width)
        down, right = rows - rows[:, None] + 1, columns - columns[:, None] + 1  # (to, from), into the kernel
        inside = (down >= 0) & (down < 3) & (right >= 0) & (right < 3)
        taps = weight[:, :, down.clamp(0, 2), right.clamp(0, 2)] * inside  # (C', C, to, from)
        matrix = taps.permute(2, 0, 3, 1).flatten(2).flatten(0, 1)  # (to * C', from * C)
        bias = None if self.bias is None else self.bias.repeat(height * width)
        return PackedLinear(matrix, bias)


class PackedTemporalConv(nn.Module):
    """`TemporalConv`."""

    def __init__(self, layer: TemporalConv) -> None:
        super().__init__()
        images = nn.Conv2d(layer.in_channels, layer.out_channels, (3, 1), padding=(1, 0), device="meta")
        images.weight = nn.Parameter(layer.weight.flatten(3), requires_grad=False)
        images.bias = layer.bias
        self.conv = PackedConv2d(images)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map (B, F, H, W, C) to the same shape."""
        images = hidden_states.flatten(2, 3).permute(0, 3, 1, 2)  # (B, C, F, H*W)
        return self.conv(images).permute(0, 2, 3, 1).reshape(hidden_states.shape)
