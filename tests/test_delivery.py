"""How the package is delivered: container image, development container, workflows, release.

Neither a container engine nor GitHub is needed: what they read is parsed, linted, and held against the
command line's parser, the web app and the Makefile.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import tyro
import yaml
from dockerfile_parse import DockerfileParser

from dermdistill import cli
from dermdistill._version import __version__
from dermdistill.serve.server import GRACE_S

REPOSITORY = Path(__file__).parents[1]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
DOCKERFILES = [REPOSITORY / "Dockerfile", REPOSITORY / ".devcontainer" / "Dockerfile"]
SCRIPT = REPOSITORY / ".github" / "release.py"


def _lint(*command: str) -> None:
    program = Path(sys.executable).with_name(command[0])
    if not program.is_file():
        pytest.skip(f"{command[0]} IS ABSENT: {command[-1]} was not linted")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def instructions(path: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and their values."""
    with path.open("rb") as stream:
        parsed = DockerfileParser(fileobj=stream).structure
    return [(one["instruction"], one["value"]) for one in parsed if one["instruction"] != "COMMENT"]


def of_kind(kind: str, path: Path = DOCKERFILES[0]) -> list[str]:
    return [value for instruction, value in instructions(path) if instruction == kind]


@pytest.mark.parametrize("path", DOCKERFILES, ids=["image", "devcontainer"])
def test_dockerfiles_have_no_lint(path: Path) -> None:
    _lint("hadolint", str(path))


@pytest.mark.parametrize("path", DOCKERFILES, ids=["image", "devcontainer"])
def test_the_last_user_is_not_root(path: Path) -> None:
    kinds = [kind for kind, _ in instructions(path)]
    last_stage = len(kinds) - 1 - kinds[::-1].index("FROM")
    users = [value for kind, value in instructions(path)[last_stage:] if kind == "USER"]
    assert users, "without USER it is root"
    assert int(users[-1].split(":")[0]) > 0
    assert f"--uid {users[-1].split(':')[0]} " in " ".join(of_kind("RUN", path))


def _let_through(path: str) -> bool:
    """Whether .dockerignore leaves a file in the build's context (its last matching line counts)."""
    ignored = False
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        folders = [Path(path), *Path(path).parents][:-1]
        tried = [one.name if pattern.startswith("**/") else str(one) for one in folders]
        if any(fnmatch.fnmatch(one, pattern.removeprefix("**/")) for one in tried):
            ignored = not line.startswith("!")
    return not ignored


