"""CLIP and T5 behind the text contract, against transformers' own classes at a tiny size."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

from tests.tiny import CLIP_LENGTH, make_clip_text_model, write_clip_tokenizer
from videogen.text.contract import PromptEncoder
from videogen.text.pretrained import CLIPTextEncoder, T5TextEncoder

PROMPTS = ["a red cat", "", "a cat a cat"]
T5_LENGTH = 9


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    write_clip_tokenizer(tmp_path / "tokenizer")
    make_clip_text_model().save_pretrained(tmp_path / "text_encoder")
    return tmp_path


@pytest.fixture
def t5_folder(tmp_path: Path) -> Path:
    tokens = ["<pad>", "</s>", "<unk>", "▁", "▁a", "▁red", "▁cat", *"abcdert"]
    vocab = [(token, 0.0 if idx < 3 else -float(idx)) for idx, token in enumerate(tokens)]
    T5Tokenizer(vocab=vocab, extra_ids=0).save_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(tokens), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "text_encoder")
    return tmp_path


@torch.no_grad()
def test_clip_equals_transformers_with_padding_attended_to(clip_folder: Path) -> None:
    encoder: PromptEncoder = CLIPTextEncoder.from_pretrained(clip_folder, local_files_only=True)
    encoded = encoder.encode(PROMPTS)
    bos, eos, a, cat, red = 20, 21, 9, 17, 19
    rows = [[bos, a, red, cat, eos], [bos, eos], [bos, a, cat, a, cat, eos]]
    input_ids = torch.tensor([row + [0] * (CLIP_LENGTH - len(row)) for row in rows])
    reference = CLIPTextModel.from_pretrained(clip_folder / "text_encoder")
    assert torch.equal(encoded.prompt_embeds, reference(input_ids).last_hidden_state)
    assert encoded.prompt_embeds.shape == (3, CLIP_LENGTH, encoder.hidden_size)
    assert encoded.attention_mask.dtype == torch.bool
    assert encoded.attention_mask.shape == (3, CLIP_LENGTH)
    assert encoded.attention_mask.all()


@torch.no_grad()
def test_clip_pads_with_what_the_tokenizer_or_the_caller_says(clip_folder: Path, tmp_path: Path) -> None:
    by_zero = CLIPTextEncoder.from_pretrained(clip_folder)
    by_end = CLIPTextEncoder.from_pretrained(clip_folder, pad_token_id=21)
    write_clip_tokenizer(tmp_path / "other", pad_token="<|endoftext|>")
    other = CLIPTextEncoder.from_pretrained(clip_folder, tokenizer_subfolder="other")
    assert (by_zero.pad_token_id, by_end.pad_token_id, other.pad_token_id) == (0, 21, 21)
    embeds = by_zero.encode(["a red cat"]).prompt_embeds
    embeds_by_end = by_end.encode(["a red cat"]).prompt_embeds
    assert torch.equal(embeds_by_end, other.encode(["a red cat"]).prompt_embeds)
    # CLIP's attention is causal: padding changes itself, not the prompt before it.
    assert torch.equal(embeds[:, :5], embeds_by_end[:, :5])
    assert not torch.isclose(embeds[:, 5:], embeds_by_end[:, 5:]).all()
    overridden = CLIPTextEncoder(other.tokenizer, other.text_encoder, pad_token_id=0)
    assert torch.equal(overridden.encode(["a red cat"]).prompt_embeds, embeds)


@torch.no_grad()
def test_clip_weights_load_with_the_old_prefix(clip_folder: Path) -> None:
    expected = CLIPTextEncoder.from_pretrained(clip_folder).encode(PROMPTS).prompt_embeds
    weights_file = clip_folder / "text_encoder" / "model.safetensors"
    saved = load_file(weights_file)
    assert not any(key.startswith("text_model.") for key in saved)
    state_dict = {f"text_model.{key}": value for key, value in saved.items()}
    state_dict["text_model.embeddings.position_ids"] = torch.arange(CLIP_LENGTH)[None]
    save_file(state_dict, weights_file, metadata={"format": "pt"})
    assert torch.equal(CLIPTextEncoder.from_pretrained(clip_folder).encode(PROMPTS).prompt_embeds, expected)


def test_clip_refuses_a_pad_id_outside_the_vocabulary(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`pad_token_id` must be in \[0, 22\), got 49407"):
        CLIPTextEncoder.from_pretrained(clip_folder, pad_token_id=49407)


@torch.no_grad()
def test_t5_equals_transformers_without_padding(t5_folder: Path) -> None:
    encoder = T5TextEncoder.from_pretrained(t5_folder, local_files_only=True, max_length=T5_LENGTH)
    encoded = encoder.encode(PROMPTS)
    rows = [[4, 5, 6, 1], [1], [4, 6, 4, 6, 1]]
    assert encoder.hidden_size == 16
    assert encoded.prompt_embeds.shape == (3, T5_LENGTH, 16)
    assert encoded.attention_mask.tolist() == [[idx < len(row) for idx in range(T5_LENGTH)] for row in rows]
    reference = T5EncoderModel.from_pretrained(t5_folder / "text_encoder")
    for row, embeds in zip(rows, encoded.prompt_embeds, strict=True):
        expected = reference(torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(embeds[: len(row)], expected, rtol=0, atol=1e-5)


def test_t5_refuses_no_room(t5_folder: Path) -> None:
    with pytest.raises(ValueError, match="`max_length` must be positive, got 0"):
        T5TextEncoder.from_pretrained(t5_folder, max_length=0)


def test_what_is_cut_off_is_named(clip_folder: Path) -> None:
    encoder = CLIPTextEncoder.from_pretrained(clip_folder)
    with pytest.warns(UserWarning, match="reads 12 tokens, a prompt has 14: cut off from 'red cat' on"):
        encoded = encoder.encode(["a cat a cat a cat a cat a cat red cat"])
    assert torch.equal(encoded.prompt_embeds, encoder.encode(["a cat a cat a cat a cat a cat"]).prompt_embeds)


def test_alone_equals_in_a_batch(clip_folder: Path) -> None:
    encoder = CLIPTextEncoder.from_pretrained(clip_folder, dtype=torch.float64)
    batch = encoder.encode(PROMPTS).prompt_embeds
    for prompt, embeds in zip(PROMPTS, batch, strict=True):
        torch.testing.assert_close(encoder.encode([prompt]).prompt_embeds[0], embeds, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("prompts", "message"), [("a cat", "must be a sequence"), (["a \ud800 cat"], "must be valid Unicode")]
)
def test_what_is_no_list_of_texts_is_refused(clip_folder: Path, prompts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"`prompts` {message}"):
        CLIPTextEncoder.from_pretrained(clip_folder).encode(prompts)
