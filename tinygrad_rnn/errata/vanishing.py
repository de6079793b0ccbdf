"""Floor 7: errata on vanishing and exploding: E4, E5, E6, E32. The printed form is a forecast, the test what comes.

T steps, D input, H hidden; numbers in brackets are the README's equations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import functional as F
from .. import nn
from ..ops import Array
from ..steps import is_recurrence
from ..tensor import Tensor
from .demonstration import Demonstration, jacobian, rotation, size_of


# -------------------------------------------------------------- E4, E5: what decides between vanishing and exploding
def scalar_rnn(w: float, h_0: float, T: int, phi: Callable[[Tensor], Tensor] = F.tanh) -> tuple[Array, float]:
    """h_t = φ(w h_{t-1}): h_0 … h_T, and ∂h_T/∂h_0 by one backward sweep."""
    start = Tensor(h_0, requires_grad=True)
    hs = [start]
    for _ in range(T):
        hs.append(phi(w * hs[-1]))
    return np.array([h.item() for h in hs]), float(jacobian(hs[-1], start).item())


def explodes_by_the_bound(w: float, hs: Array) -> bool:
    """As printed: γλ > 1, where γ = sup tanh' = 1 and λ = |w|."""
    return abs(w) > 1


def explodes_by_the_product(w: float, hs: Array) -> bool:
    """Corrected: the product of the Jacobians itself, Π_t φ'(z_t) w, is above 1 (18).

    (γλ)^(T-k), γ = sup|φ'| (tanh 1, sigmoid 1/4), λ the largest singular value of W, only bounds it from above: γλ < 1
    is sufficient for vanishing, γλ > 1 only necessary for exploding (21).
    """
    return bool(abs(np.prod(w * (1 - hs[1:] ** 2))) > 1)


def one_bound_two_fates(rng: np.random.Generator,
                        explodes: Callable[[float, Array], bool] = explodes_by_the_bound) -> Demonstration:
    """One w, two initial states: at h_0 = 0 the Jacobian explodes, at h_0 = 0.5 it vanishes. Nothing is random here."""
    T, w, starts = 20, 3.0, (0.0, 0.5)
    (zero, J_zero), (half, J_half) = (scalar_rnn(w, h_0, T) for h_0 in starts)
    said, seen = [explodes(w, zero), explodes(w, half)], [abs(J_zero) > 1, abs(J_half) > 1]
    W, h = np.array([[0.5, 4.0], [0.0, 0.5]]), Tensor(np.zeros((1, 2)), requires_grad=True)
    stretch, eigenvalue = size_of(jacobian(F.tanh(h @ W), h)), float(np.abs(np.linalg.eigvals(W)).max())
    return Demonstration(
        f"h_t = tanh({w:g} h_{{t-1}}) over {T} steps and nothing else: γ = sup tanh' = 1, λ = {w:g}, γλ = {w:g} > 1.",
        tuple(f"h_0 = {h_0:g}" for h_0 in starts),
        [("γλ", w, w), ("the note's forecast", *("explodes" if s else "does not" for s in said)),
         (f"h_{T}", float(zero[-1]), float(half[-1])), (f"∂h_{T}/∂h_0, computed", J_zero, J_half),
         ("so the Jacobian", *("explodes" if s else "vanishes" for s in seen))],
        {f"the forecast at h_0 = 0.5: computed is {J_half:.1e}, for tanh is flat at h_t = {half[-1]:.3f}":
            said[1] != seen[1],
         f"taking an eigenvalue for λ: W = [[.5, 4], [0, .5]] has only {eigenvalue:g}, a step of tanh(h W) at h = 0 "
         f"stretches by {stretch:.3g}, W's largest singular value": stretch > eigenvalue},
        {f"the forecast at h_0 = 0: {J_zero:.2e}, which is {w:g}^{T}": said[0] == seen[0] and J_zero == w**T,
         f"the bound |∂h_{T}/∂h_0| ≤ (γλ)^{T} as a bound": max(abs(J_zero), abs(J_half)) <= w**T},
        f"With γλ = {w:g} in both, the Jacobian over {T} steps is {J_zero:.1e} from h_0 = 0 and {J_half:.1e} from "
        "h_0 = 0.5: γλ > 1 is necessary for exploding, not sufficient.")


def controlled_by_values(hs: Array, J: float) -> bool:
    """As printed: what tanh returns lies between -1 and 1, so gradients are under control."""
    return bool(np.abs(hs).max() <= 1)


