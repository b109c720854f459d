"""Files and folders: whole or absent whatever happens, readable as the umask says; JSON; hashes."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from tests.full_disk import full_disk
from videogen.files import (
    check_folder_of,
    file_hash,
    named_files_hash,
    read_json,
    remove_folder,
    remove_leftovers,
    tensors_hash,
    write_json,
    write_text,
    written_whole,
)
from videogen.models.weights_hash import weights_hash

KINDS = pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
ODD_NAMES = (
    "a b", "-n", "~", "%04d.png", "a\nb", "*[?]", 'quo"te\'s', "été 雪 🎬", "a.partial", ".hidden", "x" * 255,
    os.fsdecode(b"\xff\xfe"),
)  # fmt: skip


def fill(partial: Path, text: str, is_folder: bool) -> None:
    """Write a text, in a folder to several files."""
    for file in [partial / "a", partial / "deep/b"] if is_folder else [partial]:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def write(path: Path, text: str, is_folder: bool) -> None:
    with written_whole(path, is_folder=is_folder) as partial:
        fill(partial, text, is_folder)


def read(path: Path, is_folder: bool) -> str:
    if not is_folder:
        return path.read_text()
    texts = {(path / name).read_text() for name in ("a", "deep/b")}
    assert len(texts) == 1
    return texts.pop()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@KINDS
@pytest.mark.parametrize("durable", [False, True])
def test_what_is_written_takes_the_place_of_the_old(tmp_path: Path, is_folder: bool, durable: bool) -> None:
    write(tmp_path / "new/out", "old", is_folder)
    if is_folder:
        (tmp_path / "new/out/stranger").touch()
    with written_whole(tmp_path / "new/out", is_folder=is_folder, durable=durable) as partial:
        fill(partial, "new", is_folder)
        assert read(tmp_path / "new/out", is_folder) == "old"
    assert read(tmp_path / "new/out", is_folder) == "new"
    assert not (tmp_path / "new/out/stranger").exists()
    assert os.listdir(tmp_path / "new") == ["out"]


@KINDS
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ValueError("wrong"), OSError(28, "No space left"), SafetensorError("os")]
)
def test_a_failure_leaves_the_old_and_nothing_else(
    tmp_path: Path, is_folder: bool, older: bool, error: BaseException
) -> None:
    path = tmp_path / "new/deep/out"
    if older:
        write(path, "old", is_folder)
    before = sorted(tmp_path.rglob("*"))

    def fail() -> None:
        with written_whole(path, is_folder=is_folder) as partial:
            fill(partial, "new", is_folder)
            raise error

    expected = OSError if isinstance(error, OSError | SafetensorError) else type(error)
    with pytest.raises(expected) as caught:
        fail()
    if expected is OSError:
        assert str(caught.value) in (f"cannot write {path}: No space left", f"cannot write {path}: os")
    assert sorted(tmp_path.rglob("*")) == before
    if older:
        assert read(path, is_folder) == "old"


@KINDS
def test_a_failure_of_the_last_step_leaves_the_old(tmp_path: Path, is_folder: bool) -> None:
    """The name is taken by the other kind, which must not be replaced."""
    write(tmp_path / "out", "old", not is_folder)
    with pytest.raises(OSError, match=r"cannot write .*out: (Is|Not) a directory"):
        write(tmp_path / "out", "new", is_folder)
    assert read(tmp_path / "out", not is_folder) == "old"
    assert os.listdir(tmp_path) == ["out"]


@KINDS
def test_a_kill_leaves_the_old_and_what_can_be_cleared_away(tmp_path: Path, is_folder: bool) -> None:
    write(tmp_path / "in/out", "old", is_folder)
    (tmp_path / ".mine.partial").touch()
    code = f"""
import os, signal, sys
from videogen.files import written_whole
with written_whole({str(tmp_path / "in/out")!r}, is_folder={is_folder}) as partial:
    (partial / "a" if {is_folder} else partial).write_text("new")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert read(tmp_path / "in/out", is_folder) == "old"
    assert len(os.listdir(tmp_path / "in")) == 2
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path / "in") == ["out"]
    assert (tmp_path / ".mine.partial").exists()


