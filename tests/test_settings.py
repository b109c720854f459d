"""The one list of settings: what reads it has all of it, and layers of settings become one."""

import inspect
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from videogen.cli import app
from videogen.commands.options import with_settings
from videogen.exploration.grid import GridPoint
from videogen.io import write_clip
from videogen.pipelines.arguments import ARGUMENTS
from videogen.pipelines.families import GENERATORS
from videogen.presets import Preset
from videogen.recipe import Recipe
from videogen.settings import DEFAULTS, SETTINGS, GenerationSettings, merge

ALL = GenerationSettings(
    scheduler="unipc",
    num_inference_steps=3,
    guidance_scale=2.5,
    guidance="apg:eta=0.2",
    cache="deep=2",
    temperature=0.5,
    negative_prompt="blue",
    num_frames=8,
    height=24,
    width=16,
    fps=12.5,
    model="folder",
    loras=("a:0.5", "b"),
    device="cuda:1",
    dtype="bfloat16",
    attention="xformers",
)
# A recipe and a preset as they stand in files that were written before there was a list.
RECIPE: dict[str, Any] = {
    "prompt": "a red circle",
    "negative_prompt": "blue",
    "seed": 7,
    "num_frames": 8,
    "height": 24,
    "width": 16,
    "fps": 12.5,
    "num_inference_steps": 3,
    "guidance_scale": 2.5,
    "scheduler": "unipc",
    "scheduler_class": "UniPCMultistepScheduler",
    "cache": "deep=2",
    "dtype": "bfloat16",
    "device": "cuda:1",
    "model": "folder",
    "model_hash": "00",
    "loras": [{"path": "a", "scale": 0.5, "sha256": "11"}, {"path": "b", "scale": 1, "sha256": "22"}],
    "frames_sha256": "33",
    "versions": {"videogen": "0.1.0"},
    "temperature": 0.5,
    "guidance": "apg:eta=0.2",
    "attention": "xformers",
    "num_threads": 2,
    "processor": "x86_64 AVX2",
    "stopped_after_step": None,
}
PRESET = """{
  "videogen_preset": 1,
  "scheduler": "unipc",
  "num_inference_steps": 3,
  "guidance_scale": 2.5,
  "guidance": "apg:eta=0.2",
  "cache": "deep=2",
  "temperature": 0.5,
  "negative_prompt": "blue",
  "num_frames": 8,
  "height": 24,
  "width": 16,
  "fps": 12.5,
  "model": "folder",
  "loras": [
    "a:0.5",
    "b"
  ],
  "device": "cuda:1",
  "dtype": "bfloat16",
  "attention": "xformers",
  "notes": {
    "psnr": 30
  }
}
"""


def clip_with(recipe: dict[str, Any], path: Path) -> Path:
    write_clip(np.zeros((1, 16, 16, 3), np.uint8), path, recipe=recipe)
    return path


def test_of_what_two_layers_set_the_later_one_wins() -> None:
    changes = GenerationSettings(num_inference_steps=4, negative_prompt="", loras=())
    merged = merge(ALL, None, GenerationSettings(), Preset(fps=24, notes={"psnr": 30}), changes)
    assert merged.given() == ALL.given() | {"fps": 24} | changes.given()
    assert merge() == GenerationSettings() and not GenerationSettings().given()
    assert merge(DEFAULTS).given() == {
        "negative_prompt": "",
        "model": "embedded",
        "loras": (),
        "device": "cpu",
        "dtype": "float32",
        "attention": "sdpa",
    }


