"""The sweeps behind the page: every loss at once, whole, without its recurrence edges, and with a state cut.

Symbols: T losses, K steps that use a parameter W, A[t,k] = ∂E_t/∂W⁽ᵏ⁾ (19), δ_t = dE_t/ds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_rnn.bptt.matrix import sizes
from tinygrad_rnn.bptt.parts import by_time
from tinygrad_rnn.bptt.tables import norm
from tinygrad_rnn.bptt.uses import Step, Use, made_before, reads
from tinygrad_rnn.ops import Array, Indexed, Outer
from tinygrad_rnn.recording import flow, walk
from tinygrad_rnn.steps import is_recurrence, step_of
from tinygrad_rnn.sweep import order
from tinygrad_rnn.tensor import Tensor

Place = tuple[object, int]  # a sequence, and the step after which its states are cut
Entry = tuple[int, ...]  # the place of one number in a parameter


@dataclass(frozen=True)
class Uses:
    """The steps k that use one parameter, in order of time, the edges by which they do, and the entry that is shown."""

    parameter: Tensor
    entry: Entry
    edges: dict[Step, list[Use]]

    @property
    def flat(self) -> int:
        """The place of the entry where all numbers stand in one row."""
        return int(np.ravel_multi_index(self.entry, self.parameter.shape)) if self.entry else 0

    @property
    def steps(self) -> list[Step]:
        return list(self.edges)


@dataclass
class Found:
    """What one sweep of all losses brought.

    For each parameter norms ‖A[t,k]‖ and entries, one number of each A[t,k], both (T, K), columns Σ_t A[t,k] by k, rows
    Σ_k A[t,k] (T, *W.shape). deltas δ_t (T, *shape) of the tensors watched; gradients ‖dE/dx‖ of every result x that a
    gradient has reached.
    """

    norms: list[Array]
    entries: list[Array]
    columns: list[dict[Step, Array]]
    rows: list[Array]
    deltas: dict[Tensor, Array] = field(default_factory=dict)
    gradients: dict[Tensor, float] = field(default_factory=dict)

    def total(self, p: int, shape: tuple[int, ...]) -> Array:
        """dE/dW of E = Σ E_t, for parameter number p."""
        return np.asarray(sum(self.columns[p].values(), np.zeros(shape)))


def uses_of(nodes: list[Tensor], parameter: Tensor, total: Array) -> Uses:
    """Of a parameter with the gradient `total`; the entry shown is the largest of that."""
    edges: dict[Step, list[Use]] = {}
    for k, edge in reads(nodes, parameter, made_before(nodes, parameter)):
        edges.setdefault(k, []).append(edge)
    entry = np.unravel_index(int(np.abs(total).argmax()), total.shape)
    return Uses(parameter, tuple(map(int, entry)), {k: edges[k] for k in sorted(edges, key=by_time)})


def swept(losses: Sequence[Tensor], known: Sequence[Uses], cut: Callable[[Tensor, int], bool],
          watched: Collection[Tensor] = (), together: bool = False) -> Found:
    """Sweep back from all losses, where nothing goes along the edges at which `cut` answers True.

    A seed for each loss; together: one for E = Σ E_t, so that T is 1 in all that is found.
    """
    belongs: dict[Use, list[tuple[int, Step]]] = {}
    for p, its in enumerate(known):
        for k, edges in its.edges.items():
            for edge in edges:
                belongs.setdefault(edge, []).append((p, k))
    left = Counter(key for keys in belongs.values() for key in keys)
    received: dict[tuple[int, Step], dict[Tensor, Any]] = {key: {} for key in left}
    T, dtype = 1 if together else len(losses), losses[0].dtype
    found = Found([np.zeros((T, len(its.edges))) for its in known], [np.zeros((T, len(its.edges))) for its in known],
                  [{} for _ in known], [np.zeros((T, *its.parameter.shape)) for its in known])
    seeds = dict(zip(losses, np.ones((len(losses), 1), dtype) if together else np.eye(T, dtype=dtype)))
    last = None

    def ends(node: Tensor, i: int) -> bool:  # a parameter needs no total of its own here
        return cut(node, i) or ((node, i) in belongs and node.inputs[i].op is None)

    for node, i, g, d in walk(seeds, ends):
        if node is not last:
            last, found.gradients[node] = node, norm(g.sum(0))
            if node in watched:
                found.deltas[node] = g
        for key in belongs.get((node, i), ()):
            x, totals = node.inputs[i], received[key]
            if not cut(node, i):
                totals[x] = totals[x] + d if x in totals else d
            left[key] -= 1
            if not left[key]:
                keep(found, known[key[0]], key, received.pop(key))
    for key, totals in received.items():  # a use that no gradient has reached completes no step
        keep(found, known[key[0]], key, totals)
    return found


@np.errstate(over="ignore", invalid="ignore")  # of squares in `sizes`
def keep(found: Found, its: Uses, key: tuple[int, Step], totals: dict[Tensor, Any]) -> None:
    """The terms of one step that uses a parameter, from what its uses received."""
    (p, k), W = key, its.parameter
    if totals:
        d = totals[W] if list(totals) == [W] else flow({x: np.asarray(part) for x, part in totals.items()}, W)
        column, dense = its.steps.index(k), spread(d)
        found.norms[p][:, column] = sizes(d if isinstance(d, Outer) else dense)
        found.entries[p][:, column] = dense.reshape(len(dense), -1)[:, its.flat]
        found.columns[p][k] = dense.sum(0)
        found.rows[p] += dense


def spread(d: Any) -> Array:
    """Terms (T, *W.shape) as an array; of rows of W, only for the losses that have something to say on them."""
    if not isinstance(d, Indexed):
        return np.asarray(d)
    dense, told = np.zeros(d.shape, d.g.dtype), np.flatnonzero(d.g.reshape(len(d.g), -1).any(axis=1))
    dense[told] = np.asarray(Indexed(d.g[told], d.index, (len(told), *d.shape[1:]), d.lead))
    return dense


def ways(losses: Sequence[Tensor], known: Sequence[Uses], cut: Collection[Use]) -> list[tuple[Array, Array]]:
    """For each parameter (T, K): do ways lead from use k to E_t that cross no cut edge, and do ways that cross one?"""
    free = {loss: 1 << t for t, loss in enumerate(losses)}  # bit t: E_t is reached
    crossing: dict[Tensor, int] = {}

    def along(node: Tensor, i: int) -> tuple[int, int]:
        here, there = free.get(node, 0), crossing.get(node, 0)
        return (0, here | there) if (node, i) in cut else (here, there)

    for node in order(losses):
        for i, x in enumerate(node.inputs):
            here, there = along(node, i)
            free[x], crossing[x] = free.get(x, 0) | here, crossing.get(x, 0) | there
    found = []
    for its in known:
        bits = np.zeros((2, len(losses), len(its.edges)), bool)
        for column, edges in enumerate(its.edges.values()):
            for edge in edges:
                for kind, reached in enumerate(along(*edge)):
                    bits[kind, :, column] |= [bool(reached >> t & 1) for t in range(len(losses))]
        found.append((bits[0], bits[1]))
    return found


def cuts_of(losses: Sequence[Tensor]) -> dict[Place, set[Use]]:
    """Where a state can be cut, after step s of a sequence, and the recurrence edges that cross there."""
    found: dict[Place, set[Use]] = {}
    for node in order(losses):
        for i, x in enumerate(node.inputs):
            if is_recurrence(node, i) and x.requires_grad:
                start, end = sorted([step_of(node) or 0, step_of(x) or 0])
                for s in range(start, end):
                    found.setdefault((node.scope.get("sequence"), s), set()).add((node, i))
    return dict(sorted(found.items(), key=lambda item: (str(item[0][0]), item[0][1])))
