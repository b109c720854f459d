"""Recipes of the embedded default: its codec, and its text-to-video model on the world `shapes`.

The embedded weights are made by `shapes_codec`, `shapes_decoder`, `shapes_t2v`, `shapes_t2v_longer`,
`shapes_t2v_longest`, `shapes_t2v_drilled`, `shapes_t2v_turned` and `shapes_t2v_finer`, run from one folder,
and put together by `videogen.train.export`. The recipes of `shapes-mini` use the embedded codec and need no
other run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from videogen.data.shapes.dataset import Drill, ShapesClips, ShapesCrops
from videogen.train.config import TrainConfig
from videogen.train.objectives.codec import CodecObjectiveConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, UNet3DConfig, UViTConfig

RUNS = "runs"
"""Where `python -m videogen.train` puts runs by default."""

MINI_PREVIEW_PROMPTS = tuple(
    f"a large {thing} moves {direction} on a {background} background"
    for thing, direction, background in (
        ("red circle", "left", "black"),
        ("blue square", "up", "white"),
        ("yellow triangle", "right", "black"),
        ("green circle", "down", "white"),
    )
)
"""What `shapes-mini` can show."""


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


def shapes_decoder() -> TrainConfig:
    """The second stage of the codec: a larger decoder for the same latents."""
    return replace(
        shapes_codec(),
        name="shapes_decoder",
        objective=CodecObjectiveConfig(
            init_from=f"{RUNS}/shapes_codec/result",
            train_encoder=False,
            new_decoder=True,
            decoder_dims=(64, 256),
            decoder_depths=(4, 3),
            max_noise_std=0.08,
        ),
        source=ShapesCrops(clips=ShapesClips(seed=3)),
        learning_rate=3e-3,
    )


def shapes_mini_t2v() -> TrainConfig:
    """Text to video on `shapes-mini`: the quick recipe, for comparisons and lessons."""
    return TrainConfig(
        name="shapes_mini_t2v",
        objective=DiffusionObjectiveConfig(preview_prompts=MINI_PREVIEW_PROMPTS),
        source=ShapesClips(world="shapes-mini"),
        num_steps=1100,
        batch_size=32,
        learning_rate=3e-3,
        warmup_steps=100,
        decay_steps=800,
        ema_decay=0.99,
        checkpoint_every=100,
        preview_every=275,
    )


def shapes_mini_unet3d() -> TrainConfig:
    """The same with the factorised `UNet3D` in place of `UViT3D`, to compare the networks."""
    recipe = shapes_mini_t2v()
    objective = DiffusionObjectiveConfig(network=UNet3DConfig(), preview_prompts=MINI_PREVIEW_PROMPTS)
    return replace(recipe, name="shapes_mini_unet3d", objective=objective)


def shapes_t2v() -> TrainConfig:
    """The embedded text-to-video model: full `shapes`, after a first lesson in `shapes-mini`."""
    return TrainConfig(
        name="shapes_t2v",
        objective=DiffusionObjectiveConfig(codec=f"{RUNS}/shapes_codec/result"),
        source=ShapesClips(two_object_rate=0.15, first_world="shapes-mini", first_clips=20_000),
        num_steps=4400,
        batch_size=32,
        learning_rate=3e-3,
        warmup_steps=100,
        decay_steps=2800,
        ema_decay=0.99,
        checkpoint_every=125,
        keep_checkpoints=100,
        preview_every=500,
    )


def shapes_t2v_longer() -> TrainConfig:
    """`shapes_t2v` taken further, on clips it has not seen."""
    return replace(
        shapes_t2v(),
        name="shapes_t2v_longer",
        objective=_go_on(shapes_t2v(), seed=1),
        source=ShapesClips(seed=5, two_object_rate=0.15),
        num_steps=3700,
        learning_rate=2e-3,
        decay_steps=3600,
        seed=1,
    )


def shapes_t2v_longest() -> TrainConfig:
    """`shapes_t2v_longer` with convolutions between its attention, taken further once more."""
    return replace(
        shapes_t2v_longer(),
        name="shapes_t2v_longest",
        objective=_go_on(shapes_t2v_longer(), seed=2, network=UViTConfig(token_convs=True)),
        source=ShapesClips(seed=6, two_object_rate=0.15),
        num_steps=3700,
        batch_size=64,
        learning_rate=2e-3,
        decay_steps=3600,
        seed=2,
        mixed_precision="bf16",
    )


def shapes_t2v_drilled() -> TrainConfig:
    """`shapes_t2v_longest` taken further on more of what it gets wrong: motions that turn or change."""
    return replace(
        shapes_t2v_longest(),
        name="shapes_t2v_drilled",
        objective=_go_on(shapes_t2v_longest(), seed=3, time_mean=1.1, time_std=1.5),
        source=ShapesClips(
            seed=7, two_object_rate=0.1, drills=(Drill(0.4, motions=("bounce", "orbit", "rotate")),)
        ),
        num_steps=3100,
        decay_steps=3000,
        seed=3,
    )


def shapes_t2v_turned() -> TrainConfig:
    """`shapes_t2v_drilled` taken further on turning things and on the shapes that it still gets wrong.

    Where things turn either way by any angle, a young model draws the mean of all outlines, a blurred disc.
    So most of them turn one way here, by nearly one angle, which leaves one outline for each moment.
    """
    return replace(
        shapes_t2v_drilled(),
        name="shapes_t2v_turned",
        objective=_go_on(shapes_t2v_drilled(), seed=4, time_mean=1.2, time_std=1.4),
        source=ShapesClips(
            seed=8,
            two_object_rate=0.1,
            drills=(
                Drill(0.2, motions=("rotate",), turn=(1.1, 1.2)),
                Drill(0.3, shapes=("star", "ring", "cross")),
            ),
        ),
        num_steps=1850,
        warmup_steps=44,
        decay_steps=1805,
        learning_rate=1.5e-3,
        seed=4,
    )


def shapes_t2v_finer() -> TrainConfig:
    """`shapes_t2v_turned` taken further: what turns, and small shapes with corners or a hole.

    Of small stars, rings and crosses every second clip came out with a torn outline, of larger ones every
    seventeenth.
    """
    return replace(
        shapes_t2v_turned(),
        name="shapes_t2v_finer",
        objective=_go_on(shapes_t2v_turned(), seed=5),
        source=ShapesClips(
            seed=9,
            two_object_rate=0.1,
            drills=(
                Drill(0.3, motions=("rotate",), turn=(1.1, 1.2)),
                Drill(0.35, shapes=("star", "ring", "cross"), sizes=("small",)),
            ),
        ),
        num_steps=3000,
        warmup_steps=60,
        decay_steps=2925,
        seed=5,
    )


def _go_on(before: TrainConfig, seed: int, **changes: Any) -> DiffusionObjectiveConfig:
    """The objective of a run, to go on from its result."""
    assert isinstance(before.objective, DiffusionObjectiveConfig)
    return replace(before.objective, init_from=f"{RUNS}/{before.name}/result", seed=seed, **changes)
