"""Adapters of a pipeline in use: the clips of a model loaded with them, and those of before afterwards."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny_pipeline import latents_of, make_pipeline
from videogen.models.lora import LORA_NAME, add_lora, save_lora
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.text.words import save_words

PROMPT = "a large red circle moves left"


def write_adapters(folder: Path, seed: int, kind: type[UNet3D] | type[UViT3D] = UViT3D) -> Path:
    network = make_pipeline(TextToVideoPipeline, kind).unet
    add_lora(network, 2)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    save_lora(network, folder)
    return folder


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return write_adapters(tmp_path / "one", 1)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return write_adapters(tmp_path / "two", 2)


@pytest.fixture
def pipeline() -> TextToVideoPipeline:
    return make_pipeline(TextToVideoPipeline)


def clip(pipeline: Any, prompt: str = PROMPT) -> Tensor:
    return latents_of(pipeline, prompt, seed=0)


def test_two_adapters_are_those_of_a_model_loaded_with_them(
    pipeline: TextToVideoPipeline, one: Path, two: Path, tmp_path: Path
) -> None:
    plain = clip(pipeline)
    pipeline.save_pretrained(tmp_path / "model")
    pipeline.load_lora_weights(one, "first")
    alone = clip(pipeline)
    assert torch.equal(alone, clip(load(tmp_path / "model", loras=[one])))
    pipeline.load_lora_weights(two, weight_name=LORA_NAME)
    assert pipeline.get_active_adapters() == ["first", "default_1"]
    assert torch.equal(clip(pipeline), clip(load(tmp_path / "model", loras=[one, two])))
    pipeline.set_adapters(["first", "default_1"], [0.5, -2])
    assert torch.equal(clip(pipeline), clip(load(tmp_path / "model", loras=[(one, 0.5), (two, -2)])))
    pipeline.set_adapters("first")
    assert torch.equal(clip(pipeline), alone) and pipeline.get_active_adapters() == ["first"]
    moved = copy.deepcopy(pipeline)
    for each in (pipeline, moved):
        each.unload_lora_weights()
        assert torch.equal(clip(each), plain) and each.get_active_adapters() == []
    pipeline.load_lora_weights(one, "first")
    assert torch.equal(clip(pipeline), alone)


def test_what_is_wrong_is_named_and_changes_nothing(
    pipeline: TextToVideoPipeline, one: Path, tmp_path: Path
) -> None:
    pipeline.load_lora_weights(one, "first")
    before = clip(pipeline)
    other = write_adapters(tmp_path / "other", 3, UNet3D)
    with pytest.raises(ValueError, match=r"other/.* was made for another model: this one has no"):
        pipeline.load_lora_weights(other)
    with pytest.raises(ValueError, match="`adapter_name` 'first' is taken"):
        pipeline.load_lora_weights(one, "first")
    with pytest.raises(ValueError, match=r"no LoRA at .*nothing"):
        pipeline.load_lora_weights(tmp_path / "nothing")
    with pytest.raises(
        ValueError, match="`adapter_names` has 'second', which is not loaded: loaded are first"
    ):
        pipeline.set_adapters(["first", "second"])
    for weights in ([1.0, 2.0], math.nan, []):
        with pytest.raises(ValueError, match=r"`adapter_weights` must be finite, .* got"):
            pipeline.set_adapters("first", weights)
    assert torch.equal(clip(pipeline), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back_too(pipeline: TextToVideoPipeline, one: Path, dtype: torch.dtype) -> None:
    nn.Module.to(pipeline.unet, dtype)
    plain = clip(pipeline)
    pipeline.load_lora_weights(one)
    assert not torch.equal(clip(pipeline), plain)
    pipeline.unload_lora_weights()
    assert torch.equal(clip(pipeline), plain)


@pytest.mark.filterwarnings("ignore:the model does not know")
def test_words_come_and_go_with_their_adapters(pipeline: TextToVideoPipeline, one: Path) -> None:
    plain, encoder = clip(pipeline, "a flumph"), pipeline.text_encoder
    save_words({"flumph": torch.ones(16)}, one)
    pipeline.load_lora_weights(one)
    pipeline.set_adapters([])
    assert not torch.equal(clip(pipeline, "a flumph"), plain)
    pipeline.unload_lora_weights()
    assert pipeline.text_encoder is encoder and torch.equal(clip(pipeline, "a flumph"), plain)
