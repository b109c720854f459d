"""The world `shapes`: every motion does what its name says, and nothing that is held out is ever seen."""

import itertools
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from videogen.data.shapes.world import (
    ALPHA,
    ANGLE,
    BACKGROUNDS,
    MOTIONS,
    RADIUS,
    REACH_ROTATED,
    SHAPES_MINI,
    SHAPES_WORLD,
    SIZES,
    WORLDS,
    Background,
    ShapeObject,
    World,
    X,
    Y,
    clearance,
    pair_fits,
    place,
)

COLOUR_ORDER = ["red", "green", "blue", "yellow", "orange", "purple", "cyan", "pink"]
SHAPE_ORDER = ["circle", "square", "triangle", "star", "ring", "cross"]
MOTION_ORDER = [
    "left", "right", "up", "down", "up-left", "up-right", "down-left", "down-right",
    "bounce", "orbit", "grow", "shrink", "rotate", "fade in", "fade out", "still",
]  # fmt: skip
STEPS = {
    "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1),
    "up-left": (-1, -1), "up-right": (1, -1), "down-left": (-1, 1), "down-right": (1, 1),
}  # fmt: skip


def held_out(colour: str, shape: str, motion: str) -> bool:
    colour_idx, shape_idx = COLOUR_ORDER.index(colour), SHAPE_ORDER.index(shape)
    return (colour_idx + 2 * shape_idx + 3 * MOTION_ORDER.index(motion)) % 10 == 0


def track_of(motion: str, seed: int = 0, shape: str = "square", size: str = "medium") -> np.ndarray:
    """`(16, 5)` course of one object."""
    return place((ShapeObject("red", shape, size, motion),), Background("black"), Random(seed), 16).tracks[0]


def constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())


@pytest.mark.parametrize("motion", STEPS)
@pytest.mark.parametrize("seed", range(5))
def test_straight_motions_go_their_way_and_nothing_else_changes(motion: str, seed: int) -> None:
    track = track_of(motion, seed)
    step_x, step_y = STEPS[motion]
    for column, sign in ((X, step_x), (Y, step_y)):
        steps = np.diff(track[:, column])
        assert (np.sign(steps) == sign).all()
        np.testing.assert_allclose(steps, steps.mean(), atol=1e-6)
        if sign:
            assert 0.2 < abs(track[-1, column] - track[0, column]) <= 30 / 64
    assert constant(track[:, RADIUS]) and not track[:, ANGLE].any() and (track[:, ALPHA] == 1).all()


@pytest.mark.parametrize("seed", range(10))
def test_bounce_goes_up_and_down_twice(seed: int) -> None:
    track = track_of("bounce", seed)
    assert np.ptp(track[:, Y]) >= 12 / 64
    assert np.ptp(track[:, X]) <= 4 / 64 + 1e-6
    turns = np.count_nonzero(np.diff(np.sign(np.diff(track[:, Y]))))
    assert turns in (3, 4)  # two arcs: two tops, one or two bottoms in view
    assert constant(track[:, RADIUS])


@pytest.mark.parametrize("seed", range(10))
def test_orbit_is_one_full_circle(seed: int) -> None:
    track = track_of("orbit", seed)
    np.testing.assert_allclose(track[0], track[-1], atol=1e-6)
    centre = track[:-1, [X, Y]].mean(0)
    offsets = track[:, [X, Y]] - centre
    distances = np.linalg.norm(offsets, axis=1)
    np.testing.assert_allclose(distances, distances.mean(), atol=1e-6)
    assert distances.mean() >= 8 / 64 - 1e-6
    angles = np.unwrap(np.arctan2(offsets[:, 1], offsets[:, 0]))
    assert abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi, abs=1e-4)


def test_orbit_turns_both_ways() -> None:
    signs = set()
    for seed in range(20):
        offsets = track_of("orbit", seed)[:, [X, Y]]
        offsets = offsets - offsets[:-1].mean(0)
        signs.add(np.sign(np.cross(np.append(offsets[0], 0), np.append(offsets[1], 0))[2]))
    assert signs == {-1, 1}


@pytest.mark.parametrize("size", SIZES)
def test_grow_and_shrink_have_the_named_size_at_their_large_end(size: str) -> None:
    grow, shrink = (track_of(motion, size=size)[:, RADIUS] for motion in ("grow", "shrink"))
    assert (np.diff(grow) > 0).all() and (np.diff(shrink) < 0).all()
    np.testing.assert_allclose([grow[-1], shrink[0]], SIZES[size], rtol=1e-6)
    np.testing.assert_allclose([grow[0], shrink[-1]], 0.4 * SIZES[size], rtol=1e-6)
    assert constant(track_of("grow")[:, X]) and constant(track_of("shrink")[:, Y])


