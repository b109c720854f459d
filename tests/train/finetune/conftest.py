"""What the tests of fine-tuning share: models of each kind, datasets for them, and objectives on both."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_pipeline import make_pipeline
from tests.train.finetune.tiny_models import IN_CLIP, KINDS, KNOWN, NEW, ddim, make_clip_pipeline
from tests.videos import moving_bar, write_video
from videogen.data.footage.planning import FootageSettings
from videogen.models.unet3d import UNet3D
from videogen.models.uvit import UViT3D
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.train.footage import prepare_footage
from videogen.train.footage_encoders import load_encoders
from videogen.train.objectives.finetune import FinetuneObjective, FinetuneObjectiveConfig


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny models of each kind."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    pipelines = {
        "flow": make_pipeline(TextToVideoPipeline, UViT3D),
        "epsilon": make_pipeline(TextToVideoPipeline, UNet3D, scheduler=ddim()),
        "v_prediction": make_pipeline(
            TextToVideoPipeline, UNet3D, scheduler=ddim(prediction_type="v_prediction")
        ),
        "clip": make_clip_pipeline(root / "parts"),
    }
    for kind, pipeline in pipelines.items():
        pipeline.save_pretrained(root / kind)
    return {kind: root / kind for kind in pipelines}


@pytest.fixture(scope="session")
def datasets(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """Datasets of four clips for each model, with captions of known and of new words."""
    root = tmp_path_factory.mktemp("datasets")
    made = {}
    for words, captions in (("known", KNOWN), ("new", NEW), ("clip", IN_CLIP)):
        footage = root / f"footage {words}"
        for number, caption in enumerate(captions):
            frames = moving_bar(10, 16, 16, seed=number)
            write_video(footage / f"{number}.mkv", frames, rate=8, codec="ffv1", pixel_format="bgr0")
            (footage / f"{number}.txt").write_text(caption)
        for kind in KINDS:
            if (words == "clip") == (kind == "clip"):
                out = root / f"{kind} {words}"
                settings = FootageSettings(num_frames=(8,), sizes=((16, 16),), fps=8)
                prepare_footage(footage, out, settings, load_encoders(models[kind]))
                made[kind, "known" if words == "clip" else words] = out
    return made


@pytest.fixture
def make(models: dict[str, Path], datasets: dict[tuple[str, str], Path]) -> Any:
    """Makes the objective of a kind of model, on captions of known words or of new ones."""

    def build(kind: str, words: str = "known", **settings: Any) -> FinetuneObjective:
        torch.manual_seed(0)
        config = FinetuneObjectiveConfig(
            model=str(models[kind]),
            dataset=str(datasets[kind, words]),
            **({"caption_dropout": 0.0} | settings),
        )
        return config.build()

    return build
