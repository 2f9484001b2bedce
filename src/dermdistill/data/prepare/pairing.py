"""Find which mask belongs to which image, by name."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dermdistill.core.errors import DataError
from dermdistill.imaging.find import SUFFIXES, is_text, list_folder, name_key, printable

logger = logging.getLogger(__name__)

MASK_ENDINGS = ("_segmentation", "_mask", "_lesion")
"""Endings of mask names, compared without case; a mask may also have the image's own name."""
LISTED = 50
"""Problems that an error shows before it points to a file."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask, before they are checked."""

    image_id: str
    image: Path
    mask: Path | None
    """None where there is none: an image for `data.unlabelled`."""
    split: str = "train"
    diagnosis: str = ""
    group: str = ""
    annotator: str = ""
    style: str = ""


@dataclass(frozen=True)
class Pairing:
    """Pairs sorted by id, and what had no partner."""

    pairs: list[Pair]
    images_without_mask: list[Path] = field(default_factory=list)
    masks_without_image: list[Path] = field(default_factory=list)


def pair_folders(images: Path, masks: Path, split: str = "train") -> Pairing:
    """Match the masks of one folder to the images of another, or of the same one, at any depth.

    Where one folder lies inside the other, its files belong to it alone. Names are compared without case, and
    whether accents are composed or not. What a folder holds, `imaging.find.list_folder` says; ISIC's
    ``_superpixels`` pictures are left out too.

    Args:
        images: Folder of the images.
        masks: Folder of their masks; may be the same one.
        split: Which split they are.

    Returns:
        The pairs, and what has no partner.

    Raises:
        DataError: No such folder, two images of one name, two masks for one image, or nothing matches.
    """
    image_files, mask_files = _list_images(images, masks), _list_images(masks, images)
    together = images.resolve() == masks.resolve()
    if together:
        image_files = [path for path in image_files if mask_stem(path.stem) == path.stem]
        mask_files = [path for path in mask_files if mask_stem(path.stem) != path.stem]
    by_stem: dict[str, list[Path]] = {}
    for path in mask_files:
        by_stem.setdefault(name_key(path.stem), []).append(path)
    names: dict[str, list[Path]] = {}
    for path in image_files:
        names.setdefault(name_key(path.stem), []).append(path)
    problems = [
        f"{len(same)} images are called {printable(same[0].stem)}: {_below(same, images)}"
        for same in names.values()
        if len(same) > 1
    ]
    pairs, lonely, used = [], [], set()
    for path in image_files:
        stem = name_key(path.stem)
        candidates = [mask for ending in (*MASK_ENDINGS, "") for mask in by_stem.get(stem + ending, [])]
        used.update(candidates)
        if len(candidates) > 1:
            problems.append(
                f"{printable(path.name)} has {len(candidates)} masks: {_below(candidates, masks)}"
            )
        elif candidates:
            pairs.append(Pair(image_id_of(path), path, candidates[0], split))
        else:
            lonely.append(path)
    if problems:
        lines = "\n".join(f"    {line}" for line in problems[:LISTED])
        raise DataError(f"Names are ambiguous:\n{lines}", "one image and one mask per name", "Rename some.")
    if not pairs:
        raise DataError(
            f"None of {len(image_files)} images in {images} ({_examples(image_files)}) matches one of "
            f"{len(mask_files)} masks in {masks} ({_examples(mask_files)}).",
            "masks called like their image, with _Segmentation, _mask, _lesion or nothing after it",
            "Check the two folders.",
        )
    pairs.sort(key=lambda pair: pair.image_id)
    return Pairing(pairs, lonely, [path for path in mask_files if path not in used])


def images_alone(folder: Path) -> list[Pair]:
    """The images of a folder at any depth, without masks, for training; sorted by name.

    Raises:
        DataError: No such folder, no images, or two of one name.
    """
    files = _list_images(folder, folder)
    if not files:
        raise DataError(
            f"There are no images in {folder}.", f"files {', '.join(SUFFIXES)}", "Check the path."
        )
    names: dict[str, list[Path]] = {}
    for path in files:
        names.setdefault(name_key(path.stem), []).append(path)
    if twice := [
        f"{printable(same[0].stem)}: {_below(same, folder)}" for same in names.values() if len(same) > 1
    ]:
        raise DataError(f"Names are ambiguous: {listed(twice, LISTED)}", "one image per name", "Rename some.")
    return sorted((Pair(image_id_of(path), path, None) for path in files), key=lambda pair: pair.image_id)


def pair_ph2(folder: Path) -> Pairing:
    """Pair PH2's files at any depth: IMDxxx_Dermoscopic_Image/IMDxxx.bmp, IMDxxx_lesion/IMDxxx_lesion.bmp.

    What the folder holds, `imaging.find.list_folder` says.

    Args:
        folder: PH2 as it was unpacked.

    Returns:
        The pairs, all of them of the test split, and what has no partner.

    Raises:
        DataError: No image has its mask.
    """
    files = sorted(list_folder(folder).images)
    pairs, lonely = [], []
    for image in (path for path in files if path.match("IMD*_Dermoscopic_Image/IMD*.bmp")):
        name = image.stem
        mask = image.parents[1] / f"{name}_lesion" / f"{name}_lesion.bmp"
        if mask.is_file():
            pairs.append(Pair(name, image, mask, "test"))
        else:
            lonely.append(image)
    used = {pair.mask for pair in pairs}
    masks = [path for path in files if path.match("IMD*_lesion/IMD*_lesion.bmp")]
    if not pairs:
        raise DataError(
            f"No image of PH2 below {folder} has its mask.",
            "IMDxxx_lesion/IMDxxx_lesion.bmp",
            "Give the folder that holds PH2 as it was unpacked, and do not rename in it.",
        )
    return Pairing(pairs, lonely, [path for path in masks if path not in used])


def image_id_of(path: Path) -> str:
    """What an image is called in tables: its file's name without the ending, its accents composed."""
    return unicodedata.normalize("NFC", path.stem)


def mask_stem(stem: str) -> str:
    """The image's stem that a mask's stem stands for: without its ending."""
    for ending in MASK_ENDINGS:
        if stem.lower().endswith(ending):
            return stem[: -len(ending)]
    return stem


def listed(names: Iterable[object], most: int = 20) -> str:
    """The names in one line, and how many more there are beyond ``most``."""
    texts = [printable(name.name if isinstance(name, Path) else str(name)) for name in names]
    rest = f" … and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest


def _list_images(folder: Path, other: Path) -> list[Path]:
    """Images at any depth, without those of the other folder if that one lies inside this one."""
    nested = other.resolve() != folder.resolve() and other.resolve().is_relative_to(folder.resolve())
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", "a folder of images", "Check the path.")
    images = list_folder(folder).images
    if nameless := [path for path in images if not is_text(path)]:
        logger.warning(
            "%s: left out, as no table can name them (not UTF-8): %s.", printable(folder), listed(nameless, 5)
        )
    return sorted(
        path
        for path in images
        if is_text(path)
        and not path.stem.lower().endswith("_superpixels")
        and not (nested and path.resolve().is_relative_to(other.resolve()))
    )


def _below(paths: Sequence[Path], folder: Path) -> str:
    """The paths as they are called below the folder, so that equal names can be told apart."""
    return listed([str(path.relative_to(folder)) for path in paths])


def _examples(paths: Sequence[Path]) -> str:
    return listed(paths, 3) or "none"
