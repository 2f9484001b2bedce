"""How the package is delivered: the container image, the development container.

No container engine is needed: what it reads is parsed, linted, and held against the command line's parser,
the web app and the Makefile.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dockerfile_parse import DockerfileParser

from delivery import REPOSITORY, lint, parse
from dermdistill.serve.limits import Limits

DOCKERFILES = [REPOSITORY / "Dockerfile", REPOSITORY / ".devcontainer" / "Dockerfile"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and their values."""
    with path.open("rb") as stream:
        parsed = DockerfileParser(fileobj=stream).structure
    return [(one["instruction"], one["value"]) for one in parsed if one["instruction"] != "COMMENT"]


def of_kind(kind: str, path: Path = DOCKERFILES[0]) -> list[str]:
    return [value for instruction, value in instructions(path) if instruction == kind]


@pytest.mark.parametrize("path", DOCKERFILES, ids=["image", "devcontainer"])
def test_dockerfiles_have_no_lint(path: Path) -> None:
    lint("hadolint", str(path))


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


def test_the_images_command_is_understood_and_serves_the_port_it_exposes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (entry,) = of_kind("ENTRYPOINT")
    program, *words = json.loads(entry)
    assert program == "dermdistill"
    found = parse(monkeypatch, words)
    assert found["host"] == "0.0.0.0", "inside a container 127.0.0.1 cannot be reached"
    assert of_kind("EXPOSE") == [str(found["port"])]
    more = parse(monkeypatch, [*words, "--tta", "--allow-host", "clinic.example"])
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
        assert stop is None or int(stop[1]) > Limits().grace_s


def test_the_options_that_the_page_gives_the_image_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    (entry,) = of_kind("ENTRYPOINT")
    given = re.findall(r"`(?:[^`]* )?(?:dermdistill )?((?:--(?:tta|model|workers)\b)[^`]*)`", text)
    assert len(given) >= 3
    for options in given:
        assert parse(monkeypatch, [*json.loads(entry)[1:], *options.split()])


def _health_command() -> list[str]:
    (check,) = of_kind("HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD")[2])
    return command


def test_the_health_check_asks_the_app_on_its_port() -> None:
    from fastapi.testclient import TestClient

    from dermdistill.inference.predictor import Predictor
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
