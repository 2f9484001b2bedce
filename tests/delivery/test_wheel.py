"""The built wheel, installed without its dependencies' training part: what a user of the core gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dermdistill
from delivery import WITHOUT_TRAINING

REPOSITORY = Path(__file__).parents[2]
CORE_ONLY = f"""{WITHOUT_TRAINING}
from dermdistill.cli import main
sys.exit(main(sys.argv[1:]))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY), cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone, installed into a folder; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("site")
    _run("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(folder), str(wheel))
    return folder


def _run(*arguments: str, cwd: Path | None = None, path: Path | None = None, code: int = 0) -> str:
    """Standard output (and error, where it failed as expected) of Python with these arguments."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_the_wheel_holds_the_package_its_recipes_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as bundle:
        names = bundle.namelist()
        (metadata,) = (bundle.read(n).decode() for n in names if n.endswith(".dist-info/METADATA"))
    assert {"dermdistill/py.typed", "dermdistill/__init__.pyi"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    shipped = {path.name for path in (REPOSITORY / "recipes").glob("*.yaml")}
    assert {Path(name).name for name in names if name.startswith("dermdistill/recipes/")} == shipped
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]
    core = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line
    ]
    assert not [line for line in core if "torch" in line or "lightning" in line]
    assert [line for line in metadata.splitlines() if line.startswith("Requires-Dist: torch>=")]


def test_the_installed_command_answers(site: Path, tmp_path: Path) -> None:
    found = _run("-c", "import dermdistill; print(dermdistill.__file__)", cwd=tmp_path, path=site)
    assert Path(found.strip()).is_relative_to(site), "the wheel is what is tested, not this repository"
    command = str(site / "bin" / "dermdistill")
    assert _run(command, "--version", cwd=tmp_path, path=site) == f"dermdistill {dermdistill.__version__}\n"
    info = json.loads(_run(command, "info", "--json", cwd=tmp_path, path=site))
    shipped = sorted(path.stem for path in (REPOSITORY / "recipes").glob("*.yaml"))
    assert sorted(info["recipes"] + info["studies"]) == shipped
    assert info["train"] is True


def test_the_core_works_where_the_training_part_is_absent(site: Path, tmp_path: Path) -> None:
    info = json.loads(_run("-c", CORE_ONLY, "info", "--json", cwd=tmp_path, path=site))
    assert info["train"] is False
    made = ("prepare", "phantom", "--count", "5", "--size", "32")
    assert "data/phantom: 3 train, 1 val, 1 test" in _run("-c", CORE_ONLY, *made, cwd=tmp_path, path=site)
    for verb in (["train", "student-phantom"], ["distill", "phantom"], ["evaluate", "runs/x"], ["demo"]):
        told = _run("-c", CORE_ONLY, *verb, cwd=tmp_path, path=site, code=1)
        assert "pip install 'dermdistill[train]'" in told
        assert "Traceback" not in told
