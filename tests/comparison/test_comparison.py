"""Whole comparisons of tiny models: the same clips as calls alone, failures beside results, reports."""

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.tiny import TINY_FEATURES, edit_json, randomise
from tests.tiny_pipeline import make_pipeline
from videogen.cli import app
from videogen.codec.pixels import frames_to_pixels
from videogen.comparison.comparison import compare
from videogen.comparison.models import GeneratedClip, run_model, stated_minutes
from videogen.comparison.page import comparison_page
from videogen.comparison.prompts import drawn_prompts
from videogen.comparison.report import ComparisonReport, short_names
from videogen.data.shapes.captions import vocabulary
from videogen.folder_lock import locked
from videogen.io import read_clip
from videogen.metrics.feature_network import FeatureNetwork
from videogen.metrics.features import FeatureExtractor
from videogen.metrics.prompt_accuracy import EvaluationPrompt
from videogen.pipelines.loading import load
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.text.encoder import TextEncoder

PROMPTS = [*drawn_prompts(2), EvaluationPrompt.of("a sheep walks")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, the same one with other weights, and one whose weights overflow."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed_shift in (("first", 0.0), ("second", 0.1), ("broken", 1e38)):
        text_encoder = TextEncoder(vocabulary(), hidden_size=16, num_layers=1).eval()
        randomise(text_encoder)
        pipeline = make_pipeline(TextToVideoPipeline, text_encoder=text_encoder)
        with torch.no_grad():
            next(pipeline.unet.conv_out.parameters()).add_(seed_shift)
        pipeline.save_pretrained(folder / name)
    edit_json(folder / "first" / "model_index.json", training_minutes=7.5)
    (folder / "second" / "README.md").write_text("---\ntraining_minutes: 12\n---\n# A model\n")
    return folder


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    torch.manual_seed(0)
    network = FeatureNetwork(**TINY_FEATURES).eval()
    return FeatureExtractor("tiny", "0" * 64, lambda pixels: network(pixels).features)


@pytest.fixture(scope="module")
def compared(models: Path, extractor: FeatureExtractor) -> tuple[ComparisonReport, list[list[GeneratedClip]]]:
    names = [str(models / name) for name in ("first", "broken", "second", "absent")]
    return compare(names, PROMPTS, extractor, seed=5, num_reference_clips=6)


def test_clip_k_is_that_of_a_call_with_prompt_k_and_seed_plus_k(compared, models: Path) -> None:
    _, clips = compared
    assert [len(made) for made in clips] == [3, 0, 3, 0]
    pipeline = load(models / "second")
    alone = pipeline(PROMPTS[2].caption, seed=7, return_dict=False)[0]
    torch.testing.assert_close(clips[2][2].pixels, frames_to_pixels(alone)[0], rtol=0, atol=1e-5)
    assert not torch.allclose(clips[0][2].pixels, clips[2][2].pixels, atol=1e-3)


def test_a_model_that_fails_is_named_and_the_others_are_there(compared, models: Path) -> None:
    report, _ = compared
    first, broken, second, absent = report.models
    assert not first.failure and not second.failure and report.is_partial
    assert "none of 3 clips could be made: it has latents that are not finite after step 1" in broken.failure
    assert f"{str(models / 'absent')!r} is not a folder" in absent.failure
    assert sum(" failed: " in note for note in report.notes) == 2


def test_what_is_measured(compared) -> None:
    report, _ = compared
    first, second = report.models[0], report.models[2]
    assert report.num_checked == 2 and first.clip_shape == (8, 16, 24)
    assert first.accuracy is not None and first.accuracy.all_right.total == 2
    assert first.distances is not None and second.distances is not None
    assert first.distances.frechet.num_generated == 2 and first.distances.frechet.num_reference == 6
    assert first.distances.frechet.value != second.distances.frechet.value
    assert first.distances.rendered == second.distances.rendered
    assert first.distances.kernel.metric == "kernel video distance"
    assert any("too few for 12 features" in note for note in report.notes)
    assert any("1 of 3 prompts are not in the plain form" in note for note in report.notes)
    assert first.movement is not None and first.movement.magnitude.num_values == 3


def test_what_the_clips_cost(compared, models: Path) -> None:
    report, _ = compared
    first, second = report.models[0].cost, report.models[2].cost
    assert first is not None and second is not None
    pipeline = load(models / "first")
    parts = (pipeline.vae, pipeline.text_encoder, pipeline.unet)
    assert first.num_parameters == sum(value.numel() for part in parts for value in part.parameters())
    assert first.evaluations_per_clip == 3  # of the default three steps
    assert first.seconds_per_clip > 0
    assert (first.training_minutes, second.training_minutes) == (7.5, 12)


@pytest.mark.parametrize(
    ("family", "evaluations"), [("gan", 1), ("vae", 1), ("rnn", 4), ("transformer", 16), ("dit", 8)]
)
def test_evaluations_of_a_family(family: str, evaluations: int) -> None:
    """One, one, one for each of four latent frames, and one a step: 16 by default, and 8."""
    _, cost = run_model(family, drawn_prompts(1), 0, torch.device("cpu"), lambda: None)
    assert cost.evaluations_per_clip == evaluations


def test_rendered_clips_are_near_other_rendered_clips(models: Path) -> None:
    colours = FeatureExtractor("colours", "", lambda pixels: pixels.mean((2, 3, 4)))
    report, _ = compare(
        [str(models / "first")],
        drawn_prompts(24),
        colours,
        reference_prompts=drawn_prompts(60, seed=-1),
        num_reference_clips=60,
    )
    distances = report.models[0].distances
    assert distances is not None and not report.same_prompts
    assert 0 < distances.rendered.value < 0.2 * distances.frechet.value


def test_a_model_that_states_no_training_time(models: Path) -> None:
    assert stated_minutes(models / "broken") is None


def test_prompts_that_cannot_be_checked_leave_the_rest(models: Path, extractor: FeatureExtractor) -> None:
    prompts = [EvaluationPrompt.of("a sheep walks")]
    report, _ = compare([str(models / "first")], prompts, extractor)
    (result,) = report.models
    assert result.accuracy is None and result.distances is None and result.cost is not None
    assert "| - " in report.to_markdown()


def test_report_as_data_and_as_a_page_of_markdown(compared) -> None:
    report, _ = compared
    data = json.loads(report.to_json())
    assert data["models"][0]["distances"]["frechet"]["num_reference"] == 6
    assert data["prompts"] == [prompt.caption for prompt in PROMPTS]
    page = report.to_markdown()
    assert "all right" in page and "evaluations" in page and "first" in page
    assert all(f"- {note}" in page for note in report.notes)
    brief, full = report.quality_table(brief=True), report.quality_table()
    assert [row[0] for row in brief[1]] == [row[0] for row in full[1]]
    assert len(brief[0]) < len(full[0])


def test_names_of_columns() -> None:
    assert short_names(["runs/a/result", "embedded"]) == ["result", "embedded"]
    assert short_names(["runs/a/result", "runs/b/result"]) == ["a", "b"]
    assert short_names(["runs/a/result", "runs/b/result", "vae"]) == ["a", "b", "vae"]
    assert short_names(["a/b", "a/c/b", "c/b"]) == ["a/b", "a/c/b", "c/b"]


def test_markup_in_prompts_stays_text(compared) -> None:
    report = ComparisonReport(
        ("<script>alert(1)</script>",), 0, 0, "cpu", 1, True, (), compared[0].models[:1]
    )
    page = comparison_page(report, [[None]])
    assert "<script>" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": []}, "`models` must be at least one"),
        ({"models": ["a", "a"]}, "each once, got a, a"),
        ({"prompts": []}, "`prompts` is empty"),
        ({"seed": -1}, "`seed`"),
        ({"num_reference_clips": 1}, "`num_reference_clips`"),
    ],
)
def test_wrong_arguments_are_refused(extractor: FeatureExtractor, change, message: str) -> None:
    arguments = {"models": ["a"], "prompts": PROMPTS, "extractor": extractor, **change}
    with pytest.raises(ValueError, match=message):
        compare(**arguments)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    return result.exit_code, result.output


