"""What the frontier measured of each network, and its table (used by frontier.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dermdistill.benchmark.latency import Latency
from dermdistill.metrics.intervals import Interval


@dataclass
class Row:
    """What was measured of one network; latency by `Setting.key`, Dice 0 to 1."""

    name: str
    parameters: int
    macs: int
    size: int
    latency: dict[str, Latency]
    dice: Interval | None = None
    seeds: int = 0
    quoted: float | None = None


def to_markdown(rows: Sequence[Row]) -> str:
    """The table; rows from the quickest on, ratios to the first that was given."""
    keys = list(rows[0].latency)
    threads = [f"{key.partition('x')[0]} thread{'s' * (key[:2] != '1x')}" for key in keys]
    head = ["network", "input", "parameters (M)", "GMACs"]
    head += [f"{column}" for one in threads for column in (f"{one} (ms)", f"× {rows[0].name}")]
    lines = [[*head, "Dice (95 % CI)"], ["---"] * (len(head) + 1)]
    for row in sorted(rows, key=lambda row: row.latency[keys[0]].median_ms):
        times = [f"{x:.{d}f}" for key in keys for x, d in _cells(row.latency[key])]
        dice = f"{row.quoted:.2f} (quoted)" if row.quoted else ""
        if row.dice:
            dice = f"{100 * row.dice.mean:.2f} ({100 * row.dice.low:.2f} to {100 * row.dice.high:.2f})"
            dice += f", {row.seeds} seeds" if row.seeds > 1 else ""
        cost = [f"{row.size}²", f"{row.parameters / 1e6:.3f}", f"{row.macs / 1e9:.3f}"]
        lines.append([row.name, *cost, *times, dice])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(latency: Latency) -> tuple[tuple[float, int], ...]:
    return (latency.median_ms, 2), (latency.ratio, 3)
