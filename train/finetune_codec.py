"""From a prepared dataset and a model to the run that fine-tunes the model's codec, as a `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from videogen.data.footage.dataset import FootageDataset, load_dataset, open_footage
from videogen.train.config import TrainConfig
from videogen.train.finetune import FootagePixels, steps_between_previews, usual_batch_size
from videogen.train.objectives.codec_finetune import CodecFinetuneObjectiveConfig


@dataclass(frozen=True)
class CodecFinetuneSettings:
    """What a user decides about fine-tuning a codec; fields that `TrainConfig` has too mean the same there.

    Attributes:
        model: Folder or hub id; None for the embedded model.
        num_steps: Optimizer steps.
        batch_size: Clips per step; None for `usual_batch_size`.
        learning_rate: At its height.
        held_out: Share of the videos that is measured on and not trained on.
        gradient_accumulation_steps: Parts of a batch.
        mixed_precision: `no` or `bf16`.
        validate_every: Steps between measurements, 0 for none, None for a quarter of the run.
        checkpoint_every: Steps.
        num_data_workers: Processes that read clips.
        seed: Of everything random.
    """

    model: str | None = None
    num_steps: int = 500
    batch_size: int | None = None
    learning_rate: float = 1e-3
    held_out: float = 0.1
    gradient_accumulation_steps: int = 1
    mixed_precision: str = "no"
    validate_every: int | None = None
    checkpoint_every: int = 100
    num_data_workers: int = 0
    seed: int = 0


def codec_finetune_config(folder: str | Path, settings: CodecFinetuneSettings) -> TrainConfig:
    """The run that fine-tunes a model's codec on the dataset in `folder`.

    Raises:
        ValueError: If a setting is wrong, the dataset is none or has no pixels, or no bucket fills a batch.
    """
    if settings.num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {settings.num_steps}")
    dataset = load_dataset(folder)
    dataset.check_pixels()
    held_out = held_out_videos(dataset, settings.held_out, settings.seed)
    batch_size = settings.batch_size
    if batch_size is None:
        batch_size = usual_batch_size(dataset, held_out)
    clips = open_footage(folder, batch_size, settings.seed, held_out)
    warmup = settings.num_steps // 20
    return TrainConfig(
        name="finetune-codec",
        objective=CodecFinetuneObjectiveConfig(
            dataset=str(folder), held_out=held_out, model=settings.model, seed=settings.seed
        ),
        source=FootagePixels(clips),
        num_steps=settings.num_steps,
        batch_size=batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=warmup,
        decay_steps=settings.num_steps - warmup,
        lr_schedule="cosine",
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        ema_decay=0.99,
        seed=settings.seed,
        checkpoint_every=settings.checkpoint_every,
        preview_every=steps_between_previews(settings.validate_every, settings.num_steps),
        mixed_precision=settings.mixed_precision,
        num_data_workers=settings.num_data_workers,
    )


def held_out_videos(dataset: FootageDataset, share: float, seed: int) -> tuple[str, ...]:
    """A share of the videos of a dataset, at least one unless it is 0, drawn at random; in order.

    Raises:
        ValueError: If `share` is not in [0, 1), or leaves no video to train on.
    """
    videos = sorted({clip.source for clip in dataset.clips})
    count = max(1, round(share * len(videos))) if share > 0 else 0
    if not 0 <= share < 1 or count >= len(videos):
        raise ValueError(
            f"`held_out` must be at least 0, and leave one of {len(videos)} videos to train on, got {share}"
        )
    return tuple(sorted(Random(f"held out/{seed}").sample(videos, count)))
