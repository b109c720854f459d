"""Recipes of the five families of generators on `shapes-mini`, in the latents of the embedded codec.

They are meant to be compared at equal size (2.0 to 2.3 million parameters, beside a small text encoder) and
equal time: `num_steps` of each is what a quarter of an hour holds on one core with matrix units, of the GAN a
third of an hour.
`--num-steps` takes more or fewer, over which warm-up and decay keep their share.
"""

from __future__ import annotations

from dataclasses import replace

from videogen.data.shapes.dataset import ShapesClips
from videogen.train.config import TrainConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, DiTConfig, UViTConfig
from videogen.train.objectives.gan import GANObjectiveConfig
from videogen.train.objectives.latents import LatentObjectiveConfig
from videogen.train.objectives.rnn import RNNObjectiveConfig
from videogen.train.objectives.transformer import TransformerObjectiveConfig
from videogen.train.objectives.vae import VAEObjectiveConfig
from videogen.train.recipes.shapes import MINI_PREVIEW_PROMPTS


def shapes_mini_vae() -> TrainConfig:
    """The hierarchical variational autoencoder."""
    return _recipe("vae", VAEObjectiveConfig(), num_steps=1650)


def shapes_mini_rnn() -> TrainConfig:
    """The recurrent generator."""
    return _recipe("rnn", RNNObjectiveConfig(), num_steps=1400)


def shapes_mini_transformer() -> TrainConfig:
    """The masked Transformer."""
    return _recipe("transformer", TransformerObjectiveConfig(), num_steps=2100)


def shapes_mini_dit() -> TrainConfig:
    """Diffusion with a plain Transformer."""
    network = DiTConfig(hidden_size=144, num_attention_heads=3)
    return _recipe("dit", DiffusionObjectiveConfig(network=network), num_steps=2000)


def shapes_mini_uvit() -> TrainConfig:
    """The same objective with the embedded model's kind of network."""
    network = UViTConfig(hidden_size=128, num_layers=5, conv_dim=64)
    return _recipe("uvit", DiffusionObjectiveConfig(network=network), num_steps=1700)


def shapes_mini_gan() -> TrainConfig:
    """The adversarial pair, with smaller steps; no loss of it says which checkpoint is best.

    Its clips get better and worse from one hundred steps to the next, so more of them are averaged.
    """
    objective = GANObjectiveConfig(anneal_clips=(15_360, 23_040))  # two and three fifths of the run
    recipe = _recipe("gan", objective, num_steps=1200)
    return replace(recipe, learning_rate=1e-3, decay_steps=420, ema_decay=0.997, best_by="")


def _recipe(family: str, objective: LatentObjectiveConfig, num_steps: int) -> TrainConfig:
    return TrainConfig(
        name=f"shapes_mini_{family}",
        objective=replace(objective, text_dim=128, text_layers=1, preview_prompts=MINI_PREVIEW_PROMPTS),
        source=ShapesClips(world="shapes-mini"),
        num_steps=num_steps,
        batch_size=32,
        learning_rate=3e-3,
        warmup_steps=num_steps // 20,
        decay_steps=num_steps * 3 // 4,
        ema_decay=0.99,
        checkpoint_every=250,
        preview_every=num_steps // 4,
        mixed_precision="bf16",
    )
