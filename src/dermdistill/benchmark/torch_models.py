"""The part of the bench that needs torch: run folders, and the user's own modules (``file.py:factory``)."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dermdistill.artifacts.card import ModelCard
from dermdistill.benchmark.latency import Runner
from dermdistill.core.errors import UsageError
from dermdistill.models.lite_unet import merge_branches
from dermdistill.models.torch_backend import load_run


def load_module(source: str) -> tuple[nn.Module, ModelCard | None]:
    """Load the network of a run folder, or call a factory in a Python file.

    Args:
        source: Run folder, weights file, or ``FILE.py:FACTORY``.

    Returns:
        The network in evaluation mode, and its card (None for a factory's).

    Raises:
        UsageError: There is no such file or factory, or it returns no module.
        WeightsError: The run cannot be loaded.
    """
    if not source.rpartition(":")[0].endswith(".py"):
        return load_run(Path(source))
    return from_factory(source).eval(), None


def from_factory(source: str) -> nn.Module:
    """Call ``FILE.py:FACTORY``, a function or class that needs no arguments.

    The file is run, and may import its neighbours: name only files that you trust.

    Args:
        source: ``FILE.py:FACTORY``.

    Returns:
        The module that it makes.

    Raises:
        UsageError: There is no such file or factory, or it returns no module.
    """
    path, _, factory = source.rpartition(":")
    file = Path(path)
    if not (path.endswith(".py") and file.is_file()):
        raise UsageError(
            f"{source}: there is no Python file {path!r}.",
            "FILE.py:FACTORY, a function that returns a torch module",
            "Check the path before the colon.",
        )
    spec = importlib.util.spec_from_file_location(f"dermdistill_bench_{file.stem}", file)
    assert spec is not None  # a .py file always has one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    make = getattr(module, factory, None)
    if not callable(make):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == spec.name]
        raise UsageError(
            f"{path} has no function {factory!r}.",
            f"one of {', '.join(own) or 'none'}",
            "Name a function of that file, which is called without arguments.",
        )
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        net: Any = make()
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"{source} returns {type(net).__name__}.",
            "a torch.nn.Module for [n, 3, h, w]",
            "Let the function return the network itself.",
        )
    return net


def torch_runner(net: nn.Module, threads: int) -> Runner:
    """Make a function that runs a module by torch on the CPU, channels last.

    Args:
        net: For float32 [n, 3, s, s].
        threads: They are set anew before each call.
    """
    net = merge_branches(net).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def run(image: NDArray[np.float32]) -> Any:
        torch.set_num_threads(threads)
        return net(torch.from_numpy(image).to(memory_format=torch.channels_last))

    return run
