"""Verdicts claim what was measured, and say what was not."""

from __future__ import annotations

from typing import Any

import pytest

from dermdistill.study.schema import ScoredData, StudyResult
from dermdistill.study.scores import ArmComparison, Difference
from dermdistill.study.verdict import judge, verdict_of

DICE: dict[str, Any] = {
    "mean": 0.01, "low": 0.004, "high": 0.016, "n": 300, "p_wilcoxon": 0.002, "p_holm": 0.004, "better": 0.55,
    "worse": 0.3, "resolvable": 0.008, "over_seeds": {"low": 0.002, "high": 0.018, "df": 9.0},
}  # fmt: skip
NOTHING = {"mean": 0.001, "low": -0.004, "high": 0.006, "p_wilcoxon": 0.4, "p_holm": 0.8}


@pytest.mark.parametrize(
    ("more", "verdict", "told"),
    [
        ({}, "gain", "+1.00 Dice points (+0.40 to +1.60, Holm p 0.004)"),
        ({}, "gain", "it holds with the seeds taken as a sample too"),
        ({"over_seeds": {"low": -0.01, "high": 0.03, "df": 2.0}}, "gain", "more seeds are needed"),
        ({"over_seeds": None}, "gain", "one seed of each"),
        ({"mean": -0.01, "low": -0.016, "high": -0.004}, "loss", "a loss against alone: −1.00"),
        (NOTHING, "no gain", "no gain against alone was measured"),
        (NOTHING, "no gain", "0.80 points would have been found in 4 of 5"),
        ({"p_holm": 0.2}, "mixed", "the rank test does not agree"),
        (NOTHING | {"p_holm": 0.01}, "mixed", "the mean's interval holds 0"),
        (NOTHING | {"resolvable": None}, "no gain", "one image can show nothing"),
        ({"p_holm": None}, "gain", ", p 0.002)"),
    ],
)
def test_verdicts(more: dict[str, Any], verdict: str, told: str) -> None:
    found, text = judge(Difference.model_validate(DICE | more), "distilled", "alone")
    assert found == verdict
    assert told in text


def whole(*changes: dict[str, Any], complete: bool = True) -> str:
    comparisons = []
    for change in changes:
        dice = Difference.model_validate(DICE | change)
        verdict, text = judge(dice, "distilled", "alone")
        comparisons.append(ArmComparison(arm="kl", n=300, metrics={"dice": dice}, verdict=verdict, text=text))
    data = ScoredData(name="phantom", split="test")
    return verdict_of(
        StudyResult(name="s", data=data, arms=(), comparisons=tuple(comparisons), complete=complete)
    )


def test_the_whole_study_in_words() -> None:
    assert whole({}, NOTHING).startswith("1 of 2 arms gained: kl.")
    assert whole(NOTHING).startswith("No gain. ")
    assert whole({"p_holm": 0.2}).startswith("No clear gain. ")
    assert whole({"p_holm": 0.2, "mean": -0.01, "low": -0.016, "high": -0.004}).startswith("No gain. ")
    assert whole({"p_holm": None}).startswith("Nothing to compare yet")  # only a teacher
    assert whole({}, complete=False).endswith("The study is not complete.")
