"""What a study found, for people: the table, and a verdict in words that claims no more than was measured."""

from __future__ import annotations

from dermdistill.core import numbers
from dermdistill.evaluation.differences import interval_leaves_out_zero, is_significant
from dermdistill.study.schema import ArmResult, StudyResult
from dermdistill.study.scores import Difference, Verdict


def judge(dice: Difference, title: str, baseline: str) -> tuple[Verdict, str]:
    """Return the verdict on one arm's Dice against the baseline, and the sentence that says it.

    A gain (or loss) is called one only when the interval leaves out 0 and the corrected p is below 0.05.

    Args:
        dice: The paired difference.
        title: Of the arm, for people.
        baseline: Likewise.
    """
    p, name = (dice.p_wilcoxon, "p") if dice.p_holm is None else (dice.p_holm, "Holm p")
    apart, unlikely = interval_leaves_out_zero(dice), is_significant(dice)
    better, worse = (f"{numbers.percent(share, 0)} %" for share in (dice.better, dice.worse))
    ends = f"{numbers.signed(dice.low)} to {numbers.signed(dice.high)}"
    measured = (
        f"{numbers.signed(dice.mean)} Dice points ({ends}, "
        f"{name} {numbers.p_value(p)}), better on {better} and worse on {worse} of {dice.n} images"
    )
    if apart and unlikely:
        verdict: Verdict = "gain" if dice.mean > 0 else "loss"
        text = f"{title}: a {verdict} against {baseline}: {measured}"
    elif apart or unlikely:
        verdict = "mixed"
        which = (
            "the mean's interval leaves out 0, the rank test does not agree"
            if apart
            else "the rank test sees a shift, the mean's interval holds 0"
        )
        text = f"{title}: unclear against {baseline}: {measured}; {which}"
    else:
        verdict = "no gain"
        text = f"{title}: no gain against {baseline} was measured: {measured}; {_detectable(dice)}"
    return verdict, text + _over_seeds(dice, verdict) + "."


def _detectable(dice: Difference) -> str:
    smallest = dice.minimum_detectable_difference
    if smallest is None:
        return "one image can show nothing"
    points = numbers.percent(smallest)
    return f"a true difference of {points} points would have been found in 4 of 5 such studies"


def _over_seeds(dice: Difference, verdict: Verdict) -> str:
    """Whether it holds beyond the trainings that were made."""
    if verdict not in ("gain", "loss"):
        return ""
    over = dice.over_seeds
    if over is None:
        return "; one seed of each: whether other trainings would show it was not measured"
    interval = f"{numbers.signed(over.low)} to {numbers.signed(over.high)}"
    if over.low > 0 or over.high < 0:
        return f"; it holds with the seeds taken as a sample too ({interval})"
    return f"; with the seeds taken as a sample too the interval holds 0 ({interval}): more seeds are needed"


def verdict_of(study: StudyResult) -> str:
    """The whole study in one paragraph."""
    students = [one for one in study.comparisons if one.metrics["dice"].p_holm is not None]
    if not students:
        return "Nothing to compare yet: the baseline or every other arm is missing."
    gains = [one.arm for one in students if one.verdict == "gain"]
    unclear = any(one.verdict == "mixed" and one.metrics["dice"].mean > 0 for one in students)
    head = "No clear gain." if unclear else "No gain."
    if gains:
        head = f"{len(gains)} of {len(students)} arms gained: {', '.join(gains)}."
    tail = "" if study.complete else " The study is not complete."
    return " ".join([head, *(one.text for one in students)]) + tail


def to_text(study: StudyResult) -> str:
    """The table and the verdict, for a terminal."""
    data = study.data
    cost = "steps" if study.budget == "steps" else "seconds"
    lines = [
        study.question,
        f"{data.name}, {data.split}, {data.images} images; Dice and Jaccard in %, per image, "
        "mean over images and seeds, 95 % CI",
        "",
        f"{'arm':<32}{'seeds':>6}  {'Dice (95 % CI)':<25}{'Jaccard':>8}  {'difference (95 % CI)':<25}"
        f"{'Holm p':>8}  {'better/worse':<13}{cost:>7}",
        *(_row(study, arm) for arm in study.arms),
    ]
    if people := study.inter_rater_agreement:
        note = "" if people.comparable else f"   ({people.note})"
        dice = numbers.interval(people, between=" to ")
        lines.append(f"{people.label[:31]:<32}{'':>6}  {dice:<25}   n {people.n}{note}")
    lines += [f"not run: {one.arm}, seed {one.seed}: {one.reason.splitlines()[0]}" for one in study.not_run]
    if study.missing:
        lines.append(f"missing: {', '.join(study.missing)}")
    return "\n".join([*lines, "", study.verdict])


def _row(study: StudyResult, arm: ArmResult) -> str:
    dice = numbers.interval(arm.scores["dice"], between=" to ")
    jaccard = numbers.percent(arm.scores["jaccard"].mean)
    row = f"{(arm.title or arm.name)[:31]:<32}{len(arm.seeds):>6}  {dice:<25}{jaccard:>8}  "
    comparison = study.comparison(arm.name)
    if comparison is None:
        row += f"{'(baseline)' if arm.name == study.baseline else '':<25}{'':>8}  {'':<13}"
    else:
        d = comparison.metrics["dice"]
        p = "" if d.p_holm is None else numbers.p_value(d.p_holm)
        share = f"{numbers.percent(d.better, 0)}/{numbers.percent(d.worse, 0)} %"
        row += f"{numbers.difference(d):<25}{p:>8}  {share:<13}"
    spent = arm.steps if study.budget == "steps" else arm.seconds
    return row + (f"{spent:>7.0f}" if arm.role == "student" and spent else "")
