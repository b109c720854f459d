"""Recipes of the codec of both worlds and of footage."""

from __future__ import annotations

from dataclasses import replace

from videogen.data.emoji.crops import EmojiCrops
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.mixture import Mixture
from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.data.textures.dataset import DeadLeaves
from videogen.train.config import TrainConfig
from videogen.train.objectives.codec import CodecObjectiveConfig

ARTWORK = "artwork"
"""Folder of the artwork of the world `emoji`, below where a run is started."""


def worlds_codec() -> TrainConfig:
    """The codec, on crops of `shapes`, of `emoji`, and of dead leaves, which stand for footage."""
    shapes, emoji = ShapesClips(seed=11), EmojiClips(ARTWORK, seed=11)
    whole_clips = Mixture(
        (ShapesClips(seed=12), EmojiClips(ARTWORK, seed=12), DeadLeaves(num_frames=16, size=64, seed=12)),
        shares=(0.2, 0.35, 0.45),
    )
    return TrainConfig(
        name="worlds_codec",
        objective=CodecObjectiveConfig(
            latent_channels=32,
            encoder_dims=(64, 192),
            decoder_dims=(64, 256),
            encoder_depths=(1, 2),
            decoder_depths=(3, 3),
            latent_bound=5.0,
            pixel_margin=0.2,
            normalize_branches=True,
            clips=whole_clips,
        ),
        source=Mixture((ShapesCrops(shapes), EmojiCrops(emoji), DeadLeaves(seed=11)), whole_clips.shares),
        num_steps=3200,
        batch_size=64,
        learning_rate=3e-3,
        warmup_steps=60,
        decay_steps=2200,
        ema_decay=0.99,
        checkpoint_every=100,
        preview_every=800,
        mixed_precision="bf16",
    )


def worlds_codec_finer() -> TrainConfig:
    """`worlds_codec` taken further towards the mean PSNR, so that plain material counts as much as rich."""
    first = worlds_codec()
    shapes, emoji = ShapesClips(seed=13), EmojiClips(ARTWORK, seed=13)
    objective = first.objective
    assert isinstance(objective, CodecObjectiveConfig)
    return replace(
        first,
        name="worlds_codec_finer",
        objective=replace(objective, init_from="runs/worlds_codec/result", error_floor=1e-3, seed=1),
        source=Mixture((ShapesCrops(shapes), EmojiCrops(emoji), DeadLeaves(seed=13)), (0.3, 0.3, 0.4)),
        num_steps=2400,
        learning_rate=2.5e-3,
        warmup_steps=40,
        decay_steps=2000,
        ema_decay=0.995,
        seed=1,
    )


def worlds_codec_decoder() -> TrainConfig:
    """The last stage: a deeper decoder for the latents of `worlds_codec_finer`, which stay as they are."""
    second = worlds_codec_finer()
    shapes, emoji = ShapesClips(seed=14), EmojiClips(ARTWORK, seed=14)
    objective = second.objective
    assert isinstance(objective, CodecObjectiveConfig)
    return replace(
        second,
        name="worlds_codec_decoder",
        objective=replace(
            objective,
            init_from="runs/worlds_codec_finer/result",
            train_encoder=False,
            added_decoder_blocks=(2, 1),
            error_floor=3e-4,
            seed=2,
        ),
        source=Mixture((ShapesCrops(shapes), EmojiCrops(emoji), DeadLeaves(seed=14)), (0.4, 0.25, 0.35)),
        num_steps=3000,
        warmup_steps=40,
        decay_steps=2500,
        seed=2,
    )
