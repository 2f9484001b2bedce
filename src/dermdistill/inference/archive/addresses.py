"""Addresses, of files here or in a store such as S3: what Arrow opens them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermdistill.core.errors import DataError, MissingExtraError, UsageError


def arrow() -> Any:
    """The pyarrow module, with its parts ``fs`` and ``parquet``.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.fs
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "A table of an archive needs pyarrow, which is not installed.",
            "the cluster part of dermdistill",
            "pip install 'dermdistill[cluster]'",
        ) from None
    return pyarrow


def open_address(address: str) -> tuple[Any, str]:
    """The file system (local, S3, GCS …) of an address and the path in it.

    Raises:
        UsageError: There is no such kind of address, or it cannot be reached.
    """
    pa = arrow()
    if "://" not in address:
        return pa.fs.LocalFileSystem(), Path(address).absolute().as_posix()
    try:
        found: tuple[Any, str] = pa.fs.FileSystem.from_uri(address)
        return found
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(
            f"{address} cannot be reached: {first_line(error)}",
            "a path, or an address that Arrow's file systems know, such as s3://bucket/folder",
            "Check the address and the credentials in the environment.",
        ) from None


def open_parquet(system: Any, path: str) -> Any:
    """Open a Parquet file of a file system; only its footer is read.

    Raises:
        DataError: It cannot be read.
    """
    pa = arrow()
    try:
        return pa.parquet.ParquetFile(path, filesystem=system)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {first_line(error)}",
            "a Parquet file with a column of image bytes",
            "Leave it out, or write it again.",
        ) from None


def first_line(error: Exception) -> str:
    """What an error says first, cut after 300 characters; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
