"""Pretrained weights by name: what a library downloads, and what input it was trained with."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from dermdistill.core.errors import WeightsError
from dermdistill.models.teacher import TORCHVISION
from dermdistill.models.weights import (
    PACKAGE,
    SUFFIXES,
    load_encoder,
    load_strictly,
    locate,
    match_encoder,
    read_state,
)

T = TypeVar("T")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation per channel, for images in [0, 1]."""
EFFICIENTNET_LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
"""(x − 127)/128 on 0–255: what EfficientNet-Lite was trained with. timm's card rounds it to 0.5 and 0.5."""
PATIENCE, STALL = 3.0, 15.0
"""Seconds in which a hub answers that is there, and in which a download goes on."""
LITE0_AT_TIMM = "tf_efficientnet_lite0"


def normalisation(
    arch: str, encoder: str | None, encoder_weights: str | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel that a network expects, for images in [0, 1].

    EfficientNet-Lite has its own; timm encoders (``tu-``) the ones timm publishes; smp encoders with weights
    from smp's hub the ones beside those weights; all others ImageNet's.
    """
    if encoder is None:
        return IMAGENET
    if "efficientnet_lite" in encoder:
        return EFFICIENTNET_LITE
    if encoder.startswith("tu-"):
        import timm

        published = timm.models.get_pretrained_cfg(encoder[3:])
        return (tuple(published.mean), tuple(published.std)) if published is not None else IMAGENET
    if arch != TORCHVISION and from_hub(encoder_weights):
        import segmentation_models_pytorch as smp

        weights = encoder_weights
        published = reach(lambda: smp.encoders.get_preprocessing_params(encoder, weights), encoder, hub=False)
        return tuple(published["mean"]), tuple(published["std"])
    return IMAGENET


def from_hub(encoder_weights: str | None) -> bool:
    """Whether the name means a download by the library (and not none, a file or a package)."""
    return not (
        encoder_weights in (None, "none")
        or str(encoder_weights).startswith(PACKAGE)
        or str(encoder_weights).endswith(SUFFIXES)
        or Path(str(encoder_weights)).is_file()
    )


def reach(fetch: Callable[[], T], what: str, *, hub: bool = True) -> T:
    """Call what may download; every way in which a network fails becomes one error, within seconds.

    Args:
        fetch: Calls the library.
        what: Of which weights, for the message.
        hub: Whether it asks Hugging Face's hub.

    Raises:
        WeightsError: With the cause and the two ways out.
    """
    unreachable = _hub_problem() if hub else None
    try:
        with _offline(unreachable is not None), _patience():
            return fetch()
    # OSError covers URLError, HTTPError, time-outs and huggingface_hub's own (LocalEntryNotFoundError …);
    # httpx and requests errors that slip through are told by the module of their class.
    except Exception as error:
        network = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub")
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in network:
            raise
        cause = unreachable or f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(
            f"The pretrained weights {what} cannot be fetched ({cause})",
            "a reachable hub, or a cached copy of an earlier download",
            "Go without them (--teacher.encoder-weights none, or --student.encoder-weights none for a "
            "student), or name a local state_dict (--teacher.encoder-weights PATH.pth) or weights inside an "
            "installed package (package:NAME).",
        ) from error


def _hub_problem() -> str | None:
    """Why Hugging Face's hub does not answer; None where it does, or where the user works offline anyway.

    huggingface_hub would find out by five more tries of each file, which take half a minute and more.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # httpx's or requests', by the version
        return f"{constants.ENDPOINT} does not answer: {type(error).__name__}: {error}".splitlines()[0]
    return None


@contextlib.contextmanager
def _offline(switch: bool) -> Iterator[None]:
    """Have huggingface_hub look into its cache alone, at once; the user's environment stays as it is."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or switch
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Bound the wait for each answer where a library has no bound (torch.hub), unless the user set one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or STALL)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def hub_name(encoder: str, encoder_weights: str | None) -> str | bool | None:
    """What smp is to download for an encoder, in smp's own terms; ``None`` for nothing.

    Raises:
        WeightsError: A name that is neither smp's for this encoder, nor a file, nor ``package:…``.
    """
    if not from_hub(encoder_weights):
        return None
    if encoder.startswith("tu-"):
        # timm publishes one set of weights per name (imagenet, or what the tag behind the dot says).
        known = ["imagenet"]
    else:
        import segmentation_models_pytorch as smp

        known = sorted(smp.encoders.encoders[encoder]["pretrained_settings"])
    if encoder_weights not in known:
        raise _unknown(encoder, str(encoder_weights), known)
    return True if encoder.startswith("tu-") else encoder_weights


def load_torchvision(net: Any, encoder: str, encoder_weights: str) -> None:
    """Load weights into torchvision's DeepLabV3 with 21 classes: coco (all of it), imagenet (its backbone), a
    local file or ``package:NAME`` of either.

    Raises:
        WeightsError: As `reach`, `read_state` and `load_encoder`.
    """
    from torchvision import models
    from torchvision.models import segmentation as seg

    coco = {"resnet50": seg.DeepLabV3_ResNet50_Weights, "resnet101": seg.DeepLabV3_ResNet101_Weights}
    imagenet = {"resnet50": models.ResNet50_Weights, "resnet101": models.ResNet101_Weights}
    if not from_hub(encoder_weights):
        state = read_state(locate(encoder_weights))
        whole = "classifier.0.convs.0.0.weight" in state
        if not whole:
            return load_encoder(net.backbone, encoder_weights)
    elif encoder_weights in ("coco", "imagenet"):
        whole = encoder_weights == "coco"
        enum = coco[encoder].COCO_WITH_VOC_LABELS_V1 if whole else imagenet[encoder].IMAGENET1K_V1
        state = reach(
            lambda: enum.get_state_dict(progress=False, check_hash=True, weights_only=True),
            f"{encoder_weights} of {encoder}",
            hub=False,
        )
    else:
        raise _unknown(encoder, encoder_weights, ["coco", "imagenet"])
    if whole:
        # The auxiliary head helps training on COCO only; it is not built.
        kept = {name: value for name, value in state.items() if not name.startswith("aux_classifier.")}
        return load_strictly(net, kept, encoder_weights)
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    return load_strictly(net.backbone, kept, encoder_weights)


def load_lite0(encoder: nn.Module, encoder_weights: str) -> None:
    """Load ImageNet weights into the first layers of EfficientNet-Lite0 (`models.lite`).

    Args:
        encoder: Its layers are the first of EfficientNet-Lite0.
        encoder_weights: ``imagenet`` (timm's, from its hub), a local file, or ``package:NAME``.

    Raises:
        WeightsError: As `reach` and `load_encoder`; or a name that is none of these.
    """
    if not from_hub(encoder_weights):
        return load_encoder(encoder, encoder_weights)
    if encoder_weights != "imagenet":
        raise _unknown(LITE0_AT_TIMM, encoder_weights, ["imagenet"])
    import timm

    whole = reach(
        lambda: timm.create_model(LITE0_AT_TIMM, pretrained=True), f"{encoder_weights} of {LITE0_AT_TIMM}"
    )
    return match_encoder(encoder, whole.state_dict(), f"timm's {LITE0_AT_TIMM}")


def _unknown(encoder: str, encoder_weights: str, known: list[str]) -> WeightsError:
    return WeightsError(
        f"There are no weights {encoder_weights!r} for the encoder {encoder}.",
        f"none, {', '.join(known)}, a local file ({', '.join(SUFFIXES)}) or {PACKAGE}NAME",
        "Choose one of these with --student.encoder-weights (of a teacher: --teacher.encoder-weights).",
    )
