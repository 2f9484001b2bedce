"""Large networks from segmentation_models_pytorch and torchvision, and how to read logits out of them.

The networks stay exactly the libraries' own, so that a saved ``state_dict`` loads into the library's class
without us. How each is run is a function beside it.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dermdistill.core.errors import ConfigError

ComputeLogits = Callable[[Any, Tensor], Tensor]
"""(network, normalised image) → logits at any resolution."""

TORCHVISION = "deeplabv3-torchvision"
BACKBONES = ("resnet50", "resnet101")
VOC_CLASSES = 21


def smp_architectures() -> dict[str, str]:
    """Architectures of segmentation_models_pytorch: lower-case name → its own spelling."""
    import segmentation_models_pytorch as smp

    return {name: kind.__name__ for name, kind in smp.MODEL_ARCHITECTURES_MAPPING.items()}


def check_encoder(encoder: str) -> None:
    """Refuse an encoder that smp does not have.

    Raises:
        ConfigError: With the nearest known name.
    """
    import segmentation_models_pytorch as smp
    import timm

    known = smp.encoders.get_encoder_names()
    if encoder in known or (encoder.startswith("tu-") and timm.is_model(encoder[3:].split(".")[0])):
        return
    if encoder.startswith("tu-"):
        known = [f"tu-{name}" for name in timm.list_models()]
    near = difflib.get_close_matches(encoder, known, n=3)
    raise ConfigError(
        f"segmentation_models_pytorch has no encoder {encoder!r}.",
        "resnet18, resnet101, mobilenet_v2, mit_b0 …, or tu- and the name of a timm model",
        f"Perhaps you meant {' or '.join(near)}." if near else "Choose one of smp's encoders, or of timm's.",
    )


def build_smp(arch: str, encoder: str, weights: str | bool | None) -> Any:
    """An smp network with one logit; ``weights`` as smp takes it (``None``: random).

    May raise what the hub's client raises; ``models.weights`` translates that.
    """
    import segmentation_models_pytorch as smp

    with warnings.catch_warnings():
        # smp deprecates its timm- encoders in favour of tu-; whoever names one means it.
        warnings.filterwarnings("ignore", message="`timm-` encoders are deprecated")
        net = smp.create_model(arch, encoder_name=encoder, encoder_weights=weights, in_channels=3, classes=1)
    return net


def smp_logits(net: Any, x: Float[Tensor, "b 3 h w"]) -> Tensor:
    """Logits of an smp network, without its check of the image's size, which a traced graph cannot hold."""
    logits: Tensor = net.segmentation_head(net.decoder(net.encoder(x)))
    return logits


def build_torchvision(encoder: str, classes: int) -> Any:
    """torchvision's DeepLabV3 without its auxiliary head (Chen et al. 2017), random weights."""
    from torchvision.models import segmentation

    build = {"resnet50": segmentation.deeplabv3_resnet50, "resnet101": segmentation.deeplabv3_resnet101}
    net = build[encoder](weights=None, weights_backbone=None, num_classes=classes, aux_loss=False)
    return net


def replace_head(net: Any) -> None:
    """Put a one-logit layer in place of the last layer of torchvision's DeepLabV3."""
    last = net.classifier[-1]
    net.classifier[-1] = nn.Conv2d(last.in_channels, 1, kernel_size=1)


def torchvision_logits(net: Any, x: Float[Tensor, "b 3 h w"]) -> Tensor:
    """Logits at 1/8 resolution; torchvision's own forward pass would resize them."""
    logits: Tensor = net.classifier(net.backbone(x)["out"])
    return logits


def torchvision_voc_logits(net: Any, x: Float[Tensor, "b 3 h w"]) -> Tensor:
    """As `torchvision_logits`, with the 21 VOC classes reduced to one logit."""
    return voc_to_lesion(torchvision_logits(net, x))


def voc_to_lesion(class_logits: Float[Tensor, "b classes h w"]) -> Float[Tensor, "b 1 h w"]:
    """One logit whose sigmoid is 1 − P(background) of a softmax whose class 0 is the background.

    σ(x) = 1 − e^b/Σe^c holds exactly for x = logsumexp(foreground) − background.
    """
    return -logit_of_class(class_logits, 0)


def logit_of_class(class_logits: Float[Tensor, "b classes h w"], channel: int) -> Float[Tensor, "b 1 h w"]:
    """One logit whose sigmoid is the softmax's probability of one class of several."""
    others = torch.cat([class_logits[:, :channel], class_logits[:, channel + 1 :]], dim=1)
    return class_logits[:, channel : channel + 1] - torch.logsumexp(others, dim=1, keepdim=True)


def min_batch(arch: str) -> int:
    """Fewest images in a training step: 2 where batch norm stands behind global pooling."""
    return 2 if arch in ("DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet", TORCHVISION) else 1


def min_cells(arch: str) -> int:
    """Fewest rows and columns of the coarsest map.

    With 2 it has four values per channel: enough for batch norm on a single image. PAN halves it thrice more.
    """
    return 8 if arch == "PAN" else 2


Head = Literal["lesion", "voc"]
"""``lesion``: one logit. ``voc``: torchvision's own 21 classes, reduced by `voc_to_lesion`."""
