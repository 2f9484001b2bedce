"""Prepare a data set: bring the files, pair them, check them, split them, pack them.

``dataset.json`` is written last; where it exists, a second call does nothing, and where it does not, every
step takes up what an earlier call has left.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermdistill.data.arguments import check_arguments, command_line
from dermdistill.data.assemble import Job, add_pack, assemble, discard_archives, reuse
from dermdistill.data.dataset import PreparedData, is_prepared, open_dataset, read_info
from dermdistill.data.fetch import fetch_source
from dermdistill.data.lock import locked
from dermdistill.data.official import official_pairs, ph2_pairs, phantom_pairs
from dermdistill.data.own import collect, digest
from dermdistill.data.phantom import write_phantoms
from dermdistill.data.sources import PHANTOM, SOURCES, find_source
from dermdistill.errors import UsageError

logger = logging.getLogger(__name__)

PHANTOM_TEST_FRACTION = 0.2
PHANTOM_SIDE = 256
"""Native side of generated images in pixels: any pack size is made from the same pictures."""


def prepare_source(
    name: str,
    root: Path,
    *,
    size: int = 256,
    part: str = "1",
    archives: Path | None = None,
    seed: int = 0,
    val_fraction: float = 0.15,
    verify: bool = True,
    allow_empty: bool = False,
    discard: bool = False,
    bases: Sequence[str] | None = None,
    backoff: float = 1.0,
    progress: bool = True,
) -> PreparedData:
    """Prepare a data set of the catalogue (:data:`dermdistill.data.sources.SOURCES`).

    Official training images become train and val (carved), official test images test. Where there is an
    official validation split (2017, 2018), it is val and nothing is carved.

    Args:
        name: isic2016, isic2016-3b, isic2017, isic2018 or ph2.
        root: Folder of the prepared data sets; this one gets ``root/name``.
        size: Side of the pack's squares in pixels.
        part: isic2016: ``1``, or ``3b`` (with diagnosis; prepared as ``isic2016-3b``).
        archives: Folder with the archives, fetched by hand: nothing is downloaded. For ph2: the unpacked
            folder.
        seed: Seed of the carved split.
        val_fraction: Share of the training images to carve.
        verify: Compare lengths and digests of the archives.
        allow_empty: Accept masks without a lesion.
        discard: Remove the downloads afterwards (unpacked files stay).
        bases: Addresses instead of the catalogue's.
        backoff: Seconds before a second attempt to download.
        progress: Show bars.

    Raises:
        UsageError: No such data set or part, or ph2 without ``archives``.
        ArchiveError: An archive is not the expected one, or unsafe.
        DataError: Downloads fail, pairs are bad (all are listed), or the disk is full.
        MismatchError: It was prepared with other settings.
    """
    source = find_source(name, part)
    folder = check_arguments(source.name, root, size, val_fraction)
    settings: dict[str, Any] = {"source": source.name, "allow_empty": allow_empty}
    if "train" in source.counts and "val" not in source.counts:
        settings |= {"seed": seed, "val_fraction": val_fraction}
    with locked(folder):
        if (data := reuse(folder, size, settings, progress=progress)) is not None:
            return data
        if source.name == "ph2":
            pairing, records = ph2_pairs(archives), [{"from": str(archives and archives.resolve())}]
        else:
            records = fetch_source(
                source,
                folder,
                archives=archives,
                bases=bases,
                verify=verify,
                progress=progress,
                backoff=backoff,
            )
            pairing = official_pairs(source, folder)
        command = ["prepare", name, *(["--part", "3b"] if source.name == "isic2016-3b" else [])]
        job = Job(
            source.name, source.title, source.license,
            command_line(
                *command, seed=seed, val_fraction=val_fraction, allow_empty=allow_empty, archives=archives
            ),
            {"catalogue": source.name, "page": source.page, "files": records},
            settings, pairing.pairs,
            {
                "images without a mask (left out)": [path.name for path in pairing.images_without_mask],
                "masks without an image (left out)": [path.name for path in pairing.masks_without_image],
            },
            seed, val_fraction, allow_empty,
        )  # fmt: skip
        data = assemble(job, root, size, progress=progress)
        if discard:
            discard_archives(folder)
        return data


def prepare_folder(
    name: str,
    root: Path,
    images: Path,
    masks: Path,
    *,
    test_images: Path | None = None,
    test_masks: Path | None = None,
    manifest: Path | None = None,
    split_column: str = "split",
    diagnosis_column: str | None = None,
    size: int = 256,
    seed: int = 0,
    val_fraction: float = 0.15,
    allow_empty: bool = False,
    progress: bool = True,
) -> PreparedData:
    """Prepare images of one's own; they stay where they are, and must stay there.

    Masks are matched by name (:mod:`dermdistill.data.pairing`). Files without a partner are left out with a
    warning that lists them (also in ``dataset.json``); when nothing matches, that is an error.

    Args:
        name: Name of the data set; not one of the catalogue's.
        root: Folder of the prepared data sets.
        images: Folder of the training images (JPEG, PNG, BMP, TIFF), searched to any depth.
        masks: Folder of their masks; may be the same one.
        test_images: Folder of test images.
        test_masks: Folder of their masks.
        manifest: CSV, see :mod:`dermdistill.data.tables`. Only the images that it names are used.
        split_column: Which of its columns gives the split; rows where it is empty are left out. Where
            there is no column ``split``, the only one that ends in ``_split`` is taken.
        diagnosis_column: Which one gives the diagnosis.
        size: Side of the pack's squares in pixels.
        seed: Seed of the carved split.
        val_fraction: Share of the training images to carve when the manifest names no val.
        allow_empty: Accept masks without a lesion.
        progress: Show a bar.

    Raises:
        UsageError: Arguments do not go together.
        DataError: Nothing matches, or pairs are bad (all are listed).
        MismatchError: ``name`` was prepared from other files or with other settings.
    """
    if name in SOURCES or name == PHANTOM:
        raise UsageError(
            f"{name} is a name of the catalogue.", "a name of your own", "Choose another --name."
        )
    folder = check_arguments(name, root, size, val_fraction)
    chosen = None if split_column == "split" else split_column
    own = collect(images, masks, test_images, test_masks, manifest, chosen, diagnosis_column)
    settings: dict[str, Any] = {
        "pairs": digest(own.pairs),
        "images": len(own.pairs),
        "allow_empty": allow_empty,
    }
    if not any(pair.split == "val" for pair in own.pairs):
        settings |= {"seed": seed, "val_fraction": val_fraction}
    places = {
        "images": images, "masks": masks, "test_images": test_images, "test_masks": test_masks,
        "manifest": manifest,
    }  # fmt: skip
    found = (
        {"split_column": own.table.split_column, "diagnosis_column": own.table.diagnosis_column}
        if own.table
        else {}
    )
    source = {key: str(path.resolve()) for key, path in places.items() if path is not None}
    source |= {key: column for key, column in found.items() if column is not None}
    with locked(folder):
        if (data := reuse(folder, size, settings, progress=progress)) is not None:
            return data
        call = command_line(
            "prepare",
            name=name,
            seed=seed,
            val_fraction=val_fraction,
            allow_empty=allow_empty,
            **{key: value for key, value in source.items() if key != "diagnosis_column"},
        )
        job = Job(
            name, name, "the owner's", call, source, settings, own.pairs, own.unmatched,
            seed, val_fraction, allow_empty,
        )  # fmt: skip
        return assemble(job, root, size, progress=progress)


def prepare_phantom(
    root: Path,
    *,
    count: int = 240,
    size: int = 256,
    seed: int = 0,
    val_fraction: float = 0.15,
    name: str = PHANTOM,
    progress: bool = True,
) -> PreparedData:
    """Prepare generated images: the last fifth is test, the rest train and val (carved).

    They are for trying out and for tests; scores on them are no evidence.

    Args:
        root: Folder of the prepared data sets.
        count: Number of images, at least 3.
        size: Side of the pack's squares in pixels; the pictures themselves are 256×256.
        seed: Seed of the pictures and of the carved split.
        val_fraction: Share of the training images to carve.
        name: Name of the data set.
        progress: Show bars.

    Raises:
        UsageError: ``count`` is below 3.
        MismatchError: It was prepared with other settings.
    """
    if count < 3:
        raise UsageError(
            f"The number of phantoms is {count}.", "at least 3: one to train, validate and test on"
        )
    if name in SOURCES:
        raise UsageError(
            f"{name} is a name of the catalogue.", "a name of your own", "Choose another --name."
        )
    folder = check_arguments(name, root, size, val_fraction)
    settings = {"source": PHANTOM, "count": count, "seed": seed, "val_fraction": val_fraction}
    with locked(folder):
        if (data := reuse(folder, size, settings, progress=progress)) is not None:
            return data
        raw = folder / "raw" / f"seed-{seed}-count-{count}"
        write_phantoms(raw, count, PHANTOM_SIDE, seed, progress=progress)
        job = Job(
            name, "Generated phantoms (no evidence)", "MIT",
            command_line("prepare", PHANTOM, name=name, count=count, seed=seed, val_fraction=val_fraction),
            {"generator": "dermdistill.data.phantom", "count": count, "seed": seed},
            settings, phantom_pairs(raw, max(1, round(count * PHANTOM_TEST_FRACTION))), {},
            seed, val_fraction, allow_empty=False,
        )  # fmt: skip
        return assemble(job, root, size, progress=progress)


def ensure_prepared(name: str, root: Path, size: int, *, progress: bool = True) -> PreparedData:
    """Open a data set; make a missing pack; prepare a name of the catalogue that is not there yet.

    Raises:
        DataError: Not prepared, and its name is not one of the catalogue's; the command is given.
        MismatchError: Its files are not the ones that were prepared.
    """
    folder = root / name
    if is_prepared(folder):
        if str(size) in read_info(folder)["packs"]:
            return open_dataset(name, root, size)
        with locked(folder):
            # Another process may have added it while this one waited.
            if str(size) not in read_info(folder)["packs"]:
                return add_pack(folder, size, progress=progress)
        return open_dataset(name, root, size)
    if name == PHANTOM:
        return prepare_phantom(root, size=size, progress=progress)
    if name in SOURCES:
        return prepare_source(name, root, size=size, progress=progress)
    return open_dataset(name, root, size)  # raises, with the command
