"""Models for the tests of bptt, each built twice: with the library, and in NumPy alone, as a function of one copy of
every parameter for each step. The complex step through those copies is the definition of the term matrix (19).

Nothing in the NumPy half uses the library. Symbols: T time, B batch, D input, H hidden, V classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import Tensor, nn, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import Proof, reference

STEP = 1e-20
EXACT = 1e-12
PARAMETERS = ("U", "W", "b", "V", "c", "h_0")


def apart(got: Any, expected: Any) -> float:
    """max |got - expected| / max |expected|; of one shape and finite; infinite where only the expected are all 0."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    assert np.isfinite(got).all() and np.isfinite(expected).all()
    distance, size = np.abs(got - expected).max(initial=0), np.abs(expected).max(initial=0)
    return float(distance / size) if size else float("inf") if distance else 0.0


def phi(z: Any, nonlinearity: str) -> Any:
    return np.tanh(z) if nonlinearity == "tanh" else 1 / (1 + np.exp(-z))


def cross_entropy(q: Any, y: Any) -> Any:
    """Σ over the rows of -ln softmax(q)[y], from the definition; q may be complex."""
    return (np.log(np.exp(q).sum(-1)) - q[np.arange(len(y)), y]).sum()


def term_matrix(run: Callable[[list[Any]], Sequence[Any]], W: np.ndarray, T: int) -> np.ndarray:
    """A[t,k] (losses, T, *W.shape) by the complex step: run([None, W⁽¹⁾, …, W⁽ᵀ⁾]) gives the losses."""
    A: Any = None
    for k in range(1, T + 1):
        for index in np.ndindex(W.shape):
            moved = W.astype(complex)
            moved[index] += 1j * STEP
            slopes = np.array(run([None] + [moved if j == k else W for j in range(1, T + 1)])).imag / STEP
            A = np.zeros((len(slopes), T, *W.shape)) if A is None else A
            A[(slice(None), k - 1, *index)] = slopes
    return A


