"""DOT text: of a Picture, every position given (for `neato -n2`), and of any graph without steps (for `dot`).

Ids are opaque; what can be read stands in labels only, escaped, so that no name is taken for a port or for markup.
"""

from __future__ import annotations

from itertools import pairwise

from tinygrad_rnn.tensor import Tensor

from .content import Content, size_of
from .graph import Graph
from .legend import NUMBERS
from .notation import SUBSCRIPT, text_width
from .picture import (
    BAND,
    BAND_LINE,
    BAND_TEXT,
    BLACK,
    BLUE,
    FONT,
    GREY,
    LINE,
    SIZE,
    SMALL,
    TINY,
    WHITE,
    Box,
    Kind,
    Note,
    Picture,
    Point,
    Row,
    Wire,
    color_of,
    gap,
    line_width,
)
from .shown import Shown
from .svg import direction, escape, n

FAINT = "#a8a8a8"  # text beside the highlighted path


def quote(text: str) -> str:
    """A DOT string. Graphviz reads entities in it, so markup is escaped first; a backslash would start an escape."""
    return '"' + escape(text).replace("\\", "&#92;").replace("\n", "&#10;") + '"'


def write(picture: Picture) -> str:
    """The DOT text of a Picture, in points, with y upwards as Graphviz counts."""
    height = picture.height
    lines = ["digraph unrolled {",
             f'  graph [bgcolor="{WHITE}", outputorder="nodesfirst", notranslate=true, pad=0, margin=0, '
             f'bb="0,0,{n(picture.width)},{n(height)}", fontname="{FONT}"];',
             f'  node [shape=none, margin=0, fixedsize=true, fontname="{FONT}", fontsize={n(SMALL)}, label=""];',
             f'  edge [fontname="{FONT}", fontsize={TINY}, arrowsize=0.6];',
             f'  frame [id="frame", shape=box, pos="{n(picture.width / 2)},{n(height / 2)}!", style=filled, '
             f'fillcolor="{WHITE}", color="{WHITE}", {inches(picture.width, picture.height)}];']
    for band in picture.bands:
        title = f'<font color="{BAND_TEXT}" point-size="11">{escape(band.title)}</font>'
        centre = band.x + band.width / 2, band.y + band.height / 2
        lines.append(f'  {band.id} [id="{band.id}", shape=box, style="filled,rounded", fillcolor="{BAND}", '
                     f'color="{BAND_LINE}", labelloc=t, margin=0.05, label=<{title}>, '
                     f'{at(centre, height)}, {inches(band.width, band.height)}];')
    for p in picture.patches:
        lines.append(f'  {p.id} [id="{p.id}", shape=box, style=filled, fillcolor="{p.fill}", penwidth=0, '
                     f'{at((p.x + p.width / 2, p.y + p.height / 2), height)}, {inches(p.width, p.height)}];')
    for note in picture.notes:
        lines.append(draw_note(note, height))
    known = {box.id for box in picture.boxes} | {dot.id for dot in picture.dots}
    lines += [f"  {box.id} [id=\"{box.id}\", {at((box.x, box.y), height)}, {inches(box.width, box.height)}, "
              f"tooltip={quote(box.tooltip)}, label=<{table(box)}>];" for box in picture.boxes]
    lines += [f'  {dot.id} [id="{dot.id}", shape=circle, style=filled, color="{color_of(dot.kind, dot.dim)}", '
              f'{at((dot.x, dot.y), height)}, {inches(6.4, 6.4)}];' for dot in picture.dots]
    for wire in sorted(picture.wires, key=lambda wire: (wire.lit, not wire.dim)):
        lines += draw_wire(wire, height, known)
    return "\n".join([*lines, "}", ""])


def at(point: Point, height: float) -> str:
    return f'pos="{n(point[0])},{n(height - point[1])}!"'


def draw_note(note: Note, height: float) -> str:
    """A line of text as a node of one left-aligned cell."""
    text = f"<b>{set_text(note.text)}</b>" if note.bold else set_text(note.text)
    width = text_width(note.text, note.size, note.bold) * 1.1
    place = at((note.x + width / 2, note.y), height)
    label = f'<table border="0" cellborder="0" cellpadding="0" cellspacing="0"><tr><td align="left" ' \
            f'width="{n(width)}"><font color="{note.color}" point-size="{n(note.size)}">{text}</font></td></tr></table>'
    return f'  {note.id} [id="{note.id}", {place}, {inches(width, 18)}, label=<{label}>];'


