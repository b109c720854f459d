"""Weights in aligned memory, so that the same weights give the same bits whatever file they come from.

A file that is mapped into memory puts weights at any multiple of 8 bytes, torch's own allocator at
multiples of 64. Where a matrix is not aligned MKL adds in another order: the last bits of a product differ.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

_ALIGNMENT = 64  # bytes


class AlignedWeights:
    """To stand before diffusers' `ModelMixin` among the bases of a network."""

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        """See `ModelMixin.from_pretrained`. Weights are copied out of the file, into aligned memory."""
        loaded = super().from_pretrained(*args, **options)  # type: ignore[misc]
        # With `output_loading_info=True` it is a pair.
        align(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded


def align(network: nn.Module) -> None:
    """Copy the weights and buffers of a network that need it, see `aligned`."""
    for tensors in (network.parameters(), network.buffers()):
        for tensor in tensors:
            tensor.data = aligned(tensor.data)


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of it if it lies on a CPU and does not start at a multiple of 64 bytes."""
    misaligned = tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT != 0
    return tensor.clone() if misaligned else tensor
