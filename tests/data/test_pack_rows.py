"""Rows of a pack that is cut, overwritten or removed while it is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dermdistill.core.errors import MismatchError
from dermdistill.data.dataset import PreparedData, open_dataset
from dermdistill.data.pack_rows import PackRows, check_pack


@pytest.fixture
def data(root: Path, tmp_path: Path) -> PreparedData:
    """A data set of the test's own, to be damaged."""
    shutil.copytree(root / "phantom", tmp_path / "phantom")
    return open_dataset("phantom", tmp_path, 48)


def test_rows_are_those_of_the_memory_map_in_the_order_asked_for(data: PreparedData) -> None:
    rows = np.array([7, 0, 21, 7])
    for array in (data.images, data.masks):
        assert np.array_equal(PackRows(array).read(rows), array[rows])
    assert PackRows(data.images).read(np.array([], np.int64)).shape == (0, 48, 48, 3)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(200)
        stream.write(b"\7" * 100)


@pytest.mark.parametrize("damage", [cut, empty, overwrite])
def test_a_pack_that_is_changed_in_use_is_told_and_no_crash(
    data: PreparedData, damage: Callable[[Path], None]
) -> None:
    reader = PackRows(data.images)
    reader.read(np.array([21]))
    damage(data.folder / "pack-48" / "images.npy")
    with pytest.raises(MismatchError, match="changed while it was in use"):
        reader.read(np.array([21]))


def test_a_pack_that_is_removed_in_use_is_read_to_the_end(data: PreparedData) -> None:
    reader, expected = PackRows(data.masks), data.masks[[3, 4]].copy()
    shutil.rmtree(data.folder)
    assert np.array_equal(reader.read(np.array([3, 4])), expected)


def test_bytes_that_were_not_packed_are_refused(data: PreparedData) -> None:
    check_pack(data)
    overwrite(data.folder / "pack-48" / "masks.npy")
    with pytest.raises(MismatchError, match=r"(?s)masks.npy is not what was packed.*prepare phantom"):
        check_pack(data)
