"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import shutil
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
    from madeonce import made_once
    from tinyruns import tiny

    def make(run: Path) -> None:
        more = {"name": run.name, "teacher.arch": "unet-w4"}
        train(tiny("teacher-phantom", root, run.parent, **more), progress=False)

    return made_once(tmp_path_factory, "teacher", make)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it: the smallest student, a few steps on phantoms of 64×64."""
    from madeonce import made_once
    from tinyruns import make_student

    return made_once(tmp_path_factory, "tiny", make_student)


@pytest.fixture(scope="session")
def tiny_onnx(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same student as an ONNX file, made with torch and onnx alone (not by our own export)."""
    from madeonce import made_once
    from tinyruns import write_onnx

    made = made_once(tmp_path_factory, "onnx", lambda folder: write_onnx(tiny_run, folder / "student.onnx"))
    return Path(shutil.copy(made / "student.onnx", tiny_run))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve generated lesions, with the masks of three hands: the shipped student at three thresholds."""
    from PIL import Image

    from dermdistill import Predictor, prepare_phantom

    folder = tmp_path_factory.mktemp("pictures")
    data = prepare_phantom(folder, count=12, size=64, progress=False)
    (folder / "images").mkdir()
    predictor = Predictor(threads=1)
    hands = {"masks": 0.5, "tight": 0.85, "wide": 0.15}
    for hand in hands:
        (folder / hand).mkdir()
    for row in range(len(data)):
        image = Path(data.image_path(row))
        shutil.copy(image, folder / "images" / image.name)
        drawn = predictor(image)
        for hand, threshold in hands.items():
            Image.fromarray(255 * drawn.at(threshold).mask).save(folder / hand / f"{image.stem}.png")
    return folder
