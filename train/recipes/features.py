"""Recipe of the feature network by which clips are compared; it needs no other run."""

from __future__ import annotations

from videogen.data.shapes.labels import LabelledShapes
from videogen.train.config import TrainConfig
from videogen.train.objectives.features import FeatureObjectiveConfig


def shapes_features() -> TrainConfig:
    """The network in `videogen/pretrained/features`: whole clips of one object, some of them damaged."""
    return TrainConfig(
        name="shapes_features",
        objective=FeatureObjectiveConfig(),
        source=LabelledShapes(),
        num_steps=900,
        batch_size=32,
        learning_rate=3e-3,
        warmup_steps=50,
        decay_steps=750,
        ema_decay=0.99,
        checkpoint_every=100,
        preview_every=900,
        mixed_precision="bf16",
    )
