"""Training with conditions: what is drawn for a clip, that it is learned, and runs that have none of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import randomise
from tests.train.runs import UNET3D, UVIT, Fate, assert_same_end, newest, run, run_config
from videogen.data.batch import Batch
from videogen.data.shapes.dataset import ShapesClips
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.train.config import TrainConfig
from videogen.train.loop import train
from videogen.train.objectives.diffusion import DiffusionObjective, DiffusionObjectiveConfig, DiTConfig
from videogen.train.verify import differences

DIT = DiTConfig(hidden_size=32, num_layers=1, num_attention_heads=2)
SOURCE = ShapesClips(world="shapes-mini", num_frames=8, size=16)

networks = pytest.mark.parametrize("network", [UVIT, UNET3D, DIT], ids=["uvit", "unet3d", "dit"])


def make(codec_folder: Path, **settings: Any) -> DiffusionObjective:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"codec": str(codec_folder), "network": UVIT, "text_dim": 16, "text_layers": 1}
    return DiffusionObjectiveConfig(**(defaults | settings)).build()


def record(objective: DiffusionObjective) -> list[dict[str, Tensor]]:
    """Noisy latents, timestep, condition and prediction of each call of the denoiser from now on."""
    calls: list[dict[str, Tensor]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], told: dict[str, Any], output: tuple[Tensor]) -> None:
        names = ("sample", "timestep")
        calls.append(dict(zip(names, inputs, strict=False)) | told | {"prediction": output[0]})

    objective.denoiser.register_forward_hook(note, with_kwargs=True)
    return calls


def squares(call: dict[str, Tensor], latents: Tensor) -> Tensor:
    """Squared errors `(B, f, h, w)` of the velocity."""
    t = (call["timestep"] / 1000)[:, None, None, None, None]
    noise = (call["sample"] - (1 - t) * latents) / t
    return (call["prediction"] - (noise - latents)).square().mean(1)


@torch.no_grad()
@networks
def test_conditions_change_neither_noise_nor_loss_before_they_are_learned(
    codec_folder: Path, network: Any
) -> None:
    """The same clips, times, noise and captions, and a network that starts the same: the same loss."""
    batch = SOURCE.batch(range(6))
    plain = make(codec_folder, network=network)
    told = make(codec_folder, network=replace(network, step_size_embedding=True), condition_rate=1.0)
    assert told.denoiser.config["condition_channels"] == 4 + 4 and told.denoiser.config["step_size_embedding"]
    assert plain.denoiser.config["condition_channels"] == 0
    calls = record(told)
    assert torch.equal(told(batch, "train")["loss"], plain(batch, "train")["loss"])
    assert calls[0]["condition"].shape == (6, 8, 2, 2, 2) and calls[0]["condition"].any()
    assert "loss_known" not in plain(batch, "train")


@torch.no_grad()
def test_loss_of_what_is_known(codec_folder: Path) -> None:
    objective = make(codec_folder, condition_rate=1.0)
    randomise(objective.denoiser)
    calls = record(objective)
    batch = SOURCE.batch(range(12))
    losses = objective(batch, "train")
    errors = squares(calls[0], objective.codec.encode(batch.pixels))
    known = calls[0]["condition"][:, 4:].amin(1) == 1
    assert 0 < known.sum() < known.numel()
    torch.testing.assert_close(losses["loss_known"], errors[known].mean())
    torch.testing.assert_close(losses["loss"], errors.mean())


@torch.no_grad()
@pytest.mark.parametrize(
    ("rate", "dropout", "share"), [(1.0, 0.0, 0.7), (1.0, 0.1, 0.63), (0.5, 0.0, 0.35), (1.0, 1.0, 0.0)]
)
def test_shares_of_clips_with_a_condition(
    codec_folder: Path, rate: float, dropout: float, share: float
) -> None:
    objective = make(codec_folder, condition_rate=rate, condition_dropout=dropout)
    calls = record(objective)
    pixels = torch.rand(500, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    objective(Batch(tuple(range(500)), pixels, ("",) * 500, 8.0), "train")
    told = calls[0]["condition"].flatten(1).any(1).float().mean()
    assert told == pytest.approx(share, abs=0.06)


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [4, 8])
def test_the_part_of_a_clip_does_not_depend_on_its_batch(codec_folder: Path, num_frames: int) -> None:
    objective = make(codec_folder, condition_rate=1.0)
    randomise(objective.denoiser)
    batch = replace(SOURCE, num_frames=num_frames).batch([3, 8, 1, 40])
    alone = [
        objective(Batch((idx,), batch.pixels[row : row + 1], (batch.captions[row],), batch.fps), "train")
        for row, idx in enumerate(batch.sample_ids)
    ]
    together = objective(batch, "train")["loss"]
    torch.testing.assert_close(together, torch.stack([losses["loss"] for losses in alone]).mean())


@pytest.fixture(scope="module")
def trained(codec_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """A short run at high noise, where a clip is told by its condition or not at all."""
    config = run_config(
        "uvit", codec_folder, num_steps=120, batch_size=16, checkpoint_every=120, decay_steps=20, log_every=20
    )
    assert isinstance(config.objective, DiffusionObjectiveConfig)
    network = replace(UVIT, step_size_embedding=True)
    objective = replace(config.objective, network=network, condition_rate=1.0, time_mean=4.0, time_std=1.0)
    config = replace(config, objective=objective, source=SOURCE)
    folder = tmp_path_factory.mktemp("conditions")
    train(config, folder, cpu=True)
    return config, folder


@torch.no_grad()
def test_what_is_known_is_drawn_as_it_is(trained: tuple[TrainConfig, Path]) -> None:
    """On unseen clips: the loss where a clip is known falls well below that where it is not."""
    config, folder = trained
    objective = config.objective.build()
    objective.load_state_dict(newest(folder).weights, strict=False)
    assert isinstance(objective, DiffusionObjective)
    calls = record(objective)
    batch = SOURCE.batch(range(100_000, 100_128))
    objective(batch, "train")
    errors = squares(calls[0], objective.codec.encode(batch.pixels))
    shares = calls[0]["condition"][:, 4:]
    known, unknown = errors[shares.amin(1) == 1].mean(), errors[shares.amax(1) == 0].mean()
    assert known < 0.65 * unknown


@torch.no_grad()
def test_the_pipeline_keeps_the_parts_and_makes_clips_of_text_alone(
    trained: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    pipeline = load(trained[1] / "result")
    assert isinstance(pipeline, TextToVideoPipeline)
    pipeline.save_pretrained(tmp_path)
    options: dict[str, Any] = {"num_frames": 8, "height": 16, "width": 16, "num_inference_steps": 3}
    clips = []
    for made in (pipeline, load(tmp_path)):
        assert made.network.config["condition_channels"] == 8 and made.network.config["step_size_embedding"]
        made.set_progress_bar_config(disable=True)
        clips.append(made("a red star", seed=0, output_type="pt", **options).frames)
    assert clips[0].shape == (1, 8, 3, 16, 16) and torch.equal(clips[0], clips[1])


@torch.no_grad()
@networks
def test_a_saved_pipeline_is_given_channels(codec_folder: Path, tmp_path: Path, network: Any) -> None:
    """Trained on clips of one latent frame, it starts on longer ones as it was, and keeps its channels."""
    first = make(codec_folder, network=network)
    randomise(first.denoiser)
    first.denoiser.eval()  # of a UNet, whose dropout is off where it is loaded
    first(replace(SOURCE, num_frames=4).batch(range(2)), "train")
    first.save(tmp_path / "plain")
    settings: dict[str, Any] = {"network": network, "init_from": str(tmp_path / "plain")}
    told = make(codec_folder, **settings, condition_rate=1.0)
    batch = SOURCE.batch(range(4))
    assert told.denoiser.config["condition_channels"] == 8
    assert torch.equal(told.eval()(batch, "train")["loss"], first(batch, "train")["loss"])
    randomise(told.denoiser)
    told.save(tmp_path / "told")
    settings["init_from"] = str(tmp_path / "told")
    for rate in (0.0, 1.0):
        again = make(codec_folder, **settings, condition_rate=rate)
        assert again.denoiser.config["condition_channels"] == 8
    assert torch.equal(again.eval()(batch, "train")["loss"], told(batch, "train")["loss"])


def test_token_convs_of_a_saved_dit(codec_folder: Path, tmp_path: Path) -> None:
    make(codec_folder, network=DIT).save(tmp_path)
    told = make(codec_folder, network=replace(DIT, token_convs=True), init_from=str(tmp_path))
    assert told.denoiser.config["token_convs"]


def test_channels_of_another_codec(codec_folder: Path, tmp_path: Path) -> None:
    objective = make(codec_folder)
    objective.denoiser = UVIT.build(4, 16, condition_channels=5)
    objective.save(tmp_path)
    with pytest.raises(
        ValueError, match="`condition_channels` of this UViT3D is 5 already and cannot become 8"
    ):
        make(codec_folder, init_from=str(tmp_path), condition_rate=1.0)


def test_cached_latents_have_nothing_to_know(codec_folder: Path) -> None:
    objective = make(codec_folder, condition_rate=0.5)
    batch = Batch((0,), None, ("a red star",), 8.0, latents=torch.zeros(1, 4, 2, 2, 2))
    with pytest.raises(ValueError, match=r"`condition_rate` must be 0 for cached latents, got 0\.5"):
        objective(batch, "train")


@pytest.mark.parametrize("name", ["condition_rate", "condition_dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_that_there_cannot_be(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be between 0 and 1, got {value}"):
        DiffusionObjectiveConfig(**{name: value})  # type: ignore[arg-type]


def test_two_processes_learn_what_one_does_and_go_on_exactly(codec_folder: Path, tmp_path: Path) -> None:
    """With an embedding of step sizes that are all 0: DDP waits for the gradient of every weight."""
    config = run_config("uvit", codec_folder)
    assert isinstance(config.objective, DiffusionObjectiveConfig)
    network = replace(UVIT, step_size_embedding=True)
    config = replace(config, objective=replace(config.objective, network=network, condition_rate=0.8))
    run(replace(config, gradient_accumulation_steps=2), tmp_path / "one")
    run(config, tmp_path / "two", num_processes=2)
    (line,) = differences(tmp_path / "one", tmp_path / "two")
    assert line.startswith("random.cpu: ")  # of one process, and of two
    run(config, tmp_path / "resumed", Fate(kill_at=5), num_processes=2)
    run(config, tmp_path / "resumed", num_processes=2)
    assert_same_end(tmp_path / "two", tmp_path / "resumed")
