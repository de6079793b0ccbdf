"""Floor 2: time, read from the scopes that the unrolling, or a hand-written loop, has set. Never from the kind of cell.

A step is the `t` of a scope. A lane is all else that says which recurrence a tensor belongs to: its sequence, layer
and direction. An edge is a recurrence edge where a node reads, from its own lane, a state that another step made; what
comes from another lane is input. A weight that happens to be made inside a step is no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .sweep import order
from .tensor import Tensor

Lane = tuple[object, object, object]


def step_of(x: Tensor) -> int | None:
    """The step at which x was made; None outside every step."""
    return x.scope.get("t")


def lane_of(x: Tensor) -> Lane:
    return x.scope.get("sequence"), x.scope.get("layer"), x.scope.get("direction")


def is_state(x: Tensor) -> bool:
    """Was x computed in a step, or is it a constant there, or the h_0 or h'_{T+1} that asks for a gradient?"""
    start = step_of(x) == 0 or x.scope.get("direction") == "backward"
    return step_of(x) is not None and (x.op is not None or not x.requires_grad or start)


def is_recurrence(node: Tensor, position: int) -> bool:
    """Does this edge carry a state from one step to another?"""
    x, t = node.inputs[position], step_of(node)
    return t is not None and is_state(x) and t != step_of(x) and lane_of(node) == lane_of(x)


def recurrence_edges(nodes: list[Tensor]) -> set[tuple[Tensor, int]]:
    """The recurrence edges (node, input position) among the nodes of a graph."""
    return {(node, i) for node in nodes for i in range(len(node.inputs)) if is_recurrence(node, i)}


def ways(loss: Tensor) -> dict[Tensor, frozenset[bool]]:
    """Of the loss and every x behind it: do paths from the loss to x take a state from one step to another?

    {False}: none does, x is reached explicitly (∂⁺); {True}: all do, implicitly; both: paths of both kinds.
    """
    found = {loss: frozenset({False})}
    for node in order([loss]):
        for i, x in enumerate(node.inputs):
            found[x] = found.get(x, frozenset()) | way(found, node, i)
    return found


def way(found: Mapping[Tensor, frozenset[bool]], node: Tensor, position: int) -> frozenset[bool]:
    """The same of the paths that end with this edge."""
    return frozenset({True}) if is_recurrence(node, position) else found[node]


def the_lane(edges: Iterable[tuple[Tensor, int]], where: Mapping[str, Any]) -> Lane:
    """The one recurrence, among those of these recurrence edges, whose scope has all of `where`.

    Raises ValueError where none has, or more than one, naming those there are.
    """
    lanes = {lane_of(node): node.scope for node, _ in sorted(edges, key=lambda edge: edge[0].index)}
    fit = [lane for lane, scope in lanes.items() if all(scope.get(key) == value for key, value in where.items())]
    if len(fit) != 1:
        known = [", ".join(f"{k}={v!r}" for k, v in scope.items() if k != "t") for scope in lanes.values()]
        raise ValueError(f"{len(fit)} of {len(lanes)} recurrences answer to {dict(where) or 'no condition'}"
                         + "".join(f"; {place or 'no layer or direction'}" for place in known))
    return fit[0]
