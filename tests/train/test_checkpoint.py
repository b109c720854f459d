"""Checkpoints: exact, whole or absent, and only as many as asked for."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from videogen.train.checkpoint import (
    Checkpoint,
    Score,
    best_checkpoint,
    fingerprint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def make_checkpoint(step: int = 3, score: Score | None = None) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(4, 5, generator=generator), "b": torch.randn((), generator=generator)}
    ema = {"a.weight": torch.randn(4, 5, generator=generator).T.contiguous().T}
    state = {"momentum": torch.randn(3, generator=generator)}
    groups = [{"params": [0], "betas": (0.9, 0.99), "rule": "muon", "lr": 0.1}]
    return Checkpoint(
        step,
        weights,
        ema,
        {"train": {"state": {0: state}, "param_groups": groups}},
        random={"cpu": torch.randint(256, (2, 11), generator=generator, dtype=torch.uint8)},
        config={"name": "test"},
        frozen="abc",
        versions={"torch": "2"},
        score=score,
    )


def save(folder: Path, step: int = 3, keep: int = 2, score: Score | None = None) -> Path:
    return save_checkpoint(folder, make_checkpoint(step, score), keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip_is_exact(tmp_path: Path) -> None:
    score = Score("loss", 0.1)
    loaded, expected = load_checkpoint(save(tmp_path, score=score)), make_checkpoint(3, score)
    for name in ("step", "config", "frozen", "versions", "score"):
        assert getattr(loaded, name) == getattr(expected, name), name
    for one, other in (
        (loaded.weights, expected.weights),
        (loaded.ema, expected.ema),
        (loaded.random, expected.random),
    ):
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


def test_the_best_is_kept_besides_the_newest(tmp_path: Path) -> None:
    for step, value in ((1, 0.5), (2, 0.2), (3, 0.4), (4, 0.3)):
        save(tmp_path, step, keep=1, score=Score("loss", value))
    assert names(tmp_path) == ["step-0000002", "step-0000004"]
    assert best_checkpoint(tmp_path, "loss") == tmp_path / "step-0000002"
    assert best_checkpoint(tmp_path, "fvd") is None
    save(tmp_path, 5, keep=1, score=Score("fvd", 100.0))  # of another kind: they cannot be compared
    assert names(tmp_path) == ["step-0000005"]
    save(tmp_path, 6, keep=1, score=Score("fvd", 100.0))
    assert names(tmp_path) == ["step-0000006"]  # of equals, the newest


def test_steps_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "step-notes").mkdir()
    for step in (9_999_999, 10_000_000):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-9999999", "step-10000000"]


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


def test_a_kill_while_an_old_one_is_deleted_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    delete = shutil.rmtree

    def delete_half(path: Path, ignore_errors: bool = False) -> None:
        if (path / "state.json").exists():
            (path / "state.json").unlink()
            raise KeyboardInterrupt
        delete(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", delete_half)
    for step in (2, 3):  # in place of itself, and beside others
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, step, keep=1)
        assert {load_checkpoint(path).step for path in list_checkpoints(tmp_path)} >= {step}
    monkeypatch.undo()
    save(tmp_path, 4, keep=1)
    assert names(tmp_path) == ["step-0000004"]


FILES = ["weights.safetensors", "ema.safetensors", "random.safetensors", "optimizers.pt", "state.json"]


@pytest.mark.parametrize("file", FILES)
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


@pytest.mark.parametrize("file", FILES[:-1])
def test_one_flipped_bit_is_found(tmp_path: Path, file: str) -> None:
    folder = save(tmp_path)
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} has another checksum than when it was written"):
        load_checkpoint(folder)


def test_the_size_of_a_truncated_file_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path)
    file = folder / "ema.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"ema.safetensors has {size - 5} bytes instead of {size}"):
        load_checkpoint(folder)


@pytest.mark.parametrize("error", [SafetensorError("no space"), RuntimeError("file write failed")])
def test_how_libraries_report_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=f"cannot write .*step-0000003: .*{error}"):
        save(tmp_path)
    assert names(tmp_path) == []


def test_fingerprints() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    same = {"b": tensors["b"].clone(), "a": tensors["a"].clone()}
    assert fingerprint(tensors) == fingerprint(same)
    for other in ({"a": tensors["a"].view(2, 3)}, {"a": tensors["a"] + 1e-6}, {"c": tensors["a"]}):
        assert fingerprint({**tensors, **other}) != fingerprint(tensors)
    assert fingerprint({}) == fingerprint({})


def test_nothing_but_tensors_and_plain_data_is_unpickled(tmp_path: Path) -> None:
    folder = save(tmp_path)
    torch.save({"train": Path("anything")}, folder / "optimizers.pt")
    state = json.loads((folder / "state.json").read_text())
    del state["files"]["optimizers.pt"]
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"(?s)cannot be read.*[Ww]eights"):
        load_checkpoint(folder)
