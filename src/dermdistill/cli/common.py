"""What several verbs share."""

from __future__ import annotations

import importlib.util
import sys

from dermdistill.core.errors import MissingExtraError, UsageError


def show_progress() -> bool:
    """Whether somebody looks."""
    return sys.stderr.isatty()


def need_train_extra(verb: str) -> None:
    """Raise MissingExtraError where the training part is not installed."""
    missing = [name for name in ("torch", "lightning", "kornia") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"dermdistill {verb} needs {', '.join(missing)}, which is not installed.",
            "the training part of dermdistill",
            "pip install 'dermdistill[train]'",
        )


def need_positive(flag: str, value: int) -> None:
    """Raise UsageError where a count is below 1."""
    if value < 1:
        raise UsageError(f"{flag} is {value}.", "1 or more", f"Set {flag} to 1 or more, or leave it out.")


def take(arguments: list[str], flag: str) -> bool:
    """Whether the flag is there; it is removed."""
    found = flag in arguments
    if found:
        arguments.remove(flag)
    return found
