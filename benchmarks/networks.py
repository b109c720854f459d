"""Denoisers of several sizes, ours and diffusers', with random weights; how much they compute.

For the scripts beside it, which measure memory as well: nothing heavy is imported at the top.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TIMESTEP = 500


@dataclass(frozen=True)
class Size:
    """A network and its inputs.

    Attributes:
        latents: Channels, frames, height and width.
        text: Tokens and channels.
        config: Arguments of both classes.
    """

    latents: tuple[int, int, int, int]
    text: tuple[int, int]
    config: dict[str, Any] = field(default_factory=dict)


def attending(channels: tuple[int, ...], **config: Any) -> dict[str, Any]:
    """A config with attention at every resolution."""
    return {
        "block_out_channels": channels,
        "down_block_types": ("CrossAttnDownBlock3D",) * len(channels),
        "up_block_types": ("CrossAttnUpBlock3D",) * len(channels),
        "layers_per_block": 1,
        **config,
    }


SIZES = {
    "tiny": Size(
        (4, 4, 8, 8),
        (16, 64),
        attending((32, 64), cross_attention_dim=64, attention_head_dim=16, norm_num_groups=8),
    ),
    "small": Size((4, 16, 8, 8), (32, 256), attending((64, 128, 256), cross_attention_dim=256)),
    "half": Size(
        (4, 8, 16, 16), (77, 1024), {"block_out_channels": (160, 320, 640, 640), "attention_head_dim": 32}
    ),
    "full": Size((4, 8, 16, 16), (77, 1024)),
}
FULL_ON_CUDA = Size((4, 16, 32, 32), (77, 1024))


def size_of(name: str, device: str) -> Size:
    """The size of a name; the largest has a whole clip only where there is a GPU."""
    return FULL_ON_CUDA if name == "full" and "cuda" in device else SIZES[name]


def build(who: str, size: Size, dtype: Any, device: str) -> Any:
    """One network, every parameter random, made without a second copy of it in memory."""
    import torch
    from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel

    from videogen.models.unet3d import UNet3D

    with torch.device("meta"):
        network: Any = (UNet3D if who == "ours" else UNet3DConditionModel)(**size.config)
    network = torch.nn.Module.to(network, dtype).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            std = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.normal_(0, std, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return network


def ours_like(peer: Any, size: Size) -> Any:
    """Our network on the very weights of the peer, which are in memory once."""
    import torch

    from videogen.models.unet3d import UNet3D

    with torch.device("meta"):
        network: Any = UNet3D(**size.config)
    network.load_state_dict(peer.state_dict(), assign=True)
    return network.eval()


def inputs(size: Size, dtype: Any, device: str) -> tuple[Any, Any]:
    """Latents (1, C, f, h, w), and the embeddings (2, L, D) of a negative prompt and a prompt."""
    import torch

    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(1, *size.latents, generator=generator)
    text = torch.randn(2, *size.text, generator=generator)
    return sample.to(device, dtype), text.to(device, dtype)


def count_flops(size: Size, *, backward: bool) -> int:
    """Operations of the peer for a batch of two, counted without computing anything."""
    import torch
    from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel

    with torch.device("meta"):
        network: Any = UNet3DConditionModel(**size.config)
        sample, text = torch.empty(2, *size.latents), torch.empty(2, *size.text)

    def run() -> None:
        with torch.set_grad_enabled(backward):
            output = network(sample, TIMESTEP, text).sample
            if backward:
                output.sum().backward()

    return flops_of(run)


def flops_of(function: Callable[[], Any]) -> int:
    """Operations of a function; attention in its plain form, the only one that is counted on every device."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def peak_flops(dtype: Any, device: str) -> float:
    """Operations per second of the best of ten products of large square matrices."""
    import torch

    side = 8192 if "cuda" in device else 2048
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    least = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for it
        least = min(least, time.perf_counter() - start)
    return 2 * side**3 / least
