# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Your own footage: prepare, fine-tune, compare
#
# Teach the model something that it has never seen, with a folder of videos and captions. Here the footage is drawn by a few
# lines of code, so that the lesson runs anywhere: a heart, which is none of the model's six shapes, crossing the picture.
# Your own videos take its place.
#
# ## A folder of videos
#
# Videos of any size, rate and length, and a table of captions. (Or a text file beside each video, or its name.)

# %%
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import videogen
from videogen.pages.clips import show_clips

for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)  # so that the commands below print plain lines, without moving bars

COLOURS = {"red": (215, 35, 40), "blue": (45, 85, 230), "yellow": (245, 220, 45), "green": (45, 175, 65)}
GROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255)}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def draw_heart(colour, ground, direction, num_frames=48, size=128):
    """A heart that crosses the picture in two seconds: (F, size, size, 3) uint8."""
    angles = np.linspace(0, 2 * np.pi, 60)
    outline = np.stack(
        [
            16 * np.sin(angles) ** 3,
            -(13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)),
        ],
        axis=1,
    )
    frames = []
    for place in np.linspace(-0.22, 0.22, num_frames):
        centre = 0.5 + place * np.array(DIRECTIONS[direction])
        picture = Image.new("RGB", (4 * size, 4 * size), GROUNDS[ground])  # drawn large, for soft edges
        points = [tuple(point) for point in 4 * size * (centre + 0.27 * outline / 16)]
        ImageDraw.Draw(picture).polygon(points, fill=COLOURS[colour])
        frames.append(np.array(picture.resize((size, size), Image.Resampling.BOX)))
    return np.stack(frames)


videos = Path("lesson-videos")
shutil.rmtree(videos, ignore_errors=True)
videos.mkdir()
rows = []
for number, (colour, ground, direction) in enumerate(
    (colour, ground, direction) for colour in COLOURS for ground in GROUNDS for direction in DIRECTIONS
):
    if number % 4 == 3:
        continue  # a quarter is kept back, to see whether the model puts together what it learned apart
    name = f"heart {number:02d}.mp4"
    videogen.write_clip(draw_heart(colour, ground, direction), videos / name, fps=24)
    rows.append(
        {"file_name": name, "text": f"a large {colour} heart moves {direction} on a {ground} background"}
    )
(videos / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
print(len(rows), "videos")
show_clips([draw_heart("red", "black", "left")[::3], draw_heart("yellow", "white", "up")[::3]], fps=8)

# %% [markdown]
# ## Prepare
#
# `videogen prepare` decodes every file to its end and says what will happen to it before anything is computed: how it is
# re-timed and cropped, or why it is dropped. `report.html` has all of it with pictures. (Hearts of two colours look alike in
# grey, which is how duplicates are found; `--keep-duplicates` keeps them.)

# %%
# !videogen prepare lesson-videos --out lesson-dataset --keep-duplicates 2>&1 | cat

# %% [markdown]
# ## Fine-tune
#
# Adapters (LoRA) beside the attention and the temporal convolutions of the denoiser, and an embedding for the new word,
# are all that is trained. The same command resumes, bit for bit.

# %%
shutil.rmtree("lesson-run", ignore_errors=True)

# %%
# !videogen finetune lesson-dataset --out lesson-run --steps 160 --batch-size 8 --learning-rate 2e-3 --validate-every 160 2>&1 | tail -n 6

# %%
import matplotlib.pyplot as plt

log = [json.loads(line) for line in Path("lesson-run/log.jsonl").read_text().splitlines()]
figure, axes = plt.subplots(figsize=(6, 2.5), dpi=70)
axes.plot([line["step"] for line in log], [line["loss"] for line in log])
axes.set(xlabel="step", ylabel="loss")
plt.show()

# %% [markdown]
# ## Before and after
#
# The same prompts and seeds, without and with the adapters. The last two were kept back: no heart of the footage moves
# down. A minute of training is a beginning; look how far the outlines have come from a shape the model knew to a heart.

# %%
prompts = [
    "a large red heart moves left on a black background",
    "a large blue heart moves right on a white background",
    "a large green heart moves down on a black background",
    "a large yellow heart moves down on a white background",
]
warnings.filterwarnings("ignore", message="the model does not know")  # a heart: that is the point
before = videogen.load()
after = videogen.load(loras=["lesson-run/result"])
clips, captions = [], []
for name, pipeline in (("before", before), ("after", after)):
    pipeline.set_progress_bar_config(disable=True)
    clips += list(pipeline(prompts, seed=0).frames)
    captions += [f"{name}: {prompt}" for prompt in prompts]
show_clips(clips, captions)

# %% [markdown]
# ## What was forgotten?
#
# A prompt of the old world, to see whether it is still drawn as before. Adapters can be weighed: at a smaller scale the
# model is nearer to what it was.

# %%
prompt = "a large red circle moves left on a black background"
clips = [before(prompt, seed=1).frames[0]]
for scale in (0.5, 1.0):
    pipeline = videogen.load(loras=[("lesson-run/result", scale)])
    pipeline.set_progress_bar_config(disable=True)
    clips.append(pipeline(prompt, seed=1).frames[0])
show_clips(clips, ["without adapters", "scale 0.5", "scale 1"])

# %% [markdown]
# On the command line: `videogen generate "a large red heart moves up" --lora lesson-run/result:0.8`. What fine-tuning can
# and cannot do with photographed footage is measured in `docs/finetuning.md`.

# %%
for folder in ("lesson-videos", "lesson-dataset", "lesson-run"):
    shutil.rmtree(folder)
