"""Tiny models to fine-tune, and what tests look at while they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPTokenizer

from tests.tiny import make_clip_text_model, make_network, write_clip_tokenizer
from videogen.data.batch import Batch
from videogen.data.footage.dataset import FootageClips
from videogen.models.unet3d import UNet3D
from videogen.pipelines.modelscope import ModelScopePipeline
from videogen.train.objectives.finetune import FinetuneObjective

KNOWN = ("a red circle", "a blue square", "a red circle", "a green star")
NEW = ("a running dog", "a sleeping cat", "a running cat", "a sleeping dog")
IN_CLIP = ("a red cat", "a cat", "a red cat", "red")
KINDS = ("flow", "epsilon", "v_prediction", "clip")


def ddim(**settings: Any) -> DDIMScheduler:
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**({"clip_sample": False, "steps_offset": 1} | schedule | settings))


def make_clip_pipeline(folder: Path) -> ModelScopePipeline:
    """A tiny model of ModelScope's kind, with CLIP."""
    write_clip_tokenizer(folder / "tokenizer")
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    unet = make_network(UNet3D, cross_attention_dim=16, sample_size=(2, 2))
    return ModelScopePipeline(vae.eval(), make_clip_text_model(), tokenizer, unet, ddim())


def batch_of(objective: FinetuneObjective, sample_ids: Sequence[int] = (0, 1, 2, 3)) -> Batch:
    assert objective.settings.dataset is not None
    return FootageClips(objective.settings.dataset, batch_size=4).batch(sample_ids)


def record(objective: FinetuneObjective) -> list[dict[str, Tensor]]:
    """What goes into the denoiser and comes out of it, at each call from now on."""
    calls: list[dict[str, Tensor]] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...], output: tuple[Tensor]) -> None:
        sample, timesteps, prompt_embeds, mask = arguments
        calls.append(
            {"sample": sample, "timesteps": timesteps, "text": prompt_embeds, "mask": mask, "pred": output[0]}
        )

    objective.denoiser.register_forward_hook(note)
    return calls


def noise_and_target(kind: str, call: dict[str, Tensor], latents: Tensor) -> tuple[Tensor, Tensor]:
    """What noise was put on the latents, and what the denoiser should have said; in float64."""
    latents, sample = latents.double(), call["sample"].double()
    times = call["timesteps"]
    if kind == "flow":
        t = (times.double() / 1000)[:, None, None, None, None]
        noise = (sample - (1 - t) * latents) / t
        return noise, noise - latents
    alphas = ddim().alphas_cumprod.double()[times][:, None, None, None, None]
    noise = (sample - alphas.sqrt() * latents) / (1 - alphas).sqrt()
    velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
    return noise, velocity if kind == "v_prediction" else noise


def some_steps(objective: FinetuneObjective, num_steps: int = 3, lr: float = 0.02) -> None:
    parameters = [parameter for _, parameter in objective.trained_parameters("train")]
    optimizer = torch.optim.Adam(parameters, lr)
    for _ in range(num_steps):
        optimizer.zero_grad()
        objective(batch_of(objective), "train")["loss"].backward()
        optimizer.step()


def frames_of(pipeline: Any, prompt: str = NEW[0], **options: Any) -> Tensor:
    options = {"num_frames": 8, "height": 16, "width": 16, "seed": 1, "num_inference_steps": 3} | options
    return pipeline(prompt, output_type="pt", return_dict=False, **options)[0]
