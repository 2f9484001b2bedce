"""The strata's raw values: colours against kornia, painted pictures, real hairs; and their levels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dermdistill.evaluation.image_difficulty import (
    measure,
    srgb_to_lab,
    surrounding_skin,
    thin_and_dark,
    typology_angle,
)
from dermdistill.evaluation.per_image import PerImage
from dermdistill.evaluation.subgroups import ABSENT, NOT_KNOWN, SUBGROUPS, by_subgroup, split_by
from dermdistill.imaging import read_image, read_mask

HAIRY = ["ISIC_0000229", "ISIC_0000074", "ISIC_0000214", "ISIC_0000042"]
BARE = ["ISIC_0000008", "ISIC_0000016", "ISIC_0000082", "ISIC_0000089"]
SKIN, LESION = (224, 178, 150), (96, 60, 44)


def painted(
    side: int = 128, radius: float = 25, center: tuple[float, float] = (64, 64)
) -> tuple[np.ndarray, ...]:
    y, x = np.mgrid[:side, :side]
    mask = (np.hypot(y - center[0], x - center[1]) < radius).astype(np.uint8)
    image = np.where(mask[..., None] > 0, LESION, SKIN).astype(np.uint8)
    return image, mask


def test_lab_equals_kornia() -> None:
    import torch
    from kornia.color import rgb_to_lab

    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    expected = rgb_to_lab(torch.from_numpy(image).permute(2, 0, 1).float() / 255).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(srgb_to_lab(image), expected, atol=0.05)


def test_a_painted_lesion_is_measured() -> None:
    image, mask = painted()
    found = measure(image, mask)
    lab = srgb_to_lab(np.array([[SKIN, LESION]], np.uint8))[0]
    assert found.lesion_fraction == pytest.approx(mask.mean())
    assert found.contrast == pytest.approx(float(np.linalg.norm(lab[0] - lab[1])), rel=1e-4)
    assert found.ita == pytest.approx(math.degrees(math.atan((lab[0][0] - 50) / lab[0][2])), rel=1e-4)
    assert found.hair == 0
    assert found.border == 0


def test_hairs_raise_hair_and_hardly_move_the_rest() -> None:
    image, mask = painted()
    plain = measure(image, mask)
    for column in (10, 30, 100, 118):
        image[:, column : column + 2] = (40, 30, 25)
    hairy = measure(image, mask)
    assert hairy.hair == pytest.approx(8 * 128 / (1 - mask.mean()) / 128**2, rel=0.3)
    assert hairy.ita == pytest.approx(plain.ita, abs=1)
    assert hairy.contrast == pytest.approx(plain.contrast, abs=1)


def test_a_black_surround_is_neither_skin_nor_hair() -> None:
    image, mask = painted()
    y, x = np.mgrid[:128, :128]
    plain = measure(image, mask)
    image[np.hypot(y - 64, x - 64) > 50] = 3
    found = measure(image, mask)
    assert found.ita == pytest.approx(plain.ita, abs=0.5)
    assert found.hair < 0.002
    assert not thin_and_dark(np.zeros((40, 40), np.float32)).any()


def test_a_lesion_cut_by_the_border() -> None:
    image, mask = painted(center=(0, 64))
    found = measure(image, mask)
    assert found.border == pytest.approx(mask[0].sum() / (4 * 127))


def test_what_cannot_be_measured_is_nan() -> None:
    image, mask = painted()
    full = measure(image, np.ones_like(mask))
    assert math.isnan(full.ita)
    assert math.isnan(full.contrast)
    assert math.isnan(full.hair)
    empty = measure(image, np.zeros_like(mask))
    assert math.isnan(empty.contrast)
    assert not math.isnan(empty.ita)
    blue = image.copy()
    blue[...] = (150, 170, 220)
    assert math.isnan(measure(blue, mask).ita)
    assert surrounding_skin(np.zeros((5, 5), bool)).all()


def test_typology_angles_follow_the_skin() -> None:
    tones = [(245, 215, 195), (230, 185, 150), (200, 150, 110), (150, 100, 65), (80, 50, 32)]
    angles = [
        typology_angle(*srgb_to_lab(np.array([[tone]], np.uint8))[0, 0][[0, 2]].tolist()) for tone in tones
    ]
    assert angles == sorted(angles, reverse=True)
    assert angles[0] > 55
    assert angles[-1] < -30


def test_real_hairs_are_told_from_none(real_data: Path) -> None:
    """Chosen by eye among training images: dense dark hair, and bare skin."""
    folder = real_data / "isic2017-256"

    def hair(name: str) -> float:
        image = read_image(folder / "images" / f"{name}.jpg")
        return measure(image, read_mask(folder / "masks" / f"{name}.png")[0]).hair

    assert min(hair(name) for name in HAIRY) > 0.05
    assert max(hair(name) for name in BARE) < 0.01


@pytest.mark.parametrize(
    ("name", "value", "level"),
    [
        ("diagnosis", "melanoma", "melanoma"),
        ("diagnosis", "", NOT_KNOWN),
        ("lesion_size", "0.0999", "small (below 10 %)"),
        ("lesion_size", "0.1", "medium (10–30 %)"),
        ("lesion_size", "0.95", "large (30 % and more)"),
        ("contrast", "", ABSENT),
        ("skin_tone", "-31", "dark (below −30°)"),
        ("skin_tone", "70", "very light (55° and more)"),
        ("hair", "0.02", "some (1–3 %)"),
        ("border", "0.000000", "inside the picture"),
        ("border", "0.001", "cut by the border"),
    ],
)
def test_levels(name: str, value: str, level: str) -> None:
    (subgroup,) = [s for s in SUBGROUPS if s.name == name]
    assert subgroup.level(value) == level
    if subgroup.cuts and value:
        assert subgroup.level(float(value)) == level


def test_groups_are_in_order_and_hold_every_image_once() -> None:
    (subgroup,) = [s for s in SUBGROUPS if s.name == "contrast"]
    images = PerImage(list("abcde"), {"contrast": np.array([50, np.nan, 10, 30, 45])})
    found = [(level, indices.tolist()) for level, indices in split_by(subgroup, images)]
    assert found == [
        ("low (ΔE below 20)", [2]),
        ("medium (20–40)", [3]),
        ("high (40 and more)", [0, 4]),
        (ABSENT, [1]),
    ]


def test_scores_by_subgroup_are_those_of_its_images() -> None:
    images = PerImage(
        list("abcd"), {"border": np.array([0, 0.1, 0, 0.2])}, {"diagnosis": ["n", "m", "n", ""]}
    )
    dice = np.array([0.9, 0.5, 0.7, 0.6])
    found = by_subgroup(images, {"dice": dice})
    assert set(found) == {subgroup.name for subgroup in SUBGROUPS if not subgroup.optional}
    levels = [(one["level"], one["n"], one["dice"]["mean"]) for one in found["border"]["levels"]]
    assert levels == [
        ("inside the picture", 2, pytest.approx(0.8)),
        ("cut by the border", 2, pytest.approx(0.55)),
    ]
    assert [(one["level"], one["n"]) for one in found["diagnosis"]["levels"]] == [
        ("m", 1),
        ("n", 2),
        (NOT_KNOWN, 1),
    ]
    assert found["hair"]["levels"][0]["level"] == ABSENT  # a column that is not there
    assert all(one["small"] for one in found["border"]["levels"])
