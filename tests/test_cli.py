"""The command line: what lands in the files, what is printed, and how mistakes are told."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import videogen
from tests.command_line import error_of, run, save_tiny_model
from videogen.commands.denoising_bar import StepBar
from videogen.commands.generate import processor_name
from videogen.commands.planned_clips import numbered, plan_clips, slug
from videogen.io import read_clip, read_recipe, write_clip
from videogen.models.step_cache import StepCache
from videogen.pipelines.loading import EMBEDDED, find_folder, load, model_hash
from videogen.recipe import Recipe
from videogen.sampling.schedulers import make_scheduler
from videogen.text.encoder import TextEncoder

TINY = ["--height", "16", "--width", "16", "--num-frames", "4", "--steps", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def broken(model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to break."""
    folder = tmp_path / "broken"
    for file in model.rglob("*.*"):
        copy = folder / file.relative_to(model)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


def test_a_clip_is_what_the_pipeline_makes_and_its_recipe_says_how(model: Path) -> None:
    result = run(
        *("generate", "a red circle", "--model", model, "--out", "clip.webp", "--seed", 7, "--fps", 12),
        *("--scheduler", "unipc", "--steps", 3, "--guidance", 2.5, "--negative-prompt", "blue"),
        *("--cache", "text=2,guidance=3"),
    )
    assert result.exit_code == 0, result.stderr
    assert "clip.webp  seed 7\n" in result.stdout
    assert result.stderr == ""  # no bar where nobody watches
    clip = read_clip("clip.webp")

    pipeline = load(model)
    pipeline.scheduler = make_scheduler("unipc", "flow_prediction", pipeline.scheduler)
    output = pipeline(
        "a red circle",
        seed=7,
        num_inference_steps=3,
        guidance_scale=2.5,
        negative_prompt="blue",
        step_cache=StepCache(text_every=2, guidance_every=3),
    )
    expected = np.rint(output[0][0] * 255).astype(np.uint8)
    np.testing.assert_array_equal(clip.frames, expected)
    assert clip.fps == 12
    recipe = clip.recipe
    assert recipe is not None
    assert recipe.pop("versions").keys() == {"videogen", "torch", "diffusers"}
    assert recipe == {
        "prompt": "a red circle",
        "negative_prompt": "blue",
        "seed": 7,
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "temperature": None,
        "scheduler": "unipc",
        "scheduler_class": "UniPCMultistepScheduler",
        "guidance": None,
        "cache": "text=2,guidance=3",
        "num_frames": 4,
        "height": 16,
        "width": 16,
        "fps": 12,
        "dtype": "float32",
        "device": "cpu",
        "model": str(model),
        "model_hash": model_hash(model),
        "loras": [],
        "attention": "sdpa",
        "num_threads": torch.get_num_threads(),
        "processor": processor_name(torch.device("cpu")),
        "stopped_after_step": None,
        "frames_sha256": hashlib.sha256(expected.tobytes()).hexdigest(),
    }


def test_item_k_of_a_batch_is_the_clip_that_its_own_seed_makes(model: Path) -> None:
    several = run(
        *("generate", "a star", "a ring", "--num-videos", 2, "--model", model, "--seed", 3, "--out", "c.npz")
    )
    assert several.stdout.splitlines()[:4] == [f"c-{k}.npz  seed {3 + k}" for k in range(4)]
    assert run("generate", "a ring", "--model", model, "--seed", 5, "--out", "alone.npz").exit_code == 0
    recipes = [read_recipe(f"c-{k}.npz") for k in range(4)]
    assert [recipe and recipe["prompt"] for recipe in recipes] == ["a star", "a star", "a ring", "a ring"]
    assert recipes[2] == read_recipe("alone.npz")
    assert len({recipe and recipe["frames_sha256"] for recipe in recipes}) == 4


def test_a_seed_is_drawn_and_told_where_none_is_given(model: Path) -> None:
    first, second = (run("generate", "A red  Circle!", "--model", model, *TINY) for _ in range(2))
    seeds = [result.stdout.splitlines()[0].split("seed ")[1] for result in (first, second)]
    assert seeds[0] != seeds[1]
    assert sorted(path.name for path in Path().iterdir()) == sorted(f"a-red-circle-{s}.mp4" for s in seeds)
    recipe = read_recipe(f"a-red-circle-{seeds[0]}.mp4")
    assert recipe is not None
    assert recipe["seed"] == int(seeds[0])


