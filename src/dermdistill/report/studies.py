"""Read a study folder: ``study.json`` with its statistics, or, before that is written, the cells alone."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dermdistill.errors import DataError
from dermdistill.files import read_json
from dermdistill.metrics import Interval
from dermdistill.report.arms import is_teacher, make_arm
from dermdistill.report.cells import RunFiles, is_run, read_calibration, read_evaluation, read_run
from dermdistill.report.model import Arm, Difference, Human, Stratum, Verdict

FORMAT = 1


class _Read(BaseModel):
    """What a later version adds is left alone; what is needed is checked."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Interval(_Read):
    mean: float
    low: float
    high: float
    n: int

    def value(self) -> Interval:
        return Interval(self.mean, self.low, self.high, self.n)


class _Cell(_Read):
    seed: int
    run: str
    evaluation: str


class _Agreement(_Read):
    dice: _Interval


class _Level(_Read):
    level: str
    n: int
    small: bool
    dice: _Interval | None = None


class _Group(_Read):
    label: str
    levels: list[_Level]


class _Arm(_Read):
    arm: str
    title: str = ""
    role: Literal["teacher", "student"]
    parameters: int | None = None
    macs: int | None = None
    bytes: int | None = None
    input_size: int | None = None
    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    kept: float | None = None
    scores: dict[str, _Interval] = {}
    agreement: _Agreement | None = None
    calibration: dict[str, Any] | None = None
    by_stratum: dict[str, _Group] = {}
    cells: list[_Cell] = []


class _Compared(_Read):
    mean: float
    low: float
    high: float
    p_bootstrap: float | None = None
    p_wilcoxon: float | None = None
    p_holm: float | None = None
    resolvable: float | None = None
    better: float | None = None
    worse: float | None = None


class _Comparison(_Read):
    arm: str
    n: int
    metrics: dict[str, _Compared]
    verdict: Verdict
    words: str = ""


class _LevelDifference(_Read):
    level: str
    n: int
    small: bool
    mean: float
    low: float
    high: float


class HumanLine(_Read):
    """``human`` of study.json or summary.json."""

    label: str
    mean: float
    low: float
    high: float
    n: int
    source: str
    comparable: bool = True
    note: str | None = None

    def value(self) -> Human:
        """As the report keeps it."""
        dice = Interval(self.mean, self.low, self.high, self.n)
        return Human(self.label, dice, self.source, self.comparable, self.note or "")


class _Data(_Read):
    name: str
    split: str
    images: int | None = None
    title: str | None = None
    fingerprint: str = ""


class _Missing(_Read):
    arm: str
    seed: int
    reason: str


class StudyFile(_Read):
    """The part of study.json that the report shows."""

    format: Literal[1]
    name: str
    question: str = ""
    created: str = ""
    complete: bool = True
    missing: list[str] = []
    not_run: list[_Missing] = []
    baseline: str | None = None
    protocol: str = ""
    statistics: str = ""
    data: _Data
    human: HumanLine | None = None
    commands: list[str] = []
    versions: dict[str, str] = {}
    budget: str = ""
    arms: list[_Arm]
    comparisons: list[_Comparison] = []
    strata_differences: dict[str, dict[str, list[_LevelDifference]]] = {}


def is_study(folder: Path) -> bool:
    """Whether the folder was made by ``study``."""
    return (folder / "study.json").is_file() or (folder / "cells").is_dir()


def read_study(folder: Path) -> StudyFile | None:
    """study.json, or None where the study has not written it yet.

    Raises:
        DataError: It is not a study.json of this format; the first wrong field is named.
    """
    path = folder / "study.json"
    if not path.is_file():
        return None
    try:
        return StudyFile.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{path} is not a study of format {FORMAT}: {where}: {first['msg']}.",
            "study.json as this version of dermdistill study writes it",
            "Run the same dermdistill study again: finished cells are kept, the table is made anew.",
        ) from None


