"""Leave out what an audit found: training images that show what a validation or test image shows.

Read are audit.csv, or any CSV with a column ``image_id``, all of whose images are to be left out.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermdistill.core.errors import DataError, MismatchError
from dermdistill.core.files import hash_file
from dermdistill.data.prepare.pairing import Pair, listed
from dermdistill.data.prepare.people_tables import fold, read_people_table

logger = logging.getLogger(__name__)

_NEEDED = {"image_a", "set_a", "split_a", "image_b", "set_b", "split_b", "crosses", "level"}


@dataclass(frozen=True)
class Exclusions:
    """What one file says about one data set."""

    path: Path
    sha256: str
    listed: frozenset[str]
    """Training images to leave out, whatever their partner: plain lists, and partners in other data sets."""
    related: tuple[tuple[str, str], ...]
    """Pairs within the data set that show the same; which of them to leave out depends on the split."""
    crossing: frozenset[str]
    """Training images of pairs that crossed the data set's split when it was audited, or another set's."""


def read_exclusions(path: Path, names: Collection[str]) -> Exclusions:
    """Read a file of exclusions for the data set that goes by one of these names.

    Raises:
        DataError: It is missing or has neither audit.csv's columns nor ``image_id``.
        MismatchError: It is an audit of other data sets.
    """
    if path.is_file() and _found_nothing(path):
        return Exclusions(path, hash_file(path), frozenset(), (), frozenset())
    header, table = read_people_table(path)
    columns, rows = set(map(fold, header)), [{fold(key): cell for key, cell in row.items()} for row in table]
    if "image_id" in columns:
        ids = frozenset(row["image_id"].strip() for row in rows)
        return Exclusions(path, hash_file(path), ids, (), ids)
    if missing := _NEEDED - columns:
        raise DataError(
            f"{path} has no column {', '.join(sorted(missing))}.",
            "audit.csv as dermdistill audit writes it, or a CSV with a column image_id",
            "Give the audit.csv of this data set, or add the column image_id.",
        )
    audited = {row[key] for row in rows for key in ("set_a", "set_b")}
    rows = [row for row in rows if row["level"] != "same name"]
    if len(audited) == 1:
        names = audited  # one data set, prepared again under another name
    elif not audited & set(names):
        raise MismatchError(
            f"{path} is about {', '.join(sorted(audited))}.",
            f"an audit of {' or '.join(dict.fromkeys(names))}",
            "Audit the data set that is to be used, alone or under this name: dermdistill audit DATA",
        )
    inside = [row for row in rows if row["set_a"] in names and row["set_b"] in names]
    crossing = [row for row in rows if row["crosses"] == "yes" and row["set_a"] in names]
    return Exclusions(
        path,
        hash_file(path),
        frozenset(row["image_a"] for row in crossing if row["set_b"] not in names),
        tuple((row["image_a"], row["image_b"]) for row in inside),
        frozenset(row["image_a"] for row in crossing),
    )


def _found_nothing(path: Path) -> bool:
    """Whether this is the audit.csv of an audit that found no pair: a header alone."""
    header, *rest = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return header.startswith(b"image_a,") and not any(line.strip() for line in rest)


def exclude_pairs(pairs: Sequence[Pair], exclusions: Exclusions | None) -> tuple[list[Pair], dict[str, Any]]:
    """Leave out the training side of every leak, before a validation split is carved.

    Training images that show the same become one group, so that carving does not part them.

    Returns:
        The pairs that remain, and what was done, for ``dataset.json`` (empty without exclusions).
    """
    if exclusions is None:
        return list(pairs), {}
    split = {pair.image_id: pair.split for pair in pairs}
    out = {image_id for image_id in exclusions.listed if split.get(image_id) == "train"}
    together = []
    for a, b in exclusions.related:
        sides = {split.get(a), split.get(b)}
        if sides == {"train"}:
            together.append((a, b))
        elif "train" in sides and None not in sides:
            out.add(a if split[a] == "train" else b)
    kept = [pair for pair in pairs if pair.image_id not in out]
    kept, joined = _join_groups(kept, [pair for pair in together if not out & set(pair)])
    logger.warning(
        "%s: %d training images are left out (%s); %d more are kept together in groups.",
        exclusions.path, len(out), listed(sorted(out), 5) or "none", joined,
    )  # fmt: skip
    done = {"sha256": exclusions.sha256, "left_out": sorted(out), "kept_together": joined}
    return kept, {"excluded": done}


def _join_groups(pairs: list[Pair], together: Sequence[tuple[str, str]]) -> tuple[list[Pair], int]:
    """Give images that belong together one group; also how many images that concerns."""
    group = {pair.image_id: f"group {pair.group}" if pair.group else pair.image_id for pair in pairs}
    parent = {name: name for name in group.values()}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for a, b in together:
        one, other = sorted((root(group[a]), root(group[b])))
        parent[other] = one
    concerned = {image_id for pair in together for image_id in pair}
    joined_groups = {root(group[image_id]) for image_id in concerned}
    return [
        dataclasses.replace(pair, group=_label(root(group[pair.image_id])))
        if root(group[pair.image_id]) in joined_groups
        else pair
        for pair in pairs
    ], len(concerned)


def _label(root: str) -> str:
    return root.removeprefix("group ") if root.startswith("group ") else f"audit-{root}"
