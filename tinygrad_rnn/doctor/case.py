"""Floor 5: the case that a gradient belongs to: a model, a sequence and a loss; its gradient by two routes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import functional as F
from ..nn import Cell, GRUCell, Linear, LSTMCell, Recurrent, RNNCell, unroll
from ..nn.unroll import Direction
from ..sweep import sweep
from ..tensor import Tensor
from ..weights import load, save
from .cells import GRU, LSTM, RNN, Array, Arrays, NumPyCell
from .mistakes import terms
from .model import SIDES, Model

Reduction = Literal["sum", "mean"]
AGREE = 1e-10  # engine and plain NumPy must, by the largest entry
UNIT = 1e-12  # how far from 1 rounding may take the sum of probabilities: only where it is 1 is dE/dq = ŷ - y
WAYS: tuple[Direction, Direction] = ("forward", "backward")


@dataclass(frozen=True)
class Case:
    """E = Σ_t Σ_b -ln softmax(h_t V + c)[y_t] (2, 11), of a cell over a sequence, from a given state.

    layer: an RNNCell, LSTMCell or GRUCell, or one layer of them, as nn.RNN, in one or both
    directions. head: V and c; in both directions V stands above V': [h_t, h'_t] [V; V'] (7). xs (T, B, D), or ids
    (T, B); targets: ids (T, B), or rows of probabilities (T, B, V). state: h_0 (B, H), or (h_0, c_0), of a layer with
    its axis of cells in front; None asks the cells. reduction: over the steps, batch: over the rows, 'sum' or 'mean'.

    Raises TypeError for other models, IndexError for ids that are none, ValueError for shapes that do not fit, floats
    other than float64, numbers that are not finite, and rows of targets that are no probabilities.
    """

    layer: Cell | Recurrent
    head: Linear
    xs: Any
    targets: Any
    state: Any = None
    reduction: Reduction = "sum"
    batch: Reduction = "sum"

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "mean") or self.batch not in ("sum", "mean"):
            raise ValueError(f"reduction {self.reduction!r}, batch {self.batch!r}: expected 'sum' or 'mean'")
        if isinstance(self.layer, Recurrent) and self.layer.num_layers != 1:
            raise TypeError(f"doctor: {self.layer.num_layers} layers; expected one, in one or both directions")
        if isinstance(self.layer, Recurrent) and self.layer.batch_first:
            raise TypeError("doctor: a layer with batch_first; expected the steps in front, xs (T, B, D)")
        kinds = [numpy_cell(cell) for cell in self.cells]
        parameters = [*self.layer.parameters(), *self.head.parameters()]
        for p in parameters:
            exact(f"doctor: {p.name}", p)
        H, expected = self.cells[0].hidden_size, len(kinds) * self.cells[0].hidden_size
        if self.head.V.shape[0] != expected:
            raise ValueError(f"doctor: a head for {self.head.V.shape[0]} features; expected {expected}, which is "
                             f"{'H' if len(kinds) == 1 else '2 H'} with H = {H}")

    @property
    def cells(self) -> list[Cell]:
        return list(self.layer.cells.values()) if isinstance(self.layer, Recurrent) else [self.layer]

    @property
    def means(self) -> tuple[bool, bool]:
        return self.reduction == "mean", self.batch == "mean"

    @property
    def names(self) -> list[str]:
        """What a gradient can be handed in for: U, W, b, …, h_0, of both directions, and V, V', c."""
        own = [f"{name}{side}" for side, cell in zip(SIDES, self.cells)
               for name in (*parameters_of(cell), *(f"{s}_0" for s in cell.states), "V")]
        return own + ["c"] * (self.head.c is not None)

    @cached_property
    def x(self) -> Array:
        """(T, B, D), ids as one-hot rows."""
        xs = exact("doctor: x", self.xs)
        D = self.cells[0].input_size
        if xs.dtype.kind in "iu" and xs.ndim == 2:
            if xs.size and not (xs.min() >= 0 and xs.max() < D):
                raise IndexError(f"doctor: ids from {xs.min()} to {xs.max()}; expected 0 to {D - 1}")
            xs = np.eye(D)[xs]
        if xs.ndim != 3 or xs.shape[2] != D or not xs.size:
            raise ValueError(f"doctor: xs of shape {xs.shape}; expected (T, B, {D}), or integer ids (T, B)")
        found: Array = xs.astype(np.float64)
        return found

    @cached_property
    def y(self) -> Array:
        """(T, B, V), ids as one-hot rows."""
        y, (T, B, _), V = exact("doctor: y", self.targets), self.x.shape, self.head.V.shape[1]
        if y.dtype.kind in "iu" and y.shape == (T, B):
            if not (y.min() >= 0 and y.max() < V):
                raise IndexError(f"doctor: targets from {y.min()} to {y.max()}; expected 0 to {V - 1}")
            y = np.eye(V)[y]
        if y.shape != (T, B, V):
            raise ValueError(f"doctor: targets of shape {y.shape}; expected ids ({T}, {B}), or probabilities "
                             f"({T}, {B}, {V})")
        off = (y < 0).any(-1) | (np.abs(y.sum(-1) - 1) > UNIT)
        if off.any():
            t, row = np.argwhere(off)[0]
            raise ValueError(f"doctor: y[{t}, {row}] is {y[t, row]}, of sum {y[t, row].sum():.17g}; expected "
                             "probabilities, none negative and of sum 1")
        found: Array = y.astype(np.float64)
        return found

    @property
    def weight(self) -> float:
        """What multiplies each -ln ŷ_t[y_t]."""
        T, B, _ = self.x.shape
        return (1 / T if self.means[0] else 1.0) * (1 / B if self.means[1] else 1.0)

    @property
    def learned(self) -> bool:
        """Is the initial state a parameter (H,)?"""
        return self.state is None and getattr(self.cells[0], f"{self.cells[0].states[0]}_0") is not None

    @property
    def starts(self) -> list[dict[str, Array]]:
        """For each cell {h_0: (B, H)}, and c_0."""
        B, cells = self.x.shape[1], self.cells
        if self.state is None:
            made = [cell.initial_state(B) for cell in cells]
            parts = [part if isinstance(part, tuple) else (part,) for part in made]
        else:
            whole = self.state if isinstance(self.state, tuple | list) else (self.state,)
            arrays = [exact(f"doctor: {name}_0", part).astype(np.float64)
                      for name, part in zip(cells[0].states, whole)]
            if not isinstance(self.layer, Recurrent):
                arrays = [array[None] for array in arrays]
            expected = (len(cells), B, cells[0].hidden_size)
            if len(whole) != len(cells[0].states) or any(array.shape != expected for array in arrays):
                shape = expected if isinstance(self.layer, Recurrent) else expected[1:]
                raise ValueError(f"doctor: a state of shapes {[np.shape(part) for part in whole]}; expected {shape} "
                                 f"for {' and '.join(cells[0].states)}")
            parts = list(zip(*arrays))
        return [{f"{name}_0": np.array(part.data if isinstance(part, Tensor) else part)
                 for name, part in zip(cell.states, own)} for cell, own in zip(cells, parts)]

    @property
    def model(self) -> Model:
        """The same in plain NumPy, with the weights as they are now."""
        H, V = self.cells[0].hidden_size, self.head.V.shape[1]
        p: Arrays = {"c": np.zeros(V) if self.head.c is None else self.head.c.data}
        for i, (side, cell, start) in enumerate(zip(SIDES, self.cells, self.starts)):
            own = {name: np.zeros(H) for name in ("b", "b_hn", *(f"b_{gate}" for gate in cell.gates))}
            own |= {name: getattr(cell, name).data for name in parameters_of(cell)}
            own |= {**start, "V": self.head.V.data[i * H:(i + 1) * H]}
            p |= {f"{name}{side}": array for name, array in own.items()}
        return Model(numpy_cell(self.cells[0]), p, self.x, self.y, self.weight, self.learned)

    def arrays(self) -> Arrays:
        """x, y, V (of both directions V above V'), c, and all parameters and initial states, by name."""
        p = self.model.p
        found = {name: p[name] for name in self.names if name not in ("V", "V'")}
        return {"x": self.x, "y": self.y, **found, "V": self.head.V.data}

    def engine(self) -> Arrays:
        """The gradient of every name, by the reverse sweep over the graph."""
        H = self.cells[0].hidden_size
        leaves: dict[str, Tensor] = {}
        outputs = []
        for side, cell, start, way in zip(SIDES, self.cells, self.starts, WAYS):
            leaves |= {f"{name}{side}": getattr(cell, name) for name in parameters_of(cell)}
            if self.learned:
                leaves |= {f"{name}{side}": getattr(cell, name) for name in start}
                state = None
            else:
                given = {name: Tensor(array, requires_grad=True, name=name) for name, array in start.items()}
                leaves |= {f"{name}{side}": x for name, x in given.items()}
                state = tuple(given.values()) if len(given) > 1 else next(iter(given.values()))
            outputs.append(unroll(cell, self.x, state, direction=way)[0])
        logits = F.stack([self.head(F.concat(hs, -1)) for hs in zip(*outputs, strict=True)])
        loss = F.cross_entropy(logits, self.y, "sum") * self.weight
        totals = {loss: np.ones(())}
        deque(sweep(totals), maxlen=0)
        found = {name: totals.get(leaf, np.zeros(leaf.shape)) for name, leaf in leaves.items()}
        for i, side in enumerate(SIDES[:len(self.cells)]):
            found[f"V{side}"] = totals[self.head.V][i * H:(i + 1) * H]
        if self.head.c is not None:
            found["c"] = totals[self.head.c]
        return found

    def truth(self) -> Arrays:
        """The gradient by the engine, to which the doctor's plain NumPy has agreed; RuntimeError if it does not.

        Raises ValueError where it is not finite, as ReLU's may be.
        """
        by_engine, by_hand = self.engine(), terms(self.model, self.names)
        for name in self.names:
            ours, theirs = exact(f"doctor: the true gradient of {name}", by_engine[name]), by_hand[name].sum(0)
            size = max(np.abs(ours).max(initial=0.0), np.abs(by_hand[name]).max(initial=0.0))
            if not np.abs(ours - theirs).max(initial=0.0) <= AGREE * size:
                raise RuntimeError(f"doctor: engine and plain NumPy disagree about {name} by "
                                   f"{np.abs(ours - theirs).max():.3g}; expected {AGREE} of {size:.3g}. No diagnosis.")
        return by_engine

    def save(self, path: str | Path) -> Path:
        """Write an .npz of `arrays`, and what the model is: a gradient can be computed from it in any language."""
        cell = self.cells[0]
        kind = {RNNCell: "rnn", LSTMCell: "lstm", GRUCell: "gru"}[type(cell)]
        words = {"cell": kind, "reduction": self.reduction, "batch": self.batch}
        if self.learned:
            words["initial"] = "learned"
        if isinstance(cell, RNNCell):
            words["nonlinearity"] = cell.nonlinearity
        if isinstance(cell, GRUCell):
            words |= {"reset": str(cell.reset), "update": cell.update}
        return save(path, {**self.arrays(), **{name: np.array(word) for name, word in words.items()}})

    @classmethod
    def load(cls, path: str | Path) -> Case:
        """Read what `save` wrote. Raises ValueError, naming them, for entries that are missing or do not fit."""
        file = load(path)

        def entry(name: str, axes: str = "") -> Array:
            if name not in file:
                raise ValueError(f"{path} is no case: {name} is missing; it holds {', '.join(file)}")
            found = file[name]
            if axes and found.ndim != len(axes.split(", ")):
                raise ValueError(f"{path}: {name} of shape {found.shape}; expected ({axes})")
            return exact(f"{path}: {name}", found) if found.dtype.kind != "U" else found

        kind, both, learned = str(entry("cell")), "h_0'" in file, "initial" in file
        kinds: dict[str, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}
        if kind not in kinds:
            raise ValueError(f"{path}: cell {kind!r}; expected {', '.join(kinds)}")
        settings: dict[str, Any] = {}
        if kind == "rnn":
            settings["nonlinearity"] = str(entry("nonlinearity"))
        if kind == "gru":
            settings = {"reset": {"None": None}.get(str(entry("reset")), str(entry("reset"))),
                        "update": str(entry("update"))}
        if kind == "lstm":
            settings["peepholes"] = "p_f" in file
        if learned:
            if (initial := str(entry("initial"))) != "learned":
                raise ValueError(f"{path}: initial {initial!r}; expected 'learned', or none where the state is given")
            settings["initial"] = initial
        D, rng = entry("x", "T, B, D").shape[-1], np.random.default_rng(0)
        H, V = entry("h_0", "B, H").shape[-1], entry("V", "H, V").shape[-1]
        bias = {"rnn": "b", "lstm": "b_f", "gru": "b_n"}[kind] in file
        layer = Recurrent(kinds[kind], D, H, bidirectional=both, bias=bias, rng=rng, **settings)
        for side, cell in zip(SIDES, layer.cells.values()):
            own = {name: entry(f"{name}{side}") for name in parameters_of(cell)}
            for name in (f"{s}_0" for s in cell.states if learned):  # the same in all rows
                rows = np.unique(entry(f"{name}{side}", "B, H"), axis=0)
                if len(rows) != 1:
                    raise ValueError(f"{path}: {len(rows)} different rows of {name}{side}; expected one: it is learned")
                own[name] = rows[0]
            cell.load_state_dict(own)
        head = Linear(H * (1 + both), V, bias="c" in file, rng=rng)
        head.load_state_dict({name: entry(name) for name, _ in head.named_parameters()})
        state = None if learned else tuple(np.stack([entry(f"{name}_0{side}") for side, _ in zip(SIDES, layer.cells)])
                                           for name in kinds[kind].states)
        reduction, batch = str(entry("reduction")), str(entry("batch"))
        return cls(layer, head, entry("x"), entry("y"), state, reduction, batch)  # type: ignore[arg-type]


def exact(what: str, given: Any) -> Array:
    """An array of float64 or of whole numbers; ValueError for other numbers, and for what is not finite."""
    array = np.asarray(given.data if isinstance(given, Tensor) else given)
    if not issubclass(array.dtype.type, np.float64 | np.integer | np.bool_):
        raise ValueError(f"{what} is {array.dtype}; expected float64, for mistakes are told apart to 1e-8")
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{what} holds {array[place]} at {place}; expected finite numbers")
    return array


def parameters_of(cell: Cell) -> list[str]:
    """U, W, b of every gate; not a learned initial state."""
    return [name for name, _ in cell.named_parameters() if name.removesuffix("_0") not in cell.states]


def numpy_cell(cell: Cell) -> NumPyCell:
    match cell:
        case RNNCell():
            return RNN(cell.nonlinearity)
        case LSTMCell():
            return LSTM(cell.peepholes)
        case GRUCell():
            return GRU(cell.reset, cell.update)
    raise TypeError(f"doctor: {type(cell).__name__}; expected an RNNCell, LSTMCell or GRUCell")
