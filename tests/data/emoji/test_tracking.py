"""A known subject is found where it is, whatever its size, its backdrop and its motion."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.emoji.conftest import save_loop
from videogen.data.emoji.artwork import Artwork, load_artwork
from videogen.data.emoji.render import render
from videogen.data.emoji.tracking import SubjectTrack, track_subject
from videogen.data.emoji.world import Backdrop, EmojiScene, EmojiWorld
from videogen.data.shapes.world import ALPHA, ANGLE, RADIUS, X, Y

SIDE = 48
BACKDROPS = (
    Backdrop("white"),
    Backdrop("navy", "gradient", contrast=60.0, angle=1.0),
    Backdrop("teal", "checkered", contrast=40.0, angle=0.5, period=0.3),
)


@pytest.fixture(scope="module")
def artwork(tmp_path_factory: pytest.TempPathFactory) -> Artwork:
    """A flag, red and yellow on a pole, whose shade changes; it looks the same at no other angle."""
    folder = tmp_path_factory.mktemp("flag")
    frames = []
    for shade in (255, 215):
        pixels = np.zeros((96, 96, 4), np.uint8)
        pixels[8:90, 12:24] = (90, 60, 30, 255)
        pixels[8:34, 24:84] = (shade, 0, 0, 255)
        pixels[34:54, 24:84] = (shade, shade, 0, 255)
        frames.append(Image.fromarray(pixels))
    save_loop(frames, folder / "flag.webp", [1500, 1500])
    row = {"file": "flag.webp", "name": "flag", "keywords": [], "group": "things"}
    (folder / "captions.jsonl").write_text(json.dumps(row))
    return load_artwork(folder)


def scene_of(artwork: Artwork, size: str, motion: str, backdrop: Backdrop, seed: int = 0) -> EmojiScene:
    world = EmojiWorld(artwork, two_object_rate=0.0, with_held_out=True)
    scene = world.scene_of((world.object_of("flag", size, motion),), seed, num_frames=8)
    return EmojiScene(scene.objects, scene.tracks, scene.ticks, backdrop)


def follow(scene: EmojiScene, artwork: Artwork) -> tuple[SubjectTrack, np.ndarray]:
    """The track that is found, and the distances from the true places in pixels of a frame of 64."""
    found = track_subject(render([scene], artwork, SIDE).pixels[0], artwork, 0)
    return found, 64 * np.hypot(*(found.course.centre - scene.tracks[0][:, [X, Y]]).T)


@pytest.mark.parametrize("backdrop", BACKDROPS, ids=lambda backdrop: backdrop.kind)
@pytest.mark.parametrize(
    ("size", "motion"), [("small", "left"), ("medium", "grow"), ("large", "still"), ("small", "orbit")]
)
def test_a_subject_is_found_in_every_frame(
    artwork: Artwork, size: str, motion: str, backdrop: Backdrop
) -> None:
    scene = scene_of(artwork, size, motion, backdrop)
    found, distance = follow(scene, artwork)
    assert distance.max() < 2
    np.testing.assert_allclose(found.course.radius, scene.tracks[0][:, RADIUS], rtol=0.13)
    assert found.course.visible.all() and found.motion == motion


def test_a_turning_subject_is_followed(artwork: Artwork) -> None:
    scene = scene_of(artwork, "medium", "rotate", BACKDROPS[1])
    found, distance = follow(scene, artwork)
    assert distance.max() < 2 and found.motion == "rotate"
    off = np.angle(np.exp(1j * (found.angle - scene.tracks[0][:, ANGLE])))
    assert np.abs(off).max() < np.radians(12)


@pytest.mark.parametrize("motion", ["fade in", "fade out"])
def test_a_fading_subject_is_where_it_was_seen(artwork: Artwork, motion: str) -> None:
    scene = scene_of(artwork, "medium", motion, BACKDROPS[0])
    found, distance = follow(scene, artwork)
    assert distance.max() < 2 and found.motion == motion
    np.testing.assert_allclose(found.course.alpha, scene.tracks[0][:, ALPHA], atol=0.1)


def test_a_clip_without_the_subject_scores_low(artwork: Artwork) -> None:
    scene = scene_of(artwork, "large", "left", BACKDROPS[0])
    found, _ = follow(scene, artwork)
    noise = torch.rand(3, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    nothing = track_subject(noise, artwork, 0)
    assert found.score.min() > 0.9 and nothing.score.max() < 0.5
    flat = track_subject(torch.zeros(3, 2, SIDE, SIDE), artwork, 0)
    assert flat.score.max() < 0.05 and not flat.course.visible.any()


def test_frames_need_not_be_square(artwork: Artwork) -> None:
    scene = scene_of(artwork, "medium", "right", BACKDROPS[0])
    pixels = render([scene], artwork, (SIDE, 2 * SIDE)).pixels[0]
    found = track_subject(pixels, artwork, 0)
    np.testing.assert_allclose(found.course.centre, scene.tracks[0][:, [X, Y]], atol=2 / SIDE)


def test_other_shapes_are_refused(artwork: Artwork) -> None:
    with pytest.raises(ValueError, match=r"`frames` must be \(3, F, H, W\), got \(8, 3, 16, 16\)"):
        track_subject(torch.zeros(8, 3, 16, 16), artwork, 0)
