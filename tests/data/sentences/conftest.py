"""A folder of artwork for the sentences about subjects."""

from tests.data.emoji.conftest import artwork_folder

__all__ = ["artwork_folder"]
