"""What the loss means: against the formulas in float64, for each clip alone, with the noise asked for."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.train.finetune.tiny_models import KINDS, batch_of, ddim, noise_and_target, record
from videogen.data.batch import Batch


def part(batch: Batch, row: int) -> Batch:
    rows = slice(row, row + 1)
    tensors = {name: getattr(batch, name)[rows] for name in ("latents", "prompt_embeds", "attention_mask")}
    ids, captions = batch.sample_ids[rows], batch.captions[rows]
    return dataclasses.replace(batch, sample_ids=ids, captions=captions, **tensors)


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
