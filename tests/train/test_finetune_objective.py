"""Fine-tuning: what the loss means, what is trained and learned, and that the result is what was trained."""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from tests.tiny import edit_json, make_clip_text_model, make_network, randomise, write_clip_tokenizer
from tests.tiny_pipeline import make_pipeline
from tests.train.runs import Fate, newest, run
from tests.videos import moving_bar, write_video
from videogen.codec.pixels import frames_to_pixels
from videogen.data.batch import Batch
from videogen.data.footage.dataset import FootageClips, load_dataset
from videogen.data.footage.planning import FootageSettings
from videogen.models.lora import LORA_NAME
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.loading import load, load_generator
from videogen.pipelines.modelscope import ModelScopePipeline
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.sampling.schedulers import make_scheduler
from videogen.text.words import WORDS_NAME
from videogen.train.config import TrainConfig
from videogen.train.footage import prepare_footage
from videogen.train.footage_encoders import check_dataset_fits, load_encoders
from videogen.train.loop import train
from videogen.train.objectives.finetune import FinetuneObjective, FinetuneObjectiveConfig
from videogen.train.verify import differences

KNOWN = ("a red circle", "a blue square", "a red circle", "a green star")
NEW = ("a running dog", "a sleeping cat", "a running cat", "a sleeping dog")
IN_CLIP = ("a red cat", "a cat", "a red cat", "red")
KINDS = ("flow", "epsilon", "v_prediction", "clip")


def ddim(**settings: Any) -> DDIMScheduler:
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**({"clip_sample": False, "steps_offset": 1} | schedule | settings))


def make_clip_pipeline(folder: Path) -> ModelScopePipeline:
    """A tiny model of ModelScope's kind, with CLIP."""
    write_clip_tokenizer(folder / "tokenizer")
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    unet = make_network(UNet3D, cross_attention_dim=16, sample_size=(2, 2))
    return ModelScopePipeline(vae.eval(), make_clip_text_model(), tokenizer, unet, ddim())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny models of each kind."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    pipelines = {
        "flow": make_pipeline(TextToVideoPipeline, UViT3D),
        "epsilon": make_pipeline(TextToVideoPipeline, UNet3D, scheduler=ddim()),
        "v_prediction": make_pipeline(
            TextToVideoPipeline, UNet3D, scheduler=ddim(prediction_type="v_prediction")
        ),
        "clip": make_clip_pipeline(root / "parts"),
    }
    for kind, pipeline in pipelines.items():
        pipeline.save_pretrained(root / kind)
    return {kind: root / kind for kind in pipelines}


@pytest.fixture(scope="module")
def datasets(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """Datasets of four clips for each model, with captions of known and of new words."""
    root = tmp_path_factory.mktemp("datasets")
    made = {}
    for words, captions in (("known", KNOWN), ("new", NEW), ("clip", IN_CLIP)):
        footage = root / f"footage {words}"
        for number, caption in enumerate(captions):
            frames = moving_bar(10, 16, 16, seed=number)
            write_video(footage / f"{number}.mkv", frames, rate=8, codec="ffv1", pixel_format="bgr0")
            (footage / f"{number}.txt").write_text(caption)
        for kind in KINDS:
            if (words == "clip") == (kind == "clip"):
                out = root / f"{kind} {words}"
                settings = FootageSettings(num_frames=(8,), sizes=((16, 16),), fps=8)
                prepare_footage(footage, out, settings, load_encoders(models[kind]))
                made[kind, "known" if words == "clip" else words] = out
    return made


@pytest.fixture
def make(models: dict[str, Path], datasets: dict[tuple[str, str], Path]) -> Any:
    """Makes the objective of a kind of model, on captions of known words or of new ones."""

    def build(kind: str, words: str = "known", **settings: Any) -> FinetuneObjective:
        torch.manual_seed(0)
        config = FinetuneObjectiveConfig(
            model=str(models[kind]),
            dataset=str(datasets[kind, words]),
            **({"caption_dropout": 0.0} | settings),
        )
        return config.build()

    return build


def batch_of(objective: FinetuneObjective, sample_ids: Sequence[int] = (0, 1, 2, 3)) -> Batch:
    assert objective.settings.dataset is not None
    return FootageClips(objective.settings.dataset, batch_size=4).batch(sample_ids)


def part(batch: Batch, row: int) -> Batch:
    rows = slice(row, row + 1)
    tensors = {name: getattr(batch, name)[rows] for name in ("latents", "prompt_embeds", "attention_mask")}
    ids, captions = batch.sample_ids[rows], batch.captions[rows]
    return dataclasses.replace(batch, sample_ids=ids, captions=captions, **tensors)


def without_cache(objective: FinetuneObjective, batch: Batch) -> Batch:
    """The same clips as captions and as pixels, which are what the codec makes of the latents."""
    pixels = objective.pipeline().codec.decode(batch.latents)  # type: ignore[arg-type]
    return Batch(batch.sample_ids, pixels, batch.captions, batch.fps)


def record(objective: FinetuneObjective) -> list[dict[str, Tensor]]:
    """What goes into the denoiser and comes out of it, at each call from now on."""
    calls: list[dict[str, Tensor]] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...], output: tuple[Tensor]) -> None:
        sample, timesteps, prompt_embeds, mask = arguments
        calls.append(
            {"sample": sample, "timesteps": timesteps, "text": prompt_embeds, "mask": mask, "pred": output[0]}
        )

    objective.denoiser.register_forward_hook(note)
    return calls


