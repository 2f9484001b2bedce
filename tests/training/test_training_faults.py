"""What may happen to a training's data and disk while it runs: a message, and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from dermdistill.core.errors import DataError, MismatchError, WeightsError
from dermdistill.core.files import read_json
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.evaluation.evaluate import evaluate
from dermdistill.training import run as training
from dermdistill.training.checkpoints import Resumable
from tinyruns import tiny


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Path:
    """Prepared phantoms of the test's own, to be damaged."""
    shutil.copytree(root / "phantom", tmp_path / "data" / "phantom")
    return tmp_path / "data"


def test_a_pack_that_is_cut_under_a_running_training(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("student-phantom", own, tmp_path, **{"trainer.epochs": 3})
    pack, original = own / "phantom" / "pack-48" / "images.npy", Resumable.on_train_batch_start

    def cut(self: Resumable, trainer: Any, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.current_epoch == 1:
            os.truncate(pack, 200)

    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", cut)
        with pytest.raises(MismatchError, match=r"(?s)changed while it was in use.*--resume"):
            training.train(recipe, progress=False)
    shutil.rmtree(own / "phantom")  # as the message says; it is drawn again: 22 pictures, not the usual 240
    folder = training.train(recipe, resume=True, progress=False)
    assert (folder / "finished").exists()
    info = read_json(own / "phantom" / "dataset.json")
    assert sum(info["counts"].values()) == 22
    assert info["packs"].keys() == {"48"}


def test_a_removed_phantom_set_is_drawn_again_for_its_runs(own: Path, tiny_run: Path, tmp_path: Path) -> None:
    shutil.rmtree(own / "phantom")
    prepare_phantom(own, count=9, size=48, seed=5, val_fraction=0.3, name="mine", progress=False)
    folder = training.train(
        tiny("student-phantom", own, tmp_path, **{"data.name": "mine", "trainer.epochs": 1}), progress=False
    )
    shutil.rmtree(own / "mine")
    evaluate(folder, progress=False)
    known = read_json(folder / "card.json")["dataset"]
    assert known["generated"] == {"count": 9, "seed": 5, "val_fraction": 0.3}
    assert read_json(folder / "data.json") == known
    assert read_json(own / "mine" / "dataset.json")["settings"]["seed"] == 5


def test_a_run_is_not_gone_on_with_on_another_data_set(own: Path, tmp_path: Path) -> None:
    recipe = tiny("student-phantom", own, tmp_path, **{"trainer.epochs": 1})
    folder = training.train(recipe, progress=False)
    before = (folder / "best_student_model.pth").read_bytes()
    (folder / "finished").unlink()
    shutil.rmtree(own / "phantom")
    prepare_phantom(own, count=12, size=48, progress=False)
    with pytest.raises(MismatchError, match="is not the phantom that the run"):
        training.train(recipe, resume=True, progress=False)
    assert (folder / "best_student_model.pth").read_bytes() == before


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def without_optimizer(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "optimizer_states"}, path)


def of_another_network(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    torch.save(state | {"state_dict": {"a": torch.zeros(1)}}, path)


def test_a_checkpoint_that_cannot_be_gone_on_with_is_one_message(root: Path, tmp_path: Path) -> None:
    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 1})
    folder = training.train(recipe, progress=False)
    (folder / "finished").unlink()
    whole = (folder / "last.ckpt").read_bytes()
    for damage, message in (
        (cut, "cannot be read"),
        (without_optimizer, "has no optimizer_states"),
        (of_another_network, "of another network"),
        (lambda path: torch.save([1, 2], path), "no state of a training"),
    ):
        (folder / "last.ckpt").write_bytes(whole)
        damage(folder / "last.ckpt")
        with pytest.raises(WeightsError, match=f"(?s){message}.*--overwrite"):
            training.train(recipe, resume=True, progress=False)


def test_a_full_disk_under_tensorboard_is_one_message(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: RecordWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recipe = tiny("student-phantom", root, tmp_path, **{"trainer.epochs": 1})
    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", full)
        with pytest.raises(DataError, match=r"The disk is full: .*phantom-student-alone"):
            training.train(recipe, progress=False)
    assert "Traceback" not in capsys.readouterr().err
    assert (training.train(recipe, resume=True, progress=False) / "finished").exists()
