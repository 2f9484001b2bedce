"""Colours of the report, for light and dark, and how a matplotlib figure becomes an SVG that follows them.

A figure is drawn once with placeholder colours. In the SVG they become CSS variables, which the page (or, in
a file of its own, a small style sheet inside the SVG) sets for light, dark and print; text stays text.
"""

from __future__ import annotations

import contextlib
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# name → (light, dark). Series colours keep a contrast of 3:1 or more on their ground.
COLOURS = {
    "ink": ("#1c2024", "#e8eaed"),
    "muted": ("#5b636b", "#a3abb3"),
    "rule": ("#d9dde1", "#363c43"),
    "ground": ("#ffffff", "#14171a"),
    "panel": ("#f5f6f8", "#1d2126"),
    "accent": ("#0b5cad", "#7cbcf8"),
    "good": ("#0a6b46", "#5fd0a0"),
    "bad": ("#a3243b", "#ff94a4"),
    "series-0": ("#6b737b", "#a7afb8"),
    "series-1": ("#0b62b4", "#6cb4f7"),
    "series-2": ("#b7500a", "#f4a261"),
    "series-3": ("#0b7a58", "#4fcda2"),
    "series-4": ("#86389e", "#d596ea"),
    "series-5": ("#8b6a00", "#e2c34d"),
    "series-6": ("#a8264e", "#ff8cab"),
    "series-7": ("#0f7386", "#5fcfe0"),
}
_SERIES = 8
_NAMESPACED = '<svg xmlns="http://www.w3.org/2000/svg"'
_XLINK = "{http://www.w3.org/1999/xlink}href"
_PLACEHOLDER = {name: f"#fe{index:02x}e{index % 10}" for index, name in enumerate(COLOURS)}
"""Colours that nothing else uses, so that they can be found again in the SVG."""


@dataclass(frozen=True)
class Palette:
    """The colours that a figure is drawn with."""

    ink: str
    muted: str
    rule: str
    ground: str
    series: tuple[str, ...]

    def of(self, place: int) -> str:
        """Colour of the series at that place; they repeat after eight."""
        return self.series[place % _SERIES]


def placeholders() -> Palette:
    """For SVG: each colour will become a CSS variable."""
    return _palette(_PLACEHOLDER)


def printed() -> Palette:
    """For paper (PDF): the light colours themselves."""
    return _palette({name: light for name, (light, _) in COLOURS.items()})


def variables() -> tuple[str, str]:
    """CSS declarations of all colours: (light, dark)."""
    light = " ".join(f"--{name}: {value[0]};" for name, value in COLOURS.items())
    dark = " ".join(f"--{name}: {value[1]};" for name, value in COLOURS.items())
    return light, dark


@contextlib.contextmanager
def drawing(palette: Palette) -> Iterator[None]:
    """matplotlib's settings while a figure is drawn and written; the user's own are put back after."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "dermdistill",
        "text.parse_math": False,
        "text.usetex": False,
        "font.family": ["DejaVu Sans"],
        "font.size": 11.5,
        "axes.titlesize": 12,
        "axes.labelsize": 11.5,
        "legend.fontsize": 11,
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
        "pdf.fonttype": 42,
        "text.color": palette.ink,
        "axes.labelcolor": palette.ink,
        "axes.edgecolor": palette.muted,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "grid.color": palette.rule,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.7,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.labelcolor": palette.ink,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "legend.markerscale": 1.5,
        "savefig.facecolor": "none",
        "patch.edgecolor": palette.ink,
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": False,
    }
    with mpl.rc_context(settings):
        yield


def to_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as one ``<svg>`` element for an HTML page: themed by CSS variables, no address in it.

    Args:
        figure: Drawn with `placeholders` inside `drawing`.
        name: Letters and dashes; its ids begin with it, so that figures do not get in each other's way.
        title: What it shows, for screen readers.
    """
    with io.BytesIO() as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        root = ET.fromstring(stream.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if (link := element.attrib.pop(_XLINK, None)) is not None:
            element.set("href", link)
        for key, value in element.attrib.items():
            element.set(key, _themed(_own_ids(key, value, name)))
        if element.tag == "text":  # the page's font, not the one it was measured with
            element.set("style", re.sub(r"font(-family)?: [^;]*;?", _font, element.get("style", "")))
    box = root.get("viewBox", "0 0 400 300").split()
    root.attrib.clear()
    root.attrib.update(
        viewBox=" ".join(box), role="img", width=box[2], height=box[3], **{"aria-label": title}
    )
    return ET.tostring(root, encoding="unicode")


def standalone(svg: str) -> str:
    """An SVG of `to_svg` as a file of its own, that follows the reader's light or dark setting itself."""
    light, dark = variables()
    style = (
        f"<style>:root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }} "
        "text { font-family: system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; }</style>"
    )
    ground = '<rect width="100%" height="100%" style="fill: var(--ground)"/>'  # whatever page it lies on
    head, _, rest = svg.partition(">")
    return f"{head.replace('<svg', _NAMESPACED, 1)}>{style}{ground}{rest}\n"


def _palette(colours: dict[str, str]) -> Palette:
    series = tuple(colours[f"series-{place}"] for place in range(_SERIES))
    return Palette(colours["ink"], colours["muted"], colours["rule"], colours["ground"], series)


def _own_ids(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    return value.replace("url(#", f"url(#{name}-")


def _themed(value: str) -> str:
    for name, colour in _PLACEHOLDER.items():
        value = value.replace(colour, f"var(--{name})")
    return value


def _font(match: re.Match[str]) -> str:
    """Keep size and weight of ``font: bold 10px 'DejaVu Sans'``, drop the family."""
    size = re.search(r"(\d+(\.\d+)?)px", match[0])
    weight = "font-weight: 600; " if re.search(r"\b(bold|[6-9]00)\b", match[0]) else ""
    return f"{weight}font-size: {size[1]}px;" if size else ""
