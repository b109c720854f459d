"""What denoisers take beside latents, time and prompt, and how a trained one is given the parts for it.

Each part adds a term to what is there already, and the term is zero until its weights have learned. So a
network that has just been given one predicts, bit for bit, what it predicted before.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from videogen.models.embeddings import StepSizeEmbedding

GROWABLE = ("token_convs", "condition_channels", "step_size_embedding")
"""Fields of a denoiser's config that `grown` can set."""

Network = TypeVar("Network", bound=ModelMixin)


def grown(network: Network, **parts: int | bool) -> Network:
    """A copy of a denoiser with further parts, which predicts the same until they are trained.

    Args:
        network: A `UViT3D`, `UNet3D` or `DiT3D`, not packed and without adapters; not changed.
        parts: Fields of its config out of `GROWABLE`, with their new values. One that the network has
            already may be given again.

    Raises:
        ValueError: If a network of this class has no such part, or has it in another size, or its weights are
            packed or have adapters.
    """
    config: dict[str, Any] = {
        name: value for name, value in network.config.items() if not name.startswith("_")
    }
    kind = type(network).__name__
    for name, value in parts.items():
        if name not in GROWABLE or name not in config:
            choices = ", ".join(part for part in GROWABLE if part in config)
            raise ValueError(f"a {kind} can be given {choices}, got `{name}`")
        if config[name] and config[name] != value:
            raise ValueError(f"`{name}` of this {kind} is {config[name]} already and cannot become {value}")
    with torch.device("meta"):
        plain = type(network)(**config)
    if network.state_dict().keys() != plain.state_dict().keys():
        raise ValueError(
            f"`network` must have the weights of a plain {kind}, neither packed nor with adapters"
        )
    result = type(network)(**{**config, **parts})
    nn.Module.to(result, network.device, network.dtype)  # diffusers' own warns of a change of dtype
    old = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in (*result.named_parameters(), *result.named_buffers()):
        if name in old:
            tensor.data = old[name].detach().clone()
    return result


def check_condition_channels(count: object) -> None:
    """Raise ValueError unless this is a number of channels, 0 for none."""
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"`condition_channels` must be a whole number of at least 0, got {count!r}")


def checked_condition(condition: Tensor | None, sample: Tensor, channels: int) -> Tensor | None:
    """The condition of noisy latents `(B, C, f, h, w)` in their dtype; None where its term can be left out.

    Args:
        condition: `(B, C_cond, f, h, w)`, or None for nothing known, which equals zeros.
        sample: The latents.
        channels: C_cond of the network, 0 if it takes no condition.

    Raises:
        ValueError: If the condition does not fit.
    """
    if condition is not None and not channels:
        raise ValueError(
            "`condition` must be None, as this network has no `condition_channels`: "
            f"`grown(network, condition_channels={condition.shape[1]})` gives it some, to be trained"
        )
    shape = (len(sample), channels, *sample.shape[2:])
    if condition is None:
        # Processes that share a training step expect a gradient for every weight.
        return sample.new_zeros(shape) if channels and torch.is_grad_enabled() else None
    if condition.shape != shape:
        raise ValueError(f"`condition` must be {shape} to go with `sample`, got {tuple(condition.shape)}")
    return condition.to(sample.dtype)


def add_step_size(
    time: Tensor, embedding: StepSizeEmbedding | None, step_size: Tensor | float | None
) -> Tensor:
    """Embedded times `(B, D)` with the embedded size of the step added.

    Args:
        time: What is added to.
        embedding: Of the network, None if it has none.
        step_size: A number or `(B,)` in [0, 1], the share of the way from noise to clip; None is 0.

    Raises:
        ValueError: If there is a step size, and no embedding, or it does not fit.
    """
    if embedding is None:
        if step_size is not None:
            raise ValueError(
                "`step_size` must be None, as this network has no `step_size_embedding`: "
                "`grown(network, step_size_embedding=True)` gives it one, to be trained"
            )
        return time
    sizes = torch.as_tensor(0.0 if step_size is None else step_size, device=time.device)
    if sizes.shape not in {(), (1,), (len(time),)}:
        raise ValueError(f"`step_size` must be a number or ({len(time)},), got {tuple(sizes.shape)}")
    return time + embedding(sizes.expand(len(time)), time.dtype)