def controlled_by_the_jacobian(hs: Array, J: float) -> bool:
    """Corrected: what is multiplied over the steps is the Jacobian, so that is what has to stay in bounds (18).

    tanh bounds values. Of Jacobians it says that a step's is at most ‖W‖, as tanh' ≤ 1, which helps them vanish.
    """
    return 1e-3 < abs(J) < 1e3


def values_are_not_gradients(rng: np.random.Generator,
                             controlled: Callable[[Array, float], bool] = controlled_by_values) -> Demonstration:
    """Three runs of h_t = tanh(w h_{t-1}): all values within ±1, the Jacobians far from 1. Nothing is random here."""
    T, cases = 20, ((3.0, 0.0), (3.0, 0.5), (0.5, 0.5))
    runs = [scalar_rnn(w, h_0, T) for w, h_0 in cases]
    straight = [scalar_rnn(w, h_0, T, lambda z: z)[1] for w, h_0 in cases]
    said, largest = [controlled(hs, J) for hs, J in runs], [float(np.abs(hs).max()) for hs, _ in runs]
    up, down, slow = (J for _, J in runs)
    return Demonstration(
        f"h_t = tanh(w h_{{t-1}}) over {T} steps, and the same without tanh.",
        tuple(f"w = {w:g}, h_0 = {h_0:g}" for w, h_0 in cases),
        [("largest |h_t|", *largest), ("under control, says the note", *("yes" if s else "no" for s in said)),
         (f"∂h_{T}/∂h_0, computed", up, down, slow), (f"∂h_{T}/∂h_0 without tanh", *straight)],
        {f"control of exploding: all |h_t| ≤ 1, and the Jacobian is {up:.1e}": said[0] and up > 1e3,
         f"control of vanishing: all |h_t| ≤ 1, and the Jacobians are {down:.1e} and {slow:.1e}":
            said[1] and said[2] and max(down, slow) < 1e-3},
        {"the values do stay within ±1": max(largest) <= 1,
         "as tanh' ≤ 1, no Jacobian is larger than it would be without tanh (some help against exploding)":
            all(abs(J) <= abs(linear) for (_, J), linear in zip(runs, straight)),
         f"for the same reason vanishing gets worse: at w = 0.5 from {straight[2]:.2e} to {slow:.2e}":
            slow < straight[2]},
        f"tanh bounds values, not Jacobians: with every |h_t| ≤ 1 the Jacobian over {T} steps is anything from "
        f"{down:.1g} to {up:.1g}.")


# ----------------------------------------------------------------------------------------- E6: the cell path of an LSTM
def nothing_vanishes(f: Array) -> float:
    """As printed: the path of the cell state is linear, so all of c_0 arrives."""
    return 1.0


def product_of_gates(f: Array) -> float:
    """Corrected: on the direct path every step multiplies by its forget gate, ∂c_t/∂c_{t-1} = diag(f_t) (23)."""
    return float(np.prod(f))


def reads_h(node: Tensor, position: int) -> bool:
    """Is this the edge on which a gate reads h_{t-1}? Without them only the cell's own path is left."""
    return is_recurrence(node, position) and node.inputs[position].name == "h"


