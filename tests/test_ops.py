"""What the primitives promise: right values, right partial derivatives for every argument, and many seeds at once."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from conftest import (
    CASES,
    EVERY_ARGUMENT,
    EVERY_OP,
    FIXTURES,
    INDICES,
    Case,
    apart,
    complex_step,
    differences,
    every_argument,
    every_case,
    generator,
    gradients_of,
    leaf,
    normal,
    scaled,
    value_of,
)
from make_fixtures import make_all

from tinygrad_rnn import Tensor, no_grad, ops
from tinygrad_rnn import functional as F
from tinygrad_rnn.broadcasting import unbroadcast
from tinygrad_rnn.sweep import sweep


def loaded(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz") as archive:
        return dict(archive)


TORCH = loaded("ops")
EXACT = loaded("functions")
rows, columns = np.array([2, 0, 2, -1]), np.array([1, 1, 0, 1])
target, level = np.array([[1, 0], [3, 3], [2, 1]]), np.array([[0.0, 1.0, 0.25], [0.5, 1.0, 0.0]])
OURS: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "square": lambda a: a**2,
    "power at zero": lambda a, b: a**b,
    "neg": lambda x: -x,
    "tanh": F.tanh,
    "sigmoid": F.sigmoid,
    "relu": F.relu,
    "exp": F.exp,
    "log": F.log,
    "sqrt": F.sqrt,
    "abs": F.abs,
    "maximum": F.maximum,
    "max over rows": lambda x: x.max(1),
    "max over all": lambda x: x.max(),
    "max kept": lambda x: x.max(0, keepdims=True),
    "sum": lambda x: x.sum((0, 2)),
    "mean": lambda x: x.mean((1, 2), keepdims=True),
    "where": lambda a, b: F.where([[True, False, True], [False, False, True]], a, b),
    "matmul vectors": lambda a, b: a @ b,
    "matmul matrix vector": lambda a, b: a @ b,
    "matmul vector matrix": lambda a, b: a @ b,
    "matmul matrices": lambda a, b: a @ b,
    "matmul batches": lambda a, b: a @ b,
    "matmul batch vector": lambda a, b: a @ b,
    "matmul vector batch": lambda a, b: a @ b,
    "reshape": lambda x: x.reshape(3, 4),
    "transpose": lambda x: x.transpose(2, 0, 1),
    "broadcast_to": lambda x: F.broadcast_to(x, (2, 3, 4)),
    "getitem slices": lambda x: x[1:, ..., ::2],
    "getitem rows": lambda x: x[rows],
    "getitem pairs": lambda x: x[rows, columns],
    "concat": lambda a, b: F.concat([a, b, a], 1),
    "stack": lambda a, b: F.stack([a, b], 1),
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 0),
    "cross_entropy none": lambda q: F.cross_entropy(q, target, reduction="none"),
    "cross_entropy sum": lambda q: F.cross_entropy(q, target, reduction="sum"),
    "cross_entropy mean": lambda q: F.cross_entropy(q, target),
    "cross_entropy rows": lambda q: F.cross_entropy(q, level / level.sum(1, keepdims=True)),
    "bce none": lambda q: F.binary_cross_entropy_with_logits(q, level, reduction="none"),
    "bce mean": lambda q: F.binary_cross_entropy_with_logits(q, level),
    "mse none": lambda a: F.mse_loss(a, level, reduction="none"),
    "mse sum": lambda a: F.mse_loss(a, level, reduction="sum"),
    "mse mean": lambda a: F.mse_loss(a, level),
}


def swept(root: Tensor, gradient: np.ndarray) -> dict[Tensor, np.ndarray]:
    totals = {root: gradient}
    for _ in sweep(totals):
        pass
    return totals


# -------------------------------------------------------------------------------------------------------- known answers
def test_every_primitive_has_cases_for_all_its_arguments() -> None:
    assert {case.op for case in CASES} == set(EVERY_OP)
    assert all(value_of(case.run, case.arrays).size > 1 for case, _ in EVERY_ARGUMENT)
    for case in CASES:
        with_graph = case.run(*[leaf(a) for a in case.arrays])
        assert with_graph.op is case.op and len(with_graph.inputs) == len(case.arrays)


def test_the_fixtures_cover_the_functions_that_are_compared() -> None:
    assert {key.split("/")[0] for key in TORCH} == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    arrays = [TORCH[f"{name}/x{i}"] for i in range(3) if f"{name}/x{i}" in TORCH]
    leaves = [leaf(a) for a in arrays]
    y = OURS[name](*leaves)
    assert apart(y.data, TORCH[f"{name}/y"]) <= 1e-14
    y.backward(TORCH[f"{name}/g"])
    for i, x in enumerate(leaves):
        assert apart(x.grad, TORCH[f"{name}/d{i}"]) <= 1e-14


def test_the_fixtures_can_be_made_again(torch: Any) -> None:
    mpmath = pytest.importorskip("mpmath", reason="the exact values are made again only where mpmath is installed")
    for name, arrays in make_all(torch, mpmath).items():
        stored = loaded(name)
        assert stored.keys() == arrays.keys()
        for key, array in arrays.items():
            assert apart(stored[key], array) <= 1e-13, f"{name}: {key}"


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exp"])
def test_elementary_functions_are_exact_from_minus_700_to_700(name: str) -> None:
    x = leaf(EXACT["x"])
    y = getattr(F, name)(x)
    assert np.allclose(y.data, EXACT[name], rtol=3e-15, atol=0)
    y.backward(np.ones(x.shape))
    # 1 - y² and y (1 - y) lose what y rounds away near ±1: an absolute error of one rounding of 1.
    derivative = EXACT["exp"] if name == "exp" else EXACT[f"{name}'"]
    assert np.allclose(x.grad, derivative, rtol=3e-15, atol=0 if name == "exp" else 3e-16)


def test_softmax_and_its_losses_are_exact_for_moderate_and_extreme_logits() -> None:
    assert np.allclose(F.softmax(EXACT["logits"]).data, EXACT["softmax"], rtol=3e-15, atol=0)
    assert np.allclose(F.log_softmax(EXACT["logits"]).data, EXACT["log_softmax"], rtol=3e-15, atol=1e-15)
    q = leaf(EXACT["logits"])
    losses = F.cross_entropy(q, EXACT["targets"], reduction="none")
    assert np.allclose(losses.data, EXACT["loss"], rtol=3e-15, atol=1e-15)
    losses.backward(np.ones(4))
    assert np.allclose(q.grad, EXACT["error"], rtol=1e-13, atol=0)


def test_the_gradient_of_a_sure_and_right_prediction_keeps_its_digits() -> None:
    q = leaf([[40.0, 0.0, 0.0]])  # 1 - ŷ = 8.5e-18 is lost where ŷ - 1 is formed from ŷ
    F.cross_entropy(q, [0]).backward()
    expected = -2 * np.exp(-40) / (1 + 2 * np.exp(-40))
    assert q.grad is not None and abs(q.grad[0, 0] / expected - 1) < 1e-13


def test_binary_cross_entropy_is_exact_from_minus_700_to_700() -> None:
    for y in (0, 1):
        losses = F.binary_cross_entropy_with_logits(EXACT["x"], np.full(14, y), reduction="none")
        assert np.allclose(losses.data, EXACT[f"bce {y}"], rtol=3e-15, atol=0)


@every_case
def test_the_forward_pass_is_what_numpy_computes_from_the_definition(case: Case) -> None:
    assert apart(value_of(case.run, case.arrays), case.truth(*case.arrays)) <= 1e-14


# ---------------------------------------------------------------------------------------------------------- derivatives
@every_case
def test_every_rule_is_the_complex_step_at_every_element(case: Case) -> None:
    weights = case.weights()
    for position, gradient in enumerate(gradients_of(case.run, case.arrays, weights)):
        assert apart(gradient, complex_step(case.run, case.arrays, position, weights)) <= 1e-12


@every_case
def test_every_rule_is_the_slope_by_differences_at_every_element(case: Case) -> None:
    weights = case.weights(8)
    for position, gradient in enumerate(gradients_of(case.run, case.arrays, weights)):
        assert apart(gradient, differences(case.run, case.arrays, position, weights)) <= 1e-8


CHANGES = {
    "one part in a million": lambda g, d: scaled(d, 1 + 1e-6),
    "the sign": lambda g, d: scaled(d, -1.0),
    "the incoming gradient ignored": lambda g, d: scaled(d, 0.0) if isinstance(d, ops.Indexed) else d / np.mean(g),
    "one element": lambda g, d: ops.Indexed(bumped(d.g), d.index, d.shape, d.lead) if isinstance(d, ops.Indexed)
    else bumped(d),
}


def bumped(d: Any) -> np.ndarray:
    d = np.array(d)
    d.flat[np.abs(d).argmax()] *= 1 + 1e-6
    return d


@pytest.mark.parametrize("change", CHANGES)
@every_argument
def test_the_comparisons_above_see_a_broken_rule(breaking: Any, case: Case, position: int, change: str) -> None:
    weights = case.weights()
    right = complex_step(case.run, case.arrays, position, weights)
    assert apart(gradients_of(case.run, case.arrays, weights)[position], right) <= 1e-12
    breaking(case.op, position, CHANGES[change])
    assert apart(gradients_of(case.run, case.arrays, weights)[position], right) > 1e-7


@every_case
def test_seeds_in_front_give_what_separate_sweeps_give(case: Case) -> None:
    leaves = [leaf(a) for a in case.arrays]
    root = case.run(*leaves)
    gradients = normal(9, 3, *root.shape)
    together = swept(root, gradients)
    for s, gradient in enumerate(gradients):
        alone = swept(root, np.asarray(gradient))
        for x in leaves:
            assert together[x].shape == (3, *x.shape)
            assert apart(np.asarray(together[x])[s], np.asarray(alone[x])) <= 1e-14


@every_argument
def test_a_constant_costs_nothing_and_receives_nothing(
        monkeypatch: pytest.MonkeyPatch, case: Case, position: int) -> None:
    weights = case.weights()
    tensors = [Tensor(a, requires_grad=i == position) for i, a in enumerate(case.arrays)]
    if case.op.rules:
        def forbidden(*_: Any, **__: Any) -> Any:
            raise AssertionError("the rule of a constant was asked")
        kept = tuple(rule if i == position else forbidden for i, rule in enumerate(case.op.rules))
        monkeypatch.setattr(case.op, "rules", kept)
    case.run(*tensors).backward(weights)
    assert apart(tensors[position].grad, complex_step(case.run, case.arrays, position, weights)) <= 1e-12
    assert all(x.grad is None for i, x in enumerate(tensors) if i != position)


@every_case
def test_rules_write_into_nothing_that_they_were_given(case: Case) -> None:
    leaves = [leaf(a) for a in case.arrays]
    root = case.run(*leaves)
    gradient = normal(9, *root.shape)
    before, seen = gradient.copy(), [np.array(x.data) for x in leaves]
    y = np.array(root.data)
    for part in (gradient, *root.saved):
        np.asarray(part).setflags(write=False)
    swept(root, gradient)
    assert np.array_equal(gradient, before) and np.array_equal(root.data, y)
    assert all(np.array_equal(x.data, a) for x, a in zip(leaves, seen))


# ----------------------------------------------------------------------------------------------------- kinds of numbers
@every_case
def test_float32_stays_float32_forward_and_backward(case: Case) -> None:
    tensors = [Tensor(a.astype(np.float32), requires_grad=True) for a in case.arrays]
    root = case.run(*tensors)
    assert root.dtype == np.float32
    gradient = case.weights().astype(np.float32)
    totals = {root: gradient}
    for _, _, g, d in sweep(totals):
        assert g.dtype == np.float32
        assert (d.g if isinstance(d, ops.Indexed) else d).dtype == np.float32
    for x, double in zip(tensors, gradients_of(case.run, case.arrays, case.weights())):
        total = totals.get(x, np.zeros(x.shape, np.float32))
        assert total.dtype == np.float32 and apart(total, double) <= 1e-5


@every_case
def test_complex_numbers_pass_forward(case: Case) -> None:
    arrays = [a + 1e-3j * normal(i, *a.shape) for i, a in enumerate(case.arrays)]
    with no_grad():
        y = case.run(*[Tensor(a) for a in arrays]).data
    assert y.dtype == np.complex128 and np.isfinite(y).all()
    slope = sum((g * a.imag).sum() for a, g in zip(arrays, gradients_of(case.run, case.arrays, case.weights())))
    assert (case.weights() * y.imag).sum() == pytest.approx(slope, rel=1e-3)
    assert apart(value_of(case.run, [a.real + 1e-20j * a.imag for a in arrays]).real, case.truth(*case.arrays)) <= 1e-14


@pytest.mark.parametrize("scalar", [2, 2.0, True, np.float64(2.0)])
def test_scalars_take_the_dtype_of_the_tensor_beside_them(scalar: Any) -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    for y in (x + scalar, scalar - x, x * scalar, scalar / x, x**scalar, scalar**x, F.maximum(x, scalar), F.where(
            [True, False, True], scalar, x)):
        assert y.dtype == np.float32
        assert all(part.dtype == np.float32 for part in y.saved)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nothing_overflows_at_a_thousand(dtype: Any) -> None:
    x = np.array([[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 1000.0]], dtype)
    runs = {
        "tanh": (F.tanh, [[1, -1, 0], [-1, 1, 1]], [[0, 0, 1], [0, 0, 0]]),
        "sigmoid": (F.sigmoid, [[1, 0, 0.5], [0, 1, 1]], [[0, 0, 0.25], [0, 0, 0]]),
        "softmax": (lambda x: F.softmax(x) * [1, 1, 0], [[1, 0, 0], [0, 0.5, 0]], [[0, 0, 0], [0, 0.25, -0.25]]),
        "log_softmax": (lambda x: F.log_softmax(x)[:, 0], [0, -2000 - np.log(2)], [[0, 0, 0], [1, -0.5, -0.5]]),
        "cross_entropy": (lambda x: F.cross_entropy(x, [1, 0], "none"), [2000, 2000 + np.log(2)],
                          [[1, -1, 0], [-1, 0.5, 0.5]]),
        "bce": (lambda x: F.binary_cross_entropy_with_logits(x, np.array([[0, 0, 1], [1, 1, 0]]), "none"),
                [[1000, 0, np.log(2)], [1000, 0, 1000]], [[1, 0, -0.5], [-1, 0, 1]]),
    }
    for name, (run, value, gradient) in runs.items():
        leaf = Tensor(x, requires_grad=True)
        y = run(leaf)
        y.backward(np.ones(y.shape))
        assert leaf.grad is not None
        assert np.allclose(y.data, value, rtol=1e-6, atol=1e-12), name
        assert np.allclose(leaf.grad, gradient, rtol=1e-6, atol=1e-12), name


def test_softmax_of_the_known_overflowing_row() -> None:
    x = leaf([1.2, 2000, -4000, 0])
    y = F.softmax(x)
    assert y.data.tolist() == [0, 1, 0, 0]
    y.backward([1.0, 2.0, 3.0, 4.0])
    assert x.grad is not None and x.grad.tolist() == [0, 0, 0, 0]


def test_relu_passes_nan_on_instead_of_hiding_it() -> None:
    assert np.isnan(F.relu([np.nan, 1.0]).data).tolist() == [True, False]


# ------------------------------------------------------------------------------------------------------- kinks and ties
def test_the_gradient_at_the_kinks_of_relu_and_abs_is_zero() -> None:
    for run in (F.relu, F.abs):
        x = leaf([0.0, -0.0])
        run(x).backward([3.0, 5.0])
        assert x.grad is not None and x.grad.tolist() == [0, 0]


def test_a_maximum_gives_all_to_the_larger_and_half_to_each_of_a_tie() -> None:
    a, b = leaf([1.0, 5.0, 3.0]), leaf([2.0, 2.0, 3.0])
    F.maximum(a, b).backward([10.0, 20.0, 30.0])
    assert a.grad is not None and a.grad.tolist() == [0, 20, 15]
    assert b.grad is not None and b.grad.tolist() == [10, 0, 15]


def test_a_maximum_of_a_tensor_with_itself_gives_everything_to_it() -> None:
    x = leaf([1.0, -2.0])
    F.maximum(x, x).backward([3.0, 7.0])
    assert x.grad is not None and x.grad.tolist() == [3, 7]


@pytest.mark.parametrize(("axis", "expected"), [
    (None, [[0, 3, 3], [3, 3, 0]]), (0, [[0, 6, 12], [6, 6, 0]]), (1, [[0, 6, 6], [6, 6, 0]])])
def test_elements_that_tie_for_the_maximum_share_evenly(axis: int | None, expected: list[list[float]]) -> None:
    x = leaf([[0.0, 2.0, 2.0], [2.0, 2.0, -1.0]])
    expected = [[0, 6, 12], [12, 6, 0]] if axis == 0 else expected
    y = x.max(axis)
    y.backward(np.full(y.shape, 12.0))
    assert x.grad is not None and x.grad.tolist() == expected


def test_the_complex_step_shares_ties_as_the_rules_do() -> None:
    a, b, weights = np.array([3.0, 3.0, -1.0]), np.array([3.0, 2.0, -1.0]), np.array([1.0, 2.0, 4.0])
    for position, gradient in enumerate(gradients_of(F.maximum, [a, b], weights)):
        assert apart(complex_step(F.maximum, [a, b], position, weights), gradient) <= 1e-15
    assert np.array_equal(value_of(F.maximum, [a + 0j, b]).real, [3, 3, -1])
    x = np.array([[0.0, 2.0, 2.0], [2.0, 2.0, -1.0]])
    for axis, keepdims in ((None, False), (0, True), (1, False)):
        run = lambda x, s=(axis, keepdims): x.max(*s)  # noqa: E731
        weights = normal(1, *value_of(run, [x]).shape)
        assert apart(complex_step(run, [x], 0, weights), gradients_of(run, [x], weights)[0]) <= 1e-15
        assert np.array_equal(value_of(run, [x + 0j]), x.max(axis, keepdims=keepdims))


def test_the_gradient_of_a_softmax_loss_does_not_change_when_logits_tie_for_the_maximum() -> None:
    q = np.array([[2.0, 2.0, 2.0, 2.0]])
    run = lambda q: F.cross_entropy(q, [1])  # noqa: E731
    assert apart(gradients_of(run, [q], 1.0)[0], np.array([[0.25, -0.75, 0.25, 0.25]])) <= 1e-15
    assert apart(complex_step(run, [q], 0, 1.0), np.array([[0.25, -0.75, 0.25, 0.25]])) <= 1e-14


def test_losses_have_no_kink_where_a_logit_is_zero() -> None:
    run = lambda q: F.binary_cross_entropy_with_logits(q, [0.3, 0.6, 1.0], "none")  # noqa: E731
    q, weights = np.array([0.0, 0.0, -0.0]), np.array([1.0, 2.0, 3.0])
    expected = weights * (0.5 - np.array([0.3, 0.6, 1.0]))
    assert apart(gradients_of(run, [q], weights)[0], expected) <= 1e-15
    assert apart(complex_step(run, [q], 0, weights), expected) <= 1e-14
    assert apart(complex_step(F.sigmoid, [q], 0, weights), weights / 4) <= 1e-14


def test_a_power_has_finite_gradients_where_the_base_is_zero() -> None:
    a, b = leaf([0.0, 0.0, 0.0]), leaf([0.0, 1.0, 2.0])
    (a**b).backward([1.0, 1.0, 1.0])
    assert a.grad is not None and a.grad.tolist() == [0, 1, 0]
    assert b.grad is not None and b.grad.tolist() == [0, 0, 0]


def test_a_power_with_a_negative_base_has_its_gradient_for_whole_exponents() -> None:
    a = leaf([-2.0, -0.5])
    (a**3).backward([1.0, 1.0])
    assert a.grad is not None and np.allclose(a.grad, [12, 0.75], rtol=1e-15)


# ------------------------------------------------------------------------------------------------------ places and axes
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint64, np.int64])
def test_rows_are_chosen_by_integers_of_any_width(dtype: Any) -> None:
    x = leaf(normal(1, 300, 2))
    chosen = np.array([3, 120, 3, 0], dtype)
    g = normal(2, 4, 2)
    x[chosen].backward(g)
    expected = np.zeros((300, 2))
    np.add.at(expected, chosen, g)
    assert apart(x.grad, expected) <= 1e-15


@pytest.mark.parametrize("uses", [1, 2, 63, 64, 65, 500])
@pytest.mark.parametrize("shape", [(9,), (9, 2), (9, 2, 3)])
def test_few_and_many_uses_of_rows_add_up_also_for_many_seeds(uses: int, shape: tuple[int, ...]) -> None:
    x, chosen = leaf(normal(1, *shape)), generator(2).integers(-9, 9, size=uses)
    y = x[chosen]
    g = normal(3, 4, *y.shape)
    total = swept(y, g)[x]
    for s in range(4):
        expected = np.zeros(shape)
        np.add.at(expected, chosen, g[s])
        assert apart(total[s], expected) <= 1e-14
    square = np.resize(chosen, (uses, 3))
    total = swept(x[square], np.ones((*square.shape, *shape[1:])))[x]
    counts = np.bincount(square.ravel() % 9, minlength=9)
    assert np.array_equal(total.T, np.zeros(shape).T + counts)


def test_an_empty_choice_of_rows_gives_no_gradient() -> None:
    x = leaf(normal(1, 3, 2))
    x[np.array([], int)].backward(np.zeros((0, 2)))
    assert x.grad is not None and not x.grad.any()
    assert x[[]].shape == (0, 2)


@pytest.mark.parametrize("name", INDICES)
def test_uses_of_overlapping_places_add_up(name: str) -> None:
    """A place, the whole, and the same place again: dense and indexed contributions in one total."""
    x = leaf(normal(3, 4, 5, 3))
    index = INDICES[name]
    first, whole, second = x[index], x * 2.0, x[index]
    g, h, k = normal(4, *first.shape), normal(5, 4, 5, 3), normal(6, *first.shape)
    total = swept_together({first: g, whole: h, second: k})[x]
    expected = 2.0 * h
    np.add.at(expected, index, g + k)
    assert apart(total, expected) <= 1e-14


def swept_together(totals: dict[Tensor, np.ndarray]) -> dict[Tensor, np.ndarray]:
    for _ in sweep(totals):
        pass
    return totals


@pytest.mark.parametrize("axis", [np.int64(1), (np.int64(0), np.int64(-1))])
def test_an_axis_may_be_a_numpy_integer(axis: Any) -> None:
    x = leaf(normal(1, 2, 3, 4))
    for run in (F.sum, F.mean, F.max):
        y = run(x, axis)
        y.backward(np.ones(y.shape))
    assert x.grad is not None


def test_the_same_tensor_twice_in_a_concat_or_stack_is_two_edges() -> None:
    x, y = leaf(normal(1, 2, 3)), leaf(normal(2, 2, 3))
    for join, axis in ((F.concat, 1), (F.stack, 0)):
        x.grad = None
        joined = join([x, y, x], axis)
        assert joined.inputs == (x, y, x)
        g = normal(3, *joined.shape)
        joined.backward(g)
        expected = g[:, :3] + g[:, 6:] if axis else g[0] + g[2]
        assert apart(x.grad, expected) <= 1e-15


def test_un_broadcasting_sums_what_was_stretched_and_nothing_else() -> None:
    g = generator(1).normal(size=(7, 2, 3, 4))  # 7 seeds, then y of shape (2, 3, 4)
    assert apart(unbroadcast(g, (3, 1), 1), g.sum((1, 3))[..., None]) <= 1e-15
    assert apart(unbroadcast(g, (4,), 1), g.sum((1, 2))) <= 1e-15
    assert apart(unbroadcast(g, (), 1), g.sum((1, 2, 3))) <= 1e-14
    assert apart(unbroadcast(g, (1, 1, 4), 1), g.sum((1, 2)).reshape(7, 1, 1, 4)) <= 1e-15
    assert unbroadcast(np.zeros((2, 1, 3)), (1, 3), 1).shape == (2, 1, 3)


def test_an_indexed_contribution_can_be_written_out() -> None:
    d = ops.Indexed(np.array([1.0, 2.0]), np.array([0, 0]), (3,), 0)
    assert np.asarray(d).tolist() == [3, 0, 0] and np.asarray(d, np.float32).dtype == np.float32


def test_errors_of_the_primitives_have_the_right_type() -> None:
    x = leaf(normal(1, 2, 3))
    for wrong in (lambda: F.concat([]), lambda: F.stack([]), lambda: F.concat([x, leaf(normal(2, 3, 3))], 1),
                  lambda: F.stack([x, leaf(normal(2, 3, 3))]), lambda: x.reshape(4, 2), lambda: x.transpose(0, 0),
                  lambda: F.broadcast_to(x, (3, 3)), lambda: x + np.ones(4), lambda: x.sum(2), lambda: x.max((0, 0)),
                  lambda: F.softmax(x, 2), lambda: F.where(np.ones((4, 4), bool), x, x)):
        with pytest.raises(ValueError, match=r"\(2, 3\)|no tensors|at least one|nothing"):
            wrong()
    with pytest.raises(IndexError, match="getitem"):
        x[2]
    with pytest.raises(IndexError, match="getitem"):
        x[0, 0, 0]
    for index in (np.array([True, False]), [0.5], leaf([1.0]), True):
        with pytest.raises(TypeError, match="getitem"):
            x[index]


@pytest.mark.parametrize(("a", "b"), [((4, 3, 0), (0, 5)), ((4, 3, 2), (2, 0)), ((4, 0, 2), (2, 5)),
                                      ((0, 3, 2), (2, 5))])
def test_products_of_a_stack_with_nothing_in_it_are_zeros_and_so_are_their_gradients(a: Any, b: Any) -> None:
    x, y = leaf(np.ones(a)), leaf(np.ones(b))
    z = x @ y
    assert z.shape == (*a[:2], b[1]) and not z.data.any()
    z.backward(np.ones(z.shape))
    assert x.grad.shape == a and y.grad.shape == b and not x.grad.any() and not y.grad.any()


def test_the_factors_of_a_product_may_be_results_where_many_seeds_are_swept() -> None:
    A, h = normal(1, 4, 3), leaf(normal(2, 3, 5))
    y = A @ F.tanh(h)
    seeds = normal(3, 6, 4, 5)
    totals: dict[Tensor, Any] = {y: seeds}
    deque(sweep(totals), maxlen=0)
    assert apart(np.asarray(totals[h]), (A.T @ seeds) * (1 - np.tanh(h.data) ** 2)) <= 1e-14
