"""Low-rank adapters (LoRA) of the denoisers: training them through peft, their files, merging them.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, section 4.1: a
weight W becomes `W + scale * alpha / rank * B A`. For a convolution, A has its kernel and B is 1x1.

The file is the one that diffusers writes for a UNet, so that diffusers and peft load ours and we load theirs.
Only training needs peft: at generation adapters are merged into the weights.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from videogen.alignment import aligned
from videogen.files import written_whole
from videogen.models.lora_settings import METADATA, PEFT_CONFIG_NAME, PEFT_NAME, read_settings

if TYPE_CHECKING:
    from peft import LoraConfig

LORA_NAME = "pytorch_lora_weights.safetensors"
"""As diffusers names the file."""

TARGETS = re.compile(
    # UNet3D: projections of all attentions, and the convolutions across frames.
    r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)|.*temp_convs\.\d+\.conv[1-4]\.\d"
    # UViT3D: the same.
    r"|blocks\.\d+\.(cross_)?to_(qkv|q|kv|out)|.*\.conv_time"
)
"""Full names of the modules that are adapted."""

_PEFT_PREFIX = "base_model.model."
_PREFIX = re.compile(r"^(unet\.|base_model\.model\.)+")
# The two factors as peft names them, diffusers before peft, and kohya's scripts.
_HALVES = ((".lora_A", ".lora.down", ".lora_down"), (".lora_B", ".lora.up", ".lora_up"))
_FACTORS = {f"{name}.weight": half for half, names in enumerate(_HALVES) for name in names}
_KOHYA_PREFIX = "lora_unet_"  # before the name of a module, whose dots are underscores there
_ALPHA = ".alpha"
_FACTOR_DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
)


@dataclass(frozen=True)
class Lora:
    """Adapters as read from a file.

    Attributes:
        path: The file.
        factors: For each adapted module A and B, `(rank, ...)` and `(out, rank, ...)`.
        scales: For each of them, alpha / rank, or alpha / sqrt(rank) where they are rank-stabilised.
    """

    path: Path
    factors: Mapping[str, tuple[Tensor, Tensor]]
    scales: Mapping[str, float]


def add_lora(denoiser: nn.Module, rank: int, alpha: float | None = None) -> list[str]:
    """Freeze a denoiser and put adapters beside its attention projections and temporal convolutions.

    They change nothing at first, as B starts at zero. A is drawn from torch's global generator.

    Args:
        denoiser: A `UNet3D` or a `UViT3D`, changed in place.
        rank: Of the adapters.
        alpha: Their strength is alpha / rank; `rank` by default, for a strength of 1.

    Returns:
        Names of the adapted modules.

    Raises:
        ValueError: If the rank is below 1, alpha is not above 0, or peft is not installed.
    """
    if rank < 1:
        raise ValueError(f"`rank` of a LoRA must be at least 1, got {rank}")
    if alpha is not None and not 0 < alpha < math.inf:
        raise ValueError(f"`alpha` of a LoRA must be above 0, got {alpha}")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise ValueError("LoRA needs peft, which is not installed: pip install 'videogen[train]'") from error
    layers = (nn.Linear, nn.Conv2d, nn.Conv3d)
    names = [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, layers) and TARGETS.fullmatch(name)
    ]
    denoiser.requires_grad_(False)
    strength: Any = rank if alpha is None else alpha  # peft says int, and takes any number
    config = LoraConfig(r=rank, lora_alpha=strength, target_modules=names)
    inject_adapter_in_model(config, denoiser)
    denoiser._lora_config = config  # type: ignore[assignment]
    return names


def save_lora(denoiser: nn.Module, folder: str | Path) -> Path:
    """Write the adapters of a denoiser that went through `add_lora`; returns the file.

    Raises:
        OSError: If it cannot be written; an older file is then untouched.
    """
    from peft import get_peft_model_state_dict

    config: LoraConfig = denoiser._lora_config  # type: ignore[assignment]
    tensors = {
        f"unet.{name}": value.detach().cpu().contiguous()
        for name, value in get_peft_model_state_dict(denoiser, adapter_name="default").items()
    }
    settings = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "target_modules": sorted(config.target_modules or []),
    }
    metadata = {
        "format": "pt",
        METADATA: json.dumps({f"unet.{key}": value for key, value in settings.items()}, sort_keys=True),
    }
    path = Path(folder) / LORA_NAME
    with written_whole(path) as partial:
        save_file(tensors, partial, metadata)
    return path


def find_lora(path: str | Path) -> Path:
    """The file of adapters at `path`, a file or the folder that holds it, ours or peft's.

    Raises:
        ValueError: If there is none, or one of ours beside one of peft's.
    """
    folder = Path(path)
    if not folder.is_dir():
        if not folder.is_file():
            raise ValueError(f"no LoRA at {str(path)!r}: there is no such file or folder")
        return folder
    found = [folder / name for name in (LORA_NAME, PEFT_NAME) if (folder / name).is_file()]
    if not found:
        raise ValueError(
            f"no LoRA at {str(path)!r}: {folder / LORA_NAME} is missing, and {PEFT_NAME} of peft"
        )
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds both {LORA_NAME} and {PEFT_NAME}: give the file instead of the folder"
        )
    return found[0]


def lora_files(path: str | Path) -> list[Path]:
    """The file of adapters at `path`, and peft's configuration where it lies beside it.

    Raises:
        ValueError: See `find_lora`.
    """
    file = find_lora(path)
    return [name for name in (file, file.with_name(PEFT_CONFIG_NAME)) if name.is_file()]


def read_lora(path: str | Path) -> Lora:
    """Read adapters that we, diffusers, peft or kohya's scripts wrote.

    Args:
        path: The file, or the folder that holds `pytorch_lora_weights.safetensors` (diffusers' and ours) or
            `adapter_model.safetensors` with its `adapter_config.json` (peft's).

    Raises:
        ValueError: If it is missing, broken, holds anything but adapters of a denoiser, or does not say how
            strong they are.
    """
    file = find_lora(path)
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: aligned(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read as safetensors, it may be truncated: {error}") from error
    is_peft = file.name == PEFT_NAME or any(key.startswith(_PEFT_PREFIX) for key in tensors)
    settings = read_settings(file, header, is_peft=is_peft)
    factors, alphas = _read_factors(file, tensors)
    scales: dict[str, float] = {}
    for module, (a, _) in factors.items():
        rank, said = len(a), settings.rank_of(module)
        if said is not None and said != rank:
            raise ValueError(f"{file} holds adapters of rank {rank} for {module}, its settings say {said}")
        alpha = alphas.get(module, settings.alpha_of(module))
        if alpha is None and (is_peft or settings.use_rslora):
            raise ValueError(
                f"{file} does not say how strong its adapters are: put peft's {PEFT_CONFIG_NAME}, with its "
                "`lora_alpha`, beside it"
            )
        # Adapters that diffusers wrote without an alpha are as strong as they are.
        scales[module] = 1.0 if alpha is None else settings.scale(alpha, rank)
    return Lora(file, factors, scales)


def _read_factors(
    file: Path, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, float]]:
    """A and B of each module, and the alphas that are tensors of their own."""
    halves: dict[str, dict[int, Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        name = _PREFIX.sub("", key)
        ending = next((ending for ending in _FACTORS if name.endswith(ending)), None)
        if name.endswith(_ALPHA) and tensor.numel() == 1:
            alphas[name.removesuffix(_ALPHA)] = float(tensor.float())
        elif ending is None:
            raise ValueError(f"{file} is no LoRA of a denoiser: it holds {key}")
        elif tensor.dtype not in _FACTOR_DTYPES:
            raise ValueError(f"{file} holds {key} as {tensor.dtype}: save its factors as float32 or float16")
        elif tensor.dim() < 2 or 0 in tensor.shape:
            raise ValueError(
                f"{file} holds {key} of shape {tuple(tensor.shape)}, which is no factor of a LoRA"
            )
        else:
            halves.setdefault(name.removesuffix(ending), {})[_FACTORS[ending]] = tensor
        if not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(f"{file} holds NaN or infinity: {key}")
    incomplete = sorted(module for module, found in halves.items() if len(found) < 2)
    if not halves:
        raise ValueError(f"{file} holds no adapters")
    if incomplete:
        raise ValueError(f"{file} lacks half of the adapter of {incomplete[0]}")
    return {module: (found[0], found[1]) for module, found in halves.items()}, alphas


def adapted_weights(denoiser: nn.Module, lora: Lora) -> dict[str, Tensor]:
    """The weights of a denoiser that adapters change, by the names of the adapters.

    Raises:
        ValueError: If the adapters do not fit the denoiser.
    """
    modules = dict(denoiser.named_modules())
    modules |= {_KOHYA_PREFIX + name.replace(".", "_"): module for name, module in modules.items()}
    weights = {}
    for name, (a, b) in lora.factors.items():
        weight = getattr(modules.get(name), "weight", None)
        if not isinstance(weight, Tensor):
            raise ValueError(f"{lora.path} was made for another model: this one has no {name}")
        fits = (b.shape[0], *a.shape[1:]) == tuple(weight.shape) and b.shape[1] == a.shape[0]
        if not fits or b[0, 0].numel() != 1:
            raise ValueError(
                f"{lora.path} was made for another model: its factors of {name} are {tuple(a.shape)} and "
                f"{tuple(b.shape)}, the weight is {tuple(weight.shape)}"
            )
        weights[name] = weight
    return weights


def merge_lora(denoiser: nn.Module, lora: Lora, scale: float = 1.0) -> None:
    """Add adapters to the weights of a denoiser; several stack.

    Args:
        denoiser: Changed in place; not packed.
        lora: From `read_lora`.
        scale: Of this adapter; 1 as trained, 0 without effect.

    Raises:
        ValueError: If the adapters do not fit the denoiser, which is then unchanged.
    """
    with torch.no_grad():
        for name, weight in adapted_weights(denoiser, lora).items():
            a, b = lora.factors[name]
            product = b.float().flatten(1) @ a.float().flatten(1)
            change = scale * lora.scales[name] * product.view(weight.shape)
            weight.copy_(weight.float() + change.to(weight.device))


def parse_lora_option(text: str) -> tuple[str, float]:
    """Path and scale of `PATH` or `PATH:SCALE`; the scale is 1 if there is none.

    Raises:
        ValueError: If the path is empty or the scale is not finite.
    """
    number = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?|nan"
    match = re.fullmatch(rf"(.*):({number})", text, re.IGNORECASE | re.DOTALL)
    path, scale = (text, 1.0) if match is None else (match[1], float(match[2]))
    if not path or not math.isfinite(scale):
        raise ValueError(f"a LoRA must be PATH or PATH:SCALE with a finite scale, got {text!r}")
    return path, scale
