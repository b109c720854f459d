"""Measures how many prompts in natural English a text encoder for open words understands, without a clip.

    python benchmarks/paraphrases.py runs/open_text/result

A prompt is understood if the number of objects is right, and of every object and the background all that the
prompt says of them; `and no more` counts those where nothing is read that is not said, besides. Each line of
the file is an object: `prompt`, `typo` (the same with typing errors), `objects` with `colour`, `shape`,
`size` and `motion`, and `background`; null is not said.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from videogen.metrics.intervals import wilson_interval
from videogen.text.open_encoder import OpenTextEncoder, ReadPrompt

PARAPHRASES = Path(__file__).resolve().parents[1] / "tests" / "text" / "paraphrases.jsonl"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoder", type=Path, help="folder of a trained text encoder")
    parser.add_argument("--prompts", type=Path, default=PARAPHRASES, help="JSON Lines file")
    parser.add_argument("--show", action="store_true", help="print what is misunderstood")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.prompts.read_text(encoding="utf-8").splitlines()]
    encoder = OpenTextEncoder.from_pretrained(arguments.encoder, torch_dtype=torch.float32).eval()
    for path in sorted(arguments.encoder.glob("*.safetensors")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, SHA-256 {digest}")
    for name in ("prompt", "typo"):
        if all(name in row for row in rows):
            measure(encoder, rows, name, show=arguments.show)
    seconds = []
    for row in rows:
        start = time.perf_counter()
        encoder.encode([row["prompt"]])
        seconds.append(time.perf_counter() - start)
    print(f"encoding a prompt: {1000 * sorted(seconds)[len(seconds) // 2]:.1f} ms (median)")


def measure(encoder: OpenTextEncoder, rows: list[dict[str, Any]], name: str, *, show: bool) -> None:
    """Print how many of the prompts under a name are understood, and what of the others is not."""
    wrong: Counter[str] = Counter()
    misread: list[Counter[str]] = []
    num_strict = 0
    for row, read in zip(rows, encoder.read([row[name] for row in rows]), strict=True):
        said = errors(row, read)
        misread.append(said)
        wrong.update(said.keys())
        num_strict += not said and not errors(row, read, strict=True)
        if show and said:
            print(f"  {', '.join(said)}: {row[name]}\n    {read}")
    total = len(rows)
    print(f"{name}: understood {total - sum(map(bool, misread))} of {total}, "
          f"{wilson_interval(total - sum(map(bool, misread)), total)}; "
          f"and no more {num_strict}, {wilson_interval(num_strict, total)}")  # fmt: skip
    print("  wrong in prompts: " + ", ".join(f"{what} {count}" for what, count in wrong.most_common()))


def errors(row: dict[str, Any], read: ReadPrompt, *, strict: bool = False) -> Counter[str]:
    """What is misread, by attribute: of all that is said or, with `strict`, of all attributes."""
    found: Counter[str] = Counter()
    if len(row["objects"]) != len(read.objects):
        found["number of objects"] += 1
    for item, answer in zip(row["objects"], read.objects, strict=False):
        answers = {
            "colour": answer.colour,
            "shape": answer.thing,
            "size": answer.size,
            "motion": answer.motion,
        }
        for attribute, value in answers.items():
            found[attribute] += item[attribute] != value and (strict or item[attribute] is not None)
    found["background"] += row["background"] != read.background and (strict or row["background"] is not None)
    return +found


if __name__ == "__main__":
    main()