@KINDS
def test_of_writers_at_the_same_time_one_wins_whole(tmp_path: Path, is_folder: bool) -> None:
    texts = [str(number) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(len(texts)) as threads:
        for done in [
            threads.submit(write, tmp_path / "out", text, is_folder) for text in texts for _ in range(20)
        ]:
            done.result()
    assert read(tmp_path / "out", is_folder) in texts
    assert os.listdir(tmp_path) == ["out"]


@KINDS
@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk(tmp_path: Path, is_folder: bool, older: bool) -> None:
    if older:
        write(tmp_path / "out", "old", is_folder)
    with full_disk(1000), pytest.raises(OSError, match=r"cannot write .*out: File too large"):
        write(tmp_path / "out", "x" * 2000, is_folder)
    with (
        full_disk(1000),
        pytest.raises(OSError, match=r"cannot write .*out.safetensors: .*os error 27"),
        written_whole(tmp_path / "out.safetensors") as partial,
    ):
        save_file({"a": torch.zeros(1000)}, partial)
    assert os.listdir(tmp_path) == ["out"] * older
    if older:
        assert read(tmp_path / "out", is_folder) == "old"


@KINDS
def test_where_nobody_can_write(tmp_path: Path, is_folder: bool) -> None:
    (tmp_path / "file").touch()
    for path in (Path("/proc/out"), Path("/proc/new/out"), tmp_path / "file/out"):
        with pytest.raises(OSError, match=f"cannot write {path}: "):
            write(path, "new", is_folder)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to folders that are read-only")
@KINDS
def test_a_read_only_folder(tmp_path: Path, is_folder: bool) -> None:
    write(tmp_path / "in/out", "old", is_folder)
    (tmp_path / "in").chmod(0o500)
    with pytest.raises(OSError, match=r"cannot write .*out: Permission denied"):
        write(tmp_path / "in/out", "new", is_folder)
    (tmp_path / "in").chmod(0o700)
    assert read(tmp_path / "in/out", is_folder) == "old"
    assert os.listdir(tmp_path / "in") == ["out"]


@KINDS
@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_names(tmp_path: Path, is_folder: bool, name: str) -> None:
    for text in ("old", "new"):
        write(tmp_path / name, text, is_folder)
        assert read(tmp_path / name, is_folder) == text
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        write_text(tmp_path / "out", "text")
        for path, is_folder in ((tmp_path / "out.safetensors", False), (tmp_path / "out folder", True)):
            with written_whole(path, is_folder=is_folder) as partial:
                save_file({"a": torch.zeros(2)}, partial / "deep" if is_folder else partial)
    for name in ("out", "out.safetensors", "out folder/deep"):
        assert mode(tmp_path / name) == mode(tmp_path / "file") == 0o666 & ~mask, name
    assert mode(tmp_path / "out folder") == mode(tmp_path / "folder")


@pytest.mark.parametrize("kept", [0o600, 0o664, 0o444])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "out"
    path.touch()
    path.chmod(kept)
    write_text(path, "new")
    assert mode(path) == kept and path.read_text() == "new"


@KINDS
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path, is_folder: bool) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/out")
    for text in ("first", "second"):  # the link is dangling at first
        write(tmp_path / "link", text, is_folder)
        assert read(tmp_path / "disk/out", is_folder) == text
    assert (tmp_path / "link").is_symlink() and sorted(os.listdir(tmp_path)) == ["disk", "link"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as threads:
        received = threads.submit((tmp_path / "pipe").read_text)
        write_text(tmp_path / "pipe", "text")
        assert received.result() == "text"
    assert (tmp_path / "pipe").is_fifo()


def test_remove_folder(tmp_path: Path) -> None:
    write(tmp_path / "out", "text", True)
    remove_folder(tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_json_comes_back(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None, True], "a": "été \ud800", "é": {}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert (tmp_path / "a.json").read_text("ascii").endswith("}\n")
    write_json(tmp_path / "b.json", dict(reversed(content.items())), sort_keys=True)
    write_json(tmp_path / "c.json", content, sort_keys=True)
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    (tmp_path / "a.json").write_text("\ufeff{}", encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {}
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert read_json(tmp_path / "a.json") == {}


def test_a_text_that_utf8_has_not_is_escaped(tmp_path: Path) -> None:
    write_text(tmp_path / "a.html", "é \udcff")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "é \\udcff"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read: Expecting value"),
        (b"{", "cannot be read: Expecting property"),
        (b"\xff", "cannot be read: 'utf-8'"),
        (b"[" * 100_000, "cannot be read: "),
        (b"[1]", "must hold a JSON object, got a list"),
        (b"null", "must hold a JSON object, got a NoneType"),
    ],
)
def test_json_that_cannot_be_read_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path} {message}"):
        read_json(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{tmp_path / 'gone.json'} is missing$"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(ValueError, match=f"^{tmp_path} cannot be read: Is a directory$"):
        read_json(tmp_path)


def test_check_folder_of(tmp_path: Path) -> None:
    check_folder_of(tmp_path / "new/deep/file")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is no folder"):
        check_folder_of(tmp_path / "file/deep")
    assert os.listdir(tmp_path) == ["file"]


def test_hashes_of_files(tmp_path: Path) -> None:
    files = {"b": tmp_path / "1", "a": tmp_path / "2"}
    for path, content in zip(files.values(), (b"x" * 3_000_000, b"y"), strict=True):
        path.write_bytes(content)
    assert file_hash(*files.values()) == hashlib.sha256(b"x" * 3_000_000 + b"y").hexdigest()
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in files.values()]
    expected = hashlib.sha256(b"b" + digests[0] + b"a" + digests[1]).hexdigest()
    assert named_files_hash(files) == expected
    assert named_files_hash(dict(reversed(files.items()))) != expected


def test_hashes_of_tensors() -> None:
    values = torch.arange(6, dtype=torch.int16)
    expected = hashlib.sha256(b"one" + values.numpy().tobytes() + b"two" + b"\x01").hexdigest()
    for same in (values, values.view(2, 3), torch.stack([values, values], 1)[:, 0]):
        assert tensors_hash([("one", same), ("two", torch.tensor(True))]) == expected
    assert tensors_hash([("one", values), ("three", torch.tensor(True))]) != expected


def test_the_hash_of_a_network_is_the_one_that_released_models_state() -> None:
    network = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(network.weight, 1.0)
    torch.nn.init.zeros_(network.bias)
    content = b"bias (1,)" + b"\x00\x00" + b"weight (1, 2)" + b"\x80\x3f" * 2
    for dtype in (torch.float32, torch.bfloat16):
        assert weights_hash(network.to(dtype)) == hashlib.sha256(content).hexdigest()
    assert weights_hash(network, without=("bias",)) == hashlib.sha256(content[11:]).hexdigest()


def test_the_import_is_light() -> None:
    code = "import json, sys, videogen.files; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "numpy", "PIL", "diffusers"} & set(json.loads(found))
