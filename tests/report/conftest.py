"""A study to report on."""

from __future__ import annotations

from pathlib import Path

import pytest

from reportfiles import StudyMaker


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return StudyMaker(tmp_path_factory.mktemp("report"), images=60).write()
