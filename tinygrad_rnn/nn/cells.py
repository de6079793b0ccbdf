"""Floor 4: the cells, one step each, line by line as the notes write them, one matrix for each gate.

B batch, D input, H hidden; rows, so `x U_f` for the notes' U_f x; U_g (D, H), W_g (H, H), b_g (H,).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .. import functional as F
from .. import fused
from ..functional import sigmoid, tanh
from ..ops import Array
from ..tensor import Tensor
from .cell import Cell, affine
from .layers import flags, number, times

NONLINEARITIES = {"tanh": F.tanh, "sigmoid": F.sigmoid, "relu": F.relu}


class RNNCell(Cell):
    """z_t = U x_t + W h_{t-1} + b, h_t = φ(z_t) (1; S0, S1, S2, S4).

    nonlinearity: φ, 'tanh', S1's 'sigmoid', or 'relu'. The rest is as in `Cell`.
    """

    gates = ("",)

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, nonlinearity: str = "tanh",
                 **options: Any) -> None:
        super().__init__(input_size, hidden_size, bias, **options)
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity {nonlinearity!r}: expected one of {', '.join(NONLINEARITIES)}")
        self.nonlinearity = nonlinearity
        self.U, self.W, self.b = self.gate()

    def forward(self, x: Any, h: Tensor) -> Tensor:
        z = affine(x, self.U, h, self.W, self.b)
        return NONLINEARITIES[self.nonlinearity](z).named("h")

    def fused(self, xs: Any, h: Tensor, *, backward: bool, present: Array | None) -> Tensor:
        """The same for all steps as one node: xs (T, B, D), or ids (T, B), to h (T, B, H)."""
        a = times(xs, self.U)
        a = a if self.b is None else a + self.b
        return fused.rnn(a, self.W, h, self.nonlinearity, backward=backward, present=present).named("h")


class LSTMCell(Cell):
    """f, i, o = σ(U_g x_t + W_g h_{t-1} + b_g), c̃ = tanh(U_c x_t + W_c h_{t-1} + b_c) (4; S0, S1, S2),

    c_t = f∘c_{t-1} + i∘c̃, h_t = o∘tanh(c_t). The state is (h, c).

    forget_bias: what b_f starts from (1 keeps memory open at first); None leaves it uniform, as PyTorch does.
    peepholes: f and i also see p_f∘c_{t-1} and p_i∘c_{t-1}, and o sees p_o∘c_t (Gers and Schmidhuber 2000).
    """

    states = ("h", "c")
    gates = ("i", "f", "c", "o")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, forget_bias: float | None = None,
                 peepholes: bool = False, **options: Any) -> None:
        if forget_bias is not None and not bias:
            raise ValueError(f"forget_bias {forget_bias}: this cell has no bias")
        flags(peepholes=peepholes)
        if forget_bias is not None:
            number(forget_bias=forget_bias)
        super().__init__(input_size, hidden_size, bias, **options)
        self.U_f, self.W_f, self.b_f = self.gate("f")
        self.U_i, self.W_i, self.b_i = self.gate("i")
        self.U_o, self.W_o, self.b_o = self.gate("o")
        self.U_c, self.W_c, self.b_c = self.gate("c")
        if forget_bias is not None and self.b_f is not None:
            self.b_f.data = np.full(hidden_size, forget_bias)
        self.peepholes = peepholes
        if peepholes:
            self.p_f, self.p_i, self.p_o = (self.weight("p", gate, hidden_size) for gate in "fio")

    def forward(self, x: Any, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        z_f = affine(x, self.U_f, h, self.W_f, self.b_f)
        z_i = affine(x, self.U_i, h, self.W_i, self.b_i)
        z_o = affine(x, self.U_o, h, self.W_o, self.b_o)
        z_c = affine(x, self.U_c, h, self.W_c, self.b_c)
        if self.peepholes:
            z_f, z_i = (z_f + self.p_f * c).named("z_f"), (z_i + self.p_i * c).named("z_i")
        f, i, candidate = sigmoid(z_f).named("f"), sigmoid(z_i).named("i"), tanh(z_c).named("c̃")
        c = (f * c + i * candidate).named("c")
        if self.peepholes:
            z_o = (z_o + self.p_o * c).named("z_o")
        o = sigmoid(z_o).named("o")
        return (o * tanh(c)).named("h"), c


class GRUCell(Cell):
    """r = σ(U_r x_t + W_r h_{t-1} + b_r), the update gate likewise, n from x_t and what r lets through (5, 6; S2).

    reset: 'after' the product, n = tanh(U_n x_t + b_n + r∘(W_n h_{t-1} + b_hn)), as PyTorch and cuDNN; 'before' it,
    n = tanh(U_n x_t + W_n (r∘h_{t-1}) + b_n), as Cho et al. 2014; None, S2's GRU, whose only gate is the update gate.
    update: 'z' weighs the old state, h_t = (1-z)∘n + z∘h_{t-1}, as PyTorch; 'u' the new one, h_t = u∘n + (1-u)∘h_{t-1},
    as S2. u = 1 - z: negating the gate's weights and bias turns one into the other.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *,
                 reset: Literal["after", "before"] | None = "after", update: Literal["z", "u"] = "z",
                 **options: Any) -> None:
        super().__init__(input_size, hidden_size, bias, **options)
        if reset not in ("after", "before", None):
            raise ValueError(f"reset {reset!r}: expected 'after', 'before' or None")
        if update not in ("z", "u"):
            raise ValueError(f"update {update!r}: expected 'z', which weighs the old state, or 'u', the new one")
        self.reset, self.update = reset, update
        self.gates = ("r", update, "n")
        if reset:
            self.U_r, self.W_r, self.b_r = self.gate("r")
        if update == "z":
            self.U_z, self.W_z, self.b_z = self.gate("z")
        else:
            self.U_u, self.W_u, self.b_u = self.gate("u")
        self.U_n, self.W_n, self.b_n = self.gate("n")
        self.b_hn = self.weight("b", "hn", hidden_size) if bias and reset == "after" else None

    def forward(self, x: Any, h: Tensor) -> Tensor:
        n = self.candidate(x, h)
        if self.update == "z":
            z = sigmoid(affine(x, self.U_z, h, self.W_z, self.b_z)).named("z")
            return ((1 - z) * n + z * h).named("h")
        u = sigmoid(affine(x, self.U_u, h, self.W_u, self.b_u)).named("u")
        return (u * n + (1 - u) * h).named("h")

    def candidate(self, x: Any, h: Tensor) -> Tensor:
        if self.reset is None:
            return tanh(affine(x, self.U_n, h, self.W_n, self.b_n)).named("n")
        r = sigmoid(affine(x, self.U_r, h, self.W_r, self.b_r)).named("r")
        if self.reset == "before":
            return tanh(affine(x, self.U_n, r * h, self.W_n, self.b_n)).named("n")
        seen, remembered = times(x, self.U_n), h @ self.W_n
        if self.b_n is not None and self.b_hn is not None:
            seen, remembered = seen + self.b_n, remembered + self.b_hn
        return tanh((seen + r * remembered).named("z_n")).named("n")
