"""Every cell, direction, stack and mask, each twice: by the library, and in NumPy alone from (1) to (8) and (15).

The NumPy half takes one copy of every parameter for each step, (P, *shape) or plain, P perturbations at once; the
complex step through those copies is the definition of the term matrix (19). `held` reads the states of other steps as
constants: that is the definition of explicit (20). Symbols: T time, B batch, D input, H hidden, V classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from bptt_models import STEP

from tinygrad_rnn import Tensor, nn, scope
from tinygrad_rnn import functional as F

Get = Callable[[str], Any]


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


# ------------------------------------------------------------------------------------------------------- cells in NumPy
def affine(p: Get, gate: str, x: Any, h: Any) -> Any:
    return x @ p("U" + gate) + h @ p("W" + gate) + p("b" + gate)


def rnn(p: Get, x: Any, s: Any) -> Any:
    return (np.tanh(affine(p, "", x, s[0])),)


def lstm(p: Get, x: Any, s: Any) -> Any:
    h, c = s
    f, i = sigmoid(affine(p, "_f", x, h)), sigmoid(affine(p, "_i", x, h))
    c = f * c + i * np.tanh(affine(p, "_c", x, h))
    return sigmoid(affine(p, "_o", x, h)) * np.tanh(c), c


def peepholes(p: Get, x: Any, s: Any) -> Any:
    h, c = s
    f, i = sigmoid(affine(p, "_f", x, h) + p("p_f") * c), sigmoid(affine(p, "_i", x, h) + p("p_i") * c)
    c = f * c + i * np.tanh(affine(p, "_c", x, h))
    return sigmoid(affine(p, "_o", x, h) + p("p_o") * c) * np.tanh(c), c


def after(p: Get, x: Any, h: Any) -> Any:
    r = sigmoid(affine(p, "_r", x, h))
    return np.tanh(x @ p("U_n") + p("b_n") + r * (h @ p("W_n") + p("b_hn")))


def before(p: Get, x: Any, h: Any) -> Any:
    return np.tanh(affine(p, "_n", x, sigmoid(affine(p, "_r", x, h)) * h))


def no_reset(p: Get, x: Any, h: Any) -> Any:
    return np.tanh(affine(p, "_n", x, h))


def gru(candidate: Any, update: str) -> Any:
    def step(p: Get, x: Any, s: Any) -> Any:
        n, g = candidate(p, x, s[0]), sigmoid(affine(p, f"_{update}", x, s[0]))
        return (g * s[0] + (1 - g) * n,) if update == "z" else (g * n + (1 - g) * s[0],)
    return step


class Own(nn.Cell):
    """A reader's cell with a state of two parts, the second of which only adds up: a_t = (a + tanh(x U)) k, h = ..."""

    states = ("h", "a")

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.U, self.W, self.b = self.gate()
        self.k = self.weight("k", "", self.hidden_size)

    def forward(self, x: Any, state: Any) -> Any:
        h, a = state
        a = (a + F.tanh(x @ self.U)) * self.k
        return F.tanh(h @ self.W + a * a + self.b), a


def own(p: Get, x: Any, s: Any) -> Any:
    a = (s[1] + np.tanh(x @ p("U"))) * p("k")
    return np.tanh(s[0] @ p("W") + a * a + p("b")), a


CELLS: dict[str, tuple[type[nn.Cell], dict[str, Any], Any]] = {
    "RNN": (nn.RNNCell, {}, rnn), "LSTM": (nn.LSTMCell, {}, lstm),
    "LSTM with peepholes": (nn.LSTMCell, {"peepholes": True}, peepholes),
    "own": (Own, {}, own),
    **{f"GRU {reset} {update}": (nn.GRUCell, {"reset": reset, "update": update}, gru(candidate, update))
       for reset, candidate in (("after", after), ("before", before), (None, no_reset)) for update in "zu"},
}


