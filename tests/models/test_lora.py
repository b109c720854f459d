"""Adapters: training, files, merging, and agreement with peft and diffusers."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import TextToVideoSDPipeline
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.tiny import TINY_UNET3D, make_network
from videogen.models.lora import (
    LORA_NAME,
    add_lora,
    merge_lora,
    parse_lora_option,
    read_lora,
    save_lora,
)
from videogen.models.lora_settings import METADATA, PEFT_CONFIG_NAME, PEFT_NAME
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D

NETWORKS = pytest.mark.parametrize("kind", [UNet3D, UViT3D])


def make(kind: type[UNet3D] | type[UViT3D] = UNet3D) -> UNet3D | UViT3D:
    return make_network(kind, cross_attention_dim=16).eval()


def predict(network: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 4, 4, 4, generator=generator)
    text = torch.randn(2, 5, 16, generator=generator)
    with torch.no_grad():
        output: Tensor = network(sample, torch.tensor([3.0, 700.0]), text).sample
    return output


def train_at_random(network: nn.Module, seed: int = 0) -> None:
    """Give adapters some weights, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)


def adapted(kind: type[UNet3D] | type[UViT3D], folder: Path, seed: int = 0, **options: Any) -> nn.Module:
    """A network with adapters, which are in the folder too."""
    network = make(kind)
    add_lora(network, 3, **options)
    train_at_random(network, seed)
    save_lora(network, folder)
    return network


@NETWORKS
def test_adapters_change_nothing_at_first_and_are_all_that_is_trained(kind: Any) -> None:
    network, before = make(kind), predict(make(kind))
    names = add_lora(network, 2)
    assert torch.equal(predict(network), before)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.lora_{half}.default.weight" for name in names for half in "AB"}
    assert any("conv" in name for name in names) and any("to_q" in name for name in names)


def test_all_attentions_and_temporal_convolutions_of_a_unet_are_adapted() -> None:
    names = set(add_lora(make(UNet3D), 2))
    of_kind = {
        name
        for name, module in make(UNet3D).named_modules()
        if type(module).__name__ == "TemporalConv" or (isinstance(module, nn.Linear) and ".attn" in name)
    }
    assert names == of_kind


@NETWORKS
@pytest.mark.parametrize("options", [{}, {"alpha": 12}])
def test_merged_adapters_give_what_was_trained(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    expected = predict(adapted(kind, tmp_path, **options))
    merged = make(kind)
    merge_lora(merged, read_lora(tmp_path))
    assert (predict(merged) - expected).abs().max() < 1e-5
    assert (predict(make(kind)) - expected).abs().max() > 1e-2


def test_adapters_stack_and_are_scaled(tmp_path: Path) -> None:
    adapted(UNet3D, tmp_path / "a", seed=1)
    adapted(UNet3D, tmp_path / "b", seed=2)
    first, second = read_lora(tmp_path / "a"), read_lora(tmp_path / "b" / LORA_NAME)
    one, other = make(), make()
    merge_lora(one, first, 0.5)
    merge_lora(one, second, -2.0)
    merge_lora(other, second, -1.0)
    merge_lora(other, second, -1.0)
    merge_lora(other, first, 0.5)
    assert (predict(one) - predict(other)).abs().max() < 1e-5
    merge_lora(one, first, -0.5)
    merge_lora(one, second, 2.0)
    assert (predict(one) - predict(make())).abs().max() < 1e-5


def peer_with_adapters(config: LoraConfig) -> UNet3DConditionModel:
    """Diffusers' class with the weights of `make()`; it has no loader of adapters, so peft does it."""
    peer = UNet3DConditionModel(**TINY_UNET3D | {"cross_attention_dim": 16}).eval()
    peer.load_state_dict(make().state_dict())
    inject_adapter_in_model(config, peer)
    return peer


def test_peft_puts_ours_into_the_class_of_diffusers(tmp_path: Path) -> None:
    expected = predict(adapted(UNet3D, tmp_path, alpha=5))
    state, _, metadata = TextToVideoSDPipeline.lora_state_dict(tmp_path, return_lora_metadata=True)
    settings = {key.removeprefix("unet."): value for key, value in metadata.items()}
    peer = peer_with_adapters(LoraConfig(**settings))
    loaded: Any = set_peft_model_state_dict(peer, {key.removeprefix("unet."): v for key, v in state.items()})
    assert not loaded.unexpected_keys
    assert (predict(peer) - expected).abs().max() < 1e-4


def test_ours_loads_what_diffusers_writes(tmp_path: Path) -> None:
    peer = peer_with_adapters(LoraConfig(r=2, target_modules=["to_q", "to_out.0", "proj_in"], lora_alpha=2))
    for name, parameter in peer.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    TextToVideoSDPipeline.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(peer))
    ours = make()
    merge_lora(ours, read_lora(tmp_path))
    assert (predict(ours) - predict(peer)).abs().max() < 1e-4


