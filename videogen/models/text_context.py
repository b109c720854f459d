"""Prompts as the cross-attentions of a denoiser read them: prepared once, used at every step and frame."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class TextContext:
    """What a denoiser needs of N prompts; made by its `text_context`, of use to that denoiser alone.

    Attributes:
        num_prompts: N.
        keys_values: For each cross-attention of the network, its keys and values, `(N, heads, L, d)` each.
        mask: `(N, 1, 1, L)` bool, True where there is a token; None where there is one everywhere.
        pooled: `(N, D)`, the prompt as one vector, for networks that use one.
    """

    num_prompts: int
    keys_values: dict[nn.Module, tuple[Tensor, Tensor]] = field(repr=False)
    mask: Tensor | None = None
    pooled: Tensor | None = None

    def last(self, num_prompts: int) -> TextContext:
        """The same of the last prompts alone."""
        rows = slice(self.num_prompts - num_prompts, None)
        return TextContext(
            num_prompts,
            {module: (keys[rows], values[rows]) for module, (keys, values) in self.keys_values.items()},
            None if self.mask is None else self.mask[rows],
            None if self.pooled is None else self.pooled[rows],
        )


def check_prompts_fit(num_prompts: int, num_samples: int) -> None:
    """Raise ValueError unless each sample has the same number of prompts, one or more."""
    if num_prompts == 0 or num_prompts % num_samples:
        raise ValueError(
            "`encoder_hidden_states` must hold one prompt for each sample, or a multiple, "
            f"got {num_prompts} for {num_samples}"
        )


def repeat_for_prompts(states: Tensor, num_prompts: int) -> Tensor:
    """States `(B, ...)` of samples as `(N, ...)`, one for each prompt: prompt n goes with sample n % B."""
    repeats = num_prompts // len(states)
    return states if repeats == 1 else states.repeat(repeats, *[1] * (states.ndim - 1))
