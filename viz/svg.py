"""A Picture as SVG, written without any program: one self-contained, valid XML text on a white ground of its own."""

from __future__ import annotations

import re
from functools import lru_cache

from .notation import SUBSCRIPT
from .picture import (
    BAND,
    BAND_LINE,
    BAND_TEXT,
    BLACK,
    FONT,
    GREY,
    LINE,
    SIZE,
    SMALL,
    WHITE,
    Box,
    Dot,
    Note,
    Picture,
    Point,
    Row,
    Wire,
    color_of,
    gap,
    line_width,
)

ILLEGAL = {c: "\ufffd" for c in (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)}
UNSAFE = re.compile('[&<>"\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
ENTITIES = ILLEGAL | {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}
DOWN = 2.0  # points that a subscript is set lower


def escape(text: str) -> str:
    """Text as XML: no markup, no character that XML forbids, no half of a surrogate pair."""
    return text.translate(ENTITIES).encode("utf-8", "replace").decode() if UNSAFE.search(text) else text


@lru_cache(4096)  # most coordinates of a picture are those of the step before
def n(x: float) -> str:
    """A coordinate, in points, to a tenth."""
    return f"{x:z.1f}".removesuffix(".0")  # z: no -0


def write(picture: Picture) -> str:
    """The SVG text of a Picture."""
    w, h = n(picture.width), n(picture.height)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
             f'font-family="\'{FONT}\', Verdana, sans-serif" font-size="{n(SMALL)}" fill="{BLACK}">',
             f'<rect width="{w}" height="{h}" fill="{WHITE}"/>']
    for band in picture.bands:
        parts.append(f'<g id="{band.id}"><rect x="{n(band.x)}" y="{n(band.y)}" width="{n(band.width)}" '
                     f'height="{n(band.height)}" rx="8" fill="{BAND}" stroke="{BAND_LINE}"/>'
                     f'<text x="{n(band.x + band.width / 2)}" y="{n(band.y + 15)}" text-anchor="middle" '
                     f'font-size="11" fill="{BAND_TEXT}">{escape(band.title)}</text></g>')
    for p in picture.patches:
        parts.append(f'<rect id="{p.id}" x="{n(p.x)}" y="{n(p.y)}" width="{n(p.width)}" height="{n(p.height)}" '
                     f'fill="{p.fill}"/>')
    for dim in (True, False):  # what is dimmed lies below
        parts += [draw_wire(wire) for wire in picture.wires if wire.dim == dim]
        parts += [draw_dot(dot) for dot in picture.dots if dot.dim == dim]
    parts += ['<g text-anchor="middle">', *map(draw_box, picture.boxes), "</g>"]
    parts += [*map(draw_note, picture.notes), "</svg>\n"]
    return "\n".join(parts)


def draw_dot(dot: Dot) -> str:
    return f'<circle id="{dot.id}" cx="{n(dot.x)}" cy="{n(dot.y)}" r="3.2" fill="{color_of(dot.kind, dot.dim)}"/>'


def draw_note(note: Note) -> str:
    """A line of text; what stands beside a line has a rim of white, so that no other line runs through it."""
    style = ' font-weight="bold"' if note.bold else ""
    if note.id.endswith("_label"):
        style += f' stroke="{WHITE}" stroke-width="2.4" stroke-linejoin="round" paint-order="stroke"'
    return (f'<text id="{note.id}" x="{n(note.x)}" y="{n(note.y + note.size * 0.36)}"{style} '
            f'font-size="{n(note.size)}" fill="{note.color}">{set_text(note.text)}</text>')


def set_text(text: str, remark: str = "") -> str:
    """Text with its subscripts, W_f as the notes set it, and a remark in grey behind it."""
    if not remark and "_" not in text:
        return escape(text)
    parts, done, low = [], 0, ""
    for found in SUBSCRIPT.finditer(text) if "_" in text else ():
        parts.append(raised(text[done : found.start(1)], low))
        parts.append(f'<tspan dy="{n(DOWN)}" font-size="78%">{found[1][1:].replace("_", ",")}</tspan>')
        done, low = found.end(), f' dy="{n(-DOWN)}"'
    if done < len(text):
        parts.append(raised(text[done:], low))
        low = ""
    if remark:
        parts.append(f'<tspan font-weight="normal" font-size="{n(SMALL)}" fill="{GREY}" dx="8"{low}>{set_text(remark)}'
                     '</tspan>')
    return "".join(parts)


def raised(text: str, dy: str) -> str:
    """Text on the line again, after a subscript; a space at its start would be dropped, so it becomes a distance."""
    if dy and text[:1] == " ":
        dy, text = dy + ' dx="3"', text[1:]
    return f"<tspan{dy}>{escape(text)}</tspan>" if dy else escape(text)


