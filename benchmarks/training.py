"""Measures training side by side: our loop, and the plain one around diffusers' `UNet3DConditionModel`.

    python benchmarks/training.py --sizes tiny small --dtypes float32 bfloat16 --out training.json

Both train a network of one configuration with weights in float32, on the same latents and text embeddings,
kept in memory, by diffusion (epsilon, 1000 steps); bfloat16 is accelerate's mixed precision.

- plain: what one writes with diffusers and accelerate: noise, timesteps, `DDPMScheduler.add_noise`, the mean
  squared error, AdamW, clipping of gradients, and diffusers' `EMAModel`.
- ours: `videogen.train`'s own steps with `FinetuneObjective`: the same, with noise that belongs to the clip
  and losses that are checked; without and with gradient checkpointing, which the peer cannot compute with. By
  AdamW (`optimizer="adamw"`), as the plain loop, and by Muon, the default.

Step times are medians of steps that alternate in one process for each dtype, after two to warm up: on a CPU
the processor's time of the one thread, so that other work on the machine counts little, on CUDA the clock's.
Memory is the peak of fresh processes that do three steps, less what a miniature took before, such as
the code of torch that a first step loads; on a CPU what the kernel counts (`ru_maxrss`), on CUDA what torch
allocates. `training_memory.py` counts that of the tensors alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from measuring import peak_bytes
from networks import SIZES, Size, attending, size_of

# A process starts with the peak of the one that made it: so nothing heavy is imported at the top.

WAYS = ("plain", "ours", "ours, checkpointing", "ours, Muon")
LEARNING_RATE = 1e-5
MINIATURE = Size(
    (4, 1, 2, 2),
    (1, 8),
    attending((8, 16), cross_attention_dim=8, attention_head_dim=8, norm_num_groups=4),
)


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small"])
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--measure", choices=("times", *WAYS), help=argparse.SUPPRESS)  # how it calls itself
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure_here(arguments)))
        return
    rows = []
    for size in arguments.sizes:
        for dtype in arguments.dtypes:
            seconds = in_fresh_process("times", size, dtype, arguments)
            for way in WAYS:
                memory = in_fresh_process(way, size, dtype, arguments)
                rows.append({"size": size, "dtype": dtype, "way": way, "seconds": seconds[way], **memory})
    print_table(rows)
    if arguments.out:
        settings = {name: vars(arguments)[name] for name in ("batch_size", "repeats", "device")}
        arguments.out.write_text(json.dumps(settings | {"rows": rows}, indent=2))


def in_fresh_process(what: str, size: str, dtype: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own measures; one that has set up accelerate keeps its precision."""
    command = [sys.executable, __file__, "--measure", what, "--sizes", size, "--dtypes", dtype]
    for name in ("batch_size", "repeats", "device"):
        command += [f"--{name.replace('_', '-')}", str(vars(arguments)[name])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_here(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of alternating steps, or MiB of one way to train."""
    import torch
    from accelerate import Accelerator

    torch.set_num_threads(1)
    precision = "no" if arguments.dtypes[0] == "float32" else "bf16"
    accelerator = Accelerator(cpu=arguments.device == "cpu", mixed_precision=precision)
    size = size_of(arguments.sizes[0], arguments.device)
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.measure != "times":
            make_step(arguments.measure, MINIATURE, 1, accelerator, Path(scratch, "miniature"))()
        before = peak_bytes(arguments.device)
        names = WAYS if arguments.measure == "times" else (arguments.measure,)
        ways = {
            name: make_step(name, size, arguments.batch_size, accelerator, Path(scratch)) for name in names
        }
        if arguments.measure != "times":
            for _ in range(3):
                ways[arguments.measure]()
            return {"memory_mib": (peak_bytes(arguments.device) - before) / 2**20}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(arguments.repeats + 2):
            for name in names if repeat % 2 else reversed(names):
                start = now(arguments.device)
                ways[name]()
                seconds[name].append(now(arguments.device) - start)
        return {name: values[2:] for name, values in seconds.items()}


def make_step(way: str, size: Size, batch_size: int, accelerator: Any, scratch: Path) -> Callable[[], None]:
    """A function that does one training step, with a network of its own."""
    make = make_plain_step if way == "plain" else make_our_step
    return make(way, size, batch_size, accelerator, scratch)


def make_plain_step(
    way: str, size: Size, batch_size: int, accelerator: Any, scratch: Path
) -> Callable[[], None]:
    """The loop that one writes with diffusers and accelerate."""
    import torch
    import torch.nn.functional as F
    from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
    from diffusers.optimization import get_scheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(0)
    network: Any = UNet3DConditionModel(**size.config).train()
    scheduler = DDPMScheduler()
    optimizer: Any = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    rates: Any = get_scheduler("constant", optimizer)
    network, optimizer, rates = accelerator.prepare(network, optimizer, rates)
    ema = EMAModel(network.parameters())
    latents, text = data(size, batch_size, accelerator.device)

    def step() -> None:
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (batch_size,), device=latents.device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        model_pred = network(noisy, timesteps, encoder_hidden_states=text, return_dict=False)[0]
        loss = F.mse_loss(model_pred.float(), noise)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        ema.step(network.parameters())
        loss.item()  # as for the log

    return step


def make_our_step(
    way: str, size: Size, batch_size: int, accelerator: Any, scratch: Path
) -> Callable[[], None]:
    """The steps of `videogen.train`, with a network of the same configuration."""
    import torch

    from videogen.data.batch import Batch
    from videogen.train.config import TrainConfig
    from videogen.train.objectives.base import Objective, ObjectiveConfig
    from videogen.train.objectives.finetune import FinetuneObjective, FinetuneObjectiveConfig
    from videogen.train.run import Run
    from videogen.train.step_batches import step_batches

    latents, text = data(size, batch_size, accelerator.device)

    @dataclasses.dataclass(frozen=True)
    class InMemory:
        def batch(self, sample_ids: Any, device: Any = "cpu") -> Batch:
            mask = torch.ones(text.shape[:2], dtype=torch.bool, device=device)
            captions = ("",) * len(sample_ids)
            return Batch(tuple(sample_ids), None, captions, 8.0, latents, text, mask)

    @dataclasses.dataclass(frozen=True)
    class WithThatNetwork(ObjectiveConfig):
        def build(self) -> Objective:
            settings = FinetuneObjectiveConfig(
                caption_dropout=0.0, gradient_checkpointing="checkpointing" in way
            )
            return FinetuneObjective(make_pipeline(size), None, settings)

    config = TrainConfig(
        name="benchmark",
        objective=WithThatNetwork(),
        source=InMemory(),
        num_steps=10_000,
        batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        mixed_precision=accelerator.mixed_precision,
        optimizer="muon" if "Muon" in way else "adamw",
    )
    run = Run(config, scratch / way, accelerator)
    batches = step_batches(config, 0, 0, 1, accelerator.device)
    steps = iter(range(config.num_steps))
    return lambda: run.step(next(steps), next(batches)) and None


def make_pipeline(size: Size) -> Any:
    """A pipeline around our network; its codec and text encoder are only there to be there."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    from videogen.codec.autoencoder import VideoAutoencoder
    from videogen.models.unet3d import UNet3D
    from videogen.pipelines.text_to_video import TextToVideoPipeline
    from videogen.text.encoder import TextEncoder

    width = size.text[1]
    return TextToVideoPipeline(
        VideoAutoencoder(
            size.latents[0],
            encoder_dims=(8, 8),
            decoder_dims=(8, 8),
            encoder_depths=(0, 0),
            decoder_depths=(0, 0),
        ),
        TextEncoder(("a",), hidden_size=width, num_layers=0, num_attention_heads=1, max_length=4),
        UNet3D(**size.config),
        DDIMScheduler(),
    )


def data(size: Size, batch_size: int, device: Any) -> tuple[Any, Any]:
    """Latents (B, C, f, h, w) and text embeddings (B, L, D)."""
    import torch

    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch_size, *size.latents, generator=generator)
    return latents.to(device), torch.randn(batch_size, *size.text, generator=generator).to(device)


def now(device: str) -> float:
    """Seconds: of the processor on a CPU, of the clock on CUDA once it is done."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def print_table(rows: list[dict[str, Any]]) -> None:
    """Markdown of what was measured, with what it is of the plain loop."""
    from videogen.evaluation import markdown_table

    plain = {(row["size"], row["dtype"]): row for row in rows if row["way"] == "plain"}
    lines = []
    for row in rows:
        peer = plain[row["size"], row["dtype"]]
        seconds = median(row["seconds"])
        speed, memory = median(peer["seconds"]) / seconds, row["memory_mib"] / peer["memory_mib"]
        head = [row["size"], row["dtype"], row["way"]]
        beside = [f"{1 / seconds:.2f}", f"{speed:.2f}x", f"{row['memory_mib']:,.0f}", f"{memory:.2f}x"]
        lines.append(head + beside)
    print(markdown_table(["size", "dtype", "loop", "steps/s", "of plain", "memory, MiB", "of plain"], lines))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
