"""The objective of the feature network: what its loss means, and which clips it damages."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.data.emoji.conftest import make_artwork
from tests.tiny import TINY_CODEC, TINY_FEATURES
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.labels import LabelledEmoji
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.labels import CLASSES, LabelledShapes
from videogen.metrics.feature_network import load_feature_network
from videogen.train.export import export_features
from videogen.train.objectives.features import LIKENESS_NORM, FeatureObjective, FeatureObjectiveConfig

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


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codec")
    VideoAutoencoder(**TINY_CODEC).save_pretrained(folder)
    return folder


def test_a_share_of_the_clips_goes_through_the_codec(codec_folder: Path) -> None:
    batch = SOURCE.batch(range(40))
    objective = make_objective(damage_rate=0.3, codec=str(codec_folder), codec_rate=0.4)
    pixels, labels = objective.damaged(batch)
    coded = labels == objective.settings.damage_names.index("codec")
    assert 8 < int(coded.sum()) < 24
    codec = VideoAutoencoder.from_pretrained(codec_folder).eval()
    with torch.no_grad():
        expected = codec.decode(codec.encode(batch.pixels[coded])).clamp(-1, 1)
    torch.testing.assert_close(pixels[coded], expected)
    others, labels_without = make_objective(damage_rate=0.3).damaged(batch)
    assert torch.equal(pixels[~coded], others[~coded]) and torch.equal(labels[~coded], labels_without[~coded])


def test_the_codec_is_neither_trained_nor_saved(codec_folder: Path, tmp_path: Path) -> None:
    objective = make_objective(codec=str(codec_folder), codec_rate=0.5)
    assert all(name.startswith("network.") for name, _ in objective.trained_parameters("train"))
    objective.save(tmp_path)
    names = load_feature_network(tmp_path).state_dict().keys()
    assert names == objective.network.state_dict().keys()


def test_only_the_chosen_attributes_are_learned() -> None:
    objective = make_objective(attributes=("size", "shape"))
    losses = objective(SOURCE.batch(range(4)), "train")
    assert set(losses) == {"loss", "accuracy_size", "accuracy_shape"}


def test_a_run_begins_where_another_ended(tmp_path: Path) -> None:
    first = make_objective()
    first.save(tmp_path)
    second = make_objective(init_from=str(tmp_path))
    for name, weights in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], weights)
    with pytest.raises(ValueError, match=r"`init_from` must be a network that tells \{'size': 3\} apart"):
        make_objective(init_from=str(tmp_path), attributes=("size",))


def test_strengths_stay_between_the_weakest_and_the_strongest() -> None:
    batch = SOURCE.batch(range(30))
    settings = {"damages": ("noise",), "damage_rate": 1.0}
    pixels, _ = make_objective(**settings, weakest=0.1, strongest=0.1).damaged(batch)
    changed = (pixels - batch.pixels)[(pixels.abs() < 1) & (batch.pixels.abs() < 0.7)]
    assert float(changed.std()) == pytest.approx(0.1 * 0.6, rel=0.1)


def test_classes_that_look_alike_begin_alike(tmp_path: Path) -> None:
    """The subjects of the artwork differ in their blue alone, which grows with their number."""
    clips = EmojiClips(make_artwork(tmp_path / "emoji", 9), num_frames=4, size=16, two_object_rate=0.0)
    objective = make_objective(clips=LabelledEmoji(clips), attributes=("subject",), classifier_rate=0.1)
    weights = objective.network.classifiers["subject"].weight
    assert isinstance(weights, torch.Tensor)
    assert torch.allclose(weights.norm(dim=1), torch.tensor(LIKENESS_NORM), atol=0.01)
    similar = F.cosine_similarity(weights[0], weights[1:], dim=1)
    assert similar[0] > 0.9 and similar[-1] < -0.9
    assert objective.adamw_scales == {"classifiers": 0.1} and not make_objective().adamw_scales


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
    with pytest.raises(ValueError, match="`weakest` must be above 0 and at most `strongest`"):
        make_objective(weakest=0.2, strongest=0.1)
    with pytest.raises(ValueError, match="`strongest`"):
        make_objective(strongest=1.5)
    with pytest.raises(ValueError, match=r"`attributes` must be of colour, .*, got weight"):
        make_objective(attributes=("weight",))
    with pytest.raises(ValueError, match="`codec` must be given"):
        make_objective(codec_rate=0.1)
    with pytest.raises(ValueError, match=r"`codec_rate` must be between 0 and .*, 0.5, got 0.6"):
        make_objective(codec="anywhere", codec_rate=0.6)
    with pytest.raises(ValueError, match="`codec` must be the result of another run, but 'nowhere'"):
        make_objective(codec="nowhere", codec_rate=0.1)
    batch: Batch = replace(SOURCE.batch([0]), labels=None)
    with pytest.raises(ValueError, match="no labels"):
        make_objective()(batch, "train")
