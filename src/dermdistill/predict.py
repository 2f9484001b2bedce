"""From a photo to a mask: numpy, Pillow and ONNX Runtime; no torch.

What computes the probabilities is the backend: anything that answers them for a batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill import imaging
from dermdistill.backends import Backend, open_model
from dermdistill.card import ModelCard
from dermdistill.errors import DataError, UsageError
from dermdistill.files import atomic_path
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.photos import LINES, find_images

__all__ = ["LINES", "OUTLINE", "Backend", "Prediction", "Predictor", "find_images", "write_outputs"]

OUTLINE = (86, 180, 233)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One image's answer, at its native size."""

    mask: UInt8Array
    """{0, 1} uint8 [h, w]."""
    prob: Float32Array
    """float32 [h, w], the probability of lesion."""
    model: dict[str, str]
    """Recipe and hash of the weights."""

    @property
    def area_fraction(self) -> float:
        """Lesion pixels over all pixels, 0 to 1."""
        return float(self.mask.mean())

    @property
    def bounding_box(self) -> tuple[int, int, int, int] | None:
        """(x0, y0, x1, y1) of the mask in pixels, x1 and y1 exclusive; None where it is empty."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not rows.size:
            return None
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def mean_confidence(self) -> float:
        """Mean probability of lesion inside the mask; where that is empty, of no lesion in the image."""
        inside = self.mask.astype(bool)
        return float(self.prob[inside].mean()) if inside.any() else float(1 - self.prob.mean())

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the arrays."""
        height, width = self.mask.shape
        return {
            "width": width,
            "height": height,
            "area_fraction": round(self.area_fraction, 6),
            "bounding_box": self.bounding_box,
            "mean_confidence": round(self.mean_confidence, 6),
            "model": self.model,
        }


class Predictor:
    """Segment images with one model.

    Args:
        model: An ONNX file; with ``dermdistill[train]`` also a run folder or a .pth file; None: the shipped
            student.
        threads: For the network; None: the library's choice, one per core.
        tta: Test-time augmentation: the mean over the image and its three mirror images, at four times the
            cost.

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

    def predict_many(
        self, paths: Iterable[Path], batch_size: int = 8
    ) -> Iterator[tuple[Path, Prediction | DataError]]:
        """Segment files; a broken one is answered by its error, and the others go on.

        Only one image at a time is held at its native size, whatever the batch.

        Args:
            paths: Image files.
            batch_size: Images that the backend gets at once.

        Yields:
            Each path in its order, with its prediction or the reason why there is none.
        """
        waiting: list[tuple[Path, _Input | DataError]] = []
        for path in paths:
            try:
                waiting.append((path, self._read(path)))
            except DataError as error:
                waiting.append((path, error))
            if len(waiting) == batch_size:
                yield from self._flush(waiting)
                waiting = []
        yield from self._flush(waiting)

    def _flush(
        self, waiting: list[tuple[Path, _Input | DataError]]
    ) -> Iterator[tuple[Path, Prediction | DataError]]:
        answers = self._answer([item for _, item in waiting if not isinstance(item, DataError)])
        for path, item in waiting:
            yield path, item if isinstance(item, DataError) else next(answers)

    def _read(self, source: Path | str | bytes | UInt8Array) -> _Input:
        size = self.card.input_size
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
                raise DataError(f"An array {source.dtype} {source.shape} is no image.", "RGB uint8 [h, w, 3]")
            return _Input(imaging.resize_image(source, size), source.shape[0], source.shape[1])
        found: Path | bytes = Path(source) if isinstance(source, str) else source
        width, height = imaging.image_size(found)
        return _Input(imaging.resize_image(imaging.read_image(found, near=size), size), height, width)

    def _answer(self, inputs: list[_Input]) -> Iterator[Prediction]:
        if not inputs:
            return
        batch = np.stack([item.image for item in inputs]).transpose(0, 3, 1, 2).astype(np.float32)
        batch /= np.float32(255)
        views = self._views(batch)[:, :, 0]
        for place, item in enumerate(inputs):
            prob = imaging.restore_prob(views[:, place].mean(axis=0), item.height, item.width)
            yield Prediction(imaging.to_mask(prob, self.card.threshold), prob, self.model)

    def _views(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of every view, turned back: [1 or 4, n, 1, s, s]."""
        flips: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3)) if self.tta else ((),)
        return np.stack(
            [np.flip(self.backend(np.ascontiguousarray(np.flip(batch, axes))), axes) for axes in flips]
        )


@dataclass(frozen=True, eq=False)
class _Input:
    image: UInt8Array
    height: int
    width: int


def write_outputs(
    folder: Path,
    predictions: Iterable[tuple[Path, Prediction | DataError]],
    *,
    total: int | None = None,
    progress: bool = True,
) -> Iterator[dict[str, Any] | DataError]:
    """Write ``NAME_mask.png`` (0/255), ``NAME_overlay.png`` and ``predictions.jsonl``; answer each line.

    Two inputs of one name get ``NAME``, ``NAME-2`` …: nothing is overwritten within a call; what an earlier
    call left in the folder is.

    Args:
        folder: Made where it is missing; not one that inputs lie in, whose masks would be overwritten.
        predictions: What `Predictor.predict_many` yields.
        total: How many will come, for the progress bar.
        progress: Show it.

    Yields:
        Per image the line of JSON, with ``path``, ``mask`` and ``overlay``, or the error that it met.

    Raises:
        UsageError: An input lies in ``folder``.
    """
    taken: set[str] = set()
    with (
        atomic_path(folder / LINES) as temporary,
        temporary.open("w", encoding="utf-8") as lines,
    ):
        for path, prediction in tqdm(
            predictions, total=total, unit="image", disable=not progress, leave=False
        ):
            try:
                line = _written(folder, path, prediction, taken)
            except DataError as error:
                yield error
            else:
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                yield line


def _written(folder: Path, path: Path, prediction: Prediction | DataError, taken: set[str]) -> dict[str, Any]:
    if isinstance(prediction, DataError):
        raise prediction
    if path.resolve().parent == folder.resolve():
        raise UsageError(
            f"{path} lies in {folder}, where the results are to go.",
            "a folder of their own for the results, so that no file of yours is overwritten",
            "Choose another --out.",
        )
    picture = imaging.overlay(imaging.read_image(path), [(prediction.mask, OUTLINE)])
    name = _free_name(path.stem, taken)
    mask_path, overlay_path = folder / f"{name}_mask.png", folder / f"{name}_overlay.png"
    imaging.write_png(mask_path, prediction.mask)
    imaging.write_png(overlay_path, picture)
    return {"path": str(path), "mask": str(mask_path), "overlay": str(overlay_path), **prediction.to_json()}


def _free_name(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.lower())  # some file systems do not tell a from A
    return name
