"""Two or more evaluations of the same pictures, compared picture by picture."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dermdistill.core.errors import MismatchError, UsageError
from dermdistill.core.files import read_json
from dermdistill.data.prepare.pairing import listed
from dermdistill.evaluation.folder_evaluation import Draw, FolderEvaluation
from dermdistill.evaluation.matching import match
from dermdistill.evaluation.open_any import open_model
from dermdistill.evaluation.per_image import PerImage, read_per_image
from dermdistill.evaluation.score_folders import drawer
from dermdistill.metrics import paired_tests
from dermdistill.metrics.intervals import METHOD, Interval, Values, mean_interval
from dermdistill.metrics.paired_tests import Paired, holm, paired

COMPARED = ("dice", "jaccard", "boundary_f", "hd95")
SCALE = {"hd95": 100.0}
"""The largest difference that there can be, where it is not 1."""
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Entry:
    """One of the things compared."""

    name: str
    images: PerImage
    draw: Draw | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Difference:
    """What one thing scores more than the first, by one measure."""

    name: str
    measure: str
    paired: Paired
    p_holm: float
    """Wilcoxon's p, corrected for the number of things that are compared with the first."""

    @property
    def told_from_zero(self) -> bool:
        """Whether the interval leaves out 0 and the corrected p is below 0.05."""
        return (self.paired.low > 0 or self.paired.high < 0) and self.p_holm < ALPHA

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = dataclasses.asdict(self.paired)
        del values["by_seed"], values["over_seeds"]
        return {
            "name": self.name,
            "measure": self.measure,
            **values,
            "p_holm": self.p_holm,
            "told_from_zero": self.told_from_zero,
        }


@dataclass(frozen=True, eq=False)
class EvaluationComparison:
    """Everything that was compared; the first entry is what the others are held against."""

    entries: list[Entry]
    scores: dict[str, dict[str, Interval]]
    """By entry, then by measure."""
    differences: list[Difference]

    def difference(self, name: str, measure: str = "dice") -> Difference:
        """Return one of the differences."""
        return next(d for d in self.differences if (d.name, d.measure) == (name, measure))

    def per_image(self, name: str) -> Values:
        """Return the Dice of an entry less that of the first, float64 [n]."""
        other = next(entry for entry in self.entries if entry.name == name)
        return other.images["dice"] - self.entries[0].images["dice"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "statistics": METHOD + "; p: Wilcoxon signed-rank test (Pratt's zeros), Holm-corrected over the "
            "things compared with the first; minimum detectable difference: found by a paired t test "
            "at 0.05 in "
            f"4 of 5 such samples; better and worse: by more than {100 * paired_tests.TIE:g} points",
            "images": len(self.entries[0].images),
            "against": self.entries[0].name,
            "scores": {
                name: {measure: dataclasses.asdict(s) for measure, s in scores.items()}
                for name, scores in self.scores.items()
            },
            "differences": [d.to_json() for d in self.differences],
        }

    def sentences(self) -> list[str]:
        """Return the answer for each entry but the first, in a sentence or two."""
        return [self._sentence(entry.name) for entry in self.entries[1:]]

    def _sentence(self, name: str) -> str:
        d, first = self.difference(name), self.entries[0].name
        p = d.paired
        numbers = (
            f"{points(p.mean)} Dice points (95 % interval {points(p.low)} to {points(p.high)}, "
            f"p {p_text(d.p_holm)}); better on {100 * p.better:.0f} %, worse on {100 * p.worse:.0f} % "
            "and the same "
            f"on {100 * p.same:.0f} % of {p.n} pictures"
        )
        if d.told_from_zero:
            return f"{name} is {'better' if p.mean > 0 else 'worse'} than {first}: {numbers}."
        detectable, shown = p.minimum_detectable_difference, ""
        if detectable is not None:
            shown = (
                f" So many pictures find a true difference of {100 * detectable:.2f} points in 4 of 5 "
                f"samples{'; smaller ones may be there' if detectable else ''}."
            )
        return f"No difference between {name} and {first} could be told: {numbers}.{shown}"

    def to_text(self) -> str:
        """A table and the answer, for a terminal."""
        width = max(len(entry.name) for entry in self.entries) + 2
        lines = []
        for entry in self.entries:
            s = self.scores[entry.name]["dice"]
            row = f"  {entry.name:<{width}}Dice {100 * s.mean:6.2f} ({100 * s.low:.2f} to {100 * s.high:.2f})"
            lines.append(row)
        return "\n".join([*lines, *self.sentences()])


def points(value: float) -> str:
    """Return a signed number of points for a difference in 0 to 1."""
    return f"{100 * value:+.2f}".replace("-", "−")


