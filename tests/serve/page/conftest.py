"""The page of `dermdistill serve`, opened in a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from chromium import launched
from dermdistill.inference.predictor import Predictor
from dermdistill.serve import server
from dermdistill.serve.app import make_app
from dermdistill.serve.limits import Limits
from pageparts import lesion
from standins import CARD, darkness, encoded


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


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(lesion(), "JPEG", quality=95))
    return path
