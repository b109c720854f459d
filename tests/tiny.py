"""Tiny networks that tests share, with inputs for them and edits of the files they are saved to."""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D

TINY_UNET3D: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 8,
}
DEEP_UNET3D: dict[str, Any] = TINY_UNET3D | {
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
    "layers_per_block": 2,
}
TINY_UVIT: dict[str, Any] = {
    "in_channels": 4,
    "conv_dim": 8,
    "num_conv_blocks": 1,
    "hidden_size": 32,
    "num_layers": 2,
    "num_attention_heads": 2,
    "cross_attention_dim": 12,
    "token_convs": True,
}
TINY_CODEC: dict[str, Any] = {
    "latent_channels": 4,
    "encoder_dims": (8, 16),
    "decoder_dims": (8, 16),
    "encoder_depths": (0, 1),
    "decoder_depths": (0, 1),
}
TINY_FEATURES: dict[str, Any] = {
    "num_classes": {"colour": 8, "motion": 16},
    "stage_dims": (8, 16),
    "stage_depths": (1, 1),
    "feature_dim": 12,
}
CLIP_LENGTH = 12  # of a prompt in tokens

Network = TypeVar("Network", bound=UNet3D | UViT3D)


def randomise(module: nn.Module) -> None:
    """Gives every parameter a value, also those that start at zero and would hide what lies before them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            std = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)


def make_network(kind: type[Network], **changes: Any) -> Network:
    """A tiny denoiser with random weights everywhere, its config the tiny one but for the changes."""
    network = kind(**((TINY_UNET3D if kind is UNet3D else TINY_UVIT) | changes))
    randomise(network)
    return network.eval()


def make_inputs(
    shape: tuple[int, ...] = (2, 4, 3, 4, 6), prompts_per_sample: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of a tiny denoiser: latents `(B, C, f, h, w)`, timesteps `(B,)` and prompts `(N, 7, 12)`."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(shape, generator=generator)
    timesteps = torch.rand(shape[0], generator=generator) * 1000
    return latents, timesteps, torch.randn(shape[0] * prompts_per_sample, 7, 12, generator=generator)


def make_clip_text_model() -> CLIPTextModel:
    """The text model of a tiny CLIP, for the tokens of `write_clip_tokenizer`."""
    config = CLIPTextConfig(
        vocab_size=22,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CLIP_LENGTH,
        hidden_act="gelu",
        bos_token_id=20,
        eos_token_id=21,
    )
    model = CLIPTextModel(config)
    randomise(model)
    return model.eval()


def write_clip_tokenizer(folder: Path, pad_token: str = "!") -> None:
    """Writes a tokenizer in the layout of ModelScope's folder: special_tokens_map.json names the padding."""
    folder.mkdir(parents=True)
    letters = ["!", *"abcdert", *(f"{letter}</w>" for letter in "!abcdert")]
    tokens = [*letters, "ca", "cat</w>", "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    merges = ["#version: 0.2", "c a", "ca t</w>", "r e", "re d</w>"]
    specials = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "vocab.json").write_text(json.dumps({token: idx for idx, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials | {"pad_token": pad_token}))
    config = specials | {"pad_token": "<|endoftext|>", "model_max_length": CLIP_LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def edit_json(path: Path, **changes: Any) -> None:
    """Changes some keys of a saved config."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
