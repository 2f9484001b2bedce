from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dermdistill.core.errors import UsageError
from dermdistill.data.prepare.phantom import make_phantom, write_phantoms
from dermdistill.data.prepare.prepare import prepare_phantom
from smallfiles import split_sizes


def otsu(grey: np.ndarray) -> int:
    histogram = np.bincount(grey.ravel(), minlength=256).astype(float)
    weight, mass = histogram.cumsum(), (histogram * np.arange(256)).cumsum()
    between = (mass[-1] * weight / weight[-1] - mass) ** 2 / np.maximum(weight * (weight[-1] - weight), 1)
    return int(between.argmax())


def test_the_same_arguments_give_the_same_picture() -> None:
    one, same, other = make_phantom(3, 5, 64), make_phantom(3, 5, 64), make_phantom(3, 6, 64)
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.mask, same.mask)
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("size", [32, 64, 97])
def test_pictures_have_a_lesion_of_sensible_size(size: int) -> None:
    for index in range(12):
        phantom = make_phantom(0, index, size)
        assert phantom.image.shape == (size, size, 3)
        assert phantom.image.dtype == np.uint8
        assert set(np.unique(phantom.mask)) == {0, 1}
        assert 0.01 < phantom.mask.mean() < 0.9
        assert phantom.diagnosis in ("benign", "malignant")


def test_a_threshold_does_not_solve_them_and_lesions_can_be_seen() -> None:
    dice, contrast = [], []
    for index in range(60):
        phantom = make_phantom(0, index, 96)
        grey = phantom.image.mean(axis=-1).astype(np.uint8)
        dark, lesion = grey <= otsu(grey), phantom.mask > 0
        dice.append(2 * (dark & lesion).sum() / (dark.sum() + lesion.sum()))
        contrast.append(grey[~lesion].mean() - grey[lesion].mean())
    assert 0.3 < np.mean(dice) < 0.85
    assert np.median(contrast) > 8


def test_sizes_are_spread_like_those_of_real_lesions() -> None:
    share = np.array([make_phantom(0, index, 64).mask.mean() for index in range(300)])
    # 10, 25, 50, 75 and 90 % of the lesions of ISIC 2017 (manifest.csv) are smaller than:
    real = np.array([0.024, 0.050, 0.126, 0.284, 0.467])
    found = np.quantile(share, [0.10, 0.25, 0.50, 0.75, 0.90])
    assert np.abs(np.log(found / real)).max() < np.log(1.3)


def test_the_pictures_vary_as_dermoscopy_does() -> None:
    """Light and dark skin, round dark rims, benign and malignant, colours beyond brown."""
    phantoms = [make_phantom(0, index, 64) for index in range(80)]
    skin = np.array([np.median(p.image[p.mask == 0], axis=0) for p in phantoms])
    assert skin.mean(axis=1).min() < 110
    assert skin.mean(axis=1).max() > 180
    assert (skin[:, 0] > skin[:, 2]).mean() > 0.9  # skin is red before it is blue
    rims = np.mean([p.image[:3, :3].mean() < 40 for p in phantoms])
    assert 0.1 < rims < 0.7
    assert 0.15 < np.mean([p.diagnosis == "malignant" for p in phantoms]) < 0.45


def test_writing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write_phantoms(tmp_path, 2, 48, seed=1)
    first = tmp_path / "images" / "PHANTOM_00000.jpg"
    before = first.stat().st_mtime_ns
    write_phantoms(tmp_path, 3, 48, seed=1)
    assert first.stat().st_mtime_ns == before
    assert len(list((tmp_path / "masks").iterdir())) == 3
    assert (tmp_path / "phantoms.csv").read_text(encoding="utf-8").count("PHANTOM_") == 3


def test_phantoms(tmp_path: Path) -> None:
    data = prepare_phantom(tmp_path / "a", count=12, size=32, seed=3, progress=False)
    assert split_sizes(data) == [8, 2, 2]
    assert {row.diagnosis for row in data.manifest} <= {"benign", "malignant"}
    again = prepare_phantom(tmp_path / "b", count=12, size=32, seed=3, progress=False)
    assert again.fingerprint == data.fingerprint
    np.testing.assert_array_equal(again.images, data.images)
    assert (
        prepare_phantom(tmp_path / "c", count=12, size=32, seed=4, progress=False).fingerprint
        != data.fingerprint
    )
    assert split_sizes(prepare_phantom(tmp_path / "d", count=3, size=32, progress=False)) == [1, 1, 1]
    with pytest.raises(UsageError, match="at least 3"):
        prepare_phantom(tmp_path / "e", count=2, progress=False)
