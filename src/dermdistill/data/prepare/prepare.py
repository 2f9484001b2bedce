"""Prepare a data set: bring the files, pair them, check them, split them, pack them.

``dataset.json`` is written last; where it exists, a second call does nothing, and where it does not, every
step takes up what an earlier call has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermdistill.core.errors import UsageError
from dermdistill.core.lock import locked
from dermdistill.data.dataset import PreparedData, is_prepared, open_dataset, read_info
from dermdistill.data.download.catalog import PHANTOM, SOURCES, find_source
from dermdistill.data.download.fetch import fetch_source
from dermdistill.data.prepare.arguments import check_arguments, check_own_name, command_line
from dermdistill.data.prepare.assemble import Job, add_pack, assemble, discard_archives, reuse
from dermdistill.data.prepare.exclude import exclude_pairs, read_exclusions
from dermdistill.data.prepare.folders import prepare_folder, prepare_unlabelled
from dermdistill.data.prepare.official import official_pairs, ph2_pairs, phantom_pairs
from dermdistill.data.prepare.phantom import write_phantoms

__all__ = ["ensure_prepared", "prepare_folder", "prepare_phantom", "prepare_source", "prepare_unlabelled"]

PHANTOM_TEST_FRACTION = 0.2
PHANTOM_SIDE = 256
"""Native side of generated images in pixels: any pack size is made from the same pictures."""


def prepare_source(
    name: str,
    root: Path,
    *,
    size: int = 256,
    part: str = "1",
    folder_name: str | None = None,
    archives: Path | None = None,
    seed: int = 0,
    val_fraction: float = 0.15,
    verify: bool = True,
    allow_empty: bool = False,
    discard: bool = False,
    exclude: Path | None = None,
    bases: Sequence[str] | None = None,
    backoff: float = 1.0,
    progress: bool = True,
) -> PreparedData:
    """Prepare a data set of the catalogue (:data:`dermdistill.data.download.catalog.SOURCES`).

    Official training images become train and val (carved), official test images test. Where there is an
    official validation split (2017, 2018), it is val and nothing is carved.

    Args:
        name: isic2016, isic2016-3b, isic2017, isic2018 or ph2.
        root: Folder of the prepared data sets; this one gets ``root/name``.
        size: Side of the pack's squares in pixels.
        folder_name: Another name for the prepared set, by which recipes find it.
        part: isic2016: ``1``, or ``3b`` (with diagnosis; prepared as ``isic2016-3b``).
        archives: Folder with the archives, fetched by hand: nothing is downloaded. For ph2: the unpacked
            folder.
        seed: Seed of the carved split.
        val_fraction: Share of the training images to carve.
        verify: Compare lengths and digests of the archives.
        allow_empty: Accept masks without a lesion.
        discard: Remove the downloads afterwards (unpacked files stay).
        exclude: audit.csv, or a CSV with a column ``image_id``: training images to leave out.
        bases: Addresses instead of the catalogue's.
        backoff: Seconds before a second attempt to download.
        progress: Show bars.

    Returns:
        The data set, opened.

    Raises:
        UsageError: No such data set or part, ph2 without ``archives``, or another one's name for it.
        ArchiveError: An archive is not the expected one, or unsafe.
        DataError: Downloads fail, pairs are bad (all are listed), or the disk is full.
        MismatchError: It was prepared with other settings.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import prepare_source
        >>> data = prepare_source("isic2016", Path("data"))  # doctest: +SKIP
        >>> prepare_source("isic2061", Path("data"))
        Traceback (most recent call last):
            ...
        dermdistill.core.errors.UsageError: There is no data set 'isic2061'...
    """
    source = find_source(name, part)
    chosen = folder_name or source.name
    if chosen != source.name:
        check_own_name(chosen)
    folder = check_arguments(chosen, root, size, val_fraction)
    settings: dict[str, Any] = {"source": source.name, "allow_empty": allow_empty}
    if "train" in source.counts and "val" not in source.counts:
        settings |= {"seed": seed, "val_fraction": val_fraction}
    exclusions = read_exclusions(exclude, [chosen, source.name]) if exclude is not None else None
    if exclusions is not None:
        settings |= {"exclude": exclusions.sha256}
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
        pairs, excluded = exclude_pairs(pairing.pairs, exclusions)
        command = ["prepare", name, *(["--part", "3b"] if source.name == "isic2016-3b" else [])]
        job = Job(
            chosen, source.title, source.license,
            command_line(
                *command, name=folder_name, seed=seed, val_fraction=val_fraction, allow_empty=allow_empty,
                archives=archives, exclude=exclude and exclude.resolve(),
            ),
            {"catalogue": source.name, "page": source.page, "files": records} | excluded,
            settings, pairs,
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

    Returns:
        The data set, opened.

    Raises:
        UsageError: ``count`` is below 3.
        MismatchError: It was prepared with other settings.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import prepare_phantom
        >>> data = prepare_phantom(Path("data"), count=10, size=32, progress=False)
        >>> [len(data.indices(split)) for split in ("train", "val", "test")]
        [7, 1, 2]
    """
    if count < 3:
        raise UsageError(
            f"The number of phantoms is {count}.",
            "at least 3: one to train, validate and test on",
            "Set --count to 3 or more.",
        )
    if name != PHANTOM:
        check_own_name(name)
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
            {"generator": "dermdistill.data.prepare.phantom", "count": count, "seed": seed},
            settings, phantom_pairs(raw, max(1, round(count * PHANTOM_TEST_FRACTION))), {},
            seed, val_fraction, allow_empty=False,
        )  # fmt: skip
        return assemble(job, root, size, progress=progress)


def ensure_prepared(name: str, root: Path, size: int, *, progress: bool = True) -> PreparedData:
    """Open a data set; make a missing pack; prepare a name of the catalogue that is not there yet.

    Args:
        name: A data set that was prepared, or one of the catalogue (phantom, isic2016, isic2017, isic2018).
        root: Folder of the prepared data sets.
        size: Side of the pack's squares in pixels.
        progress: Show bars.

    Returns:
        The data set, opened.

    Raises:
        DataError: Not prepared, and its name is not one of the catalogue's; the command is given.
        MismatchError: Its files are not the ones that were prepared.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import ensure_prepared, prepare_phantom
        >>> data = prepare_phantom(Path("data"), count=6, size=32, progress=False)
        >>> ensure_prepared("phantom", Path("data"), size=48, progress=False).images.shape
        (6, 48, 48, 3)
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
