"""Prepare images of one's own: folders of images and masks, perhaps with a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermdistill.core.lock import locked
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.assemble import Job, assemble, reuse
from dermdistill.data.prepare.exclude import exclude_pairs, read_exclusions
from dermdistill.data.prepare.own import collect, digest
from dermdistill.data.prepare.pairing import images_alone
from dermdistill.data.prepare.settings import FolderSettings, UnlabelledSettings, check


def prepare_folder(
    name: str,
    root: Path,
    images: Path,
    masks: Path,
    *,
    test_images: Path | None = None,
    test_masks: Path | None = None,
    manifest: Path | None = None,
    split_column: str | None = None,
    diagnosis_column: str | None = None,
    annotator_column: str | None = None,
    style_column: str | None = None,
    size: int = 256,
    seed: int = 0,
    val_fraction: float = 0.15,
    allow_empty: bool = False,
    exclude: Path | None = None,
    progress: bool = True,
) -> PreparedData:
    """Prepare images of one's own; they stay where they are, and must stay there.

    Masks are matched by name (:mod:`dermdistill.data.prepare.pairing`). Files without a partner are
    left out with a warning that lists them (also in ``dataset.json``); no match at all is an error.

    Args:
        name: Name of the data set; not one of the catalogue's.
        root: Folder of the prepared data sets.
        images: Folder of the training images (JPEG, PNG, BMP, TIFF, WebP, GIF), searched to any depth.
        masks: Folder of their masks; may be the same one.
        test_images: Folder of test images.
        test_masks: Folder of their masks.
        manifest: CSV, see :mod:`dermdistill.data.prepare.tables`. Only the images that it names are used.
        split_column: Which of its columns gives the split; rows where it is empty are left out. By default
            ``split``, else the only one that ends in ``_split``, else none: all images are for training.
        diagnosis_column: Which one gives the diagnosis; by default as `tables.read_table` says.
        annotator_column: Which one says who drew the mask; by default ``annotator``.
        style_column: Which one says how it was drawn; by default ``style``.
        size: Side of the pack's squares in pixels.
        seed: Seed of the carved split.
        val_fraction: Share of the training images to carve when the manifest names no val.
        allow_empty: Accept masks without a lesion.
        exclude: audit.csv, or a CSV with a column ``image_id``: training images to leave out.
        progress: Show a bar.

    Returns:
        The data set, opened.

    Raises:
        UsageError: Arguments do not go together.
        DataError: Nothing matches, or pairs are bad (all are listed).
        MismatchError: ``name`` was prepared from other files or with other settings.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import prepare_folder
        >>> from dermdistill.data.prepare.phantom import write_phantoms
        >>> write_phantoms(Path("clinic"), count=8, size=64, seed=0)  # images/ and masks/
        >>> data = prepare_folder("ours", Path("data"), Path("clinic/images"), Path("clinic/masks"),
        ...                       size=32, val_fraction=0.25, progress=False)
        >>> len(data.indices("train")), len(data.indices("val"))
        (6, 2)
    """
    settings = FolderSettings(
        name=name, root=root, size=size, images=images, masks=masks, test_images=test_images,
        test_masks=test_masks, manifest=manifest, split_column=split_column,
        diagnosis_column=diagnosis_column, annotator_column=annotator_column, style_column=style_column,
        seed=seed, val_fraction=val_fraction, allow_empty=allow_empty, exclude=exclude,
    )  # fmt: skip
    return prepare_own(settings, progress=progress)


def prepare_unlabelled(
    name: str,
    root: Path,
    images: Path,
    *,
    size: int = 256,
    exclude: Path | None = None,
    progress: bool = True,
) -> PreparedData:
    """Prepare images without masks, for ``data.unlabelled``: all of them are training images.

    Training on them alone and scoring on them is refused. They stay where they are, and must stay there.

    Args:
        name: Name of the data set; not one of the catalogue's.
        root: Folder of the prepared data sets.
        images: Folder of images (JPEG, PNG, BMP, TIFF, WebP, GIF), searched to any depth.
        size: Side of the pack's squares in pixels.
        exclude: audit.csv, or a CSV with a column ``image_id``: images to leave out.
        progress: Show a bar.

    Returns:
        The data set, opened.

    Raises:
        UsageError: The name cannot be used.
        DataError: There are no images, or some are broken or of one name (all are listed).
        MismatchError: ``name`` was prepared from other files or with other settings.
    """
    settings = UnlabelledSettings(name=name, root=root, size=size, images=images, exclude=exclude)
    return prepare_images(settings, progress=progress)


def prepare_own(settings: FolderSettings, *, progress: bool) -> PreparedData:
    """What `prepare_folder` does, by its settings."""
    check(settings)
    own = collect(settings)
    name, exclude = settings.dataset_name, settings.exclude
    exclusions = (
        read_exclusions(exclude, [name, settings.images.resolve().name]) if exclude is not None else None
    )
    pairs, excluded = exclude_pairs(own.pairs, exclusions)
    identity: dict[str, Any] = {
        "pairs": digest(pairs),
        "images": len(pairs),
        "allow_empty": settings.allow_empty,
    }
    if not any(pair.split == "val" for pair in pairs):
        identity |= {"seed": settings.seed, "val_fraction": settings.val_fraction}
    names = ("split_column", "diagnosis_column", "annotator_column", "style_column")
    columns = {name: getattr(own.table, name) for name in names} if own.table else {}
    source = {
        key: str(path.resolve())
        for key in ("images", "masks", "test_images", "test_masks", "manifest", "exclude")
        if (path := getattr(settings, key)) is not None
    }
    source |= {key: column for key, column in columns.items() if column is not None}
    with locked(settings.folder):
        if (data := reuse(settings, identity, progress=progress)) is not None:
            return data
        job = Job(
            settings, name, "the owner's", source | excluded, identity, pairs, own.unmatched,
            settings.seed, settings.val_fraction, settings.allow_empty,
        )  # fmt: skip
        return assemble(job, progress=progress)


def prepare_images(settings: UnlabelledSettings, *, progress: bool) -> PreparedData:
    """What `prepare_unlabelled` does, by its settings."""
    check(settings)
    name, exclude = settings.dataset_name, settings.exclude
    exclusions = (
        read_exclusions(exclude, [name, settings.images.resolve().name]) if exclude is not None else None
    )
    pairs, excluded = exclude_pairs(images_alone(settings.images), exclusions)
    identity: dict[str, Any] = {"pairs": digest(pairs), "images": len(pairs), "masks": False}
    source = {"images": str(settings.images.resolve())}
    if exclude is not None:
        source["exclude"] = str(exclude.resolve())
    with locked(settings.folder):
        if (data := reuse(settings, identity, progress=progress)) is not None:
            return data
        job = Job(settings, name, "the owner's", source | excluded, identity, pairs, allow_empty=True)
        return assemble(job, progress=progress)
