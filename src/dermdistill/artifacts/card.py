"""The model card: everything that is needed to use a network's weights, and what they scored.

Preprocessing parameters live here alone: the exporter and the predictor read them from the card.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from dermdistill._version import __version__
from dermdistill.artifacts.card_values import (
    BiasShifts,
    Count,
    Difference,
    FileName,
    Fraction,
    InputSize,
    Mean,
    Network,
    Probability,
    Ratio,
    Reference,
    Std,
    Text,
)
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import hash_file, parse_json, read_json, write_json

FORMAT = 1
METADATA_PREFIX = "dermdistill."


class OutlineCalibration(BaseModel):
    """How a network's outline was fitted to the masks of those who use it (``dermdistill calibrate``).

    Attributes:
        images: Number of pictures with masks that it was fitted to.
        images_sha256: Hash of the pictures' and masks' hashes, in the order of their names.
        threshold_before: The card's threshold before the fit; the one after is the card's ``threshold``.
        area_ratio: Median over pictures of the drawn area after over before; below 1: drawn tighter.
        dice_before: Mean Dice before, 0 to 1.
        dice_after: Mean Dice after, each picture drawn by what the other pictures taught (leave-one-out).
        gain_low: Lower end of the 95 % interval of the mean difference.
        gain_high: Upper end.
        created: When; UTC, ISO 8601.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    images: Count
    images_sha256: Text
    threshold_before: Probability
    area_ratio: Ratio
    dice_before: Fraction
    dice_after: Fraction
    gain_low: Difference
    gain_high: Difference
    created: Text


