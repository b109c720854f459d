"""Parts given to a trained denoiser: no bit changes at first, then they learn; and what goes into them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import TINY_UNET3D, TINY_UVIT, make_inputs, randomise
from videogen.models.dit import DiT3D
from videogen.models.growing import grown
from videogen.models.lora import add_lora
from videogen.models.packing import pack_for_inference
from videogen.models.step_cache import FeatureCache, StepCache
from videogen.models.unet3d import UNet3D
from videogen.models.unet3d_weights import load_unet3d
from videogen.models.uvit import UViT3D
from videogen.pipelines.loading import EMBEDDED

Network = UViT3D | UNet3D | DiT3D
TINY_DIT: dict[str, Any] = {
    name: value for name, value in TINY_UVIT.items() if name not in ("conv_dim", "num_conv_blocks")
}
SIZES: dict[type[Network], dict[str, Any]] = {UViT3D: TINY_UVIT, UNet3D: TINY_UNET3D, DiT3D: TINY_DIT}
PARTS: dict[str, Any] = {"condition_channels": 6, "step_size_embedding": True}
SHAPE = (2, 4, 3, 5, 6)

kinds = pytest.mark.parametrize("kind", list(SIZES))


def make(kind: type[Network], **changes: Any) -> Network:
    """A tiny network with random weights everywhere."""
    network = kind(**(SIZES[kind] | changes))
    randomise(network)
    return network.eval()


def make_condition(shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape[0], 6, *shape[2:], generator=torch.Generator().manual_seed(7))


def predict(network: nn.Module, *arguments: Any, **options: Any) -> Tensor:
    return network(*arguments, return_dict=False, **options)[0]


@torch.no_grad()
@kinds
def test_a_network_predicts_the_same_until_its_new_parts_learn(kind: type[Network]) -> None:
    network, inputs = make(kind), make_inputs(SHAPE)
    bigger = grown(network, **PARTS).eval()
    assert bigger.config["condition_channels"] == 6 and bigger.config["step_size_embedding"]
    assert network.config["condition_channels"] == 0 and not network.config["step_size_embedding"]
    expected = predict(network, *inputs)
    assert torch.equal(predict(bigger, *inputs), expected)
    told = predict(bigger, *inputs, condition=make_condition(), step_size=torch.tensor([0.25, 0.5]))
    assert torch.equal(told, expected)
    for parameter in bigger.parameters():
        parameter.add_(0.1)
    assert not torch.equal(predict(bigger, *inputs), expected)
    assert torch.equal(predict(network, *inputs), expected)  # the given one shares no weight with it


@pytest.mark.parametrize("kind", [UViT3D, DiT3D])
def test_token_convs_can_be_given_too(kind: type[Network]) -> None:
    network, inputs = make(kind, token_convs=False), make_inputs(SHAPE)
    bigger = grown(network, token_convs=True, **PARTS).eval()
    assert bigger.config["token_convs"] and not network.config["token_convs"]
    assert torch.equal(predict(bigger, *inputs), predict(network, *inputs))
    old = network.state_dict()
    added = {name for name, _ in bigger.named_parameters() if name not in old and "token_conv" in name}
    assert {name.split(".token_conv")[0].removeprefix("transformer.") for name in added} == {"blocks.1"}


@kinds
def test_all_new_weights_learn(kind: type[Network]) -> None:
    network = make(kind)
    changes: dict[str, Any] = PARTS if kind is UNet3D else {**PARTS, "token_convs": True}
    bigger = grown(network, **changes)
    inputs, old = make_inputs(SHAPE), network.state_dict()
    optimizer = torch.optim.SGD(bigger.parameters(), lr=0.1)
    for _ in range(2):  # what lies before a layer of zeros learns from the second step on
        optimizer.zero_grad()
        prediction = predict(bigger, *inputs, condition=make_condition(), step_size=torch.tensor([0.2, 0.5]))
        prediction.square().mean().backward()
        optimizer.step()
    for name, parameter in bigger.named_parameters():
        assert name in old or (parameter.grad is not None and parameter.grad.any()), name


@torch.no_grad()
@kinds
def test_no_condition_equals_zeros_and_no_step_size_equals_zero(kind: type[Network]) -> None:
    network, inputs = make(kind, **PARTS), make_inputs(SHAPE)
    expected = predict(network, *inputs)
    condition = make_condition()
    assert torch.equal(predict(network, *inputs, condition=torch.zeros_like(condition)), expected)
    for step_size in (0, 0.0, torch.tensor(0.0), torch.zeros(1), torch.zeros(2)):
        assert torch.equal(predict(network, *inputs, step_size=step_size), expected)
    for told in ({"condition": condition}, {"step_size": 0.125}):
        assert (predict(network, *inputs, **told) - expected).abs().amax((1, 2, 3, 4)).min() > 1e-3
    mixed = predict(network, *inputs, step_size=torch.tensor([0.0, 0.125]))
    torch.testing.assert_close(mixed[0], expected[0], rtol=0, atol=1e-5)
    assert (mixed[1] - expected[1]).abs().max() > 1e-3


@kinds
def test_every_weight_takes_part_in_a_training_step_without_conditions(kind: type[Network]) -> None:
    """Processes that share a step wait for the gradient of each."""
    network = make(kind, **PARTS)
    predict(network, *make_inputs(SHAPE)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize("kind", [UViT3D, DiT3D])
def test_the_condition_is_as_strong_at_every_noise_level(kind: type[Network]) -> None:
    """Noisy latents are scaled to unit variance by the time; conditions are not, as they have no noise."""
    network = make(kind, **PARTS)
    sample, _, prompts = make_inputs((1, *SHAPE[1:]))
    first = network.conv_condition if isinstance(network, UViT3D) else network.proj_condition
    seen: list[Tensor] = []
    first.register_forward_hook(lambda module, inputs, output: seen.append(output))  # type: ignore[union-attr]
    for time in (10.0, 500.0, 999.0):
        predict(network, sample, time, prompts, condition=make_condition((1, *SHAPE[1:])))
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])


@torch.no_grad()
@kinds
def test_several_prompts_for_a_sample_equal_as_many_passes(kind: type[Network]) -> None:
    network = make(kind, **PARTS)
    sample, timesteps, prompts = make_inputs(SHAPE, prompts_per_sample=2)
    told = {"condition": make_condition(), "step_size": torch.tensor([0.1, 0.5])}
    passes = [predict(network, sample, timesteps, prompts[rows], **told) for rows in (slice(2), slice(2, 4))]
    together = predict(network, sample, timesteps, prompts, **told)
    torch.testing.assert_close(together, torch.cat(passes), rtol=0, atol=1e-5)


@torch.no_grad()
@kinds
def test_step_caches_keep_what_was_told(kind: type[Network]) -> None:
    network, inputs = make(kind, **PARTS), make_inputs(SHAPE)
    told = {"condition": make_condition(), "step_size": torch.tensor([0.1, 0.5])}
    cache = FeatureCache(StepCache(spatial_every=2, text_every=2), 2)
    expected = predict(network, *inputs, **told)
    for step_idx in range(2):  # the same step twice: what is kept is what would be computed
        cache.start_step(step_idx)
        torch.testing.assert_close(predict(network, *inputs, **told, cache=cache), expected)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@torch.no_grad()
@kinds
@pytest.mark.parametrize("shape", [SHAPE, (1, 4, 2, 2, 2)])
def test_packed(kind: type[Network], shape: tuple[int, ...]) -> None:
    network, inputs = make(kind, **PARTS), make_inputs(shape, prompts_per_sample=2)
    told: dict[str, Any] = {"condition": make_condition(shape), "step_size": 0.25}
    expected, plain = predict(network, *inputs, **told), predict(network, *inputs)
    pack_for_inference(network)
    torch.testing.assert_close(predict(network, *inputs, **told), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(predict(network, *inputs), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [UViT3D, UNet3D])
def test_gradient_checkpointing_gives_the_same_gradients(kind: type[Network]) -> None:
    network = make(kind, **PARTS)
    gradients = []
    for enabled in (False, True):
        if enabled:
            network.enable_gradient_checkpointing()
        network.zero_grad()
        told = predict(network, *make_inputs(SHAPE), condition=make_condition(), step_size=0.5)
        told.square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@torch.no_grad()
@pytest.mark.parametrize("kind", [UViT3D, UNet3D])
def test_adapters_stand_beside_the_same_modules(kind: type[Network]) -> None:
    pytest.importorskip("peft")
    network, bigger = make(kind), make(kind, **PARTS)
    expected = predict(bigger, *make_inputs(SHAPE), condition=make_condition())
    assert add_lora(bigger, 2) == add_lora(network, 2)
    torch.testing.assert_close(predict(bigger, *make_inputs(SHAPE), condition=make_condition()), expected)


@torch.no_grad()
@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_save_load_and_grow_in_any_dtype(kind: type[Network], dtype: torch.dtype, tmp_path: Path) -> None:
    network = grown(nn.Module.to(make(kind), dtype), **PARTS)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {dtype}
    randomise(network)
    inputs = [tensor.to(dtype) for tensor in make_inputs(SHAPE)]
    told = {"condition": make_condition(), "step_size": torch.tensor([0.1, 0.5])}  # float32, as they are made
    expected = predict(network.eval(), *inputs, **told)
    assert expected.dtype == dtype
    network.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path, torch_dtype=dtype)
    assert loaded.config["condition_channels"] == 6 and loaded.config["step_size_embedding"]
    # The positions of a DiT are not in its file, and are rounded otherwise where it is loaded.
    tolerance = 0.05 if kind is DiT3D and dtype == torch.bfloat16 else 0.0
    torch.testing.assert_close(predict(loaded, *inputs, **told), expected, rtol=0, atol=tolerance)
    if kind is UNet3D:
        assert torch.equal(predict(load_unet3d(tmp_path, dtype=dtype), *inputs, **told), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [UViT3D, UNet3D])
def test_autocast(kind: type[Network]) -> None:
    network, inputs = make(kind, **PARTS), make_inputs(SHAPE)
    told: dict[str, Any] = {"condition": make_condition(), "step_size": 0.25}
    exact = predict(network, *inputs, **told)
    with torch.autocast("cpu", torch.bfloat16):
        half = predict(network, *inputs, **told)
    assert (half - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_the_embedded_weights_grow_without_a_changed_bit() -> None:
    network = UViT3D.from_pretrained(EMBEDDED / "unet")
    assert network.config["condition_channels"] == 0 and not network.config["step_size_embedding"]
    channels, text_dim = network.config["in_channels"], network.config["cross_attention_dim"]
    generator = torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(2, channels, 2, 8, 8, generator=generator),
        torch.tensor([900.0, 300.0]),
        torch.randn(2, 5, text_dim, generator=generator),
    )
    bigger = grown(network, condition_channels=channels + 4, step_size_embedding=True)
    condition = torch.randn(2, channels + 4, 2, 8, 8, generator=generator)
    expected = predict(network, *inputs)
    assert torch.equal(predict(bigger, *inputs), expected)
    assert torch.equal(predict(bigger, *inputs, condition=condition, step_size=0.5), expected)


@pytest.mark.parametrize(
    ("kind", "changes", "parts", "message"),
    [
        (UViT3D, {}, {"hidden_size": 64}, "a UViT3D can be given token_convs, condition_channels, "),
        (UNet3D, {}, {"token_convs": True}, "a UNet3D can be given condition_channels, .*got `token_convs`"),
        (UViT3D, PARTS, {"condition_channels": 8}, "is 6 already and cannot become 8"),
        (UViT3D, {"token_convs": True}, {"token_convs": False}, "is True already and cannot become False"),
        (UViT3D, {}, {"condition_channels": -1}, "`condition_channels` must be .* at least 0, got -1"),
    ],
)
def test_parts_that_cannot_be_given(
    kind: type[Network], changes: dict[str, Any], parts: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        grown(make(kind, **changes), **parts)


@pytest.mark.parametrize("kind", [UViT3D, UNet3D])
def test_changed_weights_cannot_grow(kind: type[Network]) -> None:
    pytest.importorskip("peft")
    network = make(kind)
    add_lora(network, 2)
    with pytest.raises(ValueError, match="neither packed nor with adapters"):
        grown(network, **PARTS)
    if torch.backends.mkldnn.is_available():
        network = make(kind)
        pack_for_inference(network)
        with pytest.raises(ValueError, match="neither packed nor with adapters"):
            grown(network, **PARTS)


@kinds
@pytest.mark.parametrize("channels", [-1, 2.0, "4"])
def test_numbers_of_channels_that_there_cannot_be(kind: type[Network], channels: Any) -> None:
    with pytest.raises(ValueError, match="`condition_channels` must be a whole number of at least 0"):
        kind(**(SIZES[kind] | {"condition_channels": channels}))


@kinds
@pytest.mark.parametrize(
    ("changes", "told", "message"),
    [
        ({}, {"condition": torch.zeros(2, 6, 3, 5, 6)}, "`condition` must be None, .*condition_channels=6"),
        ({}, {"step_size": 0.5}, "`step_size` must be None, .*step_size_embedding=True"),
        (
            PARTS,
            {"condition": torch.zeros(2, 5, 3, 5, 6)},
            r"must be \(2, 6, 3, 5, 6\).*got \(2, 5, 3, 5, 6\)",
        ),
        (
            PARTS,
            {"condition": torch.zeros(1, 6, 3, 5, 6)},
            r"must be \(2, 6, 3, 5, 6\).*got \(1, 6, 3, 5, 6\)",
        ),
        (
            PARTS,
            {"condition": torch.zeros(2, 6, 1, 5, 6)},
            r"must be \(2, 6, 3, 5, 6\).*got \(2, 6, 1, 5, 6\)",
        ),
        (PARTS, {"step_size": torch.zeros(3)}, r"`step_size` must be a number or \(2,\), got \(3,\)"),
        (PARTS, {"step_size": torch.zeros(2, 1)}, r"`step_size` must be a number or \(2,\), got \(2, 1\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    kind: type[Network], changes: dict[str, Any], told: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(kind, **changes)(*make_inputs(SHAPE), **told)
