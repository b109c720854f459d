"""Measures step caching on a trained model: the time it saves, and what it does to the clips.

    python benchmarks/step_cache.py --num-prompts 100 --steps 8 50 --out step_cache.json

For each number of steps and each setting, beside the same model without a cache:

- seconds of denoising one clip, text included, decoding not; taken in one process in alternating order after
  a round to warm up, medians;
- PSNR of the decoded clip to the one without a cache from the same noise, mean over the prompts with the
  bootstrap interval;
- prompt accuracy with Wilson's intervals, on the same prompts (one object, seen in training) and noise.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from videogen.codec.contract import Codec
from videogen.data.shapes.world import WORLDS
from videogen.evaluation import BATCH_SIZE, markdown_table
from videogen.metrics.intervals import MeanInterval, Proportion, bootstrap_mean
from videogen.metrics.prompt_accuracy import EvaluationPrompt, evaluation_prompts, measure_prompt_accuracy
from videogen.metrics.reconstruction import psnr
from videogen.models.packing import pack_for_inference
from videogen.models.step_cache import StepCache
from videogen.pipelines.loading import load

PLAIN = "none"
MAX_PSNR = 100.0  # of clips that come out equal
SETTINGS = (
    *("deep=2", "deep=3", "deep=2,last=1", "spatial=2", "text=2", "text=4", "spatial=2,text=4"),
    *("guidance=2", "guidance=4", "deep=2,guidance=2"),
)
SHOWN = ("colour", "motion", "all_right")


def main() -> None:
    """Measure, print a table for each number of steps, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder of a pipeline; the embedded one by default")
    parser.add_argument(
        "--settings", nargs="+", default=list(SETTINGS), help="as `videogen generate --cache`"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[8])
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--world", default="shapes")
    parser.add_argument("--num-prompts", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads; by default what torch chooses")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--packed", action="store_true", help="pack the denoiser first (CPU)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    caches = {PLAIN: None, **{setting: StepCache.parse(setting) for setting in arguments.settings}}
    pipeline = load(arguments.model, device=arguments.device)
    pipeline.set_progress_bar_config(disable=True)
    if arguments.packed:
        pack_for_inference(pipeline.unet)
    prompts = evaluation_prompts(WORLDS[arguments.world], arguments.num_prompts, held_out=False)
    results = []
    for steps in arguments.steps:
        call = partial(pipeline, num_inference_steps=steps, guidance_scale=arguments.guidance)
        rows = measure(call, pipeline.vae, prompts, caches, arguments)
        results.append({"steps": steps, "guidance": arguments.guidance, "settings": rows})
        print_table(rows, steps, arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2))


def measure(
    call: Callable[..., Any],
    vae: Codec,
    prompts: Sequence[EvaluationPrompt],
    caches: dict[str, StepCache | None],
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    """One row for each setting, the first without a cache."""
    seconds = denoising_seconds(call, prompts[0].caption, caches, arguments.repeats)
    plain_clips: Tensor | None = None
    rows = []
    for setting, cache in caches.items():
        clips = make_clips(call, vae, prompts, cache, arguments.seed).cpu()
        row: dict[str, Any] = {"setting": setting, "seconds": seconds[setting]}
        if plain_clips is None:
            plain_clips = clips
        else:
            distances = psnr(clips, plain_clips).clamp(max=MAX_PSNR)
            row["psnr"] = asdict(bootstrap_mean(distances.tolist()))
        row["accuracy"] = asdict(measure_prompt_accuracy(clips, prompts))
        rows.append(row)
    return rows


def denoising_seconds(
    call: Callable[..., Any], prompt: str, caches: dict[str, StepCache | None], repeats: int
) -> dict[str, list[float]]:
    """Seconds from prompt to latents by setting; the order is turned round from one repeat to the next."""
    seconds: dict[str, list[float]] = {setting: [] for setting in caches}
    for repeat in range(1 + repeats):
        for setting in list(caches) if repeat % 2 else list(reversed(caches)):
            start = time.perf_counter()
            latents = call(prompt, seed=0, step_cache=caches[setting], output_type="latent").frames
            latents.cpu()  # waits for them
            if repeat:
                seconds[setting].append(time.perf_counter() - start)
    return seconds


@torch.no_grad()
def make_clips(
    call: Callable[..., Any],
    vae: Codec,
    prompts: Sequence[EvaluationPrompt],
    cache: StepCache | None,
    seed: int,
) -> Tensor:
    """Clips `(P, 3, F, H, W)` in [-1, 1]; clip k from `seed + k`."""
    captions = [prompt.caption for prompt in prompts]
    batches = [
        call(
            captions[first : first + BATCH_SIZE], seed=seed + first, step_cache=cache, output_type="latent"
        ).frames
        for first in range(0, len(captions), BATCH_SIZE)
    ]
    # Not through the pipeline, which refuses a blank clip: here it is a wrong one.
    return torch.cat([vae.decode(latents).clamp(-1, 1) for latents in batches])


def print_table(rows: Sequence[dict[str, Any]], steps: int, arguments: argparse.Namespace) -> None:
    """Markdown of one number of steps."""
    plain = median(rows[0]["seconds"])
    cells = []
    for row in rows:
        seconds = median(row["seconds"])
        distance = str(MeanInterval(**row["psnr"])) if "psnr" in row else ""
        shares = [str(Proportion(**row["accuracy"][attribute])) for attribute in SHOWN]
        cells.append([row["setting"], f"{seconds:.3f}", f"{plain / seconds:.2f}", distance, *shares])
    print(
        f"{steps} steps, guidance {arguments.guidance:g}, {arguments.num_prompts} prompts, "
        f"{torch.get_num_threads()} threads. In brackets 95 % intervals.\n"
    )
    header = [f"step cache, median of {arguments.repeats}", "s", "times as fast", "PSNR, dB"]
    header += [attribute.replace("_", " ") for attribute in SHOWN]
    print(markdown_table(header, cells), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
