"""The field's feature network for clips, I3D, from a TorchScript file that the user has."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.files import file_hash
from videogen.metrics.features import FeatureExtractor

SIZE = 224
"""Side of the frames that the network was trained on, in pixels."""
MIN_FRAMES = 10
"""Fewer frames leave nothing after the strides of its layers."""


def load_i3d(path: str | Path, *, device: str | torch.device = "cpu") -> FeatureExtractor:
    """Load I3D (Carreira and Zisserman 2017, arXiv:1705.07750), trained on Kinetics-400.

    The file is the one called `i3d_torchscript.pt` in public evaluation code, or any TorchScript module with
    its call: `module(pixels, rescale=False, resize=False, return_features=True)` for pixels `(B, 3, F, 224,
    224)` in [-1, 1], which returns the activations before the softmax, `(B, 400)`. No such file comes with
    this package. A TorchScript file is a program: load only one from a source that you trust.

    Frames are resized bilinearly, with antialiasing, until their shorter side has 224 pixels, and cropped in
    the middle. Numbers from code that resizes otherwise are not comparable.

    Args:
        path: Of the file.
        device: Where the network goes.

    Raises:
        ValueError: If the file is missing or is no TorchScript module. From the extractor, if clips have
            under 10 frames or the module does not take this call.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"`path`: there is no file {str(file)!r}")
    try:
        module = torch.jit.load(str(file), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(f"`path` must be a TorchScript module, but {file} is none") from error

    def network(pixels: Tensor) -> Tensor:
        if pixels.shape[2] < MIN_FRAMES:
            raise ValueError(f"I3D needs clips of at least {MIN_FRAMES} frames, got {pixels.shape[2]}")
        prepared = _resize(pixels.to(device))
        try:
            return module(prepared, rescale=False, resize=False, return_features=True)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                f"{file} must take (pixels, rescale, resize, return_features), "
                f"as i3d_torchscript.pt does: {reason}"
            ) from error

    return FeatureExtractor(file.name, file_hash(file), network)


def _resize(pixels: Tensor) -> Tensor:
    """Pixels `(B, 3, F, 224, 224)` from the middle of the clips."""
    batch_size, _, num_frames, height, width = pixels.shape
    scale = SIZE / min(height, width)
    size = [max(SIZE, round(height * scale)), max(SIZE, round(width * scale))]
    frames = pixels.movedim(2, 1).flatten(0, 1)
    frames = F.interpolate(frames, size, mode="bilinear", align_corners=False, antialias=True)
    top, left = (size[0] - SIZE) // 2, (size[1] - SIZE) // 2
    frames = frames[..., top : top + SIZE, left : left + SIZE].clamp(-1, 1)
    return frames.unflatten(0, (batch_size, num_frames)).movedim(1, 2)
