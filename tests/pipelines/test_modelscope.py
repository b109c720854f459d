"""Folders of ModelScope's family: the clips of diffusers' own pipeline, saving, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_synth import (
    TextToVideoSDPipeline,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from tests.tiny import (
    CLIP_LENGTH,
    TINY_UNET3D,
    edit_json,
    make_clip_text_model,
    randomise,
    write_clip_tokenizer,
)
from videogen.codec.image_autoencoder import ImageAutoencoder
from videogen.io import read_recipe
from videogen.models.unet3d import UNet3D
from videogen.pipelines.generation import GenerationDefaults, TextToVideo
from videogen.pipelines.loading import load, load_generator, model_hash
from videogen.pipelines.modelscope import ModelScopePipeline

PROMPT = "a red cat"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> TextToVideoSDPipeline:
    """The pipeline of diffusers with tiny networks on random weights, of which none are zero."""
    torch.manual_seed(0)
    tokenizer = tmp_path_factory.mktemp("reference") / "tokenizer"
    write_clip_tokenizer(tokenizer)
    unet = UNet3DConditionModel(sample_size=(2, 3), **(TINY_UNET3D | {"cross_attention_dim": 16}))
    randomise(unet)
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipeline = TextToVideoSDPipeline(
        vae.eval(),
        make_clip_text_model(),
        CLIPTokenizer.from_pretrained(tokenizer),
        unet.eval(),
        scheduler,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def folder(tmp_path: Path, reference: TextToVideoSDPipeline) -> Path:
    reference.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def frames_of(pipeline: TextToVideo, **options: Any) -> np.ndarray:
    options = {"num_inference_steps": 3, "num_frames": 4, "seed": 3, "return_dict": False} | options
    return pipeline(PROMPT, **options)[0]


LOADERS: dict[str, Callable[..., TextToVideo]] = {"load": load, "load_generator": load_generator}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(("guidance_scale", "negative_prompt"), [(1.0, None), (9.0, None), (9.0, "a cat")])
def test_clips_equal_those_of_diffusers(
    folder: Path,
    reference: TextToVideoSDPipeline,
    loader: str,
    guidance_scale: float,
    negative_prompt: str | None,
) -> None:
    options: dict[str, Any] = {
        "num_inference_steps": 3,
        "num_frames": 5,
        "height": 16,
        "width": 24,
        "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt,
    }
    latents = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(7))
    expected = reference(PROMPT, latents=latents, **options).frames
    assert expected.shape == (1, 5, 16, 24, 3) and expected.std() > 0.02
    pipeline = LOADERS[loader](folder)
    frames = pipeline(PROMPT, latents=latents, **options, return_dict=False)[0]
    np.testing.assert_allclose(frames, expected, rtol=0, atol=1e-3)
    seeded = pipeline(PROMPT, generator=torch.Generator().manual_seed(7), **options, return_dict=False)[0]
    np.testing.assert_array_equal(seeded, frames)  # noise of one clip is drawn in diffusers' order


def test_a_batch_equals_that_of_diffusers(folder: Path, reference: TextToVideoSDPipeline) -> None:
    prompts = [PROMPT, "a cat"]
    latents = torch.randn(2, 4, 3, 2, 3, generator=torch.Generator().manual_seed(7))
    options: dict[str, Any] = {
        "latents": latents,
        "num_inference_steps": 2,
        "num_frames": 3,
        "height": 16,
        "width": 24,
    }
    expected = reference(prompts, **options).frames
    np.testing.assert_allclose(load(folder)(prompts, **options)[0], expected, rtol=0, atol=1e-3)


def test_kinds_and_defaults(folder: Path) -> None:
    expected = GenerationDefaults(16, 16, 24, 8.0, 50, 9.0)
    pipeline, generator = load(folder, dtype=torch.bfloat16), load_generator(folder)
    assert type(pipeline) is ModelScopePipeline and type(generator) is TextToVideo
    for loaded in (pipeline, generator):
        assert loaded.defaults == expected
        assert loaded.prediction_type == "epsilon"
        assert loaded.codec.compression == (1, 8)
        assert type(loaded.scheduler) is DDIMScheduler and type(loaded.unet) is UNet3D
    assert type(pipeline.vae) is AutoencoderKL and type(generator.vae) is ImageAutoencoder
    for name in ("vae", "text_encoder", "unet"):
        assert getattr(pipeline, name).dtype == torch.bfloat16 and not getattr(pipeline, name).training
    assert np.isfinite(frames_of(pipeline)).all()


def test_sample_size_may_be_one_number(folder: Path) -> None:
    edit_json(folder / "unet" / "config.json", sample_size=5)
    defaults = load(folder).defaults
    assert (defaults.height, defaults.width) == (40, 40)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(("pad_token", "pad_token_id"), [("!", 0), ("<|endoftext|>", 21), ("red</w>", 19)])
def test_prompts_are_padded_as_diffusers_pads_them(
    folder: Path, loader: str, pad_token: str, pad_token_id: int
) -> None:
    shutil.rmtree(folder / "tokenizer")
    write_clip_tokenizer(folder / "tokenizer", pad_token)
    theirs = TextToVideoSDPipeline.from_pretrained(folder)
    expected = theirs.encode_prompt(PROMPT, "cpu", 1, False)[0]
    pipeline: Any = LOADERS[loader](folder)
    encoder = pipeline.text_encoder if loader == "load_generator" else pipeline.prompt_encoder
    assert encoder.pad_token_id == pad_token_id
    torch.testing.assert_close(pipeline.encode_prompt(PROMPT)[0], expected)


def test_a_tokenizer_without_pad_token_pads_with_that_of_openclip(folder: Path) -> None:
    expected = load(folder).encode_prompt(PROMPT)[0]
    edit_json(folder / "tokenizer" / "tokenizer_config.json", pad_token=None)
    assert CLIPTokenizer.from_pretrained(folder / "tokenizer").pad_token is None
    pipeline: Any = load(folder)
    assert torch.equal(pipeline.encode_prompt(PROMPT)[0], expected)
    pipeline.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="`tokenizer` must have a pad token"):
        pipeline.encode_prompt(PROMPT)


def test_what_is_cut_off_or_too_long_is_warned_of(folder: Path) -> None:
    pipeline = load(folder)
    with pytest.warns(UserWarning, match="reads 12 tokens, a prompt has 14: cut off from 'red cat' on"):
        pipeline.encode_prompt("a cat a cat a cat a cat a cat red cat")
    with pytest.warns(UserWarning, match="20 frames are asked for, the model was trained on 16"):
        frames_of(pipeline, num_frames=20, num_inference_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames_of(pipeline)


# Saving


@pytest.mark.parametrize("loader", ["load", "load_generator", "from_pretrained"])
def test_a_saved_pipeline_makes_the_same_clip(folder: Path, tmp_path: Path, loader: str) -> None:
    pipeline = load(folder)
    pipeline.save_pretrained(tmp_path / "saved")
    assert not [path for path in (tmp_path / "saved").rglob("*") if path.suffix in {".bin", ".pth"}]
    loaders = LOADERS | {"from_pretrained": ModelScopePipeline.from_pretrained}
    loaded = loaders[loader](tmp_path / "saved")
    assert loaded.defaults == pipeline.defaults
    atol = 1e-4 if loader == "load_generator" else 0  # its network is packed: the same but for rounding
    np.testing.assert_allclose(frames_of(loaded), frames_of(pipeline), atol=atol, rtol=0)


def test_what_is_saved_names_the_public_classes(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "saved")
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert index["_class_name"] == "ModelScopePipeline"
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]
    assert index["tokenizer"] == ["transformers", "CLIPTokenizer"]
    assert index["unet"] == ["videogen.models.unet3d", "UNet3D"]


def test_our_own_unet_is_not_opened_as_a_pickle(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "unet" / WEIGHTS
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    broken(tmp_path / "saved", f"{re.escape(str(path))} is missing; .* is a pickle and not opened")


# Old and partial forms


def test_pickles_and_old_names(folder: Path, tmp_path: Path, reference: TextToVideoSDPipeline) -> None:
    """All components as .bin, as in ZeroScope's and Potat1's folders; CLIP with the prefix of its time."""
    expected = frames_of(load(folder))
    reference.save_pretrained(tmp_path / "old", safe_serialization=False)
    path = tmp_path / "old" / "text_encoder" / "pytorch_model.bin"
    state_dict = {
        f"text_model.{name}": tensor for name, tensor in reference.text_encoder.state_dict().items()
    }
    torch.save(state_dict | {"text_model.embeddings.position_ids": torch.arange(CLIP_LENGTH)[None]}, path)
    (tmp_path / "old" / "text_encoder" / "model.safetensors").unlink(missing_ok=True)
    assert not list((tmp_path / "old").rglob("*.safetensors"))
    np.testing.assert_array_equal(frames_of(load(tmp_path / "old")), expected)


def test_half_precision_files(tmp_path: Path, reference: TextToVideoSDPipeline) -> None:
    reference.save_pretrained(tmp_path, variant="fp16")
    assert all(".fp16." in path.name for path in tmp_path.rglob("*.safetensors"))
    assert frames_of(load(tmp_path)).shape == (1, 4, 16, 24, 3)


# The recipe


def test_model_hash_follows_what_is_loaded(folder: Path) -> None:
    seen = {model_hash(folder)}
    (folder / "README.md").write_text("no part of the model")
    assert model_hash(folder) in seen
    for file in (
        "model_index.json",
        "tokenizer/merges.txt" if (folder / "tokenizer/merges.txt").exists() else "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
        "text_encoder/model.safetensors",
        f"unet/{WEIGHTS}",
        "vae/config.json",
    ):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content + b" ")
        seen.add(model_hash(folder))
        (folder / file).write_bytes(content)
    assert len(seen) == 7


def test_the_command_line_makes_a_clip(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "videogen.cli",
        "generate",
        PROMPT,
        "--model",
        str(folder),
        "--steps",
        "2",
    ]
    command += ["--seed", "3", "--num-frames", "4", "--out", str(tmp_path / "clip.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    recipe = read_recipe(tmp_path / "clip.npz")
    assert recipe is not None
    assert recipe["model_hash"] == model_hash(folder)
    assert recipe["guidance_scale"] == 9.0 and recipe["scheduler_class"] == "DDIMScheduler"


# What is refused


def broken(folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_generator(folder)


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/config.json",
        f"unet/{WEIGHTS}",
        f"vae/{WEIGHTS}",
        "vae/config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    broken(folder, f"{re.escape(str(folder / file))} is missing")


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    broken(folder, f"{re.escape(str(folder / 'tokenizer' / 'vocab.json'))} is missing")
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    broken(folder, f"{re.escape(str(folder / 'tokenizer'))} holds no tokenizer that can be read")


@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        (f"unet/{WEIGHTS}", "conv_out.bias"),
        (f"vae/{WEIGHTS}", "decoder.conv_out.bias"),
        ("text_encoder/model.safetensors", "final_layer_norm.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder: Path, file: str, tensor: str) -> None:
    path = folder / file
    good = load_file(path)
    (name,) = [name for name in good if name.removeprefix("text_model.") == tensor]
    save_file(good | {name: good[name] * torch.nan}, path)
    broken(folder, f"{re.escape(str(path))} holds NaN or infinity as torch.float32: {name}")
    save_file(good | {name: torch.ones(9)}, path)
    broken(folder, rf"{name} has shape \(9,\) instead of")
    save_file(good | {"extra": torch.ones(9)}, path)
    broken(folder, "extra is unknown")
    del good[name]
    save_file(good, path)
    broken(folder, f"{re.escape(str(path))} does not fit its config.json: {name} is missing")


def test_what_the_index_lists_must_be_known(folder: Path) -> None:
    edit_json(folder / "model_index.json", vae=["diffusers", "VQModel"])
    broken(folder, "vae is a VQModel, known are AutoencoderKL")
    edit_json(folder / "model_index.json", vae=[None, None])
    broken(folder, "vae is a None, known are AutoencoderKL")
    edit_json(folder / "model_index.json", vae=["diffusers", "AutoencoderKL"], unet="unet")
    broken(folder, "must name a library and a class for unet")
    index = json.loads((folder / "model_index.json").read_text())
    del index["tokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    broken(folder, "model_index.json lists no tokenizer")


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("unet", {"attention_head_dim": 7}),
        ("vae", {"norm_num_groups": 3}),
        ("text_encoder", {"num_attention_heads": 3}),
    ],
)
def test_an_impossible_config_is_refused(folder: Path, part: str, changes: dict[str, Any]) -> None:
    edit_json(folder / part / "config.json", **changes)
    broken(folder, "the config of .* cannot be used")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 3}, "in_channels=3, but the latents of the vae have 4 channels"),
        ({"out_channels": 8}, "out_channels=8, but the latents of the vae have 4 channels"),
        (
            {"cross_attention_dim": 12},
            "cross_attention_dim=12, but the embeddings of the text_encoder have 16 channels",
        ),
        ({"sample_size": None}, "the config of the UNet has no `sample_size`"),
    ],
)
def test_a_unet_that_does_not_fit_its_folder_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    UNet3D(**(TINY_UNET3D | {"cross_attention_dim": 16} | changes)).save_pretrained(folder / "unet")
    broken(folder, message)
