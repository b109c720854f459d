"""What holds for the pipeline of every family: seeds, outputs, refusals, saving, and finding it again."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import edit_json
from tests.tiny_families import (
    FAMILY_NETWORKS,
    generators,
    latents_of,
    make_codec,
    make_family_pipeline,
    make_network,
)
from tests.tiny_pipeline import make_pipeline
from videogen.codec.contract import codec_hash
from videogen.comparison.models import stated_minutes
from videogen.models.dit import DiT3D
from videogen.pipelines.families import FAMILIES, GENERATORS
from videogen.pipelines.family_pipelines import (
    FAMILY_PIPELINES,
    GANPipeline,
    NetworkPipeline,
    RNNPipeline,
    TransformerPipeline,
    VAEPipeline,
)
from videogen.pipelines.loading import find_folder, load, load_generator, model_hash
from videogen.pipelines.network_generation import NetworkGenerator
from videogen.pipelines.output import BadClipsError
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.train.export import export
from videogen.train.recipes import RECIPES

PROMPT = "a large red circle moves left"
LIGHT = {kind.family: kind for kind in GENERATORS.values() if issubclass(kind, NetworkGenerator)}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(params=FAMILY_NETWORKS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def save(family: str, folder: Path, **changes: Any) -> NetworkPipeline:
    pipeline = make_family_pipeline(FAMILY_PIPELINES[family], **changes)
    pipeline.save_pretrained(folder)
    return pipeline


# Seeds and outputs


def test_clip_k_is_the_clip_made_alone_with_seed_plus_k(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    prompts = [PROMPT, "a blue square"]
    together = latents_of(pipeline, prompts, num_videos_per_prompt=2, seed=5)
    assert together.shape == (4, 4, 2, 2, 3)
    for k in range(4):
        alone = latents_of(pipeline, prompts[k // 2], seed=5 + k)
        torch.testing.assert_close(alone[0], together[k], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together[0], together[1])


def test_generators_in_place_of_a_seed(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    expected = latents_of(pipeline, PROMPT, seed=5)
    assert torch.equal(latents_of(pipeline, PROMPT, generator=generators(5)), expected)
    assert torch.equal(latents_of(pipeline, PROMPT, generator=generators(5)[0]), expected)


def test_embeddings_in_place_of_a_prompt(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    embeds, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    expected = latents_of(pipeline, PROMPT, seed=5)
    torch.testing.assert_close(latents_of(pipeline, prompt_embeds=embeds, seed=5), expected)


def test_outputs(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    array = pipeline(PROMPT, seed=0).frames
    assert array.shape == (1, 8, 16, 24, 3) and array.dtype == np.float32
    assert array.min() >= 0 and array.max() <= 1
    tensor = pipeline(PROMPT, seed=0, output_type="pt", return_dict=False)[0]
    assert tensor.shape == (1, 8, 3, 16, 24)
    assert np.array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    pictures = pipeline(PROMPT, seed=0, output_type="pil").frames
    assert len(pictures[0]) == 8 and pictures[0][0].size == (24, 16)


def test_temperature_zero_forgets_the_seed_but_for_the_order_of_tokens(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    steps = {"num_inference_steps": 1} if family == "transformer" else {}
    first, second = (latents_of(pipeline, PROMPT, temperature=0.0, seed=seed, **steps) for seed in (0, 1))
    torch.testing.assert_close(first, second)


# Refusals


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "15 frames": ({"num_frames": 15}, "`num_frames` must be a multiple of 4 .* got 15: use 12 or 16"),
    "height": ({"height": 60}, "`height` must be a multiple of 8 .* got 60: use 56 or 64"),
    "no clips": ({"num_videos_per_prompt": 0}, "`num_videos_per_prompt` must be at least 1, got 0"),
    "output type": ({"output_type": "gif"}, "`output_type` must be one of np, pt, pil, latent, got 'gif'"),
    "no prompt": ({"prompt": None}, "either `prompt` or `prompt_embeds`"),
    "embeds": (
        {"prompt": None, "prompt_embeds": torch.ones(1, 12, 17)},
        r"`prompt_embeds` must be \(P, L, 16\), got \(1, 12, 17\)",
    ),
    "seed and generator": ({"seed": 0, "generator": torch.Generator()}, "either `seed` or `generator`"),
    "generators": ({"generator": [torch.Generator()] * 2}, "`generator` must be one or 1, .* got 2"),
    "temperature": ({"temperature": math.nan}, "`temperature` must be a finite number .* got nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused_before_any_computation(family: str, case: str) -> None:
    arguments, message = BAD[case]
    pipeline = make_family_pipeline(LIGHT[family])
    calls: list[Any] = []
    for module in (pipeline.text_encoder, pipeline.network):
        module.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=message):
        pipeline(**({"prompt": PROMPT} | arguments))
    assert not calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": 0}, "`num_inference_steps` must be at least 1, got 0"),
        ({"num_flow_steps": 0}, "`num_flow_steps` must be at least 1, got 0"),
        ({"guidance_scale": -1.0}, "`guidance_scale` must be a finite number of at least 0, got -1"),
        ({"negative_prompt": ["a", "b"]}, "`negative_prompt` must be one for each of 1 prompts, got 2"),
    ],
)
def test_bad_settings_of_the_transformer(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_family_pipeline(LIGHT["transformer"])(PROMPT, **arguments)


def test_a_setting_that_a_family_does_not_have_is_refused(family: str) -> None:
    with pytest.raises(TypeError, match="step_cache"):
        make_family_pipeline(LIGHT[family])(PROMPT, step_cache=None)


def test_what_is_not_finite_or_blank_is_an_error(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    for parameter in pipeline.vae.decoder.parameters():
        nn.init.zeros_(parameter)
    with pytest.raises(FloatingPointError, match="clip 0 is blank"):
        pipeline(PROMPT, seed=0)
    nn.init.constant_(next(pipeline.network.transformer.parameters() if family in ("gan", "transformer")
                           else pipeline.network.head.parameters()), math.nan)  # fmt: skip
    with pytest.raises(FloatingPointError, match="are not finite"):
        pipeline(PROMPT, seed=0)


def test_a_clip_that_is_not_finite_leaves_the_others(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    embeds, _ = pipeline.encode_prompt([PROMPT, PROMPT], do_classifier_free_guidance=False)
    expected = pipeline(prompt_embeds=embeds, seed=0).frames
    embeds[1] = torch.finfo(torch.float32).max  # finite, but not its products
    with pytest.raises(BadClipsError, match=r"^clip 1 has latents") as error:
        pipeline(prompt_embeds=embeds, seed=0)
    np.testing.assert_array_equal(error.value.output.frames[0], expected[0])
    assert not error.value.output.frames[1].any()


def test_more_frames_than_in_training_are_warned_of(family: str) -> None:
    pipeline = make_family_pipeline(LIGHT[family])
    with pytest.warns(UserWarning, match="12 frames are asked for, the model was trained on 8"):
        clip = latents_of(pipeline, PROMPT, seed=0, num_frames=12)
    assert clip.shape == (1, 4, 3, 2, 3)


# Guidance of the Transformer


def test_guidance_of_the_transformer_goes_away_from_the_negative_prompt() -> None:
    pipeline = make_family_pipeline(LIGHT["transformer"])
    plain = latents_of(pipeline, PROMPT, seed=0, guidance_scale=1.0)
    assert not torch.allclose(latents_of(pipeline, PROMPT, seed=0, guidance_scale=3.0), plain)
    same = latents_of(pipeline, PROMPT, seed=0, guidance_scale=3.0, negative_prompt=PROMPT)
    torch.testing.assert_close(same, plain, atol=1e-4, rtol=1e-4)
    with pytest.warns(UserWarning, match="negative prompt is ignored"):
        latents_of(pipeline, PROMPT, seed=0, guidance_scale=1.0, negative_prompt="a star")


# Reconstruction by the VAE, continuation by the RNN


def test_the_vae_reconstructs_at_the_shape_it_is_given() -> None:
    pipeline = make_family_pipeline(LIGHT["vae"])
    pixels = torch.rand(2, 3, 4, 16, 8) * 2 - 1
    frames = pipeline.reconstruct(pixels, PROMPT)
    assert frames.shape == (2, 4, 16, 8, 3)
    alone = pipeline.reconstruct(pixels[1:], PROMPT, seed=1)
    torch.testing.assert_close(frames[1:], alone, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="`prompt` must be one or 2, one per clip, got 3"):
        pipeline.reconstruct(pixels, [PROMPT] * 3)


@torch.no_grad()
def test_the_rnn_goes_on_with_a_clip() -> None:
    pipeline = make_family_pipeline(LIGHT["rnn"])
    pixels = torch.rand(1, 3, 4, 16, 24) * 2 - 1
    given = pipeline.vae.encode(pixels)
    with pytest.warns(UserWarning, match="16 frames are asked for"):
        clips = latents_of(pipeline, PROMPT, pixels=pixels, num_frames=16, num_videos_per_prompt=2, seed=0)
    assert clips.shape == (2, 4, 4, 2, 3)
    assert torch.equal(clips[:, :, :1], given.expand(2, -1, -1, -1, -1))
    assert not torch.allclose(clips[0, :, 1:], clips[1, :, 1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"pixels": torch.zeros(1, 3, 12, 8, 8)},
            "`num_frames` must be at least 12, those of `pixels`, got 8",
        ),
        ({"pixels": torch.zeros(1, 3, 3, 8, 8)}, "`num_frames` must be a multiple of 4 .* got 3"),
        (
            {"pixels": torch.zeros(1, 3, 4, 8, 8), "height": 16},
            "`height` and `width` must be 8 and 8, .* got 16 and None",
        ),
        (
            {"pixels": torch.zeros(1, 3, 4, 8, 8), "num_frames": 0},
            "`num_frames` must be at least 4, .* got 0",
        ),
        ({"pixels": torch.zeros(2, 3, 4, 8, 8)}, "`pixels` must be one clip or 1, got 2"),
    ],
)
@pytest.mark.filterwarnings("ignore:8x8 is asked for")
def test_given_frames_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_family_pipeline(LIGHT["rnn"])(PROMPT, **arguments)


# Saving and loading


def test_a_saved_pipeline_makes_the_same_clip(family: str, tmp_path: Path) -> None:
    pipeline = save(family, tmp_path)
    expected = latents_of(pipeline, PROMPT, seed=3)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    for loaded in (FAMILY_PIPELINES[family].from_pretrained(tmp_path), load(tmp_path)):
        assert type(loaded) is FAMILY_PIPELINES[family]
        assert loaded.defaults == pipeline.defaults and loaded.codec_hash == codec_hash(pipeline.vae)
        assert torch.equal(latents_of(loaded, PROMPT, seed=3), expected)
    light = load_generator(tmp_path)
    assert type(light) is LIGHT[family] and not light.network.training
    assert torch.equal(latents_of(light, PROMPT, seed=3), expected)
    halved = load_generator(tmp_path, dtype=torch.bfloat16)
    assert latents_of(halved, PROMPT, seed=3).dtype == torch.float32


def test_another_codec_is_refused(family: str, tmp_path: Path) -> None:
    save(family, tmp_path)
    other = make_codec()
    with torch.no_grad():
        other.encoder.conv_in.weight.add_(0.1)
    other.save_pretrained(tmp_path / "vae")
    message = f"`vae` is another codec .* its hash is {codec_hash(other)[:12]}, expected"
    for loader in (load, load_generator, FAMILY_PIPELINES[family].from_pretrained):
        with pytest.raises(ValueError, match=message):
            loader(tmp_path)


def test_the_hash_of_a_codec_survives_rounding_and_is_its_own() -> None:
    codec = make_codec()
    expected = codec_hash(codec)
    assert re.fullmatch("[0-9a-f]{64}", expected)
    assert codec_hash(nn.Module.to(make_codec(), torch.bfloat16)) == expected
    with torch.no_grad():
        codec.decoder.conv_out.weight.add_(0.1)  # which leaves the latents as they are
        assert codec_hash(codec) == expected
        codec.latents_std.mul_(1.1)
    assert codec_hash(codec) != expected


def test_a_network_of_another_family_is_refused() -> None:
    network = make_network(FAMILY_NETWORKS["rnn"])
    message = "GANPipeline needs a GANGenerator3D of the family 'gan', got a RecurrentVAE3D"
    with pytest.raises(ValueError, match=message):
        make_family_pipeline(GANPipeline, network=network)


def test_a_folder_of_another_family_is_refused(tmp_path: Path) -> None:
    save("rnn", tmp_path / "rnn")
    for kind in (GANPipeline, VAEPipeline, TransformerPipeline, TextToVideoPipeline):
        with pytest.raises(
            ValueError, match=f"holds a RNNPipeline, not a {kind.__name__}: use videogen.load"
        ):
            kind.from_pretrained(tmp_path / "rnn")
    make_pipeline(TextToVideoPipeline).save_pretrained(tmp_path / "diffusion")
    with pytest.raises(ValueError, match="holds a TextToVideoPipeline, not a RNNPipeline"):
        RNNPipeline.from_pretrained(tmp_path / "diffusion")


def test_an_unknown_pipeline_is_refused(tmp_path: Path) -> None:
    save("vae", tmp_path)
    edit_json(tmp_path / "model_index.json", _class_name="FlowPipeline")
    with pytest.raises(ValueError, match=r"holds a FlowPipeline, known are .*VAEPipeline"):
        load(tmp_path)


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    save("vae", tmp_path)
    edit_json(tmp_path / "model_index.json", defaults={"guidance_scale": 3.0})
    with pytest.raises(ValueError, match=r"`defaults` in .* cannot be used: .*guidance_scale"):
        load_generator(tmp_path)


def test_the_model_hash_follows_the_network(tmp_path: Path) -> None:
    save("vae", tmp_path)
    before = model_hash(tmp_path)
    weights = tmp_path / "network" / WEIGHTS
    weights.write_bytes(weights.read_bytes() + b" ")
    assert model_hash(tmp_path) != before


def test_adapters_need_a_denoiser(tmp_path: Path) -> None:
    save("vae", tmp_path)
    with pytest.raises(ValueError, match="`loras` are for denoisers"):
        load(tmp_path, loras=["some.safetensors:1"])


def test_an_exported_family_is_half_the_size_and_loads(tmp_path: Path) -> None:
    pipeline = save("vae", tmp_path / "result")
    export(tmp_path / "result", tmp_path / "out")
    weights = [(tmp_path / folder / "network" / WEIGHTS).stat().st_size for folder in ("result", "out")]
    assert weights[1] < 0.6 * weights[0]
    assert json.loads((tmp_path / "out/model_index.json").read_text())["codec_hash"] == pipeline.codec_hash
    assert type(load(tmp_path / "out")) is VAEPipeline


def test_a_family_that_shares_the_embedded_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("vae", tmp_path / "result")
    monkeypatch.setattr("videogen.pipelines.loading.EMBEDDED", tmp_path / "result")
    monkeypatch.setattr("videogen.train.export.EMBEDDED", tmp_path / "result")
    export(tmp_path / "result", tmp_path / "whole")
    export(tmp_path / "result", tmp_path / "shared", share_codec=True, training_minutes=15)
    assert stated_minutes(tmp_path / "shared") == 15 and stated_minutes(tmp_path / "whole") is None
    assert not (tmp_path / "shared/vae").exists()
    whole, shared = (load(tmp_path / name).components for name in ("whole", "shared"))
    assert torch.equal(whole["network"].proj_in.weight, shared["network"].proj_in.weight)
    clip, again = (load_generator(tmp_path / "shared")(PROMPT, seed=3, output_type="pt").frames for _ in "ab")
    assert torch.equal(clip, again) and clip.std() > 0
    before = model_hash(tmp_path / "shared")
    edit_json(tmp_path / "result/vae/config.json", _name_or_path="elsewhere")
    assert (
        model_hash(tmp_path / "shared") != before
    )  # what a clip is made of is elsewhere, and counts all the same


def test_a_codec_that_is_not_the_embedded_one_cannot_be_left_out(tmp_path: Path) -> None:
    save("vae", tmp_path / "result")
    with pytest.raises(ValueError, match="`vae` is another codec"):
        export(tmp_path / "result", tmp_path / "out", share_codec=True)
    assert not (tmp_path / "out").exists()


# Families by name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_without_a_model_says_how_to_train_one(name: str, monkeypatch: pytest.MonkeyPatch,
                                                        tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("videogen.pipelines.loading.EMBEDDED", tmp_path)
    with pytest.raises(ValueError, match=f"train one with `python -m videogen.train shapes_mini_{name}`"):
        find_folder(name)
    assert f"shapes_mini_{name}" in RECIPES
    (tmp_path / "families" / name).mkdir(parents=True)
    assert find_folder(name) == tmp_path / "families" / name


def test_an_unknown_family_lists_the_known() -> None:
    with pytest.raises(ValueError, match="nor a family of generators: these are gan, vae, rnn, trans"):
        load("flow")


def test_a_dit_in_the_pipeline_of_diffusion(tmp_path: Path) -> None:
    pipeline = make_pipeline(TextToVideoPipeline, unet=make_network(DiT3D))
    pipeline.save_pretrained(tmp_path)
    expected = latents_of(pipeline, PROMPT, seed=1)
    assert torch.equal(latents_of(load_generator(tmp_path), PROMPT, seed=1), expected)
    assert torch.equal(latents_of(load(tmp_path), PROMPT, seed=1), expected)
