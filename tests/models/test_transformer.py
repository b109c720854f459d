"""The masked Transformer: what it may look at, and decoding in parallel against known cases."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.tiny_families import generators, make_network, make_prompts
from videogen.models.transformer import FlowHead, MaskedTransformer3D, decoding_schedule
from videogen.models.transformer_layers import patchify, unpatchify

SIZE = (2, 4, 6)
NUM_TOKENS = 2 * 2 * 3
FLOW = {"num_flow_steps": 2}


@pytest.mark.parametrize("num_tokens", [1, 2, 12, 64, 100])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 12, 500])
def test_a_schedule_draws_every_token_once(num_tokens: int, num_steps: int) -> None:
    schedule = decoding_schedule(num_tokens, num_steps)
    assert len(schedule) == min(num_steps, num_tokens)
    assert schedule[0][0] == 0 and schedule[-1][1] == num_tokens
    assert all(stop > start for start, stop in schedule)
    assert all(first[1] == second[0] for first, second in pairwise(schedule))


def test_the_schedule_is_the_cosine() -> None:
    stops = [stop for _, stop in decoding_schedule(1000, 4)]
    assert stops == [1000 - 923, 1000 - 707, 1000 - 382, 1000]


@torch.no_grad()
def test_hidden_tokens_are_not_looked_at() -> None:
    network = make_network(MaskedTransformer3D)
    latents = torch.randn(1, 4, *SIZE, generator=generators(0)[0])
    prompts, mask = make_prompts(1)
    known = torch.zeros(1, NUM_TOKENS, dtype=torch.bool)
    known[0, :4] = True
    expected = network(latents, known, prompts, mask).hidden_states
    patches, grid = patchify(latents)
    hidden, seen = patches.clone(), patches.clone()
    hidden[0, 4:] = 7.0
    seen[0, 3] += 1.0
    assert torch.equal(network(unpatchify(hidden, grid, 4, 6), known, prompts, mask).hidden_states, expected)
    assert not torch.allclose(
        network(unpatchify(seen, grid, 4, 6), known, prompts, mask).hidden_states, expected
    )


def sample(network: MaskedTransformer3D, **options: Any) -> torch.Tensor:
    text = network.text_context(*make_prompts())
    return network.sample(text, SIZE, generators(3, 4), **(FLOW | options))


@torch.no_grad()
def test_one_step_draws_all_tokens_from_the_prompt_alone() -> None:
    network = make_network(MaskedTransformer3D)
    drawn = sample(network, num_inference_steps=1)
    orders_and_noise = [
        (torch.randperm(NUM_TOKENS, generator=g), torch.randn(NUM_TOKENS, 16, generator=g))
        for g in generators(3, 4)
    ]
    nothing = torch.zeros(2, NUM_TOKENS, dtype=torch.bool)
    context = network(torch.zeros(2, 4, *SIZE), nothing, *make_prompts()).hidden_states
    noise = torch.stack([noise for _, noise in orders_and_noise])
    tokens = network.head.sample(noise.flatten(0, 1), context.flatten(0, 1)[None], 2, 1.0)
    expected = unpatchify(tokens.unflatten(0, (2, -1)), (2, 2, 3), 4, 6)
    torch.testing.assert_close(drawn, expected)


@torch.no_grad()
def test_as_many_steps_as_tokens_draw_them_one_by_one() -> None:
    network = make_network(MaskedTransformer3D)
    drawn = sample(network, num_inference_steps=NUM_TOKENS)
    prompts, mask = make_prompts()
    for row, generator in enumerate(generators(3, 4)):
        item = slice(row, row + 1)
        order = torch.randperm(NUM_TOKENS, generator=generator)
        noise = torch.randn(NUM_TOKENS, 16, generator=generator)
        patches, known = torch.zeros(1, NUM_TOKENS, 16), torch.zeros(1, NUM_TOKENS, dtype=torch.bool)
        for place in order:
            latents = unpatchify(patches, (2, 2, 3), 4, 6)
            context = network(latents, known, prompts[item], mask[item]).hidden_states[:, place]
            patches[0, place] = network.head.sample(noise[place][None], context[None], 2, 1.0)[0]
            known[0, place] = True
        torch.testing.assert_close(drawn[item], unpatchify(patches, (2, 2, 3), 4, 6), atol=1e-4, rtol=1e-4)


def test_more_steps_than_tokens_are_as_many_as_there_are() -> None:
    network = make_network(MaskedTransformer3D)
    expected = sample(network, num_inference_steps=NUM_TOKENS)
    assert torch.equal(sample(network, num_inference_steps=NUM_TOKENS + 5), expected)


@torch.no_grad()
def test_guidance_by_the_prompt_itself_changes_nothing() -> None:
    network = make_network(MaskedTransformer3D)
    prompts, mask = make_prompts()
    twice = network.text_context(torch.cat([prompts, prompts]), torch.cat([mask, mask]))
    plain = sample(network, num_inference_steps=3)
    guided = network.sample(twice, SIZE, generators(3, 4), num_inference_steps=3, guidance_scale=4.0, **FLOW)
    torch.testing.assert_close(guided, plain, atol=1e-4, rtol=1e-4)


class PointHead(FlowHead):
    """The exact velocity where every token is the same one: that leads from any noise to it."""

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return (noisy - 0.25) / times[:, None]


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_the_flow_of_a_single_token_leads_to_it(num_steps: int) -> None:
    head = PointHead(16, 32, 16, 1)
    tokens = head.sample(torch.randn(6, 16), torch.zeros(1, 6, 32), num_steps, 1.0)
    torch.testing.assert_close(tokens, torch.full((6, 16), 0.25))


def test_a_mask_of_a_wrong_size_is_refused() -> None:
    network = make_network(MaskedTransformer3D)
    with pytest.raises(ValueError, match=r"`known` must be \(2, 12\), got \(2, 11\)"):
        network(torch.zeros(2, 4, *SIZE), torch.zeros(2, 11, dtype=torch.bool), *make_prompts())


def test_patches_and_back() -> None:
    latents = torch.randn(2, 4, 3, 5, 7)
    patches, grid = patchify(latents)
    assert grid == (3, 3, 4) and patches.shape == (2, 36, 16)
    assert torch.equal(unpatchify(patches, grid, 5, 7), latents)
