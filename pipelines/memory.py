"""About how much memory a call takes, and whether so much is there."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_GIB = 2**30
_FLOAT = 4  # bytes of a float32
# Where less is needed, nothing is looked up.
_ALWAYS_THERE = _GIB // 4


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a call takes beside the weights, within a factor of two of what was measured.

    Attributes:
        frames: The finished clips, and the pieces that they are put together from; on the CPU.
        latents: Noise, prediction and latents, and what the network keeps within its widest layer.
    """

    frames: int
    latents: int

    @classmethod
    def of(
        cls,
        num_clips: int,
        size: tuple[int, int, int],
        latent_size: tuple[int, int, int],
        channels: int,
        width: float,
        num_prompts: int,
        decoded: bool,
    ) -> MemoryPlan:
        """The plan of a call.

        Args:
            num_clips: B.
            size: Frames, height and width of a clip.
            latent_size: f, h and w.
            channels: Of the latents.
            width: Numbers that the network keeps at a time of each prompt and place of the latents.
            num_prompts: That the network sees at a time: B, or 2 B with guidance.
            decoded: Whether latents become frames.
        """
        frames, height, columns = size
        places = latent_size[0] * latent_size[1] * latent_size[2]
        return cls(
            frames=2 * num_clips * frames * height * columns * 3 * _FLOAT if decoded else 0,
            latents=_FLOAT * places * round(4 * num_clips * channels + num_prompts * width),
        )

    def check(self, asked: str, device: torch.device) -> None:
        """Raise ValueError if it needs more than there is on the CPU, or on the device of the networks.

        Args:
            asked: What the plan is for, in the message.
            device: Where latents are.
        """
        needs = {"cpu": self.frames}
        needs[device.type] = needs.get(device.type, 0) + self.latents
        if device.type == "mps":  # which shares the memory of the CPU
            needs = {"cpu": self.frames + self.latents}
        for place, needed in needs.items():
            if needed < _ALWAYS_THERE:
                continue
            there = _memory_of(torch.device("cpu") if place == "cpu" else device)
            if needed > there:
                raise ValueError(
                    f"{asked} need about {needed / _GIB:,.1f} GiB of memory on {place}, and "
                    f"{there / _GIB:,.1f} GiB are there: ask for fewer or smaller clips; to try "
                    "all the same set `check_memory` of the pipeline to False, or give --no-check-memory"
                )


def _memory_of(device: torch.device) -> int:
    """Bytes: what is available on the CPU, all that a GPU has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    import psutil  # type: ignore[import-untyped] # a millisecond that small clips need not spend

    return psutil.virtual_memory().available
