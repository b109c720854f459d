"""Intervals of shares and means, against published values and against what they promise."""

import numpy as np
import pytest

from videogen.metrics.intervals import MeanInterval, Proportion, bootstrap_mean, wilson_interval


@pytest.mark.parametrize(
    "successes, total, low, high",
    [
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # The closed forms at the ends: z² / (n + z²) and its mirror image.
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
    ],
)
def test_wilson_interval_has_the_published_values(
    successes: int, total: int, low: float, high: float
) -> None:
    interval = wilson_interval(successes, total)
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)
    assert (interval.successes, interval.total, interval.share) == (successes, total, successes / total)


def test_ends_of_the_wilson_interval_are_where_the_score_test_rejects() -> None:
    interval = wilson_interval(37, 120, confidence=0.9)
    for end in (interval.low, interval.high):
        score = abs(interval.share - end) / (end * (1 - end) / 120) ** 0.5
        assert score == pytest.approx(1.644853627, rel=1e-9)


def test_more_confidence_and_fewer_trials_make_it_wider() -> None:
    def width(interval: Proportion) -> float:
        return interval.high - interval.low

    assert width(wilson_interval(40, 50)) < width(wilson_interval(40, 50, confidence=0.99))
    assert width(wilson_interval(400, 500)) < width(wilson_interval(40, 50))


def test_a_proportion_reads_well() -> None:
    assert str(wilson_interval(8, 10)) == "80.0% [49.0, 94.3]"


@pytest.mark.parametrize(
    "successes, total, confidence, message",
    [
        (0, 0, 0.95, "`total`"),
        (-1, 3, 0.95, "`successes`"),
        (4, 3, 0.95, "`successes`"),
        (1, 3, 1.0, "`confidence`"),
    ],
)
def test_impossible_counts_are_refused(successes: int, total: int, confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wilson_interval(successes, total, confidence)


def test_bootstrap_agrees_with_the_normal_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(30.0, 2.0, 400)
    interval = bootstrap_mean(values)
    half_width = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.03)
    assert interval.num_values == 400


def test_bootstrap_is_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(2).normal(size=50)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_bootstrap_of_equal_values_is_a_point() -> None:
    assert bootstrap_mean([5.0] * 7) == MeanInterval(5.0, 5.0, 5.0, 7)
    assert str(bootstrap_mean([5.0])) == "5.00 [5.00, 5.00]"


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, float("inf")], [float("nan")]])
def test_bootstrap_refuses_what_has_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="`values`"):
        bootstrap_mean(values)