# --------------------------------------------------------------------------------------------------------------- models
@dataclass
class Net:
    """A stack of one kind of cell with a softmax at every step, whose learned h_0 is not 0 (initial: a constant).

    one_way: the only direction, unrolled by hand; else layers, in one direction or both. merge: one projection of the
    concatenation, or S3's sum of two, V and V'.
    """

    cell: str = "RNN"
    layers: int = 1
    both: bool = False
    one_way: str = "forward"
    merge: str = "concat"
    lengths: list[int] | None = None
    initial: Any = "learned"
    T: int = 4
    B: int = 2
    D: int = 3
    H: int = 4
    V: int = 5
    seed: int = 0
    scale: float = 1.0
    changed: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def built(self) -> tuple[dict[str, Tensor], list[Tensor], np.ndarray]:
        """Parameters by name, E_1 … E_T, and the targets (T, B)."""
        rng = np.random.default_rng(self.seed)
        kind, options, _ = CELLS[self.cell]
        x = rng.normal(size=(self.T, self.B, self.D))
        y = rng.integers(0, self.V, (self.T, self.B))
        if self.both or self.one_way == "forward":
            net: Any = nn.Recurrent(kind, self.D, self.H, self.layers, bidirectional=self.both, initial=self.initial,
                                    rng=rng, **options)
        else:
            net = kind(self.D, self.H, initial=self.initial, rng=rng, **options)
        width = self.H * (1 + (self.both and self.merge == "concat"))
        p: dict[str, Tensor] = {str(q.name): q for q in net.parameters()}
        p |= {n: Tensor(np.zeros(shape), True, n) for n, shape in
              (("V", (width, self.V)), ("V'", (width, self.V)), ("c", (self.V,)))}
        if self.merge == "concat":
            del p["V'"]
        for name, q in p.items():
            q.data = self.changed.get(name, rng.normal(0, 0.6 * self.scale / max(1, q.ndim - 1) ** 0.5, q.shape))
        p["x"] = x = Tensor(self.changed.get("x", x), requires_grad=True, name="x")
        if isinstance(net, nn.Recurrent):
            outputs, _ = net.steps(x, lengths=self.lengths)
        else:
            outputs, _ = nn.unroll(net, x, lengths=self.lengths, direction="backward")
        losses = []
        for t, h in enumerate(outputs, 1):
            with scope(t=t):
                if self.merge == "concat":
                    q = h @ p["V"] + p["c"]
                else:
                    q = h[:, :self.H] @ p["V"] + h[:, self.H:] @ p["V'"] + p["c"]
                losses.append(F.cross_entropy(q, y[t - 1], reduction="sum").named("E"))
        return p, losses, y

    @property
    def parameters(self) -> dict[str, Tensor]: return self.built[0]
    @property
    def losses(self) -> list[Tensor]: return self.built[1]
    @property
    def states(self) -> tuple[str, ...]: return CELLS[self.cell][0].states

    def lanes(self) -> Iterator[tuple[int, str, str]]:
        """(layer, direction, what stands behind the names of its parameters)."""
        for layer in range(self.layers):
            for direction in ("forward", "backward") if self.both else (self.one_way,):
                place = f"_l{layer}" if self.layers > 1 else ""
                yield layer, direction, place + ("'" if self.both and direction == "backward" else "")

    def lane_of(self, name: str) -> tuple[int, str] | None:
        """Layer and direction of a parameter; None of the output's and of x."""
        for layer, direction, place in self.lanes():
            bare = name.removesuffix(place)
            if bare + place == name and "'" not in bare and bare not in ("V", "x", "c") and "_l" not in bare:
                return layer, direction
        return None

    def run(self, copies: Mapping[str, list[Any]], held: bool = False) -> list[Any]:
        """E_1 … E_T, each (P,) or a number, where step k reads copies[name][k]."""
        step, T = CELLS[self.cell][2], self.T

        def at(k: int, place: str = "") -> Get:
            def get(name: str) -> Any:
                copied = name + place in copies
                a = copies[name + place][k] if copied else self.parameters[name + place].data
                return a[..., None, :] if a.ndim - copied == 1 else a  # a row of the batch, of P copies or of one
            return get

        def x_at(k: int) -> Any:
            return (copies["x"][k] if "x" in copies else self.parameters["x"].data)[..., k - 1, :, :]

        xs = {k: x_at(k) for k in range(1, T + 1)}
        for layer in range(self.layers):
            outputs: dict[int, list[Any]] = {k: [] for k in xs}
            for its, direction, place in self.lanes():
                if its != layer:
                    continue
                steps = list(xs) if direction == "forward" else list(xs)[::-1]
                before = 0 if direction == "forward" else T + 1
                if self.initial == "learned":
                    s = tuple(at(before, place)(f"{n}_0") + np.zeros((self.B, self.H)) for n in self.states)
                else:
                    s = tuple(np.full((self.B, self.H), float(self.initial)) for _ in self.states)
                for k in steps:
                    if held:
                        s = tuple(part.real for part in s)
                    new = step(at(k, place), xs[k], s)
                    there = np.array(self.lengths or [T] * self.B)[:, None] >= k
                    s = tuple(np.where(there, a, b) for a, b in zip(new, s))
                    outputs[k].append(np.where(there, s[0], 0))
            xs = {k: np.concatenate(np.broadcast_arrays(*o), -1) for k, o in outputs.items()}
        losses = []
        for k, h in xs.items():
            p = at(k)
            if self.merge == "concat":
                q = h @ p("V") + p("c")
            else:
                q = h[..., :self.H] @ p("V") + h[..., self.H:] @ p("V'") + p("c")
            log_y = q - np.log(np.exp(q).sum(-1, keepdims=True))
            losses.append(-log_y[..., np.arange(self.B), self.built[2][k - 1]].sum(-1))
        return losses

    def A(self, name: str, held: bool = False) -> np.ndarray:
        """A[t,k] (T, T + 2, *shape), k = 0 … T + 1, by the complex step; `held`: the explicit paths alone."""
        return term_matrix(lambda copies: self.run({name: copies}, held), self.parameters[name].data, self.T + 2)


