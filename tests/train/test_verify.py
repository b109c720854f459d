"""`videogen verify-resume`: finds what is identical, and what is not."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.train.runs import run_config
from videogen.cli import app
from videogen.train.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from videogen.train.loop import train
from videogen.train.verify import Trial, differences

RECIPES = """
import dataclasses, os
from pathlib import Path
from tests.train.runs import CLIPS, run_config
from videogen.data.shapes.dataset import ShapesClips

def right():
    return run_config({family!r}, Path({codec!r}), num_steps=12)

@dataclasses.dataclass(frozen=True)
class Forgetful:
    def batch(self, sample_ids, device="cpu"):
        return CLIPS.batch([sample_id + os.getpid() for sample_id in sample_ids], device)

def wrong():
    return dataclasses.replace(right(), source=Forgetful())
"""


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Gives the command in a folder."""
    root = str(Path(__file__).parents[2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", root)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["verify-resume", *arguments])


def write_recipes(folder: Path, family: str, codec_folder: Path) -> None:
    (folder / "recipes.py").write_text(RECIPES.format(family=family, codec=str(codec_folder)))


@pytest.mark.parametrize(("family", "num_processes"), [("unet3d", 1), ("uvit", 2)])
def test_a_run_that_resumes_exactly(
    verify: Callable[..., Result], codec_folder: Path, tmp_path: Path, family: str, num_processes: int
) -> None:
    write_recipes(tmp_path, family, codec_folder)
    done = verify(
        "recipes:right", "--num-processes", str(num_processes), "--batch-size", "4",
        "--num-data-workers", str(num_processes - 1), "--optimizer", "adamw", "--mixed-precision", "bf16",
        "--out", "kept",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for name in ("straight", "resumed"):
        config = json.loads((tmp_path / "kept" / name / "config.json").read_text())
        assert (config["optimizer"], config["mixed_precision"]) == ("adamw", "bf16")
    assert "recipes:right: identical after 6 steps, straight and with a kill at step 4" in done.stdout
    assert not list(differences(tmp_path / "kept" / "straight", tmp_path / "kept" / "resumed"))


def test_a_run_that_does_not(verify: Callable[..., Result], codec_folder: Path, tmp_path: Path) -> None:
    """Its clips depend on the process that makes them."""
    write_recipes(tmp_path, "uvit", codec_folder)
    done = verify("recipes:wrong", "--num-steps", "3", "--kill-at", "2")
    assert done.exit_code == 1
    assert "differs: weights.denoiser.conv_in.weight: differs by up to" in done.stdout
    assert "differs: log[0].loss: " in done.stdout
    assert "the resumed run differs from the straight one in" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "unknown recipe 'nothing': known are"),
        (
            ["shapes_codec", "--kill-at", "6"],
            "`kill_at` must be at least 2 and below `num_steps`, got 6 of 6",
        ),
        (["shapes_codec", "--num-processes", "0"], "`num_processes` must be at least 1, got 0"),
        (["shapes_codec", "--num-processes", "3"], "`batch_size` must be a multiple of 3"),
        (["shapes_codec", "--batch-size", "0"], "`batch_size` must be at least 1, got 0"),
        (["shapes_codec", "--out", "full"], "`--out` must be an empty or a new folder, got 'full'"),
        (["shapes_decoder"], "a run ended with status 1 after 0 steps: ValueError: `init_from` must be the"),
        (["shapes_codec", "--optimizer", "sgd"], "`optimizer` must be one of muon, adamw, got 'sgd'"),
        (["shapes_codec", "--mixed-precision", "fp8"], "`mixed_precision` must be one of no, bf16"),
    ],
)
def test_what_cannot_be_verified(
    verify: Callable[..., Result], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """The last for want of the codec that it starts from."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    result = verify(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}"), result.stderr


def test_nothing_escapes_the_comparison(codec_folder: Path, tmp_path: Path) -> None:
    """The smallest changes in each thing that is compared are found and named."""
    config = run_config("uvit", codec_folder, num_steps=2, warmup_steps=0, decay_steps=0)
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        train(config, folder, cpu=True)
    assert not list(differences(one, other))

    (path,) = list_checkpoints(other / "checkpoints")
    end = load_checkpoint(path)
    name, _ = next((name, value) for name, value in end.ema.items() if value.ndim == 1)
    changed = end.weights[name].clone()
    changed[0] = torch.nextafter(changed[0], torch.tensor(9.0))
    negative = {key: value * 0 if key == name else value for key, value in end.weights.items()}

    def found(**changes: Any) -> list[str]:
        save_checkpoint(path.parent, dataclasses.replace(end, **changes), keep=1)
        return list(differences(one, other))

    assert found() == []
    (line,) = found(weights={**end.weights, name: changed})
    assert line.startswith(f"weights.{name}: differs by up to")
    (line,) = found(ema={**end.ema, name: end.ema[name].double()})
    assert line.startswith(f"ema.{name}: ") and "torch.float64" in line
    assert found(weights={key: value for key, value in end.weights.items() if key != name}) == [
        f"weights.{name}: only in the first run"
    ]
    assert found(random={}) == ["random.cpu: only in the first run"]
    assert len(found(score=None)) == 1
    groups = [dict(group, lr=group["lr"] * 2) for group in end.optimizers["train"]["param_groups"]]
    rates = found(optimizers={"train": {**end.optimizers["train"], "param_groups": groups}})
    assert rates[0].startswith("optimizers.train.param_groups[0].lr: ")
    assert len(found(weights=negative)) == 1
    assert found() == []

    log = other / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1]["loss"] += 1e-9
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (line,) = differences(one, other)
    assert line.startswith("log[1].loss: ")
    log.write_text((one / "log.jsonl").read_text())

    file = other / "result" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    (line,) = differences(one, other)
    assert line.startswith("result.unet/diffusion_pytorch_model.safetensors.") and "differs by up to" in line


def test_signed_zeros_differ(codec_folder: Path, tmp_path: Path) -> None:
    """They are equal as numbers, and do not go on equally."""
    config = run_config("uvit", codec_folder, num_steps=1, warmup_steps=0, decay_steps=0)
    train(config, tmp_path / "one", cpu=True)
    train(config, tmp_path / "other", cpu=True)
    for folder, zero in (("one", 0.0), ("other", -0.0)):
        (path,) = list_checkpoints(tmp_path / folder / "checkpoints")
        end = load_checkpoint(path)
        weights = {**end.weights, "zero": torch.tensor([zero])}
        save_checkpoint(path.parent, dataclasses.replace(end, weights=weights), keep=1)
    assert list(differences(tmp_path / "one", tmp_path / "other")) == ["weights.zero: differs by up to 0"]


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        list(differences(tmp_path, tmp_path))


def test_trials_are_the_recipe_shortened() -> None:
    config = Trial("shapes_codec", num_steps=50, kill_at=20, overrides={"batch_size": 8}).config()
    assert (config.num_steps, config.checkpoint_every, config.log_every) == (50, 19, 1)
    assert (config.batch_size, config.warmup_steps, config.decay_steps) == (8, 1, 49)
