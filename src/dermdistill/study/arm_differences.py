"""Each arm's paired differences to the baseline: over all images, and over those of each subgroup."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dermdistill.evaluation.differences import COMPARED, paired_differences
from dermdistill.evaluation.subgroups import by_subgroup
from dermdistill.metrics.intervals import Values, difference_interval
from dermdistill.study.scored_cells import PRIMARY, CellResult, stack
from dermdistill.study.scores import (
    ArmComparison,
    Difference,
    LevelDifference,
)
from dermdistill.study.verdict import judge


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
    tested = paired_differences(
        {
            arm: (_scores(mine, over_seeds=arm != teacher), _scores(theirs, over_seeds=arm != teacher))
            for arm, (mine, theirs) in matched.items()
        },
        family=[arm for arm in matched if arm != teacher],
    )
    differences = {
        arm: {name: Difference.model_validate(dataclasses.asdict(d)) for name, d in by_measure.items()}
        for arm, by_measure in tested.items()
    }
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


def _scores(cells: list[CellResult], *, over_seeds: bool) -> dict[str, Values]:
    """The scores of each measure; without ``over_seeds`` their means over the seeds, as one row."""
    stacked = {name: stack(cells, name) for name in COMPARED}
    return stacked if over_seeds else {n: v.mean(axis=0, keepdims=True) for n, v in stacked.items()}
