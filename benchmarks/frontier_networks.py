"""The networks of the frontier by the names that the command line gives them (used by frontier.py)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from dermdistill import graph
from dermdistill.bench_torch import from_factory
from dermdistill.errors import MismatchError, UsageError
from dermdistill.models.build import LesionNet, build_model, load_weights
from dermdistill.models.torch_backend import load_run


@dataclass
class Entry:
    """One network of the comparison: what is timed, and what is scored (a network and threshold per seed)."""

    name: str
    net: nn.Module
    trained: list[tuple[nn.Module, float]] = field(default_factory=list)


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


def named(text: str) -> Entry:
    """``nano`` or ``ARCH/ENCODER``, random weights."""
    arch, _, encoder = text.partition("/")
    return Entry(text, build_model(arch, encoder or None))


def foreign(text: str) -> Entry:
    """``FILE.py:FACTORY`` or ``FILE.py:FACTORY=WEIGHTS``."""
    source, _, weights = text.partition("=")
    net = from_factory(source)
    if weights:
        load_weights(net, Path(weights))
    whole = FirstLogits(net).eval()
    return Entry(source.rpartition(":")[2], whole, [(whole, 0.5)] if weights else [])


def trained(text: str, size: int) -> Entry:
    """``FOLDER`` or ``NAME=FOLDER,FOLDER…``, seeds of one network.

    Raises:
        MismatchError: They do not take images of ``size``, or are not one network.
    """
    name, _, folders = text.rpartition("=")
    found, specs = [], set()
    for folder in folders.split(","):
        net, card = load_run(Path(folder))
        if card.input_size != size:
            raise MismatchError(
                f"{folder} takes images of {card.input_size}×{card.input_size}, not {size}×{size}.",
                "one size for latency and Dice",
                f"give --size {card.input_size}, and runs of that size only.",
            )
        specs.add(net.spec)
        found.append((net, card.threshold))
    if len(specs) > 1:
        raise MismatchError(f"{text} are not seeds of one network.", "runs of the same architecture")
    return Entry(name or Path(folders).name, found[0][0], found)


def to_onnx(net: nn.Module, size: int, path: Path) -> None:
    """Export at a fixed size, opset 17: our own as ``dermdistill export`` does it, foreign ones plainly."""
    if isinstance(net, LesionNet):
        return graph.trace(net, path, size)
    with warnings.catch_warnings():
        # The exporter's deprecation, and traces that hold for this one size only, which is the one measured.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.cpu().eval(), (torch.rand(1, 3, size, size),), str(path), dynamo=False,
            opset_version=graph.OPSET, input_names=[graph.INPUT], output_names=[graph.OUTPUT],
        )  # fmt: skip
