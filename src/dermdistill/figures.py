"""Pictures of what a network drew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dermdistill.imaging import overlay

# Okabe & Ito's colours, told apart with any colour vision: truth, prediction, teacher.
TRUTH, STUDENT, TEACHER = (240, 228, 66), (86, 180, 233), (213, 94, 0)


def panel(
    images: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    teacher: NDArray[np.uint8] | None,
    student: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Images in rows of four with the outlines of truth (yellow), teacher (red) and student (blue).

    Args:
        images: uint8 [n, h, w, 3]. truth, teacher, student: {0, 1} uint8 [n, h, w].

    Returns:
        uint8 [H, W, 3].
    """
    drawn = []
    for i, image in enumerate(images):
        masks = [(truth[i], TRUTH), *([(teacher[i], TEACHER)] if teacher is not None else []), (student[i], STUDENT)]
        drawn.append(overlay(image, masks))
    while len(drawn) % min(4, len(images)):
        drawn.append(np.full_like(images[0], 255))
    columns = min(4, len(images))
    rows = [np.concatenate(drawn[i : i + columns], axis=1) for i in range(0, len(drawn), columns)]
    return np.concatenate(rows, axis=0)
