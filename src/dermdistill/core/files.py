"""Small file helpers shared by every stage: atomic writes, hashes, JSON, CSV, the message of a full disk.

A killed run must leave the last good state, so every result is written under a temporary name in the same
folder and then renamed.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dermdistill.core.errors import DataError

_UNPRINTED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_REFUSED = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST,
    errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
}  # fmt: skip


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name keeps the suffix, since image and array writers choose their format by it, and is
    short: the final one may be as long as the system allows.

    Raises:
        DataError: The disk is full, or the file or its folder cannot be written.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:16]}{path.suffix if len(path.suffix) < 16 else ''}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        if is_refused_write(error):
            raise disk_error(error, path) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # its folder may be no folder
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; of file names that are no text, the bytes are written as escapes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for.

    Raises:
        ValueError: It is not JSON (NaN is none), is nested too deep, or has a number of thousands of digits.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def to_json_line(value: Any) -> str:
    """JSON on one line; what moves a terminal's cursor, or is no text, is written as escapes.

    Examples:
        >>> print(to_json_line({"path": "é\\x9b31m"}))
        {"path": "é\\u009b31m"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _UNPRINTED.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is missing or is not JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist.", "a JSON file", "Check the path, or run the stage that writes the file."
        ) from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.",
            "a JSON file that you may read",
            "Check the path and its rights.",
        ) from error
    except ValueError as error:
        raise DataError(
            f"{path} is not valid JSON: {error}.",
            "JSON as dermdistill writes it",
            "Delete it and run the stage that writes it again.",
        ) from error


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as YAML in its own order, atomically."""
    write_text(path, yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
    """Write rows as CSV with the given columns, atomically.

    Text that a spreadsheet would compute (``=1+1``, ``@x``, ``-x``) gets an apostrophe before it, which
    `read_csv` takes away again; numbers are left as they are (OWASP, CSV injection).
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(guard_cell, columns))
        writer.writerows([guard_cell(row.get(column, "")) for column in columns] for row in rows)


def guard_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay.

    Examples:
        >>> guard_cell("=HYPERLINK(1)"), guard_cell("-0.5"), guard_cell(-0.5), guard_cell("'=x")
        ("'=HYPERLINK(1)", '-0.5', -0.5, "''=x")
    """
    if isinstance(value, str):
        value = value.replace("\r", "\\r")  # which the writer of Python 3.12 and older does not quote
    if not isinstance(value, str) or not _may_be_formula(value):
        return value
    with contextlib.suppress(ValueError):
        float(value)
        return value
    return f"'{value}"


def unguard_cell(text: str) -> str:
    """What `guard_cell` was given.

    Examples:
        >>> unguard_cell("'=x"), unguard_cell("''=x"), unguard_cell("'quoted'")
        ('=x', "'=x", "'quoted'")
    """
    return text[1:] if text.startswith("'") and _may_be_formula(text) else text


def _may_be_formula(text: str) -> bool:
    return text.lstrip("'").startswith(("=", "+", "-", "@", "\t"))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header as a list of rows.

    Raises:
        DataError: The file is missing or not text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            reader.fieldnames = [unguard_cell(name) for name in reader.fieldnames or ()]
            return [
                {key: unguard_cell(cell) if isinstance(cell, str) else cell for key, cell in row.items()}
                for row in reader
            ]
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist.",
            "a CSV file with a header",
            "Check the path, or run the stage that writes the file.",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}.",
            "a CSV file in UTF-8 with a header",
            "Save it as CSV in UTF-8.",
        ) from error


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes, read in blocks (any size)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def is_refused_write(error: Exception) -> bool:
    """Whether an error is the system's or torch's word for a file that could not be written.

    torch's writer of zip files hides the system's error behind one of its own.
    """
    if isinstance(error, OSError):
        return error.errno in _REFUSED
    return isinstance(error, RuntimeError) and "inline_container" in str(error)


def disk_error(error: Exception, path: Path) -> DataError:
    """The error for a write that the system refused, with what is free where it was to go.

    Args:
        error: What the system said.
        path: The file or folder that was to be written; it need not exist.

    Returns:
        The error to raise, for a full disk in words of its own.
    """
    folder = next(
        # os.path's own test is true or false also for a name that the system cannot have.
        (parent for parent in (path, *path.absolute().parents) if os.path.isdir(parent)),  # noqa: PTH112
        Path(),
    )
    free = f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB are free"
    if not isinstance(error, OSError) or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"The disk is full: {path} cannot be written ({free}).",
            "enough space for all that the command writes",
            "Free some space, or choose another folder; the same command goes on where it stopped.",
        )
    return DataError(
        f"{path} cannot be written: {error.strerror or error} ({free}).",
        "a folder that can be written to",
        "The same command goes on where it stopped.",
    )
