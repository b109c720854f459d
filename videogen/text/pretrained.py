"""Public text encoders, CLIP and T5 through transformers, behind the library's text contract.

The two classes are adapters, not components: a saved pipeline holds transformers' own tokenizer and text
encoder under their own class names, as every diffusers folder does, and builds the adapter around them when
it is loaded. They take part in no `save_pretrained` and own no parameters; moving or casting the text encoder
moves or casts what they give.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from videogen.alignment import align
from videogen.text.contract import EncodedText

if TYPE_CHECKING:
    from transformers import BatchEncoding, CLIPTextModel, PreTrainedTokenizerBase, T5EncoderModel

# How much of the cut-off end of a prompt a warning shows.
MAX_NAMED_TOKENS = 20

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class CLIPTextEncoder:
    """CLIP's last hidden states, padding included: what ModelScope and Stable Diffusion are conditioned on.

    Every prompt has the model's full number of positions (77), and the mask is True throughout: these
    denoisers were trained to attend to the padding, so its token matters. Stable Diffusion 1 pads with
    end-of-text, 49407; OpenCLIP's models, ModelScope's among them, with 0.

    Args:
        tokenizer: the tokenizer that belongs to the model.
        text_encoder: the model.
        pad_token_id: the id to pad with in place of the tokenizer's own.

    Raises:
        ValueError: The id to pad with is no id of the model, or the tokenizer has no pad token.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        text_encoder: "CLIPTextModel",
        pad_token_id: int | None = None,
    ) -> None:
        vocab_size = text_encoder.config.vocab_size
        if tokenizer.pad_token_id is None:
            raise ValueError("`tokenizer` must have a pad token, to fill up prompts: set its `pad_token`")
        pad_token_id = tokenizer.pad_token_id if pad_token_id is None else pad_token_id
        if not 0 <= pad_token_id < vocab_size:
            raise ValueError(f"`pad_token_id` must be in [0, {vocab_size}), got {pad_token_id}")
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.pad_token_id = pad_token_id

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        subfolder: str = "text_encoder",
        tokenizer_subfolder: str = "tokenizer",
        local_files_only: bool = False,
        dtype: torch.dtype = torch.float32,
        pad_token_id: int | None = None,
    ) -> Self:
        """Loads tokenizer and model from a pipeline's folder.

        Args:
            folder: a directory, or a repository on the hub.
            subfolder: where in it the model lies.
            tokenizer_subfolder: where in it the tokenizer lies.
            local_files_only: never to download.
            dtype: the dtype of the weights.
            pad_token_id: the id to pad with in place of the tokenizer's own.
        """
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(
            folder, subfolder=tokenizer_subfolder, local_files_only=local_files_only
        )
        text_encoder = CLIPTextModel.from_pretrained(
            folder, subfolder=subfolder, local_files_only=local_files_only, dtype=dtype
        )
        align(text_encoder)
        return cls(tokenizer, text_encoder, pad_token_id)

    @property
    def hidden_size(self) -> int:
        """The size D of an embedding."""
        return self.text_encoder.config.hidden_size

    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Encodes B prompts on the model's device, in its dtype, and warns where one is too long.

        Raises:
            ValueError: `prompts` is a string, not a sequence of strings, or holds a lone surrogate.
        """
        tokens = _tokenize(self.tokenizer, prompts, self.text_encoder.config.max_position_embeddings)
        padding: Tensor = tokens["attention_mask"] == 0
        input_ids = tokens["input_ids"].masked_fill(padding, self.pad_token_id).to(self.text_encoder.device)
        prompt_embeds = self.text_encoder(input_ids).last_hidden_state
        return EncodedText(prompt_embeds, torch.ones_like(padding, device=prompt_embeds.device))


class T5TextEncoder:
    """T5's encoder, padded to a fixed length, with a mask that leaves the padding out.

    Args:
        tokenizer: the tokenizer that belongs to the model.
        text_encoder: the model.
        max_length: tokens per prompt, end-of-text among them, as the denoiser was trained: 77, 226, 512.

    Raises:
        ValueError: `max_length` is not positive.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", text_encoder: "T5EncoderModel", max_length: int = 226
    ) -> None:
        if max_length < 1:
            raise ValueError(f"`max_length` must be positive, got {max_length}")
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.max_length = max_length

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        subfolder: str = "text_encoder",
        tokenizer_subfolder: str = "tokenizer",
        local_files_only: bool = False,
        dtype: torch.dtype = torch.float32,
        max_length: int = 226,
    ) -> Self:
        """Loads tokenizer and model from a pipeline's folder.

        Args:
            folder: a directory, or a repository on the hub.
            subfolder: where in it the model lies.
            tokenizer_subfolder: where in it the tokenizer lies.
            local_files_only: never to download.
            dtype: the dtype of the weights; float16 overflows in most T5 models, bfloat16 does not.
            max_length: tokens per prompt, end-of-text among them.
        """
        from transformers import T5EncoderModel, T5Tokenizer

        tokenizer = T5Tokenizer.from_pretrained(
            folder, subfolder=tokenizer_subfolder, local_files_only=local_files_only
        )
        text_encoder = T5EncoderModel.from_pretrained(
            folder, subfolder=subfolder, local_files_only=local_files_only, dtype=dtype
        )
        align(text_encoder)
        return cls(tokenizer, text_encoder, max_length)

    @property
    def hidden_size(self) -> int:
        """The size D of an embedding."""
        return self.text_encoder.config.d_model

    def encode(self, prompts: Sequence[str]) -> EncodedText:
        """Encodes B prompts on the model's device, in its dtype, and warns where one is too long.

        Raises:
            ValueError: `prompts` is a string, not a sequence of strings, or holds a lone surrogate.
        """
        tokens = _tokenize(self.tokenizer, prompts, self.max_length).to(self.text_encoder.device)
        prompt_embeds = self.text_encoder(tokens["input_ids"], tokens["attention_mask"]).last_hidden_state
        return EncodedText(prompt_embeds, tokens["attention_mask"].bool().to(prompt_embeds.device))


def _tokenize(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], max_length: int
) -> "BatchEncoding":
    """Ids and mask, both `(B, max_length)`, with a warning that names what was cut off."""
    if isinstance(prompts, str):
        raise ValueError(f"`prompts` must be a sequence of strings, got one string: use [{prompts[:40]!r}]")
    prompts = list(prompts)
    for prompt in prompts:
        if _LONE_SURROGATE.search(prompt):
            raise ValueError(f"`prompts` must be valid Unicode, got a lone surrogate in {prompt[:40]!r}")
    for token_ids in tokenizer(prompts, verbose=False)["input_ids"]:
        if len(token_ids) > max_length:
            # The last place that is kept goes to the end-of-text token.
            cut_off = tokenizer.decode(token_ids[max_length - 1 : -1][:MAX_NAMED_TOKENS])
            warnings.warn(
                f"The text encoder reads {max_length} tokens, a prompt has {len(token_ids)}: "
                f"cut off from {cut_off!r} on",
                stacklevel=3,
            )
    return tokenizer(
        prompts, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt"
    )
