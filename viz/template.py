"""Where the roles of a step stand, the same at every step: read from the graph alone, no cell is registered anywhere.

A lane is laid out round its line, one row from the state that comes in to the state that goes out. What flows in comes
from below: products of the input, above them products of the state, then gates in a row, then what they multiply. What
is made of a lane's states, and belongs to none, is stacked above them; where the lane itself stands above a state, as
over the h of an LSTM, it makes a row on top of all lanes.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from .graph import Arc, Column, Item
from .notation import stem

Cell = tuple[int, int]  # slot, row; rows count upwards


@dataclass
class Template:
    """Role → cell in the steps of one sequence."""

    cells: dict[Hashable, Cell] = field(default_factory=dict)
    taken: set[Cell] = field(default_factory=set)
    lines: set[int] = field(default_factory=set)  # the rows in which states go on to the next step
    in_lane: set[Hashable] = field(default_factory=set)  # the roles that lanes are made of
    aside: set[Cell] = field(default_factory=set)  # above all lanes, as there is no room above what they are made of

    @property
    def width(self) -> int:
        return max([slot for slot, _ in self.taken]) + 1

    def put(self, item: Item, cell: Cell) -> Cell:
        self.cells[item.role] = cell
        self.taken.add(cell)
        return cell

    def free(self, wish: Cell, up: bool) -> Cell:
        """The nearest free cell: in the wished row a little aside, else a row further; never on the line of a lane."""
        slot, row = wish
        while True:
            for aside in (0, -1, 1, 2) if row not in self.lines else ():
                if slot + aside >= 0 and (slot + aside, row) not in self.taken:
                    return slot + aside, row
            row += 1 if up else -1


def template(by_column: dict[Column, list[Item]]) -> Template:
    """The template of these steps.

    The step with the most lanes decides, of equals the fullest, then the middle one; others add the roles it lacks.
    """
    half = len(by_column) / 2
    ranked = sorted(enumerate(sorted(by_column)), key=lambda pair: (
        -len(lanes_of(by_column[pair[1]])), -len(by_column[pair[1]]), abs(pair[0] - half)))
    made = Template()
    for _, c in ranked:
        if any(item.role not in made.cells for item in by_column[c]):
            Step(by_column[c], made).fill()
    return made


def lanes_of(items: list[Item]) -> list[Hashable]:
    """The lanes among these items that read a state of another step: from below."""
    return sorted({item.lane for item in items if any(a.implicit for a in item.inward)}, key=lane_key)


class Step:
    """The items of one step, put into the template."""

    def __init__(self, items: list[Item], made: Template) -> None:
        self.items, self.made = items, made
        self.inside = set(items)

    def fill(self) -> None:
        lanes = lanes_of(self.items)
        for lane in lanes:
            states = self.states_of(lane)
            core = self.behind(states, set(lanes) - {lane})
            self.made.in_lane.update([item.role for item in core])
            if states and not any(item.role in self.made.cells for item in core):
                Lane(self, core, states).put(backward=isinstance(lane, tuple) and lane[-1] == "backward")
        for item in self.items:
            if item.role not in self.made.cells and item.inward:
                self.put_above(item)
        for item in self.items:
            if item.role not in self.made.cells:
                readers = [self.made.cells[a.target.role] for a in item.outward if a.target.role in self.made.cells]
                self.put_beside(item, next(iter(readers), (0, 0)))

    def sources(self, item: Item) -> list[Item]:
        return list(dict.fromkeys(a.source for a in item.inward if a.source in self.inside and not a.implicit))

    def states_of(self, lane: Hashable) -> list[Item]:
        """The last item of this step under each name that the lane reads from another step.

        A running total, which nothing but the next total reads, is no state, unless there is no other.
        """
        readers: dict[Hashable, set[Item]] = {}
        for item in self.items:
            for arc in item.inward if item.lane == lane else ():
                if arc.implicit:
                    readers.setdefault(carried(arc), set()).add(item)
        last = {key: item for item in self.items if item.lane == lane and item.first.op for key in state_keys(item)}
        states = {key: item for key, item in last.items() if key in readers}
        real = [item for key, item in states.items() if readers[key] != {item}]
        return list(dict.fromkeys(real or states.values()))

    def behind(self, states: list[Item], other: set[Hashable]) -> list[Item]:
        """What a lane's states are made of in this step, but for what belongs to another lane."""
        found = set(states)
        waiting = list(states)
        while waiting:
            for source in self.sources(waiting.pop()):
                if source not in found and source.role not in self.made.cells and source.lane not in other:
                    found.add(source)
                    waiting.append(source)
        return [item for item in self.items if item in found]

    def put_above(self, item: Item) -> None:
        """A result above what it is made of, or in a row on top where there is no room; its leaves beside it."""
        known = [self.made.cells[s.role] for s in self.sources(item) if s.role in self.made.cells]
        slot, row = max(known, key=lambda cell: cell[1], default=(0, -1))
        if (slot, row) in self.made.aside and slot + 1 < self.made.width and (slot + 1, row) not in self.made.taken:
            cell = slot + 1, row
            self.made.aside.add(cell)
        elif any(s == slot and row < r for s, r in self.made.taken) and self.made.lines:
            cell = 0, max([r for _, r in self.made.taken]) + 1
            self.made.aside.add(cell)
        else:
            cell = self.made.free((slot, row + 1), up=True)
        self.made.put(item, cell)
        for leaf in self.sources(item):
            if leaf.role not in self.made.cells:
                self.put_beside(leaf, cell)

    def put_beside(self, leaf: Item, cell: Cell) -> None:
        """To the left of a cell or to its right; where neither is free, as near below it as can be."""
        slot, row = cell
        beside = [c for c in ((slot - 1, row), (slot + 1, row)) if c not in self.made.taken and c[0] >= 0]
        self.made.put(leaf, beside[0] if beside else self.made.free((slot, row - 1), up=False))


