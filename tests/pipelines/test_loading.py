"""Saving and loading a pipeline: the same clips afterwards, and broken folders that say what is broken."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import edit_json
from tests.tiny_pipeline import latents_of, make_pipeline
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.loading import find_folder, load, load_generator
from videogen.pipelines.text_to_video import TextToVideoPipeline

PROMPT = "a large red circle moves left"
DEFAULTS = {"num_frames": 8, "height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 2.0}
WEIGHTS = "diffusion_pytorch_model.safetensors"
DENOISERS: dict[str, type[UNet3D] | type[UViT3D]] = {"uvit": UViT3D, "unet3d": UNet3D}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pipeline(TextToVideoPipeline, defaults=DEFAULTS).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def frames_of(pipeline: TextToVideo) -> torch.Tensor:
    return pipeline(PROMPT, seed=3, output_type="pt", return_dict=False)[0]


LOADERS: dict[str, Callable[[Any], TextToVideo]] = {
    "from_pretrained": TextToVideoPipeline.from_pretrained,
    "load": load,
    "load_generator": load_generator,
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_a_saved_pipeline_makes_the_same_clip(tmp_path: Path, loader: str, denoiser: str) -> None:
    pipeline = make_pipeline(TextToVideoPipeline, DENOISERS[denoiser], defaults=DEFAULTS)
    pipeline.save_pretrained(tmp_path)
    loaded = LOADERS[loader](tmp_path)
    assert loaded.defaults == pipeline.defaults
    assert loaded.prediction_type == "flow_prediction"
    packed = loader == "load_generator" and denoiser == "unet3d"  # the same but for rounding
    torch.testing.assert_close(frames_of(loaded), frames_of(pipeline), atol=1e-5 if packed else 0, rtol=0)
    assert not any(getattr(loaded, name).training for name in ("vae", "text_encoder", "unet"))


def test_a_second_round_trip_changes_nothing(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "again")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for file in files:
        if file.suffix == ".safetensors":
            assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


def test_nothing_on_disk_is_a_pickle(folder: Path) -> None:
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_kinds_and_dtypes(folder: Path) -> None:
    assert type(load(folder)) is TextToVideoPipeline
    generator = load_generator(str(folder), dtype=torch.bfloat16)
    assert type(generator) is TextToVideo
    for name in ("vae", "text_encoder", "unet"):
        assert getattr(generator, name).dtype == torch.bfloat16
    assert frames_of(generator).shape == (1, 8, 3, 16, 16)


def broken(folder: Path, message: str) -> None:
    for loader in (load, load_generator):
        with pytest.raises(ValueError, match=message):
            loader(folder)


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/config.json",
        f"unet/{WEIGHTS}",
        f"vae/{WEIGHTS}",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    broken(folder, f"{re.escape(str(folder / file))} is missing")


@pytest.mark.parametrize("size", [0, 5, 1000])
def test_truncated_weights_are_named(folder: Path, size: int) -> None:
    path = folder / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:size])
    broken(folder, f"{re.escape(str(path))} cannot be read, it may be truncated")


def test_truncated_json_is_named(folder: Path) -> None:
    path = folder / "vae" / "config.json"
    path.write_text(path.read_text()[:20])
    broken(folder, f"{re.escape(str(path))} cannot be read")


def test_tensors_that_do_not_fit_are_named(folder: Path) -> None:
    path = folder / "unet" / WEIGHTS
    good = load_file(path)
    bias = good["conv_out.bias"]
    save_file(good | {"conv_out.bias": torch.zeros(7)}, path)
    broken(folder, re.escape("conv_out.bias has shape (7,) instead of (4,)"))
    save_file(good | {"conv_out.bias2": bias.clone()}, path)
    broken(folder, "unet/.*conv_out.bias2 is unknown")
    save_file({name: value for name, value in good.items() if name != "conv_out.bias"}, path)
    broken(folder, "conv_out.bias is missing")


def test_pickles_are_not_opened(folder: Path) -> None:
    path = folder / "unet" / WEIGHTS
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    broken(folder, "diffusion_pytorch_model.bin is a pickle")


def test_what_the_index_lists_must_be_known(folder: Path) -> None:
    edit_json(folder / "model_index.json", unet=["diffusers", "UNet2DModel"])
    broken(folder, "unet is a UNet2DModel, known are .*UViT3D")
    edit_json(
        folder / "model_index.json",
        unet=["videogen.models.uvit", "UViT3D"],
        scheduler=["diffusers", "NoScheduler"],
    )
    broken(folder, "diffusers has no scheduler 'NoScheduler'")
    index = json.loads((folder / "model_index.json").read_text())
    del index["scheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    broken(folder, "model_index.json lists no scheduler")


def test_a_config_that_cannot_be_used(folder: Path) -> None:
    edit_json(folder / "unet" / "config.json", num_attention_heads=5)
    broken(folder, "the config of UViT3D cannot be used: .*got 32 and 5")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`model` '.*/nothing' is not a folder"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"`model` 'nothing' is not a folder"):
        load_generator("nothing")
    wrong: list[Any] = ["", 5, b"embedded", ["embedded"]]
    for model in wrong:
        with pytest.raises(ValueError, match="`model` must be a folder, a name or an id on the hub, got"):
            load(model)


@pytest.mark.parametrize(
    "device", ["unknown", "CPU", "", "cpu:1", "cuda:99", "cuda:x", "meta", 99, -1, 1.5, True, None]
)
@pytest.mark.parametrize("loader", [load, load_generator])
def test_a_device_that_is_not_here(folder: Path, loader: Any, device: Any) -> None:
    with pytest.raises(ValueError, match=rf"`device` '{device}' is not available: torch sees 1 cpu"):
        loader(folder, device=device)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_names_of_the_cpu(folder: Path, device: Any) -> None:
    assert load(folder, device=device).unet.device.type == "cpu"


@pytest.mark.parametrize(
    "loras",
    ["adapters", Path("adapters"), None, 5, [("adapters", "1")], [("adapters", 1, 2)], [("a", math.nan)]],
)
def test_adapters_that_are_none(folder: Path, loras: Any) -> None:
    with pytest.raises(ValueError, match="`loras` must "):
        load(folder, loras=loras)


def test_a_variant_is_taken_where_there_is_nothing_else(folder: Path, tmp_path: Path) -> None:
    pipeline = load(folder)
    pipeline.save_pretrained(tmp_path / "variant", variant="bf16", max_shard_size="20KB")
    assert list((tmp_path / "variant" / "unet").glob("*bf16-00001-of-*.safetensors"))
    expected = latents_of(pipeline, "a red circle", seed=0)
    assert torch.equal(latents_of(load(tmp_path / "variant"), "a red circle", seed=0), expected)
    pipeline.save_pretrained(tmp_path / "variant", variant="other")
    with pytest.raises(ValueError, match=r"holds several variants: keep one of .*other.*bf16"):
        load(tmp_path / "variant")


def test_the_folder_of_a_model(tmp_path: Path) -> None:
    assert find_folder(tmp_path) == find_folder(str(tmp_path)) == tmp_path


def test_attention_is_chosen_or_refused_with_the_reason(folder: Path) -> None:
    assert load(folder, attention="sdpa") is not None
    with pytest.raises(ValueError, match="'xformers' has no kernels for 'cpu'"):
        load(folder, attention="xformers")
    with pytest.raises(ValueError, match="`attention` must be one of sdpa, xformers, got 'flash'"):
        load(folder, attention="flash")
