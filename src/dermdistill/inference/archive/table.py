"""The table that is made of an archive: a row for each picture, a partition for each unit."""

from __future__ import annotations

import hashlib
import posixpath
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dermdistill.core.errors import DataError, UsageError
from dermdistill.imaging import encode_png
from dermdistill.inference.archive.addresses import arrow, first_line, open_address
from dermdistill.inference.archive.contents import BATCH, contents
from dermdistill.inference.archive.units import Unit
from dermdistill.inference.formats import run_lengths
from dermdistill.inference.prediction import Prediction
from dermdistill.inference.predictor import Predictor


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


def segment_unit(
    unit: Unit, predictor: Predictor, model_sha256: str, *, masks: bool = False
) -> Iterator[dict[str, Any]]:
    """Segment a unit: a row for each picture, broken ones with an error and without numbers."""
    waiting: list[tuple[str, bytes]] = []
    for path, content in contents(unit):
        if isinstance(content, bytes):
            waiting.append((path, content))
        else:
            yield {"path": path, "model_sha256": model_sha256, "error": content}
        if len(waiting) == BATCH:
            yield from _segment(waiting, predictor, model_sha256, masks)
            waiting = []
    yield from _segment(waiting, predictor, model_sha256, masks)


def _segment(
    pictures: Sequence[tuple[str, bytes]], predictor: Predictor, model_sha256: str, masks: bool
) -> Iterator[dict[str, Any]]:
    predictions = predictor.predict_many([content for _, content in pictures], BATCH)
    for (path, content), (_, prediction) in zip(pictures, predictions, strict=True):
        row = {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "model_sha256": model_sha256}
        if isinstance(prediction, DataError):
            yield {**row, "error": first_line(prediction)}
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
            f"{table} cannot be written: {first_line(error)}",
            "a folder that can be written, with space left",
            "Make space, or choose another --table; the same command then goes on.",
        ) from None