def test_a_preset_of_before_is_read_and_written_as_before(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(PRESET)
    preset = Preset.load(file)
    assert merge(preset) == ALL and preset.notes == {"psnr": 30}
    preset.save(tmp_path / "new.json")
    assert (tmp_path / "new.json").read_text() == PRESET


def test_a_recipe_of_before_is_read_and_written_as_before(tmp_path: Path) -> None:
    recipe = Recipe.of_clip(clip_with(RECIPE, tmp_path / "c.npz"))
    assert recipe.to_dict() == RECIPE
    assert merge(recipe).given() == ALL.given() | {"loras": ("a:0.5", "b:1")}


def test_settings_that_are_younger_than_the_first_recipes_may_be_missing(tmp_path: Path) -> None:
    younger = {"temperature", "guidance", "attention"}
    first = {name: value for name, value in RECIPE.items() if name not in younger}
    assert merge(Recipe.of_clip(clip_with(first, tmp_path / "c.npz"))).attention == "sdpa"
    for name in SETTINGS.keys() - younger:
        values = {key: value for key, value in RECIPE.items() if key != name}
        with pytest.raises(ValueError, match=f"lacks {name}"):
            Recipe.of_clip(clip_with(values, tmp_path / "c.npz"))


def test_each_setting_is_an_option_of_generate() -> None:
    generate = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    options = {option: item.help for item in generate.params for option in item.opts}
    assert {setting.flag: options[setting.flag] for setting in SETTINGS.values()} == {
        setting.flag: setting.help for setting in SETTINGS.values()
    }


def test_options_become_settings() -> None:
    taken = []

    @with_settings
    def command(*, other: int = 1, settings: GenerationSettings) -> None:
        taken.append((other, settings))

    commands = typer.Typer()
    commands.command()(command)
    words = []
    for name, value in ALL.given().items():
        for item in value if isinstance(value, tuple) else (value,):
            words += [SETTINGS[name].flag, str(item)]
    for given in ([], [*words, "--other", "2"], ["--negative-prompt", "", "--fps", "24000/1001"]):
        assert CliRunner().invoke(commands, given).exit_code == 0
    assert taken == [
        (1, GenerationSettings()),
        (2, ALL),
        (1, GenerationSettings(negative_prompt="", fps=24000 / 1001)),
    ]
    assert CliRunner().invoke(commands, ["--steps", "2.5"]).exit_code == 2


def test_calls_and_models_have_no_settings_of_their_own() -> None:
    """The keywords that editors show are those of the list, and may be left out."""
    settings = {setting.argument: setting for setting in SETTINGS.values() if setting.argument}
    assert settings.keys() <= ARGUMENTS.keys()
    taken = set()
    for generator in set(GENERATORS.values()):
        for name, parameter in inspect.signature(generator.__call__).parameters.items():
            if name not in settings:
                continue
            taken.add(name)
            assert parameter.default is None
            assert settings[name].kind.__name__ in parameter.annotation.split(" | ")
            assert parameter.annotation.endswith("| None")
        own = {item.name for item in fields(generator.defaults_class)} - {"num_flow_steps"}
        assert own <= SETTINGS.keys()
        assert own - {"fps"} <= inspect.signature(generator.__call__).parameters.keys()
    assert taken == settings.keys()


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.argument])
def test_calls_read_what_files_and_options_hold(name: str) -> None:
    argument, value = SETTINGS[name].argument, getattr(ALL, name)
    assert argument is not None
    read = ARGUMENTS[argument](argument, value)
    assert ARGUMENTS[argument](argument, read) == read
    assert read == value or SETTINGS[name].kind is str  # which guidance and step caches are parsed of
    least = SETTINGS[name].least
    if least is not None:
        assert ARGUMENTS[argument](argument, least) == least
        with pytest.raises(ValueError, match=f"`{argument}` must be .*at least {least}, got {least - 1}"):
            ARGUMENTS[argument](argument, least - 1)


def test_points_of_an_exploration_are_settings() -> None:
    point = GridPoint("unipc", 3, 2.5, "apg:eta=0.2", "deep=2")
    assert point.settings().given() == asdict(point)
    assert json.loads(json.dumps(point.as_dict())) == {name: getattr(ALL, name) for name in asdict(point)}
