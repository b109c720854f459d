# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Quickstart: from a prompt to a clip
#
# Everything here runs on a CPU, offline, with the model that comes with the package. It knows a small world: coloured
# shapes that move in front of plain backgrounds. It is small enough to answer at once, and its clips can be judged
# by a program, so what you learn here about seeds, guidance and steps is not a matter of taste.

# %%
import videogen
from videogen.pages.clips import show_clips

pipeline = videogen.load()  # the embedded model; a folder or an id on the hub loads another
pipeline.set_progress_bar_config(disable=True)

# %% [markdown]
# ## A clip
#
# `frames` is always `(clips, frames, height, width, 3)`, with values from 0 to 1.

# %%
prompt = "a large red circle moves left on a black background"
frames = pipeline(prompt, seed=7).frames
print(frames.shape, frames.min(), frames.max())
show_clips(frames, [prompt])

# %% [markdown]
# ## Seeds
#
# The noise of clip *k* of a call belongs to `seed + k`. So the third clip of this call is the clip of a call for seed 9
# alone, whatever stands beside it (but for the last digits, as sums of a batch are rounded otherwise): you can make a
# hundred, choose one, and make it again.

# %%
four = pipeline(prompt, num_videos_per_prompt=4, seed=7).frames
alone = pipeline(prompt, seed=9).frames[0]
print("largest difference to the clip made alone:", abs(four[2] - alone).max())
show_clips(four, [f"seed {seed}" for seed in range(7, 11)])

# %% [markdown]
# ## Several prompts, and a prompt to steer away from
#
# A pipeline takes a list. A negative prompt replaces the empty one that guidance compares with: below, the same noise
# without a colour in the prompt, and then pushed away from one colour or another.

# %%
prompts = [
    "a large yellow triangle moves right on a white background",
    "a medium blue square moves up on a beige background",
    "a large green ring grows on a navy background",
    "a small pink star fades out on a gray background",
]
show_clips(pipeline(prompts, seed=0).frames, prompts)

# %%
any_circle = "a large circle moves down"
clips, captions = [pipeline(any_circle, seed=3).frames[0]], ["no colour asked for"]
for colour in ("red", "green", "blue"):
    clips.append(pipeline(any_circle, negative_prompt=f"a {colour} circle", seed=3).frames[0])
    captions.append(f"away from {colour}")
show_clips(clips, captions)

# %% [markdown]
# ## Words it does not know
#
# They are named in a warning. A slip of the pen in a longer word is read as the word that is meant, if only one comes
# near.

# %%
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    odd = pipeline("a larg grean sqare moves left on a black background, cinematic", seed=1).frames
for warning in caught:
    print(warning.message)
show_clips(odd)

# %% [markdown]
# ## Does it show what was asked for?
#
# In this world a program can tell: `parse_clip` reads colour, shape, size and motion back out of the pixels. That is how
# `videogen evaluate` measures a model, with hundreds of prompts and error bars. Here are eight.

# %%
import pandas as pd

from videogen.data.shapes.parser import parse_clip
from videogen.data.shapes.world import WORLDS
from videogen.metrics.prompt_accuracy import evaluation_prompts

wanted = evaluation_prompts(WORLDS["shapes"], 8, held_out=True, seed=1)
clips = pipeline([item.caption for item in wanted], seed=0, output_type="pt").frames
rows = []
for item, clip in zip(wanted, clips, strict=True):
    pixels = 2 * clip.transpose(0, 1) - 1  # (3, F, H, W) in [-1, 1]
    seen = parse_clip(pixels, num_objects=1).objects
    asked = item.objects[0]
    row = {"asked for": f"{asked.size} {asked.colour} {asked.shape}, {asked.motion}"}
    row["seen"] = ", ".join(
        f"{one.size or '?'} {one.colour or '?'} {one.shape or '?'}, {one.motion or '?'}" for one in seen
    )
    rows.append(row)
show_clips(clips, [row["asked for"] for row in rows])

# %%
pd.DataFrame(rows)

# %% [markdown]
# A question mark is what the parser could not tell: look at that clip above, and you will see what came apart. These
# combinations of colour, shape and motion were held out of training, so each clip that is right was put together from
# what the model learned apart.
#
# ## Files that remember
#
# A clip carries its recipe. Any format will do: mp4, gif, webp, apng, png, npz, or a folder of frames.

# %%
import json
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
recipe = {"prompt": prompt, "seed": 7}
written = videogen.write_clip(frames[0], folder / "circle.mp4", fps=8, recipe=recipe)
print(written.num_bytes, "bytes")
print(json.dumps(videogen.read_clip(folder / "circle.mp4").recipe))

# %% [markdown]
# On the command line `videogen generate` writes the whole recipe, with the model's hash and all settings:
#
# ```bash
# videogen generate "a cyan ring orbits" --seed 7 --out ring.mp4
# videogen info ring.mp4                                   # what it shows, and how it was made
# videogen replay ring.mp4                                 # makes it again, and says whether it is identical
# videogen generate --like ring.mp4 --seed 8               # the same settings, another clip
# ```
#
# Next: [samplers](2_samplers.ipynb), or a look [inside the denoiser](5_inside_the_denoiser.ipynb).
