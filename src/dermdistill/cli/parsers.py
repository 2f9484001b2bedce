"""The command line as one argparse parser: what completion (and whoever lists the options) reads."""

from __future__ import annotations

import argparse

from dermdistill.cli import learn, prepare, study
from dermdistill.cli.common import describe
from dermdistill.cli.verbs import VERBS, function_of


def whole_parser() -> argparse.ArgumentParser:
    """``dermdistill`` with a subparser for each verb, made from the verbs' own parsers.

    It describes; the verbs are read by tyro when they are run.
    """
    parser = argparse.ArgumentParser("dermdistill", description="Distil lesion segmentation networks.")
    parser.add_argument("-V", "--version", action="store_true", help="show the version")
    verbs = parser.add_subparsers(dest="verb")
    for verb, text in VERBS.items():
        verbs.add_parser(verb, parents=[parser_of(verb)], help=text, description=text)
    return parser


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The options of one of the `VERBS`, without ``--help``."""
    match verb:
        case "train" | "distill":
            return learn.parser(verb)
        case "study":
            return study.parser()
        case "prepare":
            return prepare.parser()
        case _:
            return describe(function_of(verb))
