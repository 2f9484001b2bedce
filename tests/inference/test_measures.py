"""Measures of shapes whose answers are known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermdistill.core.errors import UsageError
from dermdistill.imaging.contours import Polygon, polygons, signed_area
from dermdistill.inference.shape import asymmetry, convex_hull, longest_diameter, measure, moments

ANGLES = st.floats(0, 2 * np.pi)


def ring(points: list[tuple[float, float]] | np.ndarray) -> np.ndarray:
    array = np.array(points, dtype=np.float64)
    return np.concatenate([array, array[:1]])


def ellipse(a: float, b: float, count: int = 720) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return ring(np.stack([a * np.cos(t), b * np.sin(t)], axis=1))


def moved(
    points: np.ndarray, angle: float, scale: float = 1, shift: tuple[float, float] = (0, 0)
) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return scale * points @ np.array([[c, s], [-s, c]]) + shift


def test_a_circle_a_square_and_an_ellipse() -> None:
    circle = measure([Polygon(ellipse(50, 50))])
    assert circle["area_px"] == pytest.approx(np.pi * 50**2, rel=1e-3)
    assert circle["perimeter_px"] == pytest.approx(2 * np.pi * 50, rel=1e-3)
    assert circle["longest_diameter_px"] == pytest.approx(100, rel=1e-3)
    assert circle["compactness"] == pytest.approx(1, rel=1e-3)
    assert circle["solidity"] == pytest.approx(1, abs=1e-6)
    assert circle["asymmetry"] < 0.01
    square = measure([Polygon(ring([(0, 0), (20, 0), (20, 20), (0, 20)]))])
    assert square["area_px"] == 400
    assert square["perimeter_px"] == 80
    assert square["longest_diameter_px"] == pytest.approx(20 * np.sqrt(2))
    assert square["compactness"] == pytest.approx(4 / np.pi)
    long = measure([Polygon(ellipse(80, 20))])
    assert long["longest_diameter_px"] == pytest.approx(160, rel=1e-4)
    # Ramanujan's second approximation of an ellipse's perimeter.
    h = ((80 - 20) / (80 + 20)) ** 2
    perimeter = np.pi * 100 * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
    assert long["perimeter_px"] == pytest.approx(perimeter, rel=1e-3)
    assert long["asymmetry_major"] < 0.01
    assert long["asymmetry_minor"] < 0.01


def test_a_notch_makes_the_border_irregular_and_the_hull_larger() -> None:
    notched = measure([Polygon(ring([(0, 0), (20, 0), (10, 10), (20, 20), (0, 20)]))])
    assert notched["solidity"] == pytest.approx(0.75)
    assert notched["compactness"] > 4 / np.pi


def test_a_triangle_is_symmetric_to_one_axis_only() -> None:
    # Base 10, height 30: folded across at its centroid, 10 from the base, 100 of its 150 square pixels meet.
    for angle in (0, 0.4, 2):
        major, minor = asymmetry(moved(ring([(0, -5), (30, 0), (0, 5)]), angle))
        assert major < 0.01
        assert minor == pytest.approx(1 / 3, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(angle=ANGLES, scale=st.floats(0.05, 40), shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_place_rotation_and_size_do_not_count(angle: float, scale: float, shift: tuple[float, float]) -> None:
    blob = ring([(0, 0), (30, 4), (42, 18), (26, 30), (25, 22), (6, 20)])
    first, second = measure([Polygon(blob)]), measure([Polygon(moved(blob, angle, scale, shift))])
    for name in ("compactness", "solidity"):
        assert second[name] == pytest.approx(first[name], rel=1e-6)
    for name in ("asymmetry", "asymmetry_major", "asymmetry_minor"):
        assert second[name] == pytest.approx(first[name], abs=0.01)
    assert second["longest_diameter_px"] == pytest.approx(scale * first["longest_diameter_px"], rel=1e-6)
    assert second["area_px"] == pytest.approx(scale**2 * first["area_px"], rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(angle=ANGLES, size=st.sampled_from([64, 160, 500]))
def test_a_field_of_pixels_is_measured_like_the_shape(angle: float, size: int) -> None:
    rows, columns = np.mgrid[:size, :size] + 0.5 - size / 2
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    a, b = 0.4 * size, 0.2 * size
    distance = (1 - np.hypot(along / a, across / b)) * b
    found = measure(polygons((1 / (1 + np.exp(-distance))).astype(np.float32)))
    known = measure([Polygon(ellipse(a, b))])
    for name in ("area_px", "perimeter_px", "longest_diameter_px", "compactness", "solidity"):
        assert found[name] == pytest.approx(known[name], rel=0.015), name
    assert found["asymmetry"] < 0.02


def test_moments_are_the_ellipses() -> None:
    centre, covariance = moments(moved(ellipse(80, 30, 4000), 0.7, shift=(300, -200)))
    np.testing.assert_allclose(centre, (300, -200), atol=1e-6)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance), (30**2 / 4, 80**2 / 4), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 60))
def test_the_hull_is_scipys(seed: int, count: int) -> None:
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    points = np.random.default_rng(seed).normal(size=(count, 2))
    hull = convex_hull(points)
    assert signed_area(hull) == pytest.approx(ConvexHull(points).volume)  # its "volume" is the area in 2-D
    assert longest_diameter(hull) == pytest.approx(pdist(points).max())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 60))
def test_the_hull_of_points_in_rows_that_repeat_is_scipys(seed: int, count: int) -> None:
    from scipy.spatial import ConvexHull

    corners = [(0, 0), (5, 0), (0, 5)]
    points = np.array([*corners, *np.random.default_rng(seed).integers(0, 6, (count, 2))], np.float64)
    hull = convex_hull(points)
    assert signed_area(hull) == pytest.approx(ConvexHull(points).volume)
    assert len(hull) - 1 == len(ConvexHull(points).vertices)  # none on a line between others, none twice


def test_millimetres_only_with_a_scale() -> None:
    regions = [Polygon(ellipse(50, 50)), Polygon(ellipse(5, 5))]
    plain = measure(regions)
    assert plain["regions"] == 2
    assert not [name for name in plain if name.endswith(("_mm", "_mm2"))]
    scaled = measure(regions, 0.02)
    assert scaled["longest_diameter_mm"] == pytest.approx(2, rel=1e-3)
    assert scaled["area_mm2"] == pytest.approx(np.pi * (50**2 + 5**2) * 0.02**2, rel=1e-3)
    assert measure([]) == {"regions": 0, "area_px": 0}
    assert measure([], 0.1) == {"regions": 0, "area_px": 0, "area_mm2": 0}
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="impossible"):
            measure(regions, scale)
