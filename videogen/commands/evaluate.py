"""`videogen evaluate`: measure a model and write the report; nothing heavy is imported before it runs."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from videogen.commands.options import option
from videogen.files import check_folder_of, write_text
from videogen.settings import SETTINGS


def evaluate_command(
    model: Annotated[
        str | None, option("model", "Folder or hub id of the model. By default the embedded model.")
    ] = None,
    world: Annotated[str, typer.Option(help="World to draw prompts from: shapes or shapes-mini.")] = "shapes",
    num_prompts: Annotated[
        int, typer.Option(help="Prompts of each kind: seen in training, held out, two objects.")
    ] = 400,
    steps: Annotated[
        list[int] | None,
        option("num_inference_steps", "Denoising steps. Repeat the option to compare several."),
    ] = None,
    guidance: Annotated[
        list[float] | None, option("guidance_scale", "Guidance scale. Repeat the option to compare several.")
    ] = None,
    num_codec_clips: Annotated[int, typer.Option(help="Clips to measure the codec on.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of prompts and noise.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Clips made at a time.")] = 8,
    device: Annotated[str, option("device", "cpu, cuda, cuda:1, ... or mps.")] = "cpu",
    dtype: Annotated[
        str, option("dtype", "float32, bfloat16 or float16. bfloat16 is faster on some processors.")
    ] = "float32",
    out: Annotated[
        Path,
        typer.Option(
            help="Report to write, ending in .md. All numbers are written to a .json of the same name."
        ),
    ] = Path("report.md"),
) -> None:
    """Measure how often clips show what the prompt asks for, the codec's PSNR, and seconds per clip."""
    if out.suffix != ".md":
        raise ValueError(f"`--out` must end in .md, got {str(out)!r}")
    if out.is_dir():
        raise ValueError(f"`--out` must be a file, but {str(out)!r} is a folder")
    check_folder_of(out)

    from rich.console import Console
    from rich.table import Table

    from videogen.commands.generate import check_dtype
    from videogen.evaluation import evaluate
    from videogen.pipelines.devices import check_device
    from videogen.pipelines.loading import load

    pipeline = load(model, device=check_device(device), dtype=check_dtype(dtype))
    pipeline.set_progress_bar_config(disable=True)
    own = asdict(pipeline.defaults)
    for name, given in (("num_inference_steps", steps), ("guidance_scale", guidance)):
        if given and name not in own:
            raise ValueError(f"`{SETTINGS[name].flag}` is no setting of a {type(pipeline).__name__}")
    report = evaluate(
        pipeline,
        world,
        num_inference_steps=steps or [own.get("num_inference_steps", 1)],
        guidance_scales=guidance or [own.get("guidance_scale", 1.0)],
        num_prompts=num_prompts,
        num_codec_clips=num_codec_clips,
        seed=seed,
        batch_size=batch_size,
        model=model or "the embedded model",
        show_progress=True,
    )
    write_text(out, report.to_markdown())
    write_text(out.with_suffix(".json"), report.to_json())

    console = Console()
    console.print("Right clips, in brackets 95 % intervals", markup=False)
    header, rows = report.accuracy_table(brief=True)
    for (num_steps, scale, seconds), rows_of_setting in groupby(rows, key=lambda row: row[:3]):
        console.print(f"\n{num_steps} steps, guidance {scale}: {seconds} s per clip")
        # Columns of one setting alone, without a frame, are what 80 characters hold.
        table = Table(*header[3:], box=None, pad_edge=False, header_style="dim")
        for row in rows_of_setting:
            table.add_row(*row[3:])
        console.print(table)
    console.print()
    console.print(
        f"Codec: PSNR {report.codec_psnr} dB on {report.codec_psnr.num_values} unseen clips", markup=False
    )
    console.print(f"Written: {out} and {out.with_suffix('.json')}", markup=False)
