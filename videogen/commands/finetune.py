"""`videogen finetune`: train a model on a prepared dataset; light to import."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from videogen.commands.messages import printable

DEFAULT_LORA_RANK = 16


def finetune_command(
    dataset: Annotated[
        Path,
        typer.Argument(metavar="DATASET", show_default=False, help="Folder that `videogen prepare` wrote."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", show_default=False, help="Folder for the result, log and previews."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The model to start from, as for `videogen prepare`. By default the embedded model.",
        ),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(metavar="RANK", help=f"Rank of the adapters to train. By default {DEFAULT_LORA_RANK}."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Train all weights instead of adapters.")] = False,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 500,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Clips per step, over all processes. By default 8, or all clips if there are fewer."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Highest learning rate. By default 1e-3 for adapters and 2e-4 for all weights."),
    ] = None,
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="muon (AdamW for all but matrices) or adamw. Adapters always use AdamW."
        ),
    ] = "muon",
    lr_schedule: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="How the learning rate falls after the warm-up: linear, cosine or constant."
        ),
    ] = "cosine",
    warmup_steps: Annotated[
        int | None,
        typer.Option(help="Steps in which the learning rate rises. By default a 20th of all steps."),
    ] = None,
    ema_decay: Annotated[
        float, typer.Option(help="Decay of the averaged weights, which are the result.")
    ] = 0.99,
    gradient_accumulation_steps: Annotated[
        int, typer.Option(help="Parts to split a batch into, for less memory.")
    ] = 1,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing", help="Compute activations twice, for less memory and more time."
        ),
    ] = False,
    mixed_precision: Annotated[str, typer.Option(metavar="NAME", help="no (float32) or bf16.")] = "no",
    caption_dropout: Annotated[
        float, typer.Option(help="Share of clips trained without a caption, which guidance needs.")
    ] = 0.1,
    prediction_type: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Train it to predict epsilon or v_prediction. Needs --full; not for flow models.",
        ),
    ] = None,
    snr_gamma: Annotated[
        float | None,
        typer.Option(metavar="GAMMA", help="Gamma of min-SNR loss weights; 5 is usual. Not for flow models."),
    ] = None,
    zero_terminal_snr: Annotated[
        bool,
        typer.Option(
            "--zero-terminal-snr",
            help="End the noise schedule in pure noise. Needs --full and v_prediction.",
        ),
    ] = False,
    offset_noise: Annotated[
        float,
        typer.Option(help="Strength of noise that a whole channel of a clip shares; 0.05 is usual."),
    ] = 0.0,
    noise_prior: Annotated[
        str,
        typer.Option(metavar="NAME", help="How frames share noise: independent, mixed or progressive."),
    ] = "independent",
    condition_rate: Annotated[
        float,
        typer.Option(help="Share of clips of which pixels are known; needs `prepare --pixels`."),
    ] = 0.0,
    train_text: Annotated[
        bool, typer.Option("--train-text", help="With `--full`: train the text encoder, new words or not.")
    ] = False,
    validation_prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROMPT",
            help="Prompt of a preview clip before, during and after training; repeat the option for "
            "several. By default four captions of the dataset.",
        ),
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(help="Steps between previews; 0 for none. By default a quarter of all steps."),
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
    """Train a model on your own footage: adapters (LoRA) by default, or all weights.

    Reports the memory and time it will take before it starts. You can stop it at any time: the same command
    resumes exactly.
    """
    if full and lora is not None:
        raise ValueError("choose `--lora` or `--full`: got both")

    from videogen.data.footage.store import read_index

    read_index(dataset)  # a wrong folder is told before anything heavy is imported

    from videogen.prompt_text import one_line

    prompts = None
    if validation_prompt is not None:
        prompts = tuple(one_line(text, "`validation_prompt`") for text in validation_prompt)

    from videogen.train.finetune import FinetuneSettings, finetune_config
    from videogen.train.loop import train

    settings = FinetuneSettings(
        model=model,
        lora_rank=None if full else (DEFAULT_LORA_RANK if lora is None else lora),
        num_steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        lr_schedule=lr_schedule,
        warmup_steps=warmup_steps,
        ema_decay=ema_decay,
        gradient_accumulation_steps=gradient_accumulation_steps,
        gradient_checkpointing=gradient_checkpointing,
        mixed_precision=mixed_precision,
        caption_dropout=caption_dropout,
        prediction_type=prediction_type,
        snr_gamma=snr_gamma,
        zero_terminal_snr=zero_terminal_snr,
        offset_noise=offset_noise,
        noise_prior=noise_prior,
        condition_rate=condition_rate,
        train_text=train_text,
        validation_prompts=prompts,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        num_data_workers=num_data_workers,
        seed=seed,
    )
    config, source = finetune_config(dataset, settings)
    result = train(config, out, tracker=tracker, cpu=cpu, max_minutes=max_minutes, rehearsed=True)
    if not result.finished:
        typer.echo(f"stopped at step {result.step} of {steps}: the same command resumes")
        return
    use = f"--model {out / 'result'}" if full else f"--lora {out / 'result'}"
    if not full and model is not None:
        use = f"--model {model} {use}"
    typer.echo(f"{result.step} steps done: {out / 'result'}")
    caption = source.dataset.clips[0].caption
    typer.echo(f"videogen generate {shlex.quote(printable(caption))} {use}")
