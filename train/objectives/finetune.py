"""Fine-tuning of a text-to-video model on clips of one's own: all its weights, or adapters beside them."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from videogen.codec.contract import Codec
from videogen.codec.pixels import frames_to_pixels
from videogen.data.batch import Batch
from videogen.data.footage.dataset import FootageDataset, load_dataset
from videogen.models.growing import grown
from videogen.models.lora import add_lora, save_lora
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.sampling.noise import NOISE_PRIORS, sample_offset, sample_prior_noise, seeded_generator
from videogen.sampling.schedulers import prediction_type_of
from videogen.text.contract import EncodedText
from videogen.text.encoder import TextEncoder
from videogen.text.open_encoder import OpenTextEncoder
from videogen.text.words import save_words
from videogen.train.footage_encoders import check_dataset_fits
from videogen.train.objectives.diffusion import Denoiser, DenoisingConfig, DiffusionObjective
from videogen.train.objectives.latents import preview_frames
from videogen.train.objectives.noise_process import NoisyLatents, changed_scheduler, make_noise_process

_MOST_COMPARED = 256  # clips of a dataset that a preview is compared with


@dataclass(frozen=True)
class FinetuneObjectiveConfig(DenoisingConfig):
    """Settings of `FinetuneObjective`, beside those of `DenoisingConfig`.

    Times have a distribution of their own, for flow models only. With `condition_rate` the clips need pixels
    (see `FootagePixels`), and with `attention_weight` annotations.

    Attributes:
        model: Folder or hub id of the model to start from; None for the embedded one.
        dataset: Folder of the prepared dataset that is trained on. It has the captions whose words may be new
            to the model, the shape of previews, and the clips that these are measured by. None for clips from
            elsewhere.
        lora_rank: Of the adapters; None to train all weights of the denoiser.
        lora_alpha: Their strength is alpha / rank; None for a strength of 1.
        prediction_type: `epsilon` or `v_prediction`, for a model of the other kind; None for its own.
        snr_gamma: Of `min_snr_weights`, None for equal weights. Not for flow models.
        zero_terminal_snr: Whether the noise schedule is changed to end in pure noise, for `v_prediction`. A
            flow does so as it is.
        offset_noise: Deviation of the noise that is one for a whole clip and channel, added to the rest.
        noise_prior: How the frames of a clip share noise; see `sample_prior_noise`.
        noise_prior_strength: How much of it.
        gradient_checkpointing: Whether the denoiser computes activations again rather than keep them.
        validation_prompts: What previews show.
        train_text: Whether the whole text encoder is trained, at `text_rate`, even if the captions have no
            words that are new to it. Only one of ours, beside all weights of the denoiser.
    """

    model: str | None = None
    dataset: str | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    prediction_type: str | None = None
    snr_gamma: float | None = None
    zero_terminal_snr: bool = False
    offset_noise: float = 0.0
    noise_prior: str = "independent"
    noise_prior_strength: float = 1.0
    gradient_checkpointing: bool = False
    time_mean: float = 0.5
    time_std: float = 1.4
    validation_prompts: tuple[str, ...] = ()
    train_text: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range with any model."""
        super().__post_init__()
        if self.lora_rank is None and self.lora_alpha is not None:
            raise ValueError(f"`lora_alpha` must be None without `lora_rank`, got {self.lora_alpha}")
        if self.lora_rank is not None and (self.prediction_type is not None or self.zero_terminal_snr):
            raise ValueError(
                "`lora_rank` must be None where `prediction_type` or `zero_terminal_snr` change the model's "
                f"schedule, which adapters do not carry, got {self.lora_rank}: train all weights"
            )
        if self.noise_prior not in NOISE_PRIORS:
            raise ValueError(
                f"`noise_prior` must be one of {', '.join(NOISE_PRIORS)}, got {self.noise_prior!r}"
            )
        for name in ("offset_noise", "noise_prior_strength"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}")
        if self.snr_gamma is not None and not 0 < self.snr_gamma < math.inf:
            raise ValueError(f"`snr_gamma` must be above 0, got {self.snr_gamma}")
        if self.train_text and (self.lora_rank is not None or not self.text_rate):
            raise ValueError(
                "`train_text` must be False with `lora_rank`, whose adapters are the denoiser's alone, and "
                f"where `text_rate` is 0, got `lora_rank` {self.lora_rank} and `text_rate` {self.text_rate}"
            )

    def build(self) -> FinetuneObjective:
        """Load the model and make the objective.

        Raises:
            ValueError: If a setting does not fit the model, model or dataset cannot be loaded, or the dataset
                was prepared with another model.
        """
        dataset = None if self.dataset is None else load_dataset(self.dataset)
        if dataset is not None:
            check_dataset_fits(dataset, self.model)
        pipeline = load(self.model)
        if not isinstance(pipeline, TextToVideoPipeline):
            kind = type(pipeline).__name__
            raise ValueError(f"`model` must be a denoiser's to be fine-tuned, got a {kind}")
        return FinetuneObjective(pipeline, dataset, self)


