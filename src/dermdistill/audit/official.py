"""The official splits of the ISIC challenges, which overlap from year to year: who trains on one holds images
that another is tested on.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dermdistill.audit.entries import Entry

ARCHIVE_ID = re.compile(r"ISIC_\d{7}", re.IGNORECASE)
TITLES = {"isic2016": "ISIC 2016", "isic2017": "ISIC 2017", "isic2018": "ISIC 2018"}
SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test", "": "(of no known split)"}


@dataclass(frozen=True)
class Overlap:
    """Images of one audited set and split that an official list names for the other side."""

    set_name: str
    split: str
    """Of the audited set."""
    challenge: str
    official_split: str
    count: int
    total: int
    """Length of the official list."""

    @property
    def is_warning(self) -> bool:
        """Whether they are trained on here and tested on there (not: trained on there, tested on here)."""
        return self.official_split != "train"

    def __str__(self) -> str:
        here = f"{self.set_name}: its {SPLIT_TITLES[self.split]} images"
        title, split = TITLES[self.challenge], SPLIT_TITLES[self.official_split]
        if self.is_warning:
            what = f"hold {self.count} of the {self.total} {title} {split} images"
            return f"{here} {what}: report no {title} {split} score of a network trained on them."
        what = f"hold {self.count} of the {self.total} {title} {split} images"
        return f"{here} {what}: test no network or teacher on them that was trained on {title}."


def official_overlaps(entries: Sequence[Entry]) -> list[Overlap]:
    """Count, by set and split, what the official lists of other years use on the other side.

    An image of no known split counts as one that may be trained on.
    """
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in entries:
        ids[entry.set_name, entry.split].add(entry.image_id.upper())
    overlaps = []
    for (set_name, split), here in ids.items():
        if split == "val":  # drawn from somebody's training images, as a rule
            continue
        for (challenge, official_split), there in official_ids().items():
            held_out = official_split != "train"
            if held_out == (split in ("train", "")) and (common := len(here & there)):
                overlaps.append(Overlap(set_name, split, challenge, official_split, common, len(there)))
    return overlaps


def is_archive_id(image_id: str) -> bool:
    """Whether the name is a number of the ISIC archive, which names the same image everywhere."""
    return ARCHIVE_ID.fullmatch(image_id) is not None


@functools.cache
def official_ids() -> dict[tuple[str, str], frozenset[str]]:
    """Ids (``ISIC_0000003``) by challenge (isic2016, isic2017, isic2018) and split (train, val, test)."""
    text = (importlib.resources.files("dermdistill.audit") / "official_ids.txt").read_text(encoding="utf-8")
    lists: dict[tuple[str, str], set[str]] = {}
    current: set[str] = set()
    for line in text.splitlines():
        if line.startswith(" "):
            for run in line.split():
                first, _, last = run.partition("-")
                current.update(f"ISIC_{n:07d}" for n in range(int(first), int(last or first) + 1))
        elif not line.startswith("#"):
            challenge, split, _ = line.split()
            current = lists.setdefault((challenge, split), set())
    return {key: frozenset(ids) for key, ids in lists.items()}
