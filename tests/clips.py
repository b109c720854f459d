"""Clips to write to files, and a file name for every format."""

import numpy as np

LOSSLESS = ["clip.webp", "clip.apng", "clip.png", "clip.npz", "clip"]
ALL = ["clip.mp4", "clip.gif", *LOSSLESS]


def noise_clip(num_frames: int = 5, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames of which no two are alike and none compresses, (F, H, W, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def moving_disc(num_frames: int = 8, height: int = 64, width: int = 64, noise: float = 0.0) -> np.ndarray:
    """An anti-aliased red disc that moves over flat navy, (F, H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    centres = np.linspace(0.3, 0.7, num_frames)[:, None, None] * width
    alpha = np.clip(height / 4 - np.hypot(x - centres, y - height / 2), 0, 1)[..., None]
    frames = alpha * np.array([215, 35, 40]) + (1 - alpha) * np.array([20, 30, 90])
    frames = frames + np.random.default_rng(0).normal(0, noise, frames.shape)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)
