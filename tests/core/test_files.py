"""Writes that the system refuses are told with the path and what is free."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dermdistill.core.files import disk_error


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_is_free(tmp_path: Path, code: int) -> None:
    path = tmp_path / "not" / "yet" / "there.npy"
    text = str(disk_error(OSError(code, "full"), path))
    assert f"The disk is full: {path}" in text
    assert "MiB are free" in text


def test_another_refusal_is_told_as_the_system_says_it(tmp_path: Path) -> None:
    text = str(disk_error(PermissionError(errno.EACCES, "Permission denied"), tmp_path))
    assert "Permission denied" in text
    assert "The disk is full" not in text
