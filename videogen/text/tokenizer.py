"""A word tokenizer with a closed vocabulary, forgiving of typos and open about what it does not know."""

import difflib
import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from videogen.text.contract import PromptReport

PAD_ID, BOS_ID, UNK_ID = 0, 1, 2
SPECIAL_TOKENS = ("<pad>", "<bos>", "<unk>")

# A slip in a word of six letters scores 0.83 ("cirlce"), another word of five letters 0.8 ("while", "white").
TYPO_CUTOFF = 0.82
MIN_TYPO_LENGTH, MAX_TYPO_LENGTH = 4, 40

# Invisible marks that sit inside words and emoji: soft hyphen, joiners, byte-order mark, variation selectors.
_INVISIBLE = dict.fromkeys((0x00AD, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10)))

_CJK = "\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Arrows, technical signs, shapes and dingbats; then the pictographs, without skin tones, which are no words.
_SIGNS = "\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
_EMOJI = "\U0001f000-\U0001f3fa\U0001f400-\U0001faff"
_ALONE = _CJK + _SIGNS + _EMOJI
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}][^\W_{_ALONE}\u0300-\u036f]*")

# Normalisation takes quadratic time in a run of combining marks, so it is given pieces, cut at spaces.
_PIECE = re.compile(r".{1,1024}(?=\s|$)|.{1,1024}", re.DOTALL)


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """A batch of prompts as token ids.

    Attributes:
        input_ids: `(B, L)` int64, in `[0, vocab_size)`.
        attention_mask: `(B, L)` bool, False on padding.
    """

    input_ids: Tensor
    attention_mask: Tensor


def split_words(text: str) -> list[str]:
    """Splits any string into normalised words.

    Letter case and Unicode's compatibility forms (full-width letters, ligatures) make no difference. A word
    is a run of letters and digits, so hyphens split; a Chinese character, a kana or an emoji is a word of its
    own.
    """
    normalised = (unicodedata.normalize("NFKC", piece).casefold() for piece in _PIECE.findall(text))
    return [word for piece in normalised for word in _WORD.findall(piece.translate(_INVISIBLE))]


def words_within(text: str, characters: range) -> range:
    """Which words of `split_words` begin within a range of the characters of a text."""
    return range(*(len(split_words(text[:place])) for place in (characters.start, characters.stop)))


def tokens_within(prompt: str, characters: range, max_length: int) -> range:
    """The tokens of the words that begin within a range of characters: one a word, after `<bos>`."""
    words = words_within(prompt, characters)
    return range(*(min(place + 1, max_length) for place in (words.start, words.stop)))


@functools.lru_cache(maxsize=4096)
def _closest(word: str, candidates: tuple[str, ...]) -> str | None:
    matches = difflib.get_close_matches(word, candidates, n=2, cutoff=TYPO_CUTOFF)
    ratios = [difflib.SequenceMatcher(None, match, word).ratio() for match in matches]
    # Two words as near as each other ("blck": "black", "block") leave nothing to choose by.
    is_tie = len(ratios) == 2 and ratios[0] == ratios[1]
    return matches[0] if matches and not is_tie else None


class WordTokenizer:
    """Turns prompts into ids: 0 `<pad>`, 1 `<bos>`, 2 `<unk>`, then the words of the vocabulary in its order.

    A prompt starts with `<bos>` and is padded to `max_length`. An unknown word of four letters or more that
    is nearly one known word, with the same first letter, is read as that one. Any string is accepted.

    Args:
        vocabulary: distinct words as `split_words` gives them, lower-case.
        max_length: number of ids per prompt, `<bos>` among them; words beyond are cut off.

    Raises:
        ValueError: a word occurs twice or is not one normalised word, or `max_length` is under 2.
    """

    def __init__(self, vocabulary: Sequence[str], max_length: int) -> None:
        if max_length < 2:
            raise ValueError(f"`max_length` must be at least 2, for `<bos>` and a word, got {max_length}")
        ids: dict[str, int] = {}
        candidates: dict[str, list[str]] = defaultdict(list)
        for word_id, word in enumerate(vocabulary, start=len(SPECIAL_TOKENS)):
            if split_words(word) != [word]:
                raise ValueError(
                    f"`vocabulary` must hold single normalised words, got {word!r}: {split_words(word)}"
                )
            if word in ids:
                raise ValueError(f"`vocabulary` must hold each word once, got {word!r} twice")
            ids[word] = word_id
            if len(word) >= MIN_TYPO_LENGTH:
                candidates[word[0]].append(word)
        self.max_length = max_length
        self._ids = ids
        # A typo seldom hits the first letter, another word often differs there ("bring", "ring").
        self._candidates = {letter: tuple(words) for letter, words in candidates.items()}

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special ones among them."""
        return len(SPECIAL_TOKENS) + len(self._ids)

    def tokenize(self, prompts: Sequence[str]) -> TokenizedText:
        """Turns B prompts into ids and a mask, both `(B, max_length)`.

        Raises:
            ValueError: `prompts` is a string, not a sequence of strings.
        """
        if isinstance(prompts, str):
            raise ValueError(
                f"`prompts` must be a sequence of strings, got one string: use [{prompts[:40]!r}]"
            )
        input_ids = torch.full((len(prompts), self.max_length), PAD_ID, dtype=torch.int64)
        for row, prompt in zip(input_ids, prompts, strict=True):
            words = (self._read(word) for word in self._fitting(split_words(prompt)))
            token_ids = [BOS_ID, *(UNK_ID if word is None else self._ids[word] for word in words)]
            row[: len(token_ids)] = torch.tensor(token_ids)
        return TokenizedText(input_ids, input_ids != PAD_ID)

    def token_positions(self, prompt: str, characters: range) -> range:
        """Which tokens of a prompt stand for the words that begin within a range of its characters.

        Words that do not fit have none.
        """
        return tokens_within(prompt, characters, self.max_length)

    def report(self, prompt: str) -> PromptReport:
        """Names the words of a prompt that `tokenize` does not know, corrects or cuts off."""
        words = split_words(prompt)
        fitting = self._fitting(words)
        readings = {word: self._read(word) for word in fitting}
        return PromptReport(
            unknown=tuple(word for word, known in readings.items() if known is None),
            corrected=tuple((word, known) for word, known in readings.items() if known not in (None, word)),
            num_truncated=len(words) - len(fitting),
        )

    def _fitting(self, words: list[str]) -> list[str]:
        return words[: self.max_length - 1]

    def _read(self, word: str) -> str | None:
        """The word of the vocabulary that `word` is read as, None where there is none."""
        if word in self._ids:
            return word
        if not MIN_TYPO_LENGTH <= len(word) <= MAX_TYPO_LENGTH or not word.isalpha():
            return None
        return _closest(word, self._candidates.get(word[0], ()))
