"""Our text encoder for open words: any word has a vector, and what a prompt says can be read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.text.contract import EncodedText, PromptReport
from videogen.text.encoder import EncoderBlock, initialise_linear
from videogen.text.open_tokenizer import OpenTokenizer, SpelledText
from videogen.text.tokenizer import BOS_ID, SPECIAL_TOKENS, UNK_ID

MAX_OBJECTS = 2
"""How many objects of a prompt are read, in the order of their mention."""
OBJECT_ATTRIBUTES = ("colour", "size", "motion")
BACKGROUND = "background"

_LEAST_LIKENESS = 0.4  # of a name that is offered for a word that is not known

THING_SCALE = 20.0
"""Of similarities, to make logits of them."""


@dataclass(frozen=True)
class ReadObject:
    """What an encoder reads of one object; None is not said.

    Attributes:
        thing: The name it knows that is nearest to what is said.
        similarity: Of the two, at most 1.
        word: Of the prompt, which names it.
        colour: Of the known ones.
        size: Of the known ones.
        motion: Of the known ones.
    """

    thing: str
    similarity: float
    word: str
    colour: str | None
    size: str | None
    motion: str | None


@dataclass(frozen=True)
class ReadPrompt:
    """What an encoder reads in a prompt: the objects in the order of their mention, and the background."""

    objects: tuple[ReadObject, ...]
    background: str | None


@dataclass(frozen=True, eq=False)
class Reading:
    """Logits of what B prompts say.

    Attributes:
        count: `(B, MAX_OBJECTS)`, for 1, 2, ... objects.
        attributes: For each of `OBJECT_ATTRIBUTES` `(B, MAX_OBJECTS, 1 + classes)`, for `background`
            `(B, 1 + classes)`; class 0 is not said.
        things: `(B, MAX_OBJECTS, E)` unit vectors, in the space of words.
        pointers: `(B, MAX_OBJECTS, L)`, how much each token is what names the object; they add up to 1.
    """

    count: Tensor
    attributes: dict[str, Tensor]
    things: Tensor
    pointers: Tensor


class PromptReader(nn.Module):
    """Reads from the states of tokens what is said of each object; each answer looks at the tokens once.

    That an answer about the second object can be found so means that the states of its words say that they
    belong to it, which is what a denoiser needs.

    Args:
        hidden_size: Of the states.
        word_dim: E, of the vectors of words.
        classes: Number of classes by attribute, without "not said".
    """

    def __init__(self, hidden_size: int, word_dim: int, classes: Mapping[str, int]) -> None:
        super().__init__()
        num_queries = MAX_OBJECTS * (1 + len(OBJECT_ATTRIBUTES)) + 1
        self.query_embedding = nn.Parameter(torch.randn(num_queries, hidden_size))
        self.to_key = nn.Linear(hidden_size, hidden_size)
        self.count = nn.Linear(hidden_size, MAX_OBJECTS)
        self.thing = nn.Linear(hidden_size, word_dim)
        self.attributes = nn.ModuleDict(
            {name: nn.Linear(hidden_size, 1 + num) for name, num in classes.items()}
        )

    def forward(self, text: EncodedText) -> Reading:
        """Logits of what prompts say."""
        states, mask = text.prompt_embeds, text.attention_mask
        scores = self.query_embedding @ self.to_key(states).transpose(-1, -2) * states.shape[-1] ** -0.5
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        looks = scores.softmax(-1)  # (B, num_queries, L)
        found = looks @ states  # (B, num_queries, D)
        of_objects = found[:, :-1].unflatten(1, (MAX_OBJECTS, -1))  # (B, MAX_OBJECTS, 1 + attributes, D)
        attributes = {
            name: self.attributes[name](of_objects[:, :, place])
            for place, name in enumerate(OBJECT_ATTRIBUTES, start=1)
        }
        attributes[BACKGROUND] = self.attributes[BACKGROUND](found[:, -1])
        return Reading(
            count=self.count(states[:, 0]),
            attributes=attributes,
            things=F.normalize(self.thing(of_objects[:, :, 0]), dim=-1),
            pointers=looks[:, :-1].unflatten(1, (MAX_OBJECTS, -1))[:, :, 0],
        )


class OpenTextEncoder(AlignedWeights, ModelMixin, ConfigMixin):
    """A Transformer over vectors of words, from a table or, for all other words, from their spelling.

    The table is a sentence encoder's view of common words, with fewer dimensions and in 8 bits, and stays as
    it is. The spelling gives a sum of vectors of hashed character n-grams (Bojanowski et al. 2017,
    arXiv:1607.04606), trained to give what the table gives (Pinter et al. 2017, arXiv:1707.06961). The output
    at position 0, `<bos>`, is the summary. Beside the embeddings of tokens, `read` names what a prompt says.

    A new encoder's table is random; training fills it with `set_words`.

    Args:
        vocabulary: Words of the table, the most familiar first; see `OpenTokenizer`.
        num_familiar: How many of them prompts are mostly about; see `SpellingCorrector`.
        things: Names of what can be shown, which `read` chooses from.
        classes: By `colour`, `size`, `motion` and `background` the values that `read` chooses from.
        word_dim: The size E of a word's vector.
        num_buckets: Of n-grams.
        ngram_dim: Size of an n-gram's vector.
        hidden_size: The size D of an embedding.
        num_layers: Number of blocks.
        num_attention_heads: Attention heads per block, a divisor of `hidden_size`.
        mlp_ratio: See `EncoderBlock`.
        max_length: Tokens per prompt, `<bos>` among them.
        least_similarity: A thing whose vector is less similar to all names than this is unknown.

    Raises:
        ValueError: `hidden_size` is no multiple of `num_attention_heads`, `classes` lacks an attribute or has
            another, or `OpenTokenizer` refuses its own.
    """

    @register_to_config
    def __init__(
        self,
        vocabulary: Sequence[str],
        num_familiar: int,
        things: Sequence[str],
        classes: Mapping[str, Sequence[str]],
        word_dim: int = 128,
        num_buckets: int = 4096,
        ngram_dim: int = 64,
        hidden_size: int = 256,
        num_layers: int = 3,
        num_attention_heads: int = 4,
        mlp_ratio: int = 2,
        max_length: int = 40,
        least_similarity: float = 0.5,
    ) -> None:
        super().__init__()
        if num_attention_heads < 1 or hidden_size % num_attention_heads:
            raise ValueError(
                "`hidden_size` must be a multiple of `num_attention_heads`, "
                f"got {hidden_size} and {num_attention_heads}"
            )
        if set(classes) != {*OBJECT_ATTRIBUTES, BACKGROUND}:
            known = ", ".join((*OBJECT_ATTRIBUTES, BACKGROUND))
            raise ValueError(f"`classes` must be of {known}, got {', '.join(classes)}")
        self.tokenizer = OpenTokenizer(vocabulary, num_familiar, num_buckets, max_length)
        num_words = len(SPECIAL_TOKENS) + len(vocabulary)
        self.register_buffer("word_table", torch.randint(-127, 128, (num_words, word_dim), dtype=torch.int8))
        self.register_buffer(
            "thing_table", torch.randint(-127, 128, (len(things), word_dim), dtype=torch.int8)
        )
        self.ngram_embedding = nn.Embedding(1 + num_buckets, ngram_dim, padding_idx=0)
        self.from_ngrams = nn.Linear(ngram_dim, word_dim)
        self.from_word = nn.Linear(word_dim, hidden_size)
        self.bos_embedding = nn.Parameter(torch.randn(hidden_size))
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        self.blocks = nn.ModuleList(
            EncoderBlock(hidden_size, num_attention_heads, mlp_ratio) for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(hidden_size)
        self.reader = PromptReader(
            hidden_size, word_dim, {name: len(known) for name, known in classes.items()}
        )
        self.blocks.apply(initialise_linear)
        nn.init.normal_(self.position_embedding.weight, std=0.1)
        nn.init.normal_(self.ngram_embedding.weight[1:], std=0.1)

    @property
    def hidden_size(self) -> int:
        """The size D of an embedding."""
        return self.config["hidden_size"]

    def set_words(self, words: Tensor, things: Tensor) -> None:
        """Put vectors of the vocabulary `(V, E)` and of the names of things `(T, E)` into the tables."""
        self.word_table[len(SPECIAL_TOKENS) :] = _quantised(words)
        self.word_table[: len(SPECIAL_TOKENS)] = 0
        self.thing_table.copy_(_quantised(things))

    def forward(
        self, input_ids: Tensor, ngram_ids: Tensor, attention_mask: Tensor, return_dict: bool = True
    ) -> EncodedText | tuple[Tensor, Tensor]:
        """Encodes words.

        Args:
            input_ids: `(B, L)` int64, see `SpelledText`; L at most `max_length`.
            ngram_ids: `(B, L, N)` int64.
            attention_mask: `(B, L)` bool, False on padding.
            return_dict: Whether to return an `EncodedText` rather than a tuple.

        Returns:
            prompt_embeds `(B, L, D)`, of which those at padding mean nothing, and the mask.
        """
        vectors = self.vectors(input_ids, ngram_ids)  # (B, L, E)
        hidden_states = self.from_word(vectors * vectors.shape[-1] ** 0.5)  # (B, L, D)
        hidden_states = torch.where((input_ids == BOS_ID)[..., None], self.bos_embedding, hidden_states)
        hidden_states = hidden_states + self.position_embedding.weight[: input_ids.shape[1]]
        for block in self.blocks:
            hidden_states = block(hidden_states, attention_mask)
        prompt_embeds = self.final_norm(hidden_states)
        return EncodedText(prompt_embeds, attention_mask) if return_dict else (prompt_embeds, attention_mask)

    def vectors(self, input_ids: Tensor, ngram_ids: Tensor) -> Tensor:
        """Unit vectors `(B, L, E)` of words, from the table or from their spelling; see `forward`."""
        known = self.word_table[input_ids].to(self.from_word.weight.dtype)
        spelled = (input_ids == UNK_ID)[..., None]
        return F.normalize(torch.where(spelled, self.spelled(ngram_ids), known), dim=-1)

    def spelled(self, ngram_ids: Tensor) -> Tensor:
        """Vectors `(..., E)` of words by their n-grams `(..., N)` int64, where 0 is none; of any length."""
        count = (ngram_ids > 0).sum(-1, keepdim=True).clamp(min=1)
        return self.from_ngrams(self.ngram_embedding(ngram_ids).sum(-2) * count**-0.5)

    @apply_forward_hook
    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Encodes B prompts on the module's device, in its dtype, with gradients where they are enabled.

        Raises:
            ValueError: `prompts` is a string, not a sequence of strings.
        """
        return self.encode_tokens(self.tokenizer.tokenize(prompts))

    def encode_tokens(self, tokens: SpelledText) -> EncodedText:
        """Encodes what the tokenizer gave."""
        device = self.from_word.weight.device
        return self(
            tokens.input_ids.to(device), tokens.ngram_ids.to(device), tokens.attention_mask.to(device)
        )

    def thing_logits(self, things: Tensor, others: Tensor | None = None) -> Tensor:
        """Logits `(..., T)` of the names of things for vectors `(..., E)` that `reader` gave.

        Args:
            things: Unit vectors.
            others: `(N, E)` vectors of more names, which come behind.
        """
        names = self.thing_table.to(things.dtype)
        if others is not None:
            names = torch.cat([names, others.to(things.dtype)])
        return THING_SCALE * things @ F.normalize(names, dim=-1).T

    @torch.no_grad()
    def read(self, prompts: Sequence[str]) -> list[ReadPrompt]:
        """What each prompt says, as far as the encoder understands it.

        Raises:
            ValueError: `prompts` is a string, not a sequence of strings.
        """
        reading = self.reader(self.encode(prompts))
        similarities, names = (self.thing_logits(reading.things) / THING_SCALE).max(-1)
        counts = (1 + reading.count.argmax(-1)).tolist()
        chosen = {name: logits.argmax(-1).tolist() for name, logits in reading.attributes.items()}
        pointed = reading.pointers.argmax(-1).tolist()
        result = []
        for row, prompt in enumerate(prompts):
            words = ["", *self.tokenizer.words(prompt)]
            objects = tuple(
                ReadObject(
                    self.config["things"][names[row, place]],
                    float(similarities[row, place]),
                    words[pointed[row][place]],
                    **{name: self._value(name, chosen[name][row][place]) for name in OBJECT_ATTRIBUTES},
                )
                for place in range(counts[row] if len(words) > 1 else 0)
            )
            result.append(ReadPrompt(objects, self._value(BACKGROUND, chosen[BACKGROUND][row])))
        return result

    def _value(self, attribute: str, chosen: int) -> str | None:
        return self.config["classes"][attribute][chosen - 1] if chosen else None

    def report(self, prompt: str) -> PromptReport:
        """Names what is cut off or read as another word, and the words for things that it does not know."""
        report = self.tokenizer.report(prompt)
        unknown = dict.fromkeys(
            item.word
            for item in self.read([prompt])[0].objects
            if item.similarity < self.config["least_similarity"] and item.word
        )
        nearest = tuple((word, name) for word in unknown if (name := self._nearest_name(word)))
        return PromptReport(tuple(unknown), report.corrected, report.num_truncated, nearest)

    @torch.no_grad()
    def _nearest_name(self, word: str) -> str | None:
        """The name of a thing whose vector is nearest to that of a word; None if none is near."""
        tokens = self.tokenizer.tokenize([word])
        device = self.word_table.device
        vector = self.vectors(tokens.input_ids.to(device), tokens.ngram_ids.to(device))[0, 1]
        similarity, idx = (self.thing_logits(vector) / THING_SCALE).max(-1)
        return self.config["things"][idx] if similarity >= _LEAST_LIKENESS else None


def _quantised(vectors: Tensor) -> Tensor:
    """Vectors `(N, E)` as int8, each scaled by itself: only their directions are kept."""
    largest = vectors.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(vectors.dtype).tiny)
    return (127 * vectors / largest).round().to(torch.int8)
