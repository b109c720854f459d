"""From a prepared dataset and a model to the run that fine-tunes it, as a `TrainConfig`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from videogen.codec.pixels import frames_to_pixels
from videogen.data.batch import Batch
from videogen.data.footage.dataset import FootageClips, FootageDataset, load_dataset, open_footage
from videogen.train.config import TrainConfig
from videogen.train.objectives.finetune import FinetuneObjectiveConfig

LORA_LEARNING_RATE, FULL_LEARNING_RATE = 1e-3, 2e-4
BATCH_SIZE = 8
NUM_VALIDATION_PROMPTS = 4


@dataclass(frozen=True)
class FinetuneSettings:
    """What a user decides about a fine-tuning; the fields that `TrainConfig` and the objective have too mean
    the same there.

    Attributes:
        model: Folder or hub id; None for the embedded model.
        lora_rank: Of the adapters; None to train all weights.
        num_steps: Optimizer steps.
        batch_size: Clips per step; None for `usual_batch_size`.
        optimizer: `muon` or `adamw`.
        learning_rate: None for `LORA_LEARNING_RATE` or `FULL_LEARNING_RATE`.
        lr_schedule: `linear`, `cosine` or `constant`.
        warmup_steps: None for a 20th of the run.
        ema_decay: Of the averaged weights.
        gradient_accumulation_steps: Parts of a batch.
        gradient_checkpointing: Less memory for more time.
        mixed_precision: `no` or `bf16`.
        caption_dropout: Share of clips without caption.
        prediction_type: None for the model's own.
        snr_gamma: Of min-SNR weights, None for none.
        zero_terminal_snr: Whether the noise schedule ends in pure noise.
        offset_noise: Deviation of the noise that a clip and channel shares.
        noise_prior: How frames share noise.
        condition_rate: Share of clips of which pixels are known; above 0 the dataset must have pixels.
        train_text: Whether the text encoder is trained even where no word is new to it.
        validation_prompts: Made into clips; None for some captions of the dataset.
        validate_every: Steps between them, 0 for none, None for a quarter of the run.
        checkpoint_every: Steps.
        num_data_workers: Processes that read clips.
        seed: Of everything random.
    """

    model: str | None = None
    lora_rank: int | None = 16
    num_steps: int = 500
    batch_size: int | None = None
    learning_rate: float | None = None
    lr_schedule: str = "cosine"
    warmup_steps: int | None = None
    ema_decay: float = 0.99
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    mixed_precision: str = "no"
    caption_dropout: float = 0.1
    prediction_type: str | None = None
    snr_gamma: float | None = None
    zero_terminal_snr: bool = False
    offset_noise: float = 0.0
    noise_prior: str = "independent"
    condition_rate: float = 0.0
    train_text: bool = False
    validation_prompts: tuple[str, ...] | None = None
    validate_every: int | None = None
    checkpoint_every: int = 100
    num_data_workers: int = 0
    seed: int = 0
    optimizer: str = "muon"


@dataclass(frozen=True)
class FootagePixels:
    """The stream of a dataset's clips with their pixels, as a `ClipSource`.

    Attributes:
        clips: The stream; its dataset must have pixels.
    """

    clips: FootageClips

    def batch(self, sample_ids: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """Read the clips at these positions; see `ClipSource`.

        Raises:
            ValueError: If they are of several buckets, or the dataset lacks one of them or its pixels.
        """
        dataset, idxs = self.clips.dataset, map(self.clips.clip_idx, sample_ids)
        frames = torch.stack([dataset.frames(idx) for idx in idxs])
        pixels = frames_to_pixels(frames.to(device))
        return dataclasses.replace(self.clips.batch(sample_ids, device), pixels_or_none=pixels)


def finetune_config(folder: str | Path, settings: FinetuneSettings) -> tuple[TrainConfig, FootageClips]:
    """The run that fine-tunes a model on the dataset in `folder`, and its clips.

    Raises:
        ValueError: If a setting is wrong, the dataset is none, was prepared with another model or lacks the
            pixels that conditions need, or no bucket of it fills a batch.
    """
    if settings.num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {settings.num_steps}")
    warmup = settings.num_steps // 20 if settings.warmup_steps is None else settings.warmup_steps
    if not 0 <= warmup <= settings.num_steps:
        raise ValueError(
            f"`warmup_steps` must be between 0 and the {settings.num_steps} steps of the run, got {warmup}"
        )
    preview_every = steps_between_previews(settings.validate_every, settings.num_steps)
    batch_size = settings.batch_size
    if batch_size is None:
        batch_size = usual_batch_size(load_dataset(folder))
    source = open_footage(folder, batch_size, settings.seed)
    if settings.condition_rate:
        source.dataset.check_pixels()
    default_rate = FULL_LEARNING_RATE if settings.lora_rank is None else LORA_LEARNING_RATE
    prompts = settings.validation_prompts
    config = TrainConfig(
        name="finetune",
        objective=FinetuneObjectiveConfig(
            model=settings.model,
            dataset=str(folder),
            lora_rank=settings.lora_rank,
            prediction_type=settings.prediction_type,
            snr_gamma=settings.snr_gamma,
            zero_terminal_snr=settings.zero_terminal_snr,
            offset_noise=settings.offset_noise,
            noise_prior=settings.noise_prior,
            condition_rate=settings.condition_rate,
            train_text=settings.train_text,
            caption_dropout=settings.caption_dropout,
            gradient_checkpointing=settings.gradient_checkpointing,
            validation_prompts=some_captions(source.dataset) if prompts is None else prompts,
            seed=settings.seed,
        ),
        source=FootagePixels(source) if settings.condition_rate else source,
        num_steps=settings.num_steps,
        batch_size=batch_size,
        learning_rate=default_rate if settings.learning_rate is None else settings.learning_rate,
        warmup_steps=warmup,
        decay_steps=0 if settings.lr_schedule == "constant" else settings.num_steps - warmup,
        lr_schedule=settings.lr_schedule,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        ema_decay=settings.ema_decay,
        seed=settings.seed,
        checkpoint_every=settings.checkpoint_every,
        preview_every=preview_every,
        mixed_precision=settings.mixed_precision,
        num_data_workers=settings.num_data_workers,
        optimizer=settings.optimizer,
    )
    return config, source


def some_captions(dataset: FootageDataset, count: int = NUM_VALIDATION_PROMPTS) -> tuple[str, ...]:
    """Up to `count` different captions, spread over the dataset."""
    captions: Sequence[str] = sorted({clip.caption for clip in dataset.clips})
    step = max(1, len(captions) // count)
    return tuple(captions[::step][:count])


def usual_batch_size(dataset: FootageDataset, held_out: Sequence[str] = ()) -> int:
    """`BATCH_SIZE`, or all clips of the largest bucket where they are fewer; those held out do not count."""
    sizes = [
        sum(dataset.clips[idx].source not in held_out for idx in members)
        for members in dataset.buckets.values()
    ]
    return max(1, min(BATCH_SIZE, max(sizes, default=1)))


def steps_between_previews(validate_every: int | None, num_steps: int) -> int:
    """A quarter of the run if nothing is said; 0 for no previews."""
    if validate_every is not None and validate_every < 0:
        raise ValueError(f"`validate_every` must be at least 0, got {validate_every}")
    return max(1, num_steps // 4) if validate_every is None else validate_every
