"""From pairs to a prepared data set: pack, split, manifest, and ``dataset.json`` last."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dermdistill._version import __version__
from dermdistill.core.errors import MismatchError
from dermdistill.core.files import hash_file, write_json
from dermdistill.data.dataset import (
    FORMAT,
    SPLITS,
    PreparedData,
    Row,
    command,
    is_prepared,
    open_dataset,
    read_info,
    read_manifest,
    write_manifest,
)
from dermdistill.data.prepare.health import health_of, to_text
from dermdistill.data.prepare.pack import Record, build_pack, drop_log, publish_pack
from dermdistill.data.prepare.pairing import Pair, listed
from dermdistill.data.prepare.settings import PrepareSettings
from dermdistill.data.prepare.split import carve_validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Everything that determines a prepared data set."""

    settings: PrepareSettings
    title: str
    license: str
    source: Mapping[str, Any]
    """Where it came from, for ``dataset.json``."""
    identity: Mapping[str, Any]
    """What must be the same in a second call; plain values."""
    pairs: Sequence[Pair]
    unmatched: Mapping[str, list[str]] = field(default_factory=dict)
    """Lists of files or ids that are not used, by reason."""
    seed: int = 0
    val_fraction: float = 0.15
    allow_empty: bool = False


def reuse(settings: PrepareSettings, identity: Mapping[str, Any], *, progress: bool) -> PreparedData | None:
    """Open the data set if it was prepared from the same files in the same way.

    Args:
        settings: Where it lies, and the size of the pack, which is added if need be.
        identity: What must be the same, as `Job.identity`.
        progress: Show a bar.

    Returns:
        The data set, or None when it is not prepared yet.

    Raises:
        MismatchError: It was prepared from other files or in another way.
    """
    folder, size = settings.folder, settings.size
    if not is_prepared(folder):
        return None
    info = read_info(folder)
    before = info["settings"]
    different = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
    if different:
        raise MismatchError(
            f"{folder} was prepared with "
            + ", ".join(f"{key} {_short(before.get(key))}" for key in different)
            + ".",
            "what is asked for now: " + ", ".join(f"{key} {_short(identity.get(key))}" for key in different),
            f"Choose another --name or --root, or delete {folder}.",
        )
    if str(size) not in info["packs"]:
        return add_pack(folder, size, progress=progress)
    data = open_dataset(folder.name, folder.parent, size)
    logger.info("%s is prepared already (%s); nothing to do.", folder, describe(data))
    return data


def assemble(job: Job, *, progress: bool) -> PreparedData:
    """Build a data set from its pairs.

    Args:
        job: The pairs, and all that is to be known of the data set.
        progress: Show a bar.

    Returns:
        The data set, opened.

    Raises:
        DataError: Bad pairs (all of them are listed), or too few to carve a validation split from.
    """
    name, folder, size = job.settings.dataset_name, job.settings.folder, job.settings.size
    for reason, names in job.unmatched.items():
        if names:
            logger.warning("%s: %d %s: %s", name, len(names), reason, listed(names))
    pack = build_pack(job.pairs, folder, size, allow_empty=job.allow_empty, progress=progress)
    health = health_of(pack.records, job.pairs)
    rows = [_row(pair, record, folder) for pair, record in zip(job.pairs, pack.records, strict=True)]
    given = any(row.split == "val" for row in rows)
    masks = any(pair.mask is not None for pair in job.pairs)
    if not given and masks:
        train = [index for index, row in enumerate(rows) if row.split == "train"]
        for index in carve_validation([rows[i] for i in train], job.val_fraction, job.seed).tolist():
            rows[train[index]] = dataclasses.replace(rows[train[index]], split="val")
    crossing = _groups_across_splits(rows)
    if crossing:
        logger.warning(
            "%s: %d lesions or patients are in more than one of the given splits, so scores may flatter: %s",
            name, len(crossing), listed(crossing),
        )  # fmt: skip
    manifest = folder / "manifest.csv"
    write_manifest(manifest, rows)
    publish_pack(folder, size)
    info = {
        "format": FORMAT,
        "name": name,
        "title": job.title,
        "license": job.license,
        "source": dict(job.source),
        "seed": job.seed,
        "counts": {split: sum(row.split == split for row in rows) for split in SPLITS},
        "validation": _validation(job, rows, given),
        "masks_thresholded": sum(record.thresholded for record in pack.records),
        "masks": masks,
        "masks_empty": sum(row.mask_fraction == 0 for row in rows) if masks else 0,
        "health": health,
        "groups_across_splits": crossing,
        "unmatched": dict(job.unmatched),
        "settings": dict(job.identity),
        "command": job.settings.command_line(),
        "made_by": f"dermdistill {__version__}",
        "manifest_sha256": hash_file(manifest),
        "content_sha256": pack.content_sha256,
        "packs": {str(size): pack.hashes},
    }
    write_json(folder / "dataset.json", info)
    drop_log(folder, size)
    data = open_dataset(name, job.settings.root, size)
    logger.info("%s is ready: %s.", folder, describe(data))
    if health:
        log = logger.warning if health["inverted"] or health["fit_better_unturned"] else logger.info
        log("Health of the masks:\n%s", to_text(health))
    return data