def test_old_names_and_alphas_are_read(tmp_path: Path) -> None:
    adapted(UNet3D, tmp_path)
    tensors = load_file(tmp_path / LORA_NAME)
    old = {
        key.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."): value
        for key, value in tensors.items()
    }
    old |= {
        key.removesuffix(".lora_A.weight") + ".alpha": torch.tensor(6.0) for key in tensors if "_A" in key
    }
    save_file(old, tmp_path / "old.safetensors")
    one, other = make(), make()
    merge_lora(one, read_lora(tmp_path / "old.safetensors"))
    merge_lora(other, read_lora(tmp_path), 2.0)
    assert (predict(one) - predict(other)).abs().max() < 1e-5


@NETWORKS
def test_names_of_kohya_are_read(kind: Any, tmp_path: Path) -> None:
    adapted(kind, tmp_path)
    renamed = {}
    for key, value in load_file(tmp_path / LORA_NAME).items():
        module, half = key.removeprefix("unet.").split(".lora_")
        name = f"lora_unet_{module.replace('.', '_')}"
        renamed[f"{name}.lora_{'down' if half == 'A.weight' else 'up'}.weight"] = value
        renamed[f"{name}.alpha"] = torch.tensor(6.0)  # of rank 3
    save_file(renamed, tmp_path / "kohya.safetensors")
    one, other = make(kind), make(kind)
    merge_lora(one, read_lora(tmp_path / "kohya.safetensors"))
    merge_lora(other, read_lora(tmp_path), 2.0)
    assert torch.equal(predict(one), predict(other))
    save_file(
        {key.replace("unet", "te"): value for key, value in renamed.items()}, tmp_path / "text.safetensors"
    )
    with pytest.raises(ValueError, match="made for another model: this one has no lora_te_"):
        merge_lora(one, read_lora(tmp_path / "text.safetensors"))


def test_the_header_says_what_peft_needs_to_know(tmp_path: Path) -> None:
    adapted(UViT3D, tmp_path, alpha=5)
    with safe_open(tmp_path / LORA_NAME, framework="pt") as opened:
        settings = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert settings["unet.r"] == 3 and settings["unet.lora_alpha"] == 5
    assert "blocks.0.to_qkv" in settings["unet.target_modules"]


def test_adapters_of_another_model_are_refused_and_change_nothing(tmp_path: Path) -> None:
    adapted(UViT3D, tmp_path)
    network = make(UNet3D)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="made for another model: this one has no "):
        merge_lora(network, read_lora(tmp_path))
    wider = make_network(UViT3D, cross_attention_dim=32)
    with pytest.raises(ValueError, match=r"made for another model: its factors of .* are "):
        merge_lora(wider, read_lora(tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


PATTERNS = {"rank_pattern": {"to_out": 4}, "alpha_pattern": {"blocks.1.to_qkv": 9, r"^blocks\.0\.to_out": 5}}


def peft_folder(folder: Path, **options: Any) -> nn.Module:
    """A network with adapters that peft made, which peft has saved in the folder."""
    settings: dict[str, Any] = {"r": 2, "lora_alpha": 3, "target_modules": r".*\.to_(qkv|out)"}
    config = LoraConfig(**settings | options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = get_peft_model(make(UViT3D), config)
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.1)
    network.save_pretrained(folder)
    return network.eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lora_alpha": 16},
        {"use_rslora": True},
        PATTERNS,
        PATTERNS | {"use_rslora": True},
        {"target_modules": r".*\.(conv_time|cross_to_kv)", "lora_alpha": 16},
        {"init_lora_weights": "orthogonal", "lora_dropout": 0.3},
    ],
    ids=str,
)
def test_folders_of_peft_come_in_as_strong_as_peft_has_them(options: dict[str, Any], tmp_path: Path) -> None:
    expected = predict(peft_folder(tmp_path, **options))
    assert (predict(make(UViT3D)) - expected).abs().max() > 1e-2
    renamed = shutil.copy(tmp_path / PEFT_NAME, tmp_path / "mine.safetensors")
    for path in (tmp_path, tmp_path / PEFT_NAME, renamed):
        ours = make(UViT3D)
        merge_lora(ours, read_lora(path))
        assert (predict(ours) - expected).abs().max() < 1e-4


