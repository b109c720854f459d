"""The adversarial pair: noise makes the clip, and the discriminator judges clip and caption together."""

import pytest
import torch

from tests.tiny_families import generators, make_network, make_prompts
from videogen.models.gan import GANDiscriminator3D, GANGenerator3D


@torch.no_grad()
def test_noise_decides() -> None:
    network = make_network(GANGenerator3D)
    text = network.text_context(*make_prompts())
    clip = network.sample(text, (2, 4, 4), generators(0, 1))
    assert torch.equal(clip, network.sample(text, (2, 4, 4), generators(0, 1)))
    assert not torch.allclose(clip, network.sample(text, (2, 4, 4), generators(2, 3)))
    still = network.sample(text, (2, 4, 4), generators(0, 1), temperature=0.0)
    assert torch.equal(still, network.sample(text, (2, 4, 4), generators(2, 3), temperature=0.0))


def test_noise_of_a_wrong_shape_is_refused() -> None:
    network = make_network(GANGenerator3D)
    with pytest.raises(ValueError, match=r"`noise` must be \(B, 4\), got \(2, 5\)"):
        network(torch.zeros(2, 5), (2, 4, 4), *make_prompts())


@torch.no_grad()
def test_the_order_of_frames_changes_the_score() -> None:
    network = make_network(GANDiscriminator3D)
    frame = torch.randn(1, 4, 1, 4, 4, generator=generators(0)[0])
    text = torch.randn(1, 16, generator=generators(1)[0])
    clip = torch.cat([frame, 0.3 * frame, -frame, frame], dim=2)
    assert not torch.allclose(network(clip, text).scores, network(clip.flip(2), text).scores)


def test_scores_have_second_derivatives() -> None:
    network = make_network(GANDiscriminator3D)
    latents = torch.randn(2, 4, 2, 4, 4, requires_grad=True)
    scores = network(latents, torch.randn(2, 16)).scores
    (gradients,) = torch.autograd.grad(scores.sum(), latents, create_graph=True)
    gradients.square().sum().backward()
    assert network.conv_in.weight.grad.abs().max() > 0