def arms_of_study(folder: Path, study: StudyFile) -> list[tuple[Arm, list[RunFiles]]]:
    """Each arm with its scores by study.json, and the run folders behind it.

    Raises:
        DataError: A run or evaluation that study.json names is gone or broken.
    """
    key = study.data.name, study.data.split
    compared = {comparison.arm: comparison for comparison in study.comparisons}
    found = []
    for entry in study.arms:
        runs = [_cell_files(folder, cell) for cell in entry.cells]
        arm = make_arm(entry.arm, runs, key) if runs else _empty(entry)
        found.append((_with_statistics(arm, entry, compared.get(entry.arm)), runs))
    return found


def arms_of_cells(folder: Path) -> list[list[RunFiles]]:
    """The run folders under cells/, grouped by arm: the teacher first, then by name; seeds ascending."""
    groups: dict[str, list[RunFiles]] = defaultdict(list)
    for path in sorted(p for p in (folder / "cells").iterdir() if is_run(p)):
        run = read_run(path)
        groups[run.arm].append(run)
    ordered = sorted(groups.values(), key=lambda runs: (not is_teacher(runs[0]), runs[0].arm))
    return [sorted(runs, key=lambda run: (run.seed is None, run.seed)) for runs in ordered]


def strata_of_study(study: StudyFile) -> list[Stratum]:
    """Every level of every stratum for each arm: its Dice, and its difference to the baseline."""
    found = []
    for arm in study.arms:
        apart = study.strata_differences.get(arm.arm, {})
        for name, group in arm.by_stratum.items():
            differences = {d.level: d for d in apart.get(name, [])}
            for level in group.levels:
                d = differences.get(level.level)
                found.append(
                    Stratum(
                        group.label,
                        level.level,
                        arm.arm,
                        level.n,
                        level.small,
                        level.dice.value() if level.dice else None,
                        Difference(d.mean, d.low, d.high, d.n) if d else None,
                    )
                )
    return found


def _cell_files(folder: Path, cell: _Cell) -> RunFiles:
    """The cell's run folder with just the evaluation that the study used."""
    run_folder, evaluation_folder = (
        folder / cell.run,
        folder / cell.evaluation,
    )  # an absolute path stays itself
    if not is_run(run_folder):
        raise DataError(
            f"{run_folder}, which study.json names, is gone.",
            "the run folders of the study, where they were",
            "Put it back, or run dermdistill study again on the same recipe.",
        )
    return dataclasses.replace(read_run(run_folder), evaluations=[read_evaluation(evaluation_folder)])


def _with_statistics(arm: Arm, entry: _Arm, comparison: _Comparison | None) -> Arm:
    return dataclasses.replace(
        arm,
        role=entry.role,
        about=entry.title if entry.title and entry.title != entry.arm else arm.about,
        steps=entry.steps if entry.steps is not None else arm.steps,
        seconds=entry.seconds if entry.seconds is not None else arm.seconds,
        kept=entry.kept,
        parameters=entry.parameters if entry.parameters is not None else arm.parameters,
        macs=entry.macs if entry.macs is not None else arm.macs,
        size_bytes=entry.bytes if entry.bytes is not None else arm.size_bytes,
        input_size=entry.input_size if entry.input_size is not None else arm.input_size,
        scores={name: value.value() for name, value in entry.scores.items()},
        agreement=entry.agreement.dice.value() if entry.agreement else None,
        calibration=read_calibration(entry.calibration) or arm.calibration,
        differences={name: _difference(value, comparison.n) for name, value in comparison.metrics.items()}
        if comparison
        else {},
        verdict=comparison.verdict if comparison else None,
        verdict_words=comparison.words if comparison else "",
    )


def _difference(value: _Compared, n: int) -> Difference:
    return Difference(
        value.mean,
        value.low,
        value.high,
        n,
        p_bootstrap=value.p_bootstrap,
        p_wilcoxon=value.p_wilcoxon,
        p_holm=value.p_holm,
        resolvable=value.resolvable,
        better=value.better,
        worse=value.worse,
    )


def _empty(entry: _Arm) -> Arm:
    return Arm(entry.arm, entry.role, entry.title or "not run", distilled=False, cells=())
