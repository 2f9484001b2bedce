"""Which file or folder a user means by a model, and what runs it.

This is the one place below the command line that may lead to torch: by name, at run time, and only when a run
folder or a .pth file is asked for. An ONNX file never does.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import MissingExtraError, UsageError, WeightsError
from dermdistill.inference.onnx_backend import OnnxBackend

SHIPPED = Path(__file__).parents[1] / "weights" / "student.onnx"
"""The student inside the package."""

_WHAT = "an ONNX file; with dermdistill[train], a run folder or a .pth file with its card.json beside it"


class Backend(Protocol):
    """Answers probabilities."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n, 3, s, s], RGB in [0, 1] → float32 [n, 1, s, s], the probability of lesion."""
        ...


def open_model(
    model: Path | str | None = None,
    threads: int | None = None,
    arch: str | None = None,
    style: str | None = None,
) -> tuple[ModelCard, Backend]:
    """The card of a model and what computes its probabilities.

    Args:
        model: An ONNX file; a run folder or a .pth file (run by torch); None: the shipped student.
        threads: Of the computation; None: the library's choice. For torch it is the whole process's setting.
        arch: ``FILE.py:FACTORY`` of a run of a network of the user's own, which is run.
        style: Of the styles of masks that the model knows, the one in which it shall draw; None: not told.

    Raises:
        WeightsError: There is no such model, or it cannot be used.
        MismatchError: A run's weights are not those of its card.
        MissingExtraError: A run is asked for, and torch is not installed.
        UsageError: Fewer than one thread, or it does not know the style.
    """
    if threads is not None and threads < 1:
        raise UsageError(
            f"{threads} threads are asked for.",
            "1 or more",
            "Set --threads to 1 or more, or leave it out: one per core.",
        )
    if model is None:
        if not SHIPPED.is_file():
            raise WeightsError(
                "This copy of dermdistill has no student in it.",
                f"the file {SHIPPED}",
                "Install a released version, or name a model: an ONNX file, or a run folder.",
            )
        model = SHIPPED
    path = Path(model)
    if not path.exists():
        raise WeightsError(
            f"{path} does not exist.",
            _WHAT,
            "Check the path, or leave --model out for the student that comes with the package.",
        )
    if not (path.is_dir() or path.is_file()):
        raise WeightsError(f"{path} is neither a file nor a folder.", _WHAT, "Name a file that can be read.")
    if path.is_dir() or path.suffix == ".pth":
        return _open_run(path, threads, arch, style)
    backend = OnnxBackend(path, threads, style=style)
    return backend.card, backend


def _open_run(
    path: Path, threads: int | None, arch: str | None, style: str | None
) -> tuple[ModelCard, Backend]:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            f"{path} needs torch, which is not installed.",
            _WHAT,
            "pip install 'dermdistill[train]', or export it where it was trained: dermdistill export RUN",
        )
    torch_backend = importlib.import_module("dermdistill.models.torch_backend")
    net, card = torch_backend.load_run(path, arch, style)
    return card, torch_backend.TorchBackend(net, threads=threads)
