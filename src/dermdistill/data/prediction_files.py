"""Masks and probability maps that any tool wrote: found by the picture's name, read as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.data.prepare.pairing import mask_stem
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.imaging.complete import load_complete
from dermdistill.imaging.decode import opened
from dermdistill.imaging.find import SUFFIXES, list_folder, name_key

PREDICTION_SUFFIXES = (*SUFFIXES, ".npy")
PREDICTION_ENDINGS = ("_probability", "_prob", "_prediction", "_pred")
"""Endings of predictions' names, beside those of masks."""
MAP_LEVELS = 16
"""A picture file without loss and with more grey levels is a probability map; with fewer it is a mask."""


def predictions_by_name(folder: Path) -> dict[str, Path]:
    """Return the predictions in a folder by the picture's name, as names are compared."""
    return files_by_name(folder, PREDICTION_SUFFIXES, ())


def name_of(stem: str) -> str:
    """The picture's name, as names are compared, that a mask's or a prediction's stem stands for.

    Examples:
        >>> name_of("ISIC_0000001_Segmentation"), name_of("lesion7_prob")
        ('isic_0000001', 'lesion7')
    """
    short = name_key(mask_stem(stem))
    for ending in PREDICTION_ENDINGS:
        if short.endswith(ending):
            return short[: -len(ending)]
    return short


def files_by_name(folder: Path, suffixes: Sequence[str], others: Sequence[Path | None]) -> dict[str, Path]:
    """Files by the picture's name; without those of the other folders that lie inside this one."""
    nested = [
        other.resolve()
        for other in others
        if other is not None and other.resolve() != folder.resolve() and _inside(other, folder)
    ]
    found: dict[str, Path] = {}
    is_prediction = ".npy" in suffixes
    for path in list_files(folder, suffixes):
        if any(path.resolve().is_relative_to(other) for other in nested):
            continue
        name = name_of(path.stem) if is_prediction else name_key(path.stem)
        if name not in found:
            found[name] = path
        elif is_prediction and {found[name].suffix.lower(), path.suffix.lower()} == {".png", ".npy"}:
            found[name] = path if path.suffix.lower() == ".npy" else found[name]  # the map says more
        elif is_prediction and _rank(path) != _rank(found[name]):
            found[name] = min(found[name], path, key=_rank)
        else:
            raise DataError(
                f"Two files in {folder} stand for {name}: {found[name].name} and {path.name}.",
                "one file for each picture",
                "Rename or remove one of them.",
            )
    return found


def _rank(path: Path) -> int:
    """`dermdistill predict` writes a mask, an overlay and maps: the probability map says most."""
    stem = path.stem.lower()
    return 0 if stem.endswith(PREDICTION_ENDINGS[:2]) else 1


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files below a folder, without hidden ones and those that `dermdistill predict` draws for people."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.", "a folder of images", "Check the path.")
    found = list_folder(folder, suffixes).images
    left_out = ("_superpixels", "_overlay", "_uncertainty")
    return [p for p in found if not p.name.startswith(".") and not p.stem.lower().endswith(left_out)]


def _inside(inner: Path, outer: Path) -> bool:
    return inner.resolve().is_relative_to(outer.resolve())


def read_prediction(path: Path) -> Float32Array | UInt8Array:
    """A mask, {0, 1} uint8 [h, w], or a probability map, float32 [h, w] in [0, 1].

    Of a picture file 8 and 16 bits stand for 0 to 1; an array of numpy may be of truth values, of 0 and 1, of
    0 to 255, or of floats in [0, 1], with or without an axis of length 1.

    Raises:
        DataError: It cannot be read, has several channels, or holds values outside [0, 1].
    """
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    with opened(path) as picture:
        grey16 = picture.mode.startswith("I")
        grey8 = picture.mode in ("L", "P") and picture.format in ("PNG", "TIFF", "BMP")
        floats = picture.mode == "F"
        load_complete(picture)
        values = np.asarray(picture) if grey16 or floats or picture.mode == "L" else None
        levels = np.flatnonzero(picture.histogram()) if picture.mode == "L" else np.zeros(0, np.int64)
    if values is not None and (floats or grey16):
        return _as_probability(values / (1.0 if floats else 65535.0), path)
    if values is None or not grey8:
        return imaging.read_mask(path)[0]
    if len(levels) > MAP_LEVELS:
        return (values / 255).astype(np.float32)
    if levels.max(initial=0) == 1:
        return (values > 0).astype(np.uint8)  # written as 0 and 1
    return _threshold(values)


def _read_array(path: Path) -> Float32Array | UInt8Array:
    try:
        values: NDArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "an array of numpy", "Make it again.") from None
    squeezed = values
    while squeezed.ndim > 2 and squeezed.shape[0] == 1:
        squeezed = squeezed[0]
    while squeezed.ndim > 2 and squeezed.shape[-1] == 1:
        squeezed = squeezed[..., 0]
    if squeezed.ndim != 2:
        raise DataError(
            f"{path} has the shape {values.shape}.",
            "[height, width], one channel",
            "Write the lesion's alone.",
        )
    if squeezed.dtype.kind in "bui":
        if squeezed.max(initial=0) > 255:
            raise DataError(
                f"{path} holds {squeezed.max()}.",
                "0 and 1, or 0 to 255",
                "Write a mask, or floats in [0, 1].",
            )
        levels = np.unique(squeezed)
        if levels.max(initial=0) <= 1:
            return (squeezed > 0).astype(np.uint8)
        return (squeezed / 255).astype(np.float32) if len(levels) > MAP_LEVELS else _threshold(squeezed)
    if np.isin(squeezed, (0, 1)).all():
        return squeezed.astype(np.uint8)
    return _as_probability(squeezed, path)


def _threshold(values: NDArray) -> UInt8Array:
    return (values > 127).astype(np.uint8)


def _as_probability(values: NDArray, path: Path) -> Float32Array:
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=1) > 1:
        raise DataError(
            f"{path} holds values from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}.",
            "probabilities in [0, 1]",
            "Apply the sigmoid to logits before they are written.",
        )
    return values.astype(np.float32)
