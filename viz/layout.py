"""From a graph to a Picture: which boxes there are, where they stand, how the lines run. Nothing is drawn here."""

from __future__ import annotations

from tinygrad_rnn.tensor import Tensor

from .content import Content, gradients_shown, size_of
from .graph import Arc, Detail, Graph, Item, items_of
from .labelling import Labels
from .legend import put_legend
from .notation import text_width
from .picture import BACK, BLACK, BLUE, Band, Box, Dot, Kind, Picture, Point, Wire, length
from .placing import place
from .routing import Route, Router
from .shown import Shown

EDGE = 12.0  # points around the picture
HEADING = 20.0  # points for the heading of a band
WIDER = 12.0  # points that a channel gets for labels
UNFOLDED, BY_CELL = 6, 16  # up to so many steps are drawn op by op, cell by cell


def choose_detail(steps: int) -> Detail:
    return "ops" if steps <= UNFOLDED else "cells" if steps <= BY_CELL else "folded"


def lay_out(graph: Graph, shown: Shown, detail: Detail, values: bool, labels: bool) -> Picture:
    """The Picture of a graph with steps, in points."""
    items = items_of(graph, detail)
    content = Content(graph, shown, [gradients_shown(item) for item in items], values, labels)
    return Layout(graph, items, content).draw()


