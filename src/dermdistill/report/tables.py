"""The report's tables as text. HTML, Markdown and LaTeX only dress them, so their numbers cannot differ."""

from __future__ import annotations

from collections.abc import Sequence

from dermdistill.core import numbers
from dermdistill.core.numbers import NONE
from dermdistill.core.tables import Table
from dermdistill.evaluation.differences import BOLD, is_told_from_zero
from dermdistill.metrics.intervals import Interval
from dermdistill.report.model import Arm, Report


def main_table(report: Report) -> Table:
    """Arm, cost, scores, difference: what the report is about."""
    compared = any(arm.differences for arm in report.arms)
    head = ["arm", "parameters", "MACs", "size", "Dice % (95 % CI)", "Jaccard % (95 % CI)"]
    if compared:
        head += ["ΔDice, points (95 % CI)", "p (Holm)"]
    rows: list[tuple[str, ...]] = []
    bold: list[tuple[int, int]] = []
    for arm in report.arms:
        row = [
            arm.name,
            numbers.whole(arm.parameters),
            numbers.operations(arm.macs),
            numbers.file_size(arm.size_bytes),
        ]
        row += [numbers.interval(arm.scores.get("dice")), numbers.interval(arm.scores.get("jaccard"))]
        if compared:
            difference = arm.differences.get("dice")
            row += ["baseline", NONE] if arm.name == report.baseline else [
                numbers.difference(difference),
                numbers.p_value(difference.p_holm if difference else None)
            ]  # fmt: skip
            if difference and is_told_from_zero(difference):
                bold.append((len(rows), head.index("ΔDice, points (95 % CI)")))
        rows.append(tuple(row))
    if report.inter_rater_agreement:
        human = report.inter_rater_agreement
        mark = "" if human.comparable else " (other images)"
        row = [f"{human.label}{mark}", NONE, NONE, NONE, numbers.interval(human), NONE]
        rows.append((*row, NONE, NONE) if compared else tuple(row))
    return Table(
        "main",
        "Results",
        tuple(head),
        tuple(rows),
        _all_but_first(head),
        _main_note(report, compared),
        tuple(bold),
    )


def _main_note(report: Report, compared: bool) -> str:
    seeds = {len(arm.cells) for arm in report.arms if arm.role == "student"}
    parts = []
    if report.data.images:
        parts.append(
            f"{report.data.images} {report.data.split} images of {report.data.title or report.data.name}"
        )
    if seeds and report.kind == "study":
        counts = "–".join(str(count) for count in sorted(seeds))
        parts.append(f"{counts} seed{'' if seeds == {1} else 's'} per student")
    sizes = sorted({arm.input_size for arm in report.arms if arm.input_size})
    if sizes:
        parts.append(f"MACs for one image at {' and '.join(f'{s}×{s}' for s in sizes)}")
    if any(arm.size_bytes for arm in report.arms):
        parts.append("size of the weights' file")
    if compared:
        parts.append(f"Δ against {report.baseline}, paired by image")
    note = "; ".join(parts) + "." if parts else ""
    return f"{note} {BOLD}" if compared else note


def comparison_table(report: Report) -> Table | None:
    """Each comparison in full: both tests, what could have been resolved, images made better and worse."""
    head = ("arm", "measure", "difference (95 % CI)", "p bootstrap", "p Wilcoxon", "p Holm", "detectable",
            "better", "worse", "verdict")  # fmt: skip
    rows: list[tuple[str, ...]] = []
    bold: list[tuple[int, int]] = []
    for arm in report.arms:
        for measure, d in arm.differences.items():
            scale = 0.01 if measure == "hd95" else 1.0  # it is in percent already
            if is_told_from_zero(d):
                bold.append((len(rows), 2))
            mean, low, high = (numbers.signed(scale * value) for value in (d.mean, d.low, d.high))
            difference = f"{mean} ({low} to {high})"
            row = [
                arm.name,
                _title(measure),
                difference,
                *(numbers.p_value(p) for p in (d.p_bootstrap, d.p_wilcoxon, d.p_holm)),
            ]
            smallest = d.minimum_detectable_difference
            row.append(numbers.percent(None if smallest is None else scale * smallest))
            row += [_share(d.better), _share(d.worse), (arm.verdict or NONE) if measure == "dice" else ""]
            rows.append(tuple(row))
    if not rows:
        return None
    numeric = (False, False, *(True,) * 7, False)
    note = (
        f"In points, against {report.baseline}. Detectable: the true difference that 4 of 5 such studies "
        f"would find. Better, worse: share of images. {BOLD} {_sentence(report.statistics)}"
    )
    return Table("comparisons", "Comparisons", head, tuple(rows), numeric, note.strip(), tuple(bold))


