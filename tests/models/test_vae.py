"""The hierarchical autoencoder: its divergences, its draws, and that nothing but the draws carries a clip."""

import pytest
import torch

from tests.tiny_families import TINY, generators, make_network, make_prompts
from videogen.models.vae import GROUPS, HierarchicalVAE3D


@torch.no_grad()
def test_a_new_network_has_its_prior_for_posterior() -> None:
    network = HierarchicalVAE3D(**TINY[HierarchicalVAE3D])
    output = network(torch.randn(2, 4, 2, 4, 4), *make_prompts(), generators=generators(0, 1))
    assert list(output.kl) == list(GROUPS)
    assert all(not value.any() for value in output.kl.values())
    drawn = network.sample(network.text_context(*make_prompts()), (2, 4, 4), generators(0, 1))
    torch.testing.assert_close(output.sample, drawn)


@torch.no_grad()
def test_divergences_are_positive_and_belong_to_a_clip() -> None:
    network = make_network(HierarchicalVAE3D)
    latents = torch.randn(2, 4, 2, 4, 4, generator=generators(0)[0])
    kl = network(latents, *make_prompts(), generators=generators(0, 1)).kl
    assert all(value.shape == (2,) and (value > 0).all() for value in kl.values())


def test_priors_learn_from_the_divergence() -> None:
    network = make_network(HierarchicalVAE3D)
    kl = network(torch.randn(2, 4, 2, 4, 4), *make_prompts(), generators=generators(0, 1)).kl
    torch.stack(list(kl.values())).sum().backward()
    for group in GROUPS:
        for parameter in network.get_submodule(f"draws.{group}.prior").parameters():
            assert parameter.grad is not None and parameter.grad.any()


@torch.no_grad()
def test_without_randomness_all_clips_of_a_prompt_are_one() -> None:
    network = make_network(HierarchicalVAE3D)
    text = network.text_context(*make_prompts())
    first = network.sample(text, (2, 4, 4), generators(0, 1), temperature=0.0)
    assert torch.equal(first, network.sample(text, (2, 4, 4), generators(7, 8), temperature=0.0))
    drawn = network.sample(text, (2, 4, 4), generators(0, 1))
    assert not torch.allclose(drawn, network.sample(text, (2, 4, 4), generators(7, 8)))


def test_fewer_blocks_than_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_layers` must be at least 3, got 2"):
        make_network(HierarchicalVAE3D, num_layers=2)
