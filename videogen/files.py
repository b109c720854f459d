"""Files and folders: written whole or not at all, read as JSON, and told apart by hashes. Light to import."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

if TYPE_CHECKING:
    from torch import Tensor

_PARTIAL, _OLD = ".partial", ".old"


@contextmanager
def written_whole(
    path: str | os.PathLike[str], *, is_folder: bool = False, durable: bool = False
) -> Iterator[Path]:
    """Give an empty file or folder to fill, which gets the name `path` only if all went well.

    Whenever the process is killed, what has that name is whole, or absent; of several writers the last one
    wins. Folders that are missing on the way are made, and taken away again if it did not go well.

    Permissions are those of the file that is replaced, else what the umask gives to new files, in a folder to
    all files: safetensors would let only their owner read them. Where `path` is a link, what it points to is
    replaced; a device or a pipe is written to directly.

    Args:
        path: The final name.
        is_folder: Whether it is a folder; one that is there already is replaced with all that is in it.
        durable: Whether everything is on the disk afterwards, and so survives a loss of power.

    Raises:
        OSError: If it cannot be written; nothing is left behind, and what had the name is untouched.
    """
    path = Path(path)
    if _is_device(path):
        yield path
        return
    final = Path(os.path.realpath(path))
    missing = [folder for folder in final.parents if not folder.exists()]
    partial = _beside(final, _PARTIAL)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if is_folder:
            partial.mkdir()
        else:
            partial.touch(exist_ok=False)
        mode = partial.stat().st_mode & 0o666
        if not is_folder:
            with suppress(FileNotFoundError):
                mode = final.stat().st_mode & 0o666
        yield partial
        files = list(partial.rglob("*")) if is_folder else [partial]
        for file in files:
            found = file.lstat().st_mode
            if stat.S_ISREG(found) and stat.S_IMODE(found) != mode:
                file.chmod(mode)
        for file in {*files, partial} if durable else ():
            _flush(file)
        _rename(partial, final)
        if durable:
            _flush(final.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"cannot write {path}: {reason}") from error
    finally:
        if is_folder:
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with suppress(OSError):  # it has its name now, or could not be made
                partial.unlink()
        if not final.exists():
            for folder in missing:
                with suppress(OSError):  # it was not made, or somebody else has put something there
                    folder.rmdir()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as `written_whole` does, in UTF-8; lone surrogates, which that has not, are escaped."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], content: Any, *, sort_keys: bool = False) -> None:
    """Write JSON for people and programs, in ASCII and with indents, as `written_whole` does."""
    write_text(path, json.dumps(content, indent=2, sort_keys=sort_keys) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: If there is no such file, or something else in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark at the beginning
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(content).__name__}")
    return content


def check_folder_of(target: Path) -> None:
    """Check that a file can be written at `target`, where folders that are missing would be made.

    Raises:
        ValueError: something on the way there is no folder.
        OSError: the folder cannot be written to.
    """
    nearest = next(folder for folder in target.absolute().parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise ValueError(f"cannot write {target}: {nearest} is no folder")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise OSError(f"cannot write {target}: {error.strerror}") from error


def remove_folder(folder: Path) -> None:
    """Delete a folder, so that a kill meanwhile leaves no half of it under its name."""
    aside = _beside(folder, _OLD)
    folder.rename(aside)
    shutil.rmtree(aside)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left anywhere in a folder, which no other process may write to now."""
    for left in [path for suffix in (_PARTIAL, _OLD) for path in folder.rglob(f".{'?' * 12}{suffix}")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def file_hash(*paths: Path) -> str:
    """SHA-256 of the bytes of files in a row."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def named_files_hash(files: Mapping[str, Path]) -> str:
    """SHA-256 over files and their names, in the order of the mapping."""
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(name.encode() + bytes.fromhex(file_hash(path)))
    return digest.hexdigest()


def tensors_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over tensors, each with a label in front, in any dtype and on any device."""
    import torch

    digest = hashlib.sha256()
    for label, tensor in tensors:
        digest.update(label.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_device(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder; asked once, as writers come and go."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _beside(path: Path, suffix: str) -> Path:
    """A hidden name in the same folder that no other writer has; it fits wherever `path` does."""
    return path.with_name(f".{os.urandom(6).hex()}{suffix}")


def _rename(partial: Path, final: Path) -> None:
    """Give what is whole its name; a folder that has it is set aside meanwhile, as none can replace it."""
    aside = partial.with_suffix(_OLD)
    try:
        while True:
            try:
                return os.replace(partial, final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            shutil.rmtree(aside, ignore_errors=True)  # another writer took the name since the last round
            with suppress(FileNotFoundError):  # another writer has just set it aside
                final.rename(aside)
    except BaseException:
        with suppress(OSError):  # nothing was set aside, or another writer has taken the name
            aside.rename(final)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
