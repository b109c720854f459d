"""Settings, models and datasets that do not go together are refused."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import edit_json, randomise
from videogen.data.footage.dataset import load_dataset
from videogen.pipelines.loading import load
from videogen.train.footage_encoders import check_dataset_fits
from videogen.train.objectives.finetune import FinetuneObjectiveConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": 2.0}, "`lora_alpha` must be None without `lora_rank`, got 2.0"),
        ({"lora_rank": 2, "zero_terminal_snr": True}, "`lora_rank` must be None where"),
        ({"lora_rank": 2, "prediction_type": "epsilon"}, "`lora_rank` must be None where"),
        ({"noise_prior": "pink"}, "`noise_prior` must be one of independent, mixed, progressive, got 'pink'"),
        ({"noise_prior_strength": -1.0}, "`noise_prior_strength` must be at least 0, got -1.0"),
        ({"offset_noise": float("nan")}, "`offset_noise` must be at least 0, got nan"),
        ({"snr_gamma": 0.0}, "`snr_gamma` must be above 0, got 0.0"),
        ({"caption_dropout": 1.5}, "`caption_dropout` must be between 0 and 1, got 1.5"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneObjectiveConfig(**settings)


def test_settings_that_do_not_fit_the_model(make: Any) -> None:
    for settings, name in (
        ({"prediction_type": "epsilon"}, "prediction_type"),
        ({"zero_terminal_snr": True}, "zero_terminal_snr"),
        ({"snr_gamma": 5.0}, "snr_gamma"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be .*flow"):
            make("flow", **settings)
    with pytest.raises(ValueError, match="`rank` of a LoRA must be at least 1, got 0"):
        make("flow", lora_rank=0)


def test_a_dataset_of_another_model(
    models: dict[str, Path], datasets: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    dataset = load_dataset(datasets["flow", "known"])
    check_dataset_fits(dataset, models["flow"])
    pipeline = load(models["flow"])
    for part_name, network in (("codec", pipeline.vae), ("text encoder", pipeline.text_encoder)):
        folder = tmp_path / part_name
        weights = copy.deepcopy(network.state_dict())
        randomise(network)
        next(network.parameters()).data.add_(1)
        pipeline.save_pretrained(folder)
        network.load_state_dict(weights)
        with pytest.raises(ValueError, match=rf"the {part_name} of .*: prepare it again with .*--model"):
            check_dataset_fits(dataset, folder)
    elsewhere = shutil.copytree(datasets["flow", "known"], tmp_path / "dataset")
    edit_json(elsewhere / "dataset.json", model={"name": "other", "codec": "", "dtype": ""})
    with pytest.raises(ValueError, match="was prepared with the codec of 'other'"):
        FinetuneObjectiveConfig(model=str(models["flow"]), dataset=str(elsewhere)).build()
