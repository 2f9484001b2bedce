"""What a report says, before it takes any form: plain typed values, read-only.

Scores and differences are fractions in 0 to 1 (a Dice of 0.87, not 87); only `words` turns them into percent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dermdistill.metrics.intervals import Interval

Values = NDArray[np.float64]
Verdict = Literal["gain", "loss", "no gain", "mixed"]


@dataclass(frozen=True)
class Difference:
    """An arm minus the baseline arm on the same images, paired."""

    mean: float
    low: float
    high: float
    n: int
    p_bootstrap: float | None = None
    p_wilcoxon: float | None = None
    p_holm: float | None = None
    """p corrected for the number of comparisons (Holm 1979); None outside the family of comparisons."""
    resolvable: float | None = None
    """Smallest difference that the study could have told from none."""
    better: float | None = None
    """Share of the images on which the arm is better; ``worse`` likewise."""
    worse: float | None = None
    over_seeds: tuple[float, float] | None = None
    """Interval of the mean with the trainings taken as a sample too; None with one training of each."""


@dataclass(frozen=True, eq=False)
class PerImage:
    """Scores image by image; over several seeds the mean of each image."""

    ids: list[str]
    diagnosis: list[str]
    columns: dict[str, Values]
    """float64 [n] by the name of the column (dice, jaccard, agreement_dice …); NaN where there is none."""


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram."""

    confidence: float
    """Mean predicted probability of the bin's pixels, in 0 to 1."""
    accuracy: float
    """Share of them that is lesion."""
    weight: float
    """Number of pixels, or their share."""


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be believed."""

    ece: float
    """Expected calibration error, in 0 to 1."""
    bins: tuple[Bin, ...]
    definition: str = ""


@dataclass(frozen=True)
class Cell:
    """One run: an arm with one seed."""

    name: str
    seed: int | None
    folder: Path
    finished: bool
    curve: dict[str, list[float | None]]
    """Columns of metrics.csv; each has one value per epoch."""
    best_epoch: int | None = None
    weights_sha256: str = ""
    scores: dict[str, Interval] = field(default_factory=dict)
    seconds: float | None = None
    """Of the training."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One way of training, over its seeds."""

    name: str
    role: Literal["student", "teacher"]
    about: str
    """What it is, in a few words."""
    distilled: bool
    cells: tuple[Cell, ...]
    steps: int | None = None
    """Optimiser steps of one training."""
    seconds: float | None = None
    """Of one training, mean over the seeds."""
    kept: float | None = None
    """Its mean Dice over the teacher's."""
    parameters: int | None = None
    macs: int | None = None
    """Multiply-accumulate operations for one image at ``input_size``."""
    size_bytes: int | None = None
    """Of the weights' file."""
    input_size: int | None = None
    scores: dict[str, Interval] = field(default_factory=dict)
    """By column name (dice, jaccard …): mean over images and seeds."""
    differences: dict[str, Difference] = field(default_factory=dict)
    """By column name, against the baseline."""
    verdict: Verdict | None = None
    """Of the comparison with the baseline."""
    verdict_words: str = ""
    agreement: Interval | None = None
    """Dice between the student's masks and the teacher's."""
    calibration: Calibration | None = None
    per_image: PerImage | None = None
    failures: tuple[str, ...] = ()
    """Ids of the images with a Jaccard below 0.65."""
    settings: dict[str, Any] = field(default_factory=dict)
    """config.yaml of the first cell, flat, by dotted name."""


@dataclass(frozen=True)
class Human:
    """How well people agree with each other on such images."""

    label: str
    dice: Interval
    source: str
    comparable: bool = True
    """Whether it was measured on the images of this report."""
    note: str = ""


@dataclass(frozen=True)
class Stratum:
    """One group of test images, with what one arm did on it."""

    name: str
    """diagnosis, lesion size …"""
    level: str
    arm: str
    n: int
    small: bool
    """So few images that the interval says little."""
    dice: Interval | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class AuditPair:
    """Two images that should not be in different splits."""

    first: str
    second: str
    kind: str
    crosses: bool
    detail: str = ""


@dataclass(frozen=True)
class Audit:
    """What ``dermdistill audit`` found."""

    source: Path
    leaks: int
    """Pairs that cross from training into validation or test."""
    counts: dict[str, int]
    """Pairs by level: exact, near-duplicate …"""
    pairs: tuple[AuditPair, ...]
    warnings: tuple[str, ...] = ()
    images: int | None = None
    leaks_within: dict[str, int] = field(default_factory=dict)
    """By data set that was looked at: leaks with both images in it."""
    pictures: Path | None = None
    """The first page of pairs side by side."""


@dataclass(frozen=True)
class Data:
    """The images that were scored, and where the pack lies (for pictures)."""

    name: str
    split: str
    images: int | None = None
    title: str = ""
    fingerprint: str = ""
    trained_on: str = ""
    foreign: bool = False
    """Whether the network was trained on other images than these come with."""
    root: Path | None = None
    size: int | None = None
    prepare_command: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    license: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """Scores of an arm on other images than the report's."""

    arm: str
    data: str
    split: str
    dice: Interval
    jaccard: Interval | None


@dataclass(frozen=True, eq=False)
class Report:
    """All of it."""

    kind: Literal["run", "study"]
    name: str
    folder: Path
    question: str
    created: str
    """UTC, ISO 8601."""
    data: Data
    arms: tuple[Arm, ...]
    baseline: str | None = None
    human: Human | None = None
    strata: tuple[Stratum, ...] = ()
    audit: Audit | None = None
    elsewhere: tuple[Elsewhere, ...] = ()
    commands: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    """Parts that a full report has and this one has not, each with the way to get it."""
    protocol: str = ""
    statistics: str = ""
    """How intervals and p were made."""
    caveats: tuple[str, ...] = ()

    def arm(self, name: str | None) -> Arm | None:
        """The arm of that name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def teacher(self) -> Arm | None:
        """The first arm that is a teacher and was scored."""
        return next((arm for arm in self.arms if arm.role == "teacher"), None)

    @property
    def shown(self) -> Arm | None:
        """The arm whose pictures are shown: the distilled one with the best Dice, else the last student."""
        scored = [arm for arm in self.arms if arm.per_image is not None and "dice" in arm.scores]
        students = [arm for arm in scored if arm.role == "student"]
        distilled = [arm for arm in students if arm.distilled]
        if distilled:
            return max(distilled, key=lambda arm: arm.scores["dice"].mean)
        return next(iter([*students[::-1], *scored]), None)
