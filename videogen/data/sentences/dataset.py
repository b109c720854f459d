"""Sentences with what they say as an endless training stream, without clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import torch

from videogen.data.batch import Batch
from videogen.data.emoji.artwork import Artwork
from videogen.data.emoji.names import Naming, namings
from videogen.data.sentences import words
from videogen.data.sentences.grammar import Grammar, Meaning, SaidObject
from videogen.data.shapes import captions as shape_captions
from videogen.data.shapes.dataset import FPS
from videogen.data.shapes.world import WORLDS

CLASSES: dict[str, tuple[str, ...]] = {
    "colour": tuple(words.COLOURS),
    "size": tuple(words.SIZES),
    "motion": tuple(words.MOTIONS),
    "background": tuple(words.BACKGROUNDS),
}
"""What can be said of an object, and of the background; class 0 is not said, class 1 the first of these."""

MAX_OBJECTS = 2
OBJECT_LABELS = ("thing", "colour", "size", "motion")
"""Columns of `Batch.labels` for each object in turn; before them comes the number of objects, behind them
the background."""


@dataclass(frozen=True)
class Sentences:
    """Sentences about shapes, subjects and things that are neither.

    Attributes:
        artwork: Folder of the world `emoji`; None for shapes, and things of neither world, alone.
        seed: Of the stream.
        two_object_rate: Share of sentences with two objects, in [0, 1].
        shape_rate: Share of objects that are shapes, in [0, 1].
        other_rate: Share of objects that are of neither world, in [0, 1].
        caption_rate: Share of sentences that are captions as the world `shapes` makes them, in [0, 1].
        typing_error_rate: See `Grammar`.
    """

    artwork: str | None = None
    seed: int = 0
    two_object_rate: float = 0.35
    shape_rate: float = 0.6
    other_rate: float = 0.1
    caption_rate: float = 0.08
    typing_error_rate: float = 0.3

    @property
    def things(self) -> tuple[str, ...]:
        """What there is in the worlds: shapes first, then the plain names of subjects."""
        return (*words.SHAPES, *_names_of(self.artwork))

    @property
    def others(self) -> tuple[str, ...]:
        """Things of neither world that sentences speak of."""
        return _others(self.artwork)

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The sentences at these positions, and what they say; see `ClipSource`.

        A thing of neither world has the class behind all `things`, in the order of `others`.
        """
        said = [self.sentence(sample_id) for sample_id in sample_ids]
        things = {
            thing: idx for idx, thing in enumerate((*self.things, *self.others), start=1)
        }
        labels = torch.tensor([_labels(meaning, things) for _, meaning in said])
        return Batch(tuple(sample_ids), None, tuple(text for text, _ in said), FPS, labels=labels.to(device))

    def sentence(self, sample_id: int) -> tuple[str, Meaning]:
        """The sentence at a position of the stream, and what it says."""
        rng = Random(f"sentence/{self.seed}/{sample_id}")
        if rng.random() < self.caption_rate:
            return self._caption(sample_id)
        count = 2 if rng.random() < self.two_object_rate else 1
        background = rng.choice(CLASSES["background"]) if rng.random() < 0.7 else None
        meaning = Meaning(tuple(self._object(rng) for _ in range(count)), background)
        names = _names_of(self.artwork)
        return Grammar(names, self.typing_error_rate).say(meaning, rng), meaning

    def _object(self, rng: Random) -> SaidObject:
        draw = rng.random()
        names = _names_of(self.artwork)
        is_shape = draw < self.shape_rate
        if is_shape:
            thing = rng.choice(tuple(words.SHAPES))
        elif names and draw < 1 - self.other_rate:
            thing = rng.choice(tuple(names))
        else:
            thing = rng.choice(self.others)
        return SaidObject(
            thing,
            rng.choice(CLASSES["colour"]) if rng.random() < (0.92 if is_shape else 0.25) else None,
            rng.choice(CLASSES["size"]) if rng.random() < 0.65 else None,
            rng.choice(CLASSES["motion"]) if rng.random() < 0.88 else None,
        )

    def _caption(self, sample_id: int) -> tuple[str, Meaning]:
        """A caption of a clip, which says all but the size for sure."""
        scene = WORLDS["shapes"].sample(self.seed, sample_id, num_frames=1)
        objects = tuple(SaidObject(item.shape, item.colour, item.size, item.motion) for item in scene.objects)
        plain = shape_captions.plain_caption(scene.objects, scene.background)
        return plain, Meaning(objects, scene.background.name)


@cache
def _names_of(artwork: str | None) -> dict[str, tuple[str, ...]]:
    """What subjects may be called, by their plain name."""
    if artwork is None:
        return {}
    found = {naming.name: _ways(naming) for naming in namings(Artwork(artwork).subjects).values()}
    return {name: ways for name, ways in found.items() if name not in words.SHAPES}


@cache
def _others(artwork: str | None) -> tuple[str, ...]:
    known = {word for ways in _names_of(artwork).values() for way in ways for word in way.split()}
    return tuple(thing for thing in words.OTHER_THINGS if not known & set(thing.split()))


def _ways(naming: Naming) -> tuple[str, ...]:
    symbol = (naming.symbol,) if naming.symbol else ()
    return (naming.name, *naming.others, *(f"{keyword} emoji" for keyword in naming.keywords), *symbol)


def _labels(meaning: Meaning, things: dict[str, int]) -> list[int]:
    labels = [len(meaning.objects)]
    for item in (*meaning.objects, *(None,) * (MAX_OBJECTS - len(meaning.objects))):
        labels.append(0 if item is None else things[item.thing])
        labels += [_class(name, None if item is None else getattr(item, name)) for name in OBJECT_LABELS[1:]]
    return [*labels, _class("background", meaning.background)]


def _class(attribute: str, value: str | None) -> int:
    return 0 if value is None else 1 + CLASSES[attribute].index(value)
