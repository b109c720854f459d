"""Measures how many clips of the world `emoji` are composed in a second.

    OMP_NUM_THREADS=1 python benchmarks/emoji.py ARTWORK --out emoji.json

Clips of 16 frames of 64x64 with their captions, as a training run asks for them, after all subjects have
been decoded; the best of several rounds, and the rate of the same rounds for the world `shapes`. A second is
one on the clock and, for one thread on a machine that others use too, one of the processor. Decoding is
measured by itself.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from videogen.data.batch import ClipSource
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.render import level_sides
from videogen.data.shapes.dataset import ShapesClips


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artwork", type=Path, help="folder of the artwork")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-batches", type=int, default=10, help="batches of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    args = parser.parse_args()
    torch.set_num_threads(args.num_threads)

    clips = EmojiClips(args.artwork)
    artwork = clips.world.artwork
    start = time.perf_counter()
    artwork.levels(level_sides(clips.size)).pixels(range(len(artwork)), args.device)
    for idx in range(len(artwork)):
        artwork.extent(idx)
    results: dict[str, float] = {"seconds to decode all subjects": time.perf_counter() - start}

    sources: dict[str, ClipSource] = {
        "emoji": clips,
        "emoji, one subject": replace(clips, two_object_rate=0.0),
        "emoji, two objects": replace(clips, two_object_rate=1.0),
        "shapes": ShapesClips(),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for round_idx in range(args.rounds + 1):
        for name, source in sources.items():
            starts = time.perf_counter(), time.process_time()
            for batch_idx in range(args.num_batches):
                first = (round_idx * args.num_batches + batch_idx) * args.batch_size
                pixels = source.batch(range(first, first + args.batch_size), args.device).pixels
            if "cuda" in args.device:
                torch.cuda.synchronize()
            if round_idx:  # the first one warms up
                seconds[name].append((time.perf_counter() - starts[0], time.process_time() - starts[1]))
    assert pixels.shape[1:] == (3, 16, 64, 64)
    num_clips = args.num_batches * args.batch_size
    for name, values in seconds.items():
        for unit, taken in zip(("second", "CPU second"), zip(*values, strict=True), strict=True):
            results[f"{name}: clips a {unit}"] = num_clips / min(taken)
    for name, value in results.items():
        print(f"{name:40} {value:8.1f}")
    if args.out:
        args.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
