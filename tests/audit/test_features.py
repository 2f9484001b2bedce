"""Fingerprints and what comparing two of them says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dermdistill.audit.features import SIDE, Fingerprint, fingerprint, root_sift
from dermdistill.audit.matching import LEAST_INLIERS, LEAST_SPREAD, Match, match
from dermdistill.audit.pairs import level_of
from pictures import compressed, phantom, photographed_again


def of(picture: Image.Image, aspect: float = 1.0) -> Fingerprint:
    return fingerprint(np.asarray(picture.convert("RGB").resize((SIDE, SIDE))), aspect)


def test_a_mirrored_fingerprint_is_the_mirrored_pictures() -> None:
    picture = phantom(0)
    guessed, real = of(picture).mirrored(), of(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    np.testing.assert_array_equal(guessed.grey, real.grey)
    distance = np.hypot(*(guessed.points[:, None, :2] - real.points[None, :, :2]).transpose(2, 0, 1))
    turned = np.abs((guessed.points[:, None, 3] - real.points[None, :, 3] + 180) % 360 - 180)
    same = (distance < 1.2) & (turned < 10)  # OpenCV doubles the image first, a fraction of a pixel off
    i, j = np.nonzero(same)
    assert len(set(i)) > 0.85 * len(guessed.points)
    alike = (root_sift(guessed.descriptors[i]) * root_sift(real.descriptors[j])).sum(axis=1)
    assert np.median(alike) > 0.98


def test_mirroring_twice_changes_nothing() -> None:
    once = of(phantom(1), 1.5)
    twice = once.mirrored().mirrored()
    np.testing.assert_array_equal(twice.descriptors, once.descriptors)
    np.testing.assert_allclose(twice.points, once.points, atol=1e-3)
    np.testing.assert_array_equal(twice.grey, once.grey)


@pytest.mark.parametrize(
    ("aspect", "shape"), [(1.0, (128, 128)), (1.5, (85, 128)), (0.5, (128, 64)), (90, (32, 128))]
)
def test_features_are_found_at_the_photographs_proportions(aspect: float, shape: tuple[int, int]) -> None:
    found = of(phantom(2), aspect)
    assert found.grey.shape == shape
    assert found.points[:, 0].max() < 2 * shape[1]
    assert found.points[:, 1].max() < 2 * shape[0]


def test_a_picture_of_nothing_has_no_features_and_matches_nothing() -> None:
    nothing = of(Image.new("RGB", (64, 64), (200, 150, 140)))
    assert nothing.descriptors.shape == (0, 128)
    assert nothing.points.shape == (0, 4)
    assert match(nothing, of(phantom(0))).inliers == 0
    assert match(nothing, nothing).transform is None


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        fingerprint(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda p: compressed(p, 30),
        lambda p: p.resize((128, 128), Image.Resampling.BOX),
        lambda p: p.crop((10, 20, 236, 246)),
        lambda p: p.transpose(Image.Transpose.ROTATE_90),
        lambda p: p.transpose(Image.Transpose.ROTATE_180),
        photographed_again,
    ],
    ids=["jpeg", "smaller", "cropped", "turned", "upside-down", "photographed-again"],
)
def test_changed_pictures_are_recognised(index: int, change) -> None:
    picture = phantom(index)
    found = match(of(picture), of(change(picture)))
    assert found.inliers >= LEAST_INLIERS
    assert level_of(found) is not None


def test_a_mirrored_picture_is_recognised_as_one() -> None:
    picture = phantom(3)
    mirrored = of(picture.transpose(Image.Transpose.TRANSPOSE))
    assert level_of(match(of(picture), mirrored)) is None
    assert level_of(match(of(picture).mirrored(), mirrored)) == "near-duplicate"


def test_the_map_is_the_one_that_was_applied() -> None:
    picture = phantom(3)
    found = match(of(picture), of(picture.crop((32, 16, 224, 208))))
    zoom = 256 / 192
    assert found.transform is not None
    np.testing.assert_allclose(found.transform, [[zoom, 0, -32 * zoom], [0, zoom, -16 * zoom]], atol=0.7)
    assert found.overlap == pytest.approx((192 / 256) ** 2, abs=0.03)
    assert found.correlation > 0.9


def test_different_lesions_are_not_taken_for_one() -> None:
    prints = [of(phantom(index)) for index in range(8)]
    for i, a in enumerate(prints):
        for b in prints[i + 1 :]:
            assert level_of(match(a, b)) is None
            assert level_of(match(a.mirrored(), b)) is None


def test_a_ruler_alone_is_no_evidence() -> None:
    on_a_line = Match(
        inliers=40, spread=LEAST_SPREAD / 2, correlation=0.95, overlap=1.0, transform=np.eye(2, 3)
    )
    assert level_of(on_a_line) is None


def test_the_pair_that_two_challenges_share(real_data) -> None:
    folder = real_data / "isic2017-256" / "images"
    one, other, third = (
        of(Image.open(folder / f"{name}.jpg")) for name in ("ISIC_0014846", "ISIC_0000222", "ISIC_0000223")
    )
    found = match(one, other)
    assert found.inliers > 100
    assert level_of(found) == "near-duplicate"
    assert level_of(match(one, third)) is None
