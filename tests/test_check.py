"""Gradient checking under attack: right gradients pass, every kind of wrong one is caught, and the culprit is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Case, broken, every_argument, generator, leaf, normal, scaled

from tinygrad_rnn import Tensor, gradcheck, nn, ops, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.check import Report, culprits
from tinygrad_rnn.sweep import order
from tinygrad_rnn.tensor import apply

EXACTLY: dict[str, Any] = {"method": "complex step", "rtol": 1e-9, "atol": 1e-12}
XS = normal(1, 4, 2, 3)
MILLIONTH = lambda g, d: scaled(d, 1 + 1e-6)  # noqa: E731


def weights() -> list[Tensor]:
    return [leaf(0.7 * normal(2, 5, 5), "W"), leaf(normal(3, 3, 5), "U"), leaf(normal(4, 2, 5), "h_0")]


def recurrent(W: Any, U: Any, h: Any, step: Callable[[Any, Any], Any] = lambda h, W: h @ W) -> Tensor:
    """A loss on every state of h_t = tanh(x_t U + h_{t-1} W); `step` stands for the product with W."""
    losses = []
    for t, x in enumerate(XS, 1):
        with scope(t=t):
            h = F.tanh(x @ U + step(h, W))
            losses.append((h * h * normal(10 + t, 5)).sum())
    return F.stack(losses).sum()


# ------------------------------------------------------------------------------------------------- what is right passes
@pytest.mark.parametrize("method", ["differences", "complex step"])
def test_a_right_gradient_passes(method: Any) -> None:
    report = gradcheck(recurrent, weights(), method=method)
    assert report and report.failed == 0 and report.entries == 25 + 15 + 10 and not report.culprits
    assert report.deterministic and not report.vacuous and report.same_factor is None and report.method == method
    assert str(report).startswith("gradcheck passed: 0 of 50 entries")


def test_a_right_gradient_passes_at_the_precision_of_the_complex_step() -> None:
    assert gradcheck(recurrent, weights(), **EXACTLY)


@pytest.mark.parametrize("method", ["differences", "complex step"])
def test_a_cell_with_a_loss_passes(method: Any) -> None:
    cell = nn.RNNCell(3, 5, initial="learned", rng=generator(1))
    head = nn.Linear(5, 4, rng=generator(2))
    target = generator(3).integers(4, size=(4, 2))

    def loss(*_: Tensor) -> Tensor:
        outputs, _h = nn.unroll(cell, XS)
        return F.cross_entropy(F.stack([head(h) for h in outputs]), target)
    assert gradcheck(loss, [*cell.parameters(), *head.parameters()], method=method)


VIEWS = {
    "itself": lambda x: x, "reshape": lambda x: x.reshape(6), "transpose": lambda x: x.T, "slice": lambda x: x[:, 1:],
    "broadcast_to": lambda x: F.broadcast_to(x, (4, 2, 3)), "relu": F.relu, "where": lambda x: F.where(True, x, 0.0),
    "scalar": lambda x: x.sum(), "one element": lambda x: x[1, 2],
}


@pytest.mark.parametrize("method", ["differences", "complex step"])
@pytest.mark.parametrize("fn", VIEWS.values(), ids=VIEWS)
def test_functions_that_give_a_view_of_their_input_pass(fn: Any, method: Any) -> None:
    assert gradcheck(fn, leaf(normal(5, 2, 3)), method=method)


@pytest.mark.parametrize("method", ["differences", "complex step"])
def test_functions_that_look_at_values_pass_where_the_values_do_not_matter(method: Any) -> None:
    def fn(x: Tensor) -> Tensor:
        assert np.isfinite(x.data).all() and np.asarray(x).shape == (2, 3) and x.detach().shape == (2, 3)
        return F.exp(x)
    x = leaf(normal(5, 2, 3))
    assert gradcheck(fn, x, method=method)
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 1.0


@pytest.mark.parametrize("method", ["differences", "complex step"])
def test_a_list_of_steps_passes(method: Any) -> None:
    cell = nn.RNNCell(3, 5, rng=generator(1))
    steps = [leaf(x) for x in XS]
    assert gradcheck(lambda *xs: F.stack(nn.unroll(cell, list(xs))[0]), steps, method=method)


def test_a_scalar_input_and_the_same_leaf_given_twice_pass() -> None:
    w = leaf(0.2, "w")
    assert gradcheck(lambda w: w * w * w * 0.9, w, **EXACTLY)
    assert gradcheck(lambda a, b: a * b, [w, w], **EXACTLY)


def test_losses_at_logits_of_zero_pass() -> None:
    q = leaf(np.zeros((3, 4)))
    for loss in (lambda q: F.cross_entropy(q, [0, 1, 2]), lambda q: F.sigmoid(q),
                 lambda q: F.binary_cross_entropy_with_logits(q, np.full((3, 4), 0.3))):
        for method in ("differences", "complex step"):
            assert gradcheck(loss, q, method=method), method  # type: ignore[arg-type]


def test_inputs_without_gradient_are_left_alone() -> None:
    W, U, h_0 = weights()
    constants = [Tensor(U.data), Tensor(h_0.data)]
    report = gradcheck(recurrent, [W, *constants])
    assert report and report.entries == 25
    assert all(x.grad is None for x in constants)


# -------------------------------------------------------------------------------------------------- what is wrong fails
@every_argument
def test_a_rule_wrong_by_one_part_in_a_million_is_caught_and_named(breaking: Any, case: Case, position: int) -> None:
    leaves = [leaf(a) for a in case.arrays]
    assert gradcheck(case.run, leaves, **EXACTLY)
    breaking(case.op, position, MILLIONTH)
    report = gradcheck(case.run, leaves, **EXACTLY)
    assert not report and report.failed
    assert [(c.node.op, c.position) for c in report.culprits] == [(case.op, position)]
    assert report.culprits[0].error == pytest.approx(1e-6, rel=0.99)
    assert f"culprit: {case.op.name} ({case.op.equation}): its rule for argument {position}" in str(report)


@every_argument
def test_a_rule_that_ignores_its_incoming_gradient_is_caught_by_differences(
        breaking: Any, case: Case, position: int) -> None:
    def ignoring(g: Any, d: Any) -> Any:
        if isinstance(d, ops.Indexed):
            return ops.Indexed(np.ones_like(d.g), d.index, d.shape, d.lead)
        return np.ones_like(d)
    leaves = [leaf(a) for a in case.arrays]
    assert gradcheck(case.run, leaves)
    breaking(case.op, position, ignoring)
    report = gradcheck(case.run, leaves)
    assert not report and {(c.node.op, c.position) for c in report.culprits} == {(case.op, position)}


WRONG_STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "the state detached": lambda h, W: h.detach() @ W,
    "the weight detached": lambda h, W: h @ W.detach(),
    "the weight taken as data": lambda h, W: h @ W.data,
    "half of the path detached": lambda h, W: (h * 0.5 + h.detach() * 0.5) @ W,
    "the weight transposed backward only": lambda h, W: h @ W.detach() + (h @ W.T - (h @ W.T).detach()),
    "one part in a million too much": lambda h, W: h @ W + (h @ W - (h @ W).detach()) * 1e-6,
}


@pytest.mark.parametrize("wrong", WRONG_STEPS)
def test_a_wrong_recurrent_weight_is_caught_although_every_rule_is_right(wrong: str) -> None:
    report = gradcheck(lambda W, U, h: recurrent(W, U, h, WRONG_STEPS[wrong]), weights(), **EXACTLY)
    assert not report and report.failed and not report.culprits
    assert "Every rule in the graph is right" in str(report) and "detach()" in str(report)
    if "million" not in wrong:
        assert not gradcheck(lambda W, U, h: recurrent(W, U, h, WRONG_STEPS[wrong]), weights())


@pytest.mark.parametrize("position", [0, 1])
def test_a_recurrent_product_with_a_wrong_rule_is_named_at_every_step(breaking: Any, position: int) -> None:
    breaking(ops.MATMUL, position, MILLIONTH)
    report = gradcheck(lambda W, U, h: recurrent(W, U, h), weights(), **EXACTLY)
    assert not report
    assert {c.node.scope["t"] for c in report.culprits} == {1, 2, 3, 4}
    assert {(c.node.op, c.position) for c in report.culprits} == {(ops.MATMUL, position)}
    assert f"… and {len(report.culprits) - 3} more such nodes" in str(report)


KINDS: dict[ops.Op, Callable[..., tuple[tuple[Any, ...], dict[str, Any] | None]]] = {
    ops.ADD: lambda h, x, W: ((h, x), None),
    ops.SUB: lambda h, x, W: ((x, h), None),
    ops.MUL: lambda h, x, W: ((h, W[0]), None),
    ops.DIV: lambda h, x, W: ((h, x * x + 1.0), None),
    ops.NEG: lambda h, x, W: ((h,), None),
    ops.MATMUL: lambda h, x, W: ((h, W), None),
    ops.TANH: lambda h, x, W: ((h,), None),
    ops.SIGMOID: lambda h, x, W: ((h,), None),
    ops.RELU: lambda h, x, W: ((h,), None),
    ops.EXP: lambda h, x, W: ((F.tanh(h),), None),
    ops.LOG: lambda h, x, W: ((h * h + 1.0,), None),
    ops.SQRT: lambda h, x, W: ((h * h + 0.5,), None),
    ops.ABS: lambda h, x, W: ((h,), None),
    ops.MAXIMUM: lambda h, x, W: ((h, x), None),
    ops.SOFTMAX: lambda h, x, W: ((h,), {"axis": -1}),
    ops.LOG_SOFTMAX: lambda h, x, W: ((h,), {"axis": -2}),
    ops.TRANSPOSE: lambda h, x, W: ((h,), {"axes": (0, 1)}),
    ops.GETITEM: lambda h, x, W: ((h,), {"index": np.array([2, 0, 2])}),
    ops.WHERE: lambda h, x, W: ((h, x), {"condition": np.arange(12).reshape(3, 4) % 3 > 0}),
    ops.MEAN: lambda h, x, W: ((F.stack([h, x]),), {"axis": (-3,), "keepdims": False}),
}


def program(seed: int, steps: int, used: dict[int, tuple[ops.Op, ops.Op]]) -> Callable[[Tensor, Tensor], Tensor]:
    """A chain of many kinds of primitives, each with its own share in the loss. `used` says, for some places, which
    primitive is applied there to the arguments of which."""
    def run(x: Tensor, W: Tensor) -> Tensor:
        rng = generator(seed)
        kinds = list(KINDS)
        h, losses = x, []
        for t in range(steps):
            drawn = kinds[rng.integers(len(kinds))]
            op, kind = used.get(t, (drawn, drawn))
            with scope(t=t):
                inputs, settings = KINDS[kind](h, x, W)
                h = apply(op, inputs, settings)
                losses.append((h * rng.normal(size=(3, 4))).sum())
                h = F.tanh(h) + 0.1 * x
        return F.stack(losses).sum()
    return run


@pytest.mark.parametrize("seed", range(40))
def test_one_broken_rule_among_hundreds_of_nodes_is_named(seed: int) -> None:
    rng = generator(100 + seed)
    x, W = leaf(normal(6, 3, 4), "x"), leaf(0.5 * normal(7, 4, 4), "W")
    steps = 40
    op = list(KINDS)[int(rng.integers(len(KINDS)))]
    position, at = int(rng.integers(len(op.rules))), int(rng.integers(steps))
    right = program(seed, steps, {at: (op, op)})
    assert len(order([right(x, W)])) >= 200
    assert gradcheck(right, [x, W], **EXACTLY)
    wrong = broken(op, position, MILLIONTH)
    report = gradcheck(program(seed, steps, {at: (wrong, op)}), [x, W], **EXACTLY)
    assert not report
    assert [(c.node.op, c.position, c.node.scope["t"]) for c in report.culprits] == [(wrong, position, at)]
    assert f"culprit: {op.name} ({op.equation}) at t={at}: its rule for argument {position}" in str(report)


@pytest.mark.parametrize("at", [1, 3, 4])
def test_one_broken_use_in_a_recurrent_network_is_named(at: int) -> None:
    wrong = broken(ops.MATMUL, 1, MILLIONTH)

    def step(h: Any, W: Any) -> Tensor:
        t = {1: 1, 2: 2, 3: 3, 4: 4}[len(seen) % 4 + 1]
        seen.append(t)
        return apply(wrong if t == at else ops.MATMUL, (h, W))
    seen: list[int] = []
    report = gradcheck(lambda W, U, h: recurrent(W, U, h, step), weights(), **EXACTLY)
    assert not report
    assert [(c.node.op, c.position, c.node.scope["t"]) for c in report.culprits] == [(wrong, 1, at)]
    assert f"at t={at}: its rule for argument 1 (W) is wrong by" in str(report)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_culprits_of_a_right_graph_are_none_and_size_does_not_matter(scale: float) -> None:
    assert culprits(recurrent(*weights())) == []
    x, y = leaf(scale * (np.abs(normal(1, 3)) + 0.5)), leaf(scale * normal(2, 3))
    for op, arguments in ((ops.MUL, (x, y)), (ops.SQRT, (x,)), (ops.DIV, (y, x))):
        assert culprits(apply(op, arguments)) == []
        found = culprits(apply(broken(op, 0, MILLIONTH), arguments))
        assert [c.position for c in found] == [0] and 1e-8 < found[0].error < 1.001e-6


def test_the_culprits_of_a_right_float32_graph_are_none() -> None:
    x = Tensor(normal(1, 4, 3).astype(np.float32), requires_grad=True)
    root = F.softmax(F.tanh(x) @ normal(2, 3, 5).astype(np.float32))
    assert root.dtype == np.float32 and culprits(root) == []
    assert len(culprits(apply(broken(ops.TANH, 0, lambda g, d: d * np.float32(1.01)), (x,)))) == 1


def test_a_culprit_is_found_behind_a_primitive_that_takes_no_complex_numbers() -> None:
    real = ops.Op("cube root", "y = x^(1/3)", np.cbrt, lambda g, y, x: g / (3 * y * y), elementwise=True)
    wrong = broken(real, 0, lambda g, d: d * 1.01)
    x = leaf(np.abs(normal(1, 3)) + 0.5)
    assert gradcheck(lambda x: apply(real, (F.exp(x),)), x)
    assert culprits(apply(real, (F.exp(x),))) == []
    report = gradcheck(lambda x: apply(wrong, (F.exp(x),)), x, rtol=1e-4)
    assert not report and [c.node.op for c in report.culprits] == [wrong]
    assert 1e-3 < report.culprits[0].error < 0.0101


def test_a_gradient_that_is_not_a_number_fails() -> None:
    wrong = broken(ops.TANH, 0, lambda g, d: d * np.nan)
    report = gradcheck(lambda x: apply(wrong, (x,)), leaf(normal(1, 3)))
    assert not report and report.failed == 3 and [c.node.op for c in report.culprits] == [wrong]


# ------------------------------------------------------------------------------------------------------ what it reports
def test_the_worst_entry_has_its_name_index_values_and_ratio() -> None:
    factor = np.ones((2, 3))
    factor[1, 2] = 1.5
    factor[0, 1] = 1.2
    wrong = broken(ops.EXP, 0, lambda g, d: d * factor)
    x = leaf(normal(1, 2, 3), "x")
    report = gradcheck(lambda a, x: apply(wrong, (x,)) + a, [leaf(normal(2, 3), "a"), x], **EXACTLY)
    assert report.failed == 2 and report.worst is not None
    assert (report.worst.name, report.worst.index) == ("x", (1, 2))
    assert report.worst.backward / report.worst.numeric == pytest.approx(1.5, rel=1e-12)
    assert abs(report.worst.numeric) / np.exp(x.data[1, 2]) == pytest.approx(1.0, abs=0.5)
    text = str(report)
    assert "worst entry x[1, 2]: backward " in text and f"{report.worst.numeric:.12g}, ratio 1.5\n" in text
    assert text.startswith("gradcheck failed: 2 of 9 entries disagree with the complex step")


def test_the_worst_entry_is_the_one_that_is_wrong_by_most_for_its_size() -> None:
    size, factor = np.array([1000.0, 1.0, 1e-9]), np.array([1.01, 1.5, 3.0])

    def off(x: Tensor) -> Tensor:
        return x * (size * factor) - x.detach() * (size * (factor - 1))
    report = gradcheck(off, leaf(np.ones(3)), method="complex step")
    assert report.failed == 2 and report.worst is not None and report.worst.index == (1,)


def test_a_report_says_no_more_than_it_found() -> None:
    passed = gradcheck(F.exp, leaf([1.0, 2.0]))
    assert "Every" not in str(passed) and "culprit" not in str(passed) and "Warning" not in str(passed)
    one = gradcheck(lambda x: x * x.detach(), leaf([2.0]))
    assert not one and one.same_factor is None
    wrong = broken(ops.EXP, 0, MILLIONTH)
    named = gradcheck(lambda x: apply(wrong, (x,)), leaf([1.0, 2.0]), **EXACTLY)
    assert "culprit" in str(named) and "Every rule" not in str(named)


def test_inputs_without_names_are_numbered() -> None:
    report = gradcheck(lambda a, b: a * b.detach(), [leaf([2.0]), leaf([3.0])])
    assert report.worst is not None and report.worst.name == "input 1" and report.worst.backward == 0


@pytest.mark.parametrize("factor", [1 / 7, 7.0, -1.0])
def test_a_constant_factor_is_said(factor: float) -> None:
    def off(x: Tensor) -> Tensor:
        y = F.exp(x)
        return y.detach() + (y - y.detach()) * factor
    report = gradcheck(off, leaf(normal(1, 2, 3)), **EXACTLY)
    assert report.same_factor == pytest.approx(factor, rel=1e-12)
    assert f"the same factor, {factor:.9g}: look for a mean" in str(report) and "1/T" in str(report)


def test_no_constant_factor_is_said_where_there_is_none() -> None:
    x = leaf([[1.0, 2.0], [3.0, -1.0]])
    assert gradcheck(lambda x: x * x.detach() * x, x).same_factor == pytest.approx(2 / 3, rel=1e-6)
    report = gradcheck(lambda x: x * x.detach() + x, x)  # x + 1 for 2x + 1
    assert not report and report.same_factor is None and "1/T" not in str(report)


def test_a_gradient_missing_in_some_places_is_reported_without_warnings() -> None:
    for fn in (lambda x: x.detach() * x[0], lambda x: x * 0.0 + x.detach(), lambda x: x - x.detach()):
        report = gradcheck(fn, leaf([1.0, 2.0, 3.0]))
        assert not report and report.failed and report.same_factor in (None, 0.0)
        assert "worst entry" in str(report)


def test_a_function_that_is_not_deterministic_is_said_first() -> None:
    rng = generator(1)
    report = gradcheck(lambda x: x * rng.normal(), leaf([1.0, 2.0]))
    assert not report and not report.deterministic
    assert str(report).startswith("The function is not deterministic")


def test_float32_is_warned_of() -> None:
    x, y = Tensor(np.ones(2, np.float32), requires_grad=True, name="x"), leaf([1.0, 2.0], "y")
    report = gradcheck(lambda x, y: F.tanh(x) * y, [x, y])
    assert report.float32 == ["x"]
    assert str(report).startswith("Warning: x in float32") and "float64" in str(report)
    assert x.dtype == np.float32


def test_a_check_that_could_not_fail_is_vacuous_and_no_pass() -> None:
    report = gradcheck(lambda x: x.detach() * 1e-9 + x * 0.0, leaf([1.0, 2.0, 3.0]))
    assert report.failed == 0 and report.only_atol == report.entries == 3
    assert report.vacuous and not report
    assert "gradcheck vacuous" in str(report) and "could not have failed" in str(report)
    assert not gradcheck(lambda x: x.detach() * 1e-9 + x * 0.0, leaf([1.0, 2.0, 3.0]), atol=1e-12)


def test_nothing_to_compare_is_no_pass() -> None:
    assert not gradcheck(lambda x: x.sum(), leaf(np.zeros((0, 2))))


def test_entries_that_pass_by_atol_alone_are_counted() -> None:
    factor = np.array([1.0, 1.0, 0.0, 0.0])  # of the last two gradients backward sees nothing
    scale = np.array([1.0, 2.0, 1e-7, 1e-8])

    def fn(x: Tensor) -> Tensor:
        return x * (scale * factor) + x.detach() * (scale * (1 - factor))
    report = gradcheck(fn, leaf(np.ones(4)), method="complex step")
    assert report and report.only_atol == 2 and "2 passed by atol alone: gradients so near 0" in str(report)
    assert "atol alone" not in str(gradcheck(lambda x: x * scale, leaf(np.ones(4)), method="complex step"))
    assert gradcheck(fn, leaf(np.ones(4)), method="complex step", atol=1e-9).failed == 2


def test_values_and_gradients_are_as_before_also_when_the_function_raises() -> None:
    for fail_at in (None, 1, 2, 3, 7):
        leaves = weights()
        recurrent(*leaves).backward()
        before = [(x._data, np.array(x.data), x.grad, np.array(x.grad)) for x in leaves]
        calls = []

        def fn(*xs: Tensor, calls: list[int] = calls, fail_at: int | None = fail_at) -> Tensor:
            calls.append(1)
            if len(calls) == fail_at:
                raise KeyError("the function")
            return recurrent(*xs)
        for method in ("differences", "complex step"):
            calls.clear()
            if fail_at:
                with pytest.raises(KeyError, match="the function"):
                    gradcheck(fn, leaves, method=method)  # type: ignore[arg-type]
            else:
                assert gradcheck(fn, leaves, method=method)  # type: ignore[arg-type]
        for x, (array, values, grad, gradient) in zip(leaves, before):
            assert x._data is array and np.array_equal(x.data, values)
            assert x.grad is grad and np.array_equal(x.grad, gradient)
        assert recurrent(*leaves).requires_grad


def test_what_cannot_be_checked_is_refused() -> None:
    x = leaf([1.0])
    with pytest.raises(ValueError, match="requires_grad"):
        gradcheck(lambda x: x, Tensor([1.0]))
    with pytest.raises(ValueError, match="leaf"):
        gradcheck(lambda x: x, F.tanh(x))
    with pytest.raises(TypeError, match="ndarray"):
        gradcheck(lambda x: x.data, x)  # type: ignore[arg-type, return-value]
    with pytest.raises(RuntimeError, match="nothing that requires a gradient"):
        gradcheck(lambda x: x.detach(), x)


def test_a_report_is_truthy_only_when_it_passed() -> None:
    entries: dict[str, Any] = {"method": "differences", "atol": 1e-5, "rtol": 1e-3, "entries": 4, "worst": None}
    assert Report(**entries, failed=0, only_atol=3)
    assert not Report(**entries, failed=0, only_atol=4)
    assert not Report(**entries, failed=1, only_atol=0)
    assert not Report(**entries, failed=0, only_atol=0, deterministic=False)
