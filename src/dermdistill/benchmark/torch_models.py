"""The part of the bench that needs torch: run folders, and the user's own modules (``file.py:factory``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dermdistill.artifacts.card import ModelCard
from dermdistill.benchmark.latency import Runner
from dermdistill.core.user_file import is_user_file
from dermdistill.models.lite_unet import merge_branches
from dermdistill.models.torch_backend import load_run
from dermdistill.models.user_net import make_module


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
    if is_user_file(source):
        return make_module(source)[0].eval(), None
    return load_run(Path(source))


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
