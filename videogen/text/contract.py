"""What every text encoder of the library takes and gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A batch of encoded prompts.

    Attributes:
        prompt_embeds: `(B, L, D)`, one embedding per token.
        attention_mask: `(B, L)` bool, True where a token may be attended to.
    """

    prompt_embeds: Tensor
    attention_mask: Tensor


@dataclass(frozen=True)
class PromptReport:
    """What a text encoder could not take over from a prompt as it stands, each word once, in order.

    Attributes:
        unknown: words that it does not understand.
        corrected: pairs of a word and the known word it was read as.
        num_truncated: how many words at the end did not fit.
        nearest: pairs of an unknown word and the nearest name that is known, where the encoder can tell.
    """

    unknown: tuple[str, ...]
    corrected: tuple[tuple[str, str], ...]
    num_truncated: int
    nearest: tuple[tuple[str, str], ...] = ()


class PromptTokenizer(Protocol):
    """A tokenizer that can tell which tokens a part of a prompt becomes."""

    def token_positions(self, prompt: str, characters: range) -> range:
        """Which of the L tokens of a prompt stand for the words that begin within a range of its characters.

        Words that do not fit into L tokens have none.
        """
        ...


class PromptEncoder(Protocol):
    """Anything that encodes prompts; the empty prompt is the unconditional one."""

    @property
    def hidden_size(self) -> int:
        """The size D of an embedding, which a denoiser calls `cross_attention_dim`."""
        ...

    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Encodes B prompts of any length, each to the same number L of tokens.

        L does not depend on the prompts, so that a prompt's embedding is the same alone and in a batch.
        """
        ...


@runtime_checkable
class ReportingEncoder(PromptEncoder, Protocol):
    """A text encoder that says what it did not understand of a prompt."""

    def report(self, prompt: str) -> PromptReport:
        """Names what was not understood, read as something else, or cut off."""
        ...
