"""The networks of the frontier by the names that the command line gives them (used by frontier.py)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dermdistill.core.errors import MismatchError, UsageError
from dermdistill.models import onnx_graph
from dermdistill.models.build import build_model
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.torch_backend import load_run
from dermdistill.models.user_net import make_module
from dermdistill.models.weights import load_weights


class Seed(NamedTuple):
    """One trained network of an entry: what scores it."""

    net: nn.Module
    threshold: float
    data: str | None
    """The prepared data set that it was trained on."""


@dataclass
class Entry:
    """One network of the comparison: what is timed, at which side of the image, and what is scored."""

    name: str
    net: nn.Module
    size: int
    seeds: list[Seed] = field(default_factory=list)


class FirstLogits(nn.Module):
    """A foreign network, of whose answers the first is taken and brought to the size of the image."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """[n, 3, s, s] → [n, 1, s, s]."""
        found = self.net(image)
        logits: Tensor = found[0] if isinstance(found, tuple | list) else found
        if logits.ndim != 4 or logits.shape[1] != 1:
            raise UsageError(f"the module answers {list(logits.shape)}.", "one logit per pixel, [n, 1, h, w]")
        if logits.shape[-2:] != image.shape[-2:]:
            logits = nn.functional.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)
        return logits


def named(text: str, size: int) -> Entry:
    """``nano`` or ``ARCH/ENCODER``, random weights."""
    arch, _, encoder = text.partition("/")
    return Entry(text, build_model(arch, encoder or None), size)


def foreign(text: str, size: int) -> Entry:
    """``FILE.py:FACTORY`` or ``FILE.py:FACTORY=WEIGHTS``."""
    source, _, weights = text.partition("=")
    net = make_module(source)[0]
    if weights:
        load_weights(net, Path(weights))
    whole = FirstLogits(net).eval()
    return Entry(source.rpartition(":")[2], whole, size, [Seed(whole, 0.5, None)] if weights else [])


def trained(text: str) -> Entry:
    """``FOLDER`` or ``NAME=FOLDER,FOLDER…``, seeds of one network, at the size that they were trained at.

    Raises:
        MismatchError: They are not seeds of one network.
    """
    name, _, folders = text.rpartition("=")
    loaded = [load_run(Path(folder)) for folder in folders.split(",")]
    if len({(net.spec, card.input_size) for net, card in loaded}) > 1:
        raise MismatchError(f"{text} are not seeds of one network.", "one architecture, one input size")
    seeds = [Seed(net, card.threshold, card.dataset.get("name")) for net, card in loaded]
    net, card = loaded[0]
    return Entry(name or Path(folders).name, net, card.input_size, seeds)


def to_onnx(net: nn.Module, size: int, path: Path) -> None:
    """Export at a fixed size, opset 17: our own as ``dermdistill export`` does it, foreign ones plainly."""
    if isinstance(net, LesionNet):
        return onnx_graph.trace(net, path, size)
    with warnings.catch_warnings():
        # The exporter's deprecation, and traces that hold for this one size only, which is the one measured.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.cpu().eval(), (torch.rand(1, 3, size, size),), str(path), dynamo=False,
            opset_version=onnx_graph.OPSET, input_names=[onnx_graph.INPUT], output_names=[onnx_graph.OUTPUT],
        )  # fmt: skip