def test_rotate_turns_both_ways_by_about_half_a_turn_or_more() -> None:
    turns = [track_of("rotate", seed)[:, ANGLE] for seed in range(20)]
    for angles in turns:
        assert angles[0] == 0 and 0.9 * np.pi <= abs(angles[-1]) <= 1.5 * np.pi
        assert len(set(np.sign(np.diff(angles)))) == 1
    assert {np.sign(angles[-1]) for angles in turns} == {-1, 1}


def test_fades_go_all_the_way() -> None:
    fade_in, fade_out = track_of("fade in")[:, ALPHA], track_of("fade out")[:, ALPHA]
    assert (fade_in[0], fade_in[-1], fade_out[0], fade_out[-1]) == (0, 1, 1, 0)
    assert (np.diff(fade_in) > 0).all() and (np.diff(fade_out) < 0).all()


def test_still_is_still() -> None:
    track = track_of("still")
    assert all(constant(column) for column in track.T)
    assert (track[0, RADIUS], track[0, ANGLE], track[0, ALPHA]) == (np.float32(14 / 64), 0, 1)


@pytest.mark.parametrize("num_frames", [1, 2, 5, 48])
def test_any_number_of_frames(num_frames: int) -> None:
    scene = SHAPES_WORLD.sample(0, 1, num_frames)
    assert scene.tracks.shape == (len(scene.objects), num_frames, 5)
    assert scene.tracks.dtype == np.float32


def test_half_the_frames_show_the_same_course() -> None:
    """Frame k of 5 shows what frame 2k of 9 shows: length is sampling, not speed."""
    np.testing.assert_allclose(
        SHAPES_WORLD.sample(3, 4, 9).tracks[:, ::2], SHAPES_WORLD.sample(3, 4, 5).tracks, atol=1e-6
    )


def outline_reach(shape: str, angle: float) -> tuple[float, float]:
    """How far a shape of radius 1 reaches from its centre along x and y, from its corners."""
    turns = {
        "square": [(1.1597, np.pi / 4 + k * np.pi / 2) for k in range(4)],
        "triangle": [(1.15, -np.pi / 2 + k * 2 * np.pi / 3) for k in range(3)],
        "star": [(1.1, -np.pi / 2 + k * 2 * np.pi / 5) for k in range(5)],
        "cross": [
            (np.hypot(1, 0.34), np.arctan(0.34) * s + k * np.pi / 2) for k in range(4) for s in (-1, 1)
        ],
    }
    if shape in ("circle", "ring"):
        return 1.0, 1.0
    points = np.array([(r * np.cos(a + angle), r * np.sin(a + angle)) for r, a in turns[shape]])
    reach = np.abs(points).max(0)
    return float(reach[0]), float(reach[1])


@pytest.mark.parametrize("world", WORLDS)
def test_objects_never_leave_the_frame(world: str) -> None:
    for index in range(1000):
        scene = WORLDS[world].sample(1, index)
        for item, track in zip(scene.objects, scene.tracks, strict=True):
            for x, y, radius, angle, _ in track:
                reach_x, reach_y = outline_reach(item.shape, angle)
                assert radius * reach_x <= x <= 1 - radius * reach_x, (index, item)
                assert radius * reach_y <= y <= 1 - radius * reach_y, (index, item)
            assert (track[:, ALPHA] >= 0).all() and (track[:, ALPHA] <= 1).all()


@pytest.mark.parametrize("world", WORLDS)
def test_nothing_held_out_is_ever_sampled(world: str) -> None:
    for index in range(5000):
        for item in WORLDS[world].sample(7, index, num_frames=2).objects:
            assert not held_out(item.colour, item.shape, item.motion), (index, item)
            assert not (item.motion == "rotate" and item.shape in ("circle", "ring"))


def test_held_out_rule_on_every_combination() -> None:
    for colour, shape, motion in itertools.product(COLOUR_ORDER, SHAPE_ORDER, MOTION_ORDER):
        item = ShapeObject(colour, shape, "small", motion)
        assert item.is_held_out == held_out(colour, shape, motion), item


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_objects_lists_every_combination_once(world: World) -> None:
    seen, kept = world.objects(held_out=False), world.objects(held_out=True)
    combinations = {
        (colour, shape, size, motion)
        for colour, shape, size, motion in itertools.product(
            world.colours, world.shapes, world.sizes, world.motions
        )
        if not (motion == "rotate" and shape in ("circle", "ring"))
    }
    assert len(seen) + len(kept) == len(combinations)
    assert {(item.colour, item.shape, item.size, item.motion) for item in seen + kept} == combinations
    assert all(held_out(item.colour, item.shape, item.motion) for item in kept)
    assert 0.05 < len(kept) / len(combinations) < 0.15


