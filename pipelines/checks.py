"""Looks at how the arguments of a call fit each other and the model, and at the clips that were made."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from videogen.codec.contract import check_clip_size
from videogen.pipelines.arguments import MAX_SEED
from videogen.text.contract import PromptEncoder, ReportingEncoder

# What other programs read in prompts: (red:1.3), ((red)), [a:b:0.5], [a|b], {a|b}, <lora:name:0.8>, red++.
_PROMPT_SIGNS = re.compile(
    r"\([^():]{0,200}:\s*[-+]?[\d.]+\s*\)|\(\([^()]{0,200}\)\)|\[[^\[\]:|]{0,200}[:|][^\[\]]{0,200}\]"
    r"|\{[^{}|]{0,200}\|[^{}]{0,200}\}|<\w{1,40}:[^<>]{0,200}>|\w{1,40}\+\+(?!\w)"
)
_LEAST_CONTRAST = 2 / 255  # of any clip that shows something


def check_prompts(
    prompts: Sequence[str] | None,
    negative_prompt: str | Sequence[str] | None,
    prompt_embeds: Tensor | None,
    negative_prompt_embeds: Tensor | None,
    text_dim: int,
) -> int:
    """The number of prompts; embeddings must be `(P, L, text_dim)`.

    Raises:
        ValueError: If prompts and embeddings are both given or both missing, or do not fit each other.
    """
    given = prompt_embeds if prompts is None else prompts
    if given is None or (prompts is not None and prompt_embeds is not None):
        raise ValueError("give either `prompt` or `prompt_embeds`, not both and not neither")
    if negative_prompt is not None and negative_prompt_embeds is not None:
        raise ValueError("give either `negative_prompt` or `negative_prompt_embeds`, not both")
    embeds = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
    for name, value in embeds.items():
        if value is not None and (value.ndim != 3 or value.shape[2] != text_dim):
            raise ValueError(f"`{name}` must be (P, L, {text_dim}), got {tuple(value.shape)}")
    if not len(given):
        raise ValueError("`prompt` is an empty list: give at least one prompt")
    negatives = {
        "negative_prompt": None if isinstance(negative_prompt, str) else negative_prompt,
        "negative_prompt_embeds": negative_prompt_embeds,
    }
    for name, negative in negatives.items():
        if negative is not None and len(negative) != len(given):
            raise ValueError(f"`{name}` must be one for each of {len(given)} prompts, got {len(negative)}")
    return len(given)


def check_size(
    size: tuple[int, int, int], compression: tuple[int, int], trained_size: tuple[int, int, int]
) -> None:
    """Look at the size of the clips, and warn where the model was trained on another.

    Args:
        size: Frames, height and width.
        compression: Of the codec, in time and in space.
        trained_size: What the model was trained on.

    Raises:
        ValueError: If the codec cannot make this size; the message names the nearest two that it can.
    """
    check_clip_size(size, compression)
    if size[0] > trained_size[0]:
        warnings.warn(
            f"{size[0]} frames are asked for, the model was trained on {trained_size[0]}: "
            "expect it to break up",
            stacklevel=4,
        )
    if size[1:] != trained_size[1:]:
        warnings.warn(
            f"{size[1]}x{size[2]} is asked for, the model was trained on {trained_size[1]}x{trained_size[2]}",
            stacklevel=4,
        )


def check_seed(
    seed: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    batch_size: int,
) -> None:
    """Raise ValueError for a seed beside a generator, or one that leaves the range before the last clip."""
    if seed is None:
        return
    if generator is not None:
        raise ValueError("give either `seed` or `generator`, not both")
    if isinstance(seed, int) and seed + batch_size - 1 > MAX_SEED:
        raise ValueError(
            f"`seed` must be at most {MAX_SEED - batch_size + 1} for {batch_size} clips, got {seed}"
        )


def check_answer(answer: Any, tensors: Mapping[str, Tensor | None]) -> None:
    """Raise ValueError unless a callback returned a dict of tensors like those in use, by their names."""
    if not isinstance(answer, dict):
        raise ValueError(
            "`callback_on_step_end` must return a dict, be it the one it is given or an empty one, "
            f"got {type(answer).__name__}"
        )
    for name, value in answer.items():
        if name not in tensors:
            raise ValueError(f"`callback_on_step_end` returned {name!r}: known are {', '.join(tensors)}")
        found, expected = _kind_of(value), _kind_of(tensors[name])
        if found != expected:
            raise ValueError(
                f"`callback_on_step_end` returned `{name}` {found}, expected {expected} as before"
            )


def _kind_of(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a tensor {tuple(value.shape)} of {value.dtype} on {value.device.type}"


def warn_of_unknown_words(encoder: PromptEncoder, prompts: Sequence[str], name: str = "the prompt") -> None:
    """Warn of what no text encoder understands, and of words that ours do not know or have no room for.

    Args:
        encoder: Of the prompts.
        prompts: Of which each is looked at once.
        name: What they are called in the warnings.
    """
    for prompt in dict.fromkeys(prompts):
        sign = _PROMPT_SIGNS.search(prompt)
        if sign:
            warnings.warn(
                f"{sign[0]!r} in {name} is read as plain words: weights, adapters and alternatives are not "
                "understood in prompts",
                stacklevel=3,
            )
    if not isinstance(encoder, ReportingEncoder):
        return  # one of others, which says itself what it cuts off
    for prompt in dict.fromkeys(prompts):
        report = encoder.report(prompt)
        if report.unknown:
            nearest = dict(report.nearest)
            shown = ", ".join(
                f"{word!r} (the nearest it knows is {nearest[word]!r})" if word in nearest else repr(word)
                for word in report.unknown[:10]
            )
            warnings.warn(f"the model does not know these words of {name}: {shown}", stacklevel=3)
        if report.corrected:
            shown = ", ".join(f"{wrong!r} as {right!r}" for wrong, right in report.corrected[:10])
            warnings.warn(f"words of {name} read as others: {shown}", stacklevel=3)
        if report.num_truncated:
            warnings.warn(
                f"{name} is too long: its last {report.num_truncated} words are ignored", stacklevel=3
            )


def find_bad_clips(frames: Tensor) -> dict[int, str]:
    """For each clip that shows nothing, of `(B, F, H, W, 3)` in [0, 1], its index and what is wrong with it.

    Bad is what is not finite, or blank: of one colour in all its pixels.
    """
    bad_clips = {}
    for idx, clip in enumerate(frames):
        darkest, brightest = torch.aminmax(clip.flatten(0, 2), dim=0)
        if not bool(torch.isfinite(clip).all()):
            bad_clips[idx] = "holds NaN or infinity in its frames"
        elif float((brightest - darkest).max()) < _LEAST_CONTRAST:
            bad_clips[idx] = "is blank: all its pixels have one colour"
    return bad_clips
