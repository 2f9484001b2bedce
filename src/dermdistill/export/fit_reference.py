"""Fit what the warnings of a released model are judged by, on the training images of a data set."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from tqdm import tqdm

from dermdistill import imaging
from dermdistill.artifacts.card import ModelCard
from dermdistill.data.dataset import PreparedData
from dermdistill.inference.backends import Backend
from dermdistill.inference.predictor import Predictor
from dermdistill.inference.reference_statistics import MIN_IMAGES, SIDE

logger = logging.getLogger(__name__)

MOST_IMAGES = 400
"""More change the limits little: two in a hundred of them, eight, lie beyond."""


def fit_on_training(
    card: ModelCard, backend: Backend, data: PreparedData, *, seed: int = 0, progress: bool = True
) -> dict[str, Any] | None:
    """Fit a card's ``reference`` (see `Predictor.fit_reference`) on training images.

    The original files are read, not the pack: a pack smaller than SIDE would make every picture look blurred.

    Args:
        card: Of the network.
        backend: The network.
        data: Of its training split up to MOST_IMAGES are taken.
        seed: Of their choice.
        progress: Show a bar.

    Returns:
        The reference; None where there are too few images.

    Raises:
        DataError: An image file is gone or broken.
    """
    rows = data.indices("train")
    if len(rows) < MIN_IMAGES:
        logger.info(
            "%d training images are too few (%d) to learn what is no dermoscopy: this will not be warned of",
            len(rows), MIN_IMAGES,
        )  # fmt: skip
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_IMAGES])
    paths = [data.image_path(row) for row in rows.tolist()]
    shown = tqdm(paths, desc="what is usual", unit="image", disable=not progress, leave=False)
    predictor = Predictor.from_backend(card, backend)
    return predictor.fit_reference(imaging.read_image(path, near=SIDE) for path in shown)
