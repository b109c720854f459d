"""Annotated clips of both worlds: which words speak of which object, and where it is to be seen."""

from dataclasses import replace
from random import Random

import pytest
import torch

from tests.data.emoji.conftest import make_artwork
from videogen.data.batch import Batch, ClipSource
from videogen.data.emoji.captions import MOTION_WORDS
from videogen.data.emoji.crops import EmojiCrops
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.labels import annotate
from videogen.data.emoji.names import agree
from videogen.data.emoji.render import render
from videogen.data.emoji.world import EmojiObject, EmojiScene
from videogen.data.mixture import Mixture
from videogen.data.shapes.captions import COLOUR_WORDS, SHAPE_WORDS
from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.data.shapes.render import coverage
from videogen.data.shapes.world import ALPHA, COLOURS, Scene, ShapeObject, place

SHAPES = ShapesClips(num_frames=4, seed=3, two_object_rate=0.5, annotated=True)


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> EmojiClips:
    folder = make_artwork(tmp_path_factory.mktemp("artwork") / "emoji")
    return EmojiClips(folder, num_frames=4, seed=3, two_object_rate=0.5, annotated=True)


def said_of(batch: Batch) -> list[list[str]]:
    """What the mentions of each clip say."""
    assert batch.mentions is not None
    return [
        [caption[part.start : part.stop] for part in parts]
        for caption, parts in zip(batch.captions, batch.mentions, strict=True)
    ]


def check_said(text: str, item: ShapeObject | EmojiObject, names: set[str]) -> None:
    """The words are a whole phrase about this object: noun and motion, perhaps a size and a place."""
    motions = {form for finite, moving in MOTION_WORDS[item.motion] for form in (finite, moving)}
    motions |= {agree(finite, "eyes") for finite, _ in MOTION_WORDS[item.motion]}
    assert text == text.strip() and any(f" {motion} " in f"{text} " for motion in motions), text
    assert any(f" {name} " in f" {text} " for name in names), (text, names)
    assert "background" not in text and "backdrop" not in text


def names_of(item: ShapeObject | EmojiObject, clips: EmojiClips | ShapesClips) -> set[str]:
    if isinstance(item, ShapeObject):
        colours, shapes = COLOUR_WORDS[item.colour], SHAPE_WORDS[item.shape]
        return {f"{colour} {shape}" for colour in colours for shape in shapes}
    assert isinstance(clips, EmojiClips)
    naming = clips.namings[item.name]
    emoji_names = {f"{word} emoji" for word in (naming.name, *naming.keywords)}
    return {naming.name, naming.symbol, *naming.others, *emoji_names} - {""}


def check_mentions(clips: EmojiClips | ShapesClips, num_clips: int) -> list[tuple[str, Batch, int]]:
    """Checks all mentions; gives what stands between those of pairs, in the order of the caption."""
    between = []
    clips = replace(clips, num_frames=1, size=8)
    batch = clips.batch(range(num_clips))
    for row, said in enumerate(said_of(batch)):
        scene = clips.scene(row)
        assert len(said) == len(scene.objects)
        for text, item in zip(said, scene.objects, strict=True):
            check_said(text, item, names_of(item, clips))
        assert batch.mentions is not None
        if len(said) == 2:
            first, second = sorted(batch.mentions[row], key=lambda part: part.start)
            between.append((batch.captions[row][first.stop : second.start], batch, row))
    return between


def test_mentions_of_shapes() -> None:
    between = check_mentions(SHAPES, 300)
    assert {words for words, *_ in between} == {" and ", " while ", " as ", " with "}


def test_mentions_of_subjects(emoji: EmojiClips) -> None:
    """In both orders: of what overlaps, the one in front may be named first or last."""
    between = check_mentions(emoji, 500)
    seen = {words.strip() for words, *_ in between}
    assert seen == {"and", "while", "as", "with", "beside", "next to", "near", "together with", "in front of",
                    "behind"}  # fmt: skip
    for words, batch, row in between:
        assert batch.mentions is not None
        front_comes_first = batch.mentions[row][1].start < batch.mentions[row][0].start
        assert front_comes_first == (words == " in front of ")


@pytest.mark.parametrize("crops", [False, True])
def test_annotations_change_neither_pixels_nor_captions(emoji: EmojiClips, crops: bool) -> None:
    for clips in (SHAPES, emoji):
        sources: list[ClipSource] = []
        for source in (clips, replace(clips, annotated=False)):
            if isinstance(source, EmojiClips):
                sources.append(EmojiCrops(source) if crops else source)
            else:
                sources.append(ShapesCrops(source) if crops else source)
        told, plain = (source.batch(range(20)) for source in sources)
        assert torch.equal(told.pixels, plain.pixels) and told.captions == plain.captions
        assert plain.mentions is None and plain.masks is None
        assert told.masks is not None and told.masks.shape == (20, 2, *told.pixels.shape[2:])


