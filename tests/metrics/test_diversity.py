"""Diversity of a prompt's clips and copies of training clips, against brute force."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from videogen.data.shapes.dataset import ShapesClips
from videogen.metrics.diversity import nearest_training_clips, prompt_diversity
from videogen.metrics.features import ClipFeatures, FeatureExtractor, extract_features

SOURCE = ShapesClips(num_frames=4, size=16)
THUMBNAILS = FeatureExtractor("thumbnails", "", lambda pixels: pixels[..., ::4, ::4].flatten(1))


def make_features(num_clips: int, seed: int = 0) -> ClipFeatures:
    values = torch.randn(num_clips, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ClipFeatures(values, 4, 16, 16, "thumbnails", "")


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    sets = [make_features(4, 0), make_features(3, 1)]
    each = [np.mean([float((a - b).norm()) for a, b in combinations(item.values, 2)]) for item in sets]
    found = prompt_diversity(sets)
    assert found.mean == pytest.approx(np.mean(each)) and found.num_values == 2
    assert min(each) <= found.low <= found.high <= max(each)


def test_a_prompt_that_always_gives_the_same_clip_has_none() -> None:
    same = make_features(1)
    assert prompt_diversity([replace(same, values=same.values.repeat(5, 1))]).mean == 0


def test_copies_are_found_at_distance_zero() -> None:
    copies = SOURCE.batch([21, 3, 17]).pixels
    found = nearest_training_clips(extract_features(copies, THUMBNAILS), SOURCE, 30, THUMBNAILS)
    assert found.sample_ids.tolist() == [21, 3, 17]
    assert found.distances.tolist() == [0, 0, 0]
    assert found.num_training_clips == 30 and found.network == "thumbnails"


def test_the_nearest_clip_is_that_of_a_full_search() -> None:
    generated = ShapesClips(num_frames=4, size=16, seed=1).batch(range(5)).pixels
    training = SOURCE.batch(range(10, 50)).pixels
    gaps = THUMBNAILS.network(generated)[:, None] - THUMBNAILS.network(training)[None]
    distances = gaps.double().norm(dim=2)
    found = nearest_training_clips(extract_features(generated, THUMBNAILS), SOURCE, 40, THUMBNAILS, start=10)
    torch.testing.assert_close(found.distances, distances.min(1).values, rtol=1e-6, atol=0)
    assert found.sample_ids.tolist() == (10 + distances.argmin(1)).tolist()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`features` is empty"):
        prompt_diversity([])
    with pytest.raises(ValueError, match="at least 2 clips a prompt, got 1 for prompt 1"):
        prompt_diversity([make_features(2), make_features(1)])
    with pytest.raises(ValueError, match="`num_training_clips`"):
        nearest_training_clips(make_features(2), SOURCE, 0, THUMBNAILS)
    with pytest.raises(ValueError, match="must have one"):
        nearest_training_clips(replace(make_features(2), width=32), SOURCE, 2, THUMBNAILS)
