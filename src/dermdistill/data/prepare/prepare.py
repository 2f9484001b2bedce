"""Prepare a data set: bring the files, pair them, check them, split them, pack them.

``dataset.json`` is written last; where it exists, a second call does nothing, and where it does not, every
step takes up what an earlier call has left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dermdistill.core.errors import UsageError
from dermdistill.core.lock import locked
from dermdistill.data.dataset import PreparedData, is_prepared, open_dataset, read_info
from dermdistill.data.download.catalog import PHANTOM, SOURCES, find_source
from dermdistill.data.prepare.assemble import add_pack
from dermdistill.data.prepare.catalogue import prepare_generated, prepare_official, prepare_ph2
from dermdistill.data.prepare.folders import (
    prepare_images,
    prepare_own,
)
from dermdistill.data.prepare.settings import (
    KINDS,
    CatalogueSettings,
    FolderSettings,
    Ph2Settings,
    PhantomSettings,
    PrepareSettings,
    UnlabelledSettings,
)


def prepare(settings: PrepareSettings, *, progress: bool = True) -> PreparedData:
    """Prepare a data set by its settings, which say of what kind it is.

    Args:
        settings: One of `settings.KINDS`.
        progress: Show bars.

    Returns:
        The data set, opened.

    Raises:
        UsageError: The settings cannot be used.
        DataError: Files are absent or bad (all are listed), or the disk is full.
        MismatchError: A data set of that name was prepared from other files or with other settings.
    """
    match settings:
        case PhantomSettings():
            return prepare_generated(settings, progress=progress)
        case FolderSettings():
            return prepare_own(settings, progress=progress)
        case UnlabelledSettings():
            return prepare_images(settings, progress=progress)
        case Ph2Settings():
            return prepare_ph2(settings, progress=progress)
        case CatalogueSettings():
            return prepare_official(settings, progress=progress)
    raise TypeError(f"{type(settings).__name__} is no kind of PrepareSettings")


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
    kind = KINDS[source.name.removesuffix("-3b")]
    if exclude is not None and "exclude" not in kind.model_fields:
        raise UsageError(
            f"{name} has no training images to leave out.",
            "a data set with training images",
            "Leave --exclude out.",
        )
    given: dict[str, Any] = {
        "name": folder_name, "root": root, "size": size, "archives": archives, "seed": seed,
        "val_fraction": val_fraction, "verify": verify, "allow_empty": allow_empty,
        "discard_archives": discard, "exclude": exclude, "part": "3b" if source.name.endswith("-3b") else "1",
    }  # fmt: skip
    settings = kind(**{key: value for key, value in given.items() if key in kind.model_fields})
    if isinstance(settings, CatalogueSettings):
        return prepare_official(settings, bases=bases, backoff=backoff, progress=progress)
    return prepare(settings, progress=progress)


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
    settings = PhantomSettings(
        name=name, root=root, size=size, count=count, seed=seed, val_fraction=val_fraction
    )
    return prepare(settings, progress=progress)


def ensure_prepared(
    name: str,
    root: Path,
    size: int,
    *,
    generated: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> PreparedData:
    """Open a data set; make a missing pack; prepare a name of the catalogue that is not there yet.

    Args:
        name: A data set that was prepared, or one of the catalogue (phantom, isic2016, isic2017, isic2018).
        root: Folder of the prepared data sets.
        size: Side of the pack's squares in pixels.
        generated: How it was drawn, where it was, as `drawn_by` returns it: so it is drawn again if missing.
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
    if name == PHANTOM or generated is not None:
        return prepare_phantom(root, name=name, size=size, progress=progress, **(generated or {}))
    if name in SOURCES:
        return prepare_source(name, root, size=size, progress=progress)
    return open_dataset(name, root, size)  # raises, with the command


def drawn_by(data: PreparedData) -> dict[str, Any] | None:
    """How a generated data set was drawn (its count, seed and validation share); None for any other."""
    about = data.info["settings"]
    if about.get("source") != PHANTOM:
        return None
    return {key: about[key] for key in ("count", "seed", "val_fraction")}
