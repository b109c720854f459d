"""Weights give the same bits whatever address their file would have put them at."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny import TINY_CODEC, make_clip_text_model, make_inputs, make_network, write_clip_tokenizer
from tests.tiny_pipeline import make_pipeline
from videogen.alignment import align, aligned
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.metrics.feature_network import EMBEDDED_FEATURES, FeatureNetwork
from videogen.models.lora import LORA_NAME, add_lora, read_lora, save_lora
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.text.pretrained import CLIPTextEncoder

OFFSETS = (8, 24, 32, 56)


def move_weights(folder: Path, offset: int) -> None:
    """Lengthen the headers of safetensors: their weights begin `offset` bytes after a multiple of 64."""
    for file in folder.rglob("*.safetensors"):
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = content[8:end] + b" " * ((offset - end) % 64)
        assert (8 + len(header)) % 64 == offset
        file.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def misaligned(network: nn.Module) -> list[str]:
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return [name for name, tensor in tensors if tensor.data_ptr() % 64]


@torch.no_grad()
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("kind", [UNet3D, UViT3D])
def test_a_network_read_from_any_address_gives_the_same_bits(kind: Any, offset: int, tmp_path: Path) -> None:
    network: Any = make_network(kind)
    network.save_pretrained(tmp_path)
    move_weights(tmp_path, offset)
    loaded = kind.from_pretrained(tmp_path)
    assert not misaligned(loaded)
    inputs = make_inputs()
    assert torch.equal(loaded(*inputs).sample, network(*inputs).sample)


def test_loading_information_is_still_given(tmp_path: Path) -> None:
    VideoAutoencoder(**TINY_CODEC).save_pretrained(tmp_path)
    move_weights(tmp_path, 8)
    loaded, information = VideoAutoencoder.from_pretrained(tmp_path, output_loading_info=True)
    assert not misaligned(loaded) and not information["missing_keys"]


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_pipeline_read_from_any_address_makes_the_same_clip(offset: int, tmp_path: Path) -> None:
    pipeline = make_pipeline(TextToVideoPipeline)
    pipeline.save_pretrained(tmp_path)
    move_weights(tmp_path, offset)
    loaded = TextToVideoPipeline.from_pretrained(tmp_path)
    clips = [
        torch.from_numpy(each("a red circle", seed=1, num_inference_steps=2).frames)
        for each in (pipeline, loaded)
    ]
    assert torch.equal(*clips)


def test_networks_of_other_libraries_are_aligned(tmp_path: Path) -> None:
    make_clip_text_model().save_pretrained(tmp_path / "text_encoder")
    write_clip_tokenizer(tmp_path / "tokenizer")
    move_weights(tmp_path, 8)
    assert not misaligned(CLIPTextEncoder.from_pretrained(tmp_path, local_files_only=True).text_encoder)


def test_the_feature_network_is_aligned() -> None:
    assert not misaligned(FeatureNetwork.from_pretrained(str(EMBEDDED_FEATURES)))


def test_adapters_are_aligned(tmp_path: Path) -> None:
    network = make_network(UViT3D)
    add_lora(network, rank=4)
    save_lora(network, tmp_path)
    expected = read_lora(tmp_path).factors
    move_weights(tmp_path, 8)
    lora = read_lora(tmp_path / LORA_NAME)
    for module, factors in lora.factors.items():
        assert not [factor for factor in factors if factor.data_ptr() % 64]
        assert all(torch.equal(*pair) for pair in zip(factors, expected[module], strict=True))


def test_aligning_copies_only_what_has_to_be() -> None:
    network = nn.Linear(16, 16)
    storage = torch.randn(16 * 16 + 1)
    network.weight.data = storage[1:].view(16, 16)
    bias, values = network.bias.data_ptr(), network.weight.detach().clone()
    assert misaligned(network) == ["weight"]
    align(network)
    assert not misaligned(network)
    assert network.bias.data_ptr() == bias and torch.equal(network.weight, values)
    assert aligned(values) is values
