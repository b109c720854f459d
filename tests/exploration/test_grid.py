"""Grids: what is in them, how large they are without being listed, and what is refused."""

from typing import Any

import pytest

from videogen.exploration.grid import Grid, GridPoint, make_grid
from videogen.sampling.guidance_kinds import ProjectedGuidance


def grid_of(**changes: Any) -> Grid:
    settings: dict[str, Any] = {
        "schedulers": ["euler", "heun"],
        "steps": [2, 4],
        "guidance_scales": [1.0, 3.0],
        "guidance": ["cfg", ProjectedGuidance()],
        "caches": [None, "deep=2", "guidance=2"],
    }
    return make_grid(**(settings | changes))


def test_a_grid_knows_its_points_without_listing_them() -> None:
    grid = grid_of()
    points = list(grid)
    assert len(points) == len(grid) == 2 * 2 * (2 + 2 * 3)
    assert len(set(points)) == len({point.key for point in points}) == len(points)
    assert all(point in grid for point in points)
    assert sum(point.cost for point in points) == grid.cost
    steps = [point.num_inference_steps for point in points]
    assert steps == sorted(steps)
    assert GridPoint("euler", 2, 1.0, "cfg") not in grid and GridPoint("euler", 3, 3.0) not in grid


def test_a_grid_of_a_million_points_costs_nothing() -> None:
    grid = grid_of(steps=range(1, 10**6 + 1), schedulers=["euler"], guidance_scales=[1.0], caches=[None])
    assert len(grid) == 10**6
    assert next(iter(grid)) == GridPoint("euler", 1, 1.0, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedulers": []}, "`schedulers` is empty"),
        ({"steps": []}, "`steps` is empty"),
        ({"caches": []}, "`caches` is empty"),
        ({"steps": [4, 0]}, "`steps` must be whole numbers of at least 1, got 0"),
        ({"steps": [2.5]}, "got 2.5"),
        ({"steps": [4, 4]}, "`steps` has an entry twice"),
        ({"schedulers": ["foo"]}, "`scheduler` 'foo' is unknown"),
        ({"schedulers": ["ddim"]}, "'ddim' does not fit a model with 'flow_prediction'"),
        ({"guidance_scales": [float("nan")]}, "`guidance_scales` must be finite"),
        ({"guidance_scales": [1.0]}, "needs a scale above 1"),
        ({"caches": ["deep=2"], "steps": [1]}, "leaves none of 1"),
        ({"caches": ["temporal=2"], "steps": [4]}, "this network can reuse deep"),
        ({"caches": ["guidance=2"], "guidance": ["adaptive"], "steps": [4]}, "both leave out passes"),
    ],
)
def test_what_cannot_be_run_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_of(**changes).check("flow_prediction", ("deep", "text"))


def test_an_unknown_kind_of_guidance_is_refused() -> None:
    with pytest.raises(ValueError, match="`guidance` 'foo' is unknown"):
        grid_of(guidance=["foo"])
