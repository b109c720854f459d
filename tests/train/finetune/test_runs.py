"""Whole runs: the loss falls, and a killed one goes on exactly."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.finetune.tiny_models import batch_of
from tests.train.runs import Fate, assert_same_end, newest, run
from videogen.data.footage.dataset import FootageClips, load_dataset
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.finetune import FinetuneObjective, FinetuneObjectiveConfig


def run_config(model: Path, dataset: Path, **changes: Any) -> TrainConfig:
    objective = FinetuneObjectiveConfig(
        model=str(model),
        dataset=str(dataset),
        **{
            name: changes.pop(name)
            for name in ("lora_rank", "noise_prior", "caption_dropout")
            if name in changes
        },
    )
    settings: dict[str, Any] = {
        "num_steps": 8, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 2, "ema_decay": 0.9,
        "log_every": 1, "checkpoint_every": 3, "preview_every": 0,
    }  # fmt: skip
    settings |= changes
    source = FootageClips(str(dataset), settings["batch_size"], fingerprint=load_dataset(dataset).fingerprint)
    return TrainConfig("test", objective, source, **settings)


@pytest.mark.parametrize("lora_rank", [None, 4])
@pytest.mark.parametrize("kind", ["flow", "epsilon"])
def test_training_lowers_the_loss(
    models: dict[str, Path],
    datasets: dict[tuple[str, str], Path],
    tmp_path: Path,
    kind: str,
    lora_rank: int | None,
) -> None:
    config = run_config(
        models[kind],
        datasets[kind, "new"],
        num_steps=60,
        batch_size=4,
        checkpoint_every=60,
        lora_rank=lora_rank,
    )
    train(config, tmp_path, cpu=True)
    objective = config.objective.build().eval()
    assert isinstance(objective, FinetuneObjective)
    before = mean_loss(objective)
    objective.load_state_dict(newest(tmp_path).ema, strict=False)
    assert mean_loss(objective) < 0.9 * before


@torch.no_grad()
def mean_loss(objective: FinetuneObjective) -> float:
    """At times and noise that no training has seen."""
    batches = [batch_of(objective, range(start, start + 4)) for start in range(4000, 4060, 4)]
    return sum(objective(batch, "train")["loss"].item() for batch in batches) / len(batches)


@pytest.mark.parametrize(
    ("kind", "lora_rank", "num_parts"),
    [("flow", None, 1), ("epsilon", None, 2), ("flow", 4, 2), ("clip", 4, 1)],
)
def test_a_killed_run_goes_on_exactly(
    models: dict[str, Path],
    datasets: dict[tuple[str, str], Path],
    tmp_path: Path,
    kind: str,
    lora_rank: int | None,
    num_parts: int,
) -> None:
    config = run_config(
        models[kind],
        datasets[kind, "known" if kind == "clip" else "new"],
        lora_rank=lora_rank,
        noise_prior="progressive",
        caption_dropout=0.3,
        gradient_accumulation_steps=num_parts,
    )
    run(config, tmp_path / "straight")
    run(config, tmp_path / "resumed", Fate(kill_at=5))
    run(dataclasses.replace(config, num_data_workers=1), tmp_path / "resumed")
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")
