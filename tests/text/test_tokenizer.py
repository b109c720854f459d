"""The word tokenizer: what it reads, what it corrects, and that no string upsets it."""

import random

import pytest
import torch

from videogen.text.open_tokenizer import OpenTokenizer
from videogen.text.tokenizer import BOS_ID, PAD_ID, UNK_ID, PromptReport, WordTokenizer, split_words

VOCABULARY = ["a", "red", "green", "purple", "large", "circle", "square", "ring", "moves", "white"]
VOCABULARY += ["左", "🐑", "über"]
MAX_LENGTH = 8


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer(VOCABULARY, MAX_LENGTH)


def read(tokenizer: WordTokenizer, prompt: str) -> list[int]:
    tokens = tokenizer.tokenize([prompt])
    return tokens.input_ids[tokens.attention_mask].tolist()


def ids(*words: str) -> list[int]:
    return [BOS_ID, *(VOCABULARY.index(word) + 3 if word in VOCABULARY else UNK_ID for word in words)]


def test_ids_follow_the_vocabulary_after_the_special_ones(tokenizer: WordTokenizer) -> None:
    tokens = tokenizer.tokenize(["a red circle", ""])
    assert tokens.input_ids.tolist() == [[1, 3, 4, 8, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert tokens.attention_mask.tolist() == [[True] * 4 + [False] * 4, [True] + [False] * 7]
    assert (tokens.input_ids.dtype, tokens.attention_mask.dtype) == (torch.int64, torch.bool)
    assert tokenizer.vocab_size == len(VOCABULARY) + 3


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A RED  circle!", ["a", "red", "circle"]),
        ("red-green_white", ["red", "green", "white"]),
        ("\uff32\uff25\uff24", ["red"]),  # full width
        ("U\u0308BER", ["über"]),  # decomposed
        ("cir\u00adcle", ["circle"]),  # soft hyphen
        ("🐑🐑🏽red", ["🐑", "🐑", "red"]),
        ("🐑\ufe0f", ["🐑"]),
        ("red左左", ["red", "左", "左"]),
        ("\t\n ,.;", []),
    ],
)
def test_words_of_many_scripts(tokenizer: WordTokenizer, prompt: str, words: list[str]) -> None:
    assert split_words(prompt) == words
    assert read(tokenizer, prompt) == ids(*words)


@pytest.mark.parametrize("typo", ["cirlce", "circel", "circl", "cicle", "circlee", "Circcle", "circles"])
def test_a_typo_is_read_as_the_word(tokenizer: WordTokenizer, typo: str) -> None:
    assert read(tokenizer, typo) == ids("circle")
    assert tokenizer.report(typo).corrected == ((typo.lower(), "circle"),)


@pytest.mark.parametrize("word", ["bring", "while", "charge", "rad", "re", "movement", "c1rcle", "dog", "円"])
def test_another_word_is_not_taken_for_a_typo(tokenizer: WordTokenizer, word: str) -> None:
    assert read(tokenizer, word) == [BOS_ID, UNK_ID]
    assert tokenizer.report(word) == PromptReport(unknown=(word,), corrected=(), num_truncated=0)


def test_a_typo_of_two_words_is_not_guessed() -> None:
    tokenizer = WordTokenizer(["black", "block", "blocks"], MAX_LENGTH)
    assert tokenizer.report("blck blcks").unknown == ("blck",)
    assert tokenizer.report("blck blcks").corrected == (("blcks", "blocks"),)


def test_report_names_each_word_once_and_counts_what_is_cut_off(tokenizer: WordTokenizer) -> None:
    report = tokenizer.report("A dog, a DOG and a gren sqare dinosaur sqare")
    assert report == PromptReport(unknown=("dog", "and"), corrected=(("gren", "green"),), num_truncated=3)
    assert tokenizer.report("") == tokenizer.report("a red circle moves") == PromptReport((), (), 0)


def test_truncation_keeps_the_beginning(tokenizer: WordTokenizer) -> None:
    words = ["a", "red", "circle"] * 5
    assert read(tokenizer, " ".join(words)) == ids(*words)[:MAX_LENGTH]
    assert tokenizer.report(" ".join(words)).num_truncated == len(words) + 1 - MAX_LENGTH


