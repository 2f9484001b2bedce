"""Published light networks, from their authors' files, for ``frontier.py --module benchmarks/peers.py:NAME``.

This file holds none of their code. It looks for clones in the folder ``peers`` (or the one that the variable
PEERS names): benchmarks/README.md says which commits, and under which licences. Weights are random.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from dermdistill.core.errors import UsageError

# What the files import and never use; where it is not installed, an empty module does.
UNUSED = {"utils": "AverageMeter", "mmcv": "", "mmcv.cnn": "ConvModule", "einops": "rearrange"}


class LogitsOf(nn.Module):
    """A network that answers probabilities, and others for its training: only the logits are kept.

    Args:
        net: Its ``final`` layer answers logits at half the size, which it enlarges before the sigmoid.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.logits: Tensor | None = None
        net.final.register_forward_hook(self._keep)  # type: ignore[operator,union-attr]

    def forward(self, image: Tensor) -> Tensor:
        """[n, 3, h, w] → [n, 1, h, w]; what only its training needs does not reach an exported graph."""
        self.net(image)
        logits, self.logits = self.logits, None
        assert logits is not None
        return nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=True)

    def _keep(self, _: nn.Module, __: Any, logits: Tensor) -> None:
        self.logits = logits


def unext_s() -> nn.Module:
    """UNeXt-S (Valanarasu and Patel, MICCAI 2022)."""
    net: nn.Module = _file("UNeXt-pytorch/archs.py").UNext_S(num_classes=1)
    return net


def malunet() -> nn.Module:
    """MALUNet (Ruan et al., BIBM 2022)."""
    return LogitsOf(_file("MALUNet/models/malunet.py").MALUNet())


def ege_unet() -> nn.Module:
    """EGE-UNet (Ruan et al., MICCAI 2023)."""
    return LogitsOf(_file("EGE-UNet/EGE-UNet/models/egeunet.py").EGEUNet())


def cmunext_s() -> nn.Module:
    """CMUNeXt-S (Tang et al., ISBI 2024)."""
    net: nn.Module = _file("CMUNeXt/network/CMUNeXt.py").cmunext_s()
    return net


def _file(name: str) -> Any:
    """Run a file of a clone as a module."""
    path = Path(os.environ.get("PEERS", "peers")) / name
    if not path.is_file():
        raise UsageError(f"there is no {path}.", "a clone, see benchmarks/README.md, in peers or in $PEERS")
    spec = importlib.util.spec_from_file_location(f"peers_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    missing = [stand_in for stand_in in UNUSED if not _installed(stand_in)]
    for stand_in in missing:
        sys.modules[stand_in] = ModuleType(stand_in)
        setattr(sys.modules[stand_in], UNUSED[stand_in], None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that timm has moved
            spec.loader.exec_module(module)
    finally:
        for stand_in in missing:
            del sys.modules[stand_in]
    return module


def _installed(name: str) -> bool:
    if name == "utils":  # anybody's name: the clone's own is meant, and is not needed
        return name in sys.modules
    return importlib.util.find_spec(name.partition(".")[0]) is not None
