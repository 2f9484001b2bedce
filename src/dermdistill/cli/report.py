"""``dermdistill report``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dermdistill.core.errors import MissingExtraError, UsageError


def report(
    folder: Path,
    /,
    format: str = "html,md,tex,json",
    out: Path | None = None,
    audit: Path | None = None,
    on: str | None = None,
) -> int:
    """One report of a run or a study: the answer, the table, figures, pictures, and how to repeat it.

    It reads what train, distill, evaluate, study and audit have written, and runs no network.

    Args:
        folder: Run folder or study folder.
        format: Which files, separated by commas: html, md, tex, json.
        out: Folder of the report (default: FOLDER/report).
        audit: audit.json of dermdistill audit (default: one in FOLDER or beside the data, if any).
        on: Which evaluation of a run, as DATA-SPLIT (default: the test split of its own data).
    """
    missing = [name for name in ("jinja2", "matplotlib", "scipy") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"dermdistill report needs {', '.join(missing)}, which is not installed.",
            "the training part of dermdistill",
            "pip install 'dermdistill[train]'",
        )
    from dermdistill.report import FORMATS, write_report

    requested = [part.strip() for part in format.split(",") if part.strip()]
    if unknown := [part for part in requested if part not in FORMATS]:
        raise UsageError(
            f"There is no format {', '.join(unknown)}.",
            f"some of {', '.join(FORMATS)}, separated by commas",
            "Correct --format, or leave it out for all four.",
        )
    formats = [known for known in FORMATS if known in requested]
    for path in write_report(folder, out=out, formats=formats, audit=audit, on=on)[: len(formats)]:
        print(path)
    return 0
