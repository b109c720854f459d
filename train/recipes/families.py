"""Recipes of the five families of generators on `shapes-mini`, in the latents of the embedded codec.

They are meant to be compared at equal time, so none reaches its last step on a slow machine: give all of them
the same `--max-minutes`, or fewer `--num-steps`, over which warm-up and decay keep their share.
"""

from __future__ import annotations

from dataclasses import replace

from videogen.data.shapes.dataset import ShapesClips
from videogen.train.config import TrainConfig
from videogen.train.objectives.base import ObjectiveConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, DiTConfig
from videogen.train.objectives.gan import GANObjectiveConfig
from videogen.train.objectives.rnn import RNNObjectiveConfig
from videogen.train.objectives.transformer import TransformerObjectiveConfig
from videogen.train.objectives.vae import VAEObjectiveConfig


def shapes_mini_vae() -> TrainConfig:
    """The hierarchical variational autoencoder."""
    return _recipe("vae", VAEObjectiveConfig())


def shapes_mini_rnn() -> TrainConfig:
    """The recurrent generator."""
    return _recipe("rnn", RNNObjectiveConfig())


def shapes_mini_transformer() -> TrainConfig:
    """The masked Transformer."""
    return _recipe("transformer", TransformerObjectiveConfig())


def shapes_mini_dit() -> TrainConfig:
    """The diffusion Transformer: the objective of `shapes_mini_t2v` with another network."""
    return _recipe("dit", DiffusionObjectiveConfig(network=DiTConfig()))


def shapes_mini_gan() -> TrainConfig:
    """The adversarial pair: smaller steps, all of them Adam's."""
    return replace(_recipe("gan", GANObjectiveConfig()), learning_rate=1e-3, best_by="")


def _recipe(family: str, objective: ObjectiveConfig) -> TrainConfig:
    return TrainConfig(
        name=f"shapes_mini_{family}",
        objective=objective,
        source=ShapesClips(world="shapes-mini"),
        num_steps=1100,
        batch_size=32,
        learning_rate=3e-3,
        warmup_steps=100,
        decay_steps=800,
        ema_decay=0.99,
        checkpoint_every=100,
        preview_every=275,
        mixed_precision="bf16",
    )
