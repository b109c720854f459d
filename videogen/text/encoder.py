"""Our own text encoder: a small Transformer over a closed vocabulary of words, with its tokenizer inside."""

import hashlib
from collections.abc import Sequence
from typing import Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.sampling.noise import sample_noise, seeded_generator
from videogen.text.contract import EncodedText, PromptReport
from videogen.text.tokenizer import WordTokenizer


class EncoderBlock(nn.Module):
    """Self-attention and a GELU MLP, each behind a LayerNorm in a residual branch (arXiv:2002.04745).

    Args:
        hidden_size: The width D.
        num_attention_heads: A divisor of it.
        mlp_ratio: Width of the MLP's hidden layer, as a multiple of D.
    """

    def __init__(self, hidden_size: int, num_attention_heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.num_attention_heads = num_attention_heads
        self.norm1 = nn.LayerNorm(hidden_size)
        self.to_qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.to_out = nn.Linear(hidden_size, hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, mlp_ratio * hidden_size),
            nn.GELU(),
            nn.Linear(mlp_ratio * hidden_size, hidden_size),
        )

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Maps hidden_states `(B, L, D)` to the same shape; only tokens in the mask `(B, L)` are seen."""
        qkv = self.to_qkv(self.norm1(hidden_states)).unflatten(-1, (3, self.num_attention_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, L, D / heads) each
        # Written out, since the backward pass of SDPA is slow on a CPU at these sizes.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (B, heads, L, L)
        scores = scores.masked_fill(~attention_mask[:, None, None], torch.finfo(scores.dtype).min)
        attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)  # (B, L, D)
        hidden_states = hidden_states + self.to_out(attended)
        return hidden_states + self.mlp(self.norm2(hidden_states))


class TextEncoder(AlignedWeights, ModelMixin, ConfigMixin):
    """A Transformer encoder that knows a closed vocabulary of words and runs offline in milliseconds.

    The output at position 0, `<bos>`, which is never padding, is the summary of the prompt. The vocabulary is
    part of the config, so a saved encoder needs no tokenizer files.

    Args:
        vocabulary: the known words, lower-case; see `WordTokenizer`.
        hidden_size: the size D of an embedding.
        num_layers: number of blocks.
        num_attention_heads: attention heads per block, a divisor of `hidden_size`.
        max_length: tokens per prompt, `<bos>` among them.

    Raises:
        ValueError: `hidden_size` is no multiple of `num_attention_heads`, or `WordTokenizer` refuses its own.
    """

    @register_to_config
    def __init__(
        self,
        vocabulary: Sequence[str],
        hidden_size: int = 256,
        num_layers: int = 2,
        num_attention_heads: int = 4,
        max_length: int = 32,
    ) -> None:
        super().__init__()
        if num_attention_heads < 1 or hidden_size % num_attention_heads:
            raise ValueError(
                "`hidden_size` must be a multiple of `num_attention_heads`, "
                f"got {hidden_size} and {num_attention_heads}"
            )
        self.tokenizer = WordTokenizer(vocabulary, max_length)
        self.token_embedding = nn.Embedding(self.tokenizer.vocab_size, hidden_size)
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        self.blocks = nn.ModuleList(EncoderBlock(hidden_size, num_attention_heads) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(hidden_size)
        self.apply(initialise_linear)
        # Words are far apart from the start, and what the blocks add is small beside them.
        nn.init.normal_(self.token_embedding.weight, std=1.0)
        nn.init.normal_(self.position_embedding.weight, std=0.1)

    @property
    def hidden_size(self) -> int:
        """The size D of an embedding."""
        return self.config["hidden_size"]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, return_dict: bool = True
    ) -> EncodedText | tuple[Tensor, Tensor]:
        """Encodes token ids.

        Args:
            input_ids: `(B, L)` int64, L at most `max_length`.
            attention_mask: `(B, L)` bool, False on padding.
            return_dict: whether to return an `EncodedText` rather than a tuple.

        Returns:
            prompt_embeds `(B, L, D)`, of which those at padding mean nothing, and the mask.
        """
        positions = self.position_embedding.weight[: input_ids.shape[1]]
        hidden_states = self.token_embedding(input_ids) + positions  # (B, L, D)
        for block in self.blocks:
            hidden_states = block(hidden_states, attention_mask)
        prompt_embeds = self.final_norm(hidden_states)
        return EncodedText(prompt_embeds, attention_mask) if return_dict else (prompt_embeds, attention_mask)

    @apply_forward_hook
    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Encodes B prompts on the module's device, in its dtype, with gradients where they are enabled.

        Raises:
            ValueError: `prompts` is a string, not a sequence of strings.
        """
        tokens = self.tokenizer.tokenize(prompts)
        device = self.token_embedding.weight.device
        return self(tokens.input_ids.to(device), tokens.attention_mask.to(device))

    def report(self, prompt: str) -> PromptReport:
        """Names the words of a prompt that are not in the vocabulary, corrected or cut off."""
        return self.tokenizer.report(prompt)

    @torch.no_grad()
    def with_words(self, words: Sequence[str]) -> Self:
        """A copy that knows more words; prompts of known words give exactly the same.

        `<unk>`, which new words were read as, means nothing where all words of the training were known. So a
        new word starts at random, by its spelling alone, as far from all others as they are from each other.
        What was taken for a slip in an old word may be nearer to a new one now.

        Args:
            words: not yet in the vocabulary, whose end they become; see `WordTokenizer`.

        Raises:
            ValueError: a word is known, comes twice, or is not one normalised word.
        """
        sizes = ("hidden_size", "num_layers", "num_attention_heads", "max_length")
        vocabulary = [*self.config["vocabulary"], *words]
        wider = type(self)(vocabulary, **{name: self.config[name] for name in sizes})
        known = self.token_embedding.weight
        digests = [hashlib.sha256(word.encode()).digest() for word in words]
        generators = [seeded_generator(0, int.from_bytes(digest[:8])) for digest in digests]
        state = self.state_dict()
        if generators:
            new = known.float().std() * sample_noise((self.hidden_size,), generators).to(known.device)
            state["token_embedding.weight"] = torch.cat([known, new.to(known.dtype)])
        wider.load_state_dict(state)
        nn.Module.to(wider, known.device, known.dtype)  # ModelMixin.to would import torch's compiler
        return wider.train(self.training)


def initialise_linear(module: nn.Module) -> None:
    """Small weights for a linear layer, so that a new block adds little; nothing for other modules."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
