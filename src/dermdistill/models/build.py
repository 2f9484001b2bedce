"""Networks by name; each is a `lesion_net.LesionNet`, whatever library its layers come from."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dermdistill.core.errors import ConfigError
from dermdistill.core.user_file import is_user_file
from dermdistill.models import pretrained, teacher
from dermdistill.models.lesion_net import LesionNet, ModelSpec, Statistics
from dermdistill.models.lite_unet import STUDENTS, LiteUNet
from dermdistill.models.pretrained import normalisation
from dermdistill.models.teacher import TORCHVISION, Head
from dermdistill.models.unet import WIDTHS, Norm, UNet
from dermdistill.models.user_net import build_user_net
from dermdistill.models.weights import load_encoder

logger = logging.getLogger(__name__)


def build_model(
    arch: str,
    encoder: str | None = None,
    encoder_weights: str | None = None,
    norm: Norm = "batch",
    head: Head = "lesion",
    statistics: Statistics | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    channel: int | None = None,
    styles: Sequence[str] = (),
) -> LesionNet:
    """Build a network by name, or one of the user's own.

    Args:
        arch: nano, small, base; the plain unet-w4, unet-w8, unet-w16; deeplabv3-torchvision; an smp
            architecture; or ``FILE.py:FACTORY``, which runs that file (`user_net`).
        encoder: Of an smp architecture (required); of deeplabv3-torchvision resnet50 or resnet101 (default).
        encoder_weights: ``None`` or ``none``; ``imagenet``; ``coco`` (deeplabv3-torchvision, the whole net);
            the path of a local state_dict; ``package:NAME``. nano, small and base take those of
            EfficientNet-Lite0, the plain U-Nets none.
        norm: Of the plain U-Nets.
        head: ``voc`` keeps the 21 classes of deeplabv3-torchvision, reduced to one logit whose sigmoid is
            1 − P(background): a teacher that was not fine-tuned.
        statistics: Mean and standard deviation per channel, where a model card says them; else those that
            belong to the encoder.
        options: Arguments of a user's factory, by keyword.
        channel: Of a user's network with several: which of them is the lesion's logit, from 0.
        styles: Names of the styles of masks that nano, small or base can be told.

    Raises:
        ConfigError: Unknown names, or choices that do not go together.
        UsageError: A user's file fails, or makes no network.
        WeightsError: The weights cannot be fetched, found or read, or do not fit.

    Examples:
        >>> import torch
        >>> from dermdistill import build_model
        >>> net = build_model("nano").eval()
        >>> net(torch.rand(2, 3, 50, 70)).shape  # any height and width; one logit per pixel
        torch.Size([2, 1, 50, 70])
    """
    if is_user_file(arch):
        return build_user_net(arch, options, channel, statistics)
    if options or channel is not None:
        raise ConfigError(
            f"{arch} takes no options and has one channel.",
            "options and channel with a network of your own, FILE.py:FACTORY",
            "Leave them out.",
        )
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
        return _build_student(arch, encoder, encoder_weights, statistics, styles)
    if styles:
        raise ConfigError(
            f"{arch} cannot be told styles of masks.",
            f"style.enabled with {', '.join(STUDENTS)}",
            "Choose one of these, or set --style.no-enabled.",
        )
    if arch in WIDTHS:
        return _build_unet(arch, encoder, encoder_weights, norm, statistics)
    if arch == TORCHVISION:
        return _build_torchvision(encoder or "resnet101", encoder_weights, head, statistics)
    return _build_smp(arch, encoder, encoder_weights, statistics)


def _build_student(
    arch: str,
    encoder: str | None,
    encoder_weights: str | None,
    statistics: Statistics | None,
    styles: Sequence[str],
) -> LesionNet:
    if encoder is not None:
        raise ConfigError(
            f"{arch} has its own encoder, EfficientNet-Lite0 cut short; found encoder {encoder}.",
            "encoder empty",
            "Leave it out, or choose an smp architecture (Unet, DeepLabV3Plus …).",
        )
    net = LiteUNet(*STUDENTS[arch], styles=len(styles))
    if encoder_weights is not None:
        pretrained.load_lite0(net.encoder, encoder_weights)
    return LesionNet(
        net, _own_logits, net.stride, statistics or pretrained.EFFICIENTNET_LITE, ModelSpec(arch), styles
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
    weights = f"{encoder_weights} of {encoder}"
    net = pretrained.reach(lambda: teacher.build_smp(arch, encoder, hub), weights, hub=hub is not None)
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
