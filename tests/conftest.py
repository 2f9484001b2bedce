"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from jaxtyping import install_import_hook

# Tests are many small computations, and run side by side: more threads only fight over the cores. PyTorch and
# what it calls read this when they are imported, here and in the processes that tests start.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Shapes and types in the annotations of these modules are checked in tests only (users pay nothing for it).
install_import_hook(
    ["dermdistill.losses", "dermdistill.training.feed.augmentation", "dermdistill.models"],
    typechecker="beartype.beartype",
)

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _our_logger_as_it_was() -> None:
    """The command line sets our logger up for a terminal: tests after it must be able to read it."""
    ours = logging.getLogger("dermdistill")
    ours.handlers, ours.propagate = [], True
    ours.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real dermoscopic images (ISIC 2017 at 256×256), which is not part of this repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL IMAGES ARE ABSENT: {SHARED_DATA} does not exist, this test did not run")
    return SHARED_DATA


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    """torch.compile cannot see through the checks of annotations that tests switch on; nor is anything
    remembered that was compiled before or in the test."""
    import torch

    torch.compiler.reset()
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of prepared data sets, with phantoms of 48×48 in it."""
    from tinyruns import make_phantoms

    return make_phantoms(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def teacher(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished teacher on the phantoms of ``root``."""
    from dermdistill.training.run import train
    from tinyruns import tiny

    recipe = tiny("teacher-phantom", root, tmp_path_factory.mktemp("runs"), **{"teacher.arch": "unet-w4"})
    return train(recipe, progress=False)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it: the smallest student, a few steps on phantoms of 64×64."""
    import torch

    from dermdistill.artifacts.card import make_card
    from dermdistill.data.prepare.phantom import make_phantom
    from dermdistill.models.build import build_model, count_parameters

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    phantoms = [make_phantom(7, index, 64) for index in range(16)]
    images = torch.stack([torch.tensor(p.image).permute(2, 0, 1) / 255 for p in phantoms])
    masks = torch.stack([torch.tensor(p.mask)[None].float() for p in phantoms])
    net = build_model("unet-w4").train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(net.net.state_dict(), folder / "best_student_model.pth")
    make_card(
        role="student", model=net.spec.to_dict(), input_size=64, mean=net.mean.flatten().tolist(),
        std=net.std.flatten().tolist(), weights="best_student_model.pth", recipe="tiny", seed=0,
        dataset={"name": "phantom", "fingerprint": "none"}, parameters=count_parameters(net),
    ).with_scores(folder / "best_student_model.pth", 1, {}).write(folder / "card.json")  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def tiny_onnx(tiny_run: Path) -> Path:
    """The same student as an ONNX file, made with torch and onnx alone (not by our own export)."""
    import warnings

    import onnx
    import torch

    from dermdistill.models.torch_backend import load_run

    net, card = load_run(tiny_run)
    path = tiny_run / "student.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what Python and torch deprecate
        torch.onnx.export(
            net, (torch.zeros(2, 3, 64, 64),), path, input_names=["image"], output_names=["logits"],
            dynamic_shapes={"image": {0: torch.export.Dim("n", min=1, max=64)}}, opset_version=18,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    model = onnx.load(path)
    for key, value in card.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path