def score_table(report: Report) -> Table | None:
    """The other measures of each arm."""
    names = ("threshold_jaccard", "sensitivity", "specificity", "accuracy", "boundary_f", "hd95")
    used = [name for name in names if any(name in arm.scores for arm in report.arms)]
    agreed = any(arm.agreement for arm in report.arms)
    calibrated = any(arm.calibration for arm in report.arms)
    if not used:
        return None
    head = ["arm", *(_title(name) for name in used)]
    head += ["agreement"] if agreed else []
    head += ["ECE"] if calibrated else []
    head += ["failures"]
    rows = []
    for arm in report.arms:
        row = [arm.name, *(_score(name, arm.scores.get(name)) for name in used)]
        row += [numbers.interval(arm.agreement, 1)] if agreed else []
        row += [numbers.percent(arm.calibration.ece if arm.calibration else None)] if calibrated else []
        row.append(_failed(arm))
        rows.append(tuple(row))
    note = "In percent with 95 % intervals. Agreement: Dice between the arm's masks and the teacher's. "
    if "hd95" in used:
        note += "Hausdorff 95 %: percent of the image diagonal, lower is better. "
    note += "Failures: images whose Jaccard (mean of the seeds) is below 0.65."
    return Table("scores", "More than overlap", tuple(head), tuple(rows), _all_but_first(head), note)


def subgroup_table(report: Report) -> Table | None:
    """Every level of every subgroup: n, the baseline's Dice, the others' difference to it (or their Dice)."""
    if not report.subgroups:
        return None
    arms = list(dict.fromkeys(s.arm for s in report.subgroups))
    paired = {s.arm for s in report.subgroups if s.difference}
    head = ["subgroup", "level", "n", *(f"{a}: {'Δ points' if a in paired else 'Dice %'}" for a in arms)]
    found = {(s.name, s.level, s.arm): s for s in report.subgroups}
    rows = []
    for name, level in dict.fromkeys((s.name, s.level) for s in report.subgroups):
        first = next(s for s in report.subgroups if (s.name, s.level) == (name, level))
        row = [name, level + (" (few)" if first.small else ""), numbers.whole(first.n)]
        for arm in arms:
            subgroup = found.get((name, level, arm))
            if arm in paired:
                row.append(numbers.difference(subgroup.difference if subgroup else None))
            else:
                row.append(numbers.interval(subgroup.dice if subgroup else None, 1))
        rows.append(tuple(row))
    numeric = (False, False, *(True,) * (len(head) - 2))
    note = (
        "With 95 % intervals; (few): too few images to say much. No correction for the number of subgroups."
    )
    if paired:
        note = f"Δ: Dice minus that of {report.baseline}, paired by image. {note}"
    return Table("subgroups", "Subgroups", tuple(head), tuple(rows), numeric, note)


def elsewhere_table(report: Report) -> Table | None:
    """Scores on other data or splits."""
    if not report.elsewhere:
        return None
    rows = tuple(
        (
            e.data,
            e.split,
            numbers.whole(e.dice.n),
            numbers.interval(e.dice),
            numbers.interval(e.jaccard),
        )
        for e in report.elsewhere
    )
    head = ("data", "split", "images", "Dice % (95 % CI)", "Jaccard % (95 % CI)")
    return Table("elsewhere", "On other images", head, rows, (False, False, True, True, True))


def _title(name: str) -> str:
    match name:
        case "boundary_f":
            return "boundary F"
        case "hd95":
            return "Hausdorff 95 %"
        case _:
            return name.replace("_", " ")


def _score(name: str, value: Interval | None) -> str:
    if value is not None and name == "hd95":  # in percent already
        value = Interval(value.mean / 100, value.low / 100, value.high / 100, value.n)
    return numbers.interval(value, 1)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _share(value: float | None) -> str:
    return NONE if value is None else f"{numbers.percent(value, 0)} %"


def _failed(arm: Arm) -> str:
    if arm.per_image is None:
        return NONE
    n = len(arm.per_image.image_id)
    return f"{len(arm.failures)} of {n} ({numbers.percent(len(arm.failures) / n, 1)} %)"


def _all_but_first(head: Sequence[str]) -> tuple[bool, ...]:
    return (False, *(True for _ in head[1:]))
