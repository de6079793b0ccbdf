"""State Jacobians against closed forms and against NumPy alone, by complex step and differences, every element of every
pair of states; the direct path against products of gates; bounds; and proofs that notice what is wrong.

Symbols: T time, B batch, D input, H hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bptt_cells import CELLS, sigmoid
from bptt_models import STEP, apart

from tinygrad_rnn import Tensor, nn, no_grad, ops, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import jacobian
from tinygrad_rnn.bptt.jacobian import (
    bounds,
    decay,
    one_steps,
    prove_decay,
    shown_lags,
    singular_values,
    spectral_norm,
    spectral_radius,
    state_jacobian,
    state_jacobians,
    states,
)

T, B, D, H = 4, 2, 3, 5


class Run:
    """One kind of cell on random numbers, by the library and, from any state on, in NumPy alone."""

    def __init__(self, cell: str, *, direction: Any = "forward", lengths: list[int] | None = None, seed: int = 0,
                 **more: Any) -> None:
        kind, options, self.step = CELLS[cell]
        rng = np.random.default_rng(seed)
        self.cell = kind(D, H, rng=rng, **options, **more)
        for p in self.cell.parameters():
            p.data = rng.normal(0, 0.6, p.shape)
        self.x, self.direction, self.lengths = rng.normal(size=(T, B, D)), direction, lengths
        first = tuple(Tensor(rng.normal(size=(B, H)), requires_grad=True) for _ in kind.states)
        self.hs, self.last = nn.unroll(self.cell, self.x, first if len(first) > 1 else first[0], direction=direction,
                                       lengths=lengths)
        self.states = states(self.last)
        self.first = np.concatenate([part.data for part in first], -1)

    def p(self, name: str) -> np.ndarray:
        return np.asarray(getattr(self.cell, name).data)

    def on(self, s: Any, k: int, t: int) -> Any:
        """s_t from s_k, (..., B, n), in NumPy."""
        for j in range(k + 1, t + 1) if self.direction == "forward" else range(k - 1, t - 1, -1):
            parts = np.split(s, len(self.cell.states), axis=-1)
            there = np.array(self.lengths or [T] * B)[:, None] >= j
            s = np.where(there, np.concatenate(self.step(self.p, self.x[j - 1], parts), -1), s)
        return s

    def truth(self, k: int, t: int) -> np.ndarray:
        """∂s_t/∂s_k (B, n, n) by the complex step through NumPy alone."""
        s = self.on(self.first, 0 if self.direction == "forward" else T + 1, k)
        n = s.shape[-1]
        return np.asarray(self.on(s + 1j * STEP * np.eye(n)[:, None], k, t).imag.transpose(1, 2, 0) / STEP)


def value(state: Any) -> np.ndarray:
    return np.concatenate([x.data for x in state], -1) if isinstance(state, tuple) else state.data


def diagonal(v: Any) -> np.ndarray:
    """diag(v_b) for every row of v (B, n)."""
    return np.asarray(np.eye(v.shape[-1]) * v[:, None, :])


# ----------------------------------------------------------------------------------------------- every pair, every cell
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_pair_of_states_of_every_cell_is_what_numpy_says(cell: str, direction: str) -> None:
    run = Run(cell, direction=direction)
    steps = list(run.states)
    assert steps == (list(range(T + 1)) if direction == "forward" else list(range(T + 1, 0, -1)))
    for i, k in enumerate(steps):
        for t in steps[i:]:
            got = state_jacobian(run.states[t], run.states[k])
            assert apart(got, run.truth(k, t)) < 1e-12, (k, t)
            if t != k:
                assert not state_jacobian(run.states[k], run.states[t]).any(), "a later state changes no earlier one"


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU before u"])
def test_padded_rows_hold_their_state(cell: str) -> None:
    run = Run(cell, lengths=[2, 4])
    for k in range(T):
        got = state_jacobian(run.states[T], run.states[k])
        assert apart(got, run.truth(k, T)) < 1e-12
        assert (got[0] == np.eye(len(got[0]))).all() == (k >= 2)
    assert (state_jacobian(run.states[T], run.states[2], direct=True)[0] == np.eye(len(got[0]))).all()


@pytest.mark.parametrize("cell", CELLS)
def test_differences_agree_with_the_jacobian(cell: str) -> None:
    run, eps = Run(cell), 1e-4
    moves = eps * np.eye(run.first.shape[-1])[:, None]
    near, far = (run.on(run.first + m, 0, T) - run.on(run.first - m, 0, T) for m in (moves, 2 * moves))
    expected = ((8 * near - far) / (12 * eps)).transpose(1, 2, 0)
    assert apart(state_jacobian(run.states[T], run.states[0]), expected) < 1e-7


@pytest.mark.parametrize("cell", CELLS)
def test_the_jacobian_is_the_product_of_one_step_jacobians(cell: str) -> None:
    run = Run(cell)
    product = np.eye(run.first.shape[-1])
    for t in range(T, 0, -1):
        product = product @ state_jacobian(run.states[t], run.states[t - 1])
        assert apart(state_jacobian(run.states[T], run.states[t - 1]), product) < 1e-12


def test_many_at_once_are_the_same_as_one_by_one_and_leave_no_gradient() -> None:
    run = Run("LSTM")
    several = state_jacobians(run.states[T], run.states)
    assert list(several) == list(run.states)
    for k, J in several.items():
        assert apart(J, run.truth(k, T)) < 1e-12 and J.shape == (B, 2 * H, 2 * H)
    assert all(p.grad is None for p in run.cell.parameters())


def test_part_of_a_state_by_another_part() -> None:
    run = Run("LSTM")
    (h, _), (_, c) = run.states[T], run.states[1]
    whole = run.truth(1, T)
    assert apart(state_jacobian(h, run.states[1]), whole[:, :H]) < 1e-12
    assert apart(state_jacobian(run.states[T], (c, run.states[1][0])), np.roll(whole, H, axis=2)) < 1e-12


# --------------------------------------------------------------------------------------------------------- closed forms
@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid", "relu"])
def test_one_step_of_an_rnn_is_diagonal_times_w(nonlinearity: str) -> None:
    run = Run("RNN", nonlinearity=nonlinearity)
    for t in range(1, T + 1):
        z = run.x[t - 1] @ run.p("U") + value(run.states[t - 1]) @ run.p("W") + run.p("b")
        slope = {"tanh": 1 / np.cosh(z)**2, "sigmoid": sigmoid(z) * sigmoid(-z), "relu": 1.0 * (z > 0)}[nonlinearity]
        expected = diagonal(slope) @ run.p("W").T
        assert apart(state_jacobian(run.states[t], run.states[t - 1]), expected) < 1e-12


def test_one_step_of_an_lstm_in_its_four_blocks() -> None:
    run = Run("LSTM")
    for t in range(1, T + 1):
        h, c = (part.data for part in run.states[t - 1])
        z = {g: run.x[t - 1] @ run.p(f"U_{g}") + h @ run.p(f"W_{g}") + run.p(f"b_{g}") for g in "fioc"}
        f, i, o, n = sigmoid(z["f"]), sigmoid(z["i"]), sigmoid(z["o"]), np.tanh(z["c"])
        tanh_c = np.tanh(f * c + i * n)
        by_c = diagonal(f)
        by_h = (diagonal(c * f * (1 - f)) @ run.p("W_f").T + diagonal(n * i * (1 - i)) @ run.p("W_i").T
                + diagonal(i * (1 - n**2)) @ run.p("W_c").T)
        through = diagonal(o * (1 - tanh_c**2))
        expected = np.block([[diagonal(tanh_c * o * (1 - o)) @ run.p("W_o").T + through @ by_h, through @ by_c],
                             [by_h, by_c]])
        assert apart(state_jacobian(run.states[t], run.states[t - 1]), expected) < 1e-12


@pytest.mark.parametrize("cell", [name for name in CELLS if name.startswith("GRU")])
def test_one_step_of_every_gru_is_equation_24(cell: str) -> None:
    run = Run(cell)
    _, reset, update = cell.split()

    def gate(g: str, h: Any, x: Any) -> Any:
        return sigmoid(x @ run.p(f"U_{g}") + h @ run.p(f"W_{g}") + run.p(f"b_{g}"))

    for t in range(1, T + 1):
        x, h = run.x[t - 1], value(run.states[t - 1])
        W_n = run.p("W_n").T
        seen = x @ run.p("U_n") + run.p("b_n")
        if reset == "None":
            n, K = np.tanh(seen + h @ W_n.T), W_n
        elif reset == "after":
            r, kept = gate("r", h, x), h @ W_n.T + run.p("b_hn")
            n, K = np.tanh(seen + r * kept), diagonal(r) @ W_n + diagonal(kept * r * (1 - r)) @ run.p("W_r").T
        else:
            r = gate("r", h, x)
            n = np.tanh(seen + (r * h) @ W_n.T)
            K = W_n @ (diagonal(r) + diagonal(h * r * (1 - r)) @ run.p("W_r").T)
        g = gate(update, h, x)
        if update == "z":
            expected = (diagonal(g) + diagonal((h - n) * g * (1 - g)) @ run.p("W_z").T
                        + diagonal((1 - g) * (1 - n**2)) @ K)
        else:
            expected = (diagonal(1 - g) + diagonal((n - h) * g * (1 - g)) @ run.p("W_u").T
                        + diagonal(g * (1 - n**2)) @ K)
        assert apart(state_jacobian(run.states[t], run.states[t - 1]), expected) < 1e-12


# -------------------------------------------------------------------------------------------------------- direct paths
def along_gates(run: Run, g: str, part: str = "h") -> np.ndarray:
    """Π of the gate, (B, H), from s_0 to s_T, in NumPy."""
    product = np.ones((B, H))
    for t in range(1, T + 1):
        h = value(run.states[t - 1])
        z = run.x[t - 1] @ run.p(f"U_{g}") + h[:, :H] @ run.p(f"W_{g}") + run.p(f"b_{g}")
        if hasattr(run.cell, f"p_{g}") and run.cell.peepholes:
            z = z + run.p(f"p_{g}") * h[:, H:]
        product *= 1 - sigmoid(z) if g == "u" else sigmoid(z)
    return product


@pytest.mark.parametrize("cell", ["LSTM", "LSTM with peepholes"])
def test_the_direct_path_of_an_lstm_is_the_product_of_forget_gates_and_nothing_else(cell: str) -> None:
    run = Run(cell)
    got = state_jacobian(run.states[T], run.states[0], direct=True)
    assert apart(got[:, H:, H:], diagonal(along_gates(run, "f"))) < 1e-12
    assert not got[:, :H].any() and not got[:, :, :H].any()


@pytest.mark.parametrize("cell", [name for name in CELLS if name.startswith("GRU")])
def test_the_direct_path_of_a_gru_is_the_product_of_what_keeps_the_state(cell: str) -> None:
    run = Run(cell)
    got = state_jacobian(run.states[T], run.states[0], direct=True)
    assert apart(got, diagonal(along_gates(run, cell[-1]))) < 1e-12


def test_an_rnn_has_no_direct_path_and_a_cell_of_ones_own_has_what_it_has() -> None:
    rnn, own = Run("RNN"), Run("own")
    assert not state_jacobian(rnn.states[T], rnn.states[T - 1], direct=True).any()
    assert (state_jacobian(rnn.states[T], rnn.states[T], direct=True) == np.eye(H)).all()
    got = state_jacobian(own.states[T], own.states[1], direct=True)
    expected = np.zeros((B, 2 * H, 2 * H))
    expected[:, H:, H:] = np.diag(own.p("k")**(T - 1))
    assert apart(got, expected) < 1e-12


def test_a_direct_path_may_divide_negate_slice_and_join_but_not_be_a_divisor() -> None:
    rng = np.random.default_rng(2)
    x, W = rng.normal(size=(3, B, 2)), rng.normal(size=(4, 2))
    s = first = Tensor(rng.normal(size=(B, 4)) + 3.0, requires_grad=True, name="s")
    for t in range(3):
        with scope(t=t + 1):
            a, b = s[:, :2], s[:, 2:]
            s = F.concat([-(a / 2.0) + x[t] / a, b * 0.5 + F.tanh(s @ W)], -1).named("s")
    expected = np.diag([-0.125, -0.125, 0.125, 0.125])
    assert apart(state_jacobian(s, first, direct=True), np.stack([expected] * B)) < 1e-15
    assert apart(state_jacobian(s, first), np.stack([expected] * B)) > 1e-3


@pytest.mark.parametrize("mixed", [lambda s, W: s @ W, lambda s, W: F.tanh(s), lambda s, W: F.softmax(s),
                                   lambda s, W: s.sum(-1, keepdims=True), lambda s, W: 1 / s, lambda s, W: s**2])
def test_what_mixes_or_bends_is_no_direct_path(mixed: Any) -> None:
    s = first = Tensor(np.random.default_rng(6).uniform(1, 2, (B, H)), requires_grad=True)
    for t in range(3):
        with scope(t=t + 1):
            s = s * 0.5 - mixed(s, np.eye(H))
    assert (state_jacobian(s, first, direct=True) == np.eye(H) / 8).all()
    assert apart(state_jacobian(s, first), np.stack([np.eye(H) / 8] * B)) > 1e-3


# ------------------------------------------------------------------------------------------- other graphs, other states
def test_a_learned_a_constant_and_a_default_first_state_all_have_a_jacobian() -> None:
    for initial in (0.0, 0.5, "learned"):
        cell = nn.GRUCell(D, H, initial=initial, rng=np.random.default_rng(0))
        _, last = nn.unroll(cell, np.random.default_rng(1).normal(size=(T, B, D)))
        found = states(last)
        product = np.eye(H)
        for t in range(T, 0, -1):
            product = product @ state_jacobian(found[t], found[t - 1])
        assert product.any() and apart(state_jacobian(last, found[0]), product) < 1e-12


def test_a_state_of_a_lower_layer_reaches_the_upper_one_and_later_states_only() -> None:
    rng = np.random.default_rng(0)
    net = nn.RNN(D, H, 2, rng=rng)
    x = rng.normal(size=(T, B, D))
    (low, high), hs = net.cells.values(), net.steps(x)[0]
    lower, upper = states(hs[-1], layer=0), states(hs[-1], layer=1)
    a, b = np.zeros((H, B, H), complex) + lower[2].data + 1j * STEP * np.eye(H)[:, None], upper[1].data
    b = np.tanh(a @ high.U.data + b @ high.W.data + high.b.data)
    for t in (3, 4):
        a = np.tanh(x[t - 1] @ low.U.data + a @ low.W.data + low.b.data)
        b = np.tanh(a @ high.U.data + b @ high.W.data + high.b.data)
    assert apart(state_jacobian(upper[4], lower[2]), b.imag.transpose(1, 2, 0) / STEP) < 1e-12
    assert not state_jacobian(upper[1], lower[2]).any() and not state_jacobian(lower[4], upper[1]).any()


def test_no_path_joins_the_two_directions_of_one_layer() -> None:
    net = nn.LSTM(D, H, bidirectional=True, rng=np.random.default_rng(0))
    output, _ = net(np.random.default_rng(1).normal(size=(T, B, D)))
    there, back = states(output, direction="forward"), states(output, direction="backward")
    assert list(back) == [5, 4, 3, 2, 1] and list(there) == [0, 1, 2, 3, 4]
    assert not state_jacobian(there[4], back[5]).any() and not state_jacobian(back[1], there[0]).any()
    assert state_jacobian(back[1], back[5]).any()


def test_a_detached_state_passes_nothing_on() -> None:
    cell = nn.LSTMCell(D, H, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(T, B, D))
    _, half = nn.unroll(cell, x[:2])
    _, last = nn.unroll(cell, x[2:], tuple(part.detach() for part in half), start=3)
    joint = F.concat([*half, *last], -1)
    assert not state_jacobian(last, half).any()
    assert state_jacobian(last, states(joint)[3]).any()


def test_a_loop_written_by_hand_with_names_and_steps_is_enough() -> None:
    rng = np.random.default_rng(3)
    W = Tensor(rng.normal(size=(H, H)), requires_grad=True)
    h = start = Tensor(rng.normal(size=(B, H)), name="h_0")
    for t in range(1, T + 1):
        with scope(t=t):
            h = F.tanh(h @ W).named("h")
    found = states(h)
    assert list(found) == [1, 2, 3, 4] and found[4] is h
    D_4 = 1 - h.data**2
    assert apart(state_jacobian(h, found[3]), diagonal(D_4) @ W.data.T) < 1e-12
    assert apart(state_jacobian(found[1], start), diagonal(1 - found[1].data**2) @ W.data.T) < 1e-12


def test_one_step_from_a_named_first_state_has_both_its_states() -> None:
    with scope(t=0):
        c, h = (Tensor(np.ones((B, H)), name=f"{name}_0") for name in "ch")
    k = Tensor(np.ones(H), requires_grad=True)
    with scope(t=1):
        later = F.tanh(h * k).named("h"), (c * k).named("c")
    assert states(F.concat(later)) == {0: (c, h), 1: later[::-1]}


def test_states_says_which_recurrences_there_are() -> None:
    net = nn.RNN(D, H, 2, rng=np.random.default_rng(0))
    output, _ = net(np.zeros((T, B, D)))
    with pytest.raises(ValueError, match=r"2 of 2 recurrences.*; layer=0, direction='forward'; layer=1"):
        states(output)
    with pytest.raises(ValueError, match="0 of 2 recurrences answer"):
        states(output, layer=7)


def test_what_has_no_jacobian_is_refused() -> None:
    run = Run("RNN")
    h = run.states[T]
    with pytest.raises(TypeError, match="expected a Tensor or a tuple of them, got ndarray"):
        state_jacobian(h, h.data)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"parts \(B, H\), got shapes \(5,\)"):
        state_jacobian(h[0], h)
    with pytest.raises(ValueError, match=r"2 rows, the earlier one the shapes \(3, 5\)"):
        state_jacobian(h, Tensor(np.zeros((3, H))))
    with pytest.raises(RuntimeError, match="nothing was recorded of h"):
        state_jacobian(Tensor(np.zeros((B, H)), name="h"), h)
    with no_grad(), pytest.raises(RuntimeError, match="no_grad"):
        state_jacobian(h, run.states[0])


# -------------------------------------------------------------------------------------------------- measures and bounds
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_measures_are_those_of_numpy_at_any_scale(scale: float) -> None:
    J = np.random.default_rng(0).normal(size=(3, 4, 5))
    assert apart(singular_values(scale * J) / scale, np.stack([np.linalg.svd(j)[1] for j in J])) < 1e-13
    assert apart(spectral_norm(scale * J) / scale, [np.linalg.norm(j, 2) for j in J]) < 1e-13
    nilpotent = np.triu(np.ones((3, 3)), 1)
    assert spectral_norm(nilpotent) > 1 and spectral_radius(nilpotent) == 0
    assert spectral_radius(np.array([[0.0, -2.0], [2.0, 0.0]])) == pytest.approx(2.0, rel=1e-15)


def test_what_is_0_or_not_finite_has_a_norm_that_says_so() -> None:
    J = np.stack([np.zeros((2, 2)), np.full((2, 2), np.inf), np.eye(2)])
    np.testing.assert_array_equal(spectral_norm(J), [0, np.nan, 1])


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_the_norm_of_an_rnn_stays_below_both_bounds(nonlinearity: str, scale: float) -> None:
    rng = np.random.default_rng(4)
    cell = nn.RNNCell(D, H, nonlinearity=nonlinearity, rng=rng)
    cell.W.data = rng.normal(0, scale, (H, H))
    hs, last = nn.unroll(cell, rng.normal(size=(12, B, D)), rng.normal(size=(B, H)))
    tight, loose = bounds(cell.W.data, np.stack([h.data for h in hs]), nonlinearity)
    norms, product = decay(last).norms, np.ones(B)
    gamma = {"tanh": 1, "sigmoid": 0.25, "relu": 1}[nonlinearity]
    for lag in range(1, 13):
        J = state_jacobian(hs[12 - lag], states(last)[12 - lag])
        product *= [np.linalg.norm(j, 2) for j in J]
        assert apart(tight[lag - 1], product) < 1e-12
        assert loose[lag - 1] == pytest.approx((gamma * np.linalg.norm(cell.W.data, 2))**lag, rel=1e-12)
    slack = 1 + 1e-12
    assert (norms <= tight * slack).all() and (tight <= loose[:, None] * slack).all()
    assert (norms[1:] < 0.99 * tight[1:]).any() and (tight < 0.99 * loose[:, None]).any() | (nonlinearity == "relu")


def test_an_unknown_nonlinearity_has_no_bound() -> None:
    with pytest.raises(ValueError, match="'softplus': expected one of tanh, sigmoid, relu"):
        bounds(np.eye(2), np.zeros((3, 1, 2)), "softplus")


def scalar_rnn(w: float, start: float, steps: int = 20) -> Any:
    cell = nn.RNNCell(1, 1, bias=False, rng=np.random.default_rng(0))
    cell.W.data = [[w]]
    return decay(nn.unroll(cell, np.zeros((steps, 1, 1)), np.full((1, 1), start))[1])


def test_w_of_3_explodes_from_0_and_vanishes_from_a_half() -> None:
    explodes, vanishes = scalar_rnn(3.0, 0.0), scalar_rnn(3.0, 0.5)
    assert explodes.norms[-1, 0] == pytest.approx(3.0**20, rel=1e-13)
    assert vanishes.norms[-1, 0] == pytest.approx(1.5e-29, rel=0.05)
    h, product = 0.5, 1.0
    for _ in range(20):
        h = np.tanh(3 * h)
        product *= 3 * (1 - h * h)
    assert vanishes.norms[-1, 0] == pytest.approx(product, rel=1e-11)
    assert all(prove_decay(explodes)) and all(prove_decay(vanishes))
    assert [w.route.split(",")[0] for w in prove_decay(explodes)][:2] == ["product of one-step Jacobians (18)",
                                                                          "complex step"]
    # differences see nothing of what has vanished, and are worthless where it bends: only lags of honest size are told
    assert all(w.tolerance < 1e-6 for w in prove_decay(vanishes) if "differences" in w.route)


@pytest.mark.parametrize(("bias", "left"), [(1, 1.6e-7), (5, 0.71)])
def test_fifty_forget_gates_keep_what_their_bias_says(bias: int, left: float) -> None:
    cell = nn.LSTMCell(D, H, rng=np.random.default_rng(0))
    for p in cell.parameters():
        p.data = np.zeros(p.shape)
    cell.b_f.data = np.full(H, float(bias))
    d = decay(nn.unroll(cell, np.zeros((50, B, D)))[1])
    assert d.direct_norms[-1] == pytest.approx([(1 / (1 + np.exp(-bias)))**50] * B, rel=1e-12)
    assert d.direct_norms[-1, 0] == pytest.approx(left, rel=0.02)


# ------------------------------------------------------------------------------------------------------- by lag, proved
@pytest.mark.parametrize("cell", CELLS)
def test_decay_has_every_lag_newest_first_and_is_proved(cell: str) -> None:
    run = Run(cell)
    d = decay(run.hs[-1] if len(run.cell.states) == 1 else run.last)
    for lag in range(1, T + 1):
        assert apart(d.jacobians[lag - 1], run.truth(T - lag, T)) < 1e-12
        assert apart(d.direct[lag - 1], state_jacobian(run.states[T], run.states[T - lag], direct=True)) < 1e-13
        for b in range(B):
            assert d.norms[lag - 1, b] == pytest.approx(np.linalg.norm(d.jacobians[lag - 1, b], 2), rel=1e-13)
            gates = d.jacobians[lag - 1, b] - d.direct[lag - 1, b]
            assert d.gate_norms[lag - 1, b] == pytest.approx(np.linalg.norm(gates, 2), rel=1e-13)
    found = prove_decay(d)
    assert [w.tolerance < 1e-11 for w in found] == [True, True, False] and all(found)
    assert found[2].route.startswith("differences") and found[2].error < 1e-8


def test_one_steps_are_one_step_jacobians_in_groups_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("LSTM with peepholes")
    for together in (1, 3, 16):
        monkeypatch.setattr(jacobian, "TOGETHER", together)
        found = list(one_steps(run.states))
        assert len(found) == T
        for J, t in zip(found, range(T, 0, -1)):
            assert apart(J, run.truth(t - 1, t)) < 1e-12


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU after z"])
def test_a_rule_that_is_wrong_by_a_millionth_is_noticed_by_all_routes(cell: str,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(cell)
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: (g - g * y * y) * (1 + 1e-6),))
    assert [bool(w) for w in prove_decay(decay(run.last))] == [False, False, False]


def test_a_step_that_reads_two_states_back_is_not_a_product_of_single_steps() -> None:
    rng = np.random.default_rng(5)
    W = Tensor(rng.normal(size=(H, H)), requires_grad=True)
    before, h = (Tensor(rng.normal(size=(B, H)), name="h") for _ in range(2))
    for t in range(1, 7):
        with scope(t=t):
            before, h = h, F.tanh(h @ W + before * 0.5).named("h")
    product, through, differences = prove_decay(decay(h))
    assert not product and through and differences


def test_a_number_that_is_no_number_proves_nothing() -> None:
    d = scalar_rnn(0.5, 0.5, 4)
    d.jacobians[1] = np.nan
    assert not any(prove_decay(d))


def test_two_hundred_steps_of_three_rows_and_norms_far_below_what_squares_can_hold() -> None:
    cell = nn.RNNCell(D, H, nonlinearity="sigmoid", rng=np.random.default_rng(0))
    hs, last = nn.unroll(cell, np.random.default_rng(1).normal(size=(200, 3, D)))
    d = decay(last)
    assert d.jacobians.shape == (200, 3, H, H) and (np.diff(d.norms, axis=0) < 0).all()
    assert 0 < d.norms[-1].max() < 1e-120
    assert all(prove_decay(d))
    assert (d.norms <= bounds(cell.W.data, np.stack([h.data for h in hs]), "sigmoid")[0] * (1 + 1e-12)).all()


def test_the_table_shows_the_lags_and_the_numbers_of_the_largest_row() -> None:
    assert [shown_lags(n) for n in (1, 2, 7, 60)] == [[1], [1, 2], [1, 2, 5, 7], [1, 2, 5, 10, 20, 50, 60]]
    d = scalar_rnn(3.0, 0.0, 5)
    lines = [line.split() for line in repr(d).splitlines()]
    assert ["5", "243", "3.000", "243", "2.4e+02", "0", "243"] in lines
    assert "T = 5" in repr(d) and "in the row of the batch" not in repr(d) and "smallest σ" in d._repr_html_()
    assert "in the row of the batch where it is largest" in repr(decay(Run("RNN").last))
