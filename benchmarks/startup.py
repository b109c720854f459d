"""Measures what a user waits for before the first clip: the wheel, its installation, the imports.

    python benchmarks/startup.py --install --out startup.json

Imports are timed inside fresh processes (the median of several), with the files in the page cache.
Installing takes place in a fresh virtual environment, with whatever index and cache pip is set up for:
the figure says as much about the network and the dependencies as about this project, and is asked for
with `--install`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = {
    "import videogen": "import videogen",
    "videogen.io": "import videogen.io",
    "videogen.cli": "import videogen.cli",
    "load_generator (what `videogen generate` uses)": "from videogen.pipelines.loading import load_generator",
    "the same as `videogen generate` imports it": (
        "from videogen.commands.startup import quick_imports\n"
        "with quick_imports():\n    import videogen.commands.generate"
    ),
    "TextToVideoPipeline": "from videogen import TextToVideoPipeline",
    "beside it: torch": "import torch",
    "beside it: diffusers.DiffusionPipeline": "from diffusers import DiffusionPipeline",
}


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="a built wheel; by default one is built from the checkout")
    parser.add_argument("--install", action="store_true", help="install it in a fresh environment")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()

    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        wheel = arguments.wheel or build_wheel(Path(scratch))
        results["wheel, MiB"] = wheel.stat().st_size / 1024**2
        if arguments.install:
            results["pip install, s"] = install_seconds(wheel, Path(scratch) / "venv")
    results["python -c pass, s (whole process)"] = process_seconds("pass", arguments.repeats)
    for name, code in IMPORTS.items():
        results[f"{name}, s"] = import_seconds(code, arguments.repeats)

    from videogen.evaluation import markdown_table

    print(markdown_table(["", "measured"], [[name, f"{value:.3g}"] for name, value in results.items()]))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2))


def build_wheel(scratch: Path) -> Path:
    """Build in a copy of the checkout, which so stays free of build folders; needs setuptools, no network."""
    copy = scratch / "checkout"
    ignored = shutil.ignore_patterns(".*", "runs", "outputs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(scratch),
    ]
    subprocess.run([*command, str(copy)], check=True)
    return next(scratch.glob("*.whl"))


def install_seconds(wheel: Path, folder: Path) -> float:
    """Seconds of `pip install WHEEL` with all its dependencies in a new environment."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    start = time.perf_counter()
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-input", str(wheel)], check=True)
    return time.perf_counter() - start


def import_seconds(code: str, repeats: int) -> float:
    """Median seconds that an import takes in a fresh process, the interpreter's own start not counted."""
    timed = f"import time\nstart = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"
    command = [sys.executable, "-c", timed]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)  # fills the page cache
    return median(
        float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
        for _ in range(repeats)
    )


def process_seconds(code: str, repeats: int) -> float:
    """Median seconds of a whole process."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


if __name__ == "__main__":
    main()
