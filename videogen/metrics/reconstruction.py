"""How close a reconstructed clip is to the original."""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_RANGE, FRAME_RANGE = 2.0, 1.0
"""`data_range` of pixels in [-1, 1], and of frames in [0, 1]."""

_SSIM_WINDOW = 11


def psnr(clips: Tensor, reference: Tensor, data_range: float = PIXEL_RANGE) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB, `10 log10(data_range² / MSE)`; infinite for equal clips.

    The mean squared error is taken over the whole clip, not averaged frame by frame.

    Args:
        clips: `(B, ...)`, such as pixels `(B, 3, F, H, W)`; clamp them if only what is seen shall count.
        reference: The originals, of the same shape.
        data_range: From the darkest value to the brightest: 2 for pixels in [-1, 1], 1 for frames in [0, 1].

    Returns:
        `(B,)` float64.

    Raises:
        ValueError: If the shapes differ, there are no values, or `data_range` is not positive.
    """
    _check_pair(clips, reference, data_range)
    errors = (clips.double() - reference.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / errors)


def ssim(clips: Tensor, reference: Tensor, data_range: float = PIXEL_RANGE) -> Tensor:
    """Structural similarity of each clip, mean over its frames.

    By scikit-image, with the settings of Wang et al. 2004 (IEEE Trans. Image Proc. 13): a Gaussian window of
    sigma 1.5, K1 0.01, K2 0.03; the mean over the three channels.

    Args:
        clips: Pixels `(B, 3, F, H, W)`; frames of at least 11x11 pixels.
        reference: The originals, of the same shape.
        data_range: See `psnr`.

    Returns:
        `(B,)` float64, at most 1.

    Raises:
        ValueError: If the shapes differ or are wrong, `data_range` is not positive, or scikit-image is not
            installed.
    """
    _check_pair(clips, reference, data_range)
    if clips.ndim != 5 or clips.shape[1] != 3 or min(clips.shape[3:]) < _SSIM_WINDOW:
        raise ValueError(
            f"`clips` must be (B, 3, F, H, W) with frames of at least {_SSIM_WINDOW}x{_SSIM_WINDOW}, "
            f"got {tuple(clips.shape)}"
        )
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ValueError("`ssim` needs scikit-image: pip install 'videogen[metrics]'") from error

    def of_clip(clip: Tensor, original: Tensor) -> float:
        frames = zip(clip.movedim(1, 0).numpy(), original.movedim(1, 0).numpy(), strict=True)
        return (
            sum(
                structural_similarity(
                    *pair,
                    data_range=data_range,
                    channel_axis=0,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
                for pair in frames
            )
            / clip.shape[1]
        )

    pairs = zip(clips.detach().double().cpu(), reference.detach().double().cpu(), strict=True)
    return torch.tensor([of_clip(*pair) for pair in pairs], dtype=torch.float64)


def _check_pair(clips: Tensor, reference: Tensor, data_range: float) -> None:
    if clips.shape != reference.shape:
        raise ValueError(
            f"`clips` must have the shape of `reference` {tuple(reference.shape)}, got {tuple(clips.shape)}"
        )
    if clips.ndim < 2 or not clips.numel():
        raise ValueError(f"`clips` must be (B, ...) and not empty, got {tuple(clips.shape)}")
    if data_range <= 0:
        raise ValueError(f"`data_range` must be positive, got {data_range}")
