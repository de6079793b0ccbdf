"""Floor 4: the equations of a cell, read from the graph of one step, so that they say what is computed.

Columns, as the notes write them: the code's h @ W is W h here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from ..sweep import order
from ..tensor import Tensor

Notation = Literal["notes", "pytorch"]
PLACE = re.compile(r"(_l\d+)?'?$")  # what layers add to the names of parameters
FUNCTIONS = {"sigmoid": "σ"}
GATES = {"c̃": "g", "c": "g"}  # PyTorch's names of the candidate: of its value, and in its weights


def equations(results: Sequence[Tensor], notation: Notation = "notes") -> str:
    """A line for every named result, in the order of the program; sums named z_… are written where they are read.

    notation: 'notes', or 'pytorch', which writes W_ig and W_hg for U_g and W_g, and two biases for each of ours but
    those that it cannot join, b_in and b_hn. ValueError for any other.
    """
    if notation not in ("notes", "pytorch"):
        raise ValueError(f"notation {notation!r}: expected 'notes' or 'pytorch'")
    nodes = order(results)[::-1]
    if not nodes:
        raise RuntimeError("equations are read from a recorded step; inside no_grad() nothing is recorded")
    leaves = {PLACE.sub("", x.name or "") for node in nodes for x in node.inputs if x.op is None}
    writer = Writer(notation == "pytorch", apart="b_hn" in leaves)
    reads = Counter(x for node in nodes for x in node.inputs if x.op is not None)
    unnamed = [x for x in nodes if not x.name and (reads[x] > 1 or x in results)]
    writer.places.update({x: f"v{i}" for i, x in enumerate(unnamed, 1)})
    return "\n".join(f"{writer.name(x)} = {writer.written(x)}" for x in nodes if writer.is_line(x))


class Writer:
    """Writes nodes as formulas. apart: the two biases of n are not one."""

    def __init__(self, pytorch: bool, apart: bool) -> None:
        self.pytorch, self.apart = pytorch, apart
        self.places: dict[Tensor, str] = {}  # what results without a name are called that need one

    def is_line(self, x: Tensor) -> bool:
        return x.op is not None and (x in self.places or (bool(x.name) and not (x.name or "").startswith("z_")))

    def name(self, x: Tensor) -> str:
        name = x.name or self.places.get(x, "")
        if x.op is None:
            name = PLACE.sub("", name)
            return self.parameter(name) if self.pytorch else name
        return f"{GATES['c̃'] if self.pytorch and name == 'c̃' else name}_t"

    def parameter(self, name: str) -> str:
        symbol, _, gate = name.partition("_")
        gate = GATES.get(gate, gate) or "h"
        if symbol == "b" and gate != "hn":
            return f"b_i{gate}" if gate == "n" and self.apart else f"b_i{gate} + b_h{gate}"
        return {"U": f"W_i{gate}", "W": f"W_h{gate}"}.get(symbol, name)

    def written(self, x: Tensor) -> str:
        """The formula of a result, down to names."""
        symbol = x.op.name
        if symbol in ("add", "sub"):
            left, right = map(self.part, x.inputs)
            return f"{left} {'+' if symbol == 'add' else '-'} {bracketed(right) if symbol == 'sub' else right}"
        if symbol == "mul":
            return "∘".join(bracketed(self.part(y)) for y in x.inputs)
        if symbol == "matmul":
            s, W = map(self.part, x.inputs)
            return f"{W} {bracketed(s)}"
        if symbol in ("div", "pow"):
            left, right = (bracketed(self.part(y)) for y in x.inputs)
            return f"{left} / {right}" if symbol == "div" else f"{left}^{right}"
        if symbol == "neg":
            return f"-{bracketed(self.part(x.inputs[0]))}"
        settings = [f"{name}={value}" for name, value in (x.settings or {}).items()]
        return f"{FUNCTIONS.get(symbol, symbol)}({', '.join([*map(self.part, x.inputs), *settings])})"

    def part(self, x: Tensor) -> str:
        if self.is_line(x) or (x.op is None and x.name):
            return self.name(x)
        return self.written(x) if x.op is not None else f"{x.item():g}" if x.size == 1 else "constant"


def bracketed(formula: str) -> str:
    """In brackets, where it is a sum, a product or a quotient."""
    depth = 0
    for place, letter in enumerate(formula):
        depth += (letter in "({") - (letter in ")}")
        if depth == 0 and (letter == "∘" or formula[place:place + 3] in (" + ", " - ", " / ")):
            return f"({formula})"
    return formula
