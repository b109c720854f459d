"""Measures how often clips show what their prompts say, by steps and guidance, or along a training run.

    python benchmarks/prompt_accuracy.py --model FOLDER --out accuracy.json
    python benchmarks/prompt_accuracy.py --run runs/shapes_t2v --steps 8 --guidance 3 --out curve.json

Several models (`--model A --model B`) are measured one after the other on the same prompts and noise.
With `--run` the averaged weights of every checkpoint in a run's folder are measured, each at the
training time at which it was written: seconds between the lines of the run's log, where a pause between
two calls of the training command counts as one ordinary line. A run keeps few checkpoints unless
`keep_checkpoints` in its recipe says otherwise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file

from videogen.evaluation import EvaluationReport, evaluate, markdown_table
from videogen.metrics.intervals import Proportion
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline

PAUSE = 10
"""How many times longer than the median a gap between two lines of a log must be to be a pause."""


def main() -> None:
    """Measure, print tables, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="folder of a pipeline; the embedded one by default")
    parser.add_argument("--run", type=Path, help="folder of a training run, in place of --model")
    parser.add_argument("--world", default="shapes")
    parser.add_argument(
        "--num-prompts", type=int, default=400, help="of each kind: seen, held out, two objects"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 50])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0])
    parser.add_argument("--num-codec-clips", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=8, help="clips made together")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--bf16", action="store_true", help="multiply in bfloat16: sooner where the processor is made for it"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.run and arguments.model:
        parser.error("give either --model or --run")
    with torch.autocast(torch.device(arguments.device).type, torch.bfloat16, enabled=arguments.bf16):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Measure what the command line names."""
    if arguments.run:
        results = measure_run(arguments.run, arguments)
        print_curve(results)
    else:
        results = []
        for model in arguments.model or [None]:
            report = measure(load(model, device=arguments.device), model or "the embedded model", arguments)
            print(report.to_markdown(), flush=True)
            results.append(asdict(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2))


def measure(pipeline: TextToVideoPipeline, name: str, arguments: argparse.Namespace) -> EvaluationReport:
    """Evaluate one model as the command line says."""
    pipeline.set_progress_bar_config(disable=True)
    return evaluate(
        pipeline,
        arguments.world,
        num_inference_steps=arguments.steps,
        guidance_scales=arguments.guidance,
        num_prompts=arguments.num_prompts,
        num_codec_clips=arguments.num_codec_clips,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        model=name,
        show_progress=True,
    )


def measure_run(run: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Evaluate every checkpoint of a run, oldest first."""
    pipeline = load(run / "result", device=arguments.device)
    seconds = training_seconds(run / "log.jsonl")
    results = []
    for checkpoint in sorted((run / "checkpoints").glob("step-*")):
        step = json.loads((checkpoint / "state.json").read_text())["step"]
        averages = load_file(checkpoint / "ema.safetensors")
        for module, prefix in ((pipeline.unet, "denoiser."), (pipeline.text_encoder, "text_encoder.")):
            weights = {
                name.removeprefix(prefix): value
                for name, value in averages.items()
                if name.startswith(prefix)
            }
            module.load_state_dict({**module.state_dict(), **weights})
        report = measure(pipeline, checkpoint.name, arguments)
        logged = max((line for line in seconds if line <= step), default=min(seconds))
        results.append({"step": step, "training_seconds": seconds[logged], **asdict(report)})
    return results


def training_seconds(log: Path) -> dict[int, float]:
    """Training time at each step that a log has a line of, without pauses.

    The time before the first line is taken for that of an ordinary one.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    if len(lines) < 2:
        raise ValueError(f"{log} has {len(lines)} lines, at least 2 are needed to tell the time")
    gaps = [after["time"] - before["time"] for before, after in pairwise(lines)]
    usual = median(gaps)
    total, seconds = usual, {lines[0]["step"]: usual}
    for line, gap in zip(lines[1:], gaps, strict=True):
        total += gap if gap < PAUSE * usual else usual
        seconds[line["step"]] = total
    return seconds


def print_curve(results: list[dict[str, Any]]) -> None:
    """Markdown: one row for each checkpoint and setting."""
    kinds = list(results[0]["settings"][0]["accuracy"]) if results else []
    rows = []
    for result in results:
        for setting in result["settings"]:
            shares = [Proportion(**setting["accuracy"][kind]["all_right"]) for kind in kinds]
            numbers = [str(setting["num_inference_steps"]), f"{setting['guidance_scale']:g}"]
            minutes = f"{result['training_seconds'] / 60:.1f}"
            rows.append([str(result["step"]), minutes, *numbers, *map(str, shares)])
    header = ["step", "minutes", "steps", "guidance", *(f"{kind}, all right" for kind in kinds)]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
