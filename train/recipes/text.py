"""Recipe of the text encoder for open words."""

from __future__ import annotations

from videogen.data.sentences.dataset import Sentences
from videogen.train.config import TrainConfig
from videogen.train.objectives.text import OpenTextObjectiveConfig

TEACHER = "all-minilm-l6-v2"
"""Folder of the sentence encoder; see `docs/research/text.md` for how to get it."""


def open_text() -> TrainConfig:
    """The encoder for the worlds `shapes` and `emoji`, some of their sentences in other languages."""
    sentences = Sentences(artwork="artwork", foreign_rate=0.12)
    return TrainConfig(
        name="open_text",
        objective=OpenTextObjectiveConfig(teacher=TEACHER, sentences=sentences),
        source=sentences,
        num_steps=1000,
        batch_size=128,
        learning_rate=3e-3,
        warmup_steps=30,
        decay_steps=600,
        ema_decay=0.99,
        checkpoint_every=100,
        preview_every=0,
        best_by="loss_meaning",
        mixed_precision="bf16",
    )