def test_a_folder_of_peft_without_its_configuration_does_not_say_how_strong_it_is(tmp_path: Path) -> None:
    peft_folder(tmp_path)
    (tmp_path / PEFT_CONFIG_NAME).unlink()
    with pytest.raises(ValueError, match=r"does not say how strong .* adapter_config.json"):
        read_lora(tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"use_dora": True}, "sets use_dora=True"),
        ({"bias": "all"}, "sets bias='all'"),
        ({"lora_bias": True}, "sets lora_bias=True"),
        ({"modules_to_save": ["conv_out"]}, "sets modules_to_save="),
        ({"layer_replication": [[0, 2]]}, "sets layer_replication="),
        ({"fan_in_fan_out": True}, "sets fan_in_fan_out=True"),
        ({"of_next_year": {"size": 1}}, "sets of_next_year="),
        ({"init_lora_weights": "pissa"}, "sets init_lora_weights='pissa'"),
        ({"peft_type": "LOHA"}, "of the type 'LOHA'"),
        ({"lora_alpha": "16"}, "lora_alpha must be a finite number"),
        ({"lora_alpha": 0}, "lora_alpha must be a finite number other than 0"),
        ({"lora_alpha": True}, "lora_alpha must be a finite number"),
        ({"r": 3}, "of rank 2 .* its settings say 3"),
        ({"r": 2.5}, "r must be a whole number"),
        ({"alpha_pattern": {"to_(": 1}}, "alpha_pattern holds the expression"),
        ({"alpha_pattern": {"to_out": None}}, "must be a finite number"),
        ({"alpha_pattern": ["to_out"]}, "alpha_pattern must give numbers by module"),
        ({"rank_pattern": {"to_out": 3}}, "of rank 2 .* its settings say 3"),
        ({"use_rslora": "yes"}, "use_rslora must be true or false"),
        ([], "must hold a JSON object"),
    ],
    ids=str,
)
def test_what_is_not_understood_of_peft_is_refused_by_name(said: Any, message: str, tmp_path: Path) -> None:
    peft_folder(tmp_path)
    config = tmp_path / PEFT_CONFIG_NAME
    written = json.loads(config.read_text())
    config.write_text(json.dumps(written | said if isinstance(said, dict) else said))
    with pytest.raises(ValueError, match=message):
        read_lora(tmp_path)
    if isinstance(said, dict):
        tensors = load_file(tmp_path / PEFT_NAME)
        header = {f"unet.{key}": value for key, value in (written | said).items()}
        save_file(tensors, tmp_path / "mine.safetensors", {METADATA: json.dumps(header)})
        config.unlink()
        with pytest.raises(ValueError, match=message):
            read_lora(tmp_path / "mine.safetensors")


@pytest.mark.parametrize(
    ("header", "scale"),
    [
        ({"lora_alpha": "16"}, 8.0),
        ({"ss_network_alpha": "1.0", "ss_network_dim": "2"}, 0.5),
        ({"network_alpha": "4", "lora_alpha": "4.0"}, 2.0),
        ({"lora_alpha": "16", "use_rslora": "True"}, 16 / 2**0.5),
        ({"ss_network_alpha": "None"}, 1.0),
        ({"lora_alpha": "16", "alpha_pattern": '{"a": 2}'}, 1.0),
        ({}, 1.0),
    ],
)
def test_plain_fields_of_a_header_are_read(header: dict[str, str], scale: float, tmp_path: Path) -> None:
    factors = {"unet.a.lora_A.weight": torch.ones(2, 3), "unet.a.lora_B.weight": torch.ones(3, 2)}
    save_file(factors, tmp_path / LORA_NAME, header)
    assert read_lora(tmp_path).scales["a"] == pytest.approx(scale)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"lora_alpha": "sixteen"}, "lora_alpha must be a finite number"),
        ({"lora_alpha": "16", "ss_network_alpha": "8"}, "says alpha differently"),
        ({"use_dora": "True"}, "sets use_dora=True"),
        ({"use_rslora": "true"}, "does not say how strong"),
        ({METADATA: '{"unet.r": 2, "text_encoder.r": 4}'}, "sets text_encoder.r=4"),
        ({METADATA: "["}, "broken header"),
    ],
)
def test_headers_that_are_not_understood(header: dict[str, str], message: str, tmp_path: Path) -> None:
    factors = {"unet.a.lora_A.weight": torch.ones(2, 3), "unet.a.lora_B.weight": torch.ones(3, 2)}
    save_file(factors, tmp_path / LORA_NAME, header)
    with pytest.raises(ValueError, match=message):
        read_lora(tmp_path)


