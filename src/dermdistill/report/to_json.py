"""The report as JSON, for machines: the same numbers, unrounded, and the tables as they are printed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dermdistill._version import __version__
from dermdistill.report import records, verdict
from dermdistill.report.model import Report

FORMAT = 2
"""2: statistics are written as the types of `dermdistill.study.scores` have them."""


def to_json(report: Report) -> dict[str, Any]:
    """Plain values. Scores image by image stay in per_image.csv."""
    plain = _plain(report)
    for arm in plain["arms"]:
        del arm["per_image"]
    return {
        "format": FORMAT,
        "made_by": f"dermdistill {__version__}",
        "headline": verdict.headline(report),
        "details": verdict.details(report),
        **plain,
        "tables": [_plain(table) for table in records.all_tables(report)],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
