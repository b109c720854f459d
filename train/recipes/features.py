"""Recipes of the networks that look at clips: one to compare sets of them, one to judge what they show."""

from __future__ import annotations

from dataclasses import replace

from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.labels import LabelledEmoji
from videogen.data.shapes.labels import LabelledShapes
from videogen.train.config import TrainConfig
from videogen.train.objectives.features import FeatureObjectiveConfig
from videogen.train.recipes.codec import ARTWORK


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


def emoji_judge_near() -> TrainConfig:
    """The first stage of `emoji_judge`: subjects that fill small frames, where they are learned soonest."""
    clips = LabelledEmoji(
        EmojiClips(
            ARTWORK,
            num_frames=4,
            size=32,
            seed=21,
            sizes=("large",),
            two_object_rate=0.0,
            with_held_out=True,
        )
    )
    return TrainConfig(
        name="emoji_judge_near",
        objective=FeatureObjectiveConfig(
            stage_dims=(32, 64, 128, 256),
            stage_depths=(1, 1, 2, 2),
            feature_dim=384,
            stride=2,
            # One place in time for four frames: with two, gradients in bfloat16 were not always finite.
            time_stride=4,
            classifier_rate=0.3,
            clips=clips,
            attributes=("subject", "size", "backdrop"),
            damage_rate=0.1,
            weakest=0.03,
            strongest=0.3,
            codec="runs/worlds_codec/result",
            codec_rate=0.1,
        ),
        source=clips,
        num_steps=500,
        batch_size=128,
        learning_rate=5e-3,
        warmup_steps=15,
        decay_steps=250,
        ema_decay=0.98,
        checkpoint_every=50,
        preview_every=500,
        mixed_precision="bf16",
    )


def emoji_judge() -> TrainConfig:
    """The classifier that tells which subject of the world `emoji` a clip shows, of one latent frame or more.

    It sees every subject with every motion, also those that generators never see, and a part of the clips as
    the codec gives them back.
    """
    near = emoji_judge_near()
    clips = LabelledEmoji(EmojiClips(ARTWORK, num_frames=4, seed=22, two_object_rate=0.0, with_held_out=True))
    objective = near.objective
    assert isinstance(objective, FeatureObjectiveConfig)
    return replace(
        near,
        name="emoji_judge",
        objective=replace(
            objective,
            init_from="runs/emoji_judge_near/result",
            clips=clips,
            codec="runs/worlds_codec_finer/result",
            codec_rate=0.2,
            seed=1,
        ),
        source=clips,
        num_steps=1500,
        batch_size=64,
        decay_steps=1200,
        ema_decay=0.99,
        checkpoint_every=100,
        preview_every=1500,
        seed=1,
    )
