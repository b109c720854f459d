"""Checkpoints: a folder with everything a run needs to go on exactly, whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """How good a checkpoint is.

    Attributes:
        name: Of the value in the log.
        value: Its mean over the last steps; lower is better.
    """

    name: str
    value: float


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` optimizer steps.

    Attributes:
        step: Steps done.
        weights: State dict of the objective's trained parts.
        ema: Averaged weights, under the same names.
        optimizers: State dict of the optimizer of each phase.
        random: States of the global random generators, `(processes, bytes)` uint8, by device type.
        config: The resolved configuration.
        frozen: Fingerprint of the weights that are not trained and so not in here; see `fingerprint`.
        versions: Of the libraries that decide about bits.
        score: None if nothing was logged yet.
    """

    step: int
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizers: dict[str, Any]
    random: dict[str, Tensor] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    frozen: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    score: Score | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint beside the others, then give it its name, then drop all but the newest and the best.

    Args:
        folder: Of the run's checkpoints.
        checkpoint: What to write.
        keep: How many of the newest are kept; the one with the lowest score is kept besides.

    Raises:
        OSError: If it cannot be written, as on a full disk; the earlier checkpoints are then untouched.
    """
    final = folder / f"step-{checkpoint.step:07d}"
    partial = folder / f".{final.name}.partial"
    for left in folder.glob(".step-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with written_whole(partial, final):
        save_file(_contiguous(checkpoint.weights), partial / "weights.safetensors")
        save_file(_contiguous(checkpoint.ema), partial / "ema.safetensors")
        save_file(_contiguous(checkpoint.random), partial / "random.safetensors")
        torch.save(checkpoint.optimizers, partial / "optimizers.pt")
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in partial.iterdir()
        }
        score = checkpoint.score
        state = {
            "step": checkpoint.step,
            "score": None if score is None else {"name": score.name, "value": score.value},
            "files": files,
            "frozen": checkpoint.frozen,
            "versions": checkpoint.versions,
            "config": checkpoint.config,
        }
        (partial / "state.json").write_text(json.dumps(state, indent=2))
    # A damaged checkpoint of a later step must not count, or it would outlive the good ones.
    until_here = [path for path in list_checkpoints(folder) if _step_of(path) <= checkpoint.step]
    best = None if score is None else _best(until_here, score.name)
    for old in until_here[:-keep]:
        if old != best:
            shutil.rmtree(_set_aside(old))
    return final


@contextmanager
def written_whole(partial: Path, final: Path) -> Iterator[None]:
    """Within, the folder `partial` is filled; afterwards it is on the disk and has the name `final`.

    Whenever the process is killed, what has that name is whole, or absent.

    Raises:
        OSError: If something in it cannot be written; then `partial` is gone and `final` as it was.
    """
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield
        for path in (*partial.rglob("*"), partial):
            _flush(path)
    except (SafetensorError, RuntimeError) as error:  # how safetensors and torch report a full disk
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"{final} cannot be written: {error}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    before = _set_aside(final) if final.exists() else None
    partial.rename(final)
    _flush(final.parent)
    if before is not None:
        shutil.rmtree(before)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote, after comparing its files with their checksums.

    Raises:
        ValueError: If a file of it is missing, truncated or altered; the message names it.
    """
    try:
        state = json.loads((path / "state.json").read_text())
        for name, expected in state.get("files", {}).items():
            _check_file(path / name, expected)
        score = state.get("score")
        return Checkpoint(
            state["step"],
            weights=load_file(path / "weights.safetensors"),
            ema=load_file(path / "ema.safetensors"),
            optimizers=torch.load(path / "optimizers.pt", map_location="cpu", weights_only=True),
            # The first checkpoints, without `files`, held no more than those three.
            random=load_file(path / "random.safetensors") if "files" in state else {},
            config=state["config"],
            frozen=state.get("frozen", ""),
            versions=state.get("versions", {}),
            score=Score(**score) if score else None,
        )
    except Exception as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error}") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints, oldest first; damaged ones too, but none that was not finished."""
    return sorted((path for path in folder.glob("step-*") if re.search(r"-\d+$", path.name)), key=_step_of)


def best_checkpoint(folder: Path, name: str) -> Path | None:
    """The checkpoint with the lowest score of that name, the newest of equals; None if none has one."""
    return _best(list_checkpoints(folder), name)


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """A checksum over names, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _best(paths: list[Path], name: str) -> Path | None:
    scores = {}
    for path in paths:
        try:
            score = json.loads((path / "state.json").read_text()).get("score")
        except (OSError, ValueError):
            continue  # damaged: `load_checkpoint` says so if it is ever wanted
        if score and score["name"] == name:
            scores[path] = score["value"]
    return min(reversed(scores), key=scores.__getitem__, default=None)


def _set_aside(folder: Path) -> Path:
    """Give a folder another name, to be deleted under, so that a kill meanwhile leaves no half of it."""
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def _check_file(path: Path, expected: dict[str, Any]) -> None:
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ValueError(f"{path.name} has {size} bytes instead of {expected['bytes']}")
    if _sha256(path) != expected["sha256"]:
        raise ValueError(f"{path.name} has another checksum than when it was written")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
