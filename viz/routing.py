"""How the lines run: straight between neighbours, otherwise along gutters (between rows) and channels (between slots).

No line crosses a box, and no two lines share a place: in every gutter and channel each line has a track of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from .graph import Arc, Item
from .picture import Point
from .placing import Grid

Side = Literal["left", "right", "top", "bottom"]
Channel = tuple[int, int]  # column, and the slot to its right
TRACK = 7.0  # points between two lines side by side
GUTTER, CHANNEL = 18.0, 12.0  # a gutter and a channel without lines
BUS_GUTTER = 8.0  # between two parameters
MARGIN = 6.0  # between a band and its first channel
BETWEEN = 8.0  # between two bands
ASIDE = 3.0  # points that such a line moves aside for the one that it faces
PORT = 10.0  # points between two lines at one side of a box


@dataclass(eq=False, slots=True)
class Run:
    """A piece of a way along a gutter (its number) or a channel, from `low` to `high`, on a track of its own.

    What flows from one box to several others in one step takes the same runs, up to where it branches off.
    """

    along: int | Channel
    low: int
    high: int
    left: bool = False  # of a channel: the lines to the box on its left
    track: int = 0


@dataclass(eq=False, slots=True)
class Route:
    """The way of one arc. `line` is set for a tap: the item whose bus or collecting line it leaves or joins."""

    arc: Arc
    start: Side
    end: Side
    runs: list[Run] = field(default_factory=list)  # none: straight
    line: Item | None = None
    net: Hashable = None  # what the routes that share runs have in common


class Router:
    """Chooses a way for every arc, then counts tracks, then knows where everything is."""

    def __init__(self, grid: Grid, sizes: dict[Item, tuple[float, float]], wider: float = 0.0) -> None:
        self.grid, self.sizes, self.channel = grid, sizes, CHANNEL + wider
        self.base = [0]
        for slots in grid.slots:
            self.base.append(self.base[-1] + 2 * slots + 2)
        self.key = {item: self.base[c] + 2 * s + 1 for item, (c, s, _) in grid.at.items()}
        self.row = {item: r for item, (_, _, r) in grid.at.items()}
        self.right_of, self.above = neighbours(self.key, self.row), neighbours(self.row, self.key)
        self.lowest, self.highest = self._ends_of_columns()
        self.routes: list[Route] = []
        self.nets: dict[Hashable, list[Route]] = {}
        self.runs: dict[int | Channel, list[Run]] = defaultdict(list)
        self.ports: dict[tuple[Item, Side], list[tuple[int, Route]]] = defaultdict(list)

    def _ends_of_columns(self) -> tuple[dict[int, Item], dict[int, Item]]:
        """The lowest and the highest box over every slot."""
        lowest: dict[int, Item] = {}
        highest: dict[int, Item] = {}
        for item, key in self.key.items():
            if key not in lowest or self.row[item] < self.row[lowest[key]]:
                lowest[key] = item
            if key not in highest or self.row[item] > self.row[highest[key]]:
                highest[key] = item
        return lowest, highest

    # ---------------------------------------------------------------------------------------------- choosing ways
    def add(self, arc: Arc) -> None:
        if arc.source in self.grid.bus_rows and self.grid.at[arc.target][0] > 0:
            route = self._tap(arc, arc.source, arc.target)
        elif arc.target in self.grid.collectors and 0 < self.grid.at[arc.source][0] < len(self.grid.slots) - 1:
            route = self._tap(arc, arc.target, arc.source)
            if not any(way == 0 for way, _ in self.ports[arc.target, "left"]):  # where the line itself ends
                self.ports[arc.target, "left"].append((0, route))
        else:
            route = self._edge(arc)
        self.routes.append(route)

    def _tap(self, arc: Arc, line: Item, box: Item) -> Route:
        """Between a horizontal line and a box: straight up or down where nothing is in the way, else by a channel."""
        up = self.row[line] > self.row[box]
        free = (self.highest if up else self.lowest)[self.key[box]] is box
        if free:
            side: Side = "top" if up else "bottom"
            route = Route(arc, side, side, line=line)
            self.ports[box, side].append((0, route))
            return route
        c, s, row = self.grid.at[box]
        side = "right" if up else "left"
        run = self._run((c, s + up), 2 * self.row[line] + 1, 2 * row + 1, left=up)
        route = Route(arc, side, side, [run], line)
        self.ports[box, side].append((1 if up else -1, route))
        return route

    def _edge(self, arc: Arc) -> Route:
        a, b = arc.source, arc.target
        sides = self._facing(a, b)
        if sides is not None:
            route = Route(arc, *sides)
            self.ports[a, route.start].append((0, route))
            self.ports[b, route.end].append((0, route))
            return route
        ra, rb, ka, kb = self.row[a], self.row[b], self.key[a], self.key[b]
        route = Route(arc, "top" if rb >= ra else "bottom", "top" if rb <= ra else "bottom")
        leave, enter = (ra + 1 if rb >= ra else ra), (rb + 1 if rb <= ra else rb)
        c, s, _ = self.grid.at[b]
        route.net = arc if arc.cut else (a, c, leave, enter, arc.implicit)  # a gap must not lie under another line
        net = self.nets.setdefault(route.net, [])
        net.append(route)
        self.ports[b, route.end].append((1 if ka > kb else -1, route))
        if len(net) > 1:
            route.runs = net[0].runs
            last = route.runs[-1]
            last.low, last.high = min(last.low, kb), max(last.high, kb)
            return route
        self.ports[a, route.start].append((1 if kb > ka else -1, route))
        if leave == enter:
            route.runs = [self._run(leave, ka, kb)]
            return route
        from_left, from_right = self.grid.at[a][0] < c, self.grid.at[a][0] > c
        right = from_right or (not from_left and ka >= kb)
        slot = 0 if from_left else self.grid.slots[c] if from_right else s + right
        k = self.base[c] + 2 * slot
        route.runs = [self._run(leave, ka, k), self._run((c, slot), 2 * leave, 2 * enter, left=right),
                      self._run(enter, k, kb)]
        return route

    def _facing(self, a: Item, b: Item) -> tuple[Side, Side] | None:
        """The sides at which two boxes face each other with nothing in between; None if they do not."""
        if self.right_of.get(a) is b:
            return "right", "left"
        if self.right_of.get(b) is a:
            return "left", "right"
        if self.above.get(a) is b:
            return "top", "bottom"
        return ("bottom", "top") if self.above.get(b) is a else None

    def _run(self, along: int | Channel, k: int, m: int, left: bool = False) -> Run:
        run = Run(along, min(k, m), max(k, m), left)
        self.runs[along].append(run)
        return run

    # ------------------------------------------------------------------------------------------------ giving tracks
    def settle(self) -> None:
        """Tracks for all lines, then the coordinates of rows, slots, gutters and channels."""
        self.tracks: dict[int, int] = {}
        self.channel_tracks: dict[Channel, tuple[int, int]] = {}
        for along, runs in self.runs.items():
            if isinstance(along, int):
                self.tracks[along] = in_order(runs)
                continue
            counts = [stack([run for run in runs if run.left == left]) for left in (True, False)]
            same = self._alike(along)
            left, right = self.channel_tracks.get(same, (0, 0))
            self.channel_tracks[same] = max(left, counts[0]), max(right, counts[1])
        self._measure()

    def _alike(self, channel: Channel) -> Channel:
        """Steps are equally wide: their channels are counted together."""
        c, s = channel
        return channel if c in (0, len(self.grid.slots) - 1) else (1, s)

    def _measure(self) -> None:
        last = len(self.grid.slots) - 1
        wide: dict[Channel, float] = defaultdict(float)
        high: dict[int, float] = defaultdict(float)
        for item, (c, s, r) in self.grid.at.items():
            width, height = self.sizes[item]
            same = self._alike((c, s))
            wide[same], high[r] = max(wide[same], width), max(high[r], height)
        self.x: dict[Channel, float] = {}
        self.channel_x: dict[Channel, float] = {}
        self.bands: list[tuple[float, float]] = []
        x = 0.0
        for c, slots in enumerate(self.grid.slots):
            start = x
            x += MARGIN if 0 < c < last else 0
            for s in range(slots + 1):
                self.channel_x[c, s] = x
                x += self._channel_width(c, s)
                if s < slots:
                    self.x[c, s] = x + wide[self._alike((c, s))] / 2
                    x += wide[self._alike((c, s))]
            x += MARGIN if 0 < c < last else 0
            self.bands.append((start, x))
            x += BETWEEN if c < last else 0
        self.width = x
        self.y: dict[int, float] = {}
        self.gutter_y: dict[int, float] = {}
        rows = range(min(self.row.values()), max(self.row.values()) + 1)
        y = 0.0
        for r in reversed(rows):
            y += self._gutter(r + 1, y)
            self.y[r] = y + high[r] / 2
            y += high[r]
        self.height = y + self._gutter(rows.start, y)

    def _channel_width(self, c: int, s: int) -> float:
        outer = (s == 0 and c == 0) or (s == self.grid.slots[c] and c == len(self.grid.slots) - 1)
        return (0.0 if outer else self.channel) + TRACK * sum(self.channel_tracks.get(self._alike((c, s)), (0, 0)))

    def _gutter(self, gutter: int, y: float) -> float:
        self.gutter_y[gutter] = y
        between_buses = {gutter - 1, gutter} <= set(self.grid.bus_rows.values()) and gutter not in self.tracks
        return BUS_GUTTER if between_buses else GUTTER + TRACK * self.tracks.get(gutter, 0)

    # --------------------------------------------------------------------------------------------------- coordinates
    def centre(self, item: Item) -> Point:
        c, s, r = self.grid.at[item]
        return self.x[c, s], self.y[r]

    def offsets(self) -> dict[tuple[Route, Item], float]:
        """How far from the middle of its side each line meets a box."""
        found: dict[tuple[Route, Item], float] = {}
        for (item, side), ends in self.ports.items():
            if len(ends) == 1:
                found[ends[0][1], item] = 0.0
                continue
            straight = [route for way, route in ends if way == 0]
            aside = [(way, route) for way, route in ends if way != 0]
            for i, route in enumerate(straight):
                found[route, item] = (i - (len(straight) - 1) / 2) * PORT
            used = {-1: len(straight) / 2, 1: len(straight) / 2}
            for way, route in aside:
                found[route, item] = way * (used[way] + 0.5) * PORT * (-1 if side in ("left", "right") else 1)
                used[way] += 1
            width, height = self.sizes[item]
            limit = (height if side in ("left", "right") else width) / 2 - 5
            widest = max([abs(found[route, item]) for _, route in aside], default=0.0)
            for _, route in aside:
                found[route, item] *= min(1.0, limit / widest)
        for item, upper in self.above.items():  # lines that turn between two boxes must not meet
            if self.row[upper] == self.row[item] + 1:
                for way, route in self.ports.get((item, "top"), ()):
                    found[route, item] += ASIDE if way else 0.0
        for routes in self.nets.values():
            source = routes[0].arc.source
            found.update({(route, source): found[routes[0], source] for route in routes})
        return found

    def place_of(self, run: Run) -> float:
        """The x of a run along a channel, the y of one along a gutter."""
        if isinstance(run.along, int):
            return self.gutter_y[run.along] + GUTTER / 2 + TRACK * (run.track + 0.5)
        left, right = self.channel_tracks[self._alike(run.along)]
        place = run.track if run.left else left + right - 1 - run.track
        return self.channel_x[run.along] + self.channel / 2 + TRACK * (place + 0.5)

    def port(self, item: Item, side: Side, offset: float) -> Point:
        x, y = self.centre(item)
        width, height = self.sizes[item]
        if side in ("left", "right"):
            return x + (width / 2 if side == "right" else -width / 2), y + offset
        return x + offset, y + (height / 2 if side == "bottom" else -height / 2)

    def points(self, route: Route, offset: dict[tuple[Route, Item], float]) -> tuple[Point, ...]:
        """The corners of a way, from its source (or bus) to its target (or collecting line)."""
        a, b = route.arc.source, route.arc.target
        if route.line is not None:
            box = a if route.line is b else b
            end = self.port(box, route.end, offset[route, box])
            y = self.y[self.row[route.line]]
            xs = [self.place_of(run) for run in route.runs]
            way = ((xs[0], y), (xs[0], end[1]), end) if xs else ((end[0], y), end)
            return way[::-1] if box is a else way
        start = self.port(a, route.start, offset[route, a])
        end = self.port(b, route.end, offset[route, b])
        if not route.runs:
            return straightened(start, end, route.start)
        places = [self.place_of(run) for run in route.runs]
        if len(places) == 1:
            return start, (start[0], places[0]), (end[0], places[0]), end
        first, x, last = places
        return start, (start[0], first), (x, first), (x, last), (end[0], last), end


def in_order(runs: list[Run]) -> int:
    """Tracks for the lines in a gutter, from the left; returns how many."""
    ends: list[int] = []
    for run in sorted(runs, key=lambda run: (run.low, run.high)):
        run.track = next((i for i, end in enumerate(ends) if end < run.low), len(ends))
        ends[run.track : run.track + 1] = [run.high]
    return len(ends)


def stack(runs: list[Run]) -> int:
    """Tracks for the lines to the box on one side of a channel, short ones next to it so that they do not cross."""
    tracks: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.high - run.low):
        free = (i for i, used in enumerate(tracks) if all(run.high < u.low or u.high < run.low for u in used))
        run.track = next(free, len(tracks))
        tracks += [[]] if run.track == len(tracks) else []
        tracks[run.track].append(run)
    return len(tracks)


def straightened(start: Point, end: Point, side: Side) -> tuple[Point, ...]:
    """Two ports that face each other: one line; a small step where other lines have pushed them apart."""
    if side in ("left", "right"):
        if abs(start[1] - end[1]) < 0.5:
            return start, end
        x = (start[0] + end[0]) / 2
        return start, (x, start[1]), (x, end[1]), end
    if abs(start[0] - end[0]) < 0.5:
        return start, end
    y = (start[1] + end[1]) / 2
    return start, (start[0], y), (end[0], y), end


def neighbours(along: dict[Item, int], across: dict[Item, int]) -> dict[Item, Item]:
    """Each item's next one in its row (or slot), with nothing between them."""
    lines: dict[int, list[Item]] = defaultdict(list)
    for item, number in across.items():
        lines[number].append(item)
    following: dict[Item, Item] = {}
    for line in lines.values():
        line.sort(key=lambda item: along[item])
        following.update(pairwise(line))
    return following
