"""Where the boxes stand: slots and rows of a grid in which every step has the same slots.

A step is laid out once, by roles. The lane, from the state that comes in to the state that goes out, is one row; what
feeds it hangs below, what is made of it is stacked above: no cell needs a table of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from .graph import Column, Item

Cell = tuple[int, int]  # slot, row; rows count upwards


@dataclass
class Grid:
    """Global cells: `at[item]` is (column number, slot, row); column 0 is what lies before the steps."""

    columns: list[Column]
    slots: list[int]  # how many slots each column has, the one before and the one after included
    at: dict[Item, tuple[int, int, int]] = field(default_factory=dict)
    bus_rows: dict[Item, int] = field(default_factory=dict)
    collectors: set[Item] = field(default_factory=set)

    def row_range(self) -> range:
        rows = [row for _, _, row in self.at.values()] or [0]
        return range(min(rows), max(rows) + 1)


def place(items: list[Item]) -> Grid:
    """A cell for every item of a graph with steps."""
    inside = [item for item in items if item.place == "step"]
    by_column: dict[Column, list[Item]] = {}
    for item in inside:
        assert item.column is not None
        by_column.setdefault(item.column, []).append(item)
    columns = sorted(by_column)
    cells = template(by_column)
    left = min(slot for slot, _ in cells.values())
    width = max(slot for slot, _ in cells.values()) - left + 1
    grid = Grid(columns, [1, *[width] * len(columns), 1])
    number = {c: i + 1 for i, c in enumerate(columns)}
    for item in inside:
        assert item.column is not None
        slot, row = cells[item.role]
        grid.at[item] = number[item.column], slot - left, row
    place_after(grid, [item for item in items if item.place == "after"], number)
    place_before(grid, items)
    return grid


# ------------------------------------------------------------------------------------------------------- one step
def template(by_column: dict[Column, list[Item]]) -> dict[Hashable, Cell]:
    """Role → cell. The fullest step, of equals the middle one, decides; other steps add the roles it lacks."""
    half = len(by_column) / 2
    ranked = sorted(enumerate(sorted(by_column)), key=lambda pair: (-len(by_column[pair[1]]), abs(pair[0] - half)))
    cells: dict[Hashable, Cell] = {}
    for _, c in ranked:
        unknown = [item for item in by_column[c] if item.role not in cells]
        if unknown:
            Step(by_column[c], cells).fill()
    return cells


class Step:
    """The items of one step, and the cells of roles known so far."""

    def __init__(self, items: list[Item], cells: dict[Hashable, Cell]) -> None:
        self.items, self.cells = items, cells
        self.inside = set(items)
        self.taken = set(cells.values())

    def fill(self) -> None:
        for lane in sorted({item.lane for item in self.items}, key=lane_key):
            path = self.lane_path(lane)
            if path and not all(item.role in self.cells for item in path):
                self.put_lane(path)
        for item in self.items:
            if item.role not in self.cells and item.inward:
                self.put_above(item)
        for item in self.items:
            if item.role not in self.cells:
                self.put_free(item, (0, 0), up=True)

    def sources(self, item: Item) -> list[Item]:
        return list(dict.fromkeys(a.source for a in item.inward if a.source in self.inside and not a.implicit))

    def lane_path(self, lane: Hashable) -> list[Item]:
        """The longest way from an item that reads a state to the item that is the next one of that state."""
        best: list[Item] = []
        members = [item for item in self.items if item.lane == lane]
        for state in {a.source.role: None for item in members for a in item.inward if a.implicit}:
            longest: dict[Item, list[Item]] = {}
            for item in members:
                reads = any(a.implicit and a.source.role == state for a in item.inward)
                ways = [longest[source] for source in self.sources(item) if source in longest]
                if ways or reads:
                    longest[item] = [*max(ways, key=len, default=[]), item]
            ends = [way for item, way in longest.items() if item.role == state]
            best = max([best, *ends], key=len)
        return best

    def put_lane(self, path: list[Item]) -> None:
        depth = max((self.depth_below(item, set(path)) for item in path), default=0)
        base = max((row for _, row in self.taken), default=-1 - depth) + 1 + depth
        backward = isinstance(path[0].lane, tuple) and path[0].lane[-1] == "backward"
        for i, item in enumerate(path):
            self.put(item, (len(path) - 1 - i if backward else i, base))
        for item in path:
            self.put_feeders(item)

    def depth_below(self, item: Item, lane: set[Item]) -> int:
        depth, level = 0, [item]
        while level:
            level = list(dict.fromkeys(s for x in level for s in self.sources(x)
                                       if s not in lane and s.role not in self.cells))
            depth += bool(level)
        return depth

    def put_feeders(self, item: Item) -> None:
        """What an item is made of, below it."""
        waiting = [(item, source) for source in reversed(self.sources(item))]
        while waiting:
            consumer, source = waiting.pop()
            if source.role not in self.cells:
                slot, row = self.cells[consumer.role]
                self.put_free(source, (slot, row - 1), up=False)
                waiting += [(source, deeper) for deeper in reversed(self.sources(source))]

    def put_above(self, item: Item) -> None:
        """A result above what it is made of; its leaves beside it."""
        known = [self.cells[s.role] for s in self.sources(item) if s.role in self.cells]
        if known:
            slot, row = max(known, key=lambda cell: cell[1])
            self.put_free(item, (slot, row + 1), up=True)
        else:
            self.put_free(item, (0, 0), up=True)
        slot, row = self.cells[item.role]
        for leaf in self.sources(item):
            if leaf.role not in self.cells:
                beside = [(slot - 1, row), (slot + 1, row)]
                self.put(leaf, next((c for c in beside if c not in self.taken and c[0] >= 0), None)
                         or self.free((slot, row - 1), up=False))

    def put_free(self, item: Item, wish: Cell, up: bool) -> None:
        self.put(item, self.free(wish, up))

    def free(self, wish: Cell, up: bool) -> Cell:
        """The nearest free cell: in the wished row a little aside, else one row further."""
        slot, row = wish
        while True:
            for aside in (0, -1, 1, 2):
                if slot + aside >= 0 and (slot + aside, row) not in self.taken:
                    return slot + aside, row
            row += 1 if up else -1

    def put(self, item: Item, cell: Cell) -> None:
        self.cells[item.role] = cell
        self.taken.add(cell)


def lane_key(lane: Hashable) -> tuple[str, ...]:
    """Layers from below, the forward direction first; what belongs to no lane comes last."""
    parts = lane if isinstance(lane, tuple) else (lane,)
    return tuple(["~" if p is None else {"forward": "0", "backward": "1"}.get(str(p), f"{p!s:>9}") for p in parts])


# ----------------------------------------------------------------------------------------------- before and after
def place_after(grid: Grid, items: list[Item], number: dict[Column, int]) -> None:
    """What is made of several steps: running totals above each step, one box that collects all of them at the end."""
    if not items:
        return
    last = len(grid.slots) - 1
    top = grid.row_range().stop
    taken: set[Cell] = set()
    for item in items:
        if item.column in number and item.first.op is not None:
            stepped = [grid.at[a.source] for a in item.inward if a.source.place == "step" and a.source in grid.at]
            cell = number[item.column], max(stepped)[1] if stepped else 0, top
            while cell in grid.at.values():
                cell = cell[0], cell[1], cell[2] + 1
            grid.at[item] = cell
    for item in items:
        if item in grid.at or item.first.op is None:
            continue
        sources = {a.source for a in item.inward if a.source.place != "bus"}
        steps = {grid.at[s][0] for s in sources if s in grid.at and s.place == "step"}
        earlier = [grid.at[s][1] for s in sources if s in grid.at and grid.at[s][0] == last]
        rows = [grid.at[s][2] for s in sources if s in grid.at]
        row = max(rows, default=top - 1)
        if len(steps) > 1:  # its line takes a row of its own
            row = max([r for _, _, r in grid.at.values()]) + 1
            grid.collectors.add(item)
        slot = max(earlier, default=-1) + 1
        while (slot, row) in taken:
            slot += 1
        taken.add((slot, row))
        grid.at[item] = last, slot, row
    for item in items:  # leaves: below the first thing that reads them
        if item not in grid.at:
            readers = [grid.at[a.target] for a in item.outward if a.target in grid.at]
            slot, row = (readers[0][1], readers[0][2] - 1) if readers and readers[0][0] == last else (0, top - 1)
            lines = {grid.at[collector][2] for collector in grid.collectors}
            while (slot, row) in taken or row in lines:
                row -= 1
            taken.add((slot, row))
            grid.at[item] = last, slot, row
    grid.slots[last] = max([slot for c, slot, _ in grid.at.values() if c == last], default=0) + 1


def place_before(grid: Grid, items: list[Item]) -> None:
    """Initial states beside the lane they start; each shared parameter on a row of its own, a bus."""
    last = len(grid.slots) - 1
    before = [item for item in items if item.place == "before"]
    buses = [item for item in items if item.place == "bus"]
    distance = distances(before, buses)
    depth = max(distance.values(), default=0)
    grid.slots[0] = depth + 1
    taken = {cell: item for item, cell in grid.at.items()}
    starting = [item for item in before if any(a.target in grid.at for a in item.outward)]
    for item in starting:
        put_before(grid, item, depth - distance[item], taken)
    steps = [row for item, (c, _, row) in grid.at.items() if any(a.implicit for a in item.inward) and 0 < c < last]
    rows = grid.row_range()
    highest_lane = max(steps, default=rows.stop)
    above: list[Item] = []
    below: list[Item] = []
    for bus in buses:
        used = [grid.at[a.target][2] for a in bus.outward if a.target in grid.at]
        (above if used and min(used) > highest_lane else below).append(bus)
    grid.bus_rows.update({bus: rows.start - 1 - i for i, bus in enumerate(below)})
    grid.bus_rows.update({bus: rows.stop + len(above) - 1 - i for i, bus in enumerate(above)})
    for bus, row in grid.bus_rows.items():
        grid.at[bus] = 0, depth - distance[bus], row
        taken[grid.at[bus]] = bus
    for item in reversed(before):
        if item not in grid.at:
            put_before(grid, item, depth - distance[item], taken)


def put_before(grid: Grid, item: Item, slot: int, taken: dict[tuple[int, int, int], Item]) -> None:
    """In the row of the first thing that reads it; at the right where that is the last step, as for a backward lane."""
    last = len(grid.slots) - 1
    readers = [grid.at[a.target] for a in item.outward if a.target in grid.at]
    column, _, row = readers[0] if readers else (0, 0, 0)
    cell = (last, 0, row) if column == last - 1 > 1 else (0, slot, row)
    lines = {row: grid.at[bus][1] for bus, row in grid.bus_rows.items() if bus in grid.at}
    lines |= {grid.at[collector][2]: -1 for collector in grid.collectors}
    while cell in taken or (cell[0] == 0 and lines.get(cell[2], slot) < slot):
        cell = cell[0], cell[1], cell[2] - 1
    taken[cell] = item
    grid.at[item] = cell


def distances(before: list[Item], buses: Iterable[Item]) -> dict[Item, int]:
    """How many boxes lie between each item before the steps and the steps."""
    distance: dict[Item, int] = {}
    for item in sorted((*before, *buses), key=lambda i: i.first.index, reverse=True):
        distance[item] = 1 + max((distance[a.target] for a in item.outward if a.target in distance), default=-1)
    return distance