def test_masks_of_shapes_have_their_colour() -> None:
    """What is opaque has the colour of the object inside its mask, but for the edge; nothing else has it."""
    batch = SHAPES.batch(range(60))
    assert batch.masks is not None and batch.masks.dtype == torch.bool
    for row in range(60):
        scene = SHAPES.scene(row)
        for idx, item in enumerate(scene.objects):
            colour = torch.tensor(COLOURS[item.colour])[:, None, None, None] / 127.5 - 1
            exact = (batch.pixels[row] - colour).abs().amax(0) < 1e-3
            mask = batch.masks[row, idx]
            cover = coverage(item.shape, torch.from_numpy(scene.tracks[idx : idx + 1]), 64, 64)[0]
            opacity = torch.from_numpy(scene.tracks[idx, :, ALPHA])[:, None, None]
            assert torch.equal(mask, (cover >= 0.5 * opacity) & (opacity > 0))
            if opacity.min() == 1:
                assert bool((exact <= mask).all())
                assert (mask & exact).sum() > 0.6 * mask.sum()
        assert not batch.masks[row, len(scene.objects) :].any()


def test_what_hides_a_shape_is_not_of_its_mask() -> None:
    objects = (
        ShapeObject("red", "circle", "large", "still"),
        ShapeObject("blue", "square", "small", "still"),
    )
    scene = place(objects, SHAPES.scene(0).background, Random(0), 2)
    scene = Scene(objects, scene.tracks.copy(), scene.background)
    scene.tracks[..., :2] = 0.5
    batch = SHAPES.batch_of([scene], [0])
    assert batch.masks is not None
    red, blue = batch.masks[0]
    assert blue.any() and red.any() and not (red & blue).any()
    assert not red[:, 32, 32].any()


def test_masks_of_subjects_are_those_of_annotate(emoji: EmojiClips) -> None:
    scenes: list[EmojiScene] = [emoji.scene(row) for row in range(20)]
    found = annotate(scenes, render(scenes, emoji.world.artwork))
    masks = emoji.batch(range(20)).masks
    assert masks is not None and torch.equal(masks, found.masks)


def test_masks_are_cut_with_the_pixels(emoji: EmojiClips) -> None:
    """In crops, pixels of the exact colour of a shape are those of its mask, as in whole clips."""
    source = ShapesCrops(replace(SHAPES, num_frames=8), num_frames=4, size=24)
    batch = source.batch(range(40))
    assert batch.masks is not None and batch.mentions is not None
    for row in range(40):
        for idx, item in enumerate(source.clips.scene(row).objects):
            colour = torch.tensor(COLOURS[item.colour])[:, None, None, None] / 127.5 - 1
            exact = (batch.pixels[row] - colour).abs().amax(0) < 1e-3
            assert bool((exact <= batch.masks[row, idx]).all())
    crops = EmojiCrops(replace(emoji, num_frames=8), size=64).batch(range(8))
    assert crops.masks is not None and crops.masks.shape == (8, 2, 4, 64, 64)
    assert said_of(crops) == said_of(replace(emoji, num_frames=8).batch(range(8)))


def test_captions_in_other_languages_mention_nothing(emoji: EmojiClips) -> None:
    named = replace(emoji, subjects=("paw prints", "family: man, boy"))
    for clips in (replace(SHAPES, size=8), replace(named, size=8)):
        batch, plain = replace(clips, foreign_rate=0.5).batch(range(30)), clips.batch(range(30))
        assert batch.mentions is not None and plain.mentions is not None
        for row in range(30):
            if batch.captions[row] == plain.captions[row]:
                assert batch.mentions[row] == plain.mentions[row]
            else:
                assert batch.mentions[row] == ()
        assert () in batch.mentions and any(batch.mentions)


def test_a_mixture_passes_annotations_on(emoji: EmojiClips) -> None:
    """With room for two objects, whichever source has them; each clip as its source gives it."""
    mixture = Mixture((replace(SHAPES, two_object_rate=0), emoji), (1, 1))
    batch = mixture.batch(range(16))
    assert batch.mentions is not None and batch.masks is not None and batch.masks.shape[1] == 2
    for row in range(16):
        alone = mixture.sources[mixture.source_idx(row)].batch([row])
        assert alone.mentions is not None and alone.masks is not None
        assert batch.mentions[row] == alone.mentions[0]
        assert torch.equal(batch.masks[row, : alone.masks.shape[1]], alone.masks[0])
        assert not batch.masks[row, alone.masks.shape[1] :].any()


def test_a_mixture_is_annotated_as_a_whole_or_not_at_all(emoji: EmojiClips) -> None:
    plain = replace(SHAPES, annotated=False), replace(emoji, annotated=False)
    assert Mixture(plain, (1, 1)).batch(range(8)).masks is None
    with pytest.raises(ValueError, match=r"`sources` must be annotated all or none, got \d clips of 8"):
        Mixture((SHAPES, plain[1]), (1, 1)).batch(range(8))
