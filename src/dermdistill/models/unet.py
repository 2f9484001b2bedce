"""Plain U-Nets (Ronneberger et al. 2015) of 0.12, 0.49 and 1.94 million parameters: the students' baselines.

3×3 convolutions, batch norm and ReLU and nothing else, from random weights: what a student of another design
(`models.student`) has to beat, and what generated lesions need no more than.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["batch", "group"]

WIDTHS = {"unet-w4": 4, "unet-w8": 8, "unet-w16": 16}
"""Channels of the first level, by name."""


class UNet(nn.Module):
    """A U-Net with ``depth`` halvings and ``width · 2ⁱ`` channels at level i.

    Args:
        width: Channels of the first level.
        depth: How often the side is halved; height and width of the input must be multiples of ``stride``.
        norm: ``batch``, or ``group`` norm, whose result does not depend on the rest of the batch.
    """

    def __init__(self, width: int, depth: int = 4, norm: Norm = "batch") -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be at least 1, found {width} and {depth}")
        channels = [width * 2**level for level in range(depth + 1)]
        self.stride = 2**depth
        self.encoder = nn.ModuleList(
            _conv_block(before, after, norm)
            for before, after in zip([3, *channels[:-1]], channels, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2)
            for shallow, deep in itertools.pairwise(channels)
        )
        self.decoder = nn.ModuleList(_conv_block(2 * c, c, norm) for c in channels[:-1])
        self.head = nn.Conv2d(width, 1, kernel_size=1)
        self.apply(_initialise)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Logits of a normalised image."""
        features: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            # Max-pooling without a mask of its own: stateless, so it lives here and not in the state dict.
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            features.append(x)
        for level in reversed(range(len(self.up))):
            x = self.decoder[level](torch.cat([features[level], self.up[level](x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _conv_block(before: int, after: int, norm: Norm) -> nn.Sequential:
    """Twice convolution, norm, ReLU. No bias: the norm has one."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        _norm(after, norm),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        _norm(after, norm),
        nn.ReLU(inplace=True),
    )


def _norm(channels: int, norm: Norm) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    # At least four channels to a group where there are as many: one channel alone would be instance norm.
    return nn.GroupNorm(math.gcd(channels, max(1, min(8, channels // 4))), channels)


def _initialise(module: nn.Module) -> None:
    """He et al. 2015 for the 3×3 convolutions before a ReLU; the rest keeps torch's own start."""
    if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
