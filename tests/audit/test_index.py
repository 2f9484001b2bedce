"""The index of image vectors."""

from __future__ import annotations

import numpy as np
import pytest

from dermdistill.audit import index
from dermdistill.audit.features import fingerprint
from pictures import phantom


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, 32)) * np.linspace(1, 0.2, 32))


def test_a_small_base_is_searched_in_full() -> None:
    base, queries = vectors(300), vectors(40, seed=1)
    rows, scores = index.nearest(queries, base, 7)
    expected = np.argsort(-(queries @ base.T), axis=1)[:, :7]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ base.T, expected, axis=1), atol=1e-6)


def test_a_large_base_is_searched_in_part_and_finds_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LARGE", 500)
    base = vectors(6000)
    queries = unit(base[:700] + np.random.default_rng(2).normal(size=(700, 32)) * 0.05)
    rows, scores = index.nearest(queries, base, 5)
    assert (rows[:, 0] == np.arange(700)).mean() > 0.98
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == len(row) for row in rows.tolist())


def test_more_are_asked_for_than_there_are() -> None:
    rows, scores = index.nearest(vectors(2), vectors(3), 5)
    assert (np.sort(rows[:, :3], axis=1) == [0, 1, 2]).all()
    assert (rows[:, 3:] == -1).all()
    assert (scores[:, 3:] == -1).all()
    assert index.nearest(vectors(2), np.zeros((0, 32), np.float32), 2)[0].tolist() == [[-1, -1], [-1, -1]]


def test_similar_pictures_get_similar_vectors() -> None:
    pictures = [np.asarray(phantom(i)) for i in range(60)]
    described = [fingerprint(picture).roots for picture in pictures]
    encoder = index.learn_encoder(described)
    base = encoder(described)
    np.testing.assert_allclose(np.linalg.norm(base, axis=1), 1, atol=1e-4)
    hits = 0
    for i in range(0, 60, 5):
        shifted = np.asarray(phantom(i).crop((12, 8, 244, 240)).resize((256, 256)))
        rows, _ = index.nearest(encoder([fingerprint(shifted).roots]), base, 3)
        hits += i in rows[0].tolist()
    assert hits >= 11
    assert not encoder([np.zeros((0, 128), np.float32)]).any()


def test_learning_is_repeatable() -> None:
    described = [fingerprint(np.asarray(phantom(i))).roots for i in range(50)]
    one, other = index.learn_encoder(described), index.learn_encoder(described)
    np.testing.assert_array_equal(one.components, other.components)
