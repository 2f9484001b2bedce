"""From images to pairs that show the same: describe, look up, verify; each goes on where it was killed."""

from __future__ import annotations

import functools
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from dermdistill.audit.entries import Entry
from dermdistill.audit.features import Fingerprint, fingerprint, opencv
from dermdistill.audit.index import BEST, SAMPLE, VOCABULARIES, learn_encoder, nearest
from dermdistill.audit.matching import LEAST_INLIERS, Match, match
from dermdistill.audit.store import Store, content_key
from dermdistill.core.errors import DataError

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 64
"""Images between two transactions: what a kill costs."""
NEIGHBOURS, MIRRORED_NEIGHBOURS = 8, 2
"""How many of an image's nearest are verified: by all vocabularies together, and by the best alone. Mirrored
images are copies, and those come first or not at all; other photographs of a lesion need the longer list."""
FEW = 48
"""Up to this many contents all pairs are verified: too few to learn an index from."""


@dataclass(frozen=True, slots=True)
class Content:
    """What one entry's file holds."""

    sha256: str
    """Of the file."""
    key: str
    """In the store."""
    pixels: str
    """sha256 of the squashed pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class MatchedContents:
    """Two different contents that fit together."""

    a: str
    """Key in the store; smaller than ``b``."""
    b: str
    mirrored: bool
    """``a`` was mirrored."""
    match: Match


def describe(
    entries: Sequence[Entry], store: Store, *, progress: bool = True
) -> tuple[list[Content | None], list[str]]:
    """Fingerprint every image that the store does not hold yet.

    Args:
        entries: The images.
        store: It gets the fingerprints.
        progress: Show a bar.

    Returns:
        The contents in the order of the entries, None where an image cannot be read, and the reasons.
    """
    opencv().setNumThreads(1)  # whole images are shared out instead
    known = store.pixels()
    contents: list[Content | None] = []
    problems: list[str] = []
    bar = tqdm(total=len(entries), desc="images", unit="image", disable=not progress, leave=False)
    with bar, _threads() as pool:
        for chunk in _batches(entries, CHUNK):
            new: dict[str, Fingerprint] = {}
            for result in pool.map(functools.partial(_describe, known=known), chunk):
                bar.update()
                if isinstance(result, str):
                    problems.append(result)
                    contents.append(None)
                    continue
                sha256, key, described = result
                if described is not None:
                    new[key] = described
                contents.append(Content(sha256, key, new[key].pixels if key in new else known[key]))
            store.add(new.items())
            known |= {key: described.pixels for key, described in new.items()}
    return contents, problems


def look_up(keys: Sequence[str], store: Store, *, progress: bool = True) -> list[tuple[str, str, bool]]:
    """Choose the pairs of contents that are worth comparing.

    Args:
        keys: Of different contents.
        store: Their fingerprints.
        progress: Show bars.

    Returns:
        Triples (a, b, mirrored), a < b, each once, sorted.
    """
    keys = sorted(keys)  # whatever the order of the arguments: the same sample, the same pairs
    if len(keys) <= FEW:
        return [(a, b, m) for i, a in enumerate(keys) for b in keys[i + 1 :] for m in (False, True)]
    sampled = np.sort(np.random.default_rng(0).permutation(len(keys))[:SAMPLE])
    sample = [store.get(keys[i]).roots for i in sampled]
    encoders = [
        learn_encoder([roots[:strongest] for roots in sample], words, whitening)
        for words, whitening, strongest in VOCABULARIES
    ]
    # The vocabularies' vectors side by side: their product is the mean of the cosines.
    edges = np.cumsum([0, *(encoder.components.shape[1] for encoder in encoders)])
    columns = [slice(*edge) for edge in itertools.pairwise(edges.tolist())]
    whole, mirror = (np.empty((len(keys), edges[-1]), np.float32) for _ in range(2))
    bar = tqdm(total=len(keys), desc="vectors", unit="image", disable=not progress, leave=False)
    with bar, _threads() as pool:
        for begin in range(0, len(keys), 2 * CHUNK):
            prints = [store.get(key) for key in keys[begin : begin + 2 * CHUNK]]
            parts = [
                (vectors, where, pool.submit(encoder, [roots[:strongest] for roots in side]))
                for vectors, side in (
                    (whole, [f.roots for f in prints]),
                    (mirror, [f.mirrored().roots for f in prints]),
                )
                for encoder, where, (*_, strongest) in zip(encoders, columns, VOCABULARIES, strict=True)
            ]
            for vectors, where, part in parts:
                vectors[begin : begin + len(prints), where] = part.result() / np.sqrt(len(encoders))
            bar.update(len(prints))
    best = np.ascontiguousarray(whole[:, columns[BEST]])
    pairs: set[tuple[str, str, bool]] = set()
    for queries, base, count, mirrored in (
        (whole, whole, NEIGHBOURS + 1, False),  # an image is its own nearest
        (best, best, NEIGHBOURS + 1, False),
        (mirror, whole, MIRRORED_NEIGHBOURS, True),
    ):
        rows, _ = nearest(queries, base, min(count, len(keys)))
        for i, j in zip(*_unequal(rows), strict=True):
            a, b = sorted((keys[i], keys[j]))
            pairs.add((a, b, mirrored))
    return sorted(pairs)


def verify(
    candidates: Sequence[tuple[str, str, bool]], store: Store, *, progress: bool = True
) -> list[MatchedContents]:
    """Match every candidate that was not matched by an earlier call.

    Args:
        candidates: Triples (a, b, mirrored), as `look_up` returns them.
        store: It holds the fingerprints, and gets the matches.
        progress: Show a bar.

    Returns:
        The candidates with enough agreeing features, sorted by key.
    """
    done = store.matched()
    todo = [candidate for candidate in candidates if candidate not in done]
    bar = tqdm(total=len(todo), desc="pairs", unit="pair", disable=not progress, leave=False)

    @functools.lru_cache(maxsize=4 * CHUNK)
    def read(key: str, mirrored: bool = False) -> Fingerprint:
        features = store.get(key)
        return features.mirrored() if mirrored else features

    with bar, _threads() as pool:
        for chunk in _batches(todo, 4 * CHUNK):
            sides = [(read(a, mirrored), read(b)) for a, b, mirrored in chunk]
            matches = itertools.chain.from_iterable(pool.map(_match, _batches(sides, 16)))
            store.add_matches([(*pair, result) for pair, result in zip(chunk, matches, strict=True)])
            bar.update(len(chunk))
    asked = set(candidates)
    return [
        MatchedContents(a, b, mirrored, result)
        for a, b, mirrored, result in store.matches(LEAST_INLIERS)
        if (a, b, mirrored) in asked
    ]


def _describe(entry: Entry, known: dict[str, str]) -> tuple[str, str, Fingerprint | None] | str:
    """(sha256, key, fingerprint or None if known), or what is wrong with the image."""
    try:
        sha256, aspect = entry.sha256(), entry.proportion()
        key = content_key(sha256, aspect)
        return sha256, key, None if key in known else fingerprint(entry.square(), aspect)
    except (DataError, OSError) as error:
        return f"{entry.set_name}/{entry.image_id}: {str(error).splitlines()[0]}"


def _match(sides: Sequence[tuple[Fingerprint, Fingerprint]]) -> list[Match]:
    return [match(first, second) for first, second in sides]


def _unequal(rows: np.ndarray) -> tuple[list[int], list[int]]:
    """(query, neighbour) of every entry that is a neighbour and not the query itself."""
    queries = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    kept = (rows >= 0) & (rows != queries)
    return queries[kept].tolist(), rows[kept].tolist()


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _threads() -> ThreadPoolExecutor:
    """One thread for each core: OpenCV, Pillow and NumPy let the others run while they work."""
    return ThreadPoolExecutor(_cores(), thread_name_prefix="audit")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