class Lane:
    """One step of one recurrence: its line on top, below it what flows in, the gates in a row, their products below.

    The line is the shortest way from a state to itself, one step on: of an RNN W h, z, h; of an LSTM the conveyor belt
    f∘c, c; of a GRU z∘h, h. A further state, the h of an LSTM, stands at the foot, where it is read.
    """

    def __init__(self, step: Step, core: list[Item], states: list[Item]) -> None:
        self.made = step.made
        inside = set(core)
        sources = {item: [s for s in step.sources(item) if s in inside] for item in core}
        self.line = self.shortest(states, sources)
        on_line = set(self.line)
        self.feeders = {item: sorted([s for s in sources[item] if s not in on_line], key=lambda s: s.first.op is None)
                        for item in core}  # leaves last: they take what room there is
        self.foot = [state for state in states if state not in on_line]
        self.rank = self.ranks([item for item in core if item not in on_line])
        self.slot: dict[Item, int] = {}
        self.cells: set[Cell] = set()
        self.slots = 0

    def shortest(self, states: list[Item], sources: dict[Item, list[Item]]) -> list[Item]:
        """The way from a state to itself with the fewest items, of the state that is made of the fewest: c, not h.

        Where a masked step holds the state before, that is the way only if there is no other.
        """
        found: list[tuple[int, list[Item]]] = []
        for state in states:
            way, queue = {state: [state]}, [state]
            for item in queue:
                for source in sources[item]:
                    if source not in way:
                        way[source] = [source, *way[item]]
                        queue.append(source)
            back = [way[item] for item in queue
                    if any(a.implicit and carried(a) in state_keys(state) for a in item.inward)]
            holds = len(state.tensors) == 1 and state.first.op is not None and state.first.op.name == "where"
            found += [(len(queue), shortest) for shortest in (back[1:] if holds and len(back) > 1 else back)[:1]]
        return min(found, key=lambda way: way[0])[1] if found else states[:1]

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
        top = max([r for item, r in rank.items() if item not in self.foot], default=0) + 1
        rank.update(dict.fromkeys(self.foot, top))
        for item in reversed(items):
            if not self.feeders[item] and item in readers and not is_product(item):
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
            self.settle(item, [], max(0, self.slots - 1))
        self.share_slots()
        levels = {rank: i for i, rank in enumerate(sorted(set(self.rank.values())))}
        base = max([row for _, row in self.made.taken], default=-1) + 1
        for item, slot in self.slot.items():
            self.made.put(item, (self.slots - 1 - slot if backward else slot, base + levels[self.rank[item]]))
        self.made.lines.add(base + levels[top])

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
        """Above the highest of its feeders; without any, in a slot from `first` on that has room, else in a new one.

        A product has room only on top of another one: W h on U x.
        """
        rank = self.rank[item]
        wishes = [self.slot[max(kids, key=lambda kid: self.rank[kid])]] if kids else \
            [] if first is None else range(self.slots - 1, first - 1, -1)
        if not kids and is_product(item):
            wishes = [slot for slot in wishes if (slot, rank - 1) in self.cells]
        slot = next((s for s in wishes if (s, rank) not in self.cells), self.slots)
        self.slots = max(self.slots, slot + 1)
        self.slot[item] = slot
        self.cells.add((slot, rank))


    def share_slots(self) -> None:
        """Slots whose boxes stand at different heights become one: of a GRU 1-z above what the candidate reads of x."""
        rows = [[rank for slot, rank in self.cells if slot == s] for s in range(self.slots)]
        new: list[int] = []
        merged: list[list[int]] = []
        for found in rows:
            apart = (s for s, other in enumerate(merged) if max(found) < min(other) or max(other) < min(found))
            s = next(apart, len(merged))
            merged[s : s + 1] = [(merged[s] if s < len(merged) else []) + found]
            new.append(s)
        self.slot = {item: new[slot] for item, slot in self.slot.items()}
        self.slots = len(merged)


def is_product(item: Item) -> bool:
    """A matrix times the input or the state, or a row of a table."""
    return item.first.op is not None and item.first.op.name in ("matmul", "getitem")


def state_keys(item: Item) -> list[Hashable]:
    """What the states that a box shows have in common at every step: their names, without them the role of the box."""
    return [stem(x.name) if x.name else item.role for x in item.outputs]


def carried(arc: Arc) -> Hashable:
    """Which state goes along an arc, as in `state_keys`."""
    x = arc.source.outputs[0] if len(arc.source.outputs) == 1 else arc.edges[0][0].inputs[arc.edges[0][1]]
    return stem(x.name) if x.name else arc.source.role


def lane_key(lane: Hashable) -> tuple[str, ...]:
    """Layers from below, the forward direction first; what belongs to no lane comes last."""
    parts = lane if isinstance(lane, tuple) else (lane,)
    return tuple(["~" if p is None else {"forward": "0", "backward": "1"}.get(str(p), f"{p!s:>9}") for p in parts])
