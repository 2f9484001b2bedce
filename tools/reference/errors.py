"""The page of the errors, from the docstrings of ``dermdistill.core.errors``."""

from __future__ import annotations

import inspect
import re

from dermdistill.core import errors
from dermdistill.core.errors import DermDistillError
from tools.reference.words import prose, table


def page() -> str:
    """The whole page."""
    classes = [
        value for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, DermDistillError)
    ]  # fmt: skip
    rows = []
    for one in classes:
        what, cause, fix = _cause_and_fix(one)
        rows.append((f"`{one.__name__}`", what, cause, fix, str(one.exit_code)))
    tree = re.search(r"::\n\n(.*?)\n\nEach", inspect.cleandoc(errors.__doc__ or ""), re.DOTALL)
    return "\n".join(
        [
            "# Errors\n",
            "Every error that is raised on purpose is one of these. Its message says what was found, what "
            "was expected and what to do; the command line prints it without a traceback and exits with "
            "the code given. In Python, `except DermDistillError` catches all of them, and `error.found`, "
            "`error.expected` and `error.fix` are the three parts.\n",
            table(("error", "what it says", "cause", "fix", "exit code"), rows),
            "## The tree\n",
            f"```text\n{inspect.cleandoc(tree.group(1)) if tree else ''}\n```\n",
        ]
    )


def _cause_and_fix(one: type) -> tuple[str, str, str]:
    text = inspect.cleandoc(vars(one)["__doc__"])
    first = text.partition("\n\n")[0]
    found = {t: re.search(rf"\n{t}:\n((?:    .*\n?)+)", text) for t in ("Cause", "Fix")}
    cause, fix = (prose(inspect.cleandoc(m.group(1))) if m else "" for m in found.values())
    return prose(first), cause, fix
