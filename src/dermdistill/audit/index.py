"""Which images are worth comparing: one short vector per image, and an index of them.

VLAD (Jégou et al. 2010) sums up an image's local features, principal components make it short, and an
inverted file (Jégou et al. 2011) answers the nearest neighbours without comparing all pairs. Vocabulary and
components are learnt from the audited images themselves, by a seeded choice that does not depend on their
order. Two vocabularies are asked, one coarse, one fine and whitened (Jégou & Chum 2012): on real pairs of
photographs, the eight nearest of each hold more of them than the twenty nearest of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermdistill.audit.features import Float32Array, root_sift
from dermdistill.imaging import UInt8Array

VOCABULARIES = ((64, 0.0), (256, 0.25))
"""Words, and by which power of the variance the components are whitened."""
DIMENSIONS = 256
SAMPLE = 1024
"""Images that vocabulary and components are learnt from, at most."""
FEATURES_EACH = 40
LARGE = 4096
"""From this many images on, neighbours are looked for in part of the index only."""
_ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Encoder:
    """Local features → one unit vector per image."""

    words: Float32Array
    """float32 [w, 128]."""
    mean: Float32Array
    """float32 [w × 128]."""
    components: Float32Array
    """float32 [w × 128, d]."""

    def __call__(self, images: Sequence[UInt8Array]) -> Float32Array:
        """Descriptors uint8 [n, 128] of each image → float32 [images, d], of length 1 (or 0 without any)."""
        # Many at once: the components are 32 MB, too much to be read for each image.
        sums = np.stack([_vlad(root_sift(descriptors), self.words) for descriptors in images])
        vectors = (sums - self.mean) @ self.components
        vectors[[len(descriptors) == 0 for descriptors in images]] = 0
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def learn_encoder(
    sample: Sequence[UInt8Array], words: int = 64, whitening: float = 0.0, seed: int = 0
) -> Encoder:
    """Learn vocabulary and components from some images' descriptors, each uint8 [n, 128]."""
    rng = np.random.default_rng(seed)
    features = [root_sift(d[np.sort(rng.permutation(len(d))[:FEATURES_EACH])]) for d in sample]
    vocabulary = _cluster(np.concatenate(features), words, rng)
    vectors = np.stack([_vlad(root_sift(d), vocabulary) for d in sample])
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    # The components of n vectors in many more dimensions, by way of their n × n products.
    variances, sides = np.linalg.eigh(centred @ centred.T)
    kept = np.flatnonzero(variances > 1e-4 * variances[-1])[::-1][:DIMENSIONS]
    components = centred.T @ (sides[:, kept] * variances[kept] ** (-0.5 - whitening))
    return Encoder(vocabulary, mean, components.astype(np.float32))


def nearest(
    queries: Float32Array, base: Float32Array, count: int, *, seed: int = 0, exact: bool = False
) -> tuple[NDArray[np.int64], Float32Array]:
    """The most similar base vectors of each query.

    Up to LARGE base vectors, and with ``exact``, all are compared; beyond, the base is divided into cells,
    and those nearest to the query are searched.

    Args:
        queries: float32 [q, d], unit vectors.
        base: float32 [n, d], unit vectors.
        count: How many to answer.
        seed: Of the cells.
        exact: Compare with all.

    Returns:
        int64 [q, count] rows of ``base``, best first (-1: none), and float32 [q, count] cosines (-1).
    """
    rows = np.full((len(queries), count), -1, np.int64)
    scores = np.full((len(queries), count), -1, np.float32)
    if not len(base) or not len(queries):
        return rows, scores
    if exact or len(base) <= LARGE:
        centres, probes = base.mean(axis=0, keepdims=True), 1
    else:
        rng = np.random.default_rng(seed)
        cells = 2 * int(np.sqrt(len(base)))
        centres = _cluster(base[np.sort(rng.permutation(len(base))[: 40 * cells])], cells, rng)
        probes = max(16, cells // 12)
    home = (base @ centres.T).argmax(axis=1)
    for begin in range(0, len(queries), LARGE):
        part = slice(begin, begin + LARGE)
        likeness = queries[part] @ centres.T
        visited = np.argpartition(-likeness, probes - 1, axis=1)[:, :probes]
        for cell in range(len(centres)):
            members = np.flatnonzero(home == cell)
            visitors = np.flatnonzero((visited == cell).any(axis=1)) + begin
            if len(members) and len(visitors):
                _keep_best(rows, scores, visitors, members, queries[visitors] @ base[members].T)
    return rows, scores


def _keep_best(
    rows: NDArray[np.int64],
    scores: Float32Array,
    visitors: NDArray[np.int64],
    members: NDArray[np.int64],
    found: Float32Array,
) -> None:
    count = rows.shape[1]
    all_scores = np.concatenate([scores[visitors], found], axis=1)
    all_rows = np.concatenate([rows[visitors], np.broadcast_to(members, found.shape)], axis=1)
    best = np.argsort(-all_scores, axis=1, kind="stable")[:, :count]
    scores[visitors] = np.take_along_axis(all_scores, best, axis=1)
    rows[visitors] = np.take_along_axis(all_rows, best, axis=1)


def _vlad(features: Float32Array, words: Float32Array) -> Float32Array:
    """Residuals to the nearest word, summed by word, each word's sum of length 1: float32 [w × 128]."""
    nearest_word = (features @ words.T - 0.5 * (words**2).sum(axis=1)).argmax(axis=1)
    which = np.zeros((len(words), len(features)), np.float32)
    which[nearest_word, np.arange(len(features))] = 1
    sums = which @ features - which.sum(axis=1, keepdims=True) * words
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    vector = sums.reshape(-1)
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _cluster(points: Float32Array, count: int, rng: np.random.Generator) -> Float32Array:
    """Centres by Lloyd's algorithm from a random start: float32 [≤ count, d]. An empty cell starts anew."""
    count = min(count, len(points))
    centres = points[np.sort(rng.permutation(len(points))[:count])].copy()
    for _ in range(_ROUNDS):
        home = np.concatenate(
            [
                (points[i : i + LARGE] @ centres.T - 0.5 * (centres**2).sum(axis=1)).argmax(axis=1)
                for i in range(0, len(points), LARGE)
            ]
        )
        order = np.argsort(home, kind="stable")
        sizes = np.bincount(home, minlength=count)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        full = sizes > 0
        centres[full] = np.add.reduceat(points[order], starts[full]) / sizes[full, None]
        if not full.all():
            centres[~full] = points[rng.integers(0, len(points), int((~full).sum()))]
    return centres
