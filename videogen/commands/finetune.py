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
        typer.Argument(metavar="DATASET", show_default=False, help="What `videogen prepare` wrote."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", show_default=False, help="Of the run: result, log, previews.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The model to start from, as in `videogen prepare`. By default the embedded one.",
        ),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            metavar="RANK", help=f"Train adapters of this rank. By default of rank {DEFAULT_LORA_RANK}."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Train all weights in place of adapters.")] = False,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 500,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Clips per step, over all processes. By default 8, or fewer if there are fewer."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="By default 1e-3 for adapters and 2e-4 for all weights.")
    ] = None,
    optimizer: Annotated[
        str,
        typer.Option(metavar="NAME", help="muon, or adamw for matrices too; adapters are always AdamW's."),
    ] = "muon",
    lr_schedule: Annotated[
        str, typer.Option(metavar="NAME", help="How the rate falls after its rise: linear, cosine, constant.")
    ] = "cosine",
    warmup_steps: Annotated[int | None, typer.Option(help="Of linear rise. By default a 20th.")] = None,
    ema_decay: Annotated[float, typer.Option(help="Of the averaged weights, which are the result.")] = 0.99,
    gradient_accumulation_steps: Annotated[
        int, typer.Option(help="Parts to work a batch off in, for less memory.")
    ] = 1,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute activations twice, for less memory.")
    ] = False,
    mixed_precision: Annotated[str, typer.Option(metavar="NAME", help="no or bf16.")] = "no",
    caption_dropout: Annotated[
        float, typer.Option(help="Share of clips trained without caption, for guidance.")
    ] = 0.1,
    prediction_type: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="epsilon or v_prediction, to change what the model predicts."),
    ] = None,
    snr_gamma: Annotated[
        float | None, typer.Option(metavar="GAMMA", help="Min-SNR weights; 5 is usual. Not for flow models.")
    ] = None,
    zero_terminal_snr: Annotated[
        bool,
        typer.Option("--zero-terminal-snr", help="End the noise schedule in pure noise; needs v_prediction."),
    ] = False,
    offset_noise: Annotated[
        float,
        typer.Option(help="Noise that is one for a whole clip and channel, in deviations; 0.05 is usual."),
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
            help="Make a clip of it before, during and after; repeat it for several. By default four "
            "captions of the dataset.",
        ),
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Steps between these clips; 0 for none. By default a quarter.")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    num_data_workers: Annotated[int, typer.Option(help="Processes that read clips ahead of time.")] = 0,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    max_minutes: Annotated[float | None, typer.Option(help="Stop with a checkpoint after this time.")] = None,
    tracker: Annotated[
        str | None, typer.Option(metavar="NAME", help="tensorboard, to log there too.")
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave an accelerator unused.")] = False,
) -> None:
    """Train a model on your own footage: adapters (LoRA) by default, or all of it.

    Tells first what memory and time it will take. Stop it as you like: the same command goes on, exactly.
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
        typer.echo(f"stopped at step {result.step} of {steps}: the same command goes on")
        return
    use = f"--model {out / 'result'}" if full else f"--lora {out / 'result'}"
    if not full and model is not None:
        use = f"--model {model} {use}"
    typer.echo(f"{result.step} steps done: {out / 'result'}")
    caption = source.dataset.clips[0].caption
    typer.echo(f"videogen generate {shlex.quote(printable(caption))} {use}")
