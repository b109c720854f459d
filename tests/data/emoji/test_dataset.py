"""The training stream of `emoji`: random access, labels, boxes and masks."""

import pickle
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from videogen.data.batch import ClipSource
from videogen.data.emoji.captions import caption
from videogen.data.emoji.dataset import FPS, EmojiClips
from videogen.data.emoji.labels import CLASSES, LabelledEmoji, annotate
from videogen.data.emoji.render import render
from videogen.data.emoji.world import EmojiObject
from videogen.data.shapes.world import ALPHA


def test_clips(artwork_folder: Path) -> None:
    source: ClipSource = EmojiClips(artwork_folder, num_frames=8, size=32)
    batch = source.batch([3, 5, 900_000])
    assert batch.pixels.shape == (3, 3, 8, 32, 32) and batch.pixels.dtype == torch.float32
    assert float(batch.pixels.min()) >= -1 and float(batch.pixels.max()) <= 1 + 1e-6
    assert batch.sample_ids == (3, 5, 900_000) and batch.fps == FPS
    assert len(batch.captions) == 3 and all(batch.captions)


def test_a_clip_is_the_same_in_any_batch(artwork_folder: Path) -> None:
    source = EmojiClips(artwork_folder, num_frames=4, size=32, two_object_rate=0.5)
    together = source.batch(range(24))
    for sample_id in range(24):
        alone = source.batch([sample_id])
        torch.testing.assert_close(alone.pixels[0], together.pixels[sample_id], rtol=0, atol=1e-5)
        assert alone.captions[0] == together.captions[sample_id]
    assert torch.equal(source.batch(range(24)).pixels, together.pixels)


def test_seeds_give_different_streams(artwork_folder: Path) -> None:
    first, second = (EmojiClips(artwork_folder, num_frames=2, seed=seed).batch(range(4)) for seed in (0, 1))
    assert first.captions != second.captions


def test_a_source_can_be_sent_to_a_worker(artwork_folder: Path) -> None:
    """Without the artwork that it has read."""
    source = EmojiClips(artwork_folder, num_frames=2, size=32)
    before = source.batch([7])
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent).batch([7]).pixels, before.pixels)  # noqa: S301


def test_captions_in_other_languages(artwork_folder: Path) -> None:
    """Of the subjects of this artwork, languages have a name for one that is trained on."""
    english = EmojiClips(artwork_folder, num_frames=2, size=16, two_object_rate=0.0)
    french = replace(english, foreign_rate=1.0, languages=("fr",))
    before, after = english.batch(range(300)), french.batch(range(300))
    expected = [
        caption(english.scene(idx), english.namings, Random(f"emoji caption/0/{idx}")) for idx in range(300)
    ]
    assert list(before.captions) == expected
    assert torch.equal(before.pixels, after.pixels)
    paw_prints = english.world.artwork.index("paw prints")
    objects = [english.scene(idx).objects[0] for idx in range(300)]
    named = [isinstance(item, EmojiObject) and item.subject_idx == paw_prints for item in objects]
    assert any(named) and not all(named)
    for is_named, old, new in zip(named, before.captions, after.captions, strict=True):
        assert ("empreintes de pattes" in new) if is_named else (old == new)


def test_what_is_refused(tmp_path: Path, artwork_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no artwork in .*nowhere"):
        EmojiClips(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'griffin'"):
        EmojiClips(artwork_folder, subjects=("griffin",))
    with pytest.raises(ValueError, match=r"`languages` must be some of .*, got \('nl',\)"):
        EmojiClips(artwork_folder, languages=("nl",))
    with pytest.raises(ValueError, match="`num_frames` must be at least 1, got 0"):
        EmojiClips(artwork_folder, num_frames=0)
    with pytest.raises(ValueError, match="`size` must be at least 8, got 4"):
        EmojiClips(artwork_folder, size=4)


def test_labels(artwork_folder: Path) -> None:
    source = LabelledEmoji(EmojiClips(artwork_folder, num_frames=2, size=32, two_object_rate=0.0))
    batch = source.batch(range(40))
    assert batch.labels is not None and batch.labels.shape == (40, 1 + len(CLASSES))
    assert torch.equal(batch.pixels, source.clips.batch(range(40)).pixels)
    for sample_id, (subject_idx, *labels) in enumerate(batch.labels.tolist()):
        scene = source.clips.scene(sample_id)
        said = {name: classes[label] for (name, classes), label in zip(CLASSES.items(), labels, strict=True)}
        item = scene.objects[0]
        assert isinstance(item, EmojiObject)
        assert (subject_idx, said["motion"], said["size"]) == (item.subject_idx, item.motion, item.size)
        assert (said["backdrop"], said["kind"]) == (scene.backdrop.colour, scene.backdrop.kind)
    with pytest.raises(ValueError, match=r"`clips.two_object_rate` must be 0"):
        LabelledEmoji(EmojiClips(artwork_folder))


def test_boxes_and_masks_are_where_the_pixels_differ_from_the_backdrop(artwork_folder: Path) -> None:
    source = EmojiClips(artwork_folder, num_frames=6, two_object_rate=0.5)
    scenes = [source.scene(sample_id) for sample_id in range(24)]
    rendering = render(scenes, source.world.artwork)
    found = annotate(scenes, rendering)
    for row, scene in enumerate(scenes):
        for layer, track in enumerate(scene.tracks):
            for frame in range(6):
                mask, (left, top, right, bottom) = (
                    found.masks[row, layer, frame],
                    found.boxes[row, layer, frame].tolist(),
                )
                rows, columns = mask.nonzero().unbind(1)
                if track[frame, ALPHA] == 0:
                    assert not mask.any() and (left, top, right, bottom) == (0, 0, 0, 0)
                    continue
                assert (
                    left <= columns.min()
                    and columns.max() < right
                    and top <= rows.min()
                    and rows.max() < bottom
                )
                if not scene.overlap:
                    assert (left, right, top, bottom) == (
                        columns.min(),
                        columns.max() + 1,
                        rows.min(),
                        rows.max() + 1,
                    )
                x, y = float(track[frame, 0]) * 64, float(track[frame, 1]) * 64
                assert left - 1 < x < right + 1 and top - 1 < y < bottom + 1
        opaque = scene.tracks[..., ALPHA].min(0) == 1
        taken = found.masks[row][:, opaque].sum(0)
        assert bool((taken <= 1).all())  # of what overlaps, a pixel shows one
