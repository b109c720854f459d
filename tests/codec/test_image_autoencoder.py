"""diffusers' image autoencoder behind the codec contract, against the class itself at a tiny size."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from videogen.codec.contract import Codec
from videogen.codec.image_autoencoder import ImageAutoencoder, load_autoencoder_kl

WEIGHTS = "diffusion_pytorch_model"
TINY: dict[str, Any] = {
    "block_out_channels": (4, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "norm_num_groups": 2,
    "latent_channels": 3,
    "scaling_factor": 0.25,
}
BYTES_PER_FRAME = 3 * 8 * 16 * 24 * 4  # of 16x24 pixels in float32


def make_vae(**changes: Any) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(**(TINY | changes)).eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("shift_factor", [None, 0.5])
def test_frames_are_encoded_one_by_one(shift_factor: float | None) -> None:
    vae = make_vae(shift_factor=shift_factor)
    codec: Codec = ImageAutoencoder(vae)
    pixels = noise(2, 3, 5, 16, 24).clamp(-1, 1)
    latents = codec.encode(pixels)
    assert codec.compression == (1, 4)
    assert latents.shape == (2, 3, 5, 4, 6)
    for clip in range(2):
        for frame in range(5):
            mean = vae.encode(pixels[clip : clip + 1, :, frame]).latent_dist.mean
            expected = (mean[0] - (shift_factor or 0)) * 0.25
            torch.testing.assert_close(latents[clip, :, frame], expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shift_factor", [None, 0.5])
def test_frames_are_decoded_one_by_one(shift_factor: float | None) -> None:
    vae = make_vae(shift_factor=shift_factor)
    latents = noise(2, 3, 5, 4, 6)
    pixels = ImageAutoencoder(vae).decode(latents)
    assert pixels.shape == (2, 3, 5, 16, 24)
    images = latents.transpose(1, 2).flatten(0, 1) / 0.25 + (shift_factor or 0)
    expected = vae.decode(images).sample.unflatten(0, (2, 5)).transpose(1, 2)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("num_images", "frames_per_chunk", "batch_size"),
    [(0.1, 1, 1), (1, 1, 1), (3.5, 1, 3), (4, 2, 4), (99, 5, 10)],
)
def test_pieces_fit_the_budget_and_equal_the_whole(
    num_images: float, frames_per_chunk: int, batch_size: int
) -> None:
    vae = make_vae()
    latents = noise(2, 3, 5, 4, 6)
    expected = ImageAutoencoder(vae).decode(latents)
    batch_sizes: list[int] = []
    vae.decoder.register_forward_pre_hook(lambda _, arguments: batch_sizes.append(len(arguments[0])))
    codec = ImageAutoencoder(vae, memory_budget=int(num_images * BYTES_PER_FRAME))
    pieces = list(codec.iter_decode(latents))
    assert pieces[0].shape[2] == frames_per_chunk
    assert max(batch_sizes) <= batch_size
    assert sum(batch_sizes) == 10
    torch.testing.assert_close(torch.cat(pieces, dim=2), expected, rtol=0, atol=1e-5)

    batch_sizes.clear()
    pixels = noise(2, 3, 5, 16, 24)
    vae.encoder.register_forward_pre_hook(lambda _, arguments: batch_sizes.append(len(arguments[0])))
    torch.testing.assert_close(codec.encode(pixels), ImageAutoencoder(vae).encode(pixels), rtol=0, atol=1e-5)
    assert max(batch_sizes[:-1], default=0) <= batch_size


def test_it_follows_the_network() -> None:
    vae = make_vae()
    codec = ImageAutoencoder(vae)
    assert codec.dtype == torch.float32 and codec.device.type == "cpu"
    torch.nn.Module.to(vae, torch.bfloat16)
    assert codec.dtype == torch.bfloat16
    with torch.no_grad():
        assert (
            codec.decode(codec.encode(torch.zeros(1, 3, 2, 8, 8, dtype=torch.bfloat16))).dtype
            == torch.bfloat16
        )


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 2, 8, 10), "`width` must be a multiple of 4 .* got 10: use 8 or 12"),
        ((1, 3, 2, 6, 8), "`height` must be a multiple of 4 .* got 6"),
        ((1, 3, 0, 8, 8), "`num_frames` .* got 0"),
        ((1, 4, 2, 8, 8), r"`pixels` must be \(B, 3, F, H, W\), got \(1, 4, 2, 8, 8\)"),
        ((3, 2, 8, 8), r"`pixels` must be \(B, 3, F, H, W\), got \(3, 2, 8, 8\)"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAutoencoder(make_vae()).encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 4, 2, 4, 4), (3, 2, 4, 4)])
def test_latents_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=rf"`latents` must be \(B, 3, F, h, w\), got {re.escape(str(shape))}"
    ):
        ImageAutoencoder(make_vae()).decode(torch.zeros(shape))


def test_no_budget() -> None:
    with pytest.raises(ValueError, match="`memory_budget` must be positive, got 0"):
        ImageAutoencoder(make_vae(), memory_budget=0)


# Files


def old_names(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in state_dict.items():
        for ours, theirs in old.items():
            name = name.replace(f".attentions.0.{ours}.", f".attentions.0.{theirs}.")
        renamed[name] = tensor
    assert len(renamed.keys() - state_dict.keys()) == 16
    return renamed


@pytest.mark.parametrize("form", ["whole", "fp16", "bin", "old names", "old names in a bin"])
def test_every_form_of_a_folder(tmp_path: Path, form: str) -> None:
    vae = make_vae()
    if form == "fp16":
        vae.half().save_pretrained(tmp_path, variant="fp16")
    else:
        vae.save_pretrained(tmp_path, safe_serialization="bin" not in form)
    if form == "old names":
        path = tmp_path / f"{WEIGHTS}.safetensors"
        save_file(old_names(load_file(path)), path)
    if form == "old names in a bin":
        torch.save(old_names(vae.state_dict()), tmp_path / f"{WEIGHTS}.bin")
    loaded = load_autoencoder_kl(tmp_path)
    assert not loaded.training and loaded.dtype == torch.float32
    state_dict = loaded.state_dict()
    for name, tensor in vae.float().state_dict().items():
        assert torch.equal(state_dict[name], tensor)


def test_broken_folders_are_named(tmp_path: Path) -> None:
    make_vae().save_pretrained(tmp_path)
    path = tmp_path / f"{WEIGHTS}.safetensors"
    good = load_file(path)
    save_file(good | {"post_quant_conv.bias": torch.full((3,), torch.nan)}, path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} holds NaN .*: post_quant_conv.bias"):
        load_autoencoder_kl(tmp_path)
    del good["post_quant_conv.bias"]
    save_file(good, path)
    with pytest.raises(ValueError, match=r"post_quant_conv.bias is missing"):
        load_autoencoder_kl(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"norm_num_groups": 3}))
    with pytest.raises(ValueError, match="the config of AutoencoderKL cannot be used: "):
        load_autoencoder_kl(tmp_path)
