"""`videogen prepare`: make a training dataset of a folder of footage, and tell what happens to each video."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.commands.messages import EXIT_PARTIAL, printable
from videogen.commands.options import parse_rate
from videogen.data.footage.sequences import DEFAULT_PICTURE_FPS

if TYPE_CHECKING:
    from rich.console import Console

    from videogen.data.footage.frames import Colour
    from videogen.data.footage.planning import FootageSettings
    from videogen.data.footage.report import FootageReport
    from videogen.train.footage_encoders import FootageEncoders

_MAX_LINES = 400


def prepare_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", show_default=False, help="Folder of videos; folders inside it are read too."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DATASET", show_default=False, help="Folder for the dataset and its report."),
    ],
    num_frames: Annotated[
        list[int] | None,
        typer.Option(
            help="Frames per clip; repeat the option to allow several, of which a clip gets the largest that "
            "it fills. By default the model's own count and smaller ones, down to half of it."
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            help="Size of the clips, such as 64x64; repeat to allow several. By default the model's.",
        ),
    ] = None,
    aspect_buckets: Annotated[
        bool,
        typer.Option(
            "--aspect-buckets", help="Also allow 4:3, 3:2, 16:9 and their upright forms, at the same area."
        ),
    ] = False,
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            parser=parse_rate,
            help="Frames per second of the clips: 24, 29.97 or 24000/1001. By default the model's.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The model to train: a folder, or its id on the hub. By default the embedded model.",
        ),
    ] = None,
    split_scenes: Annotated[
        bool, typer.Option("--split-scenes", help="Find cuts; no clip crosses one.")
    ] = False,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep clips that look the same as another clip.")
    ] = False,
    picture_fps: Annotated[
        float, typer.Option(help="Frames per second of numbered pictures.")
    ] = DEFAULT_PICTURE_FPS,
    background: Annotated[
        str, typer.Option(metavar="COLOUR", help="Colour behind transparent parts: a name, or #rrggbb.")
    ] = "black",
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the report and encode nothing.")
    ] = False,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Keep the clips' pixels too, for `videogen finetune-codec`.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also print a line for each clip that is used.")
    ] = False,
    num_workers: Annotated[
        int | None, typer.Option(help="Videos to read at the same time. By default one per core.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ... or mps.")] = "cpu",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Precision of latents and embeddings: float32, bfloat16 or float16."
        ),
    ] = "float32",
) -> None:
    """Make a training dataset from your own footage: captioned clips as cached latents, and a report.

    Run it again after an interruption: what is done is kept. The exit status is 0 if every video is used,
    3 if the dataset is written but something was dropped (the report names it and the reason), and 1 if
    there is no dataset.
    """
    from videogen.data.footage.discovery import find_footage
    from videogen.data.footage.store import check_dataset_folder

    sizes = [_parse_size(text) for text in size or []]
    colour = _parse_colour(background)
    check_dataset_folder(out, folder)
    find_footage(folder)  # a wrong folder is told before the model is loaded

    from rich.console import Console

    from videogen.commands.generate import check_dtype
    from videogen.pipelines.devices import check_device
    from videogen.train.footage import available_cores, prepare_footage
    from videogen.train.footage_encoders import load_encoders

    encoders = load_encoders(model, device=check_device(device), dtype=check_dtype(dtype))
    settings = _settings(
        encoders, num_frames, sizes, aspect_buckets, fps, colour, split_scenes, keep_duplicates, picture_fps
    )
    console = Console(highlight=False)
    with _Bar() as bar:

        def show(report: FootageReport) -> None:
            bar.hide()
            print_report(report, console, verbose)
            console.print(f"The whole report: {out / 'report.html'}", markup=False)

        prepared = prepare_footage(
            folder,
            out,
            settings,
            encoders,
            num_workers=available_cores() if num_workers is None else num_workers,
            encode=not report_only,
            keep_pixels=pixels,
            on_progress=bar.update,
            on_report=show,
        )
    if not report_only:
        encoded = f"{prepared.num_encoded} {'clip' if prepared.num_encoded == 1 else 'clips'} encoded"
        console.print(f"Written: {out}, {encoded}, {prepared.num_cached} there already", markup=False)
    if prepared.report.dropped:
        raise typer.Exit(EXIT_PARTIAL)


def print_report(report: FootageReport, console: Console, verbose: bool = False) -> None:
    """Print the report: the totals, what was dropped and changed, and what a user might change."""
    from rich.table import Table
    from rich.text import Text

    from videogen.data.footage.discovery import describe_ignored
    from videogen.data.footage.report import describe_clip, describe_video

    lines: list[tuple[str, str, str]] = []
    for plan in report.plans:
        lines += [(plan.name, f"dropped: {problem.reason}", problem.detail) for problem in plan.dropped]
        if verbose and plan.inspection is not None:
            lines.append((plan.name, "read", describe_video(plan)))
            for clip in plan.clips:
                lines.append(
                    (plan.name, "clip", "; ".join((describe_clip(clip, report.settings.fps), *clip.notes)))
                )
            lines += [(plan.name, "note", note) for note in plan.notes]
    if lines:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", overflow="fold", max_width=36)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, kind, detail in lines[:_MAX_LINES]:
            style = "red" if kind.startswith("dropped") else "dim"
            table.add_row(Text(printable(name)), Text(kind, style=style), Text(printable(detail)))
        console.print(table)
        if len(lines) > _MAX_LINES:
            console.print(f"... and {len(lines) - _MAX_LINES} more lines, all of them in report.html")
        console.print()

    buckets = Table("frames", "size", "clips", box=None, pad_edge=False, header_style="dim")
    for bucket, count in report.buckets.items():
        buckets.add_row(str(bucket.num_frames), f"{bucket.width}x{bucket.height}", str(count))
    if report.num_clips:
        console.print(buckets)
        console.print()
    num_unused = sum(not plan.clips for plan in report.plans)
    console.print(
        f"{len(report.plans)} videos of {report.seconds:.0f} s give {report.num_clips} clips of "
        f"{report.clip_seconds:.0f} s at {report.settings.fps:g} fps; {num_unused} give none"
    )
    if report.reasons:
        console.print(
            "Dropped: " + ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        )
    if report.ignored:
        console.print(Text(f"{printable(describe_ignored(report.ignored))}; report.html lists them"))
    for line in (*report.advice, report.rule):
        console.print(Text(f"- {printable(line)}"))


def _settings(
    encoders: FootageEncoders,
    num_frames: list[int] | None,
    sizes: list[tuple[int, int]],
    aspect_buckets: bool,
    fps: float | None,
    background: Colour,
    split_scenes: bool,
    keep_duplicates: bool,
    picture_fps: float,
) -> FootageSettings:
    """What is asked for, and the model's own clips where nothing is."""
    from videogen.data.footage.framing import sizes_of_aspects
    from videogen.data.footage.planning import FootageSettings
    from videogen.train.footage import check_settings

    own, (per_time, per_space) = encoders.defaults, encoders.codec.compression
    if num_frames is None:
        step = max(per_time, own.num_frames // 4 // per_time * per_time)
        num_frames = list(range(own.num_frames, own.num_frames // 2 - 1, -step))
    sizes = sizes or [(own.height, own.width)]
    settings = FootageSettings(
        num_frames=tuple(sorted(set(num_frames))),
        sizes=tuple(sizes),
        fps=own.fps if fps is None else fps,
        background=background,
        split_scenes=split_scenes,
        keep_duplicates=keep_duplicates,
        picture_fps=picture_fps,
    )
    check_settings(settings, encoders.codec)
    if not aspect_buckets:
        return settings
    wider = [near for height, width in sizes for near in sizes_of_aspects(height, width, per_space)]
    return FootageSettings(**{**vars(settings), "sizes": tuple(dict.fromkeys(wider))})


def _parse_size(text: str) -> tuple[int, int]:
    """(height, width) of `WxH`."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text, re.ASCII)
    if match is None:
        raise ValueError(f"`--size` must be WxH, such as 64x64, got {text!r}")
    return int(match[2]), int(match[1])


def _parse_colour(text: str) -> Colour:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ValueError(f"`--background` must be a colour such as white or #ff8800, got {text!r}") from None
    return red, green, blue


class _Bar:
    """A bar with the time left, one for each stage, in a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left:"))
        self._progress = Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            disable=not console.is_terminal,
        )
        self._stage = ""
        self._task = self._progress.add_task("", visible=False)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hide()

    def update(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
        if stage != self._stage:
            self._progress.start()
            self._progress.reset(self._task, description=stage, total=total, visible=total > 0)
            self._stage = stage
        self._progress.update(self._task, completed=done)

    def hide(self) -> None:
        """Take the bar away until the next stage."""
        self._progress.stop()
