"""A network of the user's own (``FILE.py:FACTORY``) with the face that all networks have here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dermdistill.core import user_file
from dermdistill.core.errors import UsageError
from dermdistill.models.lesion_net import LesionNet, ModelSpec, Statistics
from dermdistill.models.pretrained import IMAGENET

STRIDE = 32
"""Height and width of what the network is given are multiples of it, unless its attribute ``stride`` says
another whole number."""


def make_module(source: str, options: Mapping[str, Any] | None = None) -> tuple[nn.Module, str]:
    """Call the factory, with the options by keyword.

    Args:
        source: ``FILE.py:FACTORY``, a function or class.
        options: Its arguments.

    Returns:
        The module that it makes, and the SHA-256 of the file.

    Raises:
        UsageError: There is no such file or factory, it fails, or it returns no module.
    """
    make, digest = user_file.load(source)
    with user_file.errors_told(user_file.split(source)[0]):
        net: Any = make(**(options or {}))
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"{source} returns {type(net).__name__}.",
            "a torch.nn.Module for [b, 3, h, w]",
            "Let the function return the network itself.",
        )
    return net, digest


def build_user_net(
    source: str,
    options: Mapping[str, Any] | None = None,
    channel: int | None = None,
    statistics: Statistics | None = None,
) -> LesionNet:
    """A network of the user's own, which is given RGB normalised as ImageNet's, in sides that suit it.

    Args:
        source: ``FILE.py:FACTORY``.
        options: Arguments of the factory, by keyword.
        channel: Which of its output's channels is the lesion's logit, from 0; None: it has one.
        statistics: Mean and standard deviation per channel; None: ImageNet's.

    Raises:
        UsageError: As of `make_module`.
    """
    net, digest = make_module(source, options)
    stride = getattr(net, "stride", STRIDE)
    spec = ModelSpec(
        arch=f"{user_file.split(source)[0].name}:{source.rpartition(':')[2]}",
        options=dict(options or {}) or None,
        channel=channel,
        file_sha256=digest,
    )
    made = LesionNet(
        net,
        functools.partial(_channel_logits, channel=channel),
        stride if isinstance(stride, int) else STRIDE,
        statistics or IMAGENET,
        spec,
    )
    made.foldable = False
    if any(isinstance(module, _BatchNorm) for module in net.modules()):
        made.min_batch = 2  # it may stand behind global pooling, where one image has no variance
    return made


def _channel_logits(net: nn.Module, x: Tensor, channel: int | None) -> Tensor:
    out: Tensor = net(x)
    return out if channel is None else out[:, channel : channel + 1]


def check_output(net: LesionNet, source: str, size: int, flag: str = "--student.channel") -> None:
    """Run the network once on zeros, and refuse what is not one logit per pixel.

    Args:
        net: From `build_user_net`.
        source: As it was named, for the message.
        size: Side of the images in pixels.
        flag: What chooses the channel, for the message.

    Raises:
        UsageError: The network fails, or its output is no tensor, or has another size or number of channels.
    """
    side = -(-size // net.stride) * net.stride
    side = max(side, net.min_cells * net.stride)
    training = net.training
    with user_file.errors_told(user_file.split(source)[0]), torch.no_grad():
        out: Any = net.eval().net(net.mean.new_zeros(1, 3, side, side))
    net.train(training)
    wanted = f"one tensor [b, 1, h, w], or [b, k, h, w] with {flag} K, for images [b, 3, h, w]"
    if not isinstance(out, Tensor):
        inside = f" with {', '.join(map(str, out))}" if isinstance(out, Mapping) else ""
        raise UsageError(
            f"The network of {source} returns {type(out).__name__}{inside}.",
            wanted,
            "Return the logits alone: the one entry of the tuple or dict that holds them.",
        )
    shape = list(out.shape)
    if len(shape) != 4 or shape[0] != 1:
        raise UsageError(
            f"The network of {source} returns {shape} for images [1, 3, {side}, {side}].",
            wanted,
            "Let forward return four dimensions.",
        )
    if shape[2:] != [side, side]:
        raise UsageError(
            f"The network of {source} returns {shape[2]}×{shape[3]} pixels for {side}×{side}.",
            "logits of the image's own size",
            "Resize them at the end of forward: torch.nn.functional.interpolate(logits, x.shape[2:], "
            "mode='bilinear').",
        )
    channel = net.spec.channel
    if shape[1] != 1 and channel is None:
        raise UsageError(
            f"The network of {source} returns {shape[1]} channels.",
            wanted,
            f"Say which of them is the lesion's logit: {flag} 0 to {shape[1] - 1}.",
        )
    if channel is not None and not 0 <= channel < shape[1]:
        raise UsageError(
            f"{flag} is {channel}, and the network of {source} returns {shape[1]} channel(s).",
            f"0 to {shape[1] - 1}",
            "Correct it, or leave it out where there is one channel.",
        )
    if not out.is_floating_point() or not bool(torch.isfinite(out).all()):
        raise UsageError(
            f"The network of {source} returns {out.dtype} values that are not all finite for zeros.",
            "finite logits, floating point",
            "Look for a division by zero or a logarithm of zero in forward.",
        )
