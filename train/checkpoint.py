"""Checkpoints: a folder with everything a run needs to go on exactly, whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` optimizer steps.

    Attributes:
        step: Steps done.
        weights: State dict of the objective's trained parts.
        ema: Averaged weights, under the same names.
        optimizers: State dict of the optimizer of each phase.
    """

    step: int
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizers: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, config: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint beside the others, then give it its name, then drop all but the newest `keep`.

    Raises:
        OSError: If it cannot be written; the earlier checkpoints are then untouched.
    """
    final = folder / f"{_PREFIX}{checkpoint.step:07d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file(_contiguous(checkpoint.weights), partial / "weights.safetensors")
        save_file(_contiguous(checkpoint.ema), partial / "ema.safetensors")
        torch.save(checkpoint.optimizers, partial / "optimizers.pt")
        (partial / "state.json").write_text(json.dumps({"step": checkpoint.step, "config": config}, indent=2))
        for path in partial.iterdir():
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _flush(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises:
        ValueError: If a file of it is missing or cannot be read; the message names it.
    """
    try:
        step = json.loads((path / "state.json").read_text())["step"]
        weights = load_file(path / "weights.safetensors")
        ema = load_file(path / "ema.safetensors")
        optimizers = torch.load(path / "optimizers.pt", map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error}") from error
    return Checkpoint(step, weights, ema, optimizers)


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if (path / "state.json").exists())


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
