"""What captions become: cached or encoded now, kept or dropped, with words that are new."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.finetune.tiny_models import KNOWN, NEW, batch_of, record, some_steps
from videogen.data.batch import Batch
from videogen.pipelines.loading import load
from videogen.train.objectives.finetune import FinetuneObjective


def without_cache(objective: FinetuneObjective, batch: Batch) -> Batch:
    """The same clips as captions and as pixels, which are what the codec makes of the latents."""
    pixels = objective.pipeline().codec.decode(batch.latents)  # type: ignore[arg-type]
    return Batch(batch.sample_ids, pixels, batch.captions, batch.fps)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "clip"])
@pytest.mark.parametrize("caption_dropout", [0.0, 0.5, 1.0])
def test_cached_text_is_what_the_text_encoder_gives(make: Any, kind: str, caption_dropout: float) -> None:
    objective = make(kind, caption_dropout=caption_dropout).eval()
    calls = record(objective)
    batch = batch_of(objective)
    objective(batch, "train")
    objective(dataclasses.replace(batch, prompt_embeds=None, attention_mask=None), "train")
    objective.dataset = None
    objective(batch, "train")
    for call in calls[1:]:
        assert torch.equal(call["mask"], calls[0]["mask"])
        torch.testing.assert_close(call["text"], calls[0]["text"])
        torch.testing.assert_close(call["pred"], calls[0]["pred"])
    empty = objective.pipeline().prompt_encoder.encode([""]).prompt_embeds[0]
    dropped = [torch.allclose(row, empty, atol=1e-5) for row in calls[0]["text"]]
    if caption_dropout != 0.5:
        assert dropped == [caption_dropout == 1] * 4


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "clip"])
def test_clips_as_pixels(make: Any, kind: str) -> None:
    objective = make(kind).eval()
    batch = without_cache(objective, batch_of(objective))
    latents = objective.pipeline().codec.encode(batch.pixels)
    same = dataclasses.replace(batch, latents=latents)
    assert torch.equal(objective(batch, "train")["loss"], objective(same, "train")["loss"])


def test_words_that_are_new(make: Any) -> None:
    assert make("flow").new_words == () == make("clip").new_words
    objective = make("flow", "new")
    assert objective.new_words == ("cat", "dog", "running", "sleeping")
    calls = record(objective)
    with torch.no_grad():
        objective(batch_of(objective), "train")
    assert torch.pdist(calls[0]["text"].flatten(1)).min() > 1  # before training they are told apart
    words = load(objective.settings.model).text_encoder.encode(KNOWN)
    assert torch.equal(objective.pipeline().text_encoder.encode(KNOWN).prompt_embeds, words.prompt_embeds)


def test_words_are_learned(make: Any, tmp_path: Path) -> None:
    objective = make("flow", "new", lora_rank=2)
    start = objective.learned_words.detach().clone()
    some_steps(objective)
    assert (objective.learned_words - start).abs().sum(1).min() > 0.01
    objective.save(tmp_path)
    loaded = load(objective.settings.model, loras=[tmp_path]).text_encoder
    expected = objective.pipeline().text_encoder.encode(NEW).prompt_embeds
    assert torch.equal(loaded.encode(NEW).prompt_embeds, expected)
    assert torch.equal(expected, objective._encode_captions(list(NEW)).prompt_embeds)
