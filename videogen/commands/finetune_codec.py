"""`videogen finetune-codec`: train the decoder of a model's codec on footage; light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def finetune_codec_command(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET", show_default=False, help="Folder that `videogen prepare --pixels` wrote."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", show_default=False, help="Folder for the result, log and previews."),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="The model whose codec to train. By default the embedded model."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 500,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Clips per step, over all processes. By default 8, or all clips if there are fewer."
        ),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate; it falls as a cosine.")] = 1e-3,
    held_out: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the videos to measure on and not to train on.")
    ] = 0.1,
    gradient_accumulation_steps: Annotated[
        int, typer.Option(help="Parts to split a batch into, for less memory.")
    ] = 1,
    mixed_precision: Annotated[str, typer.Option(metavar="NAME", help="no (float32) or bf16.")] = "no",
    validate_every: Annotated[
        int | None,
        typer.Option(help="Steps between measurements; 0 for none. By default a quarter of all steps."),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    num_data_workers: Annotated[int, typer.Option(help="Processes that read clips ahead of time.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    max_minutes: Annotated[
        float | None, typer.Option(help="Save a checkpoint and stop after this time.")
    ] = None,
    tracker: Annotated[
        str | None, typer.Option(metavar="NAME", help="tensorboard: write its logs too.")
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Train on the CPU even if there is a GPU.")] = False,
) -> None:
    """Sharpen a model's pictures of your own footage: train its decoder and nothing else.

    Latents do not change, so the denoiser and its adapters still fit. Reports the PSNR of held-out videos
    before, during and after training. The same command resumes exactly.
    """
    from videogen.data.footage.store import read_index

    read_index(dataset)  # a wrong folder is told before anything heavy is imported

    from videogen.train.finetune_codec import CodecFinetuneSettings, codec_finetune_config
    from videogen.train.loop import train

    settings = CodecFinetuneSettings(
        model=model,
        num_steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        held_out=held_out,
        gradient_accumulation_steps=gradient_accumulation_steps,
        mixed_precision=mixed_precision,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        num_data_workers=num_data_workers,
        seed=seed,
    )
    config = codec_finetune_config(dataset, settings)
    result = train(config, out, tracker=tracker, cpu=cpu, max_minutes=max_minutes, rehearsed=True)
    if not result.finished:
        typer.echo(f"stopped at step {result.step} of {steps}: the same command resumes")
        return
    typer.echo(f"{result.step} steps done, a whole model with the new decoder: {out / 'result'}")
