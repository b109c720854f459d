"""Pipelines some of whose components are None, or whose weights come only while they are needed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import set_module_tensor_to_device
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from tests.tiny_families import make_family_pipeline
from tests.tiny_pipeline import make_pipeline
from videogen.models.unet3d import UNet3D
from videogen.pipelines.family_pipelines import FAMILY_PIPELINES
from videogen.pipelines.text_to_video import TextToVideoPipeline

PROMPT = "a large red circle moves left"
MAKERS: dict[str, Any] = {
    "uvit": lambda: make_pipeline(TextToVideoPipeline),
    "unet3d": lambda: make_pipeline(TextToVideoPipeline, UNet3D),
} | {family: (lambda kind=kind: make_family_pipeline(kind)) for family, kind in FAMILY_PIPELINES.items()}


class WeightsAway(ModelHook):
    """Keeps the weights of a network away until it is called, as offloading does between devices."""

    def init_hook(self, module: nn.Module) -> nn.Module:
        self.weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self.weights = {name: tensor.detach().clone() for name, tensor in self.weights.items()}
        return module.to("meta")

    def pre_forward(self, module: nn.Module, *arguments: Any, **options: Any) -> tuple[Any, Any]:
        for name, tensor in self.weights.items():
            set_module_tensor_to_device(module, name, "cpu", value=tensor)
        return arguments, options


@pytest.mark.parametrize("name", MAKERS)
def test_weights_are_brought_for_every_use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = MAKERS[name]()(PROMPT, seed=0, output_type="pt").frames
    pipeline = MAKERS[name]()
    for component in pipeline.components.values():
        if isinstance(component, nn.Module):
            add_hook_to_module(component, WeightsAway())
            assert next(component.parameters()).is_meta
    monkeypatch.setattr(type(pipeline), "execution_device", torch.device("cpu"))
    found = pipeline(PROMPT, seed=0, output_type="pt").frames
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", MAKERS)
def test_offloading(name: str) -> None:
    expected = MAKERS[name]()(PROMPT, seed=0, output_type="pt").frames
    pipeline = MAKERS[name]()
    pipeline.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(pipeline(PROMPT, seed=0, output_type="pt").frames, expected)
    with pytest.raises(ValueError, match="Use `enable_model_cpu_offload`"):
        pipeline.enable_sequential_cpu_offload()


@pytest.mark.parametrize("name", MAKERS)
def test_prompts_are_encoded_by_the_text_encoder_alone(name: str, tmp_path: Path) -> None:
    whole = MAKERS[name]()
    whole.save_pretrained(tmp_path)
    others = dict.fromkeys(set(whole.components) - {"text_encoder"})
    expected, _ = whole.encode_prompt(PROMPT)
    for alone in (
        type(whole)(text_encoder=whole.text_encoder, **others),
        type(whole).from_pretrained(tmp_path, **others),
    ):
        embeds, negative = alone.encode_prompt(PROMPT)
        torch.testing.assert_close(embeds, expected)
        assert negative is not None
        with pytest.raises(ValueError, match=r"`(unet|network)` of this pipeline is None"):
            alone(PROMPT)
    rest = type(whole).from_pretrained(tmp_path, text_encoder=None)
    given = {"prompt_embeds": embeds}
    if name in ("uvit", "unet3d", "transformer"):
        given["negative_prompt_embeds"] = negative
    clip = rest(**given, seed=0, output_type="pt").frames
    torch.testing.assert_close(clip, whole(PROMPT, seed=0, output_type="pt").frames)
    with pytest.raises(ValueError, match="`text_encoder` of this pipeline is None"):
        rest(PROMPT)


@pytest.mark.parametrize("name", MAKERS)
def test_clips_are_decoded_one_by_one(name: str) -> None:
    pipeline = MAKERS[name]()
    expected = pipeline([PROMPT, PROMPT], seed=0, output_type="pt").frames
    sizes: list[int] = []
    pipeline.vae.decoder.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    pipeline.enable_vae_slicing()
    found = pipeline([PROMPT, PROMPT], seed=0, output_type="pt").frames
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert set(sizes) == {1}
    pipeline.disable_vae_slicing()
    assert torch.equal(pipeline([PROMPT, PROMPT], seed=0, output_type="pt").frames, expected)
    with pytest.raises(ValueError, match="Use `enable_vae_slicing`"):
        pipeline.enable_vae_tiling()


@pytest.mark.parametrize("imports", ["import videogen, diffusers", "import diffusers, videogen"])
@pytest.mark.parametrize("name", ["uvit", "gan"])
def test_diffusers_opens_a_folder_where_videogen_is_imported(imports: str, name: str, tmp_path: Path) -> None:
    whole = MAKERS[name]()
    whole.save_pretrained(tmp_path)
    code = f"""{imports}, importlib.util, sys
importlib.util.find_spec("diffusers")
assert not any(module.startswith("videogen.pipelines") for module in sys.modules)
print(type(diffusers.DiffusionPipeline.from_pretrained({str(tmp_path)!r})).__name__)
try:
    diffusers.NoSuchPipeline
except AttributeError:
    print("as before")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.split("\n")[:2] == [type(whole).__name__, "as before"], result.stderr


@pytest.mark.parametrize("name", MAKERS)
def test_diffusers_opens_what_was_saved(name: str, tmp_path: Path) -> None:
    whole = MAKERS[name]()
    whole.save_pretrained(tmp_path)
    opened: Any = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(opened) is type(whole) and opened.defaults == whole.defaults
    clip = opened(PROMPT, seed=0, output_type="pt").frames
    torch.testing.assert_close(clip, whole(PROMPT, seed=0, output_type="pt").frames)
