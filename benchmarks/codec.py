"""Measures the codec: how exact it is on unseen clips, and what decoding as a stream changes and saves.

    python benchmarks/codec.py --model FOLDER --out codec.json

- PSNR in dB of unseen clips (the mean squared error of a whole clip, decoded pixels clamped to [-1, 1]),
  with a bootstrap interval of the mean.
- The largest difference between a full and a streaming decode of the same latents, in units of [-1, 1].
- Peak memory of a process that only decodes, full and streaming, by the number of frames. Every figure
  comes from a fresh process: the peak is what the kernel counted (`ru_maxrss`), "over the model" is what
  decoding added to it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

# A process starts with the peak of the one that made it. Nothing heavy is imported at the top, and memory is
# measured first, so that this one's peak stays below what is measured.

MODES = ("full", "streaming")


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder of a pipeline; the embedded one by default")
    parser.add_argument("--num-clips", type=int, default=256)
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[16, 64, 256], help="clip lengths for memory"
    )
    parser.add_argument("--size", type=int, default=128, help="side of the frames in pixels, for memory")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--peak-of", choices=MODES, help=argparse.SUPPRESS)  # how this script calls itself
    arguments = parser.parse_args()
    if arguments.peak_of:
        print(
            json.dumps(
                decode_and_measure(arguments.model, arguments.peak_of, arguments.frames[0], arguments.size)
            )
        )
        return

    memory = {
        f"{mode} {num_frames}": peak_memory(arguments.model, mode, num_frames, arguments.size)
        for num_frames in arguments.frames
        for mode in MODES
    }
    quality = measure_quality(arguments.model, arguments.num_clips)
    print_tables(quality, memory, arguments.frames)
    if arguments.out:
        arguments.out.write_text(json.dumps({"quality": quality, "memory_mib": memory}, indent=2))


def peak_memory(model: str | None, mode: str, num_frames: int, size: int) -> dict[str, float]:
    """MiB of a fresh process that decodes one clip: its peak, and how much of it came after loading."""
    command = [sys.executable, __file__, "--peak-of", mode, "--frames", str(num_frames), "--size", str(size)]
    command += ["--model", model] if model else []
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def decode_and_measure(model: str | None, mode: str, num_frames: int, size: int) -> dict[str, float]:
    """What the fresh process does; the chunks of a stream are dropped one by one."""
    import torch

    from videogen.pipelines.loading import load_generator
    from videogen.sampling.noise import sample_noise, seeded_generator

    vae = load_generator(model).vae
    per_time, per_space = vae.compression
    shape = (vae.config["latent_channels"], num_frames // per_time, size // per_space, size // per_space)
    latents = sample_noise(shape, [seeded_generator(0)])
    with torch.no_grad():
        vae.decode(latents[:, :, :1])  # what the first call loads and keeps belongs to the model
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if mode == "full":
            vae.decode(latents)
        else:
            for _ in vae.iter_decode(latents):
                pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return {"peak": peak / unit, "over_model": (peak - loaded) / unit}


def measure_quality(model: str | None, num_clips: int) -> dict[str, Any]:
    """PSNR of unseen clips, and how far a streaming decode is from a full one."""
    import torch

    from videogen.evaluation import codec_psnr
    from videogen.metrics.intervals import bootstrap_mean
    from videogen.pipelines.loading import load_generator
    from videogen.sampling.noise import sample_noise, seeded_generator

    vae = load_generator(model).vae
    values = codec_psnr(vae, num_clips).tolist()
    interval = bootstrap_mean(values)
    latents = sample_noise(
        (vae.config["latent_channels"], 4, 8, 8), [seeded_generator(0), seeded_generator(1)]
    )
    with torch.no_grad():
        difference = (torch.cat(list(vae.iter_decode(latents)), dim=2) - vae.decode(latents)).abs().max()
    return {
        "num_clips": num_clips,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "median": median(values),
        "min": min(values),
        "streaming_difference": difference.item(),
    }


def print_tables(quality: dict[str, Any], memory: dict[str, dict[str, float]], frames: Sequence[int]) -> None:
    """Markdown of what was measured."""
    from videogen.evaluation import markdown_table

    rows = [
        [
            "PSNR, mean [95 % interval]",
            f"{quality['mean']:.2f} [{quality['low']:.2f}, {quality['high']:.2f}] dB",
        ],
        ["PSNR, median", f"{quality['median']:.2f} dB"],
        ["PSNR, worst clip", f"{quality['min']:.2f} dB"],
        ["streaming and full decode differ by", f"{quality['streaming_difference']:.1e}"],
    ]
    print(markdown_table([f"codec, {quality['num_clips']} unseen clips", ""], rows), end="\n\n")
    rows = [
        [str(num_frames)]
        + [f"{memory[f'{mode} {num_frames}'][part]:.0f}" for part in ("peak", "over_model") for mode in MODES]
        for num_frames in frames
    ]
    header = ["frames", "full, MiB", "streaming, MiB", "full, over the model", "streaming, over the model"]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
