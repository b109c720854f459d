"""Measures denoisers side by side: ours and diffusers' `UNet3DConditionModel`, with equal weights.

    python benchmarks/denoiser.py --sizes tiny small half --dtypes float32 bfloat16 --out denoiser.json

Every figure is taken with both in one process, in alternating order, after one round to warm up; medians. All
parameters are random, also those that diffusers starts at zero. Beside each time stands how far the results
are from each other.

- forward: one evaluation with classifier-free guidance. The peer sees it as its own pipeline gives it, the
  sample and the text as a batch of two. Ours sees what `TextToVideo` gives it: one sample, and both prompts
  prepared by `text_context`, which a clip needs once, and which is not in the time. On a CPU ours is packed
  (`pack_for_inference`).
- backward: forward and backward of a batch of two, as in training, but in eval mode, as dropout would make
  the results incomparable; neither packed nor prepared. Ours also with gradient checkpointing, which the peer
  lacks. Of each parameter's gradient the first numbers are compared.
- loop: all steps of a clip with DDIM and guidance, to the latents: the peer's calls as in its pipeline, ours
  by `TextToVideo`, exact and with step caching. The PSNR of latents (peak: the range of the uncached ones)
  stands in for that of clips: random weights make no clips, and nothing follows for trained ones, which
  `benchmarks/step_cache.py` measures.
- memory: peaks of fresh processes that do one such pass, and how much of it came after the network was there;
  on a CPU what the kernel counts (`ru_maxrss`), on CUDA what torch allocates.

`uvit` is the embedded denoiser, packed and with prepared prompts ("ours") beside itself without ("peer").

Operations are counted on the peer by torch's FlopCounterMode, so that a share of the machine's peak (the best
of a large matrix product in the same run and dtype) says of ours what it would take the peer to be as fast.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from denoiser_passes import backward_rows, forward_row, loop_rows, measure_uvit, prepare
from measuring import peak_bytes
from networks import SIZES, TIMESTEP, build, inputs, ours_like, peak_flops, size_of

# A process starts with the peak of the one that made it. Nothing heavy is imported at the top, and memory is
# measured first, so that this one's peak stays below what is measured.

PASSES = ("forward", "backward", "checkpointing")
CACHES = ("deep=2", "deep=3", "temporal=2", "spatial=2,text=3,temporal=2", "guidance=2", "deep=3,guidance=3")
COMPILED = {
    *("ResnetBlock", "TemporalConvBlock", "SpatialTransformer", "TemporalTransformer"),
    *("ResnetBlock2D", "TemporalConvLayer", "Transformer2DModel", "TransformerTemporalModel"),
}


def main() -> None:
    """Measure, print tables, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whats, dtypes = ("forward", "backward", "loop", "memory"), ("float32", "bfloat16")
    parser.add_argument("--sizes", nargs="+", choices=(*SIZES, "uvit"), default=["tiny", "small", "uvit"])
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=["float32"])
    parser.add_argument("--what", nargs="+", choices=whats, default=list(whats))
    parser.add_argument("--steps", type=int, default=8, help="of the loop")
    parser.add_argument("--caches", nargs="*", default=list(CACHES), help="settings of step caching")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads; by default what torch chooses")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the repeated blocks of both, in place of packing; without step caches",
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)  # how this script calls itself
    arguments = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    if arguments.peak_of:
        print(json.dumps(run_and_measure(arguments)))
        return

    memory = measure_memory(arguments) if "memory" in arguments.what else []
    import torch

    # Float32 shall mean the same for both, and for the product that their speed is held against.
    torch.backends.cudnn.allow_tf32 = False
    peaks = {dtype: peak_flops(getattr(torch, dtype), arguments.device) for dtype in arguments.dtypes}
    timings: list[dict[str, Any]] = []
    for size in arguments.sizes:
        measure = measure_uvit if size == "uvit" else measure_unets
        timings += measure(size, arguments)
    results = {
        "device": torch.cuda.get_device_name() if "cuda" in arguments.device else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "compiled": arguments.compile,
        "repeats": arguments.repeats,
        "steps": arguments.steps,
        "peak_flops": peaks,
        "timings": timings,
        "memory": memory,
    }
    print_tables(results)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2))


