"""Fine-tuning a codec on footage: the decoder learns, the latents stay, held-out videos are measured on."""

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from tests.tiny import TINY_CODEC, randomise
from tests.tiny_pipeline import make_pipeline
from tests.videos import moving_bar, write_video
from videogen.codec.autoencoder import VideoAutoencoder
from videogen.codec.pixels import frames_to_pixels
from videogen.data.footage.dataset import load_dataset, open_footage
from videogen.data.footage.planning import FootageSettings
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.train.finetune_codec import (
    CodecFinetuneSettings,
    FootagePixels,
    codec_finetune_config,
    held_out_videos,
)
from videogen.train.footage import prepare_footage
from videogen.train.footage_encoders import load_encoders
from videogen.train.objectives.codec_finetune import CodecFinetuneObjective, CodecFinetuneObjectiveConfig

NUM_VIDEOS = 6
BOUNDED = {"latent_bound": 5.0, "pixel_margin": 0.2, "normalize_branches": True}


@pytest.fixture(scope="module", params=[{}, BOUNDED], ids=["free", "bounded"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vae = VideoAutoencoder(**(TINY_CODEC | request.param))
    randomise(vae)
    make_pipeline(TextToVideoPipeline, vae=vae.eval()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips with pixels."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(NUM_VIDEOS):
        frames = moving_bar(8, 16, 16, seed)
        write_video(folder / f"footage/{seed}.mkv", frames, rate=8, codec="ffv1", pixel_format="bgr0")
    settings = FootageSettings(num_frames=(8,), sizes=((16, 16),), fps=8)
    prepare_footage(folder / "footage", folder / "dataset", settings, load_encoders(model), keep_pixels=True)
    return folder / "dataset"


@pytest.fixture
def objective(model: Path, dataset: Path) -> CodecFinetuneObjective:
    return CodecFinetuneObjectiveConfig(str(dataset), held_out=("1.mkv", "4.mkv"), model=str(model)).build()


def test_only_the_decoder_learns_and_the_latents_stay(
    objective: CodecFinetuneObjective, dataset: Path
) -> None:
    trained = objective.trained_parameters("train")
    assert {name.split(".")[1] for name, _ in trained} == {"decoder"}
    optimizer = torch.optim.Adam([parameter for _, parameter in trained], lr=1e-2)
    batch = FootagePixels(open_footage(dataset, 4, held_out=("1.mkv", "4.mkv"))).batch(range(4))
    assert batch.latents is not None
    before, psnr_before = objective.codec.encode(batch.pixels), objective.held_out_psnr()
    torch.testing.assert_close(before, batch.latents)
    for _ in range(30):
        optimizer.zero_grad()
        objective(batch, "train")["loss"].backward()
        optimizer.step()
    assert torch.equal(objective.codec.encode(batch.pixels), before)
    assert min(objective.held_out_psnr()) > max(psnr_before)


def test_the_result_is_the_model_with_the_new_decoder(
    objective: CodecFinetuneObjective, model: Path, tmp_path: Path
) -> None:
    with torch.no_grad():
        objective.codec.decoder.conv_out.weight.add_(0.1)
    objective.save(tmp_path)
    old, new = load(model), load(tmp_path)
    for part in ("unet", "text_encoder"):
        weights = getattr(old, part).state_dict()
        assert all(
            torch.equal(value, weights[name]) for name, value in getattr(new, part).state_dict().items()
        )
    latents = torch.randn(1, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(new.vae.decode(latents), objective.codec.decode(latents))
    assert not torch.equal(new.vae.decode(latents), old.vae.decode(latents))


def test_previews_show_held_out_clips_beside_what_the_codec_makes_of_them(
    objective: CodecFinetuneObjective, dataset: Path
) -> None:
    previews = objective.preview()
    footage = load_dataset(dataset)
    assert [caption for caption, _ in previews] == ["1 | reconstruction", "4 | reconstruction"]
    for idx, (_, frames) in zip((1, 4), previews, strict=True):
        assert frames.shape == (8, 16, 32, 3)
        assert torch.equal(torch.from_numpy(frames[:, :, :16]), footage.frames(idx))
    measures = objective.measure(previews)
    assert measures["psnr_low"] <= measures["psnr"] <= measures["psnr_high"]
    pixels = frames_to_pixels(footage.frames(1)[None])
    with torch.no_grad():
        seen = objective.codec.decode(objective.codec.encode(pixels)).clamp(-1, 1)
    expected = 10 * torch.log10(4 / (seen - pixels).square().mean())
    assert objective.held_out_psnr()[0] == pytest.approx(expected.item(), abs=1e-3)


def test_held_out_videos_never_come(model: Path, dataset: Path) -> None:
    settings = CodecFinetuneSettings(model=str(model), batch_size=2, held_out=0.3, num_steps=4)
    config = codec_finetune_config(dataset, settings)
    assert isinstance(config.source, FootagePixels)
    assert isinstance(config.objective, CodecFinetuneObjectiveConfig)
    held_out = config.objective.held_out
    assert len(held_out) == 2
    clips, footage = config.source.clips, load_dataset(dataset)
    seen = {footage.clips[clips.clip_idx(sample_id)].source for sample_id in range(100)}
    assert seen == {f"{number}.mkv" for number in range(NUM_VIDEOS)} - set(held_out)


def test_the_share_that_is_held_out(dataset: Path) -> None:
    footage = load_dataset(dataset)
    assert held_out_videos(footage, 0.0, seed=0) == ()
    assert len(held_out_videos(footage, 0.01, seed=0)) == 1
    assert held_out_videos(footage, 0.5, seed=3) == held_out_videos(footage, 0.5, seed=3)
    assert len({held_out_videos(footage, 0.5, seed=seed) for seed in range(8)}) > 1
    for share in (-0.1, 0.99, 1.0):
        with pytest.raises(ValueError, match="`held_out` must be at least 0, and leave one of 6 videos"):
            held_out_videos(footage, share, seed=0)


def test_what_cannot_be_trained_is_refused(model: Path, dataset: Path) -> None:
    config = CodecFinetuneObjectiveConfig(str(dataset), held_out=())
    footage = load_dataset(dataset)
    of_images = make_pipeline(TextToVideoPipeline, vae=AutoencoderKL(latent_channels=4, norm_num_groups=1))
    with pytest.raises(ValueError, match="has the codec AutoencoderKL: only a VideoAutoencoder"):
        CodecFinetuneObjective(of_images, footage, config)
    with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
        codec_finetune_config(dataset, CodecFinetuneSettings(num_steps=0))
    without = dataclasses.replace(footage, clips=(dataclasses.replace(footage.clips[0], pixels_key=""),))
    with pytest.raises(ValueError, match=r"has no pixels of '0.mkv': run the same .* with `--pixels`"):
        without.check_pixels()
