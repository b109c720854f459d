"""The embedded denoiser: any size, nothing across the batch, no influence of padding, exact after saving."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import TINY_UVIT, make_inputs, make_network
from videogen.models.output import DenoiserOutput
from videogen.models.preconditioning import flow_preconditioning
from videogen.models.transformer_layers import (
    from_patches,
    rotary_factors,
    rotate,
    to_patches,
    token_places,
)
from videogen.models.uvit import UViT3D


def predict(model: UViT3D, *arguments: Any) -> Tensor:
    return model(*arguments, return_dict=False)[0]


@torch.no_grad()
@pytest.mark.parametrize(
    "shape", [(2, 4, 3, 4, 6), (1, 4, 1, 8, 8), (1, 4, 2, 5, 7), (1, 4, 7, 1, 1), (3, 4, 2, 3, 2)]
)
def test_any_number_of_frames_and_any_size(shape: tuple[int, ...]) -> None:
    prediction = predict(make_network(UViT3D), *make_inputs(shape))
    assert prediction.shape == shape and prediction.isfinite().all()
    assert prediction.std() > 0.01


@torch.no_grad()
def test_channels_last_in_bfloat16_changes_nothing_but_rounding() -> None:
    model, inputs = make_network(UViT3D), make_inputs((2, 4, 3, 5, 6))
    exact = predict(model, *inputs)
    with torch.autocast("cpu", torch.bfloat16):
        half = predict(model, *inputs)
    assert (half - exact).norm() < 0.03 * exact.norm()


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_patches_are_those_of_pixel_unshuffle(memory_format: torch.memory_format) -> None:
    frames = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    patches = to_patches(frames.contiguous(memory_format=memory_format))
    assert torch.equal(patches.permute(0, 3, 1, 2), torch.nn.functional.pixel_unshuffle(frames, 2))
    assert torch.equal(from_patches(patches), frames)


@torch.no_grad()
def test_contract_of_the_output() -> None:
    model, inputs = make_network(UViT3D), make_inputs((1, 4, 2, 4, 4))
    output = model(*inputs)
    assert isinstance(output, DenoiserOutput)
    assert torch.equal(output.sample, predict(model, *inputs))


@torch.no_grad()
def test_a_new_network_predicts_what_the_preconditioning_alone_does() -> None:
    sample, timesteps, prompts = make_inputs((2, 4, 2, 4, 4))
    skip_scale, _ = flow_preconditioning(timesteps / 1000)
    expected = skip_scale[:, None, None, None, None] * sample
    torch.testing.assert_close(predict(UViT3D(**TINY_UVIT), sample, timesteps, prompts), expected)


@torch.no_grad()
def test_a_clip_is_the_same_in_any_batch() -> None:
    model = make_network(UViT3D).double()
    sample, timesteps, prompts = (value.double() for value in make_inputs((3, 4, 3, 5, 4)))
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 3:] = False
    together = predict(model, sample, timesteps, prompts, mask)
    for row in range(3):
        item = slice(row, row + 1)
        alone = predict(model, sample[item], timesteps[item], prompts[item], mask[item])
        torch.testing.assert_close(alone, together[item], rtol=0, atol=1e-9)
    single = make_network(UViT3D)
    alone = predict(single, *(value[:1].float() for value in (sample, timesteps, prompts)), mask[:1])
    torch.testing.assert_close(alone.double(), together[:1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_timesteps_of_any_form_are_the_same() -> None:
    model = make_network(UViT3D)
    sample, _, prompts = make_inputs((2, 4, 2, 4, 4))
    expected = predict(model, sample, torch.tensor([250.0, 250.0]), prompts)
    for timestep in (250, 250.0, torch.tensor(250), torch.tensor([250])):
        assert torch.equal(predict(model, sample, timestep, prompts), expected)


@torch.no_grad()
def test_masked_words_have_no_influence() -> None:
    model = make_network(UViT3D)
    sample, timesteps, prompts = make_inputs((2, 4, 2, 4, 4))
    mask = torch.arange(7)[None] < torch.tensor([[3], [7]])
    expected = predict(model, sample, timesteps, prompts, mask)
    changed = torch.where(mask[..., None], prompts, 100.0)
    torch.testing.assert_close(predict(model, sample, timesteps, changed, mask), expected, rtol=0, atol=1e-6)
    shorter = predict(model, sample[:1], timesteps[:1], prompts[:1, :3])
    torch.testing.assert_close(shorter, expected[:1], rtol=0, atol=1e-5)
    other = predict(model, sample, timesteps, prompts + mask[..., None], mask)
    assert (other - expected).abs().amax((1, 2, 3, 4)).min() > 1e-3


@torch.no_grad()
def test_a_prompt_without_any_word_is_no_nan() -> None:
    model, (sample, timesteps, prompts) = make_network(UViT3D), make_inputs((1, 4, 2, 4, 4))
    prediction = predict(model, sample, timesteps, prompts, torch.zeros(1, 7, dtype=torch.bool))
    assert prediction.isfinite().all()


@torch.no_grad()
def test_time_words_and_every_place_matter() -> None:
    model = make_network(UViT3D)
    sample, timesteps, prompts = make_inputs((1, 4, 3, 6, 6))
    expected = predict(model, sample, timesteps, prompts)
    for other in (
        (sample, timesteps / 2, prompts),
        (sample, timesteps, prompts.flip(0, 2)),
        (sample.flip(2), timesteps, prompts),
    ):
        assert (predict(model, *other) - expected).abs().max() > 1e-3
    far = sample.clone()
    far[:, :, 0, 0, 0] += 1  # the first cell of the first frame reaches the last of the last
    assert (predict(model, far, timesteps, prompts) - expected)[..., -1, -1, -1].abs().max() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_positions_are_known(axis: int) -> None:
    """Without positions, a network of frames and tokens could not tell a clip from its mirror image."""
    model = make_network(UViT3D)
    sample, timesteps, prompts = make_inputs((1, 4, 4, 8, 8))
    mirrored = predict(model, sample.flip(axis), timesteps, prompts).flip(axis)
    assert (mirrored - predict(model, sample, timesteps, prompts)).abs().max() > 1e-3
    constant = torch.ones_like(sample)
    along = predict(model, constant, timesteps, prompts).transpose(axis, 2)
    assert along.diff(dim=2).abs().max() > 1e-3


def test_rotated_products_depend_on_relative_positions_only() -> None:
    """Su et al. 2021, arXiv:2104.09864, eq. 11, along time, height and width at once."""
    frames, rows, columns, head_dim = 4, 5, 6, 32
    factors = rotary_factors(token_places(frames, rows, columns, torch.device("cpu")), head_dim)
    assert factors.shape == (2, frames * rows * columns, head_dim // 2)
    query, key = torch.randn(2, head_dim, generator=torch.Generator().manual_seed(0))
    count = frames * rows * columns
    queries, keys = (rotate(vector.expand(1, 1, count, head_dim), factors)[0, 0] for vector in (query, key))
    torch.testing.assert_close(queries.norm(dim=1), query.norm().expand(count))  # a rotation keeps lengths
    products = (queries @ keys.T).reshape(frames, rows, columns, frames, rows, columns)
    step = products[:-1, :-1, :-1, :-1, :-1, :-1] - products[1:, 1:, 1:, 1:, 1:, 1:]
    assert step.abs().max() < 1e-4
    for other in (products[0, 0, 0, 1, 0, 0], products[0, 0, 0, 0, 1, 0], products[0, 0, 0, 0, 0, 1]):
        assert (other - products[0, 0, 0, 0, 0, 0]).abs() > 1e-2


def test_places_are_frame_row_and_column_in_the_order_of_the_tokens() -> None:
    places = token_places(2, 3, 4, torch.device("cpu")).reshape(2, 3, 4, 3)
    assert places[1, 2, 3].tolist() == [1, 2, 3]
    assert places[0, 1, 0].tolist() == [0, 1, 0]


def test_places_are_told_apart_and_mix_the_axes() -> None:
    """Random Fourier features: no two tokens share them, and they are no sum of parts, one for each axis."""
    model = make_network(UViT3D)
    phases = token_places(4, 8, 8, torch.device("cpu")) @ model.position_frequencies
    features = torch.cat([phases.cos(), phases.sin()], dim=-1)
    assert torch.pdist(features).min() > 0.1
    grid = features.reshape(4, 8, 8, -1)
    mixed = grid[1, 1, 0] - grid[1, 0, 0] - grid[0, 1, 0] + grid[0, 0, 0]
    assert mixed.abs().max() > 0.1


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    model = make_network(UViT3D).double().train()
    inputs = tuple(value.double() for value in make_inputs((2, 4, 2, 4, 4)))
    gradients = []
    for enabled in (False, True):
        if enabled:
            model.enable_gradient_checkpointing()
            assert model.gradient_checkpointing
        model.zero_grad()
        predict(model, *inputs).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.any(), name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_runs_in_the_dtype_of_its_parameters(dtype: torch.dtype) -> None:
    model, (sample, timesteps, prompts) = make_network(UViT3D), make_inputs((2, 4, 2, 4, 4))
    expected = predict(model, sample, timesteps, prompts)
    model.to(dtype)
    prediction = predict(model, sample.to(dtype), timesteps, prompts.to(dtype))
    assert prediction.dtype == dtype
    torch.testing.assert_close(prediction.float(), expected, rtol=0, atol=0.2)


@torch.no_grad()
def test_save_and_load(tmp_path: Path) -> None:
    model, inputs = make_network(UViT3D), make_inputs((1, 4, 2, 4, 4))
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert torch.equal(predict(UViT3D.from_pretrained(tmp_path), *inputs), predict(model, *inputs))


@torch.no_grad()
def test_several_prompts_for_a_sample_equal_as_many_passes() -> None:
    model = make_network(UViT3D)
    sample, timesteps, _ = make_inputs((2, 4, 3, 4, 6))
    texts = torch.randn(6, 7, 12, generator=torch.Generator().manual_seed(2))
    mask = torch.rand(6, 7, generator=torch.Generator().manual_seed(3)) < 0.7
    passes = [
        predict(model, sample, timesteps, texts[first : first + 2], mask[first : first + 2])
        for first in (0, 2, 4)
    ]
    together = predict(model, sample, timesteps, texts, mask)
    assert passes[0].sub(passes[1]).abs().max() > 0.01
    torch.testing.assert_close(together, torch.cat(passes), atol=1e-5, rtol=0)
    assert torch.equal(predict(model, sample, timesteps, model.text_context(texts, mask)), together)


@pytest.mark.parametrize(
    ("shape", "prompt_shape", "message"),
    [
        ((4, 2, 4, 4), (1, 7, 12), r"`sample` must be \(B, 4, f, h, w\), got \(4, 2, 4, 4\)"),
        ((1, 3, 2, 4, 4), (1, 7, 12), r"`sample` must be \(B, 4, f, h, w\), got \(1, 3, 2, 4, 4\)"),
        ((2, 4, 2, 4, 4), (1, 7, 12), "one prompt for each sample, or a multiple, got 1 for 2"),
        ((1, 4, 2, 4, 4), (1, 7, 11), r"`encoder_hidden_states` must be \(N, L, 12\), got \(1, 7, 11\)"),
        ((1, 4, 2, 4, 4), (7, 12), r"`encoder_hidden_states` must be \(N, L, 12\), got \(7, 12\)"),
    ],
)
def test_wrong_shapes(shape: tuple[int, ...], prompt_shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_network(UViT3D)(torch.zeros(shape), 0, torch.zeros(prompt_shape))


def test_width_that_does_not_divide_into_heads() -> None:
    with pytest.raises(ValueError, match="got 32 and 5"):
        make_network(UViT3D, num_attention_heads=5)


@pytest.mark.parametrize("time", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_preconditioning_leaves_a_target_of_unit_variance_that_the_input_says_nothing_of(time: float) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 200_000, generator=generator)
    noisy = (1 - time) * clean + time * noise
    skip_scale, out_scale = flow_preconditioning(torch.tensor([time]))
    target = ((noise - clean) - skip_scale * noisy) / out_scale
    assert target.std() == pytest.approx(1, abs=0.01)
    assert (noisy * out_scale).std() == pytest.approx(1, abs=0.01)
    assert (target * noisy).mean() == pytest.approx(0, abs=0.01)
