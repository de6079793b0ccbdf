"""Floor 5: the matrix A[t,k] = ∂E_t/∂W⁽ᵏ⁾ of many losses at once (19): its norms, sums, cosines, and whole terms.

One sweep carries a seed for every loss. Where each loss reads only its own step, as a rule, no seed is carried further
than it goes: at step k those of E_{k+1} … E_T, stacked; the losses themselves are swept together, without seeds, down
to the states they read. Of a product `h W` the contributions stay factors, whose norms need no array of W's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..ops import Array, Outer
from ..recording import walk
from ..steps import recurrence_edges, step_of
from ..sweep import order
from ..tensor import Tensor
from .layers import layer_of, layer_pieces
from .parts import by_step, by_time, reached, scalars
from .tables import Printed, norm, norms, terms_table
from .uses import Step, Use, made_before, reads

Piece = tuple[Step, Sequence[int], Any]  # k, the places of some losses, and their terms (losses, *W.shape)


@dataclass(frozen=True, repr=False)
class Terms(Printed):
    """A[t,k] = ∂E_t/∂W⁽ᵏ⁾, rows t by loss, columns k by step of use (19), T losses and K steps.

    norms (T, K) are ‖A[t,k]‖ (Frobenius). The rest is computed when it is first asked for: columns (K, *W.shape), all
    that use k contributes, total (*W.shape), dE/dW of E = Σ E_t, and whole terms. Norms of terms do not add up to the
    norm of their sum.
    """

    parameter: Tensor
    losses: Sequence[Tensor]
    steps: tuple[Step, ...]
    norms: Array

    @property
    def total(self) -> Array:
        return np.asarray(self.columns.sum(0))

    @cached_property
    def columns(self) -> Array:
        """What each use contributes to all losses, (K, *W.shape)."""
        found = np.zeros((len(self.steps), *self.parameter.shape))
        for k, _, d in pieces(self.losses, self.parameter):
            found[self.steps.index(k)] += summed(d)
        return found

    @cached_property
    def rows(self) -> Array:
        """dE_t/dW (T, *W.shape)."""
        found = np.zeros((len(self.losses), *self.parameter.shape))
        for _, places, d in pieces(self.losses, self.parameter):
            found[list(places)] += d
        return found

    @cached_property
    def arrays(self) -> Array:
        """A whole, (T, K, *W.shape)."""
        found = np.zeros((len(self.losses), len(self.steps), *self.parameter.shape))
        for k, places, d in pieces(self.losses, self.parameter):
            found[list(places), self.steps.index(k)] = d
        return found

    @cached_property
    def cosines(self) -> Array:
        """The cosine of each term with the total, (T, K); 0 where a term is 0."""
        found = np.zeros(self.norms.shape)
        direction = self.total / (norm(self.total) or 1.0)  # not divided at the end: products would underflow
        for k, places, d in pieces(self.losses, self.parameter):
            found[list(places), self.steps.index(k)] = along(d, direction)
        return np.divide(found, self.norms, out=np.zeros_like(found), where=self.norms > 0)

    def parts(self, *chosen: Callable[[int, int], bool]) -> Array:
        """For each of `chosen` the sum of the A[t,k] for which chosen(t, k), (len(chosen), *W.shape).

        lambda t, k: t - k < τ is a band, the sliding window of τ uses. What is used outside the steps is left out.
        """
        found = np.zeros((len(chosen), *self.parameter.shape))
        for k, places, d in pieces(self.losses, self.parameter):
            for part, inside in enumerate(chosen if k is not None else ()):
                found[part] += summed(d, np.array([inside(self.time(i), k or 0) for i in places]))
        return found

    def time(self, place: int) -> int:
        """The t of a loss; of one made outside the steps its place, counted from 1."""
        t = step_of(self.losses[place])
        return place + 1 if t is None else t

    def __repr__(self) -> str:
        return terms_table(self)


def terms(losses: Sequence[Tensor], parameter: Tensor) -> Terms:
    """The matrix A[t,k] of all losses at once: their norms; the rest on request.

    losses: scalars, or one tensor (T,) of them. Raises ValueError where a loss is not a scalar or given twice, where
    none depends on W, or nothing has a step.
    """
    if isinstance(losses, Tensor) and losses.ndim != 1:
        raise ValueError(f"terms: losses of shape {losses.shape}; expected scalars, or one tensor (T,) of them")
    if not isinstance(losses, Tensor) and (not losses or len(set(losses)) != len(losses)):
        raise ValueError(f"terms: of {len(losses)} losses {len(set(losses))} are different; expected all, at least one")
    losses = losses if isinstance(losses, Tensor) else tuple(losses)
    scalars(() if isinstance(losses, Tensor) else losses, parameter)
    if layer_of(losses, parameter) is None:
        losses = tuple(losses)
        reached(losses, parameter)
    return Terms(parameter, losses, *norms_of_terms(losses, parameter))


@np.errstate(over="ignore", invalid="ignore")  # of squares in `sizes`: entering it for each would cost more than they
def norms_of_terms(losses: Sequence[Tensor], parameter: Tensor) -> tuple[tuple[Step, ...], Array]:
    """The steps that use W, and ‖A[t,k]‖ for each."""
    found: dict[Step, list[tuple[Sequence[int], Array]]] = {}
    for k, places, d in pieces(losses, parameter):
        found.setdefault(k, []).append((places, sizes(d)))
    steps = tuple(sorted(found, key=by_time))
    table = np.zeros((len(losses), len(steps)))
    for column, k in enumerate(steps):
        for places, size in found[k]:
            table[rows_at(places), column] = size
    return steps, table


# ------------------------------------------------------------------------------------- of the terms of several losses
def sizes(d: Any) -> Array:
    """The norm of each; of Σ_b a_b g_bᵀ by ‖·‖² = Σ (a_b·a_c)(g_b·g_c), where a batch is smaller than W.

    Squares may overflow on the way, of which NumPy warns unless told not to; the norms do not.
    """
    if type(d) is not Outer or d.a.shape[0] > d.a.shape[1]:
        return norms(np.asarray(d))
    flat, alone = d.g.reshape(len(d.g), -1), len(d.a) == 1
    most = np.vecdot(d.a.ravel(), d.a.ravel()) * np.vecdot(flat, flat)  # ‖a‖² ‖g‖²: no norm is larger
    squares = most if alone else (d.g @ d.g.mT).reshape(len(flat), -1) @ (d.a @ d.a.T).ravel()
    small = 1e-30 if most.dtype == np.float32 else 1e-200
    in_range = most[most.argmin()] > small and most[most.argmax()] < np.inf  # argmin is much faster than min
    if in_range and (alone or (squares > 1e-3 * most).all()):
        return np.asarray(np.sqrt(squares))
    return careful_sizes(d)


def careful_sizes(d: Outer) -> Array:
    """The same where squares would vanish or overflow, or most digits cancel."""
    scale, a_scale = np.abs(d.g).max(axis=(1, 2), initial=0.0), np.abs(d.a).max(initial=0.0)
    scale[scale == 0], a_scale = 1.0, a_scale or 1.0
    a, g = d.a / a_scale, d.g / scale[:, None, None]
    g_gram, a_gram = g @ g.mT, a @ a.T
    squares = np.tensordot(g_gram, a_gram)
    found = np.sqrt(np.maximum(0.0, squares))
    most = np.sqrt(np.diagonal(g_gram, axis1=1, axis2=2)) @ np.sqrt(a_gram.diagonal())
    if (cancelled := squares < 1e-3 * most**2).any():  # a difference of squares has lost digits there
        found[cancelled] = norms(a.T @ g[cancelled])
    return np.asarray(found * scale * a_scale)


def rows_at(places: Sequence[int]) -> Any:
    """The places as an index: a slice where they follow one another, which NumPy reads much sooner."""
    if type(places) is not range:
        return list(places)
    return slice(places.start, places.stop if places.stop >= 0 else None, places.step)


def summed(d: Any, chosen: Array | None = None) -> Array:
    """The sum over the losses, or over those chosen."""
    if type(d) is Outer:
        return np.asarray(d.a.T @ (d.g if chosen is None else d.g[chosen]).sum(0))
    dense = np.asarray(d)
    return np.asarray((dense if chosen is None else dense[chosen]).sum(0))


def along(d: Any, direction: Array) -> Array:
    """<d_s, direction> for each loss s."""
    if type(d) is Outer:
        return np.asarray(np.tensordot(d.g, d.a @ direction))
    return np.asarray(np.asarray(d).reshape(d.shape[0], -1) @ direction.ravel())


# ----------------------------------------------------------------------------------------------------------- the sweeps
def pieces(losses: Sequence[Tensor], parameter: Tensor) -> Iterator[Piece]:
    """The terms, each (t, k) once, those of many losses at a time."""
    if (layer := layer_of(losses, parameter)) is not None:
        yield from layer_pieces(losses, layer)
        return
    nodes = order(losses)
    before = made_before(nodes, parameter)
    used = {edge: k for k, edge in reads(nodes, parameter, before)}
    carried = recurrence_edges(nodes)
    plan = None if before else planned(nodes, losses, used, carried)
    if plan is None:
        seeds = dict(zip(losses, np.eye(len(losses), dtype=losses[0].dtype)))
        for k, d in by_step(seeds, parameter):
            yield k, tuple(range(len(losses))), d
        return
    first = yield from own_step(losses, used, carried, plan)
    yield from later_steps(first, used, carried, plan)


@dataclass
class Plan:
    """How seeds can be carried no further than they go.

    owner: the loss that reaches a node over no recurrence edge. rows: the losses whose seeds reach a node over more
    than one, in the order in which they are stacked there. starts: the states where a stack begins. toward: the
    results that are made of a use of W; seeds go to no others.
    """

    owner: dict[Tensor, int]
    rows: dict[Tensor, tuple[int, ...]]
    starts: list[Tensor]
    toward: set[Tensor]


def planned(nodes: list[Tensor], losses: Sequence[Tensor], used: dict[Use, Step], carried: set[Use]) -> Plan | None:
    """None where two losses reach the same step over no recurrence edge, stacks that differ meet, or a loss would give
    its term of one step in two pieces.
    """
    toward: set[Tensor] = set()
    for node in reversed(nodes):
        if any((node, i) in used or x in toward for i, x in enumerate(node.inputs)):
            toward.add(node)
    owner = {loss: place for place, loss in enumerate(losses)}
    first: dict[Tensor, int] = {}
    for node in nodes:
        if node in owner:
            for i, x in enumerate(node.inputs):
                known = first if (node, i) in carried else owner
                if (node, i) not in used and x in toward and known.setdefault(x, owner[node]) != owner[node]:
                    return None
    rows: dict[Tensor, tuple[int, ...]] = {}
    starts, continued = [], set()
    for node in nodes:
        if node in first and node not in continued:
            starts.append(node)
            if rows.setdefault(node, (first[node],)) != (first[node],):
                return None
        if node in rows:
            for i, x in enumerate(node.inputs):
                stack = rows[node]
                if (node, i) in carried and x in toward:
                    continued.add(x)
                    stack = (*stack, first[x]) if x in first else stack
                if (node, i) not in used and x in toward and rows.setdefault(x, stack) != stack:
                    return None
    own = {(k, (owner[node],)) for (node, _), k in used.items() if node in owner}
    places: dict[Step, list[int]] = {}
    for k, stack in (*own, *{(k, rows[node]) for (node, _), k in used.items() if node in rows}):
        places.setdefault(k, []).extend(stack)
    if any(len(set(there)) != len(there) for there in places.values()):
        return None
    return Plan(owner, rows, starts, toward)


def own_step(losses: Sequence[Tensor], used: dict[Use, Step], carried: set[Use],
             plan: Plan) -> Generator[Piece, None, dict[Tensor, Array]]:
    """What each loss gives over no recurrence edge, in one sweep; returns what the states get next."""
    terms: dict[tuple[Step, int], Any] = {}
    first: dict[Tensor, Array] = {}
    totals = {loss: np.ones(1, loss.dtype) for loss in losses}
    for node, i, _, d in walk(totals, lambda n, i: (n, i) in used or (n, i) in carried
                              or n.inputs[i] not in plan.toward):
        x, place = node.inputs[i], plan.owner[node]
        if (node, i) in used:
            key = used[node, i], place
            terms[key] = terms[key] + d if key in terms else d
        elif (node, i) in carried:
            first[x] = first[x] + d if x in first else d
    for (k, place), d in terms.items():
        yield k, (place,), d
    return first


def later_steps(first: dict[Tensor, Array], used: dict[Use, Step], carried: set[Use], plan: Plan) -> Iterator[Piece]:
    """What the losses give over the recurrence edges, the seeds of all later losses at every step."""
    left = Counter((k, plan.rows[node]) for (node, _), k in used.items() if node in plan.rows)
    terms: dict[tuple[Step, tuple[int, ...]], Any] = {}
    met: set[Tensor] = set()
    totals = {x: first[x] for x in plan.starts}
    if not totals:
        return
    for node, i, _, d in walk(totals, lambda n, i: (n, i) in used or (n, i) in carried
                              or n.inputs[i] not in plan.toward):
        x = node.inputs[i]
        if (node, i) in used:
            key = used[node, i], plan.rows[node]
            terms[key] = terms[key] + d if key in terms else d
            left[key] -= 1
            if not left[key]:
                yield *key, terms.pop(key)
        elif (node, i) in carried and x in plan.toward:
            if x not in met:
                met.add(x)
                stack = np.zeros((len(plan.rows[x]), *x.shape))
                if x in first:
                    stack[-1:] = first[x]
                totals[x] = stack + totals[x] if x in totals else stack
            totals[x][:len(d)] += d
    for key, d in terms.items():
        yield *key, d
