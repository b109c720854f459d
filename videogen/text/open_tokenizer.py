"""A word tokenizer for any word: known ones by number, all others by their spelling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videogen.text.contract import PromptReport
from videogen.text.spelling import SpellingCorrector, ngram_buckets
from videogen.text.tokenizer import BOS_ID, PAD_ID, SPECIAL_TOKENS, UNK_ID, split_words, tokens_within

MAX_NGRAMS = 24
"""Of a word; those of a longer one beyond are left out."""


@dataclass(frozen=True, eq=False)
class SpelledText:
    """A batch of prompts as ids of known words, and of the n-grams of all others.

    Attributes:
        input_ids: `(B, L)` int64: 0 `<pad>`, 1 `<bos>`, 2 a word that is known by its spelling alone, then
            the vocabulary.
        ngram_ids: `(B, L, MAX_NGRAMS)` int64: for words known by their spelling, 1 plus the bucket of each
            n-gram; 0 for no n-gram.
        attention_mask: `(B, L)` bool, False on padding.
    """

    input_ids: Tensor
    ngram_ids: Tensor
    attention_mask: Tensor

    def only(self, rows: Tensor) -> SpelledText:
        """Some of the prompts, at most as long as the longest of them."""
        length = int(self.attention_mask[rows].sum(1).max())
        return SpelledText(
            self.input_ids[rows, :length], self.ngram_ids[rows, :length], self.attention_mask[rows, :length]
        )


class OpenTokenizer:
    """Turns prompts into `SpelledText`, after slips of the keyboard are read as the words that were meant.

    Args:
        vocabulary: Distinct words as `split_words` gives them, the most familiar first.
        num_familiar: See `SpellingCorrector`.
        num_buckets: Of n-grams.
        max_length: Tokens of a prompt, `<bos>` among them; words beyond are cut off.

    Raises:
        ValueError: A word occurs twice or is not one normalised word, or `max_length` is under 2.
    """

    def __init__(
        self, vocabulary: Sequence[str], num_familiar: int, num_buckets: int, max_length: int
    ) -> None:
        if max_length < 2:
            raise ValueError(f"`max_length` must be at least 2, for `<bos>` and a word, got {max_length}")
        if num_buckets < 1:
            raise ValueError(f"`num_buckets` must be at least 1, got {num_buckets}")
        self._ids = {word: word_id for word_id, word in enumerate(vocabulary, start=len(SPECIAL_TOKENS))}
        if len(self._ids) < len(vocabulary):
            raise ValueError("`vocabulary` must hold each word once")
        if split_words("\n".join(vocabulary)) != list(vocabulary):
            broken = next((word for word in vocabulary if split_words(word) != [word]), None)
            raise ValueError(f"`vocabulary` must hold single normalised words, got {broken!r}")
        self.num_buckets = num_buckets
        self.max_length = max_length
        self._corrector = SpellingCorrector(vocabulary, num_familiar)

    def words(self, prompt: str) -> list[str]:
        """The words of a prompt that fit, as they are read: one for each token after `<bos>`."""
        return [self._corrector.read(word) or word for word in self._fitting(split_words(prompt))]

    def tokenize(
        self, prompts: Sequence[str], spelled: Callable[[int, int], bool] | None = None
    ) -> SpelledText:
        """Turns B prompts into ids, of `max_length` tokens each.

        Args:
            prompts: Any strings.
            spelled: For the index of a prompt and of a word in it, whether the word is given by its spelling
                though it is known, as a training might want.

        Raises:
            ValueError: `prompts` is a string, not a sequence of strings.
        """
        if isinstance(prompts, str):
            raise ValueError(
                f"`prompts` must be a sequence of strings, got one string: use [{prompts[:40]!r}]"
            )
        input_ids = torch.full((len(prompts), self.max_length), PAD_ID, dtype=torch.int64)
        ngram_ids = torch.zeros(len(prompts), self.max_length, MAX_NGRAMS, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            input_ids[row, 0] = BOS_ID
            for place, word in enumerate(self.words(prompt)):
                word_id = self._ids.get(word, UNK_ID)
                if word_id == UNK_ID or (spelled is not None and spelled(row, place)):
                    word_id = UNK_ID
                    ngram_ids[row, place + 1] = self.spell(word)
                input_ids[row, place + 1] = word_id
        return SpelledText(input_ids, ngram_ids, input_ids != PAD_ID)

    def spell(self, word: str) -> Tensor:
        """`(MAX_NGRAMS,)` int64: the n-grams of a word; see `SpelledText`."""
        ids = torch.zeros(MAX_NGRAMS, dtype=torch.int64)
        buckets = ngram_buckets(word, self.num_buckets)[:MAX_NGRAMS]
        ids[: len(buckets)] = torch.tensor(buckets) + 1
        return ids

    def token_positions(self, prompt: str, characters: range) -> range:
        """Which tokens of a prompt stand for the words that begin within a range of its characters.

        Words that do not fit have none.
        """
        return tokens_within(prompt, characters, self.max_length)

    def report(self, prompt: str) -> PromptReport:
        """Names the words of a prompt that are read as others or cut off; none is unknown here."""
        words = split_words(prompt)
        fitting = self._fitting(words)
        read = {word: self._corrector.read(word) for word in fitting}
        return PromptReport(
            unknown=(),
            corrected=tuple((word, meant) for word, meant in read.items() if meant not in (None, word)),
            num_truncated=len(words) - len(fitting),
        )

    def _fitting(self, words: list[str]) -> list[str]:
        return words[: self.max_length - 1]
