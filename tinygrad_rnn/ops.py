"""Floor 0: the primitives. Each record holds its equation, its forward pass and its partial derivatives side by side.

A rule gets `g`, the incoming gradient dE/dy, then `y`, the output (or what the forward pass kept for the rules), then
the arguments as the forward pass saw them, and returns dE/d(argument). Pure functions of arrays: no tensors, no graph.

`g` may carry leading axes that y does not have, one gradient per seed, so that many losses are swept at once. Rules and
the setting `axis`, therefore count axes from the end: g is (..., *y.shape), the result (..., *argument.shape).
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Axis = int | tuple[int, ...] | None  # as a caller may give it
Axes = tuple[int, ...]  # as primitives get it: negative


class Op:
    """One primitive: name, equation, forward pass and derivative.

    rules        one partial derivative per argument, in their order: what needs no gradient then costs nothing.
    joint        one derivative for all arguments instead, where they share work: returns an array for each.
    elementwise  y[i] depends on the arguments at i alone: arguments of one shape give contributions of that shape.
    broadcasts   NumPy may stretch the arguments; the sweep then sums a contribution back to its argument's shape.
    saves        the forward pass returns (y, kept), and the rules get `kept` where others get y.
    """
    __slots__ = "name", "equation", "forward", "rules", "joint", "elementwise", "broadcasts", "saves", "arity", "trusted"  # noqa: E501

    def __init__(self, name: str, equation: str, forward: Callable[..., Any], *rules: Callable[..., Any],
                 joint: Callable[..., Any] | None = None, elementwise: bool = False, broadcasts: bool = False,
                 saves: bool = False) -> None:
        self.name, self.equation, self.forward = name, equation, forward
        self.rules, self.joint, self.saves, self.trusted = rules, joint, saves, rules[:0]  # trusted: seen to fit
        self.elementwise, self.broadcasts = elementwise, broadcasts or elementwise
        kinds = {p.kind.name for rule in rules for p in signature(rule).parameters.values()}
        self.arity = 0 if joint or saves or kinds & {"KEYWORD_ONLY", "VAR_KEYWORD"} else len(rules)

    def __repr__(self) -> str: return f"<op {self.name}: {self.equation}>"


class Indexed:
    """The contribution of `y = x[index]`: `g` at `index`, zero elsewhere, never spread into an array of x's shape."""
    __slots__ = ("g", "index", "shape", "lead")
    def __init__(self, g: Array, index: Any, shape: tuple[int, ...], lead: int) -> None:
        self.g, self.index, self.shape, self.lead = g, index, shape, lead

    def add_to(self, total: Array) -> None:
        """total[index] += g, where an index that occurs twice is added twice."""
        if not any(isinstance(part, np.ndarray) for part in as_tuple(self.index)):
            total[(*(slice(None),) * self.lead, *as_tuple(self.index))] += self.g
            return
        for seed in np.ndindex(self.shape[: self.lead]) if self.lead else [()]:
            add = add_rows if isinstance(self.index, np.ndarray) and self.g.size else np.add.at
            add(total[seed], self.index, self.g[seed])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        dense = np.zeros(self.shape, self.g.dtype)
        self.add_to(dense)
        return dense if dtype is None else dense.astype(dtype)

    def __add__(self, other: Any) -> Any: return np.asarray(self) + np.asarray(other)
    __radd__ = __add__


class Outer:
    """What `y = a W` contributes under S seeds, (S, D, H): for each the sum of a_b g_sbᵀ over the batch, a (B, D) and
    g (S, B, H). It is multiplied out only where it is added to something: norms and sums need less.
    """
    __slots__ = ("a", "g", "shape")
    def __init__(self, a: Array, g: Array) -> None:
        self.a, self.g, self.shape = a, g, (len(g), a.shape[1], g.shape[2])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.a.T @ self.g, dtype)

    def __add__(self, other: Any) -> Any: return np.asarray(self) + np.asarray(other)
    __radd__ = __add__


def add_rows(total: Array, rows: Array, g: Array) -> None:
    """total[rows] += g for rows that may repeat: many are sorted and summed in runs, far faster than `np.add.at`."""
    rows, g = rows.ravel().astype(int) % len(total), g.reshape(rows.size, *total.shape[1:])
    if len(rows) < 64:
        for row, part in zip(rows.tolist(), g):
            total[row] += part
        return
    order = rows.argsort(kind="stable")
    unique, starts = np.unique(rows[order], return_index=True)
    total[unique] += np.add.reduceat(g[order], starts, axis=0)


