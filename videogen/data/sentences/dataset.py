"""Sentences with what they say as an endless training stream, without clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import torch

from videogen.data.batch import Batch
from videogen.data.emoji.artwork import Artwork
from videogen.data.emoji.names import Naming, namings
from videogen.data.emoji.world import BACKDROP_KINDS, Backdrop, EmojiObject, EmojiScene
from videogen.data.languages import LANGUAGES, caption_pair, check_languages
from videogen.data.languages import words as words_of
from videogen.data.sentences import words
from videogen.data.sentences.grammar import Grammar, Meaning, SaidObject, with_typing_errors
from videogen.data.shapes import captions as shape_captions
from videogen.data.shapes.dataset import FPS
from videogen.data.shapes.world import BACKGROUNDS, MOTIONS, SIZES, WORLDS, ShapeObject

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
class Sentence:
    """A sentence, what it says, and how English says it: the same sentence, if it is English."""

    text: str
    meaning: Meaning
    english: str


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
        foreign_rate: Share of sentences in one of `languages`, in [0, 1]; they say all but places.
        languages: Some of `LANGUAGES`.
    """

    artwork: str | None = None
    seed: int = 0
    two_object_rate: float = 0.35
    shape_rate: float = 0.6
    other_rate: float = 0.1
    caption_rate: float = 0.08
    typing_error_rate: float = 0.3
    foreign_rate: float = 0.0
    languages: tuple[str, ...] = LANGUAGES

    def __post_init__(self) -> None:
        """Refuse shares out of range, and languages that are not there."""
        check_languages(self.foreign_rate, self.languages)
        for name in ("two_object_rate", "shape_rate", "other_rate", "caption_rate", "typing_error_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")

    @property
    def things(self) -> tuple[str, ...]:
        """What there is in the worlds: shapes first, then the plain names of subjects."""
        return (*words.SHAPES, *_names_of(self.artwork))

    @property
    def symbols(self) -> dict[str, str]:
        """The subjects that are written as one character, by that character."""
        return {naming.symbol: naming.name for naming in _subjects_of(self.artwork).values() if naming.symbol}

    @property
    def others(self) -> tuple[str, ...]:
        """Things of neither world that sentences speak of."""
        return _others(self.artwork)

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The sentences at these positions, and what they say; see `ClipSource`.

        A thing of neither world has the class behind all `things`, in the order of `others`.
        """
        said = [self.sentence(sample_id) for sample_id in sample_ids]
        things = {thing: idx for idx, thing in enumerate((*self.things, *self.others), start=1)}
        labels = torch.tensor([_labels(sentence.meaning, things) for sentence in said])
        texts = tuple(sentence.text for sentence in said)
        return Batch(tuple(sample_ids), None, texts, FPS, labels=labels.to(device))

    def sentence(self, sample_id: int) -> Sentence:
        """The sentence at a position of the stream."""
        rng = Random(f"foreign sentence/{self.seed}/{sample_id}")
        if rng.random() < self.foreign_rate:
            return self._foreign(rng)
        rng = Random(f"sentence/{self.seed}/{sample_id}")
        if rng.random() < self.caption_rate:
            return self._caption(sample_id)
        count = 2 if rng.random() < self.two_object_rate else 1
        draw = rng.random()
        background = None
        if draw < 0.7:  # those of both worlds more often
            background = rng.choice(tuple(BACKGROUNDS) if draw < 0.3 else CLASSES["background"])
        meaning = Meaning(tuple(self._object(rng) for _ in range(count)), background)
        names = _names_of(self.artwork)
        said = Grammar(names, self.typing_error_rate).say(meaning, rng)
        return Sentence(said, meaning, said)

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

    def _foreign(self, rng: Random) -> Sentence:
        """A sentence in another language, with typing errors as in English."""
        language = rng.choice(self.languages)
        subjects = {
            name: naming
            for name, naming in _subjects_of(self.artwork).items()
            if name in words_of(language)["subjects"] and naming.name in self.things
        }
        objects: list[ShapeObject | EmojiObject] = []
        for _ in range(2 if rng.random() < self.two_object_rate else 1):
            size, motion = rng.choice(tuple(SIZES)), rng.choice(MOTIONS)
            if not subjects or rng.random() < self.shape_rate:
                colour, shape = rng.choice(CLASSES["colour"]), rng.choice(tuple(words.SHAPES))
                objects.append(ShapeObject(colour, shape, size, motion))
            else:
                objects.append(EmojiObject(0, rng.choice(tuple(subjects)), size, motion))
        backdrop = Backdrop(
            rng.choice(CLASSES["background"]), rng.choice(("plain", "plain", *BACKDROP_KINDS))
        )
        # Nothing is drawn, so that neither tracks nor the place in an artwork matter.
        tracks = np.zeros((len(objects), 1, 5), np.float32)
        scene = EmojiScene(tuple(objects), tracks, (0,) * len(objects), backdrop)
        pair = caption_pair(scene, subjects, rng, language)
        assert pair is not None
        english, said = pair
        if rng.random() < self.typing_error_rate:
            said = with_typing_errors(said, rng)
        meaning = tuple(
            SaidObject(item.shape, item.colour, item.size, item.motion)
            if isinstance(item, ShapeObject)
            else SaidObject(subjects[item.name].name, None, item.size, item.motion)
            for item in objects
        )
        return Sentence(said, Meaning(meaning, backdrop.colour), english)

    def _caption(self, sample_id: int) -> Sentence:
        """A caption of a clip of the world `shapes`, in its plain form."""
        scene = WORLDS["shapes"].sample(self.seed, sample_id, num_frames=1)
        objects = tuple(SaidObject(item.shape, item.colour, item.size, item.motion) for item in scene.objects)
        plain = shape_captions.plain_caption(scene.objects, scene.background)
        return Sentence(plain, Meaning(objects, scene.background.name), plain)


@cache
def _subjects_of(artwork: str | None) -> dict[str, Naming]:
    """The subjects of an artwork by name."""
    return {} if artwork is None else namings(Artwork(artwork).subjects)


@cache
def _names_of(artwork: str | None) -> dict[str, tuple[str, ...]]:
    """What subjects may be called, by their plain name."""
    found = {naming.name: _ways(naming) for naming in _subjects_of(artwork).values()}
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
