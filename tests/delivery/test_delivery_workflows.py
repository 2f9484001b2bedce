"""How the package is delivered: workflows, release.

GitHub is not needed: what it reads is parsed, linted, and held against the command line's parser and the
Makefile.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from delivery import REPOSITORY, WITHOUT_TRAINING, lint, parse
from dermdistill._version import __version__

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
SCRIPT = REPOSITORY / ".github" / "release.py"


def test_workflows_fit_their_schema() -> None:
    assert [path.stem for path in WORKFLOWS][:1] == ["ci"]
    lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))


def test_workflows_have_no_security_finding() -> None:
    lint("zizmor", "--offline", "--quiet", "--pedantic", *map(str, WORKFLOWS))


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return loaded


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_do_little_and_pin_what_they_use(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
    for step in steps(path):
        if "uses" in step:
            line = re.search(
                re.escape(step["uses"]) + r" # v\d+\.\d+\.\d+\n", path.read_text(encoding="utf-8")
            )
            assert line is not None, f"{step['uses']}: a commit, and its version beside it"
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_workflows_run_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in steps(path):
        told = step.get("run", "")
        for name in re.findall(r"(?<![\w/])(?:tests|\.github)/[\w./-]+\.py", told):
            assert (REPOSITORY / name).is_file(), name
        for words in re.findall(r"^\s*dermdistill ((?:prepare|predict) .+)$", told, flags=re.MULTILINE):
            assert parse(monkeypatch, words.split())
        for target in re.findall(r"^make (\w+)", told, flags=re.MULTILINE):
            subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True)
        for group in re.findall(r"--group ([\w-]+)", told):
            assert f"\n{group} = [" in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_the_cores_tests_can_be_read_without_the_training_part(tmp_path: Path) -> None:
    core = jobs(REPOSITORY / ".github" / "workflows" / "ci.yml")["core"]["steps"]
    files = re.findall(r"tests/[\w/]+\.py", " ".join(step.get("run", "") for step in core))
    assert len(files) > 20
    (tmp_path / "without.py").write_text(WITHOUT_TRAINING, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY / "src")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "without", "-p", "no:cacheprovider", "-q", "--co", *files],
        cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_the_release_is_published_only_from_what_was_tried() -> None:
    found = jobs(REPOSITORY / ".github" / "workflows" / "release.yml")
    assert [found[name].get("needs") for name in ("build", "try", "publish", "github-release")] == [
        None, "build", "try", "publish",
    ]  # fmt: skip
    assert found["publish"]["permissions"] == {"id-token": "write"}
    assert found["publish"]["environment"] == "release"
    assert found["github-release"]["permissions"] == {"contents": "write"}
    assert not {"permissions", "environment"} & (found["build"].keys() | found["try"].keys())
    supported = re.findall(r"Python :: (3\.\d+)", (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    for path, job in ((WORKFLOWS[0], "core"), (REPOSITORY / ".github/workflows/release.yml", "try")):
        matrix = jobs(path)[job]["strategy"]["matrix"]
        assert matrix["python"] == supported
        assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANGELOG = "# Changelog\n\n## 0.2.0 (a remark)\n\n- second\n\n### More\n\n- of it\n\n## 0.1.0\n\n- first\n"


def test_release_notes_are_the_changelogs_section(release: ModuleType) -> None:
    assert release.notes("v0.2.0", CHANGELOG) == "- second\n\n### More\n\n- of it"
    assert release.notes("v0.1.0", CHANGELOG) == "- first"
    with pytest.raises(SystemExit, match=r"no section '## 0\.3\.0'"):
        release.notes("v0.3.0", CHANGELOG)
    assert release.notes("vUnreleased"), "our own changelog is read"


def test_a_tag_that_is_not_the_version_is_refused(release: ModuleType) -> None:
    assert release.version() == __version__
    for tag in ("v99.0.0", __version__):
        with pytest.raises(SystemExit, match="The tag is"):
            release.check(tag)


def test_the_releases_files_have_checksums(tmp_path: Path) -> None:
    dist, out = tmp_path / "dist", tmp_path / "assets"
    dist.mkdir()
    command = [sys.executable, SCRIPT, "assets", "v1.2.3", dist, out]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1, "nothing was built"
    for name in ("dermdistill-1.2.3-py3-none-any.whl", "dermdistill-1.2.3.tar.gz"):
        (dist / name).write_text(name, encoding="utf-8")
    subprocess.run(command, check=True)
    lines = (out / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sums.keys() == {path.name for path in [*dist.iterdir(), *out.iterdir()]} - {"SHA256SUMS"}
    for path in [*dist.iterdir(), *out.iterdir()]:
        if path.name != "SHA256SUMS":
            assert sums[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (out / "dermdistill-student-1.2.3.onnx").stat().st_size > 100_000
    if shutil.which("sha256sum"):
        for path in dist.iterdir():
            shutil.copy(path, out)
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=out, check=True)
