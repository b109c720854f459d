"""Words for scenes of the world `shapes`: templates and synonyms to train on, a plain form to evaluate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from videogen.data.shapes.world import BACKGROUNDS, COLOURS, Background, Scene, ShapeObject

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "yellow": ("yellow", "golden"),
    "orange": ("orange", "tangerine"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "pink": ("pink", "rose"),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "disk", "ball", "dot"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "hoop", "donut"),
    "cross": ("cross", "plus"),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium-sized", "mid-sized"),
    "large": ("large", "big", "huge"),
}
BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("black",),
    "white": ("white",),
    "gray": ("gray", "grey"),
    "navy": ("navy", "dark blue"),
    "beige": ("beige", "cream"),
}

_DIRECTION_WORDS: dict[str, tuple[str, ...]] = {
    "left": ("left", "to the left", "leftwards", "from right to left"),
    "right": ("right", "to the right", "rightwards", "from left to right"),
    "up": ("up", "upwards", "upward", "to the top"),
    "down": ("down", "downwards", "downward", "to the bottom"),
    "up-left": (
        "up-left", "up and left", "diagonally up and to the left",
        "to the upper left", "to the top left",
    ),
    "up-right": (
        "up-right", "up and right", "diagonally up and to the right",
        "to the upper right", "to the top right",
    ),
    "down-left": (
        "down-left", "down and left", "diagonally down and to the left",
        "to the lower left", "to the bottom left",
    ),
    "down-right": (
        "down-right", "down and right", "diagonally down and to the right",
        "to the lower right", "to the bottom right",
    ),
}  # fmt: skip
_TRAVEL_VERBS = (
    ("moves", "moving"), ("slides", "sliding"), ("glides", "gliding"),
    ("travels", "travelling"), ("drifts", "drifting"), ("goes", "going"),
)  # fmt: skip

MOTION_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    **{
        motion: tuple(
            (f"{finite} {direction}", f"{gerund} {direction}")
            for direction in directions
            for finite, gerund in _TRAVEL_VERBS
        )
        for motion, directions in _DIRECTION_WORDS.items()
    },
    "bounce": (("bounces", "bouncing"), ("bounces up and down", "bouncing up and down"), ("hops", "hopping")),
    "orbit": (
        ("moves in a circle", "moving in a circle"), ("orbits", "orbiting"),
        ("goes around in circles", "going around in circles"), ("circles around", "circling around"),
    ),
    "grow": (
        ("grows", "growing"), ("gets bigger", "getting bigger"),
        ("expands", "expanding"), ("becomes larger", "becoming larger"),
    ),
    "shrink": (
        ("shrinks", "shrinking"), ("gets smaller", "getting smaller"),
        ("contracts", "contracting"), ("becomes smaller", "becoming smaller"),
    ),
    "rotate": (("rotates", "rotating"), ("spins", "spinning"), ("turns around", "turning around")),
    "fade in": (("fades in", "fading in"), ("slowly appears", "slowly appearing")),
    "fade out": (
        ("fades out", "fading out"), ("slowly disappears", "slowly disappearing"), ("vanishes", "vanishing"),
    ),
    "still": (
        ("stays still", "staying still"), ("does not move", "not moving"),
        ("stands still", "standing still"), ("rests", "resting"),
    ),
}  # fmt: skip
"""For each motion, `(finite, gerund)` forms; the first is the plain one."""

_MOTION_OF_PLAIN = {forms[0][0]: motion for motion, forms in MOTION_WORDS.items()}
_PLAIN_OBJECT = re.compile(
    f"an? (?P<size>{'|'.join(SIZE_WORDS)}) (?P<colour>{'|'.join(COLOUR_WORDS)}) "
    f"(?P<shape>{'|'.join(SHAPE_WORDS)}) (?P<motion>{'|'.join(_MOTION_OF_PLAIN)})"
)
_PLAIN_BACKGROUND = re.compile(
    f"an? (?P<name>{'|'.join(BACKGROUND_WORDS)})(?P<gradient> gradient)? background"
)
_PLAIN_GRADIENT = 45.0  # in the middle of those that the world draws

Word = TypeVar("Word")


@dataclass(frozen=True)
class Description:
    """A caption, and which part of it speaks of which object.

    Attributes:
        text: The caption.
        mentions: For each object of the scene, in the order of its objects, the characters of the text that
            describe it: article, adjectives, noun, motion and place. Empty where that is not known.
    """

    text: str
    mentions: tuple[range, ...] = ()


_PLAIN_RATE = 0.5  # how often an attribute is said with its plain word rather than a synonym
_OPENINGS = ("a video of", "a clip of", "an animation of", "there is", "we see")
_CONNECTIVES = ("and", "while", "as", "with")
_BEHIND = ("on", "on", "over", "against", "in front of")


def plain_caption(objects: tuple[ShapeObject, ...], background: Background | None = None) -> str:
    """The one form that evaluation prompts take: every attribute named by its plain word."""
    said = " and ".join(
        f"{_article(item.size)} {item.size} {item.colour} {item.shape} {MOTION_WORDS[item.motion][0][0]}"
        for item in objects
    )
    if background is None:
        return said
    gradient = " gradient" if background.gradient else ""
    return f"{said} on {_article(background.name)} {background.name}{gradient} background"


def read_plain_caption(text: str) -> tuple[tuple[ShapeObject, ...], Background | None] | None:
    """What a caption in the plain form says: objects, and the background if it is named.

    The inverse of `plain_caption`, but for the strength and the angle of a gradient. None if the text is in
    another form, or names something that the world does not have.
    """
    words, behind, place = text.strip().casefold().partition(" on ")
    background = None
    if behind:
        found = _PLAIN_BACKGROUND.fullmatch(place)
        if found is None:
            return None
        background = Background(found["name"], gradient=_PLAIN_GRADIENT if found["gradient"] else 0.0)
    objects = [_PLAIN_OBJECT.fullmatch(part) for part in words.split(" and ")]
    read = tuple(
        ShapeObject(item["colour"], item["shape"], item["size"], _MOTION_OF_PLAIN[item["motion"]])
        for item in objects
        if item is not None
    )
    return (read, background) if len(read) == len(objects) else None


def caption(scene: Scene, rng: Random) -> str:
    """A caption as a person might write it: synonyms, several sentence forms, size or background left out at
    times.

    Colour, shape and motion of every object are always said, so that a held-out combination can be kept out.
    """
    return describe(scene, rng).text


def describe(scene: Scene, rng: Random) -> Description:
    """`caption`, with which part of it speaks of which object."""
    opening = rng.choice(_OPENINGS) if rng.random() < 0.3 else ""
    connective = rng.choice(_CONNECTIVES) if rng.random() < 0.5 else "and"
    gerund = bool(opening) or connective == "with"
    parts = [_describe(item, rng, gerund=gerund) for item in scene.objects]
    said = f" {connective} ".join(parts)
    if opening:
        said = f"{opening} {said}"
    mentions = locate(parts, said, connective)
    if rng.random() < 0.8:
        said = f"{said} {_describe_background(scene.background, rng)}"
    return Description(said, tuple(mentions))


def locate(parts: Sequence[str], text: str, connective: str) -> list[range]:
    """Where parts stand at the end of a text, joined by a connective."""
    places = []
    stop = len(text)
    for part in reversed(parts):
        places.append(range(stop - len(part), stop))
        stop -= len(f" {connective} {part}")
    return places[::-1]


def vocabulary() -> list[str]:
    """Every word that any caption can contain, sorted."""
    tables = (COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS, BACKGROUND_WORDS)
    phrases = [word for table in tables for words in table.values() for word in words]
    phrases += [form for forms in MOTION_WORDS.values() for pair in forms for form in pair]
    phrases += [*COLOURS, *BACKGROUNDS, *_OPENINGS, *_CONNECTIVES, *_BEHIND]
    phrases += [
        "a",
        "an",
        "the",
        "plain",
        "solid",
        "gradient",
        "background",
        "backdrop",
        "two",
        "shapes",
        "shape",
    ]
    return sorted({word for phrase in phrases for word in re.findall(r"[a-z]+", phrase)})


def _describe(item: ShapeObject, rng: Random, *, gerund: bool) -> str:
    words = [say(COLOUR_WORDS[item.colour], rng), say(SHAPE_WORDS[item.shape], rng)]
    if rng.random() < 0.85:
        words.insert(0, say(SIZE_WORDS[item.size], rng))
    words.insert(0, "the" if rng.random() < 0.1 else _article(words[0]))
    words.append(say(MOTION_WORDS[item.motion], rng)[int(gerund)])
    return " ".join(words)


def _describe_background(background: Background, rng: Random) -> str:
    name = say(BACKGROUND_WORDS[background.name], rng)
    kind = "gradient" if background.gradient else rng.choice(("", "", "plain", "solid"))
    noun = rng.choice(("background", "background", "backdrop"))
    words = [kind, name, noun] if kind in ("plain", "solid") else [name, kind, noun]
    words = [word for word in words if word]
    return f"{rng.choice(_BEHIND)} {_article(words[0])} {' '.join(words)}"


def say(words: Sequence[Word], rng: Random) -> Word:
    """One of these words, the first one most often."""
    return words[0] if rng.random() < _PLAIN_RATE else rng.choice(words)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
