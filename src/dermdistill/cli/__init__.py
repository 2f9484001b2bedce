"""The command line: one verb per stage, a module each. The only place that prints and sets exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped on request. A user's mistake never shows a traceback;
``DERMDISTILL_DEBUG=1`` shows it for all errors.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from pathlib import Path

from dermdistill import config
from dermdistill._version import __version__
from dermdistill.cli.common import set_up_logging
from dermdistill.cli.verbs import VERBS, function_of
from dermdistill.cli.verbs import run as run_verb
from dermdistill.core.errors import DermDistillError
from dermdistill.core.files import disk_error, is_refused_write

__all__ = ["VERBS", "function_of", "main", "run", "set_up_logging"]


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
        return run_verb(arguments[0], arguments[1:])
    except DermDistillError as error:
        if os.environ.get("DERMDISTILL_DEBUG"):
            raise
        print(f"dermdistill: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader (head, less) has gone: nothing more to say.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if os.environ.get("DERMDISTILL_DEBUG") or not is_refused_write(error):
            raise
        refused = disk_error(error, Path(getattr(error, "filename", None) or Path.cwd()))
        print(f"dermdistill: {refused}", file=sys.stderr)
        return refused.exit_code
    except KeyboardInterrupt:
        print("dermdistill: stopped.", file=sys.stderr)
        return 130


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
