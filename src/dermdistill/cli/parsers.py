"""The command line as one argparse parser: what completion (and whoever lists the options) reads."""

from __future__ import annotations

import argparse
import warnings
from typing import Any, cast


def whole_parser() -> argparse.ArgumentParser:
    """``dermdistill`` with a subparser for each verb, made from the verbs' own parsers.

    It describes; the verbs are read by tyro when they are run.
    """
    from dermdistill.cli import VERBS

    parser = argparse.ArgumentParser("dermdistill", description="Distil lesion segmentation networks.")
    parser.add_argument("-V", "--version", action="store_true", help="show the version")
    verbs = parser.add_subparsers(dest="verb")
    for verb, text in VERBS.items():
        verbs.add_parser(verb, parents=[parser_of(verb)], help=text, description=text)
    return parser


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The options of one verb of ``cli.VERBS``, without ``--help``."""
    from dermdistill.cli import function_of

    match verb:
        case "train" | "distill":
            from dermdistill.cli import learn

            return learn.parser(verb)
        case "study":
            from dermdistill.cli import study

            return study.parser()
        case _:
            return describe(function_of(verb))


def describe(what: Any, **named: Any) -> argparse.ArgumentParser:
    """The parser that tyro makes of a function or a type, without ``--help``."""
    import tyro

    with warnings.catch_warnings():
        # tyro means to remove this function, and has no other that tells a parser's options. Without it the
        # verb `completion` would be lost, and a test would say so.
        warnings.filterwarnings("ignore", "get_parser", DeprecationWarning)
        made = tyro.extras.get_parser(what, add_help=False, **named)
    # tyro carries its own copy of argparse: other classes, the same attributes.
    return cast(argparse.ArgumentParser, made)
