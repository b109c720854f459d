"""Recipes of the text encoder for open words."""

from __future__ import annotations

from dataclasses import replace

from videogen.data.sentences.dataset import Sentences
from videogen.train.config import TrainConfig
from videogen.train.objectives.text import OpenTextObjectiveConfig

TEACHER = "all-minilm-l6-v2"
"""Folder of the sentence encoder; see `docs/research/text.md` for how to get it."""


def open_text() -> TrainConfig:
    """The encoder for the worlds `shapes` and `emoji`, in a quarter of an hour of one thread."""
    sentences = Sentences(artwork="artwork")
    return TrainConfig(
        name="open_text",
        objective=OpenTextObjectiveConfig(teacher=TEACHER, sentences=sentences),
        source=sentences,
        num_steps=520,
        batch_size=128,
        learning_rate=3e-3,
        warmup_steps=30,
        decay_steps=320,
        ema_decay=0.99,
        checkpoint_every=100,
        preview_every=0,
        best_by="loss_meaning",
        mixed_precision="bf16",
    )


def open_text_languages() -> TrainConfig:
    """The same, trained on with some of the sentences in other languages."""
    before = open_text()
    sentences = Sentences(artwork="artwork", seed=1, foreign_rate=0.12)
    return replace(
        before,
        name="open_text_languages",
        objective=OpenTextObjectiveConfig(
            teacher=TEACHER, sentences=sentences, init_from=f"runs/{before.name}/result", seed=1
        ),
        source=sentences,
        num_steps=180,
        warmup_steps=10,
        decay_steps=130,
        checkpoint_every=30,
    )
