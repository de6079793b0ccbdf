"""Floor 5: weights by all their names, and in files. One table says what the notes, PyTorch and this library call them.

PyTorch keeps the matrices of all gates in one, transposed, and two biases where one does; here each gate has a matrix
of its own. H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bptt.tables import Printed, table
from .nn import Cell, Embedding, GRUCell, Linear, LSTMCell, Module, Parameter, Recurrent, RNNCell
from .ops import Array

COLUMNS = ("S0, S3", "S1", "S2, S4")
UNNAMED = ("",) * len(COLUMNS)
PLAIN = {  # without gates: role → what the notes call it
    "U": ("U", "W^(hx)", "W_xh"), "W": ("W", "W^(hh)", "W_hh"), "b": ("b", "", "b_h"),
    "V": ("V", "W^(S)", "W_yh"), "c": ("C", "", "b_y"),
}
LSTM_GATE = {"U": ("", "U_{g}", "W_{g}x"), "W": ("", "W_{g}", "W_{g}h"), "b": ("", "b_{g}", "b_{g}")}
GRU_GATE = {"U": ("", "", "W_{g}x"), "W": ("", "", "W_{g}c"), "b": ("", "", "b_{g}")}  # S2 calls its state c


@dataclass(frozen=True)
class Slot:
    """A parameter and its place in PyTorch: rows `start` on, of `height`, in the first of `tensors`; others are added.

    sign is -1 where PyTorch's gate is one minus this one; transposed, where its matrix is (out, in). tensors is empty
    where PyTorch has no such parameter.
    """

    name: str
    parameter: Parameter
    notes: tuple[str, ...]
    tensors: tuple[str, ...]
    start: int
    height: int
    sign: int = 1
    transposed: bool = True

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.turned(self.parameter.data).shape[0])

    def turned(self, array: Array) -> Array:
        """From (in, out) to PyTorch's (out, in), or back; an Embedding is the same in both."""
        return self.sign * (array.T if self.transposed else array)


@dataclass(frozen=True, repr=False)
class Names(Printed):
    """All parameters of a module, with the names that the notes and PyTorch have for them."""

    slots: tuple[Slot, ...]

    def __repr__(self) -> str:
        rows = [[s.name, " × ".join(map(str, s.parameter.shape)), *s.notes, slices(s)] for s in self.slots]
        return table(["parameter", "shape", *COLUMNS, "PyTorch (transposed)"], rows, left=(0, 2, 3, 4, 5))


def slices(slot: Slot) -> str:
    """'weight_hh_l0[6:12]'; of a bias both, as they are added."""
    if not slot.tensors:
        return "–"
    whole = slot.rows == slice(0, slot.height)
    rows = "" if whole else f"[{slot.rows.start}:{slot.rows.stop}]"
    return " + ".join(f"{'-' * (slot.sign < 0)}{tensor}{rows}" for tensor in slot.tensors)


def names(module: Module) -> Names:
    """The table of names of a cell, a layer or a whole model; it prints itself."""
    return Names(tuple(slots(module)))


def to_pytorch(module: Module) -> dict[str, Array]:
    """The state dict of the same model in PyTorch: its names, shapes and order of gates; the second biases are zeros.

    Raises ValueError, naming all of them, for parameters that PyTorch has no place for.
    """
    found: dict[str, Array] = {}
    for slot in places(module):
        value = slot.turned(slot.parameter.data)
        for tensor, part in zip(slot.tensors, (value, 0)):
            whole = found.setdefault(tensor, np.zeros((slot.height, *value.shape[1:]), value.dtype))
            whole[slot.rows] = part
    return found


def from_pytorch(module: Module, state: Mapping[str, Any]) -> None:
    """Take the values of a PyTorch state dict (arrays, or tensors that NumPy can read); biases are added up.

    Raises ValueError, and changes nothing, unless all names and shapes fit: all that do not are named.
    """
    expected = {name: array.shape for name, array in to_pytorch(module).items()}
    arrays = {name: np.asarray(array) for name, array in state.items()}
    wrong = [f"missing {name}" for name in expected if name not in arrays]
    wrong += [f"unknown {name}" for name in arrays if name not in expected]
    wrong += [f"{name} has shape {arrays[name].shape}, expected {shape}"
              for name, shape in expected.items() if name in arrays and arrays[name].shape != shape]
    if wrong:
        raise ValueError(f"from_pytorch into {type(module).__name__}: {'; '.join(wrong)}")
    values: dict[Parameter, tuple[str, Array]] = {}  # of one that is held twice, under its first name
    for slot in places(module):
        value = slot.turned(np.sum([arrays[tensor][slot.rows] for tensor in slot.tensors], 0))
        name, known = values.setdefault(slot.parameter, (slot.name, value))
        if not np.array_equal(known, value):
            raise ValueError(f"from_pytorch: {name} and {slot.name} are one parameter, but their values differ")
    module.load_state_dict(dict(values.values()))


