"""Decode every pair once, check it, and write it into the pack; a killed run goes on where it stopped.

::

    data/<name>/pack-256.partial/records.jsonl   the plan's hash, then one line per finished pair
    data/<name>/pack-256.partial/*.npy           the arrays, filled row by row
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill.core.errors import DataError
from dermdistill.core.files import hash_file, write_text
from dermdistill.data.prepare.mask_checks import border_share, fits_unturned
from dermdistill.data.prepare.pairing import Pair
from dermdistill.imaging import decode_mask, open_picture, orientation_of, resize_image, resize_mask

logger = logging.getLogger(__name__)

CHUNK = 64
"""Pairs between two entries in the log: what a kill costs."""


@dataclass(frozen=True)
class Record:
    """What was found in one pair."""

    row: int
    width: int
    height: int
    mask_fraction: float
    thresholded: bool
    """The mask held greys."""
    image_sha256: str
    mask_sha256: str
    stamp: str
    """Sizes and times of both files, to see whether they were changed since."""
    written_as: str = "0/255"
    """How the mask's file writes what is lesion (`imaging.decode_mask`)."""
    border: float = 0.0
    """Share of the mask's border that is lesion: nearly all of it where a mask is inverted."""
    orientation: int = 1
    """EXIF orientation of the image."""
    fits_unturned: bool = False
    """The mask lies on the darker part of the image only if the image is not turned as its EXIF says."""


class PackWork:
    """The arrays and the log of an unfinished pack."""

    def __init__(self, partial: Path, pairs: Sequence[Pair], size: int) -> None:
        self.pairs, self.size, self.log = pairs, size, partial / "records.jsonl"
        plan = hashlib.sha256(json.dumps([size, [pair.image_id for pair in pairs]]).encode()).hexdigest()
        self.records = self._read_log(plan)
        shapes = {"images": (len(pairs), size, size, 3), "masks": (len(pairs), size, size)}
        arrays = {kind: _reopen(partial / f"{kind}.npy", shape) for kind, shape in shapes.items()}
        if self.records and all(array is not None for array in arrays.values()):
            logger.info("%s: going on after %d of %d images.", partial, len(self.records), len(pairs))
        else:
            self.records = {}
            arrays.clear()
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            arrays = {kind: _create(partial / f"{kind}.npy", shape) for kind, shape in shapes.items()}
            write_text(self.log, json.dumps({"plan": plan}) + "\n")
        self.images, self.masks = arrays["images"], arrays["masks"]

    def run(self, *, progress: bool, title: str) -> dict[int, str]:
        """Do the rows that are not done; what is wrong, by row."""
        todo = [row for row in range(len(self.pairs)) if row not in self.records]
        problems: dict[int, str] = {}
        # Pillow decodes without holding the interpreter's lock, so threads are enough.
        workers = min(16, os.cpu_count() or 1)
        bar = tqdm(
            total=len(self.pairs), initial=len(self.records), desc=title, unit="image", disable=not progress
        )
        with bar, ThreadPoolExecutor(workers, thread_name_prefix="pack") as pool:
            for start in range(0, len(todo), CHUNK):
                finished = []
                for row, result in zip(
                    todo[start : start + CHUNK], pool.map(self._do, todo[start : start + CHUNK]), strict=True
                ):
                    if isinstance(result, str):
                        problems[row] = result
                    else:
                        finished.append(result)
                    bar.update()
                self._remember(finished)
        return problems

    def close(self) -> None:
        """Let go of the arrays, so that the folder can be renamed everywhere."""
        del self.images, self.masks

    def _do(self, row: int) -> Record | str:
        """Check one pair and write its row; the record, or what is wrong with it."""
        pair = self.pairs[row]
        try:
            stamp = _file_stamp(pair)
            if pair.mask is None:
                picture = open_picture(pair.image, near=self.size)
                self.images[row] = resize_image(picture.image, self.size)
                return Record(
                    row, picture.width, picture.height, 0.0, False, hash_file(pair.image), "", stamp
                )
            decoded = decode_mask(pair.mask)
            mask = decoded.mask
            height, width = mask.shape
            orientation = orientation_of(pair.image)
            picture = open_picture(pair.image, near=self.size)
            if (picture.width, picture.height) != (width, height):
                return (
                    f"{pair.image} is {picture.width}×{picture.height}, "
                    f"but its mask {pair.mask} is {width}×{height}"
                    + (
                        f": the image is turned by its EXIF orientation ({orientation}), the mask is not"
                        if orientation != 1 and (picture.width, picture.height) == (height, width)
                        else ""
                    )
                )
            self.images[row] = resize_image(picture.image, self.size)
            self.masks[row] = resize_mask(mask, self.size)
            return Record(
                row, width, height, round(float(mask.mean()), 8), decoded.greys,
                hash_file(pair.image), hash_file(pair.mask), stamp, decoded.written_as,
                border_share(mask), orientation,
                orientation != 1 and fits_unturned(self.images[row], self.masks[row], orientation),
            )  # fmt: skip
        except DataError as error:
            return error.found
        except OSError as error:
            return f"{pair.image}, {pair.mask or 'no mask'}: {error}"

    def _remember(self, records: list[Record]) -> None:
        """Rows first, then the log: a line in it means that the row is on disk."""
        self.images.flush()
        self.masks.flush()
        with self.log.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(record)) + "\n" for record in records)
        self.records |= {record.row: record for record in records}

    def _read_log(self, plan: str) -> dict[int, Record]:
        """Records of an earlier attempt with the same plan, whose files are unchanged."""
        try:
            head, *lines = self.log.read_text(encoding="utf-8").splitlines()
            if json.loads(head) != {"plan": plan}:
                return {}
        except (OSError, ValueError):
            return {}
        records = {}
        for line in lines:
            try:
                record = Record(**json.loads(line))
                if record.stamp == _file_stamp(self.pairs[record.row]):
                    records[record.row] = record
            except (ValueError, TypeError, OSError):
                continue  # a line torn by the kill, or a file that is gone: that row is done again
        return records


def _file_stamp(pair: Pair) -> str:
    facts: list[Any] = []
    for path in filter(None, (pair.image, pair.mask)):
        status = path.stat()
        facts += [str(path), status.st_size, status.st_mtime_ns]
    return json.dumps(facts)


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # Writing to a map of a file with holes on a full disk would kill the process (SIGBUS).
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def _reopen(path: Path, shape: tuple[int, ...]) -> Any:
    try:
        array: NDArray[np.uint8] = np.lib.format.open_memmap(path, mode="r+")
    except (OSError, ValueError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None
