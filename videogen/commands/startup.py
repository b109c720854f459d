"""Imports in a hurry: a clip takes a second to make, and the libraries it is made with took six to import."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# diffusers imports each of these inside `try ... except ImportError`, and does without: the first for a
# decorator of compiled graphs (torch's compiler, a second and more), the second for a base class of
# quantization settings (all of transformers). Both can be imported afterwards.
_NOT_NEEDED = ("torch._dynamo", "transformers.utils.quantization_config")


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and diffusers within, without the parts that no command uses, in half the time.

    For the command line only, where nobody else in the process relies on those parts. A module that was
    imported before is left alone.
    """
    hidden = [name for name in _NOT_NEEDED if name not in sys.modules]
    collecting = gc.isenabled()
    gc.disable()  # nothing that is imported becomes garbage, and looking for it takes a tenth of the time
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: "there is no such module"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        if collecting:
            gc.enable()
        gc.freeze()  # what stays to the end need not be searched at exit either, which takes half a second
