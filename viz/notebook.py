"""How tensors, models and all that the library prints show themselves in a notebook. Nothing here ever raises.

What is printed and what is shown are one text: a table of `bptt.tables` in it becomes a table of HTML, whose cells may
be coloured, and a paragraph a paragraph. So there is always the same to read, with colours and without.
"""

from __future__ import annotations

import math
import re
from copy import deepcopy
from functools import singledispatch
from html import escape
from typing import Any

from tinygrad_rnn import nn
from tinygrad_rnn.bptt import Explanation, Terms
from tinygrad_rnn.bptt.jacobian import Decay
from tinygrad_rnn.bptt.tables import Printed, table
from tinygrad_rnn.check import Report
from tinygrad_rnn.recording import Recording
from tinygrad_rnn.sweep import order
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.trace import Trace

from . import drawing
from .heat import FULLEST
from .notation import magnitude
from .picture import BLUE, VERMILLION

RULE = re.compile("  ─+(  ─+)*")  # under the head of a table
HEATED: dict[type, str] = {Terms: "k = .*", Explanation: "‖·‖", Decay: "‖·‖"}  # the heads of what is coloured by size
SWATCH = {"explicit": f"solid {BLUE}", "implicit": f"dashed {VERMILLION}", "both": f"double {VERMILLION}"}
ALARM = "background:#a33b00;color:#fff;font-weight:600"
STYLE = """<style>
div.rnn-shown{line-height:1.45;max-width:100%;overflow-x:auto}
div.rnn-shown p{margin:.1em 0;white-space:pre-wrap;max-width:62em}
div.rnn-shown p.rnn-title{font-weight:600;margin-bottom:.4em}
div.rnn-shown table.rnn{border-collapse:collapse;margin:.4em 0 .6em;border:0;font-size:inherit;color:inherit;
 font-variant-numeric:tabular-nums;table-layout:auto;width:auto}
div.rnn-shown table.rnn tr{background:none}
div.rnn-shown table.rnn th,div.rnn-shown table.rnn td{padding:.15em .7em;border:0;text-align:left;white-space:nowrap;
 background:none;color:inherit;vertical-align:middle}
div.rnn-shown table.rnn th{font-weight:600;border-bottom:1px solid #8a8a8a}
div.rnn-shown table.rnn .rnn-n{text-align:right}
div.rnn-shown table.rnn tr.rnn-apart td{border-top:1px solid #8a8a8a}
div.rnn-shown span.rnn-scale{display:inline-block;width:.6em;height:.9em;vertical-align:-.1em}
</style>"""


# ------------------------------------------------------------------------------------------------- text as HTML
def html_of(text: str, heated: str = "") -> str:
    """A printed text as HTML. heated: which columns of its tables, by their heads, are coloured by size."""
    lines, found, title = text.split("\n"), [STYLE, '<div class="rnn-shown">'], True
    while lines:
        if len(lines) > 1 and RULE.fullmatch(lines[1]):
            found.append(table_of(lines, heated))
        elif line := logical_line(lines):
            indent = len(line) - len(line.lstrip())
            found.append(f'<p class="rnn-title">{escape(line.strip())}</p>' if title and not indent else
                         f'<p style="padding-left:{max(0, indent - 2) / 2:g}em">{escape(line.strip())}</p>')
        title = False
    return "\n".join([*found, "</div>"])


def logical_line(lines: list[str]) -> str:
    """Take the next line, and those after it on which a paragraph goes on because its next word did not fit."""
    line = lines.pop(0)
    last = line
    while line and lines and re.match(r" +\S", lines[0]) and not (len(lines) > 1 and RULE.fullmatch(lines[1])):
        full = 110 if last.endswith((".", ":")) else 105
        if len(last) + 1 + len(lines[0].split(maxsplit=1)[0]) <= full:
            break
        last = lines.pop(0)
        line += f" {last.strip()}"
    return line


def table_of(lines: list[str], heated: str) -> str:
    """Take a table. Its rule says where the columns are; an empty row sets what follows apart."""
    spans = [match.span() for match in re.finditer("─+", lines[1])]
    raw, apart = [cells_of(lines[0], spans)], set[int]()
    del lines[:2]
    while lines and (belongs(lines[0], spans) or (not lines[0] and len(lines) > 1 and belongs(lines[1], spans, 2))):
        if line := lines.pop(0):
            raw.append(cells_of(line, spans))
        else:
            apart.add(len(raw) - 1)
    right = [any(row[i].strip() and row[i][0] == " " for row in raw) for i in range(len(spans))]
    head, *rows = [[cell.strip() for cell in row] for row in raw]
    warm = Warm(head, rows, heated)
    found = ['<table class="rnn"><thead>', row_of("th", [(cell, "") for cell in head], right), "</thead><tbody>"]
    for number, row in enumerate(rows):
        styled = [(cell, warm.style(row, i) or style_of(cell, head[i])) for i, cell in enumerate(row)]
        found.append(row_of("td", styled, right, number in apart))
    return "\n".join([*found, "</tbody></table>", *warm.legend()])


def row_of(tag: str, cells: list[tuple[str, str]], right: list[bool], apart: bool = False) -> str:
    made = []
    for (cell, style), number in zip(cells, right):
        attributes = ' class="rnn-n"' * number + (f' style="{style}"' if style else "")
        made.append(f"<{tag}{attributes}>{escape(cell)}</{tag}>")
    return "<tr" + ' class="rnn-apart"' * apart + f">{''.join(made)}</tr>"


