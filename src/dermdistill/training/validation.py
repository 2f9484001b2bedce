"""The scores of one pass over the validation split: per image and by its position, then their means."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dermdistill.core.errors import TrainingError


class ValidationScores:
    """Results of batches in any order and on any process, each image's kept at its position in the split.

    Args:
        count: Images in the split.
        told_share: Of a network with styles: weight of the scores with the style told in ``dice`` and
            ``jaccard``; the rest is that of the scores without.
    """

    def __init__(self, count: int, told_share: float = 1.0) -> None:
        self.count, self.told_share = count, told_share
        self._kept: dict[str, Tensor] = {}

    def add(
        self,
        position: Tensor,
        mask: Tensor,
        losses: Mapping[str, Tensor],
        logits: Tensor,
        teacher_logits: Tensor | None = None,
        untold_logits: Tensor | None = None,
    ) -> None:
        """Keep the results of one batch.

        Args:
            position: int64 [b], the images' positions.
            mask: {0, 1} [b, 1, h, w].
            losses: Weighted losses [b] by name.
            logits: [b, 1, h, w].
            teacher_logits: [b, 1, h, w], if there is a teacher.
            untold_logits: [b, 1, h, w] without the style, where ``logits`` are with it.
        """
        self._keep("seen", position, torch.ones_like(position))
        for name, value in losses.items():
            self._keep(f"loss/{name}", position, value.detach())
        predicted = logits > 0
        dice = dice_of_masks(predicted, mask > 0)
        jaccard = dice / (2 - dice)
        if untold_logits is not None:
            untold = dice_of_masks(untold_logits > 0, mask > 0)
            self._keep("dice_told", position, dice)
            self._keep("dice_untold", position, untold)
            jaccard = torch.lerp(untold / (2 - untold), jaccard, self.told_share)
            dice = torch.lerp(untold, dice, self.told_share)
        self._keep("dice", position, dice)
        self._keep("jaccard", position, jaccard)
        if teacher_logits is not None:
            self._keep("agreement", position, dice_of_masks(predicted, teacher_logits > 0))
            self._keep("teacher_dice", position, dice_of_masks(teacher_logits > 0, mask > 0))

    def _keep(self, name: str, position: Tensor, values: Tensor) -> None:
        new = torch.zeros(self.count, dtype=torch.float64, device=position.device)
        self._kept.setdefault(name, new)[position] += values.double()

    def means(self, over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Means over the images: loss, dice, jaccard; agreement, teacher_dice if there are; dice_told and
        dice_untold of a network with styles; each loss term.

        Args:
            over_processes: Adds up what all processes have kept.

        Raises:
            TrainingError: Some image was seen by two processes, or by none.
        """
        kept = {name: over_processes(values) for name, values in self._kept.items()}
        if not bool((kept.pop("seen") == 1).all()):
            raise TrainingError(
                "A validation image was evaluated twice or not at all.",
                "each exactly once",
                "Start anew with --overwrite; if it stays, report it with the output of dermdistill info.",
            )
        means = {name: values.mean().item() for name, values in kept.items()}
        losses = {name: means.pop(name) for name in list(means) if name.startswith("loss/")}
        return {
            "loss": sum(losses.values()),
            **means,
            **{name.removeprefix("loss/"): value for name, value in losses.items()},
        }


def dice_of_masks(one: Tensor, other: Tensor) -> Tensor:
    """Dice of boolean masks [b, 1, h, w], float64 [b]; 1 where both are empty."""
    both = (one & other).flatten(1).sum(1).double()
    total = one.flatten(1).sum(1).double() + other.flatten(1).sum(1).double()
    return torch.where(total > 0, 2 * both / total.clamp(min=1), 1.0)
