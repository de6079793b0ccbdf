"""Floor 4: the backward pass op by op, as it happens: what comes in, and what that adds to each input's gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal

import numpy as np

from .fused import step_by_step
from .ops import Array
from .recording import record
from .scope import told
from .steps import is_recurrence, recurrence_edges, way, ways
from .sweep import order, sweep
from .tensor import Tensor

Kind = Literal["explicit", "implicit", "both"]
KINDS: dict[frozenset[bool], Kind] = {frozenset({False}): "explicit", frozenset({True}): "implicit",
                                      frozenset({False, True}): "both"}


@dataclass(frozen=True, eq=False, repr=False)
class Flow:
    """What one edge adds to the gradient of its input x: after = before + contribution; before is None at the first.

    kind: explicit, if no path on which it has come from the loss takes a state from one step to another; implicit, if
    all do. carried: this edge does. explicit: what of the contribution is explicit; None where none is.
    """

    x: Tensor
    position: int
    carried: bool
    kind: Kind
    contribution: Array
    explicit: Array | None
    before: Array | None
    after: Array

    def __repr__(self) -> str:
        return f"Flow(to {called(self.x)}, {self.kind}, shape {self.contribution.shape})"


@dataclass(frozen=True, eq=False, repr=False)
class Tick:
    """One primitive of the backward pass: the gradient of its result, and what it hands on to its inputs."""

    node: Tensor
    incoming: Array
    kind: Kind
    flows: tuple[Flow, ...]

    def __repr__(self) -> str:
        return (f"Tick({called(self.node)}: {self.node.op.equation}{told(self.node.scope)}, {self.kind}, "
                f"to {', '.join(called(flow.x) for flow in self.flows)})")


def called(x: Tensor) -> str:
    return x.name or (x.op.name if x.op else "a leaf")


def ticks(loss: Tensor) -> Iterator[Tick]:
    """The backward pass from a scalar, primitive by primitive, newest first, as the sweep makes its contributions.

    Raises ValueError for a loss that is not one number, or a fused layer, and what `backward` raises.
    """
    if loss.shape != ():
        raise ValueError(f"ticks: expected a loss of one number, got shape {loss.shape}")
    step_by_step(order([loss]))
    for node, edges in groupby(edges_of(loss), key=itemgetter(0)):
        found = list(edges)
        _, incoming, kind, _ = found[0]
        yield Tick(node, incoming, kind, tuple(flow for *_, flow in found))


def edges_of(loss: Tensor) -> Iterator[tuple[Tensor, Array, Kind, Flow]]:
    """(node, incoming gradient, its kind, what flows on) edge by edge."""
    explicit = record(loss, cut=recurrence_edges(order([loss]))).contributions
    found = ways(loss)
    arrived: dict[Tensor, Array] = {}
    for node, i, g, d in sweep({loss: np.ones((), loss.dtype)}):
        x, carried = node.inputs[i], is_recurrence(node, i)
        contribution, before, alone = np.asarray(d), arrived.get(x), explicit.get((node, i))
        arrived[x] = after = contribution if before is None else before + contribution
        yield node, g, KINDS[found[node]], Flow(x, i, carried, KINDS[way(found, node, i)], contribution,
                                                None if alone is None else np.asarray(alone), before, after)
