"""From a photo to a mask: numpy and Pillow only; what computes the probabilities is the backend.

A backend is anything that answers probabilities for a batch (torch now; ONNX Runtime can take its place).
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill import imaging
from dermdistill.card import ModelCard
from dermdistill.errors import DataError, UsageError
from dermdistill.files import atomic_path
from dermdistill.imaging import Float32Array, UInt8Array

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
OUTLINE = (86, 180, 233)


class Backend(Protocol):
    """Answers probabilities."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n, 3, s, s], RGB in [0, 1] → float32 [n, 1, s, s], the probability of lesion."""
        ...


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
        card: Its card: input size and threshold.
        backend: What computes the probabilities.
    """

    def __init__(self, card: ModelCard, backend: Backend) -> None:
        self.card, self.backend = card, backend
        self.model = {"recipe": card.recipe, "weights_sha256": card.weights_sha256}

    def __call__(self, source: Path | str | bytes | UInt8Array) -> Prediction:
        """Segment one image: a path, the bytes of a file, or RGB uint8 [h, w, 3].

        Raises:
            DataError: It cannot be read.
        """
        return self._answer([self._read(source)])[0]

    def predict_many(
        self, paths: Iterable[Path], batch_size: int = 8
    ) -> Iterator[tuple[Path, Prediction | DataError]]:
        """Segment files; a broken one is answered by its error, and the others go on."""
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
        answers = iter(self._answer([item for _, item in waiting if not isinstance(item, DataError)]))
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

    def _answer(self, inputs: list[_Input]) -> list[Prediction]:
        if not inputs:
            return []
        batch = np.stack([item.image for item in inputs]).transpose(0, 3, 1, 2).astype(np.float32)
        batch /= np.float32(255)
        probs = self.backend(batch)
        answers = []
        for item, small in zip(inputs, probs[:, 0], strict=True):
            prob = imaging.restore_prob(small, item.height, item.width)
            answers.append(Prediction(imaging.to_mask(prob, self.card.threshold), prob, self.model))
        return answers


@dataclass(frozen=True, eq=False)
class _Input:
    image: UInt8Array
    height: int
    width: int


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Image files among files, folders (to any depth) and globs; each once, in natural order per argument.

    Raises:
        UsageError: A path or glob names nothing.
    """
    found: dict[Path, None] = {}
    for given in map(str, paths):
        path = Path(given)
        if path.is_dir():
            inside = [p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        elif path.exists():
            inside = [path]
        else:
            inside = [Path(p) for p in glob.glob(given, recursive=True) if Path(p).is_file()]  # noqa: PTH207
        if not inside:
            raise UsageError(
                f"{given} names no image.", f"a file, a folder or a glob ({', '.join(SUFFIXES)})"
            )
        found |= dict.fromkeys(sorted(inside, key=_natural))
    return list(found)


def write_outputs(
    folder: Path,
    predictions: Iterable[tuple[Path, Prediction | DataError]],
    *,
    total: int | None = None,
    progress: bool = True,
) -> Iterator[dict[str, Any] | DataError]:
    """Write ``NAME_mask.png`` (0/255), ``NAME_overlay.png`` and ``predictions.jsonl``; answer each line.

    Two inputs of one name get ``NAME``, ``NAME-2`` …: nothing is overwritten within a run.
    """
    taken: dict[str, int] = {}
    with (
        atomic_path(folder / "predictions.jsonl") as temporary,
        temporary.open("w", encoding="utf-8") as lines,
    ):
        for path, prediction in tqdm(
            predictions, total=total, unit="image", disable=not progress, leave=False
        ):
            if isinstance(prediction, DataError):
                yield prediction
                continue
            name = _free_name(path.stem, taken)
            mask_path, overlay_path = folder / f"{name}_mask.png", folder / f"{name}_overlay.png"
            imaging.write_png(mask_path, prediction.mask)
            image = imaging.read_image(path)
            imaging.write_png(overlay_path, imaging.overlay(image, [(prediction.mask, OUTLINE)]))
            line = {
                "path": str(path),
                "mask": str(mask_path),
                "overlay": str(overlay_path),
            } | prediction.to_json()
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            yield line


def _free_name(stem: str, taken: dict[str, int]) -> str:
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken[name.lower()] = 1
    return name


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """photo2 before photo10."""
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", str(path))]
