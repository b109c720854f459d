"""The text encoder for open words: contract, what it reads, spelling, the same after saving."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.tiny_pipeline import make_pipeline
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.text.contract import PromptEncoder, PromptReport, ReportingEncoder
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import THING_SCALE, OpenTextEncoder

VOCABULARY = ["a", "red", "blue", "small", "circle", "star", "moves", "left", "right", "on", "black", "and"]
CLASSES = {
    "colour": ["red", "blue"],
    "size": ["small"],
    "motion": ["left", "right"],
    "background": ["black"],
}
PROMPTS = ["a red circle moves left", "", "blue star", "a zeppelin on black", "größe 左 🐑", "red " * 50]


def make_encoder(**config: int) -> OpenTextEncoder:
    torch.manual_seed(0)
    sizes = {"word_dim": 16, "num_buckets": 50, "ngram_dim": 8, "hidden_size": 32, "max_length": 12} | config
    return OpenTextEncoder(VOCABULARY, len(VOCABULARY), ["circle", "star"], CLASSES, **sizes).eval()


@pytest.fixture
def encoder() -> OpenTextEncoder:
    return make_encoder()


def test_contract(encoder: OpenTextEncoder) -> None:
    contract: PromptEncoder = encoder
    encoded = contract.encode(PROMPTS)
    assert contract.hidden_size == 32
    assert encoded.prompt_embeds.shape == (len(PROMPTS), 12, 32)
    assert encoded.attention_mask.sum(1).tolist() == [6, 1, 3, 5, 4, 12]
    assert isinstance(encoder, ReportingEncoder) and isinstance(TextEncoder(["a"]), ReportingEncoder)
    with pytest.raises(ValueError, match="use \\['a red'\\]"):
        encoder.encode("a red")


def test_alone_equals_in_a_batch() -> None:
    encoder = make_encoder().double()
    batch = encoder.encode(PROMPTS)
    for prompt, embeds, mask in zip(PROMPTS, batch.prompt_embeds, batch.attention_mask, strict=True):
        alone = encoder.encode([prompt])
        torch.testing.assert_close(alone.prompt_embeds[0], embeds, rtol=0, atol=1e-12)
        assert torch.equal(alone.attention_mask[0], mask)


def test_padding_has_no_influence() -> None:
    encoder = make_encoder().double()
    tokens = encoder.tokenizer.tokenize(["a red zeppelin", "blue " * 20])
    whole = encoder.encode_tokens(tokens)
    short = encoder.encode_tokens(tokens.only(torch.tensor([0])))
    assert short.prompt_embeds.shape[1] == 4
    torch.testing.assert_close(short.prompt_embeds[0], whole.prompt_embeds[0, :4], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        encoder.reader(short).things, encoder.reader(whole).things[:1], rtol=0, atol=1e-12
    )


def test_words_outside_the_table_differ_by_their_spelling(encoder: OpenTextEncoder) -> None:
    prompts = ["a zeppelin", "a dirigible", "a", "a red", "zeppelin a"]
    summaries = encoder.encode(prompts).prompt_embeds[:, 0]
    assert torch.pdist(summaries).min() > 1e-5
    assert torch.equal(
        encoder.encode(["a rde cirlce"]).prompt_embeds, encoder.encode(["a red circle"]).prompt_embeds
    )


def test_word_vectors_keep_their_direction(encoder: OpenTextEncoder) -> None:
    words, things = torch.randn(len(VOCABULARY), 16), torch.randn(2, 16)
    encoder.set_words(words, things)
    similarity = F.cosine_similarity(encoder.word_table[3:].float(), words)
    assert encoder.word_table.dtype == torch.int8 and similarity.min() > 0.999
    assert F.cosine_similarity(encoder.thing_table.float(), things).min() > 0.999


def test_save_and_load(encoder: OpenTextEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    loaded = OpenTextEncoder.from_pretrained(tmp_path)
    assert loaded.word_table.dtype == torch.int8
    assert torch.equal(loaded.encode(PROMPTS).prompt_embeds, encoder.encode(PROMPTS).prompt_embeds)
    assert loaded.read(PROMPTS) == encoder.read(PROMPTS)
    copied = copy.deepcopy(encoder)
    assert torch.equal(copied.encode(PROMPTS).prompt_embeds, encoder.encode(PROMPTS).prompt_embeds)


def test_half_precision_on_disk(encoder: OpenTextEncoder, tmp_path: Path) -> None:
    torch.nn.Module.to(copy.deepcopy(encoder), torch.float16).save_pretrained(tmp_path)
    loaded = OpenTextEncoder.from_pretrained(tmp_path, torch_dtype=torch.float32)
    assert loaded.word_table.dtype == torch.int8 and loaded.from_word.weight.dtype == torch.float32
    torch.testing.assert_close(
        loaded.encode(PROMPTS).prompt_embeds, encoder.encode(PROMPTS).prompt_embeds, rtol=0, atol=0.02
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_pipeline_loads_again(tmp_path: Path, dtype: torch.dtype) -> None:
    encoder = make_encoder(hidden_size=16)
    pipeline = make_pipeline(TextToVideoPipeline, text_encoder=encoder)
    pipeline.save_pretrained(tmp_path)
    loaded = load(tmp_path, dtype=dtype)
    assert isinstance(loaded.text_encoder, OpenTextEncoder)
    assert torch.equal(loaded.text_encoder.word_table, encoder.word_table)
    assert loaded.text_encoder.from_word.weight.dtype == dtype
    if dtype == torch.float32:
        assert torch.equal(
            loaded.text_encoder.encode(PROMPTS).prompt_embeds, encoder.encode(PROMPTS).prompt_embeds
        )


def test_a_tiny_one_learns_to_bind_and_to_name_what_it_does_not_know() -> None:
    encoder = make_encoder().train()
    encoder.set_words(*_distinct_vectors())
    colours, things, motions = ("red", "blue"), ("circle", "star"), ("left", "right")
    scenes = [
        ((c1, t1, m1), (c2, t2, m2))
        for c1 in colours for t1 in things for m1 in motions
        for c2 in colours for t2 in things for m2 in motions
    ]  # fmt: skip
    held_out = scenes[::5]
    trained = [scene for scene in scenes if scene not in held_out]
    optimizer = torch.optim.AdamW(encoder.parameters(), 3e-3)
    prompts = [_say(scene) for scene in trained]
    for _ in range(120):
        reading = encoder.reader(encoder.encode(prompts))
        logits = {"thing": encoder.thing_logits(reading.things), **reading.attributes}
        loss = F.cross_entropy(reading.count, torch.ones(len(trained), dtype=torch.int64))
        for name, place, values in (("colour", 0, colours), ("thing", 1, things), ("motion", 2, motions)):
            first = 0 if name == "thing" else 1
            wanted = torch.tensor(
                [[first + values.index(item[place]) for item in scene] for scene in trained]
            )
            loss = loss + F.cross_entropy(logits[name].flatten(0, 1), wanted.flatten())
            if name == "thing":
                loss = loss + 1 - (logits[name] / THING_SCALE).gather(-1, wanted[..., None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    read = encoder.eval().read([_say(scene) for scene in held_out])
    answers = [tuple((item.colour, item.thing, item.motion) for item in prompt.objects) for prompt in read]
    assert sum(answer == scene for answer, scene in zip(answers, held_out, strict=True)) >= 0.9 * len(
        held_out
    )
    known = encoder.report("a red circle moves left and a blue star moves right")
    assert known == PromptReport((), (), 0)
    strict = OpenTextEncoder(**{**encoder.config, "least_similarity": 1.1})
    strict.load_state_dict(encoder.state_dict())
    report = strict.eval().report("a red zeppelin moves left and a blue star moves right")
    assert report.unknown == ("zeppelin", "star")
    assert ("star", "star") in report.nearest


def _say(scene: tuple[tuple[str, str, str], ...]) -> str:
    return " and ".join(f"a {colour} {thing} moves {motion}" for colour, thing, motion in scene)


def _distinct_vectors() -> tuple[Tensor, Tensor]:
    words = torch.eye(16)[: len(VOCABULARY)]
    return words, words[[VOCABULARY.index("circle"), VOCABULARY.index("star")]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "multiple of `num_attention_heads`, got 32 and 5"),
        ({"max_length": 1}, "`max_length` must be at least 2"),
        ({"num_buckets": 0}, "`num_buckets` must be at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_encoder(**changes)


def test_a_vocabulary_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="each word once"):
        OpenTextEncoder(["a", "a"], 1, ["a"], CLASSES)
    with pytest.raises(ValueError, match="single normalised words, got 'a b'"):
        OpenTextEncoder(["a b"], 1, ["a"], CLASSES)
    with pytest.raises(ValueError, match="`classes` must be of colour, size, motion, background, got colour"):
        OpenTextEncoder(["a"], 1, ["a"], {"colour": ["red"]})
