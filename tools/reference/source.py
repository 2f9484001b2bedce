"""Read source without running it: griffe sees what inspect does not, the docstrings of attributes."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import griffe


def read(what: Any) -> Any:
    """The griffe object of a class or function that is imported."""
    return _module(what.__module__)[what.__qualname__]


@functools.cache
def _module(name: str) -> Any:
    file = Path(str(sys.modules[name].__file__))
    return griffe.visit(name, file, file.read_text(encoding="utf-8"))
