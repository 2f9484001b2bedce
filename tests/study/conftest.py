"""Phantoms to run studies on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinystudies import SIZE

from dermdistill.data.prepare import prepare_phantom


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare_phantom(root, count=15, size=SIZE, seed=0, name="phantom", progress=False)
    return root
