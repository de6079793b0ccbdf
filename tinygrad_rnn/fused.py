"""Floor 3: a whole layer over all steps as one primitive, its derivative derived by hand.

The readable loop over cells is the graph to look at, this the layer to train with; the tests hold each against the
other. T steps, B batch, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import ops
from .functional import as_tensor
from .ops import Array, Op
from .scope import current, told
from .tensor import Tensor, apply

# φ and, of its value h = φ(z), φ'
NONLINEARITIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda h: 1 - h * h),
    "sigmoid": (ops.sigmoid_forward, lambda h: h - h * h),
    "relu": (ops.relu_forward, lambda h: (h > 0).astype(h.dtype)),
}


def rnn_forward(a: Array, W: Array, h_0: Array, *, nonlinearity: str, backward: bool,
                present: Array | None) -> tuple[Array, Array]:
    """h_t = φ(a_t + h_{t-1} W); kept are h_0 … h_T, in the order in which they are made."""
    phi, _ = NONLINEARITIES[nonlinearity]
    hs = np.empty((len(a) + 1, *h_0.shape), np.result_type(a, W, h_0))
    hs[0] = h_0
    z = np.empty_like(hs[0])
    for t, a_t, h, h_t in zip(range(len(a)), in_order(a, backward), hs, hs[1:]):
        np.matmul(h, W, z)
        z += a_t
        h_t[...] = phi(z) if present is None else np.where(in_order(present, backward)[t], phi(z), h)
    return in_order(hs[1:], backward), hs


def rnn_back(hs: Array, W: Array, *, nonlinearity: str, backward: bool,
             present: Array | None) -> Callable[[int, Array, Array, Array], None]:
    """One step back for every seed: δ_k = dE/dh_k ∘ φ'(z_k) and dE/dh_{k-1} = δ_k Wᵀ (22).

    back(k, dh, delta, before) reads dh, (…, B, H), and writes the other two; k counts the steps in the order in which
    they were made, from 0. `before` may be dh itself.
    """
    slope, transposed = NONLINEARITIES[nonlinearity][1](hs[1:]), np.ascontiguousarray(W.T)
    if present is not None:
        here = in_order(present, backward).astype(slope.dtype)
        slope *= here

    def back(k: int, dh: Array, delta: Array, before: Array) -> None:
        np.multiply(dh, slope[k], delta)
        held = 0 if present is None else dh * (1 - here[k])
        np.matmul(delta.reshape(-1, len(W)), transposed, before.reshape(-1, len(W)))
        if present is not None:
            before += held

    return back


def rnn_joint(g: Array, hs: Array, a: Array, W: Array, h_0: Array, *, backward: bool, **settings: Any) -> list[Array]:
    """da_t = δ_t, dW = Σ_t h_{t-1}ᵀ δ_t, in one product over T B, and dh_0 (22)."""
    deltas, back = np.empty_like(g), rnn_back(hs, W, backward=backward, **settings)
    made, given = in_order(deltas, backward, -3), in_order(g, backward, -3)
    dh = np.zeros(g.shape[:-3] + h_0.shape, g.dtype)
    for k in reversed(range(len(a))):
        dh += given[..., k, :, :]
        back(k, dh, made[..., k, :, :], dh)
    rows = made.reshape(*g.shape[:-3], -1, len(W))
    return [deltas, hs[:-1].reshape(-1, len(W)).T @ rows, dh]


def in_order(steps: Array, backward: bool, axis: int = 0) -> Array:
    """The steps as they follow one another in running, or back: a backward direction goes from t = T to 1."""
    return np.flip(steps, axis) if backward else steps


def step_by_step(nodes: Iterable[Tensor]) -> None:
    """ValueError if a fused layer is among the nodes of a graph: nothing is seen between its steps."""
    if any(node.op is RNN for node in nodes):
        raise ValueError("a fused layer is one node, with nothing between its steps to look at: build the network with "
                         "fused=False")


RNN = Op("rnn", "h_t = φ(a_t + h_{t-1} W), t = 1 … T", rnn_forward, joint=rnn_joint, saves=True)


def rnn(a: Any, W: Any, h_0: Any, nonlinearity: str = "tanh", *, backward: bool = False,
        present: Any = None) -> Tensor:
    """h_t = φ(a_t + h_{t-1} W) for all steps at once (1), as one node: h (T, B, H).

    a (T, B, H) is what the inputs give, a_t = x_t U + b; W (H, H); h_0 (B, H). backward: from t = T to 1, with the
    state of the step after (7); h_0 is then h_{T+1}. present (T, B, 1), boolean: where a row is over, its state is held
    (15). The derivative is (22). Raises ValueError for shapes that do not fit, no steps, or another φ than 'tanh',
    'sigmoid' and 'relu'.
    """
    a, W, h_0 = as_tensor(a), as_tensor(W), as_tensor(h_0)
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity {nonlinearity!r}: expected one of {', '.join(NONLINEARITIES)}")
    if a.ndim != 3 or not len(a) or W.shape != 2 * a.shape[2:] or h_0.shape != a.shape[1:]:
        raise ValueError(f"rnn: a {a.shape}, W {W.shape}, h_0 {h_0.shape}{told(current().scope)}; expected (T, B, H), "
                         "(H, H), (B, H), and at least one step")
    present = None if present is None else np.array(present)
    if present is not None and present.dtype != bool:
        raise TypeError(f"rnn: present holds {present.dtype}{told(current().scope)}; expected booleans")
    if present is not None and present.shape != (*a.shape[:2], 1):
        raise ValueError(f"rnn: present {present.shape}{told(current().scope)}; expected {(*a.shape[:2], 1)}")
    return apply(RNN, (a, W, h_0), {"nonlinearity": nonlinearity, "backward": backward, "present": present})
