"""Public weights in `UNet3D`: every form in which they are found, against diffusers' own class."""

import gc
import json
import re
import warnings
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import DEEP_UNET3D, edit_json, randomise
from videogen.models.unet3d import UNet3D
from videogen.models.unet3d_weights import from_modelscope_names, load_unet3d

WEIGHTS = "diffusion_pytorch_model"


@pytest.fixture
def reference() -> UNet3DConditionModel:
    model = UNet3DConditionModel(**DEEP_UNET3D).eval()
    randomise(model)
    return model


@pytest.fixture
def folder(tmp_path: Path, reference: UNet3DConditionModel) -> Path:
    reference.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


def check_equal(model: UNet3D, reference: UNet3DConditionModel) -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 3, 8, 8, generator=generator)
    text = torch.randn(2, 5, 12, generator=generator)
    assert not model.training
    with torch.no_grad():
        expected = reference(latents, 500, text).sample
        torch.testing.assert_close(model(latents, 500, text).sample, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["whole", "shards", "bin", "fp16"])
def test_every_form_of_a_diffusers_folder(tmp_path: Path, reference: UNet3DConditionModel, form: str) -> None:
    options = {
        "whole": {},
        "shards": {"max_shard_size": "100KB"},
        "bin": {"safe_serialization": False},
        "fp16": {"variant": "fp16"},
    }[form]
    if form == "fp16":
        reference.half()
    reference.save_pretrained(tmp_path, **options)  # type: ignore[arg-type]
    assert {"whole": 2, "shards": 4, "bin": 2, "fp16": 2}[form] <= len(list(tmp_path.iterdir()))
    check_equal(load_unet3d(tmp_path), reference.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_is_the_one_asked_for(
    folder: Path, reference: UNet3DConditionModel, dtype: torch.dtype
) -> None:
    model = load_unet3d(str(folder), dtype=dtype)
    assert model.dtype == dtype
    state_dict = model.state_dict()
    for name, tensor in reference.state_dict().items():
        assert torch.equal(state_dict[name], tensor.to(dtype))
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cpu"}


def test_what_is_loaded_can_be_saved_over_its_source(folder: Path, reference: UNet3DConditionModel) -> None:
    load_unet3d(folder).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["_class_name"] == "UNet3D"
    check_equal(load_unet3d(folder), reference)


def test_pickles_of_our_own_class_are_not_opened(folder: Path) -> None:
    model = load_unet3d(folder)
    (folder / f"{WEIGHTS}.safetensors").unlink()
    model.save_pretrained(folder, safe_serialization=False)
    with pytest.raises(ValueError, match=rf"{WEIGHTS}.safetensors is missing; .*\.bin is a pickle"):
        load_unet3d(folder)


# ModelScope's names


def modelscope_name(name: str, num_layers: int, num_blocks: int, up_attends: list[bool]) -> str:
    """The name that ModelScope's code has for a tensor of diffusers', by arithmetic on the numbers in it."""
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    for ours, theirs in {
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "conv_in.": "input_blocks.0.0.",
        "transformer_in.": "input_blocks.0.1.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
    }.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    match = re.fullmatch(r"(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?([a-z_]+)\.(\d+)\.(.+)", name)
    assert match is not None and num_blocks
    part, kind, layer, rest = match[1], match[3], int(match[4]), match[5]
    block = int(match[2] or 0)
    if part == "down_blocks":
        stem = f"input_blocks.{1 + block * (num_layers + 1) + layer}"
    elif part == "up_blocks":
        stem = f"output_blocks.{block * (num_layers + 1) + layer}"
    else:
        stem = "middle_block"
    place = 3 if part == "mid_block" and layer == 1 else 0
    if kind == "resnets":
        module, parameter = rest.rsplit(".", 1)
        return f"{stem}.{place}.{resnet[module]}.{parameter}"
    if kind == "temp_convs":
        return f"{stem}.{place}.temopral_conv.{rest}"
    if kind == "attentions":
        return f"{stem}.1.{rest}"
    if kind == "temp_attentions":
        return f"{stem}.2.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (num_layers + 1)}.op.{rest.removeprefix('conv.')}"
    assert kind == "upsamplers"
    return f"output_blocks.{(block + 1) * (num_layers + 1) - 1}.{3 if up_attends[block] else 1}.{rest}"


def to_modelscope(state_dict: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
    up_attends = ["CrossAttn" in block_type for block_type in config["up_block_types"]]
    converted = {}
    for name, tensor in state_dict.items():
        temporal = "transformer_in." in name or "temp_attentions." in name
        if temporal and re.search(r"\.proj_(in|out)\.weight$", name):
            tensor = tensor[..., None]  # a Conv1d there
        theirs = modelscope_name(name, config["layers_per_block"], len(up_attends), up_attends)
        assert theirs not in converted
        converted[theirs] = tensor
    return converted


# Names and shapes in the public text2video_pytorch_model.pth, one of each kind, as its code defines them.
PUBLIC = {
    "time_embed.2.bias": ("time_embedding.linear_2.bias", (1280,)),
    "input_blocks.0.0.weight": ("conv_in.weight", (320, 4, 3, 3)),
    "input_blocks.0.1.proj_in.weight": ("transformer_in.proj_in.weight", (512, 320, 1)),
    "input_blocks.0.1.proj_out.weight": ("transformer_in.proj_out.weight", (320, 512, 1)),
    "input_blocks.1.0.in_layers.0.weight": ("down_blocks.0.resnets.0.norm1.weight", (320,)),
    "input_blocks.2.1.proj_in.weight": ("down_blocks.0.attentions.1.proj_in.weight", (320, 320)),
    "input_blocks.3.op.weight": ("down_blocks.0.downsamplers.0.conv.weight", (320, 320, 3, 3)),
    "input_blocks.4.0.skip_connection.weight": (
        "down_blocks.1.resnets.0.conv_shortcut.weight",
        (640, 320, 1, 1),
    ),
    "input_blocks.4.2.transformer_blocks.0.attn2.to_k.weight": (
        "down_blocks.1.temp_attentions.0.transformer_blocks.0.attn2.to_k.weight",
        (640, 640),
    ),
    "input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight": (
        "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight",
        (1280, 1024),
    ),
    "input_blocks.11.0.emb_layers.1.weight": (
        "down_blocks.3.resnets.1.time_emb_proj.weight",
        (1280, 1280),
    ),
    "input_blocks.11.0.temopral_conv.conv1.2.weight": (
        "down_blocks.3.temp_convs.1.conv1.2.weight",
        (1280, 1280, 3, 1, 1),
    ),
    "middle_block.0.temopral_conv.conv4.3.bias": ("mid_block.temp_convs.0.conv4.3.bias", (1280,)),
    "middle_block.1.norm.weight": ("mid_block.attentions.0.norm.weight", (1280,)),
    "middle_block.2.proj_in.weight": ("mid_block.temp_attentions.0.proj_in.weight", (1280, 1280, 1)),
    "middle_block.3.out_layers.3.weight": ("mid_block.resnets.1.conv2.weight", (1280, 1280, 3, 3)),
    "output_blocks.0.0.in_layers.2.weight": ("up_blocks.0.resnets.0.conv1.weight", (1280, 2560, 3, 3)),
    "output_blocks.2.1.conv.weight": ("up_blocks.0.upsamplers.0.conv.weight", (1280, 1280, 3, 3)),
    "output_blocks.5.1.proj_out.bias": ("up_blocks.1.attentions.2.proj_out.bias", (1280,)),
    "output_blocks.5.3.conv.bias": ("up_blocks.1.upsamplers.0.conv.bias", (1280,)),
    "output_blocks.8.0.in_layers.0.weight": ("up_blocks.2.resnets.2.norm1.weight", (960,)),
    "output_blocks.11.2.transformer_blocks.0.ff.net.0.proj.weight": (
        "up_blocks.3.temp_attentions.2.transformer_blocks.0.ff.net.0.proj.weight",
        (2560, 320),
    ),
    "output_blocks.11.2.transformer_blocks.0.attn1.to_out.0.bias": (
        "up_blocks.3.temp_attentions.2.transformer_blocks.0.attn1.to_out.0.bias",
        (320,),
    ),
    "out.0.weight": ("conv_norm_out.weight", (320,)),
    "out.2.bias": ("conv_out.bias", (4,)),
}


def test_all_tensors_of_the_public_network_are_renamed_one_to_one() -> None:
    with torch.device("meta"):
        model = UNet3D()
    ours = model.state_dict()
    theirs = to_modelscope(ours, model.config)
    assert len(theirs) == 1_480
    for name, (our_name, shape) in PUBLIC.items():
        assert theirs[name].shape == shape
        assert list(from_modelscope_names({name: theirs[name]}, model.config)) == [our_name]
    renamed = from_modelscope_names(theirs, model.config)
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_single_file_with_modelscope_names(
    tmp_path: Path, reference: UNet3DConditionModel, suffix: str
) -> None:
    path = tmp_path / f"text2video_pytorch_model{suffix}"
    state_dict = to_modelscope(reference.state_dict(), reference.config)
    if suffix == ".pth":
        torch.save(state_dict, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in state_dict.items()}, path)
    check_equal(load_unet3d(path, config=DEEP_UNET3D), reference)


def test_a_single_file_with_diffusers_names(folder: Path, reference: UNet3DConditionModel) -> None:
    check_equal(load_unet3d(folder / f"{WEIGHTS}.safetensors", config=DEEP_UNET3D), reference)


def test_a_single_file_is_of_the_public_size_by_default(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has shape \(16,\) instead of \(320,\)|is missing.* more"):
        load_unet3d(folder / f"{WEIGHTS}.safetensors")


def test_modelscope_names_that_do_not_fit_are_named(tmp_path: Path, reference: UNet3DConditionModel) -> None:
    path = tmp_path / "model.pth"
    good = to_modelscope(reference.state_dict(), reference.config)
    torch.save(good | {"fps_embedding.0.weight": torch.ones(2, 2)}, path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} .*: fps_embedding.0.weight is unknown"):
        load_unet3d(path, config=DEEP_UNET3D)
    torch.save({name: tensor for name, tensor in good.items() if not name.startswith("out.")}, path)
    with pytest.raises(
        ValueError, match=r"conv_norm_out.bias is missing; .*; conv_out.bias is missing and 1"
    ):
        load_unet3d(path, config=DEEP_UNET3D)


# What is refused


def test_tensors_that_do_not_fit_are_named(folder: Path) -> None:
    path = folder / f"{WEIGHTS}.safetensors"
    good = load_file(path)
    bias = good["conv_out.bias"]
    for changes, message in (
        ({"conv_out.bias": torch.zeros(7)}, r"conv_out.bias has shape \(7,\) instead of \(4,\)"),
        ({"extra": torch.zeros(7)}, "extra is unknown"),
        ({"conv_out.bias": bias * torch.nan}, "holds NaN or infinity as torch.float32: conv_out.bias"),
    ):
        save_file(good | changes, path)
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} .*{message}"):
            load_unet3d(folder)
    save_file({name: tensor for name, tensor in good.items() if "temp_convs" not in name}, path)
    with pytest.raises(ValueError, match=r"down_blocks.0.temp_convs.0.conv1.0.bias is missing; .* more$"):
        load_unet3d(folder)
    path.unlink()
    with pytest.raises(ValueError, match=f"{WEIGHTS}.safetensors is missing$"):
        load_unet3d(folder)


def test_half_the_shards(tmp_path: Path, reference: UNet3DConditionModel) -> None:
    reference.save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    for shard in shards[::2]:
        shard.unlink()
    with pytest.raises(
        ValueError, match=rf"names {len(shards)} shards, of which are missing: {shards[0].name}"
    ):
        load_unet3d(tmp_path)


def test_unknown_keys_of_a_config_are_warned_of(folder: Path, reference: UNet3DConditionModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_unet3d(folder)  # diffusers itself writes keys without a value
    edit_json(folder / "config.json", resnet_scale=2, num_attention_heads=None, only_cross_attention=False)
    with pytest.warns(UserWarning, match="unknown keys, ignored: only_cross_attention, resnet_scale$"):
        model = load_unet3d(folder)
    check_equal(model, reference)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_num_groups": 5}, "multiples of norm_num_groups=5"),
        ({"layers_per_block": 0}, "`layers_per_block` must be a whole number of at least 1, got 0"),
        ({"layers_per_block": "two"}, "`layers_per_block` must be a whole number of at least 1, got 'two'"),
        ({"block_out_channels": [16, 32]}, "equally long"),
        ({"block_out_channels": 16}, "`block_out_channels` must be a list, got 16"),
        ({"block_out_channels": [-16, 32, 32]}, "`block_out_channels` must be .*, got -16"),
        ({"down_block_types": ["DownBlock2D"] * 3}, "'DownBlock2D'"),
        ({"act_fn": "tanh"}, "got 'tanh'"),
    ],
)
def test_an_impossible_config_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=f"the config of UNet3D cannot be used: .*{message}"):
        load_unet3d(folder)


def test_a_source_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`source` '.*nothing.pth' is neither a folder nor a file"):
        load_unet3d(tmp_path / "nothing.pth")


@pytest.mark.slow
@torch.no_grad()
def test_the_network_of_public_size_equals_diffusers(tmp_path: Path) -> None:
    """On random weights: 1.41 billion numbers, through a file in half precision and one network at a time."""
    available = psutil.virtual_memory().available
    if available < 12e9:
        pytest.skip(f"needs 12 GB of memory, {available / 1e9:.1f} GB are available")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 2, 8, 8, generator=generator)
    text = torch.randn(1, 77, 1024, generator=generator)

    reference = UNet3DConditionModel().eval()
    for name, parameter in reference.named_parameters():
        if name.endswith("conv4.3.weight"):  # begins at zero, and would hide what lies before it
            parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
    reference.half().save_pretrained(tmp_path, max_shard_size="1GB", variant="fp16")
    expected = reference.float()(latents, 500, text).sample
    del reference
    gc.collect()

    model = load_unet3d(tmp_path)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_411_233_860
    torch.testing.assert_close(model(latents, 500, text).sample, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1  # so that the tolerance means something
