"""Floor 4: what every cell has in common. B batch, D input, H hidden; rows, W (in, out)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .. import functional as F
from ..scope import current, scope, told
from ..tensor import Tensor
from .equations import PLACE, Notation, equations
from .layers import flags, number, sizes, times, uniform
from .module import Module, Parameter

Initial = float | Literal["learned"]
State = Any  # h (B, H), or a tuple of such, h first


class Cell(Module):
    """One step of a recurrent network: forward(x_t, state) gives the next state, and that is all a cell has to define.

    A state is one tensor (B, H), or a tuple of them, the one that others see first; `states` names them. x_t is (B, D),
    or integer ids (B,), which stand for one-hot rows. initial: the state where none is given, a constant (S3 takes 0.5)
    or 'learned', which makes the parameters h_0, … (H,), zero at first.

    Calling a cell checks the shapes on the way in and out (ValueError), and that forward gave tensors (TypeError): a
    state is never broadcast.
    """

    states: tuple[str, ...] = ("h",)
    gates: tuple[str, ...] = ()  # in PyTorch's order, for cells that PyTorch has
    fused: Any = None  # all steps as one node, as `RNNCell.fused`, where a cell has such a form

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in vars(cls) and "fused" not in vars(cls):
            cls.fused = None  # another step than the inherited form computes

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, initial: Initial = 0.0,
                 rng: np.random.Generator, dtype: Any = np.float64) -> None:
        sizes(input_size=input_size, hidden_size=hidden_size)
        flags(bias=bias)
        if isinstance(initial, str) and initial != "learned":
            raise ValueError(f"initial {initial!r}: expected a number or 'learned'; unroll takes any other state")
        if not isinstance(initial, str):
            number(initial=initial)
        self.input_size, self.hidden_size, self.bias, self.initial = input_size, hidden_size, bias, initial
        self.rng, self.dtype = rng, np.dtype(dtype)
        for name in self.states:
            learned = Parameter(np.zeros(hidden_size), name=f"{name}_0", dtype=dtype) if initial == "learned" else None
            setattr(self, f"{name}_0", learned)

    def gate(self, gate: str = "") -> tuple[Parameter, Parameter, Parameter | None]:
        """U_g (D, H), W_g (H, H) and b_g (H,), uniform in ±1/√H as PyTorch's; no b_g where the cell has no bias."""
        D, H = self.input_size, self.hidden_size
        return (self.weight("U", gate, D, H), self.weight("W", gate, H, H),
                self.weight("b", gate, H) if self.bias else None)

    def weight(self, symbol: str, gate: str, *shape: int) -> Parameter:
        name = f"{symbol}_{gate}" if gate else symbol
        return uniform(self.rng, self.hidden_size**-0.5, *shape, name=name, dtype=self.dtype)

    def __call__(self, x: Any, state: State) -> State:
        batch_size = rows_of(x, self.input_size)
        self.fit(state, batch_size, "got")
        state = self.forward(x, state)
        for part in state if isinstance(state, tuple) else (state,):
            if not isinstance(part, Tensor):
                raise TypeError(f"{type(self).__name__}{told(current().scope)}: forward returned "
                                f"{type(part).__name__}; expected a Tensor, or a tuple of Tensors")
        self.fit(state, batch_size, "forward returned")
        for name, part in zip(self.states, state if isinstance(state, tuple) else (state,)):
            part.name = part.name or name
        return state

    def fit(self, state: State, batch_size: int, what: str) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        if len(parts) != len(self.states) or isinstance(state, tuple) == (len(self.states) == 1):
            expected = self.states[0] if len(self.states) == 1 else f"the tuple ({', '.join(self.states)})"
            raise ValueError(f"{type(self).__name__}{told(current().scope)}: {what} a state of {len(parts)} parts; "
                             f"expected {expected}")
        for name, part in zip(self.states, parts):
            if np.shape(part) != (batch_size, self.hidden_size):
                raise ValueError(f"{type(self).__name__}{told(current().scope)}: {what} {name} of shape "
                                 f"{np.shape(part)}; expected {(batch_size, self.hidden_size)}")

    def initial_state(self, batch_size: int) -> State:
        """The state before the first step, every part (B, H), as `initial` says; made at t = 0 unless in a step."""
        with scope(**{"t": 0, **current().scope}):
            parts = tuple(self._start(name, (batch_size, self.hidden_size)) for name in self.states)
        return parts if len(parts) > 1 else parts[0]

    def equations(self, notation: Notation = "notes") -> str:
        """What one step computes, line by line, read from the graph of a step: in the notes' names or PyTorch's."""
        x = Tensor(np.zeros((1, self.input_size)), requires_grad=True, name="x_t")
        parts = tuple(Tensor(np.zeros((1, self.hidden_size)), requires_grad=True, name=f"{name}_{{t-1}}")
                      for name in self.states)
        state = self(x, parts if len(parts) > 1 else parts[0])
        return equations(state if isinstance(state, tuple) else (state,), notation)

    def _start(self, name: str, shape: tuple[int, int]) -> Tensor:
        learned: Parameter | None = getattr(self, f"{name}_0")
        if learned is not None:
            return F.broadcast_to(learned, shape).named(name)
        return Tensor(np.full(shape, self.initial), name=name, dtype=self.dtype)


def rows_of(x: Any, input_size: int) -> int:
    """B of x_t, (B, D) or ids (B,); ValueError for any other shape."""
    shape = np.shape(x)
    ids = not isinstance(x, Tensor) and np.asarray(x).dtype.kind in "iu"
    if (not ids and (len(shape) != 2 or shape[1] != input_size)) or (ids and len(shape) != 1):
        raise ValueError(f"x has shape {shape}{told(current().scope)}; expected (B, {input_size}), or integer ids (B,)"
                         + " (integers are ids: one-hot rows are floats)" * (ids and len(shape) == 2))
    return int(shape[0])


def affine(x: Any, U: Tensor, h: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """z = x U + h W + b (1; S4's one product [x, h] [U; W], 3), named as U is: z_f for U_f, whatever the layer."""
    z = times(x, U) + h @ W
    return (z if b is None else z + b).named("z" + PLACE.sub("", U.name or "U")[1:])
