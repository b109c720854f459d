"""How far one set of clips is from another: Fréchet and kernel distance between their features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from videogen.metrics.features import ClipFeatures

NUM_RESAMPLES = 200
CONFIDENCE = 0.95


@dataclass(frozen=True)
class VideoDistance:
    """A distance between two sets of clips, with all that it depends on.

    Attributes:
        metric: `Fréchet video distance` or `kernel video distance`.
        value: The distance; 0 is best. The kernel distance is unbiased, and so may come out below zero.
        low: Lower end of the 95 % bootstrap interval: how much the value would change with other clips.
        high: Upper end.
        num_generated: Clips of the set that is judged.
        num_reference: Clips of the set it is held against.
        num_frames: Of every clip.
        height: Of every frame, in pixels.
        width: Of every frame, in pixels.
        network: Name of the feature network.
        weights_hash: Of its weights.
        feature_dim: Number of its features.
        warnings: What makes the value less trustworthy, in words; empty if nothing does.
    """

    metric: str
    value: float
    low: float
    high: float
    num_generated: int
    num_reference: int
    num_frames: int
    height: int
    width: int
    network: str
    weights_hash: str
    feature_dim: int
    warnings: tuple[str, ...]

    @property
    def protocol(self) -> str:
        """In a line, what another value has to share to be comparable."""
        return (
            f"{self.num_generated} clips against {self.num_reference}, {self.num_frames} frames of "
            f"{self.width}x{self.height}, {self.feature_dim} features of {self.network} "
            f"({self.weights_hash[:8]})"
        )

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def frechet_video_distance(
    generated: ClipFeatures, reference: ClipFeatures, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> VideoDistance:
    """The squared Fréchet distance of two Gaussians fitted to the features (Dowson and Landau 1982, eq. 4).

    `|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)`, as in "FVD" (Unterthiner et al. 2018, arXiv:1812.01717). With
    few clips the value is too large, by an amount that depends on their number: compare only equal numbers.

    The bootstrap is centred on the value: resampling shows how much a distance scatters, but shifts it up as
    a smaller sample would.

    Args:
        generated: The set that is judged, at least 2 clips.
        reference: The set it is held against, at least 2 clips.
        num_resamples: How often both sets are drawn anew with replacement.
        seed: Of these draws.

    Raises:
        ValueError: If the sets are not comparable or too small, or `num_resamples` is below 2.
    """
    _check_sets(generated, reference, num_resamples)
    x, y = generated.values, reference.values
    value = squared_frechet(x, y)
    rng = np.random.default_rng(seed)
    draws = [squared_frechet(x[_draw(rng, len(x))], y[_draw(rng, len(y))]) for _ in range(num_resamples)]
    low, high = _quantiles(np.array(draws) - np.mean(draws) + value)
    warnings = _too_few(generated, reference, "their covariance has no full rank, and the value is too large")
    warnings += _flat(generated, reference)
    return _distance("Fréchet video distance", (value, max(low, 0.0), high), generated, reference, warnings)


def kernel_video_distance(
    generated: ClipFeatures, reference: ClipFeatures, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> VideoDistance:
    """The squared maximum mean discrepancy with the kernel `(x·y / D + 1)³`, its unbiased estimate.

    As in "KID" (Bińkowski et al. 2018, arXiv:1801.01401, section 4; the estimate is eq. 3 of Gretton et al.
    2012, JMLR 13). Its expectation does not depend on the number of clips.

    In the bootstrap a clip that is drawn twice is not paired with its own copy, which would bias it.

    Args:
        generated: The set that is judged, at least 2 clips.
        reference: The set it is held against, at least 2 clips.
        num_resamples: How often both sets are drawn anew with replacement.
        seed: Of these draws.

    Raises:
        ValueError: If the sets are not comparable or too small, or `num_resamples` is below 2.
    """
    _check_sets(generated, reference, num_resamples)
    x, y = generated.values, reference.values
    kernels = cubic_kernel(x, x), cubic_kernel(y, y), cubic_kernel(x, y)
    value = _weighted_discrepancy(*kernels, torch.ones(len(x)).double(), torch.ones(len(y)).double())
    rng = np.random.default_rng(seed)
    draws = [
        _weighted_discrepancy(*kernels, _counts(rng, len(x)), _counts(rng, len(y)))
        for _ in range(num_resamples)
    ]
    warnings = _too_few(generated, reference, "the value is unbiased, but scatters as its interval says")
    return _distance(
        "kernel video distance", (value, *_quantiles(np.array(draws))), generated, reference, warnings
    )


def squared_frechet(x: Tensor, y: Tensor) -> float:
    """The squared Fréchet distance of Gaussians fitted to two samples, `(n, D)` and `(m, D)` float64.

    The trace of `(C1 C2)^½` is the sum of the roots of the eigenvalues of the symmetric `C1^½ C2 C1^½`. With
    triangular factors `C = RᵀR`, taken from the samples by a QR decomposition, these are the singular values
    of `R1 R2ᵀ`: no covariance is formed, nothing is squared and rooted again, and covariances without full
    rank need no regularisation.
    """
    difference = x.mean(0) - y.mean(0)
    first, second = _factor(x), _factor(y)
    overlap = torch.linalg.svdvals(first @ second.T).sum()
    total = difference.square().sum() + first.square().sum() + second.square().sum() - 2 * overlap
    return max(0.0, float(total))


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """`(x·y / D + 1)³` of every pair, `(n, m)`."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _factor(x: Tensor) -> Tensor:
    """`(min(n, D), D)`: R with `RᵀR` the covariance of a sample `(n, D)`."""
    return torch.linalg.qr((x - x.mean(0)) / math.sqrt(len(x) - 1), mode="r").R


