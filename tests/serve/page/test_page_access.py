"""The page for everyone: by keyboard, by phone, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from chromium import needs_browser
from pageparts import area, choose, lesion
from standins import encoded

pytestmark = needs_browser("the page of `dermdistill serve` was NOT tested")


def test_the_camera_is_offered_on_phones(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page(390, 844, has_touch=True, is_mobile=True)
    expect(page.get_by_role("button", name="Take a photograph")).to_be_visible()
    assert page.locator("#camera").get_attribute("capture") == "environment"
    page.set_input_files("#camera", photo)
    expect(page.locator("#status")).to_contain_text("the lesion covers")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    narrow = open_page()
    expect(narrow.get_by_role("button", name="Take a photograph")).to_be_hidden()


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
