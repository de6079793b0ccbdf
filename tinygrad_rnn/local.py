"""Floor 2: the local derivative of an edge, ∂y/∂x of one primitive by one of its inputs, in words and in numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from . import ops
from .broadcasting import fitted
from .ops import Array, Op
from .sweep import partials
from .tensor import Tensor

RULES: dict[Op, tuple[str, ...]] = {  # for every input; {y} is the result, {a} and {b} the inputs
    ops.ADD: ("1", "1"), ops.SUB: ("1", "-1"), ops.NEG: ("-1",), ops.MUL: ("{b}", "{a}"),
    ops.DIV: ("1 / {b}", "-{y} / {b}"), ops.POW: ("{b} {a}^({b} - 1)", "{y} ln {a}"), ops.MATMUL: ("{b}ᵀ", "{a}ᵀ"),
    ops.TANH: ("1 - {y}²",), ops.SIGMOID: ("{y} (1 - {y})",), ops.RELU: ("1 where {a} > 0, else 0",),
    ops.EXP: ("{y}",), ops.LOG: ("1 / {a}",), ops.SQRT: ("1 / (2 {y})",), ops.ABS: ("the sign of {a}",),
    ops.MAXIMUM: ("1 where {a} is larger, ½ on a tie, else 0", "1 where {b} is larger, ½ on a tie, else 0"),
    ops.MAX: ("1 at the maximum, shared evenly on a tie, else 0",),
    ops.SUM: ("1 for every number that is added up",), ops.MEAN: ("1/n for each of the n numbers",),
    ops.WHERE: ("1 where the condition holds, else 0", "0 where the condition holds, else 1"),
    ops.RESHAPE: ("1, each number back in its place",), ops.TRANSPOSE: ("1, each number back in its place",),
    ops.BROADCAST_TO: ("1 for every repetition",), ops.GETITEM: ("1 at what is read, 0 elsewhere",),
    ops.CONCAT: ("1 at its own part, 0 elsewhere",), ops.STACK: ("1 at its own part, 0 elsewhere",),
    ops.SOFTMAX: ("diag({y}) - {y} {y}ᵀ",), ops.LOG_SOFTMAX: ("δ_kl - ŷ_l, ŷ = exp({y})",),
    ops.CROSS_ENTROPY: ("ŷ - y, ŷ = softmax({a})",), ops.BINARY_CROSS_ENTROPY: ("ŷ - y, ŷ = σ({a})",),
}
SIGNS = re.compile(r"[ +\-−∘/·]")


def rule(node: Tensor, position: int, y: str, inputs: Sequence[str]) -> str:
    """∂y/∂x as its rule says it, such as `1 - h₃²` or `Wᵀ`, in the given names of the result and of the inputs.

    Of a primitive that is not in `ops` its equation.
    """
    known = RULES.get(node.op)
    if known is None:
        return f"as in {node.op.equation}"
    a, b, *_ = (*map(atom, inputs), "", "")
    return known[min(position, len(known) - 1)].format(y=atom(y), a=a, b=b)


def product(node: Tensor, position: int, g: str, derivative: str) -> str:
    """The contribution, a formula of the incoming gradient `g` and the local derivative; '' where it is no product."""
    if node.op is ops.MATMUL:
        return f"{g} {derivative}" if position == 0 else f"{derivative} {g}"
    if derivative in ("1", "-1"):
        formula = derivative.removesuffix("1") + g
    elif node.op.elementwise:
        formula = f"{g} ∘ {atom(derivative)}"
    else:
        return ""
    return formula if node.inputs[position].size == node.size else f"Σ {formula} over what was repeated"


def equation(node: Tensor, y: str, inputs: Sequence[str]) -> str:
    """The equation of the primitive with the given names in it: `h₃ = tanh z₃`."""
    if node.op.joint:
        return f"{y} = [{', '.join(inputs)}]"
    if node.op is ops.GETITEM:
        index = (node.settings or {})["index"]
        place = ", ".join(map(str, index.ravel())) if isinstance(index, np.ndarray) else str(index)
        return f"{y} = {inputs[0]}[{place if len(place) < 20 else '…'}]"
    formula, *_ = re.split(", (?=and |ties |dE)", node.op.equation)
    result = formula.partition(" ")[0]
    names = dict(zip(("q",) if result == "E" else ("a", "b") if len(inputs) > 1 else ("x",), map(atom, inputs)))
    meant = [f", {symbol} = {name}" for symbol, name in names.items() if not re.search(rf"\b{symbol}\b", formula)]
    written = re.sub(r"\b\w+\b", lambda word: {result: y, **names}.get(word[0], word[0]), formula)
    return (written if written.startswith(y) else f"{y}: {written}") + "".join(meant)


def jacobian(node: Tensor, position: int) -> Array:
    """∂y/∂x (y.size, x.size), from the primitive's own rule, which takes a seed for every element of y.

    Raises ValueError for an input that requires no gradient.
    """
    x, n = node.inputs[position], node.size
    if not x.requires_grad:
        raise ValueError(f"jacobian: input {position} of {node.op.name} requires no gradient")
    d = partials(node, np.eye(n, dtype=node.dtype).reshape(n, *node.shape))[position]
    if d.shape != (n, *x.shape):
        d = fitted(d, node, position, (n,))
    return np.asarray(d).reshape(n, x.size)


def atom(name: str) -> str:
    """A factor: a sum or a product in brackets."""
    return f"({name})" if SIGNS.search(outside_brackets(name)) else name


def outside_brackets(text: str) -> str:
    depths = accumulate((letter in "([") - (letter in ")]") for letter in text)
    return "".join(letter for letter, depth in zip(text, depths) if not depth and letter not in ")]")
