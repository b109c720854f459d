"""Clips made again from recipes, settings taken from clips and presets, and clips of a stopped command."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import error_of, run, save_tiny_model
from tests.tiny import edit_json
from videogen.commands.denoising_bar import StepBar
from videogen.io import read_clip, read_recipe, write_clip
from videogen.presets import Preset

PROMPT = "a red circle"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def original(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of it, made with settings that are not its own."""
    out = tmp_path_factory.mktemp("clips") / "original.npz"
    options = ("--steps", 3, "--guidance", 2, "--scheduler", "dpm++2m", "--negative-prompt", "blue")
    generate(model, out, *options, "--guidance-kind", "rescaled:phi=0.5", "--cache", "text=2", "--fps", 12)
    return out


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


def generate(model: Path, out: str | Path, *options: object) -> None:
    result = run("generate", PROMPT, "--model", model, "--seed", 7, "--out", out, *options)
    assert result.exit_code == 0, result.stderr


def recipe_of(clip: str | Path) -> dict[str, Any]:
    recipe = read_recipe(clip)
    assert recipe is not None
    return recipe


def edited(clip: Path, out: str, **changes: Any) -> str:
    """A copy of a clip whose recipe is changed; a change to None takes the field out."""
    whole = read_clip(clip)
    left_out = [name for name, value in changes.items() if value is None]
    recipe = {name: value for name, value in {**recipe_of(clip), **changes}.items() if name not in left_out}
    write_clip(whole.frames, out, whole.fps, recipe)
    return out


# Replay


@pytest.mark.parametrize("name", ["c.webp", "c.apng", "c.png", "c.npz", "c"])
def test_a_lossless_clip_is_made_again(model: Path, name: str) -> None:
    generate(model, f"{name}/" if name == "c" else name)
    result = run("replay", name)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{name}: identical\n", "")


@pytest.mark.parametrize(("name", "why"), [("c.mp4", "H.264"), ("c.gif", "256 colours")])
def test_of_a_lossy_clip_the_recipe_is_compared_and_the_file_measured(
    model: Path, name: str, why: str
) -> None:
    generate(model, name, "--height", 24, "--width", 24)  # more pixels than a GIF has colours
    result = run("replay", name, "--out", "new.npz")
    assert result.exit_code == 0
    errors = read_clip(name).frames.astype(float) - read_clip("new.npz").frames
    psnr = 10 * np.log10(255**2 / np.mean(errors**2))
    told = f"identical; PSNR {psnr:.2f} dB to the frames as decoded from the file, a lossy format ({why})"
    assert result.stdout == f"{name}: {told}\nwritten: new.npz\n"


def test_a_gif_of_few_colours_holds_the_very_frames(model: Path) -> None:
    generate(model, "c.gif")
    assert run("replay", "c.gif").stdout == "c.gif: identical\n"


def test_every_setting_is_followed_and_the_new_clip_written(original: Path) -> None:
    result = run("replay", original, "--out", "again.webp")
    assert (result.exit_code, result.stdout) == (0, f"{original}: identical\nwritten: again.webp\n")
    again, first = read_clip("again.webp"), read_clip(original)
    assert again.fps == 12 and again.recipe == first.recipe
    np.testing.assert_array_equal(again.frames, first.frames)


def test_a_changed_recipe_is_told_with_the_distance(original: Path) -> None:
    result = run("replay", edited(original, "c.npz", prompt="a blue star"))
    assert result.exit_code == 3
    first, *others = result.stdout.splitlines()
    assert first.startswith("c.npz: differs: PSNR ") and first.endswith(" dB to the frames in the file")
    assert others == ["  it was made in the same surroundings: its recipe was changed"]


def test_changed_frames_are_told(original: Path) -> None:
    frames = read_clip(original).frames
    recipe = recipe_of(original)
    frames[0, 0, 0, 0] ^= 1
    write_clip(frames, "c.png", recipe=recipe)
    result = run("replay", "c.png")
    assert result.exit_code == 3
    expected = 10 * np.log10(255**2 * frames.size)  # one value is off by one
    assert f"differs: PSNR {expected:.2f} dB" in result.stdout
    assert "the frames in the file were changed" in result.stdout
    write_clip(frames[:2], "short.png", recipe=recipe)
    result = run("replay", "short.png")
    assert result.exit_code == 3
    assert "the file holds 2 of 16x16 frames, the replay 4 of 16x16, with no PSNR" in result.stdout


def test_other_surroundings_are_told(original: Path, tmp_path: Path) -> None:
    changes = {
        "versions": {**recipe_of(original)["versions"], "videogen": "0.0.9", "torch": "1.13"},
        "num_threads": 10_000,
        "processor": "an abacus",
        "frames_sha256": "0" * 64,
    }
    result = run("replay", edited(original, "c.npz", **changes))
    assert result.exit_code == 3
    told = [
        line.split(" now")[0].split(" in the clip")[0].strip() for line in result.stdout.splitlines()[1:-1]
    ]
    assert told == ["videogen: 0.0.9", "torch: 1.13", "processor: an abacus", "threads: 10000"]
    assert result.stdout.splitlines()[0].startswith("c.npz: differs: PSNR inf dB")


