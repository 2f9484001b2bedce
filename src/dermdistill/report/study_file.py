"""The layout of study.json that the report reads; what a later version adds is left alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dermdistill.metrics.intervals import Interval
from dermdistill.report.model import Difference, Human, Verdict

FORMAT = 1


class _Read(BaseModel):
    """What a later version adds is left alone; what is needed is checked."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class IntervalEntry(_Read):
    """A mean with its interval."""

    mean: float
    low: float
    high: float
    n: int

    def value(self) -> Interval:
        """As the report keeps it."""
        return Interval(self.mean, self.low, self.high, self.n)


class CellEntry(_Read):
    """One seed of an arm: paths relative to the study folder, or absolute."""

    seed: int
    run: str
    evaluation: str


class AgreementEntry(_Read):
    """With the teacher."""

    dice: IntervalEntry


class LevelEntry(_Read):
    """One level of a stratum."""

    level: str
    n: int
    small: bool
    dice: IntervalEntry | None = None


class StratumEntry(_Read):
    """A stratum of one arm."""

    label: str
    levels: list[LevelEntry]


class ArmEntry(_Read):
    """One arm over its seeds."""

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
    scores: dict[str, IntervalEntry] = {}
    agreement: AgreementEntry | None = None
    calibration: dict[str, Any] | None = None
    by_stratum: dict[str, StratumEntry] = {}
    cells: list[CellEntry] = []


class OverSeedsEntry(_Read):
    """The interval with images and seeds both random."""

    low: float
    high: float


class ComparedEntry(_Read):
    """One measure of a comparison."""

    mean: float
    low: float
    high: float
    p_bootstrap: float | None = None
    p_wilcoxon: float | None = None
    p_holm: float | None = None
    resolvable: float | None = None
    better: float | None = None
    worse: float | None = None
    over_seeds: OverSeedsEntry | None = None

    def difference(self, n: int) -> Difference:
        """As the report keeps it; ``n`` images."""
        over = (self.over_seeds.low, self.over_seeds.high) if self.over_seeds else None
        return Difference(n=n, over_seeds=over, **self.model_dump(exclude={"over_seeds"}))


class ComparisonEntry(_Read):
    """An arm against the baseline."""

    arm: str
    n: int
    metrics: dict[str, ComparedEntry]
    verdict: Verdict
    words: str = ""


class LevelDifferenceEntry(_Read):
    """Paired difference to the baseline in one level."""

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


class DataEntry(_Read):
    """What was scored."""

    name: str
    split: str
    images: int | None = None
    title: str | None = None
    fingerprint: str = ""


class NotRunEntry(_Read):
    """A cell that could not be run."""

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
    not_run: list[NotRunEntry] = []
    baseline: str | None = None
    protocol: str = ""
    statistics: str = ""
    data: DataEntry
    human: HumanLine | None = None
    commands: list[str] = []
    versions: dict[str, str] = {}
    budget: str = ""
    arms: list[ArmEntry]
    comparisons: list[ComparisonEntry] = []
    strata_differences: dict[str, dict[str, list[LevelDifferenceEntry]]] = {}
