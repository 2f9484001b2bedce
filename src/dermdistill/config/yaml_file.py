"""YAML files as plain values, whoever wrote them: bounded in size, depth and aliases, no key twice.

PyYAML's safe loader runs no code, but it keeps the last of two equal keys without a word, fails with errors
of many kinds, and follows aliases without end ("billion laughs"). Each of these is one `ConfigError` here.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from dermdistill.core.errors import ConfigError

MAX_BYTES = 2**16
"""Largest file: the shipped recipes have at most a tenth of it, and PyYAML takes a second for this much."""
MAX_DEPTH = 20
MAX_VALUES = 10_000
"""Of a file, with aliases followed."""
_MAX_DIGITS = 30
_NUMBER = re.compile(r"[-+]?[0-9a-fA-FoxbX_:.]+")


class _Loader(yaml.SafeLoader):
    """The safe loader, no deeper than MAX_DEPTH: PyYAML reads by recursion."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(path: Path) -> Any:
    """A YAML file's content as plain values.

    Raises:
        ConfigError: It cannot be read, is not YAML, too large, too deep, or has a key twice.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        loader = _Loader(content.decode("utf-8-sig"))
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check(root)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError, OSError) as error:
        raise ConfigError(
            f"{path} is not valid YAML: {_reason(error)}",
            "YAML in UTF-8: settings as name: value, one a line",
            "Fix the file at the place named; indent with spaces.",
        ) from error


def _check(root: yaml.Node) -> None:
    """Raise ValueError where aliases make a file endless or huge, or a key is there twice."""
    waiting: list[tuple[yaml.Node, int]] = [(root, 0)]
    count = 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError(f"it holds more than {MAX_VALUES:,} values, or deeper ones than {MAX_DEPTH}")
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            several = Counter(keys).items() if len(set(keys)) < len(keys) else ()
            if twice := next((key for key, times in several if key != "<<" and times > 1), None):
                raise ValueError(f"{twice!r} is there twice{_place(node.start_mark)}")
            waiting += [(each, depth + 1) for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(each, depth + 1) for each in node.value]
        elif isinstance(node, yaml.ScalarNode):
            node.value.encode()  # surrogates, which no file can hold
            if len(node.value) > _MAX_DIGITS and node.style is None and _NUMBER.fullmatch(node.value):
                raise ValueError(f"a number has {len(node.value):,} digits{_place(node.start_mark)}")


def _reason(error: Exception) -> str:
    """One line, with the place in the file where it is known."""
    if isinstance(error, yaml.MarkedYAMLError):
        return f"{error.problem or error.context}{_place(error.problem_mark or error.context_mark)}"[:300]
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:300] or type(error).__name__


def _place(mark: Any) -> str:
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