def test_another_model_is_told_by_its_hash(original: Path, model: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other")
    edit_json(other / "scheduler" / "scheduler_config.json", shift=1.0)
    generate(model, "own.npz")
    result = run("replay", "own.npz", "--model", other)
    assert result.exit_code == 3
    assert f"model hash: {recipe_of('own.npz')['model_hash'][:12]} in the clip, " in result.stdout


def test_recipes_of_the_first_version_are_followed(original: Path, model: Path) -> None:
    generate(model, "new.npz")
    older = edited(
        Path("new.npz"), "old.npz", attention=None, num_threads=None, processor=None, guidance=None
    )
    assert run("replay", older).stdout == "old.npz: identical\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, "the recipe of c.npz lacks seed"),
        ({"prompt": None, "device": None}, "lacks prompt, device"),
        ({"sampler": "magic"}, "fields that are not known here: sampler"),
        ({"seed": "7"}, "`seed` in the recipe of c.npz must be a whole number, got '7'"),
        ({"seed": True}, "`seed` in the recipe of c.npz must be a whole number, got True"),
        ({"prompt": ["a"]}, "`prompt` in the recipe of c.npz must be a text, got ['a']"),
        ({"guidance_scale": "high"}, "`guidance_scale` in the recipe of c.npz must be a number"),
        ({"scheduler": 3}, "`scheduler` in the recipe of c.npz must be a text or null, got 3"),
        ({"versions": {"torch": 2}}, "`torch` of `versions` in the recipe of c.npz must be a text, got 2"),
        ({"loras": [{"path": "a"}]}, "an item of `loras` in the recipe of c.npz lacks scale, sha256"),
        ({"loras": [{"path": "gone", "scale": 1, "sha256": ""}]}, "gone"),
        ({"versions": {"videogen": "9.1"}}, "comes from videogen 9.1, newer than this"),
        ({"versions": {"videogen": "9.1"}, "new": 1}, "comes from videogen 9.1, newer than this"),
        ({"model": "gone"}, "dit: give the model of this clip with --model"),
        ({"scheduler": "magic"}, "`scheduler` 'magic' is unknown"),
        ({"device": "cuda:77"}, "is not available"),
        ({"dtype": "int3"}, "`dtype` 'int3' is unknown"),
        ({"cache": "all=2"}, "a step cache must be like"),
        ({"num_frames": 3}, "`num_frames` must be a multiple of 4"),
        ({"num_inference_steps": 0}, "`num_inference_steps` must be at least 1"),
        ({"stopped_after_step": 0}, "`stopped_after_step` in the recipe of c.npz must be at least 1, got 0"),
        ({"stopped_after_step": 9}, "the recipe stops after step 9, but there are 3"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_line(
    original: Path, changes: dict[str, Any], message: str
) -> None:
    assert message in error_of("replay", edited(original, "c.npz", **changes))


def test_clips_without_a_recipe_of_ours(original: Path) -> None:
    frames = read_clip(original).frames
    write_clip(frames, "none.mp4")
    assert "none.mp4 carries no recipe" in error_of("replay", "none.mp4")
    assert "none.mp4 carries no recipe" in error_of("generate", "--like", "none.mp4")
    write_clip(frames, "other.webp", recipe={"made by": "hand"})
    assert "not known here: made by" in error_of("replay", "other.webp")
    write_clip(frames, "folder/")
    Path("folder/recipe.json").write_text('{"fps": "8", "num_frames": 4, "recipe": [1]}')
    assert "the recipe of folder must be an object of JSON, got [1]" in error_of("replay", "folder")
    Path("folder/recipe.json").write_text('{"fps": "8"')
    assert "cannot read clip folder: its recipe is broken" in error_of("replay", "folder")
    assert "does not exist" in error_of("replay", "gone.mp4")
    Path("bad.mp4").write_bytes(b"no video")
    assert "cannot read clip bad.mp4" in error_of("replay", "bad.mp4")


def test_a_clip_is_not_overwritten_by_its_copy(original: Path) -> None:
    Path("c.npz").write_bytes(original.read_bytes())
    for command in (["replay", "c.npz"], ["generate", "--like", "c.npz"]):
        assert "./c.npz is the clip that is taken as a model" in error_of(*command, "--out", "./c.npz")
    assert "unknown suffix" in error_of("replay", "c.npz", "--out", "c.avi")
    assert Path("c.npz").read_bytes() == original.read_bytes()


# Settings from clips and presets


def test_like_takes_all_and_options_win(original: Path) -> None:
    assert run("generate", "--like", original, "--out", "same.npz").exit_code == 0
    assert recipe_of("same.npz") == recipe_of(original)
    options = ("--seed", 8, "--steps", 4, "--negative-prompt", "")
    result = run("generate", "a blue star", "--like", original, *options, "--out", "new.npz")
    assert result.exit_code == 0, result.stderr
    new = recipe_of("new.npz")
    changed = {name for name, value in recipe_of(original).items() if new[name] != value}
    assert changed == {"prompt", "seed", "num_inference_steps", "negative_prompt", "frames_sha256"}
    assert (new["prompt"], new["seed"], new["num_inference_steps"]) == ("a blue star", 8, 4)


def test_presets_win_over_like_and_options_over_presets(original: Path) -> None:
    preset = Preset(scheduler="euler", num_inference_steps=2, guidance_scale=1.5, notes={"psnr": 31.4})
    preset.save("fast.json")
    result = run(
        *("generate", "--like", original, "--preset", "fast.json", "--guidance", 2.5, "--out", "c.npz")
    )
    assert result.exit_code == 0, result.stderr
    recipe = recipe_of("c.npz")
    assert (recipe["scheduler"], recipe["num_inference_steps"], recipe["guidance_scale"]) == ("euler", 2, 2.5)
    assert (recipe["negative_prompt"], recipe["cache"], recipe["fps"]) == ("blue", "text=2", 12)


def test_a_preset_may_hold_all_settings(model: Path) -> None:
    settings = {"model": str(model), "num_frames": 8, "height": 24, "fps": 5, "dtype": "bfloat16"}
    spread = {"negative_prompt": "\u3000blue\tring "}
    Path("p.json").write_text(json.dumps({"videogen_preset": 1, **settings, **spread}))
    result = run("generate", PROMPT, "--preset", "p.json", "--seed", 1, "--out", "c.npz")
    assert result.exit_code == 0, result.stderr
    recipe = recipe_of("c.npz")
    assert {name: recipe[name] for name in settings} == settings
    assert recipe["negative_prompt"] == "blue ring"
    assert read_clip("c.npz").frames.shape == (8, 24, 16, 3)


def test_a_broken_preset_is_one_line() -> None:
    Path("p.json").write_text('{"videogen_preset": 1, "step": 3}')
    assert "preset p.json has fields that are not known here: step" in error_of(
        "generate", PROMPT, "--preset", "p.json"
    )
    assert "cannot read preset gone.json" in error_of("generate", PROMPT, "--preset", "gone.json")


def test_without_a_prompt_or_a_clip_to_take_it_from_the_usage_is_wrong() -> None:
    Preset(num_inference_steps=2).save("p.json")
    result = run("generate", "--preset", "p.json")
    assert result.exit_code == 2 and "--like" in result.stderr


# Ctrl-C

PRELUDE = """
import os, signal, sys
from videogen.cli import main
from videogen.commands.denoising_bar import StepBar
from videogen.pipelines.latent_generation import LatentGenerator
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells turn off in the background
"""
TELL_OF_STEPS = """
def update(self, done=[]):
    done.append(1)
    if len(done) == 3:
        print("three steps are done", flush=True)
StepBar.update = update
main()
"""
INTERRUPT_TWICE = """
def interrupt(self, *arguments, count=[]):
    count.append(1)
    if len(count) == 3:
        os.kill(os.getpid(), signal.SIGINT)
StepBar.update = interrupt
LatentGenerator.decode_latents = lambda *arguments: os.kill(os.getpid(), signal.SIGINT)
main()
"""


def start(code: str, model: Path, *options: object) -> subprocess.Popen[str]:
    arguments = ["generate", PROMPT, "--model", model, "--seed", 7, "--steps", 20_000, *options]
    command = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_interrupt_keeps_the_clip_as_predicted_and_it_can_be_replayed(model: Path) -> None:
    process = start(TELL_OF_STEPS, model, "--out", "c.webp")
    assert process.stdout is not None
    assert process.stdout.readline() == "three steps are done\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    recipe = recipe_of("c.webp")
    stopped = recipe["stopped_after_step"]
    assert 2 <= stopped < recipe["num_inference_steps"] == 20_000
    assert err == f"interrupted: c.webp shows the clip as predicted after step {stopped}\n"
    assert (process.returncode, out) == (130, "")
    result = run("replay", "c.webp")
    assert (result.exit_code, result.stdout) == (0, "c.webp: identical\n")
    assert run("generate", "--like", "c.webp", "--steps", 2, "--out", "whole.webp").exit_code == 0
    assert recipe_of("whole.webp")["stopped_after_step"] is None


def test_a_second_interrupt_leaves_nothing(model: Path) -> None:
    process = start(INTERRUPT_TWICE, model, "--out", "c.webp")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert list(Path().iterdir()) == []


def test_clips_before_the_interrupt_stay(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def interrupt(_: StepBar) -> None:
        steps.append(1)
        if len(steps) == 5:  # the second step of the second clip; the first is all that is done of it
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StepBar, "update", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run(
            *("generate", PROMPT, "--model", model, "--num-videos", 3, "--steps", 3, "--seed", 1),
            *("--out", "c.webp"),
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.stdout) == (130, "c-0.webp  seed 1\n")
    assert result.stderr == "interrupted: c-1.webp shows the clip as predicted after step 1\n"
    assert sorted(path.name for path in Path().iterdir()) == ["c-0.webp", "c-1.webp"]
    assert recipe_of("c-0.webp")["stopped_after_step"] is None
