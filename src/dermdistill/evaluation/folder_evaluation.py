"""What an evaluation on folders found: typed, as summary.json, and as text for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.data.prepare.pairing import listed
from dermdistill.evaluation.inter_rater import InterRaterAgreement
from dermdistill.evaluation.per_image import PerImage
from dermdistill.imaging import UInt8Array
from dermdistill.metrics.boundary import TOLERANCE
from dermdistill.metrics.intervals import METHOD, Interval
from dermdistill.metrics.overlap import THRESHOLD_JACCARD, pooled_dice

PROTOCOL = (
    "per image, at the size of the true mask, mean over images; a prediction of another size is "
    "brought to it by "
    "bilinear interpolation; a map is thresholded; a missing prediction counts as a Dice of 0; "
    "threshold Jaccard "
    f"counts as 0 below {THRESHOLD_JACCARD}; a ratio 0/0 counts as 1; boundary F-score with a tolerance of "
    f"{TOLERANCE} % of the diagonal; 95 % Hausdorff distance; area ratio: predicted over true area; {METHOD}"
)
Draw = Callable[[str], tuple[UInt8Array | None, UInt8Array, UInt8Array]]
"""(picture or None, true mask, predicted mask) of an image id, to be drawn."""


@dataclass(frozen=True, eq=False)
class FolderEvaluation:
    """The scores of one thing on one set of pictures."""

    images: PerImage
    scores: dict[str, Interval]
    """By full name (``dice_per_image_mean`` …)."""
    by_subgroup: dict[str, Any]
    calibration: dict[str, Any] | None
    raters: dict[str, Interval]
    """Mean Dice against each rater by name; empty with one mask a picture."""
    inter_rater_agreement: InterRaterAgreement | None
    missing: dict[str, str]
    """Pictures without a prediction that could be read, and why; they count as a Dice of 0."""
    unscored: dict[str, str]
    """Pictures that could not be scored, and why; they count nowhere."""
    resampled: list[str]
    partnerless: dict[str, list[str]]
    about: dict[str, Any]
    warnings: list[str]
    folder: Path
    draw: Draw | None = field(default=None, repr=False)

    @property
    def failures(self) -> list[str]:
        """Ids of the images below the threshold Jaccard, the worst first."""
        jaccard = self.images["jaccard"]
        order = np.argsort(jaccard, kind="stable").tolist()
        return [self.images.image_id[i] for i in order if jaccard[i] < THRESHOLD_JACCARD]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the layout of a run's summary.json, and what only folders have."""
        people, where = self.inter_rater_agreement, self.images.image_id
        failed = [where.index(name) for name in self.failures]
        return {
            "protocol": PROTOCOL,
            **self.about,
            "scores": {name: dataclasses.asdict(value) for name, value in self.scores.items()},
            "dice_pooled": pooled_dice(self.images.counts),
            "by_stratum": self.by_subgroup,
            "calibration": self.calibration,
            "agreement": None,
            "failures": {
                "rule": f"Jaccard < {THRESHOLD_JACCARD}",
                "count": len(failed),
                "images": [
                    {
                        "image_id": where[i],
                        "jaccard": float(self.images["jaccard"][i]),
                        "dice": float(self.images["dice"][i]),
                    }
                    for i in failed
                ],
            },
            "human": people and people.to_json(),
            "raters": {name: dataclasses.asdict(value) for name, value in self.raters.items()},
            "missing": self.missing,
            "unscored": self.unscored,
            "resampled": {"count": len(self.resampled), "images": self.resampled},
            "partnerless": self.partnerless,
            "warnings": self.warnings,
        }

    def to_text(self) -> str:
        """A small table for a terminal."""
        lines = [f"{self.about['run']} on {self.about['data']['name']}, {len(self.images)} images"]
        for name, s in self.scores.items():
            key = name.removesuffix("_per_image_mean")
            unit, title = presentation(key)
            text = f"  {title:<26}{unit * s.mean:8.2f}   95 % CI {unit * s.low:.2f} to {unit * s.high:.2f}"
            lines.append(text + ("" if s.n == len(self.images) else f"   (n {s.n})"))
        if self.calibration:
            lines.append(f"  {'calibration (ECE)':<26}{100 * self.calibration['ece']:8.2f} %")
        for rater, s in self.raters.items():
            lines.append(
                f"  {'Dice against ' + rater:<26}{100 * s.mean:8.2f}   95 % CI {100 * s.low:.2f} to "
                f"{100 * s.high:.2f}   (n {s.n})"
            )
        if people := self.inter_rater_agreement:
            lines.append(
                f"  {'human, human':<26}{100 * people.mean:8.2f}   95 % CI {100 * people.low:.2f} to "
                f"{100 * people.high:.2f}   (n {people.n})"
            )
        lines.append(f"  Jaccard < {THRESHOLD_JACCARD}: {len(self.failures)} images")
        lines += [f"  {note}" for note in self.notes()]
        lines.append(f"  written to {self.folder} (index.html)")
        return "\n".join(lines)

    def notes(self) -> list[str]:
        """What a reader must know of the count, in sentences."""
        found = []
        if self.missing:
            found.append(
                f"{len(self.missing)} without a prediction count as a Dice of 0: "
                f"{listed(list(self.missing), 5)}"
            )
        if self.unscored:
            found.append(f"{len(self.unscored)} could not be scored: {listed(list(self.unscored), 5)}")
        if self.resampled:
            found.append(f"{len(self.resampled)} predictions had another size than the truth: resampled")
        found += [f"{len(names)} {reason}: {listed(names, 3)}" for reason, names in self.partnerless.items()]
        return [*found, *self.warnings]


def presentation(measure: str) -> tuple[float, str]:
    """What a measure's value is multiplied by to be shown, and its title."""
    titles = {
        "hd95": (1.0, "HD95 (% of the diagonal)"),
        "hd95_px": (1.0, "HD95 (pixels)"),
        "hd95_mm": (1.0, "HD95 (mm)"),
        "area_ratio": (1.0, "area ratio"),
        "auc": (100.0, "AUC"),
        "ece": (100.0, "ECE per image"),
        "boundary_f": (100.0, "boundary F"),
        "threshold_jaccard": (100.0, "threshold Jaccard"),
        "jaccard": (100.0, "Jaccard"),
        "dice": (100.0, "Dice"),
    }
    return titles.get(measure, (100.0, measure.replace("_", " ")))
