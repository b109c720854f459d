"""What the networks over tokens share: places, blocks that read a prompt, and the way to tokens and back.

Positions are rotary (Su et al. 2021, arXiv:2104.09864) beside random Fourier features of the place (Tancik et
al. 2020, arXiv:2006.10739), so frame counts and sizes are free. The features mix time, height and width, so
that a prompt has to act on one vector to say where a thing is when.

Residual branches start at zero through their last layer, not through their gates, which start at one: a gate
of zero is learned far more slowly than a matrix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from videogen.models.attention import attention, attention_with_weights
from videogen.models.step_cache import FeatureCache, reuse
from videogen.models.text_context import TextContext

PATCH = 2
"""Latent cells per token, each way."""

POSITION_FREQUENCIES = 96
_POSITION_BANDWIDTH = 0.8  # radians per token: periods of a few tokens and more
_ROTARY_BASE = 100.0  # clips are tens of tokens a side


def patchify(latents: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """Latents `(B, C, f, h, w)` as tokens `(B, N, 4 C)`, and their grid of frames, rows and columns.

    Odd sizes are filled up with copies of the last cells.
    """
    num_frames, height, width = latents.shape[2:]
    frames = latents.transpose(1, 2).flatten(0, 1)  # (B*f, C, h, w)
    frames = F.pad(frames, (0, width % PATCH, 0, height % PATCH), mode="replicate")
    patches = to_patches(frames)  # (B*f, rows, columns, 4C)
    tokens = patches.reshape(len(latents), -1, patches.shape[-1])
    return tokens, (num_frames, *patches.shape[1:3])


def unpatchify(tokens: Tensor, grid: tuple[int, int, int], height: int, width: int) -> Tensor:
    """The latents `(B, C, f, h, w)` of tokens `(B, N, 4 C)`."""
    num_frames, rows, columns = grid
    frames = from_patches(tokens.reshape(-1, rows, columns, tokens.shape[-1]))[..., :height, :width]
    return frames.unflatten(0, (-1, num_frames)).transpose(1, 2)


def to_patches(frames: Tensor) -> Tensor:
    """Frames `(N, c, h, w)` as `(N, h / 2, w / 2, 4c)`: `F.pixel_unshuffle` with the channels last."""
    cells = frames.permute(0, 2, 3, 1).unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH))
    return cells.permute(0, 1, 3, 5, 2, 4).flatten(3)


def from_patches(patches: Tensor) -> Tensor:
    """The inverse of `to_patches`, as convolutions like it."""
    cells = patches.unflatten(3, (-1, PATCH, PATCH))  # (N, rows, columns, c, 2, 2)
    cells = cells.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)  # (N, h, w, c)
    return for_convolution(cells.permute(0, 3, 1, 2))


def for_convolution(frames: Tensor) -> Tensor:
    """Frames `(N, c, h, w)` in the memory format in which convolutions of their precision are fastest.

    That is channels last in half precision, where they take half the time with it.
    """
    device = frames.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else frames.dtype
    in_full = dtype == torch.float32
    return frames.contiguous(memory_format=torch.contiguous_format if in_full else torch.channels_last)


def grid_of(size: tuple[int, int, int]) -> tuple[int, int, int]:
    """The grid of tokens of latents of f frames, height h and width w."""
    num_frames, height, width = size
    return num_frames, -(-height // PATCH), -(-width // PATCH)


def random_frequencies() -> Tensor:
    """The frequencies `(3, POSITION_FREQUENCIES)` of `fourier_features`, the same ones always."""
    generator = torch.Generator().manual_seed(0)
    return _POSITION_BANDWIDTH * torch.randn(
        3, POSITION_FREQUENCIES, generator=generator, device="cpu", dtype=torch.float32
    )


def fourier_features(places: Tensor, frequencies: Tensor) -> Tensor:
    """Cosines and sines `(N, 2 POSITION_FREQUENCIES)` float32 of places `(N, 3)`."""
    phases = places @ frequencies.float()
    return torch.cat([phases.cos(), phases.sin()], dim=-1)


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
        output_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Map `(B, N, D)` to the same shape, given the modulation `(B, 6, D)` and B prompts.

        The N tokens are a grid of frames, rows and columns; the convolutions see the condition `(B, D)`. With
        `output_attention`, the mean weights `(B, N, L)` of the heads for the L words come too; there must be
        no cache then.
        """
        modulation = (modulation + self.modulation_table)[:, :, None]  # (B, 6, 1, D)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(1)
        num_rows = len(hidden_states)
        attended = reuse(
            cache,
            "spatial",
            self,
            num_rows,
            lambda: self._attend(modulate(hidden_states, shift1, scale1), rotations),
        )
        hidden_states = torch.addcmul(hidden_states, gate1, attended)
        weights = None
        if output_attention:
            read, weights = self._attend_to_text_with_weights(hidden_states, text)
        else:
            read = reuse(cache, "text", self, num_rows, lambda: self._attend_to_text(hidden_states, text))
        hidden_states = self._convolve(hidden_states + read, condition, grid)
        output = torch.addcmul(hidden_states, gate2, self.mlp(modulate(hidden_states, shift2, scale2)))
        return output if weights is None else (output, weights)

    def _attend(self, hidden_states: Tensor, rotations: Tensor) -> Tensor:
        projected = self.to_qkv(hidden_states)
        query, key, value = (self._heads(part) for part in projected.chunk(3, -1))
        query, key = rotate(self.norm_q(query), rotations), rotate(self.norm_k(key), rotations)
        return self.to_out(attention(query, key, value).transpose(1, 2).flatten(2))

    def _attend_to_text(self, hidden_states: Tensor, text: TextContext) -> Tensor:
        attended = attention(self._text_query(hidden_states), *text.keys_values[self], text.mask)
        return self.cross_to_out(attended.transpose(1, 2).flatten(2))

    def _attend_to_text_with_weights(self, hidden_states: Tensor, text: TextContext) -> tuple[Tensor, Tensor]:
        query = self._text_query(hidden_states)
        attended, weights = attention_with_weights(query, *text.keys_values[self], text.mask)
        return self.cross_to_out(attended.transpose(1, 2).flatten(2)), weights.float().mean(1)

    def _text_query(self, hidden_states: Tensor) -> Tensor:
        return self._heads(self.cross_to_q(F.layer_norm(hidden_states, hidden_states.shape[-1:])))

    def _convolve(self, hidden_states: Tensor, condition: Tensor, grid: tuple[int, int, int]) -> Tensor:
        if self.token_conv is None:
            return hidden_states
        num_frames, rows, columns = grid
        frames = hidden_states.reshape(-1, rows, columns, hidden_states.shape[-1]).permute(0, 3, 1, 2)
        condition = condition.repeat_interleave(num_frames, dim=0)
        frames = self.token_conv(for_convolution(frames), condition, num_frames)  # (B*f, D, rows, columns)
        return frames.permute(0, 2, 3, 1).reshape(hidden_states.shape)

    def keys_values(self, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of words `(B, L, D_text)` for the cross-attention, `(B, heads, L, d)` each."""
        key, value = self.cross_to_kv(encoder_hidden_states).chunk(2, -1)
        return self._heads(key), self._heads(value)

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)  # (B, heads, N, d)


def modulate(hidden_states: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise hidden states and shift and scale them; all three broadcast."""
    return torch.addcmul(shift, F.layer_norm(hidden_states, hidden_states.shape[-1:]), 1 + scale)


class GridTransformer(nn.Module):
    """A Transformer over a grid of tokens that reads prompts: positions, one shared modulation, blocks.

    Args:
        hidden_size: Width D.
        num_layers: Blocks.
        num_attention_heads: Heads; `hidden_size / num_attention_heads` must be a multiple of 8.
        cross_attention_dim: Width of the prompt embeddings.
        token_convs: Whether every second block, the last among them, also convolves its tokens.

    Raises:
        ValueError: If the width of a head is not a multiple of 8.
    """

    position_frequencies: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_attention_heads: int,
        cross_attention_dim: int,
        token_convs: bool = True,
    ) -> None:
        super().__init__()
        check_head_dim(hidden_size, num_attention_heads)
        self.head_dim = hidden_size // num_attention_heads
        self.position_embedding = nn.Linear(2 * POSITION_FREQUENCIES, hidden_size)
        self.register_buffer("position_frequencies", random_frequencies(), persistent=False)
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                hidden_size,
                num_attention_heads,
                cross_attention_dim,
                token_conv=token_convs and (num_layers - layer) % 2 == 1,
            )
            for layer in range(num_layers)
        )
        for parameter in self.modulation.parameters():
            nn.init.zeros_(parameter)

    def positions(self, grid: tuple[int, int, int]) -> Tensor:
        """Embeddings `(N, D)` of the places of a grid."""
        places = token_places(*grid, self.position_frequencies.device)
        features = fourier_features(places, self.position_frequencies)
        return self.position_embedding(features.to(self.position_embedding.weight.dtype))

    def forward(
        self,
        tokens: Tensor,
        grid: tuple[int, int, int],
        text: TextContext,
        condition: Tensor,
        *,
        layers: slice = slice(None),
        cache: FeatureCache | None = None,
    ) -> Tensor:
        """Run blocks.

        Args:
            tokens: `(B, N, D)`, with their positions added.
            grid: Frames, rows and columns, of which there are N together.
            text: Of B prompts.
            condition: `(B, D)`, what modulates the blocks.
            layers: Which blocks; all by default.
            cache: What earlier steps have kept, of use where no gradients are recorded.
        """
        rotations = rotary_factors(token_places(*grid, tokens.device), self.head_dim)
        modulation = self.modulation(condition).unflatten(-1, (6, -1))  # (B, 6, D)
        for block in self.blocks[layers]:
            tokens = block(tokens, modulation, text, rotations, condition, grid, cache)
        return tokens


