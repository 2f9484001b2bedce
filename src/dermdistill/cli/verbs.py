"""The verbs: what each does in a line, and the module and function that does it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable

from dermdistill.cli.common import parse
from dermdistill.core.errors import UsageError

VERBS = {
    "prepare": "download or read images and masks, check them, split them, pack them",
    "audit": "find images that training and test share, and near-duplicates",
    "train": "fine-tune a teacher, or train a student alone, by a recipe",
    "distill": "distil a teacher into a student, by a recipe",
    "evaluate": "score a model, or masks that any tool made, by the official ISIC protocol",
    "compare": "two or more on the same pictures: paired differences, with intervals and pictures",
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


def run(verb: str, arguments: list[str]) -> int:
    """Read a verb's arguments and do it; its module is imported now, not before.

    Returns:
        The exit code.

    Raises:
        UsageError: There is no such verb.
    """
    match verb:
        case "train" | "distill":
            from dermdistill.cli import learn

            return learn.run(verb, arguments)
        case "study":
            from dermdistill.cli import study

            return study.run(arguments)
        case "prepare":
            from dermdistill.cli import prepare

            return prepare.run(arguments)
        case _ if verb in VERBS:
            return int(parse(function_of(verb), verb, arguments))
    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"Perhaps you meant {near[0]!r}." if near else "dermdistill --help lists them."
    raise UsageError(f"There is no verb {verb!r}.", f"one of {', '.join(VERBS)}", hint)


def function_of(verb: str) -> Callable[..., int]:
    """A verb's function (train, distill, study and prepare have none: settings are their arguments)."""
    function: Callable[..., int] = getattr(importlib.import_module(f"dermdistill.cli.{verb}"), verb)
    return function
