"""Which images are worth comparing: one short vector per image, and an index of them.

VLAD (Jégou et al. 2010) sums up an image's local features, principal components make it short, and FAISS's
inverted file (Jégou et al. 2011) gives the nearest neighbours without comparing all pairs. Vocabulary and
components are learnt from the audited images themselves, by a seeded choice that does not depend on their
order. Three vectors are compared, of coarse and fine vocabularies, the fine whitened (Jégou & Chum 2012), of
an image's strongest features or all. Of 60 known pairs of photographs of the same lesion, 51 stand among the
eight nearest by the three together, 55 among those and the eight by the best vector alone. Among the eight by
each of the three stand 54, of half as many pairs again. Vectors of the whole picture hold fewer: those of the
student's encoder 18 of the 60, low frequencies of the cosine transform 27.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dermdistill.audit.features import Float32Array, faiss

VOCABULARIES = ((64, 0.0, 100), (256, 0.25, 300), (256, 0.25, 100))
"""Words, by which power of the variance the components are whitened, and how many features are summed up."""
BEST = 1
"""Which of them finds most on its own."""
DIMENSIONS = 256
SAMPLE = 1024
"""Images that vocabulary and components are learnt from, at most."""
FEATURES_EACH = 40
LARGE = 16384
"""From this many images on, neighbours are looked for in part of the index only."""
PROBES = 12
"""Of the index's cells, one in so many is searched."""
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

    def __call__(self, images: Sequence[Float32Array]) -> Float32Array:
        """RootSIFT float32 [n, 128] of each image → float32 [images, d], of length 1 (or 0 without any)."""
        # Many at once: the components are 32 MB, too much to be read for each image.
        sums = np.stack([_vlad(features, self.words) for features in images])
        vectors = (sums - self.mean) @ self.components
        vectors[[len(features) == 0 for features in images]] = 0
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def learn_encoder(
    sample: Sequence[Float32Array], words: int = 64, whitening: float = 0.0, seed: int = 0
) -> Encoder:
    """Learn vocabulary and components from some images' RootSIFT, each float32 [n, 128].

    Args:
        sample: At least one image with a feature.
        words: Size of the vocabulary; fewer where there are fewer features.
        whitening: By which power of the variance the components are divided.
        seed: Of the features that are drawn and of the vocabulary's start.

    Raises:
        MissingExtraError: FAISS is not installed.
    """
    rng = np.random.default_rng(seed)
    features = np.concatenate([f[np.sort(rng.permutation(len(f))[:FEATURES_EACH])] for f in sample])
    clusters = faiss().Kmeans(
        128, min(words, len(features)), niter=_ROUNDS, seed=seed, min_points_per_centroid=1
    )
    clusters.train(features)
    vocabulary = clusters.centroids
    vectors = np.stack([_vlad(f, vocabulary) for f in sample])
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    # The components of n vectors in many more dimensions, by way of their n × n products.
    variances, sides = np.linalg.eigh(centred @ centred.T)
    kept = np.flatnonzero(variances > 1e-4 * variances[-1])[::-1][:DIMENSIONS]
    components = centred.T @ (sides[:, kept] * variances[kept] ** (-0.5 - whitening))
    return Encoder(vocabulary, mean, components.astype(np.float32))


def nearest(queries: Float32Array, base: Float32Array, count: int) -> tuple[NDArray[np.int64], Float32Array]:
    """The most similar base vectors of each query.

    Up to LARGE base vectors all are compared; beyond, the base is divided into cells, and those nearest to
    the query are searched.

    Args:
        queries: float32 [q, d], unit vectors.
        base: float32 [n, d], unit vectors.
        count: How many to return.

    Returns:
        int64 [q, count] rows of ``base``, best first (-1: none), and float32 [q, count] cosines (-1).

    Raises:
        MissingExtraError: FAISS is not installed.
    """
    library = faiss()
    index = library.IndexFlatIP(base.shape[1])
    if len(base) > LARGE:
        cells = 2 * int(np.sqrt(len(base)))
        index = library.IndexIVFFlat(index, base.shape[1], cells, library.METRIC_INNER_PRODUCT)
        index.nprobe = max(16, cells // PROBES)
        index.cp.max_points_per_centroid = 40
        index.train(base)
    index.add(base)
    scores, rows = index.search(queries, count)
    return rows, np.where(rows < 0, np.float32(-1), scores)


def _vlad(features: Float32Array, words: Float32Array) -> Float32Array:
    """Residuals to the nearest word, summed by word, each word's sum of length 1: float32 [w × 128]."""
    nearest_word = (features @ words.T - 0.5 * (words**2).sum(axis=1)).argmax(axis=1)
    which = np.zeros((len(words), len(features)), np.float32)
    which[nearest_word, np.arange(len(features))] = 1
    sums = which @ features - which.sum(axis=1, keepdims=True) * words
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    vector = sums.reshape(-1)
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
