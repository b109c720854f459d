"""Training of where words look: the loss, that it moves attention, and runs that have none of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import randomise
from tests.train.runs import UNET3D, UVIT, Fate, assert_same_end, run, run_config
from videogen.data.batch import Batch
from videogen.data.shapes.dataset import ShapesClips
from videogen.models.uvit import UViT3D
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.train.objectives.diffusion import DiffusionObjective, DiffusionObjectiveConfig, DiTConfig
from videogen.train.objectives.word_attention import (
    LAST_TIME,
    Regions,
    attention_losses,
    find_regions,
    shares_inside,
)

SOURCE = ShapesClips(num_frames=4, size=64, two_object_rate=0.6, annotated=True)


def make(codec_folder: Path, **settings: Any) -> DiffusionObjective:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"codec": str(codec_folder), "network": UVIT, "text_dim": 16, "text_layers": 1}
    return DiffusionObjectiveConfig(**(defaults | settings)).build()


def test_the_loss_is_that_of_the_formula() -> None:
    """Equation 3 of TokenCompose, written out word by word."""
    generator = torch.Generator().manual_seed(0)
    attentions = [torch.rand(3, 6, 5, generator=generator).softmax(-1) for _ in range(2)]
    words = torch.zeros(3, 2, 5, dtype=torch.bool)
    words[0, 0, [1, 2]] = words[0, 1, [3, 4]] = words[1, 0, 1] = True
    cells = torch.rand(3, 2, 6, generator=generator) < 0.5
    cells[0, 1] = False  # not to be seen, so its words may look anywhere
    losses, counted = attention_losses(attentions, Regions(words, cells))
    assert counted.tolist() == [True, True, False] and losses[2] == 0
    for clip, said in ((0, [1, 2]), (1, [1])):
        expected = []
        for weights in attentions:
            for word in said:
                looks = weights[clip, :, word]
                expected.append((1 - looks[cells[clip, 0]].sum() / looks.sum()) ** 2)
        torch.testing.assert_close(losses[clip], torch.stack(expected).mean())


def test_regions_are_where_pixels_show_the_object(codec_folder: Path) -> None:
    """A cell is 4 frames of 16x16 pixels, at the edge fewer; a word has the place of its token."""
    tokenizer = make(codec_folder).text_encoder.tokenizer
    masks = torch.zeros(2, 2, 8, 40, 32, dtype=torch.bool)
    masks[0, 0, 3, 15, 16] = masks[0, 1, 4, 39, 0] = masks[1, 0, 7, 20, 20] = True
    captions = ("we see a red star moving up and a blue box resting", "a red star rests")
    mentions = ((range(7, 28), range(32, 50)), (range(16),))
    batch = Batch((0, 1), torch.zeros(2, 3, 8, 40, 32), captions, 8.0, mentions=mentions, masks=masks)
    regions = find_regions(batch, captions, tokenizer, 32, (4, 8))
    assert regions.cells.shape == (2, 2, 2 * 3 * 2)
    assert [cell.nonzero().flatten().tolist() for cell in regions.cells.flatten(0, 1)] == [
        [1], [6 + 4], [6 + 3], []
    ]  # fmt: skip
    assert [words.nonzero().flatten().tolist() for words in regions.words.flatten(0, 1)] == [
        [3, 4, 5, 6, 7], [9, 10, 11, 12], [1, 2, 3, 4], []
    ]  # fmt: skip
    dropped = find_regions(batch, ["", captions[1]], tokenizer, 32, (4, 8))
    assert not dropped.words[0].any() and dropped.words[1].any()


def record(objective: DiffusionObjective) -> list[Tensor]:
    """Timesteps of each call of the denoiser from now on."""
    times: list[Tensor] = []
    objective.denoiser.register_forward_hook(lambda _, inputs, output: times.append(inputs[1]))
    return times


@torch.no_grad()
def test_weight_is_what_is_added(codec_folder: Path) -> None:
    """The same clips, times and noise; noisy clips and those without a caption have no part in it."""
    batch = SOURCE.batch(range(24))
    plain, told = (make(codec_folder, attention_weight=weight) for weight in (0.0, 0.5))
    for objective in (plain, told):
        randomise(objective.denoiser)
    times = record(told)
    losses, without = told(batch, "train"), plain(batch, "train")
    assert "loss_attention" not in without
    unaware = plain(replace(SOURCE, annotated=False).batch(range(24)), "train")
    assert without.keys() == unaware.keys() and torch.equal(without["loss"], unaware["loss"])
    share = (times[0] <= 1000 * LAST_TIME).sum() / 24
    assert 0.3 < share < 1
    added = losses["loss"] - without["loss"]
    assert 0.3 * share * losses["loss_attention"] < added < 0.5 * share * losses["loss_attention"]
    noisy = make(codec_folder, attention_weight=0.5, time_mean=9.0, time_std=0.1)
    losses = noisy(batch, "train")
    assert losses["loss_attention"] == 0
    untold = make(codec_folder, attention_weight=0.5, caption_dropout=1.0)
    assert untold(batch, "train")["loss_attention"] == 0


@torch.no_grad()
def test_the_part_of_a_clip_does_not_depend_on_its_batch(codec_folder: Path) -> None:
    objective = make(codec_folder, attention_weight=1.0, condition_rate=0.5)
    randomise(objective.denoiser)
    ids = [3, 8, 1, 40]
    alone = torch.stack([objective(SOURCE.batch([idx]), "train")["loss"] for idx in ids])
    torch.testing.assert_close(objective(SOURCE.batch(ids), "train")["loss"], alone.mean())


@torch.no_grad()
def share_of_words(objective: DiffusionObjective, batch: Batch) -> float:
    """Mean share of what looks at an object's words that lies on the object, at t = 0.5."""
    text = objective.text_encoder.encode(batch.captions)
    latents = objective.latents(batch)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    noisy = torch.lerp(latents, noise, 0.5)
    output = objective.denoiser(noisy, 500.0, text.prompt_embeds, text.attention_mask, output_attentions=True)
    tokenizer = objective.text_encoder.tokenizer
    regions = find_regions(batch, batch.captions, tokenizer, text.prompt_embeds.shape[1], (4, 8))
    shares = shares_inside(output.attentions[-1], regions)
    return shares[regions.words & regions.cells.any(-1, keepdim=True)].mean().item()


