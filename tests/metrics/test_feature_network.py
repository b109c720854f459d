"""The feature network: shapes, saving, and what the shipped weights see."""

from pathlib import Path

import pytest
import torch

from tests.tiny import TINY_FEATURES
from videogen.data.shapes.dataset import ShapesClips
from videogen.metrics.damage import DAMAGES, damage
from videogen.metrics.feature_network import (
    EMBEDDED_FEATURES,
    FeatureNetwork,
    load_feature_extractor,
    load_feature_network,
)
from videogen.metrics.features import extract_features
from videogen.metrics.video_distance import kernel_video_distance
from videogen.sampling.noise import seeded_generator


@torch.no_grad()
@pytest.mark.parametrize("shape", [(16, 64, 64), (5, 40, 24), (1, 8, 8)])
def test_clips_may_have_any_shape(shape: tuple[int, int, int]) -> None:
    network = FeatureNetwork(**TINY_FEATURES).eval()
    features = network(torch.zeros(2, 3, *shape)).features
    assert features.shape == (2, 12)
    logits = network.classify(features)
    assert {name: value.shape for name, value in logits.items()} == {"colour": (2, 8), "motion": (2, 16)}


@torch.no_grad()
def test_features_do_not_depend_on_the_batch() -> None:
    network = FeatureNetwork(**TINY_FEATURES).eval()
    pixels = ShapesClips(num_frames=4, size=16).batch(range(3)).pixels
    alone = torch.cat([network(clip[None], return_dict=False)[0] for clip in pixels])
    torch.testing.assert_close(network(pixels).features, alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_see_the_order_of_frames() -> None:
    network = FeatureNetwork(**TINY_FEATURES).eval()
    pixels = ShapesClips(num_frames=8, size=32).batch([2]).pixels
    assert not torch.allclose(network(pixels).features, network(pixels.flip(2)).features, atol=1e-4)


@torch.no_grad()
def test_a_saved_network_is_loaded_as_it_was(tmp_path: Path) -> None:
    network = FeatureNetwork(**TINY_FEATURES)
    network(torch.randn(4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)))  # moves its statistics
    network.eval().save_pretrained(tmp_path / "mine")
    pixels = ShapesClips(num_frames=4, size=16).batch(range(2)).pixels
    extractor = load_feature_extractor(tmp_path / "mine")
    assert torch.equal(extractor.network(pixels), network(pixels).features)
    assert extractor.name == "mine" and len(extractor.weights_hash) == 64
    assert not load_feature_network(tmp_path / "mine").training


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`stage_depths` must have one number"):
        FeatureNetwork(**TINY_FEATURES | {"stage_depths": (1,)})
    with pytest.raises(ValueError, match="at least 1"):
        FeatureNetwork(**TINY_FEATURES | {"feature_dim": 0})
    with pytest.raises(ValueError, match="must hold a feature network"):
        load_feature_network(tmp_path)


def test_the_shipped_network_is_small() -> None:
    network = load_feature_network()
    assert sum(parameter.numel() for parameter in network.parameters()) < 2e6
    files = list(EMBEDDED_FEATURES.iterdir())
    assert sum(file.stat().st_size for file in files) < 4 * 2**20
    assert {file.name for file in files} >= {"README.md", "config.json"}


def test_the_shipped_network_notices_every_damage() -> None:
    extractor = load_feature_extractor()
    clips = ShapesClips(seed=1, two_object_rate=0.0).batch(range(40)).pixels
    reference = extract_features(ShapesClips(seed=2, two_object_rate=0.0).batch(range(40)).pixels, extractor)

    def distance(name: str, strength: float) -> float:
        generators = [seeded_generator(0, number) for number in range(len(clips))]
        spoilt = extract_features(damage(clips, name, strength, generators), extractor)
        return kernel_video_distance(spoilt, reference, num_resamples=2).value

    clean = distance("noise", 0.0)
    assert {name: distance(name, 1.0) > clean for name in DAMAGES} == dict.fromkeys(DAMAGES, True)
