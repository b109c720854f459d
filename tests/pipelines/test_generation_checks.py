"""What a call of the text-to-video pipeline refuses before any denoising, and what it warns of."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from tests.tiny_pipeline import latents_of, make_pipeline, record_batch_sizes
from videogen.pipelines.generation import GenerationDefaults, TextToVideo
from videogen.pipelines.text_to_video import TextToVideoPipeline

PROMPT = "a large red circle moves left"


@pytest.fixture
def pipeline() -> TextToVideo:
    return make_pipeline(TextToVideo)


# What a call refuses


NAN = math.nan
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no frames": ({"num_frames": 0}, "`num_frames` .* got 0: use 4 or 8"),
    "negative frames": ({"num_frames": -4}, "`num_frames` .* got -4: use 4 or 8"),
    "15 frames": ({"num_frames": 15}, "`num_frames` must be a multiple of 4 .* got 15: use 12 or 16"),
    "height": ({"height": 60}, "`height` must be a multiple of 8 .* got 60: use 56 or 64"),
    "width": ({"width": 1}, "`width` .* got 1: use 8 or 16"),
    "no steps": ({"num_inference_steps": 0}, "`num_inference_steps` must be at least 1, got 0"),
    "no clips": ({"num_videos_per_prompt": 0}, "`num_videos_per_prompt` must be at least 1, got 0"),
    "guidance nan": ({"guidance_scale": NAN}, "`guidance_scale` must be a finite number .* got nan"),
    "guidance inf": ({"guidance_scale": math.inf}, "`guidance_scale` .* got inf"),
    "guidance negative": ({"guidance_scale": -1.0}, "`guidance_scale` .* at least 0, got -1"),
    "output type": ({"output_type": "gif"}, "`output_type` must be one of np, pt, pil, latent, got 'gif'"),
    "no prompt": ({"prompt": None}, "either `prompt` or `prompt_embeds`"),
    "two prompts": ({"prompt_embeds": torch.ones(1, 12, 16)}, "either `prompt` or `prompt_embeds`"),
    "empty list": ({"prompt": []}, "`prompt` is an empty list"),
    "no string": ({"prompt": [PROMPT, 3]}, "`prompt` must be a string or a list of strings"),
    "embeds without batch": (
        {"prompt": None, "prompt_embeds": torch.ones(12, 16)},
        r"`prompt_embeds` must be \(P, L, 16\), got \(12, 16\)",
    ),
    "embeds too wide": (
        {"prompt": None, "prompt_embeds": torch.ones(1, 12, 17)},
        r"`prompt_embeds` must be \(P, L, 16\), got \(1, 12, 17\)",
    ),
    "negative count": (
        {"negative_prompt": ["a", "b"]},
        "`negative_prompt` must be one for each of 1 .* got 2",
    ),
    "two negatives": (
        {"negative_prompt": "a", "negative_prompt_embeds": torch.ones(1, 12, 16)},
        "either `negative_prompt` or `negative_prompt_embeds`",
    ),
    "negative embeds count": (
        {"negative_prompt_embeds": torch.ones(2, 12, 16)},
        "`negative_prompt_embeds` must be one for each of 1 prompts, got 2",
    ),
    "negative embeds length": (
        {"negative_prompt_embeds": torch.ones(1, 5, 16)},
        r"must be \(1, 12, 16\) like those of the prompt, got \(1, 5, 16\)",
    ),
    "latents": (
        {"latents": torch.zeros(1, 4, 2, 2, 2)},
        r"`latents` must be \(1, 4, 2, 2, 3\), got \(1, 4, 2, 2, 2\)",
    ),
    "seed and generator": ({"seed": 0, "generator": torch.Generator()}, "either `seed` or `generator`"),
    "generators": ({"generator": [torch.Generator()] * 2}, "`generator` must be one or 1, .* got 2"),
    "no generators": ({"generator": []}, "`generator` must be one or 1, .* got 0"),
    "callback inputs": (
        {"callback_on_step_end_tensor_inputs": ["latent"]},
        "`callback_on_step_end_tensor_inputs` has latent: known are latents, prompt_embeds",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", [TextToVideo, TextToVideoPipeline])
def test_bad_arguments_are_refused_before_any_denoising(kind: type[TextToVideo], case: str) -> None:
    arguments, message = BAD[case]
    pipeline = make_pipeline(kind)
    sizes = record_batch_sizes(pipeline)
    with pytest.raises(ValueError, match=message):
        pipeline(**({"prompt": PROMPT} | arguments))
    assert not sizes


def test_unknown_defaults_are_refused() -> None:
    with pytest.raises(TypeError, match="frames"):
        make_pipeline(TextToVideo, defaults={"frames": 3})


def test_a_scheduler_of_another_prediction_is_refused(pipeline: TextToVideo) -> None:
    pipeline.scheduler = DDIMScheduler()
    sizes = record_batch_sizes(pipeline)
    with pytest.raises(
        ValueError, match="DDIMScheduler is set for 'epsilon', but the model predicts 'flow_pre"
    ):
        pipeline(PROMPT, seed=0)
    assert not sizes


# What a call warns of


@pytest.fixture
def caught() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        yield messages


def test_nothing_to_warn_of(pipeline: TextToVideo, caught: list[warnings.WarningMessage]) -> None:
    latents_of(pipeline, [PROMPT, ""], seed=0)
    assert not caught


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a red dinosaur"}, "does not know these words of the prompt: 'dinosaur'"),
        ({"prompt": "a red cirlce"}, "read as others: 'cirlce' as 'circle'"),
        ({"prompt": "red " * 14}, "its last 3 words are ignored"),
        ({"num_frames": 12}, "12 frames are asked for, the model was trained on 8"),
        ({"height": 24}, "24x24 is asked for, the model was trained on 16x24"),
    ],
)
def test_what_a_model_cannot_do_well_is_warned_of(
    pipeline: TextToVideo, caught: list[warnings.WarningMessage], arguments: dict[str, Any], message: str
) -> None:
    latents_of(pipeline, **({"prompt": PROMPT, "seed": 0} | arguments))
    assert [message in str(warning.message) for warning in caught] == [True]


def test_fewer_frames_are_fine(pipeline: TextToVideo, caught: list[warnings.WarningMessage]) -> None:
    latents_of(pipeline, PROMPT, seed=0, num_frames=4)
    assert not caught


def test_defaults_of_the_embedded_model() -> None:
    pipeline = make_pipeline(TextToVideo, defaults=None)
    assert pipeline.defaults == GenerationDefaults(16, 64, 64, 8.0, 8, 3.0)
