"""What captions say: every attribute that can be held out, in many words and in good English."""

import re
from pathlib import Path
from random import Random

import pytest

from videogen.data.emoji.artwork import Subject, load_artwork
from videogen.data.emoji.captions import MOTION_WORDS, caption, phrases, plain_caption
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.names import EVERYDAY, Naming, agree, article, namings, plain_name, with_article
from videogen.data.emoji.world import Backdrop, EmojiObject
from videogen.data.shapes.captions import COLOUR_WORDS, SHAPE_WORDS
from videogen.data.shapes.world import MOTIONS, ShapeObject


@pytest.fixture
def clips(artwork_folder: Path) -> EmojiClips:
    return EmojiClips(artwork_folder, num_frames=2, two_object_rate=0.4)


def subject_words(naming: Naming) -> set[str]:
    return {naming.name, naming.symbol, *naming.others, *(f"{word} emoji" for word in naming.keywords)}


def says(text: str, words: set[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for word in words)


def test_every_object_and_its_motion_is_said(clips: EmojiClips) -> None:
    for index in range(400):
        scene = clips.scene(index)
        text = caption(scene, clips.namings, Random(index))
        for item in scene.objects:
            finite_forms = {
                form for finite, _ in MOTION_WORDS[item.motion] for form in (finite, agree(finite, "eyes"))
            }
            assert says(text, finite_forms | {gerund for _, gerund in MOTION_WORDS[item.motion]}), text
            if isinstance(item, EmojiObject):
                assert says(text, subject_words(clips.namings[item.name])), text
            else:
                assert says(text, set(COLOUR_WORDS[item.colour])) and says(
                    text, set(SHAPE_WORDS[item.shape])
                ), text


def test_the_same_words_never_mean_two_motions() -> None:
    meanings: dict[str, str] = {}
    for motion in MOTIONS:
        assert len(MOTION_WORDS[motion]) >= 7
        for form in {form for pair in MOTION_WORDS[motion] for form in pair}:
            assert meanings.setdefault(form, motion) == motion


def test_captions_are_made_of_the_phrases(clips: EmojiClips) -> None:
    known = {word for phrase in phrases(clips.namings) for word in re.findall(r"\w+|[^\w\s]", phrase)}
    for index in range(600):
        text = caption(clips.scene(index), clips.namings, Random(index))
        assert set(re.findall(r"\w+|[^\w\s]", text)) <= known, text


def test_what_is_in_front_is_said(clips: EmojiClips) -> None:
    """The last object is in front, whichever is named first."""
    scenes = [scene for scene in (clips.scene(index) for index in range(900)) if scene.overlap]
    seen = set()
    for index, scene in enumerate(scenes):
        shape_idx = [idx for idx, item in enumerate(scene.objects) if isinstance(item, ShapeObject)]
        if len(shape_idx) != 1:
            continue
        item = scene.objects[shape_idx[0]]
        assert isinstance(item, ShapeObject)
        first, relation, _ = re.split(
            r" (in front of|behind) ", caption(scene, clips.namings, Random(index)), maxsplit=1
        )
        is_first = says(first, set(SHAPE_WORDS[item.shape])) and says(first, set(COLOUR_WORDS[item.colour]))
        assert (shape_idx[0] == 1) == (is_first == (relation == "in front of"))
        seen.add((is_first, relation))
    assert len(seen) == 4


def test_the_plain_form(clips: EmojiClips) -> None:
    world = clips.world
    ewe = world.object_of("ewe", "small", "rotate")
    family = world.object_of("family: man, boy", "large", "left")
    ring = ShapeObject("orange", "ring", "medium", "fade in")
    prints = world.object_of("paw prints", "medium", "still")
    assert plain_caption((ewe,), clips.namings) == "a small ewe rotates"
    assert (
        plain_caption((family, ring), clips.namings, Backdrop("orange", "striped"))
        == "a large family of man and boy moves left and a medium orange ring fades in "
        "on an orange striped background"
    )
    assert (
        plain_caption((prints,), clips.namings, Backdrop("sky blue"))
        == "medium paw prints stay still on a sky blue background"
    )


def test_places_are_said_of_what_stays_in_place(clips: EmojiClips) -> None:
    scene = clips.world.scene_of((clips.world.object_of("subject 5", "small", "grow"),), seed=1)
    texts = [caption(scene, clips.namings, Random(seed)) for seed in range(60)]
    assert (
        sum(
            bool(re.search(r"\b(left|right|top|bottom|middle|cent(er|re)|upper|lower|high|low)\b", text))
            for text in texts
        )
        > 10
    )


@pytest.mark.parametrize(
    "name, said",
    [
        ("ewe", "a ewe"),
        ("unicorn", "a unicorn"),
        ("UFO", "a UFO"),
        ("SUV", "an SUV"),
        ("umbrella", "an umbrella"),
        ("eyes", "eyes"),
        ("fog", "fog"),
        ("one o’clock", "a clock at one o’clock"),
        ("eleven-thirty", "a clock at eleven-thirty"),
        ("person: beard", "a person with beard"),
        ("family: man, woman, girl", "a family of man, woman and girl"),
        ("couple with heart: man, man", "a couple of man and man with heart"),
        ("kiss: woman, woman", "a kiss of woman and woman"),
    ],
)
def test_articles(name: str, said: str) -> None:
    assert with_article(plain_name(name), plain_name(name)) == said


@pytest.mark.parametrize(
    "verb, plural",
    [
        ("moves left", "move left"),
        ("goes up", "go up"),
        ("does not move", "do not move"),
        ("flies left", "fly left"),
        ("is motionless", "are motionless"),
        ("vanishes", "vanish"),
        ("approaches", "approach"),
        ("crosses from left to right", "cross from left to right"),
        ("rises", "rise"),
        ("bounces", "bounce"),
    ],
)
def test_verbs_agree(verb: str, plural: str) -> None:
    assert agree(verb, "paw prints") == plural and agree(verb, "ewe") == verb


def test_keywords_that_many_share_tell_nothing_apart() -> None:
    subjects = [
        Subject(f"clips/1f40{idx}.webp", f"thing {idx}", ("animal", f"word{'x' * idx}", "7"), "")
        for idx in range(4)
    ]
    assert [naming.keywords for naming in namings(subjects).values()] == [
        ("word",), ("wordx",), ("wordxx",), ("wordxxx",)
    ]  # fmt: skip
    assert namings(subjects)["thing 2"].symbol == "\U0001f402"
    joined = Subject("clips/1f468-200d-1f466.webp", "family: man, boy", (), "")
    assert namings([joined])["family: man, boy"].symbol == ""


def test_article_of_words() -> None:
    assert [article(word) for word in ("one", "orange", "unamused", "unique")] == ["a", "an", "an", "a"]


def test_everyday_names_are_of_subjects(shared: Path) -> None:
    if not (shared / "emoji").is_dir():
        pytest.skip("there is no folder `emoji` in `shared`")
    subjects = load_artwork(shared / "emoji").subjects
    assert set(EVERYDAY) <= {subject.name for subject in subjects}
    texts = {naming.name for naming in namings(subjects).values()}
    assert len(texts) == len(subjects)  # no two are called the same
