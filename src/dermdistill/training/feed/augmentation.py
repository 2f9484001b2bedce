"""Random views of a whole batch, on its device: one for the image and its mask, teacher and student alike.

Flips, rotation, scale and shift are one affine resampling; brightness, contrast, saturation and hue are one
3×4 matrix per image. That is about a tenth of the cost of a container of separate transforms (kornia's own:
10.6 ms per image of 256² on two CPU cores, this: 1.2). Nothing here loops over images, and nothing waits for
the device: the small matrices are made on the CPU, where they are drawn, and placed there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from dermdistill.training.feed.batch import place_on_device


class Views(NamedTuple):
    """One random view of each image of a batch."""

    image: Float[Tensor, "b 3 h w"]
    """RGB in [0, 1]."""
    mask: UInt8[Tensor, "b 1 h w"]
    """{0, 1}."""
    teacher_logits: Float[Tensor, "b 1 h w"] | None = None
    """A teacher's logits, moved with the image, where they were given."""


class Draws(NamedTuple):
    """Uniform numbers in [0, 1), one per image of a batch and name.

    All are drawn for every batch, used or not: switching one transform off leaves the others alone.
    """

    mirror_x: Float[Tensor, " b"]
    mirror_y: Float[Tensor, " b"]
    shift_x: Float[Tensor, " b"]
    shift_y: Float[Tensor, " b"]
    scale: Float[Tensor, " b"]
    angle: Float[Tensor, " b"]
    brightness: Float[Tensor, " b"]
    contrast: Float[Tensor, " b"]
    saturation: Float[Tensor, " b"]
    hue: Float[Tensor, " b"]
    blur: Float[Tensor, " b"]
    blur_deviation: Float[Tensor, " b"]

    @classmethod
    def sample(cls, count: int) -> Draws:
        """Draw for ``count`` images from torch's global CPU generator."""
        return cls(*torch.rand(len(cls._fields), count))


class Augment(nn.Module):
    """Augment a batch. Arguments as the fields of ``AugmentSettings``; see there for ranges.

    All randomness comes from torch's global CPU generator, on every device: the same seed gives the same
    views (``torch.manual_seed`` before a step; to rounding across devices).

    What a turned or shrunk image leaves open is filled by reflection, in image and mask alike: black corners
    would be a sign that only training images carry.

    Args:
        enabled: ``False`` returns the batch as it came.
        flip: Probability of a horizontal flip, and of a vertical one.
        rotate: Largest angle in degrees, either way.
        scale: Largest relative change of size, either way.
        translate: Largest shift as a fraction of the side.
        color: Strength of brightness, contrast and saturation jitter; hue turns by a tenth of it (× 360°).
        blur: Probability of a Gaussian blur, standard deviation 0.1 to 1.5 pixels.
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
    ) -> None:
        super().__init__()
        self.enabled, self.flip, self.rotate, self.scale = enabled, flip, rotate, scale
        self.translate, self.color, self.blur = translate, color, blur

    @torch.no_grad()
    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        mask: UInt8[Tensor, "b 1 h w"],
        teacher_logits: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Views:
        """One random view of each image.

        Args:
            image: RGB in [0, 1].
            mask: {0, 1}.
            teacher_logits: A teacher's logits for the images as they are, or None.

        Returns:
            The views; the image is float32 (autocast is switched off here: half precision would shift the
            grid by pixels).
        """
        if not self.enabled:
            return Views(image, mask, teacher_logits)
        with torch.autocast(image.device.type, enabled=False):
            draws = Draws.sample(len(image))
            image, mask, teacher_logits = self._move(image.float(), mask, teacher_logits, draws)
            if self.color > 0:
                jitter = torch.stack([draws.brightness, draws.contrast, draws.saturation, draws.hue])
                image = jitter_color(image, self.color * (2 * jitter - 1))
            if self.blur > 0:
                indices = (draws.blur < self.blur).nonzero().squeeze(1)
                image = blur(image, indices, 0.1 + 1.4 * draws.blur_deviation)
            return Views(image, mask, teacher_logits)

    def _move(
        self, image: Tensor, mask: Tensor, teacher_logits: Tensor | None, draws: Draws
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Flip, turn, scale and shift: one grid, bilinear for image and logits, nearest for the mask."""
        if not (self.flip or self.rotate or self.scale or self.translate):
            return image, mask, teacher_logits
        height, width = image.shape[-2:]
        mirror = torch.stack([draws.mirror_x, draws.mirror_y]) < self.flip
        # A negative scale mirrors.
        scale = torch.where(mirror, -1.0, 1.0) * (1 + self.scale * (2 * draws.scale - 1))
        shift = self.translate * (2 * torch.stack([draws.shift_x, draws.shift_y]) - 1)
        angle = math.radians(self.rotate) * (2 * draws.angle - 1)
        theta = _where_from(scale, angle, shift, height, width)
        grid = _affine_grid(place_on_device(theta, image.device), height, width)

        def moved(picture: Tensor, mode: str) -> Tensor:
            return F.grid_sample(picture, grid, mode=mode, padding_mode="reflection", align_corners=True)

        if teacher_logits is not None:
            teacher_logits = moved(teacher_logits.float(), "bilinear")
        image = moved(image, "bilinear").clamp_(0, 1)
        return image, moved(mask.float(), "nearest").to(mask.dtype), teacher_logits


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
    level = (image.mean(dim=(2, 3)) * place_on_device(_YIQ[0], image.device)).sum(dim=1)
    gain = (bright * (1 + contrast)).view(-1, 1, 1)
    offset = (place_on_device(-bright * contrast, image.device) * level).view(-1, 1, 1)
    changed = torch.bmm(place_on_device(gain * matrix, image.device), image.flatten(2)).add_(offset)
    return changed.view(image.shape).clamp_(0, 1)


def blur(
    image: Float[Tensor, "b 3 h w"], indices: Int64[Tensor, " n"], deviation: Float[Tensor, " b"]
) -> Float[Tensor, "b 3 h w"]:
    """Blur the images at ``indices``, each with its own standard deviation in pixels (up to 1.5).

    Both are on the CPU, the image anywhere.
    """
    if len(indices) == 0:
        return image
    # 9 pixels reach 2.7 deviations of the widest.
    offset = torch.arange(9) - 4.0
    weight = torch.exp(-offset.square() / (2 * deviation[indices].unsqueeze(1).square()))
    weight = place_on_device(weight / weight.sum(dim=1, keepdim=True), image.device)
    indices = place_on_device(indices, image.device)
    chosen = image[indices]
    # Each channel of each image is convolved with its own kernel: one group each.
    planes = chosen.reshape(1, -1, *image.shape[2:])
    kernel = weight.repeat_interleave(3, dim=0).unsqueeze(1)
    # The border is repeated, which works on images of any size.
    planes = F.conv2d(F.pad(planes, (4, 4, 0, 0), "replicate"), kernel.unsqueeze(2), groups=len(kernel))
    planes = F.conv2d(F.pad(planes, (0, 0, 4, 4), "replicate"), kernel.unsqueeze(3), groups=len(kernel))
    return image.index_copy(0, indices, planes.view(chosen.shape).clamp_(0, 1))
