"""A frozen teacher's logits for the training images as they are, computed once and then kept."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
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
    """For each image the logit of the mean of a teacher's probabilities over its four flips.

    They are kept as float16, on the device that teaches: 2 bytes per pixel.

    Args:
        images: The training images, with or without masks.
        compute_logits: The teacher.
        device: Where it computes.
        progress: Show a bar.
    """

    def __init__(
        self,
        images: PackDataset,
        compute_logits: ComputeLogits,
        device: torch.device,
        *,
        progress: bool = True,
    ) -> None:
        count, size = len(images), images.data.size
        self.logits = torch.empty(count, 1, size, size, dtype=torch.float16, device=device)
        self.index = torch.full((images.row_count,), -1, device=device)
        self.index[torch.from_numpy(images.rows).to(device)] = torch.arange(count, device=device)
        logger.info("computing the teacher's logits of %d images, once, in four flips each", count)
        step = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
        with tqdm(total=count, desc="the teacher's logits", unit="image", disable=not progress) as bar:
            for start in range(0, count, step):
                batch = images.__getitems__(list(range(start, min(start + step, count)))).to(device)
                logits = mean_over_flips(compute_logits, batch.as_float().image, batch.row)
                self.logits[self.index[batch.row]] = logits.to(self.logits.dtype)
                bar.update(len(batch))

    def of(self, row: Int64[Tensor, " b"]) -> Float[Tensor, "b 1 s s"]:
        """The logits of some of the images, by their rows, float32."""
        return self.logits[self.index[row]].float()


def mean_over_flips(
    compute_logits: ComputeLogits, image: Float[Tensor, "b 3 s s"], row: Int64[Tensor, " b"]
) -> Float[Tensor, "b 1 s s"]:
    """The logit of the mean probability over an image's four flips, each of the logits flipped back."""
    return mean_logits(torch.stack([compute_logits(image.flip(dims), row).flip(dims) for dims in FLIPS]))
