"""What the tests of the engine share: every primitive in many shapes, and numeric gradients of their own.

Nothing here uses the library's checks: the complex step and the differences below are written out, so that the tests of
the primitives and the tests of `gradcheck` do not lean on one another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import Tensor, no_grad, ops
from tinygrad_rnn import functional as F

FIXTURES = Path(__file__).parent / "fixtures"
STEP = 1e-20


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def leaf(values: Any, name: str | None = None) -> Tensor:
    """A float64 leaf that asks for a gradient."""
    return Tensor(np.asarray(values, float), requires_grad=True, name=name)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.asarray(generator(seed).normal(size=shape))


def apart(got: Any, expected: Any) -> float:
    """max |got - expected| / max |expected|; the shapes must be the same, and everything finite."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    assert np.isfinite(got).all() and np.isfinite(expected).all()
    distance, size = np.abs(got - expected).max(initial=0), np.abs(expected).max(initial=0)
    return float(distance / size) if size else float(distance)


def value_of(run: Callable[..., Tensor], arrays: Any) -> np.ndarray:
    with no_grad():
        return np.array(run(*[Tensor(a) for a in arrays]).data)


def gradients_of(run: Callable[..., Tensor], arrays: Any, weights: Any) -> list[np.ndarray]:
    """d(Σ weights ∘ run)/d(array) by backward, for every array; zeros where nothing arrives."""
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    run(*leaves).backward(weights)
    return [np.zeros(x.shape, x.dtype) if x.grad is None else x.grad for x in leaves]


def complex_step(run: Callable[..., Tensor], arrays: Any, position: int, weights: Any) -> np.ndarray:
    """The same by Im f(x + ih) / h, h = 1e-20, one element after the other."""
    gradient = np.zeros(arrays[position].shape)
    for index in np.ndindex(gradient.shape):
        moved = [np.array(a, complex if i == position else float) for i, a in enumerate(arrays)]
        moved[position][index] += 1j * STEP
        gradient[index] = (weights * value_of(run, moved).imag).sum() / STEP
    return gradient


def differences(run: Callable[..., Tensor], arrays: Any, position: int, weights: Any, eps: float = 1e-5) -> np.ndarray:
    """The same by central differences."""
    gradient = np.zeros(arrays[position].shape)
    for index in np.ndindex(gradient.shape):
        sides = []
        for sign in (1, -1):
            moved = [np.array(a, float) for a in arrays]
            moved[position][index] += sign * eps
            sides.append(value_of(run, moved))
        gradient[index] = (weights * (sides[0] - sides[1])).sum() / (2 * eps)
    return gradient


@dataclass(frozen=True)
class Case:
    """One use of one primitive: by the library, by NumPy, and the arrays it is used on."""

    name: str
    op: ops.Op
    run: Callable[..., Tensor]
    truth: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]

    def weights(self, seed: int = 7) -> np.ndarray:
        return normal(seed, *value_of(self.run, self.arrays).shape)


def positive(x: np.ndarray) -> np.ndarray:
    return np.abs(x) + 0.5


def np_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Straight from the definition, for moderate x."""
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def np_cross_entropy(q: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Row by row from the definition, for moderate q."""
    rows = [-np.log(np.exp(row[i]) / np.exp(row).sum()) for row, i in zip(q.reshape(-1, q.shape[-1]), target.ravel())]
    return np.reshape(rows, target.shape)


def elementary() -> Iterator[tuple[ops.Op, Callable[..., Any], Callable[..., Any], bool]]:
    """op, by the library, by NumPy, must the argument be positive."""
    yield ops.NEG, lambda x: -x, lambda x: 0 - x, False
    yield ops.TANH, F.tanh, lambda x: 1 - 2 / (np.exp(2 * x) + 1), False
    yield ops.SIGMOID, F.sigmoid, lambda x: (1 + np.tanh(x / 2)) / 2, False
    yield ops.RELU, F.relu, lambda x: np.clip(x, 0, None), False
    yield ops.EXP, F.exp, lambda x: np.cosh(x) + np.sinh(x), False
    yield ops.LOG, F.log, lambda x: np.log2(x) * np.log(2), True
    yield ops.SQRT, F.sqrt, lambda x: x**0.5, True
    yield ops.ABS, F.abs, lambda x: np.sqrt(x * x), False


def binary() -> Iterator[tuple[ops.Op, Callable[..., Any], Callable[..., Any]]]:
    yield ops.ADD, lambda a, b: a + b, lambda a, b: a + b
    yield ops.SUB, lambda a, b: a - b, lambda a, b: a - b
    yield ops.MUL, lambda a, b: a * b, lambda a, b: a * b
    yield ops.DIV, lambda a, b: a / b, lambda a, b: a * b**-1.0
    yield ops.POW, lambda a, b: a**b, lambda a, b: np.exp(b * np.log(a))
    yield ops.MAXIMUM, F.maximum, lambda a, b: (a + b + np.abs(a - b)) / 2


PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 4)), ((2, 3, 4), (3, 1)), ((1, 3), (2, 3)),
         ((1, 1), (1, 4)), ((), (3,)), ((2, 3), ()), ((), ())]