@dataclass
class Model:
    """An RNN with a softmax at every step: arrays drawn from the seed, and what the library makes of them."""

    T: int = 5
    B: int = 3
    D: int = 2
    H: int = 4
    V: int = 5
    nonlinearity: str = "tanh"
    bias: bool = True
    ids: bool = False
    initial: Any = None  # None: h_0 (B, H) is given to the loop; else as nn.RNNCell takes it
    seed: int = 0
    weight: float = 1.0
    cell_class: type[nn.RNNCell] = nn.RNNCell
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        T, B, D, H, V = self.T, self.B, self.D, self.H, self.V
        fresh = {"U": rng.normal(0, 0.7, (D, H)), "W": rng.normal(0, 1.1 / H**0.5, (H, H)), "b": rng.normal(0, 0.3, H),
                 "V": rng.normal(0, 0.8, (H, V)), "c": rng.normal(0, 0.3, V), "h_0": rng.normal(0, 0.6, (B, H))}
        self.x = rng.integers(0, D, (T, B)) if self.ids else rng.normal(size=(T, B, D))
        self.y = rng.integers(0, V, (T, B))
        self.arrays = fresh | self.arrays
        if not self.bias:
            self.arrays["b"] = np.zeros(H)
        if self.initial == "learned":
            self.arrays["h_0"] = fresh["h_0"][0]
        elif self.initial is not None:
            self.arrays["h_0"] = np.full((B, H), float(self.initial))

    # ------------------------------------------------------------------------------------------------- by the library
    @cached_property
    def built(self) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """Parameters by name, states h_1 … h_T and losses E_1 … E_T."""
        rng = np.random.default_rng(99)
        initial = 0.0 if self.initial is None else self.initial
        cell = self.cell_class(self.D, self.H, self.bias, nonlinearity=self.nonlinearity, initial=initial, rng=rng)
        out = nn.Linear(self.H, self.V, rng=rng)
        cell.U.data, cell.W.data = self.arrays["U"], self.arrays["W"]
        out.V.data, out.c.data = self.arrays["V"], self.arrays["c"]
        found: dict[str, Tensor] = {"U": cell.U, "W": cell.W, "V": out.V, "c": out.c}
        if cell.b is not None:
            cell.b.data = self.arrays["b"]
            found["b"] = cell.b
        state = None
        if cell.h_0 is not None:
            cell.h_0.data = self.arrays["h_0"]
            found["h_0"] = cell.h_0
        elif self.initial is None:
            state = found["h_0"] = Tensor(self.arrays["h_0"], requires_grad=True, name="h_0")
        states, _ = nn.unroll(cell, self.x, state)
        losses = []
        for t, h in enumerate(states, 1):
            with scope(t=t):
                E = F.cross_entropy(out(h), self.y[t - 1], reduction="sum")
                losses.append((E if self.weight == 1 else E * self.weight).named("E"))
        return found, states, losses

    @property
    def parameters(self) -> dict[str, Tensor]: return self.built[0]
    @property
    def states(self) -> list[Tensor]: return self.built[1]
    @property
    def losses(self) -> list[Tensor]: return self.built[2]

    # ----------------------------------------------------------------------------------------------- in NumPy alone
    @property
    def names(self) -> list[str]:
        return [n for n in PARAMETERS if not (n == "b" and not self.bias)
                and not (n == "h_0" and self.initial not in (None, "learned"))]

    @property
    def h_0(self) -> np.ndarray:
        return np.broadcast_to(self.arrays["h_0"], (self.B, self.H))

    @property
    def vectors(self) -> np.ndarray:
        return np.eye(self.D)[self.x] if self.ids else self.x

    def reference(self, **changed: Any) -> reference.RNN:
        a: dict[str, Any] = {**self.arrays, "h_0": np.array(self.h_0), "x": self.x, "y": self.y,
                             "nonlinearity": self.nonlinearity, "weight": self.weight}
        return reference.RNN(**a | changed)

    def run(self, copies: Mapping[str, list[Any]]) -> list[Any]:
        """E_1 … E_T where step k reads copies[name][k]."""
        a = {name: copies.get(name, [array] * (self.T + 1)) for name, array in self.arrays.items()}
        h, losses = a["h_0"][1] + np.zeros((self.B, self.H)), []
        for k in range(1, self.T + 1):
            h = phi(self.vectors[k - 1] @ a["U"][k] + h @ a["W"][k] + a["b"][k], self.nonlinearity)
            losses.append(self.weight * cross_entropy(h @ a["V"][k] + a["c"][k], self.y[k - 1]))
        return losses

    def A(self, name: str) -> np.ndarray:
        """A[t,k] (T, T, *shape) by the definition (19). h_0 is read by step 1 alone."""
        return term_matrix(lambda copies: self.run({name: copies}), self.arrays[name], self.T)

    def forward(self) -> np.ndarray:
        """h (T+1, B, H), h[0] = h_0."""
        h = [np.array(self.h_0)]
        for k in range(self.T):
            z = self.vectors[k] @ self.arrays["U"] + h[-1] @ self.arrays["W"] + self.arrays["b"]
            h.append(phi(z, self.nonlinearity))
        return np.stack(h)

    def slope(self, h: np.ndarray) -> np.ndarray:
        return 1 - h**2 if self.nonlinearity == "tanh" else h * (1 - h)

    def jacobian(self, j: int, row: int) -> np.ndarray:
        """J_j = ∂s_j/∂s_{j-1} = D_j W, column convention, for one row of the batch."""
        return np.diag(self.slope(self.forward()[j, row])) @ self.arrays["W"].T

    def dE_ds(self, t: int) -> np.ndarray:
        """∂E_t/∂s_t (B, H) = V (ŷ - y)."""
        q = self.forward()[t] @ self.arrays["V"] + self.arrays["c"]
        y_hat = np.exp(q) / np.exp(q).sum(-1, keepdims=True)
        error: np.ndarray = self.weight * (y_hat - np.eye(self.V)[self.y[t - 1]])
        return error @ self.arrays["V"].T

    def direct(self, name: str, k: int, row: int) -> np.ndarray:
        """∂⁺s_k/∂θ, (H, *θ.shape), written out element by element, for one row of the batch."""
        h, theta = self.forward(), self.arrays[name]
        D, out = self.slope(h[k, row]), np.zeros((self.H, *theta.shape))
        for j in range(self.H):
            if name == "b":
                out[j, j] = D[j]
            else:
                out[j, :, j] = D[j] * (h[k - 1, row] if name == "W" else self.vectors[k - 1, row])
        return out


MODELS = {
    "tanh": Model(), "sigmoid": Model(nonlinearity="sigmoid", seed=1), "no bias": Model(bias=False, seed=2),
    "one row": Model(B=1, seed=3), "ids": Model(ids=True, D=6, seed=4), "learned h_0": Model(initial="learned", seed=5),
    "constant 0.5": Model(initial=0.5, seed=6), "sigmoid, ids, no bias": Model(
        nonlinearity="sigmoid", ids=True, D=6, bias=False, H=3, seed=7),
    "three steps": Model(T=3, H=3, D=4, V=2, B=2, seed=8),
}
CASES = [(label, name) for label, model in MODELS.items() for name in model.names]


