"""Which clips a command makes, how and where they go, settled before anything heavy is imported."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videogen.io import check_output_path
from videogen.recipe import RequestedClip

MAX_SLUG_CHARS = 40
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class PlannedClip(RequestedClip):
    """One clip to make.

    Attributes:
        path: Where it goes, as `write_clip` reads it: a trailing `/` means a folder of PNG frames.
    """

    path: str


def plan_clips(
    prompts: Sequence[str], num_videos: int = 1, seed: int | None = None, out: str | None = None
) -> list[PlannedClip]:
    """The clips for some prompts; those of one prompt follow each other, and clip k has the seed `seed + k`.

    Args:
        prompts: At least one; the empty one is the unconditional one.
        num_videos: Clips per prompt.
        seed: Of the first clip, drawn at random if None.
        out: Where to write; several clips get `-0`, `-1`, ... before the suffix. By default the name is made
            of the prompt and the seed.

    Raises:
        ValueError: If an argument is out of range or a clip cannot go where it should.
        OSError: If a folder cannot be written to.
    """
    if num_videos < 1:
        raise ValueError(f"`num_videos` must be at least 1, got {num_videos}")
    if seed is None:
        seed = secrets.randbelow(2**32)
    total = len(prompts) * num_videos
    if not 0 <= seed <= MAX_SEED - total:
        raise ValueError(f"`seed` must be between 0 and 2**63 - 1, got {seed}")
    clips = []
    for index in range(total):
        prompt = prompts[index // num_videos]
        if out is None:
            path = f"{slug(prompt)}-{seed + index}.mp4"
        else:
            path = numbered(out, index, total) if total > 1 else out
        check_output_path(path)
        clips.append(PlannedClip(prompt, seed + index, path))
    return clips


def check_leaves_alone(clip: str, planned: Sequence[PlannedClip]) -> None:
    """Raise ValueError if a new clip would take the place of the clip whose recipe it follows."""
    for new in planned:
        if Path(new.path).resolve() == Path(clip).resolve():
            raise ValueError(f"{new.path} is the clip that is taken as a model: write elsewhere with --out")


def slug(prompt: str) -> str:
    """The first words of a prompt as a part of a file name: letters and digits of any script, and hyphens."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", prompt[:200]).casefold())
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word[:MAX_SLUG_CHARS]
        if len(longer) > MAX_SLUG_CHARS:
            break
        name = longer
    return name or "clip"


def numbered(out: str, index: int, total: int) -> str:
    """The name of clip `index` of several: `clip.mp4` becomes `clip-0.mp4`, among over ten `clip-00.mp4`."""
    number = str(index).zfill(len(str(total - 1)))
    if out.endswith("/"):
        return f"{out.rstrip('/')}-{number}/"
    path = Path(out)
    return str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
