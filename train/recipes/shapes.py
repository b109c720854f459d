"""Recipes of the embedded default: its codec, and its text-to-video model on the world `shapes`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.train.config import TrainConfig
from videogen.train.objectives.codec import CodecObjectiveConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, UNet3DConfig

_PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"


def shapes_codec() -> TrainConfig:
    """The codec, on crops around the objects of full `shapes`."""
    return TrainConfig(
        name="shapes_codec",
        objective=CodecObjectiveConfig(),
        source=ShapesCrops(),
        num_steps=5000,
        batch_size=32,
        learning_rate=4e-3,
        warmup_steps=100,
        decay_steps=4900,
        ema_decay=0.99,
        preview_every=2000,
    )
