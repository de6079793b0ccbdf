"""Floor 7: errata on gradients and what is done with them: E3, E20, E27, E31.

T steps, D input, H hidden, V classes; numbers in brackets are the README's equations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import bptt, nn
from .. import functional as F
from ..bptt.tables import norm
from ..ops import Array
from ..optim import clip_grad_norm_
from ..scope import no_grad, scope
from ..tensor import Tensor
from .demonstration import Demonstration, jacobian, rotation


# ------------------------------------------------------------------------------ E3: the sum over k is no approximation
def exact_sum(rng: np.random.Generator, kept: int = 3) -> Demonstration:
    """dh_T/dW by the recursion (16), by the sum over all uses k (17), which is exact, and by its last `kept` terms."""
    T, D, H = 8, 3, 4
    cell = nn.RNNCell(D, H, rng=rng)
    h, recursion = rng.normal(size=(1, H)), np.zeros((H, H * H))
    terms: list[Array] = []  # J_t … J_{k+1} ∂⁺h_k/∂W for k = 1 … t
    for x in rng.normal(size=(T, 1, D)):
        before = Tensor(h, requires_grad=True)
        after = cell(x, before)
        J, explicit = jacobian(after, before), jacobian(after, cell.W)
        recursion = explicit + J @ recursion
        terms = [J @ term for term in terms] + [explicit]
        h = after.data
    whole, last = (norm(np.sum(some, axis=0) - recursion) / norm(recursion) for some in (terms, terms[-kept:]))
    return Demonstration(
        f"An RNN of {H} units reads {T} random inputs. dh_{T}/dW is computed by the recursion dh_t/dW = ∂⁺h_t/∂W + J_t "
        f"dh_{{t-1}}/dW, J_t = ∂h_t/∂h_{{t-1}}, and as the sum over k of J_{T} … J_{{k+1}} ∂⁺h_k/∂W.",
        (f"all k = 1 … {T}", f"the last {kept} k only"),
        [("terms in the sum", len(terms), kept), ("relative distance from the recursion", whole, last)],
        {f"the word 'approximated': the sum over all k is the recursion, to {whole:.1g}": whole < 1e-12},
        {f"a sum with terms left out (truncation) does approximate: the last {kept} of {T} are off by {last:.0%}":
            last > 1e-3},
        f"The sum over all k equals the recursion to {whole:.1g}; only a truncated sum approximates, here to "
        f"{last:.0%}.")


# ----------------------------------------------------------------------------------------- E20: softmax and its loss
def combined_as_printed(y_hat: Array, y: Array) -> Array:
    """As printed: -(y_l/ŷ_l) ŷ_l + Σ_{k≠l} (y_k/ŷ_k)(-ŷ_k ŷ_l), the factor 1 - ŷ_l and a sign lost."""
    printed: Array = -y - y_hat * (y.sum() - y)
    return printed


def prediction_minus_target(y_hat: Array, y: Array) -> Array:
    """Corrected: -(y_l/ŷ_l) ŷ_l (1 - ŷ_l) - Σ_{k≠l} (y_k/ŷ_k)(-ŷ_k ŷ_l) = ŷ_l - y_l (12)."""
    return y_hat - y


def lost_sign_and_factor(rng: np.random.Generator,
                         printed: Callable[[Array, Array], Array] = combined_as_printed) -> Demonstration:
    """∂E/∂q of E = -ln softmax(q)[target]: as printed, corrected, and by the complex step of the loss itself."""
    V, target, h = 5, 2, 1e-20
    q, y = rng.normal(size=V), np.eye(V)[target]
    y_hat = F.softmax(q).data
    truth = np.array([F.cross_entropy(q + 1j * h * one, target, "sum").item().imag / h for one in np.eye(V)])
    columns = (printed(y_hat, y), prediction_minus_target(y_hat, y), truth)
    wrong, right = (float(np.abs(column - truth).max()) for column in columns[:2])
    total = float(columns[0].sum())
    return Demonstration(
        f"{V} classes, random scores q, the target is class {target}, E = -ln softmax(q)[{target}]. The complex step "
        "differentiates E itself and uses none of these formulas.",
        ("as printed", "ŷ_l - y_l", "complex step"),
        [*((f"∂E/∂q_{i}" + " (target)" * (i == target), *map(float, row)) for i, row in enumerate(zip(*columns))),
         ("sum over l (must be 0)", *(float(column.sum()) for column in columns))],
        {f"the printed line: off by up to {wrong:.2g}": wrong > 1e-6,
         f"its sum over l: {total:.3g}; adding a constant to all q changes no softmax, so it must be 0":
            abs(total) > 1e-6},
        {f"the line that the note ends with, ŷ_l - y_l: off by {right:.1g}": right < 1e-12},
        f"The printed line is off by {wrong:.2g} and has one sign for all scores (sum {total:.2f}, not 0); ŷ_l - y_l, "
        f"with which the note goes on, is right to {right:.1g}.")


# -------------------------------------------------------------------------- E27: one W, one update, many contributions
def an_update_each(terms: Array) -> Array:
    """As printed: the weights of each step, the 'layer', are moved by what that step contributes."""
    return terms


def one_update(terms: Array) -> Array:
    """Corrected: there is one W, moved by the sum, wherever it is used (19)."""
    return np.broadcast_to(terms.sum(0), terms.shape)


def one_weight_one_update(rng: np.random.Generator,
                          printed: Callable[[Array], Array] = an_update_each) -> Demonstration:
    """The last row of A, ∂E_T/∂W⁽ᵏ⁾ for k = 1 … T, beside the gradient that W gets."""
    T, D, H, V = 20, 3, 4, 5
    cell, head = nn.RNNCell(D, H, rng=rng), nn.Linear(H, V, rng=rng)
    cell.W.data = 0.6 * rotation(rng, H)
    hs, _ = nn.unroll(cell, rng.normal(size=(T, 1, D)), rng.normal(size=(1, H)))
    with scope(t=T):
        E = F.cross_entropy(head(hs[-1]), np.array([1]), "sum")
    A = bptt.terms([E], cell.W).arrays
    E.backward()
    assert A is not None and cell.W.grad is not None
    sizes, said, total = [norm(term) for term in A[0]], [norm(u) for u in printed(A[0])], norm(cell.W.grad)
    gap, faded = norm(A[0].sum(0) - cell.W.grad) / total, sizes[0] / sizes[-1]
    return Demonstration(
        f"An RNN of {H} units reads {T} random inputs; the loss E stands at the last step. W is used at every step k, "
        "and each use contributes a term to dE/dW. Sizes (norms) of these terms, and of the gradient that moves W:",
        ("contribution of use k", "W moves there by, says the note", "W moves by"),
        [(f"k = {k}", sizes[k - 1], said[k - 1], total) for k in (20, 19, 15, 10, 5, 1)],
        {f"'small updates': at step 1 the note expects {said[0]:.1g}, but there is one W, and it moves by {total:.2g}":
            abs(said[0] - total) > 0.1 * total},
        {f"contributions do vanish: that of step 1 is {faded:.1g} of that of step {T}": faded < 1e-3,
         f"all contributions add up to the one gradient of W, to {gap:.1g}": gap < 1e-12},
        f"No early weights get small updates: the one W moves by {total:.2g}; but step 1 contributes only "
        f"{sizes[0]:.1g} to that, so E does not teach W what to do so early.")


# ---------------------------------------------------------------------------------------- E31: clipping and truncation
def clipped_and_truncated(xs: Array, U: Array, scale: float, window: int) -> dict[str, float]:
    """Sizes of dE/dW and of its term of step 1, E = Σ h_T: whole, clipped to norm 1, truncated to the last steps."""
    T, (D, H) = len(xs), U.shape
    cell = nn.RNNCell(D, H, nonlinearity="relu", bias=False, rng=np.random.default_rng(0))
    cell.U.data, cell.W.data = U, scale * (0.7 * np.eye(H) + 0.3 * np.roll(np.eye(H), 1, 1))  # states stay positive

    def explained(steps: Array, state: Tensor, start: int) -> bptt.Explanation:
        hs, _ = nn.unroll(cell, steps, state, start=start)
        with scope(t=T):
            return bptt.explain(hs[-1].sum(), cell.W)

    h_0 = Tensor(np.ones((1, H)))
    with no_grad():
        _, detached = nn.unroll(cell, xs[:-window], h_0)
    whole, truncated = explained(xs, h_0, 1), explained(xs[-window:], detached, T - window + 1)
    cell.W.grad = whole.total
    before = clip_grad_norm_(cell.W, max_norm=1.0)
    factor = norm(cell.W.grad) / before  # by which every term was multiplied
    return {"gradient of W": norm(whole.total), "… clipped to norm 1": norm(cell.W.grad),
            f"… truncated to {window} steps": norm(truncated.total), "term of step 1": norm(whole.terms[1]),
            "… clipped": factor * norm(whole.terms[1]), "… truncated": norm(truncated.terms.get(1, np.zeros(1))),
            "cosine of clipped to unclipped": float((cell.W.grad * whole.total).sum())
            / norm(cell.W.grad) / norm(whole.total)}


def remedies(rng: np.random.Generator, shrinking: float = 0.5) -> Demonstration:
    """Clipping and truncation for a net whose Jacobians stretch by 1.5, and for one where they shrink.

    Clipping limits exploding only, truncation leaves far terms out (14). What would bring a vanished term back is a
    Jacobian that does not shrink: scale 1.
    """
    T, window = 30, 5
    xs, U = rng.uniform(0.5, 1.5, (T, 1, 3)), rng.uniform(0.1, 0.3, (3, 4))
    up, down = (clipped_and_truncated(xs, U, scale, window) for scale in (1.5, shrinking))
    (big, tamed, fewer, *_, straight), (*_, far, clipped, cut, _) = up.values(), down.values()
    return Demonstration(
        f"Two RNNs (relu; all states are positive, so the Jacobian of a step is W) read {T} inputs, E = Σ h_{T}. The W "
        f"of one stretches by 1.5 at every step, that of the other by {shrinking:g}. Sizes (norms):",
        ("W stretches by 1.5", f"W stretches by {shrinking:g}"),
        [(name, value, down[name]) for name, value in up.items()],
        {f"clipping against vanishing: the term of step 1 was {far:.1g}, and is {clipped:.1g} after it": clipped < 1e-6,
         f"truncation against vanishing: the term of step 1 was {far:.1g}, and is {cut:g} after it":
            far < 1e-6 and cut == 0},
        {f"clipping against exploding: {big:.1g} becomes {tamed:.3g}, the direction is kept":
            big > 1e3 and abs(tamed - 1) < 1e-3 and straight > 1 - 1e-9,
         f"truncation lessens exploding, {big:.1g} becomes {fewer:.1g}, by dropping all but the last {window} terms":
            fewer < 0.5 * big},
        f"Clipping tamed {big:.1g} to {tamed:.2g} but left the vanished term at {clipped:.1g}; truncation made it "
        f"{cut:g}. Neither brings back what has vanished.")