def test_a_header_and_a_configuration_that_differ_are_refused(tmp_path: Path) -> None:
    peft_folder(tmp_path)
    save_file(load_file(tmp_path / PEFT_NAME), tmp_path / PEFT_NAME, {"lora_alpha": "16"})
    with pytest.raises(ValueError, match=r"lora_alpha is 16 in the header .* and 3 in .*adapter_config.json"):
        read_lora(tmp_path)


def test_a_folder_with_two_files_of_adapters_is_not_guessed_at(tmp_path: Path) -> None:
    adapted(UViT3D, tmp_path)
    peft_folder(tmp_path)
    with pytest.raises(ValueError, match=r"holds both .* give the file"):
        read_lora(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_factors_of_a_few_bits_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    adapted(UViT3D, tmp_path)
    rounded = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / LORA_NAME).items()}
    save_file(rounded, tmp_path / "few.safetensors")
    save_file({name: tensor.float() for name, tensor in rounded.items()}, tmp_path / "many.safetensors")
    few, many = make(UViT3D), make(UViT3D)
    merge_lora(few, read_lora(tmp_path / "few.safetensors"))
    merge_lora(many, read_lora(tmp_path / "many.safetensors"))
    assert torch.equal(predict(few), predict(many))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"unet.a.lora_A.weight": torch.ones(2, 3)}, "lacks half of the adapter of a"),
        ({}, "holds no adapters"),
        ({"unet.a.hada_w1_a": torch.ones(2, 3)}, "is no LoRA of a denoiser: it holds unet.a.hada_w1_a"),
        ({"unet.a.lora_A.weight": torch.full((2, 3), torch.nan)}, "NaN or infinity"),
        (
            {"unet.a.lora_A.weight": torch.full((2, 3), torch.nan).to(torch.float8_e4m3fn)},
            "NaN or infinity",
        ),
        ({"unet.a.lora_A.weight": torch.ones(2, 3, dtype=torch.int8)}, "as torch.int8: save its factors as"),
        ({"unet.a.lora_A.weight": torch.ones(3)}, r"of shape \(3,\), which is no factor"),
        ({"unet.a.lora_A.weight": torch.ones(0, 3)}, r"of shape \(0, 3\), which is no factor"),
        ({"a.lora_A.weight": torch.ones(2, 3), "a.weight_scale": torch.ones(1)}, "it holds a.weight_scale"),
    ],
)
def test_files_that_are_no_adapters(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / LORA_NAME)
    with pytest.raises(ValueError, match=message):
        read_lora(tmp_path)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{LORA_NAME} is missing"):
        read_lora(tmp_path)
    adapted(UViT3D, tmp_path)
    whole = (tmp_path / LORA_NAME).read_bytes()
    (tmp_path / LORA_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="may be truncated"):
        read_lora(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run/result", ("run/result", 1.0)),
        ("run/result:0.8", ("run/result", 0.8)),
        ("C:\\loras\\cat", ("C:\\loras\\cat", 1.0)),
        ("a:b:-1e-1", ("a:b", -0.1)),
        ("cat:.5", ("cat", 0.5)),
        ("cat:v2", ("cat:v2", 1.0)),
    ],
)
def test_options(text: str, expected: tuple[str, float]) -> None:
    assert parse_lora_option(text) == expected


@pytest.mark.parametrize("text", ["", ":0.5", "cat:nan", "cat:-inf", "cat:1e999"])
def test_options_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="PATH:SCALE"):
        parse_lora_option(text)


@pytest.mark.parametrize(("rank", "alpha"), [(0, None), (-1, None), (2, 0)])
def test_sizes_that_cannot_be(rank: int, alpha: int | None) -> None:
    with pytest.raises(ValueError, match=r"must be (at least 1|above 0), got"):
        add_lora(make(), rank, alpha)
