"""English for scenes of the world `emoji`: many ways to say them to train on, a plain form to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from videogen.data.emoji.names import Naming, agree, article, with_article
from videogen.data.emoji.world import (
    BACKDROP_COLOURS,
    Backdrop,
    EmojiObject,
    EmojiScene,
    place_of,
)
from videogen.data.shapes import captions as shapes
from videogen.data.shapes.captions import COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS, Description
from videogen.data.shapes.world import ShapeObject, X, Y

BACKDROP_WORDS: dict[str, tuple[str, ...]] = {
    **COLOUR_WORDS,
    **shapes.BACKGROUND_WORDS,
    "brown": ("brown",),
    "teal": ("teal", "dark cyan"),
    "lavender": ("lavender", "light purple"),
    "sky blue": ("sky blue", "light blue", "pale blue"),
}
KIND_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("", "plain", "solid", "flat"),
    "gradient": ("gradient", "shaded"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted", "polka dot"),
    "checkered": ("checkered", "chequered", "checked"),
    "mottled": ("mottled", "cloudy", "textured"),
}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "top left": ("in the top left corner", "in the upper left", "at the top left"),
    "top": ("at the top", "near the top edge", "high up"),
    "top right": ("in the top right corner", "in the upper right", "at the top right"),
    "left": ("on the left", "on the left side", "at the left edge"),
    "middle": ("in the middle", "in the center", "in the centre", "at the centre"),
    "right": ("on the right", "on the right side", "at the right edge"),
    "bottom left": ("in the bottom left corner", "in the lower left", "at the bottom left"),
    "bottom": ("at the bottom", "near the bottom edge", "low down"),
    "bottom right": ("in the bottom right corner", "in the lower right", "at the bottom right"),
}
IN_PLACE = frozenset({"still", "grow", "shrink", "rotate", "fade in", "fade out"})
"""Motions whose place does not change."""

_MORE_MOTION_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "left": (
        ("heads west", "heading west"), ("heads left", "heading left"), ("moves west", "moving west"),
        ("crosses from right to left", "crossing from right to left"), ("walks left", "walking left"),
        ("runs to the left", "running to the left"), ("flies left", "flying left"),
    ),
    "right": (
        ("heads east", "heading east"), ("heads right", "heading right"), ("moves east", "moving east"),
        ("crosses from left to right", "crossing from left to right"), ("walks right", "walking right"),
        ("runs to the right", "running to the right"), ("flies right", "flying right"),
    ),
    "up": (
        ("rises", "rising"), ("goes up", "going up"), ("floats up", "floating up"),
        ("climbs", "climbing"), ("ascends", "ascending"), ("flies up", "flying up"),
        ("heads north", "heading north"), ("lifts off", "lifting off"), ("takes off", "taking off"),
    ),
    "down": (
        ("falls", "falling"), ("sinks", "sinking"), ("drops", "dropping"), ("descends", "descending"),
        ("comes down", "coming down"), ("heads south", "heading south"), ("falls down", "falling down"),
    ),
    "up-left": (
        ("heads northwest", "heading northwest"), ("rises to the left", "rising to the left"),
        ("flies up and left", "flying up and left"), ("climbs to the left", "climbing to the left"),
    ),
    "up-right": (
        ("heads northeast", "heading northeast"), ("rises to the right", "rising to the right"),
        ("flies up and right", "flying up and right"), ("climbs to the right", "climbing to the right"),
    ),
    "down-left": (
        ("heads southwest", "heading southwest"), ("falls to the left", "falling to the left"),
        ("sinks to the left", "sinking to the left"), ("drops to the left", "dropping to the left"),
    ),
    "down-right": (
        ("heads southeast", "heading southeast"), ("falls to the right", "falling to the right"),
        ("sinks to the right", "sinking to the right"), ("drops to the right", "dropping to the right"),
    ),
    "bounce": (
        ("jumps", "jumping"), ("jumps up and down", "jumping up and down"), ("leaps", "leaping"),
        ("hops up and down", "hopping up and down"), ("springs up and down", "springing up and down"),
    ),
    "orbit": (
        ("goes round and round", "going round and round"), ("runs in circles", "running in circles"),
        ("flies in a circle", "flying in a circle"), ("travels in a loop", "travelling in a loop"),
    ),
    "grow": (
        ("swells", "swelling"), ("gets larger", "getting larger"), ("comes closer", "coming closer"),
        ("zooms in", "zooming in"), ("approaches", "approaching"), ("inflates", "inflating"),
    ),
    "shrink": (
        ("dwindles", "dwindling"), ("becomes tiny", "becoming tiny"), ("recedes", "receding"),
        ("moves away", "moving away"), ("zooms out", "zooming out"), ("deflates", "deflating"),
    ),
    "rotate": (
        ("twirls", "twirling"), ("turns", "turning"), ("whirls", "whirling"), ("revolves", "revolving"),
        ("spins around", "spinning around"), ("rolls over", "rolling over"), ("pirouettes", "pirouetting"),
    ),
    "fade in": (
        ("comes into view", "coming into view"), ("appears", "appearing"), ("emerges", "emerging"),
        ("gradually appears", "gradually appearing"), ("materialises", "materialising"),
        ("becomes visible", "becoming visible"),
    ),
    "fade out": (
        ("disappears", "disappearing"), ("fades away", "fading away"), ("dissolves", "dissolving"),
        ("gradually disappears", "gradually disappearing"), ("fades from view", "fading from view"),
    ),
    "still": (
        ("stays in place", "staying in place"), ("stays put", "staying put"),
        ("remains still", "remaining still"), ("sits still", "sitting still"),
        ("keeps its place", "keeping its place"), ("is motionless", "being motionless"),
    ),
}  # fmt: skip
MOTION_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    motion: forms + _MORE_MOTION_WORDS[motion] for motion, forms in shapes.MOTION_WORDS.items()
}
"""For each motion, `(finite, gerund)` forms; the first is the plain one."""

_OPENINGS = (
    "a video of", "a clip of", "an animation of", "there is", "we see", "animated emoji of", "footage of",
)  # fmt: skip
_CONNECTIVES = ("and", "and", "and", "while", "as", "with")
_BESIDE = ("beside", "next to", "near", "together with")
_BEHIND = ("on", "on", "over", "against", "in front of")


def plain_caption(
    objects: Sequence[EmojiObject | ShapeObject],
    namings: Mapping[str, Naming],
    backdrop: Backdrop | None = None,
) -> str:
    """The one form that evaluation prompts take: every attribute named by its plain word."""
    said = []
    for item in objects:
        noun = namings[item.name].name if isinstance(item, EmojiObject) else f"{item.colour} {item.shape}"
        phrase = with_article(f"{item.size} {noun}", noun)
        said.append(f"{phrase} {agree(MOTION_WORDS[item.motion][0][0], noun)}")
    words = " and ".join(said)
    if backdrop is None:
        return words
    kind = "" if backdrop.kind == "plain" else f" {backdrop.kind}"
    return f"{words} on {article(backdrop.colour)} {backdrop.colour}{kind} background"


def caption(scene: EmojiScene, namings: Mapping[str, Naming], rng: Random) -> str:
    """A caption as a person might write it: synonyms, several sentence forms, what is not essential left out.

    Which subject, colour and shape there are and how they move is always said, so that held-out combinations
    can be kept out.
    """
    return describe(scene, namings, rng).text


def describe(scene: EmojiScene, namings: Mapping[str, Naming], rng: Random) -> Description:
    """`caption`, with which part of it speaks of which object."""
    opening = rng.choice(_OPENINGS) if rng.random() < 0.3 else ""
    order = list(range(len(scene.objects)))
    if scene.overlap:
        connective = rng.choice(("in front of", "behind"))
        if connective == "in front of":
            order.reverse()  # what is painted last is in front
    elif rng.random() < 0.2:
        connective = rng.choice(_BESIDE)
    else:
        connective = rng.choice(("and", "with") if opening else _CONNECTIVES)
    gerund = bool(opening) or connective not in ("and", "while", "as")
    parts = [_describe(scene, idx, namings, rng, gerund=gerund) for idx in order]
    said = f" {connective} ".join(parts)
    if opening:
        said = f"{opening} {said}"
    places = dict(zip(order, shapes.locate(parts, said, connective), strict=True))
    if rng.random() < 0.75:
        said = f"{said} {_describe_backdrop(scene.backdrop, rng)}"
    return Description(said, tuple(places[idx] for idx in range(len(order))))


def phrases(namings: Mapping[str, Naming]) -> list[str]:
    """All that a caption can be made of, for a vocabulary."""
    tables = (BACKDROP_WORDS, KIND_WORDS, PLACE_WORDS, COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS)
    found = {word for table in tables for words in table.values() for word in words}
    found.update(form for forms in MOTION_WORDS.values() for pair in forms for form in pair)
    found.update(agree(finite, "eyes") for forms in MOTION_WORDS.values() for finite, _ in forms)
    found.update((*BACKDROP_COLOURS, *_OPENINGS, *_CONNECTIVES, *_BESIDE, *_BEHIND, "behind"))
    for naming in namings.values():
        found.update((naming.name, *naming.others, *naming.keywords, naming.symbol))
    found.update(("a", "an", "the", "emoji", "background", "backdrop"))
    return sorted(found - {""})


def _describe(
    scene: EmojiScene, idx: int, namings: Mapping[str, Naming], rng: Random, *, gerund: bool
) -> str:
    item = scene.objects[idx]
    if isinstance(item, EmojiObject):
        noun = _say_subject(namings[item.name], rng)
    else:
        noun = f"{shapes.say(COLOUR_WORDS[item.colour], rng)} {shapes.say(SHAPE_WORDS[item.shape], rng)}"
    words = noun
    if rng.random() < 0.6:
        words = f"{shapes.say(SIZE_WORDS[item.size], rng)} {words}"
    words = f"the {words}" if rng.random() < 0.1 else with_article(words, noun)
    finite, moving = shapes.say(MOTION_WORDS[item.motion], rng)
    words = f"{words} {moving if gerund else agree(finite, noun)}"
    if item.motion in IN_PLACE and rng.random() < 0.4:
        place = place_of(float(scene.tracks[idx][0, X]), float(scene.tracks[idx][0, Y]))
        words = f"{words} {rng.choice(PLACE_WORDS[place])}"
    return words


def _say_subject(naming: Naming, rng: Random) -> str:
    """A name, an everyday name, or a keyword or the symbol of it as an emoji."""
    share = rng.random()
    if share < 0.03 and naming.symbol:
        return naming.symbol
    if share < 0.15:
        return f"{rng.choice((naming.name, *naming.keywords))} emoji"
    if share < 0.45 and naming.others:
        return rng.choice(naming.others)
    return naming.name


def _describe_backdrop(backdrop: Backdrop, rng: Random) -> str:
    colour = shapes.say(BACKDROP_WORDS[backdrop.colour], rng)
    kind = shapes.say(KIND_WORDS[backdrop.kind], rng)
    noun = rng.choice(("background", "background", "backdrop"))
    ordered = (kind, colour, noun) if backdrop.kind == "plain" or rng.random() < 0.2 else (colour, kind, noun)
    words = " ".join(word for word in ordered if word)
    return f"{rng.choice(_BEHIND)} {article(words)} {words}"
