"""Which of many measured points are worth a choice: Pareto fronts, their knee, orders of convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Places of the points that no other one beats, from the cheapest to the dearest.

    A point is beaten by one that costs no more and gains no less, and is not equal to it. Of equal points the
    first is kept; what is not finite is left out.

    Args:
        costs: To be small.
        gains: To be large, one for each cost.
    """
    order = sorted(range(len(costs)), key=lambda idx: (costs[idx], -gains[idx], idx))
    front: list[int] = []
    for idx in order:
        if not (math.isfinite(costs[idx]) and math.isfinite(gains[idx])):
            continue
        if not front or gains[idx] > gains[front[-1]]:
            front.append(idx)
    return front


def knee(costs: Sequence[float], gains: Sequence[float]) -> int | None:
    """Place of the point of a front after which more cost brings less and less.

    It is the one furthest above the straight line from the cheapest to the dearest, both axes scaled to [0,
    1] (Satopaa et al. 2011, "Finding a Kneedle in a Haystack", for points in place of a curve).

    Args:
        costs: Of a front, rising.
        gains: Rising too.

    Returns:
        None if there are fewer than three points, or none lies above the line.
    """
    if len(costs) < 3:
        return None
    x = (np.asarray(costs) - costs[0]) / (costs[-1] - costs[0])
    y = (np.asarray(gains) - gains[0]) / (gains[-1] - gains[0])
    best = int(np.argmax(y - x))
    return best if y[best] - x[best] > 1e-9 else None


def fitted_order(steps: Sequence[int], errors: Sequence[float]) -> float | None:
    """The p of `error ~ steps^-p`: the slope of a straight line through the logarithms, by least squares.

    Args:
        steps: Numbers of steps.
        errors: One for each; those that are 0 or not finite are left out.

    Returns:
        None if fewer than two numbers of steps remain.
    """
    pairs = [(n, error) for n, error in zip(steps, errors, strict=True) if 0 < error < math.inf]
    if len({n for n, _ in pairs}) < 2:
        return None
    x, y = np.log(np.array(pairs, dtype=np.float64)).T
    return -float(np.polyfit(x, y, 1)[0])
