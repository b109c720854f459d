"""Training runs by name: each is a function that returns its whole configuration."""

import importlib
import os
import sys
from collections.abc import Callable

from videogen.train.config import TrainConfig
from videogen.train.recipes.codec import worlds_codec, worlds_codec_decoder, worlds_codec_finer
from videogen.train.recipes.families import (
    shapes_mini_dit,
    shapes_mini_gan,
    shapes_mini_rnn,
    shapes_mini_transformer,
    shapes_mini_uvit,
    shapes_mini_vae,
)
from videogen.train.recipes.features import emoji_judge, emoji_judge_near, shapes_features
from videogen.train.recipes.shapes import (
    shapes_codec,
    shapes_decoder,
    shapes_mini_t2v,
    shapes_mini_unet3d,
    shapes_t2v,
    shapes_t2v_drilled,
    shapes_t2v_finer,
    shapes_t2v_longer,
    shapes_t2v_longest,
    shapes_t2v_turned,
)
from videogen.train.recipes.text import open_text
from videogen.train.recipes.worlds import (
    worlds_appearance,
    worlds_appearance_large,
    worlds_motion,
    worlds_pairs,
)

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "shapes_codec": shapes_codec,
    "shapes_decoder": shapes_decoder,
    "shapes_features": shapes_features,
    "shapes_mini_t2v": shapes_mini_t2v,
    "shapes_mini_unet3d": shapes_mini_unet3d,
    "shapes_mini_gan": shapes_mini_gan,
    "shapes_mini_vae": shapes_mini_vae,
    "shapes_mini_rnn": shapes_mini_rnn,
    "shapes_mini_transformer": shapes_mini_transformer,
    "shapes_mini_dit": shapes_mini_dit,
    "shapes_mini_uvit": shapes_mini_uvit,
    "shapes_t2v": shapes_t2v,
    "shapes_t2v_longer": shapes_t2v_longer,
    "shapes_t2v_longest": shapes_t2v_longest,
    "shapes_t2v_drilled": shapes_t2v_drilled,
    "shapes_t2v_turned": shapes_t2v_turned,
    "shapes_t2v_finer": shapes_t2v_finer,
    "open_text": open_text,
    "worlds_codec": worlds_codec,
    "worlds_codec_finer": worlds_codec_finer,
    "worlds_codec_decoder": worlds_codec_decoder,
    "worlds_appearance": worlds_appearance,
    "worlds_appearance_large": worlds_appearance_large,
    "worlds_motion": worlds_motion,
    "worlds_pairs": worlds_pairs,
    "emoji_judge_near": emoji_judge_near,
    "emoji_judge": emoji_judge,
}


def find_recipe(name: str) -> Callable[[], TrainConfig]:
    """The recipe of a name, or the function `module:function` of one's own, found from the current folder.

    Raises:
        ValueError: If there is none; the message lists the known names.
    """
    if name in RECIPES:
        return RECIPES[name]
    module_name, colon, function_name = name.partition(":")
    if not colon or not all(part.isidentifier() for part in module_name.split(".")):
        raise ValueError(
            f"unknown recipe {name!r}: known are {', '.join(RECIPES)}, "
            "and MODULE:FUNCTION for a function of yours that returns a TrainConfig"
        )
    if os.getcwd() not in sys.path:  # console scripts leave it out
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"the recipe {name!r} cannot be imported: {error}") from error
    recipe: Callable[[], TrainConfig] | None = getattr(module, function_name, None)
    if recipe is None or not callable(recipe):
        raise ValueError(f"the recipe {name!r} is not there: {module.__file__} has no such function")
    return recipe


def config_of(name: str) -> TrainConfig:
    """What the recipe of a name returns; see `find_recipe`.

    Raises:
        ValueError: If there is no such recipe, or it returns something else.
    """
    config = find_recipe(name)()
    if not isinstance(config, TrainConfig):
        raise ValueError(f"the recipe {name!r} must return a TrainConfig, got {config!r:.80}")
    return config
