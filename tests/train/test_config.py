"""Configurations of runs, and the command that starts them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.train.__main__ import main
from videogen.train.config import TrainConfig
from videogen.train.objectives.codec import CodecObjectiveConfig
from videogen.train.recipes import RECIPES


def make_config(**changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"num_steps": 100, "batch_size": 4, "learning_rate": 0.1, "warmup_steps": 10}
    return TrainConfig("test", CodecObjectiveConfig(), ShapesCrops(), **(settings | changes))


def test_learning_rate_rises_stays_and_falls() -> None:
    config = make_config(decay_steps=20)
    rates = [config.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.01) and rates[4] == pytest.approx(0.05)
    assert rates[9:80] == [0.1] * 71
    assert rates[81] == pytest.approx(0.095) and rates[99] == pytest.approx(0.005)
    assert min(rates) > 0
    assert {make_config(warmup_steps=0).learning_rate_at(step) for step in range(100)} == {0.1}


@pytest.mark.parametrize(
    "field", ["num_steps", "batch_size", "log_every", "checkpoint_every", "keep_checkpoints"]
)
def test_numbers_below_one(field: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be at least 1, got 0"):
        make_config(**{field: 0})


def test_a_schedule_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="must fit into `num_steps`, got 10 \\+ 95 > 100"):
        make_config(decay_steps=95)


def test_resolved_is_plain_data_and_complete() -> None:
    config = make_config()
    plain = config.resolved()
    assert json.loads(json.dumps(plain)) == plain
    assert plain.keys() == {"type", *(field.name for field in dataclasses.fields(config))}
    assert plain["objective"]["type"] == "CodecObjectiveConfig"
    assert plain["source"]["type"] == "ShapesCrops"
    assert plain["source"]["clips"]["world"] == "shapes"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe(name: str) -> None:
    config = RECIPES[name]()
    assert config.name == name
    assert config == RECIPES[name]()
    assert config.resolved()["name"] == name
    assert dataclasses.replace(config, source=ShapesClips(world="shapes-mini")).name == name


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_dry_run_prints_the_configuration_and_makes_nothing(run: Any, tmp_path: Path) -> None:
    result = run("shapes_codec", "--dry-run", "--seed", "7", "--learning-rate", "0.5")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    expected = dataclasses.replace(RECIPES["shapes_codec"](), seed=7, learning_rate=0.5).resolved()
    assert printed == expected
    assert not list(tmp_path.iterdir())


def test_an_unknown_recipe_lists_the_known(run: Any, tmp_path: Path) -> None:
    result = run("shape")
    assert result.exit_code == 1
    assert "unknown recipe 'shape': known are" in result.stderr
    assert all(name in result.stderr for name in RECIPES)
    assert not list(tmp_path.iterdir())


def test_overrides_that_cannot_be(run: Any, tmp_path: Path) -> None:
    result = run("shapes_codec", "--batch-size", "0")
    assert result.exit_code == 1
    assert "error: `batch_size` must be at least 1, got 0" in result.stderr
    assert "Traceback" not in result.stderr and not list(tmp_path.iterdir())


def test_a_shorter_run_keeps_the_shape_of_its_schedule() -> None:
    config = RECIPES["shapes_codec"]()
    short = config.with_num_steps(config.num_steps // 10)
    assert short.num_steps == config.num_steps // 10
    assert short.learning_rate_at(short.num_steps // 2) == pytest.approx(
        config.learning_rate_at(config.num_steps // 2), rel=0.01
    )