MATMULS = [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)),
           ((3, 4), (2, 4, 5)), ((2, 3, 4), (4,)), ((4,), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 6)), ((1, 3, 4), (5, 4, 2)),
           ((5, 3, 4), (1, 4, 2)), ((1, 4), (4, 1))]
REDUCED = [(None, False), (None, True), (0, False), (1, False), (-1, True), (2, True), ((0, 2), False), ((-1, 0), True),
           ((1, -1), False), ((0, 1, 2), False)]
ids = np.array([0, 2, 2, -1, 2])
INDICES: dict[str, Any] = {
    "int": 1, "negative int": -1, "numpy int": np.int64(2), "slice": slice(1, 3), "open slice": slice(1, None),
    "step": slice(None, None, 2), "reversed": slice(None, None, -1), "negative step": slice(3, 0, -2),
    "empty slice": slice(2, 2), "ellipsis": (..., 0), "middle ellipsis": (1, ..., slice(0, 2)),
    "all": ..., "nothing": (),
    "new axis": None, "new axes": (slice(None), None, 1, None), "int and slices": (-1, slice(None), slice(2, 0, -1)),
    "repeated rows": ids, "list of rows": [3, 0, 3], "rows in two axes": np.array([[0, 1, 0], [3, -4, -1]]),
    "zero-dimensional array": np.array(2), "rows in a tuple": (ids,), "pairs": (ids, np.array([1, 4, 4, 0, 4])),
    "pairs that broadcast": (np.array([[0], [3]]), np.array([1, 1, -1])), "columns": (slice(None), np.array([4, 4, 0])),
    "int and array": (1, np.array([2, 2, 0])), "array, slice, int": (ids, slice(None), 0),
    "int, slice, array": (1, slice(None), np.array([0, 2, 0])), "array at the end": (..., np.array([1, 1])),
    "slice, array, slice": (slice(None, None, -2), np.array([1, 1, 3]), slice(1, None)),
    "new axis and array": (None, ids), "array and reversed": (np.array([1, 1]), slice(None, None, -1)),
}


