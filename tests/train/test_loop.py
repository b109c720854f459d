"""The training loop: losses fall, and a run that was stopped ends exactly like one that was not."""

import dataclasses
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from tests.train.runs import CLIPS, FAMILIES, assert_same_end, log_of, names, newest, run_config
from videogen.data.batch import Batch
from videogen.io import read_clip
from videogen.pipelines.loading import load
from videogen.train.checkpoint import (
    best_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.base import Objective, ObjectiveConfig
from videogen.train.optimizer import MuonAdamW


@pytest.fixture
def config(codec_folder: Path) -> TrainConfig:
    """A run of eight steps of the diffusion objective, with a checkpoint at its end only."""
    return run_config("uvit", codec_folder, batch_size=2, checkpoint_every=100)


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


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loop_is_the_plain_loop(codec_folder: Path, tmp_path: Path, family: str) -> None:
    """Bit for bit the one that is written here, so that a recipe gives the weights that it always gave."""
    config = run_config(family, codec_folder, checkpoint_every=2)
    train(config, tmp_path, cpu=True)

    set_seed(config.seed)
    objective = config.objective.build()
    trained = objective.trained_parameters("train")
    parameters = [parameter for _, parameter in trained]
    optimizer = MuonAdamW(
        trained, config.learning_rate, config.weight_decay, adamw_scales=objective.adamw_scales
    )
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.9, foreach=True)
    rates = [0.005, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01 * (2 / 3), 0.01 * (1 / 3)]
    losses = []
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = objective(config.source.batch(range(4 * step, 4 * step + 4)), "train")["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(parameters)
        losses.append(loss.item())

    end = newest(tmp_path)
    assert [line["loss"] for line in log_of(tmp_path)] == losses
    assert [line["lr"] for line in log_of(tmp_path)] == pytest.approx(rates)
    for (name, parameter), average in zip(trained, ema.shadow_params, strict=True):
        assert torch.equal(end.weights[name], parameter)
        assert torch.equal(end.ema[name], average)


def test_micro_batches_add_up_to_the_batch(config: TrainConfig, tmp_path: Path) -> None:
    """Up to rounding; the optimizer steps once for all of them."""
    config = dataclasses.replace(config, batch_size=6)
    for number in (1, 3):
        parts = dataclasses.replace(config, gradient_accumulation_steps=number)
        train(parts, tmp_path / str(number), cpu=True)
    for one, other in zip(log_of(tmp_path / "1"), log_of(tmp_path / "3"), strict=True):
        assert (one["step"], one["lr"]) == (other["step"], other["lr"])
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    assert log_of(tmp_path / "1") != log_of(tmp_path / "3")


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
    config = run_config("codec", tmp_path, checkpoint_every=100)
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
    one, other = newest(plain), newest(busy)
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert all(torch.equal(one.ema[name], other.ema[name]) for name in one.ema)
    assert log_of(plain) == log_of(busy)
    previews = sorted((busy / "previews" / "step-0000003").iterdir())
    assert previews and not (busy / "previews" / "step-0000002").exists()
    assert read_clip(previews[0]).frames.shape[-1] == 3


@dataclass(frozen=True)
class Interrupting:
    """Clips, with a signal to this process when the clip `at` of a stream is asked for."""

    at: ClassVar[int] = 0
    pid: ClassVar[int] = os.getpid()

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        if self.at and self.at in sample_ids:
            os.kill(self.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return CLIPS.batch(sample_ids, device)


@pytest.mark.parametrize("num_data_workers", [0, 1])
def test_a_termination_ends_with_a_checkpoint(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_data_workers: int
) -> None:
    """A data worker makes clips ahead of time, so there the signal comes from it and does not end it."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    handler = signal.getsignal(signal.SIGTERM)
    config = dataclasses.replace(config, source=Interrupting(), num_data_workers=num_data_workers)
    train(config, straight, cpu=True)
    monkeypatch.setattr(Interrupting, "at", 5)
    result = train(config, resumed, cpu=True)
    assert 0 < result.step <= 3 and not result.finished
    assert num_data_workers or result.step == 3
    assert signal.getsignal(signal.SIGTERM) is handler
    monkeypatch.undo()
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
    config = dataclasses.replace(config, num_steps=5, checkpoint_every=1, keep_checkpoints=3, best_by="")
    train(config, tmp_path, cpu=True)
    assert names(tmp_path / "checkpoints") == ["step-0000003", "step-0000004", "step-0000005"]


def test_the_best_checkpoint_is_kept_besides(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, checkpoint_every=2, keep_checkpoints=1, best_by="grad_norm")
    train(config, tmp_path, cpu=True)
    norms = [line["grad_norm"] for line in log_of(tmp_path)]
    means = {step: (norms[step - 2] + norms[step - 1]) / 2 for step in (2, 4, 6, 8)}
    best = min(means, key=means.__getitem__)
    assert best != 8
    assert names(tmp_path / "checkpoints") == [f"step-{best:07d}", "step-0000008"]
    found = best_checkpoint(tmp_path / "checkpoints", "grad_norm")
    assert found is not None and found.name == f"step-{best:07d}"
    score = load_checkpoint(found).score
    assert score is not None and score.name == "grad_norm" and score.value == pytest.approx(means[best])


def test_the_result_is_averaged_and_loads_with_the_library(config: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, num_steps=5)
    train(config, tmp_path, cpu=True)
    pipeline = load(tmp_path / "result")
    checkpoint = newest(tmp_path)
    for name, value in pipeline.unet.named_parameters():
        assert torch.equal(value, checkpoint.ema[f"denoiser.{name}"])
        assert checkpoint.weights[f"denoiser.{name}"].shape == value.shape
    assert not torch.equal(
        checkpoint.ema["denoiser.conv_in.weight"], checkpoint.weights["denoiser.conv_in.weight"]
    )
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
    """As when the folder that a run starts from holds another network than before."""
    train(config, tmp_path, cpu=True, max_minutes=0)
    folder = tmp_path / "checkpoints" / "step-0000001"
    before = load_checkpoint(folder)
    weights = {name: value for name, value in before.weights.items() if "conv_out" not in name}
    save_checkpoint(folder.parent, dataclasses.replace(before, weights=weights), keep=1)
    with pytest.raises(ValueError, match=r"step-0000001 belongs to another network"):
        train(config, tmp_path, cpu=True)
    with pytest.raises(ValueError, match=r"`objective` was 'DiffusionObjectiveConfig', got"):
        train(run_config("codec", tmp_path), tmp_path, cpu=True)


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


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM"])
def test_sharing_of_weights_is_refused(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On a CPU, accelerate itself would leave it out without a word."""
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"`{name}` in accelerate's configuration must be off, got on"):
        train(config, tmp_path, cpu=True)
    assert not list(tmp_path.iterdir())


def test_a_tracker_or_a_folder_that_cannot_be(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`tracker` must be 'tensorboard' or None, got 'wandb'"):
        train(config, tmp_path / "run", cpu=True, tracker="wandb")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`output_dir` must be a folder, got .*: .* is a file"):
        train(config, tmp_path / "file", cpu=True)
    with pytest.raises(ValueError, match=r"`output_dir` must be a folder, got .*: .*file is a file"):
        train(config, tmp_path / "file" / "run", cpu=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@dataclass(frozen=True)
class NoClips:
    """A source that nothing may be asked of."""

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        raise AssertionError("a clip was asked for")


def test_another_run_s_folder_is_refused_before_anything_is_computed(
    config: TrainConfig, tmp_path: Path
) -> None:
    train(config, tmp_path, cpu=True, max_minutes=0)
    before = log_of(tmp_path)
    other = dataclasses.replace(config, source=NoClips())
    with pytest.raises(ValueError, match="belongs to a run with other settings: `source` was"):
        train(other, tmp_path, cpu=True, rehearsed=True)
    assert log_of(tmp_path) == before


def test_a_launcher_that_starts_one_process_instead_of_several(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `accelerate launch --cpu --num_processes 2` does."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.warns(UserWarning, match="use `torchrun --nproc_per_node N` for N on a CPU"):
        train(config, tmp_path, cpu=True, max_minutes=0)


def test_two_runs_in_one_folder_at_once(config: TrainConfig, tmp_path: Path) -> None:
    """The second is refused before it computes anything, and the first does not notice."""

    def start_another(step: int) -> None:
        with pytest.raises(ValueError, match=r"`output_dir` .* is in use by another process"):
            train(dataclasses.replace(config, seed=1), tmp_path, cpu=True, rehearsed=True)

    assert train(config, tmp_path, cpu=True, on_step=start_another).finished
    train(config, tmp_path / "straight", cpu=True)
    assert_same_end(tmp_path, tmp_path / "straight")


def test_processes_that_cannot_find_each_other(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where accelerate was first asked for one process, and then two are launched."""
    train(config, tmp_path / "first", cpu=True, max_minutes=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were launched .* accelerate sees 1: .* Add --cpu"):
        train(config, tmp_path / "second", cpu=True)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("size", ["abc", "", "0", "-2", "1.5"])
def test_a_launcher_s_count_that_is_none(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match=f"WORLD_SIZE must be the number of processes .* got '{size}'"):
        train(config, tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()


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
