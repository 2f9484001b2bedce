"""The pairs of the catalogue's data sets, from their files as published."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import read_csv
from dermdistill.data.download.catalog import PH2_ARCHIVE, SOURCES, Source, Split
from dermdistill.data.download.fetch import raw_path
from dermdistill.data.prepare.pairing import Pair, Pairing, listed, pair_folders, pair_ph2
from dermdistill.data.prepare.tables import read_labels, read_ph2_labels
from dermdistill.imaging.find import list_folder

logger = logging.getLogger(__name__)

PH2_TABLE = "PH2_dataset.txt"


def official_pairs(source: Source, folder: Path) -> Pairing:
    """Pairs of an unpacked ISIC data set, sorted by id, with the official splits.

    A number of pairs that differs from the published one is warned about.

    Raises:
        DataError: Nothing matches, or an image is in two splits.
    """
    pairs: list[Pair] = []
    images, masks = [], []
    for split in source.counts:
        files = {file.content: raw_path(folder, file) for file in source.files if file.split == split}
        paired = pair_folders(
            files.get("images") or files["both"], files.get("masks") or files["both"], split
        )
        labels = read_labels(files["labels"]) if "labels" in files else {}
        pairs += [dataclasses.replace(p, diagnosis=labels.get(p.image_id, "")) for p in paired.pairs]
        images += paired.images_without_mask
        masks += paired.masks_without_image
        warn_count(source, split, len(paired.pairs))
        if labels and (absent := sum(pair.image_id not in labels for pair in paired.pairs)):
            logger.warning("%s: %d %s images have no diagnosis.", source.name, absent, split)
    ids = [pair.image_id for pair in pairs]
    if len(set(ids)) < len(ids):
        twice = sorted({image_id for image_id in ids if ids.count(image_id) > 1})
        raise DataError(
            f"{source.name} has images in two splits: {', '.join(twice[:20])}",
            "each in one",
            "Delete the unpacked files and fetch the archives again.",
        )
    return Pairing(sorted(pairs, key=lambda pair: pair.image_id), images, masks)


def ph2_pairs(folder: Path | None) -> Pairing:
    """Pairs of PH2, unpacked by hand: a test set, with the diagnoses of its table where that is there.

    Raises:
        UsageError: No folder is given; where PH2 is to be had is said.
        DataError: The folder does not hold it, or holds it still packed, or its table cannot be read.
    """
    source = SOURCES["ph2"]
    fetch = f"Fetch {PH2_ARCHIVE} (page: {source.page}), unpack it (for example with unrar or 7-Zip)"
    if folder is None:
        raise UsageError(
            "PH2 cannot be downloaded and unpacked by this program: it is a RAR archive.",
            "the folder where you unpacked it",
            f"{fetch} and run: dermdistill prepare ph2 --archives DIR",
        )
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", "the folder where PH2 was unpacked", f"{fetch}.")
    if not any(path.match("IMD*_Dermoscopic_Image/*") for path in list_folder(folder).images):
        packed = list_folder(folder, (".rar", ".zip", ".7z")).images
        problem = (
            f"{packed[0]} is still packed"
            if packed
            else f"{folder} holds no IMDxxx_Dermoscopic_Image folders"
        )
        fix = (
            f"Unpack it there (for example: unrar x {packed[0].name}) and run this again."
            if packed
            else f"{fetch}."
        )
        raise DataError(f"{problem}.", "IMDxxx/IMDxxx_Dermoscopic_Image/IMDxxx.bmp, at any depth", fix)
    pairing = pair_ph2(folder)
    warn_count(source, "test", len(pairing.pairs))
    return dataclasses.replace(pairing, pairs=_with_ph2_diagnoses(pairing.pairs, folder))


def _with_ph2_diagnoses(pairs: list[Pair], folder: Path) -> list[Pair]:
    # The table lies beside the folder of images, which may be the one that was named.
    texts = list_folder(folder, (".txt",)).images
    tables = [*(path for path in texts if path.name == PH2_TABLE), folder.resolve().parent / PH2_TABLE]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        logger.warning("ph2: there is no %s in %s, so no diagnosis is known.", PH2_TABLE, folder)
        return pairs
    labels = read_ph2_labels(table)
    if absent := [pair.image_id for pair in pairs if pair.image_id not in labels]:
        logger.warning("ph2: %d images have no diagnosis in %s: %s", len(absent), table, listed(absent))
    return [dataclasses.replace(pair, diagnosis=labels.get(pair.image_id, "")) for pair in pairs]


def phantom_pairs(folder: Path, test_count: int) -> list[Pair]:
    """Pairs of generated images; the last ``test_count`` are the test split."""
    diagnoses = {row["image_id"]: row["diagnosis"] for row in read_csv(folder / "phantoms.csv")}
    pairs = pair_folders(folder / "images", folder / "masks").pairs
    first_test = len(pairs) - test_count
    return [
        dataclasses.replace(p, split="test" if i >= first_test else "train", diagnosis=diagnoses[p.image_id])
        for i, p in enumerate(pairs)
    ]


def warn_count(source: Source, split: Split, count: int) -> None:
    """Say so when the number of pairs is not the published one."""
    if count != source.counts[split]:
        logger.warning(
            "%s: %d %s pairs were found, %d are published.", source.name, count, split, source.counts[split]
        )
