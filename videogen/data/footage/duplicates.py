"""Find clips that look the same, as re-encoded or rescaled copies do.

Encoding changes a picture a little and nearly everywhere, while another take, be it with one finger raised,
differs in one place and not elsewhere. So the largest difference that passes grows with the mean one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from videogen.data.footage.inspection import SIGNATURE_SIDE

NUM_TIMES = 16
MAX_DIFFERENCE = 12
"""Of 255, at any place and time."""

_ALWAYS_PASSES, _PASSES_PER_MEAN = 3, 20  # seen: copies up to 35 times the mean, other takes from 250 on

_COARSE_SIDE = 2


@dataclass(frozen=True)
class SeenClip:
    """A clip that others are compared with: its video, when it begins there in seconds, its caption."""

    name: str
    start: float
    caption: str


class DuplicateFinder:
    """Remembers clips by sixteen small grey pictures, spread evenly over their time."""

    def __init__(self) -> None:
        self._seen: list[SeenClip] = []
        self._signatures: list[np.ndarray] = []
        self._coarse = np.empty((0, NUM_TIMES * _COARSE_SIDE**2), np.float32)

    def find_or_add(self, clip: SeenClip, signatures: np.ndarray) -> SeenClip | None:
        """The clip among those seen that looks like this one; if there is none, remember it.

        Args:
            clip: What to remember it by.
            signatures: `(F, 32, 32)` uint8, its frames in grey.
        """
        picked = signatures[np.linspace(0, len(signatures) - 1, NUM_TIMES).round().astype(int)]
        block = SIGNATURE_SIDE // _COARSE_SIDE
        blocks = picked.reshape(NUM_TIMES, _COARSE_SIDE, block, _COARSE_SIDE, block)
        coarse = blocks.mean((2, 4), dtype=np.float32).reshape(-1)
        # Means cannot differ by more than their values do, so few clips need the full comparison.
        known = self._coarse[: len(self._seen)]
        for idx in np.flatnonzero((np.abs(known - coarse) <= MAX_DIFFERENCE).all(axis=1)):
            difference = np.abs(self._signatures[idx].astype(np.int16) - picked)
            if difference.max() <= min(MAX_DIFFERENCE, _ALWAYS_PASSES + _PASSES_PER_MEAN * difference.mean()):
                return self._seen[idx]
        if len(self._seen) == len(self._coarse):
            room = np.empty((max(256, len(self._coarse)), len(coarse)), np.float32)
            self._coarse = np.concatenate([self._coarse, room])
        self._coarse[len(self._seen)] = coarse
        self._seen.append(clip)
        self._signatures.append(picked)
        return None
