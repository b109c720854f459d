"""What tells the weights of one network from those of another."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_hash(network: nn.Module, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over names, shapes and values of all weights, the values taken as bfloat16.

    So a network has one hash in float32, in bfloat16, and in a released folder.

    Args:
        network: On any device.
        without: Beginnings of the names of weights that do not count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name.startswith(without):
            continue
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        values = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
