"""The command line, `videogen ...`, with a command of its own for each thing there is to do.

Nothing heavy is imported before a command needs it: help, the version and most mistakes are answered at once.
"""

from __future__ import annotations

import functools
import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated, Any

import typer

from videogen import __version__
from videogen.commands.compare import compare_command
from videogen.commands.evaluate import evaluate_command
from videogen.commands.explore import explore_command
from videogen.commands.finetune import finetune_command
from videogen.commands.finetune_codec import finetune_codec_command
from videogen.commands.messages import EXIT_ERROR, EXIT_PARTIAL, one_line_errors, one_line_warnings, say
from videogen.commands.options import is_standard_output, standard_output, with_settings
from videogen.commands.prepare import prepare_command
from videogen.commands.replay import replay_command
from videogen.commands.verify_resume import verify_resume_command
from videogen.settings import GenerationSettings, merge

app = typer.Typer(
    name="videogen",
    help="Text to video on any machine: a prompt in, a clip out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # which wraps paragraphs at the width of the terminal
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
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Text to video on any machine: a prompt in, a clip out."""


@app.command()
@with_settings
def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            show_default=False,
            help='What to show; "" generates freely. May be left out with --like.',
        ),
    ] = None,
    *,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where to write: .mp4, .gif, .webp, .apng, .png, .npz, or a path that ends with / "
            "for PNG frames. Several clips are numbered: clip-0.mp4, clip-1.mp4, ... "
            "- is the standard output, as .mp4; -.gif, -.webp, ... in another format. "
            "By default a name made of the prompt and the seed, in this folder.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Clip k is made from seed + k. Drawn at random if not given; printed in any case."),
    ] = None,
    num_videos: Annotated[int, typer.Option(help="Clips per prompt.")] = 1,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="CLIP", help="Take everything that is not given here from the recipe of a clip."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="FILE.json", help="Take settings from a preset; they win over those of --like."),
    ] = None,
    settings: GenerationSettings,
    check_memory: Annotated[
        bool,
        typer.Option(
            "--check-memory/--no-check-memory",
            help="Refuse clips that need more memory than there is, before anything is computed.",
        ),
    ] = True,
    preview: Annotated[
        bool | None,
        typer.Option(
            help="Draw the clip under the bar as it is foreseen. By default in terminals with 24-bit colours."
        ),
    ] = None,
    timings: Annotated[bool, typer.Option("--timings", help="Say where the seconds went.")] = False,
) -> None:
    """Make clips from prompts.

    Each file carries its recipe (prompt, seed, all settings), which `videogen info` shows and
    `videogen replay` follows. Ctrl-C while denoising writes the clip as predicted so far; a second one does
    not wait for that. A clip that comes out blank or NaN is named and not written, the others are: the exit
    status is 3 then, or 1 if there are none.
    """
    if prompts is None and like is None:
        raise typer.BadParameter("give at least one, or --like CLIP", param_hint="PROMPT")
    start = time.perf_counter()
    with one_line_errors(), one_line_warnings(), ExitStack() as stack:
        from videogen.commands.planned_clips import check_leaves_alone, plan_clips
        from videogen.io import frame_rate
        from videogen.presets import Preset
        from videogen.prompt_text import one_line
        from videogen.recipe import Recipe

        prompts = None if prompts is None else [one_line(prompt, "`prompt`") for prompt in prompts]
        recipe = None if like is None else Recipe.of_clip(like)
        chosen = merge(recipe, None if preset is None else Preset.load(preset), settings)
        if chosen.negative_prompt is not None:
            chosen = replace(chosen, negative_prompt=one_line(chosen.negative_prompt, "`negative_prompt`"))
        if recipe is not None:
            prompts = prompts or [one_line(recipe.prompt, "the recipe's prompt")]
            seed = recipe.seed if seed is None else seed
        piped = is_standard_output(out)  # and so what is said goes to stderr
        if out is not None and piped:
            if len(prompts or []) * num_videos > 1:
                raise ValueError(f"`--out {out}` takes one clip: name a file for several")
            out = stack.enter_context(standard_output(out))
        clips = plan_clips(prompts or [], num_videos, seed, out)
        if like is not None:
            check_leaves_alone(like, clips)
        if chosen.fps is not None:
            frame_rate(chosen.fps, clips[0].path)

        from videogen.commands.startup import quick_imports

        import_start = time.perf_counter()
        with quick_imports():
            from videogen.commands.generate import Stopwatch, generate_clips
            from videogen.pipelines.output import BadClipsError
        watch = Stopwatch()
        watch.seconds["import"] = time.perf_counter() - import_start
        num_bad = 0
        for clip, made in generate_clips(clips, chosen, watch, preview, check_memory):
            if isinstance(made, BadClipsError):
                num_bad += 1
                name = "the clip" if piped else clip.path
                say("error", f"{name} is not written: that of seed {clip.seed} {made.bad_clips[0]}")
            else:
                name = "standard output" if piped else typer.format_filename(made.path)
                typer.echo(f"{name}  seed {clip.seed}", err=piped)
        if num_bad == len(clips):
            raise typer.Exit(EXIT_ERROR)
        count = f"{len(clips) - num_bad} of {len(clips)}" if num_bad else len(clips)
        seconds = time.perf_counter() - start
        typer.echo(f"{count} {'clip' if len(clips) == 1 else 'clips'} in {seconds:.2f} s", err=piped)
        if timings:
            spent = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in watch.seconds.items())
            typer.echo(spent, err=piped)
        if num_bad:
            raise typer.Exit(EXIT_PARTIAL)


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


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command as it is, but for errors and warnings, which take one line each."""

    @functools.wraps(command)
    def guarded(**options: Any) -> None:
        with one_line_errors(), one_line_warnings():
            command(**options)

    return guarded


app.command("replay")(_guarded(replay_command))
app.command("evaluate")(_guarded(evaluate_command))
app.command("compare")(_guarded(compare_command))
app.command("explore")(_guarded(explore_command))
app.command("prepare")(_guarded(prepare_command))
app.command("finetune")(_guarded(finetune_command))
app.command("finetune-codec")(_guarded(finetune_codec_command))
app.command("verify-resume")(_guarded(verify_resume_command))


def main() -> None:
    """The console script."""
    # A file name or prompt that the terminal's encoding cannot show must not end the command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
