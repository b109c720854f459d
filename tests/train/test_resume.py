"""Runs that were killed, ran out of disk, or lost a checkpoint go on exactly; runs that changed do not."""

import dataclasses
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.train.runs import (
    UVIT,
    Fate,
    assert_same_end,
    finish,
    log_of,
    names,
    newest,
    run,
    run_config,
    start,
)
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.data.shapes.dataset import ShapesClips
from videogen.train.checkpoint import list_checkpoints, load_checkpoint
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.codec import CodecObjectiveConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig
from videogen.train.run_log import RunLog


@pytest.fixture
def config(codec_folder: Path) -> TrainConfig:
    return run_config("uvit", codec_folder)


@pytest.fixture
def stopped(config: TrainConfig, tmp_path: Path) -> Path:
    """The folder of a run of eight steps that has checkpoints of step 3 and 4."""
    folder = tmp_path / "stopped"

    class StopError(Exception):
        """Ends a run at once."""

    def stop(step: int) -> None:
        if step == 5:
            raise StopError

    with pytest.raises(StopError):
        train(dataclasses.replace(config, checkpoint_every=1), folder, cpu=True, on_step=stop)
    assert names(folder / "checkpoints") == ["step-0000003", "step-0000004"]
    return folder


@pytest.mark.parametrize(("family", "num_parts"), [("uvit", 1), ("unet3d", 2), ("codec", 2)])
def test_a_killed_run_goes_on_exactly(
    codec_folder: Path, tmp_path: Path, family: str, num_parts: int
) -> None:
    """By SIGKILL, two steps after a checkpoint; the second part has its clips made by another process."""
    config = run_config(family, codec_folder, gradient_accumulation_steps=num_parts)
    run(config, tmp_path / "straight")
    run(config, tmp_path / "resumed", Fate(kill_at=5))
    assert [line["step"] for line in log_of(tmp_path / "resumed")] == [1, 2, 3, 4, 5]
    assert newest(tmp_path / "resumed").step == 3
    run(dataclasses.replace(config, num_data_workers=1), tmp_path / "resumed")
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")


def test_a_run_killed_before_its_first_checkpoint_begins_again(config: TrainConfig, tmp_path: Path) -> None:
    run(config, tmp_path / "straight")
    run(config, tmp_path / "resumed", Fate(kill_at=2))
    assert not (tmp_path / "resumed" / "checkpoints").exists()
    run(config, tmp_path / "resumed")
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")


def test_a_run_killed_while_it_writes_a_checkpoint(config: TrainConfig, tmp_path: Path) -> None:
    run(config, tmp_path / "straight")
    folder = tmp_path / "resumed"
    run(config, folder, Fate(kill_in_checkpoint=6))
    partial, whole = names(folder / "checkpoints")
    assert (Path(partial).suffix, whole) == (".partial", "step-0000003")
    assert len(log_of(folder)) == 6
    run(config, folder)
    assert_same_end(tmp_path / "straight", folder)
    assert names(folder / "checkpoints") == names(tmp_path / "straight" / "checkpoints")


def test_a_run_killed_while_it_writes_its_last_checkpoint(config: TrainConfig, tmp_path: Path) -> None:
    """The result, which is written before, is whole in any case."""
    run(config, tmp_path / "straight")
    run(config, tmp_path / "resumed", Fate(kill_in_checkpoint=8))
    run(config, tmp_path / "resumed")
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")


def test_kills_at_random_moments(config: TrainConfig, tmp_path: Path) -> None:
    """From outside, with a checkpoint at every step, so that many a kill meets one that is being written."""
    config = dataclasses.replace(config, num_steps=40, checkpoint_every=1)
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    run(config, straight)
    moments = random.Random(0)
    num_kills = 0
    for _ in range(6):
        before = len(RunLog(resumed).lines())
        (process,) = start(config, resumed)
        while process.is_alive() and len(RunLog(resumed).lines()) <= before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        num_kills += finish([process]) == [-9]
    assert num_kills > 0
    run(config, resumed)
    assert_same_end(straight, resumed)


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(
    config: TrainConfig, tmp_path: Path
) -> None:
    run(config, tmp_path / "straight")
    folder = tmp_path / "resumed"
    run(config, folder, Fate(full_disk_at=5))
    assert re.search(r"cannot write .*result: .*File too large", (folder / "error").read_text())
    assert names(folder / "checkpoints") == ["step-0000003"]
    files = {*names(folder)} - {"error", ".lock"}
    assert files == {"checkpoints", "config.json", "log.jsonl", "result"}
    assert load_checkpoint(folder / "checkpoints" / "step-0000003").step == 3
    run(config, folder)
    assert_same_end(tmp_path / "straight", folder)


