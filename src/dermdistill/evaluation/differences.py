"""Several things held against one on the same images, measure by measure: for comparisons and studies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from dermdistill.evaluation.per_image import bounds_of
from dermdistill.metrics.intervals import Values
from dermdistill.metrics.paired_tests import Paired, holm, paired

COMPARED = ("dice", "jaccard", "boundary_f", "hd95")
"""Measures in which things are compared."""
LOWER_IS_BETTER = ("hd95",)
ALPHA = 0.05
"""Level of the tests."""
BOLD = f"Bold: told from 0 (the interval leaves out 0 and p, Holm-corrected, is below {ALPHA})."

Scores = Mapping[str, Values]
"""By measure: float64 [seeds, images]; one row for a thing that was made once."""


class Tested(Protocol):
    """A difference with its interval and its p."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""

    @property
    def p_wilcoxon(self) -> float | None:
        """Of the signed-rank test."""

    @property
    def p_holm(self) -> float | None:
        """The same, corrected; None where it belongs to no family of tests."""


@dataclass(frozen=True)
class Corrected(Paired):
    """A paired difference with the p that may be held against α."""

    p_holm: float | None = None
    """Wilcoxon's p, corrected for the number of things compared (Holm 1979); None outside of that family."""


def paired_differences(
    pairs: Mapping[str, tuple[Scores, Scores]], *, family: Collection[str] | None = None
) -> dict[str, dict[str, Corrected]]:
    """Pair each thing with what it is held against, by image, and correct the tests within each measure.

    Args:
        pairs: By name: the thing's scores and those it is held against, same seeds, images and measures.
        family: Names of those whose tests are corrected for one another (default: all).

    Returns:
        By name, then by measure: those of COMPARED that all pairs have.

    Examples:
        >>> import numpy as np
        >>> alone, distilled = np.linspace(0.8, 0.9, 50), np.linspace(0.81, 0.91, 50)
        >>> found = paired_differences({"distilled": ({"dice": distilled[None]}, {"dice": alone[None]})})
        >>> round(found["distilled"]["dice"].mean, 3), is_told_from_zero(found["distilled"]["dice"])
        (0.01, True)
    """
    family = list(pairs) if family is None else [name for name in pairs if name in family]
    found: dict[str, dict[str, Corrected]] = {name: {} for name in pairs}
    for measure in COMPARED:
        if not all(measure in scores for pair in pairs.values() for scores in pair):
            continue
        tested = {
            name: paired(
                mine[measure], theirs[measure],
                higher_is_better=measure not in LOWER_IS_BETTER, scale=bounds_of(measure)[1],
            )
            for name, (mine, theirs) in pairs.items()
        }  # fmt: skip
        p_holm = dict(zip(family, holm([tested[name].p_wilcoxon for name in family]), strict=True))
        for name, difference in tested.items():
            found[name][measure] = Corrected(**vars(difference), p_holm=p_holm.get(name))
    return found


def interval_leaves_out_zero(difference: Tested) -> bool:
    """Whether both ends of the interval lie on one side of 0."""
    return difference.low > 0 or difference.high < 0


def is_significant(difference: Tested) -> bool:
    """Whether p, Holm-corrected where there is a family, is below ALPHA."""
    p = difference.p_wilcoxon if difference.p_holm is None else difference.p_holm
    return p is not None and p < ALPHA


def is_told_from_zero(difference: Tested) -> bool:
    """Whether both the interval and the test say that there is a difference; then it is set in bold."""
    return interval_leaves_out_zero(difference) and is_significant(difference)
