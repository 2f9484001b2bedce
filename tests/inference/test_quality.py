"""Each warning is given for its fault and not for clean pictures; so on real images, where present."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_csv
from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.inference import input_checks
from dermdistill.inference.input_checks import (
    InputChecks,
    fit_from_checks,
    mask_statistics,
    picture_statistics,
)
from dermdistill.inference.reference_statistics import (
    FEATURES,
    SIDE,
    Picture,
    distance,
    features,
    fit_reference,
)


def disc(radius: float, x: float = 0.5, y: float = 0.5, size: int = 128) -> np.ndarray:
    """A probability that is high inside a circle (in shares of the side)."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    away = np.hypot(columns - x, rows - y)
    return (1 / (1 + np.exp((away - radius) * 60))).astype(np.float32)


def look(image: np.ndarray | None = None, prob: np.ndarray | None = None) -> InputChecks:
    return InputChecks(picture() if image is None else image, disc(0.25) if prob is None else prob, None)


def picture() -> np.ndarray:
    """A phantom of light skin."""
    return make_phantom(3, 4, SIDE).image


def codes(found: InputChecks) -> list[str]:
    return [warning.code for warning in found.warnings(0.5)]


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def exposed(image: np.ndarray, gain: float) -> np.ndarray:
    return (image * np.float32(gain)).clip(0, 255).astype(np.uint8)


def test_a_clean_phantom_gives_no_warning_and_each_fault_its_own() -> None:
    assert codes(look()) == []
    assert codes(look(blurred(picture(), 3))) == ["blur"]
    assert "underexposed" in codes(look(exposed(picture(), 0.4)))
    assert "overexposed" in codes(look(exposed(picture(), 2.5)))
    assert codes(look(prob=np.full((64, 64), 0.2, np.float32))) == ["no_lesion"]
    assert codes(look(prob=disc(0.01))) == ["no_lesion"]
    assert codes(look(prob=np.maximum(disc(0.2, 0.3, 0.3), disc(0.1, 0.75, 0.75)))) == ["several_lesions"]
    assert codes(look(prob=disc(0.3, x=0.9))) == ["cut_by_border"]


def test_a_warning_says_what_was_measured_and_the_limit() -> None:
    (warning,) = look(prob=disc(0.3, x=0.9)).warnings(0.5)
    told = warning.to_json()
    assert set(told) == {"code", "message", "value", "limit"}
    assert told["limit"] == input_checks.CONTACT_HIGH < told["value"] < 1
    assert look().not_checked == ("not_dermoscopy",)


def test_statistics_are_what_they_say() -> None:
    grey = np.full((SIDE, SIDE, 3), 102, np.uint8)
    grey[:64] = 255
    found = picture_statistics(grey)
    assert found["brightness"] == pytest.approx(1)
    assert found["glare"] == 0.25
    assert picture_statistics(blurred(picture(), 2))["sharpness"] < picture_statistics(picture())["sharpness"]
    half = np.zeros((100, 100), np.float32)
    half[:, 80:] = 1
    found = mask_statistics(half, 0.5)
    assert found["area"] == pytest.approx(0.2, abs=1e-3)
    assert found["second"] == 0
    assert found["contact"] == pytest.approx((100 + 20 + 20) / 240, abs=0.01)
    half[40:60, 10:20] = 1
    assert mask_statistics(half, 0.5)["second"] == pytest.approx(0.1, rel=0.01)


@pytest.fixture(scope="module")
def phantoms() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures with soft masks, as a network would answer."""
    found = []
    for index in range(56):
        phantom = make_phantom(11, index, SIDE)
        soft = Image.fromarray(phantom.mask * np.uint8(255)).resize((64, 64), Image.Resampling.BOX)
        found.append((phantom.image, np.asarray(soft, dtype=np.float32) / 255))
    return found


def test_strangers_are_far_and_phantoms_are_near(phantoms: list[tuple[np.ndarray, np.ndarray]]) -> None:
    reference = fit_from_checks([InputChecks(*each, None) for each in phantoms[:50]], 0.5)
    assert reference["images"] == 50
    assert reference["features"] == list(FEATURES)
    near = [distance(features(Picture(image), prob), reference) for image, prob in phantoms[50:]]
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    strangers = {
        "noise": rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8),
        "green": np.broadcast_to(np.array([20, 200, 40], np.uint8), (SIDE, SIDE, 3)),
        "stripes": np.repeat(((columns // 9 % 2) * 255).astype(np.uint8)[..., None], 3, axis=2),
        "gradient": np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8),
    }
    for name, image in strangers.items():
        away = distance(features(Picture(image), disc(0.2)), reference)
        assert away > 2 * max(near), name
        found = InputChecks(image, disc(0.2), reference)
        assert "not_dermoscopy" in codes(found), name
        assert found.not_checked == ()
    assert sum(value > reference["limit"] for value in near) <= 1


def test_the_distance_is_mahalanobis_and_the_limit_a_quantile() -> None:
    from scipy.spatial.distance import mahalanobis

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(len(FEATURES), len(FEATURES)))
    table = rng.normal(size=(4000, len(FEATURES))) @ mixing
    reference = fit_reference(table, np.linspace(0, 1, 4001), 0.03)
    assert reference["second_limit"] == pytest.approx(0.98, abs=1e-3)
    expected = [mahalanobis(row, reference["mean"], np.array(reference["precision"])) for row in table[:9]]
    np.testing.assert_allclose([distance(row, reference) for row in table[:9]], expected)
    fresh = rng.normal(size=(4000, len(FEATURES))) @ mixing
    beyond = np.mean([distance(row, reference) > reference["limit"] for row in fresh])
    assert beyond == pytest.approx(0.02, abs=0.008)


def test_a_reference_of_other_features_is_refused() -> None:
    reference = fit_reference(np.random.default_rng(0).normal(size=(60, len(FEATURES))), [0.0], 0.03)
    with pytest.raises(DataError, match="reference is of the features"):
        distance(np.zeros(len(FEATURES)), {**reference, "features": ["hue"]})
    with pytest.raises(DataError, match="reference is of the features"):
        distance(np.zeros(len(FEATURES)), {})


def test_real_images_seldom_warn_and_spoilt_ones_mostly_do(real_data: Path) -> None:
    folder = real_data / "isic2017-256"
    rows = [row for row in read_csv(folder / "manifest.csv") if row["isic2016_split"] == "train"][::15]
    images = [np.asarray(Image.open(folder / "images" / f"{row['image_id']}.jpg")) for row in rows]
    assert len(images) >= 40
    clean = look(prob=disc(0.25))

    def share(code: str, pictures: list[np.ndarray]) -> float:
        return float(np.mean([code in codes(dataclasses.replace(clean, image=image)) for image in pictures]))

    for code, spoilt in (
        ("blur", [blurred(image, 3) for image in images]),
        ("underexposed", [exposed(image, 0.5) for image in images]),
        ("overexposed", [exposed(image, 2.5) for image in images]),
    ):
        assert share(code, images) <= 0.08, code
        assert share(code, spoilt) >= 0.9, code
