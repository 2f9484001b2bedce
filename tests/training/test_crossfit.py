"""Cross-fitting: each training image is taught by the teacher that was trained without it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from dermdistill import cli
from dermdistill.artifacts.card import ModelCard, TeacherRecord
from dermdistill.config import Recipe, load_recipe, parse_recipe
from dermdistill.config.settings import KDSettings, LossSettings
from dermdistill.core.errors import ConfigError, MismatchError
from dermdistill.data.dataset import PreparedData, open_dataset
from dermdistill.data.prepare.split import part_of
from dermdistill.models.build import build_model
from dermdistill.models.ensemble import Ensemble, logits_of_mean, mean_logits
from dermdistill.report import arms, run_files
from dermdistill.training import objective, teachers
from dermdistill.training import run as training
from dermdistill.training.distillation_task import DistillationTask
from dermdistill.training.feed import training_data
from dermdistill.training.feed.batch import TrainingBatch
from dermdistill.workflows import model_card
from tinyruns import SIZE, tiny

TEACHER = """
name: brief
role: teacher
teacher: {arch: unet-w4}
data: {name: phantom, batch_size: 4}
trainer: {epochs: 1}
"""


@pytest.fixture(scope="module")
def data(root: Path) -> PreparedData:
    return open_dataset("phantom", root, SIZE)


@pytest.fixture(scope="module")
def taught(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of two cross-fitted teachers, which its recipe had fine-tuned first."""
    place = tmp_path_factory.mktemp("runs")
    brief = place / "brief.yaml"
    brief.write_text(TEACHER, encoding="utf-8")
    more = {"teacher.recipe": str(brief), "teacher.folds": 2}
    return training.distill(tiny("phantom", root, place, **more), progress=False)


def test_a_fold_leaves_its_part_out_and_the_card_tells(
    root: Path, data: PreparedData, taught: Path, tmp_path: Path
) -> None:
    train = data.indices("train").tolist()
    left = []
    for part in (0, 1):
        recipe = tiny("phantom", root, tmp_path, **{"data.fold": f"{part}/2"})
        kept = training_data.train_rows(recipe, data).tolist()
        assert kept == [row for row in train if part_of(data.manifest[row], 2) != part]
        left.append(set(train) - set(kept))
        card = ModelCard.read(taught.parent / f"brief-fold{part}of2" / "card.json")
        assert card.dataset["fold"] == f"{part}/2"
    assert left[0] | left[1] == set(train)
    assert not left[0] & left[1]
    assert min(map(len, left)) > 0


def test_the_recipe_fine_tunes_a_teacher_for_each_part(taught: Path, data: PreparedData) -> None:
    card = ModelCard.read(taught / "card.json")
    assert card.teacher is not None
    assert [one.fold for one in card.teacher.mean_of] == ["0/2", "1/2"]
    assert "fold" not in card.dataset, "the student learns from all images"
    words = model_card.to_markdown(card, file="x.onnx", size=1, data={}, summary={})
    assert "from 2 teachers, fine-tuned on lesions, each training image by those that" in words
    assert "trained without part 0/2, weights SHA-256" in words
    assert arms.describe(run_files.read_run(taught)).endswith("distilled from 2 cross-fitted teachers: kl 1")


def _no_training(*_: Any, **__: Any) -> Path:
    raise AssertionError("finished runs were named")


def test_they_are_used_again(root: Path, taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(taught.parent / f"brief-fold{part}of2") for part in (1, 0)]
    more = {"teacher.runs": folders, "teacher.folds": 2, "name": "again", "trainer.epochs": 1}
    monkeypatch.setattr(training, "train", _no_training)
    again = training.distill(tiny("phantom", root, taught.parent, **more), progress=False)
    card = ModelCard.read(again / "card.json")
    assert card.teacher is not None
    assert [one.fold for one in card.teacher.mean_of] == ["1/2", "0/2"]


def test_the_release_has_four_of_base_fine_tuned() -> None:
    release = load_recipe("release")
    made = [teachers.teacher_recipe(release, part) for part in range(4)]
    assert [one.name for one in made] == [f"teacher-base-fold{part}of4" for part in range(4)]
    assert [one.data.fold for one in made] == ["0/4", "1/4", "2/4", "3/4"]
    assert {(one.teacher.arch, one.data.name, one.data.size) for one in made} == {("base", "release", 192)}


def test_a_teacher_that_is_named_takes_the_place_of_the_recipes_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Recipe] = []
    monkeypatch.setattr(training, "distill", lambda recipe, **_: seen.append(recipe))
    for named in (["--teacher", "runs/one"], ["--teacher=runs/one"]):
        assert cli.main(["distill", "release", *named]) == 0
        assert (seen[-1].teacher.run, seen[-1].teacher.folds) == (Path("runs/one"), None)
    assert cli.main(["distill", "release"]) == 0
    assert (seen[-1].teacher.run, seen[-1].teacher.folds) == (None, 4)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["distill", "release", "--teacher", "runs/one", "--teacher.folds", "4"])
    assert stopped.value.code == 2
    assert "folds is 4" in "".join(capsys.readouterr())


def described(*folds: str | None) -> TeacherRecord:
    each = tuple(TeacherRecord(run=f"t{i}", fold=fold) for i, fold in enumerate(folds))
    return TeacherRecord(mean_of=each)


