"""Phantoms to run studies on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dermdistill.data.prepare.prepare import prepare_phantom
from tinystudies import SIZE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare_phantom(root, count=15, size=SIZE, seed=0, name="phantom", progress=False)
    return root
