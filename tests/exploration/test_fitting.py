"""What fits a model is settled before anything is computed, and so is what its points are compared with."""

from typing import Any

import pytest
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from tests.tiny_pipeline import make_pipeline
from videogen.exploration.fitting import Reference, fitting_grid
from videogen.exploration.grid import Grid, GridPoint
from videogen.pipelines.generation import TextToVideo


def grid_of(pipeline: object, **changes: Any) -> Grid:
    settings: dict[str, Any] = {"schedulers": ["euler"], "steps": [2, 4], "guidance_scales": None}
    return fitting_grid(pipeline, **(settings | {"guidance": ["cfg"], "caches": [None]} | changes))


def of_diffusion(**settings: Any) -> TextToVideo:
    return make_pipeline(TextToVideo, scheduler=DDIMScheduler(**settings))


def test_the_scale_is_that_of_the_model_if_none_is_given() -> None:
    pipeline = make_pipeline(TextToVideo)
    assert grid_of(pipeline).guidance_scales == (pipeline.defaults.guidance_scale,)
    assert grid_of(pipeline, guidance_scales=[1.5]).guidance_scales == (1.5,)


def test_only_diffusion_has_samplers() -> None:
    with pytest.raises(ValueError, match="only a model of diffusion has samplers to explore"):
        grid_of("a pipeline")


def test_more_steps_than_a_scheduler_allows_are_refused() -> None:
    with pytest.raises(ValueError, match="`scheduler` 'ddim' with 1001 steps: "):
        grid_of(of_diffusion(), schedulers=["euler", "ddim"], steps=[4, 1001])
    with pytest.warns(UserWarning, match="distilled"), pytest.raises(ValueError, match="'lcm' with 51 steps"):
        grid_of(of_diffusion(), schedulers=["lcm"], steps=[51])


def test_a_scheduler_that_the_noise_does_not_fit_is_refused() -> None:
    pipeline = of_diffusion(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(ValueError, match="'heun' cannot begin at pure noise"):
        grid_of(pipeline, schedulers=["heun"])
    assert Reference.of_model(pipeline, 50).scheduler == "dpm++2m"
    assert Reference.of_model(of_diffusion(), 50).scheduler == "heun"


def test_each_guidance_has_one_reference() -> None:
    grid = grid_of(
        make_pipeline(TextToVideo),
        guidance_scales=[1.0, 3.0],
        guidance=["cfg", "rescaled", "adaptive"],
    )
    assert Reference("heun", 50).points(grid) == [
        GridPoint("heun", 50, 1.0, None),
        GridPoint("heun", 50, 3.0, "cfg"),
        GridPoint("heun", 50, 3.0, "rescaled:phi=0.7"),
    ]
