"""Floor 5: what truncated BPTT leaves out, for many windows at once, and the proof of what is left in (19).

*Chunked* truncation, what training loops do, detaches the state every τ steps: of the matrix A[t,k] = ∂E_t/∂W⁽ᵏ⁾ of
one recurrence it keeps the triangles t, k of one chunk; where a path can leave a chunk and come back, as through both
directions of a stack, that path is cut too. A *sliding* window of τ lets each E_t go back to τ uses, t - k < τ, which
is a band of A. They are not the same, and neither brings a vanished term back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import functional as F
from ..fused import step_by_step
from ..ops import Array
from ..replay import replay
from ..steps import lane_of, recurrence_edges, step_of
from ..sweep import order
from ..tensor import Tensor
from .matrix import Terms, pieces, terms
from .parts import by_step, scalars
from .proof import (
    DIFFERENCES,
    EXACT,
    STEP,
    WORTHLESS,
    Witness,
    apart,
    copies_moved,
    derivative,
    precision,
    value_of,
    witness,
)
from .tables import Printed, norm, norms, table, witness_table
from .uses import Use, uses


@dataclass(frozen=True, repr=False)
class Truncation(Printed):
    """dE/dW of E = Σ E_t, truncated: chunked and sliding, each (windows, *W.shape), beside the whole A."""

    terms: Terms
    windows: tuple[int, ...]
    chunked: Array
    sliding: Array

    def __repr__(self) -> str:
        total, W = self.terms.total, self.terms.parameter.name or "W"
        whole = norm(total)

        def beside(part: Array) -> list[str]:
            size = norm(part)
            cosine = f"{float((part / size * (total / whole)).sum()):.4f}" if size and whole else "–"
            return [f"{size / whole:.4f}" if whole else "–", cosine]

        rows = [[f"τ = {window}", *beside(chunked), *beside(sliding)]
                for window, chunked, sliding in zip(self.windows, self.chunked, self.sliding)]
        head = ["window", "chunked ‖·‖", "cosine", "sliding ‖·‖", "cosine"]
        return (f"dE/d{W}, truncated, beside the whole gradient of norm {whole:.4g}\n\n{table(head, rows)}\n\n"
                "  chunked: the state is detached after every τ steps.  sliding: each E_t reaches its last τ uses.\n"
                "  As k1/k2, an update after k1 steps that goes back k2: chunked is τ/τ, sliding 1/τ.\n"
                "  ‖·‖: the norm, as a part of the whole one's; cosine: of the angle between them, 1 where they agree.")


def truncation(losses: Sequence[Tensor], parameter: Tensor, windows: Sequence[int]) -> Truncation:
    """Both truncations of dE/dW for every window τ.

    Steps count from 1: the first chunk is t = 1 … τ. A first state, s_0 or s'_{T+1}, belongs to the chunk that reads
    it, and is for the sliding window a use at step 0 or T + 1. Raises what `terms` raises, and ValueError for a window
    below 1, a loss made outside the steps or before step 1, losses of another sequence than W's steps, a fused layer.
    """
    if isinstance(losses, Tensor) or not isinstance(windows, Sequence) or isinstance(windows, str):
        raise TypeError("truncation: expected a sequence of losses, and a sequence of windows")
    if wrong := [window for window in windows if not isinstance(window, int | np.integer)]:
        raise TypeError(f"truncation: windows {wrong}; expected whole numbers of steps")
    if not windows or any(window < 1 for window in windows):
        raise ValueError(f"truncation: windows {list(windows)}; expected numbers of steps from 1 on")
    scalars(losses, parameter)
    step_by_step(order(losses))
    if timeless := [x for x in losses if step_of(x) is None]:
        raise ValueError(f"truncation: {timeless[0]!r} was made outside the steps; expected E_t made at step t")
    a = terms(losses, parameter)
    read = [node for edges in uses(losses, parameter).values() for node, _ in edges if step_of(node) is not None]
    if early := [x for x in losses if (step_of(x) or 0) < 1]:
        raise ValueError(f"truncation: {early[0].name or 'a loss'} was made at step {step_of(early[0])}; count from 1")
    if len({x.scope.get("sequence") for x in (*losses, *read)}) > 1:
        raise ValueError("truncation: losses and uses of W in different sequences, whose steps have no common count")
    chunked = np.stack([detached(losses, parameter, window) for window in windows])
    sliding = a.parts(*(partial(near, window) for window in windows))
    return Truncation(a, tuple(windows), chunked, sliding)


def detached(losses: Sequence[Tensor], parameter: Tensor, window: int) -> Array:
    """dE/dW where nothing goes from one chunk to another."""
    cut, found = between_chunks(losses, window), np.zeros(parameter.shape)
    seeds = {loss: np.ones((), loss.dtype) for loss in losses}
    for _, d in by_step(seeds, parameter, lambda node, i: (node, i) in cut):
        found += d
    return found


def between_chunks(losses: Sequence[Tensor], window: int) -> set[Use]:
    """The recurrence edges from one chunk to another; those that read a first state, s_0 or s'_{T+1}, stay."""
    edges = recurrence_edges(order(losses))
    inside = {(lane_of(node), step_of(node)) for node, _ in edges}  # steps that read a state
    times = {step_of(loss) for loss in losses}

    def is_first(x: Tensor, t: int, k: int) -> bool:
        return k < 1 or (k > t and k not in times and (lane_of(x), k) not in inside)

    timed = [((node, i), node.inputs[i], step_of(node) or 0, step_of(node.inputs[i]) or 0) for node, i in edges]
    return {edge for edge, x, t, k in timed if not (is_first(x, t, k) or same_chunk(window, t, k))}


