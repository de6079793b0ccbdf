"""Floor 0: an RNN and a BiRNN in plain NumPy, witnesses that share nothing with the engine.

Each has a forward pass of its own; the RNN also one-step Jacobians and two routes to the gradient, the recursion (16)
run forward in time (RTRL) and the closed form (22); the BiRNN the end of S3's derivation (25). Symbols: T time,
B batch, D input, H hidden, V classes; rows, W (in, out), so that the column equations of the notes appear transposed.
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


def vectors(x: Array, D: int) -> Array:
    """x (T, B, D), or one-hot rows for ids (T, B)."""
    return np.eye(D)[x] if x.dtype.kind in "iu" else x


def predicted(q: Array, y: Array, weight: float) -> tuple[Array, Array]:
    """ŷ_t = softmax(q_t) (T, B, V), and E_t = -weight · ln ŷ_t[y_t], summed over the batch, (T,)."""
    log_y = q - np.logaddexp.reduce(q, axis=-1, keepdims=True)
    return np.exp(log_y), -weight * np.take_along_axis(log_y, y[..., None], -1)[..., 0].sum(-1)


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

    def parameters(self) -> dict[str, Array]:
        return {"U": self.U, "W": self.W, "b": self.b, "V": self.V, "c": self.c, "h_0": self.h_0}

    def forward(self) -> tuple[Array, Array, Array]:
        """h (T+1, B, H) with h[0] = h_0, ŷ (T, B, V) and E (T,)."""
        h = [self.h_0]
        for x in self.inputs():
            z = x @ self.U + h[-1] @ self.W + self.b
            h.append(np.tanh(z) if self.nonlinearity == "tanh" else np.exp(-np.logaddexp(0, -z)))
        return np.stack(h), *predicted(np.stack(h[1:]) @ self.V + self.c, self.y, self.weight)

    def inputs(self) -> Array:
        """x (T, B, D), with one-hot rows for ids."""
        return vectors(self.x, len(self.U))

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


@dataclass(frozen=True)
class Direction:
    """One direction of a BiRNN: U (D, H), W (H, H), b (H,), V (H, V), and h_0, the state that it starts from.

    h_0 is S3's h_0, or its h'_{T+1}; (B, H), or (H,) where it is learned, one for all rows.
    """

    U: Array
    W: Array
    b: Array
    V: Array
    h_0: Array

    def states(self, x: Array) -> Array:
        """(T+1, B, H), the state that it starts from and those of the T steps, in the order in which it makes them."""
        h = [np.broadcast_to(self.h_0, (x.shape[1], len(self.W)))]
        for x_t in x:
            h.append(np.tanh(x_t @ self.U + h[-1] @ self.W + self.b))
        return np.stack(h)

    def deltas(self, h: Array, epsilon: Array) -> Array:
        """δ_t = (1 - h_t²)∘(Vᵀ ε_t + Wᵀ δ_{t+1}), (T, B, H), where t + 1 is the step that it makes after t."""
        delta = np.zeros_like(h)  # the last of T+1 is 0
        for t in range(len(epsilon) - 1, -1, -1):
            delta[t] = (1 - h[t + 1] ** 2) * (epsilon[t] @ self.V.T + delta[t + 1] @ self.W.T)
        return delta[:-1]


def outer(a: Array, b: Array) -> Array:
    """Σ a_t b_tᵀ over the rows of the batch, for every t."""
    product: Array = np.swapaxes(a, 1, 2) @ b
    return product


@dataclass(frozen=True)
class BiRNN:
    """h_t = tanh(U x_t + W h_{t-1} + b), h'_t = tanh(U' x_t + W' h'_{t+1} + b'), ŷ_t = softmax(V h_t + V' h'_t + c).

    (7; S3, with b, b' and c). E_t = -weight · ln ŷ_t[y_t], summed over the batch; weight 1/T makes E = Σ E_t S3's mean
    over the steps. S3 breaks off in the middle of its derivation. Its end (25), with ε_t = weight · (ŷ_t - y_t):

        δ_t  = (1 - h_t²)∘(Vᵀ ε_t + Wᵀ δ_{t+1}),       t = T … 1, δ_{T+1} = 0
        δ'_t = (1 - h'_t²)∘(V'ᵀ ε_t + W'ᵀ δ'_{t-1}),   t = 1 … T, δ'_0 = 0: its BPTT runs forward in time
        dU  = Σ δ_t x_tᵀ,   dW  = Σ δ_t h_{t-1}ᵀ,    db  = Σ δ_t,   dV  = Σ ε_t h_tᵀ,   dh_0 = Wᵀ δ_1
        dU' = Σ δ'_t x_tᵀ,  dW' = Σ δ'_t h'_{t+1}ᵀ,  db' = Σ δ'_t,  dV' = Σ ε_t h'_tᵀ,  dh'_{T+1} = W'ᵀ δ'_T
        dc = Σ ε_t,  dx_t = Uᵀ δ_t + U'ᵀ δ'_t

    one goes from t = 1 to T, the other from T to 1: in code it reads x from its end. The parameters are called U, …,
    h_0, U', …, h_0' (which is h'_{T+1}), c and x. x (T, B, D) or ids (T, B); y ids (T, B); c (V,).
    """

    one: Direction
    other: Direction
    c: Array
    x: Array
    y: Array
    weight: float = 1.0

    def parameters(self) -> dict[str, Array]:
        return {**vars(self.one), **{f"{name}'": array for name, array in vars(self.other).items()},
                "c": self.c, "x": self.x}

    def states(self) -> tuple[Array, Array]:
        """h (T+1, B, H), h_0 … h_T, and h' (T+1, B, H), h'_1 … h'_{T+1}."""
        return self.one.states(self.inputs()), self.other.states(self.inputs()[::-1])[::-1]

    def forward(self) -> tuple[Array, Array, Array, Array]:
        """h, h', ŷ (T, B, V) and E (T,)."""
        h, h_ = self.states()
        return h, h_, *predicted(h[1:] @ self.one.V + h_[:-1] @ self.other.V + self.c, self.y, self.weight)

    def inputs(self) -> Array:
        """x (T, B, D), with one-hot rows for ids."""
        return vectors(self.x, len(self.one.U))

    def errors(self) -> Array:
        """ε_t (T, B, V)."""
        epsilon: Array = self.weight * (self.forward()[2] - np.eye(len(self.c))[self.y])
        return epsilon

    def gradients(self) -> dict[str, Array]:
        """Equation 25: dE/dθ, E = Σ E_t, for every θ of `parameters`."""
        return {name: sum(terms.values(), np.zeros(())) for name, terms in self.terms(self.errors()).items()}

    def closed_form(self, t: int, name: str) -> dict[int, Array]:
        """{k: ∂E_t/∂θ⁽ᵏ⁾} where not 0: (25) with ε_t alone. W has k ≤ t, W' has k ≥ t, h_0' has k = T + 1."""
        alone = (np.arange(1, len(self.x) + 1) == t)[:, None, None] * self.errors()
        return {k: term for k, term in self.terms(alone)[name].items() if term.any()}

    def split(self, t: int, name: str) -> Split:
        """dE_t/dθ: what is used at step t itself, and all else. No path leads from one direction into the other."""
        terms = self.closed_form(t, name)
        explicit = terms.pop(t, np.zeros_like(self.parameters()[name]))
        return Split(explicit, sum(terms.values(), np.zeros_like(explicit)))

    def terms(self, epsilon: Array) -> dict[str, dict[int, Array]]:
        """{θ: {k: what the use of θ at step k contributes}} for the errors ε_t (T, B, V)."""
        h, h_ = self.states()
        x, T, found = self.inputs(), len(self.x), {"c": dict(enumerate(epsilon.sum(1), 1))}
        dx = np.zeros_like(x)
        for mark, way, states, before, steps in (("", self.one, h, 0, range(1, T + 1)),
                                                 ("'", self.other, h_[::-1], T + 1, range(T, 0, -1))):
            now = np.array(steps) - 1
            delta = way.deltas(states, epsilon[now])
            uses = {"U": outer(x[now], delta), "W": outer(states[:-1], delta), "b": delta.sum(1),
                    "V": outer(states[1:], epsilon[now])}
            found |= {name + mark: dict(zip(steps, terms)) for name, terms in uses.items()}
            start = delta[0] @ way.W.T
            found[f"h_0{mark}"] = {before: start.sum(0) if way.h_0.ndim == 1 else start}
            dx[now] += delta @ way.U.T
        found["x"] = {t: np.where(np.arange(1, T + 1)[:, None, None] == t, dx, 0.0) for t in range(1, T + 1)}
        return found
