"""Our text encoder: what depends on what, and that it is the same after saving."""

import copy
from pathlib import Path

import pytest
import torch

from videogen.text.contract import PromptEncoder
from videogen.text.encoder import TextEncoder

VOCABULARY = ["a", "red", "green", "circle", "square", "moves", "left", "on", "white", "左", "🐑"]
PROMPTS = ["a red circle moves left", "", "green square", "a 🐑 on white", "unknown words only", "red " * 50]


def make_encoder(seed: int = 0, **config: int) -> TextEncoder:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 4, "max_length": 10} | config
    return TextEncoder(VOCABULARY, **sizes).eval()


@pytest.fixture
def encoder() -> TextEncoder:
    return make_encoder()


def test_contract(encoder: TextEncoder) -> None:
    contract: PromptEncoder = encoder
    encoded = contract.encode(PROMPTS)
    assert contract.hidden_size == 32
    assert encoded.prompt_embeds.shape == (len(PROMPTS), 10, 32)
    assert encoded.prompt_embeds.dtype == torch.float32
    assert encoded.attention_mask.dtype == torch.bool
    assert encoded.attention_mask.sum(1).tolist() == [6, 1, 3, 5, 4, 10]


def test_same_prompt_same_embeddings(encoder: TextEncoder) -> None:
    assert torch.equal(encoder.encode(PROMPTS).prompt_embeds, encoder.encode(PROMPTS).prompt_embeds)


def test_alone_equals_in_a_batch() -> None:
    encoder = make_encoder().double()
    batch = encoder.encode(PROMPTS)
    for prompt, embeds, mask in zip(PROMPTS, batch.prompt_embeds, batch.attention_mask, strict=True):
        alone = encoder.encode([prompt])
        torch.testing.assert_close(alone.prompt_embeds[0], embeds, rtol=0, atol=1e-12)
        assert torch.equal(alone.attention_mask[0], mask)


def test_padding_has_no_influence() -> None:
    encoder = make_encoder().double()
    tokens = encoder.tokenizer.tokenize(["a red circle"])
    embeds = encoder(tokens.input_ids, tokens.attention_mask).prompt_embeds[:, :4]
    unpadded = encoder(tokens.input_ids[:, :4], tokens.attention_mask[:, :4]).prompt_embeds
    torch.testing.assert_close(unpadded, embeds, rtol=0, atol=1e-12)
    other_padding = tokens.input_ids.masked_fill(~tokens.attention_mask, 5)
    repadded = encoder(other_padding, tokens.attention_mask).prompt_embeds[:, :4]
    torch.testing.assert_close(repadded, embeds, rtol=0, atol=1e-12)


def test_summary_sees_every_word_and_its_place(encoder: TextEncoder) -> None:
    prompts = ["red circle green square", "green circle red square", "red circle", ""]
    summaries = encoder.encode(prompts).prompt_embeds[:, 0]
    assert torch.pdist(summaries).min() > 1e-5  # small at first: the blocks start near zero


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_runs_in_the_dtype_of_its_parameters(encoder: TextEncoder, dtype: torch.dtype) -> None:
    reference = encoder.encode(PROMPTS).prompt_embeds
    encoder.to(dtype)  # type: ignore[arg-type]  # diffusers' wrapper loses `self` for type checkers
    prompt_embeds = encoder.encode(PROMPTS).prompt_embeds
    assert prompt_embeds.dtype == dtype
    torch.testing.assert_close(prompt_embeds.float(), reference, rtol=0, atol=0.1)


def test_a_new_encoder_is_near_unit_variance() -> None:
    prompt_embeds = make_encoder(hidden_size=256).encode(PROMPTS).prompt_embeds
    assert prompt_embeds.std().item() == pytest.approx(1, abs=0.05)


def test_gradients_reach_every_parameter(encoder: TextEncoder) -> None:
    encoded = encoder.encode(PROMPTS)
    encoded.prompt_embeds[encoded.attention_mask].pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_save_and_load(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    loaded = TextEncoder.from_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert loaded.config.vocabulary == VOCABULARY
    assert loaded.tokenizer.report("gren dinosaur") == encoder.tokenizer.report("gren dinosaur")
    assert torch.equal(loaded.encode(PROMPTS).prompt_embeds, encoder.encode(PROMPTS).prompt_embeds)


def test_can_be_copied(encoder: TextEncoder) -> None:
    copied = copy.deepcopy(encoder)
    assert torch.equal(copied.encode(PROMPTS).prompt_embeds, encoder.encode(PROMPTS).prompt_embeds)


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(ValueError, match="multiple of `num_attention_heads`, got 32 and 5"):
        make_encoder(num_attention_heads=5)
