"""GeoJSON, COCO and tables, read back by tools that know nothing of ours."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from PIL import Image, ImageDraw

from dermdistill.inference import formats
from dermdistill.inference.input_checks import InputChecks
from dermdistill.inference.prediction import Prediction


def field() -> np.ndarray:
    """A ring, a dot in its hole, a lesion at the border: float32 [120, 180]."""
    rows, columns = np.mgrid[:120, :180] + 0.5

    def disc(y: float, x: float, r: float) -> np.ndarray:
        return np.clip(0.5 + (r - np.hypot(rows - y, columns - x)) / 4, 0, 1)

    ring = np.minimum(disc(60, 60, 45), 1 - disc(60, 60, 25))
    return np.maximum.reduce([ring, disc(60, 60, 12), disc(30, 180, 20)]).astype(np.float32)


def prediction(prob: np.ndarray, threshold: float = 0.5) -> Prediction:
    checks = InputChecks(np.full((256, 256, 3), 200, np.uint8), prob, None)
    return Prediction(*prob.shape, {"recipe": "r", "weights_sha256": "ab"}, threshold, checks)


def iou(one: np.ndarray, two: np.ndarray) -> float:
    one, two = one.astype(bool), two.astype(bool)
    return float((one & two).sum() / (one | two).sum())


def test_geojson_is_valid_and_is_the_mask() -> None:
    found = prediction(field())
    collection = json.loads(json.dumps(formats.geojson(found, "a.png", 0.5), allow_nan=False))
    assert collection["type"] == "FeatureCollection"
    assert collection["image"] == {"name": "a.png", "width": 180, "height": 120, "unit": "pixel"}
    zoom = 8  # Pillow fills whole pixels: finer ones, so that its rounding does not count
    canvas = Image.new("L", (180 * zoom, 120 * zoom))
    draw = ImageDraw.Draw(canvas)
    for feature in collection["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert shape.exterior.is_ccw
        assert not any(hole.is_ccw for hole in shape.interiors)
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
        assert feature["properties"]["area_px"] == pytest.approx(shape.area, rel=1e-3)
        assert feature["properties"]["area_mm2"] == pytest.approx(shape.area / 4, rel=1e-3)
        for value, ring in zip((1, 0, 0), feature["geometry"]["coordinates"], strict=False):
            draw.polygon([(x * zoom, y * zoom) for x, y in ring], fill=value)
    assert [len(f["geometry"]["coordinates"]) for f in collection["features"]] == [2, 1, 1]
    assert iou(np.asarray(canvas)[zoom // 2 :: zoom, zoom // 2 :: zoom], found.mask) > 0.99


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools' own, with NumPy 2
def test_coco_is_the_mask_for_pycocotools() -> None:
    from pycocotools.coco import COCO

    masks = {"a.png": prediction(field()), "b.png": prediction(field()[:, ::-1], 0.3),
             "none.png": prediction(np.zeros((40, 50), np.float32))}  # fmt: skip
    collected = formats.coco(formats.coco_image(each, name) for name, each in masks.items())
    coco = COCO()
    coco.dataset = json.loads(json.dumps(collected, allow_nan=False))
    coco.createIndex()
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == list(masks)
    for image in coco.loadImgs(coco.getImgIds()):
        found = masks[image["file_name"]]
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(found.polygons)
        drawn = np.zeros_like(found.mask)
        for annotation in annotations:
            part = coco.annToMask(annotation)
            drawn |= part
            assert annotation["area"] == pytest.approx(part.sum(), rel=0.03)
            rows, columns = np.nonzero(part)
            x, y, width, height = annotation["bbox"]
            assert (x, y) == pytest.approx((columns.min(), rows.min()), abs=1)
            assert (width, height) == pytest.approx((np.ptp(columns) + 1, np.ptp(rows) + 1), abs=1.5)
        if drawn.any():
            assert iou(drawn, found.mask) > 0.98  # pycocotools rounds polygons to whole pixels
        exact = [coco.annToMask(a) for a in annotations if isinstance(a["segmentation"], dict)]
        if exact:
            rows, columns = np.mgrid[:120, :180] + 0.5
            ring = shapely.Polygon(found.polygons[0].exterior, found.polygons[0].holes)
            assert np.array_equal(exact[0].astype(bool), shapely.contains_xy(ring, columns, rows))


def test_a_row_has_every_column_and_is_empty_where_nothing_is_known() -> None:
    line = {"path": "a.png", **prediction(field()).to_json()}
    found = formats.row(line)
    assert list(found) == formats.COLUMNS
    assert found["regions"] == 3
    assert found["area_mm2"] == found["uncertainty"] == ""
    assert "several_lesions" in found["warnings"].split()
    assert formats.row({"path": "a.png", **prediction(field()).to_json(0.1)})["area_mm2"] > 0
    empty = formats.row({"path": "b.png", **prediction(np.zeros((9, 9), np.float32)).to_json()})
    assert empty["regions"] == 0
    assert empty["compactness"] == ""


def test_another_threshold_changes_all_that_depends_on_it() -> None:
    first = prediction(field())
    second = first.at(0.9)
    assert second.area_fraction < first.area_fraction
    assert second.polygons[0].area < first.polygons[0].area
    assert second.threshold == 0.9
    assert first.at(0.5).polygons[0].area == first.polygons[0].area
    assert [w.code for w in prediction(field() * 0.4).at(0.5).warnings if w.code == "no_lesion"] == [
        "no_lesion"
    ]
