"""Several processes: they learn what one would, and go on exactly when all are killed."""

import dataclasses
from pathlib import Path

import pytest

from tests.train.runs import Fate, assert_close_end, assert_same_end, log_of, run, run_config
from videogen.train.config import TrainConfig
from videogen.train.verify import differences


@pytest.fixture
def config(codec_folder: Path) -> TrainConfig:
    return run_config("uvit", codec_folder)


def test_two_processes_do_what_one_does_in_two_parts(config: TrainConfig, tmp_path: Path) -> None:
    """Bit for bit: each works off what is a micro-batch there, and of two gradients there is but one sum."""
    run(dataclasses.replace(config, gradient_accumulation_steps=2), tmp_path / "one")
    run(config, tmp_path / "two", num_processes=2)
    (line,) = differences(tmp_path / "one", tmp_path / "two")
    assert line.startswith("random.cpu: ")  # of one process, and of two


def test_processes_and_parts_learn_what_one_batch_teaches(config: TrainConfig, tmp_path: Path) -> None:
    """With the same clips in a step, whether they are shared over processes, micro-batches or both."""
    run(config, tmp_path / "one")
    run(config, tmp_path / "two", num_processes=2)
    assert_close_end(tmp_path / "one", tmp_path / "two")
    run(dataclasses.replace(config, gradient_accumulation_steps=2), tmp_path / "both", num_processes=2)
    assert_close_end(tmp_path / "one", tmp_path / "both")
    assert log_of(tmp_path / "one") != log_of(tmp_path / "two")  # there is an order, and it can be seen


@pytest.mark.parametrize(("family", "num_data_workers"), [("uvit", 0), ("unet3d", 1), ("codec", 0)])
def test_two_killed_processes_go_on_exactly(
    codec_folder: Path, tmp_path: Path, family: str, num_data_workers: int
) -> None:
    config = run_config(
        family,
        codec_folder,
        batch_size=8,
        gradient_accumulation_steps=2,
        num_data_workers=num_data_workers,
    )
    run(config, tmp_path / "straight", num_processes=2)
    run(config, tmp_path / "resumed", Fate(kill_at=5), num_processes=2)
    run(config, tmp_path / "resumed", num_processes=2)
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")


def test_three_processes_go_on_exactly(codec_folder: Path, tmp_path: Path) -> None:
    """Over more than two, the order of a sum depends on how DDP has arranged the gradients."""
    config = run_config("uvit", codec_folder, batch_size=3)
    run(config, tmp_path / "straight", num_processes=3)
    run(config, tmp_path / "resumed", Fate(kill_at=4), num_processes=3)
    run(config, tmp_path / "resumed", num_processes=3)
    assert_same_end(tmp_path / "straight", tmp_path / "resumed")


def test_another_number_of_processes_takes_up_a_run(config: TrainConfig, tmp_path: Path) -> None:
    run(config, tmp_path / "straight")
    for first, then in ((1, 2), (2, 1)):
        folder = tmp_path / f"{first}-{then}"
        run(config, folder, Fate(kill_at=5), num_processes=first)
        run(config, folder, num_processes=then)
        assert_close_end(tmp_path / "straight", folder)