def same_chunk(window: int, t: int, k: int) -> bool:
    return (t - 1) // window == (k - 1) // window


def near(window: int, t: int, k: int) -> bool:
    return abs(t - k) < window


@dataclass(frozen=True, repr=False)
class TruncationProof(Printed):
    """A truncation and its witnesses. True when all agree with it."""

    truncation: Truncation
    witnesses: tuple[Witness, ...]

    def __bool__(self) -> bool:
        return all(self.witnesses)

    def __repr__(self) -> str:
        W = self.truncation.terms.parameter.name or "W"
        return witness_table(f"dE/d{W}, truncated", self.witnesses)


def prove_truncation(truncated: Truncation) -> TruncationProof:
    """Both by running the forward pass again, by the complex step and by differences: chunked with the detached states
    held; sliding for each E_t alone, moving those copies of W that its last τ uses read. Before them the terms of A,
    which both are sums of. Raises ValueError for a graph that is not in float64.
    """
    a = truncated.terms
    E = F.stack(list(a.losses)).sum()
    if E.dtype != np.float64:
        raise ValueError(f"prove_truncation: the graph is in {E.dtype}, whose rounding hides mistakes; "
                         "expected float64")
    W = value_of(a.losses, a.parameter)
    exact, noise = precision(E), 4e-16 * sum(abs(float(loss.data)) for loss in a.losses) / STEP
    found = prove_terms(a, W, exact)
    for window, chunked, sliding in zip(truncated.windows, truncated.chunked, truncated.sliding):
        cut = {(node, i): node.saved[1 + i] for node, i in between_chunks(a.losses, window)}
        copy = Tensor(W, requires_grad=True)
        alone = F.stack([with_copy(loss, a.parameter, copy, window) for loss in a.losses]).sum() + (copy * 0).sum()
        for name, differences in (("complex step", False), ("differences", True)):
            held = derivative(E, W, [a.parameter], chunked, cut, differences)
            moved = derivative(alone, W, [copy], sliding, {}, differences)
            for part, how, shares, (ours, theirs, off) in (
                    ("chunked", "detached states held", "forward pass", held),
                    ("sliding", "copies of W near each E_t", "forward pass, scopes", moved)):
                tolerance = DIFFERENCES + 5 * off**2 if differences else exact
                found.append(witness(f"{part}, τ = {window}", f"{name}, {how}", shares, ours, theirs, tolerance,
                                     noise * differences))
    return TruncationProof(truncated, tuple(w for w in found if w.tolerance < WORTHLESS))


def prove_terms(a: Terms, W: Array, exact: float) -> list[Witness]:
    """Every A[t,k] along two random u, <A[t,k], u>, against what moving the copy of W that step k reads does to E_t.

    And the norms, which the matrix finds without the terms, against those of the terms themselves.
    """
    read, sizes = uses(a.losses, a.parameter), np.zeros(a.norms.shape)
    u = np.random.default_rng(0).normal(size=(len(a.steps), 2, *W.shape))
    ours, summed = np.zeros((2, len(a.steps), 2, len(a.losses)))
    for k, places, d in pieces(a.losses, a.parameter):
        column, rows, its = a.steps.index(k), list(places), np.asarray(d)
        parts = (u[column][:, None] * its).reshape(2, len(rows), -1)
        ours[column][:, rows], summed[column][:, rows] = parts.sum(-1), np.abs(parts).sum(-1)
        sizes[rows, column] = norms(its)
    slope = copies_moved(F.stack(list(a.losses)), a.parameter, W, [read[k] for k in a.steps], u)
    return [Witness("every A[t,k]", "own copies of W, complex step", "forward pass, scopes",
                    apart(ours, slope, summed), exact),
            Witness("every ‖A[t,k]‖", "norms of the terms themselves", "the sweep", apart(a.norms, sizes, sizes),
                    EXACT)]


def with_copy(loss: Tensor, parameter: Tensor, copy: Tensor, window: int) -> Tensor:
    """E_t made again, where those uses of W that are near read a copy; the others are held."""
    t = step_of(loss) or 0
    near_uses = [use for k, its in uses([loss], parameter).items() if k is not None and near(window, t, k)
                 for use in its]
    made = {x: replay(x, {parameter: copy}) for x in {node.inputs[i] for node, i in near_uses}}
    return replay(loss, {(node, i): made[node.inputs[i]] for node, i in near_uses})
