"""What calls take: for each argument its type and its range, in one table that all pipelines share.

Numbers among the settings are read as `videogen.settings` says; the other arguments have their readers here.

A reader gets the name of an argument and its value, and returns the value as the pipelines use it: a word as
the setting it stands for, a whole number as an `int`. How arguments fit each other and the model is looked at
in `checks`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence, Set
from numbers import Real
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from videogen.models.step_cache import StepCache
from videogen.prompt_text import one_line
from videogen.sampling.guidance_kinds import Guidance, parse_guidance
from videogen.settings import SETTINGS

OUTPUT_TYPES = ("np", "pt", "pil", "latent")
CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds", "predicted_latents")
MAX_SEED = 2**63 - 1

Reader = Callable[[str, Any], Any]


def whole(least: int | None = None, most: int | None = None) -> Reader:
    """Reads a whole number as an `int`; without limits where these depend on the model."""

    def read(name: str, value: Any) -> int:
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_whole:
            instead = f": use {int(value)}" if isinstance(value, float) and value.is_integer() else ""
            raise ValueError(f"`{name}` must be a whole number, got {_shown(value)}{instead}")
        if least is not None and value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}")
        if most is not None and value > most:
            raise ValueError(f"`{name}` must be at most {most}, got {value}")
        return int(value)

    return read


def number(least: int | None = None) -> Reader:
    """Reads a finite number; without a limit where it may be negative."""
    wanted = "a finite number" if least is None else f"a finite number of at least {least}"

    def read(name: str, value: Any) -> float:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not -math.inf < value < math.inf or (least is not None and value < least):
            raise ValueError(f"`{name}` must be {wanted}, got {_shown(value)}")
        return value if isinstance(value, int) else float(value)

    return read


def read_texts(name: str, value: Any) -> list[str]:
    """Reads a string, or a list of them, as a list of texts as `one_line` gives them."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"`{name}` must be a string or a list of strings, got {_shown(value)}")
    return [one_line(text, f"`{name}`") for text in texts]


def read_text_or_texts(name: str, value: Any) -> str | list[str]:
    """Reads a string, which is for all prompts, or a list with one for each, as `read_texts` does."""
    texts = read_texts(name, value)
    return texts[0] if isinstance(value, str) else texts


def read_seed(name: str, value: Any) -> int | list[int]:
    """Reads the seed of the first clip, or a list with that of each."""
    seed = whole(-MAX_SEED, MAX_SEED)
    return (
        [seed(name, item) for item in value] if isinstance(value, list | tuple | range) else seed(name, value)
    )


def read_generator(name: str, value: Any) -> torch.Generator | list[torch.Generator]:
    """Reads a generator, or a list of them."""
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, torch.Generator) for item in items):
        raise ValueError(f"`{name}` must be a torch.Generator or a list of them, got {_shown(value)}")
    return value if isinstance(value, torch.Generator) else list(value)


def read_tensor(name: str, value: Any) -> Tensor:
    """Reads a tensor of finite numbers; its shape depends on the model."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"`{name}` must be a tensor of floating-point numbers, got {_shown(value)}")
    if value.is_meta:
        raise ValueError(f"`{name}` must be a tensor that holds numbers, got one on the device 'meta'")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"`{name}` must be finite, but holds NaN or infinity")
    return value


def read_step_cache(name: str, value: Any) -> StepCache:
    """Reads a `StepCache`, or its settings as the command line takes them."""
    if isinstance(value, str):
        try:
            return StepCache.parse(value)
        except ValueError as error:
            raise ValueError(f"`{name}` {value!r} cannot be read: {error}") from error
    if not isinstance(value, StepCache):
        raise ValueError(f"`{name}` must be a StepCache, or a text such as 'deep=2', got {_shown(value)}")
    return value


def read_guidance(name: str, value: Any) -> Guidance:
    """Reads a `Guidance`, or one as the command line takes it."""
    value = parse_guidance(value) if isinstance(value, str) else value
    if not isinstance(value, Guidance):
        raise ValueError(f"`{name}` must be a Guidance, or a text such as 'interval', got {_shown(value)}")
    return value


def read_scheduler(name: str, value: Any) -> SchedulerMixin | str:
    """Reads a scheduler, or the name of one, which depends on the model."""
    if not isinstance(value, SchedulerMixin | str):
        raise ValueError(
            f"`{name}` must be a scheduler of diffusers, or a name such as 'unipc', got {_shown(value)}"
        )
    return value


def read_output_type(name: str, value: Any) -> str:
    """Reads one of `OUTPUT_TYPES`."""
    if not isinstance(value, str) or value not in OUTPUT_TYPES:
        raise ValueError(f"`{name}` must be one of {', '.join(OUTPUT_TYPES)}, got {_shown(value)}")
    return value


def read_switch(name: str, value: Any) -> bool:
    """Reads True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {_shown(value)}")
    return value


