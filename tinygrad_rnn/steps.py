"""Floor 2: time, read from the scopes that the unrolling, or a hand-written loop, has set. Never from the kind of cell.

A step is the `t` of a scope. A lane is all else that says which recurrence a tensor belongs to: its sequence, layer and
direction. An edge is a recurrence edge where a node reads, from its own lane, what another step made.
"""

from __future__ import annotations

from .tensor import Tensor


def step_of(x: Tensor) -> int | None:
    """The step at which x was made; None outside every step."""
    return x.scope.get("t")


def lane_of(x: Tensor) -> tuple[object, object, object]:
    return x.scope.get("sequence"), x.scope.get("layer"), x.scope.get("direction")


def is_recurrence(node: Tensor, position: int) -> bool:
    """Does this edge carry a state from one step to another?"""
    x = node.inputs[position]
    t, s = step_of(node), step_of(x)
    return t is not None and s is not None and t != s and lane_of(node) == lane_of(x)


def recurrence_edges(nodes: list[Tensor]) -> set[tuple[Tensor, int]]:
    """The recurrence edges (node, input position) among the nodes of a graph."""
    return {(node, i) for node in nodes for i in range(len(node.inputs)) if is_recurrence(node, i)}