@pytest.mark.parametrize("name", ["c.mp4", "c.gif", "c.webp", "c.apng", "c.png", "c.npz", "c/"])
def test_every_format_carries_the_recipe(model: Path, name: str) -> None:
    assert run("generate", "a star", "--model", model, "--out", name, "--seed", 1).exit_code == 0
    recipe = json.loads(run("info", "--json", name).stdout)["recipe"]
    assert (recipe["prompt"], recipe["seed"]) == ("a star", 1)


def test_timings_name_the_phases(model: Path) -> None:
    result = run("generate", "a star", "--model", model, "--timings")
    phases = [part.split()[0] for part in result.stdout.splitlines()[-1].split(", ")]
    assert phases == ["import", "load", "text", "denoise", "decode", "write"]


def test_any_prompt_makes_a_clip_and_is_kept_as_it_is(model: Path) -> None:
    prompts = ["", "🐑 红色圆形", "x" * 10_000, "star " * 1_999 + "star", "👨\u200d👩\u200d👧", "zorp"]
    result = run("generate", *prompts, "--model", model, "--seed", 0, "--out", "c.npz")
    assert result.exit_code == 0, result.stderr
    recipes = [read_recipe(f"c-{k}.npz") for k in range(len(prompts))]
    assert [recipe and recipe["prompt"] for recipe in recipes] == prompts
    warnings = result.stderr.splitlines()
    assert all(line.startswith("warning: ") and len(line) < 600 for line in warnings)
    assert any("'zorp'" in line for line in warnings)
    assert any("words are ignored" in line for line in warnings)


def test_blanks_of_a_prompt_are_folded_and_control_characters_refused(model: Path) -> None:
    prompts = ["a\u00a0red\tstar\n", "--negative-prompt", "\u3000blue  ring"]
    assert run("generate", *prompts, "--model", model, "--seed", 0, "--out", "c.npz").exit_code == 0
    recipe = read_recipe("c.npz")
    assert recipe is not None
    assert (recipe["prompt"], recipe["negative_prompt"]) == ("a red star", "blue ring")
    error = error_of("generate", "\x1b[31mred", "--model", model, "--out", "d.npz")
    assert error == "error: `prompt` holds a control character ('\\x1b')"
    error = error_of("generate", "red", "--negative-prompt", "a\x00", "--model", model, "--out", "d.npz")
    assert error == "error: `negative_prompt` holds a control character ('\\x00')"
    assert not Path("d.npz").exists()


def test_a_warning_is_one_line_and_comes_once(model: Path) -> None:
    result = run("generate", "a star", "--num-videos", 2, "--model", model, "--num-frames", 8)
    assert result.exit_code == 0
    expected = "warning: 8 frames are asked for, the model was trained on 4: expect it to break up"
    assert result.stderr.splitlines() == [expected]
    result = run("generate", "a star", "--model", model, "--guidance", 1, "--negative-prompt", "blue")
    assert result.stderr == "warning: the negative prompt is ignored: it needs a guidance above 1\n"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--num-frames", "-4"], "`num_frames`"),
        (["--num-frames", "6"], "use 4 or 8"),
        (["--height", "0"], "`height`"),
        (["--width", "20"], "use 16 or 24"),
        (["--steps", "0"], "`num_inference_steps`"),
        (["--guidance", "-1"], "`guidance_scale`"),
        (["--guidance", "nan"], "`guidance_scale`"),
        (["--num-videos", "0"], "`num_videos`"),
        (["--seed", "-1"], "`seed`"),
        (["--seed", str(2**63)], "`seed`"),
        (["--fps", "0"], "`fps`"),
        (["--fps", "nan"], "`fps`"),
        (["--fps", "60", "--out", "c.gif"], "between 0.1 and 50"),
        (["--scheduler", "foo"], "known are euler"),
        (["--device", "tpu"], "names are cpu, cuda"),
        (["--device", "cuda:99"], "not available"),
        (["--attention", "flash"], "must be one of sdpa, xformers"),
        (["--attention", "xformers"], "no kernels for 'cpu'"),
        (["--dtype", "int8"], "known are float32"),
        (["--out", "c.avi"], "use .mp4"),
        (["--out", "/dev/null/c.mp4"], "/dev/null is no folder"),
        (["--out", "x" * 300 + ".mp4"], "too long"),
        (["--out", "."], "names no file"),
        (["--out", ""], "names no file"),
        (["--out", ".mp4"], "put a name before .mp4"),
        (["--num-frames", str(4 * 10**12)], "memory"),
    ],
)
def test_bad_options_are_one_line_and_leave_no_file(model: Path, options: list[str], message: str) -> None:
    assert message in error_of("generate", "a star", "--model", model, *options)
    assert list(Path().iterdir()) == []


