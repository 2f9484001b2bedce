"""Decode every pair once, check it, and write it into the pack; a killed run goes on where it stopped.

::

    data/<name>/pack-256.partial/records.jsonl   the plan's hash, then one line per finished pair
    data/<name>/pack-256.partial/*.npy           the arrays, filled row by row
    data/<name>/pack-256/                        the same, renamed when complete
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

from dermdistill.data.dataset import pack_folder
from dermdistill.data.download import disk_error
from dermdistill.data.pairing import LISTED, Pair
from dermdistill.errors import DataError
from dermdistill.files import hash_file, write_text
from dermdistill.imaging import image_size, read_image, read_mask, resize_image, resize_mask

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


@dataclass(frozen=True)
class Pack:
    """A complete pack, not yet published."""

    records: list[Record]
    hashes: dict[str, str]
    """``images_sha256`` and ``masks_sha256``: of the .npy files."""
    content_sha256: str
    """Of the source files' bytes, in row order."""


def build_pack(
    pairs: Sequence[Pair], folder: Path, size: int, *, allow_empty: bool, progress: bool = True
) -> Pack:
    """Check every pair and write its row.

    Args:
        pairs: In row order.
        folder: The data set's folder.
        size: Side of the squares in pixels.
        allow_empty: Accept masks without a lesion.
        progress: Show a bar.

    Raises:
        DataError: Some pairs are bad: all of them are listed, with the reason (those beyond the fiftieth in
            ``problems.txt``); the good ones need not be read again. Or the disk is full.
    """
    final, partial = pack_folder(folder, size), _partial(folder, size)
    if final.is_dir() and not partial.is_dir():
        final.replace(partial)  # it was published, but the data set was not finished
    try:
        work = _Work(partial, pairs, size)
        problems = work.run(progress=progress, title=f"{folder.name}: checking and packing")
        work.close()
        if not allow_empty:
            problems |= {
                record.row: f"{pairs[record.row].mask}: no pixel is above 127: an empty mask"
                for record in work.records.values()
                if record.mask_fraction == 0
            }
        _refuse(folder, len(pairs), [problems[row] for row in sorted(problems)])
        hashes = {f"{kind}_sha256": hash_file(partial / f"{kind}.npy") for kind in ("images", "masks")}
    except OSError as error:
        raise disk_error(error, partial) from error
    records = [work.records[row] for row in range(len(pairs))]
    content = hashlib.sha256("".join(r.image_sha256 + r.mask_sha256 for r in records).encode()).hexdigest()
    return Pack(records, hashes, content)


def publish_pack(folder: Path, size: int) -> None:
    """Give a built pack its name."""
    _partial(folder, size).replace(pack_folder(folder, size))


def drop_log(folder: Path, size: int) -> None:
    """Remove what is only needed while the data set is not finished."""
    (pack_folder(folder, size) / "records.jsonl").unlink(missing_ok=True)
    (folder / "problems.txt").unlink(missing_ok=True)


def _partial(folder: Path, size: int) -> Path:
    pack = pack_folder(folder, size)
    return pack.with_name(pack.name + ".partial")


class _Work:
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
            mask, greys = read_mask(pair.mask)
            height, width = mask.shape
            found = image_size(pair.image)
            if found != (width, height):
                return f"{pair.image} is {found[0]}×{found[1]}, but its mask {pair.mask} is {width}×{height}"
            self.images[row] = resize_image(read_image(pair.image, near=self.size), self.size)
            self.masks[row] = resize_mask(mask, self.size)
            return Record(
                row, width, height, round(float(mask.mean()), 8), greys,
                hash_file(pair.image), hash_file(pair.mask), stamp,
            )  # fmt: skip
        except DataError as error:
            return error.found
        except OSError as error:
            return f"{pair.image}, {pair.mask}: {error}"

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
    for path in (pair.image, pair.mask):
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


def _refuse(folder: Path, count: int, problems: list[str]) -> None:
    if not problems:
        return
    shown = "\n".join(f"    {line}" for line in problems[:LISTED])
    if len(problems) > LISTED:
        write_text(folder / "problems.txt", "\n".join(problems) + "\n")
        shown += f"\n    … and {len(problems) - LISTED} more; all are in {folder / 'problems.txt'}"
    empty = any(line.endswith("an empty mask") for line in problems)
    hint = " Masks of 0 and 1 must be written as 0 and 255; images without a lesion need --allow-empty."
    raise DataError(
        f"{len(problems)} of {count} pairs cannot be used:\n{shown}",
        "an image and a mask of the same size that both decode, with a lesion in the mask",
        "Mend or remove these files and run the same command again; the good ones are not read again."
        + (hint if empty else ""),
    )
