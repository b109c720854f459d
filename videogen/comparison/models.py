"""One model of a comparison: its clips, and what they cost; any pipeline that takes a prompt and a seed."""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor, nn

from videogen.codec.pixels import frames_to_pixels
from videogen.metrics.prompt_accuracy import EvaluationPrompt
from videogen.models.transformer_layers import TransformerBlock
from videogen.pipelines.loading import find_folder, load
from videogen.pipelines.model_index import read_index
from videogen.pipelines.output import BadClipsError

FAILURES = (ValueError, OSError, FloatingPointError, RuntimeError, MemoryError)
"""How a model fails that cannot be loaded or run; anything else is a mistake of ours."""

_NOT_GENERATORS = ("vae", "text_encoder")
_CLEAR_PEAK = Path("/proc/self/clear_refs")
_STATED_MINUTES = re.compile(r"^training_minutes:\s*(\d+(?:\.\d+)?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class GeneratedClip:
    """What a model made of a prompt.

    Attributes:
        pixels: `(3, F, H, W)` in [-1, 1]; None if it failed.
        failure: Why it failed; empty if it did not.
    """

    pixels: Tensor | None
    failure: str = ""


@dataclass(frozen=True)
class Cost:
    """What the clips of a model cost.

    Attributes:
        num_parameters: Of all networks of the pipeline.
        seconds_per_clip: From a prompt to frames, one prompt a call; median, after one call to warm up.
        evaluations_per_clip: Passes through the networks that make the latents, up to the last block of
            attention; both halves of guidance in one batch count once.
        peak_bytes: Memory at its peak, with loading: allocated on a CUDA device, else of the whole process,
            with what earlier models left there; None where the system does not tell, or cannot forget an
            earlier peak.
        training_minutes: As the model's `model_index.json` or card states; None if they do not.
    """

    num_parameters: int
    seconds_per_clip: float
    evaluations_per_clip: float
    peak_bytes: int | None
    training_minutes: float | None


def run_model(
    model: str,
    prompts: Sequence[EvaluationPrompt],
    seed: int,
    device: torch.device,
    on_clip: Callable[[], object],
) -> tuple[list[GeneratedClip], Cost]:
    """Make clip k from prompt k and the seed `seed + k`, one call each.

    Args:
        model: A name, a folder or an id, as `videogen.load` takes it; `embedded` for the embedded one.
        prompts: What to make.
        seed: Of the first clip.
        device: Where to run.
        on_clip: Called after each clip.

    Raises:
        ValueError: If the model cannot be loaded, or not one clip could be made; also the other `FAILURES`.
    """
    forgotten = _forget_peak(device)
    pipeline = load(model, device=device)
    pipeline.set_progress_bar_config(disable=True)
    networks = {key: part for key, part in pipeline.components.items() if isinstance(part, nn.Module)}
    generators = [network for key, network in networks.items() if key not in _NOT_GENERATORS]
    clips, seconds, evaluations = [], [], []
    with _counted(generators) as num_calls:
        _make(pipeline, prompts[0].caption, seed)  # the first call also pays for what later ones reuse
        for number, prompt in enumerate(prompts):
            start, calls_before = time.perf_counter(), num_calls()
            clip = _make(pipeline, prompt.caption, seed + number)
            if clip.pixels is not None:
                seconds.append(time.perf_counter() - start)
                evaluations.append(num_calls() - calls_before)
            clips.append(clip)
            on_clip()
    if not seconds:
        raise ValueError(f"none of {len(clips)} clips could be made: {clips[0].failure}")
    cost = Cost(
        num_parameters=sum(value.numel() for network in networks.values() for value in network.parameters()),
        seconds_per_clip=median(seconds),
        evaluations_per_clip=mean(evaluations),
        peak_bytes=_peak_bytes(device) if forgotten else None,
        training_minutes=stated_minutes(find_folder(model)),
    )
    del pipeline, networks, generators
    gc.collect()  # before the next model is loaded
    return clips, cost


def stated_minutes(folder: Path) -> float | None:
    """The training time that a model states: `training_minutes` in its index, or such a line in its card."""
    stated = read_index(folder).get("training_minutes")
    if stated is not None:
        return float(stated)
    card = folder / "README.md"
    found = _STATED_MINUTES.search(card.read_text(encoding="utf-8")) if card.is_file() else None
    return None if found is None else float(found[1])


def _make(pipeline: Callable[..., Any], prompt: str, seed: int) -> GeneratedClip:
    try:
        frames = pipeline(prompt, seed=seed).frames  # (1, F, H, W, 3)
    except BadClipsError as error:
        return GeneratedClip(None, f"it {error.bad_clips[0]}")
    pixels = frames_to_pixels(frames)[0].cpu()
    if not bool(torch.isfinite(pixels).all()):
        return GeneratedClip(None, "the frames hold NaN or infinity")
    return GeneratedClip(pixels)


@contextmanager
def _counted(networks: Sequence[nn.Module]) -> Iterator[Callable[[], int]]:
    """Within, tell how often any of these networks has been evaluated, by its `forward` or another method."""
    num_calls = 0

    def note(*_: Any) -> None:
        nonlocal num_calls
        num_calls += 1

    with ExitStack() as hooks:
        for network in networks:
            blocks = [part for part in network.modules() if isinstance(part, TransformerBlock)]
            module = blocks[-1] if blocks else network
            hooks.callback(module.register_forward_pre_hook(note).remove)
        yield lambda: num_calls


def _forget_peak(device: torch.device) -> bool:
    """Let the peak of memory begin anew; False where that cannot be done."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    if sys.platform != "linux" or not _CLEAR_PEAK.exists():
        return False
    try:
        _CLEAR_PEAK.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return False
    return True


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
