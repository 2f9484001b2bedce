"""What the release workflow asks of this repository, so that it can be tested and tried at home.

``python .github/release.py check v0.2.0`` compares the tag with the version and the changelog;
``python .github/release.py notes v0.2.0`` prints the changelog's section of that version;
``python .github/release.py assets v0.2.0 DIST OUT`` puts the student, its card and all checksums into OUT.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "dermdistill"


def version() -> str:
    """The package's version, read without importing it."""
    text = (PACKAGE / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, flags=re.MULTILINE)
    if found is None:
        raise SystemExit("src/dermdistill/_version.py holds no __version__")
    return found[1]


def check(tag: str) -> None:
    """End with a message where the tag is not v and the version, or the changelog does not tell of it."""
    if tag != f"v{version()}":
        raise SystemExit(f"The tag is {tag}, the version {version()}: set _version.py, or tag v{version()}.")
    notes(tag)


def notes(tag: str, changelog: str | None = None) -> str:
    """The changelog's section of a version, without its heading."""
    if changelog is None:
        changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", changelog, flags=re.MULTILINE)
    sections = dict(zip((title.split()[0].strip("[]") for title in parts[1::2]), parts[2::2], strict=True))
    text = sections.get(tag.removeprefix("v"), "").strip()
    if not text:
        raise SystemExit(f"CHANGELOG.md has no section '## {tag.removeprefix('v')}': rename 'Unreleased'.")
    return text


def assets(tag: str, dist: Path, out: Path) -> list[Path]:
    """Copy the student's ONNX file and card to ``out``, with SHA256SUMS of them and of the built files."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"dermdistill-student-{tag.removeprefix('v')}"
    made = [
        Path(shutil.copy(PACKAGE / "weights" / "student.onnx", out / f"{name}.onnx")),
        Path(shutil.copy(PACKAGE / "weights" / "MODEL_CARD.md", out / f"{name}.md")),
    ]
    built = sorted([*dist.glob("*.whl"), *dist.glob("*.tar.gz")])
    if len(built) != 2:
        raise SystemExit(f"{dist} holds {len(built)} built files: one wheel and one sdist are expected.")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in [*built, *made]]
    sums = out / "SHA256SUMS"
    sums.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return [*made, sums]


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    match arguments:
        case ["check", tag]:
            check(tag)
        case ["notes", tag]:
            sys.stdout.write(notes(tag) + "\n")
        case ["assets", tag, dist, out]:
            assets(tag, Path(dist), Path(out))
        case _:
            sys.stderr.write((__doc__ or "") + "\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
