"""The training loop: losses fall, and a run that was stopped ends exactly like one that was not."""

import dataclasses
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.batch import Batch
from videogen.data.shapes.dataset import ShapesClips, ShapesCrops
from videogen.io import read_clip
from videogen.pipelines.loading import load
from videogen.train.checkpoint import Checkpoint, list_checkpoints, load_checkpoint
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.base import Objective, ObjectiveConfig
from videogen.train.objectives.codec import CodecObjectiveConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, UViTConfig

SIZES: dict[str, Any] = {
    "latent_channels": 4,
    "encoder_dims": (8, 16),
    "decoder_dims": (8, 16),
    "encoder_depths": (0, 1),
    "decoder_depths": (0, 1),
}
UVIT = UViTConfig(conv_dim=8, num_conv_blocks=1, hidden_size=32, num_layers=1, num_attention_heads=2)
CLIPS = ShapesClips(world="shapes-mini", num_frames=4, size=16)


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny codec."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codec")
    VideoAutoencoder(**SIZES).save_pretrained(folder)
    return folder


@pytest.fixture
def config(codec_folder: Path) -> TrainConfig:
    """A run of eight steps of the diffusion objective."""
    objective = DiffusionObjectiveConfig(
        codec=str(codec_folder), network=UVIT, text_dim=16, text_layers=1, caption_dropout=0.3
    )
    return TrainConfig(
        "test", objective, CLIPS, num_steps=8, batch_size=2, learning_rate=1e-2, warmup_steps=2,
        decay_steps=3, weight_decay=0.01, ema_decay=0.9, log_every=1, checkpoint_every=100, preview_every=0,
    )  # fmt: skip


def codec_config(**changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "num_steps": 6, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 0, "ema_decay": 0.9,
        "log_every": 1, "checkpoint_every": 100, "preview_every": 0,
    }  # fmt: skip
    source = ShapesCrops(ShapesClips(world="shapes-mini", num_frames=4, size=32), size=16)
    return TrainConfig("test", CodecObjectiveConfig(**SIZES), source, **(settings | changes))


