"""A frozen teacher's answers to the training images as they are, each asked for once and then kept."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dermdistill.data.dataset import PreparedData
from dermdistill.models.ensemble import mean_logits

logger = logging.getLogger(__name__)

Ask = Callable[[Tensor, Tensor], Tensor]
"""Images [b, 3, s, s] in [0, 1] and their rows int64 [b] → a teacher's logits [b, 1, s, s]."""

FLIPS = ((), (3,), (2,), (2, 3))
"""Dimensions that are reversed: the image as it is, mirrored, upside down, and both."""
_AT_ONCE = {"cpu": 16}
"""Images in one question; elsewhere more, so that a GPU has enough to do."""


class KeptAnswers:
    """Logits of the mean of a teacher's probabilities over an image's four flips, of some rows.

    They are kept as float16, on the device that teaches: 2 bytes per pixel.

    Args:
        data: The images.
        rows: Of the manifest.
        ask: What answers.
        device: Where it answers.
        progress: Show a bar.
    """

    def __init__(
        self,
        data: PreparedData,
        rows: NDArray[np.int64],
        ask: Ask,
        device: torch.device,
        *,
        progress: bool = True,
    ) -> None:
        self.logits = torch.empty(len(rows), 1, data.size, data.size, dtype=torch.float16, device=device)
        self.place = torch.full((len(data),), -1, device=device)
        self.place[torch.from_numpy(rows).to(device)] = torch.arange(len(rows), device=device)
        logger.info("asking the teacher about %d images, once, in four flips each", len(rows))
        count = _AT_ONCE.get(device.type, 128)
        with tqdm(total=len(rows), desc="asking the teacher", unit="image", disable=not progress) as bar:
            for start in range(0, len(rows), count):
                some = rows[start : start + count]
                image = torch.from_numpy(data.images[some]).to(device).permute(0, 3, 1, 2).float() / 255
                answer = over_flips(ask, image, torch.from_numpy(some).to(device))
                self.logits[start : start + len(some)] = answer
                bar.update(len(some))

    def of(self, row: Int64[Tensor, " b"]) -> Float[Tensor, "b 1 s s"]:
        """Those of some of the rows, float32."""
        return self.logits[self.place[row]].float()


def over_flips(
    ask: Ask, image: Float[Tensor, "b 3 s s"], row: Int64[Tensor, " b"]
) -> Float[Tensor, "b 1 s s"]:
    """The logit of the mean probability over an image's four flips, each answer flipped back."""
    return mean_logits(torch.stack([ask(image.flip(dims), row).flip(dims) for dims in FLIPS]))
