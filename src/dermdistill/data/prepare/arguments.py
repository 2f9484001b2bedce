"""What the ways to prepare have in common: checks of their arguments, and the command line to repeat them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from dermdistill.core.errors import UsageError
from dermdistill.data.download.catalog import PHANTOM, SOURCES


def check_arguments(name: str, root: Path, size: int, val_fraction: float) -> Path:
    """The data set's folder.

    Raises:
        UsageError: The name cannot be a folder's, or a number is out of range.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"{name!r} is not a name for a data set.",
            "letters, digits, dot, dash and underscore",
            "Choose --name.",
        )
    if not 1 <= size <= 8192:
        raise UsageError(
            f"The size is {size}.", "1 to 8192 pixels", "Set --size to a side within that range."
        )
    if not 0.0 < val_fraction < 1.0:
        raise UsageError(
            f"The validation fraction is {val_fraction}.",
            "more than 0 and less than 1",
            "Set --val-fraction to a share such as 0.15.",
        )
    return root / name


def check_own_name(name: str) -> None:
    """Refuse a name of the catalogue: a recipe that names it expects that data set.

    Raises:
        UsageError: It is one.
    """
    if name in SOURCES or name == PHANTOM:
        raise UsageError(
            f"{name} is a name of the catalogue.", "a name of your own", "Choose another --name."
        )


def command_line(*words: str, **flags: Any) -> str:
    """The command line, with the flags that differ from their defaults."""
    defaults = {"seed": 0, "val_fraction": 0.15, "allow_empty": False, "count": 240}
    parts = ["dermdistill", *words]
    for key, value in flags.items():
        if value is None or (key in defaults and value == defaults[key]):
            continue
        parts += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return shlex.join(parts)