def add_pack(folder: Path, size: int, *, progress: bool) -> PreparedData:
    """Give a prepared data set a pack of another size; nothing else is done again.

    Raises:
        MismatchError: The source files were changed since.
        DataError: Some are gone or broken.
    """
    info = read_info(folder)
    rows = read_manifest(folder / "manifest.csv")
    pairs = [Pair(row.image_id, folder / row.image, folder / row.mask if row.mask else None) for row in rows]
    logger.info("%s: adding a pack of size %d.", folder, size)
    pack = build_pack(pairs, folder, size, allow_empty=True, progress=progress)
    if pack.content_sha256 != info["content_sha256"]:
        raise MismatchError(
            f"The images or masks of {folder} were changed since it was prepared.",
            "the same files for a pack of another size",
            f"Put them back, or delete {folder} and run: {command(info, size, folder.parent)}",
        )
    publish_pack(folder, size)
    write_json(folder / "dataset.json", info | {"packs": info["packs"] | {str(size): pack.hashes}})
    drop_log(folder, size)
    return open_dataset(folder.name, folder.parent, size)


def discard_archives(folder: Path) -> None:
    """Remove the downloads of a prepared data set; the unpacked files stay."""
    shutil.rmtree(folder / "archives", ignore_errors=True)


def describe(data: PreparedData) -> str:
    """Counts by split and the size, for people."""
    counts = ", ".join(f"{len(data.indices(split))} {split}" for split in SPLITS)
    return f"{counts}, packed at {data.size}×{data.size}"


def _row(pair: Pair, record: Record, folder: Path) -> Row:
    return Row(
        image_id=pair.image_id,
        split=pair.split,
        image=_relative(pair.image, folder),
        mask="" if pair.mask is None else _relative(pair.mask, folder),
        width=record.width,
        height=record.height,
        mask_fraction=record.mask_fraction,
        diagnosis=pair.diagnosis,
        group=pair.group,
        annotator=pair.annotator,
        style=pair.style,
    )


def _validation(job: Job, rows: Sequence[Row], given: bool) -> str:
    """Where the validation split comes from, in words."""
    if given:
        return "as given by the source; nothing was carved"
    if any(row.split == "val" for row in rows):
        share = f"{job.val_fraction:g} of the training images"
        return f"carved: {share}, seed {job.seed}, stratified, whole groups together"
    if not any(row.mask for row in rows):
        return "none: images without masks are learnt from beside others, and score nothing"
    if any(row.split == "train" for row in rows):
        logger.warning(
            "%s: the training images are one image or one group: there is no validation.",
            job.settings.dataset_name,
        )
        return "none: the training images are one image or one group"
    return "none: there are no training images"


def _relative(path: Path, folder: Path) -> str:
    """Relative below the data set's folder, which may be moved; absolute elsewhere."""
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return str(path.resolve())


def _groups_across_splits(rows: Sequence[Row]) -> list[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.group:
            splits[row.group].add(row.split)
    return sorted(group for group, inside in splits.items() if len(inside) > 1)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 64 else text[:12] + "…"  # a digest: enough to see that it differs
