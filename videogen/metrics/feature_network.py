"""A small network of our own that turns clips into features, by which sets of clips are compared.

It has learned to name what clips of the world `shapes` show and how their drawing is damaged
(`videogen.train.objectives.features`); its features are what its classifiers read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.files import file_hash
from videogen.metrics.features import FeatureExtractor

EMBEDDED_FEATURES = Path(__file__).resolve().parents[1] / "pretrained" / "features"
"""Folder of the weights that come with the package."""

_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass
class FeatureOutput(BaseOutput):
    """Features of clips.

    Attributes:
        features: `(B, D)`.
    """

    features: Tensor


class FeatureNetwork(AlignedWeights, ModelMixin, ConfigMixin):
    """A 3-D convolutional network with one classifier for each attribute of a clip.

    Stages of residual blocks, each at half the resolution of the one before it in time and space.
    Blocks convolve space and time one after the other (R(2+1)D, Tran et al. 2018, arXiv:1711.11248). The last
    stage is averaged over time and space, so clips may have any size and number of frames. Each feature then
    has mean 0 and variance 1 over the training clips: without, what is small in a picture is hardly learned.

    Args:
        num_classes: For each attribute the number of its classes.
        stage_dims: Channels of the stages.
        stage_depths: Residual blocks of each stage.
        feature_dim: Number D of features.
        stride: Of the first convolution in space: the smaller, the smaller the objects that are told apart,
            and the slower the network.
        time_stride: Of the first convolution in time.

    Raises:
        ValueError: If not every stage has both numbers, or a number is below 1.
    """

    @register_to_config
    def __init__(
        self,
        num_classes: dict[str, int],
        stage_dims: tuple[int, ...] = (32, 64, 128),
        stage_depths: tuple[int, ...] = (1, 2, 2),
        feature_dim: int = 128,
        stride: int = 4,
        time_stride: int = 2,
    ) -> None:
        super().__init__()
        if len(stage_dims) != len(stage_depths) or not stage_dims:
            raise ValueError(
                f"`stage_depths` must have one number for each of `stage_dims` {tuple(stage_dims)}, "
                f"got {tuple(stage_depths)}"
            )
        if min(*stage_dims, *stage_depths, feature_dim, stride, time_stride) < 1:
            raise ValueError(
                "`stage_dims`, `stage_depths`, `feature_dim`, `stride` and `time_stride` must be at least 1, "
                f"got {tuple(stage_dims)}, {tuple(stage_depths)}, {feature_dim}, {stride} and {time_stride}"
            )
        reach, time_reach = stride // 2 + 1, time_stride // 2
        kernel = (2 * time_reach + 1, 2 * reach + 1, 2 * reach + 1)
        strides, padding = (time_stride, stride, stride), (time_reach, reach, reach)
        self.conv_in = nn.Conv3d(3, stage_dims[0], kernel, strides, padding)
        layers: list[nn.Module] = []
        previous = stage_dims[0]
        for dim, depth in zip(stage_dims, stage_depths, strict=True):
            if layers:
                layers.append(nn.Conv3d(previous, dim, 3, stride=2, padding=1))
            layers += [ResidualBlock(dim) for _ in range(depth)]
            previous = dim
        self.stages = nn.Sequential(*layers)
        self.norm_out = nn.BatchNorm3d(previous)
        self.conv_out = nn.Conv3d(previous, feature_dim, 1)
        self.norm_features = nn.BatchNorm1d(feature_dim, affine=False)
        self.classifiers = nn.ModuleDict(
            {name: nn.Linear(feature_dim, count) for name, count in num_classes.items()}
        )

    def forward(self, pixels: Tensor, return_dict: bool = True) -> FeatureOutput | tuple[Tensor]:
        """Features of clips.

        Args:
            pixels: `(B, 3, F, H, W)` in [-1, 1].
            return_dict: Whether to return a `FeatureOutput` rather than a tuple.
        """
        # Faster on a CPU than channels first. In that layout, torch 2.13 also computes gradients of a
        # convolution over time of two frames in bfloat16 from memory that was never written.
        pixels = pixels.contiguous(memory_format=torch.channels_last_3d)
        hidden_states = self.norm_out(self.stages(self.conv_in(pixels))).relu()
        features = self.norm_features(self.conv_out(hidden_states).relu().mean((2, 3, 4)))
        return FeatureOutput(features) if return_dict else (features,)

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """Logits `(B, number of classes)` of each attribute, of features `(B, D)`."""
        return {name: classifier(features) for name, classifier in self.classifiers.items()}


class ResidualBlock(nn.Module):
    """Convolutions over space and then over time, added to what comes in, `(B, C, F, H, W)`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(dim)
        self.conv_space = nn.Conv3d(dim, dim, (1, 3, 3), padding=(0, 1, 1))
        self.conv_time = nn.Conv3d(dim, dim, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The same shape, `(B, C, F, H, W)`."""
        update = self.conv_space(self.norm(hidden_states).relu()).relu()
        return hidden_states + self.conv_time(update)


def load_feature_network(
    folder: str | Path = EMBEDDED_FEATURES, *, device: str | torch.device = "cpu"
) -> FeatureNetwork:
    """Load a feature network in float32, in evaluation mode.

    Args:
        folder: Where `save_pretrained` wrote it; the one that comes with the package by default.
        device: Where it goes.

    Raises:
        ValueError: If there is no such folder or it holds no weights.
    """
    if not (Path(folder) / _WEIGHTS).is_file():
        raise ValueError(f"`folder` must hold a feature network, but {folder} has no {_WEIGHTS}")
    network = FeatureNetwork.from_pretrained(str(folder), torch_dtype=torch.float32)
    return network.to(device).eval()


def load_feature_extractor(
    folder: str | Path = EMBEDDED_FEATURES, *, device: str | torch.device = "cpu"
) -> FeatureExtractor:
    """A feature network ready to measure with, named after its folder and known by the hash of its weights.

    Raises:
        ValueError: See `load_feature_network`.
    """
    network = load_feature_network(folder, device=device)
    name = "shapes_features" if Path(folder) == EMBEDDED_FEATURES else Path(folder).name
    weights_hash = file_hash(Path(folder) / _WEIGHTS)
    return FeatureExtractor(name, weights_hash, lambda pixels: network(pixels.to(network.device)).features)
