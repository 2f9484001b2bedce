"""Prepare images of one's own: folders of images and masks, perhaps with a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermdistill.core.lock import locked
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.arguments import check_arguments, check_own_name, command_line
from dermdistill.data.prepare.assemble import Job, assemble, reuse
from dermdistill.data.prepare.exclude import exclude_pairs, read_exclusions
from dermdistill.data.prepare.own import collect, digest
from dermdistill.data.prepare.pairing import images_alone


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
        images: Folder of the training images (JPEG, PNG, BMP, TIFF), searched to any depth.
        masks: Folder of their masks; may be the same one.
        test_images: Folder of test images.
        test_masks: Folder of their masks.
        manifest: CSV, see :mod:`dermdistill.data.prepare.tables`. Only the images that it names are used.
        split_column: Which of its columns gives the split; rows where it is empty are left out. By default
            ``split``, else the only one that ends in ``_split``, else none: all images are for training.
        diagnosis_column: Which one gives the diagnosis; by default as `tables.read_table` says.
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
    check_own_name(name)
    folder = check_arguments(name, root, size, val_fraction)
    own = collect(images, masks, test_images, test_masks, manifest, split_column, diagnosis_column)
    exclusions = read_exclusions(exclude, [name, images.resolve().name]) if exclude is not None else None
    pairs, excluded = exclude_pairs(own.pairs, exclusions)
    settings: dict[str, Any] = {
        "pairs": digest(pairs),
        "images": len(pairs),
        "allow_empty": allow_empty,
    }
    if not any(pair.split == "val" for pair in pairs):
        settings |= {"seed": seed, "val_fraction": val_fraction}
    places = {
        "images": images, "masks": masks, "test_images": test_images, "test_masks": test_masks,
        "manifest": manifest, "exclude": exclude,
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
            name, name, "the owner's", call, source | excluded, settings, pairs, own.unmatched,
            seed, val_fraction, allow_empty,
        )  # fmt: skip
        return assemble(job, root, size, progress=progress)


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
        images: Folder of images (JPEG, PNG, BMP, TIFF), searched to any depth.
        size: Side of the pack's squares in pixels.
        exclude: audit.csv, or a CSV with a column ``image_id``: images to leave out.
        progress: Show a bar.

    Raises:
        UsageError: The name cannot be used.
        DataError: There are no images, or some are broken or of one name (all are listed).
        MismatchError: ``name`` was prepared from other files or with other settings.
    """
    check_own_name(name)
    folder = check_arguments(name, root, size, 0.15)
    exclusions = read_exclusions(exclude, [name, images.resolve().name]) if exclude is not None else None
    pairs, excluded = exclude_pairs(images_alone(images), exclusions)
    settings: dict[str, Any] = {"pairs": digest(pairs), "images": len(pairs), "masks": False}
    places = {"images": images, "exclude": exclude}
    source = {key: str(path.resolve()) for key, path in places.items() if path is not None}
    with locked(folder):
        if (data := reuse(folder, size, settings, progress=progress)) is not None:
            return data
        call = command_line("prepare", "--unlabelled", name=name, **source)
        job = Job(
            name, name, "the owner's", call, source | excluded, settings, pairs, {},
            seed=0, val_fraction=0.15, allow_empty=True,
        )  # fmt: skip
        return assemble(job, root, size, progress=progress)