def make_cases() -> Iterator[Case]:
    for op, run, truth, needs_positive in elementary():
        for k, shape in enumerate([(3, 4), (), (2, 1, 3), (1,)]):
            x = normal(10 + k, *shape)
            yield Case(f"{op.name}-{shape}", op, run, truth, (positive(x) if needs_positive else x,))
    for op, run, truth in binary():
        for k, (a, b) in enumerate(PAIRS):
            x, y = normal(20 + k, *a), normal(40 + k, *b)
            if op is ops.POW:
                x = positive(x)
            if op is ops.DIV:
                y = positive(y) * np.sign(y)
            yield Case(f"{op.name}-{a}{b}", op, run, truth, (x, y))
    for k, (a, b) in enumerate(PAIRS):
        x, y = normal(60 + k, *a), normal(80 + k, *b)
        condition = generator(k).random(np.broadcast_shapes(a, b)) > 0.5
        yield Case(f"where-{a}{b}", ops.WHERE, lambda a, b, c=condition: F.where(c, a, b),
                   lambda a, b, c=condition: c * a + (1 - c) * b, (x, y))
    wide = generator(3).random((2, 3, 4)) > 0.5
    yield Case("where-wide condition", ops.WHERE, lambda a, b: F.where(wide, a, b),
               lambda a, b: wide * a + (1 - wide) * b, (normal(81, 3, 1), normal(82, 4)))
    for k, (a, b) in enumerate(MATMULS):
        arrays = normal(100 + k, *a), normal(120 + k, *b)
        yield Case(f"matmul-{a}{b}", ops.MATMUL, lambda a, b: a @ b, np_matmul, arrays)
    x = normal(140, 2, 3, 4)
    for axis, keepdims in REDUCED:
        s: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
        yield Case(f"sum-{axis}-{keepdims}", ops.SUM, lambda x, s=s: x.sum(**s), lambda x, s=s: np.sum(x, **s), (x,))
        yield Case(f"mean-{axis}-{keepdims}", ops.MEAN, lambda x, s=s: x.mean(**s),
                   lambda x, s=s: np.sum(x, **s) / (x.size // np.sum(x, **s).size), (x,))
        yield Case(f"max-{axis}-{keepdims}", ops.MAX, lambda x, s=s: x.max(**s), lambda x, s=s: -np.min(-x, **s), (x,))
    for shape in [(6, 4), (-1,), (4, 3, 2), (2, 1, 3, 4), (3, -1)]:
        yield Case(f"reshape-{shape}", ops.RESHAPE, lambda x, s=shape: F.reshape(x, s),
                   lambda x, s=shape: np.reshape(x, s), (x,))
    for axes in [None, (0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0), (-1, 0, 1), (0, -1, -2)]:
        yield Case(f"transpose-{axes}", ops.TRANSPOSE, lambda x, a=axes: F.transpose(x, a),
                   lambda x, a=axes: np.einsum(x, [0, 1, 2], [i % 3 for i in a or (2, 1, 0)]), (x,))
    for a, b in [((4,), (3, 4)), ((3, 1), (3, 4)), ((), (2, 3)), ((1, 3, 1), (2, 2, 3, 4)), ((2, 3), (2, 3))]:
        yield Case(f"broadcast_to-{a}-{b}", ops.BROADCAST_TO, lambda x, b=b: F.broadcast_to(x, b),
                   lambda x, b=b: x * np.ones(b), (normal(150, *a),))
    x = normal(160, 4, 5, 3)
    for name, index in INDICES.items():
        yield Case(f"getitem-{name}", ops.GETITEM, lambda x, i=index: x[i], lambda x, i=index: np.array(x[i]), (x,))
    for axis in (0, 1, 2, -1, -2, -3):
        parts = []
        for k in range(3):
            shape = [2, 3, 4]
            shape[axis] = k + 1
            parts.append(normal(170 + k, *shape))
        yield Case(f"concat-{axis}", ops.CONCAT, lambda *xs, a=axis: F.concat(xs, a),
                   lambda *xs, a=axis: np.concatenate(xs, a), tuple(parts))
    for axis in (0, 1, 2, -1, -2, -3):
        yield Case(f"stack-{axis}", ops.STACK, lambda *xs, a=axis: F.stack(xs, a),
                   lambda *xs, a=axis: np.concatenate([np.expand_dims(x, a) for x in xs], a),
                   tuple(normal(180 + k, 2, 3) for k in range(4)))
    x = normal(190, 2, 3, 4)
    for axis in (0, 1, 2, -1, -2):
        yield Case(f"softmax-{axis}", ops.SOFTMAX, lambda x, a=axis: F.softmax(x, a),
                   lambda x, a=axis: np_softmax(x, a), (x,))
        yield Case(f"log_softmax-{axis}", ops.LOG_SOFTMAX, lambda x, a=axis: F.log_softmax(x, a),
                   lambda x, a=axis: np.log(np_softmax(x, a)), (x,))
    for shape in [(5,), (3, 5), (2, 3, 5)]:
        target = generator(5).integers(5, size=shape[:-1])
        yield Case(f"cross_entropy-{shape}", ops.CROSS_ENTROPY,
                   lambda q, t=target: F.cross_entropy(q, t, reduction="none"),
                   lambda q, t=target: np_cross_entropy(q, t), (normal(200, *shape),))
        y = generator(6).random(shape)
        yield Case(f"binary_cross_entropy-{shape}", ops.BINARY_CROSS_ENTROPY,
                   lambda q, y=y: F.binary_cross_entropy_with_logits(q, y, reduction="none"),
                   lambda q, y=y: -y * np.log(1 / (1 + np.exp(-q))) - (1 - y) * np.log(1 - 1 / (1 + np.exp(-q))),
                   (normal(210, *shape),))


def np_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b by multiplying everything out and summing."""
    row, column = a.ndim == 1, b.ndim == 1
    a, b = (a[None, :] if row else a), (b[:, None] if column else b)
    y = (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
    y = y[..., 0] if column else y
    return y[..., 0] if row and column else y[..., 0, :] if row else y


CASES = list(make_cases())
EVERY_OP = [op for op in vars(ops).values() if isinstance(op, ops.Op)]
# One use of every argument of every primitive, with contributions that are not all zero.
TYPICAL = [next(case for case in CASES if case.op is op and case.weights().size > 2) for op in EVERY_OP]
EVERY_ARGUMENT = [(case, position) for case in TYPICAL for position in range(len(case.arrays))]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_argument = pytest.mark.parametrize(("case", "position"), EVERY_ARGUMENT,
                                         ids=[f"{case.op.name}-argument {i}" for case, i in EVERY_ARGUMENT])


def scaled(contribution: Any, factor: float) -> Any:
    """A contribution times a factor, also where it is `Indexed`."""
    if isinstance(contribution, ops.Indexed):
        return ops.Indexed(contribution.g * factor, contribution.index, contribution.shape, contribution.lead)
    return contribution * factor


def broken(op: ops.Op, position: int, change: Callable[..., Any]) -> ops.Op:
    """A copy of a primitive whose rule for one argument gives change(g, contribution) instead of the contribution."""
    wrong, rules, joint = copy.copy(op), list(op.rules), op.joint
    if joint:
        wrong.joint = lambda g, *saved, **settings: [
            change(g, d) if i == position else d for i, d in enumerate(joint(g, *saved, **settings))]
        return wrong
    right = rules[position]
    rules[position] = lambda g, *saved, **settings: change(g, right(g, *saved, **settings))
    wrong.rules = tuple(rules)
    return wrong


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """breaking(op, position, change) breaks the rule of the library itself until the test is over."""
    def do(op: ops.Op, position: int, change: Callable[..., Any]) -> None:
        wrong = broken(op, position, change)
        monkeypatch.setattr(op, "rules", wrong.rules)
        monkeypatch.setattr(op, "joint", wrong.joint)
    return do


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="the fixtures are made again only where PyTorch is installed")
