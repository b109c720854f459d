"""The models that come with the library: small enough, found by their names, and they do what prompts say."""

import json
from pathlib import Path

import pytest

from videogen.codec.pixels import frames_to_pixels
from videogen.data.shapes.world import SHAPES_MINI
from videogen.metrics.prompt_accuracy import evaluation_prompts, measure_prompt_accuracy
from videogen.pipelines.families import FAMILIES
from videogen.pipelines.loading import EMBEDDED, load_generator

MEGABYTE = 1_000_000
FAMILIES_FOLDER = EMBEDDED / "families"


def weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_models_are_small_enough_for_a_wheel() -> None:
    assert 0 < weight_bytes(FAMILIES_FOLDER) <= 25 * MEGABYTE
    assert 0 < sum(weight_bytes(EMBEDDED / part) for part in ("vae", "text_encoder", "unet")) <= 40 * MEGABYTE


def test_every_family_is_there_and_shares_the_embedded_codec() -> None:
    assert {folder.name for folder in FAMILIES_FOLDER.iterdir() if folder.is_dir()} == set(FAMILIES)
    for name in FAMILIES:
        index = json.loads((FAMILIES_FOLDER / name / "model_index.json").read_text())
        assert index["vae"] == [None, None]
        assert 0 < index["training_minutes"] < 60


@pytest.mark.parametrize("name", [None, *FAMILIES])
def test_a_model_shows_what_prompts_say(name: str | None) -> None:
    generator = load_generator(name)
    prompts = evaluation_prompts(SHAPES_MINI, 12, held_out=False, seed=77)
    frames = generator([prompt.caption for prompt in prompts], seed=100).frames
    report = measure_prompt_accuracy(frames_to_pixels(frames), prompts)
    # Of four colours and four motions a model that knows nothing has three right of twelve.
    assert report.colour.successes >= 8
    assert report.motion.successes >= 8
