"""Linear layers and what is built of them, with weights in oneDNN's blocked layouts: for `packing`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from videogen.models.attention import attention
from videogen.models.step_cache import FeatureCache, reuse
from videogen.models.unet3d_layers import GEGLU, Attention, TemporalTransformer, TransformerBlock


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


class FoldedTransformer(nn.Module):
    """A `TemporalTransformer` that is wider inside than outside, as the first one of `UNet3D`.

    Its last two layers, the second of the feed-forward layers and `proj_out`, are linear one after the other,
    and so are one matrix, which is smaller than the first of them. Its parts are yet to be packed.
    """

    def __init__(self, layer: TemporalTransformer) -> None:
        super().__init__()
        self.norm, self.proj_in, self.proj_out = layer.norm, layer.proj_in, layer.proj_out
        self.block = cast(TransformerBlock, layer.transformer_blocks[0])
        net = cast(nn.Sequential, self.block.ff.net)
        last = cast(nn.Linear, net[2])
        net[2] = nn.Identity()  # so that the feed-forward layers end with what is gated
        outer, inner = layer.proj_out.weight.detach().double(), last.weight.detach().double()
        self.from_gated = nn.Linear(last.in_features, len(outer), device="meta")
        self.from_gated.weight = _frozen(outer @ inner, last.weight)
        self.from_gated.bias = _frozen(outer @ last.bias.detach().double(), last.bias)

    def forward(self, hidden_states: Tensor, cache: FeatureCache | None = None) -> Tensor:
        """Map (B, F, H, W, C) to the same shape."""
        return hidden_states + reuse(
            cache, "temporal", self, len(hidden_states), lambda: self._residual(hidden_states)
        )

    def _residual(self, hidden_states: Tensor) -> Tensor:
        tokens = self.block.attend(self.proj_in(self.norm(hidden_states)))  # (B, F, H, W, D)
        gated = self.block.ff(self.block.norm3(tokens))  # (B, F, H, W, 4D)
        return self.proj_out(tokens) + self.from_gated(gated)


def _frozen(values: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(like.dtype), requires_grad=False)
