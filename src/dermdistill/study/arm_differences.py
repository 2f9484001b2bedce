"""Each arm's paired differences to the baseline: over all images, and over those of each subgroup."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dermdistill.evaluation.per_image import bounds_of
from dermdistill.evaluation.subgroups import by_subgroup
from dermdistill.metrics import paired_tests
from dermdistill.metrics.intervals import Values, difference_interval
from dermdistill.study.scored_cells import PRIMARY, CellResult, stack
from dermdistill.study.scores import (
    ArmComparison,
    Difference,
    LevelDifference,
)
from dermdistill.study.verdict import judge

COMPARED = ("dice", "jaccard", "boundary_f", "hd95")
LOWER_IS_BETTER = ("hd95",)


def compare(
    arms: dict[str, list[CellResult]], baseline: str, teacher: str, titles: Mapping[str, str]
) -> tuple[ArmComparison, ...]:
    """Compare each arm with the baseline.

    Student arms are paired by seed (the seeds that both have) and image. The teacher has no student's seed:
    means over seeds are paired, by image alone. Holm's correction is over the student arms.

    Args:
        arms: The scored cells of each arm.
        baseline: Name of the arm that the others are compared with; where it is not there, nothing is.
        teacher: Name of the arm that taught.
        titles: By arm, for the sentences.
    """
    if baseline not in arms:
        return ()
    matched = {
        arm: pair
        for arm, cells in arms.items()
        if arm != baseline and (pair := _matched(cells, arms[baseline], by_seed=arm != teacher))[0]
    }
    differences = {
        arm: {
            name: _difference(stack(mine, name), stack(theirs, name), name, over_seeds=arm != teacher)
            for name in COMPARED
        }
        for arm, (mine, theirs) in matched.items()
    }
    family = [arm for arm in matched if arm != teacher]
    for name in COMPARED:
        corrected = paired_tests.holm([differences[arm][name].p_wilcoxon or 0.0 for arm in family])
        for arm, p in zip(family, corrected, strict=True):
            differences[arm][name] = differences[arm][name].model_copy(update={"p_holm": p})
    found = []
    for arm, (mine, _) in matched.items():
        verdict, text = judge(differences[arm][PRIMARY], titles[arm], titles[baseline])
        found.append(
            ArmComparison(
                arm=arm, baseline=baseline, seeds=tuple(cell.seed for cell in mine), n=len(mine[0].images),
                metrics=differences[arm], verdict=verdict, text=text,
            )
        )  # fmt: skip
    return tuple(found)


def differences_by_subgroup(
    arms: dict[str, list[CellResult]], baseline: str, teacher: str
) -> dict[str, dict[str, tuple[LevelDifference, ...]]]:
    """The paired Dice differences to the baseline in each level of each subgroup, by arm and subgroup.

    Args: as for `compare`, which pairs in the same way.
    """
    if baseline not in arms:
        return {}
    found = {}
    for arm, cells in arms.items():
        mine, theirs = _matched(cells, arms[baseline], by_seed=arm != teacher)
        if arm == baseline or not mine:
            continue
        difference = stack(mine, PRIMARY).mean(axis=0) - stack(theirs, PRIMARY).mean(axis=0)
        found[arm] = {
            name: tuple(
                LevelDifference(level=one["level"], small=one["small"], **one[PRIMARY])
                for one in subgroup["levels"]
            )
            for name, subgroup in by_subgroup(
                theirs[0].images, {PRIMARY: difference}, interval=difference_interval
            ).items()
        }
    return found


def _matched(
    arm: list[CellResult], baseline: list[CellResult], *, by_seed: bool
) -> tuple[list[CellResult], list[CellResult]]:
    if not by_seed:
        return arm, baseline
    both = {cell.seed for cell in arm} & {cell.seed for cell in baseline}
    return [c for c in arm if c.seed in both], [c for c in baseline if c.seed in both]


def _difference(arm: Values, baseline: Values, name: str, *, over_seeds: bool) -> Difference:
    """The paired difference in one measure; without ``over_seeds`` of the means over each arm's seeds."""
    if not over_seeds:
        arm, baseline = arm.mean(axis=0, keepdims=True), baseline.mean(axis=0, keepdims=True)
    pair = paired_tests.paired(
        arm, baseline, higher_is_better=name not in LOWER_IS_BETTER, scale=bounds_of(name)[1]
    )
    return Difference.model_validate(dataclasses.asdict(pair))
