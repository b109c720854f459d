"""Training of the feature network: name what a clip shows, and how its drawing was damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.codec.pixels import pixels_to_uint8
from videogen.data.batch import Batch
from videogen.data.shapes.labels import CLASSES, LabelledShapes
from videogen.metrics.damage import DAMAGES, damage
from videogen.metrics.feature_network import FeatureNetwork
from videogen.sampling.noise import seeded_generator
from videogen.train.objectives.base import Objective, ObjectiveConfig

DAMAGE = "damage"
"""The attribute that tells how a clip was damaged: 0 for not at all, then the order of `DAMAGES`."""


@dataclass(frozen=True)
class FeatureObjectiveConfig(ObjectiveConfig):
    """Settings of `FeatureObjective`.

    Attributes:
        stage_dims: Of the network.
        stage_depths: Of the network.
        feature_dim: Of the network.
        damages: Names from `DAMAGES`, all equally likely.
        damage_rate: Share of clips that are damaged, in [0, 1].
        weakest: Least strength of a damage, in (0, 1]; strengths are spread evenly over its logarithm.
        seed: Of damages and their strengths.
    """

    stage_dims: tuple[int, ...] = (32, 64, 128)
    stage_depths: tuple[int, ...] = (1, 2, 2)
    feature_dim: int = 128
    damages: tuple[str, ...] = ("noise", "blur", "warp")
    damage_rate: float = 0.5
    weakest: float = 0.1
    seed: int = 0

    def build(self) -> FeatureObjective:
        """Make the objective, with a new network.

        Raises:
            ValueError: If a damage is unknown, or `damage_rate` or `weakest` out of range.
        """
        unknown = [name for name in self.damages if name not in DAMAGES]
        if unknown:
            raise ValueError(f"`damages` must be of {', '.join(DAMAGES)}, got {', '.join(unknown)}")
        if not 0 <= self.damage_rate <= 1:
            raise ValueError(f"`damage_rate` must be between 0 and 1, got {self.damage_rate}")
        if not 0 < self.weakest <= 1:
            raise ValueError(f"`weakest` must be above 0 and at most 1, got {self.weakest}")
        num_classes = {attribute: len(classes) for attribute, classes in CLASSES.items()}
        num_classes[DAMAGE] = 1 + len(self.damages)
        network = FeatureNetwork(num_classes, self.stage_dims, self.stage_depths, self.feature_dim)
        return FeatureObjective(network, self)


class FeatureObjective(Objective):
    """Mean cross-entropy of all classifiers, on clips of which some are damaged.

    The labels of a damaged clip still say what it showed before. As the damage has to be named too, features
    cannot become blind to it.
    """

    def __init__(self, network: FeatureNetwork, config: FeatureObjectiveConfig) -> None:
        super().__init__()
        self.network = network
        self.settings = config

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, and for each attribute `accuracy_...`, the share of clips named right.

        Raises:
            ValueError: If the clips have no labels.
        """
        if batch.labels is None:
            raise ValueError("these clips have no labels: this needs a source such as `LabelledShapes`")
        pixels, damage_labels = self.damaged(batch)
        logits = self.network.classify(self.network(pixels).features)
        labels = dict(zip(CLASSES, batch.labels.unbind(1), strict=True)) | {DAMAGE: damage_labels}
        losses = [F.cross_entropy(logits[name].float(), labels[name]) for name in labels]
        accuracies = {
            f"accuracy_{name}": (logits[name].detach().argmax(1) == labels[name]).float().mean()
            for name in labels
        }
        return {"loss": torch.stack(losses).mean(), **accuracies}

    @torch.no_grad()
    def damaged(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The clips `(B, 3, F, H, W)`, each damaged in its own way or not at all, and how, `(B,)` int64."""
        clips, labels = [], []
        for pixels, sample_id in zip(batch.pixels, batch.sample_ids, strict=True):
            generator = seeded_generator(self.settings.seed, sample_id)
            draw, place, which = torch.rand(3, generator=generator).tolist()
            label = 0
            if draw < self.settings.damage_rate:
                label = 1 + int(which * len(self.settings.damages))
                strength = self.settings.weakest**place
                name = self.settings.damages[label - 1]
                with torch.autocast(pixels.device.type, enabled=False):
                    pixels = damage(pixels[None], name, strength, [generator])[0]
            clips.append(pixels)
            labels.append(label)
        return torch.stack(clips), torch.tensor(labels, device=batch.pixels.device)

    def save(self, folder: Path) -> None:
        """Write the network as config.json + safetensors."""
        self.network.save_pretrained(folder)

    @torch.no_grad()
    def preview(self) -> list[tuple[str, np.ndarray]]:
        """Unseen clips, captioned with what the network reads in them."""
        batch = LabelledShapes().batch(range(-8, 0))
        pixels, _ = self.damaged(batch)
        logits = self.network.classify(self.network(pixels.to(self.network.device)).features)
        names = {**CLASSES, DAMAGE: ("intact", *self.settings.damages)}
        choices = [[names[name][idx] for idx in logits[name].argmax(1).tolist()] for name in names]
        captions = (
            f"{caption} | read as {', '.join(read)}"
            for caption, *read in zip(batch.captions, *choices, strict=True)
        )
        return list(zip(captions, pixels_to_uint8(pixels), strict=True))