def p_text(p: float) -> str:
    """Return p with three digits, or that it is below 0.001."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def compare(entries: Sequence[Entry]) -> EvaluationComparison:
    """Hold each entry against the first, picture by picture.

    Raises:
        UsageError: There are fewer than two, or two have one name.
        MismatchError: They were not scored on the same pictures, sizes and true masks.
    """
    if len(entries) < 2:
        raise UsageError("There is nothing to compare with.", "two things or more", "Name another one.")
    if len({entry.name for entry in entries}) < len(entries):
        names = ", ".join(entry.name for entry in entries)
        raise UsageError(f"Two have one name: {names}.", "names of their own", "Rename a folder or file.")
    first = entries[0]
    same = [first, *(_in_order_of(first, entry) for entry in entries[1:])]
    for other in same[1:]:
        _check_same_truth(first, other)
    measures = [m for m in COMPARED if all(m in entry.images for entry in same)]
    found: list[Difference] = []
    for measure in measures:
        results = [
            paired(
                other.images[measure][None],
                first.images[measure][None],
                higher_is_better=measure != "hd95",
                scale=SCALE.get(measure, 1.0),
            )
            for other in same[1:]
        ]
        corrected = holm([result.p_wilcoxon for result in results])
        found += [
            Difference(other.name, measure, result, p)
            for other, result, p in zip(same[1:], results, corrected, strict=True)
        ]
    scores = {
        entry.name: {m: mean_interval(entry.images[m], bounds=(0.0, SCALE.get(m, 1.0))) for m in measures}
        for entry in same
    }
    return EvaluationComparison(same, scores, found)


def entry_of(evaluation: FolderEvaluation) -> Entry:
    """Return an evaluation that was just made as an entry."""
    return Entry(evaluation.about["run"], evaluation.images, evaluation.draw)


def is_evaluation(folder: Path) -> bool:
    """Whether a folder holds what ``evaluate`` writes."""
    return (folder / "per_image.csv").is_file() and (folder / "summary.json").is_file()


def read_entry(folder: Path) -> Entry:
    """Read what ``evaluate`` wrote; what it was made from is drawn where it still lies there.

    Raises:
        DataError: A file in it is broken.
    """
    images, summary = read_per_image(folder / "per_image.csv"), read_json(folder / "summary.json")
    name = str(summary.get("run") or folder.name)
    return Entry(name, images, _drawer_of(summary))


def _drawer_of(summary: dict[str, Any]) -> Draw | None:
    source = summary.get("source") or {}
    paths = {key: Path(source[key]) for key in ("images", "masks", "predictions") if source.get(key)}
    model = source.get("model")
    gone = [path for path in paths.values() if not path.is_dir()]
    if "masks" not in paths or gone or (model and not Path(model).exists()):
        return None
    matched = match(paths["masks"], images=paths.get("images"), predictions=paths.get("predictions"))
    opened = None
    if "predictions" not in paths:
        opened = open_model(Path(model) if model else None, source.get("foreign"))
    return drawer(opened, matched, float(summary["threshold"]))


def _in_order_of(first: Entry, other: Entry) -> Entry:
    """The other entry with its images in the first's order."""
    mine, theirs = first.images.image_id, other.images.image_id
    place = {name: i for i, name in enumerate(theirs)}
    alone = [name for name in mine if name not in place]
    beyond = [name for name in theirs if name not in set(mine)]
    if alone or beyond:
        raise MismatchError(
            f"{first.name} and {other.name} were not scored on the same pictures: {len(alone)} only by the "
            f"first ({listed(alone, 3) or 'none'}), {len(beyond)} only by the second "
            f"({listed(beyond, 3) or 'none'}).",
            "the same pictures",
            "Evaluate both on the same folders.",
        )
    order = np.array([place[name] for name in mine])
    columns = {name: values[order] for name, values in other.images.columns.items()}
    labels = {name: [texts[i] for i in order] for name, texts in other.images.labels.items()}
    return Entry(other.name, PerImage(mine, columns, labels), other.draw)


def _check_same_truth(first: Entry, other: Entry) -> None:
    a, b = first.images, other.images
    names = np.array(a.image_id)
    checks: list[tuple[str, Any]] = []
    if all("tp" in images for images in (a, b)):
        pixels = [sum(images[key] for key in ("tp", "fp", "fn", "tn")) for images in (a, b)]
        lesion = [images["tp"] + images["fn"] for images in (a, b)]
        checks += [("sizes", pixels[0] != pixels[1]), ("true masks", lesion[0] != lesion[1])]
    if all("truth" in images.labels for images in (a, b)):
        checks.append(
            ("true masks", np.array(a.labels["truth"], dtype=str) != np.array(b.labels["truth"], dtype=str))
        )
    for what, differ in checks:
        if np.any(differ):
            raise MismatchError(
                f"{first.name} and {other.name} were scored on other {what}: {int(np.sum(differ))} of "
                f"{len(names)} ({listed(names[differ].tolist(), 3)}).",
                f"the same {what}",
                "Evaluate both on the same folders.",
            )


def most_different(comparison: EvaluationComparison, most: int) -> list[int]:
    """Return the indices of the images on which the entries' Dice lie farthest apart, the farthest first."""
    dice = np.stack([entry.images["dice"] for entry in comparison.entries])
    spread = np.ptp(dice, axis=0)
    order = np.argsort(-spread, kind="stable")
    return [int(i) for i in itertools.islice(order, most) if spread[i] > 0]
