"""What fine-tuning shares with training from scratch: conditions, attention, a trained or frozen encoder."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import make_network, randomise
from tests.tiny_pipeline import make_pipeline
from tests.train.finetune.tiny_models import KNOWN, NEW, batch_of, frames_of, some_steps
from tests.train.runs import newest
from videogen.data.batch import Batch
from videogen.data.footage.planning import FootageSettings
from videogen.data.shapes.dataset import ShapesClips
from videogen.models.dit import DiT3D
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.train.config import TrainConfig
from videogen.train.finetune import FinetuneSettings, FootagePixels, finetune_config
from videogen.train.footage import prepare_footage
from videogen.train.footage_encoders import load_encoders
from videogen.train.loop import train
from videogen.train.objectives.base import ObjectiveConfig
from videogen.train.objectives.diffusion import DiffusionObjectiveConfig, DiTConfig
from videogen.train.objectives.finetune import FinetuneObjective, FinetuneObjectiveConfig

DIT = DiTConfig(hidden_size=32, num_layers=1, num_attention_heads=2)
SHAPES = ShapesClips(world="shapes-mini", num_frames=8, size=16)


def with_pixels(objective: FinetuneObjective, batch: Batch) -> Batch:
    """The batch with pixels beside its latents."""
    assert batch.latents is not None
    return dataclasses.replace(batch, pixels_or_none=objective.codec_contract.decode(batch.latents))


# Conditions


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "epsilon", "clip"])
def test_conditions_change_no_loss_before_they_are_learned(make: Any, kind: str) -> None:
    plain, told = make(kind).eval(), make(kind, condition_rate=1.0, condition_dropout=0.0).eval()
    codec = told.codec_contract
    assert told.denoiser.config["condition_channels"] == 4 + codec.compression[0]
    batch = with_pixels(told, batch_of(told, (4, 5, 6, 7)))
    losses, expected = told(batch, "train"), plain(batch, "train")
    assert torch.equal(losses["loss"], expected["loss"]) and losses.keys() - expected.keys() == {"loss_known"}
    assert told.pipeline().unet is told.denoiser


def test_conditions_are_learned_and_saved(make: Any, tmp_path: Path) -> None:
    objective = make("flow", condition_rate=1.0)
    for sample_ids in ((0, 1, 2, 3), (4, 5, 6, 7)):
        objective(with_pixels(objective, batch_of(objective, sample_ids)), "train")["loss"].backward()
    assert objective.denoiser.conv_condition.weight.grad.any()
    objective.save(tmp_path)
    assert load(tmp_path).unet.config["condition_channels"] == 8


def test_clips_without_pixels_have_nothing_to_know(
    make: Any, models: dict[str, Path], datasets: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    objective = make("flow", condition_rate=0.5)
    with pytest.raises(ValueError, match=r"`condition_rate` must be 0 for cached latents, got 0\.5"):
        objective(batch_of(objective), "train")
    dataset = datasets["flow", "known"]
    settings = FinetuneSettings(str(models["flow"]), lora_rank=None, condition_rate=0.5, batch_size=4)
    with pytest.raises(ValueError, match=r"has no pixels of '0\.mkv': run the same .* with `--pixels`"):
        finetune_config(dataset, settings)
    footage = FootageSettings(num_frames=(8,), sizes=((16, 16),), fps=8)
    folder = dataset.parent / "footage known"
    prepare_footage(folder, tmp_path, footage, load_encoders(models["flow"]), keep_pixels=True)
    config, source = finetune_config(tmp_path, settings)
    assert config.source == FootagePixels(source)
    losses = config.objective.build()(config.source.batch(range(4)), "train")
    assert losses["loss"].isfinite() and "loss_known" in losses


def told_model(kind: type[UViT3D] | type[UNet3D] | type[DiT3D], folder: Path) -> str:
    """A model that takes conditions by a matrix, with weights for them."""
    if kind is UViT3D or kind is UNet3D:
        changes = {"conv_dim": 16} if kind is UViT3D else {}
        network = make_network(kind, cross_attention_dim=16, condition_channels=8, **changes)
    else:
        network = DIT.build(4, 16, condition_channels=8)
        randomise(network)
    make_pipeline(TextToVideoPipeline, unet=network).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(("kind", "network"), [(UViT3D, None), (UNet3D, None), (DiT3D, DIT)])
def test_what_is_known_of_conditions_does_not_decay(
    tmp_path: Path, kind: Any, network: DiTConfig | None
) -> None:
    """Where there are none, their weights stay as they are, and all other matrices shrink."""
    model = told_model(kind, tmp_path / "told")
    objective: ObjectiveConfig = FinetuneObjectiveConfig(model=model)
    if network is not None:
        objective = DiffusionObjectiveConfig(init_from=model, codec=f"{model}/vae", network=network)
    config = TrainConfig(
        "test", objective, SHAPES, num_steps=2, batch_size=2, learning_rate=1e-4, weight_decay=5000.0,
        warmup_steps=0, preview_every=0,
    )  # fmt: skip
    train(config, tmp_path / "run", cpu=True)
    before, after = load(model).unet.state_dict(), newest(tmp_path / "run").weights
    (name,) = (name for name in before if name.endswith("_condition.weight"))
    assert before[name].any() and torch.equal(after[f"denoiser.{name}"], before[name])
    matrix = next(name for name in before if name.endswith(("to_qkv.weight", "to_q.weight")))
    assert after[f"denoiser.{matrix}"].norm() < 0.5 * before[matrix].norm()


def test_adapters_beside_conditions(make: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`lora_rank` must be None where `condition_rate` gives the model"):
        make("flow", condition_rate=0.5, lora_rank=2)
    objective = FinetuneObjectiveConfig(
        model=told_model(UViT3D, tmp_path), lora_rank=2, condition_rate=0.5
    ).build()
    losses = objective(SHAPES.batch(range(4)), "train")
    losses["loss"].backward()
    assert "loss_known" in losses


# Attention


def test_attention_is_trained(models: dict[str, Path]) -> None:
    source = replace(SHAPES, num_frames=4, size=64, annotated=True)  # of sixteen tokens
    config = FinetuneObjectiveConfig(model=str(models["flow"]), attention_weight=0.5, time_mean=-1.0)
    objective, plain = config.build(), replace(config, attention_weight=0.0).build()
    batch = source.batch(range(4))
    losses = objective(batch, "train")
    assert losses["loss_attention"] > 0 and losses["loss"] > plain(batch, "train")["loss"]
    with pytest.raises(ValueError, match="`attention_weight` must be 0 for clips without `mentions`"):
        objective(SHAPES.batch(range(4)), "train")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("epsilon", {"attention_weight": 0.5}, "`attention_weight` must be 0 for a UNet3D, got 0.5"),
        ("flow", {"attention_weight": 0.5, "attention_layers": (2,)}, "between 0 and 1 for this network"),
        ("clip", {"train_text": True}, "`train_text` must be False for a model with a CLIPTextModel"),
        ("flow", {"train_text": True, "lora_rank": 2}, "`train_text` must be False with `lora_rank`"),
        ("flow", {"train_text": True, "text_rate": 0.0}, "where `text_rate` is 0, got `lora_rank` None"),
        ("flow", {"text_rate": -1.0}, "`text_rate` must be a number of at least 0, got -1.0"),
        ("flow", {"time_std": -1.0}, "`time_std` must be at least 0, got -1.0"),
        ("flow", {"condition_rate": 2.0}, "`condition_rate` must be between 0 and 1, got 2.0"),
    ],
)
def test_settings_that_are_refused(make: Any, kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(kind, **settings)


# The text encoder


def test_the_text_encoder_is_trained_where_no_word_is_new(make: Any, tmp_path: Path) -> None:
    objective = make("flow", train_text=True)
    before = objective.text_encoder.encode(KNOWN).prompt_embeds.detach()
    assert {name.split(".")[0] for name, _ in objective.trained_parameters("train")} == {
        "denoiser", "text_encoder"
    }  # fmt: skip
    some_steps(objective)
    assert objective.text_encoder.token_embedding.weight.grad.any()  # captions are not taken from the cache
    objective.save(tmp_path)
    after = load(tmp_path).text_encoder.encode(KNOWN).prompt_embeds
    assert torch.equal(after, objective.text_encoder.encode(KNOWN).prompt_embeds)
    assert (after - before).abs().max() > 0.01


def test_a_frozen_text_encoder_learns_words_alone(make: Any, tmp_path: Path) -> None:
    """Beside all weights of the denoiser, as it does beside adapters; the saved model has the words."""
    objective = make("flow", "new", text_rate=0.0)
    trained = {name.split(".")[0] for name, _ in objective.trained_parameters("train")}
    assert trained == {"denoiser", "learned_words"}
    known = objective.text_encoder.encode(KNOWN).prompt_embeds.detach()
    some_steps(objective)
    objective.eval().save(tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded.text_encoder.encode(KNOWN).prompt_embeds, known)
    torch.testing.assert_close(
        frames_of(loaded, NEW[0]), frames_of(objective.pipeline(), NEW[0]), rtol=0, atol=1e-5
    )
