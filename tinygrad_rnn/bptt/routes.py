"""Floor 5: six routes to one gradient, in one table: every route against every other, for every parameter of a model.

Reverse mode over the graph, the recursion (16) run forward in time (RTRL), the closed forms (22 to 25), own copies of W
for each step, the complex step, differences. RTRL and the closed forms are plain NumPy (`reference`, `gated`) and share
nothing with the engine, not even the forward pass; the others share what SHARED says.

Symbols: T steps, B batch, H hidden, V classes, n units of a state; θ any parameter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from textwrap import fill
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
from .proof import DIFFERENCES, MOST, STEP, WORTHLESS, Witness, precision, slopes, untied, witness
from .reference import RNN, BiRNN, Direction, predicted
from .tables import Printed, norm, paragraph, subscript, table

REVERSE, RTRL, CLOSED = "reverse mode", "RTRL", "closed form"
COPIES, COMPLEX, DIFFERENCE = "untied copies", "complex step", "differences"
SHARED = {RTRL: "nothing", CLOSED: "nothing", COPIES: "graph, rules", COMPLEX: "graph", DIFFERENCE: "graph"}
SHORT = {REVERSE: "reverse", RTRL: "RTRL", CLOSED: "closed", COPIES: "untied", COMPLEX: "complex"}
NONE = "none: "  # and why a model has no such route
LEGEND = (
    "reverse mode: one sweep over the graph from the loss back, as backward() does.",
    "RTRL: ds_t/dθ = ∂⁺s_t/∂θ + J_t ds_{t-1}/dθ carried forward in time, in plain NumPy, with a forward pass and "
    "Jacobians that are not the engine's.",
    "closed form: δ carried backward by equations derived by hand, in plain NumPy, after the forward pass of RTRL.",
    "untied copies: every step gets its own copy of θ; what reverse mode gives the copies, added up.",
    "complex step: Im E(θ + ih) / h, h = 1e-20, element by element, by running the graph forward again.",
    "differences: (E(θ + h) - E(θ - h)) / 2h, to fourth order, in the same way.",
    "A route cannot see a mistake in what it shares with the engine: the graph (forward pass, wiring, steps), or its "
    "rules (derivatives) too.")
MOST_NUMBERS = 1 << 26  # that a route may hold at once, half a gigabyte; one that needs more is left out, and says so

Cells = RNN | Gated


# ---------------------------------------------------------------------------------------- the same model in plain NumPy
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
        return summed(self.cell, self.cell.closed_form(t, name), name)


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
            return self.both(t, name, lambda cell, t, bare: summed(cell, cell.closed_form(t, bare), bare))
        parts = [summed(self.birnn, self.birnn.closed_form(t, part), part)
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
        total: Array = np.sum([route(alone(cell, row, q), place, name) for row, q in enumerate(beside)], 0)
        return total


def V_of(cell: Cells) -> Array:
    return cell.parameters()["V"]


def summed(cell: Cells | BiRNN, terms: dict[int, Array], name: str) -> Array:
    """Σ_k of the terms; zeros where there are none."""
    total: Array = sum(terms.values(), np.zeros_like(cell.parameters()[name]))
    return total


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
    without = [
        (type(cells[0]) not in (RNNCell, LSTMCell, GRUCell), "own cell"),
        (getattr(cells[0], "peepholes", False), "peepholes"),
        (getattr(cells[0], "nonlinearity", "tanh") not in ("tanh", "sigmoid"), "relu"),
        (layer.num_layers > 1, f"{layer.num_layers} layers"),
        (cells[0].initial == "learned", "learned s_0"),
        (head.c is None or not cells[0].bias, "no bias"),
    ]
    if why := ", ".join(reason for holds, reason in without if holds):
        return why
    assert head.c is not None
    x, y, V, c, H = np.asarray(x), np.asarray(y), head.V.data, head.c.data, layer.hidden_size
    one = in_numpy(cells[0], V[:H], c, x, y)
    equation = one.equation if isinstance(one, Gated) else "22"
    if not layer.bidirectional:
        return OneWay(one, equation)
    other = in_numpy(cells[1], V[H:], np.zeros_like(c), x[::-1], y[::-1])
    if not (isinstance(one, RNN) and isinstance(other, RNN) and one.nonlinearity == "tanh"):
        return BothWays(one, other, equation)
    first, second = (Direction(way.U, way.W, way.b, way.V, way.h_0) for way in (one, other))
    return BothWays(one, other, "25", BiRNN(first, second, c, x, y))


def in_numpy(cell: Cell, V: Array, c: Array, x: Array, y: Array) -> Cells:
    state = cell.initial_state(y.shape[1])
    parts = dict(zip(cell.states, state if isinstance(state, tuple) else (state,)))
    theta = {str(p.name).removesuffix("'"): p.data for p in cell.parameters()}
    theta |= {"V": V, "c": c, **{f"{name}_0": part.data for name, part in parts.items()}}
    if isinstance(cell, RNNCell):
        return RNN(theta["U"], theta["W"], theta["b"], V, c, theta["h_0"], x, y,
                   "sigmoid" if cell.nonlinearity == "sigmoid" else "tanh")
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

    def __post_init__(self) -> None:
        if self.found.shape != self.reverse.shape:  # which NumPy might broadcast, and compare
            raise ValueError(f"a route gave a gradient of shape {self.found.shape}, expected {self.reverse.shape}")


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
    """Every route to every gradient. True where all that there are agree."""

    rows: tuple[Row, ...]
    equation: str  # of the closed form, if there is one

    def __bool__(self) -> bool:
        return all(self.rows)

    def between(self, a: str, b: str) -> list[Witness]:
        """The comparisons of two routes, a before b in the order of the columns, one for each row that has both."""
        if a == REVERSE:
            return [w for row in self.rows if isinstance(w := row.cells[b], Witness)]
        return [w for row in self.rows for w in row.pairs if w.route == f"{a} – {b}"]

    def sides(self) -> list[list[str]]:
        """The routes in groups whose members agree with one another in every gradient: one group, if all is well."""
        found: list[list[str]] = []
        for route in (REVERSE, *(route for route in SHARED if self.between(REVERSE, route))):
            for side in found:
                if all(all(self.between(other, route)) for other in side):
                    side.append(route)
                    break
            else:
                found.append([route])
        return found

    def __repr__(self) -> str:
        return agreement_table(self)


def compare(losses: Sequence[Tensor], t: int, parameters: Sequence[Tensor], model: OneWay | BothWays | str,
            total: bool = False) -> Agreement:
    """All routes to dE_t/dθ for every θ, and with `total` to dE/dθ of E = E_1 + … + E_T.

    model: the same in plain NumPy, or why there is none, as `plain` gives it. Raises ValueError unless all is in
    float64.
    """
    if losses[t - 1].dtype != np.float64:
        raise ValueError(f"compare: the graph is in {losses[t - 1].dtype}, whose rounding hides mistakes; "
                         "expected float64")
    wanted = [(losses[t - 1], subscript("E", t), range(t, t + 1))]
    if total:
        wanted.append((F.stack(list(losses)).sum().named("E"), "E", range(1, len(losses) + 1)))
    rows = [row for loss, label, steps in wanted for row in rows_of(loss, label, steps, parameters, model)]
    return Agreement(tuple(rows), "" if isinstance(model, str) else model.equation)


def rows_of(loss: Tensor, label: str, steps: range, parameters: Sequence[Tensor],
            model: OneWay | BothWays | str) -> Iterator[Row]:
    """The loss itself, by the two forward passes, then every parameter. loss: the sum of E_t over `steps`."""
    exact = precision(loss)
    value: Witness | str = f"{NONE}{model}"
    if not isinstance(model, str):
        value = witness(label, RTRL, SHARED[RTRL], model.losses()[steps.start - 1:steps.stop - 1].sum(), loss.data)
    cells: dict[str, Witness | str] = {**dict.fromkeys(SHARED, "shared"), RTRL: value, CLOSED: value}
    yield Row(label, None, 1, float(abs(loss.data)), cells)
    totals = {loss: np.ones(())}
    deque(sweep(totals), maxlen=0)
    for parameter in parameters:
        reverse, name = totals.get(parameter, np.zeros(parameter.shape)), str(parameter.name)
        found = routes(loss, parameter, np.asarray(reverse), steps, model, exact)
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


def routes(loss: Tensor, parameter: Tensor, reverse: Array, steps: range, model: OneWay | BothWays | str,
           exact: float) -> dict[str, Numbers | str]:
    """dE/dθ by every route but reverse mode, in the order of the columns."""
    name, found = str(parameter.name), dict[str, Numbers | str]()
    if isinstance(model, str):
        found |= dict.fromkeys((RTRL, CLOSED), f"{NONE}{model}")
    else:
        one = model.cell if isinstance(model, OneWay) else model.one
        n = one.forward()[0][0].size  # of all rows
        held = n * reverse.size * (name not in ("V", "c"))  # ds_t/dθ, whole
        found[RTRL] = too_many(held) or Numbers(np.sum([model.recursion(t, name) for t in steps], 0), reverse, exact)
        found[CLOSED] = Numbers(np.sum([model.closed_form(t, name) for t in steps], 0), reverse, exact)
    e = explain(loss, parameter)
    found[COPIES] = Numbers(np.sum(list(untied(e).values()), 0), reverse, exact)
    if left_out := too_many(MOST * reverse.size * (reverse.size > MOST)):  # random directions, each of θ's size
        return found | dict.fromkeys((COMPLEX, DIFFERENCE), left_out)
    ours, theirs, _ = slopes(e, reverse)
    found[COMPLEX] = Numbers(theirs, ours, exact)
    ours, theirs, off = slopes(e, reverse, differences=True)
    found[DIFFERENCE] = Numbers(theirs, ours, DIFFERENCES + 5 * off**2, 4e-16 * abs(float(loss.data)) / STEP)
    return found


def too_many(numbers: int) -> str:
    return f"left out: {numbers / 1e6:,.0f} M numbers" if numbers > MOST_NUMBERS else ""


# ---------------------------------------------------------------------------------------------------------- the table
def agreement_table(a: Agreement) -> str:
    """One table, the routes as columns; under it every route against every other, and the verdict."""
    form = f"{CLOSED} ({a.equation})" if a.equation else CLOSED
    head = ["gradient", "numbers", "‖·‖", "RTRL (16)", form, COPIES, COMPLEX, DIFFERENCE]
    missing = sorted({cell for row in a.rows for cell in row.cells.values()
                      if isinstance(cell, str) and cell.startswith(NONE)})
    rows = [[f"d{row.loss}/d{row.parameter}" if row.parameter else row.loss, f"{row.size:,}" if row.parameter else "",
             f"{row.norm:.3g}", *(shown(row.cells[route]) for route in SHARED)] for row in a.rows]
    ends = {route: a.between(REVERSE, route) for route in SHARED}
    rows += [[""] * len(head), ["shares with the engine", "", "", *SHARED.values()],
             ["allowed", "", "", *(f"{max(w.tolerance for w in ws):.0e}" if ws else "–" for ws in ends.values())],
             ["verdict", "", "", *(verdict(ws) for ws in ends.values())]]
    why = [f"{reason}. There is no RTRL and no closed form of such a model here, and no forward pass but the engine's."
           for reason in missing]
    order = (REVERSE, *SHARED)
    pairs = [[late, *(worst(a.between(early, late)) if early in order[:order.index(late)] else "" for early in SHORT)]
             for late in SHARED]
    return "\n".join([
        table(head, rows), "",
        paragraph("A number: by how much a route disagrees at most with reverse mode, by the largest element of that "
                  "gradient; ✗ where that is more than allowed. The row of a loss compares the loss itself with that "
                  "of the route's own forward pass. shared: it has none. rounding: differences cannot tell a gradient "
                  "so small from it."),
        *map(paragraph, why), "", *map(paragraph, LEGEND), "",
        "  Every route against every other, the worst of all rows", "", table(["", *SHORT.values()], pairs), "",
        fill(conclusion(a), 112)])


def shown(cell: Witness | str) -> str:
    return (NONE.strip(": ") if cell.startswith(NONE) else cell) if isinstance(cell, str) else worst([cell])


def worst(found: list[Witness]) -> str:
    """The largest error, marked where any of them is not allowed."""
    if not found:
        return "–"
    largest = max(found, key=lambda w: (np.isnan(w.error), w.error))
    return (f"{largest.error:.1e}" if largest.error else "0") + " ✗" * (not all(found))


def verdict(found: list[Witness]) -> str:
    return "–" if not found else "agrees" if all(found) else "DISAGREES"


def conclusion(a: Agreement) -> str:
    """Proved or not; and if not, who stands against whom."""
    gradients = sum(row.parameter is not None for row in a.rows)
    if a:
        (side,) = a.sides()
        said = f"Proved: {len(side)} routes agree, each with each, in {gradients} gradients."
        return said if RTRL in side or CLOSED in side else (
            f"{said} All of them read the one recorded graph: if its forward pass is not the one that is meant, no "
            "route here can see it.")
    sides = "; against: ".join(", ".join(side) for side in a.sides())
    wrong = sum(not row for row in a.rows)
    return f"NOT PROVED: routes disagree in {wrong} of {len(a.rows)} rows. These agree with one another: {sides}."
