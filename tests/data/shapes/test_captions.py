"""The words of `shapes`: every caption says what is in its scene, in known words of one meaning."""

import re
from itertools import combinations
from random import Random

import pytest

from videogen.data.shapes.captions import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    MOTION_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    caption,
    plain_caption,
    read_plain_caption,
    vocabulary,
)
from videogen.data.shapes.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    SHAPES_WORLD,
    SIZES,
    Background,
    ShapeObject,
)

Captions = list[tuple[tuple[ShapeObject, ...], Background, str]]
FORMS = {motion: {form for pair in pairs for form in pair} for motion, pairs in MOTION_WORDS.items()}


@pytest.fixture(scope="module")
def captioned() -> Captions:
    """3000 scenes, as what is in them, what is behind it, and a caption."""
    scenes = [SHAPES_WORLD.sample(11, index, num_frames=2) for index in range(3000)]
    return [
        (scene.objects, scene.background, caption(scene, Random(index))) for index, scene in enumerate(scenes)
    ]


def says(said: str, phrases: object) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", said) for phrase in phrases)  # type: ignore[attr-defined]


def test_every_attribute_has_words() -> None:
    assert list(COLOUR_WORDS) == list(COLOURS) and tuple(SHAPE_WORDS) == SHAPES
    assert list(SIZE_WORDS) == list(SIZES) and tuple(MOTION_WORDS) == MOTIONS
    assert list(BACKGROUND_WORDS) == list(BACKGROUNDS)


def test_every_caption_names_colour_shape_and_motion_of_every_object(captioned: Captions) -> None:
    for objects, background, said in captioned:
        parts = [said]
        if len(objects) == 2:  # the second object starts where its colour and shape are named
            second = objects[1]
            start = re.search(
                rf"\b({'|'.join(COLOUR_WORDS[second.colour])}) ({'|'.join(SHAPE_WORDS[second.shape])})\b",
                said,
            )
            assert start, said
            parts = [said[: start.start()], said[start.start() :]]
        for item, part in zip(objects, parts, strict=True):
            assert re.search(
                rf"\b({'|'.join(COLOUR_WORDS[item.colour])}) ({'|'.join(SHAPE_WORDS[item.shape])})\b", part
            ), said
            assert says(part, FORMS[item.motion]), said
        for name in set(BACKGROUNDS) - {background.name}:
            assert not re.search(
                rf"\b({'|'.join(BACKGROUND_WORDS[name])}) (gradient )?back(ground|drop)", said
            )
        if re.search(r"back(ground|drop)$", said):
            assert says(said, BACKGROUND_WORDS[background.name]), said
            assert ("gradient" in said) == bool(background.gradient)


def test_motion_that_is_named_longest_is_the_motion(captioned: Captions) -> None:
    """`moves up` stands in `moves up and left`: read greedily, every caption still has one meaning."""
    by_form = {form: motion for motion, forms in FORMS.items() for form in forms}
    longest_first = sorted(by_form, key=len, reverse=True)
    for objects, _, said in captioned[:1000]:
        found = [by_form[match] for match in re.findall("|".join(map(re.escape, longest_first)), said)]
        assert found == [item.motion for item in objects], said


def test_every_word_is_in_the_vocabulary(captioned: Captions) -> None:
    known = set(vocabulary())
    for objects, background, said in captioned:
        assert set(re.findall(r"[a-z]+", said)) <= known
        assert set(re.findall(r"[a-z]+", plain_caption(objects, background))) <= known
        assert re.fullmatch(r"[a-z -]+", said)


def test_vocabulary_is_sorted_and_has_no_doubles() -> None:
    assert vocabulary() == sorted(set(vocabulary()))


@pytest.mark.parametrize("table", [COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS, BACKGROUND_WORDS, FORMS])
def test_no_synonym_means_two_things_of_a_kind(table: dict[str, tuple[str, ...]]) -> None:
    for first, second in combinations(table, 2):
        assert not set(table[first]) & set(table[second]), (first, second)
    for words in table.values():
        assert len(set(words)) == len(words)


def test_the_first_word_is_the_plain_one() -> None:
    for table in (COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS, BACKGROUND_WORDS):
        assert all(words[0] == name for name, words in table.items())


def test_articles(captioned: Captions) -> None:
    for _, _, said in captioned:
        for article, following in re.findall(r"\b(an?) (\w)", said):
            assert (article == "an") == (following in "aeiou"), said


def test_size_and_background_are_left_out_at_times_and_synonyms_used(captioned: Captions) -> None:
    said = [text for objects, _, text in captioned if len(objects) == 1]
    size_words = {word for words in SIZE_WORDS.values() for word in words}
    sized = sum(says(text, size_words) for text in said) / len(said)
    behind = sum(bool(re.search(r"back(ground|drop)$", text)) for text in said) / len(said)
    assert 0.8 < sized < 0.9 and 0.74 < behind < 0.86
    everything = " ".join(said)
    for table in (COLOUR_WORDS, SHAPE_WORDS, SIZE_WORDS, BACKGROUND_WORDS):
        for words in table.values():
            assert all(says(everything, (word,)) for word in words)


def test_a_caption_depends_on_its_generator_only() -> None:
    scene = SHAPES_WORLD.sample(0, 0)
    assert caption(scene, Random(5)) == caption(scene, Random(5))
    assert len({caption(scene, Random(seed)) for seed in range(50)}) > 20


def test_plain_captions() -> None:
    red = ShapeObject("red", "circle", "large", "right")
    orange = ShapeObject("orange", "star", "small", "fade out")
    assert plain_caption((red,)) == "a large red circle moves right"
    assert (
        plain_caption((red,), Background("black")) == "a large red circle moves right on a black background"
    )
    assert (
        plain_caption((red, orange), Background("navy", gradient=30.0))
        == "a large red circle moves right and a small orange star fades out on a navy gradient background"
    )


def test_plain_captions_of_different_objects_differ() -> None:
    items = [item for kept in (True, False) for item in SHAPES_WORLD.objects(held_out=kept)]
    assert len({plain_caption((item,)) for item in items}) == len(items)


def test_plain_captions_are_read_back() -> None:
    items = [item for kept in (True, False) for item in SHAPES_WORLD.objects(held_out=kept)]
    for number, item in enumerate(items):
        background = Background(list(BACKGROUNDS)[number % len(BACKGROUNDS)])
        assert read_plain_caption(plain_caption((item,))) == ((item,), None)
        pair = (item, items[number * 7 % len(items)])
        assert read_plain_caption(plain_caption(pair, background)) == (pair, background)
    gradient = read_plain_caption("A large red circle moves right on a navy gradient background ")
    assert gradient is not None and gradient[1] is not None
    assert gradient[1].name == "navy" and gradient[1].gradient > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a sheep walks",
        "a large red circle",
        "a large red circle moves right on the moon",
        "a large red circle moves right and a sheep walks",
        "a huge red circle moves right",
    ],
)
def test_other_captions_are_not_read(text: str) -> None:
    assert read_plain_caption(text) is None
