"""Starts the command line in processes that have PyTorch imported already: most of a tiny training's time.

The campaign starts this with the source tree to try on ``PYTHONPATH``. For each order, a line of JSON, it
forks; the child is the command line's own entry point, and ends as it would. One child at a time.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    *("torch", "torchvision", "lightning.pytorch", "segmentation_models_pytorch", "matplotlib.figure"),
    *("scipy.stats", "torch.utils.tensorboard", "onnx"),
)


def main() -> None:
    """Import, then obey."""
    for name in LIBRARIES:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        print(pid, flush=True)
        _, status, usage = os.wait4(pid, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss]), flush=True)


def _become(order: dict[str, Any]) -> NoReturn:
    os.setsid()
    os.chdir(order["cwd"])
    for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
    if order["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
    sys.argv = ["dermdistill", *order["words"]]
    sys.path[0] = str(Path.cwd())
    from dermdistill import cli

    cli.run()  # ends in SystemExit, which ends this process as it would end any
    raise AssertionError


if __name__ == "__main__":
    main()
