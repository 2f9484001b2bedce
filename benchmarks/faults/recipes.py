"""Recipes and run folders' config.yaml that are damaged or hostile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from benchmarks.faults.material import Material, copy_run
from benchmarks.faults.trial import START, Trial

GOOD = """name: x
data: {name: phantom, size: 48, batch_size: 4}
student: {arch: unet-w4}
trainer: {epochs: 1, accelerator: cpu}
"""
LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "a list": b"- a\n- b\n",
    "a number": b"42\n",
    "null": b"null\n",
    "noise": bytes(range(256)) * 20,
    "UTF-16": GOOD.encode("utf-16"),
    "tabs": GOOD.replace("\n", "\n\t").encode(),
    "cut": GOOD.encode()[:40],
    "alias bomb": LAUGHS.encode(),
    "alias bomb in a field": (LAUGHS + "name: x\nstudent: *a11\n").encode(),
    "alias to itself": b"name: x\ndata: &a {name: *a}\n",
    "merge of itself": b"name: x\ndata: &a\n  <<: *a\n",
    "6,000 digits": ("name: x\nseed: " + "9" * 6000 + "\n").encode(),
    "6,000 digits of a fraction": ("name: x\noptim: {lr: 0." + "9" * 6000 + "e999999}\n").encode(),
    "deep": b"name: " + b"[" * 20_000,
    "deep mappings": ("name: " + "{a: " * 3000 + "}" * 3000).encode(),
    "code": b"name: !!python/object/apply:os.system ['touch canary']\n",
    "code as object": b"!!python/object/new:pathlib.Path [canary]\n",
    "name up": GOOD.replace("name: x", "name: ../../escaped", 1).encode(),
    "absolute name": GOOD.replace("name: x", "name: /ABSOLUTE/escaped", 1).encode(),
    "empty name": GOOD.replace("name: x", "name: ''", 1).encode(),
    "long name": GOOD.replace("name: x", "name: " + "n" * 300, 1).encode(),
    "newline in name": GOOD.replace("name: x", 'name: "a\\nb"', 1).encode(),
    "NUL in name": GOOD.replace("name: x", 'name: "a\\0b"', 1).encode(),
    "escape code in name": GOOD.replace("name: x", 'name: "\\e[31mred"', 1).encode(),
    "data name up": GOOD.replace("name: phantom", "name: ../../x", 1).encode(),
    "size 0": GOOD.replace("size: 48", "size: 0", 1).encode(),
    "size 10^9": GOOD.replace("size: 48", "size: 1000000000", 1).encode(),
    "batch -1": GOOD.replace("batch_size: 4", "batch_size: -1", 1).encode(),
    "epochs NaN": GOOD.replace("epochs: 1", "epochs: .nan", 1).encode(),
    "infinite rate": (GOOD + "optim: {lr: .inf}\n").encode(),
    "keys of other kinds": b"1: 2\n? [a, b]\n: c\nnull: x\n2020-01-01: y\n",
}
"""By name: a recipe for ``train``, or the ``config.yaml`` of a run."""


def bad_recipes(material: Material, work: Path, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Each is given to ``train``; every fourth is a study's; nothing is written outside the runs' folder."""
    names = list(TEXTS)
    for number in range(count):
        name = names[number % len(names)]
        folder = work / f"{number}" / "a" / "b"
        folder.mkdir(parents=True)
        recipe = folder / "recipe.yaml"
        recipe.write_bytes(TEXTS[name].replace(b"/ABSOLUTE", bytes(work / f"{number}")))
        verb = "study" if number % 4 == 3 and b"epochs" not in TEXTS[name] else "train"
        words = (verb, recipe, "--runs-root", folder / "runs", "--data.root", material.root)
        done = material.product.run(*words, cwd=folder, patience=START / 2)
        lost = done.problems()
        strays = [*(work / f"{number}").rglob("escaped*"), *folder.rglob("canary")]
        lost += [f"written outside: {path}" for path in strays]
        yield Trial("recipes", name, tuple(lost))


def bad_configs(material: Material, work: Path, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """The ``config.yaml`` of a run that is gone on with, or read by ``evaluate`` and ``report``."""
    names = list(TEXTS)
    for number in range(count):
        name = names[int(rng.integers(len(names)))]
        run = copy_run(material, "student", work / f"{number}")
        (run / "config.yaml").write_bytes(TEXTS[name])
        words = [
            material.learn("train", run.parent, "student", "--resume"), ("report", run), ("evaluate", run),
        ][number % 3]  # fmt: skip
        done = material.product.run(*words, cwd=run.parent, patience=START)
        lost = done.problems()
        if not (run / "best_student_model.pth").exists():
            lost.append("the weights are gone")
        yield Trial("recipes", f"config.yaml {name}, {words[0]}", tuple(lost))
