"""The training stream of `shapes`: random access, whatever the batch, and crops that are parts of clips."""

import math
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from videogen.data.batch import ClipSource
from videogen.data.languages import LANGUAGES
from videogen.data.shapes.captions import caption
from videogen.data.shapes.dataset import FPS, Drill, ShapesClips, ShapesCrops
from videogen.data.shapes.world import World, X, Y


def test_clips() -> None:
    source: ClipSource = ShapesClips(num_frames=8, size=32)
    batch = source.batch([3, 5, 900_000])
    assert batch.pixels.shape == (3, 3, 8, 32, 32)
    assert batch.sample_ids == (3, 5, 900_000)
    assert len(batch.captions) == 3 and all(batch.captions)
    assert batch.fps == FPS


@pytest.mark.parametrize("source", [ShapesClips(num_frames=4, size=32), ShapesCrops(size=16)])
def test_a_clip_is_the_same_in_any_batch(source: ClipSource) -> None:
    together = source.batch(range(6))
    for row, sample_id in enumerate((0, 1, 2, 3, 4, 5)):
        alone = source.batch([sample_id])
        torch.testing.assert_close(alone.pixels[0], together.pixels[row], rtol=0, atol=1e-5)
        assert alone.captions[0] == together.captions[row]
    assert torch.equal(source.batch(range(6)).pixels, together.pixels)


def test_seeds_give_different_streams() -> None:
    first, second = (ShapesClips(num_frames=2, size=32, seed=seed).batch(range(4)) for seed in (0, 1))
    assert first.captions != second.captions


def test_two_object_rate_overrides_the_world() -> None:
    for rate, counts in ((0.0, {1}), (1.0, {2})):
        source = ShapesClips(two_object_rate=rate, num_frames=2)
        assert {len(source.scene(index).objects) for index in range(30)} == counts


def test_captions_in_other_languages_leave_all_else_as_it_was() -> None:
    english = ShapesClips(num_frames=2, size=16)
    some = replace(english, foreign_rate=0.25, languages=("de", "fr"))
    before, after = english.batch(range(200)), some.batch(range(200))
    expected = tuple(caption(english.scene(index), Random(f"caption/0/{index}")) for index in range(200))
    assert before.captions == expected
    assert torch.equal(before.pixels, after.pixels)
    changed = [new for old, new in zip(before.captions, after.captions, strict=True) if old != new]
    assert 30 <= len(changed) <= 70
    assert some.batch([7, 3]).captions == (after.captions[7], after.captions[3])
    foreign = replace(english, foreign_rate=1.0).batch(range(60)).captions
    assert not set(foreign) & set(before.captions)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"foreign_rate": 1.5}, r"`foreign_rate` must be in \[0, 1\], got 1.5"),
        ({"foreign_rate": -0.1}, r"`foreign_rate` must be in \[0, 1\], got -0.1"),
        ({"languages": ("de", "xx")}, rf"`languages` must be some of {', '.join(LANGUAGES)}, got .*'xx'"),
        ({"languages": ()}, r"`languages` must be some of .*, got \(\)"),
    ],
)
def test_languages_that_there_are_not(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapesClips(**settings)


def test_drills_come_more_often_and_nothing_held_out_with_them() -> None:
    drills = (Drill(0.4, motions=("orbit",)), Drill(0.3, shapes=("star", "ring")))
    source = ShapesClips(num_frames=2, two_object_rate=0.0, drills=drills)
    objects = [source.scene(index).objects[0] for index in range(400)]
    orbits = sum(item.motion == "orbit" for item in objects) / len(objects)
    outlines = sum(item.shape in ("star", "ring") for item in objects) / len(objects)
    assert 0.37 < orbits < 0.51  # two fifths, and a sixteenth of the rest
    assert 0.45 < outlines < 0.62  # of the second drill all, of the rest a third
    assert not any(item.is_held_out for item in objects)


def test_a_drill_can_be_of_sizes() -> None:
    source = ShapesClips(two_object_rate=0.0, drills=(Drill(1.0, shapes=("ring",), sizes=("small",)),))
    objects = [source.scene(index).objects[0] for index in range(10)]
    assert {(item.shape, item.size) for item in objects} == {("ring", "small")}


def test_a_drill_can_turn_things_one_way_by_one_angle() -> None:
    drill = Drill(1.0, motions=("rotate",), turn=(1.1, 1.2))
    drilled = ShapesClips(two_object_rate=0.0, drills=(drill,))
    angles = [drilled.scene(index).tracks[0, -1, 3] / math.pi for index in range(30)]
    assert all(1.1 <= angle <= 1.2 for angle in angles)
    free = World(motions=("rotate",), two_object_rate=0.0)
    angles = [free.sample(0, index).tracks[0, -1, 3] / math.pi for index in range(30)]
    assert {angle > 0 for angle in angles} == {True, False}
    assert all(0.9 <= abs(angle) <= 1.5 for angle in angles)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.5}, "motions"),
        ({"rate": 0.0, "motions": ("orbit",)}, "rate"),
        ({"rate": 2, "motions": ("orbit",)}, "2"),
        ({"rate": 0.5, "motions": ("orbit",), "turn": (1.0, 2.0)}, "turn"),
        ({"rate": 0.5, "motions": ("rotate",), "turn": (1.0,)}, "turn"),
    ],
)
def test_a_drill_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Drill(**settings)


