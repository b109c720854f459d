"""Networks rearranged for inference on a CPU: the same numbers, up to the order of additions, sooner.

- Weights are put into oneDNN's blocked layouts once, instead of at every call, and biases are added where the
  product is stored, not in a pass before it.
- Queries, keys and values of self-attention come from one product; a GEGLU is two, with the activation and
  the gating fused into them.
- Where a transformer is wider inside than outside, its last two matrices are multiplied into one.
- A convolution takes the form that is fastest for the images it is given (`packed_convolutions`).

The operators are those that torch's own compiler emits; they are not part of torch's public interface.
"""

from __future__ import annotations

import torch
from torch import nn

from videogen.models.packed_convolutions import PackedConv2d, PackedSpatialConv, PackedTemporalConv
from videogen.models.packed_products import FoldedTransformer, PackedGEGLU, PackedLinear, PackedSelfAttention
from videogen.models.unet3d_layers import GEGLU, Attention, SpatialConv, TemporalConv, TemporalTransformer


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
        case TemporalTransformer() if layer.proj_in.out_features > layer.proj_in.in_features:
            folded = FoldedTransformer(layer)
            _pack_children(folded)
            return folded
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
