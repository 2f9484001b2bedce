"""The page in a real Chromium: drop, see, move, download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from chromium import needs_browser
from dermdistill import imaging
from dermdistill.inference.predictor import Predictor
from pageparts import area, blue_pixels, choose, drop, lesion, saved
from standins import CARD, darkness, decoded, encoded

pytestmark = needs_browser("the page of `dermdistill serve` was NOT tested")


def test_drop_see_move_the_slider_and_download(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page()
    drop(page, photo)
    expect(page.locator("#status")).to_contain_text("the lesion covers")
    expect(page.get_by_role("heading", name="photo.jpg")).to_be_visible()
    assert blue_pixels(page) > 500
    before, line = area(page), blue_pixels(page)

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#threshold").focus()
    page.keyboard.press("ArrowRight")
    for _ in range(19):
        page.keyboard.press("ArrowRight")
    now = area(page)
    assert asked == [] or "threshold" in asked[0]
    assert now < before
    assert blue_pixels(page) != line
    expect(page.locator("#threshold-value")).to_have_text("0.70")
    expect(page.locator("#measures")).to_have_attribute("aria-busy", "false")  # the exact ones have come
    expect(page.locator("#status")).to_contain_text("threshold 0.70")
    assert any("threshold=0.7" in each for each in asked)

    predictor = Predictor.from_backend(CARD, darkness)
    expected = imaging.to_mask(predictor(photo).prob, 0.7)
    assert now == pytest.approx(100 * expected.mean(), abs=0.25)  # eight bits, and shown with three digits
    name, content = saved(page, "Mask")
    assert name == "photo_mask.png"
    np.testing.assert_array_equal(decoded(content), expected * 255)
    name, content = saved(page, "Overlay")
    assert (name, decoded(content).shape) == ("photo_overlay.png", (400, 600, 3))
    name, content = saved(page, "JSON")
    assert name == "photo.json"
    assert json.loads(content)["threshold"] == 0.7
    assert json.loads(content)["area_fraction"] == pytest.approx(expected.mean(), abs=1e-6)
    name, content = saved(page, "GeoJSON")
    assert (name, json.loads(content)["type"]) == ("photo.geojson", "FeatureCollection")

    page.get_by_role("button", name="Reset to 0.50").click()
    expect(page.locator("#threshold-value")).to_have_text("0.50")
    assert area(page) == before


def test_the_slider_redraws_without_the_server(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page()
    choose(page, photo)
    page.route("**/v1/segment*", lambda route: None)  # nobody answers any more
    seen = []
    for value in ("0.2", "0.4", "0.6", "0.8"):
        page.locator("#threshold").fill(value)
        seen.append((area(page), blue_pixels(page)))
    areas = [each[0] for each in seen]
    assert areas == sorted(areas, reverse=True)
    assert len(set(seen)) == 4
    expect(page.locator("#measures")).to_have_attribute("aria-busy", "true")
    page.unroute_all(behavior="ignoreErrors")


def test_opacity_and_views_change_the_picture(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page()
    choose(page, photo)
    assert blue_pixels(page) > 500
    page.locator("#opacity").fill("0")
    assert blue_pixels(page) == 0
    page.locator("#opacity").fill("100")
    plain = page.locator("#picture").screenshot()
    for name in ("Shaded", "Probability"):
        page.get_by_label(name).check(force=True)
        assert page.locator("#picture").screenshot() != plain
    expect(page.locator("#legend")).to_be_visible()


def test_outlines_are_those_of_the_mask(open_page: Callable[..., Page]) -> None:
    """Rings of contour.js against counted pixels: a disc, a hole, a disc cut by the border, a saddle."""
    page = open_page()
    y, x = np.mgrid[:90, :120].astype(float)
    disc = np.clip(128 + 12 * (20 - np.hypot(y - 45, x - 60)), 0, 255)
    hole = np.clip(128 + 12 * (8 - np.abs(np.hypot(y - 45, x - 60) - 25)), 0, 255)
    cut = np.clip(128 + 12 * (30 - np.hypot(y, x - 60)), 0, 255)
    saddle = np.zeros((90, 120))
    saddle[20:40, 20:40] = saddle[40:60, 40:60] = 255
    for field, count in ((disc, 1), (hole, 2), (cut, 1), (saddle, 1), (np.zeros((90, 120)), 0)):
        for level in (90.5, 127.5, 200):
            values = np.round(field).astype(np.uint8)
            found = page.evaluate(
                """async ([values, width, height, level]) => {
                const c = await import("/contour.js");
                const rings = c.rings(c.framed(Uint8Array.from(values), width, height), level);
                const clip = (v, most) => Math.min(Math.max(v, 0), most);
                const area = (r) => { let s = 0; for (let k = 0; k < r.length; k += 2) {
                  const j = (k + 2) % r.length;
                  const [x0, y0] = [clip(r[k], width), clip(r[k + 1], height)];
                  const [x1, y1] = [clip(r[j], width), clip(r[j + 1], height)];
                  s += x0 * y1 - x1 * y0; } return s / 2; };
                const share = c.shares(Uint8Array.from(values))[Math.floor(level)];
                return [rings.length, rings.reduce((s, r) => s + area(r), 0), share]; }""",
                [values.ravel().tolist(), 120, 90, level],
            )
            counted = int((values > level).sum())
            assert found[2] == pytest.approx(counted / values.size)
            if field is saddle:  # half a pixel wider or narrower on each side, as the level is
                assert found[0] in (1, 2)
                assert abs(found[1]) == pytest.approx(counted, abs=80)
            else:
                assert found[0] == count
                assert abs(found[1]) == pytest.approx(counted, abs=0.02 * counted + 1e-9)


def test_a_photograph_can_be_pasted(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page()
    page.evaluate(
        """bytes => { const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], "image.png", { type: "image/jpeg" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true })); }""",
        list(photo.read_bytes()),
    )
    expect(page.locator("#status")).to_contain_text("image.png: the lesion covers")


def test_turned_photographs_and_tiff_are_seen(open_page: Callable[..., Page], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(encoded(lesion(), "JPEG", exif=exif))
    (tmp_path / "scan.tif").write_bytes(encoded(lesion(), "TIFF", exif=exif))
    page = open_page()
    for name in ("turned.jpg", "scan.tif"):
        choose(page, tmp_path / name)
        expect(page.locator("#size")).to_have_text("400 × 600")
        size = page.evaluate("['width', 'height'].map((k) => document.getElementById('picture')[k])")
        assert size[1] / size[0] == pytest.approx(1.5, abs=0.01)
        assert blue_pixels(page) > 500


def test_scales_give_millimetres(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page()
    choose(page, photo)
    expect(page.locator("#measures")).not_to_contain_text("mm²")
    page.get_by_label("Scale, mm per pixel").fill("nonsense")
    page.keyboard.press("Enter")
    expect(page.locator("#scale-error")).to_contain_text("above 0")
    page.get_by_label("Scale, mm per pixel").fill("0,02")
    page.keyboard.press("Enter")
    expect(page.locator("#scale-error")).to_be_empty()
    expect(page.locator("#measures")).to_contain_text("mm²")
    counted = Predictor.from_backend(CARD, darkness)(photo).mask.sum() * 0.02**2
    shown = page.locator("#measures dd", has_text="mm²").inner_text()
    assert float(shown.split()[0]) == pytest.approx(counted, rel=0.02)


def test_a_busy_server_is_asked_again_and_a_lost_one_told(
    open_page: Callable[..., Page], photo: Path
) -> None:
    page = open_page()
    asked = []

    def busy_once(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"code": "busy"})
        else:
            route.continue_()

    page.route("**/v1/segment*", busy_once)
    choose(page, photo)
    assert len(asked) == 2
    expect(page.locator("#status")).to_contain_text("the lesion covers")
    page.unroute_all()
    page.route("**/v1/segment*", lambda route: route.abort())
    page.set_input_files("#files", photo)
    expect(page.get_by_role("alert").first).to_contain_text("No answer")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#status")).to_contain_text("the lesion covers")
