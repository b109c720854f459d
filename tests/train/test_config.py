"""Configurations of runs, and the command that starts them."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.data.emoji.conftest import make_artwork
from videogen.data.shapes.captions import read_plain_caption
from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.data.shapes.world import SHAPES_MINI
from videogen.train.__main__ import main
from videogen.train.config import TrainConfig, plain
from videogen.train.objectives.codec import CodecObjectiveConfig
from videogen.train.objectives.latents import LatentObjectiveConfig
from videogen.train.recipes import RECIPES, find_recipe
from videogen.train.recipes.codec import ARTWORK


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


def test_a_rate_that_falls_along_a_cosine() -> None:
    linear, cosine = make_config(decay_steps=20), make_config(decay_steps=20, lr_schedule="cosine")
    for step in range(100):
        part = min(1.0, (100 - step) / 20)
        expected = 0.1 * (1 - math.cos(math.pi * part)) / 2 if step >= 10 else linear.learning_rate_at(step)
        assert cosine.learning_rate_at(step) == pytest.approx(expected)
    assert cosine.learning_rate_at(80) == 0.1 and 0 < cosine.learning_rate_at(99) < 0.001
    assert cosine.learning_rate_at(90) == pytest.approx(0.05)


def test_a_constant_rate() -> None:
    config = make_config(lr_schedule="constant", warmup_steps=0)
    assert {config.learning_rate_at(step) for step in range(100)} == {0.1}
    with pytest.raises(ValueError, match="`decay_steps` must be 0 with the constant `lr_schedule`, got 5"):
        make_config(lr_schedule="constant", decay_steps=5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("lr_schedule", "cosin", "`lr_schedule` must be one of constant, linear, cosine, got 'cosin'"),
        ("mixed_precision", "fp16", "`mixed_precision` must be one of no, bf16, got 'fp16'"),
        ("ema_decay", 1.5, "`ema_decay` must be between 0 and 1, got 1.5"),
        ("learning_rate", 0.0, "`learning_rate` must be above 0, got 0.0"),
        ("max_grad_norm", math.nan, "`max_grad_norm` must be above 0, got nan"),
        ("num_data_workers", -1, "`num_data_workers` must be at least 0, got -1"),
        ("preview_every", -1, "`preview_every` must be at least 0, got -1"),
        ("warmup_steps", -1, "`warmup_steps` must be at least 0, got -1"),
        ("seed", -1, r"`seed` must be between 0 and 2\*\*32 - 1, got -1"),
        ("weight_decay", -0.1, "`weight_decay` must be at least 0, got -0.1"),
    ],
)
def test_settings_that_cannot_be(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**{field: value})


@pytest.mark.parametrize(
    "field",
    [
        "num_steps",
        "batch_size",
        "gradient_accumulation_steps",
        "log_every",
        "checkpoint_every",
        "keep_checkpoints",
    ],
)
def test_numbers_below_one(field: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be at least 1, got 0"):
        make_config(**{field: 0})


def test_a_schedule_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="must fit into `num_steps`, got 10 \\+ 95 > 100"):
        make_config(decay_steps=95)


def test_resolved_is_plain_data_and_complete() -> None:
    config = make_config()
    resolved = config.resolved()
    assert json.loads(json.dumps(resolved)) == resolved
    assert resolved.keys() == {"type", *(field.name for field in dataclasses.fields(config))}
    assert resolved["objective"]["type"] == "CodecObjectiveConfig"
    assert resolved["source"]["type"] == "ShapesCrops"
    assert resolved["source"]["clips"]["world"] == "shapes"


def test_what_json_does_not_know() -> None:
    value = {"folder": Path("a/b"), "sizes": ((1, 2), [3.5, None]), "clips": ShapesClips(num_frames=4)}
    turned = plain(value)
    assert turned["folder"] == "a/b" and turned["sizes"] == [[1, 2], [3.5, None]]
    assert turned["clips"]["type"] == "ShapesClips" and turned["clips"]["num_frames"] == 4
    assert json.loads(json.dumps(turned)) == turned


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe(name: str, artwork_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artwork_folder.parent)
    config = RECIPES[name]()
    assert config.name == name
    assert config == RECIPES[name]()
    assert config.resolved()["name"] == name
    assert dataclasses.replace(config, source=ShapesClips(world="shapes-mini")).name == name


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("shapes_mini_")])
def test_previews_show_what_the_smaller_world_has(name: str) -> None:
    objective = RECIPES[name]().objective
    assert isinstance(objective, LatentObjectiveConfig)
    for prompt in objective.preview_prompts:
        read = read_plain_caption(prompt)
        assert read is not None and read[1] is not None and read[1].name in SHAPES_MINI.backgrounds
        assert set(read[0]) <= {*SHAPES_MINI.objects(held_out=True), *SHAPES_MINI.objects(held_out=False)}


@pytest.fixture(scope="session")
def artwork_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `artwork`, which recipes of the world `emoji` look for where they are run."""
    return make_artwork(tmp_path_factory.mktemp("artwork") / ARTWORK, num_subjects=2)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_dry_run_prints_the_configuration_and_makes_nothing(run: Any, tmp_path: Path) -> None:
    given = ("--seed", "7", "--learning-rate", "0.5", "--optimizer", "adamw", "--mixed-precision", "bf16")
    result = run("shapes_codec", "--dry-run", *given)
    assert result.exit_code == 0
    expected = dataclasses.replace(
        RECIPES["shapes_codec"](), seed=7, learning_rate=0.5, optimizer="adamw", mixed_precision="bf16"
    )
    assert json.loads(result.stdout) == expected.resolved()
    assert not list(tmp_path.iterdir())


