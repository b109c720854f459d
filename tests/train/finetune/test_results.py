"""The result is what was trained, and previews and their distance show it."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.finetune.tiny_models import (
    IN_CLIP,
    KNOWN,
    NEW,
    frames_of,
    some_steps,
)
from videogen.codec.pixels import frames_to_pixels
from videogen.pipelines.loading import load, load_generator
from videogen.sampling.schedulers import make_scheduler
from videogen.text.words import WORDS_NAME


@pytest.mark.parametrize("kind", ["flow", "v_prediction", "clip"])
def test_a_whole_model_is_loaded_again(make: Any, kind: str, tmp_path: Path) -> None:
    prompt = NEW[0] if kind != "clip" else IN_CLIP[0]
    objective = make(kind, "new" if kind != "clip" else "known")
    some_steps(objective)
    objective.eval().save(tmp_path)
    loaded = load(tmp_path)
    expected = frames_of(objective.pipeline(), prompt)
    torch.testing.assert_close(frames_of(loaded, prompt), expected, rtol=0, atol=1e-5)
    assert (frames_of(load(objective.settings.model), prompt) - expected).abs().max() > 1e-3
    defaults = loaded.defaults
    assert (defaults.num_frames, defaults.height, defaults.width, defaults.fps) == (8, 16, 16, 8)
    assert type(loaded.scheduler) is type(objective.pipeline().scheduler)


@pytest.mark.parametrize("kind", ["flow", "epsilon", "clip"])
def test_adapters_and_words_are_loaded_again(make: Any, kind: str, tmp_path: Path) -> None:
    prompt = NEW[0] if kind != "clip" else IN_CLIP[0]
    objective = make(kind, "new" if kind != "clip" else "known", lora_rank=4, lora_alpha=8)
    before = copy.deepcopy(objective.text_encoder.state_dict())
    some_steps(objective)
    objective.eval().save(tmp_path)
    files = {"pytorch_lora_weights.safetensors"} | ({WORDS_NAME} if kind != "clip" else set())
    assert {path.name for path in tmp_path.iterdir()} == files
    expected = frames_of(objective.pipeline(), prompt)
    model = objective.settings.model
    torch.testing.assert_close(frames_of(load(model, loras=[tmp_path]), prompt), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        frames_of(load_generator(model, loras=[tmp_path]), prompt), expected, rtol=0, atol=1e-4
    )
    after = objective.text_encoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())  # words are kept beside it


def test_a_new_schedule_is_saved_and_sampled_from(make: Any, tmp_path: Path) -> None:
    objective = make("epsilon", prediction_type="v_prediction", zero_terminal_snr=True)
    objective.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.prediction_type == "v_prediction"
    changed = {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    assert {name: loaded.scheduler.config[name] for name in changed} == changed
    for name in ("ddim", "ddpm", "euler", "dpm++2m", "unipc"):
        generator = load_generator(tmp_path)
        generator.scheduler = make_scheduler(name, "v_prediction", loaded.scheduler)
        assert frames_of(generator, KNOWN[0]).isfinite().all()


def test_previews_are_clips_of_the_prompts(make: Any) -> None:
    prompts = ("a running dog", "a red circle")
    objective = make("flow", "new", lora_rank=2, validation_prompts=prompts).eval()
    previews = objective.preview()
    assert [prompt for prompt, _ in previews] == list(prompts)
    assert all(clip.shape == (8, 16, 16, 3) and clip.dtype == "uint8" for _, clip in previews)
    alone = frames_of(objective.pipeline(), prompts[1])
    assert torch.equal(torch.from_numpy(previews[1][1]), (alone[0].permute(0, 2, 3, 1) * 255).round().byte())
    shared = make("flow", "new", noise_prior="mixed", lora_rank=2, validation_prompts=prompts).eval()
    assert (shared.preview()[1][1] != previews[1][1]).any()


@torch.no_grad()
def test_a_blank_preview_does_not_stop_a_run(make: Any) -> None:
    objective = make("flow", "new", lora_rank=2, validation_prompts=("a running dog", "a red circle")).eval()
    for parameter in objective.pipeline().vae.decoder.conv_out.parameters():
        parameter.zero_()
    with pytest.warns(UserWarning, match="a preview came out bad: clip 0 is blank"):
        previews = objective.preview()
    assert [clip.shape for _, clip in previews] == [(8, 16, 16, 3)] * 2


@torch.no_grad()
def test_the_distance_of_previews_to_the_dataset(make: Any) -> None:
    objective = make("flow")
    dataset, codec = objective.dataset, objective.pipeline().codec
    frames = torch.rand(8, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    clip = (frames * 255).round().byte().numpy()
    made = codec.encode(frames_to_pixels(clip[None]))[0]

    def nearest(idxs: Sequence[int]) -> float:
        return min((dataset.latents(idx) - made).square().mean().sqrt().item() for idx in idxs)

    assert objective.measure([(KNOWN[0], clip)])["distance"] == pytest.approx(nearest([0, 2]))
    assert objective.measure([("another", clip)])["distance"] == pytest.approx(nearest(range(4)))
    assert objective.measure([]) == {} == objective.measure([("another", clip[:4])])