def noise_and_target(kind: str, call: dict[str, Tensor], latents: Tensor) -> tuple[Tensor, Tensor]:
    """What noise was put on the latents, and what the denoiser should have said; in float64."""
    latents, sample = latents.double(), call["sample"].double()
    times = call["timesteps"]
    if kind == "flow":
        t = (times.double() / 1000)[:, None, None, None, None]
        noise = (sample - (1 - t) * latents) / t
        return noise, noise - latents
    alphas = ddim().alphas_cumprod.double()[times][:, None, None, None, None]
    noise = (sample - alphas.sqrt() * latents) / (1 - alphas).sqrt()
    velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
    return noise, velocity if kind == "v_prediction" else noise


# The loss


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_costs_nothing(make: Any, kind: str) -> None:
    objective = make(kind)
    batch = batch_of(objective)

    def answer(_: nn.Module, arguments: tuple[Tensor, ...], output: tuple[Tensor]) -> tuple[Tensor]:
        call = {"sample": arguments[0], "timesteps": arguments[1]}
        return (noise_and_target(kind, call, batch.latents)[1].float(),)  # type: ignore[arg-type]

    assert objective(batch, "train")["loss"] > 0.1
    objective.denoiser.register_forward_hook(answer)
    assert objective(batch, "train")["loss"] < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_error_of_what_the_model_predicts(make: Any, kind: str) -> None:
    objective = make(kind)
    calls = record(objective)
    batch = batch_of(objective)
    losses = objective(batch, "train")
    noise, target = noise_and_target(kind, calls[0], batch.latents)  # type: ignore[arg-type]
    assert abs(noise.mean()) < 0.3 and abs(noise.std() - 1) < 0.3
    expected = (calls[0]["pred"] - target).square().mean().float()
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=0)
    assert torch.equal(losses["loss"], losses["loss_unweighted"])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weighs_each_clip(make: Any, kind: str) -> None:
    objective = make(kind, snr_gamma=1.0)
    calls = record(objective)
    batch = batch_of(objective)
    losses = objective(batch, "train")
    target = noise_and_target(kind, calls[0], batch.latents)[1]  # type: ignore[arg-type]
    alphas = ddim().alphas_cumprod[calls[0]["timesteps"]]
    snr = alphas / (1 - alphas)
    weights = snr.clamp(max=1) / (snr if kind == "epsilon" else snr + 1)
    errors = (calls[0]["pred"] - target).square().mean((1, 2, 3, 4))
    torch.testing.assert_close(losses["loss"], (weights * errors).mean().float(), rtol=1e-4, atol=0)
    torch.testing.assert_close(losses["loss_unweighted"], errors.mean().float(), rtol=1e-4, atol=0)
    assert losses["loss"] != losses["loss_unweighted"]


@torch.no_grad()
def test_the_other_prediction_is_trained(make: Any) -> None:
    objective = make("epsilon", prediction_type="v_prediction")
    calls = record(objective)
    batch = batch_of(objective)
    loss = objective(batch, "train")["loss"]
    velocity = noise_and_target("v_prediction", calls[0], batch.latents)[1]  # type: ignore[arg-type]
    torch.testing.assert_close(loss, (calls[0]["pred"] - velocity).square().mean().float(), rtol=1e-4, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "epsilon"])
