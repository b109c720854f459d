"""The files of a prepared dataset: shards of tensors, what was found out about each video, and the index.

    dataset.json             what the dataset holds, readable, with the shard of every clip
    report.html              what happened to each video
    latents/*.safetensors    latents of some clips each, `(C, f, h, w)`
    text/*.safetensors       embeddings `(L, D)` and masks `(L,)` of some captions each
    pixels/*.safetensors     frames `(F, H, W, 3)` uint8 of some clips each, where they were asked for
    videos/*.safetensors     what was found out about each video, by its content, so that it is read once

Every tensor's name is a hash of all that it was made from, and every file is written whole or not at all. So
whatever is found can be used, and whatever cannot be used is never found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from videogen.data.footage.frames import VideoFormat
from videogen.data.footage.inspection import Inspection
from videogen.files import read_json, write_json, written_whole

INDEX_NAME = "dataset.json"
REPORT_NAME = "report.html"
LATENTS, TEXT, PIXELS, VIDEOS = "latents", "text", "pixels", "videos"
MASK_SUFFIX = ".mask"

INSPECTION_VERSION = 3
"""Part of the name of what is remembered about a video: to be raised when inspections find other things."""

_SHARD_NAMES, _SHARD_BYTES = 64, 64 * 2**20  # what an interruption at worst does over again


def content_key(**parts: Any) -> str:
    """A name, 32 hexadecimal digits, that depends on all of some JSON-able values."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_dataset_folder(out: Path, footage: Path) -> None:
    """Raise ValueError unless a dataset of some footage may be written to `out`."""
    inner, outer = out.resolve(), footage.resolve()
    if inner.is_relative_to(outer):
        raise ValueError(f"`out` {str(out)!r} lies in the footage {str(footage)!r}: choose a folder outside")
    if outer.is_relative_to(inner):
        raise ValueError(f"`out` {str(out)!r} holds the footage {str(footage)!r}: choose another folder")
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` {str(out)!r} is a file: choose a folder")
    for parent in out.parents:
        if parent.is_file():
            raise ValueError(f"`out` {str(out)!r} lies in {str(parent)!r}, which is a file: choose a folder")
    known = {INDEX_NAME, REPORT_NAME, LATENTS, TEXT, PIXELS, VIDEOS}
    if out.is_dir():
        strangers = [path.name for path in out.iterdir() if path.name not in known and path.name[0] != "."]
        if strangers:
            raise ValueError(f"`out` {str(out)!r} holds other things, such as {strangers[0]!r}")


class ShardFolder:
    """Shards of one kind of tensors, in a folder.

    Args:
        folder: Where they are; it need not exist yet.
        max_names: How many names at most `put` gathers in one shard.
    """

    def __init__(self, folder: Path, max_names: int = _SHARD_NAMES) -> None:
        self.folder = folder
        self.max_names = max_names
        self._waiting: dict[str, Tensor] = {}
        self.shard_of: dict[str, str] = {}
        for shard in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
            for name in _names_in(shard):
                self.shard_of.setdefault(name, shard.name)

    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Let tensors wait for the next shard, all of them for the same, and write it once it is full.

        Raises:
            OSError: If it cannot be written.
        """
        self._waiting.update(tensors)
        num_bytes = sum(tensor.nbytes for tensor in self._waiting.values())
        if len(self._waiting) >= self.max_names or num_bytes >= _SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: If it cannot be written.
        """
        waiting, self._waiting = self._waiting, {}
        self.add(waiting)

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Write a shard, named after what it holds.

        Raises:
            OSError: If it cannot be written.
        """
        if not tensors:
            return
        shard = f"{content_key(names=sorted(tensors))}.safetensors"
        with written_whole(self.folder / shard) as partial:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        self.shard_of.update(dict.fromkeys(tensors, shard))


def _names_in(shard: Path) -> list[str]:
    try:
        with safe_open(shard, framework="pt") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{shard} is damaged ({error}): delete it and prepare the footage again") from error


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write the index of a dataset.

    Raises:
        OSError: If it cannot be written.
    """
    write_json(folder / INDEX_NAME, index)


def read_index(folder: Path) -> dict[str, Any]:
    """Read the index of a dataset.

    Raises:
        ValueError: If the folder is not a dataset, or one of another version.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        hint = "an interrupted one is finished by the same `videogen prepare`" if folder.is_dir() else ""
        missing = f"there is no {INDEX_NAME}" if folder.is_dir() else "there is no such folder"
        raise ValueError(f"`dataset` {str(folder)!r}: {missing}" + (f"; {hint}" if hint else ""))
    try:
        index = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}: prepare the footage again") from error
    version = index.get("videogen_dataset")
    if version != 1:
        raise ValueError(f"{path} has version {version}, this videogen reads 1: prepare the footage again")
    return index


def save_inspection(folder: Path, key: str, inspection: Inspection) -> None:
    """Remember what was found out about a video.

    Raises:
        OSError: If it cannot be written.
    """
    facts = asdict(inspection.format)
    facts["pixel_aspect"], facts["rate"] = str(facts["pixel_aspect"]), str(facts["rate"])
    facts = {
        "format": facts,
        "losses": inspection.losses,
        "cuts": inspection.cuts,
        "notes": inspection.notes,
        "sha256": inspection.sha256,
    }
    arrays = {
        "times": inspection.times,
        "ranges": inspection.ranges,
        "changes": inspection.changes,
        "jumps": inspection.jumps,
        "signature_idxs": inspection.signature_idxs,
        "signatures": inspection.signatures,
    }
    for idx, jpeg in inspection.thumbnails.items():
        arrays[f"thumbnail.{idx}"] = np.frombuffer(jpeg, np.uint8)
    with written_whole(folder / VIDEOS / f"{key}.safetensors") as partial:
        save_arrays(arrays, partial, metadata={"facts": json.dumps(facts)})


def load_inspection(folder: Path, key: str) -> Inspection | None:
    """What is remembered about a video; None if it was not inspected, or only by an interrupted command."""
    path = folder / VIDEOS / f"{key}.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, framework="np") as file:
        facts = json.loads(file.metadata()["facts"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    facts["format"]["pixel_aspect"] = Fraction(facts["format"]["pixel_aspect"])
    facts["format"]["rate"] = Fraction(facts["format"]["rate"])
    thumbnails = {
        int(name.removeprefix("thumbnail.")): array.tobytes()
        for name, array in arrays.items()
        if name.startswith("thumbnail.")
    }
    return Inspection(
        sha256=facts["sha256"],
        format=VideoFormat(**facts["format"]),
        times=arrays["times"],
        ranges=arrays["ranges"],
        changes=arrays["changes"],
        jumps=arrays["jumps"],
        signature_idxs=arrays["signature_idxs"],
        signatures=arrays["signatures"],
        losses=tuple(facts["losses"]),
        cuts=tuple(facts["cuts"]),
        thumbnails=dict(sorted(thumbnails.items())),
        notes=tuple(facts["notes"]),
    )
