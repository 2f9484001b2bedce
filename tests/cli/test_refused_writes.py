"""Where a file cannot be written, every verb says so in one message, without a traceback."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dermdistill import cli
from dermdistill.core import files
from dermdistill.core.errors import DataError
from dermdistill.core.files import atomic_path, write_json


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),  # torch.save
    ],
)
def test_a_full_disk_is_told_with_the_path_and_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "sub" / "card.json"

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(DataError, match=r"The disk is full: .*card\.json"):
        write()
    assert list((tmp_path / "sub").iterdir()) == []


def test_what_was_there_stays(tmp_path: Path) -> None:
    write_json(tmp_path / "card.json", 1)
    with pytest.raises(DataError), atomic_path(tmp_path / "card.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "card.json").read_text() == "1\n"


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), ConnectionResetError(104, "reset")])
def test_other_errors_are_not_dressed_up(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), atomic_path(tmp_path / "a"):
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["evaluate", "calibrate", "compare"])
def test_an_out_that_is_a_file_is_one_message(
    words: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x" if words == "calibrate" else tmp_path / "file"
    what = ["shipped", str(pictures / "masks")] if words == "compare" else []
    masks = pictures / ("tight" if words == "calibrate" else "masks")
    folders = ["--images", str(pictures / "images"), "--masks", str(masks)]
    assert cli.main([words, *what, *folders, "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "cannot be written: " in told
    assert "Traceback" not in told
    assert (tmp_path / "file").read_text() == ""


def test_a_write_that_no_verb_foresaw_is_one_message_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(name: str, arguments: list[str]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/events")

    monkeypatch.setattr(cli, "run_verb", full)
    assert cli.main(["info"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("dermdistill: The disk is full: /data/events cannot be written (")
    assert files.is_refused_write(OSError(errno.EROFS, "Read-only file system"))
