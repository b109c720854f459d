"""The preview under the bar: what is drawn, where it is drawn, and that it costs no bit of the clip."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.command_line import run, save_tiny_model
from tests.tiny_pipeline import latents_of, make_pipeline
from videogen.commands import denoising_bar
from videogen.commands.denoising_bar import HalfBlocks, StepBar, filmstrip
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.loading import read_packed_components


def terminal(color_system: str | None = "truecolor") -> Console:
    """A terminal of 40 columns and 20 lines that keeps what it is sent."""
    return Console(
        file=io.StringIO(),
        force_terminal=color_system is not None,
        color_system=color_system,  # type: ignore[arg-type] # one of the names that rich knows
        width=40,
        height=20,
        legacy_windows=False,
    )


def sent(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_two_pixels_are_one_character() -> None:
    pixels = np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]], np.uint8)
    console = terminal()
    console.print(HalfBlocks(pixels), end="")
    first, second = "38;2;1;2;3;48;2;7;8;9", "38;2;4;5;6;48;2;10;11;12"
    assert sent(console) == f"\x1b[{first}m▀\x1b[0m\x1b[{second}m▀\x1b[0m\n"


def test_a_filmstrip_fits_and_shows_the_frames_in_order() -> None:
    frames = np.ones((4, 64, 64, 3)) * np.linspace(0, 1, 4)[:, None, None, None]
    strip = filmstrip(frames, max_width=80, max_height=50)
    assert strip.shape == (18, 79, 3)  # four of 19 columns with gaps
    assert strip[5, [5, 25, 45, 65]].tolist() == [[value] * 3 for value in (0, 85, 170, 255)]
    assert filmstrip(frames, 1000, 1000).shape == (32, 131, 3)
    assert filmstrip(frames, 1000, 8).shape == (8, 35, 3)
    assert filmstrip(frames[:1], 3, 100).shape == (2, 3, 3)
    assert filmstrip(np.ones((2, 16, 64, 3)), 65, 100).shape == (8, 65, 3)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Drawn":
    return Drawn(monkeypatch, save_tiny_model(tmp_path / "model"))


class Drawn:
    """Makes a clip in a terminal, and gives what the terminal was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        self.monkeypatch, self.model = monkeypatch, model

    def __call__(self, color_system: str | None, preview: bool | None) -> str:
        console = terminal(color_system)
        self.monkeypatch.setattr(denoising_bar, "Console", lambda stderr: console)
        parts = read_packed_components(self.model, torch.float32)
        generator, plain, bar = TextToVideo(**parts), TextToVideo(**parts), StepBar(1, preview)
        generator.progress_bar = bar.of_a_clip  # type: ignore[method-assign]
        with bar.progress:
            for step in generator.stream("a red circle", seed=0, output_type="latent"):
                bar.show(step, 4)
                bar.progress.refresh()
        assert torch.equal(step.latents, latents_of(plain, "a red circle", seed=0))
        return sent(console)


def test_it_is_drawn_in_terminals_with_24_bit_colours(drawn: Drawn) -> None:
    assert "▀" in drawn("truecolor", None)
    assert "▀" in drawn("truecolor", True)
    for color_system, preview in (("256", None), ("truecolor", False), (None, None)):
        assert "▀" not in drawn(color_system, preview)
    with pytest.warns(UserWarning, match="no preview is drawn"):
        assert drawn(None, True) == ""


def test_whoever_asks_for_it_gets_it_in_fewer_colours(drawn: Drawn) -> None:
    assert "▀" in drawn("256", True)


def test_a_preview_waits_after_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal()
    monkeypatch.setattr(denoising_bar, "Console", lambda stderr: console)
    generator, bar = make_pipeline(TextToVideo), StepBar(1, True)
    generator.progress_bar = bar.of_a_clip  # type: ignore[method-assign]
    pictures = []
    monkeypatch.setattr(denoising_bar, "_LEAST_PAUSE", 1000.0)
    for step in generator.stream("a red circle", seed=0, num_inference_steps=4):
        bar.show(step, 4)
        pictures.append(bar.progress.picture)
    assert pictures[0] is not None and all(picture is pictures[0] for picture in pictures)


def test_a_command_without_a_terminal_draws_nothing(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    result = run("generate", "a star", "--model", model, "--out", tmp_path / "c.png", "--preview")
    assert result.exit_code == 0
    assert result.stderr == "warning: no preview is drawn, as the standard error is no terminal\n"
