"""A Picture as SVG, written without any program: one self-contained, valid XML text."""

from __future__ import annotations

import re

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
    Picture,
    Wire,
    color_of,
    gap,
    line_width,
)

ILLEGAL = {c: "\ufffd" for c in (*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)}
UNSAFE = re.compile('[&<>"\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
ENTITIES = ILLEGAL | {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}


def escape(text: str) -> str:
    """Text as XML: no markup, no character that XML forbids, no half of a surrogate pair."""
    return text.translate(ENTITIES).encode("utf-8", "replace").decode() if UNSAFE.search(text) else text


def n(x: float) -> str:
    """A coordinate, in points, to a tenth."""
    return f"{x:.1f}".removesuffix(".0")


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
    parts += [draw_box(box) for box in picture.boxes]
    for note in picture.notes:
        style = ' font-weight="bold"' if note.bold else ""
        parts.append(f'<text id="{note.id}" x="{n(note.x)}" y="{n(note.y + note.size * 0.36)}"{style} '
                     f'font-size="{n(note.size)}" fill="{note.color}">{escape(note.text)}</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)


def draw_dot(dot: Dot) -> str:
    return f'<circle id="{dot.id}" cx="{n(dot.x)}" cy="{n(dot.y)}" r="3.2" fill="{color_of(dot.kind, dot.dim)}"/>'


def draw_wire(wire: Wire) -> str:
    color, width = color_of(wire.kind, wire.dim), line_width(wire.kind, wire.lit)
    dash = ' stroke-dasharray="6 4"' if wire.kind == "implicit" else ""
    (x0, y0), (x1, y1) = wire.points[-2:]
    pieces, head, mark = [wire.points], "", ""
    if wire.arrow:
        size = 6.0 + 2 * wire.lit
        length = abs(x1 - x0) + abs(y1 - y0) or 1.0
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        bx, by = x1 - size * dx, y1 - size * dy
        half = size * 0.45
        head = (f'<path d="M{n(x1)} {n(y1)}L{n(bx - half * dy)} {n(by + half * dx)}L{n(bx + half * dy)} '
                f'{n(by - half * dx)}Z" fill="{color}"/>')
        pieces = [(*wire.points[:-1], (bx, by))]
    if wire.cut:
        pieces = list(gap(pieces[0]))
        mark = "".join([f'<path d="M{n(x - 3)} {n(y + 6)}L{n(x + 3)} {n(y - 6)}" stroke="{color}" stroke-width="1.6"/>'
                        for x, y in (pieces[0][-1], pieces[1][0])])
    path = "".join(["M" + "L".join([f"{n(x)} {n(y)}" for x, y in piece]) for piece in pieces])
    title = f"<title>{escape(wire.tooltip)}</title>" if wire.tooltip else ""
    return (f'<g id="{wire.id}">{title}<path d="{path}" fill="none" stroke="{color}" stroke-width="{n(width)}"{dash}/>'
            f'{head}{mark}</g>')


def draw_box(box: Box) -> str:
    left, top = box.x - box.width / 2, box.y - box.height / 2
    width = n(box.width)
    parts = [f'<g id="{box.id}"', ' opacity="0.4"' if box.dim else "", f"><title>{escape(box.tooltip)}</title>"
             f'<rect x="{n(left)}" y="{n(top)}" width="{width}" height="{n(box.height)}" rx="2" fill="{WHITE}" '
             f'stroke="{box.border}" stroke-width="{2.2 if box.lit else 0.8}"/>']
    x, y = n(box.x), top + 2
    for row in box.rows:
        if row.fill and row.fill != WHITE:
            parts.append(f'<rect x="{n(left + 0.6)}" y="{n(y)}" width="{n(box.width - 1.2)}" height="{n(LINE)}" '
                         f'fill="{row.fill}"/>')
        if row.cells:
            step = (box.width - 14) / len(row.cells)
            parts += [f'<rect x="{n(left + 7 + i * step)}" y="{n(y + 1)}" width="{n(step + 0.2)}" '
                      f'height="{n(LINE - 2)}" fill="{cell}"/>' for i, cell in enumerate(row.cells)]
        else:
            bold = f' font-weight="bold" font-size="{n(SIZE)}"' if row.bold else ""
            color = f' fill="{row.color}"' if row.color != BLACK else ""
            remark = (f'<tspan font-weight="normal" font-size="{n(SMALL)}" fill="{GREY}" dx="8">{escape(row.remark)}'
                      f'</tspan>' if row.remark else "")
            parts.append(f'<text x="{x}" y="{n(y + 10.5)}" text-anchor="middle"{bold}{color}>{escape(row.text)}{remark}'
                         f'</text>')
        y += LINE
    parts.append("</g>")
    return "".join(parts)
