"""Probability maps on disk as a teacher: read once, and then cached logits that move with the image.

A foundation model, several annotators or any tool leaves such maps; what made them is not needed again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill.artifacts.card import TeacherRecord
from dermdistill.core.errors import DataError
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prediction_files import predictions_by_name, read_prediction
from dermdistill.data.prepare.pairing import listed
from dermdistill.imaging import Float32Array, restore_prob
from dermdistill.imaging.find import name_key
from dermdistill.training.acceleration.teacher_cache import TeacherLogitsCache
from dermdistill.training.feed.loader import ImageRows, PackDataset

logger = logging.getLogger(__name__)

CLIP = 1e-3
"""Probabilities are kept this far from 0 and 1: the logit of a mask's own 0 is infinite. Below the smallest
step of 8 bits (1/255)."""


def read_teacher_maps(
    folders: Sequence[Path],
    data: PreparedData,
    train_rows: NDArray[np.int64],
    unlabelled: ImageRows | None,
    *,
    progress: bool = True,
) -> tuple[TeacherLogitsCache, TeacherRecord]:
    """The logits of maps for all images that are trained or validated on.

    A map is called like its image, perhaps with _segmentation, _mask, _prob … after it, and may be of any
    size.

    Args:
        folders: Of the maps; where several have one of an image, their mean probability counts.
        data: What the student is trained on.
        train_rows: Its rows that are.
        unlabelled: Images beside them.
        progress: Show a bar.

    Returns:
        The logits by row, and what the student's card says of them: their hash stands for that of weights.

    Raises:
        DataError: An image has no map in any of the folders, or a map cannot be read.
    """
    images = PackDataset(data, np.concatenate([train_rows, data.indices("val")]), unlabelled)
    found = [predictions_by_name(folder) for folder in folders]
    names = images.image_ids(torch.from_numpy(images.rows))
    maps = {name: [files[key] for files in found if (key := name_key(name)) in files] for name in names}
    if without := [name for name in names if not maps[name]]:
        raise DataError(
            f"{len(without)} of the {len(names)} training and validation images have no map in "
            f"{', '.join(map(str, folders))}: {listed(without, 3)}.",
            "a PNG or npy file called like each image",
            "Write the missing maps, or name a further folder with --teacher.maps.",
        )
    size = data.size
    logits = torch.empty(len(names), 1, size, size, dtype=torch.float16)
    for place, name in enumerate(tqdm(names, desc="the teacher's maps", unit="map", disable=not progress)):
        prob = np.mean([_read(path, size) for path in maps[name]], axis=0).clip(CLIP, 1 - CLIP)
        logits[place, 0] = torch.from_numpy(np.log(prob / (1 - prob)))
    for folder, files in zip(folders, found, strict=True):
        count = sum(name_key(name) in files for name in names)
        logger.info("the teacher: maps of %d of %d images in %s", count, len(names), folder)
    digest = hashlib.sha256(logits.numpy().tobytes())
    digest.update("\n".join(names).encode())
    source = ", ".join(folder.resolve().name for folder in folders)
    record = TeacherRecord(run=None, source=f"maps ({source})", weights_sha256=digest.hexdigest())
    return TeacherLogitsCache(images.rows, images.row_count, logits), record


def _read(path: Path, size: int) -> Float32Array:
    """A map or mask as probabilities, at the student's size."""
    return restore_prob(np.ascontiguousarray(read_prediction(path), dtype=np.float32), size, size)
