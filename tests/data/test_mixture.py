"""Several streams as one: the clips of its sources, in their shares, whatever the batch."""

from collections import Counter

import pytest
import torch

from videogen.data.batch import ClipSource
from videogen.data.mixture import Mixture
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.textures.dataset import DeadLeaves

SHAPES, LEAVES = ShapesClips(num_frames=2, size=16), DeadLeaves(num_frames=2, size=16)


def test_each_clip_is_that_of_its_source_at_the_same_position() -> None:
    source: ClipSource = (mixture := Mixture((SHAPES, LEAVES), (1, 1)))
    sample_ids = [9, 2, 400, 3, 4, 5, 6]
    batch = source.batch(sample_ids)
    owners = [mixture.source_idx(sample_id) for sample_id in sample_ids]
    assert batch.sample_ids == tuple(sample_ids) and set(owners) == {0, 1}
    for row, (sample_id, owner) in enumerate(zip(sample_ids, owners, strict=True)):
        alone = mixture.sources[owner].batch([sample_id])
        torch.testing.assert_close(batch.pixels[row], alone.pixels[0], rtol=0, atol=1e-5)
        assert batch.captions[row] == alone.captions[0]
        assert torch.allclose(source.batch([sample_id]).pixels[0], batch.pixels[row], rtol=0, atol=1e-5)


def test_shares() -> None:
    counts = Counter(map(Mixture((SHAPES, LEAVES, LEAVES), (1, 3, 0)).source_idx, range(2000)))
    assert 430 < counts[0] < 570 and counts[2] == 0
    other = Mixture((SHAPES, LEAVES), (1, 1), seed=1)
    assert [other.source_idx(idx) for idx in range(40)] != [
        Mixture((SHAPES, LEAVES), (1, 1)).source_idx(idx) for idx in range(40)
    ]


@pytest.mark.parametrize(
    "shares", [(), (1.0,), (1.0, -0.5), (0.0, 0.0), (1.0, float("nan")), (float("inf"), 1.0)]
)
def test_shares_that_cannot_be_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="`shares` must"):
        Mixture((SHAPES, LEAVES), shares)
    with pytest.raises(ValueError, match="`shares` must"):
        Mixture((), ())


def test_clips_that_do_not_fit_are_refused() -> None:
    mixture = Mixture((SHAPES, DeadLeaves(num_frames=2, size=24)), (1, 1))
    with pytest.raises(
        ValueError, match=r"`sources` must have clips of one shape .*16, 16\), \(3, 2, 24, 24\)"
    ):
        mixture.batch(range(20))
