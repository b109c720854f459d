"""The one list of settings that clips are made with; command line, calls, presets and recipes all read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Setting:
    """What there is to know of a setting beside its name.

    Attributes:
        help: What it does, for users.
        flag: Its option on the command line; by default made of its name.
        metavar: What the option takes; by default the name of its type.
        argument: Its name in calls of pipelines, by default its own; None if it belongs to loading or to the
            file.
        least: The smallest number allowed; None where that depends on the model.
        default: Its value where nobody sets it; None leaves it to the model.
        kind: The type of its value: `int`, `float`, `str`, or `tuple` for several texts.
    """

    help: str
    flag: str = ""
    metavar: str | None = None
    argument: str | None = ""
    least: int | None = None
    default: Any = None
    kind: type = str


def _setting(help: str, **known: Any) -> Any:
    return field(default=None, metadata={"setting": Setting(help, **known)})


@dataclass(frozen=True)
class GenerationSettings:
    """How clips are made; None leaves a setting to others, in the end to the model.

    Adding a setting is a line here, and what reads it: a text needs a reader in
    `videogen.pipelines.arguments`, a number a default in the models that have it (such as `ClipDefaults`).
    """

    scheduler: str | None = _setting(
        "euler, heun, dpm++2m, unipc, ...; which ones depends on the model.", metavar="NAME"
    )
    num_inference_steps: int | None = _setting(
        "Denoising steps. By default the model's own.", flag="--steps", least=1
    )
    guidance_scale: float | None = _setting(
        "How closely to follow the prompt; 1 and below is without guidance.", flag="--guidance", least=0
    )
    guidance: str | None = _setting(
        "How guidance is done: cfg (the default), rescaled, interval, apg, adaptive; "
        "like interval:low=0.2,high=0.8.",
        flag="--guidance-kind",
        metavar="NAME[:KEY=VALUE,...]",
    )
    cache: str | None = _setting(
        "Compute a part of the model every N steps only: deep, spatial, text, temporal, guidance. "
        "Faster, and not the same clip. first=N and last=N name steps that compute everything.",
        metavar="KIND=N,...",
        argument="step_cache",
    )
    temperature: float | None = _setting(
        "Scales what is random, for the families of generators that have it.", least=0
    )
    negative_prompt: str | None = _setting("What to steer away from.", metavar="TEXT", default="")
    num_frames: int | None = _setting("Frames per clip.")
    height: int | None = _setting("Of a frame, in pixels.")
    width: int | None = _setting("Of a frame, in pixels.")
    fps: float | None = _setting("Frames per second: 24, 29.97 or 24000/1001.", metavar="RATE", argument=None)
    model: str | None = _setting(
        "A saved pipeline, its id on the hub, or a family: gan, vae, rnn, transformer, dit. "
        "By default `embedded`, the embedded model.",
        metavar="FOLDER",
        argument=None,
        default="embedded",
    )
    loras: tuple[str, ...] | None = _setting(
        "Adapters from `videogen finetune` or diffusers; repeat it to stack several.",
        flag="--lora",
        metavar="PATH[:SCALE]",
        argument=None,
        default=(),
    )
    device: str | None = _setting(
        "cpu (the default), cuda, cuda:1, ... or mps.", metavar="NAME", argument=None, default="cpu"
    )
    dtype: str | None = _setting(
        "float32 (the default), bfloat16 or float16.", metavar="NAME", argument=None, default="float32"
    )
    attention: str | None = _setting(
        "sdpa (the default), or xformers on a CUDA device that has it.",
        metavar="NAME",
        argument=None,
        default="sdpa",
    )

    def given(self) -> dict[str, Any]:
        """All that is set, by name."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return {name: value for name, value in values.items() if value is not None}

    def arguments(self) -> dict[str, Any]:
        """What of it calls of pipelines take, by the names of their arguments."""
        named = {SETTINGS[name].argument: value for name, value in self.given().items()}
        return {argument: value for argument, value in named.items() if argument is not None}


def _listed() -> dict[str, Setting]:
    hints = get_type_hints(GenerationSettings)
    found = {}
    for item in fields(GenerationSettings):
        setting: Setting = item.metadata["setting"]
        kind = get_args(hints[item.name])[0]
        found[item.name] = replace(
            setting,
            flag=setting.flag or f"--{item.name.replace('_', '-')}",
            argument=item.name if setting.argument == "" else setting.argument,
            kind=get_origin(kind) or kind,
        )
    return found


SETTINGS: Mapping[str, Setting] = _listed()
"""The settings by the names of the fields of `GenerationSettings`."""

DEFAULTS = GenerationSettings(**{name: setting.default for name, setting in SETTINGS.items()})
"""What holds where nobody says anything, not even the model."""


def merge(*layers: GenerationSettings | None) -> GenerationSettings:
    """The settings of several layers: of what two of them set, the later one wins."""
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {} if layer is None else layer.given()
    return GenerationSettings(**values)
