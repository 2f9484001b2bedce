"""Code of the user's own: loaded from the file that was named, hashed; its mistakes told with their line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dermdistill.core import user_file
from dermdistill.core.errors import UsageError
from dermdistill.core.files import hash_file


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_what_runs_is_what_was_hashed_also_within_one_second(tmp_path: Path) -> None:
    """Python's own cache tells a changed file by its size and the second it was written in."""
    file = write(tmp_path / "mine.py", "def f():\n    return 1\n")
    first, digest = user_file.load(f"{file}:f")
    assert (first(), digest) == (1, hash_file(file))
    write(file, "def f():\n    return 2\n")
    second, other = user_file.load(f"{file}:f")
    assert (second(), other) == (2, hash_file(file))
    assert digest != other
    assert not (tmp_path / "__pycache__").exists()


def test_neighbours_and_dataclasses(tmp_path: Path) -> None:
    write(tmp_path / "a_neighbour_of_mine.py", "VALUE = 5\n")
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "import a_neighbour_of_mine as n\n@dataclass\nclass Made:\n    value: int = n.VALUE\n"
    )
    made, _ = user_file.load(f"{write(tmp_path / 'mine.py', text)}:Made")
    assert made().value == 5
    assert str(tmp_path) not in sys.path


def test_what_it_prints_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user_file.load(f"{write(tmp_path / 'mine.py', 'print(7)' + chr(10) + 'def f(): ...')}:f")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "7\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os\nimport no_such_package\n", r"mine\.py, line 2: ModuleNotFoundError: No module named"),
        ("a = 1\n\ndef f(:\n", r"mine\.py, line 3: SyntaxError"),
        ("def g():\n    return 1 / 0\nvalue = g()\n", r"mine\.py, line 2: ZeroDivisionError"),
        ("import json\njson.loads('{')\n", r"mine\.py, line 2: JSONDecodeError"),
        ("raise SystemExit(3)\n", r"mine\.py, line 1: SystemExit: 3"),
        ("def g(): ...\nclass H: ...\nf = 5\n", r"has no function 'f'(?s:.*)one of g, H"),
    ],
)
def test_a_file_that_fails_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", text)
    with pytest.raises(UsageError, match=told) as raised:
        user_file.load(f"{file}:f")
    assert "\n" not in raised.value.found


def test_names_that_are_no_file_s(tmp_path: Path) -> None:
    assert [user_file.is_user_file(name) for name in ("a.py:f", "a.py", "Unet", "x:y", "a.onnx")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="does not say which function"):
        user_file.load("mine.py")
    with pytest.raises(UsageError, match="no Python file"):
        user_file.load(f"{tmp_path}/absent.py:f")
