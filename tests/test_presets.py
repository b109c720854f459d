"""Presets: what is written is read, what is wrong is named, and a pipeline follows them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_pipeline import latents_of, make_pipeline
from videogen.models.step_cache import StepCache
from videogen.pipelines.generation import TextToVideo
from videogen.presets import Preset
from videogen.sampling.guidance_kinds import parse_guidance
from videogen.sampling.schedulers import make_scheduler

PROMPT = "a red circle"


def test_a_preset_comes_back(tmp_path: Path) -> None:
    preset = Preset(
        scheduler="unipc",
        num_inference_steps=6,
        guidance_scale=2.5,
        guidance="rescaled:phi=0.7",
        cache="text=2",
        loras=("a:0.5", "b"),
        notes={"all right": [0.51, 0.46, 0.56], "seconds": 0.8},
    )
    preset.save(tmp_path / "p.json")
    assert Preset.load(tmp_path / "p.json") == preset
    Preset().save(tmp_path / "empty.json")
    assert json.loads((tmp_path / "empty.json").read_text()) == {"videogen_preset": 1}
    assert Preset.load(tmp_path / "empty.json") == Preset()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, 'is no preset: it has no "videogen_preset": 1'),
        ([1], 'is no preset: it has no "videogen_preset": 1'),
        ({"videogen_preset": 2}, 'must have "videogen_preset": 1, got 2'),
        ({"videogen_preset": True}, 'must have "videogen_preset": 1, got True'),
        ({"videogen_preset": 1, "steps": 3, "cfg": 1}, "fields that are not known here: cfg, steps"),
        ({"videogen_preset": 1, "num_inference_steps": 2.5}, "must be a whole number or null, got 2.5"),
        ({"videogen_preset": 1, "guidance_scale": True}, "must be a number or null, got True"),
        ({"videogen_preset": 1, "guidance_scale": math.nan}, "must be a number or null, got nan"),
        ({"videogen_preset": 1, "loras": "a"}, r"`loras` in preset .* must be a list or null, got 'a'"),
        ({"videogen_preset": 1, "loras": [1]}, r"an item of `loras` in preset .* must be a text, got 1"),
        ({"videogen_preset": 1, "notes": 3}, "must be an object, got 3"),
    ],
)
def test_what_is_no_preset_is_named(tmp_path: Path, values: Any, message: str) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        Preset.load(file)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read preset .*: No such file"):
        Preset.load(tmp_path / "gone.json")
    with pytest.raises(ValueError, match=r"cannot read preset .*: Is a directory"):
        Preset.load(tmp_path)
    (tmp_path / "p.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match="is no JSON"):
        Preset.load(tmp_path / "p.json")
    for notes in ({"psnr": math.inf}, {"model": object()}):
        with pytest.raises(ValueError, match="must hold only what JSON can"):
            Preset(notes=notes).save(tmp_path / "p.json")


def test_a_pipeline_follows_a_preset() -> None:
    preset = Preset(
        scheduler="dpm++2m",
        num_inference_steps=4,
        guidance_scale=2.0,
        guidance="interval:low=0.2",
        cache="text=2",
        num_frames=4,
        negative_prompt="blue",
    )
    pipeline, expected = make_pipeline(TextToVideo), make_pipeline(TextToVideo)
    expected.scheduler = make_scheduler("dpm++2m", "flow_prediction", expected.scheduler)
    assert torch.equal(
        latents_of(pipeline, PROMPT, seed=0, **preset.apply_to(pipeline)),
        latents_of(
            expected,
            PROMPT,
            seed=0,
            num_inference_steps=4,
            guidance_scale=2.0,
            guidance=parse_guidance("interval:low=0.2"),
            step_cache=StepCache(text_every=2),
            num_frames=4,
            negative_prompt="blue",
        ),
    )


def test_an_empty_preset_changes_nothing() -> None:
    pipeline = make_pipeline(TextToVideo)
    before = pipeline.scheduler
    assert Preset(notes={"psnr": 30}).apply_to(pipeline) == {}
    assert pipeline.scheduler is before


def test_an_unknown_scheduler_or_cache_is_told() -> None:
    pipeline = make_pipeline(TextToVideo)
    with pytest.raises(ValueError, match="`scheduler` 'magic' is unknown"):
        Preset(scheduler="magic").apply_to(pipeline)
    with pytest.raises(ValueError, match="a step cache must be like"):
        Preset(cache="all").apply_to(pipeline)
    with pytest.raises(ValueError, match="`guidance` 'magic' is unknown"):
        Preset(guidance="magic").apply_to(pipeline)
