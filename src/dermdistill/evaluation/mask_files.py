"""Masks and probability maps that any tool wrote, read as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.evaluation.matching import Sample
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.imaging.complete import load_complete
from dermdistill.imaging.decode import opened

MAP_LEVELS = 16
"""A picture file without loss and with more grey levels is a probability map; with fewer it is a mask."""

Mask = UInt8Array


def read_true_masks(sample: Sample) -> dict[str, Mask]:
    """The true masks by rater, {0, 1} uint8 [h, w], all of one size.

    Raises:
        DataError: One cannot be read, or they differ in size.
    """
    masks = {}
    for rater, path in sample.masks.items():
        masks[rater] = imaging.read_mask(path)[0]
    if len({mask.shape for mask in masks.values()}) > 1:
        sizes = ", ".join(f"{sample.masks[r].name} {m.shape[1]}×{m.shape[0]}" for r, m in masks.items())
        raise DataError(f"masks of {sample.image_id} differ in size: {sizes}", "one size", "Resize them.")
    return masks


def read_prediction(path: Path) -> Float32Array | Mask:
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


def _read_array(path: Path) -> Float32Array | Mask:
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


def _threshold(values: NDArray) -> Mask:
    return (values > 127).astype(np.uint8)


def _as_probability(values: NDArray, path: Path) -> Float32Array:
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=1) > 1:
        raise DataError(
            f"{path} holds values from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}.",
            "probabilities in [0, 1]",
            "Apply the sigmoid to logits before they are written.",
        )
    return values.astype(np.float32)
