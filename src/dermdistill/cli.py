"""The command line: one verb per stage. The only place that prints and sets exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped on request. A user's mistake never shows a traceback;
``DERMDISTILL_DEBUG=1`` shows it for all errors.
"""

# No `from __future__ import annotations` here: tyro reads the verbs' annotations, which name its own types,
# and it is imported inside the verbs so that `dermdistill --help` stays quick.

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from dermdistill import config
from dermdistill._version import __version__
from dermdistill.errors import DataError, DermDistillError, MissingExtraError, UsageError

VERBS = {
    "prepare": "download or read images and masks, check them, split them, pack them",
    "train": "fine-tune a teacher, or train a student alone, by a recipe",
    "distill": "distil a teacher into a student, by a recipe",
    "evaluate": "score a run by the official ISIC protocol",
    "predict": "segment photos: masks, overlays, JSON",
    "figure": "show image, truth and prediction side by side",
    "demo": "the whole job on generated lesions, in a few minutes",
    "info": "versions, devices, what is installed",
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit code is returned."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"dermdistill {__version__}")
        return 0
    _set_up_logging()
    try:
        return _verb(arguments[0])(arguments[1:])
    except DermDistillError as error:
        if os.environ.get("DERMDISTILL_DEBUG"):
            raise
        print(f"dermdistill: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("dermdistill: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run() -> None:
    """Entry point of the ``dermdistill`` command."""
    sys.exit(main())


def _overview() -> str:
    lines = [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: dermdistill VERB …    (dermdistill VERB --help explains each)",
            "",
            *lines,
            "",
            "Shipped recipes: " + ", ".join(path.stem for path in config.shipped_recipes()),
            "Not a medical device.",
        ]
    )


def _verb(name: str) -> Callable[[list[str]], int]:
    match name:
        case "prepare":
            return _prepare
        case "train" | "distill":
            return lambda arguments: _learn(name, arguments)
        case "evaluate":
            return _evaluate
        case "predict":
            return _predict
        case "figure":
            return _figure
        case "demo":
            return _demo
        case "info":
            return _info
    import difflib

    near = difflib.get_close_matches(name, VERBS, n=1)
    hint = f"perhaps you meant {near[0]!r}." if near else "dermdistill --help lists them."
    raise UsageError(f"There is no verb {name!r}.", f"one of {', '.join(VERBS)}", hint)


class _TqdmHandler(logging.StreamHandler[Any]):
    """Log lines that do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def _set_up_logging() -> None:
    handler = _TqdmHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("dermdistill")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.DEBUG if os.environ.get("DERMDISTILL_DEBUG") else logging.INFO)
    # Lightning's banners and tips are not ours to show.
    # (By part: Lightning sets the level of its top logger itself when it is imported.)
    for part in ("fabric", "pytorch.trainer", "pytorch.loops", "pytorch.callbacks", "pytorch.utilities"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)


def _show_progress() -> bool:
    return sys.stderr.isatty()


def _need_train_extra(verb: str) -> None:
    missing = [name for name in ("torch", "lightning", "kornia") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"dermdistill {verb} needs {', '.join(missing)}, which is not installed.",
            "the training part of dermdistill",
            "pip install 'dermdistill[train]'",
        )


def _parse(function: Callable[..., int], verb: str, arguments: list[str]) -> int:
    import tyro

    return tyro.cli(function, prog=f"dermdistill {verb}", args=arguments)


# -- verbs ----------------------------------------------------------------------------------------------


def _learn(verb: str, arguments: list[str]) -> int:
    import tyro

    resume, overwrite = _take(arguments, "--resume"), _take(arguments, "--overwrite")
    # --teacher RUN is short for --teacher.run RUN.
    arguments = [
        "--teacher.run" if a == "--teacher" else a.replace("--teacher=", "--teacher.run=", 1)
        for a in arguments
    ]
    asks_help = any(a in ("-h", "--help") for a in arguments)
    if arguments and not arguments[0].startswith("-"):
        recipe = config.load_recipe(arguments.pop(0))
    elif asks_help:
        recipe = config.Recipe(name="NAME")
    else:
        raise UsageError(
            f"dermdistill {verb} needs a recipe.",
            f"dermdistill {verb} RECIPE [--field value …] [--resume | --overwrite]",
            f"shipped are: {', '.join(path.stem for path in config.shipped_recipes())}.",
        )
    recipe = tyro.cli(
        config.Recipe,
        default=recipe,
        args=arguments,
        prog=f"dermdistill {verb} RECIPE [--resume] [--overwrite]",
        description="Every field of the recipe can be set here. --resume goes on with an unfinished run, "
        "--overwrite starts it anew"
        + (", --teacher RUN names a finished teacher run." if verb == "distill" else "."),
    )
    recipe = config.parse_recipe(config.to_tree(recipe), "the command line")
    _need_train_extra(verb)
    from dermdistill import training

    do = training.train if verb == "train" else training.distill
    folder = do(recipe, resume=resume, overwrite=overwrite, progress=_show_progress())
    from dermdistill import runs

    if runs.is_first_process():
        print(folder)
    return 0


def _take(arguments: list[str], flag: str) -> bool:
    found = flag in arguments
    if found:
        arguments.remove(flag)
    return found


def _prepare(arguments: list[str]) -> int:
    import tyro
    from tyro.conf import Positional

    def prepare(
        source: Positional[Literal["phantom", "isic2016", "isic2017", "isic2018", "ph2", "own"]] = "own",
        /,
        name: str | None = None,
        root: Path = Path("data"),
        size: int = 256,
        seed: int = 0,
        val_fraction: float = 0.15,
        part: Literal["1", "3b"] = "1",
        archives: Path | None = None,
        images: Path | None = None,
        masks: Path | None = None,
        test_images: Path | None = None,
        test_masks: Path | None = None,
        manifest: Path | None = None,
        split_column: str = "split",
        allow_empty: bool = False,
        verify: bool = True,
        discard_archives: bool = False,
        diagnosis_column: str | None = None,
        count: int = 240,
    ) -> int:
        """Prepare a data set: the catalogue's (downloaded, checked), or a folder of one's own.

        Args:
            source: A data set of the catalogue; left out: --images and --masks give one's own.
            name: Name of the prepared set (own: the images' folder's name).
            root: Folder that holds prepared data sets.
            size: Side in pixels of the packed squares (32 to 2048).
            seed: Of the validation split (and of the phantoms).
            val_fraction: Share of the training images to validate on, where no official split says.
            part: isic2016: 1 (segmentation) or 3b (with diagnosis).
            archives: Take the archives from this folder; nothing is downloaded.
            images: Folder of images (JPEG, PNG, BMP, TIFF).
            masks: Folder of masks, matched by stem (_Segmentation, _segmentation, _mask, _lesion or none).
            test_images: Folder of test images, kept apart.
            test_masks: Folder of their masks.
            manifest: CSV with image_id and any of split, diagnosis, group (lesion_id, patient_id).
            split_column: Column of the manifest that gives the split.
            allow_empty: Accept masks without a lesion.
            verify: Check the archives' checksums.
            discard_archives: Remove the downloads afterwards; the unpacked files stay.
            diagnosis_column: Column of the manifest that gives the diagnosis.
            count: phantom: how many.
        """
        from dermdistill.data import prepare as stage

        progress = _show_progress()
        if not 32 <= size <= 2048:
            raise UsageError(f"--size is {size}.", "32 to 2048 pixels")
        if not 0 < val_fraction < 1:
            raise UsageError(f"--val-fraction is {val_fraction}.", "more than 0 and less than 1")
        if source == "phantom":
            data = stage.prepare_phantom(
                root, count=count, size=size, seed=seed, name=name or "phantom", progress=progress
            )
        elif source != "own":
            data = stage.prepare_source(
                source,
                root,
                size=size,
                part=part,
                archives=archives,
                seed=seed,
                val_fraction=val_fraction,
                verify=verify,
                allow_empty=allow_empty,
                discard=discard_archives,
                progress=progress,
            )
        elif images is None or masks is None:
            raise UsageError(
                "Neither a data set of the catalogue nor folders of one's own were given.",
                "dermdistill prepare isic2016, or dermdistill prepare --images DIR --masks DIR",
            )
        else:
            data = stage.prepare_folder(
                name or images.resolve().name,
                root,
                images,
                masks,
                test_images=test_images,
                test_masks=test_masks,
                manifest=manifest,
                split_column=split_column,
                diagnosis_column=diagnosis_column,
                size=size,
                seed=seed,
                val_fraction=val_fraction,
                allow_empty=allow_empty,
                progress=progress,
            )
        counts = ", ".join(f"{len(data.indices(split))} {split}" for split in ("train", "val", "test"))
        print(f"{data.folder}: {counts}, {data.size}×{data.size}")
        return 0

    return tyro.cli(prepare, prog="dermdistill prepare", args=arguments)


def _evaluate(arguments: list[str]) -> int:
    import tyro
    from tyro.conf import Positional

    def evaluate(
        run: Positional[Path],
        /,
        data: str | None = None,
        split: Literal["train", "val", "test"] = "test",
        root: Path | None = None,
        out: Path | None = None,
        batch_size: int = 16,
        json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
    ) -> int:
        """Score a run by the official ISIC protocol: per image, at native size, mean over images.

        Args:
            run: Run folder, or a weights file with its card.json beside it.
            data: Prepared data set (default: the one it was trained on).
            split: Which of its splits.
            root: Folder that holds prepared data sets (default: the run's).
            out: Where the results go (default: RUN/evaluation/DATA-SPLIT).
            batch_size: Images at once.
            json_output: Print the summary as JSON.
        """
        _need_train_extra("evaluate")
        from dermdistill.evaluation import evaluate as stage

        summary = stage(
            run, data=data, split=split, root=root, out=out, batch_size=batch_size, progress=_show_progress()
        )
        if json_output:
            print(json.dumps(summary.to_json(), indent=2))
            return 0
        print(summary.to_text())
        return 0

    return tyro.cli(evaluate, prog="dermdistill evaluate", args=arguments)


def _predict(arguments: list[str]) -> int:
    import tyro
    from tyro.conf import Positional

    def predict(
        paths: Positional[list[str]],
        /,
        model: Path,
        out: Path = Path("predictions"),
        batch_size: int = 8,
    ) -> int:
        """Segment images: a mask and an overlay for each, and one JSON line on standard output.

        Args:
            paths: Files, folders or globs.
            model: Run folder, or a weights file with its card.json beside it.
            out: Folder for masks, overlays and predictions.jsonl.
            batch_size: Images at once.
        """
        from dermdistill.predict import Predictor, find_images, write_outputs

        if not paths:
            raise UsageError("No image was named.", "dermdistill predict PATH… --model RUN")
        found = find_images(paths)
        _need_train_extra("predict")
        from dermdistill.models.torch_backend import TorchBackend, load_run

        net, card = load_run(model)
        predictor = Predictor(card, TorchBackend(net))
        failed = 0
        for line in write_outputs(
            out, predictor.predict_many(found, batch_size), total=len(found), progress=_show_progress()
        ):
            if isinstance(line, DataError):
                failed += 1
                print(f"dermdistill: {line}", file=sys.stderr)
            else:
                print(json.dumps(line, ensure_ascii=False))
        print(f"{len(found) - failed} of {len(found)} images segmented into {out}", file=sys.stderr)
        return 1 if failed else 0

    return tyro.cli(predict, prog="dermdistill predict", args=arguments)


def _figure(arguments: list[str]) -> int:
    import tyro
    from tyro.conf import Positional

    def figure(
        run: Positional[Path],
        /,
        ids: tuple[str, ...] = (),
        count: int = 6,
        split: Literal["train", "val", "test"] = "val",
        data: str | None = None,
        root: Path | None = None,
        teacher: Path | None = None,
        seed: int = 0,
        out: Path | None = None,
    ) -> int:
        """Image, truth and prediction side by side.

        Args:
            run: Run folder.
            ids: Image ids to show (default: a seeded choice).
            count: How many to choose.
            split: From which split.
            data: Prepared data set (default: the one it was trained on).
            root: Folder that holds prepared data sets.
            teacher: A teacher's run folder: its prediction becomes a fourth column.
            seed: Of the choice.
            out: PNG file (default: RUN/figures/SPLIT.png).
        """
        _need_train_extra("figure")
        from dermdistill.evaluation import figure_of_run

        path = figure_of_run(
            run,
            ids=list(ids),
            count=count,
            split=split,
            data=data,
            root=root,
            teacher=teacher,
            seed=seed,
            out=out,
        )
        print(path)
        return 0

    return tyro.cli(figure, prog="dermdistill figure", args=arguments)


def _demo(arguments: list[str]) -> int:
    import tyro

    def demo(out: Path = Path("runs/demo"), count: int = 200, size: int = 128, epochs: int = 10) -> int:
        """The whole job on generated lesions: prepare, fine-tune, distil, evaluate, predict.

        Args:
            out: Folder for everything it makes (made anew each time).
            count: Phantoms.
            size: Their side in pixels.
            epochs: Of each of the three trainings.
        """
        _need_train_extra("demo")
        from dermdistill.demo import run_demo

        print(run_demo(out, count=count, size=size, epochs=epochs, progress=_show_progress()))
        return 0

    return tyro.cli(demo, prog="dermdistill demo", args=arguments)


def _info(arguments: list[str]) -> int:
    import tyro

    def info(json_output: Annotated[bool, tyro.conf.arg(name="json")] = False) -> int:
        """Versions, devices, what is installed.

        Args:
            json_output: Print JSON.
        """
        from dermdistill.card import versions

        found: dict[str, Any] = {
            "versions": versions(),
            "cpu_count": os.cpu_count(),
            "gpus": [],
            "train": True,
        }
        try:
            _need_train_extra("train")
        except MissingExtraError:
            found["train"] = False
        else:
            import torch

            found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            found["mps"] = torch.backends.mps.is_available()
        found["recipes"] = [path.stem for path in config.shipped_recipes()]
        if json_output:
            print(json.dumps(found, indent=2))
            return 0
        for name, version in found["versions"].items():
            print(f"{name:<30}{version}")
        print(f"{'CPU threads':<30}{found['cpu_count']}")
        print(f"{'GPUs':<30}{', '.join(found['gpus']) or 'none'}")
        extra = "installed" if found["train"] else "absent: pip install 'dermdistill[train]'"
        print(f"{'dermdistill[train]':<30}{extra}")
        print(f"{'recipes':<30}{', '.join(found['recipes'])}")
        return 0

    return tyro.cli(info, prog="dermdistill info", args=arguments)