def measure_unets(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of all that is asked for of one size."""
    import torch

    size, device = size_of(name, arguments.device), arguments.device
    rows = []
    reference = None
    if "bfloat16" in arguments.dtypes and "forward" in arguments.what:
        sample, text = inputs(size, torch.float32, device)
        peer = build("peer", size, torch.float32, device)
        with torch.no_grad():
            reference = peer(sample.repeat(2, 1, 1, 1, 1), TIMESTEP, text).sample
        del peer
    for dtype_name in arguments.dtypes:
        print(f"{name}, {dtype_name} ...", file=sys.stderr)
        dtype = getattr(torch, dtype_name)
        # Rounded from the same numbers whatever the dtype, so that its error can be told.
        peer = torch.nn.Module.to(build("peer", size, torch.float32, device), dtype)
        ours = ours_like(peer, size)
        if arguments.compile:
            torch._dynamo.config.recompile_limit = 128  # blocks of every size share their code
            for module in (*ours.modules(), *peer.modules()):
                if type(module).__name__ in COMPILED:
                    module.compile()
        found = []
        if "backward" in arguments.what:
            found += backward_rows(ours, peer, size, dtype, arguments)
        prepare(ours, arguments)
        if "forward" in arguments.what:
            found.append(forward_row(ours, peer, size, dtype, reference, arguments))
        if "loop" in arguments.what:
            found += loop_rows(ours, peer, size, dtype, arguments)
        parameters = sum(parameter.numel() for parameter in peer.parameters())
        rows += [{"size": name, "dtype": dtype_name, "parameters": parameters, **row} for row in found]
        del ours, peer
    return rows


def measure_memory(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Peaks of fresh processes, for each size, dtype, network and pass."""
    rows = []
    for size in arguments.sizes:
        if size == "uvit":
            continue
        for dtype in arguments.dtypes:
            for passed in PASSES:
                for who in ("ours", "peer"):
                    if (who, passed) == ("peer", "checkpointing"):
                        continue
                    command = [sys.executable, __file__, "--peak-of", who, passed, "--sizes", size]
                    command += ["--dtypes", dtype, "--device", arguments.device]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                    rows.append(
                        {"size": size, "dtype": dtype, "who": who, "pass": passed, **json.loads(done.stdout)}
                    )
    return rows


def run_and_measure(arguments: argparse.Namespace) -> dict[str, float]:
    """What a fresh process does; MiB of weights, of the peak, and of what the pass added."""
    import torch

    who, passed = arguments.peak_of
    device = arguments.device
    size, dtype = size_of(arguments.sizes[0], device), getattr(torch, arguments.dtypes[0])
    network = build(who, size, dtype, device)
    sample, text = inputs(size, dtype, device)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    loaded = peak_bytes(device)
    if passed == "forward":
        with torch.no_grad():
            if who == "ours":
                prepare(network, arguments)
                network(sample, TIMESTEP, network.text_context(text))
            else:
                network(torch.cat([sample] * 2), TIMESTEP, text)
    else:
        if passed == "checkpointing":
            network.enable_gradient_checkpointing()
        output = network(torch.cat([sample] * 2), TIMESTEP, text).sample
        output.float().square().mean().backward()
    peak = peak_bytes(device)
    return {
        name: value / 2**20
        for name, value in (("weights", weights), ("peak", peak), ("added", peak - loaded))
    }


def print_tables(results: dict[str, Any]) -> None:
    """Markdown of what was measured."""
    from videogen.evaluation import markdown_table

    peaks = results["peak_flops"]
    shown = ", ".join(f"{dtype} {peak / 1e9:,.0f}" for dtype, peak in peaks.items())
    print(f"{results['device']}, {results['threads']} threads. Peak of a matrix product, GFLOP/s: {shown}.\n")
    rows, loops = [], []
    for row in results["timings"]:
        peer, ours = (median(row["seconds"][who]) for who in ("peer", "ours"))
        head = [row["size"], row["dtype"]]
        times = [f"{peer:.4f}", f"{ours:.4f}", f"{ours / peer:.2f}"]
        if row["what"] == "loop":
            loops.append([*head, row["cache"], *times, f"{row['psnr']:.1f}", f"{row['difference']:.1e}"])
            continue
        shares = [f"{row['flops'] / seconds / peaks[row['dtype']]:.0%}" for seconds in (peer, ours)]
        beside = [f"{row['difference']:.1e}"]
        beside.append(f"{row['gradient_difference']:.1e}" if "gradient_difference" in row else "")
        beside.append(" / ".join(f"{error:.1e}" for error in row.get("to_float32", {}).values()))
        rows.append([*head, row["what"], *times, *beside, f"{row['flops'] / 1e9:,.1f}", *shares])
    unit = f"s, median of {results['repeats']}"
    if rows:
        header = ["size", "dtype", "pass", f"peer, {unit}", "ours", "ours / peer", "max difference"]
        header += [
            "of gradients, relative",
            "to float32: peer / ours",
            "GFLOP",
            "peer, of peak",
            "ours, of peak",
        ]
        print(markdown_table(header, rows), end="\n\n")
    if loops:
        header = ["size", "dtype", "step cache", f"peer, {unit}", "ours", "ours / peer", "latents, dB", "max"]
        print(f"Loop of {results['steps']} steps; without a cache the latents are held against the peer's,")
        print("with one against ours without.\n")
        print(markdown_table(header, loops), end="\n\n")
    memory = [
        [row["size"], row["dtype"], row["pass"], row["who"]]
        + [f"{row[part]:,.0f}" for part in ("weights", "added", "peak")]
        for row in results["memory"]
    ]
    if memory:
        header = ["size", "dtype", "pass", "network", "weights, MiB", "added by the pass", "peak"]
        print(markdown_table(header, memory))


if __name__ == "__main__":
    main()
