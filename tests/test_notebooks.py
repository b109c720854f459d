"""The lessons run on the embedded model, and the notebooks hold what their sources say, executed."""

import importlib.util
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]_*.py"))
MAX_BYTES = 3_000_000  # of a notebook: every version stays in the history

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_notebooks", ROOT / "notebooks" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_lessons() -> None:
    assert len(SOURCES) >= 4
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks == {source.stem for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_its_source_executed_from_top_to_bottom(source: Path) -> None:
    file = source.with_suffix(".ipynb")
    notebook = nbformat.read(file, as_version=4)
    expected = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == expected, "run notebooks/build.py"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    kinds = {kind for output in outputs if "data" in output for kind in output.data}
    assert kinds & {"text/html", "image/png"}, "a lesson shows something"
    assert "site-packages" not in file.read_text(encoding="utf-8"), "a warning shows a path of this machine"
    assert file.stat().st_size < MAX_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_runs(source: Path, tmp_path: Path) -> None:
    notebook = load_builder().execute(source, tmp_path)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source)