class TeacherRecord(BaseModel):
    """Which network taught a student, as the student's card records it: one teacher, or the mean of several.

    Cards of other versions may hold further keys; they are kept as they are. Only what was given is written,
    so a card that is read and written again stays the same.

    Attributes:
        run: Name of the teacher's run folder; None: it has none (untrained weights, or several teachers).
        model: What `build_model` needs, as in its own card; None for several teachers.
        fine_tuned: Whether it was trained on lesions before it taught.
        source: What taught where it is no run and no network of ours: an ONNX file, a folder of a
            transformers model or of maps, by its name. Which images it has seen is then not known.
        fold: The part of the training images, as ``0/5``, that it was trained without; None: none.
        weights: Which of its weights taught: the best by validation, or the last.
        weights_sha256: Their hash.
        best_sha256: Where its last weights taught: the hash of its best.
        val: Its validation scores, where its best weights taught.
        mean_of: The teachers whose mean taught; empty: one teacher.
        folds: Into how many parts cross-fitting divided the training images; None: it was not used.
        answers: ``kept`` where its logits were computed once and moved with the image (`cached_logits`);
            None: they were computed anew for each view.

    Examples:
        >>> record = TeacherRecord(run="teacher-seed0", fine_tuned=True)
        >>> record.teachers[0].run
        'teacher-seed0'
        >>> record.model_dump()
        {'run': 'teacher-seed0', 'fine_tuned': True}
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    run: str | None = None
    model: dict[str, Any] | None = None
    fine_tuned: bool = False
    source: str | None = None
    fold: str | None = None
    weights: Literal["best", "last"] = "best"
    weights_sha256: str | None = None
    best_sha256: str | None = None
    val: dict[str, Any] | None = None
    mean_of: tuple[TeacherRecord, ...] = ()
    folds: int | None = None
    answers: Literal["kept"] | None = None

    @property
    def teachers(self) -> tuple[TeacherRecord, ...]:
        """Each teacher by itself: one, or those of the mean."""
        return self.mean_of or (self,)

    @property
    def cached_logits(self) -> bool:
        """Whether its logits were cached, not computed anew for each view."""
        return self.answers == "kept"

    @model_serializer(mode="wrap")
    def _write_what_was_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class ModelCard(BaseModel):
    """Everything that is needed to use the weights of one trained network, and what they scored.

    Attributes:
        format: Version of this layout.
        role: student or teacher.
        model: What `build_model` needs: arch, encoder, norm, head; of a user's own network also its options,
            its channel and the SHA-256 of its file, which the card never has run.
        input_size: Side in pixels of the square that images are resized to, 1 to 4096.
        mean: Per channel, of RGB in [0, 1]; -10 to 10.
        std: Likewise; 0.0001 to 10.
        threshold: A pixel is lesion where its probability is above this; above 0 and below 1.
        weights: File name beside the card, without a folder.
        weights_sha256: Their hash (empty until they are saved).
        dataset: Name and fingerprint of what it was trained on.
        recipe: Name of the run.
        seed: Of weights, order and views.
        epoch: The one whose weights were kept, from 1.
        parameters: Number of trainable values.
        teacher: Which network taught it, or None.
        export: Of an exported file: precision, opset, parity with PyTorch, how int8 was reached and what
            Dice it loses (0 to 1, paired, on validation). None before the first export.
        scores: By split: ``{"val": {"dice": …}, "test:isic2016": {…}}``, in 0 to 1.
        reference: Statistics of the training images, to tell what is unlike them (`reference.fit_reference`);
            None: not fitted.
        calibration: How the threshold was fitted to masks of one's own; None: it was not.
        styles: By the name of each style of masks that it can be told: what the style adds to the network's
            biases, by their names. No vectors in a run's card, whose weights hold them.
        style: The one that is folded in; None: not told, or there are none.
        versions: Of the packages that made it.
        created: When; UTC, ISO 8601.

    Examples:
        >>> import dermdistill
        >>> card = dermdistill.Predictor().card  # of the student that comes with the package
        >>> card.role, len(card.mean)
        ('student', 3)
        >>> dermdistill.ModelCard.from_metadata(card.to_metadata()) == card
        True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: int = FORMAT
    role: Literal["student", "teacher"]
    model: Network
    input_size: InputSize
    mean: Mean
    std: Std
    threshold: Probability = 0.5
    weights: FileName
    weights_sha256: Text = ""
    dataset: dict[str, Any]
    recipe: Text
    seed: Count
    epoch: Count = 0
    parameters: Count
    teacher: TeacherRecord | None = None
    scores: dict[str, dict[str, Any]] = {}
    export: dict[str, Any] | None = None
    reference: Reference | None = None
    calibration: OutlineCalibration | None = None
    styles: dict[Text, BiasShifts] = {}
    style: Text | None = None
    versions: dict[str, Text] = {}
    created: Text = ""

    def with_scores(self, weights: Path, epoch: int, scores: dict[str, dict[str, Any]]) -> ModelCard:
        """The card of the weights now in ``weights``."""
        update = {"weights_sha256": hash_file(weights), "epoch": epoch, "scores": {**self.scores, **scores}}
        return self.model_copy(update=update)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> ModelCard:
        """Read a card.

        Raises:
            DataError: Missing, not JSON, or not a card of this format.
        """
        return cls.from_values(read_json(path), str(path))

    def to_metadata(self) -> dict[str, str]:
        """Flat strings, for an ONNX file's metadata."""
        return {f"{METADATA_PREFIX}{key}": json.dumps(value) for key, value in self.to_json().items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], source: str = "metadata") -> ModelCard:
        """The card out of an ONNX file's metadata; other entries are left alone.

        Raises:
            DataError: There is no card in it.
        """
        found = {
            k.removeprefix(METADATA_PREFIX): v for k, v in metadata.items() if k.startswith(METADATA_PREFIX)
        }
        try:
            tree = {key: parse_json(value) for key, value in found.items()}
        except ValueError as error:
            raise DataError(
                f"{source} holds a broken model card: {error}.",
                "a model card as dermdistill export writes it",
                "Export the model again: dermdistill export RUN.",
            ) from error
        return cls.from_values(tree, source)

    @classmethod
    def from_values(cls, tree: Any, source: str) -> ModelCard:
        """The card of plain values.

        Args:
            tree: By field.
            source: Where they are from, for errors.

        Raises:
            DataError: They are no card's of this format.
        """
        try:
            card = cls.model_validate(tree)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "card"
            what = first["msg"].removeprefix("Value error, ").rstrip(".")
            raise DataError(
                f"{source} is not a model card: {where}: {what} (found {reprlib.repr(first['input'])}).",
                "a model card of this version, with nothing changed by hand",
                "Take the file that train, distill or export wrote, or make it again.",
            ) from None
        if card.format != FORMAT:
            raise DataError(
                f"{source} is a model card of format {card.format}.",
                f"format {FORMAT}",
                "Use the dermdistill version that wrote it, or a newer one.",
            )
        return card


def check_style(style: str | None, known: Sequence[str]) -> None:
    """Refuse a style that a model does not know.

    Raises:
        UsageError: It does not.
    """
    if style is None or style in known:
        return
    if not known:
        raise UsageError(
            f"The model was not told of styles; {style!r} is asked for.",
            "a model that was trained with style.enabled",
            "Leave --style out. To fit the outline to masks of your own: dermdistill calibrate.",
        )
    raise UsageError(
        f"The model knows no style {style!r}.",
        f"one of {', '.join(known)}",
        "Choose one of these, or leave --style out.",
    )


def make_card(**fields: Any) -> ModelCard:
    """A card stamped with this moment and the versions at hand.

    Raises:
        DataError: A value is out of its range.
    """
    return ModelCard.from_values({**fields, "versions": versions(), "created": timestamp()}, "It")


def timestamp() -> str:
    """This moment: UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python, dermdistill and of what it computes with, where installed."""
    found = {"python": platform.python_version(), "dermdistill": __version__}
    for name in (
        "torch",
        "torchvision",
        "lightning",
        "segmentation-models-pytorch",
        "timm",
        "numpy",
        "onnx",
        "onnxruntime",
    ):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
