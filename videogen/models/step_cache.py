"""Step caching: parts of a denoiser that change little from one step to the next are computed on some only.

What may be kept, and after whom:

- the deep part of a network, below its finest resolution: DeepCache (Ma et al. 2023, arXiv:2312.00858), which
  keeps even more of the network than is done here;
- attention by its kind: Pyramid Attention Broadcast (Zhao et al. 2024, arXiv:2408.12588), which finds that
  attention to the text changes least from step to step, then temporal, then spatial attention;
- what guidance adds to the prediction: FasterCache (Lv et al. 2024, arXiv:2410.19355), which finds the
  branches with and without the prompt of one step much alike, and reuses their difference by frequency; here
  it is reused as it is.

All of it changes the clip, and how much depends on the model and on the number of steps: fewer steps lie
further apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StepCache:
    """For how many steps each part is used, its own included: 1 computes it at every step.

    Steps are evaluations of the network; a sampler of second order makes two of a denoising step.

    Attributes:
        deep_every: All below the finest resolution of the network.
        spatial_every: Attention among the places of a frame, or of all frames where a network has that.
        text_every: Attention to the text.
        temporal_every: Attention among the frames of a place, with the layers around it.
        guidance_every: The difference between the predictions with and without the prompt. On steps that
            reuse it the network runs for the prompt alone.
        first_steps: So many steps at the start compute everything.
        last_steps: So many steps at the end, likewise.

    Raises:
        ValueError: If a number is out of range.
    """

    deep_every: int = 1
    spatial_every: int = 1
    text_every: int = 1
    temporal_every: int = 1
    guidance_every: int = 1
    first_steps: int = 1
    last_steps: int = 0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value, least = getattr(self, name), 0 if name == "last_steps" else 1
            if not isinstance(value, int) or value < least:
                raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}")

    @classmethod
    def parse(cls, text: str) -> StepCache:
        """Settings as the command line takes them: `deep=2,text=3,first=1`.

        Raises:
            ValueError: If a word is unknown or given twice, or a number is none or out of range.
        """
        names = {field.name.split("_")[0]: field.name for field in fields(cls)}
        values: dict[str, int] = {}
        for part in text.split(","):
            word, _, number = (piece.strip() for piece in part.partition("="))
            if word not in names or names[word] in values or not number.isdecimal():
                raise ValueError(
                    f"a step cache must be like deep=2,text=3, with each of {', '.join(names)} at most once, "
                    f"got {part.strip()!r}"
                )
            values[names[word]] = int(number)
        return cls(**values)

    def check_fits(self, kinds: Sequence[str], num_inference_steps: int, guided: bool) -> None:
        """Look whether a call can use these settings.

        Args:
            kinds: What its network can reuse, without `guidance`.
            num_inference_steps: Its denoising steps.
            guided: Whether it uses guidance.

        Raises:
            ValueError: If a setting would have no effect.
        """
        for kind in self.reused:
            if kind == "guidance" and not guided:
                raise ValueError(
                    "`step_cache` has `guidance_every` above 1, but there is no guidance above 1"
                )
            if kind != "guidance" and kind not in kinds:
                raise ValueError(
                    f"`step_cache` has `{kind}_every` above 1, but this network can reuse {', '.join(kinds)}"
                )
        computed = self.first_steps + self.last_steps
        if self.reused and computed >= num_inference_steps:
            raise ValueError(
                f"`step_cache` computes {self.first_steps} first and {self.last_steps} last steps, "
                f"which leaves none of {num_inference_steps} to reuse anything"
            )

    @property
    def reused(self) -> dict[str, int]:
        """The kinds that are not computed at every step, and for how many steps each is used."""
        periods = {kind: getattr(self, f"{kind}_every") for kind in KINDS}
        return {kind: period for kind, period in periods.items() if period > 1}


KINDS = ("deep", "spatial", "text", "temporal", "guidance")
"""What can be reused: the names of the fields of `StepCache` that end in `_every`, without that."""


class FeatureCache:
    """What one call keeps from step to step; networks take it as `cache`.

    Rows of what is kept belong to clips or to prompts, in the order of the network's batch. Where a step has
    fewer prompts than the one that computed them, its prompts are the last.

    Args:
        settings: What is kept, and for how long.
        num_steps: Evaluations of the network that will be made.
    """

    def __init__(self, settings: StepCache, num_steps: int) -> None:
        self._periods = settings.reused
        self._reusing_steps = range(settings.first_steps, num_steps - settings.last_steps)
        self._step_idx = 0
        self._kept: dict[tuple[str, nn.Module], tuple[int, Tensor]] = {}

    def start_step(self, step_idx: int) -> None:
        """Tell which step comes next, in [0, num_steps)."""
        self._step_idx = step_idx

    def clear(self) -> None:
        """Forget everything, as where the prompts have changed."""
        self._kept.clear()

    def kept(self, kind: str, module: nn.Module, num_rows: int) -> Tensor | None:
        """The last rows `(num_rows, ...)` of what a module has kept, if this step may use it.

        Args:
            kind: One of `KINDS`.
            module: Whose.
            num_rows: Rows that are needed; None is also the answer where fewer were kept.
        """
        key = (kind, module)
        if key not in self._kept or self._step_idx not in self._reusing_steps:
            return None
        step_idx, states = self._kept[key]
        too_old = self._step_idx - step_idx >= self._periods[kind]
        return None if too_old or len(states) < num_rows else states[-num_rows:]

    def keep(self, kind: str, module: nn.Module, states: Tensor) -> None:
        """Keep what was computed at this step, if its kind is reused at all."""
        if kind in self._periods:
            self._kept[kind, module] = self._step_idx, states


def reuse(
    cache: FeatureCache | None, kind: str, module: nn.Module, num_rows: int, compute: Callable[[], Tensor]
) -> Tensor:
    """What a module has kept, or else computes now, and keeps.

    Args:
        cache: None computes.
        kind: One of `KINDS`.
        module: Whose.
        num_rows: Length of the result.
        compute: Gives `(num_rows, ...)`, which nobody changes in place afterwards.

    Raises:
        ValueError: If there is a cache and gradients are recorded.
    """
    if cache is None:
        return compute()
    if torch.is_grad_enabled():
        raise ValueError("`cache` is for inference: call the network under torch.no_grad()")
    states = cache.kept(kind, module, num_rows)
    if states is None:
        states = compute()
        cache.keep(kind, module, states)
    return states
