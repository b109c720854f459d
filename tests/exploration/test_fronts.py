"""Fronts, knees and orders of points whose answers are known."""

import math

import pytest

from videogen.exploration.fronts import fitted_order, knee, pareto_front


def test_a_front_is_what_no_other_point_beats() -> None:
    costs = [3.0, 1.0, 2.0, 2.0, 4.0, 1.5]
    gains = [5.0, 1.0, 4.0, 3.0, 5.0, 0.5]
    assert pareto_front(costs, gains) == [1, 2, 0]


def test_of_equal_points_the_first_is_kept_and_what_is_not_finite_left_out() -> None:
    assert pareto_front([1.0, 1.0, math.inf, 0.5], [2.0, 2.0, 9.0, math.nan]) == [0]
    assert pareto_front([], []) == []


def test_the_knee_is_where_more_cost_brings_less() -> None:
    costs = [1.0, 2.0, 3.0, 10.0]
    assert knee(costs, [0.0, 0.7, 0.9, 1.0]) == 2
    assert knee(costs, [0.0, 0.9, 0.95, 1.0]) == 1
    scaled = knee([1000 * cost for cost in costs], [5 + gain / 100 for gain in (0.0, 0.7, 0.9, 1.0)])
    assert scaled == 2


def test_a_straight_or_short_front_has_no_knee() -> None:
    assert knee([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None
    assert knee([1.0, 2.0], [1.0, 5.0]) is None
    assert knee([1.0, 2.0, 3.0], [0.0, 0.1, 1.0]) is None


@pytest.mark.parametrize("order", [1.0, 2.0, 0.5])
def test_the_order_of_a_power_law_is_its_power(order: float) -> None:
    steps = [4, 8, 16, 32]
    fitted = fitted_order(steps, [3.0 * n**-order for n in steps])
    assert fitted is not None and abs(fitted - order) < 1e-9


def test_no_order_without_two_numbers_of_steps() -> None:
    assert fitted_order([4, 4], [0.1, 0.2]) is None
    assert fitted_order([4, 8], [0.1, 0.0]) is None
