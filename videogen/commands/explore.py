"""`videogen explore`: try many sampler settings and write a page; light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videogen.commands.messages import EXIT_INTERRUPTED, printable
from videogen.commands.options import option
from videogen.files import check_folder_of, write_text

ASK_SECONDS = 600
"""A grid that takes longer has to be agreed to."""

_MAX_NOTES = 10


def explore_command(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            help="Folder for the results. The same command resumes there.",
        ),
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text file with one prompt a line. By default prompts are drawn from --world.",
        ),
    ] = None,
    num_prompts: Annotated[int, typer.Option(help="Number of prompts to draw from --world.")] = 24,
    world: Annotated[str, typer.Option(help="World to draw prompts from: shapes or shapes-mini.")] = "shapes",
    scheduler: Annotated[
        list[str] | None,
        option(
            "scheduler", "Scheduler. Repeat this option, and those below up to --seed, to compare several."
        ),
    ] = None,
    steps: Annotated[list[int] | None, option("num_inference_steps", "Denoising steps.")] = None,
    guidance: Annotated[
        list[float] | None, option("guidance_scale", "Guidance scale. By default the model's own.")
    ] = None,
    guidance_kind: Annotated[
        list[str] | None, option("guidance", "Kind of guidance, as for `videogen generate`.")
    ] = None,
    cache: Annotated[
        list[str] | None,
        option("cache", "Step cache, as for `videogen generate`, or none.", "KIND=N,...|none"),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Seed of the noise. Two seeds also measure how diverse clips are."),
    ] = None,
    reference_steps: Annotated[
        int, typer.Option(help="Denoising steps of the reference clips; 0 leaves the comparison out.")
    ] = 50,
    budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Start no further setting after this time.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Run a grid of more than ten minutes without asking.")
    ] = False,
    max_seconds: Annotated[
        float | None, typer.Option(help="Limit of seconds per clip for the settings in best.json.")
    ] = None,
    model: Annotated[
        str | None, option("model", "Folder or hub id of the model. By default the embedded model.")
    ] = None,
    device: Annotated[str, option("device", "cpu, cuda, cuda:1, ... or mps.")] = "cpu",
    dtype: Annotated[
        str,
        option("dtype", "float32, bfloat16 or float16. The last two make small distances inexact."),
    ] = "float32",
    batch_size: Annotated[
        int, typer.Option(help="Clips made at a time. Faster; seconds are then means over a batch.")
    ] = 1,
) -> None:
    """Compare sampler settings by time, accuracy and distance to a slow reference.

    Writes report.html, with playable clips and plots, and best.json, a preset of the best settings.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"`FOLDER` must be a folder, but {str(out)!r} is a file")
    check_folder_of(out / "report.html")

    from videogen.commands.generate import check_dtype
    from videogen.data.shapes.world import WORLDS
    from videogen.exploration.explorer import check_sampling, estimate_seconds, explore
    from videogen.exploration.fitting import fitting_grid
    from videogen.exploration.grid import DEFAULT_SCHEDULERS, DEFAULT_STEPS
    from videogen.metrics.prompt_accuracy import EvaluationPrompt, evaluation_prompts
    from videogen.pipelines.devices import check_device
    from videogen.pipelines.loading import load
    from videogen.text.prompt_file import read_prompts

    if world not in WORLDS:
        raise ValueError(f"`world` must be one of {', '.join(WORLDS)}, got {world!r}")
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"`max_seconds` must be above 0, got {max_seconds}")
    if prompts is None:
        wanted = evaluation_prompts(WORLDS[world], num_prompts, held_out=False)
    else:
        texts, left_out = read_prompts(prompts)
        wanted = [EvaluationPrompt.of(text) for text in texts]
        for line in left_out:
            typer.echo(f"warning: {printable(line)}", err=True)
    pipeline = load(model, device=check_device(device), dtype=check_dtype(dtype))
    grid = fitting_grid(
        pipeline,
        schedulers=scheduler or DEFAULT_SCHEDULERS,
        steps=steps or DEFAULT_STEPS,
        guidance_scales=guidance,
        guidance=guidance_kind or ["cfg"],
        caches=[None if text == "none" else text for text in cache or ["none"]],
    )
    seeds = seed or [0]
    if not yes and budget is None:
        check_sampling(wanted, seeds, reference_steps, batch_size, budget)
        seconds = estimate_seconds(pipeline, wanted, grid, len(seeds), reference_steps, batch_size)
        if seconds > ASK_SECONDS:
            raise ValueError(
                f"the grid has {len(grid):,} points of {len(wanted) * len(seeds)} clips, by its first clip "
                f"about {duration(seconds)}: say --yes to run it, or --budget SECONDS to stop in between"
            )
    exploration = explore(
        pipeline,
        wanted,
        schedulers=grid.schedulers,
        steps=grid.steps,
        guidance_scales=grid.guidance_scales,
        guidance=grid.guidance,
        caches=grid.caches,
        seeds=seeds,
        reference_steps=reference_steps,
        batch_size=batch_size,
        budget=budget,
        folder=out,
        model=model or "the embedded model",
        show_progress=True,
    )
    write_text(out / "report.html", exploration.to_html())
    typer.echo(f"{len(exploration.results)} of {len(grid):,} points: {out / 'report.html'}")
    notes = exploration.bad_clip_notes()
    for note in notes[:_MAX_NOTES]:
        typer.echo(f"warning: {printable(note)}", err=True)
    if len(notes) > _MAX_NOTES:
        typer.echo(f"warning: and {len(notes) - _MAX_NOTES} more bad clips, see report.html", err=True)
    if exploration.stopped:
        typer.echo(f"stopped: {exploration.stopped}; the same command resumes")
    good = [result for result in exploration.results if result.failure is None]
    if any(result.values(exploration.quality) for result in good):
        best = exploration.best(max_seconds)
        best.save(out / "best.json")
        typer.echo(f"best: {best.scheduler}, {best.num_inference_steps} steps: {out / 'best.json'}")
        for name, value in best.notes.items():
            typer.echo(f"  {name}: {value}")
    if exploration.stopped == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


def duration(seconds: float) -> str:
    """A time for people: `90 s`, `12 minutes`, `5.3 hours`, `31 days`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.0f} s"