def test_command(models: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPTS[0].caption}\n{PROMPTS[1].caption}\n")
    out = tmp_path / "report"
    status, output = run(models / "first", models / "second", "--prompts", prompts, "--seed", 3, "--out", out)
    assert status == 0, output
    page = (out / "index.html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 4 and all(source.startswith("data:image/webp;base64,") for source in sources)
    assert "http" not in page and "Fréchet" in (out / "comparison.md").read_text()
    clip = read_clip(out / "clips" / "1" / "001.webp")
    assert clip.recipe == {"prompt": PROMPTS[1].caption, "seed": 4, "model": str(models / "second")}
    assert len(json.loads((out / "comparison.json").read_text())["models"]) == 2


def test_command_says_what_is_missing(models: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"\n{PROMPTS[0].caption}\n")
    arguments = ("--prompts", prompts, "--out", tmp_path / "report")
    status, output = run(models / "first", models / "absent", *arguments)
    assert status == 3
    assert "line 1 of" in output and "absent failed" in output.replace("\n", "")
    assert run(models / "first", *arguments)[0] == 3  # for the line
    assert run(models / "absent", *arguments)[0] == 1


def test_command_checks_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run("embedded", "--out", tmp_path / "file")[0] == 1
    assert "`--num-prompts`" in run("embedded", "--num-prompts", 0)[1]
    assert "`world` must be one of" in run("embedded", "--world", "moon", "--out", tmp_path / "out")[1]
    with locked(tmp_path / "out", "out"):
        assert "is in use by another process" in run("embedded", "--out", tmp_path / "out")[1]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a ring")
    assert "`--world` is for" in run("embedded", "--world", "shapes", "--prompts", prompts)[1]
    assert "cannot read" in run("embedded", "--prompts", tmp_path / "absent", "--out", tmp_path / "out")[1]
