"""Sentences with their meaning: what is said is what the labels say, in many forms, the same every time."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
import torch

from videogen.data.sentences import words
from videogen.data.sentences.dataset import CLASSES, Sentences
from videogen.data.sentences.grammar import Grammar, Meaning, SaidObject
from videogen.data.sentences.typing_errors import misspell
from videogen.data.shapes import world

TABLES = {
    "colour": words.COLOURS,
    "thing": words.SHAPES,
    "size": words.SIZES,
    "motion": words.MOTIONS,
    "direction": words.DIRECTIONS,
    "background": words.BACKGROUNDS,
}
RIGHT = Sentences(typing_error_rate=0.0, caption_rate=0.0)


def test_the_words_are_for_what_the_world_has() -> None:
    assert set(words.COLOURS) == set(world.COLOURS)
    assert set(words.SHAPES) == set(world.SHAPES)
    assert set(words.SIZES) == set(world.SIZES)
    assert set(words.MOTIONS) == set(words.NOMINALS) == set(world.MOTIONS)
    assert set(words.DIRECTIONS) == set(world.DIRECTIONS)
    assert set(world.BACKGROUNDS) <= set(words.BACKGROUNDS)


@pytest.mark.parametrize("name", TABLES)
def test_no_word_has_two_meanings(name: str) -> None:
    for (first, words_of_first), (second, words_of_second) in combinations(TABLES[name].items(), 2):
        assert not set(words_of_first) & set(words_of_second), (first, second)


def test_a_sentence_says_its_meaning() -> None:
    """Each attribute is said with one of its words; a colour that is not said is not in the sentence."""
    for sample_id in range(400):
        meaning = RIGHT.sentence(sample_id).meaning
        text = RIGHT.sentence(sample_id).text
        text = re.sub("[^a-z]+", " ", text.lower().replace("n't", " not").replace("'s", " is"))
        for item in meaning.objects:
            if item.thing in words.SHAPES:
                assert _has_one_of(text, words.SHAPES[item.thing]), (text, item)
            if item.colour is not None:
                assert _has_one_of(text, words.COLOURS[item.colour]), (text, item)
            if item.size is not None:
                assert _has_one_of(text, words.SIZES[item.size]), (text, item)
        said = {item.colour for item in meaning.objects} | {meaning.background}
        if meaning.background is not None:
            assert _has_one_of(text, words.BACKGROUNDS[meaning.background]), (text, meaning)
        for word, colour in (
            ("scarlet", "red"),
            ("emerald", "green"),
            ("fuchsia", "pink"),
            ("onyx", "black"),
        ):
            assert colour in said or word not in text, (text, meaning)


def _has_one_of(text: str, choices: tuple[str, ...]) -> bool:
    return any(re.sub("[^a-z]+", " ", choice) in text for choice in choices)


@pytest.mark.parametrize(
    ("motion", "forms"),
    [
        ("left", r"\b(left|west)"),
        ("down-right", r"(down|bottom|lower|south|sink|fall|drop|descend|plunge|plummet|div).*|right|east"),
        (
            "rotate",
            r"(rotat|spin|turn|twirl|whirl|roll|pirouett|revolv|gyrat|swivel|twist|tumbl|wheel|pivot)",
        ),
    ],
)
def test_motions_are_said(motion: str, forms: str) -> None:
    meaning = Meaning((SaidObject("circle", motion=motion),))
    said = [Grammar(typing_error_rate=0.0).say(meaning, Random(seed)).lower() for seed in range(100)]
    assert all(re.search(forms, text) for text in said)
    assert len(set(said)) > 90


def test_verbs_are_inflected() -> None:
    meaning = Meaning((SaidObject("star", motion="still"), SaidObject("ring", motion="fade out")))
    text = " ".join(Grammar(typing_error_rate=0.0).say(meaning, Random(seed)) for seed in range(1500)).lower()
    for right in ("does not move", "is at rest", "lies still", "vanishing", "dies away", "not budging"):
        assert right in text
    for wrong in ("lieing", "bes ", "not move ing", "vanishs", "slowlys", "dieing"):
        assert wrong not in text


def test_labels(artwork_folder: Path) -> None:
    sentences = Sentences(artwork=str(artwork_folder), two_object_rate=0.5)
    assert sentences.things[:2] == ("circle", "square") and "ewe" in sentences.things
    assert not set(sentences.things) & set(sentences.others)
    batch = sentences.batch(range(60))
    assert batch.pixels_or_none is None and batch.labels is not None and batch.labels.shape == (60, 10)
    names = (*sentences.things, *sentences.others)
    for sample_id, text, row in zip(batch.sample_ids, batch.captions, batch.labels.tolist(), strict=True):
        sentence = sentences.sentence(sample_id)
        meaning = sentence.meaning
        assert sentence.text == sentence.english == text and row[0] == len(meaning.objects)
        for place, item in enumerate(meaning.objects):
            thing, colour, size, motion = row[1 + 4 * place : 5 + 4 * place]
            assert names[thing - 1] == item.thing
            said = {"colour": colour, "size": size, "motion": motion}
            assert {name: None if idx == 0 else CLASSES[name][idx - 1] for name, idx in said.items()} == {
                name: getattr(item, name) for name in said
            }
        assert row[5] != 0 or len(meaning.objects) == 1
        assert (row[9] == 0) == (meaning.background is None)
    alone = sentences.batch([41])
    assert alone.labels is not None
    assert alone.captions[0] == batch.captions[41] and torch.equal(alone.labels[0], batch.labels[41])


def test_things_of_one_name_are_one_thing(artwork_folder: Path) -> None:
    assert len(set(Sentences(artwork=str(artwork_folder)).things)) == 6 + 28
    assert Sentences().things == tuple(words.SHAPES)


def test_typing_errors() -> None:
    clean = [RIGHT.sentence(idx).text for idx in range(200)]
    typed = [replace(RIGHT, typing_error_rate=1.0).sentence(idx).text for idx in range(200)]
    assert sum(a.lower() != b.lower() for a, b in zip(clean, typed, strict=True)) > 150
    slips = {misspell("circle", Random(seed)) for seed in range(300)}
    assert {"cirlce", "circe", "circcle"} <= slips
    assert all(abs(len(slip) - 6) <= 1 for slip in slips)
    assert misspell("a", Random(0)) == "a" and misspell("", Random(0)) == ""


def test_other_languages(artwork_folder: Path) -> None:
    """Each says what its English twin says; labels are of both."""
    sentences = Sentences(
        artwork=str(artwork_folder), foreign_rate=1.0, languages=("de",), typing_error_rate=0.0
    )
    said = [sentences.sentence(idx) for idx in range(100)]
    for sentence in said:
        for item in sentence.meaning.objects:
            assert item.size is not None and f" {item.size} " in f" {sentence.english} "
            assert item.motion is not None and (item.colour or "") in sentence.english
            assert item.thing in sentence.english
        assert str(sentence.meaning.background) in sentence.english
    assert any("Schaf" in sentence.text for sentence in said if "ewe" in sentence.english)
    circles = [sentence.text for sentence in said if sentence.meaning.objects[0].thing == "circle"]
    assert circles and all(re.search("Kreis|Scheibe|Punkt", text) for text in circles)
    mixed = replace(sentences, foreign_rate=0.3)
    english = [idx for idx in range(100) if mixed.sentence(idx).text == mixed.sentence(idx).english]
    assert 55 < len(english) < 85
    plain = replace(sentences, foreign_rate=0.0)
    assert all(plain.sentence(idx) == mixed.sentence(idx) for idx in english)
    with pytest.raises(ValueError, match="`languages` must be some of"):
        Sentences(languages=("xx",))
    with pytest.raises(ValueError, match=r"`shape_rate` must be in \[0, 1\], got 2"):
        Sentences(shape_rate=2)
