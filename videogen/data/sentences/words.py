"""How people say the attributes of a scene in English: far more ways than a caption needs."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from videogen.data.emoji import captions as emoji


def _read() -> dict[str, Any]:
    text = resources.files("videogen.data.sentences").joinpath("english.toml").read_text("utf-8")
    return tomllib.loads(text)


def _tuples(table: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(values) for key, values in table.items()}


_ENGLISH = _read()

COLOURS: dict[str, tuple[str, ...]] = {
    # Light blue and light cyan may be taken for each other.
    colour: (
        *names,
        *(f"{shade} {colour}" for shade in _ENGLISH["shades"][: 6 if colour in ("blue", "cyan") else None]),
    )
    for colour, names in _ENGLISH["colours"].items()
}
_OTHER_BACKGROUNDS = _tuples(_ENGLISH["other_backgrounds"])
_CLAIMED = {name for names in _OTHER_BACKGROUNDS.values() for name in names}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    **{colour: tuple(name for name in names if name not in _CLAIMED) for colour, names in COLOURS.items()},
    **_OTHER_BACKGROUNDS,
}
"""Names of backgrounds; some mean another colour than they do on an object."""

SHAPES = _tuples(_ENGLISH["shapes"])
SIZES = _tuples(_ENGLISH["sizes"])
"""Adjectives; those that begin with "of", "neither" or "not" stand behind the noun."""

TRAVEL = tuple(_ENGLISH["travel"])


def _mirrored(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """The same towards the right: every left becomes right and every right left, west becomes east."""
    return tuple(
        phrase.replace("left", "\0").replace("right", "left").replace("\0", "right").replace("west", "east")
        for phrase in phrases
    )


def _diagonal(vertical: str, side: str, wind: str) -> tuple[str, ...]:
    upper, top = ("upper", "top") if vertical == "up" else ("lower", "bottom")
    other_top, other_side = ("bottom" if vertical == "up" else "top"), ("right" if side == "left" else "left")
    ns = "north" if vertical == "up" else "south"
    return (
        f"{vertical} and {side}", f"{vertical} and to the {side}", f"diagonally {vertical} and to the {side}",
        f"to the {upper} {side}", f"to the {top} {side}", f"{vertical} {side}", f"{side} and {vertical}",
        f"towards the {upper} {side} corner", f"toward the {top} {side} corner", f"{ns}{wind}",
        f"{ns} {wind}", f"diagonally {vertical} {side}", f"{vertical}wards and {side}wards",
        f"{vertical}ward and to the {side}", f"to the {side} and {vertical}wards",
        f"in the {upper} {side} direction",
        f"from the {other_top} {other_side} to the {top} {side}", f"diagonally to the {upper} {side}",
        f"{vertical}wards to the {side}", f"into the {top} {side} corner",
        f"{side} and {vertical} at the same time",
        f"diagonally towards the {top} {side}", f"{ns}{wind}ward", f"{vertical} towards the {side}",
        f"from {other_top} {other_side} to {top} {side}", f"at an angle {vertical} and to the {side}",
        f"{vertical} {side}wards", f"to the {side} and {vertical}",
    )  # fmt: skip


_DIRECTIONS = _tuples(_ENGLISH["directions"])
DIRECTIONS: dict[str, tuple[str, ...]] = {
    "left": _DIRECTIONS["left"],
    "right": _mirrored(_DIRECTIONS["left"]),
    "up": _DIRECTIONS["up"],
    "down": _DIRECTIONS["down"],
    **{
        f"{vertical}-{side}": _diagonal(vertical, side, wind)
        for vertical in ("up", "down")
        for side, wind in (("left", "west"), ("right", "east"))
    },
}
"""Where to, behind a verb of `TRAVEL`."""

_MOTIONS = _tuples(_ENGLISH["motions"])
MOTIONS: dict[str, tuple[str, ...]] = {
    "left": _MOTIONS["left"],
    "right": _MOTIONS["right"],
    "up": (*_ENGLISH["rise"], *_MOTIONS["up"]),
    "down": (*_ENGLISH["fall"], *_MOTIONS["down"]),
    **{
        f"{vertical}-{side}": tuple(
            f"{verb} {place.format(side)}" for verb in verbs for place in _ENGLISH["aside"]
        )
        for vertical, verbs in (("up", _ENGLISH["rise"]), ("down", _ENGLISH["fall"]))
        for side in ("left", "right")
    },
    **{motion: phrases for motion, phrases in _MOTIONS.items() if motion not in DIRECTIONS},
}
"""For each motion verb phrases in their plain form, beside those of `TRAVEL` with a direction."""

PARTICIPLES = _tuples(_ENGLISH["participles"])
"""Adjectives that say how something moves, for those motions that have some."""
NOMINALS = _tuples(_ENGLISH["nominals"])
"""What can follow a noun in place of a verb."""

OTHER_THINGS = tuple(_ENGLISH["other_things"])
"""Subjects of neither world, which an encoder learns to point at without knowing them."""

PLACES: tuple[str, ...] = tuple(phrase for phrases in emoji.PLACE_WORDS.values() for phrase in phrases)
KINDS: tuple[str, ...] = tuple(word for words in emoji.KIND_WORDS.values() for word in words if word)

FORMS = _tuples(_ENGLISH["forms"])
"""Pieces of sentences, by what they are for."""
GROUND = _tuples(_ENGLISH["ground"])
"""Ways to say what is behind, to be formatted with `colour`, `noun` and `whole`, a phrase of both."""
ATTRIBUTES = _tuples(_ENGLISH["attributes"])
"""Ways to say a colour or a size before a noun, behind it or later, to be formatted."""
