"""Outlines against analytic shapes and against shapely, which knows nothing of ours."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermdistill.imaging.contours import Polygon, contains, polygons, segments, signed_area


def test_segments_of_one_pixel_are_a_diamond() -> None:
    field = np.zeros((3, 3), np.float32)
    field[1, 1] = 1
    ends = {tuple(end) for segment in segments(field)[0].tolist() for end in segment}
    assert ends == {(0.5, 1.0), (1.0, 0.5), (1.5, 1.0), (1.0, 1.5)}
    assert len(segments(field)[0]) == 4


@pytest.mark.parametrize(("low", "joined"), [(0.4, True), (0.0, False)])
def test_a_saddle_is_joined_where_its_middle_is_inside(low: float, joined: bool) -> None:
    field = np.array([[1, low], [low, 1]], np.float32)
    lines, _ = segments(field)
    assert len(lines) == 2
    middles = lines.mean(axis=1)
    # Joined: the lines cut off the corners at the upper right and the lower left.
    assert bool((np.sign(middles[:, 0] - 0.5) != np.sign(middles[:, 1] - 0.5)).all()) is joined


def test_segments_close_around_a_disc_with_its_perimeter() -> None:
    y, x = np.mgrid[:80, :80] - 39.5
    lines, edges = segments(np.clip(30.5 - np.hypot(x, y), 0, 1).astype(np.float32))
    length = np.hypot(*(lines[:, 1] - lines[:, 0]).T).sum()
    assert length == pytest.approx(2 * np.pi * 30, rel=0.01)
    assert sorted(edges[:, 0].tolist()) == sorted(edges[:, 1].tolist())  # each end is another's start


def disc(height: int, width: int, y: float, x: float, radius: float) -> np.ndarray:
    """A field that crosses one half at the radius; the centre in pixels from the corner."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.clip(0.5 + radius - np.hypot(columns - x, rows - y), 0, 1).astype(np.float32)


def to_shapely(polygon: Polygon) -> shapely.Polygon:
    return shapely.Polygon(polygon.exterior, polygon.holes)


def test_a_disc_has_its_area_perimeter_and_place() -> None:
    (found,) = polygons(disc(90, 140, y=40.3, x=70.7, radius=25))
    shape = to_shapely(found)
    assert shape.is_valid
    assert found.area == pytest.approx(np.pi * 25**2, rel=3e-3)
    assert found.perimeter == pytest.approx(2 * np.pi * 25, rel=3e-3)
    np.testing.assert_allclose(shape.centroid.coords[0], (70.7, 40.3), atol=0.02)
    away = np.hypot(*(found.exterior - (70.7, 40.3)).T)
    assert np.abs(away - 25).max() < 0.15
    assert np.array_equal(found.exterior[0], found.exterior[-1])


def test_rings_turn_as_geojson_asks_and_holes_lie_in_their_region() -> None:
    field = disc(120, 200, 60, 60, 50)
    field -= disc(120, 200, 60, 60, 30)
    field += disc(120, 200, 60, 60, 10)  # an island in the hole
    field += disc(120, 200, 60, 160, 20)
    found = polygons(field)
    assert [len(polygon.holes) for polygon in found] == [1, 0, 0]
    expected = [np.pi * (50**2 - 30**2), np.pi * 20**2, np.pi * 10**2]
    np.testing.assert_allclose([polygon.area for polygon in found], expected, rtol=0.01)
    for polygon in found:
        shape = to_shapely(polygon)
        assert shape.is_valid
        assert shape.equals(shapely.orient_polygons(shape, exterior_cw=False))
        assert shape.exterior.is_ccw
        assert not any(ring.is_ccw for ring in shape.interiors)


def test_the_border_closes_what_it_cuts() -> None:
    (whole,) = polygons(np.ones((30, 50), np.float32), 0.5)
    assert whole.area == pytest.approx(30 * 50, abs=0.6)  # the corners are cut at half a pixel
    assert to_shapely(whole).bounds == pytest.approx((0, 0, 50, 30), abs=0.01)
    (half,) = polygons(disc(60, 60, 30, 0, 20))
    assert half.area == pytest.approx(np.pi * 20**2 / 2, rel=0.01)
    assert half.exterior[:, 0].min() == pytest.approx(0, abs=1e-6)
    assert polygons(np.zeros((9, 9), np.float32)) == []
    (dot,) = polygons(np.ones((1, 1), np.float32))
    assert 0.4 < dot.area <= 1


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), height=st.integers(3, 90), width=st.integers(3, 90),
    grain=st.integers(1, 9), tolerance=st.sampled_from([0, 0.1, 0.25]), level=st.floats(0.2, 0.8),
)  # fmt: skip
def test_regions_are_the_pixels_above_the_level(
    seed: int, height: int, width: int, grain: int, tolerance: float, level: float
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // grain + 2, width // grain + 2), dtype=np.float32)
    resized = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    field = np.asarray(resized).clip(0, 1)
    found = [to_shapely(polygon) for polygon in polygons(field, level, tolerance)]
    assert all(shape.is_valid for shape in found)
    union = shapely.union_all(found)
    assert union.area == pytest.approx(sum(shape.area for shape in found), abs=1e-6)  # none overlap
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = shapely.contains_xy(union, columns, rows)
    wrong = inside != (field > level)
    if tolerance:  # only pixels whose centres the line may have passed
        near = shapely.distance(union.boundary, shapely.points(columns[wrong], rows[wrong]))
        assert (near <= tolerance + 1e-6).all()
    else:
        assert not wrong.any()


def test_bands_make_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    field = disc(300, 200, 150, 90, 80)
    whole = polygons(field)
    monkeypatch.setattr("dermdistill.imaging.contours._BAND", 7)
    banded = polygons(field)
    assert len(whole) == len(banded) == 1
    difference = to_shapely(whole[0]).symmetric_difference(to_shapely(banded[0]))
    assert difference.area < 0.01  # rounding alone


def test_fewer_points_stay_within_the_tolerance() -> None:
    field = disc(400, 400, 200, 200, 150)
    every, fewer = (polygons(field, tolerance=t)[0] for t in (0, 0.5))
    assert len(fewer.exterior) < len(every.exterior) / 10
    assert shapely.hausdorff_distance(to_shapely(every).boundary, to_shapely(fewer).boundary) <= 0.5 + 1e-6


def test_area_and_containment_of_a_ring() -> None:
    ring = np.array([[0, 0], [4, 0], [4, 3], [0, 3], [0, 0]], float)
    assert signed_area(ring) == 12
    assert signed_area(ring[::-1]) == -12
    assert contains(ring, np.array([1.0, 1.0]))
    assert not contains(ring, np.array([5.0, 1.0]))