def term_matrix(run: Callable[[list[Any]], list[Any]], W: np.ndarray, steps: int) -> np.ndarray:
    """∂E_t/∂W⁽ᵏ⁾, (losses, steps, *W.shape), where run gets the copies of all k, each (steps · W.size, *W.shape)."""
    moved = np.tile(W.astype(complex), (steps, steps, W.size, *[1] * W.ndim)).reshape(steps, steps, W.size, *W.shape)
    for k in range(steps):
        moved[k, k].reshape(W.size, W.size)[np.diag_indices(W.size)] += 1j * STEP
    copies = [moved[k].reshape(-1, *W.shape) for k in range(steps)]
    losses = [np.broadcast_to(E, len(copies[0])).imag / STEP for E in run(copies)]
    return np.stack(losses).reshape(-1, steps, *W.shape)


NETS: dict[str, Net] = {f"{cell}, forward": Net(cell, seed=i) for i, cell in enumerate(CELLS)}
NETS |= {f"{cell}, backward": Net(cell, one_way="backward", seed=20 + i) for i, cell in enumerate(CELLS)}
NETS |= {f"{cell}, both": Net(cell, both=True, merge=("concat", "sum")[i % 2], seed=40 + i)
         for i, cell in enumerate(("RNN", "LSTM", "LSTM with peepholes", "GRU after z", "GRU None u", "own"))}
NETS |= {
    "RNN, both, sum of two projections": Net("RNN", both=True, merge="sum", seed=50),
    "RNN, both, from 0.5": Net("RNN", both=True, merge="sum", initial=0.5, seed=51),
    "LSTM, both, from 0": Net("LSTM", both=True, initial=0.0, seed=52),
    "RNN, stack": Net("RNN", layers=2, seed=60), "LSTM, stack": Net("LSTM", layers=2, seed=61, T=3),
    "GRU, stack": Net("GRU after z", layers=2, seed=62, T=3), "three layers": Net("RNN", layers=3, seed=63, H=2),
    "RNN, stack, both": Net("RNN", layers=2, both=True, seed=70),
    "LSTM, stack, both": Net("LSTM", layers=2, both=True, seed=71, T=3, H=2),
    "GRU, stack, both": Net("GRU before u", layers=2, both=True, merge="sum", seed=72, T=3, H=2),
    "RNN, masked": Net("RNN", lengths=[2, 4, 3], B=3, seed=80),
    "LSTM, masked": Net("LSTM", lengths=[4, 2], seed=81),
    "LSTM, backward, masked": Net("LSTM", one_way="backward", lengths=[2, 3, 1], B=3, seed=82),
    "GRU, both, masked": Net("GRU after z", both=True, lengths=[4, 1], merge="sum", seed=83),
    "RNN, stack, both, masked": Net("RNN", layers=2, both=True, lengths=[2, 4, 3], B=3, H=2, seed=84),
}