def test_an_unknown_recipe_lists_the_known(run: Any, tmp_path: Path) -> None:
    result = run("shape")
    assert result.exit_code == 1
    assert "unknown recipe 'shape': known are" in result.stderr
    assert all(name in result.stderr for name in RECIPES)
    assert not list(tmp_path.iterdir())


MY_RECIPES = """
import dataclasses
from videogen.train.recipes import RECIPES

number = 3

def mine():
    return dataclasses.replace(RECIPES["shapes_codec"](), name="mine", num_steps=200, decay_steps=0)

def other():
    return {"num_steps": 3}
"""


def test_a_recipe_of_ones_own(run: Any, tmp_path: Path) -> None:
    """Found from the folder where the command is given."""
    (tmp_path / "my_recipes.py").write_text(MY_RECIPES)
    arguments = (
        "my_recipes:mine",
        "--dry-run",
        "--gradient-accumulation-steps",
        "4",
        "--num-data-workers",
        "3",
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert (printed["name"], printed["num_steps"]) == ("mine", 200)
    assert (printed["gradient_accumulation_steps"], printed["num_data_workers"]) == (4, 3)
    other = run("my_recipes:other", "--dry-run")
    assert other.exit_code == 1
    assert (
        "error: the recipe 'my_recipes:other' must return a TrainConfig, got {'num_steps': 3}" in other.stderr
    )
    for name in ("my_recipes:nothing", "my_recipes:number"):
        with pytest.raises(ValueError, match=f"{name!r} is not there: .*my_recipes.py has no such function"):
            find_recipe(name)
    with pytest.raises(ValueError, match="cannot be imported: No module named 'no_recipes'"):
        find_recipe("no_recipes:mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shapes_codec", "--batch-size", "0"), "`batch_size` must be at least 1, got 0"),
        (("shapes_codec", "--optimizer", "sgd"), "`optimizer` must be one of muon, adamw, got 'sgd'"),
        (("shapes_codec", "--max-minutes", "-1"), "`max_minutes` must be at least 0, got -1.0"),
        (("shapes_codec", "--max-minutes", "nan"), "`max_minutes` must be at least 0, got nan"),
        (("shapes_decoder", "--cpu"), "`init_from` must be the result of another run, but 'runs/"),
        (("shapes_t2v", "--cpu"), "`codec` must be the result of another run, but 'runs/"),
        ((".recipes:mine",), "unknown recipe '.recipes:mine': known are"),
    ],
)
def test_what_cannot_be_run(run: Any, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_shorter_run_keeps_the_shape_of_its_schedule() -> None:
    config = RECIPES["shapes_codec"]()
    short = config.with_num_steps(config.num_steps // 10)
    assert short.num_steps == config.num_steps // 10
    assert short.learning_rate_at(short.num_steps // 2) == pytest.approx(
        config.learning_rate_at(config.num_steps // 2), rel=0.01
    )
