"""What one step of distillation computes: the task, and the frozen teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dermdistill.models.batchnorm_folding import fold_batch_norm
from dermdistill.models.ensemble import Ensemble
from dermdistill.models.lesion_net import LesionNet
from dermdistill.training.acceleration.compile import CompiledForward, Forward, plain_forward
from dermdistill.training.acceleration.teacher_cache import TeacherLogitsCache, cache_logits
from dermdistill.training.feed.batch import TrainingBatch
from dermdistill.training.feed.loader import PackDataset
from dermdistill.training.objective import Losses
from dermdistill.training.segmentation_task import SegmentationTask, StepResult

Distilled = Callable[[Tensor, Tensor, Tensor, Tensor], Losses]
"""(student logits, teacher logits, mask, has_mask) → weighted, named losses [b]."""

VALIDATION_CACHE = 2**28
"""Most bytes of a frozen teacher's logits of validation batches that are kept from epoch to epoch."""


class FrozenTeacher(nn.Module):
    """A network that stays in ``eval()`` and without gradients, whatever is called on its parent.

    One ``module.train()`` would let its batch statistics move with every training batch.

    Args:
        net: The teacher as it was trained, or several as one. It stays as it is: a copy teaches.
        fold: With batch norm folded (`models.batchnorm_folding`).
    """

    def __init__(self, net: LesionNet | Ensemble, fold: bool = True) -> None:
        super().__init__()

        def made(one: LesionNet) -> LesionNet:
            return fold_batch_norm(one) if fold and one.foldable else copy.deepcopy(one)

        self.net = Ensemble([made(one) for one in net]) if isinstance(net, Ensemble) else made(net)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in evaluation mode; ``mode`` is ignored."""
        super().train(False)
        return self

    # no_grad and not inference_mode: the student's loss keeps the teacher's output for its backward pass.
    @torch.no_grad()
    def forward(
        self, image: Tensor, teacher_mask: Tensor | None = None, compute: Forward = plain_forward
    ) -> Tensor:
        """Logits [b, 1, h, w].

        Args:
            image: RGB in [0, 1].
            teacher_mask: Of several teachers, which teach which image, bool [b, n]; None: all of them.
            compute: What runs the network.
        """
        return compute(self.net, image, teacher_mask)


class DistillationTask(SegmentationTask):
    """A student learns masks and a teacher's logits of the same view (online; Hinton et al. 2015).

    Or, once `cache_logits` was called, the teacher's logits of the image as it is, moved with the image.

    Args:
        net: The student.
        teacher: The teacher, or the mean of several, frozen here; or logits that are there already.
        distilled: (student logits, teacher logits, mask, has_mask) → weighted, named losses [b].
        fold: As of `FrozenTeacher`.
        teacher_mask: Which of several teachers teach which image, bool [rows, teachers]
            (`teachers.make_teacher_mask`); None: all of them.
        **task: As for SegmentationTask.

    Attributes:
        teacher_forward: What runs the teacher where it is not compiled.
    """

    def __init__(
        self,
        net: LesionNet,
        teacher: LesionNet | Ensemble | TeacherLogitsCache,
        *,
        distilled: Distilled,
        fold: bool = True,
        teacher_mask: Tensor | None = None,
        **task: Any,
    ) -> None:
        super().__init__(net, **task)
        self.teacher_mask: Tensor | None
        self.register_buffer("teacher_mask", teacher_mask, persistent=False)
        self.maps = teacher if isinstance(teacher, TeacherLogitsCache) else None
        self.teacher = None if isinstance(teacher, TeacherLogitsCache) else FrozenTeacher(teacher, fold)
        self.distilled = distilled
        self.teacher_forward: Forward = plain_forward
        self.compiled_teacher: CompiledForward | None = None
        self.cache = self.maps
        self._validation_cache: dict[int, Tensor] = {}

    def compute_losses(self, batch: TrainingBatch, batch_index: int | None = None) -> StepResult:
        """Supervised and distillation losses; teacher and student see the same tensor, or it is cached.

        Supervised losses are of the images with a mask, distillation losses of all.
        """
        logits = self(batch.image, batch.style)
        teacher_logits = batch.teacher_logits
        if teacher_logits is None:
            teacher_logits = self.teach(batch, batch_index)
        losses = self.supervised(logits, batch.mask, batch.has_mask) | self.distilled(
            logits, teacher_logits, batch.mask, batch.has_mask
        )
        return StepResult(losses, logits, teacher_logits)

    def teach(self, batch: TrainingBatch, batch_index: int | None = None) -> Tensor:
        """The teacher's logits; of a batch that comes again, those of the first time."""
        if self.teacher is None:
            assert self.maps is not None
            return self.maps.of(batch.row)
        if batch_index is not None and batch_index in self._validation_cache:
            return self._validation_cache[batch_index]
        compiled = self.compiled_teacher if self.training else None
        logits: Tensor = self.teacher(
            batch.image, self._teachers_of(batch.row), compiled or self.teacher_forward
        )
        cached = sum(one.nbytes for one in self._validation_cache.values())
        if batch_index is not None and cached + logits.nbytes <= VALIDATION_CACHE:
            self._validation_cache[batch_index] = logits
        return logits

    def _teachers_of(self, row: Tensor) -> Tensor | None:
        return self.teacher_mask[row] if self.teacher_mask is not None else None

    def cache_logits(self, images: PackDataset, device: torch.device, *, progress: bool) -> None:
        """Compute the teacher's logits of each training image once; arguments as of `cache_logits`."""
        if self.teacher is None:
            assert self.maps is not None
            self.maps.to(device)
            return
        teacher = self.teacher.to(device)
        if self.teacher_mask is not None:
            self.teacher_mask = self.teacher_mask.to(device)

        def compute_logits(image: Tensor, row: Tensor) -> Tensor:
            logits: Tensor = teacher(image, self._teachers_of(row), self.teacher_forward)
            return logits

        self.cache = cache_logits(images, compute_logits, device, progress=progress)

    def cached_logits(self, row: Tensor) -> Tensor | None:
        """As of the other task."""
        return self.cache.of(row) if self.cache is not None else None

    def compile_steps(self, mode: str, batch_size: int) -> None:
        """As of the other task; student and teacher each on their own."""
        super().compile_steps(mode, batch_size)
        self.compiled_teacher = CompiledForward(mode, batch_size)

    def on_fit_end(self) -> None:
        """Drop what is of one fit."""
        super().on_fit_end()
        self._validation_cache.clear()
        self.cache = None
