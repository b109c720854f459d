"""More words for the text encoder: old prompts are untouched, and what was learned is found again."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.tiny import randomise
from videogen.text.encoder import TextEncoder
from videogen.text.words import WORDS_NAME, add_words, read_words, save_words

VOCABULARY = ["a", "red", "circle", "moves", "left"]
PROMPTS = ["a red circle moves left", "", "red", "left circle moves"]


@pytest.fixture
def encoder() -> TextEncoder:
    made = TextEncoder(VOCABULARY, hidden_size=16, num_layers=2, num_attention_heads=2, max_length=8)
    randomise(made)
    return made.eval()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prompts_of_known_words_give_exactly_the_same(encoder: TextEncoder, dtype: torch.dtype) -> None:
    nn.Module.to(encoder, dtype)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    wider = encoder.with_words(["dog", "runs", "犬"])
    assert wider.config["vocabulary"] == [*VOCABULARY, "dog", "runs", "犬"]
    expected, got = encoder.encode(PROMPTS), wider.encode(PROMPTS)
    assert torch.equal(got.prompt_embeds, expected.prompt_embeds) and got.prompt_embeds.dtype == dtype
    assert torch.equal(got.attention_mask, expected.attention_mask)
    wider.token_embedding.weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not wider.training


@torch.no_grad()
def test_new_words_are_told_apart_from_the_start(encoder: TextEncoder) -> None:
    words = ["dog", "cat", "runs", "sleeps"]
    prompts = [f"a {word}" for word in [*words, "red", "circle"]]
    unknown = encoder.encode(prompts[:4]).prompt_embeds
    assert torch.equal(unknown[:1].expand_as(unknown), unknown)
    embeds = encoder.with_words(words).encode(prompts).prompt_embeds[:, 2]
    apart = torch.cdist(embeds, embeds) + 100 * torch.eye(6)
    assert apart.min() > 0.3 * apart[4, 5]


def test_a_new_word_starts_by_its_spelling_alone(encoder: TextEncoder) -> None:
    torch.manual_seed(1)
    one = encoder.with_words(["dog", "cat"]).token_embedding.weight[-2:]
    torch.manual_seed(2)
    other = encoder.with_words(["cat", "runs", "dog"]).token_embedding.weight[-3:]
    assert torch.equal(one[0], other[2]) and torch.equal(one[1], other[0])


def test_new_words_are_as_large_as_known_ones(encoder: TextEncoder) -> None:
    with torch.no_grad():
        encoder.token_embedding.weight.mul_(7)
    new = encoder.with_words([f"word{number}" for number in range(50)]).token_embedding.weight[-50:]
    torch.testing.assert_close(new.std(), encoder.token_embedding.weight.std(), rtol=0.1, atol=0)


@pytest.mark.parametrize("words", [["red"], ["dog", "dog"], ["Dog"], ["two words"], [""]])
def test_words_that_cannot_be_new_are_refused(encoder: TextEncoder, words: list[str]) -> None:
    with pytest.raises(ValueError, match="`vocabulary` must hold"):
        encoder.with_words(words)


def test_a_wider_encoder_is_saved_and_loaded(encoder: TextEncoder, tmp_path: Path) -> None:
    wider = encoder.with_words(["dog"])
    wider.save_pretrained(tmp_path)
    loaded = TextEncoder.from_pretrained(tmp_path)
    prompts = ["a red dog", *PROMPTS]
    assert torch.equal(loaded.encode(prompts).prompt_embeds, wider.encode(prompts).prompt_embeds)


@torch.no_grad()
def test_words_are_written_and_put_into_another_encoder(encoder: TextEncoder, tmp_path: Path) -> None:
    learned = encoder.with_words(["dog", "犬"])
    learned.token_embedding.weight[-2:].normal_(generator=torch.Generator().manual_seed(0))
    rows = learned.token_embedding.weight[-2:]
    path = save_words({"dog": rows[0], "犬": rows[1]}, tmp_path)
    assert path == tmp_path / WORDS_NAME and [p.name for p in tmp_path.iterdir()] == [WORDS_NAME]
    again = add_words(encoder, read_words(tmp_path), tmp_path)
    prompts = ["a red dog moves", "犬", *PROMPTS]
    assert torch.equal(again.encode(prompts).prompt_embeds, learned.encode(prompts).prompt_embeds)
    assert encoder.config["vocabulary"] == VOCABULARY


@torch.no_grad()
def test_a_known_word_gets_the_new_embedding(encoder: TextEncoder, tmp_path: Path) -> None:
    wider = add_words(encoder, {"red": torch.ones(16), "dog": torch.zeros(16)}, tmp_path)
    assert wider.config["vocabulary"] == [*VOCABULARY, "dog"]
    assert (wider.token_embedding.weight[4] == 1).all() and (wider.token_embedding.weight[-1] == 0).all()
    assert not (encoder.token_embedding.weight[4] == 1).any()


def write(folder: Path, tensors: dict[str, torch.Tensor], version: str | None = "1") -> None:
    save_file(tensors, folder / WORDS_NAME, None if version is None else {"videogen_words": version})


def test_bad_files_are_named(tmp_path: Path) -> None:
    named = str(tmp_path / WORDS_NAME)
    with pytest.raises(ValueError, match=f"{named} cannot be read"):
        read_words(tmp_path)
    good = {"dog": torch.ones(16)}
    for version in ("2", None):
        write(tmp_path, good, version)
        with pytest.raises(ValueError, match=rf"{named} must be a file of words of version 1, .* {version}"):
            read_words(tmp_path)
    for bad in ({"Dog": torch.ones(16)}, {"dog": torch.ones(2, 16)}, {"dog": torch.full((16,), torch.nan)}):
        write(tmp_path, bad)
        with pytest.raises(ValueError, match=f"{named} must hold one finite vector for each word, got '"):
            read_words(tmp_path)
    write(tmp_path, good)
    assert torch.equal(read_words(tmp_path)["dog"], good["dog"])
    (tmp_path / WORDS_NAME).write_bytes((tmp_path / WORDS_NAME).read_bytes()[:-3])
    with pytest.raises(ValueError, match=f"{named} cannot be read"):
        read_words(tmp_path)


def test_words_of_another_encoder(encoder: TextEncoder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"made for another text encoder: its words have 8 numbers, .* 16"):
        add_words(encoder, {"dog": torch.ones(8)}, tmp_path)
    with pytest.raises(ValueError, match="videogen's own text encoder, which this model has not"):
        add_words(nn.Linear(2, 2), {"dog": torch.ones(16)}, tmp_path)
