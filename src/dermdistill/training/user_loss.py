"""A distillation loss of the user's own (``kd.extra``), tried before a training and checked in each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dermdistill.core import user_file
from dermdistill.core.errors import TrainingError, UsageError
from dermdistill.losses.rules import in_float32

_TRIED = (2, 1, 32, 32)
"""Shape of the logits that a loss is tried on."""
_FORM = "(student_logits, teacher_logits, mask), each [b, 1, h, w], to one finite value per image, [b]"


class UserLoss:
    """``function(student_logits, teacher_logits, mask)`` of a user's file, by the rules of `losses.rules`.

    It gets float32 outside autocast, and the teacher's logits without gradient. ``mask`` is {0, 1}; of an
    image without one it is the teacher's. It returns one value per image; the weight is not its business.

    Args:
        source: ``FILE.py:FUNCTION``.

    Attributes:
        name: Of its values in the logs: ``own_`` and the function's name.

    Raises:
        UsageError: There is no such function, or on a trial it fails or returns something else.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        function, self.digest = user_file.load(source)
        self.function: Callable[..., Any] = in_float32(function)
        self.name = f"own_{source.rpartition(':')[2]}"
        self._try()

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Tensor:
        """The loss of each image, float32 [b].

        Raises:
            TrainingError: It is none.
        """
        found = self.function(student_logits, teacher_logits.detach(), mask)
        if not isinstance(found, Tensor) or found.shape != (len(student_logits),):
            raise TrainingError(
                f"{self.source} returns {_described(found)} for {len(student_logits)} images.",
                _FORM,
                "Take the mean over the pixels, dim=(1, 2, 3), and not over the images.",
            )
        return found

    def _try(self) -> None:
        draw = torch.Generator().manual_seed(0)
        student = torch.randn(_TRIED, generator=draw, requires_grad=True)
        teacher = torch.randn(_TRIED, generator=draw)
        mask = (torch.rand(_TRIED, generator=draw) > 0.5).float()
        with user_file.errors_told(user_file.split(self.source)[0]):
            found = self(student, teacher, mask)
        if not bool(torch.isfinite(found).all()):
            raise UsageError(
                f"{self.source} returns {found.tolist()} for logits drawn at random.",
                _FORM,
                "Look for a logarithm of zero or a division by zero.",
            )
        if not found.requires_grad:
            raise UsageError(
                f"{self.source} returns what does not depend on the student's logits.",
                "a loss that the student can lower",
                "Compute it from student_logits, without detach() and without numpy.",
            )


def _described(found: Any) -> str:
    return f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
