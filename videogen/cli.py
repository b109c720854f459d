"""The command line: `videogen generate`, `info`, `evaluate`, `explore`, `prepare`, `finetune`, ...

Nothing heavy is imported before a command needs it: help, the version and most mistakes are answered at once.
"""

from __future__ import annotations

import functools
import io
import json
import sys
import time
from typing import Annotated, Any

import typer

from videogen import __version__
from videogen.commands.evaluate import evaluate_command
from videogen.commands.explore import explore_command
from videogen.commands.finetune import finetune_command
from videogen.commands.messages import one_line_errors, one_line_warnings
from videogen.commands.prepare import prepare_command
from videogen.commands.verify_resume import verify_resume_command

app = typer.Typer(
    name="videogen",
    help="Text to video on any machine: a prompt in, a clip out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"videogen {__version__}")
        raise typer.Exit


@app.callback()
def videogen(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Text to video on any machine: a prompt in, a clip out."""


@app.command()
def generate(
    prompts: Annotated[
        list[str],
        typer.Argument(metavar="PROMPT", show_default=False, help='What to show; "" generates freely.'),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where to write: .mp4, .gif, .webp, .apng, .png, .npz, or a path that ends with / "
            "for PNG frames. Several clips are numbered: clip-0.mp4, clip-1.mp4, ... "
            "By default a name made of the prompt and the seed, in this folder.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Clip k is made from seed + k. Drawn at random if not given; printed in any case."),
    ] = None,
    num_videos: Annotated[int, typer.Option(help="Clips per prompt.")] = 1,
    negative_prompt: Annotated[str, typer.Option(metavar="TEXT", help="What to steer away from.")] = "",
    steps: Annotated[int | None, typer.Option(help="Denoising steps. By default the model's own.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt; 1 and below is without guidance.")
    ] = None,
    guidance_kind: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="How guidance is done: cfg (the default), rescaled, interval, apg, adaptive; "
            "like interval:low=0.2,high=0.8.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="euler, heun, dpm++2m, unipc, ...; which ones depends on the model."
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="KIND=N,...",
            help="Compute a part of the model every N steps only: deep, spatial, text, temporal, guidance. "
            "Faster, and not the same clip. first=N and last=N name steps that compute everything.",
        ),
    ] = None,
    num_frames: Annotated[int | None, typer.Option(help="Frames per clip.")] = None,
    height: Annotated[int | None, typer.Option(help="Of a frame, in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Of a frame, in pixels.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="A saved pipeline, or its id on the hub. By default the embedded model."
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH[:SCALE]",
            help="Adapters from `videogen finetune` or diffusers; repeat it to stack several.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ... or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="float32, bfloat16 or float16.")] = "float32",
    attention: Annotated[
        str, typer.Option(metavar="NAME", help="sdpa, or xformers on a CUDA device that has it.")
    ] = "sdpa",
    timings: Annotated[bool, typer.Option("--timings", help="Say where the seconds went.")] = False,
) -> None:
    """Make clips from prompts.

    Each file carries its recipe (prompt, seed, all settings), which `videogen info` shows.
    """
    start = time.perf_counter()
    with one_line_errors(), one_line_warnings():
        from videogen.commands.plan import plan_clips
        from videogen.io import check_fps

        clips = plan_clips(prompts, num_videos, seed, out)
        if fps is not None:
            check_fps(fps, clips[0].path)

        from videogen.commands.startup import quick_imports

        import_start = time.perf_counter()
        with quick_imports():
            from videogen.commands.generate import Settings, Stopwatch, generate_clips
        watch = Stopwatch()
        watch.seconds["import"] = time.perf_counter() - import_start
        settings = Settings(
            model=model,
            device=device,
            dtype=dtype,
            scheduler=scheduler,
            negative_prompt=negative_prompt,
            num_inference_steps=steps,
            guidance_scale=guidance,
            guidance=guidance_kind,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            cache=cache,
            attention=attention,
            loras=tuple(lora or ()),
        )
        for clip, written in generate_clips(clips, settings, watch):
            typer.echo(f"{typer.format_filename(written.path)}  seed {clip.seed}")
        typer.echo(
            f"{len(clips)} {'clip' if len(clips) == 1 else 'clips'} in {time.perf_counter() - start:.2f} s"
        )
        if timings:
            typer.echo(", ".join(f"{name} {seconds:.2f} s" for name, seconds in watch.seconds.items()))


@app.command()
def info(
    clip: Annotated[
        str, typer.Argument(metavar="CLIP", show_default=False, help="A clip file or a folder of frames.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is in a clip file, and the recipe it was made with."""
    with one_line_errors(), one_line_warnings():
        from videogen.commands.info import describe_clip, print_clip

        description = describe_clip(clip)
        if as_json:
            typer.echo(json.dumps(description, indent=2))
        else:
            print_clip(description)


@functools.wraps(evaluate_command)
def _evaluate(**options: Any) -> None:
    with one_line_errors(), one_line_warnings():
        evaluate_command(**options)


app.command("evaluate")(_evaluate)


@functools.wraps(explore_command)
def _explore(**options: Any) -> None:
    with one_line_errors(), one_line_warnings():
        explore_command(**options)


app.command("explore")(_explore)


@functools.wraps(prepare_command)
def _prepare(**options: Any) -> None:
    with one_line_errors(), one_line_warnings():
        prepare_command(**options)


app.command("prepare")(_prepare)


@functools.wraps(finetune_command)
def _finetune(**options: Any) -> None:
    with one_line_errors(), one_line_warnings():
        finetune_command(**options)


app.command("finetune")(_finetune)


@functools.wraps(verify_resume_command)
def _verify_resume(**options: Any) -> None:
    with one_line_errors(), one_line_warnings():
        verify_resume_command(**options)


app.command("verify-resume")(_verify_resume)


def main() -> None:
    """The console script."""
    # A file name or prompt that the terminal's encoding cannot show must not end the command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
