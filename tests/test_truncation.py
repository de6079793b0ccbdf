"""Truncated BPTT: chunked against NumPy whose states are held between chunks, sliding against bands of A (19); who
notices what is wrong with either.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from bptt_cells import NETS, Net, term_matrix
from bptt_models import EXACT, MODELS, Model, PlainLoop, apart, wrong_rule

from tinygrad_rnn import Tensor, nn, ops, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import explain, matrix, prove_truncation, truncation

LABELS = ["RNN, forward", "LSTM, forward", "GRU after z, forward", "LSTM with peepholes, backward", "RNN, both",
          "LSTM, both, from 0", "RNN, stack", "LSTM, stack", "RNN, stack, both", "GRU, stack, both", "RNN, masked",
          "LSTM, backward, masked", "GRU, both, masked", "RNN, stack, both, masked"]


class Between:
    """Held or not, as `Net.run` asks step by step, lane by lane: the state is a constant where a chunk begins."""

    def __init__(self, net: Net, window: int) -> None:
        T = net.T
        self.answers = iter([(direction == "forward" and k > 1 and (k - 1) % window == 0)
                             or (direction == "backward" and k < T and k % window == 0)
                             for _, direction, _ in net.lanes()
                             for k in (range(1, T + 1) if direction == "forward" else range(T, 0, -1))])

    def __bool__(self) -> bool:
        return next(self.answers)


@cache
def expected_chunked(label: str, name: str, window: int) -> np.ndarray:
    found: np.ndarray = rows_chunked(label, name, window).sum(0)
    return found


def rows_chunked(label: str, name: str, window: int) -> np.ndarray:
    """Of each E_t."""
    net = NETS[label]
    return term_matrix(lambda copies: net.run({name: copies}, Between(net, window)),  # type: ignore[arg-type]
                       net.parameters[name].data, net.T + 2).sum(1)


def band(A: np.ndarray, window: int) -> np.ndarray:
    t, k = np.arange(1, A.shape[0] + 1)[:, None], np.arange(A.shape[1])
    found: np.ndarray = A[abs(t - k) < window].sum(0)
    return found


def agree(ours: np.ndarray, expected: np.ndarray, size: float) -> bool:
    return bool(np.abs(ours - expected).max(initial=0) <= EXACT * size)


def some(net: Net) -> list[str]:
    return [n for n in net.parameters if n != "x"][::1 if len(net.parameters) < 20 else 5]


@pytest.mark.parametrize("label", LABELS)
def test_both_truncations_of_every_model_are_those_of_numpy_and_are_proved(label: str) -> None:
    net = NETS[label]
    windows = [1, 2, 3, net.T, net.T + 1, 50]
    for name in some(net):
        A, W = net.A(name), net.parameters[name]
        size = np.abs(A).max()
        found = truncation(net.losses, W, windows)
        for window, chunked, sliding in zip(windows, found.chunked, found.sliding):
            assert agree(chunked, expected_chunked(label, name, window), size), (name, window, "chunked")
            assert agree(sliding, band(A, window), size), (name, window, "sliding")
            if window >= net.T:
                assert agree(chunked, A.sum((0, 1)), size), (name, window)
            if window > net.T:  # at τ = T a first state is one use too far
                assert agree(sliding, A.sum((0, 1)), size), (name, window)
    assert prove_truncation(truncation(net.losses, net.parameters[some(net)[1]], [1, 2, 9]))


def test_the_inputs_that_are_cut_into_steps_before_them_are_truncated_and_proved() -> None:
    net = NETS["RNN, both"]
    found, A = truncation(net.losses, net.parameters["x"], [1, 2]), net.A("x")
    for i, window in enumerate((1, 2)):
        assert apart(found.sliding[i], band(A, window)) < EXACT
        assert apart(found.chunked[i], expected_chunked("RNN, both", "x", window)) < EXACT
    assert prove_truncation(found)


@pytest.mark.parametrize("label", ["LSTM, forward", "RNN, both", "GRU, both, masked", "RNN, stack"])
def test_a_window_of_one_step_leaves_the_explicit_parts(label: str) -> None:
    net = NETS[label]
    for name in [n for n in net.parameters if n != "x" and "_0" not in n]:
        W = net.parameters[name]
        explicit = sum(explain(E, W).explicit for E in net.losses)
        found = truncation(net.losses, W, [1])
        assert apart(found.chunked[0], explicit) < EXACT and apart(found.sliding[0], explicit) < EXACT, name


@pytest.mark.parametrize("label", MODELS)
def test_every_parameter_of_the_rnn_is_proved(label: str) -> None:
    m = MODELS[label]
    for name in m.names:
        found = truncation(m.losses, m.parameters[name], [1, 2])
        assert apart(found.terms.total, m.A(name).sum((0, 1))) < EXACT
        assert prove_truncation(found), name


@pytest.mark.parametrize("before", ["nothing", "mask, tanh"])
def test_a_loop_by_hand_is_truncated_also_where_w_is_transformed_before_it(before: str) -> None:
    loop = PlainLoop(before=before, twice=True)
    p, _, losses = loop.build()
    A, found = loop.A("W"), truncation(losses, p["W"], [1, 2, 4])
    t, k = np.arange(1, 5)[:, None], np.arange(1, 5)
    for i, window in enumerate((1, 2, 4)):
        assert apart(found.chunked[i], A[(t - 1) // window == (k - 1) // window].sum(0)) < EXACT
        assert apart(found.sliding[i], A[abs(t - k) < window].sum(0)) < EXACT
    assert prove_truncation(found)


@pytest.mark.parametrize("label", ["LSTM with peepholes, backward", "RNN, both"])
def test_losses_at_some_steps_alone_cut_a_backward_direction_at_the_same_edges(label: str) -> None:
    net, chosen = NETS[label], [0, 1]
    for name in [n for n in net.parameters if net.lane_of(n) == (0, "backward")]:
        W = net.parameters[name]
        found = truncation([net.losses[i] for i in chosen], W, [1, 2, 3])
        for window, chunked in zip((1, 2, 3), found.chunked):
            expected = rows_chunked(label, name, window)[chosen].sum(0)
            assert agree(chunked, expected, np.abs(net.A(name)).max()), (name, window)


def test_a_backward_loop_by_hand_whose_first_state_is_made_outside_is_cut_between_chunks() -> None:
    w, s, losses = Tensor(0.7, requires_grad=True, name="w"), Tensor(1.3), []
    for t in range(4, 0, -1):
        with scope(t=t):
            s = s * w
            losses.append((s * 1.0).named("E"))
    kept = [sum((τ - (t - 1) % τ) * 1.3 * 0.7 ** (4 - t) for t in range(1, 5)) for τ in (1, 2, 4)]
    assert apart(truncation(losses, w, [1, 2, 4]).chunked, kept) < EXACT


def test_a_scalar_weight_keeps_the_powers_of_w_that_are_near() -> None:
    w, s, losses = Tensor(0.7, requires_grad=True, name="w"), Tensor(1.3), []
    for t in range(1, 6):
        with scope(t=t):
            s = s * w
            losses.append(s)
    found = truncation(losses, w, [1, 2, 5])
    terms = [1.3 * 0.7 ** (t - 1) for t in range(1, 6)]  # each use gives E_t this much
    assert apart(found.sliding, [sum(min(t, τ) * term for t, term in enumerate(terms, 1)) for τ in (1, 2, 5)]) < EXACT
    kept = [sum(((t - 1) % τ + 1) * term for t, term in enumerate(terms, 1)) for τ in (1, 2, 5)]
    assert apart(found.chunked, kept) < EXACT
    assert prove_truncation(found)


def test_100_steps_are_truncated_as_numpy_does_and_proved() -> None:
    T, H = 100, 3
    m = Model(T=T, B=2, D=2, H=H, seed=31)
    windows = [1, 7, 10, 64, 100]
    found = truncation(m.losses, m.parameters["W"], windows)
    h, chunked, sliding = m.forward(), np.zeros((5, H, H)), np.zeros((5, H, H))
    for t in range(1, T + 1):
        delta = m.dE_ds(t)
        for k in range(t, 0, -1):
            delta = delta * m.slope(h[k])
            term = h[k - 1].T @ delta
            for i, window in enumerate(windows):
                sliding[i] += term * (k > t - window)
                chunked[i] += term * (k > (t - 1) // window * window)
            delta = delta @ m.arrays["W"].T
    assert apart(found.chunked, chunked) < EXACT and apart(found.sliding, sliding) < EXACT
    assert prove_truncation(truncation(m.losses, m.parameters["W"], [7]))


# --------------------------------------------------------------------------------------------------- what is noticed
def noticed(found: Any) -> set[str]:
    proof = prove_truncation(found)
    wrong = {w.part.split(", τ")[0] for w in proof.witnesses if not w}
    assert bool(proof) == (not wrong)
    return wrong


@pytest.mark.parametrize("label", ["LSTM, forward", "GRU, both, masked", "RNN, stack, both"])
@pytest.mark.parametrize("kind", ["chunked", "sliding"])
def test_an_element_that_is_off_and_a_window_that_is_off_by_one_are_noticed(label: str, kind: str) -> None:
    net = NETS[label]
    W = next(p for n, p in net.parameters.items() if n.startswith("W"))
    right = truncation(net.losses, W, [2])
    assert not noticed(right)
    off = getattr(right, kind).copy()
    off[0].flat[np.abs(off[0]).argmax()] *= 1 + 1e-6
    assert noticed(replace(right, **{kind: off})) == {kind}
    for window in (1, 3):
        other = getattr(truncation(net.losses, W, [window]), kind)
        assert noticed(replace(right, **{kind: other})) == {kind}, window
    other = right.sliding if kind == "chunked" else right.chunked
    assert noticed(replace(right, **{kind: other})) == {kind}


@pytest.mark.parametrize("op", ["TANH", "SIGMOID", "MUL"])
def test_a_rule_that_is_off_by_1e_6_is_noticed_in_both(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS["LSTM, both"]
    wrong_rule(monkeypatch, getattr(ops, op), 0)
    found = truncation(net.losses, net.parameters["W_f"], [2])
    assert noticed(found) == {"chunked", "sliding", "every A[t,k]"}


@pytest.mark.parametrize("label", ["RNN, forward", "LSTM, both", "GRU, both, masked"])
def test_every_term_and_every_norm_of_the_matrix_is_proved_one_by_one(label: str,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS[label]
    W = next(p for n, p in net.parameters.items() if n.startswith("W"))
    right = truncation(net.losses, W, [net.T])
    assert not noticed(right)
    for place in zip(*np.nonzero(right.terms.norms)):  # in exchange for another, or off by 1e-9
        norms = right.terms.norms.copy()
        norms[place] *= 1 + 1e-9
        assert noticed(replace(right, terms=replace(right.terms, norms=norms))) == {"every ‖A[t,k]‖"}

    def moved(losses: Any, parameter: Tensor) -> Any:  # a part of the newest term goes to the use before it
        *found, (k, places, d) = matrix.pieces(losses, parameter)
        j, its, other = next((j, *piece[1:]) for j, piece in enumerate(found)
                             if piece[0] != k and set(places) & set(piece[1]))
        place = next(iter(set(places) & set(its)))
        d, other = np.array(d), np.array(other)
        d[places.index(place)] -= 1e-9 * (part := d[places.index(place)].copy())
        other[its.index(place)] += 1e-9 * part
        return iter([*found[:j], (found[j][0], its, other), *found[j + 1:], (k, places, d)])

    monkeypatch.setattr(sys.modules[truncation.__module__], "pieces", moved)
    assert "every A[t,k]" in noticed(right)


def test_something_where_nothing_is_near_is_noticed() -> None:
    net = NETS["RNN, forward"]
    right = truncation(net.losses[1:], net.parameters["h_0"], [1])
    assert not right.sliding.any() and not noticed(right)
    assert noticed(replace(right, sliding=right.sliding + 1e-9)) == {"sliding"}


def test_a_proof_is_of_the_graph_as_it_was_made_also_after_an_optimiser_step() -> None:
    net = Net("RNN", seed=33)
    found = truncation(net.losses, net.parameters["W"], [2])
    net.parameters["W"].data = net.parameters["W"].data + 0.5
    assert prove_truncation(found)


@pytest.mark.parametrize("weight", [1e-9, 1e-200])
def test_small_gradients_are_proved_by_the_complex_step_and_not_refuted_by_worthless_differences(weight: float) -> None:
    m = Model(seed=34)
    losses = []
    for t, E in enumerate(m.losses, 1):
        with scope(t=t):
            losses.append(E * weight + 3.0)
    found = truncation(losses, m.parameters["W"], [2])
    assert not noticed(found) and all(w.tolerance < 1e-3 for w in prove_truncation(found).witnesses)
    assert noticed(replace(found, sliding=found.sliding * (1 + 1e-6))) == {"sliding"}


@pytest.mark.parametrize("scale", [3.0, 6.0])
def test_steep_nets_are_proved(scale: float) -> None:
    for seed in range(5):
        net = Net("LSTM", T=6, scale=scale, seed=seed)
        assert prove_truncation(truncation(net.losses, net.parameters["W_f"], [1, 3])), seed


def test_a_weight_of_more_than_4096_numbers_is_proved() -> None:
    net = Net("RNN", T=3, B=1, D=2049, H=2, V=3, seed=35, scale=0.1)
    found = truncation(net.losses, net.parameters["U"], [2])
    assert not noticed(found)
    assert noticed(replace(found, sliding=found.sliding * (1 + 1e-6))) == {"sliding"}


# -------------------------------------------------------------------------------------------------- refused, printed
@pytest.mark.parametrize("windows", [[], [0], [2, -1], [3, 0, 1]])
def test_windows_below_1_and_none_at_all_are_refused(windows: list[int]) -> None:
    with pytest.raises(ValueError, match="windows"):
        truncation(NETS["RNN, forward"].losses, NETS["RNN, forward"].parameters["W"], windows)


def test_a_loss_outside_the_steps_and_float32_are_refused() -> None:
    net = NETS["RNN, forward"]
    with pytest.raises(ValueError, match="outside the steps"):
        truncation([net.losses[0] + net.losses[1]], net.parameters["W"], [2])
    W, h, losses = Tensor(np.ones((3, 3), np.float32), requires_grad=True), Tensor(np.ones((1, 3), np.float32)), []
    for t in range(1, 4):
        with scope(t=t):
            h = F.tanh(h @ W)
            losses.append(h.sum())
    with pytest.raises(ValueError, match="float32"):
        prove_truncation(truncation(losses, W, [2]))


def test_a_gradient_that_is_0_everywhere_is_printed_and_proved() -> None:
    cell = nn.RNNCell(2, 3, rng=np.random.default_rng(0))
    h, _ = nn.unroll(cell, np.ones((1, 1, 2)))
    with scope(t=1):
        E = F.sum(h[0])
    found = truncation([E], cell.W, [1, 2])
    assert not found.terms.total.any() and "–" in str(found) and "nan" not in str(found)
    assert prove_truncation(found)


@pytest.mark.parametrize("weight", [1.0, 1e-200])
def test_the_printed_norms_and_cosines_are_those_of_the_arrays(weight: float) -> None:
    m = Model(seed=36, weight=weight)
    found = truncation(m.losses, m.parameters["W"], [1, 2])
    total = found.terms.total / weight
    rows = [line.split()[3:] for line in str(found).splitlines() if line.strip().startswith("τ")]
    for i, row in enumerate(rows):
        expected = []
        for part in (found.chunked[i] / weight, found.sliding[i] / weight):
            ratio = np.linalg.norm(part) / np.linalg.norm(total)
            expected += [ratio, (part * total).sum() / np.linalg.norm(part) / np.linalg.norm(total)]
        assert np.abs(np.array(row, float) - expected).max() < 6e-5
    assert len(rows) == 2


def test_what_has_no_common_count_of_steps_is_refused() -> None:
    W, h, losses = Tensor(0.5, requires_grad=True, name="W"), Tensor(0.9), []
    for t in range(3):
        with scope(t=t):
            h = W * h
            losses.append((h * h).named("E"))
    with pytest.raises(ValueError, match=r"step 0; count from 1"):
        truncation(losses, W, [1])
    with scope(sequence="later", t=3):
        other = (h * 2.0).named("E")
    with pytest.raises(ValueError, match="different sequences"):
        truncation([other], W, [1])
    for windows in (2, "12", [1.5]):
        with pytest.raises(TypeError, match="windows"):
            truncation(losses[1:], W, windows)  # type: ignore[arg-type]
