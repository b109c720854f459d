"""Which parameters are trained, and that gradient checkpointing does not change their gradients."""

from typing import Any

import pytest
import torch

from tests.train.finetune.tiny_models import batch_of


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
