"""Read what ``dermdistill audit`` found, or say that nobody has looked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermdistill.errors import DataError
from dermdistill.files import read_json
from dermdistill.report.model import Audit, AuditPair

NAME = "audit.json"


def find_audit(*folders: Path | None) -> Path | None:
    """The first audit.json in these folders."""
    places = [folder / NAME for folder in folders if folder is not None]
    return next((path for path in places if path.is_file()), None)


def read_audit(path: Path) -> Audit:
    """Read audit.json.

    Raises:
        DataError: It is missing or of another layout.
    """
    found = read_json(path)
    try:
        pairs = tuple(_pair(entry) for entry in found["pairs"])
        return Audit(
            path,
            str(found.get("verdict") or ""),
            {str(kind): int(count) for kind, count in (found.get("counts") or {}).items()},
            pairs,
            tuple(str(warning) for warning in found.get("warnings") or ()),
            found.get("images"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path} is not what dermdistill audit writes ({type(error).__name__}: {error}).",
            "a list of pairs with verdict and counts",
            "Run dermdistill audit again.",
        ) from None


def _pair(entry: dict[str, Any]) -> AuditPair:
    distance = entry.get("distance")
    detail = str(entry.get("detail") or ("" if distance is None else f"distance {distance:.3g}"))
    return AuditPair(
        _image(entry["first"]), _image(entry["second"]), str(entry["kind"]), bool(entry["crosses"]), detail
    )


def _image(entry: dict[str, Any]) -> str:
    where = " ".join(str(entry[key]) for key in ("data", "split") if entry.get(key))
    return f"{entry['image_id']} ({where})" if where else str(entry["image_id"])
