"""Dataclasses out of JSON that a stranger may have edited, with an error that names what is wrong in it."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_Kind = TypeVar("_Kind")

_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    tuple: "a list",
    types.NoneType: "null",
}  # else an object


def read_fields(kind: type[_Kind], values: object, source: str) -> _Kind:
    """A dataclass whose fields are of JSON's types, `tuple[X, ...]` for lists, other dataclasses, or unions.

    Args:
        kind: Its type.
        values: What JSON gave.
        source: What it is, for messages.

    Raises:
        ValueError: If `values` is no object of JSON, or a field is unknown, missing or of a wrong type.
    """
    assert is_dataclass(kind)
    if not isinstance(values, dict):
        raise ValueError(f"{source} must be an object of JSON, got {values!r}")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise ValueError(f"{source} has fields that are not known here: {', '.join(unknown)}")
    missing = [
        name
        for name, field in known.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(
        **{name: _read(value, hints[name], f"`{name}` in {source}") for name, value in values.items()}
    )


def _read(value: Any, hint: Any, what: str) -> Any:
    choices = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    origins = [get_origin(choice) or choice for choice in choices]
    for choice, origin in zip(choices, origins, strict=True):
        if origin is tuple and isinstance(value, list):
            return tuple(_read(item, get_args(choice)[0], f"an item of {what}") for item in value)
        if origin is dict and isinstance(value, dict):
            return {
                key: _read(item, get_args(choice)[1], f"`{key}` of {what}") for key, item in value.items()
            }
        if is_dataclass(origin) and isinstance(value, dict):
            return read_fields(choice, value, what)
        if origin is Any or _is_plain(value, origin):
            return value
    expected = " or ".join(_NAMES.get(origin, "an object") for origin in origins)
    raise ValueError(f"{what} must be {expected}, got {value!r}")


def _is_plain(value: Any, kind: type) -> bool:
    """Whether a value is of a type of JSON; bool is none here, though Python takes it for a whole number."""
    if isinstance(value, bool):
        return False
    if kind is float:  # JSON writes whole ones without a point, and Python reads NaN from it
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)
