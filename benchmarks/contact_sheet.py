"""Draw a contact sheet of the embedded model: 40 prompts drawn from the world, or six for the README.

python benchmarks/contact_sheet.py --out sheet.png
python benchmarks/contact_sheet.py --readme --out docs/clips.png
python benchmarks/contact_sheet.py --model gan --model vae --world shapes-mini --num-prompts 6
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

from PIL import Image

from videogen.contact_sheet import contact_sheet
from videogen.data.shapes.captions import plain_caption
from videogen.data.shapes.world import WORLDS, Background
from videogen.pipelines.loading import load

README_PROMPTS = (
    "a large red circle moves left on a black background",
    "a large green ring bounces on a navy background",
    "a medium orange square moves in a circle on a gray background",
    "a large purple star rotates on a white background",
    "a large pink triangle grows on a beige background",
    "a medium cyan cross fades in on a black background",
)


def world_prompts(world_name: str, num_prompts: int, seed: int) -> list[str]:
    """Plain captions of objects drawn from a world, every second one of a held-out combination."""
    world, rng = WORLDS[world_name], Random(seed)
    prompts = []
    for number in range(num_prompts):
        objects = world.sample_prompt_objects(rng, 1, held_out=number % 2 == 1)
        prompts.append(plain_caption(objects, Background(rng.choice(world.backgrounds))))
    return prompts


def main() -> None:
    """Generate the clips and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        action="append",
        help="name or folder of a pipeline, several for one column each; the embedded model by default",
    )
    parser.add_argument("--world", default="shapes", choices=sorted(WORLDS))
    parser.add_argument("--num-prompts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--readme", action="store_true", help="the six prompts of the README")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    arguments = parser.parse_args()

    prompts = (
        list(README_PROMPTS)
        if arguments.readme
        else world_prompts(arguments.world, arguments.num_prompts, arguments.seed)
    )
    settings = {} if arguments.steps is None else {"num_inference_steps": arguments.steps}
    models = arguments.model or [None]
    clips = [load(model)(prompts, seed=arguments.seed, **settings).frames for model in models]
    if len(models) == 1:
        columns = 2 if arguments.readme else 4
        sheet = contact_sheet(list(clips[0]), columns, prompts, frames_per_clip=6)
    else:
        rows = [clip for row in zip(*clips, strict=True) for clip in row]
        captions = [f"{model}: {prompt}" for prompt in prompts for model in models]
        sheet = contact_sheet(rows, len(models), captions, frames_per_clip=4)
    Image.fromarray(sheet).save(arguments.out)
    print(f"{len(models) * len(prompts)} clips in {arguments.out}")


if __name__ == "__main__":
    main()
