"""An archive of pictures as units of work, and the table that is made of them: whatever engine runs it.

A unit is some hundred image files, one WebDataset tar, or one row group of a Parquet file. Each becomes one
partition of the table, a Parquet file whose name says what it was made of: it is there in full or not at all,
so a run that was stopped goes on with the units that have none.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import posixpath
import re
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.core.errors import DataError, MissingExtraError, UsageError
from dermdistill.imaging import encode_png
from dermdistill.imaging.find import SKIPPED_FOLDERS, SUFFIXES
from dermdistill.inference.formats import run_lengths
from dermdistill.inference.prediction import Prediction
from dermdistill.inference.predictor import Predictor

IMAGES_EACH = 512
"""Image files of one unit: what a dead worker has to do again, and rows of a partition."""
BATCH = 8
"""Images that the network gets at once, and that a worker holds in memory."""
MOST_BYTES = 2**30
"""A larger file is no picture that we would decode."""

_KEYS = ("path", "filename", "file_name", "image_id", "id", "__key__")


@dataclass(frozen=True)
class Unit:
    """What one partition is made of."""

    kind: str
    """images, tar or parquet."""
    root: str
    """The address whose file system it lies in, such as s3://bucket/folder; a local path."""
    paths: tuple[str, ...]
    """Within that file system; of a tar or Parquet file one."""
    row_group: int = -1
    """Of a Parquet file."""

    def name(self, fingerprint: str) -> str:
        """The partition's file name, from the unit and the ``fingerprint`` of model and settings."""
        text = json.dumps([asdict(self), fingerprint])
        return f"part-{hashlib.sha256(text.encode()).hexdigest()[:24]}.parquet"


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
            f"{address} cannot be reached: {_first_line(error)}",
            "a path, or an address that Arrow's file systems know, such as s3://bucket/folder",
            "Check the address and the credentials in the environment.",
        ) from None


def find_units(sources: Sequence[str], *, images_each: int = IMAGES_EACH) -> list[Unit]:
    """Units of all that the sources name.

    Args:
        sources: Files, folders (searched to any depth) and globs, local or as addresses: image files, tars
            and Parquet files.
        images_each: Image files of one unit.

    Raises:
        UsageError: A source names nothing, or cannot be reached.
        DataError: A Parquet file cannot be read.
    """
    units: list[Unit] = []
    taken: set[tuple[str, str]] = set()
    for source in sources:
        system, path = open_address(source)
        found = [p for p in _files(system, path, source) if (system.type_name, p) not in taken]
        taken.update((system.type_name, p) for p in found)
        images = [p for p in found if p.lower().endswith(SUFFIXES)]
        units += [
            Unit("images", source, tuple(images[i : i + images_each]))
            for i in range(0, len(images), images_each)
        ]
        units += [Unit("tar", source, (p,)) for p in found if p.lower().endswith(".tar")]
        for p in found:
            if p.lower().endswith(".parquet"):
                groups = _parquet(system, p).num_row_groups
                units += [Unit("parquet", source, (p,), group) for group in range(groups)]
    return units


