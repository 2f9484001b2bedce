"""`dermdistill serve` under load: quick answers, right answers, honest refusals, flat memory.

    python benchmarks/serve.py --images DIR [--other SRC]           # throughput and latency
    python benchmarks/serve.py --images DIR --storm --requests 2000 # 50 clients, good and bad files

**Speed.** One server with its defaults is asked by 1 client, then by 8, each waiting for its answer before it
sends the next picture, over one connection each. ``--other SRC`` is another version's ``src`` folder: the two
take turns, a server of their own each turn, and ratios are of turns that followed each other. Servers and
clients share the machine's cores.

**Storm.** 50 clients at once send a seeded mixture of good pictures (several sizes and kinds, as body and as
form), broken and hostile files, and questions for health and metrics. Every mask is compared with the one
that `Predictor` draws of the same bytes, and every refusal with the one that is due; 429 and 503 count as
honest where they carry Retry-After. Memory is of the server and all of its processes, each shared page
counted once.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import io
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SOURCE = Path(__file__).parents[1] / "src"
FORM = {"Content-Type": "multipart/form-data; boundary=X"}
BYTES = {"Content-Type": "application/octet-stream"}


@contextlib.contextmanager
def serving(source: Path, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """``dermdistill serve`` of a version, with its defaults: its port and its process."""
    command = [sys.executable, "-m", "dermdistill", "serve", "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, cwd=source
        )
        try:
            assert process.stdout
            address = process.stdout.readline().split()[2]
            yield int(address.rstrip("/").rsplit(":", 1)[1]), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


class Client:
    """One connection, opened anew where the server has closed it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(
        self, path: str, body: bytes | None = None, headers: dict[str, str] = BYTES
    ) -> tuple[int, bytes, bool]:
        """Status, body, and whether the answer says when to come back."""
        for attempt in (0, 1):
            try:
                self._connection.request("GET" if body is None else "POST", path, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read(), bool(response.getheader("Retry-After"))
            except (http.client.RemoteDisconnected, ConnectionError):
                self._connection.close()  # kept alive for too long, or refused before all was sent
                if attempt:
                    raise
        raise AssertionError


def seconds_each(port: int, clients: int, requests: int, path: str, pictures: list[bytes]) -> list[float]:
    """How long each answer took, over all clients; the last entry is the wall time of all."""
    numbers = itertools.count()

    def run(_: int) -> list[float]:
        client, took = Client(port), []
        while (number := next(numbers)) < requests:
            began = time.perf_counter()
            status, answer, _ = client.ask(path, pictures[number % len(pictures)])
            assert status == 200, answer
            took.append(time.perf_counter() - began)
        return took

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        found = [value for part in threads.map(run, range(clients)) for value in part]
    return [*found, time.perf_counter() - began]


def used(process: psutil.Process) -> float:
    """Processor seconds of a process and those that it has begun."""
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


@dataclass
class Turn:
    """What one version did in one turn, on one kind of picture."""

    median_ms: float
    p95_ms: float
    per_second: float
    cpu_ms: float


def turn(source: Path, path: str, pictures: list[bytes], requests: int, options: list[str]) -> Turn:
    """A fresh server, warmed up, asked by 1 client and by 8."""
    with serving(source, *options) as (port, process):
        seconds_each(port, 8, min(24, requests), path, pictures)
        one = sorted(seconds_each(port, 1, requests // 2, path, pictures)[:-1])
        cpu = used(process)
        eight = seconds_each(port, 8, requests, path, pictures)
        cpu = used(process) - cpu
        p95 = one[int(0.95 * len(one))]
        return Turn(1e3 * statistics.median(one), 1e3 * p95, requests / eight[-1], 1e3 * cpu / requests)


def enlarged(data: bytes, megapixels: float) -> bytes:
    """A picture as a photograph of a size, JPEG."""
    width = round((megapixels * 1.5e6) ** 0.5)
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((width, round(width / 1.5)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()


def compare_speed(arguments: argparse.Namespace) -> None:
    """Print the table of speed: per case and version, and the ratio to the other version."""
    sources = sorted(arguments.images.iterdir())[:: max(1, len(list(arguments.images.iterdir())) // 40)]
    small = [path.read_bytes() for path in sources]
    photographs = [enlarged(data, 12) for data in small[:4]]
    cases = [
        ("mask", "/v1/segment?output=mask", small, arguments.requests),
        ("JSON", "/v1/segment", small, arguments.requests),
        ("page: JSON and map", "/v1/segment?probability_map=true", small, arguments.requests),
        ("overlay", "/v1/segment?output=overlay", small, arguments.requests),
        ("JSON, 12 megapixels", "/v1/segment", photographs, arguments.requests // 15),
    ]  # fmt: skip
    versions = {"this": SOURCE} | ({"other": arguments.other.resolve()} if arguments.other else {})
    print("| answer | version | 1 client: median ms | p95 ms | 8 clients: answers/s | processor ms each |")
    print("|---|---|---|---|---|---|")
    for title, path, pictures, requests in cases:
        found: dict[str, list[Turn]] = {name: [] for name in versions}
        for number in range(arguments.rounds):
            for name in sorted(versions, reverse=bool(number % 2)):
                found[name].append(turn(versions[name], path, pictures, requests, arguments.options))
        for name, turns in found.items():
            print(f"| {title} | {name} | " + " | ".join(_cells(turns)) + " |", flush=True)
        if arguments.other:
            pairs = list(zip(found["this"], found["other"], strict=True))
            ratios = [
                statistics.median(getattr(ours, field) / getattr(other, field) for ours, other in pairs)
                for field in ("median_ms", "p95_ms", "per_second", "cpu_ms")
            ]
            print(f"| {title} | this over other | " + " | ".join(f"{each:.2f} ×" for each in ratios) + " |")


def _cells(turns: list[Turn]) -> list[str]:
    fields = ("median_ms", "p95_ms", "per_second", "cpu_ms")
    return [f"{statistics.median(getattr(each, field) for each in turns):.1f}" for field in fields]


@dataclass
class Case:
    """One kind of request, and how its answer is judged."""

    name: str
    path: str
    body: bytes | None
    headers: dict[str, str]
    right: Callable[[int, bytes], bool]


def form(data: bytes, disposition: bytes = b'form-data; name="image"; filename="a.jpg"') -> bytes:
    """One part of a multipart body, with boundary X."""
    return b"--X\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + data + b"\r\n--X--\r\n"


def make_cases(images: Path) -> list[Case]:
    """Good pictures with their masks, bad files with their refusals, and questions."""
    sys.path.insert(0, str(SOURCE))
    from dermdistill import Predictor

    predictor = Predictor(threads=1)
    cases = []

    def is_mask(expected: np.ndarray) -> Callable[[int, bytes], bool]:
        return lambda status, body: (
            status == 200 and np.array_equal(np.asarray(Image.open(io.BytesIO(body))), expected)
        )

    def is_area(fraction: float) -> Callable[[int, bytes], bool]:
        return lambda status, body: status == 200 and json.loads(body)["area_fraction"] == round(fraction, 6)

    def refused(status: int, code: str = "") -> Callable[[int, bytes], bool]:
        return lambda got, body: got == status and code in json.loads(body)["code"]

    def encoded(picture: Image.Image, kind: str) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind)
        return file.getvalue()

    sources = sorted(images.iterdir())
    pictures = [path.read_bytes() for path in sources[:: max(1, len(sources) // 24)]]
    for number, (side, kind) in enumerate([(90, "PNG"), (700, "JPEG"), (1500, "WEBP"), (2400, "JPEG")]):
        picture = Image.open(io.BytesIO(pictures[number])).convert("RGB")
        pictures.append(encoded(picture.resize((side, side * 3 // 4)), kind))
    for data in pictures:
        prediction = predictor(data)
        mask = is_mask(prediction.mask * np.uint8(255))
        cases.append(Case("mask", "/v1/segment?output=mask", data, BYTES, mask))
        cases.append(Case("mask by form", "/v1/segment?output=mask", form(data), FORM, mask))
        area = is_area(prediction.area_fraction)
        cases.append(Case("JSON", "/v1/segment?probability_map=true", data, BYTES, area))
    good, thin = pictures[0], encoded(Image.new("L", (1, 60_000)), "PNG")
    cases.append(Case("thin", "/v1/segment?output=mask", thin, BYTES, is_mask(predictor(thin).mask * 255)))
    parts = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="%d"\r\n\r\n1\r\n' % i for i in range(2000)
    )
    unbounded = {"Content-Type": "multipart/form-data"}
    bad = [
        ("no picture", b"GIF89a, or nearly", BYTES, refused(422, "unreadable_image")),
        ("cut in half", good[: len(good) // 2], BYTES, refused(422, "unreadable_image")),
        ("empty", b"", BYTES, refused(422, "no_image")),
        ("100,000 × 100,000", _png_header(100_000, 100_000), BYTES, refused(422)),
        ("1 × 50,000,000", _png_header(1, 50_000_000), BYTES, refused(422)),
        ("no boundary", form(good), unbounded, refused(400, "bad_form")),
        ("another boundary", form(good), {"Content-Type": FORM["Content-Type"] + "Y"}, refused(400)),
        ("2,000 parts", parts + form(good), FORM, refused(400, "bad_form")),
        ("name of 100 kB", form(good, b'form-data; name="' + b"n" * 100_000 + b'"'), FORM, refused(400)),
        ("name with a newline", form(good, b'form-data; name="image\nX: y"; filename=a'), FORM, refused(422)),
        ("a form cut off", form(good)[:-200], FORM, refused(400)),
        ("a pixel of 1e300 mm", good, BYTES, refused(422, "bad_parameter")),
    ]  # fmt: skip
    for name, body, headers, right in bad:
        path = "/v1/segment?mm_per_pixel=1e300" if "mm" in name else "/v1/segment"
        cases += [Case(name, path, body, headers, right)] * 2
    for path in ("/healthz", "/metrics", "/v1/model", "/"):
        cases += [Case(path, path, None, {}, lambda status, _: status == 200)] * 3
    return cases


def _png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG file of a size, without its pixels."""
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def memory(process: psutil.Process) -> float:
    """MiB of a process and all that it has begun; pages that they share are counted once."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += getattr(each.memory_full_info(), "pss", each.memory_info().rss)
    return total / 2**20


def storm(arguments: argparse.Namespace) -> bool:
    """50 clients at once; print what came back, and say whether all of it was right."""
    cases = make_cases(arguments.images)
    lock, counts, wrong = threading.Lock(), collections.Counter[str](), []
    numbers = itertools.count()
    with serving(arguments.other or SOURCE, *arguments.options) as (port, process):
        sizes = [memory(process)]

        def run(seed: int) -> None:
            choose, client = random.Random(seed), Client(port)
            while (number := next(numbers)) < arguments.requests:
                case = choose.choice(cases)
                while True:
                    try:
                        status, body, later = client.ask(case.path, case.body, case.headers)
                    except OSError as error:
                        status, body, later = 0, repr(error).encode(), False
                    if status not in (429, 503) or not later:
                        break
                    with lock:
                        counts[f"{status} with Retry-After"] += 1
                    time.sleep(choose.uniform(0.2, 1.0))
                right = case.right(status, body)
                with lock:
                    counts[f"{status}, {'right' if right else 'WRONG'}"] += 1
                    if not right:
                        wrong.append(f"{case.name}: {status} {body[:200]!r}")
                    if number % max(1, arguments.requests // 10) == 0:
                        sizes.append(memory(process))

        began = time.perf_counter()
        with ThreadPoolExecutor(arguments.clients) as threads:
            list(threads.map(run, range(arguments.clients)))
        seconds = time.perf_counter() - began
        sizes.append(memory(process))
    print(f"{arguments.clients} clients, {arguments.requests} requests, {seconds:.0f} s")
    for name, count in sorted(counts.items()):
        print(f"| {name} | {count} |")
    print("memory in MiB, from the start to the end:", " ".join(f"{size:.0f}" for size in sizes))
    print("\n".join(wrong[:20]) or "no wrong answer")
    return not wrong


def main() -> int:
    """Measure, and print as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--requests", type=int, default=400, help="by 8 clients per turn, or in the storm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--other", type=Path, help="src folder of another version; in the storm, instead of this"
    )
    parser.add_argument("--storm", action="store_true")
    parser.add_argument("--clients", type=int, default=50, help="in the storm")
    parser.add_argument("options", nargs="*", help="of the server, behind --")
    arguments = parser.parse_args()
    if arguments.storm:
        return 0 if storm(arguments) else 1
    compare_speed(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