def test_long_texts_are_split_at_spaces() -> None:
    words = [random.Random(0).choice(VOCABULARY) for _ in range(5_000)]
    assert split_words(" ".join(words)) == words


def random_text(rng: random.Random) -> str:
    """Characters from anywhere in Unicode: unassigned, control, private, combining, surrogates."""
    ranges = [(0, 0x20), (0x20, 0x7F), (0x300, 0x370), (0x590, 0x1000), (0x2000, 0x2100), (0xD800, 0xE000)]
    ranges += [(0xFB00, 0x10000), (0x1F000, 0x1FB00), (0xE0000, 0xE0200), (0, 0x110000)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(60)))


def test_any_string_is_accepted(tokenizer: WordTokenizer) -> None:
    rng = random.Random(0)
    prompts = [random_text(rng) for _ in range(2_000)]
    prompts += ["", "\x00", "\ud800", "\udc00\ud800"]
    prompts += ["x" * 10_000, "xqz " * 2_500, "\u0301\u0316" * 5_000, "\ufdfa" * 999]
    tokens = tokenizer.tokenize(prompts)
    assert tokens.input_ids.shape == (len(prompts), MAX_LENGTH)
    assert (tokens.input_ids[:, 0] == BOS_ID).all()
    assert ((tokens.input_ids >= 0) & (tokens.input_ids < tokenizer.vocab_size)).all()
    assert torch.equal(tokens.attention_mask, tokens.input_ids != PAD_ID)
    for prompt, mask in zip(prompts, tokens.attention_mask, strict=True):
        report = tokenizer.report(prompt)
        assert 1 + len(split_words(prompt)) - report.num_truncated == mask.sum()


def test_no_prompts_give_no_rows(tokenizer: WordTokenizer) -> None:
    assert tokenizer.tokenize([]).input_ids.shape == (0, MAX_LENGTH)


def test_a_bare_string_is_refused(tokenizer: WordTokenizer) -> None:
    with pytest.raises(ValueError, match="`prompts` must be a sequence"):
        tokenizer.tokenize("a red circle")


@pytest.mark.parametrize("vocabulary", [["red", "red"], ["Red"], ["light-blue"], [""], ["<unk>"], ["❤️"]])
def test_a_vocabulary_that_could_not_be_matched_is_refused(vocabulary: list[str]) -> None:
    with pytest.raises(ValueError, match="`vocabulary` must hold"):
        WordTokenizer(vocabulary, MAX_LENGTH)


def test_room_for_one_word_is_the_least() -> None:
    assert WordTokenizer(["red"], 2).tokenize(["red red"]).input_ids.tolist() == [[BOS_ID, 3]]
    with pytest.raises(ValueError, match="`max_length` must be at least 2"):
        WordTokenizer(["red"], 1)


@pytest.mark.parametrize("kind", ["words", "open"])
@pytest.mark.parametrize(
    ("prompt", "part", "words"),
    [
        ("a red star", "red star", ["red", "star"]),
        ("ＲＥＤ star-like box", "star-like", ["star", "like"]),
        ("there is a red star", "a red", ["a", "red"]),
        ("red 🚀🐎 box", "🐎 box", ["🐎", "box"]),
        ("red, star!", ", ", []),
    ],
)
def test_tokens_of_a_part_of_a_prompt(prompt: str, part: str, words: list[str], kind: str) -> None:
    """They are those that the words of the part become, whatever stands around them."""
    vocabulary = ["a", "red", "star", "like", "box", "🐎", "is", "there"]
    tokenizer = WordTokenizer(vocabulary, 12) if kind == "words" else OpenTokenizer(vocabulary, 8, 64, 12)
    start = prompt.index(part)
    positions = tokenizer.token_positions(prompt, range(start, start + len(part)))
    ids = tokenizer.tokenize([prompt]).input_ids[0, list(positions)]
    assert ids.tolist() == tokenizer.tokenize([" ".join(words)]).input_ids[0, 1 : 1 + len(words)].tolist()


def test_words_that_are_cut_off_have_no_token() -> None:
    tokenizer = WordTokenizer(["a", "red", "star"], 3)
    assert list(tokenizer.token_positions("a red star", range(2, 10))) == [2]
    assert list(tokenizer.token_positions("a red star", range(6, 10))) == []
