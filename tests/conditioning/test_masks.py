"""Masks: what each kind knows, the shares of the mixture, and that a mask belongs to its clip."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from videogen.conditioning.masks import (
    MIXTURE,
    draw_beginning,
    draw_boxes,
    draw_every_nth,
    draw_first,
    draw_first_and_last,
    draw_masks,
    draw_nothing,
)
from videogen.sampling.noise import seeded_generator

SIZE = (8, 12, 16)
DRAWS = range(300)


def known_frames(mask: Tensor) -> list[int]:
    """The frames of a mask `(1, F, H, W)` that are known, none of which may be known in part."""
    shares = mask.mean((0, 2, 3))
    assert set(shares.tolist()) <= {0.0, 1.0}
    return shares.nonzero().flatten().tolist()


def test_frames_that_are_known() -> None:
    generator = seeded_generator(0)
    assert known_frames(draw_nothing(SIZE, generator)) == []
    assert known_frames(draw_first(SIZE, generator)) == [0]
    assert known_frames(draw_first_and_last(SIZE, generator)) == [0, 7]


def test_every_length_of_a_beginning_comes() -> None:
    found = {tuple(known_frames(draw_beginning(SIZE, seeded_generator(1, idx)))) for idx in DRAWS}
    assert found == {tuple(range(length)) for length in range(2, 8)}


def test_every_period_comes_and_a_single_frame_at_any_place() -> None:
    found = {tuple(known_frames(draw_every_nth(SIZE, seeded_generator(1, idx)))) for idx in range(600)}
    assert found == {tuple(range(start, 8, period)) for period in range(2, 9) for start in range(period)}


def test_boxes_know_a_part_of_some_frame_and_never_all() -> None:
    masks = [draw_boxes(SIZE, seeded_generator(1, idx)) for idx in DRAWS]
    assert all(0 < mask.mean() < 1 for mask in masks)
    lengths = {int(mask.amax((0, 2, 3)).sum()) for mask in masks}
    assert lengths == set(range(1, 9))
    corners = [bool(mask[0, :, [0, 0, -1, -1], [0, -1, 0, -1]].any()) for mask in masks]
    assert 100 < sum(corners) < 290  # what is outside of rectangles is known about as often as what is inside
    tubes = [mask for mask in masks if torch.equal(mask, mask[:, :1].expand_as(mask))]
    assert 50 < len(tubes) < 250


def test_shares_of_the_mixture() -> None:
    assert sum(kind.share for kind in MIXTURE) == pytest.approx(1)
    masks = draw_masks(SIZE, [seeded_generator(2, idx) for idx in range(3000)])
    assert masks.shape == (3000, 1, *SIZE) and masks.dtype == torch.float32

    def kind_of(mask: Tensor) -> str:
        shares = mask.mean((0, 2, 3))
        if not bool(((shares == 0) | (shares == 1)).all()):
            return "boxes"
        frames = shares.nonzero().flatten().tolist()
        if frames in ([], [0], [0, 7]):
            return str(frames)
        return "beginning" if frames == list(range(len(frames))) else "every n-th"

    counts = Counter(kind_of(mask) for mask in masks)
    # A few of every n-th are told as the first frame alone, or as the first and the last one.
    expected = {
        "[]": 0.3,
        "[0]": 0.204,
        "[0, 7]": 0.103,
        "beginning": 0.15,
        "every n-th": 0.093,
        "boxes": 0.15,
    }
    for kind, share in expected.items():
        assert counts[kind] / 3000 == pytest.approx(share, abs=0.025), kind


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
def test_something_is_left_to_draw_in_the_shortest_clips(num_frames: int) -> None:
    masks = draw_masks((num_frames, 8, 8), [seeded_generator(3, idx) for idx in range(400)])
    shares = masks.mean((1, 2, 3, 4))
    assert shares.max() < 1
    assert (shares == 0).float().mean() == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 1, 3), (1, 2, 2)])
def test_pictures_of_a_few_pixels(size: tuple[int, int, int]) -> None:
    masks = draw_masks(size, [seeded_generator(3, idx) for idx in range(50)])
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_a_mask_does_not_depend_on_its_batch() -> None:
    together = draw_masks(SIZE, [seeded_generator(4, idx) for idx in range(6)])
    for idx in range(6):
        assert torch.equal(draw_masks(SIZE, [seeded_generator(4, idx)])[0], together[idx])
