"""Run a trained network with torch: load it from its run folder, and compute the predictor's batches."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dermdistill.artifacts.card import ModelCard
from dermdistill.core.errors import MismatchError, UsageError, WeightsError
from dermdistill.core.files import hash_file
from dermdistill.core.user_file import is_user_file
from dermdistill.models.build import build_model
from dermdistill.models.ensemble import as_one_network
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.styles import bias_shifts, fold_style
from dermdistill.models.user_net import check_output
from dermdistill.models.weights import load_strictly, load_weights, read_state

logger = logging.getLogger(__name__)


class TorchBackend:
    """Probabilities from a `LesionNet`.

    Args:
        net: The network; it is put into evaluation mode.
        device: Where to run; by default a GPU where there is one, else the CPU.
        threads: Of the CPU within one operation (a setting of the whole process); None: as it is.
    """

    def __init__(
        self, net: LesionNet, device: torch.device | str | None = None, threads: int | None = None
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = net.to(self.device).to(memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n, 3, s, s] in [0, 1] → probability float32 [n, 1, s, s]."""
        image = torch.from_numpy(batch).to(self.device)
        prob: NDArray[np.float32] = self.net(image).float().sigmoid().cpu().numpy()
        return prob


def load_run(path: Path, arch: str | None = None, style: str | None = None) -> tuple[LesionNet, ModelCard]:
    """The network and card of a run folder, or of a weights file with its card.json beside it.

    Args:
        path: The folder, or the file.
        arch: ``FILE.py:FACTORY`` as the user names it, where the run is of a network of the user's own. It is
            run, and for other runs left alone.
        style: Of the styles that the network was told in training, the one in which it shall draw; None: not
            told. It is folded into the network's biases (`models.styles`).

    Returns:
        The network in evaluation mode, and its card. Where no style was asked for, the card's ``styles`` say
        what each would add to which bias.

    Raises:
        UsageError: It is a network of the user's own, and ``arch`` does not name its file, or it knows no
            such style.
        WeightsError: There is no finished epoch in it, or the weights do not fit.
        MismatchError: The weights are not those that the card was written for.

    Examples:
        A student of one epoch on a few generated lesions, trained and read again:

        >>> from pathlib import Path
        >>> from dermdistill import load_recipe, load_run, prepare_phantom, train
        >>> data = prepare_phantom(Path("data"), count=6, size=32, progress=False)
        >>> recipe = load_recipe("student-phantom", {"data.size": 32, "trainer.epochs": 1})
        >>> net, card = load_run(train(recipe, progress=False))
        >>> card.model["arch"], card.input_size, net.training
        ('unet-w4', 32, False)
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise WeightsError(
            f"{path} does not exist.",
            "a run folder, or a .pth file with card.json beside it",
            "Check the path; dermdistill train and distill make run folders.",
        )
    if not (folder / "card.json").is_file():
        raise WeightsError(
            f"{folder} has no card.json.",
            "a run folder with at least one finished epoch",
            "Train it first, or go on with --resume.",
        )
    card = ModelCard.read(folder / "card.json")
    weights = folder / card.weights if path.is_dir() else path
    if not weights.is_file():
        raise WeightsError(
            f"{weights} does not exist.",
            f"the weights that {folder / 'card.json'} names",
            "Put the file back beside its card, or train again.",
        )
    found = hash_file(weights)
    if found != card.weights_sha256:
        raise MismatchError(
            f"{weights} has SHA-256 {found[:16]}…, its card says {card.weights_sha256[:16]}….",
            "the weights that the card was written for",
            "Take both files from the same run, or train again.",
        )
    nets = [_rebuild(card, folder, arch) for _ in range(card.model.get("members") or 1)]
    net = nets[0] if len(nets) == 1 else as_one_network(nets)
    load_weights(net, weights)
    styles = {} if style else {name: bias_shifts(net, name) for name in net.styles}
    return fold_style(net.eval(), style), card.model_copy(update={"styles": styles, "style": style})


def _rebuild(card: ModelCard, folder: Path, arch: str | None) -> LesionNet:
    """The network of a card, with random weights; code is run only as ``arch`` names it."""
    model, named, digest = card.model, str(card.model.get("arch")), str(card.model.get("file_sha256"))
    own = is_user_file(named)
    if own and not (arch and is_user_file(arch)):
        factory = named.rpartition(":")[2]
        raise UsageError(
            f"{folder} is of a network of your own, {named} (SHA-256 {digest[:12]}…). "
            "A run may not name code that is run.",
            "the file, named by you: FILE.py:FACTORY",
            f"If you trust the file, add --arch FILE.py:{factory} (of a teacher --teacher-arch, in distill "
            "and study --teacher.arch). predict, serve and calibrate take the ONNX file that export writes.",
        )
    net = build_model(
        arch if own and arch else named,
        model.get("encoder"),
        None,
        norm="group" if model.get("norm") == "group" else "batch",
        head="voc" if model.get("head") == "voc" else "lesion",
        statistics=(card.mean, card.std),
        options=model.get("options"),
        channel=model.get("channel"),
        styles=list(card.styles),
    )
    if own and arch:
        check_output(net, arch, card.input_size)
        if net.spec.file_sha256 != digest:
            logger.warning(
                "%s is not the file that %s was trained with (SHA-256 %s…, then %s…): the same weights may "
                "compute something else",
                arch, folder, str(net.spec.file_sha256)[:12], digest[:12],
            )  # fmt: skip
    return net


def load_last(net: LesionNet, folder: Path) -> str:
    """Load the weights of a run's last epoch; returns the file's SHA-256.

    A run of an earlier version may hold averaged weights too (``trainer.ema``); those are taken then, as they
    are what such a run validated and saved.

    Args:
        net: The network of `load_run`, which holds the best weights; changed in place.
        folder: The run folder.

    Raises:
        WeightsError: There is no ``last.ckpt``, or it is of another network.
    """
    path = folder / "last.ckpt"
    state = read_state(path)
    averaged = any(name.startswith(_AVERAGED) for name in state)
    prefix = _AVERAGED if averaged else _TRAINED
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    load_strictly(net.net, own, str(path))
    return hash_file(path)


# Names in a checkpoint of SegmentationTask: its network and, in earlier versions, the moving average of it.
_TRAINED, _AVERAGED = "net.net.", "averaged.module.net."
