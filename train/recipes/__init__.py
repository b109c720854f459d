"""Training runs by name: each is a function that returns its whole configuration."""

from collections.abc import Callable

from videogen.train.config import TrainConfig
from videogen.train.recipes.shapes import (
    shapes_codec,
    shapes_decoder,
    shapes_mini_t2v,
    shapes_mini_unet3d,
    shapes_t2v,
    shapes_t2v_longer,
)

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "shapes_codec": shapes_codec,
    "shapes_decoder": shapes_decoder,
    "shapes_mini_t2v": shapes_mini_t2v,
    "shapes_mini_unet3d": shapes_mini_unet3d,
    "shapes_t2v": shapes_t2v,
    "shapes_t2v_longer": shapes_t2v_longer,
}
