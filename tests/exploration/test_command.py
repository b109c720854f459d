"""`videogen explore`: the files it writes, how it goes on, and how mistakes are told."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.tiny_pipeline import make_pipeline
from videogen.cli import app
from videogen.commands.explore import duration
from videogen.io import read_recipe
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.presets import Preset


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    defaults = {"height": 32, "width": 32, "num_frames": 8, "num_inference_steps": 2}
    folder = tmp_path_factory.mktemp("model")
    make_pipeline(TextToVideoPipeline, defaults=defaults).save_pretrained(folder)
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_where_to_write_is_looked_at_first(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("explore", tmp_path / "file", "--model", "no-such-model")
    assert result.exit_code == 1 and "file' is a file" in result.stderr
    result = run("explore", tmp_path / "file" / "out", "--model", "no-such-model")
    assert result.exit_code == 1 and "file is no folder" in result.stderr


def test_a_report_and_a_preset_are_written_and_the_command_goes_on(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("explore", out, "--model", model, "--num-prompts", 2, "--world", "shapes-mini")
    grid = [
        *("--steps", 2, "--steps", 3, "--scheduler", "euler", "--reference-steps", 4, "--cache", "none"),
        *("--dtype", "bfloat16", "--batch-size", 2),
    ]
    result = run(*arguments, *grid)
    assert result.exit_code == 0, result.stderr
    assert "2 of 2 points" in result.stdout and "best: euler" in result.stdout
    report = (out / "report.html").read_text()
    assert "data:image/webp;base64," in report and "2 at a time, on cpu in bfloat16" in report
    assert Preset.load(out / "best.json").scheduler == "euler"
    lines = (out / "points.jsonl").read_text()
    assert run(*arguments, *grid).exit_code == 0
    assert (out / "points.jsonl").read_text() == lines


def test_prompts_of_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue star\n")
    result = run(
        *("explore", tmp_path / "out", "--model", model, "--prompts", tmp_path / "prompts.txt"),
        *("--steps", 2, "--scheduler", "euler", "--reference-steps", 3),
    )
    assert result.exit_code == 0 and "PSNR" in result.stdout
    assert "<li>a blue star</li>" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "foo"], "known are euler"),
        (["--scheduler", "ddim"], "on a flow the same method is euler"),
        (["--steps", "0"], "`steps` must be whole numbers of at least 1, got 0"),
        (["--guidance-kind", "foo"], "`guidance` 'foo' is unknown"),
        (["--cache", "warp=2"], "a step cache must be like"),
        (["--prompts", "absent.txt"], "cannot read absent.txt: No such file"),
        (["--world", "flat"], "`world` must be one of"),
        (["--seed", "1", "--seed", "1"], "`seeds` must be different"),
        (["--dtype", "int8"], "`dtype` 'int8' is unknown: known are float32"),
        (["--batch-size", "0"], "`batch_size` must be at least 1, got 0"),
        (["--max-seconds", "0"], "`max_seconds` must be above 0"),
    ],
)
def test_mistakes_are_one_line(model: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = run("explore", tmp_path / "out", "--model", model, "--num-prompts", 1, *options)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "out").exists()


def test_a_grid_that_takes_long_has_to_be_agreed_to(model: Path, tmp_path: Path) -> None:
    scales = [part for scale in range(2, 1002) for part in ("--guidance", scale / 10)]
    steps = [part for step in range(1, 1001) for part in ("--steps", step)]
    arguments = ("explore", tmp_path / "out", "--model", model, "--scheduler", "euler", *scales, *steps)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "the grid has 1,000,000 points of 24 clips, by its first clip about " in result.stderr
    assert "say --yes to run it, or --budget SECONDS" in result.stderr
    limited = run(*arguments, "--budget", 1e-6, "--reference-steps", 0)
    assert limited.exit_code == 0 and "0 of 1,000,000 points" in limited.stdout
    assert "the budget of 1e-06 s is used up; the same command resumes" in limited.stdout


def test_durations_are_told_for_people() -> None:
    assert [duration(seconds) for seconds in (90, 720, 19080, 2678400)] == [
        "90 s",
        "12 minutes",
        "5.3 hours",
        "31 days",
    ]


def test_a_clip_tells_its_guidance(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.webp"
    result = run(
        *("generate", "a star", "--model", model, "--seed", 1, "--out", out),
        *("--guidance-kind", "apg:momentum=-0.5"),
    )
    assert result.exit_code == 0, result.stderr
    recipe = read_recipe(out)
    assert recipe is not None and recipe["guidance"] == "apg:eta=0.5,momentum=-0.5,norm=0"
    for kind in ("foo", "apg:eta=7"):
        assert run("generate", "a star", "--model", model, "--guidance-kind", kind).exit_code == 1
