"""Floor 4: the time loop, in one place. It says where it is, so that errors, pictures and bptt know it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..functional import as_tensor, broadcast_to
from ..ops import Array
from ..scope import current, scope
from ..steps import step_of
from ..tensor import Tensor
from .cells import Cell


def unroll(cell: Cell, xs: Tensor | Array | Sequence[Any], state: Any = None, *, layer: int = 0,
           direction: str = "forward", start: int = 1) -> tuple[list[Tensor], Tensor]:
    """Apply one cell to every step: h_t = cell(x_t, h_{t-1}), t = 1 … T. Returns [h_1, …, h_T] and h_T.

    xs (T, B, D), integer ids (T, B), or a sequence of T steps. state: h_0 (B, H); None asks the cell. What is made at
    step t gets the scope (layer, direction, t), and h_0 stands at t = 0. start: the first t, for a sequence that goes
    on with the state of an earlier call. Raises ValueError for a sequence without steps, and for a state that this
    very recurrence made at step `start` or later: its steps could not be told apart.
    """
    xs = xs if isinstance(xs, Tensor | list | tuple) else np.asarray(xs)
    if not isinstance(xs, list | tuple) and xs.ndim < 2:
        raise ValueError(f"unroll: xs has shape {xs.shape}; expected (T, B, {getattr(cell, 'input_size', 'D')}), or "
                         "integer ids (T, B)")
    if len(xs) == 0:
        raise ValueError("unroll: expected at least one step, got none")
    outputs = []
    with scope(layer=layer, direction=direction):
        with scope(t=start - 1):
            state = cell.initial_state(np.shape(xs[0])[0]) if state is None else before(as_tensor(state), start)
        for i in range(len(xs)):
            with scope(t=start + i):
                state = cell(step(xs[i]), state)
            outputs.append(state)
    return outputs, state


def before(state: Tensor, start: int) -> Tensor:
    """The given state as the one before the first step: in this recurrence, wherever it was made."""
    made = step_of(state)
    here = {**state.scope, "t": start - 1} == current().scope
    if here and state.op is not None and made is not None and made >= start:
        raise ValueError(f"unroll: the state was made at step {made} of this recurrence; go on with start={made + 1}, "
                         "or detach() it")
    return broadcast_to(state, state.shape).named((state.name or "h").removesuffix("_0"))


def step(x: Any) -> Tensor | Array:
    """One x_t: integer ids as they are, anything else a tensor named x."""
    if not isinstance(x, Tensor):
        array: Array = np.asarray(x)
        if array.dtype.kind in "iu":
            return array
        x = Tensor(array)
    tensor: Tensor = x
    return tensor if tensor.name else tensor.named("x")
