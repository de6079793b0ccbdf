"""Floor 2: time, read from the scopes that the unrolling, or a hand-written loop, has set. Never from the kind of cell.

A step is the `t` of a scope. A lane is all else that says which recurrence a tensor belongs to: its sequence, layer
and direction. An edge is a recurrence edge where a node reads, from its own lane, a state that another step made; what
comes from another lane is input. A weight that happens to be made inside a step is no state.
"""

from __future__ import annotations

from .tensor import Tensor


def step_of(x: Tensor) -> int | None:
    """The step at which x was made; None outside every step."""
    return x.scope.get("t")


def lane_of(x: Tensor) -> tuple[object, object, object]:
    return x.scope.get("sequence"), x.scope.get("layer"), x.scope.get("direction")


def is_state(x: Tensor) -> bool:
    """Was x computed in a step, or is it a constant there, or an h_0 that asks for a gradient?"""
    return step_of(x) is not None and (x.op is not None or not x.requires_grad or step_of(x) == 0)


def is_recurrence(node: Tensor, position: int) -> bool:
    """Does this edge carry a state from one step to another?"""
    x, t = node.inputs[position], step_of(node)
    return t is not None and is_state(x) and t != step_of(x) and lane_of(node) == lane_of(x)


def recurrence_edges(nodes: list[Tensor]) -> set[tuple[Tensor, int]]:
    """The recurrence edges (node, input position) among the nodes of a graph."""
    return {(node, i) for node in nodes for i in range(len(node.inputs)) if is_recurrence(node, i)}
