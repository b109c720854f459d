"""The blind set of paraphrases: its labels are classes of the world, and no template can produce its prompts.

`paraphrases.jsonl` holds 200 prompts as users type them, each with the objects (in the order of mention) and
the background that it asks for, null where it does not say, and the same prompt with one to three typing
errors. Every line was worded by hand, by no template or script, for labels that were drawn so that each class
occurs about equally often. Sentence forms and many words are ones that `videogen.data.shapes.captions` does
not have. Each line was read against its labels twice. The set measures how well prompts in free English are
understood: train and tune nothing on it.
"""

import json
import re
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path
from random import Random
from typing import Any

import pytest

from videogen.data.shapes import captions
from videogen.data.shapes.world import (
    BACKGROUNDS,
    COLOURS,
    MAX_PAIR_SIZE,
    MOTIONS,
    ROUND_SHAPES,
    SHAPES,
    SHAPES_WORLD,
    SIZES,
)

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in Path(__file__).with_name("paraphrases.jsonl").read_text(encoding="utf-8").splitlines()
]
CLASSES: dict[str, set[str | None]] = {
    "colour": {*COLOURS},
    "shape": {*SHAPES},
    "size": {*SIZES, None},
    "motion": {*MOTIONS},
}


def templates() -> re.Pattern[str]:
    """All that `captions.caption` can say, and all that differs from it only in which words are combined."""

    def either(*tables: dict[str, tuple[str, ...]]) -> str:
        words = (word for table in tables for words in table.values() for word in words)
        return "(" + "|".join(map(re.escape, words)) + ")"

    motions = (form for pairs in captions.MOTION_WORDS.values() for pair in pairs for form in pair)
    item = (
        f"(an?|the) ({either(captions.SIZE_WORDS)} )?"
        f"{either(captions.COLOUR_WORDS)} {either(captions.SHAPE_WORDS)} ({'|'.join(motions)})"
    )
    behind = (
        f"({'|'.join(captions._BEHIND)}) an? ((plain|solid) )?"
        f"{either(captions.BACKGROUND_WORDS)} (gradient )?(background|backdrop)"
    )
    opening, connective = "|".join(captions._OPENINGS), "|".join(captions._CONNECTIVES)
    return re.compile(f"(({opening}) )?{item}( ({connective}) {item})?( {behind})?")


def test_labels_are_what_the_world_can_show() -> None:
    assert len(ROWS) == len({row["prompt"] for row in ROWS}) == 200
    for row in ROWS:
        assert set(row) == {"prompt", "typo", "objects", "background"}
        assert row["background"] in {*BACKGROUNDS, None} and len(row["objects"]) in (1, 2)
        for item in row["objects"]:
            assert set(item) == set(CLASSES)
            assert all(item[key] in classes for key, classes in CLASSES.items()), row["prompt"]
            assert not (item["motion"] == "rotate" and item["shape"] in ROUND_SHAPES), row["prompt"]
        assert len({item["colour"] for item in row["objects"]}) == len(row["objects"]), row["prompt"]
        sizes = [SIZES[item["size"]] for item in row["objects"] if item["size"] is not None]
        assert sum(sizes) <= MAX_PAIR_SIZE, row["prompt"]


@pytest.mark.parametrize("key", CLASSES)
def test_every_class_is_asked_for_about_equally_often(key: str) -> None:
    counts = Counter(item[key] for row in ROWS for item in row["objects"])
    assert set(counts) == CLASSES[key] and max(counts.values()) <= 1.5 * min(counts.values())


def test_every_background_is_asked_for_about_equally_often() -> None:
    counts = Counter(row["background"] for row in ROWS)
    assert set(counts) == {*BACKGROUNDS, None} and max(counts.values()) <= 1.5 * min(counts.values())


def test_a_typo_spoils_one_to_three_words_and_no_more_than_letters_of_them() -> None:
    for row in ROWS:
        pairs = list(zip(row["prompt"].split(), row["typo"].split(), strict=True))
        spoilt = [(right, wrong) for right, wrong in pairs if right != wrong]
        assert 1 <= len(spoilt) <= 3, row["typo"]
        for right, wrong in spoilt:
            assert abs(len(right) - len(wrong)) <= 1, wrong
            assert SequenceMatcher(None, right, wrong).ratio() > 0.5, wrong


def test_most_prompts_have_words_that_templates_do_not() -> None:
    known = {*captions.vocabulary()}
    strange = [row for row in ROWS if not known.issuperset(re.findall(r"[a-z]+", row["prompt"].casefold()))]
    assert len(strange) > 0.9 * len(ROWS)


def test_no_prompt_is_in_the_form_of_a_template() -> None:
    form = templates()
    for index in range(500):
        said = captions.caption(SHAPES_WORLD.sample(0, index), Random(index))
        assert form.fullmatch(said), f"{said!r} is a caption that this test does not know"
    for row in ROWS:
        for text in (row["prompt"], row["typo"]):
            words = " ".join(re.findall(r"[a-z-]+", text.casefold()))
            assert not form.fullmatch(words), text
