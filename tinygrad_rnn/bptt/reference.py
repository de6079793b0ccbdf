"""Floor 0: the tanh/sigmoid RNN in plain NumPy, a witness that shares nothing with the engine.

It has a forward pass, one-step Jacobians and two routes to the gradient of its own: the recursion (16) run forward in
time (RTRL) and the closed form (22). Symbols: T time, B batch, D input, H hidden, V classes; rows, W (in, out), so that
the column equations of the notes appear transposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Split:
    """dE_t/dθ taken apart by the recursion (16)."""

    explicit: Array
    implicit: Array

    @property
    def total(self) -> Array:
        return self.explicit + self.implicit


@dataclass(frozen=True)
class RNN:
    """z_t = x_t U + h_{t-1} W + b, h_t = φ(z_t), q_t = h_t V + c, E_t = -ln softmax(q_t)[y_t], summed over the batch.

    x (T, B, D) or ids (T, B); y ids (T, B); h_0 (B, H); weight multiplies every E_t (1/B for a mean over the batch).
    """

    U: Array
    W: Array
    b: Array
    V: Array
    c: Array
    h_0: Array
    x: Array
    y: Array
    nonlinearity: Literal["tanh", "sigmoid"] = "tanh"
    weight: float = 1.0

    def forward(self) -> tuple[Array, Array, Array]:
        """h (T+1, B, H) with h[0] = h_0, ŷ (T, B, V) and E (T,)."""
        h = [self.h_0]
        for x in self.inputs():
            z = x @ self.U + h[-1] @ self.W + self.b
            h.append(np.tanh(z) if self.nonlinearity == "tanh" else np.exp(-np.logaddexp(0, -z)))
        q = np.stack(h[1:]) @ self.V + self.c
        log_y = q - np.logaddexp.reduce(q, axis=-1, keepdims=True)
        at_target = np.take_along_axis(log_y, self.y[..., None], -1)[..., 0]
        return np.stack(h), np.exp(log_y), -self.weight * at_target.sum(-1)

    def inputs(self) -> Array:
        """x (T, B, D), with one-hot rows for ids."""
        return np.eye(len(self.U))[self.x] if self.x.dtype.kind in "iu" else self.x

    def slope(self, h: Array) -> Array:
        """The diagonal of D_t = diag φ'(z_t), from h_t = φ(z_t)."""
        slope: Array = 1 - h * h if self.nonlinearity == "tanh" else h * (1 - h)
        return slope

    def errors(self, y_hat: Array) -> Array:
        """ε_t = ŷ_t - y_t (T, B, V), times the weight."""
        epsilon: Array = self.weight * (y_hat - np.eye(len(self.c))[self.y])
        return epsilon

    def closed_form(self, t: int, name: str) -> dict[int, Array]:
        """Equation 22: {k: ∂E_t/∂θ⁽ᵏ⁾} for k = 1 … t, θ one of U, W, b, V, c; for h_0, k = 0.

        δ_t→t = D_t Vᵀ ε_t, δ_t→k-1 = D_{k-1} Wᵀ δ_t→k; for W⁽ᵏ⁾ δ_t→k s_{k-1}ᵀ, for U⁽ᵏ⁾ δ_t→k x_kᵀ, for b⁽ᵏ⁾ δ_t→k.
        """
        h, y_hat, _ = self.forward()
        x, epsilon = self.inputs(), self.errors(y_hat)[t - 1]
        if name in ("V", "c"):
            return {t: h[t].T @ epsilon if name == "V" else epsilon.sum(0)}
        delta = self.slope(h[t]) * (epsilon @ self.V.T)
        terms = {}
        for k in range(t, 0, -1):
            terms[k] = {"U": x[k - 1].T @ delta, "W": h[k - 1].T @ delta, "b": delta.sum(0)}.get(name, delta)
            carried = delta @ self.W.T
            delta = self.slope(h[k - 1]) * carried
        return {0: carried} if name == "h_0" else terms

    def recursion(self, t: int, name: str) -> Split:
        """Equation 16, run forward: ds_k/dθ = ∂⁺s_k/∂θ + J_k ds_{k-1}/dθ, then dE_t/dθ through q_t = V s_t + c.

        ds_k/dθ is kept whole, (B, H, *θ.shape): O(H³) numbers for W, which is what the closed form avoids.
        """
        h, y_hat, _ = self.forward()
        x, epsilon = self.inputs(), self.errors(y_hat)[t - 1]
        if name in ("V", "c"):
            explicit = np.einsum("bi,bj->ij", h[t], epsilon) if name == "V" else np.einsum("bj->j", epsilon)
            return Split(explicit, np.zeros_like(explicit))
        B, H = self.h_0.shape
        theta = getattr(self, name)
        ds = np.zeros((B, H, *theta.shape)) if name != "h_0" else np.einsum("ab,ij->aibj", np.eye(B), np.eye(H))
        for k in range(1, t + 1):
            D, one = self.slope(h[k]), np.eye(H)
            if name in ("U", "W"):  # ∂⁺z_i/∂θ_aj = s_a for j = i, s what θ multiplies
                direct = np.einsum("ba,ij->biaj", x[k - 1] if name == "U" else h[k - 1], one)
            else:
                direct = np.broadcast_to(one, (B, H, H)) if name == "b" else np.zeros_like(ds)
            explicit = np.einsum("bi,bi...->bi...", D, direct)
            carried = (self.W.T @ ds.reshape(B, H, -1)).reshape(ds.shape)
            implicit = np.einsum("bi,bi...->bi...", D, carried)
            ds = explicit + implicit
        dE_dh = epsilon @ self.V.T
        return Split(*(np.einsum("bi,bi...->...", dE_dh, part) for part in (explicit, implicit)))
