"""Training of the feature network: name what a clip shows, and how its drawing was damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.pixels import pixels_to_uint8
from videogen.data.batch import Batch, LabelledSource
from videogen.data.shapes.labels import LabelledShapes
from videogen.metrics.damage import DAMAGES, damage
from videogen.metrics.feature_network import FeatureNetwork, load_feature_network
from videogen.sampling.noise import seeded_generator
from videogen.train.objectives.base import Objective, ObjectiveConfig, check_result

DAMAGE = "damage"
"""The attribute that tells how a clip was damaged, see `FeatureObjectiveConfig.damage_names`."""

LIKENESS_NORM = 0.5
"""Of the weights that a class begins with, where it is known what it looks like."""


@dataclass(frozen=True)
class FeatureObjectiveConfig(ObjectiveConfig):
    """Settings of `FeatureObjective`.

    Attributes:
        stage_dims: Of the network.
        stage_depths: Of the network.
        feature_dim: Of the network.
        stride: Of the network.
        time_stride: Of the network.
        clips: What labels mean, and where previews come from; the run's own stream must be of that kind.
        classifier_rate: How fast the classifiers learn, by AdamW, as a multiple of the learning rate; None
            for as fast as all else. A step of Muon is as large for classes that are seldom seen, of which it
            knows little.
        attributes: Which of the clips' attributes and `DAMAGE` are learned; all if empty.
        init_from: Folder of a network that is the start, with its own sizes; None for a fresh one.
        damages: Names from `DAMAGES`, all equally likely.
        damage_rate: Share of clips that are damaged, in [0, 1].
        weakest: Least strength of a damage, in (0, `strongest`]; its logarithm is spread evenly.
        strongest: Largest strength, in (0, 1].
        codec: Folder of a codec through which clips are sent, so that the network knows decoded clips; None
            for none.
        codec_rate: Share of clips that are sent through it, in [0, 1]; they are not damaged otherwise.
        seed: Of damages and their strengths.
    """

    stage_dims: tuple[int, ...] = (32, 64, 128)
    stage_depths: tuple[int, ...] = (1, 2, 2)
    feature_dim: int = 128
    stride: int = 4
    time_stride: int = 2
    clips: LabelledSource = field(default_factory=LabelledShapes)
    classifier_rate: float | None = None
    attributes: tuple[str, ...] = ()
    init_from: str | None = None
    damages: tuple[str, ...] = ("noise", "blur", "warp")
    damage_rate: float = 0.5
    weakest: float = 0.1
    strongest: float = 1.0
    codec: str | None = None
    codec_rate: float = 0.0
    seed: int = 0

    @property
    def damage_names(self) -> tuple[str, ...]:
        """What the classes of `DAMAGE` mean."""
        return ("intact", *self.damages, *(() if self.codec is None else ("codec",)))

    @property
    def learned(self) -> dict[str, tuple[str, ...]]:
        """The attributes that are learned, with the names of their classes."""
        classes = {**self.clips.classes, DAMAGE: self.damage_names}
        return {name: classes[name] for name in self.attributes or classes}

    def build(self) -> FeatureObjective:
        """Make the objective, with a new network.

        Raises:
            ValueError: If a damage or an attribute is unknown, a rate or a strength is out of range, the
                codec or `init_from` is not there, or the network there tells other classes apart.
        """
        unknown = [name for name in self.damages if name not in DAMAGES]
        if unknown:
            raise ValueError(f"`damages` must be of {', '.join(DAMAGES)}, got {', '.join(unknown)}")
        known = (*self.clips.classes, DAMAGE)
        if not set(self.attributes) <= set(known):
            raise ValueError(f"`attributes` must be of {', '.join(known)}, got {', '.join(self.attributes)}")
        if not 0 <= self.damage_rate <= 1:
            raise ValueError(f"`damage_rate` must be between 0 and 1, got {self.damage_rate}")
        if not 0 < self.strongest <= 1:
            raise ValueError(f"`strongest` must be above 0 and at most 1, got {self.strongest}")
        if not 0 < self.weakest <= self.strongest:
            raise ValueError(
                f"`weakest` must be above 0 and at most `strongest` ({self.strongest}), got {self.weakest}"
            )
        if not 0 <= self.codec_rate <= 1 - self.damage_rate:
            raise ValueError(
                "`codec_rate` must be between 0 and what `damage_rate` leaves, "
                f"{1 - self.damage_rate:g}, got {self.codec_rate}"
            )
        if self.codec_rate > 0 and self.codec is None:
            raise ValueError(f"`codec` must be given with a `codec_rate` of {self.codec_rate}, got None")
        check_result("codec", self.codec)
        check_result("init_from", self.init_from)
        codec = None if self.codec is None else VideoAutoencoder.from_pretrained(self.codec)
        return FeatureObjective(self._network(), self, codec)

    def _network(self) -> FeatureNetwork:
        num_classes = {attribute: len(classes) for attribute, classes in self.learned.items()}
        if self.init_from is not None:
            network = load_feature_network(self.init_from)
            found = dict(network.config["num_classes"])
            if found != num_classes:
                raise ValueError(
                    f"`init_from` must be a network that tells {num_classes} apart, "
                    f"but {self.init_from} tells {found}"
                )
            return network
        network = FeatureNetwork(
            num_classes, self.stage_dims, self.stage_depths, self.feature_dim, self.stride, self.time_stride
        )
        for name, likeness in self.clips.likenesses().items():
            if name in num_classes:
                _begin_with(network.classifiers[name], likeness)
        return network


@torch.no_grad()
def _begin_with(classifier: nn.Module, likeness: Tensor) -> None:
    """Give classes that look alike `(classes, D)` weights that are alike: their principal components.

    Components are scaled by the root of their deviation, since fine differences matter as well; the weights
    of a class have the norm `LIKENESS_NORM`.
    """
    components, deviations, _ = torch.linalg.svd(likeness - likeness.mean(0), full_matrices=False)
    weights = components * deviations.sqrt()
    weights = LIKENESS_NORM * F.normalize(weights, dim=1)
    for parameter in classifier.parameters():
        parameter.zero_()
    weight = next(classifier.parameters())
    num_components = min(weight.shape[1], weights.shape[1])
    weight[:, :num_components] = weights[:, :num_components]


class FeatureObjective(Objective):
    """Mean cross-entropy of all classifiers, on clips of which some are damaged.

    The labels of a damaged clip still say what it showed before. As the damage has to be named too, features
    cannot become blind to it. A clip that went through the codec counts as damaged too.

    Args:
        network: Trained.
        config: Settings.
        codec: Frozen here; None where no clip is sent through one.
    """

    def __init__(
        self, network: FeatureNetwork, config: FeatureObjectiveConfig, codec: VideoAutoencoder | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = config
        if config.classifier_rate is not None:
            self.adamw_scales = {"classifiers": config.classifier_rate}
        self.codec = None if codec is None else codec.requires_grad_(False).eval()

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch: `loss`, and for each attribute `accuracy_...`, the share of clips named right.

        Raises:
            ValueError: If the clips have no labels.
        """
        if batch.labels is None:
            raise ValueError("these clips have no labels: this needs a source such as `LabelledShapes`")
        pixels, damage_labels = self.damaged(batch)
        logits = self.network.classify(self.network(pixels).features)
        labels = dict(zip(self.settings.clips.classes, batch.labels.unbind(1), strict=True))
        labels[DAMAGE] = damage_labels
        losses = [F.cross_entropy(logits[name].float(), labels[name]) for name in logits]
        accuracies = {
            f"accuracy_{name}": (logits[name].detach().argmax(1) == labels[name]).float().mean()
            for name in logits
        }
        return {"loss": torch.stack(losses).mean(), **accuracies}

    @torch.no_grad()
    def damaged(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The clips `(B, 3, F, H, W)`, each damaged in its own way or not at all, and how, `(B,)` int64."""
        settings = self.settings
        clips, labels = [], []
        for pixels, sample_id in zip(batch.pixels, batch.sample_ids, strict=True):
            generator = seeded_generator(settings.seed, sample_id)
            draw, place, which = torch.rand(3, generator=generator).tolist()
            label = 0
            if draw < settings.damage_rate:
                label = 1 + int(which * len(settings.damages))
                strength = settings.strongest * (settings.weakest / settings.strongest) ** place
                name = settings.damages[label - 1]
                with torch.autocast(pixels.device.type, enabled=False):
                    pixels = damage(pixels[None], name, strength, [generator])[0]
            elif draw < settings.damage_rate + settings.codec_rate:
                label = 1 + len(settings.damages)
            clips.append(pixels)
            labels.append(label)
        damaged = torch.stack(clips)
        coded = [row for row, label in enumerate(labels) if label > len(settings.damages)]
        if coded and self.codec is not None:
            damaged[coded] = self.codec.decode(self.codec.encode(damaged[coded])).to(damaged).clamp(-1, 1)
        return damaged, torch.tensor(labels, device=batch.pixels.device)

    def save(self, folder: Path) -> None:
        """Write the network as config.json + safetensors."""
        self.network.save_pretrained(folder)

    @torch.no_grad()
    def preview(self) -> list[tuple[str, np.ndarray]]:
        """Unseen clips, captioned with what the network reads in them."""
        batch = self.settings.clips.batch(range(-8, 0), self.network.device)
        pixels, _ = self.damaged(batch)
        logits = self.network.classify(self.network(pixels).features)
        names = self.settings.learned
        choices = [[names[name][idx] for idx in logits[name].argmax(1).tolist()] for name in names]
        captions = (
            f"{caption} | read as {', '.join(read)}"
            for caption, *read in zip(batch.captions, *choices, strict=True)
        )
        return list(zip(captions, pixels_to_uint8(pixels), strict=True))
