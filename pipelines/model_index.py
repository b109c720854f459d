"""What the folder of a pipeline says that it holds, and the scheduler in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videogen.files import read_json
from videogen.pipelines.latent_generation import ClipDefaults

INDEX = "model_index.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
NOT_HERE = [None, None]
"""How an index lists a component that is not in the folder."""


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a pipeline's folder."""
    return read_json(folder / INDEX)


def class_names(folder: Path, index: dict[str, Any], components: Sequence[str]) -> dict[str, str]:
    """The class of each component, without its library.

    Raises:
        ValueError: If the index lists not all of them, or names no class for one.
    """
    missing = [name for name in components if name not in index]
    if missing:
        raise ValueError(f"{folder / INDEX} lists no {', '.join(missing)}")
    broken = [name for name in components if not isinstance(index[name], list) or len(index[name]) != 2]
    if broken:
        raise ValueError(f"{folder / INDEX} must name a library and a class for {', '.join(broken)}")
    return {name: index[name][1] for name in components}


def has_shared_codec(index: dict[str, Any]) -> bool:
    """Whether the codec is not in the folder: diffusers' `[null, null]`. It is the embedded one then."""
    return index.get("vae") == NOT_HERE


def read_settings(folder: Path, index: dict[str, Any], defaults_class: type[ClipDefaults]) -> dict[str, Any]:
    """What our pipelines add to an index, where it is there: `prediction_type`, `defaults`, `codec_hash`.

    Raises:
        ValueError: If `defaults` has fields that its class has not.
    """
    names = ("prediction_type", "defaults", "codec_hash")
    settings: dict[str, Any] = {name: index[name] for name in names if name in index}
    try:
        defaults_class(**settings.get("defaults", {}))
    except TypeError as error:
        raise ValueError(f"`defaults` in {folder / INDEX} cannot be used: {error}") from error
    return settings


def read_scheduler(folder: Path, class_name: str) -> Any:
    """The scheduler in a pipeline's folder.

    Raises:
        ValueError: If diffusers has no such class, or its config cannot be used.
    """
    import diffusers

    kind = getattr(diffusers, class_name, None)
    if kind is None:
        raise ValueError(f"{folder / 'scheduler'}: diffusers has no scheduler {class_name!r}")
    return from_config(kind, read_json(folder / SCHEDULER_CONFIG))


def from_config(kind: Any, config: dict[str, Any]) -> Any:
    """An instance of a class of diffusers, with a ValueError where its config cannot be used."""
    try:
        return kind.from_config(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the config of {kind.__name__} cannot be used: {error}") from error