def log_of(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def newest(folder: Path) -> Checkpoint:
    return load_checkpoint(list_checkpoints(folder / "checkpoints")[-1])


def same(first: Any, second: Any) -> bool:
    """Whether two nested structures are equal bit for bit."""
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def assert_same_end(first: Path, second: Path) -> None:
    one, other = newest(first), newest(second)
    assert one.step == other.step
    assert same(one.weights, other.weights)
    assert same(one.ema, other.ema)
    assert same(one.optimizers, other.optimizers)
    assert log_of(first) == log_of(second)
    for path in (first / "result").rglob("*.safetensors"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


def test_the_loss_falls(config: TrainConfig, tmp_path: Path) -> None:
    """On clips, times and noise that training has not seen, the same before and after."""
    config = dataclasses.replace(config, num_steps=60, batch_size=8)
    batch = config.source.batch(range(10_000, 10_032))
    objective = config.objective.build()
    before = objective(batch, "train")["loss"].item()
    result = train(config, tmp_path, cpu=True)
    assert (result.step, result.finished, result.folder) == (60, True, tmp_path)
    objective.load_state_dict(newest(tmp_path).weights, strict=False)
    after = objective(batch, "train")["loss"].item()
    assert after < 0.8 * before


def test_a_resumed_run_equals_an_uninterrupted_one(config: TrainConfig, tmp_path: Path) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train(config, straight, cpu=True)
    stopped = train(config, resumed, cpu=True, max_minutes=0)
    assert (stopped.step, stopped.finished) == (1, False)
    assert [path.name for path in list_checkpoints(resumed / "checkpoints")] == ["step-0000001"]
    assert train(config, resumed, cpu=True, max_minutes=0).step == 2
    torch.manual_seed(123)
    assert train(config, resumed, cpu=True).finished
    assert_same_end(straight, resumed)


def test_a_resumed_codec_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    config = codec_config()
    train(config, straight, cpu=True)
    train(config, resumed, cpu=True, max_minutes=0)
    train(config, resumed, cpu=True)
    assert "codec.latents_std" in newest(resumed).weights
    assert_same_end(straight, resumed)


def test_previews_and_checkpoints_leave_no_trace_in_the_weights(config: TrainConfig, tmp_path: Path) -> None:
    plain, busy = tmp_path / "plain", tmp_path / "busy"
    config = dataclasses.replace(config, num_steps=3, warmup_steps=0, decay_steps=0)
    train(config, plain, cpu=True)
    train(dataclasses.replace(config, checkpoint_every=1, preview_every=3), busy, cpu=True)
    assert_same_end(plain, busy)
    previews = sorted((busy / "previews" / "step-0000003").iterdir())
    assert previews and not (busy / "previews" / "step-0000002").exists()
    assert read_clip(previews[0]).frames.shape[-1] == 3


@dataclass(frozen=True)
class Interrupting:
    """Clips, with a signal to this process when the clip `at` is asked for."""

    clips: ShapesClips
    at: int

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        if self.at in sample_ids:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.clips.batch(sample_ids, device)


def test_a_termination_ends_with_a_checkpoint(config: TrainConfig, tmp_path: Path) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    handler = signal.getsignal(signal.SIGTERM)
    train(config, straight, cpu=True)
    result = train(dataclasses.replace(config, source=Interrupting(CLIPS, at=5)), resumed, cpu=True)
    assert (result.step, result.finished) == (3, False)
    assert signal.getsignal(signal.SIGTERM) is handler
    train(config, resumed, cpu=True)
    assert_same_end(straight, resumed)


def test_a_finished_run_is_left_alone(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, num_steps=1, warmup_steps=0, decay_steps=0)
    train(config, tmp_path, cpu=True)
    log = log_of(tmp_path)
    result = train(config, tmp_path, cpu=True)
    assert (result.step, result.finished) == (1, True)
    assert log_of(tmp_path) == log


def test_as_many_checkpoints_as_asked_for(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, num_steps=5, checkpoint_every=1, keep_checkpoints=3)
    train(config, tmp_path, cpu=True)
    names = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-0000003", "step-0000004", "step-0000005"]


def test_the_result_is_averaged_and_loads_with_the_library(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, num_steps=5)
    train(config, tmp_path, cpu=True)
    pipeline = load(tmp_path / "result")
    checkpoint = newest(tmp_path)
    for name, value in pipeline.unet.named_parameters():
        assert torch.equal(value, checkpoint.ema[f"denoiser.{name}"])
        assert checkpoint.weights[f"denoiser.{name}"].shape == value.shape
    assert not same(checkpoint.ema["denoiser.conv_in.weight"], checkpoint.weights["denoiser.conv_in.weight"])
    frozen = {name for name in checkpoint.weights if name.startswith("codec")}
    assert frozen == {"codec.latents_mean", "codec.latents_std"}  # its networks are not saved again
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        "a red circle", num_inference_steps=1, seed=0, output_type="latent", return_dict=False
    )[0]
    assert latents.isfinite().all()


def test_the_configuration_is_saved_beside(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, num_steps=1, warmup_steps=0, decay_steps=0)
    train(config, tmp_path, cpu=True)
    assert json.loads((tmp_path / "config.json").read_text()) == config.resolved()
    (checkpoint,) = list_checkpoints(tmp_path / "checkpoints")
    assert json.loads((checkpoint / "state.json").read_text())["config"] == config.resolved()


def test_a_checkpoint_of_another_network_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    train(config, tmp_path, cpu=True, max_minutes=0)
    before = newest(tmp_path)
    wider = UViTConfig(conv_dim=16, num_conv_blocks=1, hidden_size=32, num_layers=1, num_attention_heads=2)
    deeper = dataclasses.replace(UVIT, num_layers=2)
    shallower = dataclasses.replace(UVIT, num_conv_blocks=0)
    for network in (wider, deeper, shallower):
        assert isinstance(config.objective, DiffusionObjectiveConfig)
        objective = dataclasses.replace(config.objective, network=network)
        with pytest.raises(ValueError, match=r"step-0000001 belongs to another network"):
            train(dataclasses.replace(config, objective=objective), tmp_path, cpu=True)
    with pytest.raises(ValueError, match=r"step-0000001 belongs to another network"):
        train(codec_config(), tmp_path, cpu=True)
    assert same(newest(tmp_path).weights, before.weights)


def test_a_loss_that_is_not_finite_stops_and_writes_nothing(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, learning_rate=1e30, warmup_steps=0, decay_steps=0)
    with pytest.raises(FloatingPointError, match=r"the loss of phase 'train' is (nan|inf) at step 1"):
        train(config, tmp_path, cpu=True)
    assert not list_checkpoints(tmp_path / "checkpoints") and not (tmp_path / "result").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, tmp_path, cpu=True, max_minutes=0)

    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        train(config, tmp_path, cpu=True)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000001"]
    monkeypatch.undo()
    assert train(config, tmp_path, cpu=True).finished


# Objectives of other shapes


@dataclass(frozen=True)
class SmallConfig(ObjectiveConfig):
    """Of `Small`."""

    kind: str

    def build(self) -> Objective:
        return Small(self.kind)


class Small(Objective):
    """Two numbers, trained one against the other in `two phases`, or with a gradient that is not finite."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "two phases":
            self.phases = ("first", "second")
        self.first = nn.Parameter(torch.zeros(1))
        self.second = nn.Parameter(torch.zeros(1))

    def trained_parameters(self, phase: str) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self.named_parameters() if phase in (name, "train")]

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        if self.kind == "bad":
            return {"loss": (self.first + self.second).sum().mul(0).sqrt()}
        # The first phase pulls `second` strongly upwards; only the second trains it, and pulls it down.
        pull = 0.1 * self.second if phase == "second" else self.first - 10 * self.second
        return {"loss": pull.sum()}

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def preview(self) -> list[tuple[str, np.ndarray]]:
        return []


def small_config(kind: str) -> TrainConfig:
    return TrainConfig(
        "test", SmallConfig(kind), CLIPS, num_steps=3, batch_size=1, learning_rate=0.1, warmup_steps=0,
        preview_every=0,
    )  # fmt: skip


def test_a_phase_trains_its_own_parameters_by_its_own_loss(tmp_path: Path) -> None:
    train(small_config("two phases"), tmp_path, cpu=True)
    weights = newest(tmp_path).weights
    assert weights["first"].item() == pytest.approx(-0.3, abs=1e-3)
    assert weights["second"].item() == pytest.approx(-0.3, abs=1e-3)
    assert newest(tmp_path).optimizers.keys() == {"first", "second"}


def test_a_gradient_that_is_not_finite_stops_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="the gradient of phase 'train' is not finite at step 0"):
        train(small_config("bad"), tmp_path, cpu=True)
    assert not list_checkpoints(tmp_path / "checkpoints")
