"""Read what ``dermdistill audit`` found (audit.json, and the pairs in audit.csv beside it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import read_csv, read_json
from dermdistill.report.model import Audit, AuditPair

NAME = "audit.json"


def find_audit(*folders: Path | None) -> Path | None:
    """The first audit.json in these folders or in their ``audit/``."""
    places = [
        place / NAME for folder in folders if folder is not None for place in (folder, folder / "audit")
    ]
    return next((path for path in places if path.is_file()), None)


def read_audit(path: Path) -> Audit:
    """Read audit.json, or the folder that holds it.

    Raises:
        UsageError: There is no such file.
        DataError: It is of another layout.
    """
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist.",
            "audit.json of dermdistill audit, or its folder",
            "Check --audit, or run dermdistill audit first.",
        )
    found = read_json(path)
    try:
        leaks = int(found["leaks"])
        kinds: dict[str, int] = {}
        for row in found["table"]:
            kinds[row["level"]] = kinds.get(row["level"], 0) + int(row["pairs"])
        within = {str(entry["set"]): 0 for entry in found["images"]}
        for row in found["table"]:
            one, other = (str(row[side]).rpartition("/")[0] for side in ("from", "to"))
            if row["leak"] and one == other:
                within[one] = within.get(one, 0) + int(row["pairs"])
        images = sum(int(entry["count"]) for entry in found["images"])
        warnings = tuple(_overlap(entry) for entry in found["official"] if entry["warning"])
        pairs = tuple(_pair(row) for row in read_csv(path.with_name("audit.csv")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path} is not what dermdistill audit writes ({type(error).__name__}: {error}).",
            "leaks, table, images and official",
            "Run dermdistill audit again.",
        ) from None
    drawn = path.with_name("pairs.png")
    return Audit(path, leaks, kinds, pairs, warnings, images, within, drawn if drawn.is_file() else None)


def headline(audit: Audit, data: str) -> str:
    """The audit in two sentences: all that it looked at, and the data set of the report."""
    if data in audit.leaks_within:
        return f"{_in_all(audit)} Within {data}: {audit.leaks_within[data]}."
    return f"{_in_all(audit)} {data} itself was not looked at."


def _in_all(audit: Audit) -> str:
    among = f" among {audit.images:,} images" if audit.images else ""
    match audit.leaks:
        case 0:
            return f"No pair{among} crosses from training into validation or test."
        case 1:
            return f"1 pair{among} crosses from training into validation or test."
        case _:
            return f"{audit.leaks} pairs{among} cross from training into validation or test."


def _overlap(entry: dict[str, Any]) -> str:
    return (
        f"{entry['set']}: its {entry['split']} images hold {entry['count']} of the {entry['of']} "
        f"{entry['challenge']} {entry['official_split']} images."
    )


def _pair(row: dict[str, str]) -> AuditPair:
    agree = f"{row['score']} features agree" if row["score"] else ""
    mirrored = "mirrored" if row["mirrored"] == "yes" else ""
    detail = ", ".join(part for part in (row["kind"].replace("+", " and "), agree, mirrored) if part)
    first, second = (f"{row[f'image_{s}']} ({row[f'set_{s}']} {row[f'split_{s}'] or '?'})" for s in "ab")
    return AuditPair(first, second, row["level"], row["crosses"] == "yes", detail)
