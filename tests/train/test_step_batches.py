"""Which clips a step sees: the same ones however the work is shared, each once."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.train.runs import CLIPS, assert_same_end, run_config
from videogen.data.batch import Batch
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.step_batches import check_split, micro_batches, step_batches

CPU = torch.device("cpu")


@pytest.fixture
def config(codec_folder: Path) -> TrainConfig:
    return run_config("uvit", codec_folder, batch_size=24, num_steps=5, warmup_steps=0, decay_steps=0)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Worker processes have one thread each, so what the number of threads changes would be seen."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("num_parts", [1, 2])
def test_no_clip_is_seen_twice_or_left_out(config: TrainConfig, num_processes: int, num_parts: int) -> None:
    config = dataclasses.replace(config, gradient_accumulation_steps=num_parts)
    for step in range(config.num_steps):
        shares = [micro_batches(config, step, idx, num_processes) for idx in range(num_processes)]
        assert {len(part) for share in shares for part in share} == {24 // (num_processes * num_parts)}
        assert {len(share) for share in shares} == {num_parts}
        seen = [position for share in shares for part in share for position in part]
        assert seen == list(
            range(24 * step, 24 * (step + 1))
        )  # also: every step sees its own, for any number


def test_a_batch_that_cannot_be_shared_out(config: TrainConfig) -> None:
    config = dataclasses.replace(config, gradient_accumulation_steps=3)
    check_split(config, 4)
    with pytest.raises(
        ValueError, match=r"must be a multiple of 15 \(5 processes x 3 gradient accumulation steps\), got 24"
    ):
        check_split(config, 5)


@pytest.mark.parametrize("num_data_workers", [1, 3])
@pytest.mark.usefixtures("two_threads")
def test_workers_make_the_same_clips(config: TrainConfig, num_data_workers: int) -> None:
    config = dataclasses.replace(config, gradient_accumulation_steps=2)
    alone = list(step_batches(config, 2, 1, 2, CPU))
    ahead = list(step_batches(dataclasses.replace(config, num_data_workers=num_data_workers), 2, 1, 2, CPU))
    assert [len(parts) for parts in ahead] == [2, 2, 2]
    flat = [[batch for parts in steps for batch in parts] for steps in (alone, ahead)]
    for one, other in zip(*flat, strict=True):
        assert (one.sample_ids, one.captions, one.fps) == (other.sample_ids, other.captions, other.fps)
        assert torch.equal(one.pixels, other.pixels)


def test_a_run_is_the_same_with_any_number_of_workers(codec_folder: Path, tmp_path: Path) -> None:
    for number in (0, 2):
        config = run_config("unet3d", codec_folder, num_steps=4, warmup_steps=0, num_data_workers=number)
        train(config, tmp_path / str(number), cpu=True)
    assert_same_end(tmp_path / "0", tmp_path / "2")


@dataclass(frozen=True)
class Broken:
    """Clips, one of which cannot be read."""

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        if 48 in sample_ids:
            raise OSError("clip 48 cannot be read")
        return CLIPS.batch(sample_ids, device)


@pytest.mark.parametrize("num_data_workers", [0, 2])
def test_an_error_of_the_source_arrives(config: TrainConfig, num_data_workers: int) -> None:
    config = dataclasses.replace(config, source=Broken(), num_data_workers=num_data_workers)
    batches = step_batches(config, 0, 0, 1, CPU)
    assert next(batches)[0].sample_ids == tuple(range(24))
    next(batches)
    with pytest.raises(OSError, match="clip 48 cannot be read"):
        next(batches)


@dataclass(frozen=True)
class Telling:
    """Clips, whose maker leaves its process id in the caption."""

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        batch = CLIPS.batch(sample_ids, device)
        return dataclasses.replace(batch, captions=(str(os.getpid()),) * len(sample_ids))


def test_workers_end_with_the_iterator(config: TrainConfig) -> None:
    batches = step_batches(dataclasses.replace(config, source=Telling(), num_data_workers=2), 0, 0, 1, CPU)
    workers = {int(next(batches)[0].captions[0]) for _ in range(2)}
    assert len(workers) == 2 and os.getpid() not in workers
    batches.close()
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