def test_a_clip_does_not_depend_on_its_batch(make: Any, kind: str) -> None:
    objective = make(kind, caption_dropout=0.5, noise_prior="mixed", offset_noise=0.1).eval()
    batch = batch_of(objective, (4, 5, 6, 7))
    alone = [objective(part(batch, row), "train")["loss"] for row in range(4)]
    torch.testing.assert_close(objective(batch, "train")["loss"], torch.stack(alone).mean())
    assert len({round(loss.item(), 6) for loss in alone}) == 4


@torch.no_grad()
@pytest.mark.parametrize(
    ("settings", "covariance"),
    [({}, 0.0), ({"noise_prior": "mixed"}, 0.5), ({"noise_prior": "mixed", "offset_noise": 1.0}, 1.5)],
)
def test_the_noise_is_the_one_asked_for(make: Any, settings: dict[str, Any], covariance: float) -> None:
    """The covariance of two frames at the same place."""
    objective = make("epsilon", **settings)
    calls = record(objective)
    batch = batch_of(objective)
    latents = torch.zeros(600, *batch.latents.shape[1:])  # type: ignore[union-attr]
    many = dataclasses.replace(
        batch,
        sample_ids=tuple(range(600)),
        captions=("",) * 600,
        latents=latents,
        prompt_embeds=batch.prompt_embeds[:1].expand(600, -1, -1),  # type: ignore[index]
        attention_mask=batch.attention_mask[:1].expand(600, -1),  # type: ignore[index]
    )
    objective(many, "train")
    noise = noise_and_target("epsilon", calls[0], latents)[0]
    assert (noise[:, :, 0] * noise[:, :, 1]).mean() == pytest.approx(covariance, abs=0.15)


# Text


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "clip"])
@pytest.mark.parametrize("caption_dropout", [0.0, 0.5, 1.0])
def test_cached_text_is_what_the_text_encoder_gives(make: Any, kind: str, caption_dropout: float) -> None:
    objective = make(kind, caption_dropout=caption_dropout).eval()
    calls = record(objective)
    batch = batch_of(objective)
    objective(batch, "train")
    objective(dataclasses.replace(batch, prompt_embeds=None, attention_mask=None), "train")
    objective.dataset = None
    objective(batch, "train")
    for call in calls[1:]:
        assert torch.equal(call["mask"], calls[0]["mask"])
        torch.testing.assert_close(call["text"], calls[0]["text"])
        torch.testing.assert_close(call["pred"], calls[0]["pred"])
    empty = objective.pipeline().prompt_encoder.encode([""]).prompt_embeds[0]
    dropped = [torch.allclose(row, empty, atol=1e-5) for row in calls[0]["text"]]
    if caption_dropout != 0.5:
        assert dropped == [caption_dropout == 1] * 4


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "clip"])
def test_clips_as_pixels(make: Any, kind: str) -> None:
    objective = make(kind).eval()
    batch = without_cache(objective, batch_of(objective))
    latents = objective.pipeline().codec.encode(batch.pixels)
    same = dataclasses.replace(batch, latents=latents)
    assert torch.equal(objective(batch, "train")["loss"], objective(same, "train")["loss"])


def test_words_that_are_new(make: Any) -> None:
    assert make("flow").new_words == () == make("clip").new_words
    objective = make("flow", "new")
    assert objective.new_words == ("cat", "dog", "running", "sleeping")
    calls = record(objective)
    with torch.no_grad():
        objective(batch_of(objective), "train")
    assert torch.pdist(calls[0]["text"].flatten(1)).min() > 1  # before training they are told apart
    words = load(objective.settings.model).text_encoder.encode(KNOWN)
    assert torch.equal(objective.pipeline().text_encoder.encode(KNOWN).prompt_embeds, words.prompt_embeds)


# What is trained


