"""New words for our own text encoder: files of embeddings that were learned, and putting them in.

A word is learned as in textual inversion (Gal et al. 2022, arXiv:2208.01618): its embedding is trained, all
else of the encoder stays. The file stands beside the adapters that were trained with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from videogen.files import written_whole
from videogen.text.encoder import TextEncoder
from videogen.text.tokenizer import SPECIAL_TOKENS, split_words

WORDS_NAME = "words.safetensors"

_METADATA, _VERSION = "videogen_words", "1"  # what the header of the file says that it is


def save_words(words: Mapping[str, Tensor], folder: str | Path) -> Path:
    """Write the embeddings `(D,)` of words, by word; returns the file.

    Raises:
        OSError: If it cannot be written; an older file is then untouched.
    """
    tensors = {word: embedding.detach().cpu().clone() for word, embedding in words.items()}
    path = Path(folder) / WORDS_NAME
    with written_whole(path) as partial:
        save_file(tensors, partial, {_METADATA: _VERSION})  # two entries would come in any order
    return path


def read_words(folder: str | Path) -> dict[str, Tensor]:
    """Embeddings `(D,)` of words, as `save_words` wrote them.

    Raises:
        ValueError: If the file is missing or broken, or holds something else.
    """
    path = Path(folder) / WORDS_NAME
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            words = {word: opened.get_tensor(word) for word in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as safetensors, it may be truncated: {error}") from error
    if metadata.get(_METADATA) != _VERSION:
        raise ValueError(
            f"{path} must be a file of words of version {_VERSION}, its header says {metadata.get(_METADATA)}"
        )
    for word, embedding in words.items():
        if split_words(word) != [word] or embedding.ndim != 1 or not bool(torch.isfinite(embedding).all()):
            raise ValueError(f"{path} must hold one finite vector for each word, got {word!r}")
    return words


def add_words(text_encoder: nn.Module, words: Mapping[str, Tensor], source: Path) -> TextEncoder:
    """An encoder that knows more words; a word that it knows already gets the new embedding.

    Args:
        text_encoder: Is left as it is.
        words: From `read_words`.
        source: Where they come from, for the messages.

    Raises:
        ValueError: If the encoder is none of ours, or of another size.
    """
    if not isinstance(text_encoder, TextEncoder):
        raise ValueError(f"{source} holds words for videogen's own text encoder, which this model has not")
    wrong = [word for word, embedding in words.items() if len(embedding) != text_encoder.hidden_size]
    if wrong:
        raise ValueError(
            f"{source} was made for another text encoder: its words have {len(words[wrong[0]])} numbers, "
            f"this one's {text_encoder.hidden_size}"
        )
    known = set(text_encoder.config["vocabulary"])
    wider = text_encoder.with_words([word for word in words if word not in known])
    ids = {word: idx for idx, word in enumerate(wider.config["vocabulary"], start=len(SPECIAL_TOKENS))}
    with torch.no_grad():
        for word, embedding in words.items():
            wider.token_embedding.weight[ids[word]] = embedding.to(wider.token_embedding.weight)
    return wider