def as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def from_end(axis: Any, ndim: int) -> Axes:
    """The axes as negative numbers; None means all. An axis that x does not have stays one."""
    axes = range(ndim) if axis is None else (axis,) if np.ndim(axis) == 0 else axis
    return tuple(a - ndim if 0 <= a < ndim else a for a in axes)


def spread(g: Array, y: Array, x: Array, axis: Axes, keepdims: bool) -> Array:
    """g, (..., *y.shape), repeated along the axes of x over which y was reduced."""
    kept = g if keepdims else np.expand_dims(g, axis)
    return np.broadcast_to(kept, g.shape[: g.ndim - y.ndim] + x.shape)


def by_real(x: Array) -> Array:
    """x where kinks and maxima look at it: a complex step must not change the branch."""
    return x.real if x.dtype.kind == "c" else x


# ------------------------------------------------------------------------------------------------------- arithmetic
def passed(g: Array, y: Array, a: Array, b: Array) -> Array: return g  # the sweep knows it, and saves the call
ADD = Op("add", "y = a + b", np.add, passed, passed, elementwise=True)

def sub_db(g: Array, y: Array, a: Array, b: Array) -> Array: return -g
SUB = Op("sub", "y = a - b", np.subtract, passed, sub_db, elementwise=True)

def mul_da(g: Array, y: Array, a: Array, b: Array) -> Array: return g * b
def mul_db(g: Array, y: Array, a: Array, b: Array) -> Array: return g * a
MUL = Op("mul", "y = a ∘ b", np.multiply, mul_da, mul_db, elementwise=True)

def div_da(g: Array, y: Array, a: Array, b: Array) -> Array: return g / b
def div_db(g: Array, y: Array, a: Array, b: Array) -> Array: return -g * y / b
DIV = Op("div", "y = a / b", np.divide, div_da, div_db, elementwise=True)

def neg_dx(g: Array, y: Array, x: Array) -> Array: return -g
NEG = Op("neg", "y = -x", np.negative, neg_dx, elementwise=True)

def pow_da(g: Array, y: Array, a: Array, b: Array) -> Array:
    constant = b == 0  # a⁰ = 1 also at a = 0, where a⁻¹ is not a number
    return g * np.where(constant, 0, b * a ** np.where(constant, 1, b - 1))
def pow_db(g: Array, y: Array, a: Array, b: Array) -> Array:
    return g * y * np.log(np.where(a == 0, 1, a))  # 0ᵇ stays 0
POW = Op("pow", "y = aᵇ", np.power, pow_da, pow_db, elementwise=True)

def matmul_forward(a: Array, b: Array) -> Any:
    if a.ndim > 2 == b.ndim and a.size:  # all rows in one product: matmul would make one for each matrix of the stack
        return (a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[1])
    return np.matmul(a, b)
def matmul_da(g: Array, y: Array, a: Array, b: Array) -> Array:
    if b.ndim == 1:  # a vector on the right is a column
        g, b = g[..., None], b[:, None]
    return matmul_forward(g, b.mT) if a.ndim > 1 else (g[..., None, :] @ b.mT)[..., 0, :]
def matmul_db(g: Array, y: Array, a: Array, b: Array) -> Any:
    if a.ndim == b.ndim == g.ndim == 2:
        return a.T.dot(g)  # unlike matmul it stays in BLAS for a batch of one
    if a.ndim > 2 == b.ndim and a.size and g.size:
        g, a = g.reshape(*g.shape[: g.ndim - a.ndim], -1, g.shape[-1]), a.reshape(-1, a.shape[-1])
    if a.ndim == b.ndim == 2 and g.ndim == 3:
        return Outer(a, g)
    if b.ndim == 1:
        g = g[..., None]
    if a.ndim == 1:  # a vector on the left is a row
        a, g = a[None, :], g[..., None, :]
    return a.mT @ g if b.ndim > 1 else (a.mT @ g)[..., 0]
MATMUL = Op("matmul", "y = a b", matmul_forward, matmul_da, matmul_db, broadcasts=True)

# --------------------------------------------------------------------------------------------- functions of one array
def tanh_dx(g: Array, y: Array, x: Array) -> Any:
    return g - g * (y * y)  # g (1 - y²): a Python scalar costs more than a product of small arrays
TANH = Op("tanh", "y = tanh x", np.tanh, tanh_dx, elementwise=True)

def sigmoid_forward(x: Array) -> Any:
    positive = by_real(x) >= 0
    e = np.exp(np.where(positive, -x, x))  # |e| ≤ 1: nothing overflows
    return np.where(positive, 1, e) / (1 + e)
def sigmoid_dx(g: Array, y: Array, x: Array) -> Any: return g * (y - y * y)
SIGMOID = Op("sigmoid", "y = 1 / (1 + e⁻ˣ)", sigmoid_forward, sigmoid_dx, elementwise=True)

