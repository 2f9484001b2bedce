"""The public names: which they are, that importing them is cheap, and that the example of each runs."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dermdistill

NAMES = [name for name in dermdistill.__all__ if name != "__version__"]


def test_importing_and_predicting_do_not_import_torch() -> None:
    code = (
        "import sys, dermdistill; assert not {'numpy', 'onnxruntime'} & sys.modules.keys();"
        "dermdistill.Predictor, dermdistill.ModelCard, dermdistill.load_recipe;"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_are_these() -> None:
    assert dermdistill.__all__ == [
        "Comparison", "DermDistillError", "ModelCard", "Prediction", "Predictor", "PreparedData", "Recipe",
        "__version__", "bench_models", "bernoulli_kl_loss", "build_model", "compare_runs", "count_macs",
        "count_parameters", "distill", "ensure_prepared", "evaluate", "export_run", "figure_of_run",
        "load_recipe", "load_run", "outlined", "overlay", "prepare_folder", "prepare_phantom",
        "prepare_source", "read_image", "soft_dice_loss", "train",
    ]  # fmt: skip
    for name in dermdistill.__all__:
        assert isinstance(getattr(dermdistill, name), str | Callable), f"{name} is hidden by a module"
    with pytest.raises(AttributeError):
        dermdistill.nothing  # noqa: B018


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples in the docstring of a public name, and of its methods."""
    what = getattr(dermdistill, name)
    tests = doctest.DocTestFinder().find(what, name, module=inspect.getmodule(what))
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = examples_of(name)
    assert tests, f"{name} has no example in its docstring"
    monkeypatch.chdir(tmp_path)
    for test in tests:
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        told: list[str] = []
        runner.run(test, out=told.append)
        assert not runner.failures, "".join(told)


def test_a_wrong_example_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> None:
        """
        >>> 1 + 1
        3
        """

    monkeypatch.setattr(dermdistill, "wrong", wrong, raising=False)
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        test_the_example_runs("wrong", tmp_path, monkeypatch)
