"""The embedded denoiser: convolutions at full latent resolution around a Transformer over space and time.

After U-ViT of "simple diffusion" (Hoogeboom et al. 2023, arXiv:2301.11093): most weights sit in a Transformer
at half the resolution, where joint attention over every frame is cheap; temporal convolutions stand beside
the spatial ones. Its blocks follow DiT and PixArt (Peebles and Xie 2022, arXiv:2212.09748; Chen et al. 2023,
arXiv:2310.00426): one shared modulation by time and prompt, a learned offset of it per block, and
cross-attention to the words; rotary positions (Su et al. 2021, arXiv:2104.09864) beside random Fourier
features of the place (Tancik et al. 2020, arXiv:2006.10739) make frame counts and sizes free. The features
mix time, height and width, so that a prompt has to act on one vector to say where a thing is when; with
features of each axis by itself the network hardly ever finds motion. What attention places, convolutions
within every second block (`token_convs`) draw.

The prediction is a velocity, preconditioned as in EDM (Karras et al. 2022, arXiv:2206.00364, section 5), with
the factors that its derivation gives for straight paths: noise need not be copied through the network, and at
high noise the loss speaks of the clip alone.

Residual branches start at zero through their last layer, not through their gates, which start at one: a gate
of zero is learned far more slowly than a matrix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from videogen.models.attention import attention
from videogen.models.embeddings import TimestepEmbedding, sinusoidal_embedding
from videogen.models.output import DenoiserOutput
from videogen.models.step_cache import FeatureCache, reuse
from videogen.models.text_context import TextContext, check_prompts_fit, repeat_for_prompts

_PATCH = 2  # latent cells per token, each way
_TIME_CHANNELS = 256
_ROTARY_BASE = 100.0  # clips are tens of tokens a side
_POSITION_FREQUENCIES = 96
_POSITION_BANDWIDTH = 0.8  # radians per token: periods of a few tokens and more


class UViT3D(ModelMixin, ConfigMixin):
    """A denoiser for latent clips with joint space-time attention.

    Args:
        in_channels: Channels of the latents.
        conv_dim: Channels of the convolutional stages.
        num_conv_blocks: Residual blocks before and, again, after the Transformer.
        hidden_size: Width D of the Transformer.
        num_layers: Blocks of the Transformer.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        token_convs: Whether every second block of the Transformer also convolves its tokens. Outlines come
            out far better; a network that has learned without can be given them (`with_token_convs`).

    Raises:
        ValueError: If the width of a head is not a multiple of 8.
    """

    position_frequencies: Tensor

    cache_kinds = ("deep", "spatial", "text")
    _supports_gradient_checkpointing = True
    _repeated_blocks = ["TransformerBlock"]  # noqa: RUF012 - as diffusers declares it

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        conv_dim: int = 64,
        num_conv_blocks: int = 1,
        hidden_size: int = 256,
        num_layers: int = 6,
        num_attention_heads: int = 4,
        cross_attention_dim: int = 256,
        token_convs: bool = False,
    ) -> None:
        super().__init__()
        if num_attention_heads < 1 or hidden_size % (8 * num_attention_heads):
            raise ValueError(
                "`hidden_size / num_attention_heads` must be a multiple of 8, "
                f"got {hidden_size} and {num_attention_heads}"
            )
        self.gradient_checkpointing = False
        self.time_embedding = TimestepEmbedding(_TIME_CHANNELS, hidden_size)
        self.text_embedding = nn.Linear(cross_attention_dim, hidden_size)
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)

        self.conv_in = nn.Conv2d(in_channels, conv_dim, 3, padding=1)
        self.down_blocks = nn.ModuleList(ConvBlock(conv_dim, hidden_size) for _ in range(num_conv_blocks))
        self.proj_in = nn.Linear(conv_dim * _PATCH**2, hidden_size)
        self.position_embedding = nn.Linear(2 * _POSITION_FREQUENCIES, hidden_size)
        frequencies = torch.randn(3, _POSITION_FREQUENCIES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("position_frequencies", _POSITION_BANDWIDTH * frequencies)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                hidden_size,
                num_attention_heads,
                cross_attention_dim,
                token_conv=token_convs and layer % 2 == 1,
            )
            for layer in range(num_layers)
        )
        self.proj_out = nn.Linear(hidden_size, conv_dim * _PATCH**2)
        self.up_blocks = nn.ModuleList(ConvBlock(conv_dim, hidden_size) for _ in range(num_conv_blocks))
        self.norm_out = nn.GroupNorm(8, conv_dim)
        self.conv_out = nn.Conv2d(conv_dim, in_channels, 3, padding=1)
        for parameter in (*self.modulation.parameters(), *self.conv_out.parameters()):
            nn.init.zeros_(parameter)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor | TextContext,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
        *,
        cache: FeatureCache | None = None,
    ) -> DenoiserOutput | tuple[Tensor]:
        """Predict the velocity `noise - latents` of noisy latents `(1 - t) latents + t noise`.

        Args:
            sample: Noisy latents `(B, C, f, h, w)` of about unit variance; any f, h and w.
            timestep: 1000 t, scalar or `(B,)`, in [0, 1000].
            encoder_hidden_states: Prompt embeddings `(N, L, D)`, or what `text_context` made of them. N is B
                or a multiple: prompt n goes with sample n % B.
            encoder_attention_mask: `(N, L)` bool, True where there is a word; all of them by default.
            return_dict: Whether to return a `DenoiserOutput` rather than a tuple.
            cache: What earlier steps have kept, of use where no gradients are recorded. `deep` is the
                Transformer, `spatial` its attention among all tokens.

        Returns:
            The prediction, `(N, C, f, h, w)`.

        Raises:
            ValueError: If a shape does not fit, or a cache is given while gradients are recorded.
        """
        channels = self.config["in_channels"]
        if sample.ndim != 5 or sample.shape[1] != channels:
            raise ValueError(f"`sample` must be (B, {channels}, f, h, w), got {tuple(sample.shape)}")
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = self.text_context(text, encoder_attention_mask)
        check_prompts_fit(text.num_prompts, len(sample))
        num_frames, height, width = sample.shape[2:]
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        skip_scale, out_scale = flow_preconditioning(timesteps / 1000)
        time = self.time_embedding(sinusoidal_embedding(timesteps, _TIME_CHANNELS).to(sample.dtype))
        assert text.pooled is not None
        condition = F.silu(repeat_for_prompts(time, text.num_prompts) + text.pooled)
        frame_condition = condition.repeat_interleave(num_frames, dim=0)

        scaled = sample * _per_clip(out_scale, sample)  # to unit variance
        frames = scaled.transpose(1, 2).flatten(0, 1)  # (B*f, C, h, w)
        frames = F.pad(frames, (0, width % _PATCH, 0, height % _PATCH), mode="replicate")
        frames = frames.contiguous(memory_format=_memory_format(frames))
        hidden_states = repeat_for_prompts(self.conv_in(frames), text.num_prompts * num_frames)
        for block in self.down_blocks:
            hidden_states = block(hidden_states, frame_condition, num_frames)
        skip = hidden_states
        hidden_states = skip + reuse(
            cache, "deep", self, len(skip), lambda: self._transform(skip, condition, text, cache)
        )
        for block in self.up_blocks:
            hidden_states = block(hidden_states, frame_condition, num_frames)
        hidden_states = self.conv_out(F.silu(self.norm_out(hidden_states)))[..., :height, :width]
        output = hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2)
        output = output.unflatten(0, (-1, len(sample)))  # (N / B, B, C, f, h, w)
        prediction = _per_clip(skip_scale, sample) * sample + _per_clip(out_scale, sample) * output
        prediction = prediction.flatten(0, 1)
        return DenoiserOutput(sample=prediction) if return_dict else (prediction,)

    def _transform(
        self, hidden_states: Tensor, condition: Tensor, text: TextContext, cache: FeatureCache | None
    ) -> Tensor:
        """What the Transformer adds to hidden_states `(N*f, c, h, w)`; condition `(N, D)`."""
        num_frames = len(hidden_states) // text.num_prompts
        rows, columns = hidden_states.shape[2] // _PATCH, hidden_states.shape[3] // _PATCH
        tokens = self.proj_in(to_patches(hidden_states))  # (N*f, rows, columns, D)
        tokens = tokens.reshape(text.num_prompts, num_frames * rows * columns, -1)
        places = token_places(num_frames, rows, columns, tokens.device)
        phases = places @ self.position_frequencies.float()
        features = torch.cat([phases.cos(), phases.sin()], dim=-1).to(tokens.dtype)
        tokens = tokens + self.position_embedding(features)
        rotations = rotary_factors(places, self._head_dim)
        modulation = self.modulation(condition).unflatten(-1, (6, -1))  # (N, 6, D)
        for block in self.blocks:
            arguments = (tokens, modulation, text, rotations, condition, (num_frames, rows, columns), cache)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = self._gradient_checkpointing_func(block, *arguments)
            else:
                tokens = block(*arguments)
        tokens = self.proj_out(F.layer_norm(tokens, tokens.shape[-1:]))
        return from_patches(tokens.reshape(-1, rows, columns, tokens.shape[-1]), hidden_states)

    def with_token_convs(self) -> UViT3D:
        """A copy with `token_convs`, which predicts the same until it is trained."""
        sizes = {name: value for name, value in self.config.items() if not name.startswith("_")}
        grown = UViT3D(**{**sizes, "token_convs": True})
        grown.load_state_dict({**grown.state_dict(), **self.state_dict()})
        return grown

    @property
    def _head_dim(self) -> int:
        return int(self.config["hidden_size"]) // int(self.config["num_attention_heads"])

    def text_context(
        self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor | None = None
    ) -> TextContext:
        """Prepare prompts for any number of steps.

        Args:
            encoder_hidden_states: Prompt embeddings `(N, L, D)`.
            encoder_attention_mask: `(N, L)` bool, True where there is a word; all of them by default.

        Raises:
            ValueError: If a shape does not fit.
        """
        text, mask = encoder_hidden_states, encoder_attention_mask
        text_dim = self.config["cross_attention_dim"]
        if text.ndim != 3 or text.shape[2] != text_dim:
            raise ValueError(f"`encoder_hidden_states` must be (N, L, {text_dim}), got {tuple(text.shape)}")
        if mask is None:
            mask = text.new_ones(text.shape[:2], dtype=torch.bool)
        weights = mask.to(text.dtype)[..., None]
        mean = (text * weights).sum(1) / weights.sum(1).clamp(min=1)
        blocks = [block for block in self.blocks if isinstance(block, TransformerBlock)]
        keys_values: dict[nn.Module, tuple[Tensor, Tensor]] = {b: b.keys_values(text) for b in blocks}
        return TextContext(len(text), keys_values, mask[:, None, None], self.text_embedding(mean))


class ConvBlock(nn.Module):
    """Two 3x3 convolutions on each frame, one over three frames at each place; starts as the identity."""

    def __init__(self, dim: int, condition_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, dim)
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.modulation = nn.Linear(condition_dim, 2 * dim)
        self.norm2 = nn.GroupNorm(8, dim, affine=False)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm3 = nn.GroupNorm(8, dim)
        self.conv_time = nn.Conv2d(dim, dim, (3, 1), padding=(1, 0))  # over (f, h * w)
        for layer in (self.modulation, self.conv2, self.conv_time):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, hidden_states: Tensor, condition: Tensor, num_frames: int) -> Tensor:
        """Map hidden_states `(B*f, c, h, w)` to the same shape; condition `(B*f, D)`."""
        shift, scale = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        inner = self.norm2(self.conv1(F.silu(self.norm1(hidden_states))))
        hidden_states = hidden_states + self.conv2(F.silu(inner * (1 + scale) + shift))
        rows, columns = hidden_states.shape[2:]
        courses = F.silu(self.norm3(hidden_states)).permute(0, 2, 3, 1)
        courses = courses.reshape(-1, num_frames, rows * columns, courses.shape[-1]).permute(0, 3, 1, 2)
        courses = self.conv_time(courses)  # (B, c, f, h*w), channels last
        courses = courses.permute(0, 2, 3, 1).reshape(-1, rows, columns, courses.shape[1])
        return hidden_states + courses.permute(0, 3, 1, 2)


class TransformerBlock(nn.Module):
    """Self-attention over all tokens, cross-attention to the words, convolutions if asked for, and an MLP.

    Queries and keys are normalised (Dehghani et al. 2023, arXiv:2302.05442, section 2), which keeps attention
    soft under large steps.
    """

    def __init__(
        self, hidden_size: int, num_attention_heads: int, cross_attention_dim: int, token_conv: bool = False
    ) -> None:
        super().__init__()
        head_dim = hidden_size // num_attention_heads
        self.num_attention_heads = num_attention_heads
        table = torch.zeros(6, hidden_size)
        table[[2, 5]] = 1.0  # the gates
        self.modulation_table = nn.Parameter(table)
        self.to_qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.norm_q = nn.LayerNorm(head_dim)
        self.norm_k = nn.LayerNorm(head_dim)
        self.to_out = nn.Linear(hidden_size, hidden_size)
        self.cross_to_q = nn.Linear(hidden_size, hidden_size)
        self.cross_to_kv = nn.Linear(cross_attention_dim, 2 * hidden_size)
        self.cross_to_out = nn.Linear(hidden_size, hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, 4 * hidden_size), nn.GELU(), nn.Linear(4 * hidden_size, hidden_size)
        )
        self.token_conv = ConvBlock(hidden_size, hidden_size) if token_conv else None
        for layer in (self.to_out, self.cross_to_out, self.mlp[2]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        hidden_states: Tensor,
        modulation: Tensor,
        text: TextContext,
        rotations: Tensor,
        condition: Tensor,
        grid: tuple[int, int, int],
        cache: FeatureCache | None = None,
    ) -> Tensor:
        """Map `(B, N, D)` to the same shape, given the modulation `(B, 6, D)` and B prompts.

        The N tokens are a grid of frames, rows and columns; the convolutions see the condition `(B, D)`.
        """
        modulation = (modulation + self.modulation_table)[:, :, None]  # (B, 6, 1, D)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(1)
        num_rows = len(hidden_states)
        attended = reuse(
            cache,
            "spatial",
            self,
            num_rows,
            lambda: self._attend(_modulate(hidden_states, shift1, scale1), rotations),
        )
        hidden_states = torch.addcmul(hidden_states, gate1, attended)
        hidden_states = hidden_states + reuse(
            cache, "text", self, num_rows, lambda: self._attend_to_text(hidden_states, text)
        )
        hidden_states = self._convolve(hidden_states, condition, grid)
        return torch.addcmul(hidden_states, gate2, self.mlp(_modulate(hidden_states, shift2, scale2)))

    def _attend(self, hidden_states: Tensor, rotations: Tensor) -> Tensor:
        projected = self.to_qkv(hidden_states)
        query, key, value = (self._heads(part) for part in projected.chunk(3, -1))
        query, key = rotate(self.norm_q(query), rotations), rotate(self.norm_k(key), rotations)
        return self.to_out(attention(query, key, value).transpose(1, 2).flatten(2))

    def _attend_to_text(self, hidden_states: Tensor, text: TextContext) -> Tensor:
        query = self._heads(self.cross_to_q(F.layer_norm(hidden_states, hidden_states.shape[-1:])))
        attended = attention(query, *text.keys_values[self], text.mask).transpose(1, 2).flatten(2)
        return self.cross_to_out(attended)

    def _convolve(self, hidden_states: Tensor, condition: Tensor, grid: tuple[int, int, int]) -> Tensor:
        if self.token_conv is None:
            return hidden_states
        num_frames, rows, columns = grid
        frames = hidden_states.reshape(-1, rows, columns, hidden_states.shape[-1]).permute(0, 3, 1, 2)
        condition = condition.repeat_interleave(num_frames, dim=0)
        frames = frames.contiguous(memory_format=_memory_format(frames))
        frames = self.token_conv(frames, condition, num_frames)  # (B*f, D, rows, columns)
        return frames.permute(0, 2, 3, 1).reshape(hidden_states.shape)

    def keys_values(self, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of words `(B, L, D_text)` for the cross-attention, `(B, heads, L, d)` each."""
        key, value = self.cross_to_kv(encoder_hidden_states).chunk(2, -1)
        return self._heads(key), self._heads(value)

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)  # (B, heads, N, d)


