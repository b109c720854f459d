"""How far a measured share or mean can be trusted: confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Proportion:
    """How often something was so, with a confidence interval.

    Attributes:
        successes: How often.
        total: Out of how many independent trials.
        low: Lower end of the interval, in [0, 1].
        high: Upper end.
    """

    successes: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The measured share, in [0, 1]."""
        return self.successes / self.total

    def __str__(self) -> str:
        return f"{self.share:.1%} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class MeanInterval:
    """A mean with a confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    num_values: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> Proportion:
    """The score interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212).

    Unlike the textbook `p ± z s` it stays within [0, 1], and holds for few trials and shares near 0 and 1.

    Raises:
        ValueError: If `successes` is not in 0..`total`, `total` is below 1, or `confidence` is not in (0, 1).
    """
    if total < 1:
        raise ValueError(f"`total` must be at least 1, got {total}")
    if not 0 <= successes <= total:
        raise ValueError(f"`successes` must be between 0 and {total}, got {successes}")
    z = NormalDist().inv_cdf((1 + _checked_confidence(confidence)) / 2)
    share = successes / total
    centre = share + z**2 / (2 * total)
    half_width = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    low = 0.0 if successes == 0 else (centre - half_width) / scale
    high = 1.0 if successes == total else (centre + half_width) / scale
    return Proportion(successes, total, low, high)


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    confidence: float = 0.95,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> MeanInterval:
    """The percentile bootstrap interval of a mean (Efron and Tibshirani 1993, section 13.3).

    Args:
        values: `(n,)` independent and finite.
        confidence: Of the interval.
        num_resamples: How often n of the values are drawn with replacement.
        seed: Of the draws; the same seed gives the same interval.

    Raises:
        ValueError: If `values` is empty, not one-dimensional or not finite, or an argument is out of range.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"`values` must be (n,) with n of at least 1, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("`values` must be finite")
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` must be at least 1, got {num_resamples}")
    tail = (1 - _checked_confidence(confidence)) / 2
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(sample, len(sample)).mean() for _ in range(num_resamples)])
    low, high = np.quantile(means, [tail, 1 - tail])
    return MeanInterval(float(sample.mean()), float(low), float(high), len(sample))


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be between 0 and 1, got {confidence}")
    return confidence