class LatentsHead(nn.Module):
    """From tokens to latents: a linear layer, and convolutions at the full resolution of the latents."""

    def __init__(self, hidden_size: int, out_channels: int, conv_dim: int, num_conv_blocks: int = 1) -> None:
        super().__init__()
        self.proj = nn.Linear(hidden_size, conv_dim * PATCH**2)
        self.blocks = nn.ModuleList(ConvBlock(conv_dim, hidden_size) for _ in range(num_conv_blocks))
        self.norm = nn.GroupNorm(8, conv_dim)
        self.conv_out = nn.Conv2d(conv_dim, out_channels, 3, padding=1)

    def forward(self, tokens: Tensor, size: tuple[int, int, int], condition: Tensor) -> Tensor:
        """Map tokens `(B, N, D)` to latents `(B, C, f, h, w)` of a size (f, h, w); condition `(B, D)`."""
        num_frames, height, width = size
        tokens = self.proj(F.layer_norm(tokens, tokens.shape[-1:]))
        frames = unpatchify(tokens, grid_of(size), height, width).transpose(1, 2).flatten(0, 1)
        condition = condition.repeat_interleave(num_frames, dim=0)
        for block in self.blocks:
            frames = block(for_convolution(frames), condition, num_frames)
        latents = self.conv_out(F.silu(self.norm(frames)))  # (B*f, C, h, w)
        return latents.unflatten(0, (-1, num_frames)).transpose(1, 2)


