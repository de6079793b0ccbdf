"""Where short texts beside lines stand: on no box, no line and no other text, wherever there is room for that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise, product

from .notation import text_width
from .picture import TINY, Dot, Note, Picture, Point, Wire, color_of, gap, length

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom
TILE = 64.0  # points: what lies in one tile is looked through
HALF = 3.6  # points: half the height of a text


class Labels:
    """The texts beside the lines of one picture, whose boxes and lines are all there."""

    def __init__(self, picture: Picture) -> None:
        self.notes, self.tiles = picture.notes, defaultdict[tuple[int, int], list[Rectangle]](list)
        for box in picture.boxes:
            self.occupy((box.x - box.width / 2, box.y - box.height / 2, box.x + box.width / 2, box.y + box.height / 2))
        for wire in picture.wires:
            for (x0, y0), (x1, y1) in pairwise(wire.points):
                self.occupy((min(x0, x1) - 0.9, min(y0, y1) - 0.9, max(x0, x1) + 0.9, max(y0, y1) + 0.9))
            if wire.cut:
                (x0, y0), (x1, y1) = (piece[i] for piece, i in zip(gap(wire.points), (-1, 0)))
                self.occupy((min(x0, x1) - 4, min(y0, y1) - 7, max(x0, x1) + 4, max(y0, y1) + 7))

    def at_dot(self, dot: Dot, text: str) -> None:
        """Beside a dot on a horizontal line, at the end of which a hollow head points to it."""
        self.put(dot.id, text, color_of(dot.kind, dot.dim), lambda width: (
            (x, dot.y + y) for y in (-6.5, 6.5) for x in (dot.x - 6 - width, dot.x + 6)))

    def along(self, wire: Wire, points: tuple[Point, ...], text: str) -> None:
        """Above or below a flat part of a line, right or left of a steep one; the longest part first."""
        self.put(wire.id, text, color_of(wire.kind, wire.dim), lambda width: beside(points, width))

    def put(self, owner: str, text: str, color: str, places: Callable[[float], Iterator[Point]]) -> None:
        width = text_width(text, TINY)
        wished = [(x, y - HALF, x + width, y + HALF) for x, y in places(width)]
        chosen = next((place for place in wished if self.is_free(place)), wished[0])
        self.occupy(chosen)
        self.notes.append(Note(f"{owner}_label", chosen[0], chosen[1] + HALF, text, TINY, color))

    def tiles_of(self, place: Rectangle) -> Iterator[tuple[int, int]]:
        left, top, right, bottom = (int(edge // TILE) for edge in place)
        return product(range(left, right + 1), range(top, bottom + 1))

    def occupy(self, place: Rectangle) -> None:
        for tile in self.tiles_of(place):
            self.tiles[tile].append(place)

    def is_free(self, place: Rectangle) -> bool:
        left, top, right, bottom = place
        return not any(left < other[2] and other[0] < right and top < other[3] and other[1] < bottom
                       for tile in self.tiles_of(place) for other in self.tiles.get(tile, ()))


def beside(points: tuple[Point, ...], width: float) -> Iterator[Point]:
    """Where the middle of the left edge of a text of that width may be, the best place first."""
    parts = sorted(pairwise(points), key=length, reverse=True)
    for (x0, y0), (x1, y1) in parts:
        for share in (0.5, 0.3, 0.7, 0.1, 0.9):
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            if y0 == y1:
                yield from ((x - width / 2, y - 6), (x - width / 2, y + 6))
            else:
                yield from ((x + 3.5, y), (x - 3.5 - width, y))
