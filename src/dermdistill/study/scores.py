"""What a study measures: scores, paired differences, calibration, agreement with the teacher, subgroups.

Scores and differences are fractions in 0 to 1 (a Dice of 0.87, not 87), but for hd95, in percent of the
image's diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dermdistill.metrics.intervals import Interval

Verdict = Literal["gain", "loss", "no gain", "mixed"]


class Part(BaseModel):
    """A part of the result: read-only; what a later version adds to the file is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


@dataclass(frozen=True)
class Score(Interval):
    """The mean of one measure over images and seeds, with its 95 % interval over images."""

    by_seed: tuple[float, ...] = ()
    """The mean of each seed alone."""


class OverSeeds(Part):
    """The 95 % interval of a mean difference when the seeds count as a sample too, not the images alone."""

    low: float
    high: float
    df: float | None = None
    """Degrees of freedom (Hillis 2007)."""


class Difference(Part):
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


class ArmComparison(Part):
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


class TeacherAgreement(Part):
    """How alike an arm's masks and probabilities are to its teacher's."""

    teacher: str = ""
    """Name of the teacher's run folder."""
    taught: bool = False
    """Whether it taught this arm (a student alone is compared with it too)."""
    dice: Interval
    """Dice between the two masks."""
    difference: Interval | None = None
    """Mean absolute difference of the two probabilities."""


class CalibrationBin(Part):
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


class Calibration(Part):
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


class LevelScore(Part):
    """The Dice of one arm on the images of one level of a subgroup."""

    level: str
    n: int
    small: bool
    """So few images that the interval says little."""
    dice: Interval | None = None


class SubgroupScores(Part):
    """The Dice of one arm by one property of the images: diagnosis, lesion size …"""

    label: str
    note: str = ""
    levels: tuple[LevelScore, ...]


class LevelDifference(Part):
    """The paired Dice difference of an arm to the baseline on the images of one level."""

    level: str
    small: bool
    mean: float
    low: float
    high: float
    n: int