def test_who_teaches_which_image(data: PreparedData) -> None:
    found = teachers.make_teacher_mask(data, described("2/3", "0/3", "1/3", "0/3"), 3)
    assert found.shape == (len(data), 4)
    for row, chosen in zip(data.manifest, found.tolist(), strict=True):
        part = part_of(row, 3)
        expected = [part == 2, part == 0, part == 1, part == 0] if row.split == "train" else [True] * 4
        assert chosen == expected


@pytest.mark.parametrize(
    ("folds", "told"),
    [
        (("0/3", None, "2/3"), "t1 was trained on all parts"),
        (("0/3", "1/4", "2/3"), "t1 was trained without part 1/4"),
        (("0/3", "2/3"), r"(?s)without part 1/3.*found those for 0, 2.*--data.fold 0/3"),
    ],
)
def test_teachers_that_have_seen_an_image_are_refused(
    folds: tuple[str | None, ...], told: str, data: PreparedData
) -> None:
    with pytest.raises(MismatchError, match=told):
        teachers.make_teacher_mask(data, described(*folds), 3)


def test_nothing_is_left_behind_where_they_are_refused(root: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = tiny("phantom", root, tmp_path, **{"teacher.runs": [str(teacher)], "teacher.folds": 2})
    with pytest.raises(MismatchError, match="was trained on all parts"):
        training.distill(recipe, progress=False)
    assert not (tmp_path / recipe.name).exists()


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"teacher": {"folds": 4}}, "several teachers"),
        ({"teacher": {"folds": 4, "run": "a"}}, "several teachers"),
        ({"teacher": {"folds": 1, "recipe": "teacher-cpu"}}, "teacher.folds"),
        ({"data": {"fold": "4/4"}}, "K/N with K from 0"),
        ({"data": {"fold": "0/1"}}, "K/N with K from 0"),
        ({"data": {"fold": "half"}}, "K/N with K from 0"),
        ({"data": {"fold": "-1/4"}}, "K/N with K from 0"),
    ],
)
def test_settings_that_do_not_go_together(tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_recipe({"name": "x", **tree}, "x.yaml")


def test_the_teachers_recipe_has_the_students_images_less_a_part() -> None:
    tree = {"name": "x", "data": {"exclude": "audit.csv"}, "teacher": {"recipe": "teacher-cpu", "folds": 4}}
    recipe = parse_recipe(tree, "x.yaml")
    made = teachers.teacher_recipe(recipe, 2)
    assert (made.data.fold, made.name) == ("2/4", "isic2016-teacher-cpu-fold2of4")
    assert made.data.exclude == Path("audit.csv"), "a teacher would pass on what the student must not see"
    whole = teachers.teacher_recipe(recipe)
    assert (whole.data.fold, whole.name) == (None, "isic2016-teacher-cpu")


def test_what_the_teachers_own_recipe_leaves_out_stays_out(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(TEACHER.replace("batch_size: 4", "exclude: own.csv"), encoding="utf-8")
    recipe = parse_recipe({"name": "x", "teacher": {"recipe": str(path)}}, "x.yaml")
    assert teachers.teacher_recipe(recipe).data.exclude == Path("own.csv")


# -- what a step computes --------------------------------------------------------------------------------


def test_each_image_of_a_step_has_its_own_teacher() -> None:
    torch.manual_seed(0)
    nets = [build_model("unet-w4", norm="group").eval() for _ in range(2)]
    mask = torch.tensor([[True, False], [False, True], [True, True], [False, True]])
    task = DistillationTask(
        build_model("unet-w4", norm="group"), Ensemble(nets), teacher_mask=mask,
        augment=None,
        supervised=functools.partial(objective.supervised_losses, loss=LossSettings()),
        distilled=functools.partial(objective.distilled_losses, kd=KDSettings()),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        make_schedule=lambda optimizer: None,
        seed=0, val_count=1,
    ).train()  # fmt: skip
    batch = TrainingBatch(
        image=torch.rand(4, 3, SIZE, SIZE),
        mask=torch.ones(4, 1, SIZE, SIZE, dtype=torch.uint8),
        has_mask=torch.ones(4, dtype=torch.bool),
        row=torch.tensor([3, 0, 2, 1]),
        position=torch.arange(4),
    )
    found = task.compute_losses(batch).teacher_logits
    with torch.no_grad():
        one, other = (net(batch.image) for net in nets)
    both = mean_logits(torch.stack([one, other]))
    expected = torch.stack([other[0], one[1], both[2], other[3]])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert "teacher_mask" not in task.state_dict(), "it is of the data, and no weight"


def test_a_network_computes_its_own_images_alone() -> None:
    seen: list[list[float]] = [[], []]

    def net(which: int, image: torch.Tensor) -> torch.Tensor:
        seen[which] += image[:, 0, 0, 0].tolist()
        return image[:, :1]

    image = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    chosen = torch.tensor([[True, False], [True, True], [True, False], [True, False]])
    found = logits_of_mean([functools.partial(net, 0), functools.partial(net, 1)], image, chosen)
    assert seen == [[0.0, 1.0, 2.0, 3.0], [1.0]]
    torch.testing.assert_close(found, image[:, :1])


def test_a_silent_network_has_no_part_in_the_mean() -> None:
    """As a GPU computes it: every network answers, and some answers do not count."""
    logits = torch.tensor([[0.0, 150.0, -3.0], [4.0, -200.0, 60.0]]).view(2, 3, 1, 1, 1)
    chosen = torch.tensor([[True, True], [False, True], [True, False]])
    assert mean_logits(logits, chosen).flatten().tolist() == pytest.approx([1.05125, -200.0, -3.0], abs=1e-4)
