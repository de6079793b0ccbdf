"""Floor 4: the time loop, in one place. It says where it is, so that errors, pictures and bptt know it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops import Array
from ..scope import current, scope
from ..tensor import Tensor
from .cells import Cell


def unroll(cell: Cell, xs: Tensor | Array | Sequence[Any], state: Tensor | None = None, *, layer: int = 0,
           direction: str = "forward") -> tuple[list[Tensor], Tensor]:
    """Apply one cell to every step: h_t = cell(x_t, h_{t-1}), t = 1 … T. Returns [h_1, …, h_T] and h_T.

    xs (T, B, D), integer ids (T, B), or a sequence of T steps. state: h_0 (B, H); None asks the cell. What is made at
    step t gets the scope (layer, direction, t), and an h_0 without a step gets t = 0. Raises ValueError for a sequence
    without steps.
    """
    xs = xs if isinstance(xs, Tensor | list | tuple) else np.asarray(xs)
    if len(np.shape(xs)) == 0 or len(xs) == 0:
        raise ValueError(f"unroll: expected at least one step, got xs of shape {np.shape(xs)}")
    outputs = []
    with scope(layer=layer, direction=direction):
        if state is None:
            state = cell.initial_state(np.shape(xs[0])[0])
        elif state.op is None and "t" not in state.scope:
            with scope(t=0):
                state.scope = current().scope  # it is the state before step 1, wherever it was made
        for t in range(1, len(xs) + 1):
            with scope(t=t):
                state = cell(step(xs[t - 1]), state)
            outputs.append(state)
    return outputs, state


def step(x: Any) -> Tensor | Array:
    """One x_t: integer ids as they are, anything else a tensor named x."""
    if not isinstance(x, Tensor):
        array: Array = np.asarray(x)
        if array.dtype.kind in "iu":
            return array
        x = Tensor(array)
    tensor: Tensor = x
    return tensor if tensor.name else tensor.named("x")
