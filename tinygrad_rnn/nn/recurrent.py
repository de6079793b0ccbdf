"""Floor 4: layers of cells over time, stacked, in one direction or both, with PyTorch's arguments and results.

T steps, B batch, D input, H hidden, L layers, K directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import functional as F
from .. import ops
from ..ops import Array
from ..scope import scope
from ..tensor import Tensor
from .cell import Cell, State, rows_of
from .cells import GRUCell, LSTMCell, RNNCell
from .layers import flags, sizes
from .module import Module, Parameter
from .unroll import Direction, each, presence, step, unroll

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


class Recurrent(Module):
    """Layers of any cell over all steps: `Recurrent(MyCell, D, H, num_layers=2, bidirectional=True, rng=rng)`.

    Layer l reads what layer l - 1 gives; with `bidirectional` (7, 8; S3, S0) that is [h_t, h'_t] of two cells with
    parameters of their own, one of which goes from t = T to 1. dropout: the chance that an output between two layers is
    zeroed while training. Further options go to each cell. The cells are in `cells`, under PyTorch's suffixes 'l0',
    'l0_reverse', 'l1', …; their parameters are named W, W' (backward), and W_l0, W_l0', … where layers are stacked.

    fused: each layer as one node (`fused.py`) instead of the graph of its steps, where the cell has such a form: the
    same numbers, sooner, but nothing between the steps to look at. ValueError for a cell that has none.
    """

    def __init__(self, cell: type[Cell], input_size: int, hidden_size: int, num_layers: int = 1, *,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, fused: bool = False,
                 rng: np.random.Generator, **options: Any) -> None:
        sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        flags(batch_first=batch_first, bidirectional=bidirectional, fused=fused)
        if fused and cell.fused is None:
            raise ValueError(f"fused: {cell.__name__} has no fused form; RNNCell has")
        F.check_probability(dropout)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.bidirectional, self.rng = batch_first, dropout, bidirectional, rng
        self.fused = fused
        self.directions = DIRECTIONS[:1 + bidirectional]
        self.cells: dict[str, Cell] = {}
        named: set[Parameter] = set()
        for layer in range(num_layers):
            size = input_size if layer == 0 else hidden_size * len(self.directions)
            for direction in self.directions:
                made = self.cells[suffix(layer, direction)] = cell(size, hidden_size, rng=rng, **options)
                place = (f"_l{layer}" if num_layers > 1 else "") + ("'" if direction == "backward" else "")
                for parameter in set(made.parameters()) - named:
                    parameter.name = f"{parameter.name}{place}"
                named.update(made.parameters())

    def forward(self, xs: Tensor | Array | Sequence[Any], state: State = None, *, lengths: Any = None,
                start: int = 1) -> tuple[Tensor, State]:
        """output, state_T: the h_t of the last layer at every step, and every cell's last state.

        xs (T, B, D), or integer ids (T, B); output (T, B, K H); both with B first if `batch_first`. state, the one
        before the first step, and state_T: (L K, B, H), or a tuple of such, as (h, c); in the order of `cells`. Of a
        backward direction the last state is the one at t = 1. lengths and start, the first t, which tells the nodes of
        a graph apart and matters to nothing else: see `unroll`. Raises ValueError for wrong shapes and lengths, and for
        a last state that goes on at steps it has seen: give `start`, or detach() it.
        """
        if self.batch_first:
            xs = self.time_first(xs)
        if self.fused:
            output, states = self.at_once(xs, state, lengths)
            output = output.transpose(1, 0, 2) if self.batch_first else output
        else:
            outputs, states = self.steps(xs, state, lengths=lengths, start=start)
            output = F.stack(outputs, axis=1 if self.batch_first else 0)
        return output, each(lambda *parts: F.stack(parts), *states)

    def time_first(self, xs: Tensor | Array | Sequence[Any]) -> Tensor | Array:
        """(T, B, …) of (B, T, …)."""
        xs = whole(xs)
        if np.ndim(xs) < 2:
            raise ValueError(f"{type(self).__name__}: xs has shape {np.shape(xs)}; expected (B, T, {self.input_size}), "
                             "or integer ids (B, T)")
        return xs.transpose(1, 0, *range(2, xs.ndim)) if isinstance(xs, Tensor) else np.swapaxes(xs, 0, 1)

    def steps(self, xs: Tensor | Array | Sequence[Any], state: State = None, *, lengths: Any = None,
              start: int = 1) -> tuple[list[Tensor], list[State]]:
        """The outputs step by step, each (B, K H) and made at its step, and the last state of each of `cells`."""
        states, given = [], self.given(state)
        if self.bidirectional and not isinstance(xs, list | tuple) and np.ndim(xs) == 3:
            xs = [self.read(xs, i, start + i) for i in range(len(xs))]
        for layer in range(self.num_layers):
            found = []
            for direction in self.directions:
                outputs, last = unroll(self.cells[suffix(layer, direction)], xs, next(given), lengths=lengths,
                                       layer=layer, direction=direction, start=start)
                found.append(outputs)
                states.append(last)
            xs = [self.joined(parts, layer, t=start + i) for i, parts in enumerate(zip(*found))]
        return list(xs), states

    def at_once(self, xs: Tensor | Array | Sequence[Any], state: State, lengths: Any) -> tuple[Tensor, list[State]]:
        """The same of fused layers: output (T, B, K H), and the last state of each of `cells`."""
        xs = whole(xs)
        if np.ndim(xs) < 2 or not len(xs):
            raise ValueError(f"{type(self).__name__}: xs has shape {np.shape(xs)}; expected (T, B, {self.input_size}), "
                             "or integer ids (T, B), and at least one step")
        batch_size = rows_of(xs[0], self.input_size)
        present = None if lengths is None else presence(lengths, len(xs), batch_size)
        if present is not None:  # padding may be nan, and ids outside
            xs = F.where(present, xs, 0.0) if isinstance(xs, Tensor) else np.where(
                present[..., 0] if xs.ndim == 2 else present, xs, 0)
        states, given = [], self.given(state)
        for layer in range(self.num_layers):
            found = []
            for direction in self.directions:
                cell, s = self.cells[suffix(layer, direction)], next(given)
                with scope(layer=layer, direction=direction):
                    s = cell.initial_state(batch_size) if s is None else s
                    cell.fit(s, batch_size, "got")
                    hs = cell.fused(xs, s, backward=direction == "backward", present=present)
                    states.append(hs[0 if direction == "backward" else -1])
                    found.append(hs if present is None else F.where(present, hs, 0.0))
            xs = output = self.joined(found, layer)
        return output, states

    def read(self, xs: Any, i: int, t: int) -> Tensor | Array:
        """One x_t, which both directions read."""
        with scope(t=t):
            return step(xs[i])

    def joined(self, parts: Sequence[Tensor], layer: int, **step: int) -> Tensor:
        """[h_t, h'_t], or h_t in one direction, with dropout on the way to a next layer."""
        with scope(layer=layer, **step):
            y = F.concat(parts, -1).named("h") if len(parts) > 1 else parts[0]
            if self.dropout and self.training and layer < self.num_layers - 1:
                y = F.dropout(y, self.dropout, rng=self.rng)
            return y

    def given(self, state: State) -> Iterator[State]:
        """The state of each cell, of one given for all of them; None for all where none is given."""
        count = len(self.cells)
        if state is None:
            return iter([None] * count)
        for part in state if isinstance(state, tuple | list) else [state]:
            if np.ndim(part) != 3 or len(part) != count or np.shape(part)[2] != self.hidden_size:
                raise ValueError(f"{type(self).__name__}: a state of shape {np.shape(part)}; expected ({count}, B, "
                                 f"{self.hidden_size}), one for each of {', '.join(self.cells)}")
        parts = each(F.as_tensor, tuple(state) if isinstance(state, list) else state)
        return (each(lambda part, i=i: one_of(part, i), parts) for i in range(count))


def whole(xs: Tensor | Array | Sequence[Any]) -> Tensor | Array:
    """A list of steps, or of rows, in one."""
    if isinstance(xs, list | tuple) and any(isinstance(x, Tensor) for x in xs):
        return F.stack(xs)
    return xs if isinstance(xs, Tensor) else np.asarray(xs)


def one_of(states: Tensor, i: int) -> Tensor:
    """The state of one cell, of those of all; of a last state the tensor itself, which tells where it was made."""
    along_cells = states.op is ops.STACK and (states.settings or {})["axis"] == -states.ndim
    return states.inputs[i] if along_cells else states[i]


def suffix(layer: int, direction: Direction) -> str:
    return f"l{layer}_reverse" if direction == "backward" else f"l{layer}"


class RNN(Recurrent):
    """Layers of `RNNCell` (1), with the arguments of torch.nn.RNN. Returns output, h_n."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 **options: Any) -> None:
        super().__init__(RNNCell, input_size, hidden_size, num_layers, batch_first=batch_first, dropout=dropout,
                         bidirectional=bidirectional, nonlinearity=nonlinearity, bias=bias, **options)


class LSTM(Recurrent):
    """Layers of `LSTMCell` (4), with the arguments of torch.nn.LSTM. Returns output, (h_n, c_n)."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, **options: Any) -> None:
        super().__init__(LSTMCell, input_size, hidden_size, num_layers, batch_first=batch_first, dropout=dropout,
                         bidirectional=bidirectional, bias=bias, **options)


class GRU(Recurrent):
    """Layers of `GRUCell` (5, 6), with the arguments of torch.nn.GRU. Returns output, h_n."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, **options: Any) -> None:
        super().__init__(GRUCell, input_size, hidden_size, num_layers, batch_first=batch_first, dropout=dropout,
                         bidirectional=bidirectional, bias=bias, **options)