# A checkpoint that was damaged later


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizers.pt", "random.safetensors", "state.json"])
def test_a_truncated_newest_is_named_and_the_one_before_is_used(
    config: TrainConfig, stopped: Path, tmp_path: Path, file: str
) -> None:
    truncate(stopped / "checkpoints" / "step-0000004" / file)
    config = dataclasses.replace(config, keep_checkpoints=1, best_by="")
    steps: list[int] = []
    with pytest.warns(UserWarning, match=r"step-0000004 cannot be read: .*; the one before it is used"):
        train(config, stopped, cpu=True, on_step=steps.append)
    assert steps == [4, 5, 6, 7, 8]
    train(config, tmp_path / "straight", cpu=True)
    assert_same_end(tmp_path / "straight", stopped)


def test_a_damaged_checkpoint_does_not_outlive_good_ones(config: TrainConfig, stopped: Path) -> None:
    """As it would if it counted as the newest of those that are kept."""
    folder = stopped / "checkpoints"
    (folder / "step-0000004").rename(folder / "step-0000007")
    truncate(folder / "step-0000007" / "state.json")
    config = dataclasses.replace(config, keep_checkpoints=1, best_by="", num_steps=8, checkpoint_every=2)
    seen = {}
    with pytest.warns(UserWarning, match="step-0000007 cannot be read"):
        train(config, stopped, cpu=True, on_step=lambda step: seen.update({step: names(folder)}))
    assert seen[5] == ["step-0000004", "step-0000007"]
    assert names(folder) == ["step-0000008"]


def test_no_readable_checkpoint_at_all(config: TrainConfig, stopped: Path) -> None:
    """Then the run does not begin again on its own: that would throw days away."""
    for path in list_checkpoints(stopped / "checkpoints"):
        (path / "ema.safetensors").unlink()
    with (
        pytest.warns(UserWarning, match="step-0000004"),
        pytest.raises(
            ValueError, match=r"no checkpoint in .* can be read, the oldest because.*ema\.safetensors"
        ),
    ):
        train(config, stopped, cpu=True)


# Settings that changed


def change(config: TrainConfig, name: str, value: Any) -> TrainConfig:
    return dataclasses.replace(config, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("batch_size", 2, "4"),
        ("seed", 7, "0"),
        ("learning_rate", 0.02, "0.01"),
        ("lr_schedule", "cosine", "'linear'"),
        ("decay_steps", 4, "3"),
        ("weight_decay", 0.0, "0.01"),
        ("ema_decay", 0.99, "0.9"),
        ("mixed_precision", "bf16", "'no'"),
        ("source", ShapesClips(world="shapes", num_frames=4, size=16), "'shapes-mini'"),
        ("objective", CodecObjectiveConfig(), "'DiffusionObjectiveConfig'"),
    ],
)
def test_settings_that_decide_about_weights_are_refused(
    config: TrainConfig, stopped: Path, name: str, value: Any, was: str
) -> None:
    before = newest(stopped)
    AcceleratorState._reset_state()  # which keeps the precision of the first run in a process
    with pytest.raises(
        ValueError, match=rf"settings: `{name}(\.\w+)?` was {was}, got .*another output folder"
    ):
        train(change(config, name, value), stopped, cpu=True)
    AcceleratorState._reset_state()
    assert newest(stopped).step == before.step and len(log_of(stopped)) == 5


