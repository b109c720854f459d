"""Crops of the world `emoji`: parts of its clips, at an object, whatever the batch."""

from pathlib import Path

import torch

from videogen.data.batch import ClipSource
from videogen.data.emoji.crops import EmojiCrops
from videogen.data.emoji.dataset import EmojiClips


def test_a_crop_is_a_part_of_its_clip(artwork_folder: Path) -> None:
    clips = EmojiClips(artwork_folder, num_frames=9, size=32)
    source: ClipSource = EmojiCrops(clips, num_frames=4, size=16)
    crops, whole = source.batch(range(6)).pixels, clips.batch(range(6)).pixels
    assert crops.shape == (6, 3, 4, 16, 16)
    for crop, clip in zip(crops, whole, strict=True):
        windows = clip.unfold(2, 16, 1).unfold(3, 16, 1)  # (3, 9, 17, 17, 16, 16)
        groups = windows.unfold(1, 4, 1).permute(1, 2, 3, 0, 6, 4, 5)
        assert (groups - crop).abs().amax((3, 4, 5, 6)).min() < 1e-5


def test_a_crop_is_the_same_in_any_batch(artwork_folder: Path) -> None:
    source = EmojiCrops(EmojiClips(artwork_folder, num_frames=6, size=32), size=16)
    together = source.batch([7, 1, 90]).pixels
    for row, sample_id in enumerate([7, 1, 90]):
        torch.testing.assert_close(source.batch([sample_id]).pixels[0], together[row], rtol=0, atol=1e-5)


def test_crops_show_the_objects(artwork_folder: Path) -> None:
    """Their centre is on an object, so hardly any crop is of the backdrop alone."""
    source = EmojiCrops(EmojiClips(artwork_folder, size=64, backdrops=("black",)), size=24)
    pixels = source.batch(range(40)).pixels
    assert float((pixels.amax((1, 2, 3, 4)) > 0).float().mean()) > 0.9


def test_a_crop_of_the_whole_frame_is_a_moment_of_its_clip(artwork_folder: Path) -> None:
    clips = EmojiClips(artwork_folder, num_frames=8, size=32)
    crops = EmojiCrops(clips, num_frames=4, size=32).batch(range(6))
    whole = clips.batch(range(6))
    assert crops.captions == whole.captions
    for crop, clip in zip(crops.pixels, whole.pixels, strict=True):
        moments = clip.unfold(1, 4, 1).movedim(-1, 2)  # (3, first frames, 4, H, W)
        assert (moments - crop[:, None]).abs().amax((0, 2, 3, 4)).min() < 1e-6