def test_clips_that_memory_is_said_not_to_hold_can_be_tried(model: Path) -> None:
    command = ("generate", "a star", "--model", model, "--height", 8 * 10**15)
    assert "GiB of memory on cpu" in (message := error_of(*command)) and "--no-check-memory" in message
    assert "GiB of memory on cpu" not in error_of(*command, "--no-check-memory")


def test_a_recipe_is_shown_in_a_narrow_terminal(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("generate", "a star", "--model", model, "--out", "c.gif")
    monkeypatch.setenv("COLUMNS", "10")
    assert "a star" in run("info", "c.gif").stdout


@pytest.mark.parametrize(
    ("text", "rate"), [("24000/1001", 24_000 / 1001), ("119.88", 119.88), ("1001/1000", 1.001), ("12", 12)]
)
def test_a_rate_may_be_a_ratio(model: Path, text: str, rate: float) -> None:
    assert run("generate", "a star", "--model", model, "--out", "c.mp4", "--fps", text).exit_code == 0
    assert read_clip("c.mp4").fps == rate
    assert Recipe.of_clip("c.mp4").fps == rate


@pytest.mark.parametrize("text", ["24/0", "fast", "1/2/3", f"1{'0' * 400}/3", "24000 1001"])
def test_a_rate_that_is_none_is_wrong_usage(model: Path, text: str) -> None:
    result = run("generate", "a star", "--model", model, "--fps", text)
    assert result.exit_code == 2
    assert "24000/1001" in result.stderr
    assert list(Path().iterdir()) == []


def test_missing_folders_are_made(model: Path) -> None:
    assert run("generate", "a star", "--model", model, "--out", "new/deep/c.mp4").exit_code == 0
    assert run("generate", "a star", "--model", model, "--out", "frames/of/it/").exit_code == 0
    assert len(read_clip("new/deep/c.mp4").frames) == len(read_clip("frames/of/it").frames) == 4


@pytest.mark.parametrize(("out", "suffix"), [("-", ".mp4"), ("-.gif", ".gif"), ("-.webp", ".webp")])
def test_a_clip_goes_to_the_standard_output(model: Path, out: str, suffix: str) -> None:
    arguments = ["generate", "a star", "--model", model, "--seed", 7]
    result = run(*arguments, f"--out={out}", "--timings")
    assert result.exit_code == 0
    assert list(Path().iterdir()) == []
    assert result.stderr.splitlines()[0] == "standard output  seed 7"
    assert run(*arguments, "--out", f"c{suffix}").exit_code == 0
    assert result.stdout_bytes == Path(f"c{suffix}").read_bytes()
    replayed = run("replay", f"c{suffix}", f"--out={out}")
    assert (replayed.exit_code, replayed.stdout_bytes) == (0, result.stdout_bytes)
    assert "identical" in replayed.stderr


def test_the_standard_output_takes_one_clip_in_a_known_format(model: Path) -> None:
    message = error_of("generate", "a star", "--num-videos", 2, "--model", model, "--out", "-")
    assert "takes one clip" in message
    assert "unknown suffix" in error_of("generate", "a star", "--model", model, "--out=-.avi")


def test_the_embedded_model_has_a_name() -> None:
    assert find_folder("embedded") == EMBEDDED
    Path("embedded").mkdir()
    assert find_folder("embedded") == EMBEDDED
    assert find_folder("./embedded") == find_folder(Path("embedded")) == Path("embedded")


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "videogen", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"videogen {videogen.__version__}\n"


@pytest.mark.parametrize(
    "sign", ["(red:1.3)", "((red))", "[red:blue:0.5]", "[red|blue]", "{red|blue}", "<lora:red:0.8>", "red++"]
)
def test_weights_in_prompts_are_not_understood_and_told(model: Path, sign: str) -> None:
    for options in ([f"a {sign} star"], ["a star", "--negative-prompt", f"a {sign} star"]):
        result = run("generate", *options, "--model", model, "--out", "c.webp")
        assert result.exit_code == 0
        told = [line for line in result.stderr.splitlines() if "weights, adapters and alternatives" in line]
        assert len(told) == 1 and told[0].startswith(f"warning: {sign!r} in the ")


@pytest.mark.parametrize(
    "prompt", ["a (large) red star: it moves", "a [red] star", "a red star -- 1:2", "a < b"]
)
def test_punctuation_is_no_weight(model: Path, prompt: str) -> None:
    assert "weights" not in run("generate", prompt, "--model", model, "--out", "c.webp").stderr


def test_words_of_the_negative_prompt_that_are_not_known_are_named(model: Path) -> None:
    result = run("generate", "a star", "--negative-prompt", "blurry", "--model", model, "--out", "c.webp")
    assert result.stderr == "warning: the model does not know these words of the negative prompt: 'blurry'\n"


def test_a_rate_of_the_model_that_the_format_cannot_hold_is_told_before_the_compute(broken: Path) -> None:
    index = json.loads((broken / "model_index.json").read_text())
    index["defaults"]["fps"] = 60
    (broken / "model_index.json").write_text(json.dumps(index))
    message = error_of("generate", "a star", "--model", broken, "--out", "c.gif")
    assert "between 0.1 and 50" in message


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that not even root can write to")
def test_an_unwritable_folder_is_told(model: Path) -> None:
    assert "cannot write /proc/c.mp4" in error_of(
        "generate", "a star", "--model", model, "--out", "/proc/c.mp4"
    )


def test_a_broken_model_is_told(broken: Path) -> None:
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in error_of("generate", "a star", "--model", broken)
    weights.unlink()
    (broken / "unet" / "diffusion_pytorch_model.bin").write_bytes(whole)
    assert "pickle" in error_of("generate", "a star", "--model", broken)
    (broken / "vae" / "config.json").unlink()
    assert "config.json is missing" in error_of("generate", "a star", "--model", broken)
    assert "is not a folder" in error_of("generate", "a star", "--model", "nowhere")
    assert list(Path().iterdir()) == []


def test_a_model_that_gives_nan_writes_nothing(broken: Path) -> None:
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {name: torch.full_like(value, 1e30) for name, value in load_file(weights).items()}
    save_file(tensors, weights)  # finite themselves, so that they can be loaded
    assert "not finite after step 1 of 2" in error_of("generate", "a star", "--model", broken)
    assert list(Path().iterdir()) == []


def test_a_clip_that_is_bad_is_named_and_the_others_are_written(broken: Path) -> None:
    weights = broken / "text_encoder" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    encoder = TextEncoder.from_pretrained(broken / "text_encoder")
    blue = encoder.tokenizer.tokenize(["blue"]).input_ids[0, 1]
    tensors["token_embedding.weight"][blue] = torch.finfo(torch.float32).max  # finite, but not its mean
    save_file(tensors, weights)
    prompts = ("a red star", "a blue star", "a green star")
    result = run("generate", *prompts, "--seed", 7, "--model", broken, "--out", "c.webp")
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        "error: c-1.webp is not written: that of seed 8 has a prompt whose embeddings are not finite"
    )
    assert result.stdout.splitlines()[:2] == ["c-0.webp  seed 7", "c-2.webp  seed 9"]
    assert "2 of 3 clips in" in result.stdout
    assert sorted(path.name for path in Path().iterdir()) == ["c-0.webp", "c-2.webp"]


