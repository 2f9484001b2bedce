"""Fingerprints on disk, by content: an audit that was killed, or a larger one, does not read an image twice.

One SQLite file. Whatever a kill interrupts, a transaction is there in full or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dermdistill.audit.features import METHOD, Fingerprint
from dermdistill.audit.matching import Match
from dermdistill.core.errors import DataError

_TABLES = """
CREATE TABLE IF NOT EXISTS fingerprints (
    key TEXT PRIMARY KEY, pixels TEXT, height INTEGER, width INTEGER, points BLOB, descriptors BLOB, grey BLOB
);
CREATE TABLE IF NOT EXISTS matches (
    a TEXT, b TEXT, mirrored INTEGER, inliers INTEGER, spread REAL, correlation REAL, overlap REAL,
    transform BLOB, PRIMARY KEY (a, b, mirrored)
) WITHOUT ROWID;
"""


class Store:
    """A mapping from a content's key to its fingerprint; to be used in a ``with`` block.

    Args:
        path: The file; made when it is not there.

    Raises:
        DataError: It is there and is something else.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._base = sqlite3.connect(path, timeout=60)
        try:
            self._base.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            self._base.close()
            raise DataError(
                f"{path} cannot be used: {error}.",
                "a file of fingerprints that an audit wrote",
                f"Delete {path}, or name another one with --cache.",
            ) from None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def pixels(self) -> dict[str, str]:
        """The pixels' sha256 of all that is stored, by key."""
        return dict(self._base.execute("SELECT key, pixels FROM fingerprints"))

    def counts(self) -> dict[str, int]:
        """How many features each stored content has, by key."""
        return dict(self._base.execute("SELECT key, length(descriptors) / 128 FROM fingerprints"))

    def add(self, fingerprints: Iterable[tuple[str, Fingerprint]]) -> None:
        """Store several at once: all of them or, when killed, none."""
        with self._base:
            self._base.executemany(
                "INSERT OR REPLACE INTO fingerprints VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        key,
                        f.pixels,
                        *f.grey.shape,
                        f.points.tobytes(),
                        f.descriptors.tobytes(),
                        f.grey.tobytes(),
                    )
                    for key, f in fingerprints
                ),
            )

    def get(self, key: str) -> Fingerprint:
        """Read one that is known to be there."""
        pixels, height, width, points, descriptors, grey = self._base.execute(
            "SELECT pixels, height, width, points, descriptors, grey FROM fingerprints WHERE key = ?", (key,)
        ).fetchone()
        return Fingerprint(
            pixels,
            np.frombuffer(points, np.float32).reshape(-1, 4),
            np.frombuffer(descriptors, np.uint8).reshape(-1, 128),
            np.frombuffer(grey, np.uint8).reshape(height, width),
        )

    def matched(self) -> set[tuple[str, str, bool]]:
        """The pairs (a, b, mirrored) that were compared."""
        return {(a, b, bool(m)) for a, b, m in self._base.execute("SELECT a, b, mirrored FROM matches")}

    def add_matches(self, results: Iterable[tuple[str, str, bool, Match]]) -> None:
        """Store what comparing pairs of keys gave, all at once."""
        with self._base:
            self._base.executemany(
                "INSERT OR REPLACE INTO matches VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (a, b, int(mirrored), m.inliers, m.spread, m.correlation, m.overlap, _bytes(m.transform))
                    for a, b, mirrored, m in results
                ),
            )

    def matches(self, least_inliers: int) -> list[tuple[str, str, bool, Match]]:
        """(a, b, mirrored, match) of all pairs with so many inliers, sorted by key."""
        rows = self._base.execute(
            "SELECT a, b, mirrored, inliers, spread, correlation, overlap, transform FROM matches"
            " WHERE inliers >= ? AND transform IS NOT NULL ORDER BY a, b, mirrored",
            (least_inliers,),
        )
        return [
            (a, b, bool(mirrored), Match(inliers, spread, correlation, overlap, _matrix(transform)))
            for a, b, mirrored, inliers, spread, correlation, overlap, transform in rows
        ]


def _bytes(transform: NDArray[np.float64] | None) -> bytes | None:
    return None if transform is None else transform.astype(np.float64).tobytes()


def _matrix(transform: bytes) -> NDArray[np.float64]:
    return np.frombuffer(transform, np.float64).reshape(2, 3)


def content_key(sha256: str, aspect: float) -> str:
    """The key of a content: its bytes' hash, and what else its fingerprint depends on."""
    return f"{METHOD}:{aspect:.3f}:{sha256}"
