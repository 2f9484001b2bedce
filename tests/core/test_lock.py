"""The lock of a folder: one at a time, the other is told who works, and a killed process leaves none."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from dermdistill.core.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from dermdistill.core.lock import locked
with locked(Path(sys.argv[1]), "packing"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that has the folder's lock when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_waits_and_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "new" / "set"
    with hold(folder, 0.6) as process:
        begun = time.monotonic()
        with locked(folder, "packing"):
            assert time.monotonic() - begun > 0.3
        assert process.wait() == 0
    assert caplog.messages == [f"Another process is packing {folder}; waiting for it."]


def test_a_killed_process_leaves_no_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with hold(tmp_path, 60) as process:
        process.kill()
    with locked(tmp_path):
        pass
    with locked(tmp_path):  # nor do we
        pass
    assert caplog.messages == []


def test_an_error_inside_frees_the_lock(tmp_path: Path) -> None:
    def fail() -> None:
        with locked(tmp_path):
            raise OSError("of the work, not of the lock")

    with pytest.raises(OSError, match="of the work"):
        fail()
    with hold(tmp_path, 0) as process:
        assert process.wait() == 0


@pytest.mark.parametrize("error", [OSError(95, "Operation not supported"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: filelock.FileLock, **_: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with locked(tmp_path):
        (tmp_path / "done").touch()
    assert (tmp_path / "done").exists()
    assert "cannot be locked" in caplog.text
