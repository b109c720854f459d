"""What holds for every family's network: any size, nothing across the batch, no padding, exact saving."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_families import FAMILY_NETWORKS, generators, make_network, make_prompts
from videogen.models.dit import DiT3D
from videogen.models.gan import GANDiscriminator3D, GANGenerator3D
from videogen.models.transformer import MaskedTransformer3D

KINDS = {**FAMILY_NETWORKS, "dit": DiT3D, "discriminator": GANDiscriminator3D}
SIZES = [(3, 4, 6), (1, 8, 8), (2, 5, 7), (6, 2, 2), (2, 1, 1)]


def output_of(
    network: Any,
    sample: Tensor,
    prompts: Tensor,
    mask: Tensor,
    first_seed: int = 0,
    return_dict: bool = True,
) -> Tensor:
    """What a forward pass of any network says of latents; draws of clip k come from `first_seed + k`."""
    seeds = generators(*range(first_seed, first_seed + len(sample)))
    size = (sample.shape[2], sample.shape[3], sample.shape[4])
    options: dict[str, Any] = {"return_dict": return_dict}
    field = "sample"
    arguments: tuple[Any, ...]
    match network:
        case DiT3D():
            arguments = (sample, 300.0, prompts, mask)
        case GANGenerator3D():
            noise = torch.stack([torch.randn(4, generator=seed) for seed in seeds]).to(sample)
            arguments = (noise, size, prompts, mask)
        case GANDiscriminator3D():
            weights = mask[..., None].to(prompts)
            arguments, field = (sample, (prompts * weights).sum(1) / weights.sum(1)), "scores"
        case MaskedTransformer3D():
            num_tokens = size[0] * -(-size[1] // 2) * -(-size[2] // 2)
            known = (torch.arange(num_tokens) % 2 == 0).expand(len(sample), -1)
            arguments, field = (sample, known, prompts, mask), "hidden_states"
        case _:
            arguments, options["generators"] = (sample, prompts, mask), seeds
    output = network(*arguments, **options)
    prediction: Tensor = getattr(output, field) if return_dict else output[0]
    return prediction


def latents(count: int, size: tuple[int, int, int]) -> Tensor:
    return torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_any_number_of_frames_and_any_size(name: str, size: tuple[int, int, int]) -> None:
    network = make_network(KINDS[name])
    output = output_of(network, latents(2, size), *make_prompts())
    assert len(output) == 2 and output.isfinite().all()
    if name in ("dit", "gan", "vae", "rnn"):
        assert output.shape == (2, 4, *size)
    if name in FAMILY_NETWORKS:
        text = network.text_context(*make_prompts())
        options = {"num_inference_steps": 3, "num_flow_steps": 2} if name == "transformer" else {}
        assert network.sample(text, size, generators(0, 1), **options).shape == (2, 4, *size)


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_a_clip_is_the_same_in_any_batch(name: str) -> None:
    network = make_network(KINDS[name]).double()
    sample, (prompts, mask) = latents(3, (2, 4, 4)).double(), make_prompts(3)
    prompts = prompts.double()
    together = output_of(network, sample, prompts, mask)
    for row in range(3):
        item = slice(row, row + 1)
        alone = output_of(network, sample[item], prompts[item], mask[item], first_seed=row)
        torch.testing.assert_close(alone, together[item], rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_prompts_matter_and_padding_does_not(name: str) -> None:
    network = make_network(KINDS[name])
    sample, (prompts, mask) = latents(2, (2, 4, 4)), make_prompts()
    expected = output_of(network, sample, prompts, mask)
    padded = prompts.clone()
    padded[-1, 3:] = 5.0
    torch.testing.assert_close(output_of(network, sample, padded, mask), expected)
    changed = prompts.clone()
    changed[-1, 2] += 1.0
    output = output_of(network, sample, changed, mask)
    torch.testing.assert_close(output[0], expected[0])
    assert (output[1] - expected[1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_a_saved_network_is_the_same(name: str, tmp_path: Path) -> None:
    network = make_network(KINDS[name])
    network.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = KINDS[name].from_pretrained(tmp_path)
    arguments = (latents(2, (2, 4, 4)), *make_prompts())
    assert torch.equal(output_of(loaded, *arguments), output_of(network, *arguments))


@pytest.mark.parametrize("name", [*FAMILY_NETWORKS, "dit"])
def test_every_parameter_is_trained(name: str) -> None:
    network = make_network(KINDS[name])
    output_of(network, latents(2, (2, 4, 4)), *make_prompts()).square().sum().backward()
    untouched = [key for key, value in network.named_parameters() if value.grad is None]
    # Priors speak in the divergence only, and the head of the Transformer on tokens.
    assert all(key.startswith("head.") or "prior" in key.split(".") for key in untouched), untouched


@pytest.mark.parametrize("name", [*FAMILY_NETWORKS, "dit"])
def test_a_head_of_a_wrong_width_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"`hidden_size / num_attention_heads` must be a multiple of 8"):
        make_network(KINDS[name], hidden_size=36)


@pytest.mark.parametrize("name", [key for key in KINDS if key != "gan"])
def test_latents_of_a_wrong_shape_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"`sample` must be \(B, 4, f, h, w\), got \(2, 3, 2, 4, 4\)"):
        output_of(make_network(KINDS[name]), torch.zeros(2, 3, 2, 4, 4), *make_prompts())


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_outputs_are_tuples_where_asked_for(name: str) -> None:
    network = make_network(KINDS[name])
    sample, (prompts, mask) = latents(2, (3, 4, 6)), make_prompts()
    as_tuple = output_of(network, sample, prompts, mask, return_dict=False)
    assert torch.equal(as_tuple, output_of(network, sample, prompts, mask))
