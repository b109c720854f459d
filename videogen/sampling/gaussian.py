"""A denoiser whose right answers are known: that of Gaussian data. Samplers are checked against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    """The best possible denoiser of values that are normal and independent of each other.

    It is a network to a sampler: it is given scaled latents and the timestep, nothing else.

    Attributes:
        mean: Of the data, one for all or of the shape of the latents.
        std: Of the data.
        prediction_type: As for `predict_clean`.
        alphas_cumprod: Of the noise schedule, `(T,)`; None for a flow, whose time is `timestep / 1000`.
    """

    mean: float | Tensor
    std: float
    prediction_type: str
    alphas_cumprod: Tensor | None = None

    def __call__(self, latents: Tensor, timestep: Tensor | float) -> Tensor:
        """The prediction for scaled latents of any shape, all at one timestep."""
        signal, noise = self.signal_and_noise(float(timestep))
        variance = (signal * self.std) ** 2 + noise**2
        clean = self.mean + self.std**2 * signal / variance * (latents - signal * self.mean)
        if self.prediction_type == "sample":
            return clean
        epsilon = noise / variance * (latents - signal * self.mean)
        if self.prediction_type == "epsilon":
            return epsilon
        if self.prediction_type == "v_prediction":
            return signal * epsilon - noise * clean
        return epsilon - clean

    def signal_and_noise(self, timestep: float) -> tuple[float, float]:
        """Factors of the clean values and of the noise; between whole timesteps log sigma is linear."""
        if self.alphas_cumprod is None:
            return 1 - timestep / 1000, timestep / 1000
        alphas = self.alphas_cumprod.double().clamp(min=2**-24)  # as diffusers has it of pure noise
        log_sigmas = 0.5 * ((1 - alphas) / alphas).log()
        low = min(max(int(timestep), 0), len(alphas) - 2)
        sigma = torch.lerp(log_sigmas[low], log_sigmas[low + 1], timestep - low).exp().item()
        signal = (1 + sigma**2) ** -0.5
        return signal, sigma * signal

    def exact(self, latents: Tensor, signal: float, noise: float) -> Tensor:
        """Where the probability flow leads from latents `signal * data + noise * noise` (Song et al. 2021).

        Each value keeps its quantile (arXiv:2011.13456, section 4.3, for a Gaussian).
        """
        spread = ((signal * self.std) ** 2 + noise**2) ** 0.5
        return self.mean + self.std / spread * (latents - signal * self.mean)
