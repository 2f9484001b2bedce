"""The result of a study: one typed object that is aggregated, judged, printed, written and read.

`dermdistill.study.aggregate` makes it of the measurements in `dermdistill.study.scores`,
`dermdistill.study.verdict` says it in words, the report shows it. In study.json some fields have the names
that they had in the first version (`resolvable`, `human`, `by_stratum`, `strata_differences`, `words`,
`set`): files of all versions stay alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_json, write_json
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.study.scores import (
    ArmComparison,
    Calibration,
    LevelDifference,
    Part,
    Score,
    SubgroupScores,
    TeacherAgreement,
)

FORMAT: Literal[1] = 1
FILE = "study.json"
"""Name of the file in the study's folder."""


class CellScore(Part):
    """One seed of an arm. The two folders are relative to the study's, or absolute."""

    seed: int
    run: str
    evaluation: str
    epoch: int | None = None
    """The epoch whose weights were kept, from 1."""
    steps: int | None = None
    """Optimiser steps."""
    seconds: float | None = None
    """Of its training."""
    weights_sha256: str = ""
    dice: float | None = None
    folds: tuple[CellScore, ...] = ()
    """Of a cross-validation: each fold's training, scored on the part that it was trained without. The fields
    above are then the first fold's, but ``evaluation``, ``seconds`` and ``dice``, which are of all."""


class ArmResult(Part):
    """One way of training, over its seeds."""

    name: str = Field(alias="arm")
    title: str = ""
    role: Literal["teacher", "student"]
    verb: str = ""
    """train, distill, or given: a finished run that was only scored."""
    overrides: dict[str, Any] = Field(default_factory=dict, alias="set")
    """Its settings by dotted name on top of the study's recipe."""
    seeds: tuple[int, ...] = ()
    model_arch: str = ""
    parameters: int | None = None
    macs: int | None = None
    """Multiply-accumulate operations for one image at ``input_size``."""
    size_bytes: int | None = Field(None, alias="bytes")
    """Of the file of its weights."""
    input_size: int | None = None
    epochs: int | None = None
    steps: int | None = None
    """Optimiser steps of one training."""
    seconds: float | None = None
    """Of one training, mean over the seeds."""
    scores: dict[str, Score] = Field(default_factory=dict)
    """By measure."""
    dice_pooled: float | None = None
    """Dice over the pixels of all images together, as some papers report it."""
    kept: float | None = None
    """Its mean Dice over the teacher's."""
    failures: float | None = None
    """Images with a Jaccard below 0.65, mean over the seeds."""
    calibration: Calibration | None = None
    agreement: TeacherAgreement | None = None
    """With the teacher."""
    subgroups: dict[str, SubgroupScores] = Field(default_factory=dict, alias="by_stratum")
    cells: tuple[CellScore, ...] = ()

    def with_share_of(self, teacher: ArmResult) -> ArmResult:
        """The same arm with ``kept``: its mean Dice over the teacher's."""
        best = teacher.scores["dice"].mean
        return self.model_copy(update={"kept": self.scores["dice"].mean / best if best else None})


class ScoredData(Part):
    """The images that every arm was scored on."""

    name: str
    fingerprint: str = ""
    title: str | None = None
    split: str
    images: int | None = None


class NotRun(Part):
    """A cell that could not be run, and why."""

    arm: str
    seed: int
    reason: str
    optional: bool = False
    """Whether the study is whole without it."""


class StudyResult(Part):
    """Everything that a study, or a comparison of runs at hand, found."""

    format: Literal[1] = FORMAT
    name: str
    question: str = ""
    created: str = ""
    """UTC, ISO 8601."""
    complete: bool = True
    missing: tuple[str, ...] = ()
    """Names of the cells that are not trained and scored yet."""
    not_run: tuple[NotRun, ...] = ()
    baseline: str | None = None
    primary: str = "dice"
    seeds: tuple[int, ...] = ()
    folds: int | None = None
    """Parts of a cross-validation; None: one training for each arm and seed."""
    budget: str = ""
    """steps: the arms had the same optimiser steps; wall-clock: the same training time."""
    protocol: str = ""
    """How an image was scored."""
    statistics: str = ""
    """How intervals and p were made."""
    data: ScoredData
    inter_rater_agreement: InterRaterAgreement | None = Field(None, alias="human")
    """How well people agree with each other on such images."""
    audit: str | None = None
    """Result of ``dermdistill audit``."""
    commands: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    arms: tuple[ArmResult, ...]
    comparisons: tuple[ArmComparison, ...] = ()
    subgroup_differences: dict[str, dict[str, tuple[LevelDifference, ...]]] = Field(
        default_factory=dict, alias="strata_differences"
    )
    """By arm and subgroup: the paired Dice differences to the baseline."""
    verdict: str = ""
    """The whole study in one paragraph."""

    def comparison(self, arm: str) -> ArmComparison | None:
        """The comparison of an arm with the baseline; None for the baseline itself."""
        return next((one for one in self.comparisons if one.arm == arm), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in the file."""
        return self.model_dump(mode="json", by_alias=True)

    def write(self, folder: Path) -> None:
        """Write study.json into the study's folder, atomically."""
        write_json(folder / FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> StudyResult:
        """Read study.json of a study's folder.

        Raises:
            DataError: It is missing, or not of this format; the first wrong field is named.
        """
        path = folder / FILE
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise DataError(
                f"{path} is not a study of format {FORMAT}: {where}: {first['msg']}.",
                "study.json as this version of dermdistill study writes it",
                "Run the same dermdistill study again: finished cells are kept, the table is made anew.",
            ) from None