@pytest.mark.parametrize(
    ("drills", "message"),
    [
        ((Drill(0.5, motions=("spin",)),), "spin"),
        ((Drill(0.5, shapes=("cube",)),), "cube"),
        ((Drill(0.5, sizes=("huge",)),), "huge"),
        ((Drill(0.6, motions=("orbit",)), Drill(0.6, motions=("bounce",))), "more than 1"),
    ],
)
def test_drills_that_do_not_fit_their_stream(drills: tuple[Drill, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapesClips(drills=drills)


def test_a_world_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"`world` must be one of shapes, shapes-mini, got 'shape'"):
        ShapesClips(world="shape")


def test_crops_are_parts_of_their_clips() -> None:
    crops = ShapesCrops(ShapesClips(num_frames=6, size=32), num_frames=4, size=16)
    batch = crops.batch(range(8))
    assert batch.pixels.shape == (8, 3, 4, 16, 16)
    clips = crops.clips.batch(range(8)).pixels
    for crop, clip in zip(batch.pixels, clips, strict=True):
        # (3, 6, 32, 32) to all crops: (first frames, tops, lefts, 3, 4, 16, 16)
        windows = clip.unfold(1, 4, 1).unfold(2, 16, 1).unfold(3, 16, 1)  # (3, 3, 17, 17, 4, 16, 16)
        differences = (windows - crop[:, None, None, None]).abs().amax((0, 4, 5, 6))
        assert differences.min() < 1e-5


def test_crops_look_at_objects() -> None:
    clips = ShapesClips()
    busy, anywhere = (
        ShapesCrops(clips, object_rate=rate).batch(range(100)).pixels.std((2, 3, 4)).mean()
        for rate in (1.0, 0.0)
    )
    assert busy > 1.1 * anywhere


def test_scene_agrees_with_pixels() -> None:
    clips = ShapesClips(world="shapes-mini")
    background = clips.batch([0]).pixels[0]
    track = clips.scene(0).tracks[0]
    for frame in (0, 15):
        differs = (background[:, frame] - background[:, frame, :1, :1]).abs().sum(0) > 0.1
        rows, columns = np.nonzero(differs.numpy())
        assert np.mean([columns.min(), columns.max()]) == pytest.approx(track[frame, X] * 64 - 0.5, abs=1.0)
        assert rows.min() <= track[frame, Y] * 64 <= rows.max()
