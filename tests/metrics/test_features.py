"""Features of sets of clips: batch by batch the same, and only what can be compared is compared."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from videogen.data.shapes.dataset import ShapesClips
from videogen.metrics.features import FeatureExtractor, extract_features, source_clips

MEANS = FeatureExtractor("means", "0" * 64, lambda pixels: pixels.mean((2, 3, 4)))


def make_clips(num_clips: int = 5) -> Tensor:
    return torch.rand(num_clips, 3, 4, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_features_do_not_depend_on_the_batch(batch_size: int) -> None:
    clips = make_clips()
    features = extract_features(iter(clips), MEANS, batch_size)
    torch.testing.assert_close(features.values, clips.double().mean((2, 3, 4)), rtol=0, atol=1e-6)
    assert features.clip_shape == (4, 8, 12) and features.network == "means" and len(features) == 5


def test_clips_of_a_source_are_those_of_its_batches() -> None:
    source = ShapesClips(num_frames=4, size=16)
    clips = torch.stack(list(source_clips(source, 20, start=3)))
    assert torch.equal(clips, source.batch(range(3, 23)).pixels)


def test_wrong_clips_are_named() -> None:
    clips = make_clips()
    with pytest.raises(ValueError, match="`clips` is empty"):
        extract_features([], MEANS)
    with pytest.raises(ValueError, match=r"must each be \(3, F, H, W\), got \(4, 8, 12\) for clip 0"):
        extract_features(clips[0], MEANS)
    with pytest.raises(ValueError, match="for clip 3"):
        extract_features([*clips[:3], clips[3, :, :2]], MEANS, 2)
    with pytest.raises(ValueError, match="clip 1 is not"):
        extract_features([clips[0], 2 * torch.ones_like(clips[0])], MEANS)
    with pytest.raises(ValueError, match="clip 0 is not"):
        extract_features([torch.full_like(clips[0], torch.nan)], MEANS)


def test_wrong_networks_are_named() -> None:
    with pytest.raises(ValueError, match=r"`extractor` flat must give \(5, D\)"):
        extract_features(make_clips(), FeatureExtractor("flat", "", lambda pixels: pixels))
    with pytest.raises(FloatingPointError, match="features of broken are not finite"):
        extract_features(
            make_clips(), FeatureExtractor("broken", "", lambda pixels: pixels.flatten(1) * torch.nan)
        )


def test_only_like_is_compared_with_like() -> None:
    features = extract_features(make_clips(), MEANS)
    features.check_comparable(replace(features, values=features.values[:2]))
    for other in (replace(features, network="other"), replace(features, weights_hash="1")):
        with pytest.raises(ValueError, match="one feature network"):
            features.check_comparable(other)
    with pytest.raises(ValueError, match=r"\(4, 8, 12\) and \(4, 8, 16\)"):
        features.check_comparable(replace(features, width=16))
