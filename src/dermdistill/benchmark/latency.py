"""How long a network takes: in turns with the others, and cold in a process of its own.

On a shared machine milliseconds come and go; what holds is the ratio of two networks that were timed in
turns. One network is open at a time: the threads of several would fight for the cores, as those of ONNX
Runtime spin while they wait.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill.core.errors import DermDistillError
from dermdistill.inference.onnx_backend import open_session

Image = NDArray[np.float32]
Runner = Callable[[Image], Any]
"""float32 [n, 3, s, s] → anything."""


@dataclass(frozen=True)
class Setting:
    """One way to be timed."""

    threads: int
    batch: int

    @property
    def key(self) -> str:
        """``THREADSxBATCH``, as in bench.json."""
        return f"{self.threads}x{self.batch}"


SETTINGS = (Setting(1, 1), Setting(2, 1), Setting(1, 8), Setting(2, 8))


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call (for the whole batch)."""

    median_ms: float
    p95_ms: float
    calls: int
    ratio: float
    """Median over rounds of its time over the first network's in the same round."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class ColdStart:
    """A fresh process: from nothing to the first output."""

    seconds: float
    """Start of Python, imports, loading, first image; median of the repeats."""
    load_seconds: float
    """Loading the network alone."""
    peak_mb: float | None
    """Largest resident memory, in 10⁶ bytes; None where the system does not say."""
    beyond_start_mb: float | None
    """The same, without what Python and the libraries held before the network was loaded."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def interleave(
    open_runner: Mapping[str, Callable[[int], Runner]],
    sizes: Mapping[str, int],
    *,
    settings: Sequence[Setting] = SETTINGS,
    rounds: int = 15,
    warm_ups: int = 2,
    repeats: int = 2,
    clock: Callable[[], float] = time.perf_counter,
    during: Callable[[], AbstractContextManager[None]] = nullcontext,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, dict[str, Latency]]:
    """Time networks in turns: in each round every one is opened, warmed up, timed, and let go of.

    Args:
        open_runner: By name: threads → what runs it. The first is the one that the ratios are to.
        sizes: By name: side of its images in pixels.
        settings: Threads and batch sizes.
        rounds: How many turns each network gets per setting.
        warm_ups: Calls at the beginning of a turn that are not counted.
        repeats: Calls of a turn that are.
        clock: Seconds; `time.thread_time` counts the processor time of one thread, for a busy machine.
        during: What surrounds the calls of a turn, once the network is open: a priority, say.
        seed: Of the pixels.
        progress: Show a bar.

    Returns:
        By name, by `Setting.key`.
    """
    latencies: dict[str, dict[str, Latency]] = {name: {} for name in open_runner}
    with tqdm(total=len(settings) * rounds, unit="round", disable=not progress, leave=False) as bar:
        for setting in settings:
            images = {
                side: np.random.default_rng(seed).random((setting.batch, 3, side, side), dtype=np.float32)
                for side in set(sizes.values())
            }
            times: dict[str, list[list[float]]] = {name: [] for name in open_runner}
            for _ in range(rounds):
                for name, make in open_runner.items():
                    image = images[sizes[name]]
                    run = make(setting.threads)
                    with during():
                        times[name].append(_turn(run, image, warm_ups, repeats, clock))
                    del run  # before the next one is opened
                bar.update()
            first = [statistics.median(turn) for turn in times[next(iter(times))]]
            for name, turns in times.items():
                latencies[name][setting.key] = _summarise(turns, first)
    return latencies


def cold_start(arguments: Sequence[str], *, repeats: int = 3, timeout: float = 300) -> ColdStart:
    """Load a network and run it on one image in a fresh process, ``repeats`` times.

    Args:
        arguments: Of `dermdistill.benchmark.cold_start`.
        repeats: How often; the medians are returned.
        timeout: Seconds for one.

    Returns:
        The medians over the repeats.

    Raises:
        DermDistillError: The process failed; the message holds its last line.
    """
    seconds, reports = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "dermdistill.benchmark.cold_start", *arguments],
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DermDistillError(
                f"{arguments[0]} cannot be run in a process of its own: {last}",
                "a model that runs",
                "Run the model alone (dermdistill predict --model FILE) to see the whole message.",
            )
        reports.append(json.loads(done.stdout.splitlines()[-1]))

    def middle(key: str) -> float | None:
        values = [one[key] for one in reports if one[key] is not None]
        return statistics.median(values) if values else None

    return ColdStart(
        statistics.median(seconds),
        middle("load_seconds") or 0.0,
        middle("peak_mb"),
        middle("beyond_start_mb"),
    )


def onnx_runner(path: Path, threads: int, spin: bool = False) -> Runner:
    """Open an ONNX file as a function from its first input to all its outputs.

    Args:
        path: ONNX file.
        threads: Within one operator.
        spin: See `open_session`.
    """
    session = open_session(path, threads, spin=spin)
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})


def _turn(run: Runner, image: Image, warm_ups: int, repeats: int, clock: Callable[[], float]) -> list[float]:
    for _ in range(warm_ups):
        run(image)
    times = []
    for _ in range(repeats):
        start = clock()
        run(image)
        times.append(1e3 * (clock() - start))
    return times


def _summarise(turns: list[list[float]], first: list[float]) -> Latency:
    calls = [value for turn in turns for value in turn]
    ratios = [statistics.median(turn) / base for turn, base in zip(turns, first, strict=True)]
    return Latency(
        statistics.median(calls), float(np.quantile(calls, 0.95)), len(calls), statistics.median(ratios)
    )
