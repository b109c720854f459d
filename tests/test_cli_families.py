"""The command line with models of every family: clips, recipes, and settings that a family does not have."""

from pathlib import Path

import numpy as np
import pytest

from tests.test_cli import error_of, run
from tests.tiny_families import FAMILY_NETWORKS, make_family_pipeline
from videogen.data.shapes.world import SHAPES_MINI
from videogen.evaluation import generate_clips
from videogen.io import read_clip
from videogen.metrics.prompt_accuracy import evaluation_prompts
from videogen.pipelines.family_pipelines import FAMILY_PIPELINES
from videogen.pipelines.loading import load, load_generator


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family, with random weights."""
    folders = {family: tmp_path_factory.mktemp(family) for family in FAMILY_NETWORKS}
    for family, folder in folders.items():
        make_family_pipeline(FAMILY_PIPELINES[family]).save_pretrained(folder)
    return folders


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("family", FAMILY_NETWORKS)
def test_a_clip_is_what_the_pipeline_makes_and_its_recipe_says_how(
    models: dict[str, Path], family: str
) -> None:
    result = run(
        *("generate", "a red circle", "--model", models[family], "--out", "clip.webp", "--seed", 7),
        *("--temperature", 0.5, "--num-videos", 2),
    )
    assert result.exit_code == 0, result.stderr
    clip = read_clip("clip-1.webp")
    expected = load(models[family])("a red circle", seed=8, temperature=0.5).frames[0]
    np.testing.assert_array_equal(clip.frames, np.rint(expected * 255).astype(np.uint8))
    assert clip.recipe is not None
    assert (clip.recipe["seed"], clip.recipe["temperature"]) == (8, 0.5)
    assert clip.recipe["scheduler"] is None and clip.recipe["scheduler_class"] is None


@pytest.mark.parametrize(
    ("family", "option", "value", "name"),
    [
        ("gan", "--steps", 4, "num_inference_steps"),
        ("vae", "--guidance", 2.0, "guidance_scale"),
        ("rnn", "--negative-prompt", "blue", "negative_prompt"),
        ("transformer", "--scheduler", "euler", "scheduler"),
        ("transformer", "--cache", "text=2", "cache"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(
    models: dict[str, Path], family: str, option: str, value: object, name: str
) -> None:
    message = error_of("generate", "a star", "--model", models[family], option, value)
    assert f"`{name}` is no setting of this model, a {FAMILY_NETWORKS[family].__name__}" in message
    assert list(Path().iterdir()) == []


def test_the_transformer_has_steps_guidance_and_a_negative_prompt(models: dict[str, Path]) -> None:
    result = run(
        *("generate", "a star", "--model", models["transformer"], "--out", "c.webp", "--seed", 1),
        *("--steps", 3, "--guidance", 1.5, "--negative-prompt", "blue"),
    )
    assert result.exit_code == 0, result.stderr
    expected = load(models["transformer"])(
        "a star", seed=1, num_inference_steps=3, guidance_scale=1.5, negative_prompt="blue"
    )
    np.testing.assert_array_equal(
        read_clip("c.webp").frames, np.rint(expected.frames[0] * 255).astype(np.uint8)
    )


@pytest.mark.parametrize("family", FAMILY_NETWORKS)
def test_evaluation_calls_every_family(models: dict[str, Path], family: str) -> None:
    prompts = evaluation_prompts(SHAPES_MINI, 3, held_out=False)
    counts: list[int] = []
    clips = list(generate_clips(load_generator(models[family]), prompts, 2, 1.5, 0, counts.append))
    assert counts == [3]
    assert [clip.shape for clip in clips] == [(3, 8, 16, 24)] * 3
