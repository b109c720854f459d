"""Measures how exact a codec is on materials that it was not trained on, and what it makes of wrong latents.

    videogen prepare FOLDER --out DATASET --pixels        # footage, cut to clips of 64x64
    python benchmarks/codec_materials.py --codec FOLDER --artwork FOLDER --footage signing=DATASET

Materials are the world `shapes` (a stream that no recipe uses), the subjects of the world `emoji` that are
held out of training, dead leaves (a stream that no recipe uses), and prepared datasets of footage. For each:

- PSNR in dB of whole clips, decoded pixels clamped to [-1, 1]: the mean over clips with its 95 % bootstrap
  interval, which takes clips as independent (those of one video are not: it is then too narrow), and the
  PSNR of the mean squared error over all clips, which the worst clips weigh down.
- The largest latent, in deviations, and the largest decoded pixel after the latents were multiplied by 1,
  1.5, 3 and 100, as too high a guidance or a broken sampler does; with the PSNR at 1.5.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.pixels import frames_to_pixels
from videogen.data.emoji.artwork import load_artwork
from videogen.data.emoji.render import render
from videogen.data.emoji.world import HELD_OUT_EVERY_SUBJECT, SIZES, EmojiWorld
from videogen.data.footage.dataset import load_dataset
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.world import MOTIONS
from videogen.data.textures.dataset import DeadLeaves
from videogen.evaluation import UNSEEN_STREAM, markdown_table
from videogen.metrics.intervals import bootstrap_mean
from videogen.metrics.reconstruction import psnr
from videogen.models.weights_hash import weights_hash
from videogen.pipelines.loading import EMBEDDED

SCALES = (1.0, 1.5, 3.0, 100.0)
NUM_FRAMES, SIZE = 16, 64
_BATCH_SIZE = 8


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codec", type=Path, help="folder of a codec; the embedded one by default")
    parser.add_argument(
        "--artwork", type=Path, help="folder of the world emoji, which is left out without it"
    )
    parser.add_argument("--footage", nargs="*", default=[], metavar="NAME=DATASET")
    parser.add_argument("--num-clips", type=int, default=96, help="at most, of each material")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()

    codec = VideoAutoencoder.from_pretrained(arguments.codec or EMBEDDED / "vae").eval()
    materials = {
        "shapes": stream_clips(ShapesClips(seed=UNSEEN_STREAM), arguments.num_clips),
        "dead leaves": stream_clips(
            DeadLeaves(NUM_FRAMES, SIZE, seed=UNSEEN_STREAM), arguments.num_clips, stride=97
        ),
    }
    if arguments.artwork:
        materials["emoji"] = emoji_clips(arguments.artwork, arguments.num_clips)
    for given in arguments.footage:
        name, _, folder = given.partition("=")
        materials[name] = footage_clips(Path(folder), arguments.num_clips)

    hash_of_weights = weights_hash(codec)
    per_time, per_space = codec.compression
    ratio = 3 * per_time * per_space**2 / codec.config["latent_channels"]
    print(f"weights {hash_of_weights}, {ratio:g} values to one\n")
    results = {name: measure(codec, batches) for name, batches in materials.items()}
    header = ["material", "clips", "PSNR, mean [95 %]", "of the mean error", "largest latent", "PSNR at 1.5"]
    header += [f"largest pixel at {scale:g}" for scale in SCALES]
    rows = [
        [name, str(result["num_clips"]), f"{result['mean']:.2f} [{result['low']:.2f}, {result['high']:.2f}]"]
        + [f"{result['psnr_of_mean_error']:.2f}", f"{result['largest_latent']:.1f}"]
        + [f"{result['psnr_at_1.5']:.2f}"]
        + [f"{result['largest_pixel'][f'{scale:g}']:.3g}" for scale in SCALES]
        for name, result in results.items()
    ]
    print(markdown_table(header, rows))
    if arguments.out:
        content = {"weights": hash_of_weights, "compression": ratio, "materials": results}
        arguments.out.write_text(json.dumps(content, indent=2))


def stream_clips(source: ShapesClips | DeadLeaves, num_clips: int, stride: int = 1) -> Iterator[Tensor]:
    """Batches `(B, 3, F, H, W)` of a stream; with a stride, so that few clips are of one canvas."""
    for first in range(0, num_clips, _BATCH_SIZE):
        last = min(first + _BATCH_SIZE, num_clips)
        yield source.batch([stride * idx for idx in range(first, last)]).pixels


def emoji_clips(folder: Path, num_clips: int) -> Iterator[Tensor]:
    """Batches `(B, 3, F, H, W)` of the held-out subjects, each in turn, in any size and motion."""
    artwork = load_artwork(folder)
    world = EmojiWorld(artwork)
    names = [subject.name for subject in artwork.subjects[::HELD_OUT_EVERY_SUBJECT]]
    rng = Random("codec benchmark")
    scenes = [
        world.scene_of(
            (world.object_of(names[idx % len(names)], rng.choice(tuple(SIZES)), rng.choice(MOTIONS)),), idx
        )
        for idx in range(num_clips)
    ]
    for first in range(0, num_clips, _BATCH_SIZE):
        yield render(scenes[first : first + _BATCH_SIZE], artwork, SIZE).pixels


def footage_clips(folder: Path, num_clips: int) -> Iterator[Tensor]:
    """Single clips `(1, 3, F, H, W)` of a prepared dataset, spread evenly over it."""
    dataset = load_dataset(folder)
    dataset.check_pixels()
    step = max(1, len(dataset.clips) // num_clips)
    for idx in range(0, len(dataset.clips), step)[:num_clips]:
        yield frames_to_pixels(dataset.frames(idx)[None])


@torch.no_grad()
def measure(codec: VideoAutoencoder, batches: Iterator[Tensor]) -> dict[str, Any]:
    """What the module's docstring says, of one material."""
    values: dict[float, list[float]] = {1.0: [], 1.5: []}
    pixel, latent = dict.fromkeys(SCALES, 0.0), 0.0
    for pixels in batches:
        latents = codec.encode(pixels)
        latent = max(latent, latents.abs().max().item())
        for scale in SCALES:
            decoded = codec.decode(scale * latents)
            pixel[scale] = max(pixel[scale], decoded.abs().max().item())
            if scale in values:
                values[scale] += psnr(decoded.clamp(-1, 1), pixels).tolist()
    interval = bootstrap_mean(values[1.0])
    return {
        "num_clips": interval.num_values,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "psnr_of_mean_error": of_mean_error(values[1.0]),
        "psnr_at_1.5": sum(values[1.5]) / len(values[1.5]),
        "largest_latent": latent,
        "largest_pixel": {f"{scale:g}": size for scale, size in pixel.items()},
    }


def of_mean_error(values: Sequence[float]) -> float:
    """PSNR in dB of the mean squared error of clips with these PSNRs."""
    return -10 * math.log10(sum(10 ** (-value / 10) for value in values) / len(values))


if __name__ == "__main__":
    main()
