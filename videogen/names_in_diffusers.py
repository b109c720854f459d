"""Makes our pipelines known to diffusers by name, once both libraries are imported, in whichever order.

`DiffusionPipeline.from_pretrained` looks for the class that a folder names among the attributes of the module
`diffusers`, and nowhere else. There our names are found after all others, and their modules are imported only
when somebody asks for them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_FAMILIES = "videogen.pipelines.family_pipelines"
_HOMES = {
    "TextToVideoPipeline": "videogen.pipelines.text_to_video",
    "ModelScopePipeline": "videogen.pipelines.modelscope",
    "GANPipeline": _FAMILIES,
    "VAEPipeline": _FAMILIES,
    "RNNPipeline": _FAMILIES,
    "TransformerPipeline": _FAMILIES,
}


class _AfterImport(MetaPathFinder):
    """Finds diffusers as all others do, and calls `_add_names` when it has been imported."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Answer for diffusers alone."""
        if fullname != "diffusers":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_add(module: ModuleType) -> None:
                run(module)
                _add_names()

            spec.loader.exec_module = run_and_add  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Make the names known, now or when diffusers is imported."""
    if "diffusers" in sys.modules:
        _add_names()
    else:
        sys.meta_path.insert(0, _AfterImport())


def _add_names() -> None:
    diffusers: Any = sys.modules["diffusers"]  # it has put another module in the place of its own
    kind: Any = type(diffusers)

    class WithOurs(kind):
        """The module of diffusers, with our pipelines after its own names."""

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError:
                if name not in _HOMES:
                    raise
            return getattr(import_module(_HOMES[name]), name)

    diffusers.__class__ = WithOurs
