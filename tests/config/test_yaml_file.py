"""YAML that nobody writes by accident, or everybody does: one line, soon, and nothing run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dermdistill.cli import main
from dermdistill.config import load_recipe, read_yaml
from dermdistill.core.errors import ConfigError, DermDistillError


def laughs(open_: str, close: str, item: str) -> str:
    """Aliases of aliases: ten in each of twelve."""
    lines = [f"a0: &a0 {open_}{item}{close}"]
    for n in range(1, 13):
        inner = ", ".join(f"*a{n - 1}" if open_ == "[" else f"k{i}: *a{n - 1}" for i in range(10))
        lines.append(f"a{n}: &a{n} {open_}{inner}{close}")
    return "\n".join(lines)


HOSTILE: dict[str, str | bytes] = {
    "aliases": laughs("[", "]", "x"),
    "aliases of mappings": laughs("{", "}", "x: 1"),
    "merges": "a0: &a0 {x: 1}\n"
    + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 13)),
    "an alias of itself": "name: &a [*a]",
    "6,000 digits": "name: x\nseed: " + "9" * 6000,
    "4,000 digits": "name: x\nseed: " + "9" * 4000,
    "hexadecimal": "name: x\nseed: 0x" + "f" * 5000,
    "sexagesimal": "name: x\nseed: " + ":".join(["59"] * 2000),
    "a seed beyond 32 bits": "name: x\nseed: 4294967296",
    "depth of lists": "name: " + "[" * 10_000 + "]" * 10_000,
    "depth of mappings": "name: " + "{a: " * 10_000,
    "depth by indenting": "".join(" " * n + "a:\n" for n in range(300)),
    "depth of dashes": "- " * 10_000 + "a",
    "a key twice": "name: x\nname: y",
    "a setting twice": "name: x\ndata: {size: 64, size: 128}",
    "a list": "- a",
    "a number": "5",
    "nothing": "",
    "two documents": "name: x\n---\nname: y",
    "NUL": b"name: x\0",
    "Latin-1": b"name: M\xfcller",
    "UTF-16": "name: x".encode("utf-16"),
    "noise": bytes(range(256)) * 10,
    "a surrogate": 'name: "\\ud800"',
    "code": "name: !!python/object/apply:os.system ['touch pwned']",
    "a tag": "name: !secret x",
    "no date": "name: 2026-99-99",
    "no base64": "name: !!binary '####'",
    "a tab": "name: x\ndata:\n\tsize: 5",
    "a number for a key": "1: 2\nname: x",
    "a list for a key": "[1, 2]: 3\nname: x",
    "no end": 'name: "abc',
    "no anchor": "name: *nope",
    "another version": "%YAML 9.9\n---\nname: x",
    "too large": "name: " + "x" * 100_000,
    "very many settings": "name: x\n" + "".join(f"k{n}: {n}\n" for n in range(5000)),
    "very many values": "name: x\nteacher: {runs: [" + "5, " * 9000 + "]}",
    "a group that is none": "name: x\ndata: 5",
    "an old key that is a list": "name: x\nteacher: {answers: [1]}",
    "escape codes": 'name: "\\e[31mred\\nX"',
    "no folder's name": "name: ../x",
    "an absolute name": "name: /tmp/x",
    "no name": "name: ''",
    "a long name": "name: " + "x" * 300,
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("verb", ["train", "study"])
def test_each_is_refused_soon_and_in_a_line(
    what: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = HOSTILE[what]
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    assert main([verb, "r.yaml"]) == 2
    assert time.process_time() - started < 10  # with the imports of a first call
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "\x1b" not in error
    assert len(error) < 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.yaml"]


@pytest.mark.parametrize(
    "what", ["aliases", "6,000 digits", "depth of lists", "a list", "NUL", "a group that is none"]
)
def test_a_broken_config_of_a_run_is_a_line_too(what: str, tmp_path: Path) -> None:
    from dermdistill.artifacts.run_folder import read_config
    from dermdistill.report.run_files import _read_settings

    content = HOSTILE[what]
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    readers: list[Callable[[], object]] = [lambda: read_config(tmp_path)]
    if what != "a group that is none":
        readers.append(lambda: _read_settings(path))
    for read in readers:
        with pytest.raises(DermDistillError):
            read()


def test_what_people_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("\ufeffbase: &b {size: 64}\ndata:\n  <<: *b\n  name: x\nb: 1:30\n", encoding="utf-8")
    assert read_yaml(path) == {"base": {"size": 64}, "data": {"size": 64, "name": "x"}, "b": 90}
    path.write_text("name: x\ndata: 5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="found 5"):
        load_recipe(path, {"data.size": 64})
    with pytest.raises(ConfigError, match="Is a directory"):
        read_yaml(tmp_path)
