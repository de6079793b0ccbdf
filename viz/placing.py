"""Where the boxes stand: slots and rows of a grid in which every step has the same slots.

A step is laid out once, by roles. The lane, from the state that comes in to the state that goes out, is one row; what
feeds it hangs below, what is made of it is stacked above: no cell needs a table of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from .graph import Column, Item
from .notation import stem

Cell = tuple[int, int]  # slot, row; rows count upwards
PRODUCTS = ("matmul", "getitem")  # a matrix times the input or the state, a row of a table


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
    cells, in_lane = template(by_column)
    left = min(slot for slot, _ in cells.values())
    width = max(slot for slot, _ in cells.values()) - left + 1
    grid = Grid(columns, [1, *[width] * len(columns), 1], in_lane=in_lane)
    number = {c: i + 1 for i, c in enumerate(columns)}
    for item in inside:
        assert item.column is not None
        slot, row = cells[item.role]
        grid.at[item] = number[item.column], slot - left, row
    place_after(grid, [item for item in items if item.place == "after"], number)
    place_before(grid, items)
    return grid


# ------------------------------------------------------------------------------------------------------- one step
def template(by_column: dict[Column, list[Item]]) -> tuple[dict[Hashable, Cell], set[Hashable]]:
    """Role → cell, and the roles in lanes. The fullest step, of equals the middle one, decides; others add to it."""
    half = len(by_column) / 2
    ranked = sorted(enumerate(sorted(by_column)), key=lambda pair: (-len(by_column[pair[1]]), abs(pair[0] - half)))
    cells: dict[Hashable, Cell] = {}
    lines: set[int] = set()
    in_lane: set[Hashable] = set()
    for _, c in ranked:
        if any(item.role not in cells for item in by_column[c]):
            Step(by_column[c], cells, lines, in_lane).fill()
    return cells, in_lane


class Step:
    """The items of one step, and the cells of roles known so far."""

    def __init__(self, items: list[Item], cells: dict[Hashable, Cell], lines: set[int],
                 in_lane: set[Hashable]) -> None:
        self.items, self.cells, self.lines, self.in_lane = items, cells, lines, in_lane
        self.inside = set(items)
        self.taken = set(cells.values())

    def fill(self) -> None:
        lanes = sorted({item.lane for item in self.items if any(a.implicit for a in item.inward)}, key=lane_key)
        recurrent = set(lanes)
        for lane in lanes:
            states = self.states_of(lane)
            core = self.behind(states, recurrent - {lane})
            self.in_lane.update([item.role for item in core])
            if states and not any(item.role in self.cells for item in core):
                Lane(self, core, states).put(backward=isinstance(lane, tuple) and lane[-1] == "backward")
        for item in self.items:
            if item.role not in self.cells and item.inward:
                self.put_above(item)
        for item in self.items:
            if item.role not in self.cells:
                self.put(item, self.free((0, 0), up=True))

    def sources(self, item: Item) -> list[Item]:
        return list(dict.fromkeys(a.source for a in item.inward if a.source in self.inside and not a.implicit))

    def states_of(self, lane: Hashable) -> list[Item]:
        """The last item of this step under each name that the lane reads from another step."""
        read = {state_key(a.source) for item in self.items if item.lane == lane for a in item.inward if a.implicit}
        last = {state_key(item): item for item in self.items if item.lane == lane and item.first.op is not None}
        return [item for key, item in last.items() if key in read]

    def behind(self, states: list[Item], other: set[Hashable]) -> list[Item]:
        """What a lane's states are made of in this step, but for what belongs to another lane."""
        found = set(states)
        waiting = list(states)
        while waiting:
            for source in self.sources(waiting.pop()):
                if source not in found and source.role not in self.cells and source.lane not in other:
                    found.add(source)
                    waiting.append(source)
        return [item for item in self.items if item in found]

    def put_above(self, item: Item) -> None:
        """A result above what it is made of; its leaves beside it."""
        known = [self.cells[s.role] for s in self.sources(item) if s.role in self.cells]
        slot, row = max(known, key=lambda cell: cell[1], default=(0, -1))
        slot, row = self.put(item, self.free((slot, row + 1), up=True))
        for leaf in self.sources(item):
            if leaf.role not in self.cells:
                beside = [(slot - 1, row), (slot + 1, row)]
                self.put(leaf, next((c for c in beside if c not in self.taken and c[0] >= 0), None)
                         or self.free((slot, row - 1), up=False))

    def free(self, wish: Cell, up: bool) -> Cell:
        """The nearest free cell: in the wished row a little aside, else one row further; never on the line of a lane."""
        slot, row = wish
        while True:
            for aside in (0, -1, 1, 2) if row not in self.lines else ():
                if slot + aside >= 0 and (slot + aside, row) not in self.taken:
                    return slot + aside, row
            row += 1 if up else -1

    def put(self, item: Item, cell: Cell) -> Cell:
        self.cells[item.role] = cell
        self.taken.add(cell)
        return cell


