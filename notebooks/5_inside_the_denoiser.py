# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Inside the denoiser: what attention looks at
#
# A denoiser turns noise into a clip in a few steps. At every step each *token* (a patch of 16 x 16 pixels over four frames)
# asks two kinds of questions: to all other tokens, anywhere in space and time, and to the words of the prompt. How much
# it listens to each is a row of numbers that sum to one. Here we record those rows and draw them on the clip.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import videogen
from videogen.models.attention import record_attention
from videogen.pages.clips import show_clips

pipeline = videogen.load()
pipeline.set_progress_bar_config(disable=True)
prompt = "a large red triangle moves right on a white background"
seed, steps = 5, 8

# %% [markdown]
# `record_attention` keeps the weights of every call of the one attention function that all networks share. Without
# guidance there is one pass per step, and in it every block of the network calls twice: for the tokens, for the words.

# %%
decoded, noise_levels = [], []


def keep_latents(pipeline, step, timestep, tensors):
    """Decode the latents after each step, noise and all."""
    decoded.append(pipeline.decode_latents(tensors["latents"])[0].numpy())
    noise_levels.append(float(timestep) / 1000)
    return {}


with record_attention() as records:
    frames = pipeline(
        prompt,
        seed=seed,
        guidance_scale=1.0,
        num_inference_steps=steps,
        callback_on_step_end=keep_latents,
    ).frames[0]
num_layers = len(pipeline.unet.blocks)
print(f"{len(records)} calls: {steps} steps x {num_layers} blocks x 2")
show_clips(
    [*decoded[1::2], frames],
    [*(f"after step {step}" for step in range(2, steps + 1, 2)), "the clip"],
    columns=5,
)

# %% [markdown]
# ## Words
#
# The weights of the second call in each block have the shape `(clip, heads, tokens, words)`. The tokens are a grid of
# frames, rows and columns, so a word's column is a small film: how much each place listens to that word. Below, the
# mean over heads and blocks at one step, laid over the clip.

# %%
words = ["<bos>", *prompt.split()]
latent_frames = frames.shape[0] // pipeline.codec.compression[0]
side = frames.shape[1] // (2 * pipeline.codec.compression[1])  # two latent cells per token, each way


def text_weights(step):
    """Mean attention to the words at a step: (latent frames, rows, columns, words)."""
    calls = records[2 * num_layers * step : 2 * num_layers * (step + 1)][1::2]
    mean = torch.stack([weights[0].mean(0) for weights in calls]).mean(0)  # (tokens, words)
    return mean.reshape(latent_frames, side, side, -1).numpy()


def draw_over(axes, frame, weights, title=""):
    """A frame in grey with weights as a warm veil over it."""
    size = frame.shape[0]
    axes.imshow(frame.mean(-1), cmap="gray", vmin=0, vmax=1, extent=(0, size, size, 0))
    axes.imshow(weights, cmap="inferno", alpha=0.6, extent=(0, size, size, 0), interpolation="bilinear")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8)


step = 2
weights = text_weights(step)
figure, grid = plt.subplots(2, 6, figsize=(10, 3.6), dpi=70)
for axes, (idx, word) in zip(grid.flat, enumerate(words), strict=False):
    draw_over(axes, frames[2], weights[0, :, :, idx], f"{word}  {weights[..., idx].mean():.2f}")
for axes in grid.flat[len(words) :]:
    axes.axis("off")
figure.suptitle(
    f"First frames, step {step + 1}: where each word is listened to (number: mean share)", fontsize=9
)
plt.show()

# %% [markdown]
# Compare where the object's colour is listened to with where the object is, the background's colour with what lies around
# it, and the direction with the side that the object will move to: nobody told the network where to look. Words that say
# little, like "moves" and "on", are given little. Not every word needs a place of its own: the prompt also reaches the
# network as one vector for the whole clip, the modulation.
#
# ## When words matter
#
# From the first step, nearly pure noise, at the top, to the last. What a token gives to all words sums to one, so this does
# not show how much the prompt matters at a step, but which of its words are asked for: follow a column downwards to see
# when a word is asked for most. Early steps settle what is where, late ones what it looks like.

# %%
shares = np.array([text_weights(step).mean((0, 1, 2)) for step in range(steps)])[:, : len(words)]
figure, axes = plt.subplots(figsize=(9, 3))
image = axes.imshow(shares[:, 1:], cmap="viridis", aspect="auto")
axes.set_xticks(range(len(words) - 1), words[1:], rotation=45, ha="right")
axes.set_yticks(range(steps), [f"t = {level:.2f}" for level in noise_levels])
axes.set_title("Mean attention to each word, by noise level")
figure.colorbar(image)
plt.show()

# %% [markdown]
# ## Space and time
#
# The first call of each block is among all tokens of all frames at once: `(clip, heads, tokens, tokens)`. Take the token
# that holds the triangle in the first frames, and see where it looks in each of the four groups of frames.

# %%
difference = np.abs(frames[:4] - frames[:4, :1, :1]).mean((0, 3))  # the background is that of the corner
cells = difference.reshape(side, frames.shape[1] // side, side, -1).mean((1, 3))
row, column = np.unravel_index(cells.argmax(), cells.shape)
query = row * side + column
print(f"the triangle begins at row {row}, column {column} of {side} x {side} tokens")

figure, grid = plt.subplots(num_layers, latent_frames, figsize=(6, 1.5 * num_layers), dpi=60)
calls = records[2 * num_layers * step : 2 * num_layers * (step + 1)][0::2]
for layer, (axes_row, weights) in enumerate(zip(grid, calls, strict=True)):
    looked_at = weights[0].mean(0)[query].reshape(latent_frames, side, side).numpy()
    for time, axes in enumerate(axes_row):
        title = f"block {layer}, frames {4 * time} to {4 * time + 3}"
        draw_over(axes, frames[4 * time + 2], looked_at[time], title)
plt.tight_layout()
plt.show()

# %% [markdown]
# Where a row stays bright on the triangle through all frames, past and future, the token follows the object in one step:
# that is how sixteen frames can agree on one motion. Other rows look at the background. A factorised network (`UNet3D`,
# the ModelScope family) asks in two steps, within a frame and along a pixel's frames; the same recorder works there.
#
# ## How far in time
#
# How much attention stays in the token's own frames (0 frames away), and how much goes to others, block by block, as the
# mean over all pairs of groups that far apart. Above the dotted line a group is given more than an even share.

# %%
own = np.zeros((num_layers, latent_frames))
for layer, weights in enumerate(calls):
    mean = (
        weights[0].mean(0).reshape(latent_frames, side**2, latent_frames, side**2).sum(3).mean(1)
    )  # (from, to)
    for distance in range(latent_frames):
        pairs = [(a, b) for a in range(latent_frames) for b in range(latent_frames) if abs(a - b) == distance]
        own[layer, distance] = np.mean([mean[a, b] for a, b in pairs])
figure, axes = plt.subplots(figsize=(7, 3))
for layer in range(num_layers):
    axes.plot(4 * np.arange(latent_frames), own[layer], marker="o", label=f"block {layer}")
axes.axhline(1 / latent_frames, color="gray", linestyle=":", label="even")
axes.set(xlabel="frames away", ylabel="share of attention to one group of frames")
axes.legend(fontsize=7)
plt.show()
