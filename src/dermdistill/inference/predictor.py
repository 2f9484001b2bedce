"""From a photo to a mask: numpy, Pillow and ONNX Runtime; no torch.

What computes the probabilities is the backend: anything that answers them for a batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from dermdistill import imaging
from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DataError
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.imaging.find import LINES, find_images
from dermdistill.inference.backends import Backend, open_model
from dermdistill.inference.input_checks import Look, fit_from_looks
from dermdistill.inference.prediction import Prediction
from dermdistill.inference.reference_statistics import SIDE
from dermdistill.inference.writers import OUTLINE, write_outputs

__all__ = ["LINES", "OUTLINE", "Backend", "Prediction", "Predictor", "find_images", "write_outputs"]

S = TypeVar("S", bound=Path | str | bytes | UInt8Array)
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))  # axes of [n, c, h, w]


class Predictor:
    """Segment images with one model.

    Args:
        model: An ONNX file; with ``dermdistill[train]`` also a run folder or a .pth file; None: the shipped
            student.
        threads: For the network; None: the library's choice, one per core.
        tta: Test-time augmentation: the mean over the image and its three mirror images, at four times the
            cost, with a measure and a map of their disagreement.

    Raises:
        WeightsError: There is no such model, or it cannot be used.
        MismatchError: A run's weights are not those of its card.
        MissingExtraError: A run is asked for, and torch is not installed.
    """

    def __init__(
        self, model: Path | str | None = None, *, threads: int | None = None, tta: bool = False
    ) -> None:
        self._use(*open_model(model, threads), tta)

    @classmethod
    def from_backend(cls, card: ModelCard, backend: Backend, *, tta: bool = False) -> Self:
        """A predictor on anything that answers probabilities.

        Args:
            card: Its card: input size and threshold.
            backend: What computes the probabilities.
            tta: As for the class.
        """
        predictor = cls.__new__(cls)
        predictor._use(card, backend, tta)
        return predictor

    def _use(self, card: ModelCard, backend: Backend, tta: bool) -> None:
        self.card, self.backend, self.tta = card, backend, tta
        self.model = {"recipe": card.recipe, "weights_sha256": card.weights_sha256}

    def __call__(self, source: Path | str | bytes | UInt8Array) -> Prediction:
        """Segment one image: a path, the bytes of a file, or RGB uint8 [h, w, 3].

        Raises:
            DataError: It cannot be read.
        """
        return next(self._answer([self._read(source)]))

    def predict_folder(
        self, folder: Path | str, batch_size: int = 8
    ) -> Iterator[tuple[Path, Prediction | DataError]]:
        """Segment all images of a folder (to any depth) or glob, as `predict_many` does.

        Raises:
            UsageError: There is no image.
        """
        return self.predict_many(find_images([folder]), batch_size)

    def predict_many(
        self, sources: Iterable[S], batch_size: int = 8
    ) -> Iterator[tuple[S, Prediction | DataError]]:
        """Segment images in batches; a broken one is answered by its error, and the others go on.

        Only one image at a time is held at its native size, whatever the batch.

        Args:
            sources: Each as for one image: a path, the bytes of a file, or an array.
            batch_size: Images that the backend gets at once.

        Yields:
            Each source in its order, with its prediction or the reason why there is none.
        """
        waiting: list[tuple[S, _Input | DataError]] = []
        for source in sources:
            try:
                waiting.append((source, self._read(source)))
            except DataError as error:
                waiting.append((source, error))
            if len(waiting) == batch_size:
                yield from self._flush(waiting)
                waiting = []
        yield from self._flush(waiting)

    def fit_reference(self, images: Iterable[UInt8Array], batch_size: int = 16) -> dict[str, Any]:
        """Statistics of training images for the card's field ``reference`` (see `reference.fit_reference`).

        With it, pictures that are no dermoscopy are warned of. It depends on the network's answers: fit it
        with the file that is to carry it.

        Args:
            images: Training images, RGB uint8 [h, w, 3], some hundreds; never test images.
            batch_size: Images that the backend gets at once.

        Raises:
            DataError: There are too few of them.
        """
        looks: list[Look] = []
        for part in _batches(images, batch_size):
            inputs = [self._read(image) for image in part]
            small = self._views(_stack(inputs)).mean(axis=0)
            looks += [Look(item.looked_at, prob, None) for item, prob in zip(inputs, small, strict=True)]
        return fit_from_looks(looks, self.card.threshold)

    def _flush(
        self, waiting: list[tuple[S, _Input | DataError]]
    ) -> Iterator[tuple[S, Prediction | DataError]]:
        answers = self._answer([item for _, item in waiting if not isinstance(item, DataError)])
        for source, item in waiting:
            yield source, item if isinstance(item, DataError) else next(answers)

    def _read(self, source: Path | str | bytes | UInt8Array) -> _Input:
        size = self.card.input_size
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
                raise DataError(
                    f"An array {source.dtype} {source.shape} is no image.",
                    "RGB uint8 [h, w, 3]",
                    "Convert it to RGB, 8 bits a channel, height before width.",
                )
            if not source.size:
                raise DataError(
                    f"An array {source.shape} has no pixels.", "RGB uint8 [h, w, 3]", "Leave it out."
                )
            image, (height, width) = source, source.shape[:2]
        else:
            found: Path | bytes = Path(source) if isinstance(source, str) else source
            width, height = imaging.image_size(found)
            image = imaging.read_image(found, near=max(size, SIDE))
        # The two squares are all that is kept of it: however large a picture is, it is held one at a time.
        return _Input(imaging.resize_image(image, size), imaging.resize_image(image, SIDE), height, width)

    def _answer(self, inputs: list[_Input]) -> Iterator[Prediction]:
        if not inputs:
            return
        views = self._views(_stack(inputs))
        for place, item in enumerate(inputs):
            yield self._predict(item, views[:, place])

    def _predict(self, item: _Input, views: Float32Array) -> Prediction:
        """From the probabilities of each view, [1 or 4, s, s]."""
        small, threshold = views.mean(axis=0), self.card.threshold
        prob = imaging.restore_prob(small, item.height, item.width)
        look = Look(item.looked_at, small, self.card.reference)
        mask = imaging.to_mask(prob, threshold)
        if not self.tta:
            return Prediction(mask, prob, self.model, threshold, look)
        spread = imaging.restore_prob(views.std(axis=0), item.height, item.width)
        return Prediction(mask, prob, self.model, threshold, look, _disagreement(views > threshold), spread)

    def _views(self, batch: Float32Array) -> Float32Array:
        """Probabilities of every view, turned back: [1 or 4, n, s, s]."""
        flips = _FLIPS if self.tta else _FLIPS[:1]
        answers = [
            np.flip(self.backend(np.ascontiguousarray(np.flip(batch, axes))), axes)[:, 0] for axes in flips
        ]
        return np.stack(answers)


@dataclass(frozen=True, eq=False)
class _Input:
    image: UInt8Array
    looked_at: UInt8Array
    height: int
    width: int


def _batches(images: Iterable[UInt8Array], size: int) -> Iterator[list[UInt8Array]]:
    waiting = iter(images)
    while part := list(itertools.islice(waiting, size)):
        yield part


def _stack(inputs: list[_Input]) -> Float32Array:
    """float32 [n, 3, s, s] in [0, 1]."""
    batch = np.stack([item.image for item in inputs]).transpose(0, 3, 1, 2).astype(np.float32)
    batch /= np.float32(255)
    return batch


def _disagreement(masks: NDArray[np.bool_]) -> float:
    """One minus the mean Dice coefficient of any two masks [n, h, w]; of two empty ones it is 1."""
    sizes = masks.sum(axis=(1, 2))
    dice = [
        2 * np.count_nonzero(masks[i] & masks[j]) / total if (total := sizes[i] + sizes[j]) else 1.0
        for i in range(len(masks))
        for j in range(i)
    ]
    return float(1 - np.mean(dice))
