"""The student that comes with the package: small, with its card, and good enough to be shipped."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dermdistill import imaging
from dermdistill.core.files import read_csv
from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.imaging.contours import polygons
from dermdistill.inference.backends import SHIPPED
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.predictor import Predictor
from dermdistill.metrics.overlap import count

FLOOR_REAL, FLOOR_PHANTOM = 0.85, 0.6
REAL_IMAGES = 24
REPOSITORY = Path(__file__).parents[2]


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    tp, fp, fn, _ = count(mask, truth)
    return 2 * tp / (2 * tp + fp + fn)


def test_it_is_small_and_says_what_it_is() -> None:
    assert SHIPPED.stat().st_size < 2_000_000
    card = OnnxBackend(SHIPPED).card
    assert card.role == "student"
    assert card.export is not None
    assert card.export["int8"]["dice_drop"]["n"] > 0
    assert any(name.startswith("test:") for name in card.scores)
    text = (SHIPPED.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    for told in ("Not a medical device", "Licence", card.weights_sha256, "95 % CI", "int8"):
        assert told in text


def test_it_finds_generated_lesions() -> None:
    predictor = Predictor(threads=1)
    phantoms = [make_phantom(5, index, 256) for index in range(12)]
    found = [dice(predictor(p.image).mask, p.mask) for p in phantoms]
    assert np.mean(found) > FLOOR_PHANTOM


def test_it_finds_real_lesions_of_the_test_split(real_data: Path) -> None:
    folder = real_data / "isic2017-256"
    rows = [row for row in read_csv(folder / "manifest.csv") if row["isic2016_split"] == "test"]
    predictor = Predictor(threads=1)
    found = []
    for row in rows[:: len(rows) // REAL_IMAGES][:REAL_IMAGES]:
        truth, _ = imaging.read_mask(folder / "masks" / f"{row['image_id']}.png")
        found.append(dice(predictor(folder / "images" / f"{row['image_id']}.jpg").mask, truth))
    assert np.mean(found) > FLOOR_REAL


def test_outlines_of_blurred_lesions_have_no_teeth() -> None:
    """Smoothing the probability hardly shortens an outline; a staircase would lose a fifth or more."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="the core is tested without scipy")
    predictor = Predictor(threads=1)
    ratios = []
    for index in range(8):
        blurred = Image.fromarray(make_phantom(5, index, 256).image).filter(ImageFilter.GaussianBlur(3))
        prob = predictor(np.asarray(blurred)).prob
        smooth = ndimage.gaussian_filter(prob, 2)
        outlines = [polygons(p.astype(np.float32)) for p in (prob, smooth)]
        if all(outlines):
            ratios.append(outlines[0][0].perimeter / outlines[1][0].perimeter)
    assert len(ratios) >= 4
    assert np.mean(ratios) < 1.1, ratios


@pytest.mark.slow
def test_the_wheel_carries_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "dermdistill/weights/MODEL_CARD.md" in names
        assert archive.read("dermdistill/weights/student.onnx") == SHIPPED.read_bytes()
