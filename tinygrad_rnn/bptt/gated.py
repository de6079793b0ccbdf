"""Floor 0: LSTM and GRU in plain NumPy, witnesses that share nothing with the engine, as `reference` has for the RNN.

Each cell has a step of its own, its one-step Jacobians as whole matrices, J_t = ∂s_t/∂s_{t-1} and S_g = ∂s_t/∂z_g, and
its equations of backpropagation, which need no matrix of slopes. From these follow two routes to every gradient: the
recursion (16) run forward in time (RTRL), ds_t/dθ = ∂⁺s_t/∂θ + J_t ds_{t-1}/dθ, and the closed forms (23, 24).

Symbols: T time, B batch, D input, H hidden, V classes, s the state, h or [h, c], of n = H or 2H units; rows, W (in,
out), so that the column equations of the notes appear transposed. A Jacobian is (B, n, n): [b, i, j] is the derivative
of unit i by unit j in row b. z_g is the sum that gate g is the sigmoid or tanh of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from .reference import Array, Split, predicted, vectors


@dataclass(frozen=True)
class Step:
    """What one step read, x_t (B, D) and s_{t-1} (B, n), and made: its gates by name, each (B, H), and s_t (B, n)."""

    x: Array
    before: Array
    gates: dict[str, Array]
    state: Array


def sigmoid(z: Array) -> Array:
    with np.errstate(over="ignore"):  # e⁻ᶻ = ∞ gives 0, as it should
        y: Array = 1 / (1 + np.exp(-z))
    return y


def diag(v: Array) -> Array:
    """diag(v) for each row of the batch, (B, H, H)."""
    whole: Array = v[:, :, None] * np.eye(v.shape[1])
    return whole


@dataclass(frozen=True)
class Gated(ABC):
    """s_t = cell(x_t, s_{t-1}), q_t = h_t V + c, E_t = -weight · ln softmax(q_t)[y_t], summed over the batch.

    theta: every parameter by its name: U_g (D, H), W_g (H, H) and b_g (H,) of each gate, V (H, V), c (V,), and h_0 (and
    c_0), (B, H), or (H,) where it is learned, one for all rows. x (T, B, D) or ids (T, B); y ids (T, B).
    """

    theta: Mapping[str, Array]
    x: Array
    y: Array
    weight: float = 1.0

    states: ClassVar[tuple[str, ...]] = ("h",)
    equation: ClassVar[str] = "24"  # of its closed form

    @abstractmethod
    def step(self, x: Array, s: Array) -> Step:
        """The forward pass of one step."""

    @abstractmethod
    def jacobian(self, step: Step) -> Array:
        """J_t = ∂s_t/∂s_{t-1} (B, n, n)."""

    @abstractmethod
    def slopes(self, step: Step) -> dict[str, Array]:
        """S_g = ∂s_t/∂z_g (B, n, H), s_{t-1} held fixed, along all paths inside the step."""

    @abstractmethod
    def deltas(self, step: Step, ds: Array) -> tuple[dict[str, Array], Array]:
        """From δs_t = dE/ds_t (B, n): δz_g = dE/dz_g, each (B, H), and what the step hands on to s_{t-1} (B, n)."""

    def read(self, name: str, step: Step) -> tuple[str, Array | None]:
        """The g whose z_g a parameter enters, and what it multiplies there: x_t U_g, h_{t-1} W_g; nothing for b_g."""
        symbol, g = name.split("_")
        return g, {"U": step.x, "W": step.before[:, :self.hidden_size]}.get(symbol)

    @property
    def hidden_size(self) -> int:
        return len(self.theta["V"])

    def parameters(self) -> dict[str, Array]:
        return dict(self.theta)

    def z(self, g: str, x: Array, h: Array) -> Array:
        """z_g = x_t U_g + h W_g + b_g (B, H)."""
        z: Array = x @ self.theta[f"U_{g}"] + h @ self.theta[f"W_{g}"] + self.theta[f"b_{g}"]
        return z

    def inputs(self) -> Array:
        """x (T, B, D), with one-hot rows for ids."""
        D = next(len(array) for name, array in self.theta.items() if name.startswith("U"))
        return vectors(self.x, D)

    @cached_property
    def steps(self) -> list[Step]:
        """All T steps."""
        x, found = self.inputs(), list[Step]()
        parts = [np.broadcast_to(self.theta[f"{name}_0"], (x.shape[1], self.hidden_size)) for name in self.states]
        s = np.concatenate(parts, -1)
        for x_t in x:
            found.append(self.step(x_t, s))
            s = found[-1].state
        return found

    def forward(self) -> tuple[Array, Array, Array]:
        """s (T+1, B, n) with s[0] = s_0, ŷ (T, B, V) and E (T,)."""
        steps = self.steps
        s = np.stack([steps[0].before, *(step.state for step in steps)])
        q = s[1:, :, :self.hidden_size] @ self.theta["V"] + self.theta["c"]
        return s, *predicted(q, self.y, self.weight)

    def error(self, t: int) -> Array:
        """ε_t = ŷ_t - y_t (B, V), times the weight."""
        y_hat = self.forward()[1][t - 1]
        epsilon: Array = self.weight * (y_hat - np.eye(y_hat.shape[-1])[self.y[t - 1]])
        return epsilon

    def output(self, t: int, name: str) -> Array:
        """dE_t/dV = Σ h_tᵀ ε_t or dE_t/dc = Σ ε_t, over the rows of the batch."""
        epsilon = self.error(t)
        gradient: Array = self.forward()[0][t, :, :self.hidden_size].T @ epsilon if name == "V" else epsilon.sum(0)
        return gradient

    def seed(self, t: int) -> Array:
        """∂E_t/∂s_t (B, n): ε_t Vᵀ for h_t; nothing for c_t, which no prediction reads."""
        dh = self.error(t) @ self.theta["V"].T
        return np.concatenate([dh, *[np.zeros_like(dh)] * (len(self.states) - 1)], -1)

    def start(self, name: str) -> slice:
        """The units of s_0 that h_0 or c_0 are."""
        i = self.states.index(name.removesuffix("_0"))
        return slice(i * self.hidden_size, (i + 1) * self.hidden_size)

    def closed_form(self, t: int, name: str) -> dict[int, Array]:
        """{k: ∂E_t/∂θ⁽ᵏ⁾} for k = 1 … t; for h_0 and c_0, k = 0; for V and c, k = t.

        δz_g is carried back from E_t: for U_g⁽ᵏ⁾ x_kᵀ δz_g, for W_g⁽ᵏ⁾ h_{k-1}ᵀ δz_g, for b_g⁽ᵏ⁾ δz_g.
        """
        if name in ("V", "c"):
            return {t: self.output(t, name)}
        ds, terms = self.seed(t), {}
        for k, step in reversed(list(enumerate(self.steps[:t], 1))):
            dz, ds = self.deltas(step, ds)
            if not name.endswith("_0"):
                g, a = self.read(name, step)
                terms[k] = dz[g].sum(0) if a is None else a.T @ dz[g]
        if not name.endswith("_0"):
            return terms
        first = ds[:, self.start(name)]
        return {0: first.sum(0) if self.theta[name].ndim == 1 else first}

    def recursion(self, t: int, name: str) -> Split:
        """Equation 16, run forward: ds_k/dθ = ∂⁺s_k/∂θ + J_k ds_{k-1}/dθ, then dE_t/dθ through q_t = V h_t + c.

        ds_k/dθ is kept whole, (B, n, *θ.shape): n H² numbers a row for W_g, which is what the closed form avoids.
        """
        if name in ("V", "c"):
            explicit = self.output(t, name)
            return Split(explicit, np.zeros_like(explicit))
        theta, steps = self.theta[name], self.steps[:t]
        B, n = steps[0].state.shape
        ds = np.zeros((B, n, *theta.shape))
        if name.endswith("_0"):
            own = np.eye(n)[:, self.start(name)]
            ds += own if theta.ndim == 1 else np.einsum("ab,ij->aibj", np.eye(B), own)
        for step in steps:
            explicit = np.zeros_like(ds)
            if not name.endswith("_0"):
                g, a = self.read(name, step)
                S = self.slopes(step)[g]
                explicit += S if a is None else np.einsum("ba,bij->biaj", a, S)  # ∂⁺z_j/∂θ_aj = a_a
            implicit = (self.jacobian(step) @ ds.reshape(B, n, -1)).reshape(ds.shape)
            ds = explicit + implicit
        return Split(*(np.einsum("bi,bi...->...", self.seed(t), part) for part in (explicit, implicit)))


class LSTM(Gated):
    """f, i, o = σ(z_g), c̃ = tanh(z_c), c_t = f∘c_{t-1} + i∘c̃, h_t = o∘tanh(c_t) (4), without peepholes; s = [h, c].

    The parameters of the candidate c̃ are U_c, W_c, b_c.
    """

    states = ("h", "c")
    equation = "23"

    def step(self, x: Array, s: Array) -> Step:
        h, c = np.split(s, 2, -1)
        gates = {g: sigmoid(self.z(g, x, h)) for g in "fio"} | {"c": np.tanh(self.z("c", x, h))}
        c = gates["f"] * c + gates["i"] * gates["c"]
        return Step(x, s, gates, np.concatenate([gates["o"] * np.tanh(c), c], -1))

    def slopes(self, step: Step) -> dict[str, Array]:
        """∂c_t/∂z_g is diagonal, (23); z_f, z_i and z_c reach h_t through c_t, with o∘(1-tanh²c_t), z_o without it."""
        f, i, o, candidate = (step.gates[g] for g in "fioc")
        (_, c), (_, before) = np.split(step.state, 2, -1), np.split(step.before, 2, -1)
        to_c = {"f": before * f * (1 - f), "i": candidate * i * (1 - i), "c": i * (1 - candidate**2)}
        through = o * (1 - np.tanh(c) ** 2)
        found = {g: np.concatenate([diag(through * v), diag(v)], 1) for g, v in to_c.items()}
        return found | {"o": np.concatenate([diag(np.tanh(c) * o * (1 - o)), diag(np.zeros_like(o))], 1)}

    def jacobian(self, step: Step) -> Array:
        """[[∂h_t/∂h_{t-1}, ∂h_t/∂c_{t-1}], [∂c_t/∂h_{t-1}, ∂c_t/∂c_{t-1}]]: from h through the gates,

        Σ_g S_g W_gᵀ; from c along the direct path, diag(f), which goes on to h_t with o∘(1-tanh²c_t).
        """
        _, c = np.split(step.state, 2, -1)
        f, o = step.gates["f"], step.gates["o"]
        from_h = sum(S @ self.theta[f"W_{g}"].T for g, S in self.slopes(step).items())
        from_c = np.concatenate([diag(o * (1 - np.tanh(c) ** 2) * f), diag(f)], 1)
        return np.concatenate([np.asarray(from_h), from_c], 2)

    def deltas(self, step: Step, ds: Array) -> tuple[dict[str, Array], Array]:
        """Equation 23. ds: δh_t, all of it, and of δc_t what has come back from step t + 1, δc_{t+1}∘f_{t+1}."""
        f, i, o, candidate = (step.gates[g] for g in "fioc")
        (_, c), (_, before) = np.split(step.state, 2, -1), np.split(step.before, 2, -1)
        dh, dc = np.split(ds, 2, -1)
        dc = dh * o * (1 - np.tanh(c) ** 2) + dc  # δc_t = δh_t∘o_t∘(1-tanh²c_t) + δc_{t+1}∘f_{t+1}
        dz = {"o": dh * np.tanh(c) * o * (1 - o),  # δz_o = δh∘tanh c∘o(1-o)
              "f": dc * before * f * (1 - f),  # δz_f = δc∘c_{t-1}∘f(1-f)
              "i": dc * candidate * i * (1 - i),  # δz_i = δc∘c̃∘i(1-i)
              "c": dc * i * (1 - candidate**2)}  # δz_c̃ = δc∘i∘(1-c̃²)
        dh = np.sum([dz[g] @ self.theta[f"W_{g}"].T for g in dz], 0)  # δh_{t-1} = Σ_g W_gᵀ δz_g (and Vᵀ ε_{t-1})
        return dz, np.concatenate([dh, dc * f], -1)


@dataclass(frozen=True)
class GRU(Gated):
    """h_t = new∘n + old∘h_{t-1} (5, 6): new = 1-z, old = z, as PyTorch; or new = u, old = 1-u, as S2 (update='u').

    n = tanh(z_n). reset 'after': z_n = x U_n + b_n + r∘m with m = h_{t-1} W_n + b_hn, another parameter; 'before':
    z_n = x U_n + (r∘h_{t-1}) W_n + b_n; None: the same with r = 1, S2's GRU, which has no other gate. r = σ(z_r).

    The gradients of the parameters, which (24) leaves to be derived. Each step is h_t = new∘n + old∘h, h = h_{t-1}; the
    chain rule, from the left side of each equation to its right:

        δn   = δh_t∘new                      from h_t = new∘n + old∘h
        δz_z = δh_t∘(h - n)∘z(1-z)           as new = 1-z, old = z; with u it is δz_u = δh_t∘(n - h)∘u(1-u)
        δz_n = δn∘(1-n²)                     from n = tanh z_n
        δz_r = δr∘r(1-r)                     from r = σ(z_r), δr by where r stands:
        after:   δr = δz_n∘m, δm = δz_n∘r    from z_n = … + r∘m;    dW_n = Σ hᵀ δm, db_hn = Σ δm
        before:  δa = δz_n W_nᵀ, δr = δa∘h   from a = r∘h, z_n = … + a W_n;    dW_n = Σ aᵀ δz_n
        δh   = δh_t∘old + δz_z W_zᵀ + δz_r W_rᵀ + { δm W_nᵀ after; δa∘r before; δz_n W_nᵀ without r }
        dU_g = Σ xᵀ δz_g, db_g = Σ δz_g for all g, dW_g = Σ hᵀ δz_g for z (or u) and r
    """

    reset: Literal["after", "before"] | None = "after"
    update: Literal["z", "u"] = "z"

    def step(self, x: Array, s: Array) -> Step:
        gates: dict[str, Array] = {self.update: sigmoid(self.z(self.update, x, s))}
        if self.reset:
            gates["r"] = sigmoid(self.z("r", x, s))
        if self.reset == "after":
            remembered = s @ self.theta["W_n"] + self.theta["b_hn"]
            z_n = x @ self.theta["U_n"] + self.theta["b_n"] + gates["r"] * remembered
        else:
            z_n = self.z("n", x, gates["r"] * s if self.reset else s)
        gates["n"] = np.tanh(z_n)
        new, old = self.mixture(gates)
        return Step(x, s, gates, new * gates["n"] + old * s)

    def mixture(self, gates: Mapping[str, Array]) -> tuple[Array, Array]:
        """new and old: what weighs n, and what weighs h_{t-1}."""
        return (1 - gates["z"], gates["z"]) if self.update == "z" else (gates["u"], 1 - gates["u"])

    def read(self, name: str, step: Step) -> tuple[str, Array | None]:
        if name == "W_n" and self.reset == "before":
            return "n", step.gates["r"] * step.before
        if name == "W_n" and self.reset == "after":
            return "hn", step.before  # it enters m, as b_hn does
        return super().read(name, step)

    def slopes(self, step: Step) -> dict[str, Array]:
        """As in (24): diag((h_{t-1}-n) z(1-z)), or (n-h_{t-1}) u(1-u); diag(new (1-n²)); and r and m through z_n."""
        h, n, g = step.before, step.gates["n"], step.gates[self.update]
        new, _ = self.mixture(step.gates)
        to_n = new * (1 - n**2)
        found = {self.update: diag((h - n if self.update == "z" else n - h) * g * (1 - g)), "n": diag(to_n)}
        if self.reset:
            r = step.gates["r"]
            if self.reset == "after":
                m = h @ self.theta["W_n"] + self.theta["b_hn"]
                found |= {"r": diag(to_n * m * r * (1 - r)), "hn": diag(to_n * r)}
            else:
                found["r"] = to_n[:, :, None] * self.theta["W_n"].T * (h * r * (1 - r))[:, None]
        return found

    def jacobian(self, step: Step) -> Array:
        """Equation 24: diag(old) + diag((h_{t-1}-n) z(1-z)) W_z + diag(new (1-n²)) K, K = ∂z_n/∂h_{t-1}."""
        h, n, g = step.before, step.gates["n"], step.gates[self.update]
        new, old = self.mixture(step.gates)
        sign = 1 if self.update == "z" else -1
        W = {name: array.T for name, array in self.theta.items() if name.startswith("W")}  # as (24) has them
        K = np.broadcast_to(W["W_n"], (len(h), *W["W_n"].shape))
        if self.reset:
            r = step.gates["r"]
            if self.reset == "after":  # K = diag(r) W_n + diag((W_n h_{t-1} + b_hn) r(1-r)) W_r
                m = h @ self.theta["W_n"] + self.theta["b_hn"]
                K = diag(r) @ W["W_n"] + diag(m * r * (1 - r)) @ W["W_r"]
            else:  # K = W_n (diag(r) + diag(h_{t-1} r(1-r)) W_r)
                K = W["W_n"] @ (diag(r) + diag(h * r * (1 - r)) @ W["W_r"])
        J: Array = (diag(old) + diag(sign * (h - n) * g * (1 - g)) @ W[f"W_{self.update}"]
                    + diag(new * (1 - n**2)) @ K)
        return J

    def deltas(self, step: Step, ds: Array) -> tuple[dict[str, Array], Array]:
        """The equations derived above, from δh_t to every δz_g and to δh_{t-1}."""
        h, n, g = step.before, step.gates["n"], step.gates[self.update]
        new, old = self.mixture(step.gates)
        W_n, W_g = self.theta["W_n"], self.theta[f"W_{self.update}"]
        dz = {"n": ds * new * (1 - n**2)}  # δz_n = δn∘(1-n²), δn = δh_t∘new
        dz[self.update] = ds * (h - n if self.update == "z" else n - h) * g * (1 - g)
        dh = ds * old + dz[self.update] @ W_g.T
        if self.reset is None:
            return dz, dh + dz["n"] @ W_n.T
        r = step.gates["r"]
        if self.reset == "after":
            dz["hn"] = dz["n"] * r  # δm
            dr = dz["n"] * (h @ W_n + self.theta["b_hn"])  # δr = δz_n∘m
            dh = dh + dz["hn"] @ W_n.T
        else:
            da = dz["n"] @ W_n.T  # a = r∘h
            dr = da * h
            dh = dh + da * r
        dz["r"] = dr * r * (1 - r)
        return dz, dh + dz["r"] @ self.theta["W_r"].T
