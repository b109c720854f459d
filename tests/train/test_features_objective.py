"""The objective of the feature network: what its loss means, and which clips it damages."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.tiny import TINY_FEATURES
from videogen.data.batch import Batch
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.labels import CLASSES, LabelledShapes
from videogen.metrics.feature_network import load_feature_network
from videogen.train.export import export_features
from videogen.train.objectives.features import FeatureObjective, FeatureObjectiveConfig

SIZES = {name: value for name, value in TINY_FEATURES.items() if name != "num_classes"}
SOURCE = LabelledShapes(ShapesClips(num_frames=4, size=16, two_object_rate=0.0))


def make_objective(**settings: Any) -> FeatureObjective:
    torch.manual_seed(0)
    return FeatureObjectiveConfig(**(SIZES | settings)).build()


@torch.no_grad()
def test_loss_is_the_mean_cross_entropy_of_all_attributes() -> None:
    objective = make_objective(damage_rate=0.0).eval()
    batch = SOURCE.batch(range(6))
    assert batch.labels is not None
    losses = objective(batch, "train")
    logits = objective.network.classify(objective.network(batch.pixels).features)
    labels = [*batch.labels.unbind(1), torch.zeros(6, dtype=torch.long)]
    assert list(logits) == [*CLASSES, "damage"]
    each = [F.cross_entropy(logits[name], label) for name, label in zip(logits, labels, strict=True)]
    torch.testing.assert_close(losses["loss"], torch.stack(each).mean())
    right = (logits["shape"].argmax(1) == batch.labels[:, 1]).float().mean()
    assert losses["accuracy_shape"] == right


def test_damaged_clips_are_labelled_as_such() -> None:
    batch = SOURCE.batch(range(200))
    pixels, labels = make_objective(damage_rate=0.5).damaged(batch)
    changed = (pixels != batch.pixels).flatten(1).any(1)
    assert not changed[labels == 0].any()
    assert changed[labels > 0].float().mean() > 0.8  # the weakest blur of so small a clip rounds to none
    assert 70 < int((labels > 0).sum()) < 130
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert not make_objective(damage_rate=0.0).damaged(batch)[1].any()


def test_the_damage_belongs_to_the_clip() -> None:
    objective = make_objective(damage_rate=1.0)
    pixels, labels = objective.damaged(SOURCE.batch([3, 8]))
    again, labels_again = objective.damaged(SOURCE.batch([8, 3]))
    assert torch.equal(pixels, again.flip(0)) and torch.equal(labels, labels_again.flip(0))
    other = make_objective(damage_rate=1.0, seed=1).damaged(SOURCE.batch([3, 8]))[0]
    assert not torch.equal(pixels, other)


def test_the_loss_falls() -> None:
    objective = make_objective()
    batch = SOURCE.batch(range(16))
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = objective(batch, "train")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_an_exported_network_is_nearly_the_same_at_half_the_size(tmp_path: Path) -> None:
    objective = make_objective().eval()
    objective.save(tmp_path / "result")
    export_features(tmp_path / "result", tmp_path / "released")
    pixels = SOURCE.batch(range(3)).pixels
    features = load_feature_network(tmp_path / "released")(pixels).features
    torch.testing.assert_close(features, objective.network(pixels).features, rtol=0.05, atol=0.02)
    sizes = [next((tmp_path / name).glob("*.safetensors")).stat().st_size for name in ("released", "result")]
    assert sizes[0] < 0.7 * sizes[1]


@torch.no_grad()
def test_previews_say_what_is_read() -> None:
    captions = [caption for caption, _ in make_objective().eval().preview()]
    assert len(captions) == 8 and all(" | read as " in caption for caption in captions)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="`damages` must be of noise, blur, warp, freeze, shuffle, got rust"):
        make_objective(damages=("rust",))
    with pytest.raises(ValueError, match="`damage_rate`"):
        make_objective(damage_rate=1.5)
    with pytest.raises(ValueError, match="`weakest`"):
        make_objective(weakest=0.0)
    batch: Batch = replace(SOURCE.batch([0]), labels=None)
    with pytest.raises(ValueError, match="no labels"):
        make_objective()(batch, "train")
