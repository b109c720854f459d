"""What scenes show, what never occurs in training, and what is refused."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.data.emoji.conftest import NUM_SUBJECTS
from videogen.data.emoji.artwork import load_artwork
from videogen.data.emoji.world import (
    BACKDROP_COLOURS,
    BACKDROP_KINDS,
    SIZES,
    EmojiObject,
    EmojiWorld,
    is_held_out,
    place_of,
)
from videogen.data.shapes.world import MOTIONS, RADIUS, ShapeObject, X, Y


@pytest.fixture
def world(artwork_folder: Path) -> EmojiWorld:
    return EmojiWorld(load_artwork(artwork_folder))


def test_what_is_held_out() -> None:
    for idx in range(60):
        held_out = {motion for motion in MOTIONS if is_held_out(idx, motion)}
        if idx in (0, 26, 52):
            assert held_out == set(MOTIONS)
        else:
            assert held_out == {MOTIONS[-idx % 8], MOTIONS[-idx % 8 + 8]}


def test_nothing_held_out_occurs_in_training(world: EmojiWorld) -> None:
    seen = set()
    for index in range(3000):
        for item in world.sample(0, index, num_frames=2).objects:
            assert not item.is_held_out
            if isinstance(item, EmojiObject):
                seen.add((item.subject_idx, item.motion))
    allowed = {
        (idx, motion) for idx in range(NUM_SUBJECTS) for motion in MOTIONS if not is_held_out(idx, motion)
    }
    assert seen == allowed


def test_a_judge_sees_what_generators_do_not(world: EmojiWorld) -> None:
    whole = EmojiWorld(world.artwork, two_object_rate=0.0, with_held_out=True)
    items = [whole.sample(0, index, num_frames=1).objects[0] for index in range(4000)]
    seen = {(item.subject_idx, item.motion) for item in items if isinstance(item, EmojiObject)}
    assert seen == {(idx, motion) for idx in range(NUM_SUBJECTS) for motion in MOTIONS}
    # And what a prompt asks for is drawn as ever.
    kinds = {whole.sample_prompt_object(Random(seed), held_out=True).is_held_out for seed in range(20)}
    assert kinds == {True}


def test_everything_occurs(world: EmojiWorld) -> None:
    scenes = [world.sample(1, index, num_frames=2) for index in range(1500)]
    assert {scene.backdrop.colour for scene in scenes} == set(BACKDROP_COLOURS)
    assert {scene.backdrop.kind for scene in scenes} == set(BACKDROP_KINDS)
    assert {scene.objects[0].size for scene in scenes if len(scene.objects) == 1} == set(SIZES)
    counts = Counter(tuple(type(item) for item in scene.objects) for scene in scenes)
    assert counts[(EmojiObject,)] == pytest.approx(1125, abs=60)
    assert min(counts[pair] for pair in ((EmojiObject, ShapeObject), (ShapeObject, EmojiObject))) > 40
    assert counts[(EmojiObject, EmojiObject)] > 100
    assert {tick for scene in scenes for tick in scene.ticks} == set(range(24))


def test_objects_stay_in_the_frame(world: EmojiWorld) -> None:
    for index in range(300):
        scene = world.sample(2, index)
        for item, track in zip(scene.objects, scene.tracks, strict=True):
            if isinstance(item, EmojiObject):
                extent = world.artwork.extent(item.subject_idx)
                reach = track[:, RADIUS] * (extent.around if item.motion == "rotate" else extent.along)
                for axis in (X, Y):
                    assert (track[:, axis] - reach).min() > -1e-5 and (
                        track[:, axis] + reach
                    ).max() < 1 + 1e-5


def test_pairs_stay_apart_or_overlap(world: EmojiWorld) -> None:
    pairs = [scene for scene in (world.sample(3, index) for index in range(600)) if len(scene.objects) == 2]
    assert {scene.overlap for scene in pairs} == {True, False}
    for scene in pairs:
        clearance = world.clearance(scene)
        assert (clearance < 0).all() if scene.overlap else (clearance > 0).all()
        shapes = [item for item in scene.objects if isinstance(item, ShapeObject)]
        assert all(item.colour != scene.backdrop.colour for item in shapes)


def test_a_scene_depends_on_its_position_alone(world: EmojiWorld) -> None:
    first, again = world.sample(4, 17), world.sample(4, 17)
    assert first.objects == again.objects and first.backdrop == again.backdrop and first.ticks == again.ticks
    assert np.array_equal(first.tracks, again.tracks)
    assert world.sample(5, 17).backdrop != first.backdrop


def test_a_part_of_the_world(artwork_folder: Path) -> None:
    world = EmojiWorld(
        load_artwork(artwork_folder),
        subjects=("paw prints", "subject 7"),
        sizes=("large",),
        motions=("left", "up"),
        backdrops=("teal",),
        kinds=("striped",),
        two_object_rate=0.0,
    )
    scenes = [world.sample(0, index) for index in range(60)]
    assert {scene.objects[0].name for scene in scenes if isinstance(scene.objects[0], EmojiObject)} == {
        "paw prints",
        "subject 7",
    }
    assert {(scene.objects[0].size, scene.backdrop.colour, scene.backdrop.kind) for scene in scenes} == {
        ("large", "teal", "striped")
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"subjects": ("griffin",)}, "'griffin'"),
        ({"sizes": ("huge",)}, "`sizes` must be some of small, medium, large, got"),
        ({"sizes": ()}, "`sizes` must be some of"),
        ({"motions": ("left", "hop")}, "`motions` must be some of"),
        ({"backdrops": ("plaid",)}, "`backdrops` must be some of"),
        ({"kinds": ("tartan",)}, "`kinds` must be some of"),
        ({"two_object_rate": 1.5}, "`two_object_rate` must be in"),
        ({"overlap_rate": -0.1}, "`overlap_rate` must be in"),
        ({"sizes": ("medium", "large")}, "`two_object_rate` must be 0 without the size small"),
        ({"subjects": ("subject 3",), "shape_rate": 0.0}, "`two_object_rate` must be 0 with one subject"),
        ({"subjects": ("ewe",)}, "nothing is left to train on"),
        ({"subjects": ("subject 8",), "motions": ("left",)}, "nothing is left to train on"),
    ],
)
def test_what_is_refused(artwork_folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmojiWorld(load_artwork(artwork_folder), **changes)


def test_one_subject_can_stand_beside_shapes(artwork_folder: Path) -> None:
    world = EmojiWorld(load_artwork(artwork_folder), subjects=("subject 3",), two_object_rate=1.0)
    for index in range(20):
        assert {type(item) for item in world.sample(0, index).objects} == {EmojiObject, ShapeObject}


def test_a_scene_of_given_objects(world: EmojiWorld) -> None:
    item = world.object_of("ewe", "medium", "rotate")  # held out, and so only on demand
    scene = world.scene_of((item, ShapeObject("red", "ring", "small", "left")), seed=3, num_frames=5)
    assert scene.objects[0] == item and scene.tracks.shape == (2, 5, 5)
    with pytest.raises(ValueError, match="'griffin'"):
        world.object_of("griffin", "medium", "rotate")
    with pytest.raises(ValueError, match="`size` must be one of"):
        world.object_of("ewe", "vast", "rotate")
    with pytest.raises(ValueError, match="`num_frames` must be at least 1, got 0"):
        world.sample(0, 0, num_frames=0)


def test_prompt_objects(world: EmojiWorld, artwork_folder: Path) -> None:
    for held_out in (False, True):
        items = [world.sample_prompt_object(Random(idx), held_out=held_out) for idx in range(50)]
        assert all(item.is_held_out == held_out for item in items)
    free = EmojiWorld(load_artwork(artwork_folder), subjects=("subject 3",), motions=("left",))
    with pytest.raises(ValueError, match="`held_out` must be False"):
        free.sample_prompt_object(Random(0), held_out=True)


@pytest.mark.parametrize(
    "x, y, place",
    [
        (0.1, 0.1, "top left"),
        (0.5, 0.2, "top"),
        (0.9, 0.5, "right"),
        (0.5, 0.5, "middle"),
        (0.2, 0.9, "bottom left"),
    ],
)
def test_places(x: float, y: float, place: str) -> None:
    assert place_of(x, y) == place
