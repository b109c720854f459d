"""Measures how often clips of the world `emoji` show the subject that was asked for, as a judge sees it.

    python benchmarks/emoji_subjects.py ARTWORK --judge runs/emoji_judge/result --model runs/NAME/result \
        --steps 12 --guidance 3 --out subjects.json --sheet subjects.png
    python benchmarks/emoji_subjects.py ARTWORK --judge runs/emoji_judge/result --codec CODEC

For each subject one clip or more is made from its plain caption; size, motion and backdrop are drawn, for a
subject that generators train on only such motions as they train on. Beside it stands what the judge says of
the same scenes rendered, and of what the codec leaves of these: no model does better than that. Without a
model, renders of the stream `UNSEEN_STREAM` alone are judged, with the subjects that are taken for others.

The sheet shows 64 subjects: on the left the rendered scene as the codec gives it back, on the right the clip.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.contract import Codec
from videogen.codec.pixels import pixels_to_uint8
from videogen.contact_sheet import contact_sheet
from videogen.data.emoji.captions import plain_caption
from videogen.data.emoji.dataset import EmojiClips
from videogen.data.emoji.render import render
from videogen.data.emoji.world import HELD_OUT_EVERY_SUBJECT, EmojiScene, EmojiWorld, is_held_out
from videogen.data.shapes.world import MOTIONS
from videogen.evaluation import UNSEEN_STREAM, generate_clips, markdown_table
from videogen.metrics.feature_network import FeatureNetwork, load_feature_network
from videogen.metrics.prompt_accuracy import EvaluationPrompt
from videogen.metrics.subject_accuracy import SubjectVerdicts, judge_subjects
from videogen.models.weights_hash import weights_hash
from videogen.pipelines.loading import load

BATCH_SIZE = 16
GUESSES = (1, 5)


def main() -> None:
    """Measure, print a table, and write JSON and the sheet if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artwork", type=Path, help="folder of the artwork")
    parser.add_argument("--judge", type=Path, required=True, help="the result folder of a run of emoji_judge")
    parser.add_argument("--model", help="folder of a text-to-video pipeline; without it renders are judged")
    parser.add_argument("--codec", type=Path, help="folder of a codec; by default that of the pipeline")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--num-frames", type=int, default=4, help="of each clip; 4 are one latent frame")
    parser.add_argument("--size", type=int, default=64, help="side of the frames, with --codec or renders")
    parser.add_argument("--per-subject", type=int, default=1, help="clips of each subject")
    parser.add_argument("--num-subjects", type=int, help="only so many, evenly spread; all by default")
    parser.add_argument("--motions", nargs="+", default=list(MOTIONS), help="that are asked for")
    parser.add_argument("--kinds", nargs="+", default=["plain"], help="of backdrops that are asked for")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and noise")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16 in the model")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--sheet", type=Path, help="a PNG of 64 subjects")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_threads)
    results = measure(arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2))


