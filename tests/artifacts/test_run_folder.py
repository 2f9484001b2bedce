"""The run folder: whose it is, what may be removed, and who works in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dermdistill.artifacts.run_folder import open_run
from dermdistill.config import Recipe, load_recipe
from dermdistill.core.errors import UsageError


def recipe(root: Path, name: str = "one") -> Recipe:
    return load_recipe("student-phantom", {"runs_root": str(root), "name": name})


def test_a_run_that_saved_nothing_does_not_block_the_next(tmp_path: Path) -> None:
    with open_run(recipe(tmp_path), resume=False, overwrite=False) as run:
        (run.path / "tensorboard").mkdir()
        (run.path / "notes.txt").write_text("mine")
    with open_run(recipe(tmp_path), resume=False, overwrite=False) as run:
        assert {path.name for path in run.path.iterdir()} == {"config.yaml", "notes.txt"}
        run.metrics.write_text("epoch\n0\n")
    with (
        pytest.raises(UsageError, match="exists \\(1 epochs\\)"),
        open_run(recipe(tmp_path), resume=False, overwrite=False),
    ):
        pass
    assert run.metrics.exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "/tmp/x", "a\nb", "n" * 201])
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.yaml").write_text("name: x\nrole: student\n")
    with (
        pytest.raises(UsageError, match="is not a name for a run"),
        open_run(recipe(tmp_path / "runs", name), resume=False, overwrite=True),
    ):
        pass
    assert (tmp_path / "x" / "config.yaml").exists()


@pytest.mark.parametrize("config", ["theirs: 1\n", "[broken", None])
def test_a_folder_that_is_no_run_is_never_removed(tmp_path: Path, config: str | None) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "thesis.txt").write_text("years")
    if config is not None:
        (tmp_path / "one" / "config.yaml").write_text(config)
    with (
        pytest.raises(UsageError, match="is not a run"),
        open_run(recipe(tmp_path), resume=False, overwrite=True),
    ):
        pass
    assert (tmp_path / "one" / "thesis.txt").read_text() == "years"


def test_two_processes_do_not_train_in_one_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from dermdistill.artifacts.run_folder import open_run; from dermdistill.config import load_recipe\n"
        "r = load_recipe('student-phantom', {'runs_root': sys.argv[1], 'name': 'one'})\n"
        "with open_run(r, resume=False, overwrite=True): pass\n"
    )
    with open_run(recipe(tmp_path), resume=False, overwrite=False) as run:
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert "Another process trains in" in other.stderr
        assert run.config.exists()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr  # the lock does not stay behind
