"""The command line in the process of a test, and a tiny model for it."""

from pathlib import Path

from typer.testing import CliRunner, Result

from tests.tiny_pipeline import make_pipeline
from videogen.cli import app
from videogen.pipelines.text_to_video import TextToVideoPipeline


def run(*arguments: object) -> Result:
    """Runs the command line in this process, in which only mistakes of ours may raise."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def error_of(*arguments: object) -> str:
    """The message of a command that fails with one line on stderr, and none on stdout."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def save_tiny_model(folder: Path) -> Path:
    """Saves a tiny model with random weights, whose clips have 4 frames of 16x16 and take two steps."""
    defaults = {"height": 16, "width": 16, "num_frames": 4, "num_inference_steps": 2}
    make_pipeline(TextToVideoPipeline, defaults=defaults).save_pretrained(folder)
    return folder
