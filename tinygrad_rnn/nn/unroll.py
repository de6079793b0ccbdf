"""Floor 4: the time loop, in one place. It says where it is, so that errors, pictures and bptt know it too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np

from ..functional import as_tensor, broadcast_to, where
from ..ops import Array
from ..scope import current, scope
from ..steps import step_of
from ..tensor import Tensor
from .cell import State

Direction = Literal["forward", "backward"]


def unroll(cell: Any, xs: Tensor | Array | Sequence[Any], state: State = None, *, lengths: Any = None, layer: int = 0,
           direction: Direction = "forward", start: int = 1) -> tuple[list[Tensor], State]:
    """Apply one cell to every step: s_t = cell(x_t, s_{t-1}), t = 1 … T. Returns [h_1, …, h_T] and the last state.

    cell: a `Cell`, or any function of x_t and a state that gives the next one. xs (T, B, D), integer ids (T, B), or a
    sequence of T steps. state: the one before the first step, (B, H) or a tuple of such; None asks the cell.
    direction: 'backward' goes from t = T to 1, s_t = cell(x_t, s_{t+1}) (7); the h_t are returned in the order of t.
    lengths: B integers; where row b is over, t > lengths[b], its state is held, s_t = s_{t-1} (15), its h_t is exactly
    0, and what stands in its x_t matters to nothing, not even as nan.
    start: the first t, for a sequence that goes on with the state of an earlier call.

    What is made at step t gets the scope (layer, direction, t), the first state that of the step before. Raises
    ValueError for a sequence without steps, for wrong lengths, and for a state that this very recurrence made at one of
    the steps to come: they could not be told apart.
    """
    if direction not in ("forward", "backward"):
        raise ValueError(f"direction {direction!r}: expected 'forward' or 'backward'")
    xs = xs if isinstance(xs, Tensor | list | tuple) else np.asarray(xs)
    shape = shape_of(xs)
    if shape[:1] == (0,):
        raise ValueError("unroll: expected at least one step, got none")
    if len(shape) < 2:
        raise ValueError(f"unroll: xs has shape {shape}; expected (T, B, {getattr(cell, 'input_size', 'D')}), or "
                         "integer ids (T, B)")
    T, batch_size = shape[:2]
    present = None if lengths is None else presence(lengths, T, batch_size)
    steps, before = (range(T), start - 1) if direction == "forward" else (range(T)[::-1], start + T)
    outputs = {}
    with scope(layer=layer, direction=direction):
        with scope(t=before):
            state = cell.initial_state(batch_size) if state is None else first(state, getattr(cell, "states", ("h",)))
        for i in steps:
            with scope(t=start + i):
                x = step(xs[i])
                if present is None or present[i].all():
                    state = cell(x, state)
                    outputs[i] = output_of(state)
                else:
                    state, outputs[i] = masked(cell, x, state, present[i])
    return [outputs[i] for i in range(T)], state


def shape_of(xs: Tensor | Array | Sequence[Any]) -> tuple[int, ...]:
    """(T, B, …), also of a list of steps."""
    return (len(xs), *np.shape(xs[0])) if isinstance(xs, list | tuple) and xs else np.shape(xs)


def output_of(state: State) -> Tensor:
    """h of a state."""
    h: Tensor = state[0] if isinstance(state, tuple) else state
    return h


def each(change: Any, *states: State) -> State:
    """Part by part, of states that are tensors or tuples of them."""
    return tuple(map(change, *states)) if isinstance(states[0], tuple) else change(*states)


def masked(cell: Any, x: Tensor | Array, state: State, present: Array) -> tuple[State, Tensor]:
    """One step in which only some rows are present, (B, 1): s_t = m_t s̃_t + (1-m_t) s_{t-1} and m_t h_t (15)."""
    x = where(present, x, 0.0).named("x") if isinstance(x, Tensor) else np.where(present[:, 0], x, 0)

    def held(new: Tensor, old: Tensor) -> Tensor:
        return where(present, new, old).named(new.name or "")

    state = each(held, cell(x, state), state)
    h = output_of(state)
    return state, where(present, h, 0.0).named(f"m∘{h.name}")


def presence(lengths: Any, T: int, batch_size: int) -> Array:
    """(T, B, 1): is row b of step t + 1 there? ValueError unless lengths are B integers from 1 to T, else TypeError."""
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected integers, got {array.dtype}")
    if array.shape != (batch_size,):
        raise ValueError(f"lengths: expected {batch_size}, one for each row of the batch, got shape {array.shape}")
    if not ((array >= 1) & (array <= T)).all():
        raise ValueError(f"lengths {array.tolist()}: expected numbers from 1 to {T}, the number of steps")
    found: Array = np.arange(T)[:, None, None] < array[:, None]
    return found


def first(state: State, names: tuple[str, ...]) -> State:
    """The given state as the one before the first step: in this recurrence, wherever it was made."""
    here = current().scope

    def start(part: Any, name: str) -> Tensor:
        x = as_tensor(part)
        made, t, forward = step_of(x), here["t"], here["direction"] == "forward"
        ahead = made is not None and (made > t if forward else made < t)
        if ahead and x.op is not None and {**x.scope, "t": t} == here:
            onward = f"start={(made or 0) + 1}" if forward else f"with the steps before {made}"
            raise ValueError(f"unroll: the state was made at step {made} of this recurrence, among or after those to "
                             f"come; go on from there ({onward}), or detach() it")
        return broadcast_to(x, x.shape).named((x.name or name).removesuffix("_0"))

    if isinstance(state, tuple | list):
        return tuple(map(start, state, chain(names, repeat("h"))))
    return start(state, names[0])


def step(x: Any) -> Tensor | Array:
    """One x_t: integer ids as they are, anything else a tensor, named x if it is made here and not by the caller."""
    if isinstance(x, Tensor):
        return x.named("x") if x.scope is current().scope and not x.name else x
    array: Array = np.asarray(x)
    return array if array.dtype.kind in "iu" else Tensor(array, name="x")
