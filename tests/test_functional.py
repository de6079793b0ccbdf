"""What the public functions promise beyond their primitives: losses, reductions, perplexity, and what they refuse."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from conftest import apart, complex_step, generator, gradients_of, leaf, normal

from tinygrad_rnn import Tensor, scope
from tinygrad_rnn import functional as F

LOGITS = normal(1, 4, 3, 7)
TARGET = generator(2).integers(7, size=(4, 3))
LOSSES: dict[str, Any] = {
    "ids": lambda q, r: F.cross_entropy(q, TARGET, r),
    "rows": lambda q, r: F.cross_entropy(q, one_hot(q), r),
    "binary": lambda q, r: F.binary_cross_entropy_with_logits(q, one_hot(q), r),
    "squares": lambda q, r: F.mse_loss(q, one_hot(q), r),
}


def one_hot(q: Any) -> np.ndarray:
    """The targets as rows of numbers, as wide as the logits."""
    return np.eye(7)[TARGET].astype(np.float32 if q.dtype == np.float32 else float)


every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def test_ids_and_one_hot_rows_are_the_same_loss_with_the_same_gradient() -> None:
    for reduction in ("none", "sum", "mean"):
        results = []
        for name in ("ids", "rows"):
            q = leaf(LOGITS)
            e = LOSSES[name](q, reduction)
            e.backward(normal(3, *e.shape))
            results.append((e.data, q.grad))
        assert apart(results[0][0], results[1][0]) <= 1e-14
        assert apart(results[0][1], results[1][1]) <= 1e-14


def test_cross_entropy_has_the_gradient_prediction_minus_target() -> None:
    q = leaf(LOGITS)
    F.cross_entropy(q, TARGET, "sum").backward()
    prediction = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    assert apart(q.grad, prediction - np.eye(7)[TARGET]) <= 1e-14


def test_soft_targets_have_the_gradient_prediction_minus_target_where_they_sum_to_one() -> None:
    y = generator(4).dirichlet(np.ones(7), size=(4, 3))
    q = leaf(LOGITS)
    F.cross_entropy(q, y, "sum").backward()
    prediction = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    assert apart(q.grad, prediction - y) <= 1e-13


@every_loss
def test_the_reductions_are_the_sum_and_mean_of_none(loss: Any) -> None:
    none = loss(LOGITS, "none").data
    assert loss(LOGITS, "sum").item() == pytest.approx(none.sum(), rel=1e-14)
    assert loss(LOGITS, "mean").item() == pytest.approx(none.sum() / none.size, rel=1e-14)
    assert none.shape in ((4, 3), (4, 3, 7))
    total, mean = (gradients_of(lambda q, r=r: loss(q, r), [LOGITS], 1.0)[0] for r in ("sum", "mean"))
    assert apart(mean * none.size, total) <= 1e-14


@every_loss
def test_every_loss_has_the_gradient_of_the_complex_step(loss: Any) -> None:
    logits = LOGITS[:, 0]
    run = lambda q: loss(F.stack([q, q * 0.5, q * q], 1), "mean")  # noqa: E731
    assert apart(gradients_of(run, [logits], 1.0)[0], complex_step(run, [logits], 0, 1.0)) <= 1e-12


@every_loss
def test_an_unknown_reduction_is_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"average.*'none', 'sum' or 'mean'"):
        loss(LOGITS, "average")


@every_loss
def test_losses_are_never_negative_and_keep_float32(loss: Any) -> None:
    assert (loss(LOGITS, "none").data >= 0).all()
    q = Tensor(LOGITS.astype(np.float32), requires_grad=True)
    e = loss(q, "mean")
    e.backward()
    assert e.dtype == np.float32 == q.grad.dtype


def test_the_softmax_jacobian_has_its_closed_form_and_rows_that_sum_to_zero() -> None:
    x = np.array([0.3, -1.2, 2.0, 0.1])
    jacobian = np.stack([gradients_of(F.softmax, [x], row)[0] for row in np.eye(4)])
    y = np.exp(x) / np.exp(x).sum()
    assert apart(jacobian, np.diag(y) - np.outer(y, y)) <= 1e-14
    assert np.abs(jacobian.sum(1)).max() <= 1e-16 and np.abs(jacobian.sum(0)).max() <= 1e-16


def test_the_jacobian_route_and_the_fused_loss_agree() -> None:
    x, k = normal(5, 6), 2
    fused = gradients_of(lambda q: F.cross_entropy(q, np.array(k)), [x], 1.0)[0]
    routed = gradients_of(lambda q: -F.log(F.softmax(q)[k]), [x], 1.0)[0]
    assert apart(fused, routed) <= 1e-14


def test_softmax_and_log_softmax_agree_and_ignore_a_shift() -> None:
    for axis in (0, 1, -1):
        y = F.softmax(LOGITS, axis).data
        assert apart(np.exp(F.log_softmax(LOGITS, axis).data), y) <= 1e-14
        assert apart(y.sum(axis), np.ones(y.sum(axis).shape)) <= 1e-15
        assert apart(F.softmax(LOGITS + 1000, axis).data, y) <= 1e-12


def test_binary_cross_entropy_has_the_gradient_prediction_minus_target() -> None:
    q, y = normal(6, 3, 5) * 4, generator(7).random((3, 5))
    gradient = gradients_of(lambda q: F.binary_cross_entropy_with_logits(q, y, "sum"), [q], 1.0)[0]
    assert apart(gradient, 1 / (1 + np.exp(-q)) - y) <= 1e-14


def test_two_classes_are_one_logit() -> None:
    q, y = normal(8, 9), generator(9).integers(2, size=9)
    two = F.cross_entropy(F.stack([np.zeros(9), q], 1), y)
    assert two.item() == pytest.approx(F.binary_cross_entropy_with_logits(q, y).item(), rel=1e-14)


def test_a_uniform_model_has_the_perplexity_v() -> None:
    for v in (2, 7, 103):
        assert F.perplexity(np.full((5, v), -3.2), np.zeros(5, int)) == pytest.approx(v, rel=1e-14)


def test_perplexity_is_one_number_from_nats_bits_sum_or_mean() -> None:
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    hit = np.take_along_axis(p, TARGET[..., None], -1)
    expected = np.prod(1 / hit) ** (1 / hit.size)
    assert F.perplexity(LOGITS, TARGET) == pytest.approx(expected, rel=1e-13)
    assert 2 ** np.mean(-np.log2(hit)) == pytest.approx(expected, rel=1e-13)
    total = F.cross_entropy(LOGITS, TARGET, "sum").item()
    assert np.exp(total / hit.size) == pytest.approx(expected, rel=1e-13)
    assert F.perplexity(leaf(LOGITS), TARGET) == pytest.approx(expected, rel=1e-13)


def test_cross_entropy_takes_integers_of_any_width_and_lists() -> None:
    expected = F.cross_entropy(LOGITS, TARGET).item()
    for dtype in (np.uint8, np.int16, np.int32, np.uint64):
        assert F.cross_entropy(LOGITS, TARGET.astype(dtype)).item() == expected
    assert F.cross_entropy(LOGITS.tolist(), TARGET.tolist()).item() == expected


def test_cross_entropy_refuses_what_does_not_fit() -> None:
    q = leaf(normal(1, 5, 3))
    for target in (np.zeros(4, int), np.zeros((5, 3), int), np.zeros((5, 1), int), 0, np.zeros((5, 2)), np.zeros(5)):
        with scope(t=2), pytest.raises(ValueError, match=r"cross_entropy.*\(5, 3\).*t=2"):
            F.cross_entropy(q, target)
    for wrong in (3, -1):
        with scope(t=2), pytest.raises(IndexError, match="3 classes at t=2"):
            F.cross_entropy(q, [0, 1, wrong, 1, 2])
    with pytest.raises(ValueError, match="cross_entropy"):
        F.cross_entropy(1.0, 0)


def test_binary_cross_entropy_refuses_what_does_not_fit() -> None:
    q = leaf(normal(1, 2, 3))
    for target in (np.zeros(3), np.full((2, 3), 1.1), np.full((2, 3), -0.1), np.full((2, 3), np.nan), 0.0):
        with scope(t=2), pytest.raises(ValueError, match=r"binary_cross_entropy.*\(2, 3\).*t=2"):
            F.binary_cross_entropy_with_logits(q, target)


def test_mse_refuses_to_broadcast() -> None:
    q = leaf(normal(1, 2, 3))
    for target in (np.zeros(3), np.zeros((1, 3)), 0.0, np.zeros((4, 2, 3)), np.zeros((3, 2))):
        with scope(t=2), pytest.raises(ValueError, match=r"\(2, 3\).*t=2"):
            F.mse_loss(q, target)


def test_mse_reaches_prediction_and_target() -> None:
    a, b = leaf([1.0, 5.0]), leaf([2.0, 2.0])
    F.mse_loss(a, b, "sum").backward()
    assert a.grad is not None and a.grad.tolist() == [-2, 6]
    assert b.grad is not None and b.grad.tolist() == [2, -6]


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "exp", "abs", "sum", "mean", "max", "softmax",
                                  "log_softmax"])
def test_functions_take_tensors_arrays_and_lists_alike(name: str) -> None:
    f, x = getattr(F, name), normal(1, 2, 3)
    assert np.array_equal(f(leaf(x)).data, f(x).data) and np.array_equal(f(x).data, f(x.tolist()).data)


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_functions_and_methods_are_the_same(name: str) -> None:
    x = leaf(normal(1, 2, 3))
    for axis, keepdims in ((None, False), (1, True), ((0, 1), False)):
        method = getattr(x, name)(axis=axis, keepdims=keepdims)
        assert np.array_equal(getattr(F, name)(x, axis=axis, keepdims=keepdims).data, method.data)


def test_shapes_and_places_by_function_and_method() -> None:
    x = leaf(normal(1, 2, 3, 4))
    assert np.array_equal(F.reshape(x, (4, 6)).data, x.reshape(4, 6).data)
    assert np.array_equal(F.transpose(x, (2, 0, 1)).data, x.transpose(2, 0, 1).data)
    assert np.array_equal(F.transpose(x).data, x.T.data)
    assert np.array_equal(F.transpose(x, [0, 2, 1]).data, np.swapaxes(x.data, 1, 2))


def test_from_tanh_to_numpy_a_debugger_passes_two_frames_of_the_library() -> None:
    passed: list[str] = []

    class Spied(np.ndarray):
        """Says who called when NumPy's tanh reaches it."""

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
            frame: Any = sys._getframe(1)
            while ufunc is np.tanh and frame.f_code.co_name != "script":
                passed.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")
                frame = frame.f_back
            return getattr(ufunc, method)(*(np.asarray(x) for x in inputs), **settings)

    x = Tensor(np.ones(3), requires_grad=True)
    x._data = x._data.view(Spied)

    def script() -> None:
        F.tanh(x)

    script()
    assert passed == ["tinygrad_rnn.tensor.apply", "tinygrad_rnn.functional.tanh"]
