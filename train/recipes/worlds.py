"""Recipes of one model for both worlds, in the order in which they are run: appearance, motion, pairs.

What things look like is learned on single latent frames, which are four times cheaper than clips; how they
move, and how a clip follows from parts of it, on whole ones. Last comes which words belong to which of two
things at once. `worlds_codec_finer` and `open_text` come first.
"""

from __future__ import annotations

from dataclasses import replace

from videogen.data.emoji.crops import EmojiCrops
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.mixture import Mixture
from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.data.shapes.world import MOTIONS
from videogen.train.config import TrainConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, UViTConfig
from videogen.train.recipes.codec import ARTWORK

PREVIEW_PROMPTS = (
    "a large horse stays still on a sky blue background",
    "a large rocket moves up on a navy background",
    "a large clown face rotates on a white background",
    "a large octopus moves left on a teal background",
    "a large red circle moves right on a black background",
    "a medium yellow star rotates on a purple background",
)
PAIR_PROMPTS = (
    "a small horse moves right and a small red ring stays still on a white background",
    "a medium rocket moves up and a small blue star rotates on a beige background",
    "a small octopus bounces and a small clown face moves left on a teal background",
    "a small yellow square moves down and a small purple circle moves up on a black background",
    "a small green triangle grows and a small pink cross moves right on a navy background",
    "a large horse stays still on a sky blue background",
)
_VISIBLE = tuple(motion for motion in MOTIONS if not motion.startswith("fade"))
"""Motions during which an object is always to be seen."""


def worlds_appearance() -> TrainConfig:
    """What the subjects and the shapes look like: single latent frames, taken anywhere in clips."""
    large = EmojiClips(ARTWORK, seed=21, sizes=("large",), motions=_VISIBLE, two_object_rate=0)
    any_size = EmojiClips(ARTWORK, seed=22, motions=_VISIBLE, two_object_rate=0)
    shapes = ShapesClips(seed=23, two_object_rate=0)
    return TrainConfig(
        name="worlds_appearance",
        objective=DiffusionObjectiveConfig(
            codec="runs/worlds_codec_finer/result",
            text_encoder="runs/open_text/result",
            text_rate=0.0,
            network=UViTConfig(token_convs=True),
            time_mean=0.6,
            time_std=1.4,
            preview_prompts=PREVIEW_PROMPTS,
            preview_frames=4,
        ),
        source=Mixture(
            (EmojiCrops(large, size=64), EmojiCrops(any_size, size=64), ShapesCrops(shapes, size=64)),
            shares=(0.65, 0.25, 0.1),
        ),
        num_steps=2500,
        batch_size=64,
        learning_rate=3e-3,
        warmup_steps=60,
        decay_steps=1000,
        ema_decay=0.995,
        checkpoint_every=100,
        preview_every=500,
        mixed_precision="bf16",
    )


def worlds_appearance_large() -> TrainConfig:
    """`worlds_appearance` taken further where it learns fastest: large subjects on plain backdrops."""
    first = worlds_appearance()
    objective = first.objective
    assert isinstance(objective, DiffusionObjectiveConfig)
    large = EmojiClips(
        ARTWORK, seed=26, sizes=("large",), motions=_VISIBLE, kinds=("plain",), two_object_rate=0
    )
    shapes = ShapesClips(seed=27, two_object_rate=0)
    return replace(
        first,
        name="worlds_appearance_large",
        objective=replace(objective, init_from="runs/worlds_appearance/result", seed=2),
        source=Mixture((EmojiCrops(large, size=64), ShapesCrops(shapes, size=64)), shares=(0.95, 0.05)),
        num_steps=6000,
        decay_steps=2500,
        seed=2,
    )


def worlds_motion() -> TrainConfig:
    """How they move: clips of both worlds, one and two objects, from `worlds_appearance_large` on."""
    first = worlds_appearance()
    objective = first.objective
    assert isinstance(objective, DiffusionObjectiveConfig)
    return replace(
        first,
        name="worlds_motion",
        objective=replace(
            objective,
            init_from="runs/worlds_appearance_large/result",
            network=UViTConfig(token_convs=True, step_size_embedding=True),
            condition_rate=0.7,
            time_mean=1.2,
            time_std=1.8,
            preview_frames=None,
            seed=1,
        ),
        source=Mixture(
            (EmojiClips(ARTWORK, seed=24, two_object_rate=0.2), ShapesClips(seed=25, two_object_rate=0.2)),
            shares=(0.75, 0.25),
        ),
        num_steps=8000,
        batch_size=32,
        learning_rate=2e-3,
        warmup_steps=100,
        decay_steps=4000,
        ema_decay=0.998,
        seed=1,
    )


def worlds_pairs() -> TrainConfig:
    """Two things at once, from `worlds_motion` on: the words of an object learn to look at its pixels.

    Half of the clips show two objects. Something of the clip is known in a third of them, since it is from
    the caption alone that things have to be told apart.
    """
    first = worlds_motion()
    objective = first.objective
    assert isinstance(objective, DiffusionObjectiveConfig)
    return replace(
        first,
        name="worlds_pairs",
        objective=replace(
            objective,
            init_from="runs/worlds_motion/result",
            condition_rate=0.5,
            attention_weight=0.1,
            attention_layers=(2, 3, 4, 5),
            preview_prompts=PAIR_PROMPTS,
            seed=2,
        ),
        source=Mixture(
            (
                EmojiClips(ARTWORK, seed=26, two_object_rate=0.5, annotated=True),
                ShapesClips(seed=27, two_object_rate=0.5, annotated=True),
            ),
            shares=(0.6, 0.4),
        ),
        num_steps=4000,
        learning_rate=1e-3,
        decay_steps=2000,
        seed=2,
    )
