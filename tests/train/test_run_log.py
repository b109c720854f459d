"""The log: lines survive, torn and obsolete ones do not."""

from pathlib import Path

import pytest

from videogen.train.run_log import RunLog


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    log = RunLog(tmp_path)
    for step in range(1, 7):
        log.append({"step": step, "loss": 0.1 * step, **({"psnr": 20.0} if step == 4 else {})})
    return log


def test_lines_come_back_exactly(log: RunLog, tmp_path: Path) -> None:
    lines = log.lines()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in lines] == [0.1 * step for step in range(1, 7)]
    assert all(line["time"] > 1.7e9 for line in lines)
    assert RunLog(tmp_path / "nowhere").lines() == []


def test_a_torn_last_line_is_no_line(log: RunLog) -> None:
    whole = log.path.read_text()
    log.path.write_text(whole + '{"step": 7, "lo')
    assert [line["step"] for line in log.lines()] == [1, 2, 3, 4, 5, 6]
    log.forget_after(6)
    assert log.path.read_text() == whole


def test_what_came_after_a_checkpoint_is_forgotten(log: RunLog, tmp_path: Path) -> None:
    before = log.lines()
    log.forget_after(4)
    assert log.lines() == before[:4]
    log.forget_after(0)
    assert log.lines() == []
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    RunLog(tmp_path / "nowhere").forget_after(0)


def test_means(log: RunLog) -> None:
    assert log.mean("loss", after=2, until=4) == pytest.approx(0.35)
    assert log.mean("psnr", after=0, until=6) == 20.0
    assert log.mean("psnr", after=4, until=6) is None
    assert log.mean("fvd", after=0, until=6) is None
