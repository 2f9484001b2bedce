"""Feed training from the pack: whole batches by one index, no per-image Python.

Order and position are functions of (seed, step) alone, so a resumed run sees exactly the images that the
unbroken one would have seen, and several processes share one global order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dermdistill.core.errors import TrainingError
from dermdistill.data.dataset import PreparedData
from dermdistill.data.pack_rows import PackRows
from dermdistill.training.feed.batch import TrainingBatch, place_on_device
from dermdistill.training.feed.unlabelled import take_in_passes


class ImageRows(NamedTuple):
    """Some rows of a prepared data set."""

    data: PreparedData
    rows: NDArray[np.int64]


class PackDataset(Dataset[TrainingBatch]):
    """Rows of a prepared data set and, after them, unlabelled ones; whole batches are cut out at once.

    ``__getitems__`` reads a batch out of the pack, with bounds. After `keep_on` it cuts it out of the
    device's memory: then no image passes through the CPU any more.

    Args:
        data: The data set.
        rows: Of its manifest.
        unlabelled: Rows of the same or another data set whose masks are not read.
        styles: Names of the styles that the network is told; images of others have none.

    Attributes:
        rows: int64, by position; those of unlabelled images count on from the end of ``data``'s manifest.
        row_count: Number of all such rows there could be.
    """

    def __init__(
        self,
        data: PreparedData,
        rows: NDArray[np.int64],
        unlabelled: ImageRows | None = None,
        styles: Sequence[str] = (),
    ) -> None:
        self.data, self.unlabelled = data, unlabelled
        self.labelled_count, self.row_count = len(rows), len(data)
        self.rows = rows
        self._images, self._masks = PackRows(data.images), PackRows(data.masks)
        if unlabelled is not None:
            self._more_images = PackRows(unlabelled.data.images)
            self.rows = np.concatenate([rows, len(data) + unlabelled.rows])
            self.row_count += len(unlabelled.data)
        self._resident: tuple[Tensor, Tensor] | None = None
        self._style = style_codes(data, self.row_count, styles) if styles else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> TrainingBatch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> TrainingBatch:
        # A sorted read walks the file forwards; the order inside a batch does not matter to any loss.
        order = np.argsort(self.rows[positions])
        rows, position = self.rows[positions][order], torch.from_numpy(np.asarray(positions)[order])
        if self._resident is None:
            image, mask = self._read(rows)
        else:
            index = place_on_device(position, self._resident[0].device)
            image, mask = (resident[index] for resident in self._resident)
        return TrainingBatch(
            # A permuted NHWC array is what torch calls channels-last: no copy is needed for it.
            image=image.permute(0, 3, 1, 2),
            mask=mask.unsqueeze(1),
            has_mask=torch.from_numpy(rows < len(self.data)),
            row=torch.from_numpy(rows),
            position=position,
            style=None if self._style is None else self._style[torch.from_numpy(rows)],
        )

    def _read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images uint8 [n, s, s, 3] and masks [n, s, s] of rows, those with a mask first."""
        with_mask = rows[rows < len(self.data)]
        image, mask = self._images.read(with_mask), self._masks.read(with_mask)
        if self.unlabelled is not None:
            without = rows[len(with_mask) :] - len(self.data)
            image = np.concatenate([image, self._more_images.read(without)])
            mask = np.concatenate([mask, np.zeros((len(without), *mask.shape[1:]), mask.dtype)])
        return torch.from_numpy(image), torch.from_numpy(mask)

    @property
    def nbytes(self) -> int:
        """Of images and masks."""
        return len(self) * self.data.size**2 * 4

    def keep_on(self, device: torch.device) -> None:
        """Copy the rows' images and masks to the device."""
        image, mask = self._read(self.rows)
        self._resident = image.to(device), mask.to(device)

    def image_ids(self, row: Tensor) -> list[str]:
        """Names of images by their rows."""
        manifest = list(self.data.manifest)
        if self.unlabelled is not None:
            manifest += self.unlabelled.data.manifest
        return [manifest[one].image_id for one in row.tolist()]


def style_codes(data: PreparedData, count: int, styles: Sequence[str]) -> Tensor:
    """One row an image: 1 at its mask's style, all 0 where that is not among ``styles``.

    Args:
        data: The data set.
        count: Rows of the result; those beyond the manifest, of unlabelled images, are 0.
        styles: Names.

    Returns:
        float32 [count, styles].
    """
    codes = torch.zeros(count, len(styles))
    place = {name: i for i, name in enumerate(styles)}
    for i, row in enumerate(data.manifest):
        if row.style in place:
            codes[i, place[row.style]] = 1
    return codes