class Lane:
    """One step of one recurrence: its line on top, below it what flows in, the gates in a row, their products below.

    The line is the shortest way from a state to itself, one step on: of an RNN W h, z, h; of an LSTM the conveyor belt
    f∘c, c; of a GRU z∘h, h. A further state, the h of an LSTM, stands at the foot, where it is read.
    """

    def __init__(self, step: Step, core: list[Item], states: list[Item]) -> None:
        self.step, self.core = step, core
        sources = {item: [s for s in step.sources(item) if s in set(core)] for item in core}
        self.line = self.shortest(states, sources)
        on_line = set(self.line)
        self.feeders = {item: [s for s in sources[item] if s not in on_line] for item in core}
        self.foot = [state for state in states if state not in on_line]
        self.rank = self.ranks([item for item in core if item not in on_line])
        self.slot: dict[Item, int] = {}
        self.cells: set[Cell] = set()
        self.slots = 0

    def shortest(self, states: list[Item], sources: dict[Item, list[Item]]) -> list[Item]:
        """The way from a state to itself with the fewest items; of equals, to the state that is made of the fewest."""
        ways = []
        for state in states:
            way, queue = {state: [state]}, [state]
            for item in queue:
                for source in sources[item]:
                    if source not in way:
                        way[source] = [source, *way[item]]
                        queue.append(source)
            back = [way[item] for item in queue if any(
                a.implicit and state_key(a.source) == state_key(state) for a in item.inward)]
            ways += [(len(found), len(queue), found) for found in back[:1]]
        return min(ways, key=lambda way: way[:2])[2] if ways else states[:1]

    def ranks(self, items: list[Item]) -> dict[Item, int]:
        """How high above the foot: products of the input, then products of the state, then one more than its feeders.

        What is made of the line or of numbers alone, such as tanh c or the 1 of 1 - z, stands just below its reader.
        """
        rank: dict[Item, int] = {}
        readers: dict[Item, list[Item]] = {}
        for item in items:
            lowest = 0 if item.first.op is None else 2 if any(a.implicit for a in item.inward) else 1
            rank[item] = max([rank[s] + 1 for s in self.feeders[item]], default=0)
            rank[item] = max(rank[item], lowest)
            for source in self.feeders[item]:
                readers.setdefault(source, []).append(item)
        rank.update(dict.fromkeys(self.foot, max([r for item, r in rank.items() if item not in self.foot], default=0) + 1))
        for item in reversed(items):
            if not self.feeders[item] and item in readers and not (item.first.op and item.first.op.name in PRODUCTS):
                rank[item] = min([rank[reader] for reader in readers[item]]) - 1
        rank.update(dict.fromkeys(self.foot, 0))
        return rank

    def put(self, backward: bool) -> None:
        top = max(self.rank.values(), default=0) + 1
        self.rank.update(dict.fromkeys(self.line, top))
        for item in self.line:
            opened = self.slots
            self.settle(item, [kid for kid in self.grow(item) if self.slot[kid] >= opened])
        for item in self.foot:
            self.grow(item)
            self.settle(item, [])
        levels = {rank: i for i, rank in enumerate(sorted(set(self.rank.values())))}
        base = max([row for _, row in self.step.taken], default=-1) + 1
        for item, slot in self.slot.items():
            self.step.put(item, (self.slots - 1 - slot if backward else slot, base + levels[self.rank[item]]))
        self.step.lines.add(base + levels[top])

    def grow(self, root: Item) -> list[Item]:
        """Give slots to all that a root is made of, from the left; returns its own feeders among them."""
        kids: dict[Item, list[Item]] = {root: []}
        stack = [(root, iter(self.feeders[root]))]
        first = self.slots
        while stack:
            item, rest = stack[-1]
            kid = next((k for k in rest if k not in self.slot and k not in kids and k not in self.foot), None)
            if kid is not None:
                kids[item].append(kid)
                kids[kid] = []
                stack.append((kid, iter(self.feeders[kid])))
                continue
            stack.pop()
            if item is not root:
                self.settle(item, kids[item], first)
        return kids[root]

    def settle(self, item: Item, kids: list[Item], first: int | None = None) -> None:
        """Above the highest of its feeders; without any, in a slot from `first` on that has room, else in a new one."""
        wishes = [self.slot[max(kids, key=lambda kid: self.rank[kid])]] if kids else \
            [] if first is None else range(self.slots - 1, first - 1, -1)
        rank = self.rank[item]
        slot = next((s for s in wishes if (s, rank) not in self.cells), self.slots)
        self.slots = max(self.slots, slot + 1)
        self.slot[item] = slot
        self.cells.add((slot, rank))


def state_key(item: Item) -> Hashable:
    """What a state has in common at every step: its name without the step's number; a box of many has its role."""
    name = item.first.name if len(item.tensors) == 1 else ""
    return stem(name) if name else item.role


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
    state_rows = {(a.target.role, state_key(a.source)): grid.at[a.source][2]
                  for item in grid.at for a in item.inward if a.implicit and a.source in grid.at}
    starting = [item for item in before if any(a.target in grid.at for a in item.outward)]
    for item in starting:
        put_before(grid, item, depth - distance[item], taken)
    rows = grid.row_range()
    above: list[Item] = []
    below: list[Item] = []
    for bus in buses:
        (below if any(a.target.role in grid.in_lane for a in bus.outward) else above).append(bus)
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