@torch.no_grad()
def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that the arguments ask for, printed as a table, and as plain data."""
    judge = load_feature_network(arguments.judge)
    clips = EmojiClips(
        arguments.artwork,
        arguments.num_frames,
        arguments.size,
        seed=UNSEEN_STREAM,
        motions=tuple(arguments.motions),
        two_object_rate=0.0,
        with_held_out=True,
    )
    pipeline = load(arguments.model) if arguments.model else None
    codec: Codec | None = pipeline.vae if pipeline else None
    if arguments.codec:
        codec = VideoAutoencoder.from_pretrained(arguments.codec).eval()
    scenes = draw_scenes(clips, arguments)
    results: dict[str, Any] = {
        "model": arguments.model,
        "judge_hash": weights_hash(judge),
        "codec_hash": weights_hash(codec) if isinstance(codec, torch.nn.Module) else None,
        "num_frames": arguments.num_frames,
        "clips": len(scenes),
    }
    verdicts = {"renders": judge_scenes(judge, render_scenes(scenes, clips), scenes, clips)}
    if codec is not None:
        decoded = list(round_trips(render_scenes(scenes, clips), codec))
        verdicts["renders through the codec"] = judge_scenes(judge, decoded, scenes, clips)
    if pipeline is not None:
        prompts = [
            EvaluationPrompt(plain_caption(scene.objects, clips.namings, scene.backdrop)) for scene in scenes
        ]
        start = time.perf_counter()
        with torch.autocast(pipeline.execution_device.type, torch.bfloat16, enabled=arguments.bf16):
            made = list(
                generate_clips(
                    pipeline,
                    prompts,
                    arguments.steps,
                    arguments.guidance,
                    arguments.seed,
                    lambda count: None,
                    arguments.batch_size,
                    arguments.num_frames,
                )
            )
        results |= {
            "weights_hash": weights_hash(pipeline.network),
            "steps": arguments.steps,
            "guidance": arguments.guidance,
            "seconds": time.perf_counter() - start,
        }
        verdicts["clips of the model"] = judge_scenes(judge, made, scenes, clips)
        if arguments.sheet:
            write_sheet(arguments.sheet, prompts, decoded, made)
    results["verdicts"] = {name: as_data(one) for name, one in verdicts.items()}
    report(results, verdicts, clips)
    return results


def draw_scenes(clips: EmojiClips, arguments: argparse.Namespace) -> list[EmojiScene]:
    """A scene or more of each subject."""
    world = clips.world
    count = min(arguments.num_subjects or len(world.artwork), len(world.artwork))
    scenes = []
    for number in range(count):
        idx = number * len(world.artwork) // count
        for repeat in range(arguments.per_subject):
            rng = Random(f"emoji subjects/{arguments.seed}/{idx}/{repeat}")
            scenes.append(draw_scene(world, idx, arguments.kinds, rng, arguments.num_frames))
    return scenes


def draw_scene(world: EmojiWorld, idx: int, kinds: Sequence[str], rng: Random, num_frames: int) -> EmojiScene:
    """A scene of a subject, whose motion with this subject is not held out unless the whole subject is."""
    motions = world.motions
    if idx % HELD_OUT_EVERY_SUBJECT:
        motions = tuple(motion for motion in motions if not is_held_out(idx, motion)) or motions
    item = world.object_of(world.artwork.subjects[idx].name, rng.choice(world.sizes), rng.choice(motions))
    while True:
        scene = world.scene_of((item,), rng.getrandbits(32), num_frames)
        if scene.backdrop.kind in kinds:
            return scene


def render_scenes(scenes: Sequence[EmojiScene], clips: EmojiClips) -> Iterator[Tensor]:
    """Their clips `(3, F, H, W)`."""
    for first in range(0, len(scenes), BATCH_SIZE):
        yield from render(scenes[first : first + BATCH_SIZE], clips.world.artwork, clips.size).pixels


def round_trips(clips: Iterator[Tensor], codec: Codec) -> Iterator[Tensor]:
    """What a codec makes of clips."""
    for clip in clips:
        pixels = clip[None].to(codec.device, codec.dtype)
        yield codec.decode(codec.encode(pixels))[0].float().clamp(-1, 1).cpu()


def judge_scenes(
    judge: FeatureNetwork,
    pixels: Sequence[Tensor] | Iterator[Tensor],
    scenes: list[EmojiScene],
    clips: EmojiClips,
) -> SubjectVerdicts:
    """Whether clips show the subjects of scenes."""
    wanted = [clips.world.artwork.index(scene.objects[0].name) for scene in scenes]  # type: ignore[union-attr]
    return judge_subjects(pixels, wanted, judge, clips.world.artwork)


def groups(verdicts: SubjectVerdicts) -> dict[str, Tensor]:
    """Which clips are of subjects that generators train on, and which are not."""
    held_out = verdicts.wanted % HELD_OUT_EVERY_SUBJECT == 0
    return {"trained": ~held_out, "held out": held_out}


def as_data(verdicts: SubjectVerdicts) -> dict[str, Any]:
    """Counts and intervals as JSON can hold them."""
    shares = {
        name: {f"top-{num}": verdicts.within(num, chosen) for num in GUESSES}
        for name, chosen in groups(verdicts).items()
    }
    return {
        name: {top: asdict(share) if share else None for top, share in row.items()}
        for name, row in shares.items()
    } | {"confusions": verdicts.confusions()}


def report(results: dict[str, Any], verdicts: dict[str, SubjectVerdicts], clips: EmojiClips) -> None:
    """Print what was measured."""
    for name in ("model", "weights_hash", "codec_hash", "judge_hash", "steps", "guidance", "seconds"):
        if results.get(name) is not None:
            print(f"{name.replace('_', ' ')}: {results[name]}")
    rows = [
        [what, kind, str(int(chosen.sum())), *(str(one.within(num, chosen)) for num in GUESSES)]
        for what, one in verdicts.items()
        for kind, chosen in groups(one).items()
    ]
    print(markdown_table(["clips", "subjects", "number", *(f"top-{num}" for num in GUESSES)], rows))
    names = [subject.name for subject in clips.world.artwork.subjects]
    for what, one in verdicts.items():
        worst = [f"{names[a]} as {names[b]} ({count})" for a, b, count in one.confusions()[:20]]
        if worst:
            print(f"{what}, taken for another: {'; '.join(worst)}")


def write_sheet(
    path: Path, prompts: Sequence[EvaluationPrompt], decoded: Sequence[Tensor], made: Sequence[Tensor]
) -> None:
    """A picture of 64 clips, evenly spread, each beside the rendered scene as the codec gives it back."""
    chosen = np.linspace(0, len(made) - 1, min(64, len(made))).round().astype(int).tolist()
    pairs = [torch.cat([decoded[idx], made[idx]], dim=3) for idx in chosen]  # (3, F, H, 2 * W)
    middle = pairs[0].shape[1] // 2  # the first frame of what fades in shows nothing
    sheet = contact_sheet(
        list(pixels_to_uint8(torch.stack(pairs)[:, :, middle : middle + 1])),
        columns=8,
        captions=[prompts[idx].caption for idx in chosen],
        frames_per_clip=1,
    )
    Image.fromarray(sheet).save(path)


if __name__ == "__main__":
    main()