def test_mini_is_what_it_says() -> None:
    for index in range(300):
        scene = SHAPES_MINI.sample(0, index, num_frames=2)
        (item,) = scene.objects
        assert item.colour in COLOUR_ORDER[:4] and item.shape in SHAPE_ORDER[:3]
        assert item.size == "large" and item.motion in MOTION_ORDER[:4]
        assert scene.background.name in ("black", "white") and not scene.background.gradient


def test_a_scene_depends_on_seed_and_index_only() -> None:
    first = [SHAPES_WORLD.sample(5, index) for index in range(20)]
    SHAPES_WORLD.sample(9, 9)
    again = [SHAPES_WORLD.sample(5, index) for index in reversed(range(20))][::-1]
    for scene, same in zip(first, again, strict=True):
        assert scene.objects == same.objects and scene.background == same.background
        assert np.array_equal(scene.tracks, same.tracks)
    descriptions = {str((scene.objects, scene.tracks.tolist())) for scene in first}
    assert len(descriptions) == 20
    other = SHAPES_WORLD.sample(6, 0)
    assert str((other.objects, other.tracks.tolist())) not in descriptions


def test_everything_occurs_about_as_often_as_it_should() -> None:
    scenes = [SHAPES_WORLD.sample(2, index, num_frames=2) for index in range(3000)]
    items = [item for scene in scenes for item in scene.objects]
    for field, values in (("colour", COLOUR_ORDER), ("shape", SHAPE_ORDER), ("motion", MOTION_ORDER)):
        counts = Counter(getattr(item, field) for item in items)
        assert set(counts) == set(values)
        assert min(counts.values()) > 0.5 * len(items) / len(values)
    assert Counter(scene.background.name for scene in scenes).keys() == BACKGROUNDS.keys()
    pairs = np.mean([len(scene.objects) == 2 for scene in scenes])
    gradients = np.mean([scene.background.gradient > 0 for scene in scenes])
    assert pairs == pytest.approx(0.25, abs=0.03) and gradients == pytest.approx(0.3, abs=0.03)


def test_pairs_never_touch_and_differ_in_colour() -> None:
    world = replace(SHAPES_WORLD, two_object_rate=1.0)
    for index in range(500):
        scene = world.sample(3, index)
        assert len(scene.objects) == 2 and pair_fits(*scene.objects)
        assert scene.objects[0].colour != scene.objects[1].colour
        assert clearance(scene) > 0
        first, second = scene.tracks
        gap = np.hypot(first[:, X] - second[:, X], first[:, Y] - second[:, Y])
        assert (gap > first[:, RADIUS] + second[:, RADIUS]).all()
        assert first[:, RADIUS].max() * REACH_ROTATED < 0.5


@pytest.mark.parametrize("kept", [True, False])
def test_prompts_ask_for_what_is_held_out_or_not(kept: bool) -> None:
    rng = Random(0)
    for num_objects in (1, 2):
        for _ in range(50):
            objects = SHAPES_WORLD.sample_prompt_objects(rng, num_objects, held_out=kept)
            assert len(objects) == num_objects
            assert held_out(objects[0].colour, objects[0].shape, objects[0].motion) == kept
            assert not any(held_out(item.colour, item.shape, item.motion) for item in objects[1:])


def test_scene_of_shows_what_it_is_given() -> None:
    objects = (ShapeObject("red", "star", "small", "rotate"), ShapeObject("blue", "ring", "small", "still"))
    scene, again = SHAPES_WORLD.scene_of(objects, seed=3), SHAPES_WORLD.scene_of(objects, seed=3)
    assert scene.objects == objects and np.array_equal(scene.tracks, again.tracks)
    assert scene.tracks.shape == (2, 16, 5)


def test_at_least_one_frame() -> None:
    with pytest.raises(ValueError, match="`num_frames` must be at least 1, got 0"):
        SHAPES_WORLD.sample(0, 0, num_frames=0)


def test_pairs_in_a_world_without_room_for_them() -> None:
    with pytest.raises(ValueError, match="`two_object_rate` must be 0"):
        replace(SHAPES_MINI, two_object_rate=0.5)
    with pytest.raises(ValueError, match="`num_objects` must be 1 in this world, got 2"):
        SHAPES_MINI.sample_prompt_objects(Random(0), 2, held_out=False)


def test_orders_are_the_ones_that_the_rule_was_written_for() -> None:
    assert list(MOTIONS) == MOTION_ORDER
