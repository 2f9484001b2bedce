"""Writes that the system refuses are told with the path and what is free."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import pytest

from dermdistill.core.files import disk_error, read_csv, read_json, write_csv, write_json


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


def test_no_cell_is_a_formula_and_each_is_read_back(tmp_path: Path) -> None:
    cells = ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "'=x", "''@", "'quoted'", "-0.5", "+1e3", "", "é"]
    rows = [{"=name": cell, "number": -0.5} for cell in cells]
    write_csv(tmp_path / "t.csv", rows, ["=name", "number"])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            for cell in row:
                assert cell in ("-0.5", "+1e3") or not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert read_csv(tmp_path / "t.csv") == [{"=name": cell, "number": "-0.5"} for cell in cells]
    write_csv(tmp_path / "t.csv", [{"name": "two\rlines"}], ["name"])
    assert read_csv(tmp_path / "t.csv") == [{"name": "two\\rlines"}]


def test_names_that_are_no_text_are_written_as_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"latin\xe9.jpg")
    write_json(tmp_path / "x.json", {"path": name})
    assert read_json(tmp_path / "x.json") == {"path": name}
    write_csv(tmp_path / "x.csv", [{"path": name}], ["path"])
    assert read_csv(tmp_path / "x.csv") == [{"path": "latin\\udce9.jpg"}]
