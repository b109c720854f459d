"""What the tests of training share: a codec to train denoisers on."""

from pathlib import Path

import pytest

from tests.tiny import TINY_CODEC, randomise
from videogen.codec.autoencoder import VideoAutoencoder


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny codec with statistics of its own."""
    codec = VideoAutoencoder(**TINY_CODEC)
    randomise(codec)
    codec.latents_mean.fill_(0.2)
    codec.latents_std.fill_(0.5)
    folder = tmp_path_factory.mktemp("codec")
    codec.save_pretrained(folder)
    return folder
