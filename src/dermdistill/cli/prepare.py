"""``dermdistill prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dermdistill.cli.common import show_progress
from dermdistill.core.errors import UsageError


def prepare(
    source: Literal["phantom", "isic2016", "isic2017", "isic2018", "ph2", "own"] = "own",
    /,
    name: str | None = None,
    root: Path = Path("data"),
    size: int = 256,
    seed: int = 0,
    val_fraction: float = 0.15,
    part: Literal["1", "3b"] = "1",
    archives: Path | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    unlabelled: bool = False,
    test_images: Path | None = None,
    test_masks: Path | None = None,
    manifest: Path | None = None,
    split_column: str | None = None,
    allow_empty: bool = False,
    verify: bool = True,
    discard_archives: bool = False,
    diagnosis_column: str | None = None,
    exclude: Path | None = None,
    count: int = 240,
) -> int:
    """Prepare a data set: the catalogue's (downloaded, checked), or a folder of one's own.

    Args:
        source: A data set of the catalogue; left out: --images and --masks give one's own.
        name: Name of the prepared set, by which recipes find it (default: the catalogue's name; for
            images of one's own, that of their folder).
        root: Folder that holds prepared data sets.
        size: Side in pixels of the packed squares (32 to 2048).
        seed: Of the validation split (and of the phantoms).
        val_fraction: Share of the training images to validate on, where no official split says.
        part: isic2016: 1 (segmentation) or 3b (with diagnosis).
        archives: Take the archives from this folder; nothing is downloaded.
        images: Folder of images (JPEG, PNG, BMP, TIFF).
        masks: Folder of masks, matched by stem (_Segmentation, _segmentation, _mask, _lesion or none).
        unlabelled: The images have no masks, and need none: they are for distill, as its data.unlabelled.
        test_images: Folder of test images, kept apart.
        test_masks: Folder of their masks.
        manifest: CSV with image_id and any of split, diagnosis, group (else patient_id or lesion_id: one
            patient's images stay in one split).
        split_column: Column of the manifest that gives the split: train, val or test, rows where it is
            empty are left out (default: split, else the only one that ends in _split).
        allow_empty: Accept masks without a lesion.
        verify: Check the archives' checksums.
        discard_archives: Remove the downloads afterwards; the unpacked files stay.
        diagnosis_column: Column of the manifest that gives the diagnosis (default: diagnosis or dx, else
            the one that goes with the split's, isic2016_split and isic2016_diagnosis for example).
        exclude: audit.csv (or a CSV with a column image_id): leave these training images out.
        count: phantom: how many.
    """
    from dermdistill.data.prepare import prepare as stage

    progress = show_progress()
    if not 32 <= size <= 2048:
        raise UsageError(
            f"--size is {size}.",
            "32 to 2048 pixels",
            "Set --size to a side within that range (256 is the default).",
        )
    if not 0 < val_fraction < 1:
        raise UsageError(
            f"--val-fraction is {val_fraction}.",
            "more than 0 and less than 1",
            "Set --val-fraction to a share such as 0.15.",
        )
    if source == "phantom" and exclude is not None:
        raise UsageError(
            "--exclude does not go with phantom.",
            "images of the catalogue or one's own",
            "Leave --exclude out.",
        )
    if unlabelled:
        given = (masks, test_images, test_masks, manifest)
        if source != "own" or images is None or any(path is not None for path in given):
            raise UsageError(
                "--unlabelled goes with --images alone (and --name, --root, --size, --exclude).",
                "dermdistill prepare --unlabelled --images DIR",
                "Leave the others out.",
            )
        data = stage.prepare_unlabelled(
            name or images.resolve().name, root, images, size=size, exclude=exclude, progress=progress
        )
    elif source == "phantom":
        data = stage.prepare_phantom(
            root, count=count, size=size, seed=seed, name=name or "phantom", progress=progress
        )
    elif source != "own":
        data = stage.prepare_source(
            source,
            root,
            size=size,
            part=part,
            folder_name=name,
            archives=archives,
            seed=seed,
            val_fraction=val_fraction,
            verify=verify,
            allow_empty=allow_empty,
            discard=discard_archives,
            exclude=exclude,
            progress=progress,
        )
    elif images is None or masks is None:
        raise UsageError(
            "Neither a data set of the catalogue nor folders of one's own were given.",
            "dermdistill prepare isic2016, or dermdistill prepare --images DIR --masks DIR",
            "For images without masks: dermdistill prepare --unlabelled --images DIR",
        )
    else:
        data = stage.prepare_folder(
            name or images.resolve().name,
            root,
            images,
            masks,
            test_images=test_images,
            test_masks=test_masks,
            manifest=manifest,
            split_column=split_column,
            diagnosis_column=diagnosis_column,
            size=size,
            seed=seed,
            val_fraction=val_fraction,
            allow_empty=allow_empty,
            exclude=exclude,
            progress=progress,
        )
    counts = ", ".join(f"{len(data.indices(split))} {split}" for split in ("train", "val", "test"))
    without = ", without masks" if unlabelled else ""
    print(f"{data.folder}: {counts}{without}, {data.size}×{data.size}")
    return 0
