"""The built documentation: strict, whole, and readable without the network; looked at in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from chromium import launched, needs_browser
from commands import REPOSITORY

DOCS = REPOSITORY / "docs"
INCLUDED = ("src/dermdistill/weights/MODEL_CARD.md", "benchmarks/README.md")
LOADS = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src", "use": "href"}


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the site is made from: nothing is written into the repository."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(DOCS, folder / "docs")
    shutil.copytree(REPOSITORY / "tools", folder / "tools")
    shutil.copy(REPOSITORY / "zensical.toml", folder)
    for file in INCLUDED:
        (folder / file).parent.mkdir(parents=True)
        shutil.copy(REPOSITORY / file, folder / file)
    return folder


@pytest.fixture(scope="module")
def site(project: Path) -> Path:
    done = build(project)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "site"


@dataclass
class Html(HTMLParser):
    """What a page has and what it refers to."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in LOADS and found.get(LOADS[tag]) and found.get("rel") != "canonical":
            self.loads.append(found[LOADS[tag]])

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Html:
    html = Html()
    html.feed(path.read_text(encoding="utf-8"))
    return html


def nav_pages(nav: Any) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case list():
            for item in nav:
                yield from nav_pages(item)
        case dict():
            for item in nav.values():
                yield from nav_pages(item)


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    settings = tomllib.loads((REPOSITORY / "zensical.toml").read_text(encoding="utf-8"))
    named = list(nav_pages(settings["project"]["nav"]))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert len(named) == len(set(named))
    assert set(named) == there


def test_links_anchors_and_pictures_lead_somewhere(site: Path) -> None:
    pages = {path: read(path) for path in site.rglob("*.html")}
    assert len(pages) > 25
    broken = []
    for path, html in pages.items():
        if path.name == "404.html":  # its links begin at the site's root, wherever that is
            continue
        for target in [*html.links, *html.loads]:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = path if not url.path else (path.parent / unquote(url.path)).resolve()
            file = file / "index.html" if file.is_dir() else file
            anchor = unquote(url.fragment)
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].ids):
                broken.append(f"{path.relative_to(site)} → {target}")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_outside(site: Path) -> None:
    outside = [
        f"{path.relative_to(site)}: {target}"
        for path in site.rglob("*.html")
        for target in read(path).loads
        if urlsplit(target).netloc
    ]
    outside += [
        f"{path.relative_to(site)}: {found}"
        for path in site.rglob("*.css")
        for found in re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//[^)'\"]+", path.read_text("utf-8"))
    ]
    assert not outside, "\n".join(outside)


def test_references_and_formulas_were_read(site: Path) -> None:
    """Nothing is left over that Markdown should have turned into something else."""
    left = []
    for path in site.rglob("*.html"):
        text = "".join(read(path).text)
        left += [
            f"{path.name}: {found}" for found in re.findall(r"\]\[\w*\]|--8<--|\\frac|\[[^\]]+\]\(", text)
        ]
    assert not left, "\n".join(left)
    assert (site / "concepts" / "distillation.html").read_text(encoding="utf-8").count("<math ") == 3
    assert "Not a medical device" in "".join(read(site / "model-card.html").text)


@pytest.mark.parametrize("fault", ["[a](nowhere.md)", "[a](faq.md#nowhere)", '--8<-- "nowhere.md"'])
def test_a_broken_link_anchor_or_snippet_fails_the_build(fault: str, project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("site", ".cache", "images"))
    with (tmp_path / "copy" / "docs" / "faq.md").open("a", encoding="utf-8") as page:
        page.write(f"\n\n{fault}\n")
    assert build(tmp_path / "copy").returncode != 0


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as chromium:
        yield chromium


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens a page; at the end, nothing may have been asked of another host, and no script have failed."""
    contexts, faults = [], []

    def opened(path: str, width: int, scheme: str) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("response", lambda got: got.ok or faults.append(f"{got.status}: {got.url}"))
        page.on("request", lambda request: request.url.startswith(address) or faults.append(request.url))
        page.goto(f"{address}/{path}", wait_until="networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


@needs_browser("the built pages were NOT looked at")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["index.html", "concepts/distillation.html", "reference/settings.html"])
def test_the_page_fits_its_window_and_asks_nobody_else(
    path: str, scheme: str, width: int, open_page: Callable[..., Page]
) -> None:
    page = open_page(path, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)")
    assert (sum(light[:3]) > 382) == (scheme == "light"), light
    for formula in page.locator("math").all():
        box = formula.bounding_box()
        assert box is not None
        assert box["height"] > 25, "the formula is not drawn"


@needs_browser("the built pages were NOT looked at")
def test_search_finds_a_setting(open_page: Callable[..., Page]) -> None:
    page = open_page("index.html", 1280, "light")
    for _ in range(40):  # on a busy machine the page listens some time after it is there
        if page.locator("input:focus").count():
            break
        page.keyboard.press("Control+k")
        page.wait_for_timeout(500)
    page.keyboard.type("temperature")
    page.get_by_text(re.compile(r"\d+ results")).wait_for()
    page.get_by_text("Reference").last.wait_for()
