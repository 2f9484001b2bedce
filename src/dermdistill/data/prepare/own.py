"""Images of one's own: pairs from folders, with what a manifest says about them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dermdistill.core.errors import DataError, UsageError
from dermdistill.data.prepare.pairing import Pair, Pairing, listed, mask_stem, pair_folders
from dermdistill.data.prepare.people_tables import match_ids
from dermdistill.data.prepare.settings import FolderSettings
from dermdistill.data.prepare.tables import Table, read_table

logger = logging.getLogger(__name__)

NO_MASK = "images without a mask (left out)"
NO_IMAGE = "masks without an image (left out)"
NO_FILES = "ids of the manifest without a pair of files (left out)"
NO_ENTRY = "pairs that the manifest does not name (left out)"


@dataclass(frozen=True)
class OwnImages:
    """The pairs to use, sorted by id, and what is not used."""

    pairs: list[Pair]
    unmatched: dict[str, list[str]]
    table: Table | None


def collect(settings: FolderSettings) -> OwnImages:
    """Pair the folders and apply the manifest.

    Args:
        settings: Which folders, which manifest, which of its columns.

    Returns:
        The pairs, and what is left out.

    Raises:
        UsageError: Only one of the two test folders, or columns without a manifest.
        DataError: Nothing matches, names collide, or folder and manifest disagree about a split.
    """
    test_images, test_masks, manifest = settings.test_images, settings.test_masks, settings.manifest
    if (test_images is None) != (test_masks is None):
        raise UsageError(
            "Only one of --test-images and --test-masks is given.",
            "both or none",
            "Add the other folder, or leave both out.",
        )
    columns = [
        settings.split_column, settings.diagnosis_column, settings.annotator_column, settings.style_column,
    ]  # fmt: skip
    if manifest is None and any(columns):
        raise UsageError(
            "A column of the manifest is named, but no manifest.",
            "a manifest that has the column",
            "Add --manifest CSV.",
        )
    if test_images is not None and (
        _inside(settings.images, test_images) or _inside(test_images, settings.images)
    ):
        raise UsageError(
            f"{settings.images} and {test_images} lie in one another.",
            "folders that share no images",
            "Move the test images into a folder of their own.",
        )
    pairing = pair_folders(settings.images, settings.masks)
    if test_images is not None and test_masks is not None:
        pairing = _join(pairing, pair_folders(test_images, test_masks, "test"))
    unmatched = {
        NO_MASK: sorted(map(str, pairing.images_without_mask)),
        NO_IMAGE: sorted(map(str, pairing.masks_without_image)),
    }
    if manifest is None:
        return OwnImages(pairing.pairs, unmatched, None)
    table = read_table(manifest, *columns)
    return _apply(pairing, table, manifest, unmatched)


def digest(pairs: Sequence[Pair]) -> str:
    """Hash of all that is known without reading the files: whether a second call is about the same pairs."""
    facts = [
        [p.image_id, p.split, p.diagnosis, p.group, *filter(None, (p.annotator, p.style))]
        + [[str(path.resolve()), path.stat().st_size] for path in filter(None, (p.image, p.mask))]
        for p in pairs
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _inside(inner: Path, outer: Path) -> bool:
    return inner.resolve().is_relative_to(outer.resolve())


def _join(train: Pairing, test: Pairing) -> Pairing:
    """Both folders' pairs. Where names collide (1.jpg in both), the test ones are called ``test_…``."""
    taken = {pair.image_id for pair in train.pairs}
    pairs = test.pairs
    if same := sorted(taken & {pair.image_id for pair in pairs}):
        renamed = [dataclasses.replace(pair, image_id=f"test_{pair.image_id}") for pair in pairs]
        if clash := taken & {pair.image_id for pair in renamed}:
            raise DataError(
                f"Test images have the names of training images: {listed(sorted(clash))}",
                "names of their own",
                "Rename one of each pair of files.",
            )
        logger.warning(
            "%d names are in the training and in the test folder (%s); the test images are called test_…. "
            "If they are the same images, the test scores are worth nothing.",
            len(same), listed(same, 5),
        )  # fmt: skip
        pairs = renamed
    return Pairing(
        sorted([*train.pairs, *pairs], key=lambda pair: pair.image_id),
        [*train.images_without_mask, *test.images_without_mask],
        [*train.masks_without_image, *test.masks_without_image],
    )


def _apply(pairing: Pairing, table: Table, manifest: Path, unmatched: dict[str, list[str]]) -> OwnImages:
    by_id = {pair.image_id: pair for pair in pairing.pairs}
    matched = match_ids([*table.entries, *table.left_out], by_id)
    if loose := sorted(name for name, image_id in matched.items() if name != image_id):
        logger.info(
            "%s: %d ids are written otherwise than the files are named, and mean one each: %s.",
            manifest, len(loose), listed([f"{name} ({matched[name]})" for name in loose], 5),
        )  # fmt: skip
    pairs, against = [], []
    for image_id, entry in sorted(table.entries.items()):
        if image_id not in matched:
            continue
        pair = by_id[matched[image_id]]
        if pair.split == "test" and entry.split not in ("", "test"):
            against.append(f"{image_id} ({entry.split})")
        split = entry.split or pair.split
        known = {key: getattr(entry, key) for key in ("diagnosis", "group", "annotator", "style")}
        pairs.append(dataclasses.replace(pair, split=split, **known))
    pairs.sort(key=lambda pair: pair.image_id)
    if against:
        raise DataError(
            f"{manifest} puts images of the test folder into other splits: {listed(against)}",
            "test, or an empty cell to leave them out",
            "Correct the manifest, or move these images out of the test folder.",
        )
    if not pairs:
        examples = f"{next(iter(table.entries), '(none)')} and {next(iter(by_id))}"
        raise DataError(
            f"No id of {manifest} matches a pair of files; for example {examples}.",
            "the same names",
            "Write the ids as the files are named, without their ending.",
        )
    left_out = {matched.get(image_id, image_id) for image_id in table.left_out}
    # Files that the manifest leaves out on purpose are no news; neither are their missing partners.
    unmatched = {
        reason: [name for name in names if _id_of(name, left_out) not in left_out]
        for reason, names in unmatched.items()
    }
    unmatched[NO_FILES] = sorted(set(table.entries) - set(matched))
    unmatched[NO_ENTRY] = sorted(set(by_id) - set(matched.values()) - left_out)
    logger.info(
        "%s: split from %s, diagnosis from %s, groups from %s, annotator from %s, style from %s; %d rows "
        "have no split and are left out.",
        manifest, table.split_column or "the folders", table.diagnosis_column or "nowhere",
        " and ".join(table.group_columns) or "nowhere", table.annotator_column or "nowhere",
        table.style_column or "nowhere", len(left_out),
    )  # fmt: skip
    return OwnImages(pairs, unmatched, table)


def _id_of(name: str, known: set[str]) -> str:
    stem = Path(name).stem
    return stem if stem in known else mask_stem(stem)
