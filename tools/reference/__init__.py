"""The reference pages of the documentation, written from the code that they describe.

``python -m tools.reference`` writes them: the verbs (from the functions that tyro parses), the settings (from
the pydantic types), the public API (from its docstrings) and the errors (from ``errors.py``). They are
committed, so that they can be read without building; a test fails when one is stale.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
HEAD = "<!-- Written by tools/reference from the code. Do not edit: run `make docs`. -->\n\n"


def pages() -> dict[str, str]:
    """The text of each page by its file name."""
    from tools.reference import api, errors, settings, verbs

    made = {"cli": verbs, "settings": settings, "api": api, "errors": errors}
    return {f"{name}.md": HEAD + module.page().rstrip() + "\n" for name, module in made.items()}


def write() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
