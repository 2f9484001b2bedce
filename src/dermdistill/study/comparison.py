"""Runs side by side on the same images: scores, paired tests, a verdict. What `study` does, for runs at hand.

It reads what `evaluate` wrote, and needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import DataError, UsageError
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.metrics.intervals import Values
from dermdistill.study.aggregate import arm_result
from dermdistill.study.arm_differences import compare
from dermdistill.study.schema import ArmResult, ScoredData, StudyResult
from dermdistill.study.scored_cells import PRIMARY, CellResult, check_together, read_cell, stack
from dermdistill.study.scores import ArmComparison
from dermdistill.study.verdict import to_text, verdict_of

QUESTION = "Which run is better, image by image?"


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison of runs found: the same object that a study writes, and the Dice of each image.

    Examples:
        >>> import numpy as np
        >>> from dermdistill import Comparison
        >>> from dermdistill.study.schema import ScoredData, StudyResult
        >>> from dermdistill.study.scores import ArmComparison, Difference
        >>> dice = Difference(mean=0.01, low=0.004, high=0.016, n=300, p_wilcoxon=0.002, p_holm=0.004)
        >>> kl = ArmComparison(arm="kl", n=300, metrics={"dice": dice}, verdict="gain", text="kl: a gain.")
        >>> data = ScoredData(name="isic2016", split="test", images=300)
        >>> result = StudyResult(name="two runs", baseline="alone", data=data, arms=(), comparisons=(kl,))
        >>> found = Comparison(result, {"alone": np.full(300, 0.89), "kl": np.full(300, 0.90)})
        >>> found.paired["kl"].verdict, found.paired["kl"].metrics["dice"].mean
        ('gain', 0.01)
    """

    result: StudyResult
    dice: dict[str, Values]
    """By arm: Dice of each image, float64 [images] in 0–1, the mean over its seeds."""

    @property
    def arms(self) -> tuple[ArmResult, ...]:
        """Per arm: title, seeds, parameters, scores with 95 % intervals …"""
        return self.result.arms

    @property
    def paired(self) -> dict[str, ArmComparison]:
        """By arm other than the baseline: the paired differences of each measure, and the verdict."""
        return {one.arm: one for one in self.result.comparisons}

    @property
    def verdict(self) -> str:
        """All of it in one paragraph."""
        return self.result.verdict

    @property
    def text(self) -> str:
        """The table and the verdict, for people."""
        return to_text(self.result)


def compare_runs(
    runs: Mapping[str, Path | Sequence[Path]],
    *,
    baseline: str,
    teacher: str | None = None,
    on: str | None = None,
    question: str = QUESTION,
) -> Comparison:
    """Compare runs that were evaluated on the same images.

    Arms are paired by seed and image; the test is Wilcoxon's signed-rank test on the images' differences,
    Holm-corrected over the arms (see `dermdistill.metrics.paired_tests`).

    Args:
        runs: By arm: its run folder, or one run folder per seed.
        baseline: The arm that the others are compared with.
        teacher: The arm that taught, where it is among them: paired by image alone, and outside of the
            correction, since it asks another question.
        on: Which evaluation of each run, as DATA-SPLIT; None: the test split of its own data.
        question: For the head of the text.

    Raises:
        UsageError: There is no such arm, or an arm shares no seed with the baseline.
        DataError: A run was not evaluated; the command is given.
        MismatchError: The runs were scored on different images, or an evaluation is of other weights.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import DermDistillError, compare_runs
        >>> runs = {"alone": Path("runs/alone"), "kl": Path("runs/kl")}
        >>> try:
        ...     print(compare_runs(runs, baseline="alone").text)
        ... except DermDistillError as error:  # there are no such runs here
        ...     print(error)
        runs/alone/card.json ...
    """
    for name in [baseline, *([teacher] if teacher else [])]:
        if name not in runs:
            raise UsageError(
                f"There is no arm {name!r}.", f"one of {', '.join(runs)}", "Name one of them, or add it."
            )
    arms = {name: _cells([one] if isinstance(one, Path) else one, on) for name, one in runs.items()}
    check_together([cell for cells in arms.values() for cell in cells])
    _need_common_seeds(arms, baseline, teacher)
    summary = arms[baseline][0].summary
    people = summary["human"]
    result = StudyResult(
        name="",
        question=question,
        baseline=baseline,
        budget="steps",
        data=ScoredData(**{**summary["data"], "split": summary["split"], "images": summary["images"]}),
        inter_rater_agreement=InterRaterAgreement(**people) if people else None,
        arms=tuple(
            arm_result(name, "", "given" if name == teacher else "train", {}, cells)
            for name, cells in arms.items()
        ),
        comparisons=compare(arms, baseline, teacher or "", {name: name for name in arms}),
    )
    result = result.model_copy(update={"verdict": verdict_of(result)})
    dice = {name: stack(cells, PRIMARY).mean(axis=0) for name, cells in arms.items()}
    return Comparison(result, dice)


def _cells(folders: Sequence[Path], on: str | None) -> list[CellResult]:
    cells = []
    for run in folders:
        card = ModelCard.read(run / "card.json")
        evaluation = run / "evaluation" / (on or f"{card.dataset['name']}-test")
        cell = read_cell(run.parent, card.seed, run, evaluation)
        if cell is None:
            raise DataError(
                f"{evaluation} holds no scores.", "an evaluated run", f"Run: dermdistill evaluate {run}"
            )
        cells.append(cell)
    return cells


def _need_common_seeds(arms: Mapping[str, Sequence[CellResult]], baseline: str, teacher: str | None) -> None:
    """Arms without a common seed would drop out of the comparison in silence."""
    wanted = {cell.seed for cell in arms[baseline]}
    for name, cells in arms.items():
        seeds = {cell.seed for cell in cells}
        if name != teacher and not seeds & wanted:
            raise UsageError(
                f"{name} has seeds {sorted(seeds)}, {baseline} has {sorted(wanted)}.",
                "runs with the same seeds: other seeds differ by chance as well",
                f"Train {name} with {baseline}'s seeds (--seed), or leave it out.",
            )