def _weighted_discrepancy(
    within_x: Tensor, within_y: Tensor, between: Tensor, x_counts: Tensor, y_counts: Tensor
) -> float:
    """The unbiased estimate over samples in which clip i occurs `counts[i]` times."""
    return (
        _mean_of_pairs(within_x, x_counts)
        + _mean_of_pairs(within_y, y_counts)
        - 2 * float(x_counts @ between @ y_counts / (x_counts.sum() * y_counts.sum()))
    )


def _mean_of_pairs(kernel: Tensor, counts: Tensor) -> float:
    """Mean over all pairs of different clips."""
    squares = counts.square()
    return float(
        (counts @ kernel @ counts - squares @ kernel.diagonal()) / (counts.sum() ** 2 - squares.sum())
    )


def _draw(rng: np.random.Generator, count: int) -> Tensor:
    """As many indices with replacement, at least two of them different."""
    while True:
        idxs = rng.integers(0, count, count)
        if (idxs != idxs[0]).any():
            return torch.from_numpy(idxs)


def _counts(rng: np.random.Generator, count: int) -> Tensor:
    """How often each of as many clips is drawn, `(count,)` float64."""
    return _draw(rng, count).bincount(minlength=count).double()


def _quantiles(draws: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]).tolist()
    return low, high


def _check_sets(generated: ClipFeatures, reference: ClipFeatures, num_resamples: int) -> None:
    generated.check_comparable(reference)
    for name, features in (("generated", generated), ("reference", reference)):
        if len(features) < 2:
            raise ValueError(f"`{name}` must hold at least 2 clips, got {len(features)}")
    if num_resamples < 2:
        raise ValueError(f"`num_resamples` must be at least 2, got {num_resamples}")


def _distance(
    metric: str,
    value: tuple[float, float, float],
    generated: ClipFeatures,
    reference: ClipFeatures,
    warnings: tuple[str, ...],
) -> VideoDistance:
    return VideoDistance(
        metric,
        *value,
        num_generated=len(generated),
        num_reference=len(reference),
        num_frames=generated.num_frames,
        height=generated.height,
        width=generated.width,
        network=generated.network,
        weights_hash=generated.weights_hash,
        feature_dim=generated.values.shape[1],
        warnings=warnings,
    )


def _too_few(generated: ClipFeatures, reference: ClipFeatures, consequence: str) -> tuple[str, ...]:
    return tuple(
        f"{len(features)} {name} clips are too few for {features.values.shape[1]} features: {consequence}"
        for name, features in (("generated", generated), ("reference", reference))
        if len(features) <= features.values.shape[1]
    )


def _flat(generated: ClipFeatures, reference: ClipFeatures) -> tuple[str, ...]:
    """Warnings of sets with clips enough that fill fewer directions than there are features."""
    warnings = []
    for name, features in (("generated", generated), ("reference", reference)):
        num_clips, feature_dim = features.values.shape
        rank = int(torch.linalg.matrix_rank(_factor(features.values)))
        if rank < feature_dim < num_clips:
            warnings.append(
                f"the features of {num_clips} {name} clips vary in {rank} of {feature_dim} directions only"
            )
    return tuple(warnings)
