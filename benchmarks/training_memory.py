"""Counts the memory of a training step, without computing anything: `UNet3D` and diffusers' class.

    python benchmarks/training_memory.py --sizes tiny small full --batch-size 8

Tensors are stand-ins that have shapes and no content (torch's `FakeTensorMode`), so that any size can be
counted on any machine, and comes out the same each time. A pass is forward and backward, in eval mode; its
peak is the most memory that its tensors have at once, the gradients of all weights among them. What a kernel
takes for itself while it runs is not seen, nor is what the process takes for its code.

A step holds the weights as well, AdamW's two moments and a moving average, four times the weights together.
bfloat16 is autocast over weights in float32, as accelerate's mixed precision.
"""

from __future__ import annotations

import argparse
import json
import weakref
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from networks import SIZES, Size
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from videogen.evaluation import markdown_table
from videogen.models.unet3d import UNet3D

WAYS = ("peer", "ours", "ours, checkpointing")
MIB = 2**20


class LiveTensors(TorchDispatchMode):
    """Follows the memory of all tensors that are made within, from then until they are freed.

    Args:
        known: Tensors from before, whose memory does not count.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.bytes = self.peak_bytes = 0
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operator and see what it has made."""
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.sizes:
                storage = tensor.untyped_storage()
                self.sizes[storage._cdata] = storage.nbytes()
                self.bytes += storage.nbytes()
                weakref.finalize(storage, self.free, storage._cdata)
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        return results

    def free(self, key: int) -> None:
        """Count the memory of a tensor no longer."""
        self.bytes -= self.sizes.pop(key)


def main() -> None:
    """Count, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small"])
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    rows = [
        {"size": size, "dtype": dtype, **count(SIZES[size], dtype, arguments.batch_size)}
        for size in arguments.sizes
        for dtype in arguments.dtypes
    ]
    print_table(rows, arguments.batch_size)
    if arguments.out:
        arguments.out.write_text(json.dumps({"batch_size": arguments.batch_size, "rows": rows}, indent=2))


def count(size: Size, dtype: str, batch_size: int) -> dict[str, Any]:
    """Bytes of the weights, and of the peak of one pass of each way."""
    peaks = {}
    for way in WAYS:
        with FakeTensorMode():
            network: Any = (UNet3DConditionModel if way == "peer" else UNet3D)(**size.config).eval()
            if "checkpointing" in way:
                network.enable_gradient_checkpointing()
            sample, text = torch.empty(batch_size, *size.latents), torch.empty(batch_size, *size.text)
            with LiveTensors([*network.parameters(), *network.buffers(), sample, text]) as live:
                with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                    model_pred = network(sample, 500, text, return_dict=False)[0]
                model_pred.float().square().mean().backward()
            peaks[way] = live.peak_bytes
        weights = sum(parameter.nbytes for parameter in network.parameters())
    return {"weights": weights, "peaks": peaks}


def print_table(rows: list[dict[str, Any]], batch_size: int) -> None:
    """Markdown: the pass, and the whole step with weights, moments and average, both also of the peer's."""
    lines = []
    for row in rows:
        weights, peaks = row["weights"], row["peaks"]
        for way in WAYS:
            numbers = []
            for others in (0, 4 * weights):
                held, by_peer = peaks[way] + others, peaks["peer"] + others
                numbers += [f"{held / MIB:,.0f}", f"{held / by_peer:.2f}x"]
            lines.append([row["size"], row["dtype"], way, f"{weights / MIB:,.0f}", *numbers])
    print(f"A batch of {batch_size}; MiB.\n")
    header = ["size", "dtype", "network", "weights", "peak of a pass", "of the peer's"]
    print(markdown_table([*header, "with weights, moments, average", "of the peer's"], lines))


if __name__ == "__main__":
    main()