def _modulate(hidden_states: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(hidden_states, hidden_states.shape[-1:]), 1 + scale)


def flow_preconditioning(times: Tensor) -> tuple[Tensor, Tensor]:
    """Factors `c_skip` and `c_out` of the velocity `c_skip x_t + c_out F(c_in x_t)`, for times `(B,)`.

    Derived as in Karras et al. 2022 (eqs. 117, 131 and 138), for `x_t = (1 - t) x + t noise` with x of unit
    variance, t in [0, 1], and the target `noise - x`: `c_skip = (2t - 1) / s` and `c_out = 1 / sqrt(s)`,
    where `s = t^2 + (1 - t)^2` is the variance of `x_t`. `c_in`, which scales the input to unit variance,
    equals `c_out`. The network's own target has unit variance: minus the clip at t = 1, the noise at t = 0.
    """
    times = times.float()
    variance = times.square() + (1 - times).square()
    return (2 * times - 1) / variance, variance.rsqrt()


def _memory_format(frames: Tensor) -> torch.memory_format:
    """Channels last where convolutions compute in half precision: there they are twice as fast with it."""
    device = frames.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else frames.dtype
    return torch.contiguous_format if dtype == torch.float32 else torch.channels_last


def to_patches(frames: Tensor) -> Tensor:
    """Frames `(N, c, h, w)` as `(N, h / 2, w / 2, 4c)`: `F.pixel_unshuffle` with the channels last."""
    cells = frames.permute(0, 2, 3, 1).unflatten(2, (-1, _PATCH)).unflatten(1, (-1, _PATCH))
    return cells.permute(0, 1, 3, 5, 2, 4).flatten(3)


