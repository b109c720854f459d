"""Measures the metrics: what the feature network sees, and how distances grow as clips are spoilt.

    python benchmarks/metrics.py --out metrics.json

- Accuracy of each classifier of the feature network on clips it has not seen (another seed), and on clips of
  combinations that were held out of training, with Wilson intervals; of the damage, on clips that are damaged
  as in training.
- Fréchet and kernel distance between one set of rendered clips and another, of which one is spoilt by degrees
  (`videogen.metrics.damage`); "none" is the distance between two sets of real clips. Noise, blur and warp
  belong to what the network was trained to name, freeze and shuffle do not.
- Fréchet distance between two sets of real clips by their number: the bias of small sets.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.labels import CLASSES, LabelledShapes, labels_of
from videogen.data.shapes.render import render
from videogen.data.shapes.world import SHAPES_WORLD
from videogen.evaluation import markdown_table
from videogen.metrics.damage import DAMAGES, damage
from videogen.metrics.feature_network import (
    EMBEDDED_FEATURES,
    FeatureNetwork,
    load_feature_extractor,
    load_feature_network,
)
from videogen.metrics.features import ClipFeatures, FeatureExtractor, extract_features, source_clips
from videogen.metrics.intervals import Proportion, wilson_interval
from videogen.metrics.video_distance import VideoDistance, frechet_video_distance, kernel_video_distance
from videogen.sampling.noise import seeded_generator
from videogen.train.objectives.features import DAMAGE, FeatureObjective, FeatureObjectiveConfig

UNSEEN_STREAM, REFERENCE_STREAM, SPOILT_STREAM = 1, 2, 3
BATCH_SIZE = 32


def main() -> None:
    """Measure, print tables, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=Path, default=EMBEDDED_FEATURES, help="folder of the network")
    parser.add_argument("--num-clips", type=int, default=400, help="for each accuracy and each distance")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1.0])
    parser.add_argument("--counts", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()

    network = load_feature_network(arguments.features)
    accuracy = {
        "unseen clips": measure_accuracy(network, unseen_batches(arguments.num_clips)),
        "held-out combinations": measure_accuracy(network, held_out_batches(arguments.num_clips)),
    }
    accuracy["unseen clips"][DAMAGE] = measure_damage_accuracy(network, arguments.num_clips)
    print_accuracy(accuracy)
    extractor = load_feature_extractor(arguments.features)
    reference = real_features(REFERENCE_STREAM, arguments.num_clips, extractor)
    distances = measure_distances(reference, extractor, arguments.strengths, arguments.num_clips)
    print_distances(distances, arguments.strengths)
    by_count = measure_bias(reference, extractor, arguments.counts)
    print_bias(by_count)
    if arguments.out:
        results = {
            "accuracy": {
                kind: {name: asdict(share) for name, share in of.items()} for kind, of in accuracy.items()
            },
            "distances": {
                name: [[asdict(one) for one in pair] for pair in row] for name, row in distances.items()
            },
            "by_count": {str(count): [asdict(one) for one in pair] for count, pair in by_count.items()},
        }
        arguments.out.write_text(json.dumps(results, indent=2))


def unseen_batches(num_clips: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels and labels of clips of another seed."""
    source = LabelledShapes(ShapesClips(seed=UNSEEN_STREAM, two_object_rate=0.0))
    for first in range(0, num_clips, BATCH_SIZE):
        batch = source.batch(range(first, min(first + BATCH_SIZE, num_clips)))
        assert batch.labels is not None
        yield batch.pixels, batch.labels


def held_out_batches(num_clips: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same of combinations that training never shows."""
    rng = Random("held out")
    objects = [rng.choice(SHAPES_WORLD.objects(held_out=True)) for _ in range(num_clips)]
    for first in range(0, num_clips, BATCH_SIZE):
        scenes = [
            SHAPES_WORLD.scene_of((item,), seed=first + number)
            for number, item in enumerate(objects[first : first + BATCH_SIZE])
        ]
        yield render(scenes), torch.tensor([labels_of(scene) for scene in scenes])


@torch.no_grad()
def measure_accuracy(
    network: FeatureNetwork, batches: Iterator[tuple[Tensor, Tensor]]
) -> dict[str, Proportion]:
    """Share of clips of which each attribute is named right."""
    right: Counter[str] = Counter()
    total = 0
    for pixels, labels in batches:
        logits = network.classify(network(pixels).features)
        for column, name in enumerate(CLASSES):
            right[name] += int((logits[name].argmax(1) == labels[:, column]).sum())
        total += len(pixels)
    return {name: wilson_interval(right[name], total) for name in CLASSES}


@torch.no_grad()
def measure_damage_accuracy(network: FeatureNetwork, num_clips: int) -> Proportion:
    """Share of unseen clips, half of them damaged, of which the damage is named right."""
    objective = FeatureObjective(network, FeatureObjectiveConfig(seed=UNSEEN_STREAM))
    source = LabelledShapes(ShapesClips(seed=UNSEEN_STREAM, two_object_rate=0.0))
    right = 0
    for first in range(0, num_clips, BATCH_SIZE):
        batch = source.batch(range(first, min(first + BATCH_SIZE, num_clips)))
        pixels, labels = objective.damaged(batch)
        right += int((network.classify(network(pixels).features)[DAMAGE].argmax(1) == labels).sum())
    return wilson_interval(right, num_clips)


def real_features(stream: int, num_clips: int, extractor: FeatureExtractor) -> ClipFeatures:
    """Features of rendered clips of one object."""
    return extract_features(source_clips(ShapesClips(seed=stream, two_object_rate=0.0), num_clips), extractor)


def measure_distances(
    reference: ClipFeatures, extractor: FeatureExtractor, strengths: list[float], num_clips: int
) -> dict[str, list[tuple[VideoDistance, VideoDistance]]]:
    """For each damage and strength, from 0 on, both distances of spoilt clips to real ones."""
    source = ShapesClips(seed=SPOILT_STREAM, two_object_rate=0.0)
    clean = both_distances(extract_features(source_clips(source, num_clips), extractor), reference)
    distances = {}
    for name in DAMAGES:
        row = [clean]
        for strength in strengths:
            spoilt = (
                damage(clip[None], name, strength, [seeded_generator(SPOILT_STREAM, number)])[0]
                for number, clip in enumerate(source_clips(source, num_clips))
            )
            row.append(both_distances(extract_features(spoilt, extractor), reference))
        distances[name] = row
    return distances


def measure_bias(
    reference: ClipFeatures, extractor: FeatureExtractor, counts: list[int]
) -> dict[int, tuple[VideoDistance, VideoDistance]]:
    """Both distances between two sets of real clips, by their number."""
    other = real_features(SPOILT_STREAM, len(reference), extractor)
    return {
        count: both_distances(
            replace(other, values=other.values[:count]), replace(reference, values=reference.values[:count])
        )
        for count in counts
    }


def both_distances(generated: ClipFeatures, reference: ClipFeatures) -> tuple[VideoDistance, VideoDistance]:
    """Fréchet and kernel distance."""
    return frechet_video_distance(generated, reference), kernel_video_distance(generated, reference)


def print_accuracy(accuracy: dict[str, dict[str, Any]]) -> None:
    """Markdown: one row for each classifier."""
    names = [*CLASSES, DAMAGE]
    rows = [[name, *(str(of.get(name, "")) for of in accuracy.values())] for name in names]
    print(markdown_table(["classifier", *accuracy], rows), end="\n\n", flush=True)


def print_distances(
    distances: dict[str, list[tuple[VideoDistance, VideoDistance]]], strengths: list[float]
) -> None:
    """Markdown: one row for each damage, one column for each strength."""
    header = ["damage", "none", *(f"{strength:g}" for strength in strengths)]
    for idx, metric in enumerate(("Fréchet", "kernel")):
        rows = [[name, *(str(pair[idx]) for pair in row)] for name, row in distances.items()]
        print(f"{metric} distance, {next(iter(distances.values()))[0][idx].protocol}:\n")
        print(markdown_table(header, rows), end="\n\n", flush=True)


def print_bias(by_count: dict[int, tuple[VideoDistance, VideoDistance]]) -> None:
    """Markdown: one row for each number of clips."""
    rows = [[str(count), str(frechet), str(kernel)] for count, (frechet, kernel) in by_count.items()]
    print(markdown_table(["real clips against as many", "Fréchet", "kernel"], rows))


if __name__ == "__main__":
    main()