def test_weights_that_are_nan_are_not_loaded(broken: Path) -> None:
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {name: torch.full_like(value, torch.nan) for name, value in load_file(weights).items()}
    save_file(tensors, weights)
    assert "holds NaN or infinity" in error_of("generate", "a star", "--model", broken)
    assert list(Path().iterdir()) == []


def test_a_full_disk_is_told_and_leaves_the_older_clip(model: Path) -> None:
    write_clip(np.zeros((2, 16, 16, 3), np.uint8), "c.webp")
    older = Path("c.webp").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        message = error_of("generate", "a star", "--model", model, "--out", "c.webp")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write c.webp: File too large" in message
    assert [path.name for path in Path().iterdir()] == ["c.webp"]
    assert Path("c.webp").read_bytes() == older


def test_an_interrupt_is_one_line_and_status_130(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        StepBar, "update", lambda _: os.kill(os.getpid(), signal.SIGINT)
    )  # Ctrl-C after the first step
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs of a shell script
    try:
        result = run("generate", "a star", "--model", model)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")
    assert list(Path().iterdir()) == []


def test_info_shows_facts_and_recipe() -> None:
    recipe = {"prompt": "a\x1b[31m [red] star\n", "seed": 5, "versions": {"torch": "2"}, "scheduler": None}
    write_clip(np.zeros((4, 16, 24, 3), np.uint8), "c.gif", fps=10, recipe=recipe)
    shown = run("info", "c.gif").stdout
    for text in (
        "4 of 24x16 pixels",
        "10 frames per second",
        "a\\x1b[31m [red] star\\n",
        "versions: torch  2",
    ):
        assert text in shown
    description = json.loads(run("info", "c.gif", "--json").stdout)
    assert description.pop("num_bytes") == Path("c.gif").stat().st_size
    facts = {"path": "c.gif", "num_frames": 4, "height": 16, "width": 24, "fps": 10.0, "seconds": 0.4}
    assert description == {**facts, "recipe": recipe}


