"""Floor 5: where in a graph a parameter is used, and how each use reaches the loss. Structure only, no numbers.

All is read from the scopes (`steps`): a use is an edge by which a step reads W, or a tensor made of W before the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..steps import is_recurrence, is_state, lane_of, step_of
from ..sweep import order
from ..tensor import Tensor
from .layers import keeps_steps, layer_of

Step = int | None  # None: used outside every step
Use = tuple[Tensor, int]  # an edge: node and input position


def reads(nodes: list[Tensor], parameter: Tensor, before: set[Tensor]) -> Iterator[tuple[Step, Use]]:
    """The edges, oldest first, by which a step reads W or a tensor made of it before the steps."""
    for node in reversed(nodes):
        for position, x in enumerate(node.inputs):
            if node not in before and (x is parameter or x in before):
                yield step_of_use(node, parameter), (node, position)


def step_of_use(node: Tensor, parameter: Tensor) -> Step:
    """The step that reads W; a state counts at the step that made it: h_0 at 0, h'_{T+1} at T + 1."""
    return step_of(parameter if is_state(parameter) else node)


def uses(losses: Iterable[Tensor], parameter: Tensor) -> dict[Step, list[Use]]:
    """The edges by which each step reads W, or a tensor made of it before the steps."""
    nodes = order(losses)
    found: dict[Step, list[Use]] = {}
    for k, edge in reads(nodes, parameter, made_before(nodes, parameter)):
        found.setdefault(k, []).append(edge)
    return found


def made_before(nodes: list[Tensor], parameter: Tensor) -> set[Tensor]:
    """The results made of W that no step has had a part in, such as a weight transformed before the loop."""
    timeless: set[Tensor] = set()
    found: set[Tensor] = set()
    for node in reversed(nodes):
        if step_of(node) is None and all(x in timeless or (x.op is None and step_of(x) is None) for x in node.inputs):
            timeless.add(node)
            if any(x is parameter or x in found for x in node.inputs):
                found.add(node)
    return found


@dataclass(frozen=True)
class Recurrence:
    """The one recurrence whose steps read W, and how E depends on its states s_k.

    names: what the parts of a state are called. others: the lanes of the recurrences that are in the graph besides.
    """

    loss: Tensor
    lane: tuple[object, object, object]
    others: frozenset[tuple[object, object, object]]
    names: tuple[str | None, ...]
    states: dict[Tensor, Step]
    read: dict[Step, list[Use]]

    @cached_property
    def last(self) -> set[Step]:
        """The steps of the states through which E depends on all the others."""
        found, seen = [self.loss], {self.loss}
        for x in found:
            fresh = [y for y in (() if x in self.states else x.inputs) if y not in seen]
            seen.update(fresh)
            found += fresh
        return {self.states[x] for x in found if x in self.states}

    def carries(self, k: Step) -> bool:
        """Does all that use k does to E go through s_k?"""
        found = [node for node, _ in self.read[k]]
        seen = set(found)
        for x in found:
            if self.states.get(x, "none") == k:
                continue
            if x is self.loss:
                return False
            fresh = [y for y in self.readers.get(x, ()) if y not in seen]
            seen.update(fresh)
            found += fresh
        return True

    @cached_property
    def readers(self) -> dict[Tensor, list[Tensor]]:
        found: dict[Tensor, list[Tensor]] = {}
        for node in order([self.loss]):
            for x in node.inputs:
                found.setdefault(x, []).append(node)
        return found


def recurrence_of(loss: Tensor, parameter: Tensor) -> Recurrence | None:
    """The recurrence that reads W; None where none does, or several."""
    nodes = order([loss])
    carried = {x: lane_of(x) for node in reversed(nodes) for i, x in enumerate(node.inputs) if is_recurrence(node, i)}
    read = uses([loss], parameter)
    lanes = {lane_of(node) for edges in read.values() for node, _ in edges}
    if len(lanes) != 1 or not lanes <= set(carried.values()):
        return None
    (lane,) = lanes
    states = [x for x, its in carried.items() if its == lane]
    names = dict.fromkeys(x.name for x in states if x.op is not None) or dict.fromkeys(x.name for x in states)
    newest = {(x.name, step_of(x)): x for x in reversed(nodes)
              if lane_of(x) == lane and x.name in names and x.name is not None}
    made = {x: step_of(x) for x in (*states, *newest.values())}
    return Recurrence(loss, lane, frozenset(carried.values()) - lanes, tuple(names), made, read)


def pattern(losses: Sequence[Tensor], parameter: Tensor) -> tuple[set[bool], set[tuple[Step, Step]]]:
    """How A[t,k] is filled: are states on their way from W to the losses carried to later steps (True), to earlier ones
    (False), or to both; and the places (t, k) at which W reaches E_t over no recurrence edge.
    """
    if (layer := layer_of(losses, parameter)) is not None:  # its recurrence edges are inside
        whole = isinstance(losses, Tensor) and keeps_steps(losses, layer)
        return {not (layer.settings or {})["backward"]}, {(1 if whole else None, 1)}
    read = {node: k for k, edges in uses(losses, parameter).items() for node, _ in edges}
    behind: set[Tensor] = set()  # what depends on a use
    ways = set()
    for node in reversed(order(losses)):
        if node in read or any(x in behind for x in node.inputs):
            behind.add(node)
            ways |= {(step_of(node) or 0) > (step_of(x) or 0) for i, x in enumerate(node.inputs)
                     if x in behind and is_recurrence(node, i)}
    places = set()
    for loss in losses:
        found, seen = [loss], {loss}
        for node in found:
            if node in read:
                places.add((step_of(loss), read[node]))
            inputs = [x for i, x in enumerate(node.inputs) if not is_recurrence(node, i)]
            fresh = [x for x in inputs if x in behind and x not in seen]
            seen.update(fresh)
            found += fresh
    return ways, places
