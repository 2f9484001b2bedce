"""How the tests of the delivery look: a linter is run, words are parsed as the command line would."""

from __future__ import annotations

import contextlib
import functools
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

from dermdistill import cli

REPOSITORY = Path(__file__).parents[2]
TRAINING = (
    *("torch", "torchvision", "lightning", "segmentation_models_pytorch", "timm", "kornia"),
    *("tensorboard", "matplotlib", "scipy", "jinja2", "onnx"),
)
WITHOUT_TRAINING = f"""
import importlib.machinery, sys

class PathFinder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {TRAINING!r}
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = PathFinder
"""
"""Code that hides the training part: what runs after it finds what a user of the core has installed."""


def lint(*command: str) -> None:
    """Run a linter; skip where it is not installed."""
    program = Path(sys.executable).with_name(command[0])
    if not program.is_file():
        pytest.skip(f"{command[0]} IS ABSENT: {command[-1]} was not linted")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class UnderstoodError(Exception):
    """The arguments were read, and nothing shall be done."""


def parse(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> dict[str, Any]:
    """What the real command line makes of these words, without doing it."""
    found: dict[str, Any] = {}
    original = tyro.cli

    def only_parse(function: Any, *args: Any, **named: Any) -> Any:
        if not inspect.isfunction(function):  # settings with a subcommand for each kind
            found.update(vars(original(function, *args, **named)))
            raise UnderstoodError

        @functools.wraps(function)
        def understood(*_: Any, **values: Any) -> int:
            found.update(values)
            return 0

        return original(understood, *args, **named)

    with monkeypatch.context() as patch, contextlib.suppress(UnderstoodError):
        patch.setattr(tyro, "cli", only_parse)
        assert cli.main(words) == 0
    return found
