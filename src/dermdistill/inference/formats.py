"""Predictions in the formats of other tools: GeoJSON (QuPath, GIS), COCO (annotation tools), CSV (tables).

Coordinates are pixels of the native image, x to the right, y down, from its upper left corner: the first
pixel covers [0, 1] × [0, 1] and its centre is (0.5, 0.5). GeoJSON means degrees by default; tools for images
take its coordinates as pixels, and so are they meant here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.imaging import UInt8Array
from dermdistill.imaging.contours import Float64Array, Polygon
from dermdistill.inference.prediction import Prediction

_DIGITS = 2  # of a coordinate: a hundredth of a pixel

NUMBERS = (
    "area_fraction", "confidence", "uncertainty", "mm_per_pixel", "regions", "area_px", "perimeter_px",
    "longest_diameter_px", "compactness", "solidity", "asymmetry", "asymmetry_major", "asymmetry_minor",
    "area_mm2", "perimeter_mm", "longest_diameter_mm",
)  # fmt: skip
COLUMNS = ["path", "width", "height", "threshold", *NUMBERS, "warnings", "weights_sha256"]
"""Of the table; a cell is empty where a value does not exist."""


def geojson(prediction: Prediction, image: str, mm_per_pixel: float | None = None) -> dict[str, Any]:
    """A FeatureCollection (RFC 7946) with one Polygon per region, the largest first.

    Args:
        prediction: Of one image.
        image: Its name, written into the collection (see `relative_name`).
        mm_per_pixel: Side of a pixel, where the image does not say it; with it each region also gets
            ``area_mm2``.
    """
    features = []
    scale = prediction.scale(mm_per_pixel)
    for number, polygon in enumerate(prediction.polygons, start=1):
        rings = [polygon.exterior, *polygon.holes]
        properties: dict[str, Any] = {
            "classification": {"name": "lesion"}, "region": number, "area_px": round(polygon.area, _DIGITS),
        }  # fmt: skip
        if scale is not None:
            properties["area_mm2"] = round(polygon.area * scale**2, 4)
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [_rounded(ring) for ring in rings]},
                "properties": properties,
            }
        )
    about = {"name": image, "width": prediction.width, "height": prediction.height, "unit": "pixel"}
    return {"type": "FeatureCollection", "features": features, "image": about}


def coco_image(prediction: Prediction, image: str) -> dict[str, Any]:
    """One image of a COCO file and its annotations, without their numbers.

    One annotation per region: its outline as a polygon; a region with holes, which COCO's polygons cannot
    have, as an uncompressed run-length code of its pixels. ``score`` is the image's confidence.
    """
    annotations = []
    for polygon in prediction.polygons:
        low, high = polygon.exterior.min(axis=0), polygon.exterior.max(axis=0)
        annotations.append(
            {
                "category_id": 1,
                "segmentation": _segmentation(polygon, prediction.mask),
                "area": round(polygon.area, _DIGITS),
                "bbox": [round(float(v), _DIGITS) for v in (*low, *(high - low))],
                "iscrowd": 0,
                "score": round(prediction.confidence, 6),
            }
        )
    about = {"file_name": image, "width": prediction.width, "height": prediction.height}
    return {"image": about, "annotations": annotations}


def coco(images: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A COCO file (object detection and instance segmentation) of what `coco_image` made."""
    abouts: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        abouts.append({"id": number, **image["image"]})
        for annotation in image["annotations"]:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
    return {
        "info": {"description": "dermdistill predictions; coordinates in pixels. Not a medical device."},
        "licenses": [],
        "images": abouts,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "lesion", "supercategory": "skin"}],
    }


def find_common_folder(paths: Iterable[Path]) -> Path | None:
    """Find the deepest folder that all files lie in, at any depth.

    Args:
        paths: Files, absolute or relative to the working folder; they need not be there.

    Returns:
        An absolute path; None without files, or where they lie on different drives.
    """
    folder: str | None = None
    for path in paths:
        parent = os.path.abspath(path.parent)  # noqa: PTH100 (links stay links, as in the paths given)
        try:
            folder = parent if folder is None else os.path.commonpath([folder, parent])
        except ValueError:
            return None
    return None if folder is None else Path(folder)


def relative_name(path: Path, folder: Path | None) -> str:
    """Name an image so that equal file names in two folders can be told apart.

    Args:
        path: The image file.
        folder: As `find_common_folder` returns it.

    Returns:
        The path below the folder, with forward slashes; the file's name alone where there is no folder.
    """
    if folder is None:
        return path.name
    return Path(os.path.relpath(path, folder)).as_posix()


def row(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of JSON as a row of the table (its columns are COLUMNS); warnings joined by spaces."""
    values = {**line, **line["measures"], **line["model"]}
    values["warnings"] = " ".join(warning["code"] for warning in line["warnings"])
    return {name: "" if (value := values.get(name)) is None else value for name in COLUMNS}


def _rounded(ring: Float64Array) -> list[list[float]]:
    points: list[list[float]] = np.round(ring, _DIGITS).tolist()
    return points


def _segmentation(polygon: Polygon, mask: UInt8Array) -> list[list[float]] | dict[str, Any]:
    if not polygon.holes:
        return [[value for point in _rounded(polygon.exterior[:-1]) for value in point]]
    return {"size": list(mask.shape), "counts": run_lengths(_pixels(polygon, mask))}


def _pixels(polygon: Polygon, mask: UInt8Array) -> UInt8Array:
    """The mask's pixels in one region, {0, 1} uint8 [h, w]: those whose centres its rings go around.

    Inside is where an odd number of ring lines lies to the left (even-odd rule over all rings).
    """
    height, width = mask.shape
    turns = np.zeros((height, width + 1), np.uint8)
    for ring in (polygon.exterior, *polygon.holes):
        for (x0, y0), (x1, y1) in zip(ring[:-1].tolist(), ring[1:].tolist(), strict=True):
            low, high = sorted((y0, y1))
            rows = np.arange(int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5)))
            if rows.size:
                x = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
                columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
                turns[rows, columns] ^= 1  # each row once per line
    inside: UInt8Array = np.bitwise_xor.accumulate(turns, axis=1)[:, :-1]
    return inside


def run_lengths(mask: UInt8Array) -> list[int]:
    """COCO's uncompressed code: lengths of runs down the columns, the first of zeros."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs: list[int] = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *runs] if flat.size and flat[0] else runs