def prepare_text(
    network: ModelMixin,
    text_embedding: nn.Module,
    encoder_hidden_states: Tensor,
    encoder_attention_mask: Tensor | None = None,
) -> TextContext:
    """Prompts as all `TransformerBlock`s of a network read them, with their mean embedded.

    Args:
        network: Whose blocks.
        text_embedding: Embeds the mean of a prompt's tokens.
        encoder_hidden_states: Prompt embeddings `(N, L, D)`.
        encoder_attention_mask: `(N, L)` bool, True where there is a word; all of them by default.

    Raises:
        ValueError: If a shape does not fit.
    """
    text, mask = encoder_hidden_states, encoder_attention_mask
    text_dim = network.config["cross_attention_dim"]
    if text.ndim != 3 or text.shape[2] != text_dim:
        raise ValueError(f"`encoder_hidden_states` must be (N, L, {text_dim}), got {tuple(text.shape)}")
    if mask is None:
        mask = text.new_ones(text.shape[:2], dtype=torch.bool)
    weights = mask.to(text.dtype)[..., None]
    mean = (text * weights).sum(1) / weights.sum(1).clamp(min=1)
    blocks = [block for block in network.modules() if isinstance(block, TransformerBlock)]
    keys_values: dict[nn.Module, tuple[Tensor, Tensor]] = {b: b.keys_values(text) for b in blocks}
    return TextContext(len(text), keys_values, mask[:, None, None], text_embedding(mean))


def check_head_dim(hidden_size: int, num_attention_heads: int) -> None:
    """Raise ValueError unless heads have a width that rotary positions can be given to."""
    if num_attention_heads < 1 or hidden_size % (8 * num_attention_heads):
        raise ValueError(
            "`hidden_size / num_attention_heads` must be a multiple of 8, "
            f"got {hidden_size} and {num_attention_heads}"
        )


def check_latents(latents: Tensor, channels: int, name: str = "sample") -> None:
    """Raise ValueError unless latents are `(B, channels, f, h, w)`."""
    if latents.ndim != 5 or latents.shape[1] != channels:
        raise ValueError(f"`{name}` must be (B, {channels}, f, h, w), got {tuple(latents.shape)}")
