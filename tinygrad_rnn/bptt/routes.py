"""Floor 5: six routes to one gradient, in one table: every route against every other, for every parameter of a model.

Reverse mode over the graph, the recursion (16) run forward in time (RTRL), the closed forms (22 to 25), own copies of W
for each step, the complex step, differences. RTRL and the closed forms are plain NumPy (`reference`, `gated`) and share
nothing with the engine, not even the forward pass; the others share what SHARED says.

Symbols: T steps, B batch, H hidden, V classes, n units of a state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from .. import functional as F
from ..nn import GRUCell, Linear, LSTMCell, Recurrent, RNNCell
from ..nn.cell import Cell
from ..ops import Array
from ..sweep import sweep
from ..tensor import Tensor
from .gated import GRU, LSTM, Gated
from .parts import explain
from .proof import DIFFERENCES, EXACT, STEEP, STEP, WORTHLESS, Witness, is_steep, slopes, untied, witness
from .reference import RNN, BiRNN, Direction, predicted
from .tables import Printed, norm, paragraph, subscript, table

REVERSE, RTRL, CLOSED = "reverse mode", "RTRL", "closed form"
COPIES, COMPLEX, DIFFERENCE = "untied copies", "complex step", "differences"
SHARED = {RTRL: "nothing", CLOSED: "nothing", COPIES: "all but sums", COMPLEX: "graph, forward",
          DIFFERENCE: "graph, forward"}  # with the engine
MOST_NUMBERS = 1 << 26  # that one route may hold at once, half a gigabyte; what needs more is left out, and said

Cells = RNN | Gated


# ----------------------------------------------------------------------------------------- the same model in plain NumPy
@dataclass(frozen=True)
class OneWay:
    """One layer that goes forward. equation: which closed form it has."""

    cell: Cells
    equation: str

    def losses(self) -> Array:
        """E_1 … E_T."""
        found: Array = self.cell.forward()[-1]
        return found

    def recursion(self, t: int, name: str) -> Array:
        """dE_t/dθ by (16)."""
        return self.cell.recursion(t, name).total

    def closed_form(self, t: int, name: str) -> Array:
        """dE_t/dθ by (22), (23) or (24)."""
        return added(self.cell, self.cell.closed_form(t, name), name)


@dataclass(frozen=True)
class BothWays:
    """Two directions (7, 8), q_t = [h_t, h'_t] V + c. They meet in q_t alone: what the one adds to q_t is a constant to

    the other, as if it were a part of c at that step, in that row; so each direction has the routes of one that is
    alone. `one` has the rows of V that are h_t's, and c; `other` those that are h'_t's, reads x and y from the end, and
    its c is 0. birnn: the model as S3 derives it, whose end (25) is then the closed form.
    """

    one: Cells
    other: Cells
    equation: str
    birnn: BiRNN | None = None

    def added(self) -> tuple[Array, Array]:
        """What each direction adds to q_t, (T, B, V), both in the order of t."""
        one, other = (cell.forward()[0][1:, :, :len(V_of(cell))] @ V_of(cell) for cell in (self.one, self.other))
        return one, other[::-1]

    def losses(self) -> Array:
        one, other = self.added()
        return predicted(one + other + self.one.parameters()["c"], self.one.y, self.one.weight)[1]

    def recursion(self, t: int, name: str) -> Array:
        return self.both(t, name, lambda cell, t, bare: cell.recursion(t, bare).total)

    def closed_form(self, t: int, name: str) -> Array:
        if self.birnn is None:
            return self.both(t, name, lambda cell, t, bare: added(cell, cell.closed_form(t, bare), bare))
        parts = [added(self.birnn, self.birnn.closed_form(t, part), part)
                 for part in (("V", "V'") if name == "V" else (name,))]
        return np.concatenate(parts)

    def both(self, t: int, name: str, route: Callable[[Cells, int, str], Array]) -> Array:
        """dE_t/dθ by the route of the direction that θ belongs to; V belongs to both."""
        if name == "V":
            return np.concatenate([self.way(t, "V", False, route), self.way(t, "V", True, route)])
        return self.way(t, name.removesuffix("'"), name.endswith("'"), route)

    def way(self, t: int, name: str, backward: bool, route: Callable[[Cells, int, str], Array]) -> Array:
        """The sum over the rows of the batch, each with what the other direction adds to q_t in it."""
        cell, place = (self.other, len(self.one.y) - t + 1) if backward else (self.one, t)
        beside = self.added()[0 if backward else 1][t - 1] + (self.one.parameters()["c"] if backward else 0)
        return np.sum([route(alone(cell, row, q), place, name) for row, q in enumerate(beside)], 0)


def V_of(cell: Cells) -> Array:
    return cell.parameters()["V"]


def added(cell: Cells | BiRNN, terms: dict[int, Array], name: str) -> Array:
    """Σ_k of the terms; zeros where there are none."""
    return sum(terms.values(), np.zeros_like(cell.parameters()[name]))


def alone(cell: Cells, row: int, q: Array) -> Cells:
    """One row of the batch, with q (V,) added to its c."""
    x, y = cell.x[:, row:row + 1], cell.y[:, row:row + 1]
    if isinstance(cell, RNN):
        return replace(cell, x=x, y=y, c=cell.c + q, h_0=cell.h_0[row:row + 1])
    theta = {name: a[row:row + 1] if name.endswith("_0") else a for name, a in cell.theta.items()}
    return replace(cell, x=x, y=y, theta={**theta, "c": theta["c"] + q})


def plain(layer: Recurrent, head: Linear, x: Any, y: Any) -> OneWay | BothWays | str:
    """The model E_t = Σ over rows of -ln softmax(head(h_t))[y_t] in plain NumPy; or why there is no closed form of it.

    x (T, B, D) or ids (T, B), y ids (T, B); no layer is given a first state.
    """
    cells = list(layer.cells.values())
    if layer.num_layers > 1:
        return f"{layer.num_layers} layers"
    if type(cells[0]) not in (RNNCell, LSTMCell, GRUCell):
        return f"a cell of one's own, {type(cells[0]).__name__}"
    if isinstance(cells[0], LSTMCell) and cells[0].peepholes:
        return "peepholes"
    if isinstance(cells[0], RNNCell) and cells[0].nonlinearity not in ("tanh", "sigmoid"):
        return str(getattr(cells[0], "nonlinearity", ""))
    if head.c is None or not cells[0].bias:
        return "no bias"
    x, y, V, c, H = np.asarray(x), np.asarray(y), head.V.data, head.c.data, layer.hidden_size
    equation = "22" if isinstance(cells[0], RNNCell) else "23" if isinstance(cells[0], LSTMCell) else "24"
    one = in_numpy(cells[0], V[:H], c, x, y)
    if not layer.bidirectional:
        return OneWay(one, equation)
    other = in_numpy(cells[1], V[H:], np.zeros_like(c), x[::-1], y[::-1])
    if not (isinstance(one, RNN) and isinstance(other, RNN) and one.nonlinearity == "tanh"):
        return BothWays(one, other, equation)
    ways = [Direction(way.U, way.W, way.b, way.V, way.h_0) for way in (one, other)]
    return BothWays(one, other, "25", BiRNN(*ways, c, x, y))


def in_numpy(cell: Cell, V: Array, c: Array, x: Array, y: Array) -> Cells:
    state = cell.initial_state(y.shape[1])
    parts = dict(zip(cell.states, state if isinstance(state, tuple) else (state,)))
    theta = {str(p.name).removesuffix("'"): p.data for p in cell.parameters()}
    theta |= {"V": V, "c": c, **{f"{name}_0": part.data for name, part in parts.items()}}
    if isinstance(cell, RNNCell):
        return RNN(**theta, x=x, y=y, nonlinearity="sigmoid" if cell.nonlinearity == "sigmoid" else "tanh")
    if isinstance(cell, GRUCell):
        return GRU(theta, x, y, reset=cell.reset, update=cell.update)
    return LSTM(theta, x, y)


# --------------------------------------------------------------------------------------------------------- the routes
@dataclass(frozen=True)
class Numbers:
    """What one route says: `found` against `reverse`, both in full, or both along the same random directions."""

    found: Array
    reverse: Array
    tolerance: float
    noise: float = 0.0


@dataclass(frozen=True)
class Row:
    """One gradient. cells: each route against reverse mode, or why there is none; pairs: all routes against each other.

    parameter None: the loss itself.
    """

    loss: str
    parameter: str | None
    size: int
    norm: float
    cells: dict[str, Witness | str]
    pairs: tuple[Witness, ...] = ()

    def __bool__(self) -> bool:
        return all(cell for cell in (*self.cells.values(), *self.pairs) if isinstance(cell, Witness))


@dataclass(frozen=True, repr=False)
class Agreement(Printed):
    """Every route to every gradient. True where all of them agree, and not for lack of routes."""

    rows: tuple[Row, ...]
    equation: str  # of the closed form, if there is one

    def __bool__(self) -> bool:
        return all(self.rows)

    @cached_property
    def pairs(self) -> dict[str, list[Witness]]:
        """{'RTRL – complex step': that pair in every row}."""
        found: dict[str, list[Witness]] = {}
        for row in self.rows:
            for w in row.pairs:
                found.setdefault(w.route, []).append(w)
        return found

    def __repr__(self) -> str:
        return agreement_table(self)


def compare(losses: Sequence[Tensor], t: int, parameters: Sequence[Tensor], numpy: OneWay | BothWays | str,
            total: bool = False) -> Agreement:
    """All routes to dE_t/dθ for every θ, and with `total` to dE/dθ of E = E_1 + … + E_T.

    numpy: the model in plain NumPy, or why there is none, as `plain` gives it. Raises ValueError unless all is in
    float64.
    """
    if losses[t - 1].dtype != np.float64:
        raise ValueError(f"compare: the graph is in {losses[t - 1].dtype}, whose rounding hides mistakes; "
                         "expected float64")
    wanted = [(losses[t - 1], subscript("E", t), range(t, t + 1))]
    if total:
        wanted.append((F.stack(list(losses)).sum().named("E"), "E", range(1, len(losses) + 1)))
    rows = [row for loss, label, steps in wanted for row in rows_of(loss, label, steps, parameters, numpy)]
    return Agreement(tuple(rows), "" if isinstance(numpy, str) else numpy.equation)


def rows_of(loss: Tensor, label: str, steps: range, parameters: Sequence[Tensor],
            numpy: OneWay | BothWays | str) -> Iterator[Row]:
    """The loss itself, by the two forward passes, then every parameter. loss: the sum of E_t over `steps`."""
    exact = STEEP if is_steep(loss) else EXACT
    value: Witness | str = f"none: {numpy}"
    if not isinstance(numpy, str):
        value = witness(label, RTRL, SHARED[RTRL], numpy.losses()[steps.start - 1:steps.stop - 1].sum(), loss.data)
    cells: dict[str, Witness | str] = {RTRL: value, CLOSED: value}
    yield Row(label, None, 1, float(abs(loss.data)), {**cells, **dict.fromkeys((COPIES, COMPLEX, DIFFERENCE), "same")})
    totals = {loss: np.ones(())}
    deque(sweep(totals), maxlen=0)
    for parameter in parameters:
        reverse, name = totals.get(parameter, np.zeros(parameter.shape)), str(parameter.name)
        found = routes(loss, parameter, np.asarray(reverse), steps, numpy, exact)
        cells = {route: checked(name, route, numbers) if isinstance(numbers, Numbers) else numbers
                 for route, numbers in found.items()}
        usable = {route: numbers for route, numbers in found.items()
                  if isinstance(numbers, Numbers) and not isinstance(cells[route], str)}
        pairs = (witness(name, f"{a} – {b}", "", one.found, other.found, max(one.tolerance, other.tolerance),
                         one.noise + other.noise)
                 for (a, one), (b, other) in combinations(usable.items(), 2)
                 if one.found.shape == other.found.shape)  # not all numbers with some directions
        yield Row(label, name, reverse.size, norm(reverse), cells, tuple(pairs))


def checked(name: str, route: str, numbers: Numbers) -> Witness | str:
    """A route against reverse mode; a reason where its own rounding would hide a mistake."""
    found = witness(name, route, SHARED[route], numbers.found, numbers.reverse, numbers.tolerance, numbers.noise)
    return found if found.tolerance < WORTHLESS else "rounding"


def routes(loss: Tensor, parameter: Tensor, reverse: Array, steps: range, numpy: OneWay | BothWays | str,
           exact: float) -> dict[str, Numbers | str]:
    """dE/dθ by every route but reverse mode, in the order of the columns."""
    name, found = str(parameter.name), dict[str, Numbers | str]()
    if isinstance(numpy, str):
        found |= dict.fromkeys((RTRL, CLOSED), f"none: {numpy}")
    else:
        one = numpy.cell if isinstance(numpy, OneWay) else numpy.one
        n = one.forward()[0][0].size  # of all rows
        found[RTRL] = too_many(n * reverse.size * (name not in ("V", "c"))) or Numbers(
            np.sum([numpy.recursion(t, name) for t in steps], 0), reverse, exact)
        found[CLOSED] = Numbers(np.sum([numpy.closed_form(t, name) for t in steps], 0), reverse, exact)
    e = explain(loss, parameter)
    found[COPIES] = Numbers(np.sum(list(untied(e).values()), 0), reverse, exact)
    for route in (COMPLEX, DIFFERENCE):
        if not (left_out := too_many(min(reverse.size, MOST) * reverse.size)):
            ours, theirs, off = slopes(e, reverse, differences=route == DIFFERENCE)
            rounding = 4e-16 * abs(float(loss.data)) / STEP
            found[route] = (Numbers(theirs, ours, exact) if route == COMPLEX else
                            Numbers(theirs, ours, DIFFERENCES + 5 * off**2, rounding))
        else:
            found[route] = left_out
    return found
