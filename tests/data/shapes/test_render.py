"""The renderer of `shapes`: against a supersampled reference, and free of any dependence on the batch."""

import math
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from videogen.data.shapes.render import coverage, render
from videogen.data.shapes.world import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SHAPES_WORLD,
    Background,
    Scene,
    ShapeObject,
    place,
)

SAMPLES = 16  # per pixel and axis


def polygon(radii: list[float], first: float = -math.pi / 2) -> np.ndarray:
    angles = first + 2 * math.pi * np.arange(len(radii)) / len(radii)
    return np.stack([np.array(radii) * np.cos(angles), np.array(radii) * np.sin(angles)], axis=1)


POLYGONS = {
    "square": np.array([(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]),
    "triangle": polygon([1.15] * 3),
    "star": polygon([1.1, 0.5] * 5),
    "cross": np.array(
        [
            (-0.34, -1), (0.34, -1), (0.34, -0.34), (1, -0.34), (1, 0.34), (0.34, 0.34),
            (0.34, 1), (-0.34, 1), (-0.34, 0.34), (-1, 0.34), (-1, -0.34), (-0.34, -0.34),
        ]
    ),
}  # fmt: skip


def is_inside(shape: str, px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """Whether points lie in a shape of radius 1: by distance, or by counting edges to the right."""
    if shape == "circle":
        return np.hypot(px, py) <= 1
    if shape == "ring":
        return np.abs(np.hypot(px, py) - 0.78) <= 0.22
    inside = np.zeros(px.shape, dtype=bool)
    corners = POLYGONS[shape]
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (y1 > py) != (y2 > py)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (px < x1 + (py - y1) * (x2 - x1) / (y2 - y1))
    return inside


def reference(shape: str, track: tuple[float, ...], height: int, width: int) -> np.ndarray:
    """`(H, W)` share of each pixel's samples that lie in the shape."""
    x, y, radius, angle, alpha = track
    side = min(height, width)
    columns = (np.arange(width * SAMPLES) + 0.5) / SAMPLES
    rows = (np.arange(height * SAMPLES) + 0.5) / SAMPLES
    dx = (columns[None, :] - x * width) / (radius * side)
    dy = (rows[:, None] - y * height) / (radius * side)
    px = math.cos(angle) * dx + math.sin(angle) * dy
    py = -math.sin(angle) * dx + math.cos(angle) * dy
    samples = is_inside(shape, px, py).reshape(height, SAMPLES, width, SAMPLES)
    return samples.mean((1, 3)) * alpha


def tracks(*rows: tuple[float, ...]) -> Tensor:
    """`(1, F, 5)`."""
    return torch.tensor([rows], dtype=torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_coverage_equals_supersampling(shape: str, angle: float, size: tuple[int, int]) -> None:
    rows = [(0.47, 0.52, 18 / 64, angle, 1.0), (0.31, 0.6, 10 / 64, angle, 0.5), (0.5, 0.5, 0.2, angle, 0.0)]
    drawn = coverage(shape, tracks(*rows), *size)[0].numpy()
    for alpha, row in zip(drawn, rows, strict=True):
        expected = reference(shape, row, *size)
        edges = (expected > 0) & (expected < row[4])
        error = np.abs(alpha - expected)
        if row[4] == 0:
            assert not alpha.any()
            continue
        assert error[edges].mean() < 0.04 * row[4]
        assert error[~edges].max() < 0.3 * row[4]  # sharp corners reach a little further
        assert error[~edges].mean() < 0.0005 * row[4]
        assert alpha.sum() == pytest.approx(expected.sum(), rel=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_equals_the_whole_frame(shape: str) -> None:
    """A large companion makes the window as large as the frame; what is drawn beside it does not change."""
    rng = Random(0)
    some = [(rng.random(), rng.random(), rng.uniform(0.06, 0.3), rng.uniform(0, 6), 1.0) for _ in range(8)]
    large = (0.5, 0.5, 2.0, 0.0, 1.0)
    windowed = torch.stack([coverage(shape, tracks(row), 64, 64)[0, 0] for row in some])
    whole = coverage(shape, tracks(*some, large), 64, 64)[0, :-1]
    torch.testing.assert_close(windowed, whole, rtol=0, atol=1e-5)


def test_pixels_are_in_range_float32_and_finite() -> None:
    pixels = render([SHAPES_WORLD.sample(0, index) for index in range(40)])
    assert pixels.shape == (40, 3, 16, 64, 64) and pixels.dtype == torch.float32
    assert pixels.min() >= -1 and pixels.max() <= 1


def test_one_batch_equals_one_by_one() -> None:
    scenes = [SHAPES_WORLD.sample(4, index, num_frames=6) for index in range(24)]
    together = render(scenes, 48)
    alone = torch.cat([render([scene], 48) for scene in scenes])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def levels(rgb: tuple[int, int, int]) -> Tensor:
    return torch.tensor(rgb) / 127.5 - 1


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_colours_are_exact_inside_and_outside(colour: str, background: str) -> None:
    item = ShapeObject(colour, "square", "large", "still")
    scene = place((item,), Background(background), Random(0), 1)
    pixels = render([scene])[0, :, 0]
    column, row = (int(value * 64) for value in scene.tracks[0, 0, :2])
    torch.testing.assert_close(pixels[:, row, column], levels(COLOURS[colour]))
    corner = pixels[:, 0, 0] if row > 32 or column > 32 else pixels[:, -1, -1]
    torch.testing.assert_close(corner, levels(BACKGROUNDS[background]))


def test_later_objects_are_painted_over_earlier_ones() -> None:
    items = tuple(ShapeObject(colour, "circle", "large", "still") for colour in ("red", "blue"))
    track = np.tile(np.array([0.5, 0.5, 18 / 64, 0, 1], dtype=np.float32), (2, 1, 1))
    pixels = render([Scene(items, track, Background("black"))])
    torch.testing.assert_close(pixels[0, :, 0, 32, 32], levels(COLOURS["blue"]))


def test_half_alpha_is_half_way() -> None:
    track = np.array([[[0.5, 0.5, 18 / 64, 0, 0.5]]], dtype=np.float32)
    scene = Scene((ShapeObject("red", "circle", "large", "still"),), track, Background("white"))
    expected = (levels(COLOURS["red"]) + levels(BACKGROUNDS["white"])) / 2
    torch.testing.assert_close(render([scene])[0, :, 0, 32, 32], expected)


def empty_scene(background: Background) -> Scene:
    track = np.array([[[0.5, 0.5, 0.1, 0, 0]]], dtype=np.float32)
    return Scene((ShapeObject("red", "circle", "small", "still"),), track, background)


@pytest.mark.parametrize(("name", "sign"), [("black", 1), ("navy", 1), ("white", -1), ("beige", -1)])
@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi / 2, 4.0])
def test_a_gradient_is_linear_and_goes_all_the_way(name: str, sign: int, angle: float) -> None:
    pixels = (render([empty_scene(Background(name, 40.0, angle))], (48, 64))[0, :, 0] + 1) * 127.5
    change = sign * (pixels - torch.tensor(BACKGROUNDS[name], dtype=torch.float32)[:, None, None])
    assert change.min() == pytest.approx(0, abs=1e-3) and change.max() == pytest.approx(40, abs=1e-3)
    for axis in (1, 2):
        steps = change.diff(dim=axis)
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=0, atol=1e-3)
    assert math.copysign(1, change[0, -1].mean() - change[0, 0].mean() + 1e-6) == math.copysign(
        1, math.sin(angle) + 1e-6
    )


@pytest.mark.parametrize("size", [(48, 96), (96, 48), (33, 57)])
def test_sizes_other_than_square(size: tuple[int, int]) -> None:
    scenes = [SHAPES_WORLD.sample(1, index, num_frames=3) for index in range(12)]
    pixels = render(scenes, size)
    assert pixels.shape == (12, 3, 3, *size)
    for scene, clip in zip(scenes, pixels, strict=True):
        for item, track in zip(scene.objects, scene.tracks, strict=True):
            x, y, _, _, alpha = track[1]
            if item.shape != "ring" and alpha > 0.99:
                centre = clip[:, 1, int(y * size[0]), int(x * size[1])]
                torch.testing.assert_close(centre, levels(COLOURS[item.colour]), rtol=0, atol=1e-4)


def test_nothing_to_render() -> None:
    with pytest.raises(ValueError, match="`scenes` is empty"):
        render([])
