"""The whole job on generated lesions, from nothing to a table: what ``make demo`` runs.

It is made of the same recipes and stages that real data take; only the pictures are generated.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from dermdistill.artifacts.card import ModelCard
from dermdistill.config import load_recipe
from dermdistill.core.errors import UsageError
from dermdistill.core.numbers import interval, percent, whole
from dermdistill.data.prepare.prepare import prepare_phantom
from dermdistill.evaluation.evaluate import evaluate
from dermdistill.evaluation.gallery import figure_of_run
from dermdistill.evaluation.summary import Summary
from dermdistill.inference.folder import predict_files
from dermdistill.inference.predictor import Predictor
from dermdistill.training import run as training

logger = logging.getLogger(__name__)

ARMS = {"teacher": "teacher-phantom", "student alone": "student-phantom", "distilled": "phantom"}


def run_demo(out: Path, *, count: int, size: int, epochs: int, progress: bool) -> str:
    """Prepare phantoms, train the three networks, evaluate, predict, draw.

    Args:
        out: Folder for data, runs, figures and predictions; an earlier demo there is replaced.
        count: Phantoms in all (training, validation and test).
        size: Their side in pixels.
        epochs: Of each training.

    Returns:
        The closing table and where things lie, as text.

    Raises:
        UsageError: ``out`` holds something that is not a demo.
    """
    marker = out / ".dermdistill-demo"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise UsageError(
            f"{out} holds other things than a demo.", "a new or empty folder", "Choose another --out."
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()

    logger.info("1/5 generating %d phantoms of %d×%d pixels", count, size, size)
    data = prepare_phantom(out / "data", count=count, size=size, seed=0, name="phantom", progress=progress)
    folders: dict[str, Path] = {}
    for step, (arm, recipe_name) in enumerate(ARMS.items(), start=2):
        logger.info("%d/5 %s", step, arm)
        overrides = {
            "runs_root": str(out),
            "data.root": str(out / "data"),
            "data.size": size,
            "trainer.epochs": epochs,
            "trainer.accelerator": "cpu",
        }
        if arm == "distilled":
            overrides["teacher.run"] = str(folders["teacher"])
        recipe = load_recipe(recipe_name, overrides)
        stage = training.distill if arm == "distilled" else training.train
        folders[arm] = stage(recipe, progress=progress)

    logger.info("5/5 evaluating, predicting, drawing")
    summaries = {arm: evaluate(folder, progress=progress) for arm, folder in folders.items()}
    distilled = folders["distilled"]
    figure = figure_of_run(distilled, count=4, teacher=folders["teacher"])
    paths = [data.image_path(int(row)) for row in data.indices("test")[:4]]
    for _ in predict_files(Predictor(distilled), paths, out / "predictions", progress=progress):
        pass
    return "\n".join(
        [
            _table(summaries, {arm: ModelCard.read(folder / "card.json") for arm, folder in folders.items()}),
            "",
            f"report:       {distilled / 'evaluation' / 'phantom-test'}",
            f"figures:      {figure}",
            f"predictions:  {out / 'predictions'}",
            f"TensorBoard:  tensorboard --logdir {out}",
            f"student:      {distilled / 'best_student_model.pth'}",
            "Generated lesions show that the machinery works; they say nothing about real ones.",
        ]
    )


def _table(summaries: dict[str, Summary], cards: dict[str, ModelCard]) -> str:
    lines = [f"{'':<15}{'parameters':>12}   {'test Dice (95 % CI)':<26}{'Jaccard':>8}"]
    for arm, summary in summaries.items():
        dice, jaccard = summary.scores["dice_per_image_mean"], summary.scores["jaccard_per_image_mean"]
        score = interval(dice, between=" to ")
        lines.append(f"{arm:<15}{whole(cards[arm].parameters):>12}   {score:<26}{percent(jaccard.mean):>8}")
    return "\n".join(lines)
