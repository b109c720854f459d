"""The evaluation of a whole model: what it makes, what it counts, what it writes."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer import Typer
from typer.testing import CliRunner

from tests.tiny import randomise
from tests.tiny_pipeline import make_pipeline
from videogen.codec.pixels import frames_to_pixels
from videogen.commands.evaluate import evaluate_command
from videogen.data.shapes.captions import vocabulary
from videogen.data.shapes.world import SHAPES_MINI
from videogen.evaluation import EvaluationReport, codec_psnr, evaluate, generate_clips, markdown_table
from videogen.metrics.prompt_accuracy import evaluation_prompts
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.text.encoder import TextEncoder


@pytest.fixture(scope="module")
def pipeline() -> TextToVideoPipeline:
    """A pipeline with random weights."""
    text_encoder = TextEncoder(vocabulary(), hidden_size=16, num_layers=1).eval()
    randomise(text_encoder)
    built = make_pipeline(TextToVideoPipeline, text_encoder=text_encoder, defaults=None)
    built.set_progress_bar_config(disable=True)
    return built


@pytest.fixture(scope="module")
def report(pipeline: TextToVideoPipeline) -> EvaluationReport:
    return evaluate(
        pipeline,
        num_inference_steps=[1, 2],
        guidance_scales=[1.0, 3.0],
        num_prompts=3,
        num_codec_clips=3,
        model="random",
    )


def test_every_setting_and_kind_of_prompts_is_measured(report: EvaluationReport) -> None:
    measured = [(item.num_inference_steps, item.guidance_scale) for item in report.settings]
    assert measured == [(1, 1.0), (1, 3.0), (2, 1.0), (2, 3.0)]
    for setting in report.settings:
        assert list(setting.accuracy) == ["seen", "held out", "two objects"]
        assert {accuracy.all_right.total for accuracy in setting.accuracy.values()} == {3}
        assert setting.seconds_per_clip > 0
    assert report.codec_psnr.num_values == 3


def test_report_as_a_page_and_as_data(report: EvaluationReport) -> None:
    page = report.to_markdown()
    header, rows = report.accuracy_table()
    assert len(rows) == 12
    assert page.startswith("# Evaluation of random\n")
    assert markdown_table(header, rows) in page
    assert "| motion " in page and "| shape " in page
    brief = report.accuracy_table(brief=True)[1]
    assert [row[4].split()[0] for row in rows] == [row[4] for row in brief]
    assert [row[-1] for row in rows] == [row[-1] for row in brief]
    data = json.loads(report.to_json())
    assert data["settings"][3]["accuracy"]["held out"]["all_right"]["total"] == 3


def test_a_world_without_pairs_is_asked_for_none(pipeline: TextToVideoPipeline) -> None:
    mini = evaluate(
        pipeline,
        "shapes-mini",
        num_inference_steps=[1],
        guidance_scales=[1.0],
        num_prompts=1,
        num_codec_clips=1,
    )
    assert list(mini.settings[0].accuracy) == ["seen", "held out"]


def test_clip_k_is_the_clip_of_seed_plus_k(pipeline: TextToVideoPipeline) -> None:
    prompts = evaluation_prompts(SHAPES_MINI, 10, held_out=False)  # more than one batch
    made: list[int] = []
    clips: list[Tensor] = list(generate_clips(pipeline, prompts, 2, 3.0, 40, made.append, batch_size=4))
    assert made == [4, 4, 2] and len(clips) == 10
    alone = pipeline(
        prompts[9].caption,
        num_inference_steps=2,
        guidance_scale=3.0,
        seed=49,
        return_dict=False,
    )[0]
    torch.testing.assert_close(clips[9], frames_to_pixels(alone)[0], rtol=0, atol=1e-5)


def test_a_bad_clip_is_named_and_counts_as_wrong() -> None:
    broken = make_pipeline(TextToVideoPipeline, defaults=None)
    broken.set_progress_bar_config(disable=True)
    prompts = evaluation_prompts(SHAPES_MINI, 3, held_out=False)
    whole = list(generate_clips(broken, prompts, 2, 3.0, 40, lambda _: None))

    def spoil(_: nn.Module, arguments: tuple[Tensor, ...], output: tuple[Tensor]) -> tuple[Tensor]:
        output[0].unflatten(0, (2, -1))[:, 1] = math.nan
        return output

    broken.unet.register_forward_hook(spoil)
    with pytest.warns(UserWarning, match=r"with seed 41 has latents that are not finite.*counts as wrong"):
        clips = list(generate_clips(broken, prompts, 2, 3.0, 40, lambda _: None))
    assert torch.equal(clips[0], whole[0]) and torch.equal(clips[2], whole[2])
    assert not clips[1].any()


def test_blank_clips_end_no_evaluation() -> None:
    blank = make_pipeline(TextToVideoPipeline, defaults=None)
    blank.set_progress_bar_config(disable=True)
    for parameter in blank.vae.decoder.parameters():
        nn.init.zeros_(parameter)
    found = evaluate(blank, num_inference_steps=[1], guidance_scales=[1.0], num_prompts=2, num_codec_clips=1)
    assert found.settings[0].seconds_per_clip > 0
    assert found.settings[0].accuracy["seen"].all_right.successes == 0


def test_codec_psnr_is_the_same_whatever_the_number_of_clips(pipeline: TextToVideoPipeline) -> None:
    torch.testing.assert_close(
        codec_psnr(pipeline.vae, 9)[:2], codec_psnr(pipeline.vae, 2), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"world": "flat"}, "`world` must be one of shapes, shapes-mini"),
        ({"num_inference_steps": []}, "`num_inference_steps`"),
        ({"num_inference_steps": [4, 0]}, "`num_inference_steps`"),
        ({"guidance_scales": [3.0, float("nan")]}, "`guidance_scales`"),
        ({"num_prompts": 0}, "`num_prompts`"),
        ({"batch_size": 0}, "`batch_size`"),
    ],
)
def test_wrong_arguments_are_refused(
    pipeline: TextToVideoPipeline, change: dict[str, object], message: str
) -> None:
    arguments: dict[str, object] = {"num_inference_steps": [1], "guidance_scales": [1.0], **change}
    with pytest.raises(ValueError, match=message):
        evaluate(pipeline, **arguments)  # type: ignore[arg-type]


def test_command_writes_the_report(pipeline: TextToVideoPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    app = Typer()
    app.command()(evaluate_command)
    sizes = ["--world", "shapes-mini", "--num-prompts", "1", "--num-codec-clips", "2", "--batch-size", "3"]
    settings = ["--steps", "1", "--steps", "2", "--guidance", "1", "--dtype", "bfloat16"]
    page = tmp_path / "new" / "deep" / "page.md"
    paths = ["--model", str(tmp_path / "model"), "--out", str(page)]
    result = CliRunner().invoke(app, [*sizes, *settings, *paths], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert "Codec: PSNR" in result.stdout
    heads = [line.split() for line in result.stdout.splitlines() if line.startswith("prompts")]
    assert heads == [["prompts", *["colour", "shape", "size", "motion", "background", "all", "right"]]] * 2
    assert result.stdout.count("held out") == 2 and "…" not in result.stdout
    assert "2 steps, guidance 1, held out" in result.stderr
    assert "held out" in page.read_text()
    assert len(json.loads(page.with_suffix(".json").read_text())["settings"]) == 2


def test_command_checks_where_to_write_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.md"):
        evaluate_command(out=tmp_path / "page.html")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is no folder"):
        evaluate_command(out=tmp_path / "file" / "page.md")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(ValueError, match=r"must be a file, but '.*folder\.md' is a folder"):
        evaluate_command(out=tmp_path / "folder.md")
