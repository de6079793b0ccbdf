"""A picture as plain data: what is drawn where, before any drawing. Points, x to the right and y downwards.

`layout.py` makes a Picture, `dot.py` and `svg.py` write it down; none of them knows the other two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

Kind = Literal["step", "implicit", "explicit", "bus", "collect"]
Point = tuple[float, float]

BLACK, GREY, PALE, WHITE = "#222222", "#6b6b6b", "#c9c9c9", "#ffffff"
BAND, BAND_LINE, BAND_TEXT = "#f1f5fb", "#cdd9ea", "#2f5d8a"
BLUE, VERMILLION, SLATE = "#0072b2", "#d55e00", "#5b6b7b"  # Okabe and Ito: told apart by all readers
COLORS: dict[Kind, str] = {"step": "#444444", "implicit": VERMILLION, "explicit": BLUE, "bus": BLUE, "collect": SLATE}
BACK: dict[Kind, float] = {"explicit": 4.0, "implicit": 0.5}  # points from the start of a line to its hollow head
FONT = "DejaVu Sans"
LINE = 14.0  # height of a row of text
SIZE, SMALL, TINY = 10.0, 9.0, 7.5  # font sizes, in points


class Cell(NamedTuple):
    """A part of a strip: its colour, and what it says."""

    fill: str
    text: str = ""


class Row(NamedTuple):
    """One line of a box: text, then a remark in grey; on a coloured ground, or a strip of coloured cells instead."""

    text: str
    remark: str = ""
    bold: bool = False
    fill: str = ""
    color: str = BLACK
    cells: tuple[Cell, ...] = ()


class Box(NamedTuple):
    """A node: its centre, its size, its rows. `lit` lies on the highlighted path, `dim` beside it."""

    id: str
    x: float
    y: float
    width: float
    height: float
    rows: tuple[Row, ...]
    tooltip: str
    border: str = BLACK
    dim: bool = False
    lit: bool = False


class Wire(NamedTuple):
    """A line along `points`, with an arrow head at its end; `cut` leaves a gap in it, with a mark.

    back: how far from its start there is a hollow head, for the gradient that came back through it; 0 for none.
    """

    id: str
    tail: str
    head: str
    kind: Kind
    points: tuple[Point, ...]
    tooltip: str
    arrow: bool = True
    cut: bool = False
    dim: bool = False
    lit: bool = False
    back: float = 0.0


class Dot(NamedTuple):
    """Where a wire leaves a bus, or joins a collecting line."""

    id: str
    x: float
    y: float
    kind: Kind
    dim: bool = False


class Band(NamedTuple):
    """The ground of one step: its left upper corner, its size, its heading."""

    id: str
    x: float
    y: float
    width: float
    height: float
    title: str


class Note(NamedTuple):
    """A line of text that starts at x; y is the middle of the line."""

    id: str
    x: float
    y: float
    text: str
    size: float = SIZE
    color: str = BLACK
    bold: bool = False


class Patch(NamedTuple):
    """A coloured rectangle: its left upper corner and its size."""

    id: str
    x: float
    y: float
    width: float
    height: float
    fill: str


@dataclass
class Picture:
    width: float = 0.0
    height: float = 0.0
    bands: list[Band] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def color_of(kind: Kind, dim: bool) -> str:
    return PALE if dim else COLORS[kind]


def line_width(kind: Kind, lit: bool) -> float:
    return (1.8 if kind in ("bus", "implicit") else 1.2) + (1.8 if lit else 0)


def length(points: tuple[Point, ...]) -> float:
    return sum([abs(x1 - x0) + abs(y1 - y0) for (x0, y0), (x1, y1) in pairwise(points)])


def gap(points: tuple[Point, ...]) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """A cut wire as two: it stops 5 points before the middle of its longest part and goes on 5 points after it."""
    lengths = [abs(x1 - x0) + abs(y1 - y0) for (x0, y0), (x1, y1) in pairwise(points)]
    i = lengths.index(max(lengths))
    (x0, y0), (x1, y1) = points[i], points[i + 1]
    half = min(5.0, lengths[i] / 3)
    dx, dy = (half * (x1 - x0) / lengths[i], half * (y1 - y0) / lengths[i]) if lengths[i] else (0.0, 0.0)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return (*points[: i + 1], (x - dx, y - dy)), ((x + dx, y + dy), *points[i + 1 :])
