"""Outlines against analytic shapes and against shapely, which knows nothing of ours."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermdistill.imaging.contours import Polygon, polygons, signed_area


def test_the_outline_of_one_pixel_is_a_diamond() -> None:
    field = np.zeros((3, 3), np.float32)
    field[1, 1] = 1
    (found,) = polygons(field, tolerance=0)
    np.testing.assert_allclose(
        sorted(found.exterior[:-1].tolist()), [[1, 1.5], [1.5, 1], [1.5, 2], [2, 1.5]], atol=1e-5
    )


@pytest.mark.parametrize(("low", "joined"), [(0.4, True), (0.0, False)])
def test_a_saddle_is_joined_where_its_middle_is_inside(low: float, joined: bool) -> None:
    field = np.zeros((4, 4), np.float32)
    field[1:3, 1:3] = [[1, low], [low, 1]]
    assert len(polygons(field)) == (1 if joined else 2)


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
    assert whole.area == pytest.approx(30 * 50)
    assert to_shapely(whole).bounds == pytest.approx((0, 0, 50, 30), abs=0.01)
    (half,) = polygons(disc(60, 60, 30, 0, 20))
    assert half.area == pytest.approx(np.pi * 20**2 / 2, rel=0.01)
    assert half.exterior[:, 0].min() == pytest.approx(0, abs=1e-6)
    assert polygons(np.zeros((9, 9), np.float32)) == []
    (dot,) = polygons(np.ones((1, 1), np.float32))
    assert dot.area == pytest.approx(1)


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


def test_coordinates_are_those_of_the_picture_that_is_named() -> None:
    own = polygons(disc(60, 90, 30, 45, 20), tolerance=0)[0]
    larger = polygons(disc(60, 90, 30, 45, 20), tolerance=0, size=(120, 450))[0]
    np.testing.assert_allclose(larger.exterior, own.exterior * (5, 2))


def test_a_value_at_the_level_is_outside_and_rings_do_not_touch_there() -> None:
    field = np.full((5, 7), 0.5, np.float32)
    field[1:4, 1:3] = field[1:4, 4:6] = 1
    found = [to_shapely(polygon) for polygon in polygons(field, tolerance=0)]
    assert len(found) == 2
    assert all(shape.is_valid for shape in found)
    assert not found[0].intersects(found[1])


def test_fewer_points_stay_within_the_tolerance() -> None:
    field = disc(400, 400, 200, 200, 150)
    every, fewer = (polygons(field, tolerance=t)[0] for t in (0, 0.5))
    assert len(fewer.exterior) < len(every.exterior) / 10
    assert shapely.hausdorff_distance(to_shapely(every).boundary, to_shapely(fewer).boundary) <= 0.5 + 1e-6


def test_area_of_a_ring() -> None:
    ring = np.array([[0, 0], [4, 0], [4, 3], [0, 3], [0, 0]], float)
    assert signed_area(ring) == 12
    assert signed_area(ring[::-1]) == -12
