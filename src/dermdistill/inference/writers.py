"""Predictions as files: masks, overlays, probability maps, GeoJSON, COCO, tables."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from dermdistill import imaging
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import atomic_path, write_text
from dermdistill.imaging.find import LINES
from dermdistill.inference import formats
from dermdistill.inference.prediction import Prediction
from dermdistill.inference.shape import check_scale

Kind = Literal["mask", "overlay", "probability", "uncertainty", "geojson", "coco", "csv"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_KINDS: tuple[Kind, ...] = ("mask", "overlay")
TABLE, COCO = "predictions.csv", "coco.json"
OUTLINE = (86, 180, 233)


def read_kinds(text: str, *, views: bool = False) -> tuple[Kind, ...]:
    """Kinds of outputs from ``mask,overlay,…`` or ``all``.

    Args:
        text: Names, separated by commas.
        views: Whether there are mirrored views: without them, ``all`` has no map of uncertainty.

    Raises:
        UsageError: There is no such kind.
    """
    kinds: list[Kind] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name == "all":
            kinds += [kind for kind in KINDS if views or kind != "uncertainty"]
        elif name in KINDS:
            kinds.append(KINDS[KINDS.index(name)])
        else:
            near = difflib.get_close_matches(name, KINDS, n=1)
            hint = f"Perhaps you meant {near[0]!r}." if near else "Choose some of these, with commas."
            raise UsageError(f"There is no output {name!r}.", f"of {', '.join(KINDS)}, or all", hint)
    return tuple(dict.fromkeys(kinds))


def write_outputs(
    folder: Path,
    predictions: Iterable[tuple[Path, Prediction | DataError]],
    *,
    outputs: Collection[Kind] = DEFAULT_KINDS,
    mm_per_pixel: float | None = None,
    total: int | None = None,
    progress: bool = True,
) -> Iterator[dict[str, Any] | DataError]:
    """Write what each image was answered; yield its line of JSON.

    Per image ``NAME_mask.png`` (0/255), ``NAME_overlay.jpg`` (the outline over the picture),
    ``NAME_probability.png`` (0 to 255 for 0 to 1), ``NAME_uncertainty.png`` (0 to 255 for a standard
    deviation of 0 to 0.5, which is the largest there can be), ``NAME.geojson``; per call ``coco.json``,
    ``predictions.csv`` and, always, ``predictions.jsonl``. Two inputs of one name get ``NAME``,
    ``NAME-2`` …: nothing is overwritten within a call; what an earlier call left in the folder is.

    Args:
        folder: Made where it is missing; not one that inputs lie in, whose masks would be overwritten.
        predictions: What `Predictor.predict_many` yields.
        outputs: Which of them.
        mm_per_pixel: Side of a pixel in millimetres; None: unknown.
        total: How many will come, for the progress bar.
        progress: Show it.

    Yields:
        Per image the line of JSON, with ``path`` and the files written (``mask``, ``overlay``,
        ``probability_map``, ``uncertainty_map``, ``geojson``), or the error that it met.

    Raises:
        UsageError: An input lies in ``folder``, the scale is impossible, or a map of uncertainty is asked for
            where there is none.
    """
    check_scale(mm_per_pixel)
    taken: set[str] = set()
    coco = formats.Coco()
    with ExitStack() as stack:
        lines = stack.enter_context(_new_text(stack, folder / LINES))
        table = None
        if "csv" in outputs:
            stream = stack.enter_context(_new_text(stack, folder / TABLE))
            table = csv.DictWriter(stream, formats.COLUMNS, lineterminator="\n")
            table.writeheader()
        for path, prediction in tqdm(
            predictions, total=total, unit="image", disable=not progress, leave=False
        ):
            try:
                line = _written(folder, path, prediction, taken, outputs, mm_per_pixel)
            except DataError as error:
                yield error
                continue
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            if table is not None:
                table.writerow(formats.row(line))
            if "coco" in outputs and isinstance(prediction, Prediction):
                coco.add(prediction, path.name)
            yield line
        if "coco" in outputs:
            _write_compact(folder / COCO, coco.to_json())


def _new_text(stack: ExitStack, path: Path) -> Any:
    """A text file that takes its place when all is done."""
    return stack.enter_context(atomic_path(path)).open("w", encoding="utf-8", newline="")


def _written(
    folder: Path,
    path: Path,
    prediction: Prediction | DataError,
    taken: set[str],
    outputs: Collection[Kind],
    mm_per_pixel: float | None,
) -> dict[str, Any]:
    if isinstance(prediction, DataError):
        raise prediction
    if path.resolve().parent == folder.resolve():
        raise UsageError(
            f"{path} lies in {folder}, where the results are to go.",
            "a folder of their own for the results, so that no file of yours is overwritten",
            "Choose another --out.",
        )
    # Before anything is written: the picture may have gone since it was predicted.
    drawn = None
    if "overlay" in outputs:
        drawn = imaging.overlay(imaging.read_image(path), [(prediction.mask, OUTLINE)])
    name = _free_name(path.stem, taken)
    line: dict[str, Any] = {"path": str(path)}

    def place(key: str, suffix: str) -> Path:
        line[key] = str(folder / f"{name}{suffix}")
        return Path(line[key])

    if "mask" in outputs:
        imaging.write_png(place("mask", "_mask.png"), prediction.mask)
    if drawn is not None:
        imaging.write_jpeg(place("overlay", "_overlay.jpg"), drawn)
    if "probability" in outputs:
        _write_map(place("probability_map", "_probability.png"), prediction.prob, 1)
    if "uncertainty" in outputs:
        if prediction.uncertainty_map is None:
            raise UsageError(
                "A map of uncertainty needs several views of each image.",
                "predictions with tta",
                "Add --tta.",
            )
        _write_map(place("uncertainty_map", "_uncertainty.png"), prediction.uncertainty_map, 0.5)
    if "geojson" in outputs:
        collection = formats.geojson(prediction, path.name, mm_per_pixel)
        _write_compact(place("geojson", ".geojson"), collection)
    return {**line, **prediction.to_json(mm_per_pixel)}


def _write_compact(path: Path, value: Any) -> None:
    """JSON on one line: indented, each coordinate would take one."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def _write_map(path: Path, values: imaging.Float32Array, most: float) -> None:
    imaging.write_png(path, (values * np.float32(255 / most)).round().astype(np.uint8), grey=True)


def _free_name(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.lower())  # some file systems do not tell a from A
    return name
