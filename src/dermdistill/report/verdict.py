"""The answer in words. It only says what the study's statistics say; there is no second opinion here."""

from __future__ import annotations

from typing import Any

from dermdistill.core import numbers
from dermdistill.report.model import Arm, Report
from dermdistill.study.scores import Difference


def headline(report: Report) -> str:
    """One sentence: the answer to the question."""
    shown = report.shown
    if shown is None or "dice" not in shown.scores:
        return "Nothing has been evaluated yet."
    if report.kind == "study" and report.baseline is None:
        return "The study is not finished: nothing has been compared yet."
    if report.kind == "run":
        return f"{shown.name} scores a Dice of {numbers.percent(shown.scores['dice'].mean)} %."
    compared = [arm for arm in report.arms if arm.distilled and "dice" in arm.differences]
    base = next((arm for arm in report.arms if arm.name == report.baseline), None)
    # A larger network's lead over a smaller one is not distillation's.
    alike = [arm for arm in compared if base is None or _network_of(arm) == _network_of(base)]
    gains = [arm for arm in alike if arm.verdict == "gain"]
    if gains:
        best = max((arm.differences["dice"] for arm in gains), key=lambda d: d.mean)
        return f"{_helped(best)}: {numbers.signed(best.mean)} Dice points over {report.baseline}."
    which = "arm" if len(alike) == len(compared) else "arm of the same network"
    if not alike:
        return f"No distilled {which} has been compared with {report.baseline} yet."
    if all(arm.verdict == "loss" for arm in alike):
        return f"Distillation hurt: every distilled {which} scored below {report.baseline}."
    if any(arm.verdict == "mixed" for arm in alike):
        return f"No clear gain by distillation was measured over {report.baseline}."
    return f"No gain was measured: no distilled {which} scored above {report.baseline} beyond chance."


def _network_of(arm: Arm) -> tuple[Any, ...]:
    """What is the same in two trainings of one network; all None where an arm has no settings."""
    return tuple(arm.settings.get(f"student.{name}") for name in ("arch", "encoder", "norm"))


def _helped(gain: Difference) -> str:
    """A gain over images is one of these trainings; that of the method needs the seeds to agree."""
    if gain.over_seeds is None:
        return "Distillation helped with this one seed"
    if gain.over_seeds.low <= 0:
        return "Distillation helped in these trainings, and more seeds are needed to say so of others"
    return "Distillation helped"


def details(report: Report) -> list[str]:
    """Further sentences: each comparison, what was kept of the teacher, what people agree on."""
    shown, teacher = report.shown, report.teacher
    sentences = []
    if report.kind == "run" and shown and (dice := shown.scores.get("dice")):
        images = f"{dice.n} {report.data.split} images of {report.data.title or report.data.name}"
        low, high = numbers.percent(dice.low), numbers.percent(dice.high)
        sentences.append(f"95 % interval {low} to {high} %, over {images}.")
    against = sorted(
        (a for a in report.arms if "dice" in a.differences), key=lambda arm: arm.role == "teacher"
    )
    sentences += [arm.verdict_text or _compared(report, arm) for arm in against]
    if shown and teacher and shown is not teacher:
        sentences += _kept(shown, teacher)
    if shown and shown.agreement:
        agreed, true = numbers.interval(shown.agreement), numbers.interval(shown.scores.get("dice"))
        sentences.append(
            f"{shown.name} agrees with its teacher at a Dice of {agreed} %, with the truth at {true} %."
        )
    if report.inter_rater_agreement:
        human = report.inter_rater_agreement
        where = "" if human.comparable else " (other images than these: a landmark, not a comparison)"
        between = numbers.interval(human)
        sentences.append(
            f"{human.label}: Dice {between} % on {human.n} images{where}. Source: {human.source}."
        )
    return sentences


def _compared(report: Report, arm: Arm) -> str:
    d = arm.differences["dice"]
    p = "" if d.p_holm is None else f"; Holm-corrected p {_equals(numbers.p_value(d.p_holm))}"
    interval = f"95 % CI {numbers.signed(d.low)} to {numbers.signed(d.high)}{p}"
    points = f"{numbers.signed(d.mean)} Dice points ({interval})"
    return f"{arm.name} against {report.baseline}: {points}."


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _kept(shown: Arm, teacher: Arm) -> list[str]:
    if "dice" not in shown.scores or "dice" not in teacher.scores or not teacher.scores["dice"].mean:
        return []
    kept = shown.kept if shown.kept is not None else shown.scores["dice"].mean / teacher.scores["dice"].mean
    costs = []
    for name, mine, theirs in (
        ("parameters", shown.parameters, teacher.parameters),
        ("multiply-accumulates", shown.macs, teacher.macs),
    ):
        if mine and theirs:
            costs.append(f"{100 * mine / theirs:.3g} % of its {name}")
    with_ = f", with {' and '.join(costs)}" if costs else ""
    verb = "keeps" if kept < 1 else "reaches"
    return [f"{shown.name} {verb} {numbers.percent(kept, 1)} % of the teacher's Dice{with_}."]