def save(path: str | Path, state: Mapping[str, Array]) -> Path:
    """Write a state dict, ours or PyTorch's, as .npz or .safetensors; no pickle. Returns the path.

    Raises ValueError for another suffix, or for what is no array of numbers or text, ImportError where the package
    safetensors is missing; a file that was there stays until the new one is whole.
    """
    path, part = Path(path), Path(f"{path}.part")
    arrays = {name: np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
              for name, array in state.items()}
    kind, numbers = kind_of(path), "fiub" if Path(path).suffix == ".safetensors" else "fciubU"
    if wrong := [f"{name} of {array.dtype}" for name, array in arrays.items() if array.dtype.kind not in numbers]:
        raise ValueError(f"{path}: cannot hold {', '.join(wrong)}")
    if reserved := {"file", "allow_pickle"} & arrays.keys():
        raise ValueError(f"{path}: {', '.join(reserved)} cannot be the name of an array")
    if kind == ".npz":
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    else:
        from safetensors.numpy import save_file
        save_file(arrays, part)
    part.replace(path)
    return path


def load(path: str | Path) -> dict[str, Array]:
    """What `save`, or anyone else, wrote as .npz or .safetensors. Raises ValueError for anything but arrays by name."""
    path = Path(path)
    kind = kind_of(path)
    try:
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        from safetensors.numpy import load_file
        return dict(load_file(path))
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise ValueError(f"{path} does not hold arrays by name, or holds pickles") from error


def kind_of(path: Path) -> str:
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"{path}: expected a name that ends with .npz or .safetensors")
    return path.suffix


def places(module: Module) -> list[Slot]:
    found = list(slots(module))
    if strange := [slot.name for slot in found if not slot.tensors]:
        raise ValueError(f"PyTorch has no place for {', '.join(strange)} of {type(module).__name__}")
    return found


def slots(module: Module, name: str = "", prefix: str = "") -> Iterator[Slot]:
    """Every parameter below a module, with its place; `name` and `prefix` are what comes before, here and there."""
    if isinstance(module, Cell):
        yield from slots_of_cell(module, name, prefix, "")
    elif isinstance(module, Recurrent):
        for suffix, cell in module.cells.items():
            yield from slots_of_cell(cell, f"{name}cells.{suffix}.", prefix, f"_{suffix}")
    else:
        own = {"V": "weight", "c": "bias", "M": "weight"} if isinstance(module, Linear | Embedding) else {}
        for key, value in module.held():
            if isinstance(value, Parameter):
                if own:
                    turned = isinstance(module, Linear)
                    height = value.shape[-1 if turned else 0]
                    yield Slot(name + key, value, PLAIN.get(key, UNNAMED), (prefix + own[key],), 0, height, 1, turned)
                else:
                    yield Slot(name + key, value, UNNAMED, (), 0, 0)
            elif isinstance(value, Module):
                yield from slots(value, f"{name}{key}.", f"{prefix}{key}.")


def slots_of_cell(cell: Cell, name: str, prefix: str, suffix: str) -> Iterator[Slot]:
    H, known = cell.hidden_size, in_pytorch(cell)
    for key, value in cell.held():
        if not isinstance(value, Parameter):
            continue
        symbol, _, gate = key.partition("_")
        hidden = gate == "hn"  # the bias that the reset gate also acts on: PyTorch's second one stays apart
        gate = gate.removeprefix("h") if hidden else gate
        tensors: tuple[str, ...] = ()
        if known and gate in cell.gates and symbol in ("U", "W", "b"):
            first, second = f"{prefix}bias_ih{suffix}", f"{prefix}bias_hh{suffix}"
            apart = gate == "n" and isinstance(cell, GRUCell)
            tensors = {"U": (f"{prefix}weight_ih{suffix}",), "W": (f"{prefix}weight_hh{suffix}",),
                       "b": (second,) if hidden else (first,) if apart else (first, second)}[symbol]
        notes = UNNAMED if hidden else notes_of(cell, symbol, gate, backward=suffix.endswith("_reverse"))
        start = H * cell.gates.index(gate) if tensors else 0
        yield Slot(name + key, value, notes, tensors, start, H * len(cell.gates), -1 if gate == "u" else 1)


def in_pytorch(cell: Cell) -> bool:
    """Does PyTorch have this cell?"""
    return ((isinstance(cell, RNNCell) and cell.nonlinearity in ("tanh", "relu"))
            or (isinstance(cell, LSTMCell) and not cell.peepholes)
            or (isinstance(cell, GRUCell) and cell.reset == "after"))


def notes_of(cell: Cell, symbol: str, gate: str, backward: bool) -> tuple[str, ...]:
    """What the notes call U_g, W_g, b_g, where they speak of such a cell; only S3 has a backward direction."""
    if isinstance(cell, RNNCell) and symbol in PLAIN:
        return (f"{PLAIN[symbol][0]}'", "", "") if backward else PLAIN[symbol]
    if isinstance(cell, LSTMCell):
        return tuple(name.format(g=gate) for name in LSTM_GATE.get(symbol, UNNAMED))
    if isinstance(cell, GRUCell) and gate in ("u", "n"):
        return tuple(name.format(g="c" if gate == "n" else gate) for name in GRU_GATE[symbol])
    return UNNAMED
