"""Where the words of an object look: their attention is trained to lie on the pixels that show the object.

In a rendered world it is known which words speak of which object, and where that is at every moment. After
TokenCompose (Wang et al. 2023, arXiv:2312.03626, section 3.2), whose segmentation model finds the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.batch import Batch
from videogen.models.transformer_layers import PATCH
from videogen.text.contract import PromptTokenizer

LAST_TIME = 0.95
"""Above this diffusion time nothing tells yet where an object will be, and so where its words should look."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Where the words of a batch should look; O is the largest number of objects in a clip.

    Attributes:
        words: `(B, O, L)` bool, the tokens of the prompt that speak of each object.
        cells: `(B, O, N)` bool, the tokens of the clip in which each object is to be seen, in the order of
            `DenoiserOutput.attentions`.
    """

    words: Tensor
    cells: Tensor


def find_regions(
    batch: Batch,
    captions: Sequence[str],
    tokenizer: PromptTokenizer,
    num_words: int,
    compression: tuple[int, int],
) -> Regions:
    """Where the words of annotated clips should look.

    Args:
        batch: Of clips whose sources are annotated.
        captions: As they were encoded: the empty one where a caption is left out, of which no word is left.
        tokenizer: Of the text encoder.
        num_words: L, tokens of a prompt.
        compression: Of the codec; see `Codec`.

    Raises:
        ValueError: If the batch is not annotated.
    """
    if batch.mentions is None or batch.masks is None:
        raise ValueError(
            "`attention_weight` must be 0 for clips without `mentions` and `masks`: set `annotated` of their "
            "source, EmojiClips or ShapesClips"
        )
    words = torch.zeros(*batch.masks.shape[:2], num_words, dtype=torch.bool)
    for row, (caption, mentions) in enumerate(zip(captions, batch.mentions, strict=True)):
        for idx, characters in enumerate(mentions if caption else ()):
            words[row, idx, list(tokenizer.token_positions(caption, characters))] = True
    per_time, per_space = compression
    cell = (per_time, per_space * PATCH, per_space * PATCH)
    cells = F.max_pool3d(batch.masks.float(), cell, ceil_mode=True)  # (B, O, f, rows, columns)
    return Regions(words.to(batch.masks.device), cells.flatten(2) > 0)


def shares_inside(attention: Tensor, regions: Regions) -> Tensor:
    """`(B, O, L)` in [0, 1]: how much of what looks at each word lies in the cells of each object.

    Args:
        attention: `(B, N, L)`, for each of N cells its weights for the words.
        regions: Where objects are.
    """
    inside = regions.cells.to(attention) @ attention
    return inside / attention.sum(1, keepdim=True).clamp(min=torch.finfo(attention.dtype).tiny)


def attention_losses(attentions: Sequence[Tensor], regions: Regions) -> tuple[Tensor, Tensor]:
    """The token loss of TokenCompose (equation 3): `(1 - share inside)^2`, the mean over words and blocks.

    Args:
        attentions: Of each block, `(B, N, L)`.
        regions: Where the words should look.

    Returns:
        `(B,)` losses in [0, 1], 0 for clips without a word to train, and `(B,)` bool, which clips have one:
        words of an object that is to be seen.
    """
    words = regions.words & regions.cells.any(-1, keepdim=True)
    num_words = words.sum((1, 2))
    squares = torch.stack([(1 - shares_inside(weights, regions)).square() for weights in attentions]).mean(0)
    return (squares * words).sum((1, 2)) / num_words.clamp(min=1), num_words > 0
