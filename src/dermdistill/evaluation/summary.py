"""summary.json: a run's scores on one split with intervals, subgroups, calibration, agreement, failures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.core import numbers
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.evaluation.per_image import MEASURES, PerImage, bounds_of
from dermdistill.evaluation.subgroups import by_subgroup
from dermdistill.metrics.boundary import TOLERANCE
from dermdistill.metrics.intervals import METHOD as INTERVALS
from dermdistill.metrics.intervals import Interval, mean_interval
from dermdistill.metrics.overlap import THRESHOLD_JACCARD, pooled_dice

PROTOCOL = (
    "per image, at the native size of the mask, mean over images; the probability is restored to that size "
    "by bilinear interpolation and thresholded; threshold Jaccard counts as 0 below 0.65; a ratio 0/0 counts "
    f"as 1; boundary F-score with a tolerance of {TOLERANCE} % of the diagonal; 95 % Hausdorff distance in "
    "percent of the diagonal; " + INTERVALS
)
IN_SUBGROUPS = ("dice", "jaccard")


@dataclass(frozen=True)
class Summary:
    """Scores of one run on one split, as in summary.json."""

    scores: dict[str, Interval]
    """By full name: ``dice_per_image_mean`` …"""
    by_subgroup: dict[str, Any]
    dice_pooled: float
    calibration: dict[str, Any]
    agreement: dict[str, Any] | None
    failures: dict[str, Any]
    inter_rater_agreement: InterRaterAgreement | None
    about: dict[str, Any]
    """Data, split, run, weights, model, threshold, device, versions, seconds."""
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "protocol": PROTOCOL,
            **self.about,
            "scores": {name: dataclasses.asdict(value) for name, value in self.scores.items()},
            "dice_pooled": self.dice_pooled,
            "by_stratum": self.by_subgroup,
            "calibration": self.calibration,
            "agreement": self.agreement,
            "failures": self.failures,
            "human": self.inter_rater_agreement and self.inter_rater_agreement.to_json(),
        }

    def to_text(self) -> str:
        """A small table for people."""
        lines = [f"{self.about['data']['name']}, {self.about['split']}, {self.about['images']} images"]
        for name, s in self.scores.items():
            title = name.removesuffix("_per_image_mean").replace("_", " ")
            unit = 1 if title == "hd95" else 100
            title = {"hd95": "hd95 (% diagonal)", "boundary f": "boundary F"}.get(title, title)
            lines.append(
                f"  {title:<20}{unit * s.mean:6.2f}   95 % CI {unit * s.low:.2f} to {unit * s.high:.2f}"
            )
        lines.append(f"  {'calibration (ECE)':<20}{numbers.percent(self.calibration['ece']):>6} %")
        if self.agreement:
            a = self.agreement
            text = f"Dice with {a['teacher']}'s masks"
            lines.append(f"  {'agreement, teacher':<20}{numbers.percent(a['dice']['mean']):>6}   {text}")
        if self.inter_rater_agreement:
            h = self.inter_rater_agreement
            text = f"95 % CI {numbers.span(h)}, n {h.n}"
            text += "" if h.comparable else f" ({h.note})"
            lines.append(f"  {'human, human':<20}{numbers.percent(h.mean):>6}   {text}")
        lines.append(f"  {self.failures['rule']}: {self.failures['count']} images")
        for subgroup in self.by_subgroup.values():
            lines.append(f"  {subgroup['label']}")
            for level in subgroup["levels"]:
                dice = Interval(**level["dice_per_image_mean"])
                small = "   (few images)" if level["small"] else ""
                lines.append(
                    f"    {level['level']:<26} Dice {numbers.percent(dice.mean):>6} ({numbers.span(dice)})"
                    f"   n {level['n']}{small}"
                )
        lines.append(f"  written to {self.folder}")
        return "\n".join(lines)


def summarise(
    images: PerImage,
    *,
    calibration: dict[str, Any],
    teacher: dict[str, Any] | None,
    inter_rater_agreement: InterRaterAgreement | None,
    about: dict[str, Any],
    folder: Path,
) -> Summary:
    """Everything in summary.json that follows from the per-image values.

    Args:
        images: Scored images.
        calibration: Of `Reliability.to_json`.
        teacher: ``{"teacher": name, "taught": …}`` where agreement was measured, else None.
        inter_rater_agreement: How well people agree on such images, or None.
        about: As `Summary.about`.
        folder: Where it is written.
    """
    measures = images.measures()
    agreement = None
    if teacher is not None:
        agreement = {
            **teacher,
            "dice": dataclasses.asdict(mean_interval(images["agreement_dice"])),
            "difference": dataclasses.asdict(mean_interval(images["agreement_difference"])),
        }
    return Summary(
        scores={
            f"{name}_per_image_mean": mean_interval(measures[name], bounds=bounds_of(name))
            for name in MEASURES
        },
        by_subgroup=by_subgroup(images, {f"{name}_per_image_mean": measures[name] for name in IN_SUBGROUPS}),
        dice_pooled=pooled_dice(images.counts),
        calibration=calibration,
        agreement=agreement,
        failures=_failures(images),
        inter_rater_agreement=inter_rater_agreement,
        about=about,
        folder=folder,
    )


def _failures(images: PerImage) -> dict[str, Any]:
    measures = images.measures()
    jaccard, dice = measures["jaccard"], measures["dice"]
    order = [i for i in np.argsort(jaccard, kind="stable").tolist() if jaccard[i] < THRESHOLD_JACCARD]
    listed = [
        {"image_id": images.image_id[i], "jaccard": float(jaccard[i]), "dice": float(dice[i])} for i in order
    ]
    return {"rule": f"Jaccard < {THRESHOLD_JACCARD}", "count": len(order), "images": listed}
