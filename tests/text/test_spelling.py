"""Slips of the keyboard, and n-grams that are the same on every machine."""

import pytest

from videogen.text.spelling import SpellingCorrector, ngram_buckets

WORDS = ["black", "block", "circle", "red", "star", "moves", "disappears", "the", "start", "brown", "two"]


@pytest.fixture
def corrector() -> SpellingCorrector:
    return SpellingCorrector(WORDS, num_familiar=7)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("cirlce", "circle"),
        ("ircle", "circle"),
        ("ciircle", "circle"),
        ("cirxle", "circle"),
        ("blck", "black"),  # as near to block, but less familiar
        ("rde", "red"),
        ("rred", "red"),
        ("disapeers", "disappears"),  # two slips, in a familiar word
        ("moces", "moves"),
        ("brwn", "brown"),
        ("circle", "circle"),
    ],
)
def test_slips(corrector: SpellingCorrector, slip: str, meant: str) -> None:
    assert corrector.read(slip) == meant


@pytest.mark.parametrize(
    "word", ["zeppelin", "tge", "twoo", "re", "", "r2d", "\U0001f411", "x" * 500, "brpwm"]
)
def test_words_that_are_no_slips(corrector: SpellingCorrector, word: str) -> None:
    assert corrector.read(word) is None


def test_the_first_letter_and_familiarity_decide() -> None:
    corrector = SpellingCorrector(["bring", "fling", "king", "ring"], num_familiar=0)
    assert corrector.read("rring") == "ring"
    assert SpellingCorrector(["ball", "bell"], 2).read("bxll") == "ball"
    assert SpellingCorrector(["bell", "ball"], 2).read("bxll") == "bell"


def test_buckets_are_the_same_everywhere() -> None:
    assert ngram_buckets("cat", 1000) == (665, 524, 832, 276, 679, 239)
    assert ngram_buckets("größe", 1000) != ngram_buckets("grosse", 1000)
    assert set(ngram_buckets("a", 7)) <= set(range(7))
