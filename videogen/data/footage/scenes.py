"""Find the cuts in a video, through PySceneDetect."""

from __future__ import annotations

import numpy as np

_NOMINAL_FPS = 25.0  # the detector counts frames; only its own reports would show times
_MIN_SCENE_FRAMES = 8


class CutFinder:
    """Looks for hard cuts while frames come by: places where the picture changes far more than around it.

    Raises:
        ImportError: If PySceneDetect is not installed.
    """

    def __init__(self) -> None:
        try:
            from scenedetect import AdaptiveDetector
        except ImportError as error:
            raise ImportError("finding scenes needs PySceneDetect: pip install 'videogen[train]'") from error
        self._detector = AdaptiveDetector(min_scene_len=_MIN_SCENE_FRAMES)
        self._cuts: list[int] = []
        self._num_frames = 0

    def add(self, idx: int, picture: np.ndarray) -> None:
        """Look at frame `idx`, `(H, W, 3)` uint8, RGB; each one once, in order."""
        from scenedetect import FrameTimecode

        bgr = np.ascontiguousarray(picture[..., ::-1])
        found = self._detector.process_frame(FrameTimecode(idx, _NOMINAL_FPS), bgr)
        self._cuts += [cut.frame_num for cut in found]
        self._num_frames = idx + 1

    def cuts(self) -> tuple[int, ...]:
        """Index of the first frame of each scene but the first."""
        from scenedetect import FrameTimecode

        found = self._detector.post_process(FrameTimecode(self._num_frames, _NOMINAL_FPS))
        cuts = {*self._cuts, *(cut.frame_num for cut in found)}
        return tuple(sorted(cut for cut in cuts if 0 < cut < self._num_frames))
