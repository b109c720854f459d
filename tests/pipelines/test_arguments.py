"""The table of arguments: what every pipeline refuses by name, and the words that it takes."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from tests.tiny_families import latents_of as latents_of_family
from tests.tiny_families import make_family_pipeline
from tests.tiny_pipeline import latents_of, make_pipeline, record_batch_sizes
from videogen.models.step_cache import StepCache
from videogen.models.transformer_layers import random_frequencies
from videogen.pipelines.arguments import ARGUMENTS
from videogen.pipelines.families import GENERATORS
from videogen.pipelines.gan import GANTextToVideo
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.latent_generation import LatentGenerator
from videogen.pipelines.memory import MemoryPlan
from videogen.pipelines.rnn import RNNTextToVideo
from videogen.pipelines.transformer import TransformerTextToVideo
from videogen.pipelines.vae import VAETextToVideo
from videogen.sampling.guidance_kinds import IntervalGuidance
from videogen.sampling.schedulers import make_scheduler

PROMPT = "a large red circle moves left"
KINDS: tuple[type[LatentGenerator], ...] = (
    TextToVideo,
    GANTextToVideo,
    VAETextToVideo,
    RNNTextToVideo,
    TransformerTextToVideo,
)


def make(kind: Any) -> Any:
    return make_pipeline(kind) if kind is TextToVideo else make_family_pipeline(kind)


class Other:
    """Something that no argument takes."""

    def __repr__(self) -> str:
        return "<other>"


# Of no argument, or of numbers of a wrong kind.
WRONG: dict[str, list[Any]] = {name: [Other()] for name in ARGUMENTS} | {
    "prompt": [5, b"a", {"a": 1}, [PROMPT, 3], [[PROMPT]]],
    "negative_prompt": [5, b"a", [3]],
    "num_frames": [8.0, "8", True, [8], math.nan],
    "height": [16.0, "16", True, torch.tensor(16)],
    "width": [24.5, (24,), False],
    "num_inference_steps": [2.0, "2", True, 0, -1],
    "num_flow_steps": [2.0, True, 0, 10**9],
    "guidance_scale": ["3", True, math.nan, math.inf, -1.0, 3j, torch.tensor(3.0)],
    "temperature": ["1", True, math.nan, math.inf, -1],
    "num_videos_per_prompt": [1.0, True, 0, None, "1"],
    "seed": [1.5, "1", True, [1.5], 2**63, [[1]], {1}],
    "generator": [5, "cpu", [5], [torch.Generator(), None]],
    "latents": [
        "x",
        [1.0],
        np.zeros((1, 4, 2, 2, 3)),
        torch.full((1, 4, 2, 2, 3), math.nan),
        torch.ones(1, 4, 2, 2, 3, device="meta"),
    ],
    "pixels": ["x", np.zeros((1, 3, 4, 16, 24)), torch.zeros(1, 3, 4, 16, 24, dtype=torch.uint8)],
    "prompt_embeds": ["x", torch.full((1, 12, 16), math.inf), torch.ones(1, 12, 16, dtype=torch.int64)],
    "negative_prompt_embeds": [5, torch.full((1, 12, 16), math.nan)],
    "step_cache": [2, {"deep": 2}, "deep", StepCache],
    "guidance": [7.5, IntervalGuidance, ["interval"]],
    "scheduler": [5, UniPCMultistepScheduler],
    "output_type": [None, 5, "gif", "PT", ["np"]],
    "return_dict": [None, 1, "yes"],
    "callback_on_step_end": [5, "print", [print]],
    "callback_on_step_end_tensor_inputs": [None, 5, "latents", ["latent"], [5]],
    "cross_attention_kwargs": [5, {"scale": 0.5}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_argument_is_refused_by_its_name_before_anything_is_computed(kind: Any) -> None:
    pipeline = make(kind)
    ran: list[Any] = []
    for network in (pipeline.network, pipeline.text_encoder, pipeline.vae):
        for module in network.modules():
            module.register_forward_pre_hook(lambda module, _: ran.append(module))
    calls = [pipeline] + ([pipeline.stream] if kind is TextToVideo else [])
    for call in calls:
        names = set(inspect.signature(call).parameters)
        assert names <= set(ARGUMENTS)
        for name in names:
            for value in WRONG[name]:
                given: dict[str, Any] = {name: value}
                if name not in ("prompt", "prompt_embeds"):
                    given["prompt"] = PROMPT
                with pytest.raises(ValueError, match=f"`{name}`") as caught:
                    call(**given)
                assert len(str(caught.value)) < 400 and not ran


def test_every_pipeline_shows_its_arguments() -> None:
    for kind in {*KINDS, *GENERATORS.values()}:
        parameters = inspect.signature(kind.__call__).parameters
        assert {"num_frames", "height", "width", "seed", "generator", "prompt_embeds", "output_type"} <= set(
            parameters
        )
        assert not [name for name, parameter in parameters.items() if parameter.kind is parameter.VAR_KEYWORD]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_numpy_and_seeds_of_clips(kind: Any) -> None:
    pipeline = make(kind)
    of = latents_of if kind is TextToVideo else latents_of_family
    expected = of(pipeline, [PROMPT, PROMPT], seed=7)
    found = of(pipeline, (PROMPT, PROMPT), seed=np.int64(7), height=np.int32(16), num_frames=np.uint8(8))
    assert torch.equal(found, expected)
    assert torch.equal(of(pipeline, [PROMPT, PROMPT], seed=[7, 8]), expected)
    swapped = of(pipeline, [PROMPT, PROMPT], seed=(np.int64(8), 7))
    torch.testing.assert_close(swapped.flip(0), expected)
    with pytest.raises(ValueError, match="`seed` must be one or 2, one per clip, got 3"):
        pipeline([PROMPT, PROMPT], seed=[1, 2, 3])
    with pytest.raises(ValueError, match="`seed` must be at most 9223372036854775806 for 2 clips"):
        pipeline([PROMPT, PROMPT], seed=2**63 - 1)
    with pytest.raises(ValueError, match=r"`height` must be a whole number, got 64.0: use 64"):
        pipeline(PROMPT, height=64.0)


@pytest.fixture
def pipeline() -> TextToVideo:
    return make_pipeline(TextToVideo)


def run(pipeline: TextToVideo, **options: Any) -> Tensor:
    return latents_of(pipeline, PROMPT, seed=0, num_inference_steps=4, **options)


def test_words_of_the_command_line(pipeline: TextToVideo) -> None:
    settings = IntervalGuidance(low=0.6, high=1.0)
    assert torch.equal(run(pipeline, guidance="interval:low=0.6,high=1"), run(pipeline, guidance=settings))
    cache = StepCache(deep_every=2)
    assert torch.equal(run(pipeline, step_cache="deep=2"), run(pipeline, step_cache=cache))
    with pytest.raises(ValueError, match="`guidance` 'intervall' is unknown: known are cfg"):
        run(pipeline, guidance="intervall")


def test_a_scheduler_for_one_call(pipeline: TextToVideo) -> None:
    own = pipeline.scheduler
    plain = run(pipeline)
    given = make_scheduler("unipc", "flow_prediction", own)
    by_name = run(pipeline, scheduler="unipc")
    assert torch.equal(run(pipeline, scheduler=given), by_name)
    assert not torch.equal(by_name, plain)
    assert pipeline.scheduler is own and torch.equal(run(pipeline), plain)
    # The call keeps its state elsewhere.
    assert given.num_inference_steps is None  # type: ignore[attr-defined]
    sizes = record_batch_sizes(pipeline)
    with pytest.raises(ValueError, match="`scheduler` 'unipcc' is unknown"):
        run(pipeline, scheduler="unipcc")
    with pytest.raises(ValueError, match="set for 'epsilon', but the model predicts 'flow_prediction'"):
        run(pipeline, scheduler=UniPCMultistepScheduler())
    pipeline.scheduler = "unipc"  # type: ignore[assignment]
    run(pipeline, scheduler=given)
    pipeline.scheduler = 5  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"`scheduler` must be a scheduler of diffusers, .* got 5"):
        run(pipeline)
    assert len(sizes) == 4


def test_more_steps_than_the_scheduler_knows() -> None:
    """Diffusion has a table of noise levels; a flow has none, and takes any number of steps."""
    pipeline = make_pipeline(TextToVideo, scheduler=DDIMScheduler(), prediction_type="epsilon")
    with pytest.raises(ValueError, match=r"`num_inference_steps` must be at most 1000, .* got 1001"):
        pipeline(PROMPT, num_inference_steps=1001)
    pipeline = make_pipeline(TextToVideo)
    steps = pipeline.stream(PROMPT, num_inference_steps=1001, seed=0)
    assert next(steps).num_steps == 1001


@pytest.mark.parametrize(
    ("scheduler", "kind", "steps"),
    [
        (FlowMatchEulerDiscreteScheduler(shift=3.0, shift_terminal=0.1), "flow_prediction", 1),
        (PNDMScheduler(), "epsilon", 3),
        (LCMScheduler(clip_sample=False), "epsilon", 51),
    ],
)
def test_numbers_of_steps_that_a_scheduler_fails_with(scheduler: Any, kind: str, steps: int) -> None:
    pipeline = make_pipeline(TextToVideo, scheduler=scheduler, prediction_type=kind)
    message = f"`num_inference_steps` {steps} cannot be used with `scheduler` {type(scheduler).__name__}"
    with pytest.raises(ValueError, match=message):
        pipeline(PROMPT, num_inference_steps=steps)
    assert next(pipeline.stream(PROMPT, num_inference_steps=5, seed=0)).num_steps >= 5


@pytest.mark.parametrize("scheduler", ["euler", "dpm++sde"])
def test_torch_s_defaults_change_no_clip(pipeline: TextToVideo, scheduler: str) -> None:
    expected, frequencies = run(pipeline, scheduler=scheduler), random_frequencies()
    torch.set_default_dtype(torch.float64)
    try:
        torch.testing.assert_close(run(pipeline, scheduler=scheduler), expected, rtol=0, atol=1e-5)
        assert torch.equal(random_frequencies(), frequencies)
    finally:
        torch.set_default_dtype(torch.float32)


def test_no_attention_arguments_are_fine(pipeline: TextToVideo) -> None:
    assert torch.equal(run(pipeline, cross_attention_kwargs={}), run(pipeline))


@pytest.mark.parametrize("arguments", [{"prompt": 5}, {"prompt": PROMPT, "num_videos_per_prompt": True}])
def test_prompts_are_looked_at_where_they_are_encoded_alone(
    pipeline: TextToVideo, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"`{list(arguments)[-1]}` must be"):
        pipeline.encode_prompt(**arguments)


def test_what_is_reconstructed() -> None:
    pipeline = make_family_pipeline(VAETextToVideo)
    pixels = torch.zeros(2, 3, 8, 16, 24)
    for arguments, name in (
        (("x", PROMPT), "pixels"),
        ((pixels, 5), "prompt"),
        ((pixels, PROMPT, 1.5), "seed"),
        ((pixels, PROMPT, [1, 2, 3]), "seed"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            pipeline.reconstruct(*arguments)
    frames = pipeline.reconstruct(pixels, PROMPT, seed=[4, 5])
    assert torch.equal(frames, pipeline.reconstruct(pixels, [PROMPT, PROMPT], seed=4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "asked", [{"num_frames": 10**9}, {"height": 8 * 10**9}, {"num_videos_per_prompt": 10**9}]
)
@pytest.mark.filterwarnings("ignore:.* asked for")
def test_more_than_the_memory_holds(kind: Any, asked: dict[str, int]) -> None:
    pipeline = make(kind)
    with pytest.raises(ValueError, match=r"need about [\d,.]+ GiB of memory on cpu, and [\d,.]+ GiB are"):
        pipeline(PROMPT, **asked)


def test_the_plan_counts_frames_and_latents() -> None:
    plan = MemoryPlan.of(2, (8, 16, 24), (2, 2, 3), 4, 10, 4, decoded=True)
    assert plan == MemoryPlan(frames=2 * 2 * 8 * 16 * 24 * 3 * 4, latents=4 * 12 * (4 * 2 * 4 + 4 * 10))
    assert MemoryPlan.of(2, (8, 16, 24), (2, 2, 3), 4, 10, 4, decoded=False).frames == 0


@pytest.mark.filterwarnings("ignore:.* asked for")
def test_a_call_may_be_tried_all_the_same(pipeline: TextToVideo) -> None:
    pipeline.check_memory = False
    with pytest.raises((RuntimeError, MemoryError, OverflowError)):
        pipeline(PROMPT, height=8 * 10**15)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_follow_the_rule_of_the_command_line(kind: type[LatentGenerator]) -> None:
    pipeline = make(kind)
    spread = ["a\u00a0large\tred circle\n moves\u3000left ", "blue"]
    plain = pipeline.encode_prompt([PROMPT, "blue"], negative_prompt="a ring")
    for one, other in zip(
        plain, pipeline.encode_prompt(spread, negative_prompt=" a\u202fring\n"), strict=True
    ):
        assert torch.equal(one, other)
    for name in ("prompt", "negative_prompt"):
        if name in inspect.signature(pipeline.__call__).parameters:
            with pytest.raises(ValueError, match=rf"`{name}` holds a control character"):
                pipeline(**{"prompt": PROMPT, name: "a \x1bred circle"})
