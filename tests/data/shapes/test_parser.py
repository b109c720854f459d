"""The judge of generated clips: right on rendered and on spoilt ones, silent where nothing is seen."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.shapes.parser import ParsedClip, ParsedObject, matches, parse_clip
from videogen.data.shapes.render import coverage, render
from videogen.data.shapes.tracking import fit_background
from videogen.data.shapes.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    SIZES,
    Background,
    Scene,
    ShapeObject,
    World,
    clearance,
)

SINGLE, PAIRS = World(two_object_rate=0.0), World(two_object_rate=1.0)
ATTRIBUTES = ("colour", "shape", "size", "motion")
OPPOSITE = {
    "left": "right", "right": "left", "up": "down", "down": "up",
    "up-left": "down-right", "down-right": "up-left", "up-right": "down-left", "down-left": "up-right",
    "grow": "shrink", "shrink": "grow", "fade in": "fade out", "fade out": "fade in",
}  # fmt: skip


def single_scenes(number: int, seed: int, num_frames: int = 16) -> list[Scene]:
    """Half of them as in training, half showing an object that is held out of it."""
    held_out = SINGLE.objects(held_out=True)
    scenes = [SINGLE.sample(seed, index, num_frames) for index in range(number - number // 2)]
    rng = Random(seed)
    return scenes + [
        SINGLE.scene_of((rng.choice(held_out),), seed + index, num_frames) for index in range(number // 2)
    ]


def pair_scenes(number: int, seed: int) -> list[Scene]:
    """Two objects that never touch: half as in training, half with a held-out object."""
    scenes = [PAIRS.sample(seed, index) for index in range(number - number // 2)]
    rng, attempt = Random(seed), seed
    while len(scenes) < number:
        scene = PAIRS.scene_of(PAIRS.sample_prompt_objects(rng, 2, held_out=True), attempt)
        attempt += 1
        if clearance(scene) > 0:
            scenes.append(scene)
    return scenes


def spoil(clip: Tensor, generator: torch.Generator) -> Tensor:
    """Blur of sigma 0.7 pixels, a colour shift of 0.04 and noise of 0.03, as a codec may leave them."""
    taps = torch.exp(-(torch.arange(-3, 4) ** 2) / (2 * 0.7**2))
    kernel = (taps[:, None] * taps / taps.sum() ** 2)[None, None]
    blurred = F.conv2d(F.pad(clip.flatten(0, 1)[:, None], (3, 3, 3, 3), mode="replicate"), kernel).view_as(
        clip
    )
    shift = 0.04 * torch.randn(3, 1, 1, 1, generator=generator).sign()
    return (blurred + shift + 0.03 * torch.randn(clip.shape, generator=generator)).clamp(-1, 1)


def share_right(
    scenes: Iterable[Scene],
    change: Callable[[Tensor], Tensor] = lambda clip: clip,
    size: int | tuple[int, int] = 64,
) -> dict[str, float]:
    """Share of clips in which an attribute of all objects, all four, the count, the background are right."""
    right: Counter[str] = Counter()
    number = 0
    for scene in scenes:
        parsed = parse_clip(change(render([scene], size)[0]))
        found = matches(scene.objects, parsed)
        for attribute in (*ATTRIBUTES, "all_right"):
            right[attribute] += all(getattr(match, attribute) for match in found)
        right["count"] += len(parsed.objects) == len(scene.objects)
        right["background"] += parsed.background == scene.background.name
        number += 1
    return {key: right[key] / number for key in (*ATTRIBUTES, "all_right", "count", "background")}


def paint(alpha: Tensor, colour: str = "red", background: str = "black") -> Tensor:
    """`(3, F, H, W)` clip of one colour over another by an alpha map `(F, H, W)`."""
    front, back = (
        torch.tensor(table[name])[:, None, None, None] / 127.5 - 1
        for table, name in ((COLOURS, colour), (BACKGROUNDS, background))
    )
    return back + (front - back) * alpha


def outline(shape: str, radius: float = 14 / 64, angle: float = 0.0, num_frames: int = 8) -> Tensor:
    """`(F, 64, 64)` alpha map of a shape at rest in the middle."""
    return coverage(shape, torch.tensor([0.5, 0.5, radius, angle, 1.0]).expand(1, num_frames, 5), 64, 64)[0]


def only(parsed: ParsedClip) -> ParsedObject:
    assert len(parsed.objects) == 1
    return parsed.objects[0]


def test_rendered_single_objects_are_read_right() -> None:
    scenes = single_scenes(400, seed=1)
    assert {scene.objects[0].motion for scene in scenes} == set(MOTIONS)
    assert min(share_right(scenes).values()) >= 0.99


def test_rendered_pairs_are_read_right() -> None:
    assert min(share_right(pair_scenes(80, seed=2)).values()) >= 0.98


def test_spoilt_single_objects_are_read_right() -> None:
    generator = torch.Generator().manual_seed(3)
    shares = share_right(single_scenes(150, seed=3), lambda clip: spoil(clip, generator))
    assert min(shares.values()) >= 0.97


def test_spoilt_pairs_are_read_right() -> None:
    generator = torch.Generator().manual_seed(4)
    shares = share_right(pair_scenes(40, seed=4), lambda clip: spoil(clip, generator))
    assert min(shares.values()) >= 0.95


@pytest.mark.parametrize("size, num_frames", [((32, 32), 16), ((64, 96), 8), ((130, 130), 9), ((48, 48), 25)])
def test_any_size_and_length(size: tuple[int, int], num_frames: int) -> None:
    assert min(share_right(single_scenes(30, seed=5, num_frames=num_frames), size=size).values()) >= 0.96


def test_four_frames_tell_all_but_fast_motions() -> None:
    slow = [
        scene
        for scene in single_scenes(60, 6, num_frames=4)
        if scene.objects[0].motion not in ("bounce", "rotate")
    ]
    assert min(share_right(slow).values()) >= 0.98


def test_a_pair_is_two_objects_only_where_two_are_seen() -> None:
    for scene in single_scenes(10, seed=7):
        assert len(parse_clip(render([scene])[0], num_objects=2).objects) == 1
    for scene in pair_scenes(5, seed=7):
        assert len(parse_clip(render([scene])[0], num_objects=1).objects) == 1


def test_a_frozen_mover_is_still() -> None:
    for scene in single_scenes(60, seed=8):
        clip = render([scene])[0]
        most_visible = {"fade in": 15, "fade out": 0}.get(scene.objects[0].motion, 8)
        frozen = clip[:, most_visible : most_visible + 1].expand_as(clip)
        assert only(parse_clip(frozen)).motion == "still", scene.objects[0]


def test_a_reversed_clip_has_the_opposite_motion() -> None:
    for scene in single_scenes(60, seed=9):
        motion = scene.objects[0].motion
        assert only(parse_clip(render([scene])[0].flip(1))).motion == OPPOSITE.get(motion, motion)


def test_shuffled_frames_have_no_motion() -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(10))
    for scene in single_scenes(40, seed=10):
        motion = scene.objects[0].motion
        expected = "still" if motion == "still" else None
        assert only(parse_clip(render([scene])[0][:, order])).motion == expected, motion


def test_a_move_that_is_too_short_is_neither_still_nor_a_motion() -> None:
    for motion in ("left", "down", "grow", "fade in", "rotate"):
        scene = SINGLE.scene_of((ShapeObject("red", "square", "medium", motion),), 11, num_frames=64)
        clip = render([scene])[0][:, 24:40:2]  # a quarter of it
        assert only(parse_clip(clip)).motion is None, motion


def test_a_move_that_stops_halfway_is_still_that_move() -> None:
    for motion in ("up-left", "down-right", "grow"):
        clip = render([SINGLE.scene_of((ShapeObject("blue", "star", "small", motion),), 12)])[0]
        assert (
            only(parse_clip(torch.cat([clip[:, :10], clip[:, 9:10].expand(-1, 6, -1, -1)], 1))).motion
            == motion
        )


def test_two_motions_at_once_are_no_motion() -> None:
    track = torch.zeros(1, 16, 5)
    progress = torch.linspace(0, 1, 16)
    track[0] = torch.stack(
        [0.3 + 0.4 * progress, 0 * progress + 0.5, 0.2 - 0.12 * progress, 0 * progress, 0 * progress + 1], 1
    )
    parsed = only(parse_clip(paint(coverage("circle", track, 64, 64)[0])))
    assert (parsed.colour, parsed.shape, parsed.motion) == ("red", "circle", None)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_a_resting_shape_may_stand_at_any_angle(shape: str, size: str) -> None:
    parsed = only(parse_clip(paint(outline(shape, SIZES[size], angle=0.4), "cyan", "gray")))
    assert (parsed.colour, parsed.shape, parsed.size, parsed.motion) == ("cyan", shape, size, "still")


def test_no_name_for_what_is_no_shape() -> None:
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    distance = torch.hypot(x, y)
    strangers = {
        "ellipse": (12 - torch.hypot(x / 1.4, y * 1.4)).clamp(0, 1),
        "bar": (16 - x.abs()).clamp(0, 1) * (8 - y.abs()).clamp(0, 1),
        "half disc": (14 - distance).clamp(0, 1) * (y > 0),
        "cloud": torch.exp(-(distance**2) / 128),
        "flower": (14 * (0.7 + 0.3 * torch.cos(7 * torch.atan2(y, x))) - distance).clamp(0, 1),
        "half square, half circle": (outline("square") + outline("circle"))[0] / 2,
    }
    for name, alpha in strangers.items():
        parsed = only(parse_clip(paint(alpha.expand(8, 64, 64))))
        assert (parsed.shape, parsed.size) == (None, None), name


def test_no_name_for_a_size_or_colour_of_none() -> None:
    giant = only(parse_clip(paint(outline("circle", 26 / 64))))
    assert (giant.shape, giant.size) == ("circle", None)
    assert only(parse_clip(paint(0.5 * outline("circle")))).colour is None
    between = (paint(outline("square"), "orange") + paint(outline("square"), "yellow")) / 2
    assert only(parse_clip(between)).colour is None


@pytest.mark.parametrize("seed", range(4))
def test_half_dissolved_blobs_have_no_names(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    clouds = F.interpolate(torch.randn(1, 1, 8, 6, 6, generator=generator), (8, 64, 64), mode="trilinear")[
        0, 0
    ]
    blob = 0.5 * torch.sigmoid((10 - torch.hypot(x, y)) / 4 + 2 * clouds)
    for parsed in parse_clip(paint(blob)).objects:
        assert (parsed.colour, parsed.shape, parsed.size, parsed.motion) == (None, None, None, None)


@pytest.mark.parametrize("num_objects", [None, 1, 2])
def test_nothing_is_seen_in_noise_or_an_empty_frame(num_objects: int | None) -> None:
    generator = torch.Generator().manual_seed(13)
    uniform = torch.rand(3, 8, 64, 64, generator=generator) * 2 - 1
    normal = torch.randn(3, 8, 64, 64, generator=generator).clamp(-1, 1)
    assert parse_clip(uniform, num_objects) == parse_clip(normal, num_objects) == ParsedClip((), None)
    for name in BACKGROUNDS:
        empty = render([Scene((), torch.zeros(0, 8, 5).numpy(), Background(name, 45.0, 2.0))])[0]
        grainy = empty + 0.05 * torch.randn(empty.shape, generator=generator)
        assert parse_clip(empty, num_objects) == parse_clip(grainy, num_objects) == ParsedClip((), name)
    odd = torch.tensor([0.6, -0.9, 0.2])[:, None, None, None].expand(3, 8, 40, 70)
    assert parse_clip(odd, num_objects) == ParsedClip((), None)


def test_the_background_is_found_behind_the_objects() -> None:
    for index, scene in enumerate(single_scenes(20, seed=14)):
        background = Background(list(BACKGROUNDS)[index % 5], gradient=60.0, angle=index * math.pi / 10)
        with_object, without = render(
            [Scene(scene.objects, scene.tracks, background), Scene((), scene.tracks[:0], background)]
        )
        assert float((fit_background(with_object).image - without[:, 0]).abs().max()) < 0.02


def test_matches_pairs_by_colour_then_by_all_attributes() -> None:
    def parsed(colour: str | None, shape: str | None, motion: str | None) -> ParsedObject:
        return ParsedObject(
            colour, shape, "small", motion, colour_error=0, shape_iou=1, shape_margin=1, radius=0
        )

    wanted = [ShapeObject("red", "circle", "small", "left"), ShapeObject("blue", "star", "large", "grow")]
    swapped = ParsedClip((parsed("blue", "circle", "left"), parsed("red", "star", "grow")), "black")
    red, blue = matches(wanted, swapped)
    assert (red.colour, red.shape, red.size, red.motion) == (True, False, True, False)
    assert (blue.colour, blue.shape, blue.size, blue.motion) == (True, False, False, False)

    colourless = ParsedClip((parsed(None, "star", "grow"), parsed(None, "circle", "left")), None)
    red, blue = matches(wanted, colourless)
    assert (red.colour, red.shape, red.size, red.motion) == (False, True, True, True)
    assert blue.shape and blue.motion and not blue.all_right

    one = ParsedClip((parsed("blue", "star", "grow"),), None)
    red, blue = matches(wanted, one)
    assert not (red.colour or red.shape or red.size or red.motion)
    assert blue.colour and blue.shape and not blue.size and blue.motion
    assert matches([], one) == []
    assert matches(wanted[:1], ParsedClip((parsed("red", "circle", "left"),), None))[0].all_right


@pytest.mark.parametrize("shape", [(16, 3, 64, 64), (3, 3, 64, 64), (1, 3, 16, 64, 64)])
def test_wrong_layouts_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="`frames` must be"):
        parse_clip(torch.zeros(shape))


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_objects` must be"):
        parse_clip(torch.zeros(3, 4, 32, 32), num_objects=3)
