"""Training runs by name: each is a function that returns its whole configuration."""

from collections.abc import Callable

from videogen.train.config import TrainConfig
from videogen.train.recipes.shapes import shapes_codec

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "shapes_codec": shapes_codec,
}
