"""What is in a graph, read for drawing: items (one tensor, or one step of a cell) and arcs between them.

Time and lanes are read from scopes, as everywhere, never from the kind of cell.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from tinygrad_rnn.recording import Recording
from tinygrad_rnn.steps import lane_of, recurrence_edges, step_of
from tinygrad_rnn.sweep import order
from tinygrad_rnn.tensor import Tensor

from . import notation

Detail = Literal["ops", "cells", "folded"]
Edge = tuple[Tensor, int]
Column = tuple[int, int]  # which sequence, which step
EDGE_STEPS = 3  # a folded picture shows so many steps at either end
MOVES = ("broadcast_to", "getitem", "reshape", "transpose")  # they compute nothing
TOTAL = ("total", None)  # the key of the running total, where a step of a cell is one box


class Arc(NamedTuple):
    """What flows from one item to another: the edges (node, input position) that it stands for."""

    source: Item
    target: Item
    edges: tuple[Edge, ...]
    implicit: bool
    cut: bool


@dataclass(eq=False, slots=True)
class Item:
    """Something drawn as one box. `place` says in which part of the picture: before, in, or after the steps."""

    tensors: list[Tensor]
    place: Literal["bus", "before", "step", "after"]
    column: Column | None
    lane: Hashable
    role: Hashable
    many_steps: bool = False
    outputs: list[Tensor] = field(default_factory=list)
    inward: list[Arc] = field(default_factory=list)
    outward: list[Arc] = field(default_factory=list)

    @property
    def first(self) -> Tensor:
        return self.tensors[0]


class Graph:
    """All tensors behind a root in creation order, their numbers, steps, labels, and which of them all steps share."""

    def __init__(self, root: Tensor, recording: Recording | None, cut: Container[Edge]) -> None:
        self.root, self.recording = root, recording
        results = order([root])
        leaves = {x for node in results for x in node.inputs if x.op is None} if results else {root}
        self.tensors = sorted((*results, *leaves), key=lambda x: x.index)
        self.number = {x: i for i, x in enumerate(self.tensors)}
        self.cut_by_reader = cut
        self.states = states_behind_constants(results, leaves)
        self.readers: dict[Tensor, list[Edge]] = {x: [] for x in self.tensors}
        for node in reversed(results):
            for position, x in enumerate(node.inputs):
                self.readers[x].append((node, position))
        self.implicit: set[Edge] = recurrence_edges(results)
        self.totals = self._running_totals()
        self.implicit -= self.totals
        self.column: dict[Tensor, Column | None] = {}
        self.place: dict[Tensor, Literal["bus", "before", "step", "after"]] = {}
        self._find_places()
        layers = {x.scope.get("layer") for x in results} - {None}
        given = {x: column[1] for x, column in self.column.items()
                 if column is not None and x.op is None and self.place[x] == "step"}
        logits = {node.inputs[0] for node in results if node.op.name in notation.LOGIT_READERS}
        self.shared = {x for x in self.tensors if self.place[x] == "bus"}
        self.labels = notation.labels_of(self.tensors, logits, self.shared, given, len(layers) > 1)

    def is_cut(self, edge: Edge) -> bool:
        """Drawn with a gap: asked for by the reader, left out of the recording, or detached by the program."""
        return (edge in self.cut_by_reader or (self.recording is not None and edge in self.recording.cut)
                or edge[0].inputs[edge[1]] in self.states)

    def edges(self) -> list[Edge]:
        return [(node, i) for node in self.tensors for i in range(len(node.inputs))]

    @property
    def columns(self) -> list[Column]:
        return sorted({c for x, c in self.column.items() if c is not None and self.place[x] == "step"})

    def _running_totals(self) -> set[Edge]:
        """E = E + E_t in a loop: what nothing in a step reads but the next sum is carried on, and yet is no state.

        Unless it is all that is carried on.
        """
        found: set[Edge] = set()
        for node in reversed(self.tensors):
            if node.op is not None and node.op.name == "add" and all(
                    edge in found or step_of(edge[0]) is None for edge in self.readers[node]):
                found.update((node, i) for i, x in enumerate(node.inputs)
                             if (node, i) in self.implicit and self.readers[x] == [(node, i)])
        return found if found < self.implicit else set()

    def _find_places(self) -> None:
        self.sequences: dict[Any, int] = {}
        for x in self.tensors:
            t = step_of(x)
            if isinstance(t, int | np.integer):
                rank = self.sequences.setdefault(x.scope.get("sequence"), len(self.sequences))
                self.column[x] = rank, int(t)
            else:
                self.column[x] = None
        later: set[Tensor] = set()  # depends on a step
        sooner: set[Tensor] = set()  # a step depends on it
        for x in self.tensors:
            if any(self.column[y] is not None or y in later for y in x.inputs):
                later.add(x)
        for x in reversed(self.tensors):
            for node, _ in self.readers[x]:
                if self.column[node] is not None or node in sooner:
                    sooner.add(x)
                    break
        for x in self.tensors:
            if self.column[x] is not None:
                self.place[x] = "step"
            elif x in later:
                self.place[x] = "after"
            else:
                self.place[x] = self._without_step(x) if x in sooner else "after"
        self._move_accumulators()
        self._move_boundaries()

    def _without_step(self, x: Tensor) -> Literal["bus", "before", "step"]:
        """A leaf read at one step belongs to it, unless it is a parameter; what several steps read is a bus."""
        read_at = {c for node, _ in self.readers[x] if (c := self.column[node]) is not None}
        if len(read_at) > 1:
            return "bus"
        if not read_at:
            return "before"
        if x.op is not None or (x.requires_grad and type(x) is not Tensor):
            return "bus"
        self.column[x] = next(iter(read_at))
        return "step"

    def _move_accumulators(self) -> None:
        """E = E_1 + E_2 + …: each partial sum, made outside the steps, is drawn at the step that it takes in."""
        for x in self.tensors:
            if self.place[x] == "after" and x.op is not None and x.op.name == "add":
                at = [c for y in x.inputs if (c := self.column[y]) is not None]
                constant = [y for y in x.inputs if y.op is None and y.size == 1]
                if len(at) == 2 or (len(at) == 1 and constant):
                    self.column[x] = max(at)
        # a single sum is no running total: it stays after the steps
        running = [x for x in self.tensors if self.place[x] == "after" and self.column[x] is not None]
        if len(running) == 1:
            self.column[running[0]] = None

    def is_accumulator(self, x: Tensor) -> bool:
        return self.place[x] == "after" and self.column[x] is not None

    def _move_boundaries(self) -> None:
        """h_0 stands before the first step: what states start from reads no parameter and no earlier state."""
        by_column: dict[Column, list[Tensor]] = {}
        for x in self.tensors:
            c = self.column[x]
            if c is not None and self.place[x] == "step":
                by_column.setdefault(c, []).append(x)
        shared = {x for x in self.tensors if self.place[x] == "bus"
                  and len({self.column[node] for node, _ in self.readers[x]}) > 1}
        ends = (min(by_column), max(by_column)) if len(by_column) > 1 else ()
        for c, made in by_column.items():
            starts_lane = any(edge in self.implicit for x in made for edge in self.readers[x])
            if (starts_lane or all(x.op is None for x in made)) and not any(self._goes_on(x, shared) for x in made):
                sources = [self.column[y] or c for x in made for y in x.inputs]
                for x in made:
                    if c in ends:
                        self.place[x] = "before"
                    elif sources:  # a decoder's h_0 belongs to the step of the encoder that it copies
                        self.column[x] = max(sources)
        starts = {(self.kind(node), i) for node, i in self.implicit}
        for x in self.tensors:
            if self.place[x] == "step" and x.op is None and step_of(x) is None and all(
                    (self.kind(node), i) in starts for node, i in self.readers[x]):
                self.place[x] = "before"
        for x in self.tensors:
            if self.place[x] == "bus" and all(self.place[node] == "before" for node, _ in self.readers[x]):
                self.place[x] = "before"

    def _goes_on(self, x: Tensor, shared: set[Tensor]) -> bool:
        """Does x read what several steps share, or a state of another step?"""
        return any(y in shared or (x, i) in self.implicit for i, y in enumerate(x.inputs))

    @cached_property
    def results_carried(self) -> set[Tensor]:
        """The results that are states: at every step the last one of each name that some step reads of another."""
        read = {self.name_of_state(node.inputs[i]) for node, i in self.implicit}
        last = {(self.column[x], name): x for x in self.tensors
                if x.op is not None and (name := self.name_of_state(x)) in read}
        return set(last.values())

    @cached_property
    def leads_to(self) -> dict[Tensor, frozenset[Hashable]]:
        """The lanes whose states are made of a tensor within its step; none for what is made of states alone."""
        found: dict[Tensor, frozenset[Hashable]] = {}
        nothing, carried = frozenset[Hashable](), self.results_carried
        for x in reversed(self.tensors):
            lanes = frozenset([lane_of(x)]) if x in carried else nothing
            for node, i in self.readers[x]:
                if found[node] and (node, i) not in self.implicit and self.column[node] == self.column[x]:
                    lanes = lanes | found[node] if lanes else found[node]
            found[x] = lanes
        return found

    def part(self, x: Tensor) -> tuple[Hashable, Hashable]:
        """Which part of a step x is: its lane, and `cell` for what its state is made of, or the lanes that read it."""
        lane, lanes = lane_of(x), self.leads_to[x]
        return lane, "cell" if lanes and lane in lanes else lanes

    @cached_property
    def above_states(self) -> set[Tensor]:
        """The results that no state is made of: the losses and what they are made of."""
        below, waiting = set(self.results_carried), list(self.results_carried)
        while waiting:
            new = [y for y in waiting.pop().inputs if y not in below]
            below.update(new)
            waiting += new
        return {x for x in self.tensors if x.op is not None and x not in below}

    def name_of_state(self, x: Tensor) -> Hashable:
        return (lane_of(x), notation.stem(x.name)) if x.name else self.kind(x) if x.op else None

    def kind(self, node: Tensor) -> Hashable:
        """What the same operation has in common at every step."""
        shared = tuple([y.index if self.place[y] == "bus" else -1 for y in node.inputs])
        return lane_of(node), node.op.name, notation.stem(node.name or ""), shared


def states_behind_constants(results: list[Tensor], leaves: set[Tensor]) -> dict[Tensor, Tensor]:
    """For each constant made by `state.detach()` the state itself, where it is in the graph: both hold one array."""
    constants = [x for x in leaves if not x.requires_grad and step_of(x) is not None]
    if not constants:
        return {}

    def memory(x: Tensor) -> tuple[object, ...]:
        return x.data.ctypes.data, x.shape, x.data.strides

    shared = {id(x.data.base) for x in constants}
    made = {memory(x): x for x in results if id(x.data.base) in shared}
    return {x: made[memory(x)] for x in constants if memory(x) in made}


# ------------------------------------------------------------------------------------------------- what is one box
def items_of(graph: Graph, detail: Detail) -> list[Item]:
    """The boxes of a picture in creation order, joined by their arcs."""
    owner: dict[Tensor, Item] = {}
    items: list[Item] = []
    grouped: dict[Hashable, Item] = {}
    fold = folded_columns(graph.columns) if detail == "folded" else {}
    counts: dict[Hashable, int] = {}
    for x in graph.tensors:
        if x in graph.states:
            continue
        own = graph.column[x]
        column = fold.get(own, own) if own else None
        key = None if detail == "ops" else group_of(graph, x, column)
        if key is None and detail != "ops" and is_moved(graph, x) and x.inputs[0] in owner:
            owner[x] = owner[x.inputs[0]]  # a part of the arrow
            continue
        item = grouped.get(key) if key else None
        if item is None:
            if key is None:
                item = Item([], graph.place[x], column, lane_of(x), role_of(graph, x, counts))
            else:  # (what it is, its lane, …, its column): all but the column is what it has in common at every step
                item = grouped[key] = Item([], graph.place[x], None if key == TOTAL else column, key[1], key[:-1])
            items.append(item)
        item.tensors.append(x)
        item.many_steps = item.many_steps or (item.place == "step" and graph.column[x] != graph.column[item.first])
        owner[x] = item
    for constant, state in graph.states.items():
        owner[constant] = owner[state]
    join(graph, items, owner)
    return items


def role_of(graph: Graph, x: Tensor, counts: dict[Hashable, int]) -> Hashable:
    """What a tensor is within its step, the same at every step: op, name, parameters, and which of its like."""
    shared = tuple([graph.number[y] if graph.place[y] == "bus" else -1 for y in x.inputs])
    accumulator = graph.is_accumulator(x)
    other = accumulator or (x is graph.root and x not in graph.results_carried)
    name = "" if other else notation.stem(x.name or "")
    role = lane_of(x), x.op.name if x.op else "leaf", name, shared, x.scope.get("gate"), accumulator
    counted = (role, graph.column[x])
    counts[counted] = counts.get(counted, -1) + 1
    return *role, counts[counted]


def group_of(graph: Graph, x: Tensor, column: Column | None) -> tuple[Hashable, ...] | None:
    """The box that a tensor shares with others where a step of a cell is one box; None: a box of its own."""
    place = graph.place[x]
    if graph.is_accumulator(x):
        return TOTAL
    if place == "before" and graph.readers[x] and all(edge in graph.implicit for edge in graph.readers[x]):
        return "start", lane_of(graph.readers[x][0][0]), None
    if place == "bus":
        return None if x.op else ("bus", frozenset({graph.part(node) for node, _ in graph.readers[x]}), None)
    if place != "step":
        return None
    if x.op is None and x.name and x.ndim > 0:
        return "leaf", lane_of(x), notation.stem(x.name), column
    reader = graph.readers[x][0][0] if x.op is None and graph.readers[x] else x
    lane, part = graph.part(reader)
    return "cell", lane, part, column


def is_moved(graph: Graph, x: Tensor) -> bool:
    """Is x, before or after the steps, another tensor over again, only moved, and nothing that has a name?"""
    return (x.op is not None and x.op.name in MOVES and not x.name and x is not graph.root
            and graph.place[x] in ("before", "after") and len(x.inputs) == 1 and not graph.is_cut((x, 0))
            and (x, 0) not in graph.implicit)


def folded_columns(columns: list[Column]) -> dict[Column, Column]:
    """For every step that is not shown by itself the one column that stands for all of them in its sequence."""
    folded: dict[Column, Column] = {}
    for sequence in {c[0] for c in columns}:
        hidden = [c for c in columns if c[0] == sequence][EDGE_STEPS:-EDGE_STEPS]
        if len(hidden) > 1:
            folded.update(dict.fromkeys(hidden, hidden[0]))
    return folded


def join(graph: Graph, items: list[Item], owner: dict[Tensor, Item]) -> None:
    """Put an arc between two items for what flows from one to the other, and one for each state that goes on.

    At op level, one arc for each edge. The state that is read last comes first: the c of an LSTM above its h.
    """
    merged: dict[tuple[Item, Item, Tensor | None, bool], list[Edge]] = {}
    single = all(len(item.tensors) == 1 for item in items)
    for target in items:
        for node in target.tensors:
            for position, x in enumerate(node.inputs):
                edge = (node, position)
                source = owner[x]
                if source is target:
                    continue
                implicit, cut = edge in graph.implicit, graph.is_cut(edge)
                if single:
                    connect(Arc(source, target, (edge,), implicit, cut))
                else:
                    state = graph.states.get(x, x) if implicit else None
                    merged.setdefault((source, target, state, cut), []).append(edge)
    for (source, target, state, cut), edges in sorted(merged.items(), key=lambda arc: -arc[1][0][0].index):
        connect(Arc(source, target, tuple(edges), state is not None, cut))
    for item in items:
        item.outputs = item.tensors if len(item.tensors) == 1 else outputs_of(graph, item)


def connect(arc: Arc) -> None:
    arc.source.outward.append(arc)
    arc.target.inward.append(arc)


def outputs_of(graph: Graph, item: Item) -> list[Tensor]:
    """What a box of several tensors shows: its states, in the order of their lines, else its last result."""
    if item.place == "before":
        return sorted(item.tensors, key=lambda x: -graph.readers[x][0][0].index)
    return [x for x in item.tensors if x in graph.results_carried] or item.tensors[-1:]
