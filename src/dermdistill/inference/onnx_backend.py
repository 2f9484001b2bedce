"""Run an exported network with ONNX Runtime: all that a phone, a clinic's server or `predict` needs.

The file explains itself: preprocessing, threshold, scores and hashes are the `ModelCard` in its metadata.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dermdistill.artifacts.card import METADATA_PREFIX, ModelCard, check_style
from dermdistill.core.errors import DataError, MissingExtraError, UsageError, WeightsError
from dermdistill.inference.onnx_metadata import with_shifted_biases

INPUT, OUTPUT = "image", "logits"
"""Names that `dermdistill export` gives."""
_CUDA = "CUDAExecutionProvider"


class OnnxBackend:
    """Probabilities from an ONNX file.

    Args:
        path: As `dermdistill export` writes it: input ``image`` float32 [n, 3, s, s], RGB in [0, 1]; output
            ``logits`` float32 [n, 1, s, s]; a model card in the metadata.
        threads: Within one operation; by default ONNX Runtime's choice, one per core.
        gpu: Run it on the GPU, which needs onnxruntime-gpu.
        style: Of the styles of masks that the file knows (its card's ``styles``), the one in which it shall
            draw; None: not told. Of no cost: the style is added to biases when the file is opened.

    Attributes:
        card: Out of the file's metadata.
        threads: As given; None: ONNX Runtime's choice.
        gpu: As given.

    Raises:
        WeightsError: There is no such file, it is no ONNX, keeps weights in other files, has no model card,
            or another input or output.
        UsageError: Fewer than one thread, or it does not know the style.
        MissingExtraError: A GPU is asked for, and this onnxruntime knows none.
    """

    def __init__(
        self, path: Path | str, threads: int | None = None, *, gpu: bool = False, style: str | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(
                f"{threads} threads are asked for.",
                "1 or more",
                "Set --threads to 1 or more, or leave it out: one per core.",
            )
        self.path, self.threads, self.gpu = Path(path), threads, gpu
        self._session = open_session(self.path, threads, gpu=gpu)
        self.card = _read_card(self._session, self.path)
        _check_face(self._session, self.path, self.card)
        if style is not None:
            check_style(style, list(self.card.styles))
            told = with_shifted_biases(self.path.read_bytes(), self.card.styles[style])
            self._session = open_session(told, threads, gpu=gpu)
            self.card = self.card.model_copy(update={"style": style})

    def __reduce__(self) -> tuple[Callable[..., OnnxBackend], tuple[Path, int | None]]:
        """A copy in another process opens the file there."""
        return functools.partial(OnnxBackend, gpu=self.gpu, style=self.card.style), (self.path, self.threads)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n, 3, s, s] in [0, 1] → probability float32 [n, 1, s, s]; n may be 0.

        Raises:
            WeightsError: The network cannot compute it, or its output is of another shape or not finite.
        """
        size = self.card.input_size
        logits = run_session(self._session, OUTPUT, {INPUT: batch}, (1, size, size), self.path)
        return sigmoid(logits)


def run_session(
    session: onnxruntime.InferenceSession,
    output: str,
    inputs: Mapping[str, NDArray[np.float32]],
    shape: tuple[int, ...],
    path: Path,
) -> NDArray[np.float32]:
    """One output of a network for a batch.

    Args:
        session: The network.
        output: Its output's name.
        inputs: Its inputs by name, float32 [n, …]; n may be 0.
        shape: Of the output for one picture.
        path: The network's file, for errors.

    Returns:
        float32 [n, *shape], finite.

    Raises:
        WeightsError: The network cannot compute it, or its output is of another shape or not finite.
    """
    feed = {name: np.ascontiguousarray(batch, dtype=np.float32) for name, batch in inputs.items()}
    count = len(next(iter(feed.values())))
    if count == 0:
        return np.zeros((0, *shape), np.float32)
    try:
        (found,) = session.run([output], feed)
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise WeightsError(
            f"{path} cannot be computed: {_first_line(error)}",
            "a network that fits into this machine's memory",
            "Take another model, or export this one again (dermdistill export RUN).",
        ) from None
    if found.shape != (count, *shape):
        raise WeightsError(
            f"{path} returns {list(found.shape)} for {count} pictures.",
            f"{[count, *shape]}",
            "Export it again (dermdistill export RUN); it was changed, or is broken.",
        )
    if not np.isfinite(found).all():
        raise WeightsError(
            f"{path} returns values that are not finite (NaN or infinite).",
            "finite numbers, whatever the picture",
            "Its weights are broken, or overflow in this precision: take its fp32 file, or export it again.",
        )
    values: NDArray[np.float32] = found
    return values


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of any finite logit, without overflow."""
    small = np.abs(logits)
    np.exp(np.negative(small, out=small), out=small)
    prob: NDArray[np.float32] = np.where(logits >= 0, 1, small) / (1 + small)
    return prob


def open_session(
    model: Path | bytes,
    threads: int | None = None,
    *,
    gpu: bool = False,
    spin: bool = False,
    optimize: bool = True,
) -> onnxruntime.InferenceSession:
    """Open an ONNX model, for all of this package.

    Args:
        model: A file, which is read as a whole, or its bytes.
        threads: Within one operator; None: ONNX Runtime's choice, one per core.
        gpu: On the GPU, with the CPU for what that cannot compute.
        spin: Threads that wait keep the processor, as is ONNX Runtime's default: quicker for one session
            alone, slower for everything else on the machine.
        optimize: Join and rewrite operators; without, every tensor of the file is computed as it stands.

    Raises:
        MissingExtraError: A GPU is asked for, and this onnxruntime knows none.
        WeightsError: There is no such file, it is no ONNX, or keeps weights in other files.
    """
    if gpu and _CUDA not in onnxruntime.get_available_providers():
        raise MissingExtraError(
            f"This onnxruntime {onnxruntime.__version__} cannot use a GPU.",
            "the package onnxruntime-gpu in place of onnxruntime",
            "Replace the package: pip uninstall onnxruntime && pip install onnxruntime-gpu",
        )
    path = model if isinstance(model, Path) else "The model"
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror}.",
            "an ONNX file, as dermdistill export writes it",
            "Check the path and your right to read it.",
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is told by the exceptions
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    providers = [_CUDA, "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    try:
        # From memory: a file's graph can then name no other file on this machine as its weights.
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        if "external data" in str(error).lower():
            raise WeightsError(
                f"{path} keeps its weights in other files.",
                "one file that holds everything",
                "Export it again, with the weights inside.",
            ) from None
        raise WeightsError(
            f"{path} is not an ONNX model that ONNX Runtime {onnxruntime.__version__} opens: "
            f"{_first_line(error)}",
            "an ONNX file, as dermdistill export writes it",
            "Export it again (dermdistill export RUN), or install a newer onnxruntime.",
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _read_card(session: onnxruntime.InferenceSession, path: Path) -> ModelCard:
    metadata = session.get_modelmeta().custom_metadata_map
    if not any(key.startswith(METADATA_PREFIX) for key in metadata):
        raise WeightsError(
            f"{path} has no model card.",
            "input size, normalisation and threshold in the file's metadata",
            "Make it with dermdistill export RUN.",
        )
    try:
        return ModelCard.from_metadata(metadata, str(path))
    except DataError as error:
        raise WeightsError(error.found, error.expected, error.fix) from None


def _check_face(session: onnxruntime.InferenceSession, path: Path, card: ModelCard) -> None:
    """Names, types and shapes are the contract's; a side may be dynamic (a name) or the card's input size."""
    size = card.input_size
    for role, places, name, channels in (
        ("input", session.get_inputs(), INPUT, 3),
        ("output", session.get_outputs(), OUTPUT, 1),
    ):
        found = ", ".join(f"{p.name} {p.type} {p.shape}" for p in places) or "nothing"
        fits = len(places) == 1 and _fits(places[0], name, (channels, size, size))
        if not fits:
            raise WeightsError(
                f"{path} has the {role} {found}.",
                f"{name} tensor(float) [n, {channels}, {size}, {size}], the batch dynamic",
                "Make it with dermdistill export RUN.",
            )


def _fits(place: Any, name: str, wanted: tuple[int, int, int]) -> bool:
    if place.name != name or place.type != "tensor(float)" or len(place.shape) != 4:
        return False
    batch, *sides = place.shape
    return not isinstance(batch, int) and all(
        not isinstance(side, int) or side == want for side, want in zip(sides, wanted, strict=True)
    )
