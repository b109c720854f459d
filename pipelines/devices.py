"""Where networks can run on this machine."""

from __future__ import annotations

import torch


def check_device(device: str | torch.device | int) -> torch.device:
    """The device that a name, a number or a device of torch stands for.

    Args:
        device: `cpu`, or an accelerator that torch sees: `cuda`, `cuda:1`, `mps`, ...; a number is that of an
            accelerator.

    Raises:
        ValueError: If there is no such device here; the message lists those that are here.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    counts = {"cpu": 1} | (
        {} if accelerator is None else {accelerator.type: torch.accelerator.device_count()}
    )
    try:
        if isinstance(device, bool) or not isinstance(device, str | torch.device | int):
            raise TypeError
        found = torch.device(device)
    except (RuntimeError, TypeError):  # no name of torch's; or a number, and no accelerator
        found = None
    if found is None or (found.index or 0) >= counts.get(found.type, 0):
        here = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        raise ValueError(
            f"`device` {str(device)!r} is not available: torch sees {here} here, and names are cpu, cuda, "
            "cuda:N (N from 0), mps"
        )
    return found