class EpochBatches(Sampler[list[int]]):
    """Batches of positions for one process, resumable at any step.

    Args:
        count: Images in the split.
        batch_size: Images per step over all processes.
        shuffle: A new order every epoch, drawn from (seed, epoch).
        seed: Seed of the order.
        rank: This process.
        world: Number of processes.
        min_batch: Fewest images a process may get in a training step (2 where batch statistics need it).
        unlabelled: Number of unlabelled images; their positions follow the labelled ones'.
        unlabelled_share: Of a step's images, that are unlabelled (more than 0, less than 1).

    An epoch is one pass over the labelled images. Where there are unlabelled ones, each step has its share of
    them after the labelled ones. They have an order of their own: pass after pass over all of them, drawn
    from (seed, pass), going on from epoch to epoch. Several processes take equal shares of a step's images,
    of which together no one is taken twice in a pass.

    A training remainder smaller than ``min_batch`` per process joins the batch before it; with several
    processes it is cut to a multiple of their number, so that all take every step. Validation batches
    (``shuffle=False``) are never padded: each image belongs to exactly one process.

    Raises:
        TrainingError: The split is empty, or a step cannot have ``min_batch`` images per process.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        min_batch: int = 1,
        unlabelled: int = 0,
        unlabelled_share: float = 0.5,
    ) -> None:
        if count < 1:
            raise TrainingError(
                "There are no images in this split.",
                "at least one image",
                "Prepare the data set with more images, or choose another split.",
            )
        if shuffle and batch_size % world:
            raise TrainingError(
                f"A batch of {batch_size} images cannot be shared evenly by {world} devices.",
                "data.batch_size is the size over all devices together",
                f"Set --data.batch-size to a multiple of {world}.",
            )
        if shuffle and min(batch_size, count) < min_batch * world:
            raise TrainingError(
                f"A step would have {min(batch_size, count)} images for {world} device(s).",
                f"at least {min_batch} per device: this network normalises over the batch",
                f"Set --data.batch-size to {min_batch * world} or more, and give at least as many images.",
            )
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed
        self.rank, self.world, self.min_batch = rank, world, min_batch
        self.unlabelled, self.unlabelled_share = unlabelled, unlabelled_share
        self.epoch, self.start = 0, 0

    def bounds(self) -> list[tuple[int, int]]:
        """First and last position (exclusive) of every global batch of an epoch."""
        edges = [*range(0, self.count, self.batch_size), self.count]
        if self.shuffle and len(edges) > 2 and edges[-1] - edges[-2] < self.min_batch * self.world:
            del edges[-2]
        return list(itertools.pairwise(edges))

    @property
    def full_batch(self) -> int:
        """Images of this process in a full batch."""
        low, high = self.bounds()[0]
        return (high - low + self.unlabelled_beside(high - low)) // self.world

    def unlabelled_beside(self, labelled: int) -> int:
        """Unlabelled images of a step with so many labelled ones, over all processes; at least one each."""
        if not self.unlabelled:
            return 0
        share, own = self.unlabelled_share, labelled // self.world
        return max(1, round(own * share / (1 - share))) * self.world

    def __len__(self) -> int:
        if self.shuffle:
            return len(self.bounds())
        mine = range(self.rank, self.count, self.world)
        return math.ceil(len(mine) / max(1, self.batch_size // self.world))

    def seek(self, step: int) -> None:
        """Make the next iteration start at the global training step ``step``."""
        self.epoch, self.start = divmod(step, len(self))

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffle:
            mine = list(range(self.rank, self.count, self.world))
            size = max(1, self.batch_size // self.world)
            yield from (mine[i : i + size] for i in range(0, len(mine), size))
            return
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        beside = [self.unlabelled_beside(high - low) for low, high in self.bounds()]
        start, self.start = self.start, 0
        taken = self.epoch * sum(beside) + sum(beside[:start])
        self.epoch += 1
        for (low, high), size in zip(self.bounds()[start:], beside[start:], strict=True):
            high -= (high - low) % self.world
            extra = self.count + take_in_passes(self.unlabelled, taken, size, self.seed)
            taken += size
            yield [one for part in (order[low:high], extra) for one in part[self.rank :: self.world].tolist()]


def make_loader(dataset: PackDataset, sampler: EpochBatches) -> DataLoader[TrainingBatch]:
    """A loader without worker processes: reading a batch out of the pack takes well under a millisecond per
    image, less than handing it over from another process would.
    """
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=lambda batch: batch)
