"""Measures the seconds from a prompt to a clip on disk, ours beside a diffusers pipeline of equal size.

    python benchmarks/latency.py --model FOLDER --repeats 5 --out latency.json

Ours is `videogen generate` (cold) and `load_generator` (warm). The peer is diffusers' own
`TextToVideoSDPipeline` with its `UNet3DConditionModel`, used as its documentation does, built here with
random weights and saved to a temporary folder, so that nothing is downloaded. What is equal: the latents
(16 x 4 x 8 x 8), the frames (16 of 64 x 64), the number of steps, classifier-free guidance, float32, the
number of threads, the machine, and within 5 % the parameters of the denoiser. What is not:

- The networks differ, and parameters are not operations: a U-Net of this size does more work on the
  finer grid.
- diffusers' `AutoencoderKL` knows no time. So that the peer may denoise 4 latent frames as ours does,
  rather than 16, its autoencoder has 12 channels, 4 frames of 3. This makes the peer four times faster
  than with a frame a latent, its usual way.
- Autoencoder and text encoder (2 layers, a CLIP) are small, of about our size; the table says how large.
- The scheduler is what each is used with (ours by its model, DDIM for the peer); both run every step.
- Random weights make noise, which H.264 compresses more slowly than a clip. Both write H.264 through
  imageio's ffmpeg, ours losing less (crf 16).

Nothing follows about quality: the peer has learned nothing. Cold is a whole process, from its start to
the file, with the libraries in the page cache. Warm is the process that has done it before. Order
alternates.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

PROMPT = "a large red circle moves right"  # more letters would not fit into the 32 tokens of the peer
NUM_STEPS, GUIDANCE = 8, 3.0
PHASES = ("load", "text", "denoise", "decode", "write")

PEER_PROGRAM = """
import sys
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import export_to_video

folder, out, prompt, steps, guidance = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(folder)
generator = torch.Generator().manual_seed(0)
frames = pipe(
    prompt,
    num_frames=4,
    height=64,
    width=64,
    num_inference_steps=int(steps),
    guidance_scale=float(guidance),
    generator=generator,
).frames[0]
frames = frames.reshape(4, 64, 64, 4, 3).transpose(0, 3, 1, 2, 4).reshape(16, 64, 64, 3)
export_to_video(list(frames), out, fps=8)
"""


def main() -> None:
    """Measure, print tables, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="folder of a pipeline; the embedded one by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--threads", type=int, help="CPU threads of both; by default what torch chooses")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1")
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

    with tempfile.TemporaryDirectory() as scratch:
        sizes = build_peer(Path(scratch) / "peer", arguments.model)
        cold, timings = measure_cold(arguments, Path(scratch))
        warm = measure_warm(arguments, Path(scratch))
    results = {
        "steps": arguments.steps,
        "sizes": sizes,
        "cold": cold,
        "warm": warm,
        "last_cold_timings": timings,
    }
    print_tables(results)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2))


def build_peer(folder: Path, model: str | None) -> dict[str, dict[str, int]]:
    """Save a diffusers pipeline with as large a denoiser as ours; return the parameters of all networks."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from videogen.pipelines.loading import load_generator

    ours = load_generator(model)
    text_dim, text_layers = (ours.text_encoder.config[name] for name in ("hidden_size", "num_layers"))
    wanted = ours.unet.num_parameters()

    def unet(width: int) -> Any:
        return UNet3DConditionModel(
            sample_size=8,
            in_channels=16,
            out_channels=16,
            block_out_channels=(width, 2 * width),
            down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
            up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
            layers_per_block=1,
            cross_attention_dim=text_dim,
            attention_head_dim=4,
            norm_num_groups=4,
        )

    with torch.device("meta"):
        width = min(range(4, 400, 4), key=lambda width: abs(unet(width).num_parameters() - wanted))
        found = unet(width).num_parameters()
    if abs(found - wanted) > 0.05 * wanted:
        raise ValueError(
            f"no UNet3DConditionModel within 5 % of {wanted} parameters: the nearest has {found}"
        )

    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    text_config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=text_dim,
        intermediate_size=4 * text_dim,
        num_hidden_layers=text_layers,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    peer: Any = TextToVideoSDPipeline(
        vae=AutoencoderKL(
            in_channels=12,
            out_channels=12,
            latent_channels=16,
            block_out_channels=(48, 48, 96, 96),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=8,
        ),
        text_encoder=CLIPTextModel(text_config),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32),
        unet=unet(width),
        scheduler=DDIMScheduler(clip_sample=False),
    )
    peer.save_pretrained(folder)
    networks = ("unet", "vae", "text_encoder")
    return {
        "ours": {name: getattr(ours, name).num_parameters() for name in networks},
        "peer": {name: getattr(peer, name).num_parameters() for name in networks},
    }


def measure_cold(arguments: argparse.Namespace, scratch: Path) -> tuple[dict[str, list[float]], str]:
    """Seconds of whole processes, each started anew, and where ours says that the last one's went."""
    numbers = ["--steps", str(arguments.steps), "--guidance", str(arguments.guidance)]
    videogen = [
        str(Path(sys.executable).with_name("videogen")),
        "generate",
        PROMPT,
        "--seed",
        "0",
        "--timings",
    ]
    videogen += ["--out", str(scratch / "ours.mp4"), *numbers]
    videogen += ["--model", arguments.model] if arguments.model else []
    peer = [sys.executable, "-c", PEER_PROGRAM, str(scratch / "peer"), str(scratch / "peer.mp4"), PROMPT]
    peer += [str(arguments.steps), str(arguments.guidance)]
    commands = {"ours": videogen, "peer": peer}
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    timings = ""
    for repeat in range(1 + arguments.repeats):  # the first fills the page cache
        for name in alternating(repeat):
            start = time.perf_counter()
            done = subprocess.run(commands[name], capture_output=True, text=True, check=False)
            taken = time.perf_counter() - start
            if done.returncode:
                raise RuntimeError(f"{' '.join(commands[name][:3])} failed:\n{done.stderr}")
            if name == "ours":
                timings = done.stdout.splitlines()[-1]
            if repeat:
                seconds[name].append(taken)
    return seconds, timings


