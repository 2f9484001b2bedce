"""The page of the architecture names the packages that there are, on the floors of the import contract."""

from __future__ import annotations

import re
import tomllib

from commands import REPOSITORY

PAGE = REPOSITORY / "docs" / "design" / "architecture.md"
SOURCE = REPOSITORY / "src" / "dermdistill"


def floors_of_the_contract() -> dict[str, int]:
    """Package → floor, from the top, as lint-imports checks it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return {
        name.strip().removeprefix("dermdistill."): floor
        for floor, layer in enumerate(layers, start=1)
        for name in re.split("[:|]", layer)
    }


def test_the_page_has_the_floors_of_the_import_contract() -> None:
    rows = re.findall(r"^\| (\d) `(\w+)` \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    floors = {package: int(floor) for floor, package in rows}
    assert floors == floors_of_the_contract()
    assert set(floors) == {path.parent.name for path in SOURCE.glob("*/__init__.py")}


def test_the_modules_that_the_pages_name_are_there() -> None:
    pages = [
        *PAGE.parents[1].rglob("*.md"),
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    ]
    pages.append(REPOSITORY / "benchmarks" / "README.md")
    named = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"`([a-z_]+/[a-z0-9_/]+\.py)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) >= 12
    missing = [at for at in named if not any((root / at[1]).exists() for root in (SOURCE, REPOSITORY))]
    assert not missing


def test_the_folders_that_the_page_names_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    folders = re.findall(r"`((?:training/)?[a-z]+/)`", text)
    places = (SOURCE, SOURCE / "data", REPOSITORY)
    assert not [name for name in folders if not any((place / name).is_dir() for place in places)]
