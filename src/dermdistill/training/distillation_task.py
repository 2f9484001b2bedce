"""What one step of distillation computes: the task, and the frozen teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dermdistill.data.dataset import PreparedData
from dermdistill.models.batchnorm_folding import fold_batch_norm
from dermdistill.models.build import LesionNet
from dermdistill.models.ensemble import Ensemble
from dermdistill.training.acceleration.compile import Answer, CompiledAnswer, answer
from dermdistill.training.acceleration.cuda_graphs import Terms
from dermdistill.training.acceleration.teacher_cache import KeptAnswers
from dermdistill.training.segmentation_task import SegmentationTask

Distilled = Callable[[Tensor, Tensor, Tensor], Terms]

KEPT_ANSWERS = 2**28
"""Most bytes of a frozen teacher's answers to validation batches that are kept from epoch to epoch."""


class FrozenTeacher(nn.Module):
    """A network that stays in ``eval()`` and without gradients, whatever is called on its parent.

    One ``module.train()`` would let its batch statistics move with every training batch.

    Args:
        net: The teacher as it was trained, or several that answer as one. It stays as it is: a copy
            teaches.
        fold: With batch norm folded (`models.fold`).
    """

    def __init__(self, net: LesionNet | Ensemble, fold: bool = True) -> None:
        super().__init__()
        made = fold_batch_norm if fold else copy.deepcopy
        self.net = Ensemble([made(one) for one in net]) if isinstance(net, Ensemble) else made(net)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in evaluation mode; ``mode`` is ignored."""
        super().train(False)
        return self

    # no_grad and not inference_mode: the student's loss keeps the teacher's output for its backward pass.
    @torch.no_grad()
    def forward(self, image: Tensor, call: Answer = answer, chosen: Tensor | None = None) -> Tensor:
        """Logits [b, 1, h, w]; by ``call``, as `answer`."""
        return call(self.net, image, chosen)


class DistillationTask(SegmentationTask):
    """A student learns masks and a teacher's answer to the same view (online; Hinton et al. 2015).

    Or, once `keep_answers` was called, the teacher's answer to the image as it is, moved with the image.

    Args:
        net: The student.
        teacher: The teacher, or the mean of several; frozen here.
        distilled: (student logits, teacher logits, mask) → terms.
        fold: As of `FrozenTeacher`.
        taught_by: Which of several teachers answer for which image, bool [rows of the manifest, teachers]
            (`teachers.taught_by`); None: all of them.
        **task: As for SegmentationTask.
    """

    def __init__(
        self,
        net: LesionNet,
        teacher: LesionNet | Ensemble,
        *,
        distilled: Distilled,
        fold: bool = True,
        taught_by: Tensor | None = None,
        **task: Any,
    ) -> None:
        super().__init__(net, **task)
        self.taught_by: Tensor | None
        self.register_buffer("taught_by", taught_by, persistent=False)
        self.teacher = FrozenTeacher(teacher, fold)
        self.distilled = distilled
        self.teacher_answer: Answer = answer
        self._said: dict[int, Tensor] = {}
        self.compiled_teacher: CompiledAnswer | None = None
        self.kept: KeptAnswers | None = None

    def keep_answers(
        self, data: PreparedData, rows: NDArray[np.int64], device: torch.device, *, progress: bool
    ) -> None:
        """Ask the teacher once about each training image; args as of `KeptAnswers`."""
        self.teacher.to(device)
        taught_by = self.taught_by.to(device) if self.taught_by is not None else None

        def ask(image: Tensor, row: Tensor) -> Tensor:
            chosen = taught_by[row] if taught_by is not None else None
            return self.teacher(image, self.teacher_answer, chosen)

        self.kept = KeptAnswers(data, rows, ask, device, progress=progress)

    def kept_answer(self, row: Tensor) -> Tensor | None:
        """As of the other task."""
        return self.kept.of(row) if self.kept is not None else None

    def compile_steps(self, mode: str, batch: int) -> None:
        """As of the other task; student and teacher each on their own."""
        super().compile_steps(mode, batch)
        self.compiled_teacher = CompiledAnswer(mode, batch)

    def terms(
        self, image: Tensor, mask: Tensor, said: Tensor | None, row: Tensor, again: int | None = None
    ) -> tuple[Terms, Tensor, Tensor | None]:
        """Supervised and distilled terms; teacher and student see the same tensor, or the answer is kept.

        Supervised terms are of the images with a mask, distilled ones of all. Where a distilled term needs an
        outline and there is no mask, it is the teacher's. Unlabelled images are taught by all teachers.
        """
        logits, count = self.answer(image), len(mask)
        teacher_logits = said if said is not None else self._teach(image, row[:count], again)
        terms = self.supervised(logits[:count], mask)
        if count < len(image):
            mask = torch.cat([mask, (teacher_logits[count:] > 0).to(mask.dtype)])
        terms |= self.distilled(logits, teacher_logits, mask)
        return terms, logits, teacher_logits

    def on_fit_end(self) -> None:
        """Forget what is of one fit."""
        super().on_fit_end()
        self._said.clear()
        self.kept = None

    def _teach(self, image: Tensor, row: Tensor, again: int | None) -> Tensor:
        """The teacher's answer; to a batch that comes again, the one that it gave the first time."""
        if again is not None and again in self._said:
            return self._said[again]
        call = self.compiled_teacher if self.training and self.compiled_teacher else self.teacher_answer
        chosen = self._chosen(row, len(image) - len(row))
        logits: Tensor = self.teacher(image, call, chosen)
        kept = sum(said.nbytes for said in self._said.values())
        if again is not None and kept + logits.nbytes <= KEPT_ANSWERS:
            self._said[again] = logits
        return logits

    def _chosen(self, row: Tensor, unlabelled: int) -> Tensor | None:
        if self.taught_by is None:
            return None
        chosen = self.taught_by[row]
        return torch.cat([chosen, chosen.new_ones(unlabelled, chosen.shape[1])]) if unlabelled else chosen
