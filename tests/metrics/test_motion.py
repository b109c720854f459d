"""Motion, flicker and frozen frames of clips whose motion is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.shapes.captions import plain_caption
from videogen.data.shapes.render import render
from videogen.data.shapes.world import SHAPES_WORLD, ShapeObject
from videogen.metrics.motion import flicker, frozen_share, motion_magnitude


def texture(height: int = 48, width: int = 64) -> Tensor:
    """A smooth random picture `(3, H, W)` in [-1, 1]."""
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0].clamp(-1, 1)


def translated(dy: int, dx: int, num_frames: int = 6) -> Tensor:
    """A texture that moves by whole pixels each frame, `(1, 3, F, H, W)`."""
    picture = texture(96, 96)
    margin = 16
    frames = [
        picture[:, margin + dy * k : margin + dy * k + 64, margin + dx * k : margin + dx * k + 64]
        for k in range(num_frames)
    ]
    return torch.stack(frames, dim=1)[None]


@pytest.mark.parametrize("dy, dx", [(0, 1), (1, 0), (1, 1), (-1, 1), (0, 2)])
def test_a_translated_clip_moves_as_far_as_it_is_translated(dy: int, dx: int) -> None:
    assert motion_magnitude(translated(dy, dx)).item() == pytest.approx(math.hypot(dy, dx), rel=0.1)


def test_a_constant_clip_does_nothing() -> None:
    still = texture()[None, :, None].expand(-1, -1, 5, -1, -1)
    blank = torch.zeros(1, 3, 5, 48, 64)
    for clip in (still, blank):
        assert motion_magnitude(clip).item() == pytest.approx(0, abs=1e-9)
        assert flicker(clip).item() == pytest.approx(0, abs=1e-9)
        assert frozen_share(clip).item() == 1


def test_brightness_is_not_motion_of_a_blank_clip() -> None:
    clip = torch.linspace(-1, 1, 5)[None, None, :, None, None].expand(1, 3, 5, 16, 16)
    assert motion_magnitude(clip).item() == 0
    assert frozen_share(clip).item() == 0


def test_rendered_shapes_move_as_their_tracks_do() -> None:
    item = ShapeObject("red", "square", "large", "right")
    scene = SHAPES_WORLD.scene_of((item,), seed=1)
    steps = scene.tracks[0, 1:, 0] - scene.tracks[0, :-1, 0]
    measured = motion_magnitude(render([scene])).item()
    # Of a square that moves to the right, two of four sides move across themselves.
    assert 0.3 * 64 * steps.mean() < measured < 64 * steps.mean(), plain_caption((item,))


def test_clips_are_measured_one_by_one() -> None:
    clips = torch.cat([translated(0, 1), translated(1, 1)])
    for measure in (motion_magnitude, flicker, frozen_share):
        alone = torch.cat([measure(clip[None]) for clip in clips])
        torch.testing.assert_close(measure(clips), alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("amplitude", [0.1, 0.4])
def test_flicker_of_a_clip_that_alternates(amplitude: float) -> None:
    signs = torch.tensor([1.0, -1.0] * 4)[None, None, :, None, None]
    clip = (2 * amplitude * signs).expand(1, 3, 8, 4, 4)  # brightness is half of a value in [-1, 1]
    assert flicker(clip).item() == pytest.approx(amplitude, rel=1e-6)


def test_a_steady_fade_does_not_flicker() -> None:
    clip = torch.linspace(-1, 1, 9)[None, None, :, None, None].expand(1, 3, 9, 4, 4)
    assert flicker(clip).item() == pytest.approx(0, abs=1e-6)


def test_frozen_share_counts_the_steps_in_which_nothing_changes() -> None:
    clip = translated(0, 1, num_frames=5)
    assert frozen_share(clip).item() == 0
    assert frozen_share(clip[:, :, [0, 1, 1, 2, 2]]).item() == 0.5
    faint = clip[:, :, :1].repeat(1, 1, 3, 1, 1)
    faint[:, :, 1] += 1e-3  # of 2: too little to see
    assert frozen_share(faint).item() == 1


@pytest.mark.parametrize("measure, min_frames", [(motion_magnitude, 2), (flicker, 3), (frozen_share, 2)])
def test_wrong_clips_are_refused(measure, min_frames: int) -> None:
    with pytest.raises(ValueError, match=f"at least {min_frames} frames"):
        measure(torch.zeros(1, 3, min_frames - 1, 8, 8))
    with pytest.raises(ValueError, match=r"must be \(B, 3, F, H, W\)"):
        measure(torch.zeros(3, 8, 8, 8))
