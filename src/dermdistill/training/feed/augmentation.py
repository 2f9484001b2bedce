"""Random views of a whole batch, on its device: one for the image and its mask, teacher and student alike.

Flips, rotation, scale and shift are one affine resampling; brightness, contrast, saturation and hue are one
3×4 matrix per image. That is about a tenth of the cost of a container of separate transforms (kornia's own:
10.6 ms per image of 256² on two CPU cores, this: 1.2). Nothing here loops over images, and nothing waits for
the device: the small matrices are made on the CPU, where they are drawn, and sent there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from dermdistill.training.acceleration.devices import send


class Views(NamedTuple):
    """One random view of each image of a batch."""

    image: Float[Tensor, "b 3 h w"]
    """RGB in [0, 1]."""
    mask: UInt8[Tensor, "b 1 h w"]
    """{0, 1}."""
    other: UInt8[Tensor, "b 1 h w"] | None = None
    """With mixup the mask of the image that was mixed in."""
    share: Float[Tensor, " b"] | None = None
    """With mixup the share of the first image: the loss is share·loss(mask) + (1 − share)·loss(other)."""
    answer: Float[Tensor, "b 1 h w"] | None = None
    """A teacher's logits, moved with the image, where they were given."""


_DRAWS = 17
"""Uniform numbers drawn per image, used or not: switching one transform off leaves the others alone."""