def style_of(cell: str, head: str) -> str:
    """The line of its kind, as in the pictures; what is wrong stands out."""
    if head == "kind" and (kind := cell.split(" ")[0]) in SWATCH:
        return f"border-left:3px {SWATCH[kind]}"
    return ALARM if cell in ("DISAGREES", "NOT SEEN") or cell.endswith("✗") else ""


class Warm:
    """The colours of the sizes in a table, on one log scale; sums of several rows or columns have none.

    A colour is more or less transparent, so that the small ones fade into a ground of any theme.
    """

    def __init__(self, head: list[str], rows: list[list[str]], heated: str) -> None:
        self.columns = {i for i, cell in enumerate(head) if heated and re.fullmatch(heated, cell)}
        self.sizes = [size for row in rows for i in self.columns if (size := self.size(row, i))]

    def size(self, row: list[str], i: int) -> float | None:
        """The number in a cell; None where it is none, or not a positive one."""
        try:
            size = float(row[i]) if row[0] and not row[0].startswith("all") else 0.0
        except ValueError:
            return None
        return size if 0 < size < math.inf else None

    def style(self, row: list[str], i: int) -> str:
        size = self.size(row, i) if i in self.columns else None
        if size is None:
            return ""
        span = math.log(max(self.sizes) / min(self.sizes))
        return self.ground(math.log(size / min(self.sizes)) / span if span else 1.0)

    def ground(self, share: float) -> str:
        opacity = 0.08 + 0.92 * share
        return f"background:rgba{(*FULLEST, round(opacity, 2))}" + ";color:#000" * (opacity > 0.7)

    def legend(self) -> list[str]:
        if not self.sizes:
            return []
        scale = "".join(f'<span class="rnn-scale" style="{self.ground(n / 13)}"></span>' for n in range(14))
        least, largest = magnitude(min(self.sizes)), magnitude(max(self.sizes))
        return [f"<p>{least} {scale} {largest}, on a log scale</p>"]


def cells_of(line: str, spans: list[tuple[int, int]]) -> list[str]:
    return [line[start:end] for start, end in spans]


def belongs(line: str, spans: list[tuple[int, int]], least: int = 1) -> bool:
    """Does a line stand in these columns, in at least so many of them?"""
    between = [line[end:start] for (_, end), (start, _) in zip([(0, 0), *spans], [*spans, (len(line), 0)])]
    return not "".join(between).strip() and sum(bool(cell.strip()) for cell in cells_of(line, spans)) >= least


# ------------------------------------------------------------------------------------------------ what shows itself
@singledispatch
def shown(x: Any) -> str:
    """HTML of what prints itself."""
    return html_of(repr(x), next((heads for kind, heads in HEATED.items() if isinstance(x, kind)), ""))


@shown.register
def _(x: Tensor) -> str:
    """A result as its graph; a leaf, or a huge graph, as text."""
    results = order([x])
    stepped = any("t" in node.scope for node in results)
    if not results or len(results) > (drawing.MOST if stepped else drawing.MOST // 100):
        return f"<pre>{escape(repr(x))}</pre>"
    return drawing.draw(x)._repr_html_()


@shown.register
def _(x: Recording) -> str:
    """The graph with its gradients."""
    return drawing.draw(x.root, recording=x)._repr_html_()


@shown.register
def _(x: nn.Module) -> str:
    """Its name, every parameter with its shape, and what its cells compute."""
    title = repr(x).partition("\n")[0]
    rows = [[on_one_line(name), on_one_line(p.name or ""), " × ".join(map(str, p.shape)) or "one number", f"{p.size:,}"]
            for name, p in x.named_parameters()]
    text = [title, "", table(["parameter", "called", "shape", "numbers"], rows, left=(0, 1, 2))] if rows else [title]
    for equations, names in equations_of(x).items():
        text += ["", f"  {', '.join(names)}:" if any(names) else "", *(f"    {line}" for line in equations.split("\n"))]
    return html_of("\n".join(text))


def on_one_line(name: object) -> str:
    return " ".join(str(name).split())


def equations_of(x: nn.Module, path: str = "") -> dict[str, list[str]]:
    """The equations of every cell in a module, and where the cells are; of a cell whose step cannot be run, nothing."""
    found: dict[str, list[str]] = {}
    if isinstance(x, nn.Cell):
        try:
            found[deepcopy(x).equations()] = [path]  # of a copy: a step may draw random numbers
        except Exception:
            return {}
    for name, child in x.children():
        for equations, names in equations_of(child, f"{path}.{name}".removeprefix(".")).items():
            found.setdefault(equations, []).extend(names)
    return found


def in_notebook(x: Any) -> str:
    """How anything of ours shows itself in a notebook. Never raises: what cannot be shown is text."""
    try:
        return shown(x)
    except Exception:
        return text_of(x)


def text_of(x: object) -> str:
    try:
        return f"<pre>{escape(repr(x))}</pre>"
    except Exception:
        return f"<pre>{escape(object.__repr__(x))}</pre>"


def install() -> None:
    """Make this the way in which all of it shows itself in a notebook."""
    kinds: tuple[Any, ...] = (Tensor, Recording, Report, Printed, Trace, nn.Module)
    for kind in kinds:
        kind._repr_html_ = in_notebook
