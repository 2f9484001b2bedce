"""From contents that are the same to pairs of named images, and how sure it is."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dermdistill.audit.entries import Entry
from dermdistill.audit.matching import COPY_CORRELATION, LEAST_INLIERS, LEAST_SPREAD, Match
from dermdistill.audit.official import is_archive_id
from dermdistill.audit.search import Content, MatchedContents

Level = Literal["exact", "near-duplicate", "probable same lesion", "same group", "same name"]
LEVELS: tuple[Level, ...] = ("exact", "near-duplicate", "probable same lesion", "same group", "same name")
"""Surest first. ``same group``: the manifest says so. ``same name``: two sets use one name, for whatever."""


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """Two audited images that show the same."""

    a: Entry
    """Of two splits, the one that is trained on."""
    b: Entry
    level: Level
    kind: str
    """What is equal, joined by +: id, bytes, pixels, features, group."""
    match: Match | None = None
    """Of ``features``."""
    mirrored: bool = False
    """The match's first image was mirrored."""
    swapped: bool = False
    """The match's first image is ``b``."""

    @property
    def crosses(self) -> bool:
        """Whether a training image shows what a validation or test image shows."""
        return (
            self.level != "same name"
            and self.a.split != self.b.split
            and "train" in (self.a.split, self.b.split)
            and "" not in (self.a.split, self.b.split)
        )

    @property
    def score(self) -> int | None:
        """Agreeing features; None where the evidence is equality or the manifest."""
        return self.match.inliers if self.match is not None else None


@dataclass(slots=True)
class _Evidence:
    kinds: set[str] = field(default_factory=set)
    matched: MatchedContents | None = None
    first: int = -1
    """The entry that is the match's first image."""


def level_of(match: Match) -> Level | None:
    """Return how sure a match is; None: not sure enough to be listed."""
    if match.inliers < LEAST_INLIERS or match.spread < LEAST_SPREAD:
        return None
    return "near-duplicate" if match.correlation >= COPY_CORRELATION else "probable same lesion"


def name_pairs(
    entries: Sequence[Entry], contents: Sequence[Content | None], matches: Iterable[MatchedContents]
) -> list[Pair]:
    """Pair the entries that have something in common, leaks first, then the surest.

    Of many equal images each is paired with the first of every other split and with its neighbour in its own,
    not each with each.

    Args:
        entries: The images.
        contents: What each one's file holds, in the same order; None where it cannot be read.
        matches: Contents that fit together.

    Returns:
        The pairs, sorted.
    """
    evidence: dict[tuple[int, int], _Evidence] = defaultdict(_Evidence)
    for kind, groups in _equalities(entries, contents).items():
        for members in groups:
            for pair in _links(members, entries):
                evidence[pair].kinds.add(kind)
    by_key: dict[str, list[int]] = defaultdict(list)
    for i, content in enumerate(contents):
        if content is not None:
            by_key[content.pixels].append(i)
    keys = {content.key: content.pixels for content in contents if content is not None}
    for hit in matches:
        if hit.a not in keys or hit.b not in keys or level_of(hit.match) is None:
            continue
        first, second = by_key[keys[hit.a]], by_key[keys[hit.b]]
        for i in _firsts(first, entries):
            for j in _firsts(second, entries):
                known = evidence[(i, j) if i < j else (j, i)]
                if known.matched is None or known.matched.match.inliers < hit.match.inliers:
                    known.matched, known.first = hit, i
    pairs = [_pair(entries, i, j, what) for (i, j), what in evidence.items()]
    return sorted(pairs, key=_order)


def _equalities(entries: Sequence[Entry], contents: Sequence[Content | None]) -> dict[str, list[list[int]]]:
    tables: dict[str, dict[object, list[int]]] = {
        kind: defaultdict(list) for kind in ("id", "bytes", "pixels", "group")
    }
    for i, (entry, content) in enumerate(zip(entries, contents, strict=True)):
        tables["id"][entry.image_id].append(i)
        if entry.group:
            tables["group"][entry.set_name, entry.group].append(i)
        if content is not None:
            tables["bytes"][content.sha256].append(i)
            tables["pixels"][content.pixels].append(i)
    return {
        kind: [members for members in table.values() if len(members) > 1] for kind, table in tables.items()
    }


def _links(members: Sequence[int], entries: Sequence[Entry]) -> Iterator[tuple[int, int]]:
    subsets: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in members:
        subsets[entries[i].set_name, entries[i].split].append(i)
    for subset, inside in subsets.items():
        yield from itertools.pairwise(inside)
        for other, outside in subsets.items():
            if other != subset:
                yield from ((min(i, outside[0]), max(i, outside[0])) for i in inside)


def _firsts(members: Sequence[int], entries: Sequence[Entry]) -> list[int]:
    """The training images of each set, all of them, and the first of every other split."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for i in members:
        subset = entries[i].set_name, entries[i].split
        if entries[i].split == "train" or subset not in seen:
            kept.append(i)
        seen.add(subset)
    return kept


def _pair(entries: Sequence[Entry], i: int, j: int, what: _Evidence) -> Pair:
    a, b, kinds = entries[i], entries[j], set(what.kinds)
    hit = what.matched
    level: Level
    if "bytes" in kinds or "pixels" in kinds or ("id" in kinds and is_archive_id(a.image_id)):
        level, hit = "exact", None
    elif hit is not None and (sure := level_of(hit.match)) is not None:
        level = sure
        kinds.add("features")
    else:
        level = "same group" if "group" in kinds else "same name"
    order = {"train": 0, "": 1, "val": 2, "test": 3}
    if order[a.split] > order[b.split]:
        a, b = b, a
    ordered = [kind for kind in ("id", "bytes", "pixels", "features", "group") if kind in kinds]
    if hit is None:
        return Pair(a, b, level, "+".join(ordered))
    return Pair(a, b, level, "+".join(ordered), hit.match, hit.mirrored, entries[what.first] is b)


def _order(pair: Pair) -> tuple[bool, int, int, str, str]:
    return (
        not pair.crosses, LEVELS.index(pair.level), -(pair.score or 0), pair.a.image_id, pair.b.image_id,
    )  # fmt: skip
