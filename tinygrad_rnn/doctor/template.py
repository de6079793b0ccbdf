"""Backpropagation through time by hand, in plain NumPy: a place to write your own, and have the doctor look at it.

    python my_bptt.py case.npz mine.npz
    tinygrad-rnn doctor --case case.npz --gradient mine.npz

The model: h_t = tanh(x_t U + h_{t-1} W + b), ŷ_t = softmax(h_t V + c), E = Σ_t Σ_rows -ln ŷ_t[y_t].
Shapes: x (T, B, D), y (T, B, V) one-hot, U (D, H), W (H, H), b (H,), V (H, V), c (V,), h_0 (B, H).
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def gradients(case: Mapping[str, Any]) -> dict[str, Any]:
    """dE/dU, dE/dW, …, under the names of the case."""
    x, y, U, W, b, V, c = (case[name] for name in ("x", "y", "U", "W", "b", "V", "c"))
    T = len(x)

    # forward: h[0] is h_0, h[t + 1] the state that x[t] leads to
    h, y_hat = [case["h_0"]], []
    for t in range(T):
        h.append(np.tanh(x[t] @ U + h[-1] @ W + b))
        q = np.exp(h[-1] @ V + c)
        y_hat.append(q / q.sum(-1, keepdims=True))

    # backward: from the last step to the first
    d = {name: np.zeros_like(case[name]) for name in ("U", "W", "b", "V", "c")}
    carry = np.zeros_like(h[0])
    for t in reversed(range(T)):
        error = y_hat[t] - y[t]
        d["V"] += h[t + 1].T @ error
        d["c"] += error.sum(0)
        delta = (1 - h[t + 1] ** 2) * (error @ V.T + carry)
        d["U"] += x[t].T @ delta
        d["W"] += h[t].T @ delta
        d["b"] += delta.sum(0)
        carry = delta @ W  # there is a mistake in this line
    return {**d, "h_0": carry}


if __name__ == "__main__":
    np.savez(sys.argv[2], **gradients(np.load(sys.argv[1])))
