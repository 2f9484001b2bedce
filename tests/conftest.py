"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Tests are many small computations: more threads only fight over the two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shapes and types in the annotations of these modules are checked in tests only (users pay nothing for it).
install_import_hook(
    ["dermdistill.losses", "dermdistill.augment", "dermdistill.models"], typechecker="beartype.beartype"
)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real dermoscopic images (ISIC 2017 at 256×256), which is not part of this repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL IMAGES ARE ABSENT: {SHARED_DATA} does not exist, this test did not run")
    return SHARED_DATA