@dataclass
class PlainLoop:
    """A loop over plain tensors that only says `with scope(t=t)`: s_t = tanh(x_t U + s_{t-1} W), E_t = Σ (s_t-y_t)²/2.

    `before` is done to W before the loop; `twice` makes each step read W twice: + tanh(s_{t-1} W)/2.
    """

    T: int = 4
    B: int = 3
    D: int = 2
    H: int = 4
    seed: int = 20
    before: str = "nothing"
    twice: bool = False

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.x, self.y = rng.normal(size=(self.T, self.B, self.D)), rng.normal(size=(self.T, self.B, self.H))
        self.arrays = {"U": rng.normal(size=(self.D, self.H)), "W": rng.normal(0, 0.6, (self.H, self.H)),
                       "s_0": rng.normal(size=(self.B, self.H))}
        self.mask = (rng.random((self.H, self.H)) > 0.3) * 1.5

    def build(self) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """Parameters, states s_1 … s_T, losses E_1 … E_T."""
        p = {name: Tensor(a, requires_grad=True, name=name) for name, a in self.arrays.items()}
        W2 = {"nothing": lambda W: W, "mask": lambda W: W * self.mask, "tanh": F.tanh,
              "mask, tanh": lambda W: F.tanh(W * self.mask)}[self.before](p["W"])
        s, states, losses = p["s_0"], [], []
        for t in range(1, self.T + 1):
            with scope(t=t):
                z = self.x[t - 1] @ p["U"] + s @ W2
                if self.twice:
                    z = z + F.tanh(s @ W2) / 2
                s = F.tanh(z).named("s")
                states.append(s)
                losses.append((((s - self.y[t - 1]) ** 2).sum() / 2).named("E"))
        return p, states, losses

    def run(self, copies: Mapping[str, list[Any]]) -> list[Any]:
        a = {name: copies.get(name, [array] * (self.T + 1)) for name, array in self.arrays.items()}
        s, losses = a["s_0"][1], []
        for k in range(1, self.T + 1):
            W = a["W"][k] * self.mask if "mask" in self.before else a["W"][k]
            W = np.tanh(W) if "tanh" in self.before else W
            z = self.x[k - 1] @ a["U"][k] + s @ W
            s = np.tanh(z + np.tanh(s @ W) / 2 if self.twice else z)
            losses.append(((s - self.y[k - 1]) ** 2).sum() / 2)
        return losses

    def A(self, name: str) -> np.ndarray:
        return term_matrix(lambda copies: self.run({name: copies}), self.arrays[name], self.T)


# ------------------------------------------------------------------------------------------ the witnesses of a proof
SUM_OF_PARTS = ("explicit + implicit", "their sum is the total")
SUM_OF_TERMS = ("terms", "their sum is the total")
HELD = ("explicit", "other steps held, complex step")
UNTIED = ("terms", "own copies of W, swept")
COPIES = ("terms", "own copies of W, complex step")
COMPLEX = ("total", "complex step, every element")
DIFFERENCES = ("total", "differences, every element")
VALUE = ("E", "plain NumPy")
EXPLICIT = ("explicit", "recursion (16), run forward")
IMPLICIT = ("implicit", "recursion (16), run forward")
TOTAL = ("total", "recursion (16), run forward")
CLOSED = ("terms", "closed form (22)")
GRAPH = {SUM_OF_PARTS, SUM_OF_TERMS, HELD, UNTIED, COPIES, COMPLEX, DIFFERENCES}
NUMPY = {VALUE, EXPLICIT, IMPLICIT, TOTAL, CLOSED}
EVERY_RULE = {HELD, COPIES, COMPLEX, DIFFERENCES, EXPLICIT, IMPLICIT, TOTAL, CLOSED}  # who shares no rule
OFF = 1 + 1e-6  # of a number that is broken


def key(witness: Any) -> tuple[str, str]:
    return ("E" if witness.part.startswith("E") else witness.part), witness.route


def notice(proof: Proof) -> set[tuple[str, str]]:
    """The witnesses that disagree; the proof is true exactly where there are none."""
    found = {key(w) for w in proof.witnesses if not w}
    assert bool(proof) == (not found)
    return found


def wrong_rule(monkeypatch: pytest.MonkeyPatch, op: Any, position: int) -> None:
    right, rules = op.rules[position], list(op.rules)
    rules[position] = lambda g, *saved, **settings: right(g, *saved, **settings) * OFF
    monkeypatch.setattr(op, "rules", tuple(rules))
