"""Clips in a page: what a browser is given can be read back, and text cannot break out of it."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageSequence

from videogen.pages.clips import animated_webp, show_clips


def make_clip(num_frames: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, 6, 10, 3), dtype=np.uint8)


def frames_of(content: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(content))
    frames = np.stack([np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])
    if len(frames) > 1:
        assert (picture.info["duration"], picture.info["loop"]) == (125, 0)
    return frames


@pytest.mark.parametrize("num_frames", [1, 3])
def test_the_clip_in_the_page_is_the_clip(num_frames: int) -> None:
    clip = make_clip(num_frames)
    assert np.array_equal(frames_of(animated_webp(clip, lossless=True)), clip)
    assert np.array_equal(frames_of(animated_webp(clip / 255, lossless=True)), clip)


def test_what_is_lost_is_hard_to_see() -> None:
    rows, columns = np.mgrid[:16, :16] * 16
    clip = np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8)[None].repeat(2, axis=0)
    clip[1, 4:8, 4:8] = 255, 0, 0
    seen = frames_of(animated_webp(clip))
    assert seen.shape == (2, 32, 32, 3)
    error = seen[:, ::2, ::2].astype(float) - clip
    assert np.sqrt((error**2).mean()) < 8  # of 255


def test_a_grid_has_every_clip_and_its_caption() -> None:
    grid = show_clips([make_clip(), make_clip(1)], ["a < b", '"quoted"'], columns=8)
    contents = re.findall(r'src="data:image/webp;base64,([^"]+)"', grid.html)
    assert [len(frames_of(base64.b64decode(content))) for content in contents] == [3, 1]
    assert "a &lt; b" in grid.html and "a < b" not in grid.html and "&quot;quoted&quot;" in grid.html
    assert "repeat(2," in grid.html
    assert grid._repr_html_() == grid.html


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        show_clips([])
    with pytest.raises(ValueError, match="`captions` must be 1"):
        show_clips([make_clip()], [])
    with pytest.raises(ValueError, match="`columns`"):
        show_clips([make_clip()], columns=0)
    with pytest.raises(ValueError, match="`fps`"):
        animated_webp(make_clip(), fps=0)
    with pytest.raises(ValueError, match="one clip"):
        show_clips([np.zeros((4, 4, 3))])
