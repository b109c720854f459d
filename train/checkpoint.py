"""Checkpoints: a folder with everything a run needs to go on exactly, whole or absent."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from videogen.files import file_hash, read_json, remove_folder, remove_leftovers, tensors_hash, written_whole


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
    remove_leftovers(folder)
    with written_whole(final, is_folder=True, durable=True) as partial:
        save_file(_contiguous(checkpoint.weights), partial / "weights.safetensors")
        save_file(_contiguous(checkpoint.ema), partial / "ema.safetensors")
        save_file(_contiguous(checkpoint.random), partial / "random.safetensors")
        try:
            torch.save(checkpoint.optimizers, partial / "optimizers.pt")
        except RuntimeError as error:  # how torch reports a full disk
            raise OSError(f"optimizers.pt: {error}") from error
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in partial.iterdir()
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
            remove_folder(old)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote, after comparing its files with their checksums.

    Raises:
        ValueError: If a file of it is missing, truncated or altered; the message names it.
    """
    try:
        state = read_json(path / "state.json")
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
    return tensors_hash(
        (f"{name} {tuple(tensor.shape)} {tensor.dtype}", tensor) for name, tensor in sorted(tensors.items())
    )


def _best(paths: list[Path], name: str) -> Path | None:
    scores = {}
    for path in paths:
        try:
            score = read_json(path / "state.json").get("score")
        except ValueError:
            continue  # damaged: `load_checkpoint` says so if it is ever wanted
        if score and score["name"] == name:
            scores[path] = score["value"]
    return min(reversed(scores), key=scores.__getitem__, default=None)


def _check_file(path: Path, expected: dict[str, Any]) -> None:
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ValueError(f"{path.name} has {size} bytes instead of {expected['bytes']}")
    if file_hash(path) != expected["sha256"]:
        raise ValueError(f"{path.name} has another checksum than when it was written")


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
