"""Code of the user's own, ``FILE.py:NAME``: the one place that runs it.

A file is run because a person named it, on the command line or in a recipe that was passed. Runs, cards and
checkpoints say which file was used, by its name and SHA-256, and never have it run.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dermdistill.core.errors import DermDistillError, UsageError


def is_user_file(name: str) -> bool:
    """Whether a name means code in a file of the user's.

    Examples:
        >>> is_user_file("nets/my_net.py:TinyNet"), is_user_file("Unet")
        (True, False)
    """
    return name.endswith(".py") or name.rpartition(":")[0].endswith(".py")


def split(source: str) -> tuple[Path, str]:
    """The file and the name in it.

    Args:
        source: ``FILE.py:NAME``.

    Raises:
        UsageError: There is no name, or no such file.
    """
    if source.endswith(".py"):
        raise UsageError(
            f"{source} does not say which function of the file is meant.",
            "FILE.py:NAME, such as my_net.py:factory",
            f"Write {source}:NAME.",
        )
    path, _, name = source.rpartition(":")
    if not (path.endswith(".py") and Path(path).is_file()):
        raise UsageError(
            f"{source}: there is no Python file {path!r}.",
            "FILE.py:NAME, such as my_net.py:factory",
            "Check the path before the colon.",
        )
    return Path(path), name


def load(source: str) -> tuple[Callable[..., Any], str]:
    """Run a file, and take a function or class out of it.

    The file may import its neighbours. It is compiled from its bytes, and no ``.pyc`` is read or written, so
    that what ran is what was hashed.

    Args:
        source: ``FILE.py:NAME``.

    Returns:
        The function, and the SHA-256 of the file.

    Raises:
        UsageError: There is no such file or function, or the file fails; its line is named.
    """
    file, name = split(source)
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    module = types.ModuleType(f"{file.stem}_{digest[:8]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look themselves up there
    with errors_told(file):
        exec(compile(content, str(file), "exec"), module.__dict__)
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__]
        raise UsageError(
            f"{file} has no function {name!r}.",
            f"one of {', '.join(own) or 'none'}",
            "Name a function or class of that file after the colon.",
        )
    return found, digest


@contextlib.contextmanager
def errors_told(file: Path) -> Iterator[None]:
    """Run a user's code with its neighbours importable, and have its error told in one line, with its place.

    What it prints goes to stderr: stdout is for results.

    Raises:
        UsageError: It failed.
    """
    sys.path.insert(0, str(file.resolve().parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except DermDistillError:
        raise
    except (Exception, SystemExit) as error:
        message = next(iter(str(error).splitlines()), "")
        raise UsageError(
            f"{file}{_place(error, file)}: {type(error).__name__}: {message}".rstrip(": ") + ".",
            "code that runs",
            "Correct that line. DERMDISTILL_DEBUG=1 shows the whole traceback.",
        ) from error
    finally:
        sys.path.remove(str(file.resolve().parent))


def _place(error: BaseException, file: Path) -> str:
    """The last line of the file that the error came through, if it came through one."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f", line {error.lineno}"
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""
