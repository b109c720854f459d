# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Five families of generators, compared like for like
#
# A clip can be made in one step by a network that learned to deceive another (**GAN**); decoded from a few numbers drawn from a
# learned prior (**VAE**); drawn frame after frame (**RNN**); filled in, patch after patch, in any order (masked
# **Transformer**); or freed from noise in small steps (**diffusion**). Here all five work in the latents of the same codec. They
# have about two million parameters each and were trained for the same time, by the same loop, on the same clips: one large
# shape of four colours that moves left, right, up or down. They come with the library.

# %%
import time
import warnings

import matplotlib.pyplot as plt

import videogen
from videogen.comparison.comparison import compare
from videogen.comparison.prompts import drawn_prompts
from videogen.data.shapes.dataset import ShapesClips
from videogen.evaluation import markdown_table
from videogen.metrics.feature_network import load_feature_extractor
from videogen.pages.clips import show_clips

FAMILIES = ["gan", "vae", "rnn", "transformer", "dit"]  # the last is diffusion, with a plain Transformer
generators = {name: videogen.load(name) for name in FAMILIES}
for name, generator in generators.items():
    generator.set_progress_bar_config(disable=True)
    parameters = sum(value.numel() for value in generator.network.parameters())
    print(f"{name:12} {type(generator.network).__name__:20} {parameters / 1e6:.1f} million parameters")

# %% [markdown]
# ## One prompt, five ways
#
# All calls have the same shape: prompt, seed, and what a family has of its own.

# %%
prompt = "a large blue triangle moves left on a white background"
clips, captions = [], []
for name, generator in generators.items():
    generator(prompt, seed=0)  # the first call also pays for what later ones reuse
    start = time.perf_counter()
    clips.append(generator(prompt, seed=1).frames[0])
    captions.append(f"{name}, {1000 * (time.perf_counter() - start):.0f} ms")
show_clips(clips, captions, columns=5)

# %% [markdown]
# ## What is left open is drawn
#
# The prompt does not say where the shape is, nor how fast it goes. Four seeds in a column each: does a family draw these anew,
# or does it make the same clip again and again? (A GAN that does is said to have collapsed.)

# %%
seeds = [generator(prompt, seed=seed).frames[0] for seed in (1, 2, 3, 4) for generator in generators.values()]
show_clips(seeds, [f"{name}, seed {seed}" for seed in (1, 2, 3, 4) for name in FAMILIES], columns=5)

# %% [markdown]
# ## What only some of them can
#
# A **VAE** has an encoder. It codes a clip that it is given in a few dozen numbers, and draws it again from those: what is lost
# is what it holds to be of no account.

# %%
batch = ShapesClips(world="shapes-mini", seed=1234).batch(range(4))  # seed 0 was trained on
given = batch.pixels.permute(0, 2, 3, 4, 1).numpy() / 2 + 0.5  # (B, F, H, W, 3) in [0, 1]
rebuilt = generators["vae"].reconstruct(batch.pixels, batch.captions, seed=0).numpy()
show_clips([*given, *rebuilt], [*batch.captions, *["drawn again"] * 4], columns=4)

# %% [markdown]
# An **RNN** goes on with a clip that it is given, and never has to stop: here eight given frames become 32. It was trained on
# clips of 16.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it was trained on clips of 16
    longer = generators["rnn"](batch.captions[0], pixels=batch.pixels[:1, :, :8], num_frames=32, seed=0)
longer = longer.frames[0]
show_clips([given[0], longer], ["the whole clip", "its first 8 frames, gone on with"], columns=2)

# %% [markdown]
# A masked **Transformer** decides how many tokens it fills in at once: with one step all of them, each without knowing of the
# others.

# %%
steps = [1, 2, 4, 8, 16]
filled = [generators["transformer"](prompt, seed=3, num_inference_steps=count).frames[0] for count in steps]
show_clips(filled, [f"{count} steps" for count in steps], columns=5)

# %% [markdown]
# **Diffusion** has its steps too, and a choice of [samplers](2_samplers.ipynb).

# %%
freed = [generators["dit"](prompt, seed=3, num_inference_steps=count).frames[0] for count in steps]
show_clips(freed, [f"{count} steps" for count in steps], columns=5)

# %% [markdown]
# ## The same examination for all
#
# `compare` gives all of them the same prompts and seeds. The parser of the world reads colour, shape, size and motion out of the
# clips; the Fréchet distance says how far their features are from those of rendered clips. Every second prompt is a combination
# that training never showed. On the command line: `videogen compare gan vae rnn transformer dit --world shapes-mini`.

# %%
prompts = drawn_prompts(32, world="shapes-mini")
report, _ = compare(
    FAMILIES,
    prompts,
    load_feature_extractor(),
    reference_prompts=drawn_prompts(256, seed=-1, world="shapes-mini"),
    num_reference_clips=256,
)
for header, rows in (report.quality_table(), report.cost_table()):
    print(markdown_table(header, rows), end="\n\n")

# %%
figure, axes = plt.subplots(1, 4, figsize=(12, 2.8), sharey=True)
for axis, attribute in zip(axes, ("colour", "shape", "motion", "all_right"), strict=True):
    shares = [getattr(result.accuracy, attribute) for result in report.models]
    for place, share in enumerate(shares):
        axis.plot([share.low, share.high], [place, place], color="0.7", linewidth=4)
        axis.plot(share.share, place, "o", color="C0")
    axis.set(title=attribute.replace("_", " "), xlim=(-0.03, 1.03), yticks=range(5), yticklabels=FAMILIES)
axes[0].invert_yaxis()
figure.suptitle(f"share of {len(prompts)} clips that are right, with 95 % intervals", y=1.06)
plt.show()

# %% [markdown]
# ## What to look for
#
# - **Cost.** The GAN and the VAE make a clip in one pass; the RNN in one for each latent frame, four here; the Transformer and
#   diffusion in as many as they are given. Hold the accuracy of each against its seconds.
# - **Likelihood or deception.** All but the GAN are told for every clip of the training what they should have made of it. The GAN is
#   told by its discriminator what gives it away, and the discriminator has to learn that first: after the same minutes its outlines
#   are the least done, while its clips move as they should.
# - **One draw or many.** A VAE and an RNN say with a normal distribution what they do not know. Where the truth is one thing or the
#   other (a background that is black or white), its middle is neither, and some clips show that.
#
# What each objective is, which paper it comes from, and how the recipes came to be as they are:
# [docs/families.md](../docs/families.md). To train one yourself: `python -m videogen.train shapes_mini_vae`.
