"""Captions in other languages: agreement, word order, one meaning for each word, the facts as in English."""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
import pytest

from videogen.data.emoji.names import Naming
from videogen.data.emoji.world import (
    BACKDROP_COLOURS,
    BACKDROP_KINDS,
    PLACES,
    Backdrop,
    EmojiObject,
    EmojiScene,
)
from videogen.data.languages import LANGUAGES, caption, caption_pair, words
from videogen.data.shapes.captions import plain_caption
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.world import MOTIONS, SHAPES, SIZES, Background, Scene, ShapeObject

Item = TypeVar("Item")

LION, EYES = EmojiObject(0, "lion", "small", "rotate"), EmojiObject(1, "eyes", "large", "fade in")
EAGLE, HANDS = EmojiObject(2, "eagle", "small", "up"), EmojiObject(3, "clapping hands", "small", "rotate")
ELEPHANT = EmojiObject(4, "elephant", "large", "shrink")
SPIDER = EmojiObject(5, "spider", "small", "up-right")
TRIANGLE, RING = (
    ShapeObject("green", "triangle", "small", "down"),
    ShapeObject("purple", "ring", "small", "orbit"),
)


class Chosen(Random):
    """Draws the same share always, and from a sequence always the item of one place, or the last one."""

    def __init__(self, share: float, place: int) -> None:
        super().__init__(0)
        self.share, self.place = share, place

    def random(self) -> float:
        return self.share

    def choice(self, seq: Sequence[Item]) -> Item:  # type: ignore[override]
        return seq[min(self.place, len(seq) - 1)]


def shapes_scene(background: Background, *objects: ShapeObject) -> Scene:
    return Scene(objects, np.zeros((len(objects), 2, 5), np.float32), background)


def emoji_scene(backdrop: Backdrop, *objects: EmojiObject | ShapeObject, overlap: bool = False) -> EmojiScene:
    tracks = np.zeros((len(objects), 2, 5), np.float32)  # which begin in the top left corner
    return EmojiScene(objects, tracks, (0,) * len(objects), backdrop, overlap)


SCENES: tuple[tuple[Chosen, Scene | EmojiScene], ...] = (
    (Chosen(0.49, 0), shapes_scene(Background("black"), ShapeObject("red", "circle", "small", "left"))),
    (Chosen(0.49, 0), shapes_scene(Background("navy", 40.0), ShapeObject("white", "star", "large", "still"))),
    (Chosen(0.6, 1), shapes_scene(Background("gray"), ShapeObject("yellow", "cross", "medium", "grow"))),
    (Chosen(0.49, 0), shapes_scene(Background("white"), TRIANGLE, RING)),
    (Chosen(0.6, 0), shapes_scene(Background("white"), TRIANGLE, RING)),
    (Chosen(0.1, 0), emoji_scene(Backdrop("yellow", "dotted"), LION)),
    (Chosen(0.2, 0), emoji_scene(Backdrop("sky blue"), EYES)),
    (
        Chosen(0.6, 0),
        emoji_scene(
            Backdrop("brown", "striped"), ShapeObject("blue", "star", "small", "bounce"), EAGLE, overlap=True
        ),
    ),
    (Chosen(0.1, 0), emoji_scene(Backdrop("beige", "checkered"), ELEPHANT, SPIDER)),
    (Chosen(0.49, 0), emoji_scene(Backdrop("lavender", "mottled"), HANDS)),
)

WRONG = {
    "de": r"\b(?:von|neben|vor|hinter) eine?\b",
    "fr": r"\b(?:l[ae]|de|que) (?:[aeiouéèêœ]|hi?po|héli)|\bde des?\b|\bdes (?:petit|grand)",
    "es": r"\b(?:una|la) (?:águila|hada)\b|\bunos? (?:pequeña|gran cara)",
    "it": r"\b(?:un|il) (?:s[^aeiou ]|z)|\b(?:uno|lo) (?:[^sz]|s[aeiou])|\b(?:una|la|lo|il) [aeiou]|\bdi de",
    "pt": r"\buns? (?:pequena|minúscula)|\bumas? (?:pequeno|minúsculo)",
}
"""Articles that do not go with what follows them."""


