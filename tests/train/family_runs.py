"""Tiny objectives of the families, and runs of them."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from tests.train.runs import CLIPS
from videogen.train.config import TrainConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, DiTConfig
from videogen.train.objectives.gan import GANObjectiveConfig
from videogen.train.objectives.latents import LatentObjectiveConfig
from videogen.train.objectives.rnn import RNNObjectiveConfig
from videogen.train.objectives.transformer import TransformerObjectiveConfig
from videogen.train.objectives.vae import VAEObjectiveConfig

_SIZES: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2}
_TEXT: dict[str, Any] = {"text_dim": 16, "text_layers": 1, "caption_dropout": 0.3}
CONFIGS: dict[str, LatentObjectiveConfig] = {
    "gan": GANObjectiveConfig(
        **_SIZES,
        **_TEXT,
        num_layers=1,
        noise_dim=4,
        conv_dim=8,
        discriminator_size=16,
        discriminator_layers=1,
    ),
    "vae": VAEObjectiveConfig(
        **_SIZES, **_TEXT, encoder_layers=1, num_layers=3, clip_dim=4, conv_dim=8, warm_up_clips=12
    ),
    "rnn": RNNObjectiveConfig(**_SIZES, **_TEXT, num_layers=1, state_size=8, noise_dim=4, conv_dim=8),
    "transformer": TransformerObjectiveConfig(**_SIZES, **_TEXT, num_layers=1, head_size=32, head_layers=1),
    "dit": DiffusionObjectiveConfig(network=DiTConfig(num_layers=1, **_SIZES), **_TEXT),
}


def make_objective(family: str, codec_folder: Path, **changes: Any) -> Any:
    torch.manual_seed(0)
    return dataclasses.replace(CONFIGS[family], codec=str(codec_folder), **changes).build()


def make_run(family: str, codec_folder: Path, **changes: Any) -> TrainConfig:
    objective = dataclasses.replace(CONFIGS[family], codec=str(codec_folder))
    settings: dict[str, Any] = {
        "num_steps": 3, "batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1, "ema_decay": 0.9,
        "log_every": 1, "checkpoint_every": 3, "preview_every": 0,
    }  # fmt: skip
    return TrainConfig("test", objective, CLIPS, **(settings | changes))
