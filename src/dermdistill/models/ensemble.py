"""Several networks as one: the mean of their probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dermdistill.core.errors import MismatchError
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.teacher import ComputeLogits


class Ensemble(nn.Module):
    """The logit of the mean probability of several networks on one image.

    The mean is over probabilities and not over logits: it is the prediction of the mixture, and of all
    single answers q the one with the least mean KL(p_i ‖ q), so that distilling it is distilling all of them
    at once (Hinton et al. 2015, arXiv 1503.02531, section 2, allow either mean). A mean of logits would let
    one network that is certain outvote several that are not.

    Args:
        nets: At least two. Each normalises and pads the image in its own way.

    Raises:
        ValueError: Fewer than two.
    """

    def __init__(self, nets: list[LesionNet]) -> None:
        super().__init__()
        if len(nets) < 2:
            raise ValueError(f"an ensemble needs two networks or more, found {len(nets)}")
        self.nets = nn.ModuleList(nets)

    def __iter__(self) -> Iterator[LesionNet]:
        return iter(self.nets)  # type: ignore[arg-type]

    def forward(
        self, image: Float[Tensor, "b 3 h w"], member_mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b 1 h w"]:
        """Logits (at least float32) of RGB images in [0, 1]; ``member_mask`` as for `logits_of_mean`."""
        return logits_of_mean(self.nets, image, member_mask)


class Members(nn.ModuleList):
    """The inner networks of several `LesionNet` of one kind; ``compute_logits`` is how each is run."""

    compute_logits: ComputeLogits

    def forward(self, x: Tensor) -> Tensor:
        """The logit of the mean probability, at the resolution of ``x``."""
        return mean_logits(torch.stack([self._full_size(net, x) for net in self]))

    def _full_size(self, net: nn.Module, x: Tensor) -> Tensor:
        logits = self.compute_logits(net, x)
        if logits.shape[-2:] == x.shape[-2:]:
            return logits
        return F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)


def as_one_network(nets: Sequence[LesionNet]) -> LesionNet:
    """Several networks of one kind as one `LesionNet`, which is saved, loaded, scored and exported as any.

    Its output is that of `Ensemble`: the logit of the mean probability. The networks share the normalisation,
    which is applied once.

    Args:
        nets: At least two, built alike: the folds of a cross-validation, or seeds.

    Raises:
        MismatchError: They differ in architecture or normalisation.

    Examples:
        >>> import torch
        >>> from dermdistill.models.build import build_model
        >>> from dermdistill.models.ensemble import as_one_network
        >>> one = as_one_network([build_model("nano"), build_model("nano")])
        >>> one.spec.members, one(torch.rand(1, 3, 32, 32)).shape
        (2, torch.Size([1, 1, 32, 32]))
    """
    first = nets[0]
    for net in nets[1:]:
        if net.spec != first.spec or not (net.mean.equal(first.mean) and net.std.equal(first.std)):
            raise MismatchError(
                f"{net.spec.arch} and {first.spec.arch} differ in architecture or normalisation.",
                "networks that were built alike",
                "Put runs of one arm together.",
            )
    members = Members([net.net for net in nets])
    members.compute_logits = first.compute_logits
    statistics = first.mean.flatten().tolist(), first.std.flatten().tolist()
    spec = dataclasses.replace(first.spec, members=len(nets))
    made = LesionNet(members, run_members, first.stride, statistics, spec)
    made.foldable = first.foldable
    return made


def run_members(net: nn.Module, x: Tensor) -> Tensor:
    """The ``compute_logits`` of `as_one_network`."""
    logits: Tensor = net(x)
    return logits


def logits_of_mean(
    nets: Iterable[Callable[[Tensor], Tensor]],
    image: Float[Tensor, "b 3 h w"],
    member_mask: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b 1 h w"]:
    """`mean_logits` of several networks, or, image by image, of some of them.

    On a CPU each network computes the images that it counts for; on a GPU all of them, because which
    those are would have to be waited for.

    Args:
        nets: Images → logits.
        image: RGB in [0, 1].
        member_mask: Which networks count for which image, at least one for each; None: all of them.
    """
    if member_mask is None or image.device.type != "cpu":
        return mean_logits(torch.stack([net(image) for net in nets]), member_mask)
    logits = image.new_zeros(member_mask.shape[1], len(image), 1, *image.shape[2:])
    for own_logits, net, counts in zip(logits, nets, member_mask.T, strict=True):
        if counts.any():
            own_logits[counts] = net(image[counts]).to(own_logits.dtype)
    return mean_logits(logits, member_mask)


def mean_logits(
    logits: Float[Tensor, "n b 1 h w"], member_mask: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b 1 h w"]:
    """logit(mean of σ(logits)) over the first dimension, or the part of it that counts; at least float32.

    As log Σσ(t) − log Σσ(−t), which stays finite and exact where σ(t) rounds to 0 or 1.
    """
    with torch.autocast(logits.device.type, enabled=False):
        full = logits if logits.dtype == torch.float64 else logits.float()
        # Softplus and not logsigmoid, which is exported as log(sigmoid): that is not finite.
        lesion, skin = -F.softplus(-full, threshold=80), -F.softplus(full, threshold=80)
        if member_mask is not None:
            silent = ~member_mask.T[:, :, None, None, None]
            lesion, skin = lesion.masked_fill(silent, -torch.inf), skin.masked_fill(silent, -torch.inf)
        return _log_sum_exp(lesion) - _log_sum_exp(skin)


def _log_sum_exp(x: Tensor) -> Tensor:
    """Over the first dimension; by its parts, since OpenVINO sums ONNX's ReduceLogSumExp over all of them."""
    top = x.amax(0)
    return top + (x - top).exp().sum(0).log()
