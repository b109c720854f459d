"""Schedulers on data whose right samples are known: they converge, and predictions mean the right clip."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from videogen.sampling.gaussian import GaussianDenoiser
from videogen.sampling.noise import seeded_generator
from videogen.sampling.predictions import noise_level, predict_clean, predict_from_clean, signal_and_noise
from videogen.sampling.schedulers import (
    SCHEDULERS,
    flow_scheduler,
    initial_noise_sigma,
    make_scheduler,
    scale_model_input,
    step_arguments,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*distilled:UserWarning")

MEAN, STD = 0.5, 0.5
STOCHASTIC = {"ddpm", "euler_a", "dpm++sde", "tcd"}
PAIRS = [(kind, name) for kind, names in SCHEDULERS.items() for name in names if name != "lcm"]


def sample(kind: str, name: str, num_steps: int) -> tuple[Tensor, Tensor]:
    """Samples `(1, 4000)`, and where the probability flow leads from the same noise."""
    trained = (
        flow_scheduler()
        if kind == "flow_prediction"
        else DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, prediction_type=kind)
    )
    scheduler = make_scheduler(name, kind, trained)
    alphas = None if kind == "flow_prediction" else trained.alphas_cumprod
    denoiser = GaussianDenoiser(MEAN, STD, kind, alphas)
    scheduler.set_timesteps(num_steps)  # type: ignore[attr-defined]
    noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    latents = noise * initial_noise_sigma(scheduler)
    extras = step_arguments(scheduler, [seeded_generator(1)])
    goal: Tensor | None = None
    for timestep in scheduler.timesteps:  # type: ignore[attr-defined]
        signal, level = signal_and_noise(scheduler, timestep)
        if goal is None:
            goal = denoiser.exact(latents, signal, level)
        prediction = denoiser(scale_model_input(scheduler, latents, timestep), timestep)
        clean = predict_clean(prediction, latents, timestep, scheduler, kind)
        variance = (signal * STD) ** 2 + level**2
        best = MEAN + STD**2 * signal / variance * (latents - signal * MEAN)
        torch.testing.assert_close(clean, best, rtol=0, atol=0.01)
        back = predict_from_clean(clean, latents, timestep, scheduler, kind)
        torch.testing.assert_close(back, prediction, rtol=0, atol=1e-3 if level > 0.1 else 0.1)
        assert abs(noise_level(scheduler, timestep) - level / (signal + level)) < 1e-9
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **extras)[0]  # type: ignore[attr-defined]
    assert goal is not None
    return latents, goal


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_samples_are_those_of_the_data(kind: str, name: str) -> None:
    samples, goal = sample(kind, name, 40)
    spread = 0.09 if name in STOCHASTIC else 0.06  # what 40 steps leave of the errors of first-order methods
    assert abs(samples.mean() - MEAN) < 0.06
    assert abs(samples.std() - STD) < spread
    if name not in STOCHASTIC:
        torch.testing.assert_close(samples, goal, rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        ("flow_prediction", "euler", 0.9),
        ("flow_prediction", "heun", 1.8),
        ("epsilon", "ddim", 0.8),
        ("epsilon", "heun", 1.8),
        ("v_prediction", "euler", 0.8),
    ],
)
def test_errors_fall_with_the_order_of_the_method(kind: str, name: str, least: float) -> None:
    errors = []
    for num_steps in (8, 32):
        samples, goal = sample(kind, name, num_steps)
        errors.append((samples - goal).square().mean().sqrt().item())
    order = torch.tensor(errors[0] / errors[1]).log2().item() / 2
    assert order > least


def test_jumps_of_distilled_models_give_too_little_variety_without_distillation() -> None:
    samples, _ = sample("flow_prediction", "lcm", 40)
    assert samples.std() < 0.8 * STD


def test_an_unknown_prediction_is_refused() -> None:
    scheduler = flow_scheduler()
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match="`prediction_type` must be flow_prediction, epsilon"):
        predict_clean(torch.zeros(1), torch.zeros(1), scheduler.timesteps[0], scheduler, "score")
