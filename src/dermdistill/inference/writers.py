"""Predictions as files: masks, overlays, probability maps, GeoJSON, COCO, tables, DICOM."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from dermdistill import imaging
from dermdistill.core.errors import UsageError
from dermdistill.core.files import to_json_line, write_text
from dermdistill.inference import dicom_results, formats
from dermdistill.inference.prediction import Prediction

Kind = Literal[
    "mask", "overlay", "probability", "uncertainty", "geojson", "coco", "csv", "dicom-seg", "dicom-sr"
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
DICOM_KINDS: tuple[Kind, ...] = ("dicom-seg", "dicom-sr")
DEFAULT_KINDS: tuple[Kind, ...] = ("mask", "overlay")
TABLE, COCO = "predictions.csv", "coco.json"
OUTLINE = (86, 180, 233)
FILES: dict[str, tuple[Kind, str]] = {
    "mask": ("mask", "_mask.png"),
    "overlay": ("overlay", "_overlay.jpg"),
    "probability_map": ("probability", "_probability.png"),
    "uncertainty_map": ("uncertainty", "_uncertainty.png"),
    "geojson": ("geojson", ".geojson"),
    "dicom_seg": ("dicom-seg", dicom_results.ENDINGS["dicom_seg"]),
    "dicom_seg_probability": ("dicom-seg", dicom_results.ENDINGS["dicom_seg_probability"]),
    "dicom_sr": ("dicom-sr", dicom_results.ENDINGS["dicom_sr"]),
}
"""Of each image, by the key in its line of JSON: the kind of output, and how the file's name ends."""


def read_kinds(text: str, *, views: bool = False) -> tuple[Kind, ...]:
    """Kinds of outputs from ``mask,overlay,…`` or ``all``.

    Args:
        text: Names, separated by commas; ``all`` is all but DICOM.
        views: Whether there are mirrored views: without them, ``all`` has no map of uncertainty.

    Raises:
        UsageError: There is no such kind.
        MissingExtraError: DICOM is asked for, and its extra is not installed.
    """
    kinds: list[Kind] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name == "all":
            left_out = DICOM_KINDS if views else (*DICOM_KINDS, "uncertainty")
            kinds += [kind for kind in KINDS if kind not in left_out]
        elif name in KINDS:
            kinds.append(KINDS[KINDS.index(name)])
        else:
            near = difflib.get_close_matches(name, KINDS, n=1)
            hint = f"Perhaps you meant {near[0]!r}." if near else "Choose some of these, with commas."
            raise UsageError(f"There is no output {name!r}.", f"of {', '.join(KINDS)}, or all", hint)
    if set(DICOM_KINDS) & set(kinds):
        dicom_results.check_installed()
    return tuple(dict.fromkeys(kinds))


@dataclass(frozen=True)
class OutputWriter:
    """Writes the files of one image after another into a folder; several threads may share it."""

    folder: Path
    outputs: Collection[Kind] = DEFAULT_KINDS
    mm_per_pixel: float | None = None
    """Side of a pixel in millimetres; None: unknown, but for what DICOM files say."""
    common_folder: Path | None = None
    """Where all images lie, at any depth: GeoJSON names them by their paths below it. None: by name alone."""

    def write(
        self, path: Path, name: str, prediction: Prediction, native: Image.Image | None = None
    ) -> dict[str, Any]:
        """Write one image's files, each of them atomically.

        Args:
            path: Of the image.
            name: What the files' names begin with.
            prediction: Of the image.
            native: The image at its native size, where it is at hand; it is drawn into.

        Returns:
            The line of JSON: ``path``, the files written, and the prediction's plain values.

        Raises:
            DataError: The image cannot be read any more, or cannot be the source of DICOM results.
            UsageError: A map of uncertainty is asked for where there is none.
        """
        # Before anything is written: the image may have gone since it was predicted.
        overlay = self._overlay(path, prediction, native) if "overlay" in self.outputs else b""
        line: dict[str, Any] = {"path": str(path)}
        if set(DICOM_KINDS) & set(self.outputs):
            line |= dicom_results.write_results(
                path, prediction, self.folder / name, "dicom-sr" in self.outputs, self.mm_per_pixel
            )
        for key, (kind, suffix) in FILES.items():
            if kind not in self.outputs or kind in DICOM_KINDS:
                continue
            file = self.folder / f"{name}{suffix}"
            line[key] = str(file)
            match kind:
                case "mask":
                    imaging.write_bytes(file, imaging.encode_png(prediction.mask))
                case "overlay":
                    imaging.write_bytes(file, overlay)
                case "probability":
                    _write_map(file, prediction.checks.prob, prediction, 1)
                case "uncertainty":
                    _write_map(file, _spread_of(prediction), prediction, 0.5)
                case "geojson":
                    image = formats.relative_name(path, self.common_folder)
                    write_compact(file, formats.geojson(prediction, image, self.mm_per_pixel))
        return {**line, **prediction.to_json(self.mm_per_pixel)}

    @staticmethod
    def _overlay(path: Path, prediction: Prediction, native: Image.Image | None) -> bytes:
        picture = imaging.open_picture(path).image if native is None else native
        draw_overlay(picture, prediction)
        return imaging.encode_jpeg(picture)


def draw_overlay(picture: Image.Image, prediction: Prediction) -> None:
    """Draw a prediction's outlines into its picture, which is RGB and has its native size."""
    rings = [ring for polygon in prediction.polygons for ring in (polygon.exterior, *polygon.holes)]
    imaging.draw_outlines(picture, rings, OUTLINE)


def write_compact(path: Path, value: Any) -> None:
    """JSON on one line, atomically: indented, each coordinate would take one."""
    write_text(path, to_json_line(value) + "\n")


def _spread_of(prediction: Prediction) -> imaging.Float32Array:
    if prediction.spread is None:
        raise UsageError(
            "A map of uncertainty needs several views of each image.", "predictions with tta", "Add --tta."
        )
    return prediction.spread


def _write_map(path: Path, values: imaging.Float32Array, prediction: Prediction, white: float) -> None:
    """Write a map [s, s] at the picture's native size, in grey levels."""
    grey = imaging.restore_grey(values, prediction.height, prediction.width, white)
    imaging.write_bytes(path, imaging.encode_png(grey, grey=True))
