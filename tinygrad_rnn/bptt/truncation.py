"""Floor 5: what truncated BPTT leaves out, for many windows at once, and the proof of what is left in (19).

Of the matrix A[t,k] = ∂E_t/∂W⁽ᵏ⁾, *chunked* truncation, what training loops do when they detach the state every τ
steps, keeps the triangles t, k of one chunk; a *sliding* window of τ lets each E_t go back to τ uses, t - k < τ, which
is a band. They are not the same, and neither brings a vanished term back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import functional as F
from ..ops import Array
from ..recording import record
from ..steps import recurrence_edges, step_of
from ..sweep import order
from ..tensor import Tensor
from .matrix import Terms, terms
from .proof import DIFFERENCES, Witness, derivative, witness
from .tables import Printed, norm, table, witness_table
from .uses import uses


@dataclass(frozen=True, repr=False)
class Truncation(Printed):
    """dE/dW of E = Σ E_t, truncated: chunked and sliding, each (windows, *W.shape), beside the whole A."""

    terms: Terms
    windows: tuple[int, ...]
    chunked: Array
    sliding: Array

    def __repr__(self) -> str:
        total, W = self.terms.total, self.terms.parameter.name or "W"

        def beside(part: Array) -> list[str]:
            size = norm(part) * norm(total)
            return [f"{norm(part) / norm(total):.4f}", f"{float((part * total).sum()) / size:.4f}" if size else "–"]

        rows = [[f"τ = {window}", *beside(chunked), *beside(sliding)]
                for window, chunked, sliding in zip(self.windows, self.chunked, self.sliding)]
        head = ["window", "chunked ‖·‖", "cosine", "sliding ‖·‖", "cosine"]
        return (f"dE/d{W}, truncated, beside the whole gradient of norm {norm(total):.4g}\n\n{table(head, rows)}\n\n"
                "  chunked: the state is detached after every τ steps.  sliding: each E_t goes back to the last τ uses.\n"
                "  ‖·‖: the norm, as a part of the whole one's; cosine: of the angle between them, 1 where they agree.")


def truncation(losses: Sequence[Tensor], parameter: Tensor, windows: Sequence[int]) -> Truncation:
    """Both truncations of dE/dW for every window τ, from one pass over A.

    Steps count from 1: the first chunk is t = 1 … τ. Raises what `terms` raises, and ValueError for a window below 1 or
    a loss made outside the steps.
    """
    if not windows or any(window < 1 for window in windows):
        raise ValueError(f"truncation: windows {list(windows)}; expected numbers of steps from 1 on")
    if timeless := [x for x in losses if step_of(x) is None]:
        raise ValueError(f"truncation: {timeless[0]!r} was made outside the steps; expected E_t made at step t")
    a = terms(losses, parameter)
    chunked = a.parts(*(partial(same_chunk, window) for window in windows))
    sliding = a.parts(*(partial(near, window) for window in windows))
    return Truncation(a, tuple(windows), chunked, sliding)


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
    """Chunked against one sweep with cut edges, and by perturbing W with the detached states held; sliding by
    perturbing, for each E_t alone, the copies of W that its last τ uses read. By the complex step and by differences.
    """
    a, found = truncated.terms, []
    W = a.parameter
    E = F.stack(list(a.losses)).sum()
    edges = recurrence_edges(order(a.losses))
    for window, chunked, sliding in zip(truncated.windows, truncated.chunked, truncated.sliding):
        cut = {(node, i): node.saved[1 + i] for node, i in edges
               if not same_chunk(window, step_of(node) or 0, step_of(node.inputs[i]) or 0)}
        swept = record(E, cut=cut).gradients.get(W, np.zeros(W.shape))
        found.append(witness(f"chunked, τ = {window}", "one sweep, edges cut", "every rule", chunked, swept))
        for name, differences, tolerance in (("complex step", False, 1e-12), ("differences", True, DIFFERENCES)):
            ours, theirs, _ = derivative(E, W.data, [W], chunked, cut, differences)
            found.append(witness(f"chunked, τ = {window}", f"{name}, detached states held", "forward pass", ours,
                                 theirs, tolerance))
            ours, theirs = sliding, np.zeros(W.shape)
            for loss in a.losses:
                t = step_of(loss) or 0
                copies = [use for k, its in uses([loss], W).items() if k is not None and near(window, t, k)
                          for use in its]
                if copies:
                    theirs = theirs + derivative(loss, W.data, copies, sliding, {}, differences)[1]
            found.append(witness(f"sliding, τ = {window}", f"{name}, copies of W near each E_t", "forward pass, scopes",
                                 ours, theirs, tolerance))
    return TruncationProof(truncated, tuple(found))