def test_what_the_image_copies_exists_and_is_in_the_context() -> None:
    copied = [value.split()[:-1] for value in of_kind("COPY") if not value.startswith("--from")]
    names = [name for names in copied for name in names]
    assert {"src", "recipes", "pyproject.toml"} <= set(names)
    for name in names:
        assert (REPOSITORY / name).exists(), name
        assert _let_through(name), f"{name} is in .dockerignore"
    assert not _let_through("tests")
    assert not _let_through(".git")
    assert not _let_through("src/dermdistill/__pycache__")
    build = re.search(r"readme = \"(.+)\"", (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert build is not None
    assert build[1] in names


def _parse(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> dict[str, Any]:
    """What the real command line makes of these words, without doing it."""
    found: dict[str, Any] = {}
    original = tyro.cli

    def only_parse(function: Any, *args: Any, **named: Any) -> Any:
        @functools.wraps(function)
        def understood(*_: Any, **values: Any) -> int:
            found.update(values)
            return 0

        return original(understood, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(tyro, "cli", only_parse)
        assert cli.main(words) == 0
    return found


def test_the_images_command_is_understood_and_serves_the_port_it_exposes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (entry,) = of_kind("ENTRYPOINT")
    program, *words = json.loads(entry)
    assert program == "dermdistill"
    found = _parse(monkeypatch, words)
    assert found["host"] == "0.0.0.0", "inside a container 127.0.0.1 cannot be reached"
    assert of_kind("EXPOSE") == [str(found["port"])]
    more = _parse(monkeypatch, [*words, "--tta", "--allow-host", "clinic.example"])
    assert (more["tta"], more["allow_host"]) == (True, ("clinic.example",))


def _docker_runs(text: str) -> Iterator[list[str]]:
    """The words of each `docker run` of a text, continued lines joined, comment signs taken off."""
    text = re.sub(r"^# +", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"(docker run .*)\n +(--publish .*)", r"\1 \2", text)  # a folded line of YAML
    for line in re.findall(r"^ *docker (run .+)$", text, flags=re.MULTILINE):
        yield shlex.split(line)


@pytest.mark.parametrize("path", ["Dockerfile", "docs/deploy.md", ".github/workflows/ci.yml"])
def test_the_image_is_started_locked_and_on_this_computer_only(path: str) -> None:
    runs = list(_docker_runs((REPOSITORY / path).read_text(encoding="utf-8")))
    assert runs, f"{path} starts no container"
    for words in runs:
        text = " ".join(words)
        for option in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges"):
            assert option in text
        published = re.search(r"(?:-p|--publish) (\S+)", text)
        assert published is not None
        assert published[1] == f"127.0.0.1:8000:{of_kind('EXPOSE')[0]}"
        assert words[-1] == "dermdistill"
        stop = re.search(r"--stop-timeout (\d+)", text)
        assert stop is None or int(stop[1]) > GRACE_S


def test_the_options_that_the_page_gives_the_image_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    (entry,) = of_kind("ENTRYPOINT")
    given = re.findall(r"`(?:[^`]* )?(?:dermdistill )?((?:--(?:tta|model|workers)\b)[^`]*)`", text)
    assert len(given) >= 3
    for options in given:
        assert _parse(monkeypatch, [*json.loads(entry)[1:], *options.split()])


def _health_command() -> list[str]:
    (check,) = of_kind("HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD")[2])
    return command


def test_the_health_check_asks_the_app_on_its_port() -> None:
    from fastapi.testclient import TestClient

    from dermdistill.predict import Predictor
    from dermdistill.serve.app import make_app

    code = _health_command()[-1]
    compile(code, "HEALTHCHECK", "exec")
    found = re.search(r"http://[^']+", code)
    assert found is not None
    assert [str(urlsplit(found[0]).port)] == of_kind("EXPOSE")
    with TestClient(make_app(Predictor(threads=1)), base_url="http://127.0.0.1:8000") as client:
        assert client.get(urlsplit(found[0]).path).status_code == 200
        assert client.get("/nothing-here").status_code == 404


def test_the_health_check_fails_where_nobody_answers() -> None:
    # Port 9 of this computer: nobody listens there.
    code = re.sub(r":\d+/", ":9/", _health_command()[-1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert done.returncode != 0


def test_the_development_container() -> None:
    path = REPOSITORY / ".devcontainer" / "devcontainer.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    assert (path.parent / settings["build"]["dockerfile"]).is_file()
    assert f" {settings['remoteUser']}" in " ".join(of_kind("RUN", DOCKERFILES[1]))
    program, *targets = settings["postCreateCommand"].split()
    assert program == "make"
    subprocess.run(["make", "-n", *targets], cwd=REPOSITORY, check=True, capture_output=True)
    assert targets == ["install"]
    known = {
        *("name", "build", "remoteUser", "postCreateCommand", "forwardPorts", "portsAttributes"),
        "customizations",
    }
    assert settings.keys() <= known, "a key that devcontainers do not know is ignored in silence"
    editor = settings["customizations"]["vscode"]
    assert all(re.fullmatch(r"[\w-]+\.[\w-]+", name) for name in editor["extensions"])
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    interpreter = editor["settings"]["python.defaultInterpreterPath"]
    assert "VENV := .venv\n" in makefile
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"
    assert {int(port) for port in settings["portsAttributes"]} == set(settings["forwardPorts"])


def test_workflows_fit_their_schema() -> None:
    assert [path.stem for path in WORKFLOWS][:1] == ["ci"]
    _lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))


def test_workflows_have_no_security_finding() -> None:
    _lint("zizmor", "--offline", "--quiet", "--pedantic", *map(str, WORKFLOWS))


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
            assert _parse(monkeypatch, words.split())
        for target in re.findall(r"^make (\w+)", told, flags=re.MULTILINE):
            subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True)
        for group in re.findall(r"--group ([\w-]+)", told):
            assert f"\n{group} = [" in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


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