class Augment(nn.Module):
    """Augment a batch. Arguments as the fields of ``AugmentSettings``; see there for ranges.

    All randomness comes from torch's global CPU generator, on every device: the same seed gives the same
    views (``torch.manual_seed`` before a step; to rounding across devices).

    What a turned or shrunk image leaves open is filled by reflection, in image and mask alike: black corners
    would be a sign that only training images carry.

    Args:
        enabled: ``False`` answers the batch as it came.
        flip: Probability of a horizontal flip, and of a vertical one.
        rotate: Largest angle in degrees, either way.
        scale: Largest relative change of size, either way.
        translate: Largest shift as a fraction of the side.
        color: Strength of brightness, contrast and saturation jitter; hue turns by a tenth of it (× 360°).
        blur: Probability of a Gaussian blur, standard deviation 0.1 to 1.5 pixels.
        mixup: α of Beta(α, α); 0 is off (Zhang et al. 2018, arXiv 1710.09412).
        cutout: Probability of erasing a rectangle of 2 to 20 % (DeVries & Taylor 2017, arXiv 1708.04552).
    """

    def __init__(
        self,
        enabled: bool = True,
        flip: float = 0.5,
        rotate: float = 180.0,
        scale: float = 0.2,
        translate: float = 0.05,
        color: float = 0.2,
        blur: float = 0.1,
        mixup: float = 0.0,
        cutout: float = 0.0,
    ) -> None:
        super().__init__()
        self.enabled, self.flip, self.rotate, self.scale = enabled, flip, rotate, scale
        self.translate, self.color, self.blur, self.mixup, self.cutout = translate, color, blur, mixup, cutout

    @torch.no_grad()
    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        mask: UInt8[Tensor, "b 1 h w"],
        answer: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Views:
        """One random view of each image.

        Args:
            image: RGB in [0, 1].
            mask: {0, 1}.
            answer: A teacher's logits for the images as they are, or None.

        Returns:
            The views; the image is float32 (autocast is switched off here: half precision would shift the
            grid by pixels).
        """
        if not self.enabled:
            return Views(image, mask, answer=answer)
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            draws = torch.rand(_DRAWS, len(image))
            image, mask, answer = self._move(image, mask, answer, draws[:6])
            if self.color > 0:
                image = jitter_color(image, self.color * (2 * draws[6:10] - 1))
            if self.blur > 0:
                chosen = (draws[10] < self.blur).nonzero().squeeze(1)
                image = blur(image, chosen, 0.1 + 1.4 * draws[11])
            if self.cutout > 0:
                there = send(draws, image.device)
                image = erase(image, there[12] < self.cutout, there[13:17])
            return Views(*self._mix(image, mask), answer=answer)

    def _move(
        self, image: Tensor, mask: Tensor, answer: Tensor | None, draws: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Flip, turn, scale and shift: one grid, bilinear for image and answer, nearest for the mask."""
        if not (self.flip or self.rotate or self.scale or self.translate):
            return image, mask, answer
        height, width = image.shape[-2:]
        signed = 2 * draws - 1
        # A negative scale mirrors.
        scale = torch.where(draws[:2] < self.flip, -1.0, 1.0) * (1 + self.scale * signed[4])
        shift = self.translate * signed[2:4]
        theta = _where_from(scale, math.radians(self.rotate) * signed[5], shift, height, width)
        grid = _affine_grid(send(theta, image.device), height, width)

        def moved(picture: Tensor, mode: str) -> Tensor:
            return F.grid_sample(picture, grid, mode=mode, padding_mode="reflection", align_corners=True)

        said = moved(answer.float(), "bilinear") if answer is not None else None
        return moved(image, "bilinear").clamp_(0, 1), moved(mask.float(), "nearest").to(mask.dtype), said

    def _mix(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        if self.mixup == 0:
            return image, mask, None, None
        lam = send(torch.distributions.Beta(self.mixup, self.mixup).sample((len(image),)), image.device)
        partner = send(torch.randperm(len(image)), image.device)
        share = lam.view(-1, 1, 1, 1)
        return share * image + (1 - share) * image[partner], mask, mask[partner], lam


def _where_from(
    scale: Float[Tensor, "2 b"],
    angle: Float[Tensor, " b"],
    shift: Float[Tensor, "2 b"],
    height: int,
    width: int,
) -> Float[Tensor, "b 2 3"]:
    """Matrices for `_affine_grid` of a scaling, a turn and a shift, in this order, about the image's middle.

    The grid asks where each pixel of the view comes from, so they are undone: shifted, turned, scaled back.
    It is written out, as a GPU may wait for the CPU with its small matrices: kornia's functions for it take
    twice as long.

    Args:
        scale: Of x and y; negative mirrors.
        angle: Clockwise, in radians, among pixels (the grid's coordinates stretch where the image is oblong).
        shift: Of x and y, as a fraction of the side.
        height: Of the image in pixels, as its width.
    """
    half = torch.tensor([[width - 1], [height - 1]]).clamp(min=1) / 2
    cos, sin = angle.cos(), angle.sin()
    stretch = half[1] / half[0]
    turned_back = torch.stack([cos, -sin / stretch, sin * stretch, cos]).view(2, 2, -1)  # column, row
    columns = turned_back / scale
    far = shift * torch.tensor([[width], [height]]) / half
    moved = -(columns * far.unsqueeze(1)).sum(dim=0, keepdim=True)
    return torch.cat([columns, moved]).permute(2, 1, 0)


def _affine_grid(theta: Float[Tensor, "b 2 3"], height: int, width: int) -> Float[Tensor, "b h w 2"]:
    """As ``F.affine_grid(align_corners=True)``: one large sum instead of a matrix product per pixel."""
    along_x, along_y, shift = theta.unsqueeze(1).unsqueeze(1).unbind(dim=-1)
    x = torch.linspace(-1, 1, width, device=theta.device).view(1, 1, width, 1)
    y = torch.linspace(-1, 1, height, device=theta.device).view(1, height, 1, 1)
    return x * along_x + (y * along_y + shift)


# RGB → YIQ (FCC 1953): brightness apart from colour, so saturation and hue are a scale and a turn in I, Q.
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ = torch.linalg.inv(_YIQ)


def jitter_color(image: Float[Tensor, "b 3 h w"], jitter: Float[Tensor, "4 b"]) -> Float[Tensor, "b 3 h w"]:
    """Change brightness, contrast, saturation (relative, 0 is none) and hue (tenths of a circle) per image.

    Contrast turns about the image's own mean brightness. The result is clamped to [0, 1]. ``jitter`` is on
    the CPU, the image anywhere.
    """
    brightness, contrast, saturation, hue = jitter
    bright, angle = 1 + brightness, hue * 0.1 * 2 * math.pi
    chroma = 1 + saturation
    turn = torch.zeros(len(angle), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = chroma * angle.cos()
    turn[:, 2, 1] = chroma * angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrix = _FROM_YIQ @ turn @ _YIQ
    # Saturation and hue keep Y, so its mean is that of the original.
    level = (image.mean(dim=(2, 3)) * send(_YIQ[0], image.device)).sum(dim=1)
    gain = (bright * (1 + contrast)).view(-1, 1, 1)
    offset = (send(-bright * contrast, image.device) * level).view(-1, 1, 1)
    changed = torch.bmm(send(gain * matrix, image.device), image.flatten(2)).add_(offset)
    return changed.view(image.shape).clamp_(0, 1)


def blur(
    image: Float[Tensor, "b 3 h w"], chosen: Tensor, deviation: Float[Tensor, " b"]
) -> Float[Tensor, "b 3 h w"]:
    """Blur the chosen images (indices), each with its own standard deviation in pixels (up to 1.5).

    Both are on the CPU, the image anywhere.
    """
    if len(chosen) == 0:
        return image
    from kornia.filters import gaussian_blur2d

    sigma = send(deviation[chosen].unsqueeze(1).expand(-1, 2), image.device)
    chosen = send(chosen, image.device)
    # 9 pixels reach 2.7 deviations of the widest; replicate works on images of any size.
    blurred = gaussian_blur2d(image[chosen], 9, sigma, border_type="replicate")
    return image.index_copy(0, chosen, blurred.clamp_(0, 1))


def erase(
    image: Float[Tensor, "b 3 h w"], chosen: Bool[Tensor, " b"], draws: Float[Tensor, "4 b"]
) -> Float[Tensor, "b 3 h w"]:
    """Fill a rectangle of 2 to 20 % of the chosen images with their mean colour.

    Args:
        image: RGB in [0, 1].
        chosen: Per image, whether to.
        draws: Uniform numbers for the area, the ratio of the sides (1:2 to 2:1), the top and the left edge.
    """
    area, ratio = 0.02 + 0.18 * draws[0], 2 ** (2 * draws[1] - 1)
    rows = _span(image.shape[2], (area * ratio).sqrt(), draws[2])
    columns = _span(image.shape[3], (area / ratio).sqrt(), draws[3])
    inside = chosen.view(-1, 1, 1) & rows.unsqueeze(2) & columns.unsqueeze(1)
    return torch.where(inside.unsqueeze(1), image.mean(dim=(2, 3), keepdim=True), image)


def _span(count: int, length: Tensor, start: Tensor) -> Tensor:
    """``[b, count]`` bool: pixels of a span of ``length`` (fraction of the side) within the side."""
    place = (torch.arange(count, device=length.device) + 0.5) / count
    first = (start * (1 - length)).unsqueeze(1)
    return (place >= first) & (place < first + length.unsqueeze(1))