def schema(masks: bool = False) -> Any:
    """The table's columns as a pyarrow schema."""
    pa = arrow()
    fields = [
        ("path", pa.string()), ("sha256", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
        ("area_px", pa.int64()), ("area_fraction", pa.float32()), ("box", pa.list_(pa.int32())),
        ("rle", pa.list_(pa.int32())), ("confidence", pa.float32()), ("probability_mean", pa.float32()),
        ("probability_max", pa.float32()), ("warnings", pa.list_(pa.string())),
        ("model_sha256", pa.string()), ("error", pa.string()),
    ]  # fmt: skip
    return pa.schema([*fields, ("mask", pa.binary())] if masks else fields)


def rows(
    unit: Unit, predictor: Predictor, model_sha256: str, *, masks: bool = False
) -> Iterator[dict[str, Any]]:
    """Segment a unit: a row for each picture, broken ones with an error and without numbers."""
    waiting: list[tuple[str, bytes]] = []
    for path, content in _contents(unit):
        if isinstance(content, bytes):
            waiting.append((path, content))
        else:
            yield {"path": path, "model_sha256": model_sha256, "error": content}
        if len(waiting) == BATCH:
            yield from _segment(waiting, predictor, model_sha256, masks)
            waiting = []
    yield from _segment(waiting, predictor, model_sha256, masks)


def done_partitions(table: str) -> set[str]:
    """Names of the partitions that are complete.

    Raises:
        UsageError: The table's address cannot be reached, or a file is there.
    """
    pa = arrow()
    system, folder = open_address(table)
    if system.get_file_info(folder).type == pa.fs.FileType.File:
        raise UsageError(
            f"{table} is a file.", "a folder for the table's partitions", "Choose another name for --table."
        )
    infos = system.get_file_info(pa.fs.FileSelector(folder, allow_not_found=True))
    return {info.base_name for info in infos if re.fullmatch(r"part-[0-9a-f]{24}\.parquet", info.base_name)}


def write_partition(table: str, name: str, rows: Sequence[dict[str, Any]], *, masks: bool = False) -> None:
    """Write one partition; readers see it in full or not at all.

    Raises:
        DataError: It cannot be written.
    """
    pa = arrow()
    system, folder = open_address(table)
    # Readers of a table pass over names that begin with a dot.
    temporary = posixpath.join(folder, f".{name}-{uuid.uuid4().hex}")
    try:
        system.create_dir(folder, recursive=True)
        columns = pa.Table.from_pylist(rows, schema=schema(masks))
        pa.parquet.write_table(columns, temporary, filesystem=system, compression="zstd")
        system.move(temporary, posixpath.join(folder, name))
    except OSError as error:
        raise DataError(
            f"{table} cannot be written: {_first_line(error)}",
            "a folder that can be written, with space left",
            "Make space, or choose another --table; the same command then goes on.",
        ) from None


def _files(system: Any, path: str, source: str) -> list[str]:
    """Files of a kind that can be read, sorted."""
    pa = arrow()
    magic = re.search(r"[*?\[]", path)
    base = path[: magic.start()].rpartition("/")[0] if magic else path
    info = system.get_file_info(base)
    if info.type == pa.fs.FileType.File:
        return [base]
    found: list[str] = []
    if info.type == pa.fs.FileType.Directory:
        suffixes = (*SUFFIXES, ".tar", ".parquet")
        infos = system.get_file_info(pa.fs.FileSelector(base, recursive=True))
        found = sorted(i.path for i in infos if i.is_file and i.path.lower().endswith(suffixes))
        found = [p for p in found if not _is_passed_over(p[len(base) :])]
        if magic:
            pattern = re.compile(fnmatch.translate(path))
            found = [p for p in found if pattern.match(p)]
    if not found:
        raise UsageError(
            f"{source} names no image, tar or Parquet file.",
            f"a file, a folder or a glob of {', '.join(SUFFIXES)}, .tar or .parquet files",
            "Check the address; folders are searched to any depth.",
        )
    return found


def _is_passed_over(inside: str) -> bool:
    """Whether a path within a folder is hidden, or what systems and tools leave beside pictures."""
    parts = inside.strip("/").lower().split("/")
    return any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parts)


def _contents(unit: Unit) -> Iterator[tuple[str, bytes | str]]:
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
                        yield _address(unit, path), _first_line(error)
            case "tar":
                yield from _tar_contents(system, unit)
            case _:
                yield from _parquet_contents(system, unit)
    except (OSError, tarfile.TarError, ValueError) as error:
        # What came before stays; the rest of the unit is one row.
        yield _address(unit, unit.paths[0]), _first_line(error)


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
    file = _parquet(system, path)
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


def _parquet(system: Any, path: str) -> Any:
    pa = arrow()
    try:
        return pa.parquet.ParquetFile(path, filesystem=system)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {_first_line(error)}",
            "a Parquet file with a column of image bytes",
            "Leave it out, or write it again.",
        ) from None


def _segment(
    pictures: Sequence[tuple[str, bytes]], predictor: Predictor, model_sha256: str, masks: bool
) -> Iterator[dict[str, Any]]:
    predictions = predictor.predict_many([content for _, content in pictures], BATCH)
    for (path, content), (_, prediction) in zip(pictures, predictions, strict=True):
        row = {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "model_sha256": model_sha256}
        if isinstance(prediction, DataError):
            yield {**row, "error": _first_line(prediction)}
        else:
            yield {**row, **_numbers(prediction, masks), "error": ""}


def _numbers(prediction: Prediction, masks: bool) -> dict[str, Any]:
    mask, prob = prediction.mask, prediction.prob
    height, width = mask.shape
    found = {
        "width": width, "height": height, "area_px": int(np.count_nonzero(mask)),
        "area_fraction": prediction.area_fraction, "box": prediction.bounding_box, "rle": run_lengths(mask),
        "confidence": prediction.confidence, "probability_mean": float(prob.mean()),
        "probability_max": float(prob.max()), "warnings": [warning.code for warning in prediction.warnings],
    }  # fmt: skip
    return {**found, "mask": encode_png(mask)} if masks else found


def _address(unit: Unit, path: str) -> str:
    scheme, separator, _ = unit.root.partition("://")
    return f"{scheme}://{path}" if separator and scheme != "file" else path


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