def forget_gates_multiply(rng: np.random.Generator,
                          arrives: Callable[[Array], float] = nothing_vanishes) -> Demonstration:
    """∂c_T/∂c_0 of an LSTM whose forget gates stand at σ(b_f): the direct path, and all paths together."""
    T, D, H, biases = 50, 2, 3, (1.0, 5.0)
    xs, direct, full = rng.normal(size=(T, 1, D)), [], []
    for b in biases:
        cell = nn.LSTMCell(D, H, forget_bias=b, rng=rng)
        cell.U_f.data, cell.W_f.data = np.zeros((D, H)), np.zeros((H, H))  # f = σ(b_f), whatever is read
        c_0 = Tensor(np.zeros((1, H)), requires_grad=True)
        _, (_, c) = nn.unroll(cell, xs, (np.zeros((1, H)), c_0))
        direct.append(jacobian(c, c_0, reads_h))
        full.append(jacobian(c, c_0))
    f = F.sigmoid(biases).data
    said, product = [arrives(np.full(T, gate)) for gate in f], f**T
    own, every = [size_of(d) for d in direct], [size_of(d) for d in full]
    return Demonstration(
        f"An LSTM of {H} units reads {T} random inputs; its forget gates stand at f = σ(b_f). How much of a change of "
        f"c_0 arrives in c_{T}? The direct path goes from c to c; 'all paths' adds those through h and the gates. "
        "Numbers are largest singular values.",
        tuple(f"b_f = {b:g}" for b in biases),
        [("forget gate f", *map(float, f)), ("direct path, says the note", *said),
         (f"f^{T}", *map(float, product)), ("direct path, computed", *own), ("all paths, computed", *every)],
        {f"'does not vanish' at b_f = {b:g}: on the direct path {d:.2g} arrives, not {s:g}": abs(s - d) > 0.1 * s
         for b, s, d in zip(biases, said, own)}
        | {f"the direct path as the whole: at b_f = 1 all paths together carry {every[0]:.2g}":
            size_of(full[0] - direct[0]) > 0.1 * own[0]},
        {f"'linear': the direct path is f^{T} times the identity, whatever was read":
            all(size_of(d / p - np.eye(H)) < 1e-9 for d, p in zip(direct, product)),
         f"the idea: with wide open forget gates (b_f = 5) {own[1]:.0%} is left after {T} steps": own[1] > 0.5},
        f"The direct path shrinks by f at every step: after {T} steps {own[0]:.1e} of c_0 is left at b_f = 1 and "
        f"{own[1]:.2f} at b_f = 5; and the gate paths change that to {every[0]:.1e} and {every[1]:.2f}.")


# ----------------------------------------------------------------------- E32: what shrinks, the states or the Jacobians
def vanishes_by_the_states(hs: Array, J: Array) -> bool:
    """As printed: gradients vanish where the forward pass has shrunk information to very small numbers."""
    return bool(np.abs(hs).min() < 0.1)


def vanishes_by_the_jacobians(hs: Array, J: Array) -> bool:
    """Corrected: they vanish where the product of the Jacobians does, ∂h_T/∂h_k = J_T … J_{k+1} (18)."""
    return size_of(J) < 1e-6


def large_states_small_jacobians(rng: np.random.Generator,
                                 vanishes: Callable[[Array, Array], bool] = vanishes_by_the_states) -> Demonstration:
    """One W, a rotation: with large states the Jacobian vanishes, with states that are all 0 it does not."""
    T, D, H = 20, 3, 4
    W, states, jacobians, errors = rotation(rng, H), [], [], []
    for bias, inputs in ((4.0, rng.uniform(-1, 1, (T, 1, D))), (0.0, np.zeros((T, 1, D)))):
        cell = nn.RNNCell(D, H, rng=rng)
        assert cell.b is not None
        cell.W.data, cell.b.data = W, np.full(H, bias)
        h_0 = Tensor(np.full((1, H), np.tanh(bias)), requires_grad=True)
        hs, _ = nn.unroll(cell, inputs, h_0)
        product = np.eye(H)
        for h in hs:
            product = (1 - h.data.T**2) * W.T @ product  # J_t = D_t Wᵀ, as rows are states here
        states.append(np.concatenate([h.data for h in hs]))
        jacobians.append(jacobian(hs[-1], h_0))
        errors.append(size_of(jacobians[-1] - product) / size_of(product))
    said = [vanishes(hs, J) for hs, J in zip(states, jacobians)]
    (least, none), (small, large) = (float(np.abs(hs).min()) for hs in states), map(size_of, jacobians)
    return Demonstration(
        f"Two RNNs of {H} units with the same W, a rotation (no shrinking in it), over {T} steps. One has large biases "
        "and random inputs, the other starts from zero and reads zeros.",
        ("large states", "zero states"),
        [("smallest |h_t| of all units and steps", least, none),
         ("the gradient, says the note", *("vanishes" if s else "does not vanish" for s in said)),
         (f"largest singular value of ∂h_{T}/∂h_0", small, large),
         ("its distance from the product of one-step Jacobians", *errors)],
        {f"the forecast for large states, none below {least:.2f}: the Jacobian is {small:.1g}":
            not said[0] and small < 1e-6,
         f"the forecast for states of {none:g}: the Jacobian is {large:.3g}": said[1] and large > 1e-3},
        {"the product of the Jacobians gets both right": max(errors) < 1e-9},
        f"States never smaller than {least:.2f} go with a Jacobian of {small:.1g}, states of exactly {none:g} with one "
        f"of {large:.2g}: Jacobians multiply, whatever the size of what is remembered.")
