"""`videogen verify-resume`: whether a killed run of a recipe goes on exactly; light to import."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer


def verify_resume_command(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            show_default=False,
            help="Name of a recipe, or MODULE:FUNCTION for your own, in a file in this folder.",
        ),
    ],
    num_steps: Annotated[int, typer.Option(help="Steps of the run.")] = 6,
    kill_at: Annotated[int, typer.Option(help="Step after which the second run is killed.")] = 4,
    num_processes: Annotated[int, typer.Option(help="Training processes.")] = 1,
    batch_size: Annotated[
        int | None, typer.Option(help="Clips per step. By default the recipe's own.")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="muon or adamw. By default the recipe's own.")
    ] = None,
    mixed_precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="no (float32) or bf16. By default the recipe's own.")
    ] = None,
    gradient_accumulation_steps: Annotated[
        int | None, typer.Option(help="Parts to split a batch into. By default the recipe's own.")
    ] = None,
    num_data_workers: Annotated[
        int | None, typer.Option(help="Processes that make clips. By default the recipe's own.")
    ] = None,
    accelerator: Annotated[
        bool, typer.Option("--accelerator", help="Use a GPU if there is one. By default the CPU is used.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the two runs in this empty folder.")
    ] = None,
) -> None:
    """Check that a run of a recipe that is killed (kill -9) and resumed equals an uninterrupted one.

    Compares weights, averaged weights, optimizer, learning rate, random generators, log and result bit for
    bit. The exit status is 0 if everything is identical and 1 if not.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"`--out` must be an empty or a new folder, got {str(out)!r}")

    from videogen.train.verify import Trial, verify_resume

    given: dict[str, Any] = {
        "batch_size": batch_size,
        "optimizer": optimizer,
        "mixed_precision": mixed_precision,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "num_data_workers": num_data_workers,
    }
    trial = Trial(
        recipe,
        num_steps,
        kill_at,
        num_processes,
        {name: value for name, value in given.items() if value is not None},
        cpu=not accelerator,
    )
    with tempfile.TemporaryDirectory(prefix="videogen-verify-") as scratch:
        found = verify_resume(trial, out or Path(scratch), typer.echo)
    if found:
        for line in found:
            typer.echo(f"differs: {line}")
        typer.echo(f"{recipe}: the resumed run differs from the straight one in {len(found)} places")
        raise typer.Exit(1)
    typer.echo(
        f"{recipe}: identical after {num_steps} steps, straight and with a kill at step {kill_at}: "
        "weights, averages, optimizer, learning rate, random generators, log and result"
    )
