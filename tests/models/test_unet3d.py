"""The 3D-UNet denoiser: equal to diffusers' class on the same weights, and what it promises beyond that."""

import json
import re
from typing import Any, cast

import pytest
import torch
from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel
from torch import Tensor

from tests.tiny import DEEP_UNET3D, TINY_UNET3D, make_inputs, make_network, randomise
from videogen.models.output import DenoiserOutput
from videogen.models.unet3d import UNet3D

UNUSUAL: dict[str, Any] = TINY_UNET3D | {
    "in_channels": 3,
    "out_channels": 5,
    "down_block_types": ("DownBlock3D", "CrossAttnDownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "downsample_padding": 0,
    "mid_block_scale_factor": 1.5,
    "act_fn": "gelu",
    "norm_eps": 1e-3,
}
CASES = {  # config, latents (B, C, f, h, w)
    "tiny": (TINY_UNET3D, (1, 4, 4, 8, 8)),
    "odd_frames_not_square_batch_3": (DEEP_UNET3D, (3, 4, 5, 8, 12)),
    "one_frame": (TINY_UNET3D, (1, 4, 1, 8, 8)),
    "not_divisible": (DEEP_UNET3D, (2, 4, 3, 7, 9)),
    "one_pixel": (DEEP_UNET3D, (1, 4, 2, 1, 1)),
    "unusual_config": (UNUSUAL, (2, 3, 2, 8, 6)),
}


def make_pair(config: dict[str, Any]) -> tuple[UNet3D, UNet3DConditionModel]:
    reference = UNet3DConditionModel(**config).eval()
    randomise(reference)
    model = UNet3D(**config).eval()
    model.load_state_dict(reference.state_dict(), strict=True)
    return model, reference


@pytest.mark.parametrize("case", CASES)
def test_output_equals_diffusers(case):
    config, shape = CASES[case]
    model, reference = make_pair(config)
    inputs = make_inputs(shape)
    with torch.no_grad():
        expected = reference(*inputs).sample
        torch.testing.assert_close(model(*inputs).sample, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1  # so that the tolerance means something


def test_output_equals_diffusers_to_the_last_digits_in_double_precision():
    config, shape = CASES["not_divisible"]
    model, reference = make_pair(config)
    latents, timesteps, text = make_inputs(shape)
    inputs = latents.double(), timesteps, text.double()
    with torch.no_grad():
        expected = reference.double()(*inputs).sample
        torch.testing.assert_close(model.double()(*inputs).sample, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_diffusers(case):
    """In double precision, where another order of sums is far below the limit, whatever the machine."""
    config, shape = CASES[case]
    gradients = []
    for model in make_pair(config):
        model.double()
        latents, timesteps, text = make_inputs(shape)
        latents, text = latents.double(), text.double()
        latents.requires_grad_()
        text.requires_grad_()
        model(latents, timesteps, text).sample.square().mean().backward()
        tensors = {"latents": latents, "text": text, **dict(model.named_parameters())}
        gradients.append({name: cast(Tensor, tensor.grad) for name, tensor in tensors.items()})
    ours, expected = gradients
    assert ours.keys() == expected.keys()
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10 * scale)


def test_timestep_condition_equals_diffusers():
    model, reference = make_pair(TINY_UNET3D | {"time_cond_proj_dim": 6})
    inputs = make_inputs()
    timestep_cond = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = reference(*inputs, timestep_cond=timestep_cond).sample
        given = model(*inputs, timestep_cond=timestep_cond).sample
        assert not torch.allclose(given, model(*inputs).sample)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)


def test_full_size_has_the_keys_and_shapes_of_the_public_weights():
    with torch.device("meta"):
        ours = {name: tensor.shape for name, tensor in UNet3D().state_dict().items()}
        expected = {name: tensor.shape for name, tensor in UNet3DConditionModel().state_dict().items()}
    assert ours == expected
    assert len(ours) == 1_480
    assert sum(shape.numel() for shape in ours.values()) == 1_411_233_860


def test_a_new_model_starts_as_diffusers_does_with_temporal_convolutions_that_do_nothing():
    model, reference = UNet3D(**TINY_UNET3D), UNet3DConditionModel(**TINY_UNET3D)
    zeros = [{name for name, p in m.named_parameters() if p.eq(0).all()} for m in (model, reference)]
    assert zeros[0] == zeros[1] != set()


def test_save_and_load(tmp_path):
    model = make_network(UNet3D, **UNUSUAL)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    loaded = UNet3D.from_pretrained(tmp_path)
    assert isinstance(loaded, UNet3D)
    saved, read = json.loads(model.to_json_string()), json.loads(loaded.to_json_string())
    assert read == saved | {"_name_or_path": str(tmp_path)}
    inputs = make_inputs((1, 3, 2, 4, 4))
    with torch.no_grad():
        assert torch.equal(loaded(*inputs).sample, model(*inputs).sample)


def test_loads_a_folder_saved_by_diffusers(tmp_path):
    _, reference = make_pair(TINY_UNET3D)
    reference.save_pretrained(tmp_path)
    model = UNet3D.from_pretrained(tmp_path)
    inputs = make_inputs()
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs).sample, reference(*inputs).sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_masked_tokens_have_no_influence(requires_grad):
    model = make_network(UNet3D).requires_grad_(requires_grad)
    latents, timesteps, text = make_inputs()
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 4:] = False
    masked = model(latents, timesteps, text, mask).sample
    other_text = text.masked_fill(~mask[..., None], 100.0)
    torch.testing.assert_close(model(latents, timesteps, other_text, mask).sample, masked)
    short = model(latents[:1], timesteps[:1], text[:1, :4]).sample
    torch.testing.assert_close(masked[:1], short, rtol=0, atol=1e-5)
    unmasked = model(latents, timesteps, text).sample
    assert not torch.allclose(masked[0], unmasked[0], atol=1e-4)
    torch.testing.assert_close(masked[1], unmasked[1], rtol=0, atol=1e-5)


