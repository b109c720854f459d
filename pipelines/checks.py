"""Looks at the arguments of a text-to-video call before anything is computed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from videogen.codec.contract import check_clip_size

OUTPUT_TYPES = ("np", "pt", "pil", "latent")
CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds", "predicted_latents")


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
    if prompts is not None and not all(isinstance(item, str) for item in prompts):
        raise ValueError("`prompt` must be a string or a list of strings")
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


def check_numbers(num_inference_steps: int, num_videos_per_prompt: int, guidance_scale: float) -> None:
    """Raise ValueError where a count is below 1, or the guidance is negative or not finite."""
    counts = {"num_inference_steps": num_inference_steps, "num_videos_per_prompt": num_videos_per_prompt}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    if not 0 <= guidance_scale < float("inf"):
        raise ValueError(f"`guidance_scale` must be a finite number of at least 0, got {guidance_scale}")


def check_choices(
    output_type: str,
    seed: int | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    callback_tensors: Sequence[str],
) -> None:
    """Raise ValueError for an unknown output type or callback tensor, or a seed beside a generator."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")
    if seed is not None and generator is not None:
        raise ValueError("give either `seed` or `generator`, not both")
    unknown = sorted(set(callback_tensors) - set(CALLBACK_TENSORS))
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` has {', '.join(unknown)}: "
            f"known are {', '.join(CALLBACK_TENSORS)}"
        )
