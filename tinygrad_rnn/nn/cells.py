"""Floor 4: one step of a recurrent network, as the notes write it. B batch, D input, H hidden; rows, W (in, out)."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from .. import functional as F
from ..ops import Array
from ..scope import current, scope, told
from ..tensor import Tensor
from .layers import sizes, times, uniform
from .module import Module, Parameter

NONLINEARITIES = {"tanh": F.tanh, "sigmoid": F.sigmoid}
Initial = float | Literal["learned"]


class Cell(Protocol):
    """What the unrolling asks of a cell: h_t from x_t and h_{t-1}, and an h_0."""

    def __call__(self, x: Any, state: Any) -> Any: ...
    def initial_state(self, batch_size: int) -> Any: ...


class RNNCell(Module):
    """z_t = x_t U + h_{t-1} W + b, h_t = φ(z_t) (1; S0, S1, S2, S4).

    x_t (B, D) or integer ids (B,), h (B, H); U (D, H), W (H, H), b (H,), all uniform in ±1/√H as PyTorch's.
    nonlinearity: φ, 'tanh' or S1's 'sigmoid'. initial: h_0 where none is given, a constant (S3 takes 0.5) or 'learned',
    which makes the parameter h_0 (H,), zero at first.
    """

    def __init__(self, input_size: int, hidden_size: int, nonlinearity: str = "tanh", bias: bool = True, *,
                 initial: Initial = 0.0, rng: np.random.Generator, dtype: Any = np.float64) -> None:
        sizes(input_size=input_size, hidden_size=hidden_size)
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity {nonlinearity!r}: expected one of {', '.join(NONLINEARITIES)}")
        if initial != "learned" and not isinstance(initial, int | float):
            raise ValueError(f"initial {initial!r}: expected a number or 'learned'; unroll takes any other state")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.nonlinearity, self.initial = nonlinearity, initial
        bound = hidden_size**-0.5
        self.U = uniform(rng, bound, input_size, hidden_size, name="U", dtype=dtype)
        self.W = uniform(rng, bound, hidden_size, hidden_size, name="W", dtype=dtype)
        self.b = uniform(rng, bound, hidden_size, name="b", dtype=dtype) if bias else None
        self.h_0 = Parameter(np.zeros(hidden_size), name="h_0", dtype=dtype) if initial == "learned" else None

    def forward(self, x: Tensor | Array, h: Tensor) -> Tensor:
        fit(x, self.input_size, h, self.hidden_size)
        z = times(x, self.U) + h @ self.W
        if self.b is not None:
            z = z + self.b
        return NONLINEARITIES[self.nonlinearity](z.named("z")).named("h")

    def initial_state(self, batch_size: int) -> Tensor:
        """h_0 (B, H) as `initial` says."""
        with scope(t=0):
            if self.h_0 is not None:
                return F.broadcast_to(self.h_0, (batch_size, self.hidden_size)).named("h")
            return Tensor(np.full((batch_size, self.hidden_size), self.initial), name="h", dtype=self.W.dtype)


def fit(x: Any, input_size: int, h: Tensor, hidden_size: int) -> None:
    """ValueError unless x is (B, D), or ids (B,), and h is (B, H) for the same B: a state is never broadcast."""
    shape = np.shape(x)
    ids = not isinstance(x, Tensor) and np.asarray(x).dtype.kind in "iu"
    if (not ids and (len(shape) != 2 or shape[1] != input_size)) or (ids and len(shape) != 1):
        raise ValueError(f"x has shape {shape}{told(current().scope)}; expected (B, {input_size}), or integer ids (B,)")
    if h.shape != (shape[0], hidden_size):
        raise ValueError(f"h has shape {h.shape}{told(current().scope)}; expected {(shape[0], hidden_size)}")
