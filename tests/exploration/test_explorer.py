"""Exploring with tiny real networks: what is measured, what is kept, and that nothing is run twice."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny_pipeline import make_pipeline
from videogen.data.shapes.world import SHAPES_MINI
from videogen.exploration.explorer import estimate_seconds, explore
from videogen.exploration.grid import make_grid
from videogen.exploration.results import Exploration
from videogen.folder_lock import locked
from videogen.metrics.prompt_accuracy import evaluation_prompts
from videogen.pipelines.generation import TextToVideo
from videogen.pipelines.text_to_video import TextToVideoPipeline
from videogen.presets import Preset
from videogen.sampling.guidance_kinds import IntervalGuidance
from videogen.sampling.schedulers import make_scheduler

GRID: dict[str, Any] = {"schedulers": ["euler", "dpm++2m"], "steps": [2, 4], "reference_steps": 6}
DEFAULTS = {"num_frames": 8, "height": 32, "width": 32, "num_inference_steps": 2, "guidance_scale": 3.0}


@pytest.fixture
def pipeline() -> TextToVideo:
    return make_pipeline(TextToVideo, defaults=DEFAULTS)


def count_passes(pipeline: TextToVideo) -> list[int]:
    passes: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda _, arguments: passes.append(arguments[2].num_prompts))
    return passes


def run(pipeline: TextToVideo, folder: Path, **changes: Any) -> Exploration:
    prompts = evaluation_prompts(SHAPES_MINI, 2, held_out=False)
    return explore(pipeline, prompts, folder=folder, **(GRID | changes))


def test_every_point_is_measured_and_components_are_left_alone(pipeline: TextToVideo, tmp_path: Path) -> None:
    scheduler = pipeline.scheduler
    exploration = run(
        pipeline,
        tmp_path,
        seeds=[0, 5],
        guidance=["cfg", IntervalGuidance(low=0.5, high=1.0)],
        features=lambda pixels: pixels.flatten(1)[:, :7],
    )
    assert pipeline.scheduler is scheduler
    assert exploration.stopped is None and len(exploration.results) == exploration.num_points == 8
    for result in exploration.results:
        assert result.failure is None and len(result.clips) == 4 and len(result.diversity) == 2
        assert [clip.seed for clip in result.clips] == [0, 5, 1, 6]
        for metric in ("seconds", "passes", "psnr", "error", "feature_distance", "accuracy", "diversity"):
            assert result.measured(metric) is not None
        assert len(result.trajectory) == result.point.num_inference_steps
        assert result.trajectory[-1].to_end < 1e-4
    by_label = {result.point.label: result for result in exploration.results}
    assert by_label["euler 4, scale 3"].values("passes") == [8.0] * 4
    assert by_label["euler 4, scale 3, interval:low=0.5,high=1"].values("passes") == [7.0] * 4
    assert {line for line, _ in exploration.orders().items()} >= {"euler, scale 3", "dpm++2m, scale 3"}


def test_a_clip_is_the_one_of_the_call_with_its_seed(pipeline: TextToVideo, tmp_path: Path) -> None:
    prompts = ["a red circle", "a blue star"]
    exploration = explore(
        pipeline, prompts, schedulers=["heun"], steps=[3], reference_steps=3, folder=tmp_path
    )
    pipeline.scheduler = make_scheduler("heun", "flow_prediction", pipeline.scheduler)
    alone = pipeline(prompts[1], seed=1, num_inference_steps=3, output_type="latent", return_dict=False)[0]
    (file,) = (tmp_path / "references").iterdir()
    torch.testing.assert_close(torch.from_numpy(np.load(file))[1:], alone)
    assert exploration.results[0].clips[1].seed == 1
    assert exploration.quality == "psnr"  # texts of no world are not judged


def test_the_reference_itself_has_no_error(pipeline: TextToVideo, tmp_path: Path) -> None:
    exploration = run(pipeline, tmp_path, schedulers=["heun"], steps=[6])
    assert exploration.results[0].values("error") == [0.0, 0.0]
    assert exploration.results[0].values("psnr") == [100.0, 100.0]


def test_nothing_is_run_twice_and_a_grid_can_grow(pipeline: TextToVideo, tmp_path: Path) -> None:
    first = run(pipeline, tmp_path, steps=[2])
    passes = count_passes(pipeline)
    again = run(pipeline, tmp_path, steps=[2])
    assert passes == []
    assert [item.as_dict() for item in again.results] == [item.as_dict() for item in first.results]
    grown = run(pipeline, tmp_path, steps=[2, 3])
    assert len(grown.results) == 4
    # Two schedulers, two clips, a call to warm up, and the first clips once more for their trajectories.
    assert len(passes) == 3 * (2 * 2 + 1 + 2)


def test_clips_made_together_are_those_made_alone(pipeline: TextToVideo, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": [0, 5], "schedulers": ["dpm++sde"], "steps": [3]}
    (alone,) = run(pipeline, tmp_path / "alone", **options).results
    (together,) = run(pipeline, tmp_path / "together", batch_size=3, **options).results
    assert [(clip.prompt_idx, clip.seed) for clip in together.clips] == [(0, 0), (0, 5), (1, 1), (1, 6)]
    for metric in ("error", "psnr", "flicker", "saturation", "accuracy", "diversity"):
        assert together.values(metric) == pytest.approx(alone.values(metric), rel=1e-4), metric
    assert together.values("passes") == [6.0, 6.0]  # of a batch of three and one of one
    assert len(together.values("seconds")) == 2 and len(alone.values("seconds")) == 4


def test_half_precision_is_explored_as_it_is(pipeline: TextToVideo, tmp_path: Path) -> None:
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert isinstance(network, nn.Module)
        nn.Module.to(network, torch.bfloat16)
    exploration = run(pipeline, tmp_path, steps=[2], batch_size=2)
    assert exploration.setup["dtype"] == "bfloat16"
    assert all(0 < result.values("error")[0] < 10 for result in exploration.results)


def test_a_reference_goes_on_where_it_was_stopped(pipeline: TextToVideo, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    remove = interrupt_in_pass(pipeline, 15)  # heun takes 11 passes for 6 steps: in that of the second clip
    try:
        assert run(pipeline, tmp_path).stopped == "interrupted"
    finally:
        signal.signal(signal.SIGINT, before)
        remove()
    passes = count_passes(pipeline)
    assert run(pipeline, tmp_path, schedulers=["euler"], steps=[2]).stopped is None
    assert len(passes) == 11 + 2 * (1 + 2 + 1)  # one clip of the reference, then a point with its warming up


def interrupt_in_pass(pipeline: TextToVideo, number: int) -> Callable[[], None]:
    """Ctrl-C, sent to this process in a later pass of the network; the answer takes the hook away."""
    passes: list[int] = []

    def count(_: Any, __: Any) -> None:
        passes.append(1)
        if len(passes) == number:
            os.kill(os.getpid(), signal.SIGINT)

    return pipeline.unet.register_forward_pre_hook(count).remove


def test_ctrl_c_keeps_what_is_done(pipeline: TextToVideo, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    remove = interrupt_in_pass(pipeline, 14)  # a point is 2 * 2 passes, 2 of warming up, 2 of its trajectory
    try:
        stopped = run(pipeline, tmp_path, reference_steps=0)
    finally:
        signal.signal(signal.SIGINT, before)
        remove()
    assert stopped.stopped == "interrupted" and 0 < len(stopped.results) < 4
    done = len(stopped.results)
    lines = (tmp_path / "points.jsonl").read_text().splitlines()
    assert len(lines) == done

    whole = run(pipeline, tmp_path, reference_steps=0)
    assert whole.stopped is None and len(whole.results) == 4
    assert (tmp_path / "points.jsonl").read_text().splitlines()[:done] == lines


def test_a_line_that_was_cut_off_is_run_again(pipeline: TextToVideo, tmp_path: Path) -> None:
    run(pipeline, tmp_path, reference_steps=0)
    file = tmp_path / "points.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-30])
    passes = count_passes(pipeline)
    assert len(run(pipeline, tmp_path, reference_steps=0).results) == 4
    assert len(passes) == 4 * (2 + 1 + 1)  # of the last point alone
    assert len(file.read_text().splitlines()) == 4


def test_a_budget_ends_the_grid(pipeline: TextToVideo, tmp_path: Path) -> None:
    exploration = run(pipeline, tmp_path, reference_steps=0, budget=1e-9)
    assert exploration.results == () and exploration.stopped == "the budget of 1e-09 s is used up"


def test_a_folder_belongs_to_one_exploration(pipeline: TextToVideo, tmp_path: Path) -> None:
    run(pipeline, tmp_path / "a", reference_steps=0, steps=[2])
    with pytest.raises(ValueError, match="holds an exploration with other seeds"):
        run(pipeline, tmp_path / "a", reference_steps=0, steps=[2], seeds=[3])
    with pytest.raises(ValueError, match="holds something else than an exploration"):
        run(pipeline, tmp_path)


def test_a_folder_belongs_to_one_set_of_weights(pipeline: TextToVideo, tmp_path: Path) -> None:
    run(pipeline, tmp_path, reference_steps=0, steps=[2])
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(0.1)
    with pytest.raises(ValueError, match="holds an exploration with other weights"):
        run(pipeline, tmp_path, reference_steps=0, steps=[2])


def test_a_line_that_was_edited_is_named(pipeline: TextToVideo, tmp_path: Path) -> None:
    run(pipeline, tmp_path, reference_steps=0, steps=[2])
    file = tmp_path / "points.jsonl"
    for line in ('{"point": 3}', "[]", "no JSON"):
        file.write_text(f"{file.read_text().splitlines()[0]}\n{line}\n")
        with pytest.raises(ValueError, match=r"line 2 of .*points.jsonl is no result of a point"):
            run(pipeline, tmp_path, reference_steps=0, steps=[2])


def test_a_point_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    pipeline = make_pipeline(TextToVideo, defaults=DEFAULTS)

    def spoil(_: Any, arguments: Any, output: tuple[Tensor]) -> tuple[Tensor]:
        return (output[0] * float("inf"),) if float(arguments[1]) < 600 else output

    pipeline.unet.register_forward_hook(spoil)
    exploration = run(pipeline, tmp_path, reference_steps=0, schedulers=["euler"], steps=[1, 4])
    assert [result.failure is None for result in exploration.results] == [True, False]
    assert "not finite after step 4 of 4" in str(exploration.results[1].failure)
    assert exploration.best().num_inference_steps == 1


def spoil_clip(pipeline: TextToVideo, idx: int, num_passes: int = 1000) -> None:
    """Clip `idx` of every larger batch becomes NaN, in so many passes of the network from now on."""
    passes: list[int] = []

    def spoil(_: Any, arguments: Any, output: tuple[Tensor]) -> tuple[Tensor]:
        passes.append(1)
        num_clips = len(arguments[0])
        if num_clips > idx and len(passes) <= num_passes:
            output[0][idx::num_clips] = float("nan")  # with and without the prompt
        return output

    pipeline.unet.register_forward_hook(spoil)


def test_one_bad_clip_is_named_and_the_others_count(pipeline: TextToVideo, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": [0, 5], "schedulers": ["euler"], "steps": [3], "batch_size": 4}
    (whole,) = run(pipeline, tmp_path / "whole", **options).results
    spoil_clip(pipeline, 2)
    with pytest.warns(UserWarning, match="the reference of '.*' with seed 1 has latents that are not finite"):
        exploration = run(pipeline, tmp_path / "bad", **options)
    (result,) = exploration.results
    assert result.failure is None and result.trajectory
    (bad,) = result.bad_clips
    assert (bad.prompt_idx, bad.seed, bad.accuracy, bad.psnr) == (1, 1, False, None)
    assert len(result.values("accuracy")) == 4 and len(result.values("psnr")) == 3
    good = [clip for clip in whole.clips if clip.seed != 1]
    assert result.values("psnr") == [clip.psnr for clip in good]
    assert result.values("flicker") == [clip.flicker for clip in good]
    assert len(result.diversity) == 1 and result.diversity == whole.diversity[:1]
    assert exploration.to_rows()[0]["num_bad_clips"] == 1
    (note,) = exploration.bad_clip_notes()
    assert note.startswith("euler 3, scale 3: the clip of '") and "' with seed 1 has latents that are" in note
    assert note.split("'")[1] in exploration.to_html()
    again = run(pipeline, tmp_path / "bad", **options)
    assert again.results[0].as_dict() == result.as_dict()


def test_a_blank_clip_is_a_bad_one(pipeline: TextToVideo, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in pipeline.vae.decoder.conv_out.parameters():  # type: ignore[attr-defined]
            parameter.zero_()
    exploration = run(pipeline, tmp_path, schedulers=["euler"], steps=[2], reference_steps=0)
    assert "none of 2 clips is good: the first is blank" in str(exploration.results[0].failure)
    assert exploration.bad_clip_notes()[0].startswith("euler 2, scale 3: none of 2 clips is good")
    assert "failed: none of 2 clips is good" in exploration.to_html()
    with pytest.raises(ValueError, match="no point has both"):
        exploration.best()


def test_nothing_is_compared_with_a_bad_reference(pipeline: TextToVideo, tmp_path: Path) -> None:
    spoil_clip(pipeline, 1, num_passes=11)  # heun takes 11 passes for 6 steps
    with pytest.warns(UserWarning, match="nothing is compared with it"):
        exploration = run(pipeline, tmp_path, schedulers=["euler"], steps=[2], batch_size=2)
    first, second = exploration.results[0].clips
    assert first.psnr is not None and first.failure is None
    assert (second.psnr, second.error, second.failure) == (None, None, None)


def test_a_setting_that_loses_clips_is_not_the_best(pipeline: TextToVideo, tmp_path: Path) -> None:
    prompts = ["a red circle", "a blue star"]  # texts of no world, which are not judged
    found = explore(pipeline, prompts, schedulers=["euler"], steps=[2, 6], batch_size=2, folder=tmp_path)
    steps_2, steps_6 = found.results
    assert found.best().num_inference_steps == 6
    clips = (steps_6.clips[0], replace(steps_6.clips[1], psnr=None, failure="is blank"))
    with_loss = replace(found, results=(steps_2, replace(steps_6, clips=clips)))
    assert with_loss.best().num_inference_steps == 2


def test_best_is_a_preset_within_the_time(pipeline: TextToVideo, tmp_path: Path) -> None:
    exploration = run(pipeline, tmp_path)
    best = exploration.best(max_seconds=1e6)
    assert isinstance(best, Preset) and best.scheduler in GRID["schedulers"] and best.guidance == "cfg"
    with pytest.raises(ValueError, match="but the fastest point takes"):
        exploration.best(max_seconds=1e-9)
    with pytest.raises(ValueError, match="`y` must be one of accuracy"):
        exploration.pareto("seconds", "seconds")


def test_rows_and_a_table_of_pandas(pipeline: TextToVideo, tmp_path: Path) -> None:
    exploration = run(pipeline, tmp_path, reference_steps=0, steps=[2])
    rows = exploration.to_rows()
    assert [row["scheduler"] for row in rows] == ["euler", "dpm++2m"]
    assert rows[0]["seconds_low"] <= rows[0]["seconds"] <= rows[0]["seconds_high"]
    assert rows[0]["psnr"] is None
    try:
        import pandas
    except ImportError:
        with pytest.raises(ValueError, match=r"pip install \"videogen\[notebooks\]\""):
            exploration.to_dataframe()
    else:
        assert isinstance(exploration.to_dataframe(), pandas.DataFrame)


def test_a_time_is_foreseen_from_the_first_point(pipeline: TextToVideo) -> None:
    few = make_grid(["euler"], [2], [3.0], ["cfg"], [None])
    many = make_grid(["euler"], range(1, 1001), [3.0], ["cfg"], [None])
    short = estimate_seconds(pipeline, ["a star"], few, 1, 0)
    assert estimate_seconds(pipeline, ["a star"], many, 1, 0) > 1000 * short  # 250,000 times as many passes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "`seeds` must be different"),
        ({"seeds": [1, 1]}, "`seeds` must be different"),
        ({"seeds": [0, -1]}, "`seeds` must be at least 0, got -1"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"budget": 0}, "`budget` must be above 0 seconds"),
        ({"reference_steps": -1}, "`reference_steps` must be at least 0"),
        ({"schedulers": []}, "`schedulers` is empty"),
    ],
)
def test_wrong_arguments_are_refused(
    pipeline: TextToVideo, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(pipeline, tmp_path / "new", **change)
    with pytest.raises(ValueError, match="`prompts` must be a list"):
        explore(pipeline, [], folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_diffusers_pipeline_is_explored_too(tmp_path: Path) -> None:
    pipeline = make_pipeline(TextToVideoPipeline, defaults=DEFAULTS)
    scheduler, config = pipeline.scheduler, dict(pipeline.config)
    exploration = run(pipeline, tmp_path, reference_steps=0, steps=[2])
    assert len(exploration.results) == 2
    assert pipeline.scheduler is scheduler and dict(pipeline.config) == config


def test_a_folder_is_explored_by_one_process_at_a_time(pipeline: TextToVideo, tmp_path: Path) -> None:
    with (
        locked(tmp_path, "folder"),
        pytest.raises(ValueError, match=r"`folder` .* is in use by another process"),
    ):
        run(pipeline, tmp_path)
    assert len(run(pipeline, tmp_path).results) == 4