def inches(width: float, height: float) -> str:
    """Graphviz takes sizes in inches of 72 points."""
    return f"width={width / 72:.4f}, height={height / 72:.4f}"


def draw_wire(wire: Wire, height: float, known: set[str]) -> list[str]:
    """A wire as an edge; a cut one as two edges to a mark. Ends that are no node get an invisible one."""
    lines = []
    for end, point in ((wire.tail, wire.points[0]), (wire.head, wire.points[-1])):
        if end not in known:
            known.add(end)
            lines.append(f'  {end} [id="{end}", style=invis, {at(point, height)}, {inches(1, 1)}];')
    style = "dashed" if wire.kind == "implicit" else "solid"
    look = f'color="{color_of(wire.kind, wire.dim)}", penwidth={n(line_width(wire.kind, wire.lit))}, style={style}'
    if wire.tooltip:
        look += f", tooltip={quote(wire.tooltip)}"
    arrow = "" if wire.arrow else ", arrowhead=none"
    back = ", dir=both, arrowtail=onormal" if wire.back else ""
    if not wire.cut:
        return [*lines, f'  {wire.tail} -> {wire.head} [id="{wire.id}", {look}{arrow}{back}, '
                        f'pos="{spline(wire.points, height, wire.arrow, wire.back)}"];']
    first, second = gap(wire.points)
    marks = [f"{wire.id}_cut{i}" for i in range(2)]
    for mark, (x, y) in zip(marks, (first[-1], second[0])):
        lines.append(f'  {mark} [id="{mark}", fontsize=14, fontcolor="{color_of(wire.kind, wire.dim)}", label="/", '
                     f'{at((x, y), height)}, {inches(8, 14)}];')
    return [*lines, f'  {wire.tail} -> {marks[0]} [id="{wire.id}", {look}, arrowhead=none, '
                    f'pos="{spline(first, height, False)}"];',
            f'  {marks[1]} -> {wire.head} [id="{wire.id}_end", {look}{arrow}, '
            f'pos="{spline(second, height, wire.arrow)}"];']


def spline(points: tuple[Point, ...], height: float, arrow: bool, back: float = 0.0) -> str:
    """A polyline as the Bézier curve that Graphviz expects, its control points on the corners."""
    corners = [(x, height - y) for x, y in points]
    ends = ""
    if back:
        start, corners[0] = shortened(corners[0], corners[1], back)
        ends += f"s,{start} "
    if arrow:
        end, corners[-1] = shortened(corners[-1], corners[-2], 0.0)
        ends += f"e,{end} "
    texts = [f"{n(x)},{n(y)}" for x, y in corners]
    return ends + " ".join([texts[0], *[f"{a} {b} {b}" for a, b in pairwise(texts)]])


def shortened(end: Point, neighbour: Point, skip: float) -> tuple[str, Point]:
    """The tip of an arrow head, `skip` points before the end of a line, and where the line itself ends."""
    (x, y), (dx, dy) = end, direction(end, neighbour)
    return f"{n(x + skip * dx)},{n(y + skip * dy)}", (x + (skip + 6) * dx, y + (skip + 6) * dy)


def table(box: Box) -> str:
    """The rows of a box as an HTML-like table."""
    border = FAINT if box.dim else box.border
    cell = f'<td width="{n(box.width - 4)}" height="{n(LINE)}"'
    rows = "".join([f"<tr>{cell}{ground(row, box.dim)}>{content(row, box)}</td></tr>" for row in box.rows])
    return f'<table border="{2 if box.lit else 1}" cellborder="0" cellspacing="0" cellpadding="0" color="{border}" ' \
           f'bgcolor="{WHITE}" width="{n(box.width)}" height="{n(box.height)}">{rows}</table>'


def set_text(text: str) -> str:
    """Text with its subscripts."""
    return SUBSCRIPT.sub(lambda m: m[0].removesuffix(m[1]) + f"<sub>{m[1][1:].replace('_', ',')}</sub>", escape(text))


def ground(row: Row, dim: bool) -> str:
    return f' bgcolor="{row.fill}"' if row.fill and not dim else ""


