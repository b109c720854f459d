"""A folder that one process at a time writes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".lock"


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there; the system frees it whenever the process ends.

    Folders that were made for it and stay empty are taken away again.

    Args:
        folder: The folder.
        what: What the folder is for, for the message.

    Raises:
        ValueError: If another process holds it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"`{what}` {str(folder)!r} is in use by another process: "
            "wait until it has ended, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
        if made and [path.name for path in folder.iterdir()] in ([], [_LOCK]):
            (folder / _LOCK).unlink(missing_ok=True)
            for path in made:
                path.rmdir()
