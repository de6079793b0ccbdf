"""Floor 1: the Tensor, the scope it is made in, `apply`, and the reverse sweep. Knows no derivative and no time.

A result remembers its primitive, its inputs and the arrays the forward pass saw. Backward walks that graph, newest node
first, and leaves it as it was; it is freed, without the cycle collector, when its last root is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import count
from operator import attrgetter
from typing import Any, NoReturn, Self

import numpy as np

from . import ops
from .broadcasting import fitted
from .ops import Array, Axis, Indexed, Op, from_end
from .scope import current, told

Edge = tuple["Tensor", int, Array, Any]  # node, input position, incoming gradient, contribution
next_index = count().__next__
new = object.__new__


class Tensor:
    """An array in a graph: a leaf made from `data` (always copied), or the result of a primitive.

    Numbers are float64 unless `dtype` or a float32 array asks otherwise; integers become float64 and cannot ask for
    gradients; complex data is carried forward (for the complex step) but has no backward.
    Raises TypeError for data that is not numeric, and for integer or complex data with `requires_grad`.
    """
    __slots__ = ("_data", "shape", "grad", "requires_grad", "name", "scope", "index",
                 "op", "inputs", "settings", "saved", "fits")
    __array_ufunc__ = None  # array + tensor asks the tensor

    def __init__(self, data: Any, requires_grad: bool = False, name: str | None = None, dtype: Any = None) -> None:
        array = np.array(data, dtype)
        if array.dtype.kind not in "fcbiu":
            raise TypeError(f"Tensor: expected numbers, got {type(data).__name__} of dtype {array.dtype}")
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(f"Tensor: {array.dtype} has no gradient here; give real floats, or dtype=float")
        self._fill(array if array.dtype.kind in "fc" else array.astype(np.float64), requires_grad, name)

    def _fill(self, array: Array, requires_grad: bool, name: str | None) -> None:
        self._data, self.requires_grad, self.name = array, requires_grad, name
        self.shape: tuple[int, ...] = array.shape
        self.grad: Array | None = None
        self.op: Any = None  # the Op that made it, if any
        self.fits = False
        self.inputs: tuple[Tensor, ...] = ()
        self.settings: dict[str, Any] | None = None
        self.saved: tuple[Any, ...] = ()
        self.scope, self.index = current().scope, next_index()

    @property
    def data(self) -> Array:
        """The values, read-only: rules read them later. A leaf takes new ones, copied, by `leaf.data = array`."""
        self._data.setflags(write=False)
        return self._data.view()  # which cannot be made writable again

    @data.setter
    def data(self, values: Any) -> None:
        if self.op is not None:
            raise RuntimeError(f"data of {self!r} was computed; only a leaf takes new data")
        array = np.array(values, self.dtype)
        if array.shape != self.shape:
            raise ValueError(f"data of {self.name or 'a leaf'}: expected shape {self.shape}, got {array.shape}")
        self._data = array

    def named(self, name: str) -> Self:
        """The same tensor, with the name that tables and pictures show."""
        self.name = name
        return self

    def __repr__(self) -> str:
        made = f", op={self.op.name}" if self.op else ", requires_grad=True" if self.requires_grad else ""
        where = "".join(f", {k}={v}" for k, v in self.scope.items())
        name = f", name={self.name!r}" if self.name else ""
        return f"Tensor({np.array2string(self._data, precision=4, threshold=8, prefix='Tensor(')}{name}{made}{where})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.op is not None:  # leaves can be copied and pickled; a result would drag its whole graph along
            raise RuntimeError(f"{self!r} is part of a graph; copy or pickle its detach()")
        kept = {"grad": self.grad, "scope": dict(self.scope)}
        return type(self), (self._data, self.requires_grad, self.name), (None, kept)

    @property
    def ndim(self) -> int: return len(self.shape)
    @property
    def size(self) -> int: return self._data.size
    @property
    def dtype(self) -> np.dtype[Any]: return self._data.dtype
    @property
    def T(self) -> Tensor: return self.transpose()
    def __len__(self) -> int: return len(self._data)
    def __iter__(self) -> Iterator[Tensor]: return (self[i] for i in range(len(self)))
    def item(self) -> Any: return self._data.item()
    def __float__(self) -> float: return float(self.item())
    def __bool__(self) -> bool: return bool(self._data)
    def numpy(self) -> Array: return self.data
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype) if copy or dtype not in (None, self.dtype) else self.data
    def detach(self) -> Tensor:
        """The same values as a constant: no gradient flows through it. It keeps name and scope."""
        out = constant(self.data)
        out.name, out.scope = self.name, self.scope
        return out

    def __add__(self, other: Any) -> Tensor: return apply(ops.ADD, (self, other))
    def __radd__(self, other: Any) -> Tensor: return apply(ops.ADD, (other, self))
    def __sub__(self, other: Any) -> Tensor: return apply(ops.SUB, (self, other))
    def __rsub__(self, other: Any) -> Tensor: return apply(ops.SUB, (other, self))
    def __mul__(self, other: Any) -> Tensor: return apply(ops.MUL, (self, other))
    def __rmul__(self, other: Any) -> Tensor: return apply(ops.MUL, (other, self))
    def __truediv__(self, other: Any) -> Tensor: return apply(ops.DIV, (self, other))
    def __rtruediv__(self, other: Any) -> Tensor: return apply(ops.DIV, (other, self))
    def __pow__(self, other: Any) -> Tensor: return apply(ops.POW, (self, other))
    def __rpow__(self, other: Any) -> Tensor: return apply(ops.POW, (other, self))
    def __matmul__(self, other: Any) -> Tensor: return apply(ops.MATMUL, (self, other))
    def __rmatmul__(self, other: Any) -> Tensor: return apply(ops.MATMUL, (other, self))
    def __neg__(self) -> Tensor: return apply(ops.NEG, (self,))

    def __getitem__(self, index: Any) -> Tensor:
        parts = [np.array(i, None if np.size(i) else int) if isinstance(i, list | np.ndarray) else i
                 for i in ops.as_tuple(index)]
        if any([isinstance(i, Tensor | bool) or (hasattr(i, "dtype") and i.dtype.kind not in "iu") for i in parts]):
            raise TypeError(f"getitem: an index is made of ints, slices, … and integer arrays, got {index!r}")
        return apply(ops.GETITEM, (self,), {"index": tuple(parts) if isinstance(index, tuple) else parts[0]})

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return apply(ops.SUM, (self,), {"axis": from_end(axis, self.ndim), "keepdims": keepdims})
    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return apply(ops.MEAN, (self,), {"axis": from_end(axis, self.ndim), "keepdims": keepdims})
    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return apply(ops.MAX, (self,), {"axis": from_end(axis, self.ndim), "keepdims": keepdims})
    def reshape(self, *shape: Any) -> Tensor:
        return apply(ops.RESHAPE, (self,), {"shape": shape[0] if len(shape) == 1 else shape})
    def transpose(self, *axes: int) -> Tensor: return apply(ops.TRANSPOSE, (self,), {"axes": axes or None})

    def backward(self, gradient: Any = None, create_graph: bool = False) -> None:
        """Add d(self)/d(leaf), weighted by `gradient` (self's shape; 1 for a scalar), to `.grad` of every leaf.

        All leaves change, after the last contribution, or none. The graph stays: calling twice adds the same twice.
        Raises RuntimeError where nothing requires a gradient or gradients of gradients are asked for, ValueError for a
        gradient that is missing or misshapen, TypeError for a complex one. Threads that share leaves must take turns.
        """
        if create_graph or (isinstance(gradient, Tensor) and gradient.requires_grad):
            raise RuntimeError("backward: gradients of gradients are not computed here")
        g = np.asarray(1.0 if gradient is None else gradient)
        if g.dtype.kind not in "fiu":
            raise TypeError(f"backward: expected real numbers as the gradient, got {g.dtype}")
        if g.shape != self.shape:
            got = "no gradient" if gradient is None else f"a gradient of shape {g.shape}"
            raise ValueError(f"backward: {got} for a tensor of shape {self.shape}{told(self.scope)}: sum, or give one")
        totals = {self: g.astype(self.dtype, copy=False)}
        deque(sweep(totals), maxlen=0)
        if wrong := [f"{d.shape} for {x!r}" for x, d in totals.items() if x.shape != d.shape]:
            raise ValueError(f"backward: a rule gave a gradient of the wrong shape: {'; '.join(wrong)}")
        for leaf, total in totals.items():
            if leaf.requires_grad:
                leaf.grad = np.array(total if leaf.grad is None else leaf.grad + total, leaf.dtype)


def constant(array: Array) -> Tensor:
    """A leaf without gradient around an array that nobody else writes."""
    leaf = new(Tensor)
    leaf._fill(array, False, None)
    return leaf


def apply(op: Op, inputs: tuple[Any, ...], settings: dict[str, Any] | None = None) -> Tensor:
    """The result of one primitive; recorded as a node if an input requires a gradient.

    Numbers and arrays among the inputs become constants. Raises what the forward pass raises (ValueError, IndexError,
    TypeError), naming the primitive, the shapes and the scope.
    """
    forward = op.forward
    arity = op.arity
    try:
        if arity == 2:  # one and two arguments are spelled out: they decide the speed of everything
            a, b = inputs
            x0, x1 = a._data, b._data
            y = forward(x0, x1)
            saved: tuple[Any, ...] = (y, x0, x1)
            needs = a.requires_grad or b.requires_grad
            fits = op.elementwise and a.shape == b.shape
        elif arity == 1:
            (a,) = inputs
            x0 = a._data
            y = forward(x0)
            saved = (y, x0)
            needs = a.requires_grad
            fits = op.elementwise
        else:
            xs = [x._data for x in inputs]
            y = forward(*xs, **(settings or {}))
            y, kept = y if op.saves else (y, y)
            saved = (kept, *xs)
            needs = any([x.requires_grad for x in inputs])
            fits = False
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        if all(isinstance(x, Tensor) for x in inputs):
            refuse(op, inputs, settings, error)
        return apply(op, as_tensors(op, inputs), settings)
    context = current()
    if not (needs and context.recording):
        return constant(np.asarray(y))
    out = new(Tensor)
    if fits and a.shape:
        out._data, out.shape = y, a.shape
    else:
        out._data = y = np.asarray(y)  # NumPy makes scalars of arrays without axes
        out.shape = y.shape
    out.fits, out.requires_grad = fits, True  # fits: shapes need no second look in the sweep
    out.grad, out.name = None, None
    out.op, out.inputs = op, inputs
    out.settings, out.saved = settings, saved
    out.scope, out.index = context.scope, next_index()
    return out


def as_tensors(op: Op, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Python numbers take the dtype of the first tensor beside them; anything else becomes a tensor as it is."""
    dtype = next((x.dtype for x in inputs if isinstance(x, Tensor) and x.dtype.kind == "f"), None)
    try:
        return tuple(x if isinstance(x, Tensor) else Tensor(x, dtype=dtype if isinstance(x, int | float) else None)
                     for x in inputs)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{op.name} of {[type(x).__name__ for x in inputs]}{told(current().scope)}: {error}") from error


def refuse(op: Op, inputs: tuple[Tensor, ...], settings: dict[str, Any] | None, error: Exception) -> NoReturn:
    kind = next((k for k in (ValueError, IndexError, TypeError) if isinstance(error, k)), RuntimeError)
    given = ", ".join(f"{x.name or 'argument'} {x.shape}" for x in inputs) + (f" with {settings}" if settings else "")
    raise kind(f"{op.name} ({op.equation}) of {given}{told(current().scope)}: {error}") from error


def order(roots: Iterable[Tensor]) -> list[Tensor]:
    """The results that the roots are made of, newest first: the exact reverse of the program that made them."""
    found = [root for root in roots if root.op is not None]
    seen = set(found)
    for node in found:
        for x in node.inputs:
            if x.op is not None and x not in seen:
                seen.add(x)
                found.append(x)
    found.sort(key=attrgetter("index"), reverse=True)
    return found


def sweep(totals: dict[Tensor, Array]) -> Generator[Edge, bool | None, None]:
    """The reverse sweep, edge by edge: yields (node, input position, incoming gradient, contribution) as each is made.

    `totals` holds the roots with their gradients, (seeds..., *shape) each, and at the end the leaves with theirs. Who
    answers one with `send(True)` keeps it out of the totals: the edge is cut. What is yielded is never written again.
    Raises RuntimeError where no root requires a gradient, TypeError for complex roots, ValueError for a misshapen rule.
    """
    root, g = next(iter(totals.items()))
    if not any(x.requires_grad for x in totals):
        raise RuntimeError(f"{root!r} depends on nothing that requires a gradient: nothing to sweep")
    if any(x.dtype.kind == "c" for x in totals):
        raise TypeError(f"backward of {root!r}: complex results are for the complex step only")
    return _sweep(totals, g.shape[: g.ndim - root.ndim])


def _sweep(totals: dict[Tensor, Array], seeds: tuple[int, ...]) -> Generator[Edge, bool | None, None]:
    owned: set[Tensor] = set()  # the totals allocated here, which may be written: a first contribution is only borrowed
    pop, get = totals.pop, totals.get

    def own(x: Tensor, total: Any) -> None:
        totals[x] = np.asarray(total)
        owned.add(x)

    for node in order(totals):
        g = pop(node, None)
        if g is None:
            continue  # every edge to it was cut
        op = node.op
        fits = node.fits and op.trusted is op.rules
        if op.arity == 1:  # one and two arguments are spelled out, as in apply
            y, a = node.saved
            (x,) = node.inputs
            d = op.rules[0](g, y, a)
            if not fits and d.shape != seeds + x.shape: d = fitted(d, node, 0, seeds)
            if not (yield node, 0, g, d):
                total = get(x)
                if total is None: totals[x] = d
                elif x in owned: total += d
                else: own(x, total + d)
        elif op.arity == 2:
            y, a, b = node.saved
            x, z = node.inputs
            da, db = op.rules
            if x.requires_grad:
                d = da(g, y, a, b)
                if not fits and d.shape != seeds + x.shape: d = fitted(d, node, 0, seeds)
                if not (yield node, 0, g, d):
                    total = get(x)
                    if total is None: totals[x] = d
                    elif x in owned: total += d
                    else: own(x, total + d)
            if z.requires_grad:
                d = db(g, y, a, b)
                if not fits and d.shape != seeds + z.shape: d = fitted(d, node, 1, seeds)
                if not (yield node, 1, g, d):
                    total = get(z)
                    if total is None: totals[z] = d
                    elif z in owned: total += d
                    else: own(z, total + d)
        else:
            for position, (x, d) in enumerate(zip(node.inputs, partials(node, g))):
                if not x.requires_grad: continue
                if d.shape != seeds + x.shape: d = fitted(d, node, position, seeds)
                if not (yield node, position, g, d):
                    total = get(x)
                    if type(d) is Indexed:
                        if x not in owned: own(x, np.zeros(d.shape, d.g.dtype) if total is None else np.array(total))
                        d.add_to(totals[x])
                    elif total is None: totals[x] = d
                    elif x in owned: total += d
                    else: own(x, total + d)
        if not fits and node.fits and g.size > 1 and all([x.requires_grad for x in node.inputs]):
            op.trusted = op.rules  # every rule has given the shape of its argument, as elementwise rules always do


def partials(node: Tensor, g: Array) -> Sequence[Any]:
    """The contributions of one node to its inputs, None where an input requires no gradient."""
    op, settings = node.op, node.settings or {}
    if op.joint:
        return list(op.joint(g, *node.saved, **settings))
    return [rule(g, *node.saved, **settings) if x.requires_grad else None for x, rule in zip(node.inputs, op.rules)]
