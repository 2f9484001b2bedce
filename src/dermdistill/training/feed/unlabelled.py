"""Images without masks beside the labelled ones of each step: their order, and what may not be among them.

As in data/loader.py, what a step sees is a function of (seed, step) alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from dermdistill.core.errors import DataError
from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.exclude import read_exclusions
from dermdistill.data.prepare.pairing import listed
from dermdistill.training.feed.loader import Batch, EpochBatches, PackDataset

logger = logging.getLogger(__name__)

_ORDER = 1
"""Sets the order of the unlabelled images apart from that of the labelled ones of the same seed."""


class MixedDataset(Dataset[Batch]):
    """Positions below ``len(labelled)`` are its images, those from there on the unlabelled ones.

    A batch has the labelled images first; its masks are theirs alone.
    """

    def __init__(self, labelled: PackDataset, unlabelled: PackDataset) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        first = len(self.labelled)
        with_mask = self.labelled.__getitems__([p for p in positions if p < first])
        rows, image = self.unlabelled.cut([p - first for p in positions if p >= first])
        return {
            "image": torch.cat([with_mask["image"], image]),
            "mask": with_mask["mask"],
            "row": torch.cat([with_mask["row"], torch.from_numpy(rows)]),
            "position": with_mask["position"],
        }

    @property
    def nbytes(self) -> int:
        """Of both data sets' images and masks."""
        return self.labelled.nbytes + self.unlabelled.nbytes

    def keep_on(self, device: torch.device) -> None:
        """Copy both to the device."""
        self.labelled.keep_on(device)
        self.unlabelled.keep_on(device)

    def image_ids(self, batch: Mapping[str, Any]) -> list[str]:
        """Names of a batch's images, in its order; of the batch ``row`` and ``position`` are read."""
        rows, count = batch["row"].tolist(), len(batch["position"])
        sides = ((self.labelled, rows[:count]), (self.unlabelled, rows[count:]))
        return [side.data.manifest[row].image_id for side, own in sides for row in own]


class MixedBatches(Sampler[list[int]]):
    """The batches of an `EpochBatches`, each with its share of unlabelled positions after the labelled ones.

    An epoch stays one pass over the labelled images. The unlabelled ones have an order of their own: pass
    after pass over all of them, drawn from (seed, pass), going on from epoch to epoch. Several processes
    take equal shares of a step's images, of which together no one is taken twice in a pass.

    Args:
        labelled: Batches of the labelled images; its positions come first.
        count: Unlabelled images.
        share: Of a step's images, that are unlabelled (more than 0, less than 1).

    Raises:
        DataError: There are no unlabelled images.
    """

    def __init__(self, labelled: EpochBatches, count: int, share: float) -> None:
        if count < 1:
            raise DataError(
                "There are no unlabelled images.",
                "at least one image in the training split",
                "Name a data set with training images, or leave the unlabelled one out.",
            )
        self.labelled, self.count, self.share = labelled, count, share
        self._pass: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.labelled)

    @property
    def full(self) -> int:
        """Images of this process in a full batch, both kinds."""
        own, world = self.labelled.full, self.labelled.world
        return own + self.unlabelled_beside(own * world) // world

    def seek(self, step: int) -> None:
        """Make the next iteration start at the global training step ``step``."""
        self.labelled.seek(step)

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = self.labelled.rank, self.labelled.world
        epoch, start = self.labelled.epoch, self.labelled.start
        sizes = [self.unlabelled_beside(high - low) for low, high in self.labelled.bounds()]
        drawn = epoch * sum(sizes) + sum(sizes[:start])
        for batch, size in zip(self.labelled, sizes[start:], strict=True):
            beside = self._stream(drawn, size)[rank::world] + self.labelled.count
            drawn += size
            yield [*batch, *beside.tolist()]

    def unlabelled_beside(self, labelled: int) -> int:
        """Unlabelled images of a step with so many labelled ones, over all processes; at least one each."""
        world = self.labelled.world
        mine = labelled // world
        return max(1, round(mine * self.share / (1 - self.share))) * world

    def _stream(self, first: int, size: int) -> NDArray[np.int64]:
        """``size`` positions from the ``first`` one on of the endless sequence of passes."""
        parts = []
        while size > 0:
            number, offset = divmod(first, self.count)
            if self._pass[0] != number:
                rng = np.random.default_rng([self.labelled.seed, number, _ORDER])
                self._pass = number, rng.permutation(self.count)
            parts.append(self._pass[1][offset : offset + size])
            first += len(parts[-1])
            size -= len(parts[-1])
        return np.concatenate(parts)


def unlabelled_rows(data: PreparedData, beside: PreparedData, exclude: Path | None) -> NDArray[np.int64]:
    """Rows of ``data`` that may be learnt from without their masks: its training split, less exclusions.

    Its own validation and test images are never taken.

    Args:
        data: The unlabelled images.
        beside: The labelled ones, whose validation and test images must not be among them.
        exclude: audit.csv, or a CSV with a column ``image_id``, whose images are left out.

    Raises:
        DataError: An image has the name of a validation or test image, or the same pixels.
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
