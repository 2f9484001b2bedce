"""Weights, checkpoints and cards that are damaged, hostile or of another network."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lazy_loader
import numpy as np
import onnx
from benchmarks.faults.material import Material, copy_run
from benchmarks.faults.trial import PATIENCE, START, Trial

torch: Any = lazy_loader.load("torch")  # seconds, which a piece without weights need not spend
Rng = np.random.Generator


class _Runs:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def _cut(rng: Rng, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * rng.uniform(0.01, 0.99))])


def _flip(rng: Rng, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in rng.integers(0, len(content), 20):
        content[at] ^= 255
    path.write_bytes(bytes(content))


def _zero(rng: Rng, path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = int(rng.integers(0, len(content) // 2))
    content[at : at + len(content) // 4] = bytes(len(content) // 4)
    path.write_bytes(bytes(content))


def _code(rng: Rng, path: Path) -> None:
    path.write_bytes(pickle.dumps(_Runs(path.with_name("canary"))))


def _code_in_torch(rng: Rng, path: Path) -> None:
    torch.save({"state_dict": _Runs(path.with_name("canary"))}, path)


def _changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Rng, Path], None]:
    def damage(rng: Rng, path: Path) -> None:
        torch.save(change(torch.load(path, map_location="cpu", weights_only=True)), path)

    return damage


def _each(change: Callable[[Any], Any]) -> Callable[[Rng, Path], None]:
    return _changed(lambda state: {k: change(v) if v.is_floating_point() else v for k, v in state.items()})


WEIGHTS: dict[str, Callable[[Rng, Path], None]] = {
    "cut": _cut,
    "flipped": _flip,
    "zeroed": _zero,
    "empty": lambda rng, path: path.write_bytes(b"") and None,
    "code": _code,
    "code in a torch file": _code_in_torch,
    "no file": lambda rng, path: path.unlink(),
    "text": lambda rng, path: path.write_text("version https://git-lfs.github.com/spec/v1") and None,
    "all NaN": _each(lambda value: value * float("nan")),
    "infinite": _each(lambda value: value * float("inf")),
    "another shape": _each(lambda value: value.flatten()[:1]),
    "one tensor less": _changed(lambda state: dict(list(state.items())[1:])),
    "one tensor more": _changed(lambda state: state | {"more": torch.zeros(3)}),
    "a list": _changed(lambda state: list(state.values())),
}
"""Damages of ``best_student_model.pth``."""

CHECKPOINTS: dict[str, Callable[[Rng, Path], None]] = {
    "cut": _cut,
    "flipped": _flip,
    "empty": WEIGHTS["empty"],
    "code": _code,
    "no optimizer": _changed(lambda state: {k: v for k, v in state.items() if k != "optimizer_states"}),
    "no step": _changed(lambda state: {k: v for k, v in state.items() if k != "global_step"}),
    "another network": _changed(lambda state: state | {"state_dict": {"a": torch.zeros(1)}}),
    "a list": _changed(lambda state: [1, 2]),
}
"""Damages of ``last.ckpt``."""


def bad_checkpoints(material: Material, work: Path, rng: Rng, count: int) -> Iterator[Trial]:
    """Weights are given to ``predict`` and ``evaluate``, checkpoints to ``train --resume``."""
    cases = [("weights", *case) for case in WEIGHTS.items()]
    cases += [("checkpoint", *case) for case in CHECKPOINTS.items()]
    for number in range(count):
        what, name, damage = cases[number % len(cases)]
        run = copy_run(material, "student", work / f"{number}")
        path = run / ("best_student_model.pth" if what == "weights" else "last.ckpt")
        damage(rng, path)
        if what == "weights":
            if path.is_file() and name not in ("cut", "flipped", "zeroed"):
                _sign(run / "card.json", path)  # a hostile file has the right hash
            verb = ("predict", material.images[0]) if number % 2 else ("evaluate", run)
            more = ("--model", run, "--out", run / "out") if number % 2 else ("--root", material.root)
            words = (*verb, *more)
        else:
            (run / "finished").unlink()
            words = material.learn("train", run.parent, "student", "--resume", "--trainer.epochs", 3)
        before = {p: p.read_bytes() for p in run.glob("*.*") if p.is_file() and p.suffix in (".pth", ".json")}
        done = material.product.run(*words, cwd=run.parent, patience=START, warm=True)
        lost = done.problems()
        if (run / "canary").exists():
            lost.append("its code was run")
        if done.code:
            lost += [f"gone: {p.name}" for p, content in before.items() if p.read_bytes() != content]
        if what == "weights" and not done.code and name not in ("one tensor more",):
            lost.append("used without a word")
        yield Trial("checkpoints", f"{what}: {name}", tuple(lost))


def _sign(card: Path, weights: Path) -> None:
    tree = json.loads(card.read_text(encoding="utf-8"))
    tree["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    card.write_text(json.dumps(tree), encoding="utf-8")


FIELDS: list[tuple[str, str]] = [
    *(("input_size", text) for text in ("0", "-1", "1", "100000", "1e99", "null", '"x"', "33")),
    *(("mean", text) for text in ("[]", "[0.5]", "[1e300, 0, 0]", "[NaN, 0, 0]", "null")),
    *(("std", text) for text in ("[0, 0, 0]", "[-1, 1, 1]", "[Infinity, 1, 1]", "[1e-320, 1, 1]")),
    *(("threshold", text) for text in ("-1", "2", "NaN", '"high"', "null")),
    *(("model", text) for text in ("{}", '{"arch": "../../x"}', "[]")),
    *(("reference", text) for text in ("{}", "[1]", '{"features": {"a": [0]}}')),
    *(("weights", text) for text in ('"../../../etc/passwd"', '"/etc/passwd"')),
    ("format", "99"),
    ("role", '"x"'),
    ("seed", "9" * 6000),
    ("scores", "[" * 5000 + "]" * 5000),
]
"""A field of a card and the JSON that stands there. Those of ``reference`` may be passed over."""

TEXTS = ("", "[]", "null", "{", '{"format": 1}', "\ufeff{}", "[" * 100_000, '{"a": ' * 3000)
"""Whole cards beside weights."""


def bad_cards(material: Material, work: Path, rng: Rng, count: int) -> Iterator[Trial]:
    """Fields of the card inside an ONNX file; a fifth of them are whole cards beside weights."""
    model = onnx.load(material.onnx)
    texts = round(count / 5)
    for number in range(count):
        folder = work / f"{number}"
        if number < texts:
            text = TEXTS[number % len(TEXTS)]
            run = copy_run(material, "student", folder)
            (run / "card.json").write_text(text, encoding="utf-8")
            name, path = f"card.json {text[:12]!r}", run
        else:
            field, text = FIELDS[(number - texts) % len(FIELDS)]
            folder.mkdir(parents=True)
            name, path = f"{field} {text[:24]}", folder / "model.onnx"
            changed = onnx.ModelProto()
            changed.CopyFrom(model)
            for entry in changed.metadata_props:
                if entry.key == f"dermdistill.{field}":
                    entry.value = text
            onnx.save(changed, path)
        words = ("predict", material.images[0], "--model", path, "--out", folder / "out")
        done = material.product.run(*words, cwd=folder, patience=2 * PATIENCE, warm=number < texts)
        lost = done.problems()
        if not done.code and not name.startswith(("reference", "seed", "scores", "weights", "role", "model")):
            lost.append("used without a word")
        yield Trial("cards", name, tuple(lost))
