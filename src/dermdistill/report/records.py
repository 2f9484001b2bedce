"""What a result was made of: runs, settings, data, audit, as tables and lists of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dermdistill.core import numbers
from dermdistill.core.numbers import NONE
from dermdistill.core.tables import Table
from dermdistill.report import tables
from dermdistill.report.model import Arm, Report

_SKIPPED = ("name", "seed", "runs_root", "data.root", "teacher.run")
"""Settings that say where things lie, not what is computed."""


def cell_table(report: Report) -> Table:
    """Every run: seed, epochs, the kept epoch, scores, time, hash of the weights."""
    head = (
        "run",
        "seed",
        "epochs",
        "kept epoch",
        "validation Dice %",
        f"{report.data.split} Dice %" if report.data.split else "Dice %",
        "training",
        "weights sha256",
    )
    rows = []
    for arm in report.arms:
        for cell in arm.cells:
            validated = cell.curve.get("val_dice", [])
            at = (cell.best_epoch or 0) - 1
            val = validated[at] if 0 <= at < len(validated) else None
            dice = cell.scores.get("dice")
            epochs = len(validated) or None
            row = [cell.name, NONE if cell.seed is None else str(cell.seed), numbers.whole(epochs)]
            row += [
                numbers.whole(cell.best_epoch or None),
                numbers.percent(val),
                numbers.percent(dice.mean if dice else None),
            ]
            row += [numbers.duration(cell.seconds), cell.weights_sha256[:16] or NONE]
            rows.append(tuple(row))
    numeric = (False, *(True,) * 6, False)
    note = (
        "The kept epoch is the best by validation Dice (at input size: not comparable with test Dice). Of "
        "a hash the first 16 digits; report.json has it whole."
    )
    return Table("runs", "Runs", head, tuple(rows), numeric, note)


def difference_table(report: Report) -> Table | None:
    """The settings in which the arms differ."""
    arms = [arm for arm in report.arms if arm.settings]
    keys = _differing(arms)
    if not keys:
        return None
    rows = tuple((key, *(_value(arm.settings.get(key)) for arm in arms)) for key in keys)
    head = ("setting", *(arm.name for arm in arms))
    return Table("settings", "Settings that differ between arms", head, rows, (False,) * len(head))


def shared_settings(report: Report) -> list[tuple[str, str]]:
    """The settings that all arms share, as (name, value)."""
    arms = [arm for arm in report.arms if arm.settings]
    if not arms:
        return []
    apart = {*_differing(arms), *_SKIPPED}
    return [(key, _value(value)) for key, value in arms[-1].settings.items() if key not in apart]


def audit_table(report: Report, most: int = 50) -> Table | None:
    """Pairs that cross splits first; the rest of a long list is counted."""
    if report.audit is None or not report.audit.pairs:
        return None
    pairs = sorted(report.audit.pairs, key=lambda pair: not pair.crosses)
    rows = tuple((p.first, p.second, p.kind, "yes" if p.crosses else "no", p.detail) for p in pairs[:most])
    left = len(pairs) - len(rows)
    note = f"{left} more pairs stand in {report.audit.source.name}." if left else ""
    head = ("image", "image", "kind", "crosses splits", "detail")
    return Table("audit", "Pairs found", head, rows, (False,) * 5, note)


def facts(report: Report) -> list[tuple[str, str]]:
    """What was scored, how, by which data: (name, value), empty ones left out."""
    data = report.data
    counts = ", ".join(f"{split} {count}" for split, count in data.counts.items())
    found = [
        ("data", f"{data.title} ({data.name})" if data.title and data.title != data.name else data.name),
        ("split scored", f"{data.split}, {data.images} images" if data.images else data.split),
        ("images in all", counts),
        ("licence of the data", data.license),
        ("trained on", data.trained_on),
        ("data fingerprint", data.fingerprint),
        ("protocol", report.protocol),
        ("statistics", report.statistics),
        ("folder", str(report.folder)),
    ]
    calibration = next((arm.calibration for arm in report.arms if arm.calibration), None)
    if calibration:
        found.append(("ECE", calibration.definition))
    return [(name, value) for name, value in found if value]


def all_tables(report: Report) -> list[Table]:
    """Every table that has something in it, in the report's order."""
    makers: list[Callable[[Report], Table | None]] = [
        tables.main_table, tables.comparison_table, tables.score_table, tables.subgroup_table,
        tables.elsewhere_table, audit_table, difference_table, cell_table,
    ]  # fmt: skip
    return [table for make in makers if (table := make(report)) is not None]


def _differing(arms: Sequence[Arm]) -> list[str]:
    keys = dict.fromkeys(key for arm in arms for key in arm.settings if key not in _SKIPPED)
    return [key for key in keys if len({_value(arm.settings.get(key)) for arm in arms}) > 1]


def _value(value: Any) -> str:
    match value:
        case None:
            return NONE
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(map(str, value)) or NONE
        case _:
            return str(value)
