"""What one step of a training on masks computes; `distillation_task` adds the teacher.

A task is a forward pass and named losses; how long and on what it runs is `trainer`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor

from dermdistill.config.settings import StyleSettings
from dermdistill.core.errors import MismatchError, TrainingError
from dermdistill.models.lesion_net import LesionNet
from dermdistill.training.acceleration.compile import CompiledForward, plain_forward
from dermdistill.training.acceleration.cuda_graphs import CudaGraphStep
from dermdistill.training.acceleration.epoch_means import EpochMeans
from dermdistill.training.acceleration.nan_guard import NonFiniteLossGuard
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.batch import TrainingBatch, place_on_device
from dermdistill.training.objective import Losses
from dermdistill.training.validation import ValidationScores

Supervised = Callable[[Tensor, Tensor, Tensor], Losses]
"""(logits, mask, has_mask) → weighted, named losses [b]."""


class StepResult(NamedTuple):
    """What a task computes of one batch."""

    losses: Losses
    """Weighted, named, one value per image [b]."""
    logits: Tensor
    """Of the network that learns, [b, 1, h, w]."""
    teacher_logits: Tensor | None = None
    """Of its teacher, if it has one."""


class SegmentationTask(L.LightningModule):
    """One network learns masks.

    Args:
        net: The network that is trained.
        augment: Random views of a batch, or None.
        supervised: (logits, mask, has_mask) → weighted, named losses [b]; the mean of their sum is the loss.
        make_optimizer: Groups of parameters → optimiser.
        make_schedule: Optimiser → schedule (`lr_schedules`).
        seed: Seed of the views.
        val_count: Images in the validation split.
        style: How a network with styles is told them.

    Attributes:
        compiled: What runs the network in training steps in place of `compile.forward`, or None.
        step: What computes the losses of training steps, from a CUDA graph or not.
    """

    def __init__(
        self,
        net: LesionNet,
        *,
        augment: Augment | None,
        supervised: Supervised,
        make_optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
        make_schedule: Callable[[torch.optim.Optimizer], Any],
        seed: int,
        val_count: int,
        style: StyleSettings = StyleSettings(),  # noqa: B008 - it is frozen
    ) -> None:
        super().__init__()
        self.net = net
        self.augment, self.supervised = augment, supervised
        self.make_optimizer, self.make_schedule = make_optimizer, make_schedule
        self.seed, self.val_count, self.style = seed, val_count, style
        self.compiled: CompiledForward | None = None
        self.step = CudaGraphStep(self.mean_losses, self)
        self.means = EpochMeans()
        self.guard = NonFiniteLossGuard()
        self.strict_loading = False  # the frozen teacher is left out of checkpoints
        self._schedule_state: dict[str, Any] | None = None

    # -- training --------------------------------------------------------------------------------------

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """The loss of one augmented batch."""
        if self.compiled is not None:
            torch.compiler.cudagraph_mark_step_begin()  # the logits of the step before are done with
        loss, losses = self.step(self.augment_batch(batch))
        values = {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}
        row = batch.row  # and not the batch: its images would fill the device's memory
        step, epoch = self.global_step, self.current_epoch
        self.guard.watch(values["loss"], lambda: self._raise_non_finite(values, row, step, epoch))
        self.means.add(values, len(batch))
        return loss

    def augment_batch(self, batch: TrainingBatch) -> TrainingBatch:
        """One random view of each image in [0, 1], its mask, and its cached teacher logits if there are any;
        the style of its mask, where that is to be told.

        The views depend on (seed, step, process) alone: resuming cannot change them.
        """
        batch = dataclasses.replace(batch.as_float(), teacher_logits=self.cached_logits(batch.row))
        if self.augment is None and batch.style is None:
            return batch
        # The CPU's generator draws for every device (Augment): a GPU's own is left alone.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(hash((self.seed, self.global_step, self.global_rank)) % 2**63)
            if self.augment is not None:
                views = self.augment(batch.image, batch.mask, batch.teacher_logits)
                batch = dataclasses.replace(batch, **views._asdict())
            if batch.style is not None:
                told = torch.rand(len(batch), 1) >= self.style.dropout
                told = place_on_device(told, batch.style.device)
                batch = dataclasses.replace(batch, style=batch.style * told)
        return batch

    def cached_logits(self, row: Tensor) -> Tensor | None:
        """A teacher's logits [b, 1, h, w] for the images of these rows as they are, where they are cached."""
        return None

    def compute_losses(self, batch: TrainingBatch, batch_index: int | None = None) -> StepResult:
        """Named losses per image, and the logits that they are of.

        Args:
            batch: Images in [0, 1].
            batch_index: Of a batch that comes in every epoch as it is (in validation), or None.
        """
        logits = self(batch.image, batch.style)
        return StepResult(self.supervised(logits, batch.mask, batch.has_mask), logits)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """The network's logits; compiled in training, where that was asked for."""
        return ((self.training and self.compiled) or plain_forward)(self.net, image, style)

    def mean_losses(self, batch: TrainingBatch) -> tuple[Tensor, Losses]:
        """The loss of an augmented batch, and the named losses that it is the sum of, each one number."""
        means = {name: values.mean() for name, values in self.compute_losses(batch).losses.items()}
        return torch.stack(list(means.values())).sum(), means

    def compile_steps(self, mode: str, batch_size: int) -> None:
        """Have ``torch.compile`` make the forward passes of full batches."""
        self.compiled = CompiledForward(mode, batch_size)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As Lightning's; a replayed step has computed its gradients already."""
        if not self.step.assign_gradients():
            super().backward(loss, *args, **kwargs)

    def _raise_non_finite(self, values: Mapping[str, Tensor], row: Tensor, step: int, epoch: int) -> None:
        loader: Any = self.trainer.train_dataloader
        listed = ", ".join(f"{name} {value.item():.4g}" for name, value in values.items() if name != "loss")
        raise TrainingError(
            f"The loss is {values['loss'].item()} at step {step} (epoch {epoch}).\n"
            f"  terms:  {listed}\n  images: {', '.join(loader.dataset.image_ids(row))}",
            "a finite loss",
            "Lower --optim.lr, or set --trainer.precision 32-true; the run before this step can be resumed.",
        )

    # -- optimiser, schedule, checkpoints --------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser. The task steps its own schedule: a checkpoint at any step holds its true state."""
        optimizer = self.make_optimizer(self._parameter_groups())
        self.schedule = self.make_schedule(optimizer)
        if self._schedule_state is not None:
            self.schedule.load_state_dict(self._schedule_state)
        return optimizer

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """All that learns; styles have a learning rate of their own and do not decay."""
        tables = [p for name, p in self.net.named_parameters() if name.startswith("net.style_bias.")]
        styles = set(map(id, tables))
        groups = [{"params": [p for p in self.parameters() if p.requires_grad and id(p) not in styles]}]
        return [*groups, {"params": tables, "lr": self.style.lr, "weight_decay": 0.0}] if tables else groups

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning's, which refuses a fused optimiser, although nothing is unscaled outside 16-mixed."""
        if gradient_clip_val and optimizer.param_groups[0].get("fused"):
            learnt = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(learnt, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Step the schedule, once per optimiser step."""
        self.schedule.after_step()

    def on_fit_end(self) -> None:
        """Give the GPU the memory of a recording back."""
        self.step.drop()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule and the epoch's sums; leave the teacher out.

        Nothing is kept that a loss of NaN has touched.
        """
        self.guard.flush()
        checkpoint["schedule"] = self.schedule.state_dict()
        checkpoint["means"] = self.means.state_dict()
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule's state until it is made (Lightning restores before it makes the optimiser).

        Raises:
            MismatchError: It is of a run of an earlier version, with averaged weights or adaptors.
        """
        if any(name.startswith(("averaged.", "adaptors.")) for name in checkpoint["state_dict"]):
            raise MismatchError(
                "The checkpoint holds averaged weights or feature adaptors, of trainer.ema or kd.attention.",
                "one of this version, from which they are gone (docs/design/students.md)",
                "Start anew with --overwrite, or finish the run with the version that began it.",
            )
        self._schedule_state = checkpoint["schedule"]
        if "means" in checkpoint:  # runs that were begun earlier have none
            self.means.load_state_dict(checkpoint["means"])

    # -- validation ------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        self.guard.flush()
        self.validation = ValidationScores(self.val_count, self.style.told_share)

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Keep the results of one batch."""
        batch = batch.as_float()
        result = self.compute_losses(batch, batch_idx)
        untold = self(batch.image) if batch.style is not None else None
        self.validation.add(batch.position, batch.mask, *result, untold_logits=untold)

    def on_validation_epoch_end(self) -> None:
        """Means over the images of all processes; then the schedule takes its epoch step."""
        means = self.validation.means(self._sum_over_processes)
        scores = {f"val/{name}": value for name, value in means.items()}
        self.log_dict(scores, rank_zero_only=False)
        means_in_training = self.means.take(self._sum_over_processes)
        self.log_dict({f"train/{k}": value for k, value in means_in_training.items()}, rank_zero_only=False)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        # Lightning's own count of steps is one off after a resume; float64 holds every step exactly.
        self.log("step", torch.tensor(self.global_step, dtype=torch.float64))
        self.schedule.after_epoch(scores["val/loss"])

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(values)
        return values
