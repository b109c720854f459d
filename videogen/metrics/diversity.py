"""Whether one prompt gives different clips, and whether clips are copies of training clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videogen.data.batch import ClipSource
from videogen.metrics.features import BATCH_SIZE, ClipFeatures, FeatureExtractor, extract_features
from videogen.metrics.intervals import MeanInterval, bootstrap_mean


@dataclass(frozen=True)
class NearestTrainingClips:
    """For each clip the training clip that is nearest to it in features.

    Attributes:
        distances: `(n,)` Euclidean.
        sample_ids: `(n,)` int64, where that clip stands in the training stream.
        num_training_clips: How many were looked at.
        network: Name of the feature network.
        weights_hash: Of its weights.
    """

    distances: Tensor
    sample_ids: Tensor
    num_training_clips: int
    network: str
    weights_hash: str


def prompt_diversity(features: Sequence[ClipFeatures]) -> MeanInterval:
    """Mean distance between two clips of one prompt, over prompts; 0 if a prompt always gives the same clip.

    Euclidean distance of features, mean over all pairs of a prompt's clips, then over prompts; the interval
    is the bootstrap over prompts.

    Args:
        features: For each prompt the features of its clips, made from different seeds; at least 2 clips each.

    Raises:
        ValueError: If there are no prompts, one has under 2 clips, or they are not comparable.
    """
    if not features:
        raise ValueError("`features` is empty: there is nothing to measure")
    for number, item in enumerate(features):
        features[0].check_comparable(item)
        if len(item) < 2:
            raise ValueError(
                f"`features` must hold at least 2 clips a prompt, got {len(item)} for prompt {number}"
            )
    return bootstrap_mean([float(torch.pdist(item.values).mean()) for item in features])


def nearest_training_clips(
    features: ClipFeatures,
    source: ClipSource,
    num_training_clips: int,
    extractor: FeatureExtractor,
    *,
    start: int = 0,
) -> NearestTrainingClips:
    """Look for copies of training clips.

    What distance is small? Hold those of generated clips against those of real clips that were not trained
    on: a model that copies has the smaller ones.

    Args:
        features: Of the clips that are judged, made by `extractor`.
        source: The training stream.
        num_training_clips: How many of its clips to look at.
        extractor: The network.
        start: Position of the first of them.

    Raises:
        ValueError: If `num_training_clips` is below 1, or the training clips are not comparable.
    """
    if num_training_clips < 1:
        raise ValueError(f"`num_training_clips` must be at least 1, got {num_training_clips}")
    distances = torch.full((len(features),), torch.inf, dtype=torch.float64)
    nearest = torch.full((len(features),), -1)
    for first in range(start, start + num_training_clips, BATCH_SIZE):
        sample_ids = range(first, min(first + BATCH_SIZE, start + num_training_clips))
        training = extract_features(source.batch(sample_ids).pixels, extractor)
        features.check_comparable(training)
        # Not through a matrix product, whose rounding would give copies a distance.
        each = torch.cdist(features.values, training.values, compute_mode="donot_use_mm_for_euclid_dist")
        closest, idxs = each.min(1)
        nearest = torch.where(closest < distances, torch.tensor(sample_ids)[idxs], nearest)
        distances = torch.minimum(distances, closest)
    return NearestTrainingClips(
        distances, nearest, num_training_clips, extractor.name, extractor.weights_hash
    )
