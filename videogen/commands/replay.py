"""`videogen replay`: make a clip again from its recipe, and say whether it is the same; light to import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.commands.messages import printable
from videogen.commands.options import is_standard_output, option, standard_output
from videogen.settings import GenerationSettings, merge

if TYPE_CHECKING:
    import numpy as np

    from videogen.commands.generate import MadeClip
    from videogen.recipe import Recipe

EXIT_DIFFERS = 3

LOSSY = {".mp4": "H.264", ".gif": "256 colours"}
"""Suffixes of clips whose file does not hold the very frames, and why."""


def replay_command(
    clip: Annotated[
        str, typer.Argument(metavar="CLIP", show_default=False, help="A clip file or a folder of frames.")
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Where to write the new clip, as with --out of `videogen generate`."
        ),
    ] = None,
    model: Annotated[
        str | None, option("model", "The model, if it has moved. By default the one that the recipe names.")
    ] = None,
    device: Annotated[
        str | None, option("device", "cpu, cuda, ... or mps. By default the recipe's device.")
    ] = None,
    check_memory: Annotated[
        bool,
        typer.Option(
            "--check-memory/--no-check-memory", help="Refuse a clip that needs more memory than there is."
        ),
    ] = True,
) -> None:
    """Make a clip again from the recipe inside it, and check that all frames are identical.

    Uses as many CPU threads as the recipe names, if there are as many cores. The exit status is 0 if the
    frames are identical, 3 if they differ, and 1 if the clip cannot be made again.
    """
    from videogen.recipe import Recipe

    recipe = Recipe.of_clip(clip)
    settings = merge(recipe, GenerationSettings(model=model or None, device=device or None))
    if out is not None and is_standard_output(out):
        with standard_output(out) as path:
            _replay(clip, recipe, path, settings, check_memory, piped=True)
    else:
        _replay(clip, recipe, out, settings, check_memory, piped=False)


def _replay(
    clip: str,
    recipe: Recipe,
    out: str | None,
    settings: GenerationSettings,
    check_memory: bool,
    *,
    piped: bool,
) -> None:
    """Do what the command says, with these settings.

    Where the clip goes to the standard output, all messages go to stderr.
    """
    from videogen.commands.planned_clips import PlannedClip, check_leaves_alone
    from videogen.io import check_output_path, read_clip, write_clip

    # Only a clip that is written needs a path.
    planned = PlannedClip(recipe.prompt, recipe.seed, out or "")
    if out is not None:
        check_output_path(out)
        check_leaves_alone(clip, [planned])
    stored = read_clip(clip).frames

    from videogen.commands.startup import quick_imports

    with quick_imports():
        from videogen.commands.generate import ClipMaker, Stopwatch
        from videogen.pipelines.loading import find_folder

    try:
        find_folder(settings.model)
    except ValueError as error:
        raise ValueError(f"{error}: give the model of this clip with --model") from error
    with _threads(recipe.num_threads):
        maker = ClipMaker(settings, 1, Stopwatch(), check_memory=check_memory)
        with maker.bar.progress:
            made = maker.make(planned, recipe.stopped_after_step)
    if made.interrupted:
        raise KeyboardInterrupt
    lines, identical = compare(recipe, stored, made, LOSSY.get(Path(clip).suffix.lower()))
    for line in lines:
        typer.echo(printable(line if line.startswith("  ") else f"{clip}: {line}"), err=piped)
    if out is not None:
        written = write_clip(made.frames, out, fps=recipe.fps, recipe=made.recipe.to_dict())
        name = "standard output" if piped else typer.format_filename(written.path)
        typer.echo(f"written: {name}", err=piped)
    if not identical:
        raise typer.Exit(EXIT_DIFFERS)


def compare(recipe: Recipe, stored: np.ndarray, made: MadeClip, loss: str | None) -> tuple[list[str], bool]:
    """What is to be said of a clip and its replay, and whether they are identical.

    Args:
        recipe: Of the clip.
        stored: Frames `(F, H, W, 3)` uint8 as decoded from its file.
        made: The replay.
        loss: Why the file does not hold the very frames; None if it does.
    """
    import hashlib

    replayed = made.recipe.frames_sha256 == recipe.frames_sha256
    as_made = hashlib.sha256(stored.tobytes()).hexdigest() == recipe.frames_sha256
    measured = _distance(stored, made.frames)
    if loss is not None:
        measured += f" to the frames as decoded from the file, a lossy format ({loss})"
    if replayed and as_made:
        return ["identical"], True
    if replayed and loss is not None:
        return [f"identical; {measured}"], True
    if replayed:
        return [
            f"differs: {measured} to the frames in the file",
            "  the replay is what the recipe promises: the frames in the file were changed",
        ], False
    lines = [f"differs: {measured}" + ("" if loss is not None else " to the frames in the file")]
    surroundings = recipe.differences(made.recipe)
    lines += [f"  {line}" for line in surroundings]
    if loss is None and not as_made:
        lines.append("  the frames in the file are not those of the recipe either: it was changed")
    elif not surroundings:
        lines.append("  it was made in the same surroundings: its recipe was changed")
    return lines, False


def _distance(stored: np.ndarray, frames: np.ndarray) -> str:
    """PSNR, or why there is none; an odd size is padded in an .mp4."""
    import torch

    from videogen.metrics.reconstruction import psnr

    num_frames, height, width = frames.shape[:3]
    padded = (num_frames, height + height % 2, width + width % 2)
    if stored.shape[:3] not in (frames.shape[:3], padded):
        shapes = [
            f"{count} of {columns}x{rows}" for count, rows, columns in (stored.shape[:3], frames.shape[:3])
        ]
        return f"the file holds {shapes[0]} frames, the replay {shapes[1]}, with no PSNR"
    stored = stored[:, :height, :width]
    value = psnr(torch.from_numpy(stored.copy())[None], torch.from_numpy(frames)[None], 255).item()
    return f"PSNR {value:.2f} dB"


@contextmanager
def _threads(num_threads: int | None) -> Iterator[None]:
    """Compute with a number of CPU threads, or as many as there are cores."""
    import torch

    before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(max(1, min(num_threads, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