def test_a_sample_does_not_depend_on_its_batch():
    model = make_network(UNet3D, **DEEP_UNET3D)
    latents, timesteps, text = make_inputs((3, 4, 3, 8, 8))
    with torch.no_grad():
        together = model(latents, timesteps, text).sample
        for idx in range(3):
            one = slice(idx, idx + 1)
            alone = model(latents[one], timesteps[one], text[one]).sample
            torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-5)


def test_ways_to_give_a_timestep_and_to_take_the_output():
    model = make_network(UNet3D)
    latents, _, text = make_inputs()
    with torch.no_grad():
        output = model(latents, torch.tensor([400, 400]), text)
        assert isinstance(output, DenoiserOutput)
        for timestep in (400, 400.0, torch.tensor(400), torch.tensor([400])):
            (sample,) = model(latents, timestep, text, return_dict=False)
            assert torch.equal(sample, output.sample)


@pytest.mark.parametrize("training", [False, True])
def test_gradient_checkpointing_gives_equal_gradients(training):
    config, shape = CASES["not_divisible"]
    model = make_network(UNet3D, **config).train(training)
    gradients = []
    for enable in (model.disable_gradient_checkpointing, model.enable_gradient_checkpointing):
        enable()
        torch.manual_seed(0)  # of the dropout, which draws from torch's own generator
        model.zero_grad()
        model(*make_inputs(shape)).sample.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_gradient_checkpointing_recomputes_instead_of_keeping():
    model = make_network(UNet3D, **DEEP_UNET3D)

    def kept() -> int:
        sizes = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(*make_inputs((1, 4, 4, 16, 16))).sample.mean()
        return sum(sizes)

    everything = kept()
    model.enable_gradient_checkpointing()
    assert kept() < everything / 4


