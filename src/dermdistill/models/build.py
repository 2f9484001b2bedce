"""Networks by name, behind one face: an RGB image in [0, 1] of any size in, one logit per pixel out."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dermdistill.core.errors import ConfigError
from dermdistill.models import pretrained, teacher
from dermdistill.models.lite_unet import STUDENTS, LiteUNet, merge_branches
from dermdistill.models.pretrained import normalisation
from dermdistill.models.teacher import TORCHVISION, ComputeLogits, Head
from dermdistill.models.unet import WIDTHS, Norm, UNet
from dermdistill.models.weights import load_encoder, load_weights

__all__ = [
    "LesionNet",
    "ModelSpec",
    "build_model",
    "count_macs",
    "count_parameters",
    "load_weights",
    "normalisation",
]

logger = logging.getLogger(__name__)
Statistics = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class ModelSpec:
    """What `build_model` needs to build the same network again (with its weights loaded from a file)."""

    arch: str
    encoder: str | None = None
    norm: Norm = "batch"
    head: Head = "lesion"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the model card."""
        return asdict(self)


class LesionNet(nn.Module):
    """A network with all that surrounds it: normalisation, padding to its stride, logits at full size.

    Args:
        net: The network itself; its ``state_dict`` is what is saved (this wrapper has no state of its own).
        compute_logits: Runs ``net`` on a normalised image and returns its logits, at any resolution.
        stride: Height and width that ``net`` takes are multiples of it.
        statistics: Mean and standard deviation per channel that ``net`` expects.
        spec: How to build it again.

    Attributes:
        min_batch: Fewest images in a training step (2 where batch norm follows global pooling).
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
    ) -> None:
        super().__init__()
        self.net, self.compute_logits, self.stride, self.spec = net, compute_logits, stride, spec
        self.min_batch, self.min_cells = teacher.min_batch(spec.arch), teacher.min_cells(spec.arch)
        for name, values in zip(("mean", "std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1).float(), persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Logits of RGB images in [0, 1] of any height and width."""
        height, width = image.shape[-2:]
        padded = self._pad((image - self.mean) / self.std)
        logits = self.compute_logits(self.net, padded)
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


def build_model(
    arch: str,
    encoder: str | None = None,
    encoder_weights: str | None = None,
    norm: Norm = "batch",
    head: Head = "lesion",
    statistics: Statistics | None = None,
) -> LesionNet:
    """Build a network by name.

    Args:
        arch: nano, small, base; the plain unet-w4, unet-w8, unet-w16; deeplabv3-torchvision; or an smp
            architecture.
        encoder: Of an smp architecture (required); of deeplabv3-torchvision resnet50 or resnet101 (default).
        encoder_weights: ``None`` or ``none``; ``imagenet``; ``coco`` (deeplabv3-torchvision, the whole net);
            the path of a local state_dict; ``package:NAME``. nano, small and base take those of
            EfficientNet-Lite0, the plain U-Nets none.
        norm: Of the plain U-Nets.
        head: ``voc`` keeps the 21 classes of deeplabv3-torchvision, reduced to one logit whose sigmoid is
            1 − P(background): a teacher that was not fine-tuned.
        statistics: Mean and standard deviation per channel, where a model card says them; else those that
            belong to the encoder.

    Raises:
        ConfigError: Unknown names, or choices that do not go together.
        WeightsError: The weights cannot be fetched, found or read, or do not fit.

    Examples:
        >>> import torch
        >>> from dermdistill import build_model
        >>> net = build_model("nano").eval()
        >>> net(torch.rand(2, 3, 50, 70)).shape  # any height and width; one logit per pixel
        torch.Size([2, 1, 50, 70])
    """
    encoder_weights = None if encoder_weights == "none" else encoder_weights
    if head == "voc" and arch != TORCHVISION:
        raise ConfigError(
            f"{arch} has no VOC classes.",
            f"head voc goes with {TORCHVISION} only",
            f"Set the head to lesion, or choose {TORCHVISION}.",
        )
    if norm != "batch" and arch not in WIDTHS:
        raise ConfigError(
            f"{arch} has batch norm only.",
            f"norm {norm} goes with {', '.join(WIDTHS)}",
            "Set norm to batch, or choose one of these.",
        )
    if arch in STUDENTS:
        return _build_student(arch, encoder, encoder_weights, statistics)
    if arch in WIDTHS:
        return _build_unet(arch, encoder, encoder_weights, norm, statistics)
    if arch == TORCHVISION:
        return _build_torchvision(encoder or "resnet101", encoder_weights, head, statistics)
    return _build_smp(arch, encoder, encoder_weights, statistics)


