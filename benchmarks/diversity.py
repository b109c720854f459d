"""Measures whether models give different clips for one prompt, and whether they copy their training clips.

    python benchmarks/diversity.py gan vae rnn transformer dit --num-prompts 25 --num-seeds 4

Both in the features of the shipped network (`videogen.metrics.diversity`), and both beside rendered clips of
the same prompts, which are as different as the world itself, and copies of nothing: a model that copies is
nearer to training clips than they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from videogen.codec.pixels import frames_to_pixels
from videogen.data.shapes.dataset import ShapesClips
from videogen.data.shapes.render import render
from videogen.data.shapes.world import WORLDS, place
from videogen.evaluation import markdown_table
from videogen.metrics.diversity import nearest_training_clips, prompt_diversity
from videogen.metrics.feature_network import load_feature_extractor
from videogen.metrics.features import extract_features
from videogen.metrics.intervals import bootstrap_mean
from videogen.metrics.prompt_accuracy import EvaluationPrompt, evaluation_prompts
from videogen.pipelines.loading import load

RENDERED = "rendered clips"


def main() -> None:
    """Make the clips, measure them, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="+", help="as for `videogen compare`; `embedded` for the embedded one"
    )
    parser.add_argument("--world", default="shapes-mini", choices=list(WORLDS))
    parser.add_argument("--num-prompts", type=int, default=25)
    parser.add_argument("--num-seeds", type=int, default=4, help="clips of each prompt")
    parser.add_argument("--num-training-clips", type=int, default=4000, help="of stream 0 of the world")
    arguments = parser.parse_args()

    prompts = evaluation_prompts(WORLDS[arguments.world], arguments.num_prompts, held_out=False)
    seeds = range(arguments.num_seeds)
    extractor = load_feature_extractor()
    features = {RENDERED: [extract_features(rendered(prompt, seeds), extractor) for prompt in prompts]}
    for model in arguments.models:
        features[model] = [
            extract_features(clips, extractor) for clips in generated(model, prompts, len(seeds))
        ]
    every = [item for of_model in features.values() for item in of_model]
    pooled = replace(every[0], values=torch.cat([item.values for item in every]))
    source = ShapesClips(world=arguments.world)
    nearest = nearest_training_clips(pooled, source, arguments.num_training_clips, extractor)
    distances = nearest.distances.split(len(prompts) * len(seeds))
    rows = [
        [name, str(prompt_diversity(of_model)), str(bootstrap_mean(distance.tolist()))]
        for (name, of_model), distance in zip(features.items(), distances, strict=True)
    ]
    print(
        f"{len(prompts)} prompts of {arguments.world}, {len(seeds)} clips of each; nearest of "
        f"{arguments.num_training_clips} training clips. Means, with 95 % bootstrap intervals.\n"
    )
    print(markdown_table(["", "between clips of a prompt", "to the nearest training clip"], rows))


def rendered(prompt: EvaluationPrompt, seeds: range) -> Iterator[Tensor]:
    """Clips `(3, F, H, W)` of a prompt, as the world draws them."""
    assert prompt.background is not None
    for seed in seeds:
        scene = place(prompt.objects, prompt.background, Random(f"{prompt.caption}/{seed}"), num_frames=16)
        yield render([scene])[0]


def generated(model: str, prompts: list[EvaluationPrompt], num_seeds: int) -> Iterator[Tensor]:
    """Clips `(num_seeds, 3, F, H, W)` of each prompt, as a model makes them."""
    pipeline = load(None if model == "embedded" else model)
    pipeline.set_progress_bar_config(disable=True)
    for number, prompt in enumerate(prompts):
        frames = pipeline(prompt.caption, num_videos_per_prompt=num_seeds, seed=1000 * number).frames
        yield frames_to_pixels(frames)


if __name__ == "__main__":
    main()
