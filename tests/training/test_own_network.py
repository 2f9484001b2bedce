"""A network of the user's own through the stages: trained, resumed, scored, exported, teaching."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dermdistill import cli
from dermdistill.artifacts.card import ModelCard
from dermdistill.config import differences, load_recipe
from dermdistill.core.errors import Interrupted, MismatchError, UsageError
from dermdistill.core.files import hash_file
from dermdistill.data.dataset import open_dataset
from dermdistill.evaluation.evaluate import evaluate
from dermdistill.evaluation.gallery import figure_of_run
from dermdistill.evaluation.score_anything import score_anything
from dermdistill.export.export import export_run
from dermdistill.models.torch_backend import load_run
from dermdistill.study.cells import make_job
from dermdistill.study.settings import Cell, cell_recipe, parse_study
from dermdistill.training import run as training
from dermdistill.training import teachers
from tinyruns import SIZE, tiny
from usercode import NETWORK, write_network

OPTIONS = {"width": 6, "classes": 2}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_network(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="module")
def own_run(file: str, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a student of the user's own."""
    more = {"student.arch": f"{file}:TinyNet", "student.options": OPTIONS, "student.channel": 1}
    place = tmp_path_factory.mktemp("runs")
    return training.train(
        tiny("student-phantom", root, place, **more, **{"student.encoder": "resnet18"}), progress=False
    )


def test_the_run_and_its_card_keep_the_file_s_hash(own_run: Path, file: str) -> None:
    card = ModelCard.read(own_run / "card.json")
    assert card.model["arch"] == "my_net.py:TinyNet", "where it lay is nobody's business"
    assert card.model["file_sha256"] == hash_file(Path(file))
    assert (card.model["options"], card.model["channel"]) == (OPTIONS, 1)
    assert (own_run / "code" / "student.arch.py").read_bytes() == Path(file).read_bytes()


