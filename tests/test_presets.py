"""Presets: what is saved is read again, and broken files are told."""

import json
from pathlib import Path

import pytest

from videogen.presets import Preset


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    preset = Preset("dpm++2m", 6, 2.5, "interval:low=0.2,high=0.9", "deep=2", "found by hand")
    preset.save(tmp_path / "fast.json")
    assert Preset.load(tmp_path / "fast.json") == preset
    assert json.loads((tmp_path / "fast.json").read_text())["videogen_preset"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "must be a JSON object"),
        ('{"scheduler": "euler"}', '"videogen_preset": 1'),
        ('{"videogen_preset": 2}', '"videogen_preset": 1'),
        ('{"videogen_preset": 1, "speed": 3}', "unknown settings: speed"),
    ],
)
def test_broken_files_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Preset.load(tmp_path / "broken.json")
    with pytest.raises(ValueError, match="cannot be read"):
        Preset.load(tmp_path / "absent.json")
