"""Spelling: slips of the keyboard read as the word that was meant, and words as character n-grams."""

from __future__ import annotations

import difflib
import functools
import zlib
from collections.abc import Sequence

from videogen.text.tokenizer import MAX_TYPO_LENGTH, MIN_TYPO_LENGTH, TYPO_CUTOFF

_NGRAM_SIZES = (3, 4, 5)


class SpellingCorrector:
    """Reads a word that is not known as a known one that is a slip away.

    A slip is a letter left out, added, replaced, or swapped with the next (Norvig 2007, "How to write a
    spelling corrector"). Among several words the most familiar one wins. Familiar words are also found if
    they are more than a slip away, as long as they are nearly the same. Words of three letters are read as
    familiar ones alone: the others have too many neighbours.

    Args:
        words: The known ones, the most familiar first.
        num_familiar: How many of them are what prompts are mostly about.
    """

    def __init__(self, words: Sequence[str], num_familiar: int) -> None:
        self._rank = {word: rank for rank, word in enumerate(words)}
        self._num_familiar = num_familiar
        self._letters = "".join(sorted(set("".join(words))))
        familiar: dict[str, list[str]] = {}
        for word in words[:num_familiar]:
            if len(word) > MIN_TYPO_LENGTH:
                familiar.setdefault(word[0], []).append(word)
        self._familiar = {letter: tuple(found) for letter, found in familiar.items()}

    def read(self, word: str) -> str | None:
        """The known word that was meant; None if there is none, or the word is too short to tell."""
        if word in self._rank:
            return word
        if not MIN_TYPO_LENGTH - 1 <= len(word) <= MAX_TYPO_LENGTH or not word.isalpha():
            return None
        near = {
            self._rank[found]: found
            for found in _a_slip_away(word, self._letters)
            if found in self._rank and self._is_candidate(found, word)
        }
        if near:
            # A slip seldom hits the first letter.
            best = min(near, key=lambda rank: (rank >= self._num_familiar, near[rank][0] != word[0], rank))
            return near[best]
        return _most_similar(word, self._familiar.get(word[0], ())) if len(word) > MIN_TYPO_LENGTH else None

    def _is_candidate(self, found: str, word: str) -> bool:
        if min(len(found), len(word)) >= MIN_TYPO_LENGTH:
            return True
        return len(found) >= MIN_TYPO_LENGTH - 1 and self._rank[found] < self._num_familiar


def _a_slip_away(word: str, letters: str) -> set[str]:
    splits = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    found = {start + end[1:] for start, end in splits if end}
    found |= {start + end[1] + end[0] + end[2:] for start, end in splits if len(end) > 1}
    found |= {start + letter + end[1:] for start, end in splits if end for letter in letters}
    return found | {start + letter + end for start, end in splits for letter in letters}


@functools.lru_cache(maxsize=4096)
def _most_similar(word: str, candidates: tuple[str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(word, candidates, n=1, cutoff=TYPO_CUTOFF)), None)


@functools.lru_cache(maxsize=65536)
def ngram_buckets(word: str, num_buckets: int) -> tuple[int, ...]:
    """In which of `num_buckets` the character n-grams of a word fall, `<` and `>` at its ends.

    The word itself is one of them (Bojanowski et al. 2017, arXiv:1607.04606, section 3.2). The hash is CRC-32
    of the UTF-8 bytes, the same everywhere.
    """
    marked = f"<{word}>"
    grams = (marked[start : start + size] for size in _NGRAM_SIZES for start in range(len(marked) - size + 1))
    return tuple(zlib.crc32(gram.encode()) % num_buckets for gram in dict.fromkeys((marked, *grams)))
