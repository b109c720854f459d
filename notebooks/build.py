"""Executes the lessons and writes them as notebooks with pictures.

    python notebooks/build.py                 # all
    python notebooks/build.py 1_quickstart    # some

The source of a lesson is the `.py` file in percent format, which editors open as a notebook; the `.ipynb`
beside it holds the same cells with what they printed and drew, for readers. `tests/test_notebooks.py` holds
the two in step.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent


def sources() -> list[Path]:
    """The lessons in their order."""
    return sorted(FOLDER.glob("[0-9]_*.py"))


def execute(source: Path, folder: Path) -> NotebookNode:
    """The notebook of a lesson, run from beginning to end in `folder`.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = jupytext.read(source)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads collapse where anything else runs
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # `videogen`
    for idx, cell in enumerate(notebook.cells):
        cell.id = f"cell-{idx}"  # the same at every build
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        startup_timeout=3600,  # a busy machine is no error
    )
    client.execute()
    return notebook


def main() -> None:
    """Build the lessons that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *(source.stem for source in sources())])
    names = parser.parse_args().names
    for source in sources():
        if names and source.stem not in names:
            continue
        start = time.monotonic()
        notebook = execute(source, FOLDER)
        jupytext.write(notebook, source.with_suffix(".ipynb"))
        print(f"{source.stem}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
