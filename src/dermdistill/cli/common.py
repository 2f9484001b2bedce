"""What several verbs share: reading arguments (tyro is imported here, and late), logs, JSON, checks."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, TextIO, Union, cast

from dermdistill.core.errors import MissingExtraError, UsageError


def parse(what: Any, verb: str, arguments: list[str], **named: Any) -> Any:
    """Read a verb's arguments by a signature.

    Args:
        what: A function, which is called with them, or a type, which is made of them (or of one of several,
            see `one_of`); the docstring is the text of ``--help``.
        verb: The verb, for ``--help``.
        arguments: The words after the verb.
        named: As `tyro.cli` takes them.

    Returns:
        What the function returned, or the object.
    """
    import tyro

    with _mappings():
        return tyro.cli(what, prog=f"dermdistill {verb}", args=arguments, **named)


def describe(what: Any, **named: Any) -> argparse.ArgumentParser:
    """The parser that tyro makes of a function or a type, without ``--help``."""
    import tyro

    with warnings.catch_warnings(), _mappings():
        # tyro means to remove this function, and has no other that tells a parser's options. Without it the
        # verb `completion` would be lost, and a test would say so.
        warnings.filterwarnings("ignore", "get_parser", DeprecationWarning)
        made = tyro.extras.get_parser(what, add_help=False, **named)
    # tyro carries its own copy of argparse: other classes, the same attributes.
    return cast(argparse.ArgumentParser, made)


def _mappings() -> Any:
    """What has tyro read a mapping as the recipes write it: ``--student.options '{width: 8}'``."""
    import yaml
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    def read(text: str) -> dict[str, Any]:
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{text!r} is no mapping, such as '{{width: 8}}'")  # tyro tells it
        return found

    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
        if info.type != dict[str, Any]:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="{NAME: VALUE}",
            instance_from_str=lambda words: read(words[0]),
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [yaml.safe_dump(value, default_flow_style=True).strip()],
        )

    registry = ConstructorRegistry()
    registry.primitive_rule(rule)
    return registry


def one_of(types: Mapping[str, type]) -> Any:
    """The type of a verb that has a subcommand for each of several types."""
    from tyro.conf import OmitSubcommandPrefixes, subcommand

    kinds = tuple(Annotated[kind, subcommand(name)] for name, kind in types.items())
    return OmitSubcommandPrefixes[Union[kinds]]  # type: ignore[misc, valid-type]  # noqa: UP007


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show_progress() -> bool:
    """Whether somebody looks."""
    return sys.stderr.isatty()


def need_train_extra(verb: str) -> None:
    """Raise MissingExtraError where the training part is not installed."""
    missing = [name for name in ("torch", "lightning") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"dermdistill {verb} needs {', '.join(missing)}, which is not installed.",
            "the training part of dermdistill",
            "pip install 'dermdistill[train]'",
        )


def need_positive(flag: str, value: int) -> None:
    """Raise UsageError where a count is below 1."""
    if value < 1:
        raise UsageError(f"{flag} is {value}.", "1 or more", f"Set {flag} to 1 or more, or leave it out.")


def take(arguments: list[str], flag: str) -> bool:
    """Whether the flag is there; it is removed."""
    is_given = flag in arguments
    if is_given:
        arguments.remove(flag)
    return is_given


class _TqdmHandler(logging.StreamHandler[Any]):
    """Log lines that do not tear a progress bar."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self.to = stream

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=self.to or sys.stderr)


def set_up_logging(stream: TextIO | None = None) -> None:
    """Our messages to ``stream`` (None: stderr); called in a study's worker processes too."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of broken files, which are told as errors
    handler = _TqdmHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("dermdistill")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.DEBUG if os.environ.get("DERMDISTILL_DEBUG") else logging.INFO)
    # Lightning's banners and tips are not ours to show.
    # (By part: Lightning sets the level of its top logger itself when it is imported.)
    for part in (
        "fabric.utilities",
        *(f"pytorch.{p}" for p in ("trainer", "loops", "callbacks", "utilities")),
    ):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
