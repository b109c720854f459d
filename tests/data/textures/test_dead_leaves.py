"""Dead leaves: random access, the statistics of photographs, motion that is a motion."""

import numpy as np
import pytest
import torch
from torch import Tensor

from videogen.data.batch import ClipSource
from videogen.data.textures.canvas import CANVAS_SIZE, leaf_distance, leaves_canvas
from videogen.data.textures.dataset import DeadLeaves


def test_clips() -> None:
    source: ClipSource = DeadLeaves(num_frames=6, size=24)
    batch = source.batch([2, 700])
    assert batch.pixels.shape == (2, 3, 6, 24, 24) and batch.pixels.dtype == torch.float32
    assert batch.sample_ids == (2, 700) and batch.captions == ("", "")
    assert -1 <= float(batch.pixels.min()) < float(batch.pixels.max()) <= 1


def test_a_clip_follows_from_its_position_alone() -> None:
    """Also over the border of two canvases, in any order, and after the canvases were dropped."""
    source, sample_ids = DeadLeaves(size=16), [255, 256, 3, 1_000_000]
    together = source.batch(sample_ids).pixels
    for row, sample_id in enumerate(sample_ids):
        leaves_canvas.cache_clear()
        assert torch.equal(DeadLeaves(size=16).batch([sample_id]).pixels[0], together[row])
    assert not torch.equal(DeadLeaves(size=16, seed=1).batch(sample_ids).pixels, together)


def test_no_two_clips_are_alike() -> None:
    clips = DeadLeaves(num_frames=1, size=16).batch(range(30)).pixels.flatten(1)
    assert torch.cdist(clips, clips).add(torch.eye(30) * 9).min() > 0.5


def spectrum_slope(luminance: Tensor) -> float:
    """Exponent of the power over the frequency, of pictures `(N, S, S)`."""
    size = luminance.shape[-1]
    window = torch.hann_window(size, periodic=False).double()
    centred = (luminance - luminance.mean((-2, -1), keepdim=True)) * window * window[:, None]
    power = torch.fft.fft2(centred).abs().square().mean(0)
    steps = torch.fft.fftfreq(size).double() * size
    frequency = torch.hypot(steps, steps[:, None])
    rings = range(2, size // 3)
    means = [power[(frequency >= ring - 0.5) & (frequency < ring + 0.5)].mean().item() for ring in rings]
    return float(np.polyfit(np.log(list(rings)), np.log(means), 1)[0])


def test_the_spectrum_is_that_of_photographs() -> None:
    """Power falls about as f^-2, as Field (1987) and Ruderman (1997) found; that of white noise does not."""
    clips = DeadLeaves(num_frames=1, size=64, seed=4).batch(range(0, 256 * 12, 64)).pixels[:, :, 0].double()
    assert -2.8 < spectrum_slope(clips.mean(1)) < -1.6
    noise = torch.rand(48, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    assert abs(spectrum_slope(noise)) < 0.3


def test_some_clips_stand_still_and_most_move_smoothly() -> None:
    pixels = DeadLeaves(num_frames=8, size=32, seed=2).batch(range(64)).pixels
    change = (pixels[:, :, 1:] - pixels[:, :, :-1]).abs().mean((1, 2, 3, 4))
    to_other_clips = (pixels[1:, :, 0] - pixels[:-1, :, 0]).abs().mean()
    assert 4 <= int((change == 0).sum()) <= 32
    assert change.mean() < 0.5 * to_other_clips


def test_a_canvas_is_covered_with_leaves_of_all_sizes() -> None:
    canvas = leaves_canvas(0, 0)
    assert canvas.shape == (1, 3, CANVAS_SIZE, CANVAS_SIZE) and bool(canvas.isfinite().all())
    assert not torch.equal(canvas, leaves_canvas(0, 1))


def test_every_leaf_has_an_inside_and_stays_in_its_circle() -> None:
    steps = np.linspace(-1.2, 1.2, 241, dtype=np.float32)
    beyond = np.hypot(steps, steps[:, None]) > 1.05
    for seed in range(60):
        inside = leaf_distance(np.random.default_rng(seed), steps, steps[:, None]) < 0
        assert inside.any(), f"leaf {seed} is empty"
        assert not (inside & beyond).any(), f"leaf {seed} leaves its circle"


@pytest.mark.parametrize("change", [{"num_frames": 0}, {"size": 0}, {"size": -8}])
def test_clips_without_pixels_are_refused(change: dict[str, int]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got {change[name]}"):
        DeadLeaves(**change)