def relu_forward(x: Array) -> Array: return np.where(by_real(x) <= 0, 0, x)  # so that nan stays nan
def relu_dx(g: Array, y: Array, x: Array) -> Array: return g * (x > 0)
RELU = Op("relu", "y = max(x, 0), and y'(0) = 0", relu_forward, relu_dx, elementwise=True)

def exp_dx(g: Array, y: Array, x: Array) -> Array: return g * y
EXP = Op("exp", "y = eˣ", np.exp, exp_dx, elementwise=True)

def log_dx(g: Array, y: Array, x: Array) -> Array: return g / x
LOG = Op("log", "y = ln x", np.log, log_dx, elementwise=True)

def sqrt_dx(g: Array, y: Array, x: Array) -> Any: return g / (y + y)
SQRT = Op("sqrt", "y = √x", np.sqrt, sqrt_dx, elementwise=True)

def abs_forward(x: Array) -> Array: return x * np.sign(by_real(x))
def abs_dx(g: Array, y: Array, x: Array) -> Array: return g * np.sign(x)
ABS = Op("abs", "y = |x|, and y'(0) = 0", abs_forward, abs_dx, elementwise=True)

# ------------------------------------------------------------------------------------------------ maxima, sums, choices
def maximum_forward(a: Array, b: Array) -> Array:
    if a.dtype.kind != "c" and b.dtype.kind != "c":
        return np.maximum(a, b)
    share = maximum_share(a, b)
    return np.where(share == 1, a, np.where(share == 0, b, (a + b) / 2))
def maximum_share(a: Array, b: Array) -> Any:  # 1 where a is larger, 0 where b is, 1/2 on a tie
    a, b = by_real(a), by_real(b)
    return ((a > b).astype(np.result_type(a, b)) + (a >= b)) / 2
def maximum_da(g: Array, y: Array, a: Array, b: Array) -> Any: return g * maximum_share(a, b)
def maximum_db(g: Array, y: Array, a: Array, b: Array) -> Any: return g * maximum_share(b, a)
MAXIMUM = Op("maximum", "y = max(a, b), ties shared evenly", maximum_forward, maximum_da, maximum_db, elementwise=True)

def max_forward(x: Array, *, axis: Axes, keepdims: bool) -> tuple[Array, Array]:
    real = by_real(x)
    hit = real == real.max(axis=axis, keepdims=True)
    share = hit / hit.sum(axis=axis, keepdims=True).astype(real.dtype)
    y = real.max(axis=axis, keepdims=keepdims)
    return (y if x is real else y + 1j * (share * x.imag).sum(axis=axis, keepdims=keepdims)), share