def test_every_optimiser_step_lowers_the_loss():
    model = make_network(UNet3D)
    inputs = make_inputs()
    target = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = (model(*inputs).sample - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_out_channels": (18, 32)}, "multiples of norm_num_groups=4, got 18"),
        ({"block_out_channels": (12, 32)}, "multiples of attention_head_dim=8, got 12"),
        ({"block_out_channels": (16, 36)}, "multiples of attention_head_dim=8, got 36"),
        ({"block_out_channels": (16, 32, 32)}, "equally long, not empty, got 3, 2, 2"),
        ({"down_block_types": ("DownBlock3D", "DownBlock2D")}, "`down_block_types`.*got 'DownBlock2D'"),
        ({"up_block_types": ("UpBlock3D", "DownBlock3D")}, "`up_block_types`.*got 'DownBlock3D'"),
        ({"act_fn": "tanh"}, "`act_fn`.*silu.*got 'tanh'"),
        ({"downsample_padding": 2}, r"`downsample_padding` must be chosen from \[0, 1\], got 2"),
        ({"layers_per_block": 0}, "`layers_per_block` must be a whole number of at least 1, got 0"),
        ({"norm_num_groups": 0}, "`norm_num_groups` must be a whole number of at least 1, got 0"),
        ({"attention_head_dim": 0}, "`attention_head_dim` must be a whole number of at least 1, got 0"),
        ({"layers_per_block": (1, 1)}, r"`layers_per_block` must be a whole number .* got \(1, 1\)"),
        ({"in_channels": 0}, "`in_channels` must be a whole number of at least 1, got 0"),
        ({"cross_attention_dim": -1}, "`cross_attention_dim` must be a whole number of at least 1, got -1"),
        ({"time_cond_proj_dim": 0}, "`time_cond_proj_dim` must be a whole number of at least 1, got 0"),
        ({"sample_size": (8, 0)}, "`sample_size` must be a whole number of at least 1, got 0"),
        ({"sample_size": (8, 8, 8)}, "`sample_size` must be a number, or height and width"),
        ({"norm_eps": 0.0}, "`norm_eps` must be a finite number above 0, got 0.0"),
        ({"mid_block_scale_factor": 0}, "`mid_block_scale_factor` must be a finite number above 0, got 0"),
        (
            {"block_out_channels": (16, -32)},
            "`block_out_channels` must be a whole number of at least 1, got -32",
        ),
    ],
)
def test_an_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        UNet3D(**(TINY_UNET3D | change))


@pytest.mark.parametrize("config", [TINY_UNET3D, DEEP_UNET3D, UNUSUAL], ids=["tiny", "deep", "unusual"])
@torch.no_grad()
def test_several_prompts_for_a_sample_equal_as_many_passes(config):
    model = make_network(UNet3D, **config)
    sample, timesteps, _ = make_inputs((2, config.get("in_channels", 4), 3, 4, 6))
    texts = torch.randn(6, 7, 12, generator=torch.Generator().manual_seed(2))
    mask = torch.rand(6, 7, generator=torch.Generator().manual_seed(3)) < 0.7
    passes = [
        model(sample, timesteps, texts[first : first + 2], mask[first : first + 2]).sample
        for first in (0, 2, 4)
    ]
    together = model(sample, timesteps, texts, mask).sample
    prepared = model(sample, timesteps, model.text_context(texts, mask)).sample
    assert passes[0].sub(passes[1]).abs().max() > 0.01
    torch.testing.assert_close(together, torch.cat(passes), atol=1e-5, rtol=0)
    assert torch.equal(prepared, together)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sample": torch.zeros(2, 3, 3, 4, 6)},
            "`sample` must be (2, 4, f, h, w), not empty, got (2, 3, 3, 4, 6)",
        ),
        (
            {"sample": torch.zeros(2, 4, 4, 6)},
            "`sample` must be (2, 4, f, h, w), not empty, got (2, 4, 4, 6)",
        ),
        ({"sample": torch.zeros(2, 4, 0, 4, 6)}, "not empty, got (2, 4, 0, 4, 6)"),
        ({"timestep": torch.zeros(3)}, "`timestep` must be a number or (2,), got (3,)"),
        ({"encoder_hidden_states": torch.zeros(2, 7, 16)}, "must be (N, L, 12), not empty, got (2, 7, 16)"),
        ({"encoder_hidden_states": torch.zeros(2, 0, 12)}, "not empty, got (2, 0, 12)"),
        (
            {"encoder_hidden_states": torch.zeros(1, 7, 12)},
            "one prompt for each sample, or a multiple, got 1 for 2",
        ),
        ({"encoder_attention_mask": torch.ones(2, 6, dtype=torch.bool)}, "must be (2, 7) torch.bool"),
        ({"encoder_attention_mask": torch.ones(2, 7)}, "got (2, 7) torch.float32"),
        ({"timestep_cond": torch.zeros(2, 6)}, "must be (2, time_cond_proj_dim=None), got (2, 6)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    inputs = dict(zip(("sample", "timestep", "encoder_hidden_states"), make_inputs(), strict=True))
    with pytest.raises(ValueError, match=re.escape(message)):
        make_network(UNet3D)(**(inputs | change))
