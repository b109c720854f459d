"""`videogen prepare --pixels` and `videogen finetune-codec`: from a folder of videos to a better decoder."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import videogen
from tests.videos import moving_bar, write_video
from videogen.cli import app

SMALL = ("--batch-size", 2, "--held-out", 0.4, "--cpu")


def run(command: str, *arguments: object) -> Result:
    """Runs a command in this process, in which only mistakes of ours may raise."""
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of five videos, without pixels at first."""
    folder = tmp_path_factory.mktemp("footage")
    for seed in range(5):
        write_video(folder / f"{seed}.mp4", moving_bar(24, 64, 64, seed))
    out = folder.parent / "dataset"
    prepare = ("prepare", folder, "--out", out, "--num-frames", 4, "--size", "16x16")
    assert run(*prepare).exit_code == 0
    refused = run("finetune-codec", out, "--out", folder.parent / "refused", *SMALL)
    assert refused.exit_code == 1
    assert "run the same `videogen prepare` again with `--pixels`" in refused.stderr
    index = json.loads((out / "dataset.json").read_text())
    assert run(*prepare, "--pixels").exit_code == 0
    again = json.loads((out / "dataset.json").read_text())
    assert all(clip.pop("pixels") for clip in again["clips"])
    assert again == index  # latents and captions stay where they are
    return out


def test_a_stopped_run_ends_where_a_straight_one_does_and_tells_what_was_gained(
    dataset: Path, tmp_path: Path
) -> None:
    options = (*SMALL, "--steps", 6, "--validate-every", 3, "--learning-rate", 1e-3)
    straight = run("finetune-codec", dataset, "--out", tmp_path / "straight", *options)
    assert straight.exit_code == 0, straight.stderr
    assert f"with the new decoder: {tmp_path / 'straight' / 'result'}" in straight.stdout.replace("\n", "")
    first = run("finetune-codec", dataset, "--out", tmp_path / "stopped", *options, "--max-minutes", 0)
    assert "stopped at step 1 of 6: the same command resumes" in first.stdout
    assert run("finetune-codec", dataset, "--out", tmp_path / "stopped", *options).exit_code == 0
    before, after = (
        json.loads((tmp_path / "straight" / f"previews/step-000000{step}/measures.json").read_text())["psnr"]
        for step in (0, 6)
    )
    assert after > before
    weights = Path("result/vae/diffusion_pytorch_model.safetensors")
    assert (tmp_path / "straight" / weights).read_bytes() == (tmp_path / "stopped" / weights).read_bytes()
    own, tuned = videogen.load(), videogen.load(tmp_path / "stopped" / "result")
    assert torch.equal(own.unet.conv_in.weight, tuned.unet.conv_in.weight)
    assert not torch.equal(own.vae.decoder.conv_out.weight, tuned.vae.decoder.conv_out.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", 0), "`num_steps` must be at least 1, got 0"),
        (("--batch-size", 7), "`batch_size` must be at most 6"),
        (("--held-out", 1), "`held_out` must be at least 0, and leave one of 5 videos"),
        (("--learning-rate", 0), "`learning_rate` must be above 0"),
        (("--model", "nowhere"), "is not a folder"),
    ],
)
def test_settings_that_cannot_be(
    options: tuple[object, ...], message: str, dataset: Path, tmp_path: Path
) -> None:
    result = run("finetune-codec", dataset, "--out", tmp_path / "run", *SMALL, "--steps", 2, *options)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    result = run("finetune-codec", tmp_path, "--out", tmp_path / "run")
    assert result.exit_code == 1 and "`dataset`" in result.stderr