class FinetuneObjective(DiffusionObjective):
    """Denoising in the way that a model was trained: by flow matching or by diffusion.

    Words of the captions that the text encoder of ours does not know are added to it and learned: with the
    whole encoder, beside a whole denoiser, or alone, beside adapters or where `text_rate` is 0 (as in textual
    inversion, Gal et al. 2022, arXiv:2208.01618). Captions are then encoded in every step. Any other text
    encoder stays as it is unless `train_text` is set, and so cached embeddings are used where they are there.

    Args:
        pipeline: The model; its networks are trained in place.
        dataset: Of the clips; see `FinetuneObjectiveConfig`.
        config: Settings.

    Raises:
        ValueError: If a setting does not fit the model.
    """

    # Adapters are AdamW's at any rank, as is usual. Words have to go as far as others did in all training.
    adamw_scales: Mapping[str, float] = {
        **DiffusionObjective.adamw_scales,
        "lora_": 1.0,
        "learned_words": 10.0,
    }
    preview_first = True

    settings: FinetuneObjectiveConfig
    learned_words: nn.Parameter | None

    def __init__(
        self, pipeline: TextToVideoPipeline, dataset: FootageDataset | None, config: FinetuneObjectiveConfig
    ) -> None:
        scheduler = changed_scheduler(pipeline.scheduler, config.prediction_type, config.zero_terminal_snr)
        process = make_noise_process(scheduler, config.snr_gamma, config.time_mean, config.time_std)
        text_encoder = pipeline.text_encoder
        if config.train_text and not isinstance(text_encoder, TextEncoder | OpenTextEncoder):
            raise ValueError(f"`train_text` must be False for a model with a {type(text_encoder).__name__}")
        new_words = () if dataset is None else unknown_words(dataset, text_encoder)
        if new_words:
            text_encoder = text_encoder.with_words(new_words)
        super().__init__(pipeline.vae, text_encoder, _with_channels(pipeline, config), config, process)
        self.dataset = dataset
        self.new_words = new_words
        self._pipeline = _rebuilt(
            pipeline,
            scheduler=scheduler,
            text_encoder=text_encoder,
            unet=self.denoiser,
            prediction_type=prediction_type_of(scheduler),
            defaults=_defaults(pipeline, dataset),
        )
        self.text_encoder.eval()
        self.denoiser.train()
        self.learned_words = None
        self.trains_text = config.train_text or bool(
            new_words and config.text_rate and config.lora_rank is None
        )
        if not self.trains_text:
            self.text_encoder.requires_grad_(False)
            if new_words:
                new_rows = self.text_encoder.token_embedding.weight[-len(new_words) :]
                self.learned_words = nn.Parameter(new_rows.detach().clone())
        if config.lora_rank is None:
            self.denoiser.requires_grad_(True)
        else:
            add_lora(self.denoiser, config.lora_rank, config.lora_alpha)
        if config.gradient_checkpointing:
            self.denoiser.enable_gradient_checkpointing()

    @property
    def codec_contract(self) -> Codec:
        """The contract around `codec`, which may be an image autoencoder."""
        return self._pipeline.codec

    def draw_noise(self, shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """Noise of the prior, with the offset that is asked for."""
        settings = self.settings
        noise = sample_prior_noise(shape, generators, settings.noise_prior, settings.noise_prior_strength)
        if settings.offset_noise:
            noise = noise + settings.offset_noise * sample_offset(shape[0], generators)
        return noise

    def logged(self, errors: Tensor, noisy: NoisyLatents) -> dict[str, Tensor]:
        """`loss_unweighted`, which tells the same with any `snr_gamma`."""
        return {"loss_unweighted": errors.mean()}

    def save(self, folder: Path) -> None:
        """Write the whole pipeline, with its scheduler; or the adapters, with the words that were learned."""
        if self.settings.lora_rank is None:
            self.pipeline().save_pretrained(folder)
            return
        save_lora(self.denoiser, folder)
        if self.learned_words is not None:
            save_words(dict(zip(self.new_words, self.learned_words.detach(), strict=True)), folder)

    def preview(self) -> list[tuple[str, np.ndarray]]:
        """A clip of each validation prompt, in the commonest shape of the dataset, from the prior's noise."""
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        clips = []
        for number, prompt in enumerate(self.settings.validation_prompts):  # one by one, to need less memory
            noise = self._preview_noise(number)
            clips.append((prompt, preview_frames(pipeline, prompt, latents=noise, seed=number)[0]))
        return clips

    @torch.no_grad()
    def measure(self, previews: list[tuple[str, np.ndarray]]) -> dict[str, float]:
        """`distance`: how far previews are from the nearest clip of their caption, or else of the dataset.

        It is the root mean square difference of latents, which have unit variance: two unlike clips are about
        1.4 apart. Small means that the clip is as in the dataset, be it learned or learned by heart.
        """
        if self.dataset is None:
            return {}
        codec = self._pipeline.codec
        distances = []
        for prompt, frames in previews:
            pixels = frames_to_pixels(frames[None]).to(codec.device, codec.dtype)
            made = codec.encode(pixels)[0].float().cpu()
            same_caption = [idx for idx, clip in enumerate(self.dataset.clips) if clip.caption == prompt]
            idxs = (same_caption or range(len(self.dataset.clips)))[:_MOST_COMPARED]
            others = [self.dataset.latents(idx).float() for idx in idxs]
            apart = [(made - one).square().mean().sqrt().item() for one in others if one.shape == made.shape]
            distances += [min(apart)] if apart else []
        return {"distance": sum(distances) / len(distances)} if distances else {}

    def pipeline(self) -> TextToVideoPipeline:
        """The pipeline around the networks as they are now."""
        if self.learned_words is None:
            return self._pipeline
        text_encoder = copy.deepcopy(self.text_encoder)
        with torch.no_grad():
            text_encoder.token_embedding.weight[-len(self.new_words) :] = self.learned_words
        return _rebuilt(self._pipeline, text_encoder=text_encoder)

    def encode_captions(self, batch: Batch, draws: Sequence[float]) -> EncodedText:
        """`kept_captions`, encoded; from the cache where nothing of the text encoder is trained."""
        cached, mask = batch.prompt_embeds, batch.attention_mask
        if self.new_words or self.trains_text or cached is None or mask is None:
            return self._encode_captions(self.kept_captions(batch, draws))
        dropped = [draw < self.settings.caption_dropout for draw in draws]
        if not any(dropped):
            return EncodedText(cached, mask)
        if self.dataset is None:
            empty = self._encode_captions([""])
            empty_embeds, empty_mask = empty.prompt_embeds[0], empty.attention_mask[0]
        else:
            empty_embeds, empty_mask = self.dataset.unconditional_embedding()
        drop = torch.tensor(dropped, device=cached.device)[:, None]
        return EncodedText(
            torch.where(drop[..., None], empty_embeds.to(cached), cached),
            torch.where(drop, empty_mask.to(mask), mask),
        )

    def _encode_captions(self, captions: list[str]) -> EncodedText:
        if self.learned_words is None:
            return self._pipeline.prompt_encoder.encode(captions)
        tokens = self.text_encoder.tokenizer.tokenize(captions)
        known = self.text_encoder.token_embedding.weight[: -len(self.new_words)]
        mask = tokens.attention_mask.to(known.device)
        encoded: EncodedText = torch.func.functional_call(
            self.text_encoder,
            {"token_embedding.weight": torch.cat([known, self.learned_words])},
            (tokens.input_ids.to(known.device), mask),
        )
        return encoded

    def _preview_noise(self, number: int) -> Tensor | None:
        """Noise `(1, C, f, h, w)` of the prior; None for what the pipeline draws itself."""
        settings, defaults = self.settings, self._pipeline.defaults
        if settings.noise_prior == "independent":
            return None
        per_time, per_space = self._pipeline.codec.compression
        shape = (
            self._pipeline.unet.config["in_channels"],
            defaults.num_frames // per_time,
            defaults.height // per_space,
            defaults.width // per_space,
        )
        generators = [seeded_generator(number)]
        return sample_prior_noise(shape, generators, settings.noise_prior, settings.noise_prior_strength)


def _with_channels(pipeline: TextToVideoPipeline, config: FinetuneObjectiveConfig) -> Denoiser:
    """The denoiser of a pipeline, with channels for conditions where there are to be any.

    Raises:
        ValueError: If adapters are to learn conditions beside a denoiser that takes none, or it takes them in
            another number of channels.
    """
    denoiser = pipeline.unet
    channels = config.condition_channels(denoiser.config["in_channels"], pipeline.codec)
    if channels in (0, denoiser.config["condition_channels"]):
        return denoiser
    if config.lora_rank is not None and not denoiser.config["condition_channels"]:
        raise ValueError(
            "`lora_rank` must be None where `condition_rate` gives the model channels that it does not have, "
            f"got {config.lora_rank}: adapters do not carry them, so train all weights"
        )
    return grown(denoiser, condition_channels=channels)


def unknown_words(dataset: FootageDataset, text_encoder: nn.Module) -> tuple[str, ...]:
    """Words of a dataset's captions that a text encoder of ours does not know; none for any other."""
    if not isinstance(text_encoder, TextEncoder):
        return ()
    captions = {clip.caption for clip in dataset.clips}
    return tuple(sorted({word for text in captions for word in text_encoder.tokenizer.report(text).unknown}))


def _rebuilt(pipeline: TextToVideoPipeline, **changes: Any) -> TextToVideoPipeline:
    """A pipeline like another but for some arguments."""
    settings = {
        "prediction_type": pipeline.prediction_type,
        "defaults": dataclasses.asdict(pipeline.defaults),
    }
    return type(pipeline)(**(pipeline.components | settings | changes))


def _defaults(pipeline: TextToVideoPipeline, dataset: FootageDataset | None) -> dict[str, Any]:
    """Those of a pipeline, with clips as most of the dataset's are."""
    defaults = dataclasses.asdict(pipeline.defaults)
    if dataset is None or not dataset.clips:
        return defaults
    bucket = max(dataset.buckets.items(), key=lambda entry: len(entry[1]))[0]
    return defaults | dataclasses.asdict(bucket) | {"fps": dataset.fps}
