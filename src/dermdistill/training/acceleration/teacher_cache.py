"""A frozen teacher's logits for the training images as they are, computed once and then kept."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dermdistill.models.ensemble import mean_logits
from dermdistill.training.feed.loader import PackDataset

logger = logging.getLogger(__name__)

ComputeLogits = Callable[[Tensor, Tensor], Tensor]
"""Images [b, 3, s, s] in [0, 1] and their rows int64 [b] → a teacher's logits [b, 1, s, s]."""

FLIPS = ((), (3,), (2,), (2, 3))
"""Dimensions that are reversed: the image as it is, mirrored, upside down, and both."""
_CPU_BATCH, _GPU_BATCH = 16, 128
"""Images in one forward pass of the teacher."""


class TeacherLogitsCache:
    """A teacher's logits of images as they are, by the images' rows.

    Args:
        rows: int64 [n], of the images (`PackDataset.rows`).
        row_count: Number of all rows there could be.
        logits: float16 [n, 1, s, s], in the order of the rows: 2 bytes per pixel.
    """

    def __init__(self, rows: NDArray[np.int64], row_count: int, logits: Tensor) -> None:
        self.logits = logits
        self.index = torch.full((row_count,), -1)
        self.index[torch.from_numpy(rows)] = torch.arange(len(rows))
        self.to(logits.device)

    def to(self, device: torch.device) -> None:
        """Keep them on a device."""
        self.logits, self.index = self.logits.to(device), self.index.to(device)

    def of(self, row: Int64[Tensor, " b"]) -> Float[Tensor, "b 1 s s"]:
        """The logits of some of the images, by their rows, float32."""
        return self.logits[self.index[row.to(self.index.device)]].float()


def cache_logits(
    images: PackDataset, compute_logits: ComputeLogits, device: torch.device, *, progress: bool = True
) -> TeacherLogitsCache:
    """Compute for each image the logit of the mean of a teacher's probabilities over its four flips.

    Args:
        images: The training images, with or without masks.
        compute_logits: The teacher.
        device: Where it computes, and where they are kept.
        progress: Show a bar.
    """
    count, size = len(images), images.data.size
    logits = torch.empty(count, 1, size, size, dtype=torch.float16, device=device)
    logger.info("computing the teacher's logits of %d images, once, in four flips each", count)
    step = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
    with tqdm(total=count, desc="the teacher's logits", unit="image", disable=not progress) as bar:
        for start in range(0, count, step):
            batch = images.__getitems__(list(range(start, min(start + step, count)))).to(device)
            # A batch is in the order of its rows; its positions say where each belongs.
            found = mean_over_flips(compute_logits, batch.as_float().image, batch.row)
            logits[batch.position] = found.to(logits.dtype)
            bar.update(len(batch))
    return TeacherLogitsCache(images.rows, images.row_count, logits)


def mean_over_flips(
    compute_logits: ComputeLogits, image: Float[Tensor, "b 3 s s"], row: Int64[Tensor, " b"]
) -> Float[Tensor, "b 1 s s"]:
    """The logit of the mean probability over an image's four flips, each of the logits flipped back."""
    return mean_logits(torch.stack([compute_logits(image.flip(dims), row).flip(dims) for dims in FLIPS]))
