"""Carve a validation set out of training images: seeded, stratified, groups kept whole.

The order comes from hashes of (seed, name), not from a random generator: the same image falls on the same
side whatever the order of the files, the version of NumPy or the machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dermdistill.core.errors import DataError


class Splittable(Protocol):
    """What the split looks at."""

    @property
    def image_id(self) -> str:
        """Unique name."""

    @property
    def diagnosis(self) -> str:
        """Empty where unknown."""

    @property
    def group(self) -> str:
        """Lesion or patient; empty where the image stands alone."""

    @property
    def mask_fraction(self) -> float:
        """Lesion's share of the image."""


def carve_validation(rows: Sequence[Splittable], fraction: float, seed: int) -> NDArray[np.int64]:
    """Choose the rows that become validation.

    Strata are the diagnoses, or the quartiles of lesion size where no diagnosis is known. Each stratum gives
    its share (largest remainder). Rows of one group go together; a group counts to the stratum most of its
    rows are in, and one that is larger than what its stratum still has to give stays in training.

    Args:
        rows: The training images.
        fraction: Share to carve, more than 0 and less than 1.
        seed: Another seed gives another choice.

    Returns:
        int64, ascending positions in ``rows``; about ``fraction`` of them, at least one where there are two
        groups or lone images, never all.

    Raises:
        DataError: The fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(
            f"The validation fraction is {fraction}.",
            "more than 0 and less than 1",
            "Set --val-fraction to a share such as 0.15.",
        )
    units = _units(rows)
    if len(units) < 2:
        return np.zeros(0, dtype=np.int64)
    target = min(max(1, round(fraction * len(rows))), len(rows) - 1)
    strata = stratify(rows)
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for name, members in units.items():
        common = Counter(strata[i] for i in members)
        by_stratum[min(common, key=lambda s: (-common[s], s))].append(name)
    sizes = {s: sum(len(units[name]) for name in names) for s, names in by_stratum.items()}
    indices: list[int] = []
    for stratum, quota in _shares(sizes, target).items():
        for name in sorted(by_stratum[stratum], key=lambda name: _draw(seed, name)):
            if len(units[name]) <= quota:
                indices += units[name]
                quota -= len(units[name])
    if not indices:  # every group is larger than its stratum's quota: one group is better than no validation
        indices = units[min(units, key=lambda name: (len(units[name]), _draw(seed, name)))]
    return np.array(sorted(indices), dtype=np.int64)


def part_of(row: Splittable, parts: int) -> int:
    """Which of several parts of the training images an image is in, for cross-fitting.

    By a hash of its group, or of its name where it stands alone: independent of all other images.

    Args:
        row: The image.
        parts: How many there are, at least 1.

    Returns:
        0 to ``parts`` - 1, each about as often.
    """
    return int.from_bytes(_draw(0, f"part {_unit(row)}")[:8], "big") % parts


def stratify(rows: Sequence[Splittable]) -> list[str]:
    """The stratum of each row: its diagnosis, or its quartile of lesion size where none is known."""
    if any(row.diagnosis for row in rows):
        return [row.diagnosis for row in rows]
    fractions = np.array([row.mask_fraction for row in rows])
    edges = np.quantile(fractions, [0.25, 0.5, 0.75])
    return [f"size quartile {q + 1}" for q in np.searchsorted(edges, fractions)]


def _units(rows: Sequence[Splittable]) -> dict[str, list[int]]:
    units: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        units[_unit(row)].append(i)
    return units


def _unit(row: Splittable) -> str:
    return f"group {row.group}" if row.group else f"image {row.image_id}"


def _shares(sizes: dict[str, int], target: int) -> dict[str, int]:
    """Divide ``target`` in proportion to the sizes, in whole numbers (largest remainder)."""
    total = sum(sizes.values())
    shares = {s: target * n // total for s, n in sizes.items()}
    missing = target - sum(shares.values())
    for s in sorted(sizes, key=lambda s: (-(target * sizes[s] % total), s))[:missing]:
        shares[s] += 1
    return dict(sorted(shares.items()))


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
