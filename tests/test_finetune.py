"""`videogen finetune` and `videogen generate --lora`: from a folder of videos to clips."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import videogen
from tests.videos import moving_bar, write_video
from videogen.cli import app
from videogen.models.lora import LORA_NAME
from videogen.text.words import WORDS_NAME, read_words

SMALL = ("--batch-size", 2, "--lora", 2, "--cpu")


def run(command: str, *arguments: object) -> Result:
    """Runs a command in this process, in which only mistakes of ours may raise."""
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def error_of(command: str, *arguments: object) -> str:
    """The message of a command that fails with one line on stderr."""
    result = run(command, *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips for the embedded model, one with a word that it does not know."""
    folder = tmp_path_factory.mktemp("footage")
    for seed, caption in enumerate(["a red circle moves left", "a zebra moves left"]):
        video = write_video(folder / f"{seed}.mp4", moving_bar(24, 64, 64, seed))
        video.with_suffix(".txt").write_text(caption)
    out = folder.parent / "dataset"
    result = run("prepare", folder, "--out", out, "--num-frames", 4, "--size", "16x16")
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def finetuned(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of adapters."""
    folder = tmp_path_factory.mktemp("run")
    result = run("finetune", dataset, "--out", folder, *SMALL, "--steps", 4, "--validate-every", 2)
    assert result.exit_code == 0, result.stderr
    told = " ".join(result.stdout.split())
    assert "s a step, about 0:00:0" in told and "for 4 steps" in told
    assert f"videogen generate 'a red circle moves left' --lora {folder / 'result'}" in told
    return folder


def clip(tmp_path: Path, *options: object) -> bytes:
    """The frames of a clip with a new word, as an archive."""
    out = tmp_path / "clip.npz"
    size = ("--num-frames", 4, "--height", 16, "--width", 16, "--steps", 2)
    result = run("generate", "a zebra", "--seed", 1, "--out", out, *size, *options)
    assert result.exit_code == 0, result.stderr
    described = json.loads(run("info", out, "--json").stdout)
    digest: str = described["recipe"]["frames_sha256"]
    return digest.encode()


def test_a_run_leaves_adapters_words_and_clips_with_their_distance(finetuned: Path) -> None:
    assert {path.name for path in (finetuned / "result").iterdir()} == {LORA_NAME, WORDS_NAME}
    assert set(read_words(finetuned / "result")) == {"zebra"}
    for step in (0, 2, 4):
        folder = finetuned / "previews" / f"step-{step:07d}"
        assert len(list(folder.glob("*.webp"))) == 2
        assert json.loads((folder / "measures.json").read_text())["distance"] > 0


def test_the_same_command_goes_on_and_leaves_what_is_finished(finetuned: Path, dataset: Path) -> None:
    before = (finetuned / "result" / LORA_NAME).read_bytes()
    again = run("finetune", dataset, "--out", finetuned, *SMALL, "--steps", 4, "--validate-every", 2)
    assert again.exit_code == 0, again.stderr
    assert (finetuned / "result" / LORA_NAME).read_bytes() == before


def test_a_stopped_run_ends_where_a_straight_one_does(finetuned: Path, dataset: Path, tmp_path: Path) -> None:
    options = (dataset, "--out", tmp_path / "run", *SMALL, "--steps", 4, "--validate-every", 0)
    first = run("finetune", *options, "--max-minutes", 0)
    assert "stopped at step 1 of 4" in first.stdout
    assert run("finetune", *options).exit_code == 0
    for name in (LORA_NAME, WORDS_NAME):
        straight, resumed = load_file(finetuned / "result" / name), load_file(tmp_path / "run/result" / name)
        assert straight.keys() == resumed.keys()
        assert all(torch.equal(straight[key], resumed[key]) for key in straight)


def test_adapters_change_a_clip_by_their_scale(finetuned: Path, tmp_path: Path) -> None:
    adapters = finetuned / "result"
    plain, tuned = clip(tmp_path), clip(tmp_path, "--lora", adapters)
    assert tuned != plain
    assert clip(tmp_path, "--lora", f"{adapters}:20", "--lora", f"{adapters}:20") not in (plain, tuned)
    assert run("replay", tmp_path / "clip.npz").stdout.endswith("clip.npz: identical\n")
    recipe = json.loads(run("info", tmp_path / "clip.npz", "--json").stdout)["recipe"]
    assert [(lora["path"], lora["scale"]) for lora in recipe["loras"]] == [(str(adapters), 20.0)] * 2
    assert len(recipe["loras"][0]["sha256"]) == 64


def test_adapters_without_words_at_scale_zero_change_nothing(finetuned: Path, tmp_path: Path) -> None:
    shutil.copy(finetuned / "result" / LORA_NAME, tmp_path / "mine.safetensors")
    assert clip(tmp_path, "--lora", f"{tmp_path / 'mine.safetensors'}:0") == clip(tmp_path)


def test_a_merged_model_can_be_saved_and_loaded(finetuned: Path, tmp_path: Path) -> None:
    merged = videogen.load(loras=[(finetuned / "result", 2.0)])
    merged.save_pretrained(tmp_path / "merged")
    loaded = videogen.load(tmp_path / "merged")
    assert all(
        torch.equal(value, loaded.unet.state_dict()[name]) for name, value in merged.unet.state_dict().items()
    )
    assert not loaded.text_encoder.tokenizer.report("zebra").unknown


def test_all_weights_can_be_trained(dataset: Path, tmp_path: Path) -> None:
    result = run("finetune", dataset, "--out", tmp_path, "--full", "--steps", 1, "--cpu")
    assert result.exit_code == 0, result.stderr
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["batch_size"] == 4  # all clips of so small a dataset
    own, tuned = videogen.load(), videogen.load(tmp_path / "result")
    assert not torch.equal(own.unet.conv_in.weight, tuned.unet.conv_in.weight)
    assert not tuned.text_encoder.tokenizer.report("zebra").unknown
    assert f"--model {tmp_path / 'result'}" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", 0), "`rank` of a LoRA must be at least 1"),
        (("--lora", 4, "--full"), "choose `--lora` or `--full`"),
        (("--steps", 0), "`num_steps` must be at least 1"),
        (("--batch-size", 5), "`batch_size` must be at most 4"),
        (("--warmup-steps", 3), "`warmup_steps` must be between 0 and the 2 steps of the run, got 3"),
        (("--validate-every", -1), "`validate_every` must be at least 0, got -1"),
        (("--full", "--snr-gamma", 5), "flow"),
        (("--full", "--zero-terminal-snr"), "flow"),
        (("--noise-prior", "pink"), "`noise_prior` must be one of independent, mixed, progressive"),
        (("--caption-dropout", 2), "`caption_dropout` must be between 0 and 1"),
        (("--learning-rate", 0), "`learning_rate` must be above 0"),
        (("--optimizer", "sgd"), "`optimizer` must be one of muon, adamw, got 'sgd'"),
        (("--mixed-precision", "fp16"), "`mixed_precision` must be one of"),
        (("--model", "nowhere"), "is not a folder"),
    ],
)
def test_settings_that_cannot_be(
    options: tuple[object, ...], message: str, dataset: Path, tmp_path: Path
) -> None:
    given = (dataset, "--out", tmp_path / "run", "--cpu", "--batch-size", 2, "--steps", 2, *options)
    assert message in error_of("finetune", *given)


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    assert "dataset" in error_of("finetune", tmp_path, "--out", tmp_path / "run")


def test_a_dataset_of_another_model_is_refused(dataset: Path, tmp_path: Path) -> None:
    other = videogen.load()
    torch.nn.init.zeros_(next(other.vae.encoder.parameters()))
    other.save_pretrained(tmp_path / "other")
    given = (dataset, "--out", tmp_path / "run", "--batch-size", 2, "--model", tmp_path / "other")
    message = error_of("finetune", *given)
    assert "was prepared with the codec of 'embedded'" in message


@pytest.mark.parametrize(
    ("lora", "message"), [("nowhere", "no LoRA at 'nowhere'"), ("x:nan", "PATH:SCALE with a finite scale")]
)
def test_adapters_that_are_not_there(lora: str, message: str, tmp_path: Path) -> None:
    assert message in error_of("generate", "a", "--out", tmp_path / "a.gif", "--lora", lora)
