"""The temporal 3D-UNet denoiser of ModelScope's text-to-video model.

Source: Wang et al. 2023, "ModelScope Text-to-Video Technical Report", arXiv:2308.06571, section 3. The module
names are those of diffusers' `UNet3DConditionModel`, so that the public weights of this family (ModelScope,
ZeroScope, Potat1) load as they are.

A UNet over images becomes one over clips by following each spatial module with a temporal one:

    latents -> conv_in -> transformer_in (temporal) -> down_blocks -> mid_block -> up_blocks -> conv_out

    one layer of a block:  ResnetBlock          3x3 convolutions, shifted by the timestep      within a frame
                           TemporalConvBlock    four convolutions over three frames            across frames
                           SpatialTransformer   self-attention, then attention to the text     within a frame
                           TemporalTransformer  self-attention of each pixel over time, twice  across frames

Nothing tells the attention which frame is which: order comes from the temporal convolutions alone. The
layers themselves are in `unet3d_layers`.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from videogen.alignment import AlignedWeights
from videogen.models.embeddings import StepSizeEmbedding, TimestepEmbedding, sinusoidal_embedding
from videogen.models.growing import add_step_size, check_condition_channels, checked_condition
from videogen.models.output import DenoiserOutput
from videogen.models.step_cache import FeatureCache, reuse
from videogen.models.text_context import TextContext, check_prompts_fit
from videogen.models.unet3d_layers import (
    Activation,
    Downsample,
    FrameNorm,
    ResnetBlock,
    SpatialConv,
    SpatialTransformer,
    TemporalTransformer,
    TransformerBlock,
    UNetBlock,
    Upsample,
)

ACTIVATIONS: dict[str, Activation] = {"silu": F.silu, "mish": F.mish, "gelu": F.gelu, "relu": F.relu}
# The names of the block types in a config, and whether a block of this type attends.
DOWN_BLOCK_TYPES = {"CrossAttnDownBlock3D": True, "DownBlock3D": False}
UP_BLOCK_TYPES = {"CrossAttnUpBlock3D": True, "UpBlock3D": False}


class UNet3D(AlignedWeights, ModelMixin, ConfigMixin):
    """A UNet that denoises the latents of a clip, given a timestep and a text. The defaults are ModelScope's.

    Args:
        sample_size: height and width of the latents the weights were trained on; other sizes work as well.
        in_channels: channels of the latents.
        out_channels: channels of the prediction.
        down_block_types: per resolution, finest first: keys of `DOWN_BLOCK_TYPES`.
        up_block_types: per resolution, coarsest first: keys of `UP_BLOCK_TYPES`.
        block_out_channels: channels per resolution, finest first.
        layers_per_block: layers per resolution on the way down; on the way up there is one more.
        downsample_padding: 1, or 0 to pad at the right and the bottom only.
        mid_block_scale_factor: divides what the resnets of the middle block return.
        act_fn: activation of the resnets and of the time embedding, a key of `ACTIVATIONS`.
        norm_num_groups: groups of each group normalisation.
        norm_eps: epsilon of the group normalisations of the resnets and of the output.
        cross_attention_dim: channels of the text.
        attention_head_dim: channels of one attention head; a block has channels / attention_head_dim heads.
        time_cond_proj_dim: channels of `timestep_cond`, None for a network without it.
        condition_channels: channels of the condition, as `num_condition_channels` of `videogen.conditioning`
            counts them; 0 for a network that takes none. This and the next a trained network can be `grown`
            to have.
        step_size_embedding: whether the network can be told how far the next step goes.

    Raises:
        ValueError: if the arguments contradict each other.
    """

    _supports_gradient_checkpointing = True
    cache_kinds = ("deep", "spatial", "text", "temporal")
    _skip_layerwise_casting_patterns = ("norm", "time_embedding")  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = 32,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = 3 * ("CrossAttnDownBlock3D",) + ("DownBlock3D",),
        up_block_types: tuple[str, ...] = ("UpBlock3D",) + 3 * ("CrossAttnUpBlock3D",),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1.0,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        time_cond_proj_dim: int | None = None,
        condition_channels: int = 0,
        step_size_embedding: bool = False,
    ) -> None:
        super().__init__()
        _check_config(self.config)
        down_attends = [DOWN_BLOCK_TYPES[block_type] for block_type in down_block_types]
        up_attends = [UP_BLOCK_TYPES[block_type] for block_type in up_block_types]

        self.in_channels = in_channels
        self.cross_attention_dim = cross_attention_dim
        self.time_cond_proj_dim = time_cond_proj_dim
        self.act = ACTIVATIONS[act_fn]
        first, last = block_out_channels[0], block_out_channels[-1]
        self.time_dim = first
        temb_dim = 4 * first
        num_resamplers = len(block_out_channels) - 1

        def block(
            layer_channels: list[int], channels: int, num_attentions: int, scale: float = 1.0
        ) -> UNetBlock:
            resnets = [
                ResnetBlock(in_dim, channels, temb_dim, norm_num_groups, norm_eps, self.act, scale)
                for in_dim in layer_channels
            ]
            sizes = (attention_head_dim, cross_attention_dim, norm_num_groups)
            return UNetBlock(resnets, channels, num_attentions, *sizes)

        self.time_embedding = TimestepEmbedding(first, temb_dim, self.act, time_cond_proj_dim)
        self.conv_in = SpatialConv(in_channels, first, 3, padding=1)
        # Always eight heads, whatever the channels: 512 inner channels beside ModelScope's 320.
        self.transformer_in = TemporalTransformer(
            first, attention_head_dim, norm_num_groups, inner_dim=8 * attention_head_dim
        )

        self.down_blocks = nn.ModuleList()
        skip_channels = [first]
        for channels, attends in zip(block_out_channels, down_attends, strict=True):
            layer_channels = [skip_channels[-1]] + [channels] * (layers_per_block - 1)
            down_block = block(layer_channels, channels, layers_per_block * attends)
            skip_channels += [channels] * layers_per_block
            if len(self.down_blocks) < num_resamplers:
                down_block.downsamplers.append(Downsample(channels, downsample_padding))
                skip_channels.append(channels)
            self.down_blocks.append(down_block)

        self.mid_block = block([last, last], last, 1, mid_block_scale_factor)

        self.up_blocks = nn.ModuleList()
        hidden_channels = last
        for channels, attends in zip(reversed(block_out_channels), up_attends, strict=True):
            layer_channels = [hidden_channels] + [channels] * layers_per_block
            layer_channels = [hidden + skip_channels.pop() for hidden in layer_channels]
            up_block = block(layer_channels, channels, (layers_per_block + 1) * attends)
            if len(self.up_blocks) < num_resamplers:
                up_block.upsamplers.append(Upsample(channels))
            self.up_blocks.append(up_block)
            hidden_channels = channels

        self.conv_norm_out = FrameNorm(norm_num_groups, first, norm_eps)
        self.conv_out = SpatialConv(first, out_channels, 3, padding=1)
        self.conv_condition = None
        if condition_channels:
            self.conv_condition = SpatialConv(condition_channels, first, 3, padding=1, bias=False)
            nn.init.zeros_(self.conv_condition.weight)
        self.step_embedding = StepSizeEmbedding(first, temb_dim) if step_size_embedding else None

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        *,
        timestep_cond: Tensor | None = None,
        condition: Tensor | None = None,
        step_size: Tensor | float | None = None,
        cache: FeatureCache | None = None,
    ) -> DenoiserOutput | tuple[Tensor]:
        """Predicts what the scheduler asks for from noisy latents.

        Args:
            sample: (B, C, f, h, w), noisy latents, scaled as the scheduler asks; any f, h and w will do.
            timestep: diffusion time, a number or (B,), in [0, 1000) for the public weights.
            encoder_hidden_states: (N, L, D), the text, or what `text_context` made of it. N is B or a
                multiple: prompt n goes with sample n % B, and what precedes the first attention to the text
                is computed once for all of them.
            encoder_attention_mask: (N, L) bool, True for the tokens to attend to; None attends to all.
            return_dict: whether to return a `DenoiserOutput`, or a tuple of one tensor.
            timestep_cond: (B, `time_cond_proj_dim`), added to the time embedding after a projection.
            condition: what is known of the clips, (B, `condition_channels`, f, h, w), the same at all noise
                levels. None is nothing known, and equals zeros.
            step_size: how far the next step goes: a number or (B,) in [0, 1], as a share of the way from
                noise to clip. None equals 0.
            cache: what earlier steps have kept, of use where no gradients are recorded. `deep` is all between
                the layers of the finest resolution on the way down and those on the way up.

        Returns:
            The prediction, `sample` (N, C, f, h, w).

        Raises:
            ValueError: if the shapes do not fit each other or the network, or a cache is given while
                gradients are recorded.
        """
        self._check_inputs(sample, timestep, timestep_cond)
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        check_prompts_fit(text.num_prompts, len(sample))
        known = checked_condition(condition, sample, self.config["condition_channels"])
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        temb = sinusoidal_embedding(timesteps, self.time_dim).to(sample.dtype)
        temb = add_step_size(self.time_embedding(temb, timestep_cond), self.step_embedding, step_size)
        temb = self.act(temb)  # (B, T), once for all resnets

        hidden_states = self.conv_in(sample.permute(0, 2, 3, 4, 1))  # (B, f, h, w, C)
        if known is not None and self.conv_condition is not None:
            hidden_states = hidden_states + self.conv_condition(known.permute(0, 2, 3, 4, 1))
        hidden_states = self.transformer_in(hidden_states, cache)

        skips = [hidden_states]

        def down(block: UNetBlock, hidden_states: Tensor) -> Tensor:
            for layer_idx in range(len(block.resnets)):
                hidden_states = block(layer_idx, hidden_states, None, temb, text, cache)
                skips.append(hidden_states)
            return hidden_states

        def up(block: UNetBlock, hidden_states: Tensor) -> Tensor:
            for layer_idx in range(len(block.resnets)):
                hidden_states = block(layer_idx, hidden_states, skips.pop(), temb, text, cache)
            return hidden_states

        down_blocks = [cast(UNetBlock, block) for block in self.down_blocks]
        up_blocks = [cast(UNetBlock, block) for block in self.up_blocks]

        def deep(hidden_states: Tensor) -> Tensor:
            for finer, block in pairwise(down_blocks):
                hidden_states = finer.downsamplers[0](hidden_states)
                skips.append(hidden_states)
                hidden_states = down(block, hidden_states)
            for layer_idx in range(len(self.mid_block.resnets)):
                hidden_states = self.mid_block(layer_idx, hidden_states, None, temb, text, cache)
            for block in up_blocks[:-1]:
                hidden_states = up(block, hidden_states)
                hidden_states = block.upsamplers[0](hidden_states, size=skips[-1].shape[2:4])
            return hidden_states

        hidden_states = down(down_blocks[0], hidden_states)
        hidden_states = reuse(cache, "deep", self, text.num_prompts, partial(deep, hidden_states))
        hidden_states = up(up_blocks[-1], hidden_states)

        hidden_states = self.conv_out(F.silu(self.conv_norm_out(hidden_states)))
        model_pred = hidden_states.permute(0, 4, 1, 2, 3)  # (B, C, f, h, w)
        return DenoiserOutput(sample=model_pred) if return_dict else (model_pred,)

    @apply_forward_hook
    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepares prompts for any number of steps.

        Args:
            encoder_hidden_states: (N, L, D), the text.
            encoder_attention_mask: (N, L) bool, True for the tokens to attend to; None attends to all.

        Raises:
            ValueError: if the shapes do not fit each other or the network.
        """
        text, mask = encoder_hidden_states, encoder_attention_mask
        if text.ndim != 3 or text.shape[2] != self.cross_attention_dim or 0 in text.shape:
            expected = f"(N, L, {self.cross_attention_dim}), not empty"
            raise ValueError(f"`encoder_hidden_states` must be {expected}, got {tuple(text.shape)}")
        if mask is not None and (mask.shape != text.shape[:2] or mask.dtype != torch.bool):
            expected = f"{tuple(text.shape[:2])} torch.bool, as `encoder_hidden_states`"
            raise ValueError(
                f"`encoder_attention_mask` must be {expected}, got {tuple(mask.shape)} {mask.dtype}"
            )
        spatial = [module for module in self.modules() if isinstance(module, SpatialTransformer)]
        blocks = [cast(TransformerBlock, block) for module in spatial for block in module.transformer_blocks]
        keys_values: dict[nn.Module, tuple[Tensor, Tensor]] = {
            block.attn2: block.attn2.keys_values(text) for block in blocks
        }
        return TextContext(len(text), keys_values, None if mask is None else mask[:, None, None])

    def _check_inputs(self, sample: Tensor, timestep: Tensor | float, timestep_cond: Tensor | None) -> None:
        B, C = len(sample), self.in_channels
        if sample.ndim != 5 or sample.shape[1] != C or 0 in sample.shape:
            raise ValueError(f"`sample` must be ({B}, {C}, f, h, w), not empty, got {tuple(sample.shape)}")
        if isinstance(timestep, Tensor) and timestep.shape not in {(), (1,), (B,)}:
            raise ValueError(f"`timestep` must be a number or ({B},), got {tuple(timestep.shape)}")
        if timestep_cond is not None and timestep_cond.shape != (B, self.time_cond_proj_dim):
            expected = f"({B}, time_cond_proj_dim={self.time_cond_proj_dim})"
            raise ValueError(f"`timestep_cond` must be {expected}, got {tuple(timestep_cond.shape)}")


