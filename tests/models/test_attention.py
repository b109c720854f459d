"""The attention backend: its two forms agree, on values, gradients and masks."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.models import attention as attention_module
from videogen.models.attention import attention, record_attention, set_attention_backend


def make_qkv(
    dtype: torch.dtype = torch.float64, requires_grad: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> Tensor:
        return torch.randn(2, 3, length, 4, generator=generator, dtype=dtype, requires_grad=requires_grad)

    return draw(5), draw(7), draw(7)


def make_mask() -> Tensor:
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[0, ..., 4:] = False
    mask[1, ..., 1:] = False
    return mask


@pytest.mark.parametrize("mask", [None, make_mask()])
def test_both_forms_follow_the_formula(mask):
    q, k, v = make_qkv()
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    expected = torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), v)
    torch.testing.assert_close(attention(q, k, v, mask), expected)  # fused
    torch.testing.assert_close(attention(*make_qkv(requires_grad=True), mask), expected)  # plain


@pytest.mark.parametrize("mask", [None, make_mask()])
def test_recorded_weights_make_the_result(mask):
    q, k, v = make_qkv(torch.float32)
    expected = attention(q, k, v, mask)
    with record_attention() as records:
        torch.testing.assert_close(attention(q, k, v, mask), expected)
        attention(q[:1], k[:1], v[:1])
    attention(q, k, v)
    assert [tuple(weights.shape) for weights in records] == [(2, 3, 5, 7), (1, 3, 5, 7)]
    torch.testing.assert_close(records[0] @ v, expected)


@pytest.mark.parametrize("mask", [None, make_mask()])
def test_gradients_equal_those_of_the_fused_kernel(mask):
    ours, fused = make_qkv(requires_grad=True), make_qkv(requires_grad=True)
    attention(*ours, mask).square().sum().backward()
    F.scaled_dot_product_attention(*fused, attn_mask=mask).square().sum().backward()
    for a, b in zip(ours, fused, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_query_without_any_key_gets_zeros(requires_grad):
    qkv = make_qkv(torch.float32, requires_grad)
    mask = make_mask()
    mask[1] = False
    output = attention(*qkv, mask)
    assert output[1].eq(0).all() and output[0].ne(0).any()
    if requires_grad:
        output.sum().backward()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in qkv)


def test_no_gradient_no_plain_form(monkeypatch):
    monkeypatch.delattr(attention_module, "_attention_weights")
    with torch.no_grad():
        attention(*make_qkv(requires_grad=True))
    attention(*make_qkv())


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("mask", [None, make_mask()])
def test_chunks_equal_the_whole(monkeypatch, dim, mask):
    monkeypatch.setattr(attention_module, "MAX_CUDA_GRID", 1)
    qkv = make_qkv()
    chunked = attention_module._attention_in_chunks(*qkv, mask, dim)
    torch.testing.assert_close(chunked, attention(*qkv, mask))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [(70_000, 1, 4, 8), (1, 70_000, 4, 8)])
def test_more_sequences_than_a_cuda_grid_holds(shape):
    q = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x = q.cuda()
    torch.testing.assert_close(attention(x, x, x).cpu(), attention(q, q, q), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("flash", "cuda", "`attention` must be one of sdpa, xformers, got 'flash'"),
        ("xformers", "cpu", "'xformers' has no kernels for 'cpu': use 'sdpa', or a CUDA device"),
    ],
)
def test_a_backend_that_cannot_be_used_is_refused(name: str, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_attention_backend(name, device)


@pytest.mark.skipif(find_spec("xformers") is not None, reason="xformers is installed")
def test_a_backend_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pip install 'videogen\[xformers\]'"):
        set_attention_backend("xformers")