def max_dx(g: Array, share: Array, x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return (g if keepdims else np.expand_dims(g, axis)) * share
MAX = Op("max", "y = max x, ties shared evenly", max_forward, max_dx, saves=True)

def sum_forward(x: Array, *, axis: Axes, keepdims: bool) -> Any: return x.sum(axis=axis, keepdims=keepdims)
def sum_dx(g: Array, y: Array, x: Array, *, axis: Axes, keepdims: bool) -> Array: return spread(g, y, x, axis, keepdims)
SUM = Op("sum", "y = Σ x", sum_forward, sum_dx)

def mean_forward(x: Array, *, axis: Axes, keepdims: bool) -> Any: return x.mean(axis=axis, keepdims=keepdims)
def mean_dx(g: Array, y: Array, x: Array, *, axis: Axes, keepdims: bool) -> Array:
    return spread(g * (y.size / x.size), y, x, axis, keepdims)
MEAN = Op("mean", "y = Σ x / n", mean_forward, mean_dx)

def where_forward(a: Array, b: Array, *, condition: Array) -> Array: return np.where(condition, a, b)
def where_da(g: Array, y: Array, a: Array, b: Array, *, condition: Array) -> Array: return np.where(condition, g, 0)
def where_db(g: Array, y: Array, a: Array, b: Array, *, condition: Array) -> Array: return np.where(condition, 0, g)
WHERE = Op("where", "y = a where the condition holds, else b", where_forward, where_da, where_db, elementwise=True)

# ------------------------------------------------------------------------------------------------------ shape and place
def reshape_forward(x: Array, *, shape: tuple[int, ...]) -> Array: return x.reshape(shape)
def reshape_dx(g: Array, y: Array, x: Array, *, shape: tuple[int, ...]) -> Array:
    return g.reshape(g.shape[: g.ndim - y.ndim] + x.shape)
RESHAPE = Op("reshape", "y = x in another shape", reshape_forward, reshape_dx)

def transpose_forward(x: Array, *, axes: tuple[int, ...] | None) -> Array: return x.transpose(axes)
def transpose_dx(g: Array, y: Array, x: Array, *, axes: tuple[int, ...] | None) -> Array:
    lead = g.ndim - y.ndim
    back = np.argsort([a % x.ndim for a in axes]) if axes is not None else range(x.ndim)[::-1]
    return g.transpose(*range(lead), *(lead + int(a) for a in back))
TRANSPOSE = Op("transpose", "y = x with its axes permuted", transpose_forward, transpose_dx)

def broadcast_to_forward(x: Array, *, shape: tuple[int, ...]) -> Array: return np.broadcast_to(x, shape)
def broadcast_to_dx(g: Array, y: Array, x: Array, *, shape: tuple[int, ...]) -> Array: return g
BROADCAST_TO = Op("broadcast_to", "y = x repeated", broadcast_to_forward, broadcast_to_dx, broadcasts=True)

def getitem_forward(x: Array, *, index: Any) -> Any: return x[index]
def getitem_dx(g: Array, y: Array, x: Array, *, index: Any) -> Indexed:
    return Indexed(g, index, g.shape[: g.ndim - y.ndim] + x.shape, g.ndim - y.ndim)
GETITEM = Op("getitem", "y = x[index]", getitem_forward, getitem_dx)

def concat_forward(*xs: Array, axis: int) -> Array: return np.concatenate(xs, axis)
def concat_joint(g: Array, y: Array, *xs: Array, axis: int) -> list[Array]:
    return np.split(g, np.cumsum([x.shape[axis] for x in xs])[:-1], axis)
CONCAT = Op("concat", "y = [x₁, x₂, …]", concat_forward, joint=concat_joint)

def stack_forward(*xs: Array, axis: int) -> Array: return np.stack(xs, axis)
def stack_joint(g: Array, y: Array, *xs: Array, axis: int) -> list[Array]: return list(np.moveaxis(g, axis, 0))
STACK = Op("stack", "y = x₁, x₂, … along a new axis", stack_forward, joint=stack_joint)

# --------------------------------------------------------------------------------------------------- softmax and losses
def softmax_forward(x: Array, *, axis: int) -> Any:
    e = np.exp(x - by_real(x).max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)
def softmax_dx(g: Array, y: Array, x: Array, *, axis: int) -> Any:
    return y * (g - (g * y).sum(axis=axis, keepdims=True))
SOFTMAX = Op("softmax", "y_k = eˣᵏ / Σ eˣʲ", softmax_forward, softmax_dx)

def log_softmax_forward(x: Array, *, axis: int) -> Any:
    shifted = x - by_real(x).max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
def log_softmax_dx(g: Array, y: Array, x: Array, *, axis: int) -> Any:
    return g - np.exp(y) * g.sum(axis=axis, keepdims=True)
LOG_SOFTMAX = Op("log_softmax", "y_k = x_k - ln Σ eˣʲ", log_softmax_forward, log_softmax_dx)

def cross_entropy_forward(q: Array, *, target: Array) -> tuple[Array, Array]:
    shifted = q - by_real(q).max(-1, keepdims=True)
    error = np.exp(shifted, order="C")
    total = error.sum(-1, keepdims=True)
    error /= total
    rows = error.reshape(-1, q.shape[-1])
    ids = target if target.shape == q.shape[:-1] else np.broadcast_to(target, q.shape[:-1])
    at = np.arange(len(rows)), ids.ravel()
    E = np.log(total).ravel() - shifted.reshape(rows.shape)[at]
    rows[at] = 0
    rows[at] = -rows.sum(-1)  # ŷ - 1 to the last digit
    return E.reshape(q.shape[:-1]), error
def cross_entropy_dq(g: Array, error: Array, q: Array, *, target: Array) -> Array: return g[..., None] * error
CROSS_ENTROPY = Op("cross_entropy", "E = -ln softmax(q)[target], dE/dq = ŷ - y",
                   cross_entropy_forward, cross_entropy_dq, saves=True)

def binary_cross_entropy_forward(q: Array, *, target: Array) -> Any:
    positive = by_real(q) >= 0
    return np.where(positive, q, 0) - q * target + np.log1p(np.exp(np.where(positive, -q, q)))
def binary_cross_entropy_dq(g: Array, y: Array, q: Array, *, target: Array) -> Any:
    return g * (sigmoid_forward(q) - target)
BINARY_CROSS_ENTROPY = Op("binary_cross_entropy", "E = -y ln σ(q) - (1-y) ln(1-σ(q)), dE/dq = ŷ - y",
                          binary_cross_entropy_forward, binary_cross_entropy_dq)
