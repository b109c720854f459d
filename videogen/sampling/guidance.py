"""Guidance: how the predictions with and without the prompt become one."""

from __future__ import annotations

from torch import Tensor


def classifier_free(noise_pred_uncond: Tensor, noise_pred_text: Tensor, guidance_scale: float) -> Tensor:
    """Go `guidance_scale` times the way from the unconditional to the conditional prediction.

    Ho and Salimans 2022, arXiv:2207.12598, eq. 6, with the scale w + 1 of that paper. All tensors have one
    shape.
    """
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


def classifier_free_by_difference(
    noise_pred_text: Tensor, difference: Tensor, guidance_scale: float
) -> Tensor:
    """The same, given `noise_pred_text - noise_pred_uncond`, or that of an earlier step, as `difference`."""
    return noise_pred_text + (guidance_scale - 1) * difference
