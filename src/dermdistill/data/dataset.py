"""A prepared data set on disk, opened in milliseconds: the manifest, and the pack as memory maps.

::

    data/<name>/dataset.json          what it is, where it came from, hashes; written last
    data/<name>/manifest.csv          one row per image
    data/<name>/pack-256/images.npy   uint8 [n, 256, 256, 3], RGB; row i is row i of the manifest
    data/<name>/pack-256/masks.npy    uint8 {0, 1} [n, 256, 256]
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import hash_file, read_csv, read_json, write_csv
from dermdistill.imaging import read_mask

FORMAT = 1
SPLITS = ("train", "val", "test")
OUT_OF_FOLD = "out-of-fold"
"""In place of a split: the training images that a run was trained without (``data.fold``)."""


@dataclass(frozen=True)
class Row:
    """One image with its mask."""

    image_id: str
    split: str
    """train, val or test."""
    image: str
    """Path relative to the data set's folder, or absolute."""
    mask: str
    """As ``image``; empty where there is none."""
    width: int
    """Of the mask file (else the image): the size at which the official protocol scores."""
    height: int
    mask_fraction: float
    """Lesion pixels over all pixels, at native size."""
    diagnosis: str = ""
    group: str = ""
    """Lesion or patient; images of one group are never in different carved splits."""
    annotator: str = ""
    """Who drew the mask; empty where it is not known, or several people did."""
    style: str = ""
    """How the mask was drawn (a tool's or a habit's name); empty where it is not known."""


COLUMNS = [field.name for field in fields(Row)]
ADDED = ("annotator", "style")
"""Columns that are written, and belong to the fingerprint, only where a row has a value."""


@dataclass(frozen=True, eq=False)
class PreparedData:
    """An open data set: the manifest's rows, and the pack's images and masks in the same order.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import prepare_phantom
        >>> data = prepare_phantom(Path("data"), count=10, size=32, progress=False)
        >>> len(data), data.images.shape, data.masks.shape
        (10, (10, 32, 32, 3), (10, 32, 32))
        >>> test = data.indices("test")
        >>> data.images[test].mean(axis=(1, 2)).shape
        (2, 3)
        >>> data.manifest[test[0]].image_id
        'PHANTOM_00008'
    """

    folder: Path
    name: str
    size: int
    manifest: list[Row]
    images: NDArray[np.uint8]
    """Memory map, uint8 [n, size, size, 3], RGB."""
    masks: NDArray[np.uint8]
    """Memory map, uint8 {0, 1} [n, size, size]; all 0 where the data set has no masks (`need_masks`)."""
    fingerprint: str
    """sha256 of the source files' bytes and of every column of the manifest except the paths. The same
    images with the same split have the same fingerprint on every machine and at every pack size."""
    info: dict[str, Any]
    """dataset.json."""

    def __len__(self) -> int:
        return len(self.manifest)

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of a split, ascending; int64, may be empty.

        Raises:
            DataError: There is no split of that name.
        """
        if split not in SPLITS:
            raise DataError(
                f"There is no split {split!r}.", f"one of {', '.join(SPLITS)}", "Name one of these."
            )
        return np.array([i for i, row in enumerate(self.manifest) if row.split == split], np.int64)

    def need_masks(self) -> None:
        """Refuse a data set that was prepared without masks.

        Raises:
            DataError: It was.
        """
        if not self.info.get("masks", True):
            raise DataError(
                f"{self.name} was prepared without masks.",
                "a data set with masks, to learn them or to score on them",
                f"Use it beside one that has them: dermdistill distill RECIPE --data.unlabelled {self.name}",
            )

    def image_path(self, index: int) -> Path:
        """The original image file of a row."""
        return self.folder / self.manifest[index].image  # an absolute path replaces the folder

    def mask_path(self, index: int) -> Path:
        """The original mask file of a row."""
        return self.folder / self.manifest[index].mask

    def native_mask(self, index: int) -> NDArray[np.uint8]:
        """The mask at native size, uint8 {0, 1} [height, width].

        Raises:
            DataError: There are no masks, or the file is gone, broken, or has another size than when it was
                prepared.
        """
        self.need_masks()
        row, path = self.manifest[index], self.mask_path(index)
        if not path.is_file():
            raise DataError(
                f"{path} is gone.",
                f"the mask of {row.image_id}, which was there when {self.name} was prepared",
                f"Put it back, or delete {self.folder} and prepare again.",
            )
        mask, _ = read_mask(path)
        if mask.shape != (row.height, row.width):
            raise MismatchError(
                f"{path} is {mask.shape[1]}×{mask.shape[0]}.",
                f"{row.width}×{row.height}, as when {self.name} was prepared",
                f"Put the file back, or delete {self.folder} and prepare again.",
            )
        return mask


def open_dataset(name: str, root: Path, size: int) -> PreparedData:
    """Open a prepared data set.

    The manifest's hash, and the pack's shapes and types are checked; the pack itself is not hashed again.

    Raises:
        DataError: Not prepared, or unreadable.
        MismatchError: There is no pack of this size, or a file is not the one that was prepared.
    """
    folder = root / name
    info = read_info(folder)
    remake = f"Delete {folder} and run: {command(info, size, root)}"
    manifest_path = folder / "manifest.csv"
    if not manifest_path.is_file() or hash_file(manifest_path) != info["manifest_sha256"]:
        raise MismatchError(
            f"{manifest_path} is not the one that was prepared.",
            "the file that dataset.json describes",
            remake,
        )
    if str(size) not in info["packs"]:
        raise MismatchError(
            f"{folder} has no pack of size {size}.",
            f"one of the sizes it has: {', '.join(sorted(info['packs'], key=int))}",
            f"Run: {command(info, size, root)}",
        )
    rows = read_manifest(manifest_path)
    pack, count = pack_folder(folder, size), len(rows)
    images = _open_array(pack / "images.npy", (count, size, size, 3), remake)
    masks = _open_array(pack / "masks.npy", (count, size, size), remake)
    identity = fingerprint(rows, info["content_sha256"])
    return PreparedData(folder, name, size, rows, images, masks, identity, info)


def is_prepared(folder: Path) -> bool:
    """Whether the data set in ``folder`` is complete."""
    return (folder / "dataset.json").is_file()


def read_info(folder: Path) -> dict[str, Any]:
    """``dataset.json`` of a prepared data set.

    Raises:
        DataError: Not prepared, or of another format.
    """
    if not is_prepared(folder):
        raise DataError(
            f"{folder} holds no prepared data set.",
            "dataset.json, which prepare writes",
            "Run: dermdistill prepare isic2016 (or isic2017, isic2018, phantom), or, for images of your own, "
            f"dermdistill prepare own --name {folder.name} --images DIR --masks DIR",
        )
    info = read_json(folder / "dataset.json")
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise DataError(
            f"{folder / 'dataset.json'} is not of format {FORMAT}.",
            "a data set prepared by this version",
            f"Delete {folder} and prepare it again.",
        )
    return info


def command(info: dict[str, Any], size: int, root: Path) -> str:
    """The command line that makes this data set at this pack size below ``root``."""
    where = "" if root == Path("data") else f" --root {shlex.quote(str(root))}"
    return f"{info['command']}{where} --size {size}"


def pack_folder(folder: Path, size: int) -> Path:
    """Where the pack of one size lies."""
    return folder / f"pack-{size}"


def write_manifest(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV, atomically."""
    unused = _unused(rows)
    values = [{k: v for k, v in asdict(row).items() if k not in unused} for row in rows]
    write_csv(path, values, [name for name in COLUMNS if name not in unused])


