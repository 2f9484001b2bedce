"""Feed training from the pack: whole batches by one index, no per-image Python.

Order and position are functions of (seed, step) alone, so a resumed run sees exactly the images that the
unbroken one would have seen, and several processes share one global order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dermdistill.core.errors import TrainingError
from dermdistill.data.dataset import PreparedData
from dermdistill.training.acceleration.devices import send


class Batch(TypedDict):
    """What one step sees."""

    image: Tensor
    """uint8 [b, 3, s, s], RGB, channels-last in memory."""
    mask: Tensor
    """uint8 {0, 1} [l, 1, s, s], of the first l images; l = b unless there are unlabelled ones."""
    row: Tensor
    """int64 [b], rows of the manifest."""
    position: Tensor
    """int64 [l], positions in the split: where per-image results are kept."""


class PackDataset(Dataset[Batch]):
    """The rows of one split; ``__getitems__`` cuts a whole batch out of the memory map at once.

    After `keep_on` it cuts it out of the device's memory: then no image passes through the CPU any more.
    """

    def __init__(self, data: PreparedData, rows: NDArray[np.int64]) -> None:
        self.data, self.rows = data, rows
        self._resident: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        # A sorted read walks the file forwards; the order inside a batch does not matter to any loss.
        order = np.argsort(self.rows[positions])
        rows, image = self.cut(positions)
        where = torch.from_numpy(np.asarray(positions)[order])
        if self._resident is None:
            mask = torch.from_numpy(self.data.masks[rows])
        else:
            mask = self._resident[1][send(where, image.device)]
        return {
            "image": image,
            "mask": mask.unsqueeze(1),
            "row": torch.from_numpy(rows),
            "position": where,
        }

    def cut(self, positions: list[int]) -> tuple[NDArray[np.int64], Tensor]:
        """Rows, ascending, and images (as in `Batch`) of some positions; no mask is read."""
        order = np.argsort(self.rows[positions])
        rows = self.rows[positions][order]
        if self._resident is None:
            image = torch.from_numpy(self.data.images[rows])
        else:
            images = self._resident[0]
            image = images[send(torch.from_numpy(np.asarray(positions)[order]), images.device)]
        # A permuted NHWC array is what torch calls channels-last: no copy is needed for it.
        return rows, image.permute(0, 3, 1, 2)

    @property
    def nbytes(self) -> int:
        """Of images and masks."""
        return len(self) * self.data.size**2 * 4

    def keep_on(self, device: torch.device) -> None:
        """Copy the rows' images and masks to the device."""
        images, masks = (torch.from_numpy(a[self.rows]) for a in (self.data.images, self.data.masks))
        self._resident = images.to(device), masks.to(device)

    def image_ids(self, batch: Mapping[str, Any]) -> list[str]:
        """Names of a batch's images, in its order; of the batch ``row`` is read."""
        return [self.data.manifest[row].image_id for row in batch["row"].tolist()]


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
        self.epoch, self.start = 0, 0

    def bounds(self) -> list[tuple[int, int]]:
        """First and last position (exclusive) of every global batch of an epoch."""
        edges = [*range(0, self.count, self.batch_size), self.count]
        if self.shuffle and len(edges) > 2 and edges[-1] - edges[-2] < self.min_batch * self.world:
            del edges[-2]
        return list(itertools.pairwise(edges))

    @property
    def full(self) -> int:
        """Images of this process in a full batch."""
        low, high = self.bounds()[0]
        return (high - low) // self.world

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
        start, self.start = self.start, 0
        self.epoch += 1
        for low, high in self.bounds()[start:]:
            high -= (high - low) % self.world
            yield order[low:high][self.rank :: self.world].tolist()


def make_loader(data: PreparedData, rows: NDArray[np.int64], sampler: EpochBatches) -> DataLoader[Batch]:
    """A loader of some rows of a data set."""
    return loader_of(PackDataset(data, rows), sampler)


def loader_of(dataset: Dataset[Batch], sampler: Sampler[list[int]]) -> DataLoader[Batch]:
    """A loader without worker processes: cutting a batch out of the pack takes well under a millisecond per
    image, less than handing it over from another process would.
    """
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=lambda batch: batch)
