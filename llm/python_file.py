"""A Python file of the user's, run as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load_file(path: str) -> ModuleType:
    """The module of a file; raises whatever the file raises, and OSError if there is none."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
