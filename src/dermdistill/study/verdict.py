"""What a study found, for people: the table, and a verdict in words that claims no more than was measured."""

from __future__ import annotations

from typing import Any, Literal

ALPHA = 0.05
Verdict = Literal["gain", "loss", "no gain", "mixed"]


def judge(comparison: dict[str, Any], title: str, baseline: str) -> tuple[Verdict, str]:
    """Verdict on one arm's Dice against the baseline, and the sentence that says it.

    A gain (or loss) is called one only when the interval leaves out 0 and the corrected p is below 0.05.
    """
    d = comparison["metrics"]["dice"]
    p = d["p_wilcoxon"] if d["p_holm"] is None else d["p_holm"]
    name = "p" if d["p_holm"] is None else "Holm p"
    apart, unlikely = d["low"] > 0 or d["high"] < 0, p < ALPHA
    better, worse = (f"{100 * d[key]:.0f} %" for key in ("better", "worse"))
    numbers = (
        f"{_points(d['mean'])} Dice points ({_points(d['low'])} to {_points(d['high'])}, {name} {_p(p)}), "
        f"better on {better} and worse on {worse} of {comparison['n']} images"
    )
    if apart and unlikely:
        verdict: Verdict = "gain" if d["mean"] > 0 else "loss"
        words = f"{title}: a {verdict} against {baseline}: {numbers}"
    elif apart or unlikely:
        verdict = "mixed"
        which = (
            "the mean's interval leaves out 0, the rank test does not agree"
            if apart
            else "the rank test sees a shift, the mean's interval holds 0"
        )
        words = f"{title}: unclear against {baseline}: {numbers}; {which}"
    else:
        verdict = "no gain"
        words = f"{title}: no gain against {baseline} was measured: {numbers}; {_seen(d['resolvable'])}"
    return verdict, words + _over_seeds(d, verdict) + "."


def _seen(resolvable: float | None) -> str:
    if resolvable is None:
        return "one image can show nothing"
    return f"a true difference of {100 * resolvable:.2f} points would have been found in 4 of 5 such studies"


def _over_seeds(d: dict[str, Any], verdict: Verdict) -> str:
    """Whether it holds beyond the trainings that were made."""
    if verdict not in ("gain", "loss"):
        return ""
    over = d["over_seeds"]
    if over is None:
        return "; one training of each: whether other trainings would show it was not measured"
    interval = f"{_points(over['low'])} to {_points(over['high'])}"
    if over["low"] > 0 or over["high"] < 0:
        return f"; it holds with the seeds taken as a sample too ({interval})"
    return f"; with the seeds taken as a sample too the interval holds 0 ({interval}): more seeds are needed"


def verdict_of(study: dict[str, Any]) -> str:
    """The whole study in one paragraph."""
    students = [c for c in study["comparisons"] if c["metrics"]["dice"]["p_holm"] is not None]
    if not students:
        return "Nothing to compare yet: the baseline or every other arm is missing."
    gains = [c["arm"] for c in students if c["verdict"] == "gain"]
    unclear = any(c["verdict"] == "mixed" and c["metrics"]["dice"]["mean"] > 0 for c in students)
    head = "No clear gain." if unclear else "No gain."
    if gains:
        head = f"{len(gains)} of {len(students)} arms gained: {', '.join(gains)}."
    tail = "" if study["complete"] else " The study is not complete."
    return " ".join([head, *(c["words"] for c in students)]) + tail


def to_text(study: dict[str, Any]) -> str:
    """The table and the verdict, for a terminal."""
    data, compared = study["data"], {c["arm"]: c for c in study["comparisons"]}
    cost = "steps" if study["budget"] == "steps" else "seconds"
    lines = [
        study["question"],
        f"{data['name']}, {data['split']}, {data['images']} images; Dice and Jaccard in %, per image, "
        "mean over images and seeds, 95 % CI",
        "",
        f"{'arm':<32}{'seeds':>6}  {'Dice (95 % CI)':<25}{'Jaccard':>8}  {'difference (95 % CI)':<25}"
        f"{'Holm p':>8}  {'better/worse':<13}{cost:>7}",
    ]
    for arm in study["arms"]:
        dice, jaccard = arm["scores"]["dice"], arm["scores"]["jaccard"]
        row = f"{arm['title'][:31]:<32}{len(arm['seeds']):>6}  {_interval(dice):<25}"
        row += f"{100 * jaccard['mean']:>8.2f}  "
        entry = compared.get(arm["arm"])
        if entry is None:
            row += f"{'(baseline)' if arm['arm'] == study['baseline'] else '':<25}{'':>8}  {'':<13}"
        else:
            d = entry["metrics"]["dice"]
            difference = f"{_points(d['mean'])} ({_points(d['low'])} to {_points(d['high'])})"
            p = "" if d["p_holm"] is None else _p(d["p_holm"])
            share = f"{100 * d['better']:.0f}/{100 * d['worse']:.0f} %"
            row += f"{difference:<25}{p:>8}  {share:<13}"
        spent = arm[cost] if arm["role"] == "student" and arm[cost] is not None else ""
        lines.append(row + (f"{spent:>7.0f}" if spent else ""))
    if study["human"]:
        h = study["human"]
        note = "" if h["comparable"] else f"   ({h['note']})"
        lines.append(f"{h['label'][:31]:<32}{'':>6}  {_interval(h):<25}   n {h['n']}{note}")
    lines += [
        f"not run: {one['arm']}, seed {one['seed']}: {one['reason'].splitlines()[0]}"
        for one in study["not_run"]
    ]
    if study["missing"]:
        lines.append(f"missing: {', '.join(study['missing'])}")
    return "\n".join([*lines, "", study["verdict"]])


def _interval(s: dict[str, Any]) -> str:
    return f"{100 * s['mean']:.2f} ({100 * s['low']:.2f} to {100 * s['high']:.2f})"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
