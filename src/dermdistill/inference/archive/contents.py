"""A unit's pictures as bytes: of image files, a WebDataset tar or a row group of a Parquet file."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any

from dermdistill.imaging.find import SUFFIXES
from dermdistill.inference.archive.addresses import first_line, open_address, open_parquet
from dermdistill.inference.archive.units import Unit

BATCH = 8
"""Images that the network gets at once, and that a worker holds in memory."""
MOST_BYTES = 2**30
"""A larger file is no picture that we would decode."""
_KEYS = ("path", "filename", "file_name", "image_id", "id", "__key__")


def contents(unit: Unit) -> Iterator[tuple[str, bytes | str]]:
    """The address of each picture with its bytes, or why there are none."""
    try:
        system, _ = open_address(unit.root)
        match unit.kind:
            case "images":
                for path in unit.paths:
                    try:
                        with system.open_input_stream(path) as stream:
                            yield _address(unit, path), stream.read()
                    except OSError as error:
                        yield _address(unit, path), first_line(error)
            case "tar":
                yield from _tar_contents(system, unit)
            case _:
                yield from _parquet_contents(system, unit)
    except (OSError, tarfile.TarError, ValueError) as error:
        # What came before stays; the rest of the unit is one row.
        yield _address(unit, unit.paths[0]), first_line(error)


def _tar_contents(system: Any, unit: Unit) -> Iterator[tuple[str, bytes | str]]:
    [path] = unit.paths
    with system.open_input_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                continue
            address = f"{_address(unit, path)}#{member.name}"
            content = tar.extractfile(member) if member.size <= MOST_BYTES else None
            yield address, content.read() if content else f"{member.size} bytes are too many for a picture"


def _parquet_contents(system: Any, unit: Unit) -> Iterator[tuple[str, bytes | str]]:
    [path] = unit.paths
    file = open_parquet(system, path)
    names = {field.name: str(field.type) for field in file.schema_arrow}
    image = next(
        (n for n, t in names.items() if t in ("binary", "large_binary") or "bytes: binary" in t), None
    )
    if image is None:
        raise ValueError(f"no column of {path} holds the bytes of images, only {', '.join(names)}")
    key = next((name for name in _KEYS if name in names), None)
    number = sum(file.metadata.row_group(i).num_rows for i in range(unit.row_group))
    batches = file.iter_batches(BATCH, row_groups=[unit.row_group], columns=[image, *([key] if key else [])])
    for batch in batches:
        for row in batch.to_pylist():
            value = row[image]
            content = value["bytes"] if isinstance(value, dict) else value
            address = f"{_address(unit, path)}#{row[key] if key else number}"
            yield address, "the row holds no image" if content is None else content
            number += 1


def _address(unit: Unit, path: str) -> str:
    scheme, separator, _ = unit.root.partition("://")
    return f"{scheme}://{path}" if separator and scheme != "file" else path