def test_info_says_that_there_is_no_recipe() -> None:
    write_clip(np.zeros((1, 16, 16, 3), np.uint8), "c.png")
    assert "carries no recipe" in run("info", "c.png").stdout
    assert json.loads(run("info", "c.png", "--json").stdout)["recipe"] is None


def test_info_of_what_is_no_clip_is_one_line() -> None:
    assert "does not exist" in error_of("info", "nothing.mp4")
    Path("c.mp4").write_bytes(b"no video")
    assert "cannot read clip c.mp4" in error_of("info", "c.mp4")


def test_wrong_usage_is_status_2() -> None:
    assert run("generate").exit_code == 2
    assert run("generate", "a star", "--steps", "many").exit_code == 2


def test_names_of_files() -> None:
    assert slug("A red circle, moving LEFT!") == "a-red-circle-moving-left"
    assert slug("红色圆形 ① ../../etc") == "红色圆形-1-etc"
    assert slug("🐑") == slug("") == "clip"
    assert slug("x" * 500) == "x" * 40
    assert slug("word " * 2_000) == "word-word-word-word-word-word-word-word"
    assert numbered("a.b/clip.mp4", 3, 4) == "a.b/clip-3.mp4"
    assert numbered("frames/", 3, 11) == "frames-03/"
    assert [clip.seed for clip in plan_clips(["a", "b"], num_videos=2, seed=9)] == [9, 10, 11, 12]


def test_model_hash_follows_what_is_loaded(broken: Path, model: Path) -> None:
    before = model_hash(broken)
    assert before == model_hash(model)
    (broken / "README.md").write_text("A note changes nothing.")
    assert model_hash(broken) == before
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert model_hash(broken) != before


def test_the_embedded_model_makes_a_clip() -> None:
    assert EMBEDDED.is_dir(), "the embedded weights are missing"
    result = run("generate", "a red circle moves left", "--seed", 1, "--out", "c.mp4")
    assert result.exit_code == 0, result.stderr
    recipe = read_recipe("c.mp4")
    assert recipe is not None
    assert recipe["model"] == "embedded"


COLD = """
import json, sys
from videogen.cli import main

def call(*arguments):
    sys.argv = ["videogen", *arguments]
    try:
        main()
    except SystemExit as stop:
        return stop.code

def heavy():
    names = ("torch", "diffusers", "transformers", "torch._dynamo")
    return [name for name in names if name in sys.modules]

model = sys.argv[1]
light = [call("--help"), call("--version"), call("info", "old.png")]
light += [call("generate", "x", "--seed", "0", "--fps", "0"), heavy()]
generate = [call("generate", "a star", "--model", model, "--out", "new.npz"), heavy()]
import torch._dynamo, transformers.utils.quantization_config
print(json.dumps([light, generate]))
"""


def test_a_cold_start_imports_little_and_breaks_nothing(model: Path) -> None:
    write_clip(np.zeros((1, 16, 16, 3), np.uint8), "old.png")
    command = [sys.executable, "-c", COLD, str(model)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == ["error: `fps` must be between 0.1 and 240 in .mp4, got 0.0"]
    assert f"videogen {videogen.__version__}\n" in result.stdout
    light, generate = json.loads(result.stdout.splitlines()[-1])
    assert light == [0, 0, 0, 1, []]
    assert generate == [0, ["torch", "diffusers"]]
