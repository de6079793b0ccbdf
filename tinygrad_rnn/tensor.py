"""Floor 1: the Tensor and `apply`, which makes one from others. Knows no derivative and no time.

A result remembers its primitive, its inputs and the arrays the forward pass saw. Backward walks that graph, newest node
first, and leaves it as it was; it is freed, without the cycle collector, when its last root is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NoReturn, Self

import numpy as np

from . import ops
from .ops import Array, Axis, Op, from_end
from .scope import current, told
from .sweep import sweep

indices = count()
new = object.__new__


def operator(op: Op) -> Callable[[Any, Any], Tensor]:
    """The method behind an operator: `apply(op, (a, b))` in one frame, as it decides the speed of everything."""
    def method(a: Any, b: Any) -> Tensor:
        context = current()
        try:
            x0, x1 = a._data, b._data
            y = op.forward(x0, x1)
            if not (context.recording and (a.requires_grad or b.requires_grad)):
                return constant(np.asarray(y))
        except (ValueError, TypeError, AttributeError):
            return apply(op, (a, b))  # which mends it, or says what is wrong
        out = new(Tensor)
        if op.elementwise and a.shape and a.shape == b.shape:
            out._data, out.shape, out.fits = y, a.shape, True
        else:
            out._data = y = np.asarray(y)
            out.shape, out.fits = y.shape, False
        out.requires_grad, out.grad, out.name = True, None, None
        out.op, out.inputs = op, (a, b)
        out.settings, out.saved = None, (y, x0, x1)
        out.scope, out.index = context.scope, next(indices)
        return out
    return method


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
        self.scope, self.index = current().scope, next(indices)

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

    __add__ = operator(ops.ADD)
    def __radd__(self, other: Any) -> Tensor: return apply(ops.ADD, (other, self))
    __sub__ = operator(ops.SUB)
    def __rsub__(self, other: Any) -> Tensor: return apply(ops.SUB, (other, self))
    __mul__ = operator(ops.MUL)
    def __rmul__(self, other: Any) -> Tensor: return apply(ops.MUL, (other, self))
    __truediv__ = operator(ops.DIV)
    def __rtruediv__(self, other: Any) -> Tensor: return apply(ops.DIV, (other, self))
    __pow__ = operator(ops.POW)
    def __rpow__(self, other: Any) -> Tensor: return apply(ops.POW, (other, self))
    __matmul__ = operator(ops.MATMUL)
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
    try:
        if op.arity == 1:  # spelled out: it decides, with `operator`, the speed of everything
            (a,) = inputs
            x0 = a._data
            y = forward(x0)
            saved: tuple[Any, ...] = (y, x0)
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
    out.scope, out.index = context.scope, next(indices)
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
