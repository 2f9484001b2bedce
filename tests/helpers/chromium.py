"""The browser of the tests that look at pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path(os.environ.get("DERMDISTILL_CHROMIUM", "/usr/bin/chromium"))


def needs_browser(untested: str) -> pytest.MarkDecorator:
    """Skip where there is no Chromium, and say what then was not tested."""
    return pytest.mark.skipif(
        not CHROMIUM.exists(),
        reason=f"NO BROWSER: {CHROMIUM} does not exist; {untested} "
        "(apt-get install chromium, or DERMDISTILL_CHROMIUM=path)",
    )


@contextmanager
def launched() -> Iterator[Browser]:
    """A running Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
