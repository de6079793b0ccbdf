"""What the optimisers and the clipping promise: PyTorch's trajectories, written formulas, and nothing half done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, apart, normal

from tinygrad_rnn import Tensor, nn, optim

with np.load(FIXTURES / "optim.npz") as archive:
    KNOWN = dict(archive)
MAKERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda ps: optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: optim.SGD(ps, lr=0.05, momentum=0.9),
    "adagrad": lambda ps: optim.Adagrad(ps, lr=0.2),
    "adam": lambda ps: optim.Adam(ps),
    "adam with settings": lambda ps: optim.Adam(ps, lr=0.05, betas=(0.7, 0.95), eps=1e-3),
}
every_optimizer = pytest.mark.parametrize("name", MAKERS)


def parameters(*grads: Any) -> list[nn.Parameter]:
    """Parameters W (2, 3) and b (4,), with the gradients given."""
    made = [nn.Parameter(KNOWN["start 0"], name="W"), nn.Parameter(KNOWN["start 1"], name="b")]
    for p, g in zip(made, grads):
        p.grad = g
    return made


def test_the_fixtures_cover_the_optimizers() -> None:
    assert {key[:-2] for key in KNOWN if key[:-2] in MAKERS} == set(MAKERS)


@every_optimizer
def test_ten_steps_are_those_of_pytorch_also_where_a_gradient_is_missing(name: str) -> None:
    ps = parameters()
    optimizer = MAKERS[name](ps)
    for step in range(10):
        for i, p in enumerate(ps):
            p.grad = None if i and step in (2, 5) else KNOWN[f"g {i}"][step]
        optimizer.step()
        for i, p in enumerate(ps):
            assert apart(p.data, KNOWN[f"{name} {i}"][step]) <= 1e-12


@every_optimizer
def test_a_step_rebinds_data_and_leaves_gradients_alone(name: str) -> None:
    ps = parameters(KNOWN["g 0"][0].copy())
    held, data, other = ps[0].grad, ps[0].data, ps[1]._data
    before = data.copy()
    for _ in range(3):
        MAKERS[name](ps).step()
    assert np.array_equal(data, before) and not np.array_equal(ps[0].data, before)
    assert not np.shares_memory(ps[0].data, data)
    assert ps[0].grad is held and np.array_equal(held, KNOWN["g 0"][0])
    assert ps[1]._data is other


@every_optimizer
def test_a_gradient_that_does_not_fit_is_refused_and_nothing_changes(name: str) -> None:
    ps = parameters(KNOWN["g 0"][0], np.ones(5))
    optimizer, twin = MAKERS[name](ps), parameters()
    reference = MAKERS[name](twin)
    with pytest.raises(ValueError, match=r"b has shape \(4,\).*\(5,\)"):
        optimizer.step()
    assert all(np.array_equal(p.data, KNOWN[f"start {i}"]) for i, p in enumerate(ps))
    for p, q, i in zip(ps, twin, (0, 1)):  # and the state is that of the beginning
        p.grad = q.grad = KNOWN[f"g {i}"][0]
    optimizer.step()
    reference.step()
    assert all(np.array_equal(p.data, q.data) for p, q in zip(ps, twin))


@every_optimizer
def test_float32_and_scalar_parameters_stay_what_they_are(name: str) -> None:
    p, s = nn.Parameter(np.ones((2, 2), np.float32)), nn.Parameter(3.0)
    optimizer = MAKERS[name]([p, s])
    for _ in range(3):
        p.grad, s.grad = np.ones((2, 2), np.float32), np.array(1.0)
        optimizer.step()
    assert p.dtype == np.float32 and p.data.max() < 1
    assert s.shape == () and isinstance(s.data, np.ndarray) and s.item() < 3


@every_optimizer
def test_every_optimizer_finds_the_bottom_of_a_bowl(name: str) -> None:
    p, bottom = nn.Parameter([3.0, -1.0]), np.array([3.5, -0.75])
    optimizer = MAKERS[name]([p])
    if name == "adam":
        optimizer.lr = 0.02
    for _ in range(400):
        optimizer.zero_grad()
        ((p - bottom) * (p - bottom)).sum().backward()
        optimizer.step()
    assert np.abs(p.data - bottom).max() < 1e-2


def test_zero_grad_forgets_every_gradient() -> None:
    ps = parameters(*[KNOWN[f"g {i}"][0] for i in (0, 1)])
    optim.SGD(ps, lr=1.0).zero_grad()
    assert all(p.grad is None for p in ps)


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate() -> None:
    p = nn.Parameter([1.0, 2.0, 3.0])
    p.grad = np.array([1e-3, -5.0, 1e4])
    optim.Adam([p], lr=0.01).step()
    assert np.allclose(p.data, [0.99, 2.01, 2.99], rtol=1e-6)


def test_parameters_may_come_from_an_iterator() -> None:
    ps = parameters(KNOWN["g 0"][0])
    optim.SGD(iter(ps), lr=0.1).step()
    assert not np.array_equal(ps[0].data, KNOWN["start 0"])
    assert optim.clip_grad_norm_(iter(ps), 0.1) > 0.1


@pytest.mark.parametrize("make", [optim.SGD, optim.Adagrad, optim.Adam])
def test_bad_arguments_are_refused(make: Any) -> None:
    ps = parameters()
    for lr in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="lr"):
            make(ps, lr=lr)
    with pytest.raises(ValueError, match="no parameters"):
        make([], lr=0.1)
    for wrong in ([Tensor([1.0])], ["W"], dict(W=ps[0])):
        with pytest.raises(TypeError, match="Parameters"):
            make(wrong, lr=0.1)


def test_bad_settings_are_refused() -> None:
    for momentum in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="momentum"):
            optim.SGD(parameters(), lr=0.1, momentum=momentum)
    for betas in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (np.nan, 0.9)):
        with pytest.raises(ValueError, match="betas"):
            optim.Adam(parameters(), betas=betas)


# ------------------------------------------------------------------------------------------------------------- clipping
@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0])
def test_clipping_by_norm_is_that_of_pytorch(max_norm: float) -> None:
    ps = parameters(*[KNOWN[f"g {i}"][0] for i in (0, 1)])
    assert optim.clip_grad_norm_(ps, max_norm) == pytest.approx(float(KNOWN[f"norm {max_norm}"]), rel=1e-14)
    for i, p in enumerate(ps):
        assert apart(p.grad, KNOWN[f"clipped {max_norm} {i}"]) <= 1e-14


def test_clipping_by_norm_is_its_formula_and_keeps_the_direction() -> None:
    a, b = 50 * normal(1, 2, 3), 50 * normal(2, 4)
    whole = np.concatenate([a.ravel(), b])
    for max_norm in (1e-3, 1.0, 1e4):
        ps = parameters(a.copy(), b.copy())
        norm = optim.clip_grad_norm_(ps, max_norm)
        assert norm == pytest.approx(np.sqrt((whole**2).sum()), rel=1e-14)
        after = np.concatenate([p.grad.ravel() for p in ps])
        assert apart(after, whole * min(1.0, max_norm / (norm + 1e-6))) <= 1e-15
        assert after @ whole / np.sqrt(after @ after) / norm == pytest.approx(1, rel=1e-14)
        assert np.sqrt(after @ after) <= max_norm


def test_clipping_by_value_bounds_every_element_and_changes_the_direction() -> None:
    ps = parameters(np.array([[3.0, -0.2, 0.4], [-9.0, 0.5, -0.5]]))
    optim.clip_grad_value_(ps, 0.5)
    assert ps[0].grad is not None and ps[0].grad.tolist() == [[0.5, -0.2, 0.4], [-0.5, 0.5, -0.5]]
    assert ps[1].grad is None


def test_clipping_leaves_the_arrays_of_others_alone() -> None:
    g = normal(1, 2, 3)
    before = g.copy()
    for clip in (lambda ps: optim.clip_grad_norm_(ps, 0.1), lambda ps: optim.clip_grad_value_(ps, 0.1)):
        ps = parameters(g)
        clip(ps)
        assert np.array_equal(g, before) and ps[0].grad is not g


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_not_finite_is_refused_and_nothing_changes(bad: float) -> None:
    g = normal(1, 2, 3)
    g[1, 2] = bad
    ps = parameters(g.copy(), np.ones(4))
    with pytest.raises(ValueError, match="norm of the gradients"):
        optim.clip_grad_norm_(ps, 1.0)
    assert np.array_equal(ps[0].grad, g, equal_nan=True) and np.array_equal(ps[1].grad, np.ones(4))


def test_the_norm_of_large_float32_gradients_does_not_overflow() -> None:
    p = nn.Parameter(np.ones(3, np.float32))
    p.grad = np.array([3e25, 0.0, 4e25], np.float32)
    assert optim.clip_grad_norm_([p], 1.0) == pytest.approx(5e25, rel=1e-6)
    assert np.allclose(p.grad, [0.6, 0.0, 0.8], rtol=1e-5) and p.grad.dtype == np.float32


def test_clipping_nothing_is_fine_and_bad_bounds_are_refused() -> None:
    assert optim.clip_grad_norm_([], 1.0) == 0 == optim.clip_grad_norm_(parameters(), 1.0)
    for bound in (0.0, -1.0, np.nan):
        ps = parameters(np.ones((2, 3)))
        with pytest.raises(ValueError, match="max_norm"):
            optim.clip_grad_norm_(ps, bound)
        with pytest.raises(ValueError, match="clip_value"):
            optim.clip_grad_value_(ps, bound)
        assert np.array_equal(ps[0].grad, np.ones((2, 3)))


def test_clipping_keeps_the_gradient_of_a_scalar_an_array() -> None:
    p = nn.Parameter(1.0)
    for clip in (lambda: optim.clip_grad_norm_([p], 1.0), lambda: optim.clip_grad_value_([p], 1.0)):
        p.grad = np.array(5.0)
        clip()
        assert isinstance(p.grad, np.ndarray) and p.grad == pytest.approx(1.0, rel=1e-6)


def test_one_parameter_given_without_a_list_is_not_passed_over_in_silence() -> None:
    p = nn.Parameter(np.ones(3))
    p.grad = np.full(3, 5.0)
    try:
        optim.clip_grad_norm_(p, 1.0)  # type: ignore[arg-type]
    except TypeError:
        return
    assert np.linalg.norm(p.grad) <= 1