def test_words_learn_to_look_at_their_object(codec_folder: Path) -> None:
    """On unseen pairs; without the loss a network so small learns nothing of the kind."""
    unseen = replace(SOURCE, seed=9, two_object_rate=1.0).batch(range(64))
    reached = []
    for weight in (0.0, 1.0):
        objective = make(codec_folder, attention_weight=weight, time_mean=-1.0)
        before = share_of_words(objective, unseen)
        parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=5e-3)
        for step in range(60):
            optimizer.zero_grad()
            objective(SOURCE.batch(range(16 * step, 16 * step + 16)), "train")["loss"].backward()
            optimizer.step()
        reached.append(share_of_words(objective, unseen) - before)
    assert reached[1] > 0.15 and reached[0] < 0.5 * reached[1]


@pytest.mark.parametrize("num_layers", [1, 3])
def test_attention_comes_with_the_same_prediction(num_layers: int) -> None:
    """And is that of `record_attention`, averaged over heads; checkpointing changes no gradient."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"conv_dim": 8, "hidden_size": 32, "num_attention_heads": 2}
    network = UViT3D(4, num_layers=num_layers, cross_attention_dim=12, token_convs=True, **sizes)
    randomise(network)
    sample, text = torch.randn(2, 4, 2, 5, 4), torch.randn(2, 7, 12)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    gradients = []
    plain = network(sample, torch.tensor([300.0, 700.0]), text, mask)
    assert plain.attentions is None
    for checkpointing in (False, True):
        if checkpointing:
            network.enable_gradient_checkpointing()
        network.zero_grad()
        prediction, attentions = network(
            sample, torch.tensor([300.0, 700.0]), text, mask, return_dict=False, output_attentions=True
        )
        assert torch.equal(prediction, plain.sample) and len(attentions) == num_layers
        assert attentions[0].shape == (2, 2 * 3 * 2, 7) and not attentions[0][1, :, 4:].any()
        torch.testing.assert_close(attentions[-1].sum(-1), torch.ones(2, 12))
        sum(weights[..., 1].square().sum() for weights in attentions).backward()
        assert len(attentions) == num_layers
        gradients.append({name: value.grad for name, value in network.named_parameters()})
    query = gradients[0][f"blocks.{num_layers - 1}.cross_to_q.weight"]
    assert query is not None and query.abs().max() > 0
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_a_run_resumes_exactly_and_its_result_loads(codec_folder: Path, tmp_path: Path) -> None:
    config = run_config("uvit", codec_folder)
    assert isinstance(config.objective, DiffusionObjectiveConfig)
    objective = replace(config.objective, attention_weight=0.5, condition_rate=0.5)
    config = replace(config, objective=objective, source=replace(SOURCE, size=32))
    run(config, tmp_path / "whole")
    run(config, tmp_path / "resumed", Fate(kill_at=5))
    run(config, tmp_path / "resumed")
    assert_same_end(tmp_path / "whole", tmp_path / "resumed")
    pipeline = load(tmp_path / "whole" / "result")
    assert isinstance(pipeline, TextToVideoPipeline)
    assert pipeline.network.config["condition_channels"] == 8


@pytest.mark.parametrize("network", [UNET3D, DiTConfig(hidden_size=32, num_layers=1)], ids=["unet3d", "dit"])
def test_networks_without_attention_to_give(network: Any) -> None:
    with pytest.raises(ValueError, match=r"`attention_weight` must be 0 for a \w+Config, got 0\.5"):
        DiffusionObjectiveConfig(network=network, attention_weight=0.5)


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_weights_that_there_cannot_be(weight: float) -> None:
    with pytest.raises(ValueError, match=f"`attention_weight` must be at least 0, got {weight}"):
        DiffusionObjectiveConfig(attention_weight=weight)


def test_layers_that_are_not_there(codec_folder: Path) -> None:
    for layers in ((1,), (0, -1)):
        with pytest.raises(ValueError, match="`attention_layers` must be between 0 and 0 for this network"):
            make(codec_folder, attention_weight=0.5, attention_layers=layers)


def test_clips_that_are_not_annotated(codec_folder: Path) -> None:
    objective = make(codec_folder, attention_weight=0.5)
    with pytest.raises(ValueError, match="`attention_weight` must be 0 for clips without `mentions`"):
        objective(replace(SOURCE, annotated=False).batch(range(2)), "train")


def test_a_cache_may_leave_attention_out() -> None:
    network = UViT3D(4, conv_dim=8, hidden_size=32, num_layers=1, num_attention_heads=2)
    cache: Any = object()
    with pytest.raises(ValueError, match="`output_attentions` must be False with a `cache`"):
        network(torch.zeros(1, 4, 1, 2, 2), 0.0, torch.zeros(1, 3, 256), cache=cache, output_attentions=True)
