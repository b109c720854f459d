"""The attention backend that all networks share, and a way to see what is attended to."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_CUDA_GRID = 65_535
"""CUDA's limit on the y and z sizes of a kernel's grid, where the fused kernels put batch and heads."""

ATTENTION_BACKENDS = ("sdpa", "xformers")

_backend: ContextVar[str] = ContextVar("attention_backend", default="sdpa")
_records: ContextVar[list[Tensor] | None] = ContextVar("attention_records", default=None)


def set_attention_backend(name: str, device: torch.device | str = "cuda") -> None:
    """Choose what computes attention from here on, in all networks.

    Args:
        name: `sdpa`, torch's own fused attention, or `xformers`, whose kernels exist for CUDA only.
        device: Where the networks run.

    Raises:
        ValueError: If the name is unknown, or xformers is not installed or cannot run on the device.
    """
    if name not in ATTENTION_BACKENDS:
        raise ValueError(f"`attention` must be one of {', '.join(ATTENTION_BACKENDS)}, got {name!r}")
    if name == "xformers" and torch.device(device).type != "cuda":
        raise ValueError(
            f"`attention` 'xformers' has no kernels for {torch.device(device).type!r}: "
            "use 'sdpa', or a CUDA device"
        )
    if name == "xformers" and find_spec("xformers") is None:
        raise ValueError("`attention` 'xformers' is not installed: pip install 'videogen[xformers]'")
    _backend.set(name)


@contextmanager
def record_attention() -> Iterator[list[Tensor]]:
    """Keep the weights of every call of `attention` within, in the order of the calls.

    The list holds `softmax(q k^T / sqrt(D))`, (B, heads, Lq, Lk) float32 on the CPU: each row sums to 1, or
    to 0 where a query may look at nothing. `UViT3D` calls twice in each block, for all tokens and for the
    words; `UNet3D` twice in each spatial transformer, for pixels and for words, and twice in each temporal
    one.
    """
    records: list[Tensor] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, softmax(q k^T / sqrt(D)) v: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.

    The fused kernel of the device computes it, except on a CPU when gradients are needed: there the backward
    pass of the fused kernel is several times slower than that of the plain formula.

    Args:
        q: (B, heads, Lq, D), any strides.
        k: (B, heads, Lk, D).
        v: (B, heads, Lk, D).
        mask: bool, (B or 1, heads or 1, Lq or 1, Lk), True where a query may look at a key. A query that may
            look at nothing gets zeros.

    Returns:
        (B, heads, Lq, D).
    """
    _record(q, k, mask)
    if (
        q.device.type == "cpu"
        and torch.is_grad_enabled()
        and (q.requires_grad or k.requires_grad or v.requires_grad)
    ):
        return _attention_weights(q, k, mask) @ v
    if q.is_cuda and _backend.get() == "xformers":
        return _xformers_attention(q, k, v, mask)
    for dim in (0, 1):
        if q.is_cuda and q.shape[dim] > MAX_CUDA_GRID:
            return _attention_in_chunks(q, k, v, mask, dim)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attention_with_weights(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`attention` by the plain formula, and its weights `(B, heads, Lq, Lk)`, with their gradients."""
    _record(q, k, mask)
    weights = _attention_weights(q, k, mask)
    return weights @ v, weights


def _record(q: Tensor, k: Tensor, mask: Tensor | None) -> None:
    records = _records.get()
    if records is not None:
        records.append(_attention_weights(q.detach().float(), k.detach().float(), mask).cpu())


def _xformers_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    from xformers.ops import memory_efficient_attention

    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, -torch.inf)
        bias = bias.expand(*q.shape[:3], k.shape[2])
    rows = [tensor.transpose(1, 2) for tensor in (q, k, v)]  # (B, L, heads, D), as xformers wants them
    return memory_efficient_attention(*rows, attn_bias=bias).transpose(1, 2)


def _attention_weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, heads, Lq, Lk)
    if mask is None:
        return scores.softmax(dim=-1)
    # The product afterwards zeroes the rows without any key, which -inf would turn into NaN.
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1) * mask


def _attention_in_chunks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    parts = [tensor.split(MAX_CUDA_GRID, dim) for tensor in (q, k, v)]
    masks: list[Tensor | None] = [None] * len(parts[0])
    if mask is not None:
        masks = list(mask.expand(*q.shape[:3], k.shape[2]).split(MAX_CUDA_GRID, dim))
    return torch.cat([attention(*part) for part in zip(*parts, masks, strict=True)], dim)
