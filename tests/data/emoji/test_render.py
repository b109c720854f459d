"""Composed pixels: colours, places and sizes where the scene says, no aliasing, what is in front of what."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.emoji.conftest import RADIUS as DISC_RADIUS
from tests.data.emoji.conftest import make_artwork, save_loop
from videogen.data.emoji.artwork import Artwork, load_artwork
from videogen.data.emoji.labels import annotate
from videogen.data.emoji.render import level_sides, render
from videogen.data.emoji.world import SIZES, Backdrop, EmojiObject, EmojiScene, EmojiWorld
from videogen.data.shapes import render as shapes_render
from videogen.data.shapes import world as shapes
from videogen.data.shapes.world import ShapeObject


@pytest.fixture
def artwork(artwork_folder: Path) -> Artwork:
    return load_artwork(artwork_folder)


def scene_at(
    tracks: list[tuple[float, float, float, float, float]], idx: int = 9, tick: int = 0, **backdrop: str
) -> EmojiScene:
    """One frame for each place of subject `idx`."""
    item = EmojiObject(idx, f"subject {idx}", "medium", "still")
    track = np.array([tracks], dtype=np.float32)
    return EmojiScene((item,), track, (tick,), Backdrop(**{"colour": "black", **backdrop}))


def to_bytes(pixels: torch.Tensor) -> torch.Tensor:
    return ((pixels + 1) * 127.5).round()


@pytest.mark.parametrize("size", [64, 37, (48, 80), 200])
@pytest.mark.parametrize("radius", [*SIZES.values(), 0.1])
def test_a_disc_is_where_and_as_large_as_the_scene_says(
    artwork: Artwork, size: int | tuple[int, int], radius: float
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    x, y = 0.55, 0.47
    rendering = render([scene_at([(x, y, radius, 0.0, 1.0)])], artwork, size)
    alpha = rendering.coverage()[0, 0, 0].double()
    wanted = radius * min(height, width) * DISC_RADIUS / 48
    assert float(alpha.sum()) == pytest.approx(math.pi * wanted**2, rel=0.05)
    rows, columns = (torch.arange(length) + 0.5 for length in (height, width))
    assert float((alpha.sum(0) * columns).sum() / alpha.sum()) == pytest.approx(x * width, abs=0.3)
    assert float((alpha.sum(1) * rows).sum() / alpha.sum()) == pytest.approx(y * height, abs=0.3)
    middle = to_bytes(rendering.pixels)[0, :, 0, round(y * height), round(x * width)]
    assert middle.tolist() == pytest.approx([200, 100, 36], abs=1.5)


def test_colours_do_not_bleed_at_the_edge(artwork: Artwork) -> None:
    """Every pixel is a mixture of the disc and the backdrop by its coverage, to the last of the edge."""
    rendering = render([scene_at([(0.5, 0.5, 0.3, 0.0, 1.0)], colour="sky blue")], artwork)
    alpha = rendering.coverage()[0, 0, 0]
    disc, behind = (torch.tensor(rgb)[:, None, None] for rgb in ((200.0, 100, 36), (145.0, 205, 245)))
    mixed = disc * alpha + behind * (1 - alpha)
    torch.testing.assert_close(to_bytes(rendering.pixels)[0, :, 0], mixed, rtol=0, atol=2.0)


def test_the_loop_begins_at_its_tick(artwork: Artwork) -> None:
    """The disc is large for 8 ticks of 24 and small for 16."""
    place = (0.5, 0.5, 0.25, 0.0, 1.0)
    coverage = render([scene_at([place] * 26, tick=20)], artwork).coverage()[0, 0].sum((1, 2))
    large = coverage > coverage.mean()
    assert large.tolist() == [False] * 4 + [True] * 8 + [False] * 14


def test_alpha_fades(artwork: Artwork) -> None:
    scene = scene_at([(0.5, 0.5, 0.25, 0.0, alpha) for alpha in (0.0, 0.25, 1.0)])
    middle = render([scene], artwork).pixels[0, 0, :, 32, 32]
    torch.testing.assert_close(middle, torch.tensor([0.0, 0.25, 1.0]) * 200 / 127.5 - 1, rtol=0, atol=0.01)


def test_a_quarter_turn_is_clockwise(tmp_path: Path) -> None:
    """A picture whose upper half is red shows red on its right after a quarter turn."""
    folder = make_artwork(tmp_path / "emoji", 1)
    picture = Image.new("RGBA", (96, 96), (0, 0, 255, 255))
    picture.paste((255, 0, 0, 255), (0, 0, 96, 48))
    other = picture.copy()
    other.putpixel((0, 0), (0, 0, 0, 0))
    save_loop([picture, other], folder / "clips/1f400.webp", [1500, 1500])
    scene = scene_at([(0.5, 0.5, 0.25, 0.0, 1.0), (0.5, 0.5, 0.25, math.pi / 2, 1.0)], idx=0)
    pixels = to_bytes(render([scene], Artwork(folder)).pixels)[0]
    assert pixels[:, 0, 24, 32].tolist() == [255, 0, 0] and pixels[:, 0, 40, 32].tolist() == [0, 0, 255]
    assert pixels[:, 1, 32, 40].tolist() == [255, 0, 0] and pixels[:, 1, 32, 24].tolist() == [0, 0, 255]


def test_small_subjects_do_not_alias(tmp_path: Path) -> None:
    """Stripes finer than the pixels of a small subject become their mean, wherever they fall."""
    folder = make_artwork(tmp_path / "emoji", 1)
    stripes = np.zeros((96, 96, 4), dtype=np.uint8)
    stripes[..., 3] = 255
    stripes[:, ::2, :3] = 255
    other = stripes.copy()
    other[0, 0] = 0
    save_loop([Image.fromarray(stripes), Image.fromarray(other)], folder / "clips/1f400.webp", [1500, 1500])
    places = [(0.5 + shift / 640, 0.5, SIZES["small"], 0.0, 1.0) for shift in range(10)]
    inside = to_bytes(render([scene_at(places, idx=0)], Artwork(folder)).pixels)[0, :, :, 26:38, 26:38]
    assert float((inside - 127.5).abs().max()) < 4


@pytest.mark.parametrize("side", [16, 64, 96, 300])
def test_levels_are_fine_enough(side: int) -> None:
    """From the smallest of `shrink` to a large subject, a level is at most 1.5 times too large."""
    sides = np.array(level_sides(side))
    for wanted in np.linspace(2 * 0.4 * SIZES["small"] * side, 2 * SIZES["large"] * side, 50):
        fitting = sides[sides >= min(wanted, 96) - 0.5]
        assert fitting.size and fitting.min() <= 1.5 * wanted + 1


def test_the_last_object_is_in_front(artwork: Artwork) -> None:
    subject = EmojiObject(9, "subject 9", "medium", "still")
    shape = ShapeObject("blue", "square", "medium", "still")
    tracks = np.array([[[0.5, 0.5, 0.25, 0, 1]], [[0.6, 0.5, 0.2, 0, 1]]], dtype=np.float32)
    front = EmojiScene((subject, shape), tracks, (0, 0), Backdrop("black"))
    back = EmojiScene((shape, subject), tracks[::-1].copy(), (0, 0), Backdrop("black"))
    rendering = render([front, back], artwork)
    at_both = to_bytes(rendering.pixels)[:, :, 0, 32, 34]
    assert at_both[0].tolist() == [45, 85, 230] and at_both[1].tolist() == pytest.approx(
        [200, 100, 36], abs=1.5
    )
    # What they take is the same in both orders, what is seen of them is not.
    coverage, visible = rendering.coverage(), rendering.visible()
    torch.testing.assert_close(coverage[0, 0], coverage[1, 1])
    assert float(visible[0, 0, 0, 32, 34]) == 0 and float(visible[1, 1, 0, 32, 34]) == 1
    torch.testing.assert_close(visible[:, 1], coverage[:, 1])
    annotations = annotate([front, back], rendering)
    assert not annotations.masks[0, 0, 0, 32, 34] and annotations.masks[0, 1, 0, 32, 34]
    assert torch.equal(annotations.boxes[0, 0], annotations.boxes[1, 1])  # the whole, hidden or not


def test_shapes_are_those_of_the_world_of_shapes(artwork: Artwork) -> None:
    world = EmojiWorld(artwork, two_object_rate=1.0, shape_rate=1.0, kinds=("plain",), backdrops=("navy",))
    scene = world.sample(0, 0, num_frames=4)
    (idx,) = [idx for idx, item in enumerate(scene.objects) if isinstance(item, ShapeObject)]
    item = scene.objects[idx]
    assert isinstance(item, ShapeObject)
    alone = shapes.Scene((item,), scene.tracks[idx : idx + 1], shapes.Background("navy"))
    expected = shapes_render.render([alone])
    rendering = render([scene], artwork)
    free = rendering.coverage()[:, 1 - idx, None] == 0
    torch.testing.assert_close(rendering.pixels * free, expected * free, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["gradient", "striped", "dotted", "checkered", "mottled"])
@pytest.mark.parametrize("colour", ["navy", "beige"])
def test_textures_keep_their_colour(artwork: Artwork, kind: str, colour: str) -> None:
    """They vary by their contrast, away from the colour to one side, the same in every frame."""
    backdrop = Backdrop(colour, kind, contrast=40.0, angle=0.7, period=0.25, seed=3)
    scene = replace(scene_at([(0.5, 0.5, 0.05, 0.0, 0.0)] * 2), backdrop=backdrop)
    pixels = to_bytes(render([scene], artwork, (48, 64)).pixels)[0]
    assert torch.equal(pixels[:, 0], pixels[:, 1])
    offset = (
        pixels[:, 0] - torch.tensor([15.0, 20, 80] if colour == "navy" else [235.0, 220, 190])[:, None, None]
    )
    sign = 1 if colour == "navy" else -1
    assert float((sign * offset).min()) >= -1 and float((sign * offset).max()) == pytest.approx(40, abs=1)
    assert 6 < float(offset.mean(0).std()) < 21
    other = replace(scene, backdrop=replace(backdrop, seed=4))
    same = torch.equal(render([other], artwork, (48, 64)).pixels, render([scene], artwork, (48, 64)).pixels)
    assert same == (kind != "mottled")


def test_nothing_to_render(artwork: Artwork) -> None:
    with pytest.raises(ValueError, match="`scenes` is empty"):
        render([], artwork)


@pytest.mark.gpu
def test_a_device_draws_the_same(artwork: Artwork) -> None:
    world = EmojiWorld(artwork, two_object_rate=0.5)
    scenes = [world.sample(0, index) for index in range(16)]
    on_cpu, on_device = render(scenes, artwork), render(scenes, artwork, device="cuda")
    torch.testing.assert_close(on_device.pixels.cpu(), on_cpu.pixels, rtol=0, atol=2e-3)
