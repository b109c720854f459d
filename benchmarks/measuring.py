"""How the scripts beside it measure: alternating runs, peaks of memory, differences.

A process starts with the peak of the one that made it: so nothing heavy is imported at the top.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def alternate(
    functions: dict[str, Callable[[], Any]], repeats: int, device: str
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each function, their order turned round from one repeat to the next, and their results."""

    def wait() -> None:
        if "cuda" in device:
            import torch

            torch.cuda.synchronize()

    outputs = {name: function() for name, function in functions.items()}  # and a round to warm up
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats):
        for name in list(functions) if repeat % 2 else list(reversed(functions)):
            wait()
            start = time.perf_counter()
            functions[name]()
            wait()
            seconds[name].append(time.perf_counter() - start)
    return seconds, outputs


def largest_difference(first: Any, second: Any) -> float:
    """The largest absolute difference of two tensors."""
    return float((first.float() - second.float()).abs().max())


def peak_bytes(device: str) -> int:
    """The most memory so far."""
    if "cuda" in device:
        import torch

        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
