"""EfficientNet-Lite0 cut short: the encoder of our students, which starts from ImageNet weights.

The layers, their order and their names are those of ``timm``'s ``tf_efficientnet_lite0`` (Tan & Le 2019,
arXiv 1905.11946; "Lite": no squeeze-excite, ReLU6, made to be quantised), so published weights load by name
or by order, and an encoder that stops early takes the first of them. Our own module and not timm's: its
padding is fixed when it is built and can be made even (`evenly_padded`), and blocks can be left out.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-3
"""ε the weights were trained with; torch's default of 1e-5 would change the features."""


class Stage(NamedTuple):
    """One row of EfficientNet-Lite0's table."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


LITE0 = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
"""EfficientNet-Lite0 behind its stem (32 channels, stride 2)."""


class LiteEncoder(nn.Module):
    """The first blocks of EfficientNet-Lite0.

    Args:
        depths: Blocks to keep of each stage, first stage first; later stages are left out. ``(1, 2, 2)`` ends
            at stride 8 with 40 channels, ``(1, 2, 2, 3)`` at stride 16 with 80.

    Attributes:
        channels, strides: Of the maps that `forward` returns: the deepest at each stride, fine to coarse.

    Raises:
        ValueError: More stages or blocks than there are.
    """

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        if not 1 <= len(depths) <= len(LITE0) or not all(
            1 <= depth <= stage.blocks for depth, stage in zip(depths, LITE0, strict=False)
        ):
            raise ValueError(f"depths {tuple(depths)} are not within {tuple(s.blocks for s in LITE0)}")
        self.conv_stem = SameConv2d(3, 32, 3, stride=2)
        self.bn1 = _norm(32)
        self.act1 = nn.ReLU6(inplace=True)
        stages, before, stride = [], 32, 2
        ends: dict[int, tuple[int, int]] = {}
        for number, (depth, stage) in enumerate(zip(depths, LITE0, strict=False)):
            blocks = []
            for block in range(depth):
                step = stage.stride if block == 0 else 1
                blocks.append(make_block(before, stage.channels, stage.kernel, step, stage.expansion))
                before = stage.channels
            stages.append(nn.Sequential(*blocks))
            stride *= stage.stride
            ends[stride] = (number, before)
        self.blocks = nn.ModuleList(stages)
        self._taken = {number for number, _ in ends.values()}
        self.strides, self.channels = list(ends), [channels for _, channels in ends.values()]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps, fine to coarse; height and width must be multiples of the last stride."""
        x = self.act1(self.bn1(self.conv_stem(x)))
        features = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in self._taken:
                features.append(x)
        return features


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: at stride 2 the odd row and column are below and right.

    For inputs whose sides are multiples of the stride, so the padding is known beforehand. No bias, until a
    batch norm is folded into it (`fold_batch_norm`).
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        total = kernel - stride
        uneven = total % 2 == 1
        padding = 0 if uneven else total // 2
        super().__init__(before, after, kernel, stride, padding, groups=groups, bias=False)
        self.uneven = uneven
        self.sides = (total // 2, total - total // 2) * 2

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Convolve."""
        return super().forward(F.pad(x, self.sides) if self.uneven else x)

    def to_even(self) -> nn.Conv2d:
        """The same convolution with a larger kernel and even padding."""
        kernel, after = self.kernel_size[0] + 1, self.sides[1]
        even = nn.Conv2d(
            self.in_channels, self.out_channels, kernel, self.stride[0], after, groups=self.groups, bias=False
        ).to(self.weight)
        with torch.no_grad():
            even.weight.copy_(F.pad(self.weight, (1, 0, 1, 0)))
        even.bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone())
        return even.train(self.training)


def evenly_padded(net: nn.Module) -> nn.Module:
    """A copy for deployment, in which no convolution pads two sides unlike: the same results, no ``Pad``.

    A kernel one larger, its first row and column 0, padded alike on all sides, sees what the uneven one saw.
    Exporters write the uneven one as a ``Pad`` of its own, which ONNX Runtime does not merge into the
    convolution but runs outside its blocked layout: the students took 30 to 40 % longer.
    """
    twin = copy.deepcopy(net)
    for path, module in list(twin.named_modules()):
        if isinstance(module, SameConv2d) and module.uneven:
            twin.set_submodule(path, module.to_even())
    return twin


class SeparableBlock(nn.Module):
    """Depthwise convolution, then a linear 1×1 (the first stage, which does not expand)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(before, before, kernel, stride, groups=before)
        self.bn1 = _norm(before)
        self.act1 = nn.ReLU6(inplace=True)
        self.conv_pw = nn.Conv2d(before, after, 1, bias=False)
        self.bn2 = _norm(after)
        self.residual = stride == 1 and before == after

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Depthwise, pointwise, and the input where the shapes agree."""
        y = self.bn2(self.conv_pw(self.act1(self.bn1(self.conv_dw(x)))))
        return x + y if self.residual else y


class InvertedResidual(nn.Module):
    """Expand by 1×1, depthwise convolution, project by a linear 1×1 (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.conv_pw = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = _norm(inner)
        self.act1 = nn.ReLU6(inplace=True)
        self.conv_dw = SameConv2d(inner, inner, kernel, stride, groups=inner)
        self.bn2 = _norm(inner)
        self.act2 = nn.ReLU6(inplace=True)
        self.conv_pwl = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = _norm(after)
        self.residual = stride == 1 and before == after

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Expand, depthwise, project, and the input where the shapes agree."""
        y = self.act1(self.bn1(self.conv_pw(x)))
        y = self.act2(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


def make_block(before: int, after: int, kernel: int, stride: int, expansion: int) -> nn.Module:
    """A block of EfficientNet-Lite0: separable without expansion, else an inverted residual."""
    if expansion == 1:
        return SeparableBlock(before, after, kernel, stride)
    return InvertedResidual(before, after, kernel, stride, expansion)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
