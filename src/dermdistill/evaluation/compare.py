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
from dermdistill.core.numbers import p_value, percent, signed
from dermdistill.data.prepare.pairing import listed
from dermdistill.evaluation.differences import COMPARED, Corrected, is_told_from_zero, paired_differences
from dermdistill.evaluation.folder_evaluation import Draw, FolderEvaluation
from dermdistill.evaluation.matching import match
from dermdistill.evaluation.open_any import open_model
from dermdistill.evaluation.per_image import PerImage, bounds_of, read_per_image
from dermdistill.evaluation.score_folders import drawer
from dermdistill.metrics import paired_tests
from dermdistill.metrics.intervals import METHOD, Interval, Values, mean_interval


@dataclass(frozen=True, eq=False)
class Entry:
    """One of the things compared."""

    name: str
    images: PerImage
    draw: Draw | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class EvaluationComparison:
    """Everything that was compared; the first entry is what the others are held against."""

    entries: list[Entry]
    scores: dict[str, dict[str, Interval]]
    """By entry, then by measure."""
    differences: dict[str, dict[str, Corrected]]
    """By entry but the first, then by measure: what it scores more than the first."""

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
            "differences": [
                _plain(name, measure, difference)
                for measure in COMPARED
                for name, by_measure in self.differences.items()
                if (difference := by_measure.get(measure))
            ],
        }

    def sentences(self) -> list[str]:
        """Return the answer for each entry but the first, in a sentence or two."""
        return [self._sentence(entry.name) for entry in self.entries[1:]]

    def _sentence(self, name: str) -> str:
        d, first = self.differences[name]["dice"], self.entries[0].name
        measured = (
            f"{signed(d.mean)} Dice points (95 % interval {signed(d.low)} to {signed(d.high)}, "
            f"p {p_value(d.p_holm)}); better on {percent(d.better, 0)} %, worse on {percent(d.worse, 0)} % "
            f"and the same on {percent(d.same, 0)} % of {d.n} pictures"
        )
        if is_told_from_zero(d):
            return f"{name} is {'better' if d.mean > 0 else 'worse'} than {first}: {measured}."
        detectable, shown = d.minimum_detectable_difference, ""
        if detectable is not None:
            shown = (
                f" So many pictures find a true difference of {percent(detectable)} points in 4 of 5 "
                f"samples{'; smaller ones may be there' if detectable else ''}."
            )
        return f"No difference between {name} and {first} could be told: {measured}.{shown}"

    def to_text(self) -> str:
        """A table and the answer, for a terminal."""
        width = max(len(entry.name) for entry in self.entries) + 2
        lines = []
        for entry in self.entries:
            s = self.scores[entry.name]["dice"]
            row = f"  {entry.name:<{width}}Dice {100 * s.mean:6.2f} ({100 * s.low:.2f} to {100 * s.high:.2f})"
            lines.append(row)
        return "\n".join([*lines, *self.sentences()])


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
    differences = paired_differences({other.name: (_measures(other), _measures(first)) for other in same[1:]})
    measures = list(differences[same[1].name])
    scores = {
        entry.name: {m: mean_interval(entry.images[m], bounds=bounds_of(m)) for m in measures}
        for entry in same
    }
    return EvaluationComparison(same, scores, differences)


def _measures(entry: Entry) -> dict[str, Values]:
    return {m: entry.images[m][None] for m in COMPARED if m in entry.images}


def _plain(name: str, measure: str, difference: Corrected) -> dict[str, Any]:
    values = dataclasses.asdict(difference)
    del values["by_seed"], values["over_seeds"]
    return {"name": name, "measure": measure, **values, "told_from_zero": is_told_from_zero(difference)}


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
        try:
            opened = open_model(Path(model) if model else None, source.get("foreign"))
        except UsageError:
            return None  # of a network of the user's own, whose file nobody names here
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