def from_patches(patches: Tensor, like: Tensor) -> Tensor:
    """The inverse of `to_patches`, in the memory format of frames `like`."""
    cells = patches.unflatten(3, (-1, _PATCH, _PATCH))  # (N, rows, columns, c, 2, 2)
    cells = cells.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)  # (N, h, w, c)
    return cells.permute(0, 3, 1, 2).contiguous(memory_format=_memory_format(like))


def _per_clip(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, None, None, None, None]


def token_places(num_frames: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """`(f * rows * columns, 3)` float32: frame, row and column of each token."""
    counts = [
        torch.arange(count, device=device, dtype=torch.float32) for count in (num_frames, rows, columns)
    ]
    return torch.cartesian_prod(*counts)


def rotary_factors(places: Tensor, head_dim: int) -> Tensor:
    """Cosines and sines `(2, N, head_dim / 2)` for places `(N, 3)`: a quarter of them for time."""
    num_pairs = head_dim // 2
    num_time = num_pairs // 4
    num_rows = (num_pairs - num_time) // 2
    angles = []
    for axis, count in enumerate((num_time, num_rows, num_pairs - num_time - num_rows)):
        steps = torch.arange(count, device=places.device, dtype=torch.float32)
        angles.append(places[:, axis, None] * _ROTARY_BASE ** -(steps / count))
    phases = torch.cat(angles, dim=1)
    return torch.stack([phases.cos(), phases.sin()])


def rotate(states: Tensor, rotations: Tensor) -> Tensor:
    """Turn neighbouring channel pairs of states `(B, heads, N, d)` by the rotary factors."""
    cosines, sines = rotations.to(states.dtype)
    first, second = states.unflatten(-1, (-1, 2)).unbind(-1)
    turned = first * cosines - second * sines, first * sines + second * cosines
    return torch.stack(turned, dim=-1).flatten(-2)
