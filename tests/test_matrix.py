"""The matrix A[t,k] of many losses (19): one sweep of stacked seeds, or a dense one where stacks would not do. Both
against the definition, in NumPy alone: one copy of W for each step, moved by the complex step.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from bptt_cells import NETS, Net, term_matrix
from bptt_models import EXACT, Model, PlainLoop, apart

from tinygrad_rnn import Tensor, nn, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import Terms, matrix, terms
from tinygrad_rnn.ops import Outer

Run = Callable[[list[Any]], list[Any]]
FAST = ["RNN, forward", "LSTM, forward", "LSTM with peepholes, backward", "GRU after z, forward",
        "GRU before u, backward", "RNN, both", "LSTM, both", "RNN, both, sum of two projections", "RNN, stack",
        "LSTM, stack", "GRU, stack", "three layers", "RNN, masked", "LSTM, masked", "LSTM, backward, masked",
        "GRU, both, masked", "own, both"]
DENSE = ["RNN, stack, both", "LSTM, stack, both", "RNN, stack, both, masked"]


def no_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    def dense(*_: Any) -> Any:
        raise AssertionError("swept densely")
    monkeypatch.setattr(matrix, "by_step", dense)


def is_dense(losses: list[Tensor], W: Tensor, monkeypatch: pytest.MonkeyPatch) -> bool:
    with monkeypatch.context() as patch:
        no_dense(patch)
        try:
            terms(losses, W)
        except AssertionError:
            return True
    return False


def is_matrix(a: Terms, A: np.ndarray, tolerance: float = EXACT) -> None:
    """All that `terms` tells, against A (T, K, *W.shape), k = 0 … K - 1; what it has no step for is 0."""
    T, K = A.shape[:2]
    times = [a.time(place) for place in range(T)]
    used, total = list(a.steps), A.sum((0, 1))
    assert not np.delete(A, used, axis=1).any()
    ours, A = A.reshape(T, K, -1), A[:, used]
    norms = np.array([[np.linalg.norm(ours[t, k]) for k in used] for t in range(T)])
    assert apart(a.norms, norms) < tolerance
    assert apart(a.arrays, A) < tolerance and apart(a.rows, A.sum(1)) < tolerance
    assert apart(a.columns, A.sum(0)) < tolerance and apart(a.total, total) < tolerance
    products = np.tensordot(A, total, total.ndim) if total.ndim else A * total
    size = norms * np.linalg.norm(total.ravel())
    large = norms > 1e-6 * norms.max()  # of smaller terms the expected cosine itself has lost digits
    assert np.abs((a.cosines - products / np.where(size > 0, size, 1)) * large).max() < 1e-9
    assert not a.cosines[norms == 0].any()
    chosen = [lambda t, k: t - k < 2, lambda t, k: (t + 2 * k) % 3 == 0, lambda t, k: False, lambda t, k: t == k]
    for part, inside in zip(a.parts(*chosen), chosen):
        kept = np.array([[inside(t, k) for k in used] for t in times])
        assert np.abs(part - A[kept].sum(0)).max() <= tolerance * np.abs(A).max()


# ------------------------------------------------------------------------------------------------- cells, lanes, masks
@pytest.mark.parametrize("label", FAST)
def test_of_one_recurrence_a_step_every_number_is_the_definition_s_and_no_dense_seed_is_carried(
        label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS[label]
    no_dense(monkeypatch)
    for name, W in net.parameters.items():
        if name != "x":  # cut into steps before them
            is_matrix(terms(net.losses, W), net.A(name))


@pytest.mark.parametrize("label", DENSE)
def test_below_both_directions_seeds_meet_and_the_dense_sweep_gives_the_definition_s_numbers(
        label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS[label]
    for name, W in net.parameters.items():
        lane = net.lane_of(name)
        if name != "x":
            assert is_dense(net.losses, W, monkeypatch) == (lane is not None and lane[0] == 0), name
            is_matrix(terms(net.losses, W), net.A(name))


def test_the_input_that_is_cut_into_steps_before_them_is_swept_densely() -> None:
    net = NETS["RNN, both"]
    is_matrix(terms(net.losses, net.parameters["x"]), net.A("x"))


@pytest.mark.parametrize("label", ["LSTM, forward", "GRU, both, masked", "RNN, stack", "RNN, stack, both", "RNN, both"])
@pytest.mark.parametrize("places", [[3, 0, 2, 1], [2], [1, 3], [0], [2, 0]])
def test_losses_in_any_order_and_at_some_steps_keep_their_rows(label: str, places: list[int]) -> None:
    net = NETS[label]
    for name in [n for n in net.parameters if n.startswith(("W", "b", "h_0", "V"))]:
        A = net.A(name)[places]
        if A.any():
            is_matrix(terms([net.losses[i] for i in places], net.parameters[name]), A)


@pytest.mark.parametrize("at", [None, 4])
def test_a_loss_that_is_made_of_others_has_the_sum_of_their_rows(at: int | None) -> None:
    net = NETS["LSTM, forward"]
    with scope(t=at):
        both = net.losses[1] * 2 + net.losses[3]
    for name in ("W_f", "U_o", "b_c", "c_0", "V"):
        A = net.A(name)
        losses, rows = [net.losses[1], both], np.stack([A[1], 2 * A[1] + A[3]])
        a = terms(losses, net.parameters[name])
        assert apart(a.arrays, rows[:, a.steps]) < EXACT and apart(a.rows, rows.sum(1)) < EXACT
        assert apart(a.norms, [[np.linalg.norm(E[k]) for k in a.steps] for E in rows]) < EXACT


@pytest.mark.parametrize(("B", "H"), [(1, 4), (2, 5), (7, 3)])
def test_a_batch_smaller_or_larger_than_the_state_has_the_same_norms(B: int, H: int) -> None:
    net = Net("GRU after z", both=True, T=3, B=B, D=2, H=H, seed=101)
    for name in ("W_z", "U_n'", "b_r", "V", "h_0"):
        is_matrix(terms(net.losses, net.parameters[name]), net.A(name))


# -------------------------------------------------------------------------------------------------- loops by hand
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("before", ["nothing", "mask", "mask, tanh"])
def test_a_loop_by_hand_is_fast_unless_w_is_transformed_before_it(
        before: str, twice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = PlainLoop(before=before, twice=twice)
    p, _, losses = loop.build()
    assert is_dense(losses, p["W"], monkeypatch) == (before != "nothing")
    A = np.zeros((4, 5, 4, 4))
    A[:, 1:] = loop.A("W")
    is_matrix(terms(losses, p["W"]), A)


def by_hand(kind: str, T: int = 5) -> tuple[list[Tensor], Tensor, np.ndarray]:
    """Losses, W, and A of a loop s_t = tanh(x_t + s_{t-1} W …) whose losses or steps reach further than one step."""
    rng = np.random.default_rng(11)
    B, H = 2, 3
    x, v, W = rng.normal(size=(T, B, H)), rng.normal(size=(B, H)), rng.normal(0, 0.7, (H, H))
    h_0 = rng.normal(size=(B, H))

    def run(copies: list[Any], tanh: Any, at: Any) -> list[Any]:
        s, losses = [h_0, h_0], []
        if kind == "two sequences":
            for k in range(1, T + 1):
                with at("encoder", k):
                    s.append(tanh(s[-1] @ copies[k] + x[T - k]))
        for k in range(1, T + 1):
            with at("decoder", k):
                z = s[-1] @ copies[k] + x[k - 1]
                s.append(tanh(z + s[-2] @ copies[k] * 0.5 if kind == "second order" else z))
                end = s[-1] * s[-2] if kind == "loss of two steps" else s[-1]
                if kind == "loss of two steps, and of three at the end" and k == T:
                    end = s[-1] * s[-2] + s[-3]
                if kind == "attention at the end" and k == T:
                    end = sum(part * part for part in s[2:])
                if kind != "attention at the end" or k == T:
                    losses.append((end * v).sum((-1, -2)))
        return losses if kind != "second order" else losses[::2]



    leaf = Tensor(W, requires_grad=True, name="W")
    losses = run([leaf] * (T + 1), F.tanh, lambda lane, k: scope(t=k, sequence=lane))
    A = term_matrix(lambda copies: run(copies, np.tanh, lambda lane, k: nullcontext()), W, T + 1)
    return losses, leaf, A


@pytest.mark.parametrize(("kind", "dense"), [
    ("plain", False), ("two sequences", True), ("loss of two steps", False),
    ("loss of two steps, and of three at the end", True), ("attention at the end", True), ("second order", True)])
def test_a_term_that_would_come_in_two_pieces_is_whole(kind: str, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, W, A = by_hand(kind)
    assert is_dense(losses, W, monkeypatch) == dense
    is_matrix(terms(losses, W), A)


def test_an_encoder_and_a_decoder_with_one_cell_have_whole_terms() -> None:
    rng = np.random.default_rng(12)
    T, B, D, H = 3, 2, 3, 4
    cell = nn.RNNCell(D, H, initial=0.3, rng=rng)
    x, y, v = rng.normal(size=(T, B, D)), rng.normal(size=(T, B, D)), rng.normal(size=H)
    with scope(sequence="encoder"):
        _, last = nn.unroll(cell, x)
    losses = []
    for t, h in enumerate(nn.unroll(cell, y, last)[0], 1):
        with scope(t=t):
            losses.append((h @ v).sum())
    U, b = (np.asarray(q.data) for q in (cell.U, cell.b) if q is not None)

    def run(copies: list[Any]) -> list[Any]:
        h, found = np.full((B, H), 0.3), []
        for there, xs in ((False, x), (True, y)):
            for k in range(1, T + 1):
                h = np.tanh(xs[k - 1] @ U + h @ copies[k] + b)
                found += [(h @ v).sum(-1)] if there else []
        return found

    is_matrix(terms(losses, cell.W), term_matrix(run, cell.W.data, T + 1))


def test_a_loss_outside_the_steps_counts_by_its_place_from_1() -> None:
    net = NETS["RNN, forward"]
    losses, A = [net.losses[0] * net.losses[1], net.losses[2] + net.losses[3]], net.A("W")
    a = terms(losses, net.parameters["W"])
    assert [a.time(0), a.time(1)] == [1, 2]
    rows = np.stack([A[0] * net.losses[1].item() + A[1] * net.losses[0].item(), A[2] + A[3]])
    assert apart(a.parts(lambda t, k: t == k)[0], rows[0, 1] + rows[1, 2]) < EXACT


def test_a_scalar_weight_and_a_scalar_state_have_the_powers_of_w(monkeypatch: pytest.MonkeyPatch) -> None:
    w, s, losses = Tensor(0.7, requires_grad=True, name="w"), Tensor(1.3), []
    for t in range(1, 6):
        with scope(t=t):
            s = s * w
            losses.append(s)
    no_dense(monkeypatch)  # each state is a loss, and what the next is made of, over a recurrence edge alone
    A = np.array([[1.3 * 0.7 ** (t - 1) if 1 <= k <= t else 0.0 for k in range(6)] for t in range(1, 6)])
    is_matrix(terms(losses, w), A)


# --------------------------------------------------------------------------------- ids, small numbers, small precision
@pytest.mark.parametrize("name", ["U", "W", "b", "V", "c", "h_0"])
def test_ids_pick_rows_of_u_and_every_number_is_the_definition_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m = Model(ids=True, D=6, seed=9)
    no_dense(monkeypatch)
    A = m.A(name)
    where = 0 if name == "h_0" else 1
    is_matrix(terms(m.losses, m.parameters[name]), np.pad(A, [(0, 0), (where, 1)] + [(0, 0)] * (A.ndim - 2)))


def test_an_embedding_that_the_steps_read_by_ids_has_whole_terms() -> None:
    rng = np.random.default_rng(13)
    T, B, H, V = 4, 3, 3, 5
    table = Tensor(rng.normal(size=(V, H)), requires_grad=True, name="table")
    W, v = rng.normal(size=(H, H)), rng.normal(size=H)
    ids, h_0 = rng.integers(0, V, (T, B)), rng.normal(size=(B, H))
    h, losses = Tensor(h_0), []
    for t in range(1, T + 1):
        with scope(t=t):
            h = F.tanh(table[ids[t - 1]] + h @ W)
            losses.append((h @ v).sum())

    def run(copies: list[Any]) -> list[Any]:
        h, found = h_0, []
        for k in range(1, T + 1):
            h = np.tanh(copies[k][..., ids[k - 1], :] + h @ W)
            found.append((h @ v).sum(-1))
        return found

    is_matrix(terms(losses, table), term_matrix(run, table.data, T + 1))


@pytest.mark.parametrize("small", [1e-200, 1e-290, 1e200])
def test_norms_and_cosines_of_very_small_and_large_terms_are_those_of_ordinary_ones(small: float) -> None:
    ordinary, other = Model(seed=14), Model(seed=14, weight=small)
    for name in ("U", "W", "b", "h_0", "V"):
        a, b = (terms(m.losses, m.parameters[name]) for m in (ordinary, other))
        assert apart(b.norms / small, a.norms) < EXACT, name
        assert apart(b.cosines, a.cosines) < 1e-10, name
        assert apart(b.parts(lambda t, k: t - k < 2) / small, a.parts(lambda t, k: t - k < 2)) < EXACT


@pytest.mark.parametrize(("S", "B", "D", "H"), [(4, 1, 3, 2), (4, 2, 5, 3), (3, 3, 3, 4), (2, 6, 3, 4), (1, 1, 1, 1)])
@pytest.mark.parametrize(("a_size", "g_size"), [(1, 1), (1e-200, 1e-100), (1e150, 1e-290), (1e-170, 1e200),
                                                (1e160, 1e30)])
def test_norms_sums_and_products_of_factors_are_those_of_what_they_multiply_out_to(
        S: int, B: int, D: int, H: int, a_size: float, g_size: float) -> None:
    rng = np.random.default_rng(15)
    a, g = rng.normal(size=(B, D)), rng.normal(size=(S, B, H))
    g[0] = 0 if S > 1 else g[0]
    whole, u = np.stack([a.T @ part for part in g]), rng.normal(size=(D, H))
    d, both = Outer(a * a_size, g * g_size), a_size * g_size
    if both < 1e-300:
        both, d = 1e-290, Outer(a * 1e-200, g * 1e-90)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = matrix.sizes(d)
    assert apart(sizes / both, [np.linalg.norm(part) for part in whole]) < EXACT
    chosen = np.arange(S) % 2 == S % 2
    assert apart(matrix.summed(d) / both, whole.sum(0)) < EXACT
    assert apart(matrix.summed(d, chosen) / both, whole[chosen].sum(0)) < EXACT
    assert apart(matrix.along(d, u) / both, (whole * u).sum((1, 2))) < EXACT


def test_rows_of_a_batch_that_cancel_leave_no_norm_beyond_rounding() -> None:
    rng = np.random.default_rng(16)
    a, g = np.repeat(rng.normal(size=(1, 6)), 2, axis=0), rng.normal(size=(5, 1, 7))
    d = Outer(a, np.concatenate([g, -g * (1 - 1e-6)], axis=1))
    assert apart(matrix.sizes(d), [np.linalg.norm(part) for part in np.asarray(d)]) < 1e-9


def test_float32_gives_the_matrix_of_float64_to_its_own_precision() -> None:
    rng = np.random.default_rng(17)
    x, v = rng.normal(size=(4, 2, 3)), rng.normal(size=4)
    found = []
    for dtype in (np.float64, np.float32):
        W = Tensor(np.random.default_rng(1).normal(0, 0.5, (4, 4)).astype(dtype), requires_grad=True)
        U = Tensor(np.random.default_rng(2).normal(0, 0.5, (3, 4)).astype(dtype))
        h, losses = Tensor(np.full((2, 4), 0.3, dtype)), []
        for t in range(1, 5):
            with scope(t=t):
                h = F.tanh(Tensor(x[t - 1].astype(dtype)) @ U + h @ W)
                losses.append((h @ Tensor(v.astype(dtype))).sum())
        assert losses[0].dtype == dtype
        found.append(terms(losses, W))
    exact, rounded = found
    for part in ("norms", "columns", "rows", "arrays", "cosines"):
        assert 0 < apart(getattr(rounded, part), getattr(exact, part)) < 1e-5, part


@pytest.mark.parametrize("B", [1, 3, 6])
def test_200_steps_are_the_matrix_of_the_recursion_in_numpy(B: int, monkeypatch: pytest.MonkeyPatch) -> None:
    T, H = 200, 4
    m = Model(T=T, B=B, H=H, seed=18)
    no_dense(monkeypatch)
    a = {name: terms(m.losses, m.parameters[name]) for name in ("W", "b", "h_0")}
    h, W = m.forward(), m.arrays["W"]
    norms = {"W": np.zeros((T, T)), "b": np.zeros((T, T)), "h_0": np.zeros((T, 1))}
    columns = np.zeros((T, H, H))
    for t in range(1, T + 1):
        delta = m.dE_ds(t)
        for k in range(t, 0, -1):
            delta = delta * m.slope(h[k])
            term = h[k - 1].T @ delta
            norms["W"][t - 1, k - 1], norms["b"][t - 1, k - 1] = np.linalg.norm(term), np.linalg.norm(delta.sum(0))
            columns[k - 1] += term
            delta = delta @ W.T
        norms["h_0"][t - 1, 0] = np.linalg.norm(delta)
    for name, expected in norms.items():
        large = expected > 1e-140  # NumPy's own norm squares
        assert np.abs(a[name].norms[large] / expected[large] - 1).max() < 1e-9, name  # each by its own size
        assert apart(a[name].norms, expected) < EXACT
    assert apart(a["W"].columns, columns) < EXACT
