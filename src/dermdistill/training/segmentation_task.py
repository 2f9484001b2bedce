"""What one step computes: the supervised task; distillation.py has the one with a teacher.

A task is forward + loss and answers a dict of named terms; how long and on what it runs is training.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from dermdistill.core.errors import TrainingError
from dermdistill.models.build import LesionNet
from dermdistill.training.acceleration.compile import CompiledAnswer, answer
from dermdistill.training.acceleration.cuda_graphs import Recorder, Terms
from dermdistill.training.acceleration.devices import EpochMeans, Lookout
from dermdistill.training.feed.augmentation import Augment
from dermdistill.training.feed.loader import Batch
from dermdistill.training.validation import ValidationScores

Supervised = Callable[[Tensor, Tensor], Terms]


class SegmentationTask(L.LightningModule):
    """One network learns masks.

    Args:
        net: The network that is trained.
        augment: Random views of a batch, or None.
        supervised: (logits, mask) → weighted, named terms [b]; the mean of their sum is the loss.
        make_optimizer: Parameters → optimiser.
        make_schedule: Optimiser → schedule (schedules.py).
        seed: Seed of the views.
        val_count: Images in the validation split.

    Attributes:
        compiled: What answers for the network in training steps in place of `compiled.answer`, or None.
        recorder: What computes training steps, recorded or not.
    """

    def __init__(
        self,
        net: LesionNet,
        *,
        augment: Augment | None,
        supervised: Supervised,
        make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        make_schedule: Callable[[torch.optim.Optimizer], Any],
        seed: int,
        val_count: int,
    ) -> None:
        super().__init__()
        self.net = net
        self.augment, self.supervised = augment, supervised
        self.make_optimizer, self.make_schedule = make_optimizer, make_schedule
        self.seed, self.val_count = seed, val_count
        self.compiled: CompiledAnswer | None = None
        self.recorder = Recorder(self.mean_terms, self)
        self.means = EpochMeans()
        self.lookout = Lookout()
        self.strict_loading = False  # the frozen teacher is left out of checkpoints
        self._schedule_state: dict[str, Any] | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser. The task steps its own schedule: a checkpoint at any step holds its true state."""
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        self.schedule = self.make_schedule(optimizer)
        if self._schedule_state is not None:
            self.schedule.load_state_dict(self._schedule_state)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule and the epoch's sums; leave the teacher out.

        Nothing is kept that a loss of NaN has touched.
        """
        self.lookout.settle()
        checkpoint["schedule"] = self.schedule.state_dict()
        checkpoint["means"] = self.means.state_dict()
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the schedule's state until it is made (Lightning restores before it makes the optimiser)."""
        self._schedule_state = checkpoint["schedule"]
        if "means" in checkpoint:  # runs that were begun earlier have none
            self.means.load_state_dict(checkpoint["means"])

    # -- training --------------------------------------------------------------------------------------

    def view(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """The image in [0, 1], its mask, the kept answer.

        Masks are of the first images alone where there are unlabelled ones. Those get views of their own, so
        that labelled views are the same without them. The views depend on (seed, step, process) alone:
        resuming cannot change them.
        """
        image, mask = batch["image"].float() / 255, batch["mask"]
        said = self.kept_answer(batch["row"])
        if self.augment is None:
            return image, mask, said
        # The CPU's generator draws for every device (Augment): a GPU's own is left alone.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(hash((self.seed, self.global_step, self.global_rank)) % 2**63)
            count = len(mask)
            labelled, mask, said = self.augment(image[:count], mask, said)
            image = (
                torch.cat([labelled, self._unlabelled_view(image[count:])])
                if count < len(image)
                else labelled
            )
        return image, mask, said

    def kept_answer(self, row: Tensor) -> Tensor | None:
        """A teacher's logits [b, 1, h, w] for the images of these rows as they are, where such are kept."""
        return None

    def _unlabelled_view(self, image: Tensor) -> Tensor:
        assert self.augment is not None
        view: Tensor = self.augment(image, image.new_zeros(image[:, :1].shape, dtype=torch.uint8))[0]
        return view

    def terms(
        self, image: Tensor, mask: Tensor, said: Tensor | None, row: Tensor, again: int | None = None
    ) -> tuple[Terms, Tensor, Tensor | None]:
        """Named terms per image that each concerns, the network's logits, and the teacher's if it has one.

        Args:
            image, mask, said: From `view`.
            row: int64 [b], as in `Batch`.
            again: Number of a batch that comes in every epoch as it is (in validation), or None.
        """
        logits = self.answer(image)
        return self.supervised(logits, mask), logits, None

    def answer(self, image: Tensor) -> Tensor:
        """The network's logits; compiled in training, where that was asked for."""
        return ((self.training and self.compiled) or answer)(self.net, image)

    def compile_steps(self, mode: str, batch: int) -> None:
        """Have ``torch.compile`` make the forward passes of full batches."""
        self.compiled = CompiledAnswer(mode, batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one augmented batch: the sum of the terms, each the mean over the images it concerns.

        So the size of a distillation term does not depend on how many unlabelled images there are.
        """
        if self.compiled is not None:
            torch.compiler.cudagraph_mark_step_begin()  # what the step before answered is done with
        image, mask, said = self.view(batch)
        loss, terms = self.recorder(image, mask, said, batch["row"])
        told = {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}
        names = {"row": batch["row"], "position": batch["position"]}  # images would fill the device's memory
        when = (self.global_step, self.current_epoch)
        self.lookout.look(told["loss"], lambda: self._complain(told, names, *when))
        self.means.add(told, len(image))
        return loss

    def on_fit_end(self) -> None:
        """Give the GPU the memory of a recording back."""
        self.recorder.forget()

    def mean_terms(
        self, image: Tensor, mask: Tensor, said: Tensor | None, row: Tensor
    ) -> tuple[Tensor, Terms]:
        """The loss, and the terms that it is the sum of, each the mean over the images that it concerns."""
        terms = {name: values.mean() for name, values in self.terms(image, mask, said, row)[0].items()}
        return torch.stack(list(terms.values())).sum(), terms

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As Lightning's; a replayed step has computed its gradients already."""
        if not self.recorder.give_gradients():
            super().backward(loss, *args, **kwargs)

    def _complain(
        self, told: Mapping[str, Tensor], names: Mapping[str, Tensor], step: int, epoch: int
    ) -> None:
        loader: Any = self.trainer.train_dataloader
        ids = loader.dataset.image_ids(names)
        listed = ", ".join(f"{name} {value.item():.4g}" for name, value in told.items() if name != "loss")
        raise TrainingError(
            f"The loss is {told['loss'].item()} at step {step} (epoch {epoch}).\n"
            f"  terms:  {listed}\n  images: {', '.join(ids)}",
            "a finite loss",
            "Lower --optim.lr, or set --trainer.precision 32-true; the run before this step can be resumed.",
        )

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning's, which refuses a fused optimiser, although nothing is unscaled outside 16-mixed."""
        if gradient_clip_val and optimizer.param_groups[0].get("fused"):
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Step the schedule, once per optimiser step."""
        self.schedule.after_step()

    # -- validation ------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        self.lookout.settle()
        self.validation = ValidationScores(self.val_count)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the results of one batch."""
        image, mask = batch["image"].float() / 255, batch["mask"]
        terms, logits, teacher_logits = self.terms(image, mask, None, batch["row"], batch_idx)
        self.validation.add(batch["position"], terms, mask, logits, teacher_logits)

    def on_validation_epoch_end(self) -> None:
        """Means over the images of all processes; then the schedule takes its epoch step."""
        means = self.validation.means(self._sum_over_processes)
        scores = {f"val/{name}": value for name, value in means.items()}
        self.log_dict(scores, rank_zero_only=False)
        taught = self.means.take(self._sum_over_processes)
        self.log_dict({f"train/{name}": value for name, value in taught.items()}, rank_zero_only=False)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        # Lightning's own count of steps is one off after a resume; float64 holds every step exactly.
        self.log("step", torch.tensor(self.global_step, dtype=torch.float64))
        self.schedule.after_epoch(scores["val/loss"])

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(values)
        return values