class Layout:
    """The making of one Picture."""

    def __init__(self, graph: Graph, items: list[Item], content: Content) -> None:
        self.graph, self.items, self.content, self.shown = graph, items, content, content.shown
        self.id = {item: f"n{graph.number[item.first]}" for item in items}
        self.rows = {item: content.rows_of(item) for item in items}
        self.sizes = {item: size_of(rows) for item, rows in self.rows.items()}
        self.grid = place(items)
        self.router = Router(self.grid, self.sizes, WIDER if content.labels else 0.0)
        self.dimmed = self.shown.term is not None
        self.dx, self.dy = EDGE, EDGE + HEADING
        self.picture = Picture()
        self.wires: dict[Route, Wire] = {}

    def draw(self) -> Picture:
        for item in self.items:
            for arc in item.inward:
                self.router.add(arc)
        self.router.settle()
        self.put_bands()
        self.put_boxes()
        self.put_wires()
        self.put_labels()
        self.finish()
        return self.picture

    def put_bands(self) -> None:
        names = list(self.graph.sequences)
        steps = {item.column: [c[1] for x in item.tensors if (c := self.graph.column[x])]
                 for item in self.items if item.many_steps}
        for i, (column, (start, end)) in enumerate(zip(self.grid.columns, self.router.bands[1:])):
            title = f"t = {column[1]}" + (f" … {max(steps[column])}" if column in steps else "")
            if len(names) > 1:
                title = f"{names[column[0]]}, {title}"
            self.picture.bands.append(Band(f"band{i}", start + self.dx, EDGE, end - start,
                                           self.router.height + HEADING, title))

    def put_boxes(self) -> None:
        for item in self.items:
            x, y = self.router.centre(item)
            lit = self.shown.lit(item)
            self.picture.boxes.append(Box(self.id[item], x + self.dx, y + self.dy, *self.sizes[item], self.rows[item],
                                          self.content.box_tooltip(item), BLUE if item.place == "bus" else BLACK,
                                          self.dimmed and not lit, lit))

    def put_wires(self) -> None:
        offsets = self.router.offsets()
        lines: dict[Item, list[tuple[float, str, bool]]] = {}
        for route in self.router.routes:
            points = tuple([(x + self.dx, y + self.dy) for x, y in self.router.points(route, offsets)])
            lit = self.dimmed and self.shown.arc_lit(route.arc)
            wire = self.wire_of(route, points, lit)
            if route.line is not None:
                out = route.line is route.arc.source
                x, y = points[0] if out else points[-1]
                dot = Dot("d" + wire.id[1:], x, y, wire.kind, wire.dim)
                self.picture.dots.append(dot)
                wire = wire._replace(tail=dot.id) if out else wire._replace(head=dot.id)
                lines.setdefault(route.line, []).append((x, dot.id, lit))
            self.wires[route] = wire
        self.picture.wires += self.wires.values()
        for line, joined in lines.items():
            self.put_line(line, sorted(joined))
        for routes in self.router.nets.values():
            self.put_branches(routes)

    def put_branches(self, routes: list[Route]) -> None:
        """A dot wherever a line branches off another with the same source."""
        ways = [self.wires[route].points for route in routes]
        for route, way in zip(routes, ways):
            (x0, y), (x, _) = way[-3:-1]
            if any((x - x0) * (other[-2][0] - x) > 0 for other in ways):
                wire = self.wires[route]
                self.picture.dots.append(Dot("d" + wire.id[1:], x, y, wire.kind, wire.dim and not wire.lit))

    def put_labels(self) -> None:
        """At a dot what its use does backward, += and on request how much, where there is room; the rest on request."""
        roomy = self.content.labels or len(self.grid.columns) <= UNFOLDED
        texts = {route: self.text_on(route.arc) for route in self.wires}
        if not roomy and not any(texts.values()):
            return
        labels = Labels(self.picture)
        dots = {dot.id: dot for dot in self.picture.dots}
        beside = []
        for route, wire in self.wires.items():
            if wire.kind == "explicit":
                if roomy and not wire.dim:
                    labels.at_dot(dots[wire.tail], f"+= {texts[route]}".rstrip())
            elif texts[route]:
                branch = len(self.router.nets.get(route.net, ())) > 1  # beside the part that is its own
                beside.append((wire, wire.points[-2:] if branch else wire.points, texts[route]))
        for wire, points, text in sorted(beside, key=lambda each: length(each[1])):  # short ones leave little choice
            labels.along(wire, points, text)

    def text_on(self, arc: Arc) -> str:
        """On request the norm of what flows back; between cells the name of the state, if it is one of several."""
        node, position = arc.edges[0]
        label = self.content.edge_label(arc.edges)
        several = arc.implicit and len(arc.source.outputs) > 1 and not arc.source.many_steps
        return label or (self.graph.labels[node.inputs[position]] if several else "")

    def wire_of(self, route: Route, points: tuple[Point, ...], lit: bool) -> Wire:
        arc = route.arc
        node, position = arc.edges[0]
        kind: Kind = "implicit" if arc.implicit else "collect" if arc.edges[0] in self.graph.totals else "step"
        if route.line is not None:
            kind = "explicit" if route.line is arc.source else "collect"
        arrow = kind != "collect" or route.line is None
        back = BACK.get(kind, 0.0) if self.shown.came_back(arc) else 0.0
        return Wire(f"e{self.graph.number[node]}_{position}", self.id[arc.source], self.id[arc.target], kind, points,
                    self.content.arc_tooltip(arc), arrow, arc.cut, self.dimmed and not lit, lit, back)

    def put_line(self, line: Item, joined: list[tuple[float, str, bool]]) -> None:
        """A bus from its parameter to its last use, or a line to the box that collects. Joined: x, dot, lit."""
        x, y = self.router.centre(line)
        x, y, half = x + self.dx, y + self.dy, self.sizes[line][0] / 2
        number, name = self.graph.number[line.first], ", ".join([self.graph.labels[p] for p in line.tensors])
        lit = [(until, dot) for until, dot, is_lit in joined if is_lit]
        if line in self.grid.collectors:
            start, dot, _ = joined[0]
            self.picture.wires.append(Wire(f"c{number}", dot, self.id[line], "collect", ((start, y), (x - half, y)),
                                           f"{name}: of {len(joined)} steps", dim=self.dimmed))
            return
        tooltip = f"{name}: read at {len(joined)} dots; backward, each adds its own term to the gradient"
        start = x + half
        for until, dot in lit[-1:]:
            self.picture.wires.append(Wire(f"b{number}_lit", self.id[line], dot, "bus", ((start, y), (until, y)),
                                           tooltip, False, lit=True))
            start = until
        until, dot, _ = joined[-1]
        if until > start:
            self.picture.wires.append(Wire(f"b{number}", self.id[line], dot, "bus", ((start, y), (until, y)), tooltip,
                                           False, dim=self.dimmed))

    def finish(self) -> None:
        """The legend, and the size of the whole."""
        picture, buses = self.picture, [p for bus in self.grid.bus_rows for p in bus.tensors]
        term = [self.shown.term.parameter] if self.shown.term is not None else []
        example: Tensor | None = next(iter([*term, *self.content.recurrent, *buses]), None)
        end = put_legend(picture, self.content, self.graph.labels[example] if example is not None else "", EDGE,
                         self.dy + self.router.height + 26)
        texts = [note.x + text_width(note.text, note.size, note.bold) for note in picture.notes]
        picture.width, picture.height = max(self.router.width + self.dx, *texts) + EDGE, end
