"""A prepared dataset as an endless training stream of cached latents, captions and text embeddings."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from videogen.data.batch import Batch
from videogen.data.footage.framing import Bucket
from videogen.data.footage.store import LATENTS, MASK_SUFFIX, PIXELS, TEXT, read_index

_OPEN_SHARDS = 64


@dataclass(frozen=True)
class CachedClip:
    """A clip of a dataset.

    Attributes:
        source: Name of its video within the footage.
        caption: What it is said to show.
        start: When it begins in the video, in seconds.
        end: When it ends.
        bucket: Its shape in pixels.
        latents_key: Name of its latents.
        latents_shard: The file that holds them, within the folder of latents.
        text_key: Name of the embedding of its caption.
        text_shard: The file that holds it, within the folder of text.
        pixels_key: Name of its frames; "" where they were not kept.
        pixels_shard: The file that holds them, within the folder of pixels.
    """

    source: str
    caption: str
    start: float
    end: float
    bucket: Bucket
    latents_key: str
    latents_shard: str
    text_key: str
    text_shard: str
    pixels_key: str = ""
    pixels_shard: str = ""


@dataclass(frozen=True)
class FootageDataset:
    """What `videogen prepare` made of a folder of footage.

    Attributes:
        folder: Where it is.
        clips: All clips, in the order of their videos.
        fps: Frames per second of all clips.
        model: What the latents and embeddings were made with: `name`, the hashes `codec` and `text_encoder`
            of files, `dtype`, and, for a codec of ours, `codec_weights`, which is its `codec_hash`.
        fingerprint: A hash over clips and captions; another one is another dataset.
        unconditional_key: Name of the embedding of the empty caption.
        unconditional_shard: The file that holds it.
    """

    folder: Path
    clips: tuple[CachedClip, ...]
    fps: float
    model: dict[str, str]
    fingerprint: str
    unconditional_key: str
    unconditional_shard: str

    @property
    def buckets(self) -> dict[Bucket, list[int]]:
        """Indices of the clips of each shape; shapes in order."""
        buckets: dict[Bucket, list[int]] = {}
        for idx, clip in enumerate(self.clips):
            buckets.setdefault(clip.bucket, []).append(idx)
        return dict(sorted(buckets.items()))

    def latents(self, idx: int) -> Tensor:
        """Latents of a clip, `(C, f, h, w)` of unit variance, in the dtype they were made in."""
        clip = self.clips[idx]
        return _read(self.folder / LATENTS / clip.latents_shard, clip.latents_key)

    def frames(self, idx: int) -> Tensor:
        """Frames of a clip, `(F, H, W, 3)` uint8, where they were kept; see `check_pixels`."""
        clip = self.clips[idx]
        return _read(self.folder / PIXELS / clip.pixels_shard, clip.pixels_key)

    def check_pixels(self) -> None:
        """Raise ValueError unless the frames of all clips were kept."""
        without = [clip.source for clip in self.clips if not clip.pixels_key]
        if without:
            raise ValueError(
                f"`dataset` {str(self.folder)!r} has no pixels of {without[0]!r}: run the same "
                "`videogen prepare` again with `--pixels`"
            )

    def embedding(self, idx: int) -> tuple[Tensor, Tensor]:
        """Embedding `(L, D)` and mask `(L,)` of a clip's caption, in the dtype they were made in."""
        clip = self.clips[idx]
        return self._embedding(clip.text_shard, clip.text_key)

    def unconditional_embedding(self) -> tuple[Tensor, Tensor]:
        """Embedding `(L, D)` and mask `(L,)` of the empty caption, for caption dropout."""
        return self._embedding(self.unconditional_shard, self.unconditional_key)

    def _embedding(self, shard: str, key: str) -> tuple[Tensor, Tensor]:
        path = self.folder / TEXT / shard
        return _read(path, key), _read(path, key + MASK_SUFFIX)


