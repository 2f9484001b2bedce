"""What is costly to make is made once in a test run, however many processes share the run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """This process's own copy of a folder: the first process that asks makes it, the others wait and copy.

    Args:
        factory: Of temporary folders; those of pytest-xdist's processes lie side by side in one folder.
        name: Of the folder.
        make: Makes and fills the folder at the path that it is given.
    """
    own = factory.mktemp("made") / name
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(own)
        return own
    common = factory.getbasetemp().parent / "made" / name
    common.parent.mkdir(exist_ok=True)
    with FileLock(common.with_name(f"{name}.lock")):
        if not common.exists():
            make(own)
            shutil.copytree(own, common.with_name(f"{name}.part"))
            common.with_name(f"{name}.part").rename(common)
            return own
    shutil.copytree(common, own)
    return own
