"""``dermdistill prepare``: a subcommand for each data set of the catalogue, and for one's own."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dermdistill.cli.common import describe, one_of, parse, show_progress
from dermdistill.core.errors import UsageError
from dermdistill.data.dataset import SPLITS
from dermdistill.data.prepare.settings import KINDS

DESCRIPTION = (
    "Prepare a data set: download or read images and masks, check them, split them, pack them. "
    "dermdistill prepare NAME --help lists the options of each."
)


def parser() -> argparse.ArgumentParser:
    """The subcommands and their options, for those who list them."""
    return describe(one_of(KINDS))


def run(arguments: list[str]) -> int:
    """Parse the verb's arguments and do it; the exit code is returned."""
    if not arguments:
        raise UsageError(
            "Neither a data set of the catalogue nor folders of one's own were given.",
            f"dermdistill prepare with one of {', '.join(KINDS)}",
            "For example: dermdistill prepare isic2016, or dermdistill prepare own --images DIR --masks DIR",
        )
    settings: Any = parse(one_of(KINDS), "prepare", _with_subcommand(arguments), description=DESCRIPTION)
    if not 32 <= settings.size <= 2048:
        raise UsageError(
            f"--size is {settings.size}.",
            "32 to 2048 pixels",
            "Set --size to a side within that range (256 is the default).",
        )
    from dermdistill.data.prepare.prepare import prepare

    data = prepare(settings, progress=show_progress())
    counts = ", ".join(f"{len(data.indices(split))} {split}" for split in SPLITS)
    without = "" if data.info["masks"] else ", without masks"
    print(f"{data.folder}: {counts}{without}, {data.size}×{data.size}")
    return 0


def _with_subcommand(arguments: list[str]) -> list[str]:
    """The arguments, with the subcommand that older versions did without before ``--images``."""
    if not arguments[0].startswith("--") or "--images" not in arguments or "--help" in arguments:
        return arguments
    rest = [argument for argument in arguments if argument != "--unlabelled"]
    subcommand = "own" if len(rest) == len(arguments) else "unlabelled"
    print(
        f"dermdistill: read as: dermdistill prepare {subcommand} … (this spelling is kept for older scripts)",
        file=sys.stderr,
    )
    return [subcommand, *rest]
