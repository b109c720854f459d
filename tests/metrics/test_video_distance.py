"""Fréchet and kernel distance, against closed forms and slow, independent computations."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from videogen.metrics.features import ClipFeatures
from videogen.metrics.video_distance import (
    cubic_kernel,
    frechet_video_distance,
    kernel_video_distance,
    squared_frechet,
)


def make_features(values: Tensor) -> ClipFeatures:
    return ClipFeatures(values.double(), 16, 64, 64, "test", "f" * 64)


def normal(num_clips: int, feature_dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_clips, feature_dim, generator=generator, dtype=torch.float64)


def with_moments(mean: Tensor, root: Tensor, num_clips: int, seed: int) -> Tensor:
    """A sample whose mean is exactly `mean` and whose covariance is exactly `rootᵀ root`."""
    sample = normal(num_clips, len(mean), seed)
    sample = sample - sample.mean(0)
    white = sample @ torch.linalg.inv(torch.linalg.cholesky(sample.T.cov())).T
    return white @ root + mean


def frechet_by_sqrtm(x: Tensor, y: Tensor) -> float:
    """The definition, through the root of a matrix that is not symmetric."""
    first, second = (np.atleast_2d(np.cov(values.numpy(), rowvar=False)) for values in (x, y))
    root = linalg.sqrtm(first @ second)
    mean = x.numpy().mean(0) - y.numpy().mean(0)
    return float(mean @ mean + np.trace(first + second - 2 * root.real))


def test_two_gaussians_that_commute() -> None:
    """With diagonal covariances the distance is that of the means plus that of the deviations."""
    x_std, y_std = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 1.0]).double()
    mean = torch.tensor([1.0, -2.0, 0.0]).double()
    x = with_moments(torch.zeros(3).double(), x_std.diag(), 50, seed=0)
    y = with_moments(mean, y_std.diag(), 80, seed=1)
    assert squared_frechet(x, y) == pytest.approx(5 + 4 + 0 + 0.25, abs=1e-10)


@pytest.mark.parametrize("feature_dim", [1, 5, 32])
def test_two_gaussians_against_the_root_of_a_matrix(feature_dim: int) -> None:
    x = normal(100, feature_dim, 0) @ normal(feature_dim, feature_dim, 1)
    y = normal(140, feature_dim, 2) @ normal(feature_dim, feature_dim, 3) + 0.5
    assert squared_frechet(x, y) == pytest.approx(frechet_by_sqrtm(x, y), rel=1e-6)


def test_covariances_without_full_rank() -> None:
    """Samples in different planes of a space of many dimensions, against the answer within the planes."""
    axes = torch.linalg.qr(normal(40, 40, 5)).Q
    x, y = normal(10, 2, 6) @ axes[:2], normal(12, 2, 7) @ axes[1:3]
    inside = squared_frechet(x @ axes[:3].T, y @ axes[:3].T)
    assert squared_frechet(x, y) == pytest.approx(inside, rel=1e-10)
    distance = frechet_video_distance(make_features(x), make_features(y), num_resamples=20)
    assert distance.value == pytest.approx(inside, rel=1e-10)
    assert "10 generated clips are too few for 40 features" in distance.warnings[0]
    assert "12 reference clips are too few for 40 features" in distance.warnings[1]


def test_directions_in_which_nothing_varies_are_named() -> None:
    x = normal(50, 6)
    flat = torch.cat([x[:, :4], x[:, :2]], dim=1)
    distance = frechet_video_distance(make_features(flat), make_features(x), num_resamples=5)
    assert distance.warnings == ("the features of 50 generated clips vary in 4 of 6 directions only",)


def test_identical_sets_are_at_distance_zero() -> None:
    features = make_features(1e3 * normal(30, 50) + 1e4)
    distance = frechet_video_distance(features, features, num_resamples=10)
    assert distance.value == pytest.approx(0, abs=1e-12 * 1e6 * 50)
    assert distance.low <= distance.value <= distance.high


def test_distances_do_not_depend_on_the_order_of_clips_or_sets() -> None:
    x, y = normal(20, 8, 0), normal(30, 8, 1) + 1
    for measure in (frechet_video_distance, kernel_video_distance):
        value = measure(make_features(x), make_features(y), num_resamples=2).value
        swapped = measure(make_features(y.flip(0)), make_features(x), num_resamples=2).value
        assert swapped == pytest.approx(value, rel=1e-10)


def test_kernel_distance_is_the_mean_over_pairs() -> None:
    x, y = normal(7, 4, 0), normal(9, 4, 1) + 0.3

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 4 + 1) ** 3

    within_x = np.mean([kernel(a, b) for a, b in permutations(x, 2)])
    within_y = np.mean([kernel(a, b) for a, b in permutations(y, 2)])
    between = np.mean([kernel(a, b) for a in x for b in y])
    value = kernel_video_distance(make_features(x), make_features(y), num_resamples=2).value
    assert value == pytest.approx(within_x + within_y - 2 * between, rel=1e-10)
    assert cubic_kernel(x, y)[2, 3] == pytest.approx(kernel(x[2], y[3]))


def test_kernel_distance_is_unbiased() -> None:
    """Over many pairs of samples of one distribution it is zero on average, at either number of clips."""
    for num_clips in (4, 16):
        values = [
            kernel_video_distance(
                make_features(normal(num_clips, 3, 2 * seed)),
                make_features(normal(num_clips, 3, 2 * seed + 1)),
                num_resamples=2,
            ).value
            for seed in range(400)
        ]
        error = np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values)) < 3 * error
        assert min(values) < 0


@pytest.mark.parametrize("measure", [frechet_video_distance, kernel_video_distance])
def test_the_interval_is_as_wide_as_values_scatter(measure) -> None:
    def draw(seed: int) -> tuple[ClipFeatures, ClipFeatures]:
        return make_features(normal(60, 3, 2 * seed)), make_features(normal(60, 3, 2 * seed + 1) + 0.5)

    scatter = np.std([measure(*draw(seed), num_resamples=2).value for seed in range(100)])
    widths = [
        (found.high - found.low) / (2 * 1.96)
        for found in (measure(*draw(seed), num_resamples=100) for seed in range(10))
    ]
    assert np.mean(widths) == pytest.approx(scatter, rel=0.35)


def test_the_result_says_what_it_depends_on() -> None:
    x, y = make_features(normal(10, 4)), make_features(normal(12, 4, 1))
    distance = frechet_video_distance(x, y, num_resamples=20)
    assert distance.protocol == "10 clips against 12, 16 frames of 64x64, 4 features of test (ffffffff)"
    assert distance.warnings == ()
    assert frechet_video_distance(x, y, num_resamples=20) == distance
    assert frechet_video_distance(x, y, num_resamples=20, seed=1).high != distance.high


def test_wrong_arguments_are_refused() -> None:
    features = make_features(normal(5, 4))
    with pytest.raises(ValueError, match="`reference` must hold at least 2 clips, got 1"):
        frechet_video_distance(features, make_features(normal(1, 4)))
    with pytest.raises(ValueError, match="`num_resamples`"):
        kernel_video_distance(features, features, num_resamples=1)
