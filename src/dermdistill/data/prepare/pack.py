"""From pairs to a pack: built under a temporary name, refused if a pair is bad, published under its own.

::

    data/<name>/pack-256.partial/                while it is built (packing.py)
    data/<name>/pack-256/                        the same, renamed when complete
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dermdistill.core.errors import DataError
from dermdistill.core.files import disk_error, hash_file, write_text
from dermdistill.data.dataset import pack_folder
from dermdistill.data.prepare.packing import PackWork, Record
from dermdistill.data.prepare.pairing import LISTED, Pair

__all__ = ["Pack", "Record", "build_pack", "drop_log", "publish_pack"]


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
        work = PackWork(partial, pairs, size)
        problems = work.run(progress=progress, title=f"{folder.name}: checking and packing")
        work.close()
        if not allow_empty:
            problems |= {
                record.row: f"{pairs[record.row].mask}: no pixel is above 127: an empty mask"
                for record in work.records.values()
                if record.mask_fraction == 0 and pairs[record.row].mask is not None
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


def _refuse(folder: Path, count: int, problems: list[str]) -> None:
    if not problems:
        return
    shown = "\n".join(f"    {line}" for line in problems[:LISTED])
    if len(problems) > LISTED:
        write_text(folder / "problems.txt", "\n".join(problems) + "\n")
        shown += f"\n    … and {len(problems) - LISTED} more; all are in {folder / 'problems.txt'}"
    empty = any(line.endswith("an empty mask") for line in problems)
    hint = " Images without a lesion need --allow-empty."
    raise DataError(
        f"{len(problems)} of {count} pairs cannot be used:\n{shown}",
        "an image and a mask of the same size that both decode, with a lesion in the mask",
        "Fix or remove these files and run the same command again; the good ones are not read again."
        + (hint if empty else ""),
    )
