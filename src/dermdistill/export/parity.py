"""Whether a file computes what PyTorch computes.

The measures are the largest logit difference, the pixels that change, and the loss of Dice against the truth.
Everything is measured on the same images, at native size, by the way that prediction takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill import imaging
from dermdistill.data.dataset import PreparedData
from dermdistill.imaging import UInt8Array
from dermdistill.inference.onnx_backend import open_session, sigmoid
from dermdistill.metrics.intervals import Interval, Values, difference_interval
from dermdistill.metrics.overlap import Counts, count, scores

Precision = Literal["fp32", "fp16", "int8"]
Logits = NDArray[np.float32]
Run = Callable[[NDArray[np.float32]], Logits]
"""float32 [n, 3, s, s], RGB in [0, 1] → logits float32 [n, 1, s, s]."""


@dataclass(frozen=True)
class Tolerance:
    """Beyond any of these, a file is not the network any more. None: not limited, only reported."""

    logit_difference: float | None
    """Largest absolute difference of a logit."""
    changed_pixels: float
    """Share of pixels, mean over images, that fall on the other side of the threshold."""
    dice_drop: float
    """Mean loss of Dice per image, 0 to 1."""


TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(1e-3, 1e-4, 1e-4),
    "fp16": Tolerance(0.25, 2e-3, 1e-3),
    # Far from the outline, where logits are large and saturate, eight bits may be off by whole units and
    # no pixel changes: the logit is reported, not limited.
    "int8": Tolerance(None, 2e-2, 1e-2),
}


@dataclass(frozen=True)
class Measured:
    """A file beside PyTorch, on n images."""

    logit_difference: float
    changed_pixels: float
    dice_torch: float
    dice: float
    dice_drop: Interval
    """Paired, over images: PyTorch's Dice minus the file's, with its 95 % interval."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    def beyond(self, tolerance: Tolerance) -> list[str]:
        """List what exceeds the tolerance, as phrases; empty where nothing does."""
        limits = (
            ("largest logit difference", self.logit_difference, tolerance.logit_difference),
            ("share of pixels that change", self.changed_pixels, tolerance.changed_pixels),
            ("mean loss of Dice", self.dice_drop.mean, tolerance.dice_drop),
        )
        # "not within", so that NaN is beyond every limit.
        return [
            f"{name} {value:.2g} (at most {most:.2g})"
            for name, value, most in limits
            if most is not None and not value <= most
        ]


class Reference:
    """The logits that PyTorch returns for some images of a data set, kept to hold files against.

    Args:
        run: The network.
        data: Prepared data set.
        rows: Its images to use, int64.
        threshold: Lesion where the probability is above it.
        batch_size: Images at once.
        progress: Show a bar.
    """

    def __init__(
        self,
        run: Run,
        data: PreparedData,
        rows: NDArray[np.int64],
        threshold: float,
        *,
        batch_size: int = 8,
        progress: bool = True,
    ) -> None:
        self.data, self.rows, self.threshold = data, rows, threshold
        self.batch_size, self.progress = batch_size, progress
        self.logits = np.concatenate([run(batch) for _, batch in self._batches("PyTorch")])
        self.dice = self._dice(self.logits)

    def measure(self, run: Run, title: str) -> Measured:
        """Hold a file against PyTorch on all images.

        Args:
            run: It runs the file.
            title: Of the bar.

        Returns:
            The differences, over all images.
        """
        logits = np.concatenate([run(batch) for _, batch in self._batches(title)])
        dice, reference_dice = self._dice(logits), self.dice
        changed = [
            np.mean(self._mask(ours, shape) != self._mask(theirs, shape))
            for ours, theirs, shape in zip(logits, self.logits, self._shapes(), strict=True)
        ]
        return Measured(
            float(np.abs(logits - self.logits).max()),
            float(np.mean(changed)),
            float(reference_dice.mean()),
            float(dice.mean()),
            difference_interval(reference_dice - dice),
        )

    def _batches(self, title: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        steps = range(0, len(self.rows), self.batch_size)
        for start in tqdm(steps, desc=title, unit="batch", disable=not self.progress, leave=False):
            part = self.rows[start : start + self.batch_size]
            yield part, images(self.data, part)

    def _dice(self, logits: Logits) -> Values:
        counted = [
            count(self._mask(one, truth.shape), truth)
            for one, truth in zip(logits, map(self.data.native_mask, self.rows.tolist()), strict=True)
        ]
        return scores(Counts(*np.array(counted, dtype=np.int64).T))["dice"]

    def _shapes(self) -> Iterator[tuple[int, int]]:
        return ((self.data.manifest[row].height, self.data.manifest[row].width) for row in self.rows.tolist())

    def _mask(self, logits: Logits, shape: tuple[int, ...]) -> UInt8Array:
        prob = sigmoid(logits[0])
        return imaging.to_mask(imaging.restore_prob(prob, shape[0], shape[1]), self.threshold)


def images(data: PreparedData, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Read packed images of some rows as a network takes them: float32 [n, 3, s, s], RGB in [0, 1]."""
    return np.ascontiguousarray(data.images[rows].transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


class OnnxLogits:
    """Logits of an ONNX file, on the CPU, with one thread; spinning is off, so that sessions do not fight."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.session = open_session(path, threads)

    def __call__(self, batch: NDArray[np.float32]) -> Logits:
        """float32 [n, 3, s, s] → logits float32 [n, 1, s, s]."""
        logits: Logits = self.session.run(["logits"], {"image": batch})[0]
        return logits
