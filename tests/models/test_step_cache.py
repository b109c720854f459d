"""Step caching in a network: what is taken over was kept, from the right steps and for the right prompts."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import DEEP_UNET3D, make_network
from videogen.models.step_cache import FeatureCache, StepCache, reuse
from videogen.models.transformer_layers import TransformerBlock
from videogen.models.unet3d import UNet3D
from videogen.models.unet3d_layers import SpatialTransformer, TemporalTransformer
from videogen.models.uvit import UViT3D

Network = UNet3D | UViT3D
MUCH = 100  # steps: longer than any call here
CASES = [(UNet3D, "deep"), (UNet3D, "spatial"), (UNet3D, "text"), (UNet3D, "temporal")]
CASES += [(UViT3D, "deep"), (UViT3D, "spatial"), (UViT3D, "text")]


def make_deep_network(kind: type[Network]) -> Network:
    """A tiny network with something to reuse at every depth: a 3D-UNet needs three resolutions for it."""
    return make_network(kind, **(DEEP_UNET3D | {"layers_per_block": 1} if kind is UNet3D else {}))


def make_steps(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Noisy latents and timesteps of two clips with five frames, other ones at each step."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(2, 4, 5, 6, 4, generator=generator), torch.full((2,), 900.0 - 200 * step_idx))
        for step_idx in range(count)
    ]


def make_text(count: int = 4) -> Tensor:
    return torch.randn(count, 7, 12, generator=torch.Generator().manual_seed(2))


def run_steps(network: Network, cache: FeatureCache | None, count: int = 3) -> list[Tensor]:
    text = network.text_context(make_text())
    outputs = []
    for step_idx, (sample, timesteps) in enumerate(make_steps(count)):
        if cache is not None:
            cache.start_step(step_idx)
        outputs.append(network(sample, timesteps, text, cache=cache).sample)
    return outputs


def reused_modules(network: Network, kind: str) -> Iterable[nn.Module]:
    """The modules whose output is what the network reuses, beside sums with it and changes of its layout."""
    if isinstance(network, UViT3D):
        if kind == "deep":
            return [network.proj_out]
        name = {"spatial": "to_out", "text": "cross_to_out"}[kind]
        return [getattr(m, name) for m in network.modules() if isinstance(m, TransformerBlock)]
    if kind == "deep":
        return [network.up_blocks[-2].upsamplers[0]]  # type: ignore[index, list-item]
    if kind == "temporal":
        return [m.proj_out for m in network.modules() if isinstance(m, TemporalTransformer)]
    blocks = [m.transformer_blocks[0] for m in network.modules() if isinstance(m, SpatialTransformer)]
    return [getattr(block, {"spatial": "attn1", "text": "attn2"}[kind]) for block in blocks]


def hold_first_outputs(modules: Iterable[nn.Module]) -> None:
    """From now on each module returns what it returns at its first call."""

    def hook_with(kept: list[Tensor]) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            kept.append(output)
            return kept[0]

        return hook

    for module in modules:
        module.register_forward_hook(hook_with([]))


def count_calls(network: Network) -> Counter[str]:
    calls: Counter[str] = Counter()

    def hook_with(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(hook_with(name))
    return calls


@torch.no_grad()
@pytest.mark.parametrize("kind", [UNet3D, UViT3D])
def test_a_period_of_one_changes_no_bit(kind):
    network = make_deep_network(kind)
    expected = run_steps(network, None)
    for given, wanted in zip(run_steps(network, FeatureCache(StepCache(), 3)), expected, strict=True):
        assert torch.equal(given, wanted)


@torch.no_grad()
@pytest.mark.parametrize(("network_kind", "kind"), CASES)
def test_reuse_equals_holding_the_outputs_of_the_first_step(network_kind, kind):
    network = make_deep_network(network_kind)
    uncached = run_steps(network, None)
    cache = FeatureCache(StepCache(**{f"{kind}_every": MUCH}), 3)
    cached = run_steps(network, cache)
    hold_first_outputs(reused_modules(network, kind))
    for given, wanted in zip(cached, run_steps(network, None), strict=True):
        torch.testing.assert_close(given, wanted, rtol=0, atol=1e-6)
    assert torch.equal(cached[0], uncached[0])
    assert all((cached[step] - uncached[step]).abs().max() > 1e-3 for step in (1, 2))


@torch.no_grad()
@pytest.mark.parametrize(("network_kind", "kind"), CASES)
def test_what_is_reused_is_not_computed(network_kind, kind):
    network = make_deep_network(network_kind)
    names = {module: name for name, module in network.named_modules()}
    calls = count_calls(network)
    run_steps(network, FeatureCache(StepCache(**{f"{kind}_every": MUCH}), 3))
    assert {calls[names[module]] for module in reused_modules(network, kind)} == {1}
    assert calls["conv_in"] == calls["conv_out"] == 3


@torch.no_grad()
def test_deep_reuse_leaves_the_finest_resolution():
    network = make_deep_network(UNet3D)
    calls = count_calls(network)
    run_steps(network, FeatureCache(StepCache(deep_every=MUCH), 3))
    shallow = {"conv_in", "transformer_in", "down_blocks.0.resnets.0", "down_blocks.0.attentions.0"}
    shallow |= {f"up_blocks.2.{part}.{idx}" for part in ("resnets", "temp_attentions") for idx in (0, 1)}
    deep = {"down_blocks.0.downsamplers.0", "mid_block.resnets.0", "up_blocks.1.upsamplers.0"}
    deep |= {"down_blocks.1.resnets.0", "up_blocks.0.resnets.0", "up_blocks.1.resnets.1"}
    assert {calls[name] for name in shallow} == {3}
    assert {calls[name] for name in deep} == {1}


@pytest.mark.parametrize(
    ("settings", "computed"),
    [
        (StepCache(text_every=2), [0, 2, 4, 6]),
        (StepCache(text_every=3), [0, 3, 6]),
        (StepCache(text_every=3, first_steps=2), [0, 1, 4, 7]),
        (StepCache(text_every=4, last_steps=2), [0, 4, 6, 7]),
        (StepCache(text_every=MUCH, first_steps=3, last_steps=3), [0, 1, 2, 5, 6, 7]),
        (StepCache(deep_every=2), [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
@torch.no_grad()
def test_steps_that_compute(settings, computed):
    cache, module = FeatureCache(settings, 8), nn.Identity()
    given = []
    for step_idx in range(8):
        cache.start_step(step_idx)

        def compute(value: int = step_idx) -> Tensor:
            given.append(value)
            return torch.full((1,), float(value))

        states = reuse(cache, "text", module, 1, compute)
        assert states.item() == given[-1]
    assert given == computed


@torch.no_grad()
def test_kinds_and_modules_are_told_apart_and_what_is_cleared_is_gone():
    cache = FeatureCache(StepCache(text_every=MUCH, spatial_every=MUCH), 3)
    one, other = nn.Identity(), nn.Identity()
    cache.start_step(0)
    cache.keep("text", one, torch.ones(2, 3))
    cache.start_step(1)
    assert cache.kept("text", one, 2) is not None
    assert cache.kept("text", other, 2) is None and cache.kept("spatial", one, 2) is None
    cache.clear()
    assert cache.kept("text", one, 2) is None


@torch.no_grad()
def test_rows_of_the_last_prompts_are_taken_and_too_few_are_none():
    cache, module = FeatureCache(StepCache(text_every=MUCH), 3), nn.Identity()
    cache.start_step(0)
    cache.keep("text", module, torch.arange(4.0))
    cache.start_step(1)
    states = cache.kept("text", module, 2)
    assert states is not None and states.tolist() == [2, 3]
    assert cache.kept("text", module, 5) is None


@torch.no_grad()
@pytest.mark.parametrize(("network_kind", "kind"), CASES)
def test_the_last_prompts_alone_take_over_what_was_theirs(network_kind, kind):
    network = make_deep_network(network_kind)
    (first, first_times), (second, second_times), _ = make_steps()
    text = network.text_context(make_text(), torch.ones(4, 7, dtype=torch.bool))
    outputs = []
    for prompts in (text, text.last(2)):
        cache = FeatureCache(StepCache(**{f"{kind}_every": MUCH}), 3)
        cache.start_step(0)
        network(first, first_times, text, cache=cache)
        cache.start_step(1)
        outputs.append(network(second, second_times, prompts, cache=cache).sample)
    torch.testing.assert_close(outputs[1], outputs[0][2:], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("network_kind", [UNet3D, UViT3D])
def test_more_prompts_than_were_kept_are_computed(network_kind):
    network = make_deep_network(network_kind)
    (first, first_times), (second, second_times), _ = make_steps()
    text = network.text_context(make_text())
    cache = FeatureCache(StepCache(deep_every=MUCH), 3)
    cache.start_step(0)
    network(first, first_times, text.last(2), cache=cache)
    cache.start_step(1)
    given = network(second, second_times, text, cache=cache).sample
    assert torch.equal(given, network(second, second_times, text).sample)


@torch.no_grad()
def test_the_last_prompts_of_a_context():
    network = make_network(UViT3D)
    sample, timesteps = make_steps()[0]
    texts, mask = make_text(), torch.rand(4, 7, generator=torch.Generator().manual_seed(3)) < 0.7
    given = network(sample, timesteps, network.text_context(texts, mask).last(2)).sample
    torch.testing.assert_close(given, network(sample, timesteps, texts[2:], mask[2:]).sample)


@pytest.mark.parametrize("network_kind", [UNet3D, UViT3D])
def test_a_cache_is_refused_where_gradients_are_recorded(network_kind):
    with pytest.raises(ValueError, match="`cache` is for inference"):
        run_steps(make_deep_network(network_kind), FeatureCache(StepCache(deep_every=2), 3))


def test_settings_from_text():
    assert StepCache.parse("deep=2, text=3") == StepCache(deep_every=2, text_every=3)
    assert StepCache.parse("guidance=2,first=3,last=1") == StepCache(
        guidance_every=2, first_steps=3, last_steps=1
    )


@pytest.mark.parametrize(
    "text", ["", "deep", "deep=", "deep=two", "deep=-1", "shallow=2", "deep=2,deep=3", ","]
)
def test_text_that_is_no_setting(text):
    with pytest.raises(ValueError, match="must be like deep=2,text=3, with each of deep, spatial, text"):
        StepCache.parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"deep_every": 0}, "`deep_every` must be a whole number of at least 1, got 0"),
        ({"text_every": 1.5}, "`text_every` must be a whole number of at least 1, got 1.5"),
        ({"first_steps": 0}, "`first_steps` must be a whole number of at least 1, got 0"),
        ({"last_steps": -1}, "`last_steps` must be a whole number of at least 0, got -1"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        StepCache(**change)


@pytest.mark.parametrize(
    ("settings", "guided", "message"),
    [
        (StepCache(temporal_every=2), True, "`temporal_every` above 1, .* can reuse deep, spatial, text"),
        (StepCache(guidance_every=2), False, "no guidance above 1"),
        (StepCache(deep_every=2, first_steps=3, last_steps=1), True, "3 first and 1 last .* none of 4"),
    ],
)
def test_settings_without_an_effect(settings, guided, message):
    with pytest.raises(ValueError, match=message):
        settings.check_fits(UViT3D.cache_kinds, 4, guided)
    StepCache().check_fits(UViT3D.cache_kinds, 1, guided=False)
