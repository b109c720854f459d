"""The stream of a prepared dataset: every position has its clip, every epoch each clip at most once."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from videogen.data.footage.dataset import FootageClips, load_dataset, open_footage
from videogen.data.footage.framing import Bucket
from videogen.data.footage.store import LATENTS, MASK_SUFFIX, TEXT, ShardFolder, read_index, write_index

SHAPES = {Bucket(8, 16, 16): 11, Bucket(4, 16, 24): 7, Bucket(4, 8, 8): 2}


def make_dataset(folder: Path, shapes: dict[Bucket, int] = SHAPES) -> Path:
    """A dataset whose latents hold the number of their clip."""
    latents, text = ShardFolder(folder / LATENTS), ShardFolder(folder / TEXT)
    clips: list[dict[str, Any]] = []
    for bucket, count in shapes.items():
        for _ in range(count):
            idx = len(clips)
            size = (2, bucket.num_frames // 4, bucket.height // 8, bucket.width // 8)
            latents.add({f"latents{idx}": torch.full(size, float(idx), dtype=torch.bfloat16)})
            text.add(
                {
                    f"text{idx}": torch.full((5, 3), idx + 0.5),
                    f"text{idx}{MASK_SUFFIX}": torch.arange(5) <= idx,
                }
            )
            entry: dict[str, Any] = {
                "source": f"{idx}.mp4",
                "caption": f"clip {idx}",
                "start": 0.0,
                "end": 1.0,
            }
            entry |= {"num_frames": bucket.num_frames, "height": bucket.height, "width": bucket.width}
            entry["latents"] = {"key": f"latents{idx}", "shard": latents.shard_of[f"latents{idx}"]}
            entry["text"] = {"key": f"text{idx}", "shard": text.shard_of[f"text{idx}"]}
            clips.append(entry)
    index = {"videogen_dataset": 1, "fps": 8.0, "model": {"name": "m"}, "clips": clips}
    write_index(folder, index | {"unconditional": clips[0]["text"]})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset"))


def test_a_batch_holds_what_was_cached(folder: Path) -> None:
    source = FootageClips(str(folder), batch_size=3)
    idxs = [source.clip_idx(sample_id) for sample_id in (6, 7, 8)]
    batch = source.batch((6, 7, 8))
    assert batch.sample_ids == (6, 7, 8)
    assert batch.captions == tuple(f"clip {idx}" for idx in idxs)
    assert batch.fps == 8.0
    assert batch.latents is not None and batch.prompt_embeds is not None and batch.attention_mask is not None
    assert batch.latents.dtype == torch.float32
    assert batch.latents[:, 0, 0, 0, 0].tolist() == idxs
    assert batch.prompt_embeds[:, 0, 0].tolist() == [idx + 0.5 for idx in idxs]
    assert batch.attention_mask.sum(1).tolist() == [min(idx + 1, 5) for idx in idxs]
    with pytest.raises(ValueError, match="cached latents without pixels"):
        _ = batch.pixels


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_no_clip_comes_twice_in_an_epoch_and_every_group_has_one_shape(folder: Path, batch_size: int) -> None:
    source = FootageClips(str(folder), batch_size, seed=3)
    dataset = source.dataset
    assert source.num_batches == 11 // batch_size + 7 // batch_size + 2 // batch_size
    seen: Counter[int] = Counter()
    for epoch in range(40):
        positions = range(
            epoch * source.num_batches * batch_size, (epoch + 1) * source.num_batches * batch_size
        )
        idxs = [source.clip_idx(position) for position in positions]
        assert len(set(idxs)) == len(idxs)
        for start in range(0, len(idxs), batch_size):
            assert len({dataset.clips[idx].bucket for idx in idxs[start : start + batch_size]}) == 1
        seen.update(idxs)
    waiting = {idx for bucket in source.never_shown for idx in dataset.buckets[bucket]}
    assert seen.keys() == set(range(20)) - waiting
    assert min(seen.values()) > 15  # those that wait in one epoch come in others


def test_any_part_of_a_group_in_any_order_gives_the_same_clips(folder: Path) -> None:
    source = FootageClips(str(folder), batch_size=4, seed=1)
    whole = [source.clip_idx(position) for position in range(100)]
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - as a worker process gets it
    assert [again.clip_idx(position) for position in reversed(range(100))] == whole[::-1]
    halves = [source.batch(range(start, start + 2)).captions for start in (96, 98)]
    assert (*halves[0], *halves[1]) == source.batch(range(96, 100)).captions
    other_seed = FootageClips(str(folder), batch_size=4, seed=2)
    assert [other_seed.clip_idx(position) for position in range(100)] != whole


def test_epochs_differ(folder: Path) -> None:
    source = FootageClips(str(folder), batch_size=1)
    first, second = ([source.clip_idx(20 * epoch + place) for place in range(20)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_a_batch_across_groups_is_refused(folder: Path) -> None:
    source = FootageClips(str(folder), batch_size=2)
    with pytest.raises(ValueError, match="`sample_ids` must be of one group of 2 positions"):
        source.batch(range(2 * source.num_batches))


def test_clips_that_never_come_are_warned_about(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"never come: 4 x 8x8 \(2 clips\)"):
        source = open_footage(folder, batch_size=3)
    assert source.never_shown == {Bucket(4, 8, 8): 2}


def test_a_batch_no_bucket_can_fill_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`batch_size` must be at most 11.*got 12"):
        FootageClips(str(folder), batch_size=12)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        FootageClips(str(folder), batch_size=0)


def test_another_dataset_than_the_one_that_was_meant_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    source = open_footage(tmp_path, batch_size=2)
    assert replace(source, seed=5).fingerprint == source.fingerprint
    index = read_index(tmp_path)
    index["clips"][3]["caption"] = "another caption"
    write_index(tmp_path, index)
    with pytest.raises(ValueError, match="its clips or captions have changed"):
        replace(source, seed=6)


def test_what_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        load_dataset(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"there is no dataset.json; an interrupted one is finished"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset.json cannot be read: .*: prepare the footage again"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"videogen_dataset": 2}')
    with pytest.raises(ValueError, match="has version 2, this videogen reads 1"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"videogen_dataset": 1, "clips": []}')
    with pytest.raises(ValueError, match="is damaged"):
        load_dataset(tmp_path)


def test_a_lost_shard_is_named(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    for shard in (tmp_path / "latents").iterdir():
        shard.unlink()
    with pytest.raises(ValueError, match="run the same `videogen prepare` again"):
        FootageClips(str(tmp_path)).batch([0])