@pytest.mark.parametrize(
    ("kind", "words", "lora_rank", "expected"),
    [
        ("flow", "known", None, {"denoiser"}),
        ("flow", "new", None, {"denoiser", "text_encoder"}),
        ("clip", "known", None, {"denoiser"}),
        ("flow", "known", 2, {"denoiser"}),
        ("epsilon", "new", 2, {"denoiser", "learned_words"}),
        ("clip", "known", 2, {"denoiser"}),
    ],
)
def test_what_is_trained(make: Any, kind: str, words: str, lora_rank: int | None, expected: set[str]) -> None:
    objective = make(kind, words, lora_rank=lora_rank)
    trained = dict(objective.trained_parameters("train"))
    assert {name.split(".")[0] for name in trained} == expected
    in_denoiser = [name for name in trained if name.startswith("denoiser.")]
    if lora_rank is None:
        assert len(in_denoiser) == len(list(objective.denoiser.parameters()))
    else:
        assert in_denoiser and all("lora_" in name for name in in_denoiser)
    objective(batch_of(objective), "train")["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
    if "learned_words" in trained:
        assert trained["learned_words"].grad.abs().sum(1).min() > 0  # every word was in a caption


@pytest.mark.parametrize("kind", ["flow", "epsilon"])
@pytest.mark.parametrize("lora_rank", [None, 2])
def test_gradient_checkpointing_changes_nothing(make: Any, kind: str, lora_rank: int | None) -> None:
    grads = []
    for checkpointing in (False, True):
        objective = make(kind, "new", lora_rank=lora_rank, gradient_checkpointing=checkpointing)
        torch.manual_seed(1)  # of dropout
        objective(batch_of(objective), "train")["loss"].backward()
        grads.append({name: value.grad for name, value in objective.trained_parameters("train")})
        assert objective.denoiser.is_gradient_checkpointing == checkpointing
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)


# Results


def some_steps(objective: FinetuneObjective, num_steps: int = 3, lr: float = 0.02) -> None:
    parameters = [parameter for _, parameter in objective.trained_parameters("train")]
    optimizer = torch.optim.Adam(parameters, lr)
    for _ in range(num_steps):
        optimizer.zero_grad()
        objective(batch_of(objective), "train")["loss"].backward()
        optimizer.step()


def frames_of(pipeline: Any, prompt: str = NEW[0], **options: Any) -> Tensor:
    options = {"num_frames": 8, "height": 16, "width": 16, "seed": 1, "num_inference_steps": 3} | options
    return pipeline(prompt, output_type="pt", return_dict=False, **options)[0]


@pytest.mark.parametrize("kind", ["flow", "v_prediction", "clip"])
def test_a_whole_model_is_loaded_again(make: Any, kind: str, tmp_path: Path) -> None:
    prompt = NEW[0] if kind != "clip" else IN_CLIP[0]
    objective = make(kind, "new" if kind != "clip" else "known")
    some_steps(objective)
    objective.eval().save(tmp_path)
    loaded = load(tmp_path)
    expected = frames_of(objective.pipeline(), prompt)
    torch.testing.assert_close(frames_of(loaded, prompt), expected, rtol=0, atol=1e-5)
    assert (frames_of(load(objective.settings.model), prompt) - expected).abs().max() > 1e-3
    defaults = loaded.defaults
    assert (defaults.num_frames, defaults.height, defaults.width, defaults.fps) == (8, 16, 16, 8)
    assert type(loaded.scheduler) is type(objective.pipeline().scheduler)


@pytest.mark.parametrize("kind", ["flow", "epsilon", "clip"])
def test_adapters_and_words_are_loaded_again(make: Any, kind: str, tmp_path: Path) -> None:
    prompt = NEW[0] if kind != "clip" else IN_CLIP[0]
    objective = make(kind, "new" if kind != "clip" else "known", lora_rank=4, lora_alpha=8)
    before = copy.deepcopy(objective.text_encoder.state_dict())
    some_steps(objective)
    objective.eval().save(tmp_path)
    files = {"pytorch_lora_weights.safetensors"} | ({WORDS_NAME} if kind != "clip" else set())
    assert {path.name for path in tmp_path.iterdir()} == files
    expected = frames_of(objective.pipeline(), prompt)
    model = objective.settings.model
    torch.testing.assert_close(frames_of(load(model, loras=[tmp_path]), prompt), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        frames_of(load_generator(model, loras=[tmp_path]), prompt), expected, rtol=0, atol=1e-4
    )
    after = objective.text_encoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())  # words are kept beside it


