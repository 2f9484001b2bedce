"""What `bench` measured of each network, as text and as plain values, and what it ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermdistill.artifacts.card import ModelCard, versions
from dermdistill.benchmark.latency import SETTINGS, ColdStart, Latency, Runner
from dermdistill.core import numbers
from dermdistill.metrics.intervals import Interval


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network to be measured."""

    name: str
    source: str
    engine: str
    """ONNX Runtime or torch."""
    size: int
    card: ModelCard | None
    parameters: int | None
    macs: int | None
    bytes: int | None
    """Of the file; None for a module that has none."""
    open: Callable[[int], Runner]
    """Threads → what runs it."""


@dataclass(frozen=True, eq=False)
class Row:
    """What was measured of one network."""

    candidate: Candidate
    latency: dict[str, Latency]
    cold: ColdStart
    dice: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        one = self.candidate
        return {
            "name": one.name,
            "source": one.source,
            "engine": one.engine,
            "input_size": one.size,
            "parameters": one.parameters,
            "macs": one.macs,
            "bytes": one.bytes,
            "cold_start": self.cold.to_json(),
            "latency": {key: value.to_json() for key, value in self.latency.items()},
            "ratio": self.latency[SETTINGS[0].key].ratio,
            "dice": asdict(self.dice) if self.dice else None,
        }


def to_text(rows: Sequence[Row]) -> str:
    """Format the measurements as a table for people.

    Args:
        rows: The networks, the one that ratios are to first.

    Returns:
        Lines with a legend below.
    """
    head = [
        "",
        "engine",
        "side",
        "params",
        "MACs",
        "file",
        "cold",
        *(s.key for s in SETTINGS),
        "ratio",
        "peak",
    ]
    table = [head]
    for row in rows:
        one = row.candidate
        table.append(
            [
                one.name,
                one.engine,
                str(one.size),
                _count(one.parameters, 1e6, "M"),
                _count(one.macs, 1e9, "G"),
                _count(one.bytes, 1e6, "MB"),
                f"{row.cold.seconds:.2f} s",
                *(f"{v.median_ms:.1f} ({v.p95_ms:.1f})" for v in row.latency.values()),
                f"{row.latency[SETTINGS[0].key].ratio:.2f}",
                numbers.NONE if row.cold.peak_mb is None else f"{row.cold.peak_mb:.0f} MB",
            ]
        )
        if row.dice:
            table[-1][0] += f"  Dice {numbers.percent(row.dice.mean)}"
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in table
    ]
    lines.append(
        "THREADSxBATCH: median (95th percentile), ms per batch, interleaved; ratio at 1x1 to the first;"
    )
    lines.append(
        "cold: a fresh process to its first output; peak: its resident memory. Trust ratios, not ms."
    )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that the measurements were made with."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "versions": versions(),
    }


def _count(value: int | None, unit: float, name: str) -> str:
    return numbers.NONE if value is None else f"{value / unit:.2f} {name}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
