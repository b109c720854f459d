"""What the training loop asks of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from videogen.data.batch import Batch


class Objective(nn.Module, ABC):
    """What one training step of a family of generators is: networks, batch and sample ids in, losses out.

    The loop knows nothing of the family. It runs every phase of a step in order, each with an optimizer of
    its own (a GAN has two), minimises `losses["loss"]`, and logs the rest.
    """

    phases: tuple[str, ...] = ("train",)
    adamw_scales: Mapping[str, float] = {}
    """Words in names of parameters that learn more slowly; see `MuonAdamW`."""
    undecayed: Sequence[str] = ()
    """Words in names of matrices that weight decay leaves alone."""
    adam_betas: ClassVar[tuple[float, float]] = (0.9, 0.99)
    """Of what is AdamW's."""
    preview_first: ClassVar[bool] = False
    """Whether clips are made before the first step too, to be compared with later ones."""

    @abstractmethod
    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of one phase: scalars, with the one to minimise under `loss`."""

    def trained_parameters(self, phase: str) -> list[tuple[str, nn.Parameter]]:
        """What the optimizer of a phase updates; all that requires a gradient by default."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the result, with the weights as they are now, so that the library can load it."""

    @abstractmethod
    def preview(self) -> list[tuple[str, np.ndarray]]:
        """A few captioned clips `(F, H, W, 3)` uint8 that show what has been learned so far."""

    def measure(self, previews: list[tuple[str, np.ndarray]]) -> dict[str, float]:
        """How good these clips of `preview` are; written beside them. Nothing by default."""
        return {}


@dataclass(frozen=True)
class ObjectiveConfig(ABC):
    """Everything an objective is built from; the config stands beside the objective it builds."""

    @abstractmethod
    def build(self) -> Objective:
        """Make the objective, with freshly initialised networks."""

    def stretched(self, share: float) -> ObjectiveConfig:
        """The same for a run of `share` times the steps: places in the stream of clips move along."""
        return self


def check_result(name: str, folder: str | None) -> None:
    """Raise ValueError if a setting of that name is another run's result folder, and it is not there."""
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(
            f"`{name}` must be the result of another run, but {folder!r} is not there: "
            "do that run first, from this folder"
        )
