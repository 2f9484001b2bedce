"""What an audit found, for people and for machines: table, audit.csv, audit.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermdistill._version import __version__
from dermdistill.audit.entries import Entry
from dermdistill.audit.features import METHOD
from dermdistill.audit.matching import COPY_CORRELATION, LEAST_INLIERS, LEAST_SPREAD
from dermdistill.audit.official import Overlap
from dermdistill.audit.pairs import LEVELS, Pair
from dermdistill.core.files import write_csv, write_json

COLUMNS = [
    "image_a", "set_a", "split_a", "image_b", "set_b", "split_b", "crosses", "level", "kind", "score",
    "correlation", "mirrored",
]  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """The result of one audit."""

    entries: Sequence[Entry]
    pairs: Sequence[Pair]
    """Leaks first, then the surest."""
    overlaps: Sequence[Overlap]
    unreadable: Sequence[str]
    """Images that were left out, with the reason."""
    featureless: int
    """Images with too few features: they were compared for equality only."""
    candidates: int
    """Pairs that were looked at closely."""
    seconds: dict[str, float]

    @property
    def leaks(self) -> list[Pair]:
        """Pairs that cross from training into validation or test."""
        return [pair for pair in self.pairs if pair.crosses]


def write(audit: Audit, folder: Path) -> None:
    """Write audit.csv and audit.json, atomically."""
    write_csv(folder / "audit.csv", [_row(pair) for pair in audit.pairs], COLUMNS)
    write_json(folder / "audit.json", to_json(audit))


def to_json(audit: Audit) -> dict[str, Any]:
    """Plain values: what was compared, how, and how much was found (the pairs are in audit.csv)."""
    sets = Counter((entry.set_name, entry.split or "unknown") for entry in audit.entries)
    return {
        "made_by": f"dermdistill {__version__}",
        "method": METHOD,
        "thresholds": {
            "features": LEAST_INLIERS, "spread": LEAST_SPREAD, "near_duplicate_correlation": COPY_CORRELATION,
        },
        "images": [{"set": name, "split": split, "count": n} for (name, split), n in sets.items()],
        "unreadable": list(audit.unreadable),
        "featureless": audit.featureless,
        "candidates": audit.candidates,
        "leaks": len(audit.leaks),
        "leaking_training_images": len({(p.a.set_name, p.a.image_id) for p in audit.leaks}),
        "table": [
            {"from": one, "to": other, "level": level, "leak": leak, "pairs": n}
            for (leak, level, one, other), n in count(audit.pairs)
        ],
        "official": [
            {
                "set": o.set_name, "split": o.split or "unknown", "challenge": o.challenge,
                "official_split": o.official_split, "count": o.count, "of": o.total, "warning": o.is_warning,
            }
            for o in audit.overlaps
        ],
        "seconds": {key: round(value, 1) for key, value in audit.seconds.items()},
    }  # fmt: skip


def count(pairs: Sequence[Pair]) -> list[tuple[tuple[bool, str, str, str], int]]:
    """Count the pairs by kind.

    Returns:
        ((crosses, level, subset, subset), how many), leaks first; a subset is set/split.
    """
    counts = Counter((p.crosses, p.level, _subset(p.a), _subset(p.b)) for p in pairs)
    levels = list(LEVELS)
    return sorted(counts.items(), key=lambda c: (not c[0][0], levels.index(c[0][1]), c[0][2:]))  # type: ignore[arg-type]


def table(audit: Audit) -> str:
    """Format the summary as text."""
    rows = [
        (str(n), level, one if one == other else f"{one} ↔ {other}", "LEAK" if leak else "")
        for (leak, level, one, other), n in count(audit.pairs)
    ]
    if not rows:
        return "No two images show the same."
    head = ("pairs", "", "where", "")
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(4)]
    lines = [
        f"{n:>{widths[0]}}  {level:<{widths[1]}}  {where:<{widths[2]}}  {leak}".rstrip()
        for n, level, where, leak in [head, *rows]
    ]
    return "\n".join(lines)


def describe(pair: Pair) -> str:
    """Describe one pair in a line."""
    facts = [pair.level, pair.kind.replace("+", " and ")]
    if pair.match is not None:
        facts.append(f"{pair.match.inliers} features agree")
        facts.append(f"correlation {pair.match.correlation:.2f}")
    if pair.mirrored:
        facts.append("mirrored")
    return ", ".join(facts)


def _row(pair: Pair) -> dict[str, Any]:
    match = pair.match
    return {
        "image_a": pair.a.image_id, "set_a": pair.a.set_name, "split_a": pair.a.split,
        "image_b": pair.b.image_id, "set_b": pair.b.set_name, "split_b": pair.b.split,
        "crosses": "yes" if pair.crosses else "no", "level": pair.level, "kind": pair.kind,
        "score": "" if match is None else match.inliers,
        "correlation": "" if match is None else f"{match.correlation:.3f}",
        "mirrored": "yes" if pair.mirrored else "no",
    }  # fmt: skip


def _subset(entry: Entry) -> str:
    return f"{entry.set_name}/{entry.split or '?'}"
