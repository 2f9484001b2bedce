"""Images without masks beside the labelled ones of each step: their order, and what may not be among them.

As in `loader`, what a step sees is a function of (seed, step) alone.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermdistill.core.errors import DataError
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.exclude import read_exclusions
from dermdistill.data.prepare.pairing import listed

logger = logging.getLogger(__name__)

_ORDER = 1
"""Sets the order of the unlabelled images apart from that of the labelled ones of the same seed."""


def take_in_passes(count: int, first: int, size: int, seed: int) -> NDArray[np.int64]:
    """Part of an endless sequence of passes over ``count`` images, each pass in an order of its own.

    Args:
        count: Number of images.
        first: Where the part begins in the sequence.
        size: Its length.
        seed: Of the orders.

    Returns:
        int64 [size], each from 0 to ``count`` - 1; no image twice within a pass.
    """
    parts = [np.zeros(0, np.int64)]
    while size > 0:
        number, offset = divmod(first, count)
        parts.append(_order_of_pass(count, number, seed)[offset : offset + size])
        first += len(parts[-1])
        size -= len(parts[-1])
    return np.concatenate(parts)


@functools.lru_cache(maxsize=2)
def _order_of_pass(count: int, number: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, number, _ORDER]).permutation(count)


def unlabelled_rows(data: PreparedData, beside: PreparedData, exclude: Path | None) -> NDArray[np.int64]:
    """Rows of ``data`` that may be learnt from without their masks: its training split, less exclusions.

    Its own validation and test images are never taken.

    Args:
        data: The unlabelled images.
        beside: The labelled ones, whose validation and test images must not be among them.
        exclude: audit.csv, or a CSV with a column ``image_id``, whose images are left out.

    Raises:
        DataError: There are none, or one has the name of a validation or test image, or the same pixels.
    """
    rows = data.indices("train")
    if exclude is not None:
        left_out = read_exclusions(exclude, [data.name]).crossing
        rows = np.array([row for row in rows if data.manifest[row].image_id not in left_out], np.int64)
    elif data.folder != beside.folder:
        logger.warning(
            "%s: equal images are refused, near-duplicates of the validation and test images of %s are not "
            "looked for. dermdistill audit %s %s finds them, --data.exclude leaves them out.",
            data.name, beside.name, beside.name, data.name,
        )  # fmt: skip
    if len(rows) == 0:
        raise DataError(
            "There are no unlabelled images.",
            "at least one image in the training split",
            "Name a data set with training images, or leave the unlabelled one out.",
        )
    if data.folder == beside.folder:
        return rows  # one data set: its splits share no image
    kept_apart = np.concatenate([beside.indices("val"), beside.indices("test")])
    names = {beside.manifest[row].image_id for row in kept_apart}
    pixels = {_digest(beside.images[row]) for row in kept_apart}
    found = [
        data.manifest[row].image_id
        for row in rows
        if data.manifest[row].image_id in names or _digest(data.images[row]) in pixels
    ]
    if found:
        raise DataError(
            f"{len(found)} of the {len(rows)} unlabelled images of {data.name} are validation or test images "
            f"of {beside.name}, by name or by their pixels: {listed(found, 5)}.",
            "unlabelled images that nothing is chosen by or scored on",
            "List them in a CSV with a column image_id (or use the audit.csv of dermdistill audit "
            f"{beside.name} {data.name}), and leave them out with --data.exclude.",
        )
    return rows


def _digest(image: NDArray[np.uint8]) -> bytes:
    """Of the packed pixels: the same file gives the same ones, under any name."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
