"""What tells the weights of one network from those of another."""

from __future__ import annotations

import torch
from torch import nn

from videogen.files import tensors_hash


def weights_hash(network: nn.Module, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over names, shapes and values of all weights, the values taken as bfloat16.

    So a network has one hash in float32, in bfloat16, and in a released folder.

    Args:
        network: On any device.
        without: Beginnings of the names of weights that do not count.
    """
    return tensors_hash(
        (f"{name} {tuple(tensor.shape)}", tensor.detach().to("cpu", torch.bfloat16))
        for name, tensor in sorted(network.state_dict().items())
        if not name.startswith(without)
    )
