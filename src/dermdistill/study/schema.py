"""The result of a study: one typed object that is aggregated, judged, printed, written and read.

`dermdistill.study.aggregate` makes it, `dermdistill.study.verdict` says it in words, the report shows it.
Scores and differences are fractions in 0 to 1 (a Dice of 0.87, not 87), but for hd95, in percent of the
image's diagonal. In study.json some fields have the names that they had in the first version (`resolvable`,
`human`, `by_stratum`, `strata_differences`, `words`, `set`): files of all versions stay alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dermdistill.core.errors import DataError
from dermdistill.core.files import read_json, write_json
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.metrics.intervals import Interval

FORMAT: Literal[1] = 1
FILE = "study.json"
"""Name of the file in the study's folder."""
Verdict = Literal["gain", "loss", "no gain", "mixed"]


class _Part(BaseModel):
    """A part of the result: read-only; what a later version adds to the file is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


@dataclass(frozen=True)
class Score(Interval):
    """The mean of one measure over images and seeds, with its 95 % interval over images."""

    by_seed: tuple[float, ...] = ()
    """The mean of each seed alone."""


class OverSeeds(_Part):
    """The 95 % interval of a mean difference when the seeds count as a sample too, not the images alone."""

    low: float
    high: float
    df: float | None = None
    """Degrees of freedom (Hillis 2007)."""


class Difference(_Part):
    """An arm minus the baseline in one measure on the same images, paired, with its seeds averaged."""

    mean: float
    low: float
    high: float
    n: int
    """Images."""
    sd: float | None = None
    """Standard deviation of the images' differences."""
    p_bootstrap: float | None = None
    p_wilcoxon: float | None = None
    by_seed: tuple[float, ...] = ()
    """The mean difference of each seed alone."""
    over_seeds: OverSeeds | None = None
    """None with one training of each arm."""
    minimum_detectable_difference: float | None = Field(None, alias="resolvable")
    """The true difference that 4 of 5 such studies would have found; None for a single image."""
    better: float | None = None
    """Share of the images on which the arm is better by more than 0.1 points."""
    worse: float | None = None
    """Share of the images on which it is worse by more than 0.1 points."""
    same: float | None = None
    """Share of the other images."""
    p_holm: float | None = None
    """p_wilcoxon, corrected for the number of student arms (Holm 1979); None for the teacher."""


class ArmComparison(_Part):
    """One arm against the baseline, in every measure that is compared, and what that means for its Dice."""

    arm: str
    baseline: str = ""
    seeds: tuple[int, ...] = ()
    """The seeds that both have."""
    n: int
    """Images."""
    metrics: dict[str, Difference]
    """By measure: dice, jaccard, boundary_f, hd95."""
    verdict: Verdict
    text: str = Field("", alias="words")
    """The verdict as a sentence."""


class TeacherAgreement(_Part):
    """How alike an arm's masks and probabilities are to its teacher's."""

    teacher: str = ""
    """Name of the teacher's run folder."""
    taught: bool = False
    """Whether it taught this arm (a student alone is compared with it too)."""
    dice: Interval
    """Dice between the two masks."""
    difference: Interval | None = None
    """Mean absolute difference of the two probabilities."""


class CalibrationBin(_Part):
    """One bin of a reliability diagram."""

    low: float = 0.0
    high: float = 1.0
    share: float
    """Share of all pixels that fall into it, each image weighing the same."""
    pixels: int = 0
    confidence: float | None
    """Mean predicted probability of its pixels; None where it is empty."""
    accuracy: float | None
    """Share of its pixels that is lesion; None where it is empty."""


class Calibration(_Part):
    """How far the probabilities can be believed."""

    ece: float
    """Expected calibration error, in 0 to 1."""
    by_seed: tuple[float, ...] = ()
    definition: str = ""
    bins: tuple[CalibrationBin, ...] = ()

    @property
    def points(self) -> tuple[tuple[float, float, float], ...]:
        """Confidence, accuracy and share of each bin that is not empty."""
        return tuple(
            (one.confidence, one.accuracy, one.share)
            for one in self.bins
            if one.confidence is not None and one.accuracy is not None and one.share > 0
        )


class LevelScore(_Part):
    """The Dice of one arm on the images of one level of a subgroup."""

    level: str
    n: int
    small: bool
    """So few images that the interval says little."""
    dice: Interval | None = None


class SubgroupScores(_Part):
    """The Dice of one arm by one property of the images: diagnosis, lesion size …"""

    label: str
    note: str = ""
    levels: tuple[LevelScore, ...]


class LevelDifference(_Part):
    """The paired Dice difference of an arm to the baseline on the images of one level."""

    level: str
    small: bool
    mean: float
    low: float
    high: float
    n: int


class CellScore(_Part):
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


class ArmResult(_Part):
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
    scores: dict[str, Score] = {}
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


class ScoredData(_Part):
    """The images that every arm was scored on."""

    name: str
    fingerprint: str = ""
    title: str | None = None
    split: str
    images: int | None = None


class NotRun(_Part):
    """A cell that could not be run, and why."""

    arm: str
    seed: int
    reason: str
    optional: bool = False
    """Whether the study is whole without it."""


class StudyResult(_Part):
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
    versions: dict[str, str] = {}
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
