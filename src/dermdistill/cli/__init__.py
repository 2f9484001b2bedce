"""The command line: one verb per stage, a module each. The only place that prints and sets exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped on request. A user's mistake never shows a traceback;
``DERMDISTILL_DEBUG=1`` shows it for all errors.
"""

from __future__ import annotations

import codecs
import difflib
import functools
import importlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from dermdistill import config
from dermdistill._version import __version__
from dermdistill.core.errors import DermDistillError, UsageError

VERBS = {
    "prepare": "download or read images and masks, check them, split them, pack them",
    "audit": "find images that training and test share, and near-duplicates",
    "train": "fine-tune a teacher, or train a student alone, by a recipe",
    "distill": "distil a teacher into a student, by a recipe",
    "evaluate": "score a run by the official ISIC protocol",
    "study": "arms × seeds as one job: student alone, distilled, teacher; paired tests",
    "report": "one page of a run or study: verdict, table, figures, pictures",
    "export": "write a run as ONNX (float32, int8, float16) and hold it against PyTorch",
    "calibrate": "draw as you do: fit a student's outline to some masks of your own",
    "predict": "segment photos: masks, overlays, JSON",
    "serve": "a local web page and HTTP API: outline lesions in the browser",
    "bench": "networks side by side: latency, memory, cold start, size, Dice",
    "figure": "show image, truth and prediction side by side",
    "demo": "the whole job on generated lesions, in a few minutes",
    "recipes": "the shipped recipes and studies: what they are, cost, score; their settings explained",
    "info": "versions, devices, what is installed",
    "completion": "a script that completes this command line in bash, zsh or fish",
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit code is returned."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"dermdistill {__version__}")
        return 0
    set_up_logging()
    try:
        return _verb(arguments[0])(arguments[1:])
    except DermDistillError as error:
        if os.environ.get("DERMDISTILL_DEBUG"):
            raise
        print(f"dermdistill: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("dermdistill: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run() -> None:
    """Entry point of the ``dermdistill`` command."""
    codecs.register_error("as JSON", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="as JSON")
    sys.exit(main())


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Signs that an output's encoding lacks (≥ in Windows' code pages), as JSON escapes them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _overview() -> str:
    lines = [f"  {verb:<12}{text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: dermdistill VERB …    (dermdistill VERB --help explains each)",
            "",
            *lines,
            "",
            "Shipped recipes: " + ", ".join(path.stem for path in config.shipped_recipes()),
            "Shipped studies: " + ", ".join(path.stem for path in config.shipped_studies()),
            "Not a medical device.",
        ]
    )


def _verb(name: str) -> Callable[[list[str]], int]:
    if name in ("train", "distill"):
        from dermdistill.cli.learn import learn

        return functools.partial(learn, name)
    if name == "study":
        from dermdistill.cli.study import run

        return run
    if name in VERBS:
        return functools.partial(_call, name)
    near = difflib.get_close_matches(name, VERBS, n=1)
    hint = f"Perhaps you meant {near[0]!r}." if near else "dermdistill --help lists them."
    raise UsageError(f"There is no verb {name!r}.", f"one of {', '.join(VERBS)}", hint)


def _call(verb: str, arguments: list[str]) -> int:
    """Read the arguments by the signature of the verb's function, and call it."""
    import tyro

    return tyro.cli(function_of(verb), prog=f"dermdistill {verb}", args=arguments)


def function_of(verb: str) -> Callable[..., int]:
    """A verb's function (train, distill and study have none: they take a recipe's fields)."""
    function: Callable[..., int] = importlib.import_module(f"dermdistill.cli.{verb}").command()
    return function


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