def test_all_that_differ_are_named(config: TrainConfig, stopped: Path) -> None:
    assert isinstance(config.objective, DiffusionObjectiveConfig)
    network = dataclasses.replace(UVIT, hidden_size=64)
    objective = dataclasses.replace(config.objective, network=network, time_mean=0.5)
    expected = (
        "`objective.time_mean` was 1.2, got 0.5; `objective.network.hidden_size` was 32, got 64; "
        "`seed` was 0, got 3"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        train(dataclasses.replace(config, objective=objective, seed=3), stopped, cpu=True)


def test_other_frozen_weights_are_refused(config: TrainConfig, codec_folder: Path, tmp_path: Path) -> None:
    """The codec stands in another folder, where it may have been trained again since."""
    torch.manual_seed(0)
    folder = tmp_path / "codec"
    codec = VideoAutoencoder.from_pretrained(codec_folder)
    codec.save_pretrained(folder)
    assert isinstance(config.objective, DiffusionObjectiveConfig)
    config = change(config, "objective", dataclasses.replace(config.objective, codec=str(folder)))
    train(config, tmp_path / "run", cpu=True, max_minutes=0)
    with torch.no_grad():
        next(codec.encoder.parameters()).mul_(1.001)
    codec.save_pretrained(folder)
    with pytest.raises(ValueError, match="other frozen weights"):
        train(config, tmp_path / "run", cpu=True)


def test_settings_that_leave_weights_alone_may_change(
    config: TrainConfig, stopped: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    train(config, tmp_path / "straight", cpu=True)
    other = dataclasses.replace(
        config, name="other", log_every=2, checkpoint_every=5, keep_checkpoints=1, best_by="", preview_every=8
    )
    assert train(other, stopped, cpu=True).finished
    one, two = newest(tmp_path / "straight"), newest(stopped)
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert [line["step"] for line in log_of(stopped)] == [1, 2, 3, 4, 6, 8]
    assert not [warning for warning in recwarn if "steps" in str(warning.message)]


def test_a_longer_run_says_what_happens_to_the_schedule(config: TrainConfig, stopped: Path) -> None:
    longer = config.with_num_steps(16)
    with pytest.warns(
        UserWarning,
        match="now has 16 steps instead of 8.*goes on at 0.01 where it was 0.01, and falls over the last 6",
    ):
        assert train(longer, stopped, cpu=True).step == 16
    rates = {line["step"]: line["lr"] for line in log_of(stopped)}
    assert rates[16] == longer.learning_rate_at(15) and rates[9] == 0.01
    with pytest.raises(ValueError, match=r"`num_steps` must be at least the 16 that are done in .*, got 8"):
        train(config, stopped, cpu=True)


def test_micro_batches_may_change_and_it_is_said(config: TrainConfig, stopped: Path) -> None:
    with pytest.warns(UserWarning, match="`gradient_accumulation_steps` was 1 and is 2: the weights stay"):
        assert train(change(config, "gradient_accumulation_steps", 2), stopped, cpu=True).finished


def test_other_versions_are_named(config: TrainConfig, stopped: Path) -> None:
    for path in list_checkpoints(stopped / "checkpoints"):
        state = json.loads((path / "state.json").read_text())
        state["versions"]["torch"] = "1.0"
        (path / "state.json").write_text(json.dumps(state))
    with pytest.warns(UserWarning, match="'torch': '1.0'.*bits may differ"):
        train(config, stopped, cpu=True)


def test_a_checkpoint_from_before_a_setting_existed(
    config: TrainConfig, stopped: Path, tmp_path: Path
) -> None:
    """It counts as its default was; files had no checksums then, and generators no place."""
    for path in list_checkpoints(stopped / "checkpoints"):
        state = json.loads((path / "state.json").read_text())
        for name in ("lr_schedule", "gradient_accumulation_steps", "num_data_workers", "best_by"):
            del state["config"][name]
        (path / "state.json").write_text(json.dumps({"step": state["step"], "config": state["config"]}))
        (path / "random.safetensors").unlink()
    with pytest.raises(ValueError, match="`lr_schedule` was 'not known', got 'cosine'"):
        train(change(config, "lr_schedule", "cosine"), stopped, cpu=True)
    assert train(config, stopped, cpu=True).finished
    train(config, tmp_path, cpu=True)
    one, two = newest(tmp_path), newest(stopped)
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