# --------------------------------------------------------------------------------------------------------------- lines
def draw_wire(wire: Wire) -> str:
    """A line with a full arrow head where values go to, and a hollow one where gradients go back to."""
    color, width = color_of(wire.kind, wire.dim), line_width(wire.kind, wire.lit)
    dash = ' stroke-dasharray="6 4"' if wire.kind == "implicit" else ""
    points, ends, size = wire.points, "", 6.0 + 2 * wire.lit
    if wire.arrow:
        dx, dy = direction(points[-2], points[-1])
        x, y = points[-1]
        ends = f'<path d="{tip(x, y, dx, dy, size)}" fill="{color}"/>'
        points = (*points[:-1], (x - size * dx, y - size * dy))
    if wire.back:
        dx, dy = direction(points[1], points[0])
        x, y = points[0]
        ends += (f'<path d="{tip(x - wire.back * dx, y - wire.back * dy, dx, dy, size)}" fill="{WHITE}" '
                 f'stroke="{color}"/>')
    pieces = [points]
    if wire.cut:
        pieces = list(gap(points))
        for x, y in (pieces[0][-1], pieces[1][0]):
            ends += f'<path d="M{n(x - 3)} {n(y + 6)}l6 -12" stroke="{color}" stroke-width="1.6"/>'
    path = "".join([along(piece) for piece in pieces])
    title = f"<title>{escape(wire.tooltip)}</title>" if wire.tooltip else ""
    return (f'<g id="{wire.id}">{title}<path d="{path}" fill="none" stroke="{color}" stroke-width="{n(width)}"{dash}/>'
            f'{ends}</g>')


def along(points: tuple[Point, ...]) -> str:
    """A way along the axes."""
    (x, y), *rest = points
    text = f"M{n(x)} {n(y)}"
    for to_x, to_y in rest:
        text += f"H{n(to_x)}" if to_y == y else f"V{n(to_y)}"
        y = to_y
    return text


def direction(start: Point, end: Point) -> Point:
    """One step from one corner towards the next."""
    (x0, y0), (x1, y1) = start, end
    length = abs(x1 - x0) + abs(y1 - y0) or 1.0
    return (x1 - x0) / length, (y1 - y0) / length


def tip(x: float, y: float, dx: float, dy: float, size: float) -> str:
    """The head of an arrow that ends at (x, y)."""
    return f"M{n(x)} {n(y)}{from_tip(dx, dy, size)}"


@lru_cache
def from_tip(dx: float, dy: float, size: float) -> str:
    half = size * 0.45
    return f"l{n(-size * dx - half * dy)} {n(-size * dy + half * dx)}l{n(2 * half * dy)} {n(-2 * half * dx)}z"


# --------------------------------------------------------------------------------------------------------------- boxes
def draw_box(box: Box) -> str:
    left, top = box.x - box.width / 2, box.y - box.height / 2
    parts = [f'<g id="{box.id}"', ' opacity="0.4"' if box.dim else "", f"><title>{escape(box.tooltip)}</title>"
             f'<rect x="{n(left)}" y="{n(top)}" width="{n(box.width)}" height="{n(box.height)}" rx="2" fill="{WHITE}" '
             f'stroke="{box.border}" stroke-width="{2.2 if box.lit else 0.8}"/>']
    y = top + 2
    for row in box.rows:
        if row.cells:
            parts.append(draw_cells(row, box, left, y))
        else:
            if row.fill and row.fill != WHITE:
                parts.append(f'<rect x="{n(left + 0.6)}" y="{n(y)}" width="{n(box.width - 1.2)}" height="{n(LINE)}" '
                             f'fill="{row.fill}"/>')
            bold = f' font-weight="bold" font-size="{n(SIZE)}"' if row.bold else ""
            color = f' fill="{row.color}"' if row.color != BLACK else ""
            parts.append(f'<text x="{n(box.x)}" y="{n(y + 10.5)}"{bold}{color}>{set_text(row.text, row.remark)}</text>')
        y += LINE
    parts.append("</g>")
    return "".join(parts)


def draw_cells(row: Row, box: Box, left: float, y: float) -> str:
    """A strip: cells side by side on their colours, with or without a text in them."""
    step = (box.width - 14) / len(row.cells)
    parts = []
    for i, cell in enumerate(row.cells):
        x = left + 7 + i * step
        parts.append(f'<rect x="{n(x)}" y="{n(y + 1)}" width="{n(step + (-2 if cell.text else 0.2))}" '
                     f'height="{n(LINE - 2)}" fill="{cell.fill}"/>')
        if cell.text:
            parts.append(f'<text x="{n(x + step / 2 - 1)}" y="{n(y + 10.5)}">{set_text(cell.text)}</text>')
    return "".join(parts)
