"""`videogen compare`: models side by side on the same prompts; nothing heavy is imported before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.commands.messages import EXIT_ERROR, EXIT_PARTIAL, printable
from videogen.commands.options import option

if TYPE_CHECKING:
    from rich.console import Console

    from videogen.comparison.models import GeneratedClip
    from videogen.comparison.report import ComparisonReport

CLIPS = "clips"


def compare_command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            show_default=False,
            help="Saved models: folders, hub ids, or `embedded`, gan, vae, rnn, transformer, dit.",
        ),
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text file with one prompt a line. By default prompts are drawn from --world.",
        ),
    ] = None,
    world: Annotated[
        str | None,
        typer.Option(help="World to draw prompts from: shapes (the default) or shapes-mini."),
    ] = None,
    num_prompts: Annotated[
        int | None,
        typer.Option(help="Number of prompts. By default 64, or all prompts of the file."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Every model makes clip k from prompt k and seed + k.")] = 0,
    device: Annotated[str, option("device", "cpu, cuda, cuda:1, ... or mps.")] = "cpu",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the report.")] = Path("report"),
) -> None:
    """Compare models on the same prompts: accuracy, distance to real clips, time and memory.

    Writes index.html (all clips side by side), comparison.md, comparison.json and clips/. The exit status is
    0 if everything is there, 3 if a model, a clip or a line of the prompts file is missing (the report
    names it and the reason), and 1 if no model could be run.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a folder, but {str(out)!r} is a file")
    if num_prompts is not None and num_prompts < 1:
        raise ValueError(f"`--num-prompts` must be at least 1, got {num_prompts}")
    if prompts is not None and world is not None:
        raise ValueError("`--world` is for drawn prompts: leave it out, or `--prompts`")

    from rich.console import Console

    from videogen.comparison.comparison import NUM_REFERENCE_CLIPS, compare
    from videogen.comparison.prompts import drawn_prompts
    from videogen.folder_lock import locked
    from videogen.metrics.feature_network import load_feature_extractor
    from videogen.metrics.prompt_accuracy import EvaluationPrompt
    from videogen.pipelines.devices import check_device
    from videogen.text.prompt_file import read_prompts

    left_out: list[str] = []
    others = None
    if prompts is None:
        drawn_from = world or "shapes"
        chosen = drawn_prompts(64 if num_prompts is None else num_prompts, seed, drawn_from)
        others = drawn_prompts(NUM_REFERENCE_CLIPS, -1 - seed, drawn_from)
    else:
        texts, left_out = read_prompts(prompts)
        chosen = [EvaluationPrompt.of(text) for text in texts[:num_prompts]]
    for line in left_out:
        typer.echo(f"warning: {printable(line)}", err=True)
    checked_device = check_device(device)
    with locked(out, "out"):
        with _bar(len(chosen)) as on_model:
            report, clips = compare(
                models,
                chosen,
                load_feature_extractor(device=checked_device),
                seed=seed,
                device=checked_device,
                reference_prompts=others,
                left_out=left_out,
                on_model=on_model,
            )
        write_report(report, clips, out)
    print_report(report, Console(highlight=False))
    typer.echo(
        f"Written: {typer.format_filename(out / 'index.html')}, comparison.md, comparison.json, {CLIPS}/"
    )
    if all(item.failure for item in report.models):
        raise typer.Exit(EXIT_ERROR)
    if report.is_partial:
        raise typer.Exit(EXIT_PARTIAL)


def write_report(report: ComparisonReport, clips: list[list[GeneratedClip]], out: Path) -> None:
    """Write the page, the tables, the numbers, and every clip as a file with its recipe inside."""
    from videogen.codec.pixels import pixels_to_uint8
    from videogen.comparison.page import comparison_page
    from videogen.files import write_text
    from videogen.io import write_clip

    files: list[list[Path | None]] = []
    for number, (item, made) in enumerate(zip(report.models, clips, strict=True)):
        folder = out / CLIPS / str(number)
        paths: list[Path | None] = []
        for idx, clip in enumerate(made):
            if clip.pixels is None:
                paths.append(None)
                continue
            recipe = {"prompt": report.prompts[idx], "seed": report.seed + idx, "model": item.model}
            frames = pixels_to_uint8(clip.pixels[None])[0]
            paths.append(write_clip(frames, folder / f"{idx:03d}.webp", recipe=recipe).path)
        files.append(paths)
    write_text(out / "index.html", comparison_page(report, files))
    write_text(out / "comparison.md", report.to_markdown())
    write_text(out / "comparison.json", report.to_json())


def print_report(report: ComparisonReport, console: Console) -> None:
    """Print what fits into a terminal, and all notes."""
    from rich.table import Table
    from rich.text import Text

    for header, rows in (report.quality_table(brief=True), report.cost_table()):
        if rows:
            table = Table(*header, box=None, pad_edge=False, header_style="dim")
            for row in rows:
                table.add_row(*(Text(printable(cell)) for cell in row))
            console.print(table)
            console.print()
    for note in report.notes:
        console.print(Text(f"- {printable(note)}"))


@contextmanager
def _bar(num_prompts: int) -> Iterator[Callable[[str], Callable[[], object]]]:
    """A bar with the time left for each model, in a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def on_model(model: str) -> Callable[[], object]:
            task = progress.add_task(printable(model), total=num_prompts)
            return lambda: progress.advance(task)

        yield on_model
