"""Convolutions for `packing`, each in the form that is fastest on a CPU for the images it is given.

- `DirectConv`: oneDNN's own, with its weights reordered once.
- `WholeImageConv`: a 3x3 convolution of four pixels or fewer multiplies mostly by padding; one product of the
  whole image is for 2x2 pixels 16 small products instead of 36.
- `ColumnConv`: the neighbourhoods of all pixels are copied side by side and multiplied by one matrix. With
  few pixels and many channels the copy is small, and the product up to six times as fast as oneDNN's own.
- `WinogradConv`: fewer products for more additions, worth it in float32 where there are many channels.

A convolution is in memory in one form at a time; where images of another size come, it is made anew.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.models.packed_products import PackedLinear
from videogen.models.unet3d_layers import SpatialConv, TemporalConv

_MAX_DENSE_PLACES = 4
_MAX_DENSE_NUMEL = 1 << 22  # of the matrix of a whole image; larger ones are slower to read than to avoid
# The products that the other forms save grow with C * C', what they copy and add with C + C'.
_MIN_WIDTH = 128  # C * C' / (C + C')
_MAX_COLUMN_PLACES = {True: 4, False: 16}  # in float32, in half precision
_MAX_WINOGRAD_PLACES = 64
_MAX_WINOGRAD_COLUMNS = 16  # of images of frames and places


class ConvForm(nn.Module):
    """A convolution of images (N, H, W, C) to (N, H', W', C')."""

    @abstractmethod
    def plain_weight(self) -> Tensor:
        """The kernel (C', C, kh, kw), as it was up to rounding."""


class DirectConv(ConvForm):
    """oneDNN's convolution, of any padding, stride, dilation and groups."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: tuple[str | tuple[int, ...], tuple[int, ...], tuple[int, ...], int],
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, None)
        self.bias = bias

    def plain_weight(self) -> Tensor:
        """The kernel (C', C, kh, kw)."""
        return self.weight.to_dense()

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H', W', C'), in the same order in memory."""
        images = images.permute(0, 3, 1, 2)
        images = torch.ops.mkldnn._convolution_pointwise(
            images, self.weight, self.bias, *self.geometry, "none", [], "none"
        )
        return images.permute(0, 2, 3, 1)


class WholeImageConv(ConvForm):
    """A 3x3 convolution of images of one size, as a matrix from all pixels and channels to all."""

    def __init__(self, weight: Tensor, bias: Tensor | None, height: int, width: int) -> None:
        super().__init__()
        self.weight = weight
        rows, columns = (torch.arange(height * width) // width, torch.arange(height * width) % width)
        down, right = rows - rows[:, None] + 1, columns - columns[:, None] + 1  # (to, from), into the kernel
        inside = (down >= 0) & (down < 3) & (right >= 0) & (right < 3)
        taps = weight[:, :, down.clamp(0, 2), right.clamp(0, 2)] * inside  # (C', C, to, from)
        matrix = taps.permute(2, 0, 3, 1).flatten(2).flatten(0, 1)  # (to * C', from * C)
        self.product = PackedLinear(matrix, None if bias is None else bias.repeat(height * width))

    def plain_weight(self) -> Tensor:
        """The kernel (C', C, 3, 3)."""
        return self.weight

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C')."""
        return self.product(images.flatten(1)).view(*images.shape[:3], -1)


class ColumnConv(ConvForm):
    """A 3x3 convolution as the product of each pixel's neighbourhood, of 9 C numbers, with a matrix."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.product = PackedLinear(weight.permute(0, 2, 3, 1).flatten(1), bias)

    def plain_weight(self) -> Tensor:
        """The kernel (C', C, 3, 3)."""
        return self.product.weight.to_dense().unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C')."""
        padded = F.pad(images, (0, 0, 1, 1, 1, 1))
        clip, row, column, channel = padded.stride()
        # Three neighbours of a row lie side by side, so that a neighbourhood is three stretches.
        size = (*images.shape[:3], 3, 3 * images.shape[3])
        return self.product(padded.as_strided(size, (clip, row, column, row, channel)).flatten(3))


class WinogradConv(ConvForm):
    """A 3x3 convolution, or one of 3x1, by Winograd's minimal filtering F(2, 3) along each axis.

    Lavin and Gray 2016, arXiv:1509.09308, section 4: two results along an axis take four products instead of
    six, so 3x3 takes 16 instead of 36. The sizes along the axes must be even.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.num_axes = 2 if weight.shape[3] == 3 else 1
        filters = weight.double() if self.num_axes == 2 else weight.double().squeeze(3)
        transform = filters.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
        for _ in range(self.num_axes):
            filters = torch.tensordot(transform, filters, dims=([1], [filters.ndim - 1]))
        # (4 or 16, C, C'), from (4, 4, C', C)
        self.filters = filters.flatten(0, -3).transpose(1, 2).to(weight.dtype).contiguous()
        self.bias = bias

    def plain_weight(self) -> Tensor:
        """The kernel (C', C, 3, 3) or (C', C, 3, 1), up to rounding."""
        filters = self.filters.transpose(1, 2).unflatten(0, (4,) * self.num_axes)
        for _ in range(self.num_axes):
            filters = torch.stack([filters[0], filters[1] - filters[2], filters[3]], dim=-1)
        return filters if self.num_axes == 2 else filters.unsqueeze(3)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C')."""
        # The axis to transform is always at the same place, as each transform adds one in front.
        axis = self.num_axes
        tiles = F.pad(images, (0, 0, 1, 1, 1, 1) if self.num_axes == 2 else (0, 0, 0, 0, 1, 1))
        for _ in range(self.num_axes):
            tiles = self._transform(tiles, axis)  # (4, 4, N, H/2, W/2, C) in the end
        products = torch.bmm(tiles.flatten(0, axis - 1).flatten(1, -2), self.filters)
        if self.bias is not None:
            products[1 if axis == 1 else 5] += self.bias  # which is part of every result once
        products = products.view(*tiles.shape[:-1], -1)
        for _ in range(self.num_axes):
            products = self._results(products, axis)
        return products

    @staticmethod
    def _transform(padded: Tensor, axis: int) -> Tensor:
        """(..., 2n + 2, ...) to (4, ..., n, ...)."""
        even, odd = padded.unflatten(axis, (-1, 2)).unbind(axis + 1)
        num_tiles = even.shape[axis] - 1
        first, third = even.narrow(axis, 0, num_tiles), even.narrow(axis, 1, num_tiles)
        second, fourth = odd.narrow(axis, 0, num_tiles), odd.narrow(axis, 1, num_tiles)
        tiles = padded.new_empty(4, *first.shape)
        torch.sub(first, third, out=tiles[0])
        torch.add(second, third, out=tiles[1])
        torch.sub(third, second, out=tiles[2])
        torch.sub(second, fourth, out=tiles[3])
        return tiles

    @staticmethod
    def _results(products: Tensor, axis: int) -> Tensor:
        """(4, ..., n, ...) to (..., 2n, ...)."""
        shape = products.shape[1:]
        results = products.new_empty(*shape[: axis + 1], 2, *shape[axis + 1 :])
        even, odd = results.unbind(axis + 1)
        torch.add(products[0], products[1], out=even).add_(products[2])
        torch.sub(products[1], products[2], out=odd).sub_(products[3])
        return results.flatten(axis, axis + 1)


class SizePreservingConv(nn.Module):
    """A convolution of 3x3 or 3x1 that keeps the size of its images, in the form that suits them."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bias = bias
        self.dtype = weight.dtype
        self.numel = weight[:, :, 0, 0].numel()
        self.is_square = weight.shape[3] == 3
        self.is_wide = self.numel >= _MIN_WIDTH * (weight.shape[0] + weight.shape[1])
        self.form: ConvForm = self._make(DirectConv, (), weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C')."""
        kind, size = self._best(*images.shape[1:3])
        if (kind, size) != self.made:
            self.form = self._make(kind, size, self.form.plain_weight())
        return self.form(images)

    def _make(self, kind: type[ConvForm], size: tuple[int, ...], weight: Tensor) -> ConvForm:
        self.made = (kind, size)
        if kind is DirectConv:
            return DirectConv(weight, self.bias, ((1, int(self.is_square)), (1, 1), (1, 1), 1))
        return kind(weight, self.bias, *size)

    def _best(self, height: int, width: int) -> tuple[type[ConvForm], tuple[int, ...]]:
        num_places = height * width
        in_full = self.dtype == torch.float32
        is_small = num_places <= _MAX_DENSE_PLACES and num_places**2 * self.numel <= _MAX_DENSE_NUMEL
        if self.is_square and is_small:
            return WholeImageConv, (height, width)
        if self.is_wide and self.is_square and num_places <= _MAX_COLUMN_PLACES[in_full]:
            return ColumnConv, ()
        if self.is_wide and in_full:
            if self.is_square and num_places <= _MAX_WINOGRAD_PLACES and height % 2 == width % 2 == 0:
                return WinogradConv, ()
            if not self.is_square and width <= _MAX_WINOGRAD_COLUMNS and height % 2 == 0:
                return WinogradConv, ()
        return DirectConv, ()


class PackedConv2d(nn.Module):
    """`nn.Conv2d`; the result has the memory format of the images."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.form = _direct(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        return self.form(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PackedSpatialConv(nn.Module):
    """`SpatialConv`."""

    def __init__(self, layer: SpatialConv) -> None:
        super().__init__()
        same = layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.padding == (1, 1)
        self.form = SizePreservingConv(*_detached(layer)) if same and layer.groups == 1 else _direct(layer)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map (B, F, H, W, C) to (B, F, H', W', C')."""
        images = self.form(hidden_states.flatten(0, 1))
        return images.contiguous().unflatten(0, hidden_states.shape[:2])


class PackedTemporalConv(nn.Module):
    """`TemporalConv`, over images of frames and places."""

    def __init__(self, layer: TemporalConv) -> None:
        super().__init__()
        weight, bias = _detached(layer)
        self.form = SizePreservingConv(weight.flatten(3), bias)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map (B, F, H, W, C) to the same shape."""
        return self.form(hidden_states.flatten(2, 3)).reshape(hidden_states.shape)


def _detached(layer: nn.Conv2d | nn.Conv3d) -> tuple[Tensor, Tensor | None]:
    return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()


def _direct(layer: nn.Conv2d) -> DirectConv:
    return DirectConv(*_detached(layer), (layer.padding, layer.stride, layer.dilation, layer.groups))
