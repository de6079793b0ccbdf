"""Where the boxes stand: slots and rows of a grid. Every step has the same slots; before and after are columns, too."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from .graph import Column, Item
from .template import Cell, state_keys, template


@dataclass
class Grid:
    """Global cells: `at[item]` is (column number, slot, row); column 0 is what lies before the steps."""

    columns: list[Column]
    slots: list[int]  # how many slots each column has, the one before and the one after included
    at: dict[Item, tuple[int, int, int]] = field(default_factory=dict)
    in_lane: set[Hashable] = field(default_factory=set)  # the roles that some lane is made of
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
    in_lane: set[Hashable] = set()
    cells: dict[Item, Cell] = {}
    made = {sequence: template({c: found for c, found in by_column.items() if c[0] == sequence})
            for sequence in sorted({c[0] for c in columns})}
    first = max([min(each.lines, default=0) for each in made.values()])  # a decoder goes on in the rows of its encoder
    for item in inside:
        assert item.column is not None
        each = made[item.column[0]]
        slot, row = each.cells[item.role]
        cells[item] = slot, row + first - min(each.lines, default=first)
        in_lane |= each.in_lane
    left = min(slot for slot, _ in cells.values())
    width = max(slot for slot, _ in cells.values()) - left + 1
    grid = Grid(columns, [1, *[width] * len(columns), 1], in_lane=in_lane)
    number = {c: i + 1 for i, c in enumerate(columns)}
    for item, (slot, row) in cells.items():
        assert item.column is not None
        grid.at[item] = number[item.column], slot - left, row
    place_after(grid, [item for item in items if item.place == "after"], number)
    place_before(grid, items)
    return grid


# ----------------------------------------------------------------------------------------------- before and after
def place_after(grid: Grid, items: list[Item], number: dict[Column, int]) -> None:
    """What is made of several steps: running totals above each step, one box that collects all of them at the end."""
    if not items:
        return
    last = len(grid.slots) - 1
    top = grid.row_range().stop
    used = set(grid.at.values())
    for item in items:
        if item.column in number and item.first.op is not None:
            stepped = [grid.at[a.source] for a in item.inward if a.source.place == "step" and a.source in grid.at]
            cell = number[item.column], max(stepped)[1] if stepped else 0, top
            while cell in used:
                cell = cell[0], cell[1], cell[2] + 1
            used.add(cell)
            grid.at[item] = cell
    taken: set[Cell] = set()
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
    before = [item for item in items if item.place == "before"]
    buses = [item for item in items if item.place == "bus"]
    distance = distances(before, buses)
    depth = max(distance.values(), default=0)
    grid.slots[0] = depth + 1
    taken = {cell: item for item, cell in grid.at.items()}
    states = {(item.lane, key): row for item, (_, _, row) in grid.at.items() if item.role in grid.in_lane
              for key in state_keys(item)}
    starting = [item for item in before if any(a.target in grid.at for a in item.outward)]
    for item in starting:
        target = item.outward[0].target
        row = states.get((target.lane, state_keys(item)[0]), grid.at[target][2] if target in grid.at else 0)
        put_before(grid, item, depth - distance[item], row, taken)
    above, below = sides(grid, buses)
    rows = grid.row_range()
    grid.bus_rows.update({bus: rows.start - 1 - i for i, bus in enumerate(below)})
    grid.bus_rows.update({bus: rows.stop + len(above) - 1 - i for i, bus in enumerate(above)})
    for bus, row in grid.bus_rows.items():
        grid.at[bus] = 0, depth - distance[bus], row
        taken[grid.at[bus]] = bus
    for item in reversed(before):
        if item not in grid.at:
            target = item.outward[0].target
            put_before(grid, item, depth - distance[item], grid.at[target][2], taken)


def sides(grid: Grid, buses: list[Item]) -> tuple[list[Item], list[Item]]:
    """The parameters to be drawn above the steps and those below: those of the lower lanes and of what they read."""
    rows: dict[Hashable, list[int]] = {}
    lanes = {item.lane for item in grid.at if any(a.implicit for a in item.inward)}
    for item, (_, _, row) in grid.at.items():
        if item.role in grid.in_lane and item.first.op is not None and item.lane in lanes:  # no x_t, no M x_t
            rows.setdefault(item.lane, []).append(row)
    every = [row for lane in rows.values() for row in lane] or [0]
    middle = (min(every) + max(every)) / 2
    high = {lane for lane, found in rows.items() if min(found) > middle}
    below = {bus for bus in buses
             if any(a.target.role in grid.in_lane and a.target.lane not in high for a in bus.outward)}
    return [bus for bus in buses if bus not in below], [bus for bus in buses if bus in below]


def put_before(grid: Grid, item: Item, slot: int, row: int, taken: dict[tuple[int, int, int], Item]) -> None:
    """In that row or below it; at the right where the last step reads it first, as in a backward lane."""
    last = len(grid.slots) - 1
    readers = [grid.at[a.target] for a in item.outward if a.target in grid.at]
    column = readers[0][0] if readers else 0
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
