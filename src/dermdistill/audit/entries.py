"""What is audited: the images of prepared data sets and of plain folders, each with its set and split."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermdistill.audit.features import SIDE
from dermdistill.core.errors import DataError, UsageError
from dermdistill.data.dataset import SPLITS, is_prepared, open_dataset, read_info
from dermdistill.data.prepare.pairing import image_id_of
from dermdistill.data.prepare.people_tables import match_ids
from dermdistill.data.prepare.tables import Table, read_table
from dermdistill.imaging import UInt8Array, image_size, open_picture, resize_image
from dermdistill.imaging.find import find_images

UNKNOWN = ""
"""The split of images whose split is not known."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One image under one name."""

    set_name: str
    image_id: str
    split: str
    """train, val, test, or empty where it is not known."""
    path: Path
    """The original file; it may be gone where there is a packed copy."""
    group: str = ""
    """Lesion or patient; empty where unknown."""
    aspect: float | None = None
    """Width over height before it was squashed, where known without opening the file."""
    packed: UInt8Array | None = None
    """The row of a pack, uint8 [s, s, 3]: a view of a memory map."""

    def sha256(self) -> str:
        """Of the file's bytes, or ``pixels-`` and that of the packed copy where the file is gone.

        Raises:
            DataError: Neither is there.
        """
        try:
            with self.path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            if self.packed is None:
                raise DataError(
                    f"{self.path} cannot be read: {error}.",
                    "the image file that the data set names",
                    "Put the image back, or prepare the data set again.",
                ) from None
            return "pixels-" + hashlib.sha256(self.packed.tobytes()).hexdigest()

    def proportion(self) -> float:
        """Width over height of the original."""
        if self.aspect is not None:
            return self.aspect
        width, height = image_size(self.path)
        return width / height

    def square(self) -> UInt8Array:
        """RGB uint8 [256, 256, 3], as prepare packs it.

        Raises:
            DataError: The file is gone or broken and there is no packed copy.
        """
        if self.packed is not None and (len(self.packed) == SIDE or not self.path.is_file()):
            return resize_image(np.asarray(self.packed), SIDE)
        return resize_image(open_picture(self.path, near=SIDE).image, SIDE)


def collect(
    arguments: Sequence[str],
    root: Path,
    *,
    manifest: Path | None = None,
    split_column: str | None = None,
) -> list[Entry]:
    """Collect the images that the arguments name.

    Args:
        arguments: Each the name of a prepared data set below ``root``, its folder, or any folder of images;
            ``FOLDER=SPLIT`` says which split a folder of images is.
        root: Folder of the prepared data sets.
        manifest: CSV that gives the folders' images a split and a group; images that it does not name are of
            no known split.
        split_column: Which of its columns.

    Returns:
        The images, argument after argument.

    Raises:
        UsageError: An argument names nothing, or twice the same.
        DataError: A data set or the manifest cannot be read.
    """
    table = read_table(manifest, split_column) if manifest is not None else None
    entries: list[Entry] = []
    for argument in arguments:
        named = _prepared(argument, root) or _folder(argument, root, table)
        if any(entry.set_name == named[0].set_name for entry in entries):
            raise UsageError(
                f"Two of the data sets are called {named[0].set_name!r}.",
                "each once, with a name of its own",
                "Name it once; of two folders with one name, rename one.",
            )
        entries += named
    if not entries:
        raise UsageError(
            "There is nothing to audit.",
            "names of prepared data sets, or folders of images",
            "Name a prepared data set, or a folder of images.",
        )
    return entries


def _prepared(argument: str, root: Path) -> list[Entry]:
    folder = root / argument if is_prepared(root / argument) else Path(argument)
    if not is_prepared(folder):
        return []
    sizes = sorted(map(int, read_info(folder)["packs"]))
    # The pack of the working size needs no decoding; else the largest stands in for files that are gone.
    data = open_dataset(folder.resolve().name, folder.resolve().parent, SIDE if SIDE in sizes else sizes[-1])
    return [
        Entry(
            data.name, row.image_id, row.split, data.image_path(i), row.group, row.width / row.height,
            data.images[i],
        )
        for i, row in enumerate(data.manifest)
    ]  # fmt: skip


def _folder(argument: str, root: Path, table: Table | None) -> list[Entry]:
    name, equals, split = argument.rpartition("=")
    if not equals or split not in SPLITS:
        name, split = argument, UNKNOWN
    folder = Path(name)
    if not folder.is_dir():
        near = sorted(path.parent.name for path in root.glob("*/dataset.json"))
        raise UsageError(
            f"{argument} is neither a prepared data set below {root} nor a folder of images.",
            f"one of {', '.join(near) or '(none is prepared)'}, or a folder, or FOLDER=train, =val, =test",
            "Prepare it under this name (dermdistill prepare), or give the folder that holds it as --root.",
        )
    paths = find_images([folder])
    stems = Counter(path.stem for path in paths)
    rows = {}
    if table is not None:
        matched = match_ids(table.entries, {image_id_of(path) for path in paths})
        rows = {image_id: table.entries[name] for name, image_id in matched.items()}
    entries = []
    for path in paths:
        inside = path.relative_to(folder).with_suffix("").as_posix()
        entry = Entry(folder.resolve().name, path.stem if stems[path.stem] == 1 else inside, split, path)
        if row := rows.get(image_id_of(path)):
            entry = dataclasses.replace(entry, split=row.split or split, group=row.group)
        entries.append(entry)
    return entries
