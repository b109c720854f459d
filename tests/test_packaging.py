"""The package list, the links, the guards and the wheel agree with what is on disk."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import videogen

ROOT = Path(__file__).parents[1]
LINKS = {"pipelines": ROOT / "videogen" / "pipelines", "train": ROOT / "videogen" / "train"}


@pytest.fixture(scope="module")
def setuptools_config() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def package_folders() -> dict[str, str]:
    """Every folder with modules in it, by the name under which it is imported."""
    folders = {}
    for top, package in (
        ("videogen", "videogen"),
        ("pipelines", "videogen.pipelines"),
        ("train", "videogen.train"),
    ):
        for module in sorted((ROOT / top).rglob("*.py")):
            folder = module.parent
            if any(folder.is_relative_to(link) for link in LINKS.values()):
                continue
            name = ".".join((package, *folder.relative_to(ROOT / top).parts))
            folders[name] = folder.relative_to(ROOT).as_posix()
    return folders


def run_python(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def test_package_list_is_what_is_on_disk(setuptools_config: dict[str, Any]) -> None:
    assert sorted(setuptools_config["packages"]) == sorted(package_folders())


def test_every_package_has_an_init_with_a_docstring() -> None:
    for folder in package_folders().values():
        init = ROOT / folder / "__init__.py"
        assert init.is_file(), f"{folder} has no __init__.py"
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), f"{init} has no docstring"


def test_package_dir_leads_to_the_folders(setuptools_config: dict[str, Any]) -> None:
    package_dir = setuptools_config["package-dir"]
    folders = package_folders()
    assert package_dir.items() <= folders.items()
    outside = {name for name, folder in folders.items() if not folder.startswith("videogen")}
    assert package_dir.keys() == outside | {"videogen"}


@pytest.mark.parametrize("name", LINKS)
def test_link_leads_to_the_folder(name: str) -> None:
    link = LINKS[name]
    if not link.is_symlink():
        pytest.skip(f"this checkout has no symbolic link {link.relative_to(ROOT)}")
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", ["pipelines", "train"])
def test_bare_import_says_what_to_import(name: str) -> None:
    result = run_python(f"import {name}")
    assert result.returncode != 0
    assert f"ImportError: `{name}` is imported as `videogen.{name}`" in result.stderr


@pytest.mark.parametrize("name", ["pipelines", "train", "train.recipes", "train.objectives"])
def test_import_by_the_real_name(name: str) -> None:
    result = run_python(f"import videogen.{name} as package; print(package.__name__)")
    assert result.stdout.strip() == f"videogen.{name}", result.stderr


def test_importing_videogen_is_light() -> None:
    heavy = {"torch", "diffusers", "transformers", "accelerate", "numpy", "PIL", "imageio", "rich", "typer"}
    result = run_python(f"import sys, videogen; print(sorted(sys.modules.keys() & {heavy!r}))")
    assert result.stdout.strip() == "[]", result.stderr


def test_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(videogen.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("videogen.")
        for alias in node.names
    }
    assert seen == videogen._HOMES
    assert set(videogen.__all__) == {"__version__", *seen}
    assert set(videogen.__all__) <= set(dir(videogen))


@pytest.mark.parametrize("name", sorted(videogen._HOMES))
def test_lazy_name_is_the_one_at_home(name: str) -> None:
    value = getattr(videogen, name)
    assert value.__name__ == name
    assert value.__module__ == videogen._HOMES[name]


def test_unknown_name_is_an_attribute_error() -> None:
    name = "no_such_name"  # spelled out, type checkers refuse it
    with pytest.raises(AttributeError, match="'videogen' has no attribute 'no_such_name'"):
        getattr(videogen, name)


@pytest.mark.slow
def test_wheel_holds_the_packages_and_nothing_else(setuptools_config: dict[str, Any], tmp_path: Path) -> None:
    source = (
        tmp_path / "source"
    )  # a copy, so that neither a stale build/ gets in nor a new one is left behind
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("videogen", "pipelines", "train", "tests"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(source),
    ]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr

    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"videogen-{videogen.__version__}-py3-none-any.whl"
    info = f"videogen-{videogen.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.startswith(f"{info}/")}
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()

    expected = {"videogen/py.typed"}
    for name, folder in package_folders().items():
        expected |= {f"{name.replace('.', '/')}/{module.name}" for module in (ROOT / folder).glob("*.py")}
    pretrained = (path for path in (ROOT / "videogen" / "pretrained").rglob("*") if path.is_file())
    words = (ROOT / "videogen" / "data").rglob("*.toml")
    expected |= {path.relative_to(ROOT).as_posix() for path in (*pretrained, *words)}
    assert held == expected
    assert "videogen = videogen.cli:main" in entry_points
