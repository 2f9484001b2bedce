"""An audit from its arguments to its files."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from dermdistill.audit.entries import Entry
from dermdistill.audit.features import check_installed
from dermdistill.audit.gallery import write_gallery
from dermdistill.audit.matching import LEAST_INLIERS
from dermdistill.audit.official import official_overlaps
from dermdistill.audit.pairs import name_pairs
from dermdistill.audit.report import Audit, write
from dermdistill.audit.search import describe, look_up, verify
from dermdistill.audit.store import Store
from dermdistill.core.errors import DataError

logger = logging.getLogger(__name__)

STORE = "fingerprints.sqlite"


def audit(
    entries: Sequence[Entry],
    folder: Path,
    *,
    cache: Path | None = None,
    pages: int = 12,
    progress: bool = True,
) -> Audit:
    """Find what the images have in common, and write the results.

    A killed audit goes on where it was when it is started again.

    Args:
        entries: The images (:func:`dermdistill.audit.entries.collect`).
        folder: Gets audit.csv, audit.json and pairs.png; made when it is not there.
        cache: File of the fingerprints; by default in ``folder``.
        pages: Most pages of pictures (eight pairs each).
        progress: Show bars.

    Returns:
        The result, as it was written.

    Raises:
        DataError: No image can be read, or the cache is something else.
        MissingExtraError: OpenCV or FAISS is not installed.
    """
    check_installed()
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[step], clock = now - clock, now

    with Store(cache or folder / STORE) as store:
        contents, unreadable = describe(entries, store, progress=progress)
        for problem in unreadable[:20]:
            logger.warning("left out: %s", problem)
        if not any(contents):
            raise DataError(
                f"None of {len(entries)} images can be read. The first: {unreadable[0]}",
                "at least one image that decodes",
                "Check the folders, or prepare the data set again.",
            )
        lap("describe")
        # Of equal pictures one is looked up; the others are paired by being equal.
        different = {content.pixels: content.key for content in contents if content is not None}
        features = store.counts()
        keys = [key for key in different.values() if features[key] >= LEAST_INLIERS]
        candidates = look_up(keys, store, progress=progress)
        lap("look up")
        matches = verify(candidates, store, progress=progress)
        lap("verify")
    featureless = sum(c is not None and features[c.key] < LEAST_INLIERS for c in contents)
    pairs = name_pairs(entries, contents, matches)
    result = Audit(
        entries, pairs, official_overlaps(entries), unreadable, featureless, len(candidates), seconds
    )
    write(result, folder)
    # Equal files need no eye: they come after those that somebody should look at.
    shown = sorted(
        (pair for pair in pairs if pair.level != "same name"),
        key=lambda pair: (not pair.crosses, pair.level == "exact"),
    )
    write_gallery(shown, folder, pages, progress=progress)
    return result
