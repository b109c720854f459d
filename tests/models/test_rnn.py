"""The recurrent generator: what it has seen when, given frames that stay, and clips of any length."""

import torch

from tests.tiny_families import generators, make_network, make_prompts
from videogen.models.rnn import ConvGRU, RecurrentVAE3D


def make_clip(num_frames: int = 3) -> torch.Tensor:
    return torch.randn(2, 4, num_frames, 4, 4, generator=generators(0)[0])


@torch.no_grad()
def test_a_frame_is_predicted_from_those_before_and_its_own_draw() -> None:
    network = make_network(RecurrentVAE3D)
    clip = make_clip(4)
    later = clip.clone()
    later[:, :, 2:] += 1.0
    first = network(clip, *make_prompts(), generators=generators(0, 1))
    second = network(later, *make_prompts(), generators=generators(0, 1))
    torch.testing.assert_close(first.sample[:, :, :2], second.sample[:, :, :2])
    torch.testing.assert_close(first.kl[:, :2], second.kl[:, :2])
    assert not torch.allclose(first.sample[:, :, 2], second.sample[:, :, 2])


@torch.no_grad()
def test_what_is_drawn_for_the_first_frame_depends_on_the_prompt() -> None:
    network = make_network(RecurrentVAE3D)
    text = network.text_context(*make_prompts())  # two prompts
    state = network._start(text, (4, 4))
    prior = network.prior(state.seen, state, "prior")
    assert not torch.allclose(prior.mean[0], prior.mean[1])


@torch.no_grad()
def test_fed_back_predictions_are_seen_in_place_of_the_frames() -> None:
    network = make_network(RecurrentVAE3D)
    clip, which = make_clip(), torch.tensor([True, False])
    plain = network(clip, *make_prompts(), generators=generators(0, 1)).sample
    fed = network(clip, *make_prompts(), generators=generators(0, 1), fed_back=which).sample
    torch.testing.assert_close(fed[:, :, 0], plain[:, :, 0])  # before it there was nothing to feed back
    torch.testing.assert_close(fed[1], plain[1])
    assert not torch.allclose(fed[0, :, 1], plain[0, :, 1])


@torch.no_grad()
def test_given_frames_stay_and_decide_what_follows() -> None:
    network = make_network(RecurrentVAE3D)
    text = network.text_context(*make_prompts())
    first = make_clip(2)
    clip = network.sample(text, (5, 4, 4), generators(0, 1), first_frames=first)
    assert torch.equal(clip[:, :, :2], first)
    other = network.sample(text, (5, 4, 4), generators(0, 1), first_frames=first + 1.0)
    assert not torch.allclose(clip[:, :, 2:], other[:, :, 2:])


@torch.no_grad()
def test_to_go_on_with_its_own_frames_changes_nothing() -> None:
    network = make_network(RecurrentVAE3D)
    text = network.text_context(*make_prompts())
    clip = network.sample(text, (5, 4, 4), generators(0, 1))
    again = network.sample(text, (5, 4, 4), generators(0, 1), first_frames=clip[:, :, :3])
    torch.testing.assert_close(again, clip)


@torch.no_grad()
def test_a_longer_clip_begins_as_a_shorter_one() -> None:
    network = make_network(RecurrentVAE3D)
    text = network.text_context(*make_prompts())
    long = network.sample(text, (9, 4, 4), generators(0, 1))
    torch.testing.assert_close(long[:, :, :3], network.sample(text, (3, 4, 4), generators(0, 1)))
    assert long.isfinite().all()


@torch.no_grad()
def test_states_stay_in_bounds() -> None:
    memory = ConvGRU(3, 5)
    state = torch.zeros(2, 5, 4, 4)
    for _ in range(20):
        state = memory(10 * torch.randn(2, 3, 4, 4), state)
    assert state.abs().max() <= 1
