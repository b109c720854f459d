"""Noise belongs to a sample: streams that differ, are reproducible, and do not know their batch."""

import itertools

import torch

from videogen.sampling.noise import sample_noise, seeded_generator


def draw(seed: int, index: int = 0) -> torch.Tensor:
    return torch.randn(512, generator=seeded_generator(seed, index))


def test_the_same_pair_gives_the_same_stream() -> None:
    assert torch.equal(draw(3, 4), draw(3, 4))


def test_different_pairs_give_unrelated_streams() -> None:
    pairs = list(itertools.product((0, 1, 2, 1000, 2**40), (0, 1, 2, 10**9)))
    streams = torch.stack([draw(seed, index) for seed, index in pairs])
    correlation = torch.corrcoef(streams)
    off_diagonal = correlation - torch.eye(len(pairs))
    assert off_diagonal.abs().max() < 0.25  # of 512 independent draws: 5 standard deviations are 0.22
    assert len({tuple(row.tolist()) for row in streams}) == len(pairs)


def test_no_two_of_many_generators_start_alike() -> None:
    seeds = {seeded_generator(seed, index).initial_seed() for seed in range(100) for index in range(100)}
    assert len(seeds) == 10_000


def test_any_integer_is_a_seed() -> None:
    for seed in (-1, -(2**70), 2**63, 2**100):
        assert torch.equal(draw(seed), draw(seed))
    assert not torch.equal(draw(-1), draw(1))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    sample_noise((2, 3), [seeded_generator(0), seeded_generator(1)])
    assert torch.equal(torch.get_rng_state(), state)


def test_an_item_does_not_depend_on_its_batch() -> None:
    together = sample_noise((4, 2, 3), [seeded_generator(7, index) for index in range(5)])
    assert together.shape == (5, 4, 2, 3) and together.dtype == torch.float32
    for index in range(5):
        assert torch.equal(sample_noise((4, 2, 3), [seeded_generator(7, index)])[0], together[index])


def test_one_generator_for_all_is_drawn_from_item_by_item() -> None:
    generator, same = seeded_generator(1), seeded_generator(1)
    shared = sample_noise((3,), [generator, generator])
    for item in shared:
        assert torch.equal(item, torch.randn(3, generator=same))


def test_noise_is_standard_normal() -> None:
    noise = sample_noise((64, 64), [seeded_generator(0, index) for index in range(25)])
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
