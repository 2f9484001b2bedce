"""What a report says, before it takes any form: plain typed values, read-only.

Scores and differences are fractions in 0 to 1 (a Dice of 0.87, not 87); only `core.numbers` turns them into
percent. Statistics of a study are its own types (`dermdistill.study.scores`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.evaluation.per_image import PerImage
from dermdistill.metrics.intervals import Interval
from dermdistill.study.scores import Calibration, Difference, LevelDifference, Verdict


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
    verdict_text: str = ""
    agreement: Interval | None = None
    """Dice between the student's masks and the teacher's."""
    calibration: Calibration | None = None
    per_image: PerImage | None = None
    """Scores image by image; over several seeds the mean of each image."""
    failures: tuple[str, ...] = ()
    """Ids of the images with a Jaccard below 0.65."""
    settings: dict[str, Any] = field(default_factory=dict)
    """config.yaml of the first cell, flat, by dotted name."""


@dataclass(frozen=True)
class Level:
    """The test images of one level of a subgroup, with what one arm did on them."""

    name: str
    """The subgroup: diagnosis, lesion size …"""
    level: str
    arm: str
    n: int
    small: bool
    """So few images that the interval says little."""
    dice: Interval | None = None
    difference: LevelDifference | None = None


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
    inter_rater_agreement: InterRaterAgreement | None = None
    subgroups: tuple[Level, ...] = ()
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