def test_no_run_has_code_run(own_run: Path, file: str, root: Path, tmp_path: Path) -> None:
    """Whatever a run's folder says: only a file that is named now is run."""
    trap = tmp_path / "ran"
    for place in (own_run / "code" / "student.arch.py", tmp_path / "my_net.py"):
        place.write_text(f"open({str(trap)!r}, 'w')\n{NETWORK}", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for call in (
            lambda: load_run(own_run),
            lambda: evaluate(own_run, progress=False),
            lambda: export_run(own_run, progress=False),
            lambda: figure_of_run(own_run, progress=False),
            lambda: score_anything(own_run, data="phantom", root=root),
        ):
            with pytest.raises(UsageError, match=r"may not name code(?s:.*)--arch FILE\.py:TinyNet"):
                call()
        assert cli.main(["predict", "photo.jpg", "--model", str(own_run)]) == 2
        assert cli.main(["bench", str(own_run), "--rounds", "1"]) == 2
    assert not trap.exists()
    (own_run / "code" / "student.arch.py").write_text(NETWORK, encoding="utf-8")


def test_it_is_scored_drawn_and_exported_with_the_file_named(
    own_run: Path, file: str, root: Path, tmp_path: Path
) -> None:
    arch = f"{file}:TinyNet"
    summary = evaluate(own_run, arch=arch, progress=False)
    assert figure_of_run(own_run, arch=arch, count=1, progress=False).is_file()
    exported = export_run(own_run, arch=arch, precisions=("fp32",), out=tmp_path / "x", progress=False)
    assert exported.measured["fp32"].logit_difference < 1e-4
    found = score_anything(
        own_run, arch=arch, data="phantom", root=root, out=tmp_path / "s", workers=1, progress=False
    )
    given = found.to_json()["scores"]["dice_per_image_mean"]["mean"]
    assert given == pytest.approx(summary.scores["dice_per_image_mean"].mean, abs=1e-4)
    assert arch not in json.dumps(found.to_json()), "what is written down is not what may be run"


def test_a_changed_file_is_told_when_scored(
    own_run: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_network(tmp_path)
    load_run(own_run, f"{other}:TinyNet")
    assert "is not the file" not in caplog.text
    Path(other).write_text(NETWORK.replace(".relu()", ".tanh()"), encoding="utf-8")
    load_run(own_run, f"{other}:TinyNet")
    assert "is not the file that" in caplog.text


def test_a_run_does_not_go_on_with_a_changed_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dermdistill.training.checkpoints import Resumable

    file = write_network(tmp_path)
    recipe = tiny("student-phantom", root, tmp_path, **{"student.arch": f"{file}:TinyNet"})
    original = Resumable.on_train_batch_start

    def stop(self: Resumable, trainer: Any, *rest: Any) -> None:
        self.signal = 15 if trainer.current_epoch == 1 else None
        original(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", stop)
        with pytest.raises(Interrupted):
            training.train(recipe, progress=False)
    Path(file).write_text(NETWORK.replace(".relu()", ".tanh()"), encoding="utf-8")
    with pytest.raises(MismatchError, match=r"my_net\.py has changed since (?s:.*)code.student\.arch\.py"):
        training.train(recipe, resume=True, progress=False)
    assert (recipe.runs_root / recipe.name / "code" / "student.arch.py").read_text() == NETWORK
    Path(file).write_text(NETWORK, encoding="utf-8")
    assert (training.train(recipe, resume=True, progress=False) / "finished").exists()


def test_its_output_is_checked_before_training(file: str, root: Path, tmp_path: Path) -> None:
    recipe = tiny("student-phantom", root, tmp_path, **{"student.arch": f"{file}:Dict"})
    with pytest.raises(UsageError, match="returns dict"):
        training.train(recipe, progress=False)


def test_a_teacher_of_one_s_own_is_fine_tuned_and_teaches(file: str, root: Path, tmp_path: Path) -> None:
    """Named once, in the student's recipe; its run then teaches only where the file is named again."""
    short = {"teacher.arch": f"{file}:TinyNet", "teacher.options": {"width": 5}, "trainer.epochs": 1}
    student = tiny("phantom", root, tmp_path, **short)
    taught = teachers.teacher_recipe(student)
    assert (taught.trained_arch, taught.teacher.options) == (f"{file}:TinyNet", {"width": 5})
    made = training.train(tiny("teacher-phantom", root, tmp_path, **short, name="t"), progress=False)
    data = open_dataset("phantom", root, SIZE)
    named = tiny("phantom", root, tmp_path, **short, **{"teacher.run": str(made)})
    net, record = teachers.find_teacher(named, data, fine_tune=lambda recipe: made)
    assert net.spec.options == {"width": 5}
    assert record.run == "t"
    unnamed = tiny("phantom", root, tmp_path, **{"teacher.run": str(made)})
    with pytest.raises(UsageError, match="may not name code"):
        teachers.find_teacher(unnamed, data, fine_tune=lambda recipe: made)
    by_recipe, _ = teachers.find_teacher(student, data, fine_tune=lambda recipe: made)
    assert torch.equal(by_recipe.net.head.weight, net.net.head.weight)


def test_a_teacher_as_its_file_makes_it(
    file: str, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"teacher.arch": f"{file}:seeded", "teacher.recipe": None, "trainer.epochs": 1}
    folder = training.distill(tiny("phantom", root, tmp_path, **more), progress=False)
    assert "is not known: they may be images of this test split" in caplog.text
    record = ModelCard.read(folder / "card.json").teacher
    assert record is not None
    assert record.model is not None
    assert record.model["arch"] == "my_net.py:seeded"
    assert record.weights_sha256
    data = open_dataset("phantom", root, SIZE)
    again = teachers.find_teacher(tiny("phantom", root, tmp_path, **more), data, fine_tune=lambda _: tmp_path)
    teachers.check_same_teacher(record, again[1])
    other = tiny("phantom", root, tmp_path, **more | {"teacher.arch": f"{file}:TinyNet"})
    drawn = teachers.find_teacher(other, data, fine_tune=lambda _: tmp_path)[1]
    with pytest.raises(MismatchError, match="begun with the teacher"):
        teachers.check_same_teacher(record, drawn)


def test_a_study_names_the_files_of_its_recipes(file: str) -> None:
    arms = {"alone": {"verb": "train"}, "kl": {"overrides": {"student.options.width": 3}}}
    tree = {
        "name": "s", "recipe": "phantom", "arms": arms,
        "overrides": {
            "student.arch": f"{file}:TinyNet", "teacher.arch": f"{file}:seeded",
            "teacher.recipe": "teacher-phantom",
        },
    }  # fmt: skip
    settings = parse_study(tree, "here")
    recipe = cell_recipe(settings, Cell("kl", 0))
    assert (recipe.student.options, recipe.teacher.arch) == ({"width": 3}, f"{file}:seeded")
    job = make_job(settings, Cell("kl", 0))
    assert (job.arch, job.teacher_arch) == (f"{file}:TinyNet", f"{file}:seeded")
    assert make_job(settings, Cell("teacher", 0)).arch == f"{file}:seeded"


def test_options_are_one_setting() -> None:
    """Replaced as a whole, and read on the command line as a recipe writes them."""
    one = load_recipe("student-phantom", {"student.options": {"a": 1}})
    other = load_recipe("student-phantom", {"student.options": {"b": 2}})
    assert differences(one, other) == {"student.options": ({"a": 1}, {"b": 2})}


@pytest.mark.parametrize("text", ["{width", "width", "[1]"])
def test_options_that_are_no_mapping(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "student-phantom", "--student.options", text])
    assert "is no mapping" in " ".join(capsys.readouterr().err.split())