def nouns(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each noun of shapes and subjects with its gender, and what it means."""
    for section in ("shapes", "subjects"):
        for meaning, entries in table[section].items():
            for entry in entries:
                yield entry, meaning


def shapes_scenes() -> list[Scene]:
    clips = ShapesClips(num_frames=2, two_object_rate=0.4)
    return [clips.scene(index) for index in range(200)]


def emoji_scenes(language: str) -> list[EmojiScene]:
    """Every subject, each with another motion, size and backdrop, alone or with its neighbour."""
    names = list(words(language)["subjects"])
    objects = [
        EmojiObject(idx, name, list(SIZES)[idx % 3], MOTIONS[idx % 16]) for idx, name in enumerate(names)
    ]
    colours = list(BACKDROP_COLOURS)
    return [
        emoji_scene(
            Backdrop(colours[idx % 17], BACKDROP_KINDS[idx % 6]),
            *objects[idx : idx + 1 + idx % 2],
            overlap=idx % 4 == 1,
        )
        for idx in range(len(objects))
        if len(objects[idx : idx + 1 + idx % 2]) == 1 + idx % 2
    ]


def stems(phrase: str) -> list[str]:
    """The parts of an entry of a table of which one form of each stands in a caption."""
    return [word.strip("_!").partition("~")[0].replace("*", "") for word in phrase.split() if word != "_"]


def says(text: str, phrase: str) -> bool:
    return all(any(form in text for form in word.split("/")) for word in stems(phrase))


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_written_by_hand(language: str) -> None:
    expected = tomllib.loads((Path(__file__).parent / "foreign_sentences.toml").read_text(encoding="utf-8"))
    assert [caption(scene, rng, language) for rng, scene in SCENES] == expected[language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_attribute_has_words_in_every_language(language: str) -> None:
    table = words(language)
    assert set(table["colours"]) == set(BACKDROP_COLOURS) and set(table["kinds"]) == set(BACKDROP_KINDS)
    assert set(table["shapes"]) == set(SHAPES) and set(table["sizes"]) == set(SIZES)
    assert set(table["motions"]) == set(MOTIONS) and set(table["places"]) == set(PLACES)
    assert all(len(table["motions"][motion]) >= 3 for motion in MOTIONS)
    assert set(table["subjects"]) == set(words("de")["subjects"]) and len(table["subjects"]) >= 100
    assert all(table[section][key] for section in ("colours", "shapes", "subjects") for key in table[section])


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_means_two_things(language: str) -> None:
    table = words(language)
    groups = {
        section: [(word, key) for key, entries in table[section].items() for word in entries]
        for section in ("colours", "kinds", "sizes", "places", "motions")
    }
    groups["nouns"] = list(nouns(table))
    for pairs in groups.values():
        meanings: dict[str, str] = {}
        for word, meaning in pairs:
            assert meanings.setdefault(word.removesuffix("!"), meaning) == meaning, word
        assert len(meanings) == len(pairs), "a word stands twice"


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_have_the_forms_that_are_asked_for(language: str) -> None:
    table = words(language)
    genders = set(table["relative"])
    assert all(entry.partition(" ")[0] in genders for entry, _ in nouns(table))
    for section in ("colours", "kinds", "sizes", "motions"):
        for word in " ".join(entry for entries in table[section].values() for entry in entries).split():
            assert len(word.split("/")) in (1, 2, 4), word


def test_names_are_of_subjects_of_the_artwork(shared: Path) -> None:
    lines = (shared / "emoji" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(words("de")["subjects"]) <= {json.loads(line)["name"] for line in lines}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_object_and_its_motion_is_said(language: str) -> None:
    table = words(language)
    scenes: list[Scene | EmojiScene] = [*shapes_scenes(), *emoji_scenes(language)]
    for seed, scene in enumerate(scenes * 3):
        text = caption(scene, Random(seed), language)
        assert text is not None
        assert not re.search(rf"[*~_/!]|  |^ | $|' |{WRONG[language]}", text), text
        for item in scene.objects:
            assert any(says(text, phrase) for phrase in table["motions"][item.motion]), (item, text)
            if isinstance(item, ShapeObject):
                entries = table["shapes"][item.shape]
                assert any(says(text, colour) for colour in table["colours"][item.colour]), (item, text)
            else:
                entries = table["subjects"][item.name]
            assert any(says(text, entry.partition(" ")[2]) for entry in entries), (item, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_pairs_say_the_same(language: str) -> None:
    table = words(language)
    for seed, scene in enumerate(shapes_scenes()):
        pair = caption_pair(scene, {}, Random(seed), language)
        assert pair is not None
        english, foreign = pair
        assert english == plain_caption(scene.objects, scene.background)
        assert any(says(foreign, colour) for colour in table["colours"][scene.background.name])
        for item in scene.objects:
            assert any(says(foreign, size) for size in table["sizes"][item.size]), foreign
        assert not any(preposition in foreign.split() for preposition in table["behind"])


def test_pairs_name_subjects_in_both_languages() -> None:
    scene = emoji_scene(Backdrop("brown"), LION)
    pair = caption_pair(scene, {"lion": Naming("lion", (), (), "")}, Chosen(0.49, 0), "it")
    assert pair == (
        "a small lion rotates on a brown background",
        "un piccolo leone ruota su sfondo marrone",
    )


def test_a_subject_without_a_name() -> None:
    unknown = emoji_scene(Backdrop("brown"), EmojiObject(6, "woozy face", "small", "up"), LION)
    assert caption(unknown, Random(0), "de") is None
    assert caption_pair(unknown, {}, Random(0), "de") is None


def test_which_object_is_in_front_is_said() -> None:
    """What is painted last is in front, and the sentence names it first with `front`, last with `behind`."""
    behind, front = ShapeObject("blue", "star", "small", "bounce"), EAGLE
    scene = emoji_scene(Backdrop("brown"), behind, front, overlap=True)
    said = [caption(scene, Chosen(0.9, place), "es") for place in (0, 1)]
    assert said == [
        "un águila se mueve hacia arriba delante de una estrella azul que rebota",
        "una estrella azul intenso salta detrás de un águila que se desliza hacia arriba",
    ]


def test_captions_depend_on_scene_language_and_seed_alone() -> None:
    for scene in shapes_scenes()[:40]:
        said = {language: caption(scene, Random(7), language) for language in LANGUAGES}
        assert said == {language: caption(scene, Random(7), language) for language in reversed(LANGUAGES)}
        assert len(set(said.values())) == len(LANGUAGES)
    assert len({caption(scene, Random(seed), "fr") for seed in range(50)}) > 30


def test_a_language_without_words() -> None:
    with pytest.raises(ValueError, match="`language` must be one of de, fr, es, it, pt, got 'nl'"):
        caption(shapes_scenes()[0], Random(0), "nl")
