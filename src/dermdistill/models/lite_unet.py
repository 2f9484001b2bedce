"""The students ``nano``, ``small`` and ``base``: an ImageNet encoder cut short and a narrow top-down decoder.

On a CPU the time goes into full-resolution maps and into the number of operators, hardly into parameters.
Hence three decisions, whose figures stand in docs/design/students.md:

* **Nothing is computed at full resolution.** The image is averaged down by ``shrink`` before the first
  convolution; the last one computes the logits of half the image's resolution, several per cell, which a
  pixel shuffle lays out and a bilinear ×2 brings to full size. (Shuffled to full size at once, cells that
  know nothing of their neighbours left teeth of 4 pixels in the outline of blurred lesions.)
* **Depth comes at low resolution**, where it costs next to nothing, and from ImageNet: `LiteEncoder`.
* **Dense 3×3 convolutions in the decoder**, each trained as three branches and used as one (`RepBlock`),
  and one global context vector at the coarsest map.

Only operators that every runtime has in int8; batch norm stands behind convolutions only, so it folds.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dermdistill.models.efficientnet_lite import LiteEncoder


class Plan(NamedTuple):
    """What tells one student from another; fields as the arguments of `LiteUNet`."""

    depths: tuple[int, ...]
    width: int
    shrink: int


STUDENTS = {
    "nano": Plan(depths=(1, 2, 2, 1), width=16, shrink=2),
    "small": Plan(depths=(1, 2, 2, 3), width=32, shrink=2),
    "base": Plan(depths=(1, 2, 2, 3, 3, 2), width=32, shrink=1),
}
"""The family by name."""


class LiteUNet(nn.Module):
    """A truncated EfficientNet-Lite0 with a top-down decoder of constant width.

    Args:
        depths: Blocks of each encoder stage (`LiteEncoder`).
        width: Channels of the decoder.
        shrink: Factor by which the image is averaged down before the encoder.
        styles: Number of styles that it can be told (`StyleBias`, `models.styles`); 0: of none.

    Attributes:
        stride: Height and width of the input must be multiples of it.
    """

    def __init__(self, depths: Sequence[int], width: int, shrink: int, styles: int = 0) -> None:
        super().__init__()
        self.shrink = shrink
        self.encoder = LiteEncoder(depths)
        self.stride = shrink * self.encoder.strides[-1]
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in self.encoder.channels)
        self.context = nn.Conv2d(width, width, 1)
        self.decoder = nn.ModuleList(RepBlock(width) for _ in self.encoder.channels[:-1])
        self.cell = shrink * self.encoder.strides[0] // 2
        self.head = nn.Conv2d(width, self.cell**2, 3, padding=1)
        widths = [*(width for _ in self.lateral), self.cell**2]
        self.style_bias = StyleBias(styles, widths) if styles else None

    def forward(
        self, x: Float[Tensor, "b 3 h w"], style: Float[Tensor, "b styles"] | None = None
    ) -> Float[Tensor, "b 1 h w"]:
        """Logits of a normalised image; ``style`` has a 1 where the image's style is, or no 1 at all."""
        features = self.encoder(F.avg_pool2d(x, self.shrink) if self.shrink > 1 else x)
        lateral = [conv(feature) for conv, feature in zip(self.lateral, features, strict=True)]
        *shifts, head_shift = self._style_shifts(style)
        lateral = [one if shift is None else one + shift for one, shift in zip(lateral, shifts, strict=True)]
        y = lateral[-1]
        # What the image holds as a whole, told to every cell: a lesion is often as large as the image.
        y = y + self.context(F.adaptive_avg_pool2d(y, 1))
        for level in reversed(range(len(self.decoder))):
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = self.decoder[level](lateral[level] + y)
        cells = self.head(y) if head_shift is None else self.head(y) + head_shift
        half = F.pixel_shuffle(cells, self.cell) if self.cell > 1 else cells
        return F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False)

    def _style_shifts(self, style: Tensor | None) -> Sequence[Tensor | None]:
        """What is added to each lateral convolution's outputs, and last to the head's."""
        if style is None or self.style_bias is None:
            return [None] * (len(self.lateral) + 1)
        shifts: list[Tensor] = self.style_bias(style)
        return shifts


class RepBlock(nn.Module):
    """A 3×3 convolution and ReLU, trained as three branches: RepVGG's block (Ding et al. 2021, 2101.03697).

    3×3, 1×1 and identity, each with a batch norm of its own, are summed, then rectified. In evaluation mode
    all three are linear, so their sum is one 3×3 convolution: `to_plain`.

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv3, self.norm3 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv1, self.norm1 = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.norm0 = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Sum of the three branches, rectified."""
        return F.relu(self.norm3(self.conv3(x)) + self.norm1(self.conv1(x)) + self.norm0(x))

    @torch.no_grad()
    def to_plain(self) -> nn.Sequential:
        """The same block in evaluation mode as one convolution and ReLU (section 3.3, figure 4)."""
        whole, point = self.conv3.weight, self.conv1.weight
        kernels = (whole, F.pad(point, (1, 1, 1, 1)), nn.init.dirac_(torch.empty_like(whole)))
        branches = []
        for kernel, norm in zip(kernels, (self.norm3, self.norm1, self.norm0), strict=True):
            mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            branches.append(fuse_conv_bn_weights(kernel, None, mean, var, norm.eps, norm.weight, norm.bias))
        conv = nn.Conv2d(whole.shape[1], whole.shape[0], 3, padding=1).to(whole)
        conv.weight.copy_(torch.stack([weight for weight, _ in branches]).sum(dim=0))
        conv.get_parameter("bias").copy_(torch.stack([bias for _, bias in branches]).sum(dim=0))
        return nn.Sequential(conv, nn.ReLU(inplace=True)).train(self.training)


class StyleBias(nn.Module):
    """Tables of vectors, one row a style, all zero at first: a style that was never trained changes nothing.

    Args:
        styles: Number of styles.
        channels: Of each layer that gets a vector.
    """

    def __init__(self, styles: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(torch.zeros(styles, width)) for width in channels)

    def forward(self, code: Float[Tensor, "b styles"]) -> list[Tensor]:
        """The vectors of each layer, [b, channels, 1, 1]; a row of zeros in ``code`` adds nothing."""
        return [(code @ table)[..., None, None] for table in self.tables]


def merge_branches(net: nn.Module) -> nn.Module:
    """A copy for use, not for training, in which each `RepBlock` is one convolution; the same results.

    A network without any is returned itself: not every module can be copied.
    """
    if not any(isinstance(module, RepBlock) for module in net.modules()):
        return net
    twin = copy.deepcopy(net)
    for path, module in list(twin.named_modules()):
        if isinstance(module, RepBlock):
            twin.set_submodule(path, module.to_plain())
    return twin