def read_callback(name: str, value: Any) -> Callable[..., Any]:
    """Reads a function."""
    if not callable(value):
        raise ValueError(
            f"`{name}` must be a function of (pipeline, step index, timestep, tensors), got {_shown(value)}"
        )
    return value


def read_tensor_names(name: str, value: Any) -> list[str]:
    """Reads a list of names in `CALLBACK_TENSORS`."""
    known = ", ".join(CALLBACK_TENSORS)
    if isinstance(value, str) or not isinstance(value, Sequence | Set):
        raise ValueError(f"`{name}` must be a list of names among {known}, got {_shown(value)}")
    unknown = sorted({str(item) for item in value} - set(CALLBACK_TENSORS))
    if unknown:
        raise ValueError(f"`{name}` has {', '.join(unknown)}: known are {known}")
    return list(value)


def refuse_attention_arguments(name: str, value: Any) -> None:
    """Reads nothing: diffusers hands these to its attention processors, which our networks do not have."""
    if not isinstance(value, Mapping) or value:
        raise ValueError(
            f"`{name}` cannot be used here, got {_shown(value)}: "
            "the scale of an adapter is given to `videogen.load(loras=[(path, scale)])`"
        )


_NUMBERS: dict[type, Callable[[int | None], Reader]] = {int: whole, float: number}

ARGUMENTS: dict[str, Reader] = {
    **{
        setting.argument: _NUMBERS[setting.kind](setting.least)
        for setting in SETTINGS.values()
        if setting.argument is not None and setting.kind in _NUMBERS
    },
    "negative_prompt": read_text_or_texts,
    "step_cache": read_step_cache,
    "guidance": read_guidance,
    "scheduler": read_scheduler,
    "prompt": read_texts,
    "num_flow_steps": whole(1, 1000),
    "num_videos_per_prompt": whole(1),
    "seed": read_seed,
    "generator": read_generator,
    "latents": read_tensor,
    "pixels": read_tensor,
    "prompt_embeds": read_tensor,
    "negative_prompt_embeds": read_tensor,
    "output_type": read_output_type,
    "return_dict": read_switch,
    "callback_on_step_end": read_callback,
    "callback_on_step_end_tensor_inputs": read_tensor_names,
    "cross_attention_kwargs": refuse_attention_arguments,
}
"""How each argument of a call is read: settings, and what else there is to give."""

_NEVER_NONE = (
    "num_videos_per_prompt",
    "output_type",
    "return_dict",
    "callback_on_step_end_tensor_inputs",
)


def read_arguments(defaults: Any = None, **arguments: Any) -> dict[str, Any]:
    """Look at each argument by itself.

    Args:
        defaults: A dataclass, whose fields stand in for arguments that are None.
        **arguments: Each with its name in `ARGUMENTS`; None is one that was not given.

    Raises:
        ValueError: If an argument is of a wrong type or out of range; the message names it.
    """
    own = {} if defaults is None else dataclasses.asdict(defaults)
    given = {name: own.get(name) if value is None else value for name, value in arguments.items()}
    return {
        name: None if value is None and name not in _NEVER_NONE else ARGUMENTS[name](name, value)
        for name, value in given.items()
    }


def _shown(value: Any) -> str:
    """A value in a message, by its type where it might be long."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
