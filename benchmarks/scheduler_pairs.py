"""Runs every scheduler with every prediction type on data whose right samples are known, and prints a table.

    python benchmarks/scheduler_pairs.py --out pairs.md

Data are normal, with a mean of 0.5 and a deviation of 0.5, and the denoiser is the best possible one
(`videogen.sampling.gaussian`). For a sampler without randomness of its own there is a right end for every
noise: the number is the root mean square distance to it at 48 steps, and the order is fitted to 8, 16, 32 and
48 steps. For one that draws noise on the way, the numbers are how far mean and deviation of 20,000 samples
are off at 48 steps.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from videogen.evaluation import markdown_table
from videogen.exploration.fronts import fitted_order
from videogen.sampling.gaussian import GaussianDenoiser
from videogen.sampling.noise import seeded_generator
from videogen.sampling.predictions import signal_and_noise
from videogen.sampling.schedulers import (
    SCHEDULERS,
    check_scheduler_name,
    flow_scheduler,
    initial_noise_sigma,
    make_scheduler,
    scale_model_input,
    set_timesteps,
    step_arguments,
)

STEPS = (8, 16, 32, 48)  # the schedulers of distilled models take at most 50
NUM_SAMPLES = 20_000
MEAN = STD = 0.5
STOCHASTIC = ("ddpm", "euler_a", "dpm++sde", "lcm", "tcd")
TOLERANCE = 0.1


@dataclass(frozen=True)
class Outcome:
    """What one pair gave with one number of steps.

    Attributes:
        error: Root mean square distance to where the probability flow leads.
        mean_error: Of the samples.
        std_error: Of the samples.
    """

    error: float
    mean_error: float
    std_error: float


def main() -> None:
    """Print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    names = list(dict.fromkeys(name for kind in SCHEDULERS.values() for name in kind))
    rows = [[name, *(cell(kind, name) for kind in SCHEDULERS)] for name in sorted(names)]
    page = markdown_table(["scheduler", *SCHEDULERS], rows)
    reasons = [f"- {reason}" for name in sorted(names) for reason in refusals(name)]
    page += "\n\n" + "\n".join(dict.fromkeys(reasons)) + "\n"
    print(page)
    if arguments.out:
        arguments.out.write_text(page, encoding="utf-8")


def cell(kind: str, name: str) -> str:
    """What is said of a pair."""
    if name not in SCHEDULERS[kind]:
        return "refused"
    outcomes = [run(kind, name, num_steps) for num_steps in STEPS]
    last = outcomes[-1]
    if name in STOCHASTIC:
        verdict = "yes" if max(abs(last.mean_error), abs(last.std_error)) < TOLERANCE else "NO"
        return f"{verdict}: mean {last.mean_error:+.3f}, std {last.std_error:+.3f}"
    errors = [outcome.error for outcome in outcomes]
    order = fitted_order(STEPS, errors)
    verdict = "yes" if last.error < TOLERANCE else "NO"
    assert order is not None
    return f"{verdict}: {last.error:.4f}, order {order:.1f}"


def refusals(name: str) -> list[str]:
    """Why a name is refused, without the list of known ones."""
    reasons = []
    for kind in SCHEDULERS:
        try:
            check_scheduler_name(name, kind)
        except ValueError as error:
            reasons.append(str(error).split(". Known are")[0])
    return reasons


def run(kind: str, name: str, num_steps: int) -> Outcome:
    """Sample with one pair."""
    trained: Any = flow_scheduler()
    if kind != "flow_prediction":
        trained = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=kind,
            clip_sample=False,
        )
    scheduler: Any = make_scheduler(name, kind, trained)
    alphas = None if kind == "flow_prediction" else trained.alphas_cumprod
    denoiser = GaussianDenoiser(MEAN, STD, kind, alphas)
    set_timesteps(scheduler, num_steps, torch.device("cpu"))
    noise = torch.randn(1, NUM_SAMPLES, generator=torch.Generator().manual_seed(0))
    latents = noise * initial_noise_sigma(scheduler)
    extras = step_arguments(scheduler, [seeded_generator(1)])
    goal = denoiser.exact(latents, *signal_and_noise(scheduler, scheduler.timesteps[0]))
    for timestep in scheduler.timesteps:
        prediction = denoiser(scale_model_input(scheduler, latents, timestep), timestep)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **extras)[0]
    error = (latents - goal).square().mean().sqrt().item()
    return Outcome(error, latents.mean().item() - MEAN, latents.std().item() - STD)


if __name__ == "__main__":
    main()
