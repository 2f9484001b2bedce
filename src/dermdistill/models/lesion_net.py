"""One face for all networks: an RGB image in [0, 1] of any size in, one logit per pixel out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dermdistill.models import teacher
from dermdistill.models.teacher import ComputeLogits, Head
from dermdistill.models.unet import Norm

Statistics = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class ModelSpec:
    """What `build_model` needs to build the same network again (with its weights loaded from a file).

    Attributes:
        arch: Its name; of a user's own network ``FILE.py:FACTORY``, without the file's folder.
        encoder: Of an architecture that takes one.
        norm: Of the plain U-Nets.
        head: ``voc``: 21 classes reduced to one logit.
        members: How many networks of this kind it is the mean of (`ensemble.as_one_network`); None: it is
            one.
        options: Arguments of a user's factory.
        channel: Of a user's network with several: the lesion's, from 0.
        file_sha256: Of a user's file. It tells a changed file; the file is run only where a user names it.
    """

    arch: str
    encoder: str | None = None
    norm: Norm = "batch"
    head: Head = "lesion"
    members: int | None = None
    options: Mapping[str, Any] | None = None
    channel: int | None = None
    file_sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the model card; what only some networks have is left out of others'."""
        some = ("members", "options", "channel", "file_sha256")
        return {key: value for key, value in asdict(self).items() if value is not None or key not in some}


class LesionNet(nn.Module):
    """A network with all that surrounds it: normalisation, padding to its stride, logits at full size.

    Args:
        net: The network itself; its ``state_dict`` is what is saved (this wrapper has no state of its own).
        compute_logits: Runs ``net`` on a normalised image and returns its logits, at any resolution.
        stride: Height and width that ``net`` takes are multiples of it.
        statistics: Mean and standard deviation per channel that ``net`` expects.
        spec: How to build it again.
        styles: Names of the styles that ``net`` can be told, in the order of its tables.

    Attributes:
        min_batch: Fewest images in a training step (2 where batch norm follows global pooling).
        foldable: Whether its batch norm may be looked for by runs at any size (`batchnorm_folding`); not so
            for networks that others made.
        mean, std: ``[1, 3, 1, 1]``, not part of the state.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        compute_logits: ComputeLogits,
        stride: int,
        statistics: Statistics,
        spec: ModelSpec,
        styles: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.net, self.compute_logits, self.stride, self.spec = net, compute_logits, stride, spec
        self.foldable = True
        self.styles = tuple(styles)
        self.min_batch, self.min_cells = teacher.min_batch(spec.arch), teacher.min_cells(spec.arch)
        for name, values in zip(("mean", "std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1).float(), persistent=False)

    def forward(
        self, image: Float[Tensor, "b 3 h w"], style: Float[Tensor, "b styles"] | None = None
    ) -> Float[Tensor, "b 1 h w"]:
        """Logits of RGB images in [0, 1] of any height and width.

        Args:
            image: The images.
            style: A 1 where the image's style is among ``styles``, all 0 where it is not known; None: for no
                image. Only of a network that has styles.
        """
        height, width = image.shape[-2:]
        padded = self._pad((image - self.mean) / self.std)
        logits = self.compute_logits(self.net, padded) if style is None else self.net(padded, style)
        if logits.shape[-2:] != padded.shape[-2:]:
            logits = F.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _pad(self, x: Tensor) -> Tensor:
        """Repeat the last row and column up to a multiple of the stride that the network can take."""
        right, below = (
            max(self.min_cells, -(-side // self.stride)) * self.stride - side
            for side in (x.shape[-1], x.shape[-2])
        )
        return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x
