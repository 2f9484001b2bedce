"""True masks that any tool wrote, read as arrays."""

from __future__ import annotations

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.evaluation.matching import Sample
from dermdistill.imaging import UInt8Array

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
