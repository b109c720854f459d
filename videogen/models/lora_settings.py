"""How strong adapters are: what the header of their file and peft's `adapter_config.json` say.

A setting that is not understood is refused by name: adapters that come in wrong look like adapters that
learned nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videogen.files import read_json

PEFT_NAME = "adapter_model.safetensors"
"""As peft names the file of adapters."""

PEFT_CONFIG_NAME = "adapter_config.json"
"""As peft names the configuration beside it."""

METADATA = "lora_adapter_metadata"
"""Where diffusers keeps the configuration, in the header of the file."""

_ALPHA_FIELDS = ("lora_alpha", "network_alpha", "ss_network_alpha")  # ss: of kohya's scripts
_PLAIN_FIELDS = (
    *("peft_type", "r", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "bias"),
    *("lora_bias", "modules_to_save", "init_lora_weights"),
)
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}

# What is read here, and what mattered to the training alone or only repeats which modules are adapted.
_UNDERSTOOD = {
    *("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights"),
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout"),
    *("megatron_core", "qalora_group_size", "eva_config", "ensure_weight_tying"),
}
# Other starts (PiSSA, OLoRA, LoftQ, ...) train beside weights that are no longer those of the model.
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class LoraSettings:
    """Ranks and strengths of the adapters of a file.

    Attributes:
        alpha: Of all adapters that no pattern matches; None where nothing says it.
        alpha_pattern: Alphas of others, by an expression that the end of a module's name matches.
        rank: Of all adapters that no pattern matches; None where nothing says it.
        rank_pattern: Ranks of others, likewise.
        use_rslora: Whether the strength is alpha / sqrt(rank) in place of alpha / rank (Kalajdzievski 2023,
            arXiv:2312.03732, theorem 3.2).
    """

    alpha: float | None = None
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank: int | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    use_rslora: bool = False

    def alpha_of(self, module: str) -> float | None:
        """The alpha of a module; None where nothing says it."""
        return _matched(self.alpha_pattern, module, self.alpha)

    def rank_of(self, module: str) -> float | None:
        """The rank of a module; None where nothing says it."""
        return _matched(self.rank_pattern, module, self.rank)

    def scale(self, alpha: float, rank: int) -> float:
        """The factor of B A."""
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_settings(file: Path, header: Mapping[str, str], *, is_peft: bool) -> LoraSettings:
    """The settings of the adapters in a file.

    Args:
        file: Of the adapters.
        header: Of the file, as safetensors gives it.
        is_peft: Whether peft wrote the file, whose configuration is then the one in its folder.

    Raises:
        ValueError: If a setting is broken, is not understood, or is said twice and differently; the message
            names it.
    """
    found = {f"the header of {file}": settings for settings in _header_settings(file, header)}
    config = file.with_name(PEFT_CONFIG_NAME)
    if is_peft and config.exists():
        found[str(config)] = read_json(config)
    settings: dict[str, Any] = {}
    for source, said in found.items():
        _check_understood(source, said)
        for name in ("lora_alpha", "r", "alpha_pattern", "rank_pattern", "use_rslora"):
            value = said.get(name)
            if value is None:
                continue
            if settings.setdefault(name, value) != value:
                raise ValueError(
                    f"{name} is {settings[name]} in the header of {file} and {value} in {config}"
                )
    return LoraSettings(
        alpha=settings.get("lora_alpha"),
        alpha_pattern=settings.get("alpha_pattern", {}),
        rank=settings.get("r"),
        rank_pattern=settings.get("rank_pattern", {}),
        use_rslora=settings.get("use_rslora", False),
    )


def _header_settings(file: Path, header: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the header of a file says, in the names of peft: as diffusers writes it, or in plain fields."""
    if METADATA in header:
        try:
            return [{key.removeprefix("unet."): value for key, value in json.loads(header[METADATA]).items()}]
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{file} has a broken header: {error}") from error
    alphas = {name: _plain_value(header[name]) for name in _ALPHA_FIELDS if name in header}
    if len(set(alphas.values())) > 1:
        raise ValueError(f"the header of {file} says alpha differently: {alphas}")
    plain = {name: _plain_value(header[name]) for name in _PLAIN_FIELDS if name in header}
    return [plain | {"lora_alpha": next(iter(alphas.values()), None)}]


def _plain_value(text: str) -> Any:
    try:
        return json.loads(_PYTHON_WORDS.get(text, text))
    except ValueError:
        return text


def _check_understood(source: str, settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type") or "LORA"
    if kind != "LORA":
        raise ValueError(f"{source} is of adapters of the type {kind!r}: only 'LORA' can be merged here")
    for name, value in settings.items():
        if name not in _UNDERSTOOD and value and not (name == "bias" and value == "none"):
            raise ValueError(
                f"{source} sets {name}={value!r}, which cannot be merged here: only plain LoRA can, of the "
                "weights of linear layers and convolutions"
            )
    start = settings.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        raise ValueError(
            f"{source} sets init_lora_weights={start!r}, which changes the weights of the model as well: "
            "save with peft's `path_initial_model_for_weight_conversion`, which makes plain LoRA of it"
        )
    if not isinstance(settings.get("use_rslora") or False, bool):
        raise ValueError(f"{source}: use_rslora must be true or false, got {settings['use_rslora']!r}")
    for name in ("lora_alpha", "r"):
        if settings.get(name) is not None:
            _check_number(source, name, settings[name], whole=name == "r")
    for name in ("alpha_pattern", "rank_pattern"):
        patterns = settings.get(name) or {}
        if not isinstance(patterns, dict):
            raise ValueError(f"{source}: {name} must give numbers by module, got {patterns!r}")
        for pattern, value in patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{source}: {name} holds the expression {pattern!r}: {error}") from error
            _check_number(source, f"{name}[{pattern!r}]", value, whole=name == "rank_pattern")


def _check_number(source: str, name: str, value: Any, *, whole: bool = False) -> None:
    expected = "a whole number above 0" if whole else "a finite number other than 0"
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value == 0 or (whole and value < 0):
        raise ValueError(f"{source}: {name} must be {expected}, got {value!r}")


def _matched(patterns: Mapping[str, float], module: str, default: float | None) -> float | None:
    """The value of the first expression that fits, as peft looks it up."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
