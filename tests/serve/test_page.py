"""The page in a real Chromium: drop, see, move, download; by keyboard, by phone, in words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect
from standins import CARD, darkness, decoded, encoded

from chromium import launched, needs_browser
from dermdistill import imaging
from dermdistill.predict import Predictor
from dermdistill.serve import server
from dermdistill.serve.app import make_app
from dermdistill.serve.limits import Limits

pytestmark = needs_browser("the page of `dermdistill serve` was NOT tested")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server in a thread, on the stand-in for the network."""
    bound = server.bind("127.0.0.1", 0)
    app = make_app(Predictor.from_backend(CARD, darkness), Limits(workers=2, max_pixels=8_000_000))
    running = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    yield server.address(bound)
    running.should_exit = True
    thread.join()
    bound.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as chromium:
        yield chromium


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end, nothing may have been asked of another host, and no script have failed."""
    contexts, faults = [], []

    def opened(width: int = 1440, height: int = 900, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if _foreign(request.url, url) else None)
        page.goto(url)
        expect(page.locator("#model")).to_contain_text("dermdistill")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def _foreign(asked: str, url: str) -> bool:
    return not asked.startswith((url, f"blob:{url}"))


def lesion(height: int = 400, width: int = 600, reach: float = 0.25) -> np.ndarray:
    """A dark spot with soft edges, so that every threshold has an outline of its own."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot((y - height / 2) / height, (x - width / 2) / width) / reach
    shade = np.clip(255 * (away - 0.4), 25, 235).astype(np.uint8)
    return np.repeat(shade[..., None], 3, axis=2)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(lesion(), "JPEG", quality=95))
    return path


def choose(page: Page, *paths: Path) -> None:
    page.set_input_files("#files", list(paths))
    expect(page.locator("#strip .badge", has_text="…")).to_have_count(0, timeout=20_000)


def drop(page: Page, path: Path) -> None:
    """Through the browser's own input, as from a file manager."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})
        if kind == "dragOver":
            expect(page.locator("#drop-here")).to_be_visible()
    expect(page.locator("#drop-here")).to_be_hidden()


def blue_pixels(page: Page) -> int:
    """Pixels of the picture in the outline's colour."""
    return int(
        page.evaluate(
            """() => { const c = document.getElementById("picture");
            const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0;
            for (let i = 0; i < d.length; i += 4)
              n += Math.abs(d[i] - 86) + Math.abs(d[i + 1] - 180) + Math.abs(d[i + 2] - 233) < 30;
            return n; }"""
        )
    )


def saved(page: Page, name: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name, exact=True).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def area(page: Page) -> float:
    text = page.locator("#measures dd").first.inner_text()
    return float(text.split()[0])


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


def test_the_camera_is_offered_on_phones(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page(390, 844, has_touch=True, is_mobile=True)
    expect(page.get_by_role("button", name="Take a photograph")).to_be_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    page.set_input_files("#camera", photo)
    expect(page.locator("#status")).to_contain_text("the lesion covers")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    narrow = open_page()
    expect(narrow.get_by_role("button", name="Take a photograph")).to_be_hidden()


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


def test_several_images_by_keyboard_alone(
    open_page: Callable[..., Page], photo: Path, tmp_path: Path
) -> None:
    paths = [photo]
    for index, reach in enumerate((0.15, 0.35)):
        paths.append(tmp_path / f"other{index}.png")
        paths[-1].write_bytes(encoded(lesion(reach=reach)))
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:2000])
    page = open_page()
    choose(page, *paths, tmp_path / "broken.jpg")
    expect(page.locator("#strip button")).to_have_count(4)
    title = page.locator("#title")
    expect(title).to_have_text("photo.jpg")
    page.locator("#strip button").first.focus()
    areas = [area(page)]
    for name in ("other0.png", "other1.png"):
        page.keyboard.press("ArrowRight")
        expect(title).to_have_text(name)
        expect(page.locator("#strip button[aria-current=true]")).to_be_focused()
        areas.append(area(page))
    assert areas[1] < areas[0] < areas[2]
    page.keyboard.press("End")
    expect(page.get_by_role("alert").first).to_contain_text("This image cannot be read")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator("#again")).to_be_hidden()  # asking again would not help
    page.keyboard.press("Delete")
    expect(title).to_have_text("other1.png")
    expect(page.locator("#strip button[aria-current=true]")).to_be_focused()
    # From the strip on with Tab: add, then view, threshold, reset, opacity, scale, downloads.
    reached = []
    for _ in range(10):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("((e) => e.id || e.innerText || e.value)(document.activeElement)"))
    assert reached == [
        "Add images", "outline", "threshold", "reset", "opacity", "scale",
        "Mask", "Overlay", "JSON", "GeoJSON",
    ]  # fmt: skip
    for _ in range(3):
        page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Choose images")).to_be_focused()


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_no_barrier_that_axe_finds(
    open_page: Callable[..., Page], photo: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    """WCAG 2.1 A and AA, contrast among them: empty, with a result and its warnings, with an error."""
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:2000])
    page = open_page(width, 900, color_scheme=scheme, reduced_motion="reduce")
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}

    def check(state: str) -> None:
        found = Axe().run(page, options=options)
        assert found.violations_count == 0, f"{state}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state

    check("empty")
    choose(page, photo)
    expect(page.locator("#checks.warned")).to_be_visible()  # the stand-in's soft spot has no fine detail
    check("a result")
    choose(page, tmp_path / "broken.jpg")
    check("an error")


def test_motion_is_left_out_where_it_is_not_wanted(open_page: Callable[..., Page]) -> None:
    for wanted, name in (("no-preference", "along"), ("reduce", "none")):
        page = open_page(reduced_motion=wanted)
        assert page.evaluate("getComputedStyle(document.querySelector('.bar')).animationName") == name