def load_dataset(folder: str | Path) -> FootageDataset:
    """Open a dataset that `videogen prepare` wrote.

    Raises:
        ValueError: If the folder is not a dataset, or its index is damaged.
    """
    root = Path(folder)
    index = read_index(root)
    try:
        clips = tuple(_clip(entry) for entry in index["clips"])
        facts = json.dumps([[c.latents_key, c.text_key, c.caption] for c in clips])
        return FootageDataset(
            folder=root,
            clips=clips,
            fps=float(index["fps"]),
            model=dict(index["model"]),
            fingerprint=sha256(facts.encode()).hexdigest()[:16],
            unconditional_key=index["unconditional"]["key"],
            unconditional_shard=index["unconditional"]["shard"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the index of {root} is damaged ({error}): prepare the footage again") from error


def _clip(entry: dict[str, Any]) -> CachedClip:
    pixels = entry.get("pixels", {"key": "", "shard": ""})
    return CachedClip(
        source=entry["source"],
        caption=entry["caption"],
        start=entry["start"],
        end=entry["end"],
        bucket=Bucket(entry["num_frames"], entry["height"], entry["width"]),
        latents_key=entry["latents"]["key"],
        latents_shard=entry["latents"]["shard"],
        text_key=entry["text"]["key"],
        text_shard=entry["text"]["shard"],
        pixels_key=pixels["key"],
        pixels_shard=pixels["shard"],
    )


@dataclass(frozen=True)
class FootageClips:
    """The stream of a dataset's clips, as a `ClipSource`.

    Positions come in groups of `batch_size`, each from one bucket. An epoch is as many groups as fill up from
    the buckets, in random order; in it no clip comes twice. The clips of a bucket that do not fill a group
    wait, others in each epoch. All of it follows from `seed`, `batch_size` and the position, so any process
    may ask for any part of a group.

    Attributes:
        folder: Of the dataset.
        batch_size: Clips per optimizer step, over all processes.
        seed: Of the order.
        fingerprint: Of the dataset that is meant, so that a run does not go on with another one; "" for any.
        held_out: Videos none of whose clips come.
    """

    folder: str
    batch_size: int = 1
    seed: int = 0
    fingerprint: str = ""
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a dataset that cannot fill a batch, or is another one than it was."""
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {self.batch_size}")
        found = self.dataset.fingerprint
        if self.fingerprint not in ("", found):
            raise ValueError(
                f"`fingerprint` of the dataset {self.folder!r} is {found}, expected {self.fingerprint}: "
                "its clips or captions have changed"
            )
        if not self.num_batches:
            sizes = [len(members) for members in self.buckets.values()]
            raise ValueError(
                f"`batch_size` must be at most {max(sizes, default=0)}, the clips of the largest bucket of "
                f"{self.folder!r}, got {self.batch_size}"
            )

    @cached_property
    def dataset(self) -> FootageDataset:
        """What the clips are read from."""
        return load_dataset(self.folder)

    @cached_property
    def buckets(self) -> dict[Bucket, list[int]]:
        """Indices of the clips that come, of each shape; shapes in order."""
        left_out = set(self.held_out)
        return {
            bucket: [idx for idx in members if self.dataset.clips[idx].source not in left_out]
            for bucket, members in self.dataset.buckets.items()
        }

    @property
    def num_batches(self) -> int:
        """Groups of `batch_size` positions in an epoch."""
        return sum(len(members) // self.batch_size for members in self.buckets.values())

    @property
    def never_shown(self) -> dict[Bucket, int]:
        """Buckets with fewer clips than a group has, which never fill one, and how many clips they have."""
        sizes = {bucket: len(members) for bucket, members in self.buckets.items()}
        return {bucket: size for bucket, size in sizes.items() if 0 < size < self.batch_size}

    def clip_idx(self, sample_id: int) -> int:
        """Which clip of the dataset stands at a position of the stream."""
        group, place = divmod(sample_id, self.batch_size)
        epoch, batch_idx = divmod(group, self.num_batches)
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = self._order(epoch)
        return self._orders[epoch][batch_idx][place]

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Read the clips at these positions; see `ClipSource`.

        Raises:
            ValueError: If they are of several buckets, or the dataset has lost one of them.
        """
        dataset, model = self.dataset, self.dataset.model
        idxs = [self.clip_idx(sample_id) for sample_id in sample_ids]
        buckets = {dataset.clips[idx].bucket for idx in idxs}
        if len(buckets) != 1:
            raise ValueError(
                f"`sample_ids` must be of one group of {self.batch_size} positions, so that the clips have "
                f"one shape, got {', '.join(map(str, sorted(buckets))) or 'none'}"
            )
        embeddings = [dataset.embedding(idx) for idx in idxs]
        return Batch(
            tuple(sample_ids),
            None,
            tuple(dataset.clips[idx].caption for idx in idxs),
            dataset.fps,
            latents=torch.stack([dataset.latents(idx) for idx in idxs]).to(device, torch.float32),
            prompt_embeds=torch.stack([embeds for embeds, _ in embeddings]).to(device, torch.float32),
            attention_mask=torch.stack([mask for _, mask in embeddings]).to(device),
            # Hashes are of bfloat16 values, and float16 rounds otherwise.
            codec_hash=None if model.get("dtype") == "float16" else model.get("codec_weights"),
        )

    @cached_property
    def _orders(self) -> dict[int, list[list[int]]]:
        """The groups of the epoch that was asked for last."""
        return {}

    def _order(self, epoch: int) -> list[list[int]]:
        """The groups of an epoch, each a list of clips."""
        rng = Random(f"footage/{self.seed}/{epoch}")
        groups = []
        for members in self.buckets.values():
            shuffled = rng.sample(members, len(members))
            for start in range(0, len(members) - self.batch_size + 1, self.batch_size):
                groups.append(shuffled[start : start + self.batch_size])
        rng.shuffle(groups)
        return groups


def open_footage(
    folder: str | Path, batch_size: int, seed: int = 0, held_out: tuple[str, ...] = ()
) -> FootageClips:
    """The stream of a dataset, tied to what the dataset holds now; warns of clips that never come.

    Args:
        folder: Of the dataset.
        batch_size: See `FootageClips`, as for all that follow.
        seed: Of the order.
        held_out: Videos that are left out.

    Raises:
        ValueError: If the folder is not a dataset, or no bucket of it fills a batch.
    """
    clips = FootageClips(str(folder), batch_size, seed, load_dataset(folder).fingerprint, held_out)
    if clips.never_shown:
        shapes = ", ".join(f"{bucket} ({count} clips)" for bucket, count in clips.never_shown.items())
        warnings.warn(
            f"clips of these shapes are fewer than the batch of {batch_size} and never come: {shapes}",
            stacklevel=2,
        )
    return clips


@lru_cache(maxsize=_OPEN_SHARDS)
def _open_shard(path: Path) -> Any:
    return safe_open(path, framework="pt")


def _read(shard: Path, key: str) -> Tensor:
    try:
        tensor: Tensor = _open_shard(shard).get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{shard} does not give {key} ({error}): run the same `videogen prepare` again"
        ) from error
    return tensor