def content(row: Row, box: Box) -> str:
    if row.cells:
        step = (box.width - 14) / len(row.cells)
        cells = "".join([f'<td width="{n(step)}" height="{n(LINE - 2)}" fixedsize="true" bgcolor="{cell.fill}">'
                         f'{set_text(cell.text)}</td>' for cell in row.cells])
        return f'<table border="0" cellborder="0" cellspacing="0" cellpadding="0"><tr>{cells}</tr></table>'
    color = FAINT if box.dim else row.color
    text = set_text(row.text) or " "
    if row.bold:
        text = f'<b><font point-size="{n(SIZE)}" color="{color}">{text}</font></b>'
    elif color != BLACK:
        text = f'<font color="{color}">{text}</font>'
    if row.remark:
        text += f'<font color="{FAINT if box.dim else GREY}">&#160;&#160;&#160;{set_text(row.remark)}</font>'
    return text


# ------------------------------------------------------------------------------------------------------ any other graph
def write_plain(graph: Graph, shown: Shown, values: bool, label_edges: bool) -> str:
    """The DOT text of a graph without steps: one box for each tensor, one edge for each use. `dot` lays it out."""
    content = Content(graph, shown, [[x] for x in graph.tensors], values, label_edges)
    lines = ["digraph expression {",
             f'  graph [rankdir=LR, bgcolor="{WHITE}", fontname="{FONT}", nodesep=0.25, ranksep=0.4];',
             f'  node [shape=none, margin=0, fontname="{FONT}", fontsize={n(SMALL)}];',
             f'  edge [fontname="{FONT}", fontsize={TINY}, arrowsize=0.6];']
    lines += [plain_box(content, x) for x in graph.tensors]
    lines += [plain_edge(content, *edge) for edge in graph.edges()]
    if values:
        lines.append(f'  graph [labelloc=b, labeljust=l, fontsize={n(SMALL)}, label=<{plain_legend(content)}>];')
    return "\n".join([*lines, "}", ""])


def plain_legend(content: Content) -> str:
    """The ramp of the gradient rows with its range, and which way gradients run."""
    if content.ramp.low is None:
        return escape(content.scale())
    ramp = "".join([f'<td width="3" height="10" bgcolor="{fill}"></td>'
                    for fill in content.ramp.sample(14)])
    bare = '<table border="0" cellborder="0" cellspacing="0" cellpadding="'
    said = ("Forward, values run along the arrows. Backward, gradients run against them, and where several come back "
            "they are added up.")
    lines = [said, f"{NUMBERS[:1].upper()}{NUMBERS[1:]}"] if content.labels else [said]
    rows = "".join([f'<tr><td colspan="2" align="left">{line}</td></tr>' for line in lines])
    return (f'{bare}2"><tr><td>{bare}0"><tr>{ramp}</tr></table></td><td align="left">{escape(content.scale())}</td>'
            f'</tr>{rows}</table>')


def plain_box(content: Content, x: Tensor) -> str:
    shown, rows = content.shown, content.tensor_rows(x)
    lit = shown.term is not None and (x in shown.nodes or x is shown.term.parameter)
    id, border = f"n{content.graph.number[x]}", BLUE if x.op is None and x.requires_grad else BLACK
    box = Box(id, 0, 0, *size_of(rows), rows, content.tooltip(x), border, shown.term is not None and not lit, lit)
    return f'  {id} [id="{id}", tooltip={quote(box.tooltip)}, label=<{table(box)}>];'


def plain_edge(content: Content, node: Tensor, position: int) -> str:
    number, x, edge = content.graph.number, node.inputs[position], (node, position)
    cut = content.graph.is_cut(edge)
    lit = edge in content.shown.edges
    kind: Kind = "explicit" if x.op is None and x.requires_grad else "step"
    color = color_of(kind, content.shown.term is not None and not lit)
    tooltip = content.edge_tooltip(x, node, [edge], cut)
    text = "//" if cut else content.edge_label([edge])
    label = f", label={quote(text)}" if text else ""
    return f'  n{number[x]} -> n{number[node]} [id="e{number[node]}_{position}", color="{color}", ' \
           f'penwidth={n(line_width("step", lit))}, tooltip={quote(tooltip)}{label}];'
