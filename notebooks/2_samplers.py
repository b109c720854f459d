# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Samplers: what each choice costs, and what it does to the clip
#
# A denoiser only says which way a noisy clip should go. How many steps are taken, of which kind, and how strongly the prompt
# pulls, is yours to choose, and usually chosen blind. In the world of the embedded model a program can tell whether a clip
# shows what was asked for, so here the choices are measured.

# %%
import tempfile
from pathlib import Path

import videogen
from videogen.data.shapes.world import WORLDS
from videogen.metrics.prompt_accuracy import evaluation_prompts
from videogen.pages.clips import show_clips
from videogen.sampling.schedulers import SCHEDULERS, make_scheduler

pipeline = videogen.load()
pipeline.set_progress_bar_config(disable=True)
folder = Path(tempfile.mkdtemp())
prompt = "a large purple star moves up on a beige background"

# %% [markdown]
# ## Steps
#
# The same noise, with more and more steps. What changes first is what the clip shows, and then only its edges.

# %%
counts = [1, 2, 4, 8, 16]
clips = [pipeline(prompt, seed=3, num_inference_steps=count).frames[0] for count in counts]
show_clips(clips, [f"steps: {count}" for count in counts], columns=5)

# %% [markdown]
# ## Guidance
#
# The prediction with the prompt is compared with the one without, and the difference is stretched. At 1 nothing is stretched;
# too much makes colours glaring and outlines burst.

# %%
scales = [1, 2, 3, 5, 8]
clips = [pipeline(prompt, seed=3, guidance_scale=scale).frames[0] for scale in scales]
show_clips(clips, [f"guidance {scale}" for scale in scales], columns=5)

# %% [markdown]
# ## Schedulers by their names
#
# Names that users of other tools know, for what this model predicts. A name that does not fit is refused with the reason.

# %%
print(", ".join(SCHEDULERS[pipeline.prediction_type]))
try:
    make_scheduler("ddim", pipeline.prediction_type, pipeline.scheduler)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Along the way
#
# `stream` gives the clip that the denoiser sees in the noise at each step. You may stop when you have seen enough.

# %%
seen, captions = [], []
for step in pipeline.stream(prompt, seed=3):
    seen.append(step.preview()[0])
    captions.append(f"step {step.step_idx + 1}")
show_clips(seen, captions, width=110, columns=8)

# %% [markdown]
# ## A grid, measured
#
# `explore` runs every combination with the same prompts and the same noise and measures seconds, passes through the
# network, the distance to a clip of many steps, and whether the clip is right. It goes on where it was stopped.
# A dozen prompts are few: mind the intervals. `videogen explore` does the same on the command line, with hundreds.

# %%
prompts = evaluation_prompts(WORLDS["shapes-mini"], 12, held_out=False, seed=0)
exploration = videogen.explore(
    pipeline,
    prompts,
    schedulers=["euler", "dpm++2m"],
    steps=[2, 4, 8],
    reference_steps=16,
    folder=folder / "steps",
)
table = exploration.to_dataframe()
table[
    [
        "scheduler",
        "num_inference_steps",
        "seconds",
        "passes",
        "psnr",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
    ]
].round(2)

# %% [markdown]
# The Pareto front holds the points that no other one beats in both time and quality. Beyond its knee, time buys little.

# %%
exploration.plot_pareto("seconds", "psnr")

# %% [markdown]
# The clips themselves, a row for each point and a column for each prompt.

# %%
exploration.clip_grid()

# %% [markdown]
# How fast each scheduler comes near to the clip of many steps, on logarithmic scales: the slope is its order.

# %%
exploration.plot_convergence()

# %% [markdown]
# And how one clip comes about: how far the clip that is foreseen still is from the one it ends with, at each evaluation.

# %%
exploration.plot_trajectories()

# %% [markdown]
# ## Guidance of other kinds
#
# Here guidance is left out where there is nearly nothing but noise, which also saves passes of the network; or its difference
# is projected (`apg`). `clipped` is the share of values that overshot what a picture can show: compare it with `cfg` of the
# same scale, and see what it costs in accuracy.

# %%
kinds = videogen.explore(
    pipeline,
    prompts,
    schedulers=["euler"],
    steps=[8],
    guidance_scales=[3.0, 5.0],
    guidance=["cfg", "interval", "apg"],
    reference_steps=0,
    folder=folder / "guidance",
)
kinds.to_dataframe()[["guidance_scale", "guidance", "passes", "accuracy", "saturation", "clipped"]].round(3)

# %% [markdown]
# ## Take the best one with you
#
# The best is the point with the most right clips, and of several the fastest. A preset is a small file that the command line
# takes too: `videogen generate PROMPT --preset fast.json`.

# %%
preset = exploration.best(max_seconds=5)
preset.save(folder / "fast.json")
print((folder / "fast.json").read_text())

# %% [markdown]
# ## By hand
#
# With `ipywidgets` in a running notebook, the sliders below make a clip whenever they are moved.

# %%
from ipywidgets import FloatSlider, IntSlider, interact


def make(seed=3, steps=8, guidance=3.0):
    """A clip of the prompt above."""
    frames = pipeline(prompt, seed=seed, num_inference_steps=steps, guidance_scale=guidance).frames
    return show_clips(frames, width=240)


_ = interact(
    make, seed=IntSlider(3, 0, 20), steps=IntSlider(8, 1, 16), guidance=FloatSlider(value=3.0, min=1, max=8)
)
