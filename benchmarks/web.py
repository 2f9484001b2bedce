"""Students in onnxruntime-web: every operator there, outputs as ONNX Runtime's, latency in turns.

    npm install --prefix benchmarks/web
    python benchmarks/web.py --model nano --model small --model base --onnx student.onnx
    python benchmarks/web.py --model nano --browser        in headless Chromium instead of Node

WebAssembly, one thread, one image. Networks by name have random weights. The first one, unet-w8 unless
--baseline says otherwise, is what the ratios are to. Exits with 1 where an output is not ONNX Runtime's.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dermdistill.core.errors import DermDistillError, UsageError
from dermdistill.data.prepare.phantom import make_phantom
from dermdistill.inference.onnx_backend import open_session
from dermdistill.models import onnx_graph

HERE = Path(__file__).parent / "web"
TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest logit where that is above 1."""
OPTIMISED = "--no-liftoff"
"""V8's flag, in Node: the optimising compiler at once, which a page reaches after a while, in other threads.
On a busy machine these may never get to it, and half-compiled code would be timed (twice as slow)."""

Found = dict[str, tuple[list[list[float]], NDArray[np.float32]]]
"""By name: milliseconds per round and call, logits."""


def package() -> Path:
    """The installed onnxruntime-web."""
    path = HERE / "node_modules" / "onnxruntime-web"
    if not path.is_dir():
        raise UsageError("onnxruntime-web is not installed.", "npm install --prefix benchmarks/web")
    return path


def version() -> str:
    """Of onnxruntime-web, as installed."""
    found: str = json.loads((package() / "package.json").read_text(encoding="utf-8"))["version"]
    return found


def fill(folder: Path, models: list[str], files: list[Path], side: int, rounds: int, repeats: int) -> None:
    """Write what the JavaScript side reads: the networks, an image, the plan."""
    from dermdistill.models.build import build_model

    for name in models:
        onnx_graph.trace(build_model(name), folder / f"{name}.onnx", side)
    for file in files:
        shutil.copy(file, folder / f"{file.stem}.onnx")
    names = [*models, *(file.stem for file in files)]
    if len(set(names)) < len(names):
        raise UsageError(f"two networks have one name: {', '.join(names)}.", "each once")
    image = make_phantom(0, 0, side).image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    image.tofile(folder / "image.f32")
    plan = {"side": side, "rounds": rounds, "warm_ups": 2, "repeats": repeats, "models": names}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")


def in_node(folder: Path, *options: str) -> None:
    """Run run.mjs."""
    if (node := shutil.which("node")) is None:
        raise UsageError("there is no node.", "Node 20 or newer on the PATH")
    done = subprocess.run(
        [node, OPTIMISED, HERE / "run.mjs", folder, *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DermDistillError(f"onnxruntime-web failed: {last}")


def by_node(folder: Path) -> tuple[str, Found]:
    """The engine's name, and what it found."""
    in_node(folder)
    told = json.loads((folder / "times.json").read_text(encoding="utf-8"))
    return told["engine"], {
        name: (turns, np.fromfile(folder / f"{name}.logits.f32", np.float32))
        for name, turns in told["times"].items()
    }


def by_browser(folder: Path, seconds: int = 300) -> tuple[str, Found]:
    """The same in a page of headless Chromium, which a server of this process hands out."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("DERMDISTILL_CHROMIUM", "/usr/bin/chromium")
    if not Path(chromium).is_file():
        raise UsageError(f"there is no {chromium}.", "Chromium; DERMDISTILL_CHROMIUM says where")
    serve = functools.partial(_Folder, folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/page.html")
        page.wait_for_function("window.found || window.failed", timeout=1000 * seconds)
        failed, found = page.evaluate("window.failed"), page.evaluate("window.found")
        engine = f"Chromium {browser.version}"
        browser.close()
        server.shutdown()
    if failed:
        raise DermDistillError(f"onnxruntime-web failed in the browser: {failed}")
    return engine, {name: (one["ms"], np.array(one["logits"], np.float32)) for name, one in found.items()}


class _Folder(http.server.SimpleHTTPRequestHandler):
    """benchmarks/web, and under /run/ the folder of this run."""

    extensions_map: ClassVar = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
    }

    def __init__(self, folder: Path, *arguments: Any) -> None:
        self.folder = folder
        super().__init__(*arguments, directory=str(HERE))

    def translate_path(self, path: str) -> str:
        if path.startswith("/run/"):
            return str(self.folder / Path(path).name)
        return super().translate_path(path)

    def log_message(self, *_: Any) -> None:
        pass


def differences(folder: Path, found: Found, side: int) -> dict[str, float]:
    """Largest difference of a logit to ONNX Runtime's, by network, relative to the largest logit above 1."""
    image = np.fromfile(folder / "image.f32", np.float32).reshape(1, 3, side, side)
    told = {}
    for name, (_, logits) in found.items():
        wanted = (
            open_session(folder / f"{name}.onnx", threads=1).run(None, {onnx_graph.INPUT: image})[0].ravel()
        )
        told[name] = float(np.abs(logits - wanted).max() / max(1.0, np.abs(wanted).max()))
    return told


def compare(
    models: list[str],
    files: list[Path],
    *,
    side: int = 256,
    rounds: int = 10,
    repeats: int = 5,
    browser: bool = False,
) -> tuple[str, dict[str, dict[str, float]]]:
    """Run networks in onnxruntime-web, in turns.

    Args:
        models: Our networks by name, random weights.
        files: ONNX files.
        side: Of the image, in pixels.
        rounds: Turns of each network.
        repeats: Timed calls in a turn.
        browser: In headless Chromium, not in Node.

    Returns:
        The engine; by name ``ms`` (median), ``ratio`` (to the first, median over rounds), ``difference``.
    """
    package()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, models, files, side, rounds, repeats)
        engine, found = (by_browser if browser else by_node)(folder)
        off = differences(folder, found, side)
    first = [statistics.median(turn) for turn in next(iter(found.values()))[0]]
    return engine, {
        name: {
            "ms": statistics.median(call for turn in turns for call in turn),
            "ratio": statistics.median(
                statistics.median(turn) / base for turn, base in zip(turns, first, strict=True)
            ),
            "difference": off[name],
        }
        for name, (turns, _) in found.items()
    }


def main() -> int:
    """Compare and print, or probe and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], metavar="NAME")
    parser.add_argument("--onnx", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--baseline", default="unet-w8", metavar="NAME")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    try:
        engine, rows = compare(
            [options.baseline, *options.model], options.onnx, side=options.size, rounds=options.rounds,
            repeats=options.repeats, browser=options.browser,
        )  # fmt: skip
    except DermDistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"onnxruntime-web {version()}, WebAssembly, 1 thread, {engine}, {options.size}×{options.size}\n")
    print(f"| network | ms | × {options.baseline} | largest difference |\n| --- | --- | --- | --- |")
    for name, row in rows.items():
        print(f"| {name} | {row['ms']:.1f} | {row['ratio']:.3f} | {row['difference']:.1e} |")
    return 0 if all(row["difference"] <= TOLERANCE for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