def measure_warm(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict[str, list[float]]]:
    """Seconds of each phase in this process, after one round to warm up."""
    seconds: dict[str, dict[str, list[float]]] = {
        name: {phase: [] for phase in PHASES} for name in ("ours", "peer")
    }
    for repeat in range(1 + arguments.repeats):
        for name in alternating(repeat):
            times = ours_by_phase(arguments, scratch) if name == "ours" else peer_by_phase(arguments, scratch)
            if repeat:
                for phase, (start, end) in zip(PHASES, pairwise(times), strict=True):
                    seconds[name][phase].append(end - start)
    return seconds


def ours_by_phase(arguments: argparse.Namespace, scratch: Path) -> list[float]:
    """The time before and after each phase."""
    import torch

    from videogen.io import write_clip
    from videogen.pipelines.loading import load_generator

    times = [time.perf_counter()]
    generator = load_generator(arguments.model)
    times.append(time.perf_counter())
    with torch.no_grad():
        prompt_embeds, negative_prompt_embeds = generator.encode_prompt(PROMPT)
    times.append(time.perf_counter())
    latents = generator(
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=negative_prompt_embeds,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        seed=0,
        output_type="latent",
        return_dict=False,
    )[0]
    times.append(time.perf_counter())
    frames = generator.decode_latents(latents)[0].numpy()
    times.append(time.perf_counter())
    write_clip(frames, scratch / "ours.mp4", fps=8)
    return [*times, time.perf_counter()]


def peer_by_phase(arguments: argparse.Namespace, scratch: Path) -> list[float]:
    """The same of the peer."""
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import export_to_video

    times = [time.perf_counter()]
    pipe: Any = DiffusionPipeline.from_pretrained(scratch / "peer")
    pipe.set_progress_bar_config(disable=True)
    times.append(time.perf_counter())
    with torch.no_grad():
        prompt_embeds, negative_prompt_embeds = pipe.encode_prompt(PROMPT, torch.device("cpu"), 1, True)
    times.append(time.perf_counter())
    latents = pipe(
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=negative_prompt_embeds,
        num_frames=4,
        height=64,
        width=64,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames
    times.append(time.perf_counter())
    with torch.no_grad():
        frames = pipe.video_processor.postprocess_video(pipe.decode_latents(latents), "np")[0]
    frames = frames.reshape(4, 64, 64, 4, 3).transpose(0, 3, 1, 2, 4).reshape(16, 64, 64, 3)
    times.append(time.perf_counter())
    export_to_video(list(frames), str(scratch / "peer.mp4"), fps=8)
    return [*times, time.perf_counter()]


def alternating(repeat: int) -> tuple[str, str]:
    """Who goes first changes from one round to the next."""
    return ("ours", "peer") if repeat % 2 else ("peer", "ours")


def print_tables(results: dict[str, Any]) -> None:
    """Markdown of what was measured: medians, with the range of the cold runs."""
    from videogen.evaluation import markdown_table

    sizes = [
        [network, *(f"{results['sizes'][name][network] / 1e6:.2f} M" for name in ("ours", "peer"))]
        for network in ("unet", "vae", "text_encoder")
    ]
    print(markdown_table(["parameters", "ours", "peer"], sizes), end="\n\n")

    cold, warm = results["cold"], results["warm"]
    rows = [["cold, prompt to file", median(cold["ours"]), median(cold["peer"])]]
    totals = {
        name: [sum(parts) for parts in zip(*warm[name].values(), strict=True)] for name in ("ours", "peer")
    }
    rows.append(["warm, with loading", median(totals["ours"]), median(totals["peer"])])
    rows += [[f"warm: {phase}", median(warm["ours"][phase]), median(warm["peer"][phase])] for phase in PHASES]
    header = [
        f"seconds, median of {len(cold['ours'])}, {results['steps']} steps",
        "ours",
        "peer",
        "ours / peer",
    ]
    cells = [[name, f"{ours:.3f}", f"{peer:.3f}", f"{ours / peer:.2f}"] for name, ours, peer in rows]
    print(markdown_table(header, cells), end="\n\n")
    for name in ("ours", "peer"):
        print(f"Cold, {name}: {min(cold[name]):.2f} to {max(cold[name]):.2f} s.")
    print(f"Ours, the last cold run: {results['last_cold_timings']}.")


if __name__ == "__main__":
    main()
