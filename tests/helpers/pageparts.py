"""What is done on the page and read off it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect


def lesion(height: int = 400, width: int = 600, reach: float = 0.25) -> np.ndarray:
    """A dark spot with soft edges, so that every threshold has an outline of its own."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot((y - height / 2) / height, (x - width / 2) / width) / reach
    shade = np.clip(255 * (away - 0.4), 25, 235).astype(np.uint8)
    return np.repeat(shade[..., None], 3, axis=2)


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