def _build_student(
    arch: str, encoder: str | None, encoder_weights: str | None, statistics: Statistics | None
) -> LesionNet:
    if encoder is not None:
        raise ConfigError(
            f"{arch} has its own encoder, EfficientNet-Lite0 cut short; found encoder {encoder}.",
            "encoder empty",
            "Leave it out, or choose an smp architecture (Unet, DeepLabV3Plus …).",
        )
    net = LiteUNet(*STUDENTS[arch])
    if encoder_weights is not None:
        pretrained.load_lite0(net.encoder, encoder_weights)
    return LesionNet(
        net, _own_logits, net.stride, statistics or pretrained.EFFICIENTNET_LITE, ModelSpec(arch)
    )


def _build_unet(
    arch: str, encoder: str | None, encoder_weights: str | None, norm: Norm, statistics: Statistics | None
) -> LesionNet:
    if encoder is not None or encoder_weights is not None:
        raise ConfigError(
            f"{arch} is one piece: it has no encoder to choose and no pretrained weights.",
            "encoder and encoder_weights empty",
            "Leave them out, or choose nano, small, base, or an smp architecture (Unet, DeepLabV3Plus …).",
        )
    net = UNet(WIDTHS[arch], norm=norm)
    return LesionNet(
        net, _own_logits, net.stride, statistics or pretrained.IMAGENET, ModelSpec(arch, norm=norm)
    )


def _own_logits(net: UNet | LiteUNet, x: Tensor) -> Tensor:
    logits: Tensor = net(x)
    return logits


def _build_torchvision(
    encoder: str, encoder_weights: str | None, head: Head, statistics: Statistics | None
) -> LesionNet:
    if encoder not in teacher.BACKBONES:
        raise ConfigError(
            f"{TORCHVISION} has no encoder {encoder!r}.",
            f"one of {', '.join(teacher.BACKBONES)}",
            "Choose one of these.",
        )
    if head == "voc" and encoder_weights is None:
        logger.warning("%s with head voc and no weights: a random teacher, of use in tests only", TORCHVISION)
    net = teacher.build_torchvision(encoder, teacher.VOC_CLASSES)
    if encoder_weights is not None:
        pretrained.load_torchvision(net, encoder, encoder_weights)
    if head == "lesion":
        teacher.replace_head(net)
    compute_logits = teacher.torchvision_voc_logits if head == "voc" else teacher.torchvision_logits
    spec = ModelSpec(TORCHVISION, encoder, head=head)
    return LesionNet(net, compute_logits, 8, statistics or pretrained.IMAGENET, spec)


def _build_smp(
    arch: str, encoder: str | None, encoder_weights: str | None, statistics: Statistics | None
) -> LesionNet:
    known = teacher.smp_architectures()
    if arch.lower() not in known:
        names = [*STUDENTS, *WIDTHS, TORCHVISION, *known.values()]
        near = difflib.get_close_matches(arch, names, n=1, cutoff=0.5)
        raise ConfigError(
            f"There is no architecture {arch!r}.",
            f"one of {', '.join(names)}",
            f"Perhaps you meant {near[0]}." if near else "Choose one of these.",
        )
    arch = known[arch.lower()]
    if arch == "DPT":
        raise ConfigError(
            "DPT takes images of one size only.",
            "an architecture for images of any size",
            "Choose another, such as Unet or DeepLabV3Plus.",
        )
    if encoder is None:
        raise ConfigError(
            f"{arch} needs an encoder.",
            "resnet18, resnet101, tu-tf_efficientnet_lite0 …",
            "Name one with --student.encoder (of a teacher: --teacher.encoder).",
        )
    teacher.check_encoder(encoder)
    hub = pretrained.hub_name(encoder, encoder_weights)
    net = pretrained.reach(lambda: teacher.build_smp(arch, encoder, hub), f"{encoder_weights} of {encoder}")
    if encoder_weights is not None and hub is None:
        load_encoder(net.encoder, encoder_weights)
        if encoder.startswith("timm-tf_"):
            logger.warning(
                "%s: smp builds it with other padding and batch norm ε than these weights were trained with, "
                "so its features are not theirs; use tu-%s",
                encoder,
                encoder.removeprefix("timm-"),
            )
    found = statistics or normalisation(arch, encoder, encoder_weights)
    return LesionNet(net, teacher.smp_logits, net.encoder.output_stride, found, ModelSpec(arch, encoder))


def count_parameters(net: nn.Module) -> int:
    """Number of trainable values; our students' branches (`lite_unet.RepBlock`) count as they are trained.

    Examples:
        >>> from dermdistill import build_model, count_parameters
        >>> count_parameters(build_model("nano"))
        99028
    """
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def count_macs(net: nn.Module, size: int) -> int:
    """Multiply-accumulates of the convolutions and matrix products for one image of size × size, in use.

    In use our students' branches are one convolution (`lite_unet.merge_branches`).

    Examples:
        >>> from dermdistill import build_model, count_macs
        >>> round(count_macs(build_model("nano"), 256) / 1e9, 3)
        0.057
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(net.parameters()).device
    used = merge_branches(net)
    training = used.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        used.eval()(torch.zeros(1, 3, size, size, device=device))
    used.train(training)
    return int(counter.get_total_flops()) // 2
