"""The completion scripts in real shells: what Tab offers at the end of a line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from dermdistill import cli, config
from dermdistill.cli.completion import script
from dermdistill.cli.parsers import parser_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the three shells are those of Unix")

SHELLS: tuple[Literal["bash", "zsh", "fish"], ...] = ("bash", "zsh", "fish")
RECIPES = {path.stem for path in config.shipped_recipes()}
STUDIES = {path.stem for path in config.shipped_studies()}

# Tab at the end of the words: bash's own way to ask a completion function.
BASH = r"""
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
read -r _ _ _ _ function _ < <(complete -p dermdistill)
"$function"
printf '%s\n' "${COMPREPLY[@]}"
"""

FISH = r"""
source $argv[1]
complete -C "$argv[2..]" | string split -f1 \t
"""

# zsh completes in an interactive shell only: one in a pseudo-terminal, whose Tab also writes to a file what
# is offered. The script is found in $fpath under the name _dermdistill, as its users put it there.
ZSHRC = r"""
unset zle_bracketed_paste
fpath=($ZDOTDIR $fpath)
autoload -Uz compinit && compinit -u -D
compadd() {
  if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
    local -a hits
    builtin compadd -O hits "$@"
    (( $#hits )) && print -rl -- $hits >> $ZDOTDIR/offered
  fi
  builtin compadd "$@"
}
tell() { zle complete-word; print > $ZDOTDIR/told }
zle -N tell
bindkey '^I' tell
print > $ZDOTDIR/ready
"""
ZSH = r"""
zmodload zsh/zpty zsh/zselect
await() { repeat 400; do [[ -e $ZDOTDIR/$1 ]] && return; zselect -t 5; done; print -u2 "no $1"; exit 1 }
export ZDOTDIR=${1:h}
rm -f $ZDOTDIR/(offered|told|ready)(N)
shift
zpty shell zsh -d -i
await ready
zpty -n -w shell "$*"$'\t'
await told
[[ -e $ZDOTDIR/offered ]] && cat $ZDOTDIR/offered
zpty -d shell
"""


def _run(shell: str, text: str, *arguments: str, cwd: Path) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} IS ABSENT: its completion was not tried")
    done = subprocess.run(
        [shell, *(["-f"] if shell == "zsh" else ["--no-config"] if shell == "fish" else ["--norc"]),
         "-c", text, *([] if shell == "fish" else [shell]), *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(cwd), "TERM": "dumb"},
    )  # fmt: skip
    assert not done.stderr.strip(), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def offers(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """A function: what a shell offers for the last of the words, in a folder with photo.jpg in it."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "photo.jpg").touch()
    made = {"bash": folder / "script.bash", "zsh": folder / "_dermdistill", "fish": folder / "script.fish"}
    for shell in SHELLS:
        made[shell].write_text(script(shell) + "\n", encoding="utf-8")
    (folder / ".zshrc").write_text(ZSHRC, encoding="utf-8")

    def ask(shell: str, *words: str) -> set[str]:
        text = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
        told = _run(shell, text, str(made[shell]), "dermdistill", *words, cwd=folder)
        return {line.strip() for line in told.splitlines()} - {""}

    return ask


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], set(cli.VERBS)),
        (["dis"], {"distill"}),
        (["train", "teacher-"], {name for name in RECIPES if name.startswith("teacher-")}),
        (["distill", "isic"], {name for name in RECIPES if name.startswith("isic")}),
        (["distill", "phantom", "--kd.temp"], {"--kd.temperature"}),
        (["distill", "phantom", "--optim.name", ""], {"adam", "adamw", "sgd"}),
        (["study", "study-"], STUDIES),
        (["recipes", "study-"], STUDIES),
        (["study", "phantom", "--teacher-recipe", "teacher-p"], {"teacher-phantom"}),
        (["prepare", "isic"], {"isic2016", "isic2017", "isic2018"}),
        (["prepare", "isic2016", "--par"], {"--part"}),
        (["prepare", "own", "--images", "pho"], {"photo.jpg"}),
        (["predict", "pho"], {"photo.jpg"}),
        (["predict", "photo.jpg", "--model", "pho"], {"photo.jpg"}),
        (["train", "pho"], {"photo.jpg"}),
        (["predict", "--tt"], {"--tta"}),
        (["completion", ""], set(SHELLS)),
        (["frobnicate", "--tt"], set()),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_tab(offers: Callable[..., set[str]], shell: str, words: list[str], offered: set[str]) -> None:
    found = offers(shell, *words)
    if words in (["train", "pho"], ["distill", "isic"]):
        # Recipes and files alike: a shell may offer what merely holds the letters too.
        assert offered <= found
    else:
        assert found == offered


@pytest.mark.parametrize("verb", [verb for verb in cli.VERBS if verb != "prepare"])
def test_the_options_offered_are_those_that_help_shows(
    verb: str, offers: Callable[..., set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\b", capsys.readouterr().out))
    described = {flag for action in parser_of(verb)._actions for flag in action.option_strings}
    if verb == "study":  # its help shows its own options, and says that the recipe's fields can be set too
        assert set(re.findall(r"--[\w.-]+", " ".join(described))) >= shown - {"--help", "--data.name"}
    else:
        assert described | {"--help"} == shown - (
            {"--teacher"} if verb == "train" else set()
        )  # in a doc only
    assert offers("bash", verb, "--") == described | {"--help"}


def test_an_option_that_no_verb_has_is_not_offered(offers: Callable[..., set[str]]) -> None:
    for shell in SHELLS:
        assert offers(shell, "predict", "--kd") == set()


def test_the_verb_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        assert cli.main(["completion", shell]) == 0
        assert capsys.readouterr().out == script(shell) + "\n"
    with pytest.raises(SystemExit) as caught:
        cli.main(["completion", "cmd"])
    assert caught.value.code == 2


def test_describing_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys; from dermdistill.cli.parsers import whole_parser; whole_parser();"
        "heavy = {'torch', 'onnxruntime', 'matplotlib', 'scipy', 'fastapi'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