def read_manifest(path: Path) -> list[Row]:
    """Read what `write_manifest` wrote.

    Raises:
        DataError: A column is missing or a number is none.
    """
    try:
        return [
            Row(
                **{name: row[name] for name in ("image_id", "split", "image", "mask", "diagnosis", "group")},
                **{name: row.get(name, "") for name in ADDED},
                width=int(row["width"]),
                height=int(row["height"]),
                mask_fraction=float(row["mask_fraction"]),
            )
            for row in read_csv(path)
        ]
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}.",
            f"the columns {', '.join(COLUMNS)}",
            "Delete the folder and prepare the data set again.",
        ) from None


def fingerprint(rows: Sequence[Row], content_sha256: str) -> str:
    """Identity of a data set and its split; see `PreparedData.fingerprint`."""
    left_out = {"image", "mask", *_unused(rows)}
    facts = [[value for key, value in asdict(row).items() if key not in left_out] for row in rows]
    return hashlib.sha256((content_sha256 + json.dumps(facts)).encode()).hexdigest()


def labels_of(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return what the manifest says of its images in words: diagnosis, annotator and style.

    Args:
        rows: Of the manifest, n.

    Returns:
        n texts by column; annotator and style are left out where no row names one.
    """
    columns = {name: [getattr(row, name) for row in rows] for name in ("diagnosis", *ADDED)}
    return {name: texts for name, texts in columns.items() if name == "diagnosis" or any(texts)}


def _unused(rows: Sequence[Row]) -> set[str]:
    return {name for name in ADDED if not any(getattr(row, name) for row in rows)}


def _open_array(path: Path, shape: tuple[int, ...], remake: str) -> NDArray[np.uint8]:
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be opened: {error}.", "the array that was packed", remake) from None
    if array.shape != shape or array.dtype != np.uint8:
        raise MismatchError(f"{path} holds {array.dtype} {array.shape}.", f"uint8 {shape}", remake)
    return array
