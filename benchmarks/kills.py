"""Kills a training run at random moments, resumes it each time, and compares it with one that was left alone.

    python benchmarks/kills.py --out kills.json
    python benchmarks/kills.py --fork      # quicker: libraries are imported once, for all processes

Both runs are `python -m videogen.train kills:recipe`, each time in a process of its own: the recipe
`shapes_mini_uvit`, on small clips and for a few steps. Moments are drawn from a seed, of three kinds:

- start: at some time before the first step, while the run is built and its checkpoint read;
- step: at some time in the step after a given one;
- checkpoint: as soon as a given file of the next checkpoint, or the result beside it, is there unfinished.

The run is killed from outside by SIGKILL, as by `kill -9`, and knows nothing of it. Where that was is told by
what it left: a folder that never got its name is one that was being written. After every kill all checkpoints
that are there, and the log, are compared bit for bit with those of the same steps of the run left alone; at
the end also the results. The exit status is 0 if nothing differs and a checkpoint was hit at least once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.context import BaseContext
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from videogen.data.shapes.dataset import ShapesClips
from videogen.train.checkpoint import list_checkpoints
from videogen.train.config import TrainConfig
from videogen.train.recipes import shapes_mini_uvit
from videogen.train.run_log import RunLog
from videogen.train.verify import checkpoint_differences, differences

NUM_STEPS = 40
KINDS = {"start": 1, "step": 5, "checkpoint": 5}
"""Kinds of moments, and how often each is drawn, in proportion."""
RESULT = "result"
FILES = ("weights.safetensors", "ema.safetensors", "random.safetensors", "optimizers.pt", "state.json")


def recipe() -> TrainConfig:
    """The run that is killed."""
    return dataclasses.replace(
        shapes_mini_uvit().with_num_steps(NUM_STEPS),
        name="kills",
        source=ShapesClips(world="shapes-mini", num_frames=8, size=32),
        batch_size=2,
        log_every=1,
        checkpoint_every=3,
        preview_every=0,
    )


def recipe_left_alone() -> TrainConfig:
    """The same, all of whose checkpoints are kept to be compared with."""
    return dataclasses.replace(recipe(), keep_checkpoints=NUM_STEPS)


@dataclass(frozen=True)
class Moment:
    """When a run is killed.

    Attributes:
        kind: One of `KINDS`.
        step: After which one, if the run is not beyond it already.
        share: Of the time that a start or a step takes, in [0, 1).
        file: Which file of a checkpoint has to be there, or `RESULT`.
    """

    kind: str
    step: int
    share: float
    file: str


def draw_moments(num_kills: int, seed: int) -> list[Moment]:
    """Moments all over a run, in its order."""
    rng = Random(f"kills/{seed}")
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=num_kills)
    steps = sorted(rng.randrange(NUM_STEPS - 3) for _ in kinds)
    return [
        Moment(kind, step, rng.random(), rng.choice((RESULT, *FILES)))
        for kind, step in zip(kinds, steps, strict=True)
    ]


class Life:
    """A process that trains, from its start to its end or its kill.

    Args:
        context: How it is started.
        function: The recipe, in this module.
        folder: Of the run.
    """

    def __init__(self, context: BaseContext, function: str, folder: Path) -> None:
        self.folder = folder
        self.output = folder.with_suffix(".txt")
        self.began = time.time()
        arguments = [f"{Path(__file__).stem}:{function}", "--cpu", "--output-dir", str(folder)]
        self.process = context.Process(target=train_command, args=(arguments, self.output))
        self.process.start()

    def end(self) -> None:
        """Wait for the end of the run, which must be a good one."""
        self.process.join()
        if self.process.exitcode != 0:
            raise SystemExit(f"the run failed: {self.output.read_text()[-2000:]}")

    def kill(self, moment: Moment, start_seconds: float, step_seconds: float) -> None:
        """Kill the run at a moment."""
        if moment.kind == "start":
            until = time.time() + moment.share * start_seconds
            resumed_at = self._resumed_at()
            self._wait(lambda: time.time() > until or self._num_steps() > resumed_at)
        elif moment.kind == "step":
            first = max(moment.step, self._resumed_at() + 1)
            self._wait(lambda: self._num_steps() >= first)
            time.sleep(moment.share * step_seconds)
        else:
            self._wait(lambda: self._num_steps() > moment.step and self._writes(moment.file))
        self.process.kill()
        self.process.join()
        if self.process.exitcode != -signal.SIGKILL:
            raise SystemExit(f"the run ended before it could be killed at {moment}")

    def unfinished(self) -> str:
        """What this process was writing when it was killed; empty if nothing."""
        if self._writes(RESULT):
            return "result"
        return next((f"checkpoint, {name} there" for name in reversed(FILES) if self._writes(name)), "")

    def _wait(self, until: Callable[[], bool]) -> None:
        while not until():
            if not self.process.is_alive():
                raise SystemExit(f"the run ended by itself: {self.output.read_text()[-2000:]}")
            time.sleep(0.0005)

    def _resumed_at(self) -> int:
        found = list_checkpoints(self.folder / "checkpoints")
        return int(found[-1].name.rpartition("-")[2]) if found else 0

    def _num_steps(self) -> int:
        """Steps in the log, once this process has written to it; 0 before."""
        log = RunLog(self.folder).path
        return log.read_bytes().count(b"\n") if self._is_of_this_life(log) else 0

    def _writes(self, name: str) -> bool:
        pattern = ".*.partial/*" if name == RESULT else f"checkpoints/.*.partial/{name}"
        return any(self._is_of_this_life(path) for path in self.folder.glob(pattern))

    def _is_of_this_life(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime > self.began
        except FileNotFoundError:
            return False


def train_command(arguments: list[str], output: Path) -> None:
    """`python -m videogen.train` with these arguments, in this process, by what `python -m` itself runs."""
    with output.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = ["videogen.train", *arguments]
    runpy.run_module("videogen.train", run_name="__main__", alter_sys=True)


def differences_so_far(straight: Path, killed: Path) -> Iterator[str]:
    """What differs between the checkpoints and logs of a killed run and the same steps of another one."""
    for path in list_checkpoints(killed / "checkpoints"):
        for line in checkpoint_differences(straight / "checkpoints" / path.name, path):
            yield f"{path.name}: {line}"
    lines = RunLog(killed).numbers()
    if lines != RunLog(straight).numbers()[: len(lines)]:
        yield f"the log of {len(lines)} steps"


def run_kills(context: BaseContext, folder: Path, num_kills: int, seed: int) -> dict[str, Any]:
    """Do both runs in a folder, and tell of every kill; what differs at the end is under `differences`."""
    straight, killed = folder / "straight", folder / "killed"
    life = Life(context, "recipe_left_alone", straight)
    life.end()
    times = [line["time"] for line in RunLog(straight).lines()]
    start_seconds = times[0] - life.began
    step_seconds = median(after - before for before, after in pairwise(times))
    print(f"{NUM_STEPS} steps straight: {start_seconds:.1f} s to the first, {step_seconds:.2f} s each")

    found: list[str] = []
    kills = []
    for number, moment in enumerate(draw_moments(num_kills, seed), start=1):
        life = Life(context, "recipe", killed)
        life.kill(moment, start_seconds, step_seconds)
        differing = list(differences_so_far(straight, killed))
        found += [f"after kill {number}: {line}" for line in differing]
        checkpoints = [path.name for path in list_checkpoints(killed / "checkpoints")]
        kill = {
            "kind": moment.kind,
            "steps_in_log": len(RunLog(killed).lines()),
            "unfinished": life.unfinished(),
            "goes_on_from": checkpoints[-1] if checkpoints else "the beginning",
            "differences": len(differing),
        }
        kills.append(kill)
        print(f"kill {number}:", ", ".join(f"{name} {value}" for name, value in kill.items()), flush=True)
    Life(context, "recipe", killed).end()
    found += differences(straight, killed)
    return {"seed": seed, "num_steps": NUM_STEPS, "kills": kills, "differences": found}


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--fork", action="store_true", help="fork processes off one that has all imported")
    parser.add_argument("--folder", type=Path, help="an empty one, to keep both runs in")
    parser.add_argument("--out", type=Path, help="JSON")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        if any(arguments.folder.iterdir()):
            parser.error(f"--folder must be empty: {arguments.folder}")

    context = multiprocessing.get_context("forkserver" if arguments.fork else "spawn")
    if arguments.fork:
        context.set_forkserver_preload(["videogen.train.loop", "videogen.train.recipes"])
        first = context.Process(target=time.time)  # it waits for the imports, which no start shall count
        first.start()
        first.join()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="videogen-kills-") as scratch:
        report = run_kills(
            context, (arguments.folder or Path(scratch)).resolve(), arguments.num_kills, arguments.seed
        )
    report["seconds"] = round(time.perf_counter() - start, 1)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    hits = Counter(kill["unfinished"].partition(",")[0] or "nothing" for kill in report["kills"])
    print("unfinished when killed:", ", ".join(f"{name} {count}" for name, count in sorted(hits.items())))
    for line in report["differences"]:
        print("differs:", line)
    identical = not report["differences"]
    print(
        f"{arguments.num_kills} kills, {report['seconds']} s:", "identical" if identical else "NOT identical"
    )
    sys.exit(0 if identical and hits["checkpoint"] else 1)


if __name__ == "__main__":
    main()