def test_words_are_learned(make: Any, tmp_path: Path) -> None:
    objective = make("flow", "new", lora_rank=2)
    start = objective.learned_words.detach().clone()
    some_steps(objective)
    assert (objective.learned_words - start).abs().sum(1).min() > 0.01
    objective.save(tmp_path)
    loaded = load(objective.settings.model, loras=[tmp_path]).text_encoder
    expected = objective.pipeline().text_encoder.encode(NEW).prompt_embeds
    assert torch.equal(loaded.encode(NEW).prompt_embeds, expected)
    assert torch.equal(expected, objective._encode_captions(list(NEW)).prompt_embeds)


def test_a_new_schedule_is_saved_and_sampled_from(make: Any, tmp_path: Path) -> None:
    objective = make("epsilon", prediction_type="v_prediction", zero_terminal_snr=True)
    objective.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.prediction_type == "v_prediction"
    changed = {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    assert {name: loaded.scheduler.config[name] for name in changed} == changed
    for name in ("ddim", "ddpm", "euler", "dpm++2m", "unipc"):
        generator = load_generator(tmp_path)
        generator.scheduler = make_scheduler(name, "v_prediction", loaded.scheduler)
        assert frames_of(generator, KNOWN[0]).isfinite().all()


def test_previews_are_clips_of_the_prompts(make: Any) -> None:
    prompts = ("a running dog", "a red circle")
    objective = make("flow", "new", lora_rank=2, validation_prompts=prompts).eval()
    previews = objective.preview()
    assert [prompt for prompt, _ in previews] == list(prompts)
    assert all(clip.shape == (8, 16, 16, 3) and clip.dtype == "uint8" for _, clip in previews)
    alone = frames_of(objective.pipeline(), prompts[1])
    assert torch.equal(torch.from_numpy(previews[1][1]), (alone[0] * 255).round().byte())
    shared = make("flow", "new", noise_prior="mixed", lora_rank=2, validation_prompts=prompts).eval()
    assert (shared.preview()[1][1] != previews[1][1]).any()


@torch.no_grad()
def test_the_distance_of_previews_to_the_dataset(make: Any) -> None:
    objective = make("flow")
    dataset, codec = objective.dataset, objective.pipeline().codec
    frames = torch.rand(8, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    clip = (frames * 255).round().byte().numpy()
    made = codec.encode(frames_to_pixels(clip[None]))[0]

    def nearest(idxs: Sequence[int]) -> float:
        return min((dataset.latents(idx) - made).square().mean().sqrt().item() for idx in idxs)

    assert objective.measure([(KNOWN[0], clip)])["distance"] == pytest.approx(nearest([0, 2]))
    assert objective.measure([("another", clip)])["distance"] == pytest.approx(nearest(range(4)))
    assert objective.measure([]) == {} == objective.measure([("another", clip[:4])])


# Refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": 2.0}, "`lora_alpha` must be None without `lora_rank`, got 2.0"),
        ({"lora_rank": 2, "zero_terminal_snr": True}, "`lora_rank` must be None where"),
        ({"lora_rank": 2, "prediction_type": "epsilon"}, "`lora_rank` must be None where"),
        ({"noise_prior": "pink"}, "`noise_prior` must be one of independent, mixed, progressive, got 'pink'"),
        ({"noise_prior_strength": -1.0}, "`noise_prior_strength` must be at least 0, got -1.0"),
        ({"offset_noise": float("nan")}, "`offset_noise` must be at least 0, got nan"),
        ({"snr_gamma": 0.0}, "`snr_gamma` must be above 0, got 0.0"),
        ({"caption_dropout": 1.5}, "`caption_dropout` must be between 0 and 1, got 1.5"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneObjectiveConfig(**settings)


def test_settings_that_do_not_fit_the_model(make: Any) -> None:
    for settings, name in (
        ({"prediction_type": "epsilon"}, "prediction_type"),
        ({"zero_terminal_snr": True}, "zero_terminal_snr"),
        ({"snr_gamma": 5.0}, "snr_gamma"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be .*flow"):
            make("flow", **settings)
    with pytest.raises(ValueError, match="`rank` of a LoRA must be at least 1, got 0"):
        make("flow", lora_rank=0)


def test_a_dataset_of_another_model(
    models: dict[str, Path], datasets: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    dataset = load_dataset(datasets["flow", "known"])
    check_dataset_fits(dataset, models["flow"])
    pipeline = load(models["flow"])
    for part_name, network in (("codec", pipeline.vae), ("text encoder", pipeline.text_encoder)):
        folder = tmp_path / part_name
        weights = copy.deepcopy(network.state_dict())
        randomise(network)
        next(network.parameters()).data.add_(1)
        pipeline.save_pretrained(folder)
        network.load_state_dict(weights)
        with pytest.raises(ValueError, match=rf"the {part_name} of .*: prepare it again with .*--model"):
            check_dataset_fits(dataset, folder)
    edit_json(datasets["flow", "known"] / "dataset.json", model={"name": "other", "codec": "", "dtype": ""})
    with pytest.raises(ValueError, match="was prepared with the codec of 'other'"):
        FinetuneObjectiveConfig(model=str(models["flow"]), dataset=str(datasets["flow", "known"])).build()
    edit_json(datasets["flow", "known"] / "dataset.json", model=dataset.model)


# Runs


def run_config(model: Path, dataset: Path, **changes: Any) -> TrainConfig:
    objective = FinetuneObjectiveConfig(
        model=str(model),
        dataset=str(dataset),
        **{
            name: changes.pop(name)
            for name in ("lora_rank", "noise_prior", "caption_dropout")
            if name in changes
        },
    )
    settings: dict[str, Any] = {
        "num_steps": 8, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 2, "ema_decay": 0.9,
        "log_every": 1, "checkpoint_every": 3, "preview_every": 0,
    }  # fmt: skip
    settings |= changes
    source = FootageClips(str(dataset), settings["batch_size"], fingerprint=load_dataset(dataset).fingerprint)
    return TrainConfig("test", objective, source, **settings)


@pytest.mark.parametrize("lora_rank", [None, 4])
@pytest.mark.parametrize("kind", ["flow", "epsilon"])
def test_training_lowers_the_loss(
    models: dict[str, Path],
    datasets: dict[tuple[str, str], Path],
    tmp_path: Path,
    kind: str,
    lora_rank: int | None,
) -> None:
    config = run_config(
        models[kind],
        datasets[kind, "new"],
        num_steps=60,
        batch_size=4,
        checkpoint_every=60,
        lora_rank=lora_rank,
    )
    train(config, tmp_path, cpu=True)
    objective = config.objective.build().eval()
    assert isinstance(objective, FinetuneObjective)
    before = mean_loss(objective)
    objective.load_state_dict(newest(tmp_path).ema, strict=False)
    assert mean_loss(objective) < 0.9 * before


@torch.no_grad()
def mean_loss(objective: FinetuneObjective) -> float:
    """At times and noise that no training has seen."""
    batches = [batch_of(objective, range(start, start + 4)) for start in range(4000, 4060, 4)]
    return sum(objective(batch, "train")["loss"].item() for batch in batches) / len(batches)


@pytest.mark.parametrize(
    ("kind", "lora_rank", "num_parts"),
    [("flow", None, 1), ("epsilon", None, 2), ("flow", 4, 2), ("clip", 4, 1)],
)
def test_a_killed_run_goes_on_exactly(
    models: dict[str, Path],
    datasets: dict[tuple[str, str], Path],
    tmp_path: Path,
    kind: str,
    lora_rank: int | None,
    num_parts: int,
) -> None:
    config = run_config(
        models[kind],
        datasets[kind, "known" if kind == "clip" else "new"],
        lora_rank=lora_rank,
        noise_prior="progressive",
        caption_dropout=0.3,
        gradient_accumulation_steps=num_parts,
    )
    run(config, tmp_path / "straight")
    run(config, tmp_path / "resumed", Fate(kill_at=5))
    run(dataclasses.replace(config, num_data_workers=1), tmp_path / "resumed")
    folders = tmp_path / "straight", tmp_path / "resumed"
    # Entries in the header of a file of adapters come in any order; its tensors are compared below.
    apart = set(differences(*folders)) - {f"result.{LORA_NAME}: differs"}
    assert not apart
    if lora_rank is not None:
        one, other = (load_file(folder / "result" / LORA_NAME) for folder in folders)
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
