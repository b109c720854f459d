"""Networks packed for inference: the numbers of the plain ones, at every size of image."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import TINY_UVIT, make_inputs, make_network
from videogen.models.packing import pack_for_inference
from videogen.models.unet3d import UNet3D
from videogen.models.unet3d_layers import SpatialConv, TemporalConv
from videogen.models.uvit import UViT3D

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 4, 3, 8, 8), (2, 4, 5, 4, 6), (1, 4, 2, 2, 2), (1, 4, 1, 2, 3)])
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (UNet3D, {}),
        (UNet3D, {"downsample_padding": 0, "act_fn": "gelu"}),
        (UNet3D, {"attention_head_dim": 16, "layers_per_block": 2}),
        (UViT3D, {}),
    ],
)
def test_a_packed_network_predicts_the_same(
    kind: type[UNet3D] | type[UViT3D], change: dict[str, Any], shape: tuple[int, ...]
) -> None:
    inputs = make_inputs(shape, prompts_per_sample=2)
    network = make_network(kind, **change)
    expected = network(*inputs).sample
    pack_for_inference(network)
    for _ in range(2):  # matrices of whole images are made by the first call
        torch.testing.assert_close(network(*inputs).sample, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_packs_in_bfloat16() -> None:
    inputs = [tensor.bfloat16() for tensor in make_inputs((1, 4, 3, 4, 4), prompts_per_sample=2)]
    network = make_network(UNet3D)
    exact = network(*[tensor.float() for tensor in inputs]).sample
    nn.Module.to(network, torch.bfloat16)
    error = (network(*inputs).sample - exact).square().mean()
    pack_for_inference(network)
    assert (network(*inputs).sample - exact).square().mean() < 1.5 * error


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (4, 1), (3, 2)])
def test_a_convolution_of_a_tiny_image_equals_the_plain_one(size: tuple[int, int]) -> None:
    convolution = nn.Sequential(SpatialConv(6, 10, 3, padding=1))
    hidden_states = torch.randn(2, 3, *size, 6, generator=torch.Generator().manual_seed(0))
    expected = convolution(hidden_states)
    pack_for_inference(convolution)
    torch.testing.assert_close(convolution(hidden_states), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("channels", [(256, 256), (512, 640)])
def test_a_wide_convolution_equals_the_plain_one_at_sizes_that_take_turns(channels: tuple[int, int]) -> None:
    convolution = nn.Sequential(SpatialConv(*channels, 3, padding=1))
    plain = copy.deepcopy(convolution)
    pack_for_inference(convolution)
    # A whole image or columns, Winograd's, oneDNN's own (odd, then large), and back.
    for size in [(2, 2), (4, 6), (3, 5), (4, 4), (10, 10), (1, 4), (8, 8)]:
        hidden_states = torch.randn(1, 2, *size, channels[0], generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(convolution(hidden_states), plain(hidden_states), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_temporal_convolution_equals_the_plain_one(bias: bool) -> None:
    convolution = nn.Sequential(TemporalConv(256, 256, bias=bias))
    plain = copy.deepcopy(convolution)
    pack_for_inference(convolution)
    for num_frames in (4, 5, 1, 16):
        hidden_states = torch.randn(2, num_frames, 2, 3, 256, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(convolution(hidden_states), plain(hidden_states), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_wide_convolution_in_bfloat16_is_as_near_to_float32_as_the_plain_one() -> None:
    convolution = nn.Sequential(SpatialConv(256, 256, 3, padding=1)).bfloat16()
    exact = copy.deepcopy(convolution).float()
    plain = copy.deepcopy(convolution)
    pack_for_inference(convolution)
    hidden_states = torch.randn(1, 2, 4, 4, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = exact(hidden_states.float())
    error = (plain(hidden_states) - expected).square().mean()
    assert (convolution(hidden_states) - expected).square().mean() < 1.5 * error


def test_a_network_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be on the CPU to be packed, .*weight is on meta"):
        pack_for_inference(UViT3D(**TINY_UVIT).to("meta"))
