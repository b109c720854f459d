"""`python -m videogen.train RECIPE`: run a recipe, or go on with it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from videogen.train.recipes import RECIPES, config_of


def main(
    recipe: Annotated[str, typer.Argument(help=f"One of: {', '.join(RECIPES)}; or MODULE:FUNCTION.")],
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run. By default runs/RECIPE.")
    ] = None,
    num_steps: Annotated[int | None, typer.Option(help="Optimizer steps of the whole run.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips per step, over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="muon (AdamW for all but matrices) or adamw.")
    ] = None,
    mixed_precision: Annotated[str | None, typer.Option(metavar="NAME", help="no (float32) or bf16.")] = None,
    gradient_accumulation_steps: Annotated[
        int | None, typer.Option(help="Parts that each process splits its share of a batch into.")
    ] = None,
    num_data_workers: Annotated[
        int | None, typer.Option(help="Processes that make clips ahead of time, for each training process.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="Save a checkpoint and stop after this time.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="`tensorboard`: write its logs too.")] = None,
    cpu: Annotated[bool, typer.Option(help="Train on the CPU even if there is a GPU.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the configuration and stop.")] = False,
) -> None:
    """Train with a recipe. The same command resumes."""
    try:
        config = config_of(recipe)
        if num_steps is not None:
            config = config.with_num_steps(num_steps)
        overrides: dict[str, Any] = {
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "optimizer": optimizer,
            "mixed_precision": mixed_precision,
            "gradient_accumulation_steps": gradient_accumulation_steps,
            "num_data_workers": num_data_workers,
            "seed": seed,
        }
        given = {name: value for name, value in overrides.items() if value is not None}
        config = dataclasses.replace(config, **given)
        print(json.dumps(config.resolved(), indent=2), flush=True)
        if dry_run:
            return
        from videogen.train.loop import train

        result = train(
            config,
            output_dir or Path("runs") / config.name,
            tracker=tracker,
            cpu=cpu,
            max_minutes=max_minutes,
        )
    except (ValueError, OSError, FloatingPointError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    state = "finished" if result.finished else "stopped, the same command resumes"
    print(f"{recipe}: {state} at step {result.step}; files in {result.folder}")


if __name__ == "__main__":
    typer.run(main)
