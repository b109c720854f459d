"""Checkpoints: exact, whole or absent, and only as many as asked for."""

from pathlib import Path
from typing import Any

import pytest
import torch

from videogen.train.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint


def make_checkpoint(step: int = 3) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(4, 5, generator=generator), "b": torch.randn((), generator=generator)}
    ema = {"a.weight": torch.randn(4, 5, generator=generator).T.contiguous().T}
    state = {"momentum": torch.randn(3, generator=generator)}
    groups = [{"params": [0], "betas": (0.9, 0.99), "rule": "muon", "lr": 0.1}]
    return Checkpoint(step, weights, ema, {"train": {"state": {0: state}, "param_groups": groups}})


def save(folder: Path, step: int = 3, keep: int = 2) -> Path:
    return save_checkpoint(folder, make_checkpoint(step), {"name": "test"}, keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip_is_exact(tmp_path: Path) -> None:
    loaded, expected = load_checkpoint(save(tmp_path)), make_checkpoint()
    assert loaded.step == 3
    for one, other in ((loaded.weights, expected.weights), (loaded.ema, expected.ema)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in other)
    found, state = loaded.optimizers["train"], expected.optimizers["train"]
    assert found["param_groups"] == state["param_groups"]
    assert torch.equal(found["state"][0]["momentum"], state["state"][0]["momentum"])


def test_the_newest_are_kept_in_order(tmp_path: Path) -> None:
    for step in (5, 10, 100, 1000):
        save(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000100", "step-0001000"]
    assert names(tmp_path) == ["step-0000100", "step-0001000"]
    assert list_checkpoints(tmp_path / "nothing") == []


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "step-0000003" / "state.json").write_text("broken")
    save(tmp_path)
    assert load_checkpoint(tmp_path / "step-0000003").step == 3
    assert names(tmp_path) == ["step-0000003"]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failure_leaves_the_earlier_ones_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    save(tmp_path, 1)

    def fail(_: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(type(error)):
        save(tmp_path, 2, keep=1)
    assert names(tmp_path) == ["step-0000001"]
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "step-0000001").step == 1


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path: Path) -> None:
    partial = tmp_path / ".step-0000009.partial"
    partial.mkdir(parents=True)
    (partial / "state.json").write_text("{}")
    assert list_checkpoints(tmp_path) == []
    save(tmp_path, 9)
    assert names(tmp_path) == ["step-0000009"]


@pytest.mark.parametrize("file", ["weights.safetensors", "ema.safetensors", "optimizers.pt", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_broken_checkpoints_are_named(tmp_path: Path, file: str, damage: str) -> None:
    folder = save(tmp_path)
    path = folder / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"checkpoint .*step-0000003 cannot be read"):
        load_checkpoint(folder)


def test_nothing_but_tensors_and_plain_data_is_unpickled(tmp_path: Path) -> None:
    folder = save(tmp_path)
    torch.save({"train": Path("anything")}, folder / "optimizers.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint(folder)