def _check_config(config: Mapping[str, Any]) -> None:
    lists = ("block_out_channels", "down_block_types", "up_block_types")
    for name in lists:
        if not isinstance(config[name], list | tuple):
            raise ValueError(f"`{name}` must be a list, got {config[name]!r}")
    _check_choices("down_block_types", config["down_block_types"], DOWN_BLOCK_TYPES)
    _check_choices("up_block_types", config["up_block_types"], UP_BLOCK_TYPES)
    _check_choices("act_fn", [config["act_fn"]], list(ACTIVATIONS))
    _check_choices("downsample_padding", [config["downsample_padding"]], (0, 1))
    for name in ("in_channels", "out_channels", "layers_per_block", "norm_num_groups"):
        _check_counts(name, config[name])
    for name in ("cross_attention_dim", "attention_head_dim"):
        _check_counts(name, config[name])
    _check_counts("block_out_channels", *config["block_out_channels"])
    check_condition_channels(config["condition_channels"])
    if config["time_cond_proj_dim"] is not None:
        _check_counts("time_cond_proj_dim", config["time_cond_proj_dim"])
    size = config["sample_size"]
    if size is not None:
        if isinstance(size, list | tuple) and len(size) != 2:
            raise ValueError(f"`sample_size` must be a number, or height and width, got {size!r}")
        _check_counts("sample_size", *size if isinstance(size, list | tuple) else [size])
    for name in ("norm_eps", "mid_block_scale_factor"):
        if not isinstance(config[name], int | float) or not 0 < config[name] < float("inf"):
            raise ValueError(f"`{name}` must be a finite number above 0, got {config[name]!r}")
    if len({len(config[name]) for name in lists}) > 1 or not config["block_out_channels"]:
        shown = ", ".join(str(len(config[name])) for name in lists)
        raise ValueError(
            "`block_out_channels`, `down_block_types` and `up_block_types` must be equally long, not empty, "
            f"got {shown} entries"
        )
    _check_channels(config)


def _check_choices(name: str, values: Iterable[object], choices: Collection[object]) -> None:
    for value in values:
        if value not in choices:
            raise ValueError(f"`{name}` must be chosen from {list(choices)}, got {value!r}")


def _check_counts(name: str, *values: object) -> None:
    for value in values:
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}")


def _check_channels(config: Mapping[str, Any]) -> None:
    groups, head_dim = config["norm_num_groups"], config["attention_head_dim"]
    down_attends = [DOWN_BLOCK_TYPES[block_type] for block_type in config["down_block_types"]]
    up_attends = [UP_BLOCK_TYPES[block_type] for block_type in config["up_block_types"]]
    up_attends[0] = True  # the middle block always attends, with the coarsest channels
    for size, down, up in zip(config["block_out_channels"], down_attends, reversed(up_attends), strict=True):
        if size % groups:
            raise ValueError(
                f"`block_out_channels` must be multiples of norm_num_groups={groups}, got {size}"
            )
        if (down or up) and size % head_dim:
            raise ValueError(
                "`block_out_channels` of blocks with attention must be multiples of "
                f"attention_head_dim={head_dim}, got {size}"
            )
