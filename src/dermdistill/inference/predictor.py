"""From a photo to a mask: numpy, Pillow and ONNX Runtime; no torch.

What computes the probabilities is the backend: any function of a batch.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermdistill import imaging
from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DataError, UsageError, WeightsError
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.imaging.dicom import DicomFacts
from dermdistill.imaging.find import find_images
from dermdistill.imaging.frames import list_frames
from dermdistill.inference.backends import Backend, open_model
from dermdistill.inference.input_checks import InputChecks, fit_from_checks
from dermdistill.inference.prediction import Prediction
from dermdistill.inference.reference_statistics import SIDE

__all__ = ["Backend", "Input", "Prediction", "Predictor"]

S = TypeVar("S", bound=Path | str | bytes | UInt8Array)
T = TypeVar("T")
MAX_OUTLINE = 30
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))  # axes of [n, c, h, w]


class Predictor:
    """Segment images with one model.

    Args:
        model: An ONNX file; with ``dermdistill[train]`` also a run folder or a .pth file; None: the shipped
            student.
        threads: For the network; None: the library's choice, one per core.
        tta: Test-time augmentation: the mean over the image and its three mirror images, at four times the
            cost, with a measure and a map of their disagreement.
        outline: Percent of the area by which outlines are drawn wider than the model does of itself, about:
            -30 to 30, negative for tighter (see `move_threshold`).
        arch: ``FILE.py:FACTORY`` of a run of a network of your own. That file is run.
        style: Of the styles of masks that the model knows (``card.styles``), the one in which it shall draw;
            None: not told.

    Raises:
        UsageError: The outline is out of its range, a network of your own is not named by its file, or the
            model does not know the style.
        WeightsError: There is no such model, or it cannot be used.
        MismatchError: A run's weights are not those of its card.
        MissingExtraError: A run is asked for, and torch is not installed.

    Example:
        >>> import numpy as np
        >>> predictor = Predictor(threads=1)  # the shipped student
        >>> prediction = predictor(np.full((120, 160, 3), 200, np.uint8))
        >>> prediction.mask.shape, prediction.bounding_box, [each.code for each in prediction.warnings][-1]
        ((120, 160), None, 'no_lesion')
    """

    def __init__(
        self,
        model: Path | str | None = None,
        *,
        threads: int | None = None,
        tta: bool = False,
        outline: float = 0.0,
        arch: str | None = None,
        style: str | None = None,
    ) -> None:
        self._use(*open_model(model, threads, arch, style), tta)
        self.threshold = move_threshold(self.card.threshold, outline)

    @classmethod
    def from_backend(cls, card: ModelCard, backend: Backend, *, tta: bool = False) -> Self:
        """A predictor on anything that computes probabilities.

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
        self.threshold = card.threshold
        self.model = {"recipe": card.recipe, "weights_sha256": card.weights_sha256}
        if card.style is not None:
            self.model["style"] = card.style

    def __call__(self, source: Path | str | bytes | UInt8Array) -> Prediction:
        """Segment one image: a path, the bytes of a file, or RGB uint8 [h, w, 3].

        Raises:
            DataError: It cannot be read.
        """
        return self.predict_inputs([self.read(source)])[0]

    def predict_folder(
        self, folder: Path | str, batch_size: int = 8
    ) -> Iterator[tuple[Path, Prediction | DataError]]:
        """Segment all images of a folder (to any depth) or glob, of DICOM all frames, as `predict_many` does.

        Raises:
            UsageError: There is no image.
        """
        return self.predict_many(list_frames(find_images([folder])), batch_size)

    def predict_many(
        self, sources: Iterable[S], batch_size: int = 8
    ) -> Iterator[tuple[S, Prediction | DataError]]:
        """Segment images in batches; for a broken one its error is yielded, and the others go on.

        Only one image at a time is held at its native size, whatever the batch.

        Args:
            sources: Each as for one image: a path, the bytes of a file, or an array.
            batch_size: Images that the backend gets at once.

        Yields:
            Each source in its order, with its prediction or the reason why there is none.
        """
        for part in _batches(sources, batch_size):
            inputs = [self._try_to_read(source) for source in part]
            predictions = iter(self.predict_inputs([item for item in inputs if isinstance(item, Input)]))
            for source, item in zip(part, inputs, strict=True):
                yield source, item if isinstance(item, DataError) else next(predictions)

    def fit_reference(self, images: Iterable[UInt8Array], batch_size: int = 16) -> dict[str, Any]:
        """Statistics of training images for the card's field ``reference``.

        With it, pictures that are no dermoscopy are warned of. It depends on the network's probabilities: fit
        it with the file that is to carry it.

        Args:
            images: Training images, RGB uint8 [h, w, 3], some hundreds; never test images.
            batch_size: Images that the backend gets at once.

        Returns:
            Plain values (see `reference_statistics.fit_reference`).

        Raises:
            DataError: There are too few of them.
        """
        checks: list[InputChecks] = []
        for part in _batches(images, batch_size):
            inputs = [self.read(image) for image in part]
            small = self._views(_stack(inputs)).mean(axis=0)
            checks += [
                InputChecks(item.checked, prob, None) for item, prob in zip(inputs, small, strict=True)
            ]
        return fit_from_checks(checks, self.card.threshold)

    def read(self, source: Path | str | bytes | UInt8Array, *, keep: bool = False) -> Input:
        """Decode one image and bring it to the network's size.

        Args:
            source: As for one image.
            keep: Keep the image at its native size too, where the decoder did not shrink it.

        Raises:
            DataError: It cannot be read.
        """
        size = self.card.input_size
        if isinstance(source, np.ndarray):
            picture = imaging.Picture(_checked_array(source), source.shape[1], source.shape[0])
        else:
            path_or_bytes = Path(source) if isinstance(source, str) else source
            picture = imaging.open_picture(path_or_bytes, near=max(size, SIDE))
        image = picture.image
        # The two squares are all that is kept of it: however large a picture is, it is held one at a time.
        return Input(
            imaging.resize_image(image, size),
            imaging.resize_image(image, SIDE),
            picture.height,
            picture.width,
            image if keep and picture.is_native else None,
            picture.dicom,
        )

    def predict_inputs(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Segment images that have been read, all in one batch."""
        if not inputs:
            return []
        views = self._views(_stack(inputs))
        return [self._predict(item, views[:, index]) for index, item in enumerate(inputs)]

    def _try_to_read(self, source: Path | str | bytes | UInt8Array) -> Input | DataError:
        try:
            return self.read(source)
        except DataError as error:
            return error

    def _predict(self, item: Input, views: Float32Array) -> Prediction:
        """From the probabilities of each view, [1 or 4, s, s]."""
        threshold = self.threshold
        checks = InputChecks(item.checked, views.mean(axis=0), self.card.reference)
        prediction = Prediction(item.height, item.width, self.model, threshold, checks, dicom=item.dicom)
        if not self.tta:
            return prediction
        return dataclasses.replace(
            prediction, uncertainty=_disagreement(views > threshold), spread=views.std(axis=0)
        )

    def _views(self, batch: Float32Array) -> Float32Array:
        """Probabilities of every view, turned back: [1 or 4, n, s, s]."""
        flips = _FLIPS if self.tta else _FLIPS[:1]
        probs = [
            np.flip(self.backend(np.ascontiguousarray(np.flip(batch, axes))), axes)[:, 0] for axes in flips
        ]
        views = np.stack(probs)
        if not np.isfinite(views.sum()):
            raise WeightsError(
                f"The network {self.card.recipe} returns probabilities that are not finite.",
                "numbers in [0, 1], whatever the picture",
                "Its weights are broken: take another checkpoint, or train again.",
            )
        return views


def move_threshold(threshold: float, outline: float) -> float:
    """The threshold at which outlines are drawn tighter or wider by about some percent of the area.

    One unit of the logit is about a tenth of the area: on 252 validation images the shipped student drew
    areas of 0.82, 0.91, 1.10 and 1.23 of its own (medians) at −20, −10, 10 and 20.

    Args:
        threshold: In (0, 1).
        outline: Percent of the area, -30 to 30.

    Raises:
        UsageError: The outline is out of its range.

    Example:
        >>> round(move_threshold(0.5, -10), 3), move_threshold(0.5, 0)
        (0.731, 0.5)
    """
    if not abs(outline) <= MAX_OUTLINE:
        raise UsageError(
            f"An outline wider by {outline} percent of the area is asked for.",
            f"-{MAX_OUTLINE} to {MAX_OUTLINE}, negative for tighter",
            "Who draws that differently needs a student of their own (docs/how-to/own-data.md).",
        )
    if outline == 0:
        return threshold
    return 1 / (1 + (1 - threshold) / threshold * math.exp(outline / 10))


@dataclass(frozen=True, eq=False)
class Input:
    """An image that has been read."""

    image: UInt8Array
    """uint8 [s, s, 3], at the network's size."""
    checked: UInt8Array
    """uint8 [SIDE, SIDE, 3], at the size that warnings are judged at."""
    height: int
    """Of the file's image, in pixels."""
    width: int
    native: Image.Image | None = None
    """The image itself, where it was to be kept."""
    dicom: DicomFacts | None = None
    """What its file says of it, where that is DICOM."""


def _checked_array(array: UInt8Array) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(
            f"An array {array.dtype} {array.shape} is no image.",
            "RGB uint8 [h, w, 3]",
            "Convert it to RGB, 8 bits a channel, height before width.",
        )
    if not array.size:
        raise DataError(f"An array {array.shape} has no pixels.", "RGB uint8 [h, w, 3]", "Leave it out.")
    return Image.fromarray(array)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    waiting = iter(items)
    while part := list(itertools.islice(waiting, size)):
        yield part


def _stack(inputs: Sequence[Input]) -> Float32Array:
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
