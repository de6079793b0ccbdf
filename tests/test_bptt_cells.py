"""BPTT taken apart for every cell, both directions, stacks, masks and encoder-decoders: what `bptt` knows of a model it
reads from scopes alone. Every part against the definition, in NumPy alone, by the complex step (19, 20, 22 to 25).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from bptt_cells import CELLS, NETS, Net, sigmoid, term_matrix
from bptt_models import (
    COMPLEX,
    COPIES,
    DIFFERENCES,
    EXACT,
    GRAPH,
    HELD,
    SUM_OF_PARTS,
    SUM_OF_TERMS,
    UNTIED,
    VALUE,
    apart,
    notice,
    wrong_rule,
)

from tinygrad_rnn import Tensor, nn, ops, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import explain, prove, terms, uses
from tinygrad_rnn.bptt.reference import BiRNN, Direction

each_net = pytest.mark.parametrize("label", NETS)
PARTS_25 = {(part, "derivation (25)") for part in ("explicit", "implicit", "total")}
NUMPY_25 = {VALUE, ("terms", "derivation (25)"), *PARTS_25}


@cache
def matrix(label: str, name: str) -> Any:
    """terms() of one parameter of one net, made once for all tests that read it."""
    return terms(NETS[label].losses, NETS[label].parameters[name])


def dense(a: Any, T: int) -> np.ndarray:
    """Terms.arrays as (losses, T + 2, *W.shape), k = 0 … T + 1, zero where a step has no use."""
    found = np.zeros((len(a.losses), T + 2, *a.parameter.shape))
    for j, k in enumerate(a.steps):
        found[:, k] = a.arrays[:, j]
    return found


def close(got: Any, expected: np.ndarray, size: float) -> bool:
    return bool(np.abs(got - expected).max() <= EXACT * size)


def below(A: np.ndarray) -> np.ndarray:
    """The terms at k < t of A (T, T + 2, …)."""
    return A[np.arange(A.shape[0])[:, None] + 1 > np.arange(A.shape[1])]


def above(A: np.ndarray) -> np.ndarray:
    return A[np.arange(A.shape[0])[:, None] + 1 < np.arange(A.shape[1])]


def bare(name: str) -> str:
    return name.split("_l")[0].rstrip("'")


# ---------------------------------------------------------------------------------- every part, against the definition
@each_net
def test_the_library_computes_what_the_equations_say(label: str) -> None:
    net = NETS[label]
    assert apart([E.item() for E in net.losses], np.real(net.run({}))) < EXACT


@each_net
def test_the_term_matrix_of_every_parameter_is_what_moving_one_copy_says(label: str) -> None:
    net = NETS[label]
    for name in net.parameters:
        A, a = net.A(name), matrix(label, name)
        ours = dense(a, net.T)
        assert apart(ours, A) < EXACT, name
        assert apart(a.rows, A.sum(1)) < EXACT and apart(a.total, A.sum((0, 1))) < EXACT, name
        assert apart(a.norms, [[np.linalg.norm(A[t, k].ravel()) for k in a.steps] for t in range(net.T)]) < EXACT, name
        sizes = np.abs(A).reshape(*A.shape[:2], -1).max(-1)
        for t, k in np.argwhere(sizes > 0):  # each term by its own size
            assert apart(ours[t, k], A[t, k]) < 1e-10, (name, t, k)


@each_net
def test_every_explanation_is_a_row_whose_explicit_part_crosses_no_recurrence_edge(label: str) -> None:
    net = NETS[label]
    for name, parameter in net.parameters.items():
        A, held = net.A(name), net.A(name, held=True)
        for t, E in enumerate(net.losses, 1):
            row, explicit = A[t - 1], held[t - 1]
            size = np.abs(row).max() or 1.0
            e = explain(E, parameter)
            assert close(e.total, row.sum(0), size), (name, t)
            assert close(e.explicit, explicit.sum(0), size), (name, t)
            assert close(e.implicit, (row - explicit).sum(0), size), (name, t)
            assert close(e.explicit + e.implicit, e.total, size) and close(sum(e.terms.values()), e.total, size)
            for k in range(net.T + 2):
                assert close(e.terms.get(k, 0.0), row[k], size), (name, t, k)
                assert close(e.explicit_terms.get(k, 0.0), explicit[k], size), (name, t, k)


@each_net
def test_what_backward_adds_to_grad_is_the_sum_of_the_matrix(label: str) -> None:
    net = NETS[label]
    F.sum(F.stack(net.losses)).backward()
    for name, parameter in net.parameters.items():
        gradient, parameter.grad = parameter.grad, None
        assert apart(matrix(label, name).total, gradient) < EXACT, name


@each_net
def test_every_parameter_is_proved_and_copies_that_are_swept_agree_exactly(label: str) -> None:
    net = NETS[label]
    together = F.sum(F.stack(net.losses))
    for i, (name, parameter) in enumerate(net.parameters.items()):
        proof = prove(explain((net.losses[1], together)[i % 2], parameter))
        assert proof, f"{name}\n{proof}"
        assert next(w.error for w in proof.witnesses if (w.part, w.route) == UNTIED) == 0, name


# ----------------------------------------------------------------------------------------------------------- triangles
@each_net
def test_a_direction_fills_one_triangle_and_a_stack_of_both_directions_fills_both_below_its_top(label: str) -> None:
    net = NETS[label]
    for name in net.parameters:
        A, lane = dense(matrix(label, name), net.T), net.lane_of(name)
        if name in ("V", "V'", "c"):
            assert not below(A).any() and not above(A).any(), "the output is used at its own step"
        elif lane and (lane[0] == net.layers - 1 or not net.both):
            empty, filled = (above(A), below(A)) if lane[1] == "forward" else (below(A), above(A))
            assert not empty.any(), f"{name}: exactly 0 on the other side"
            assert filled.any(), f"{name}: implicit terms on its own"
        elif name == "x" and not net.both:
            assert not (below(A) if net.one_way == "backward" else above(A)).any()
        elif bare(name) not in ("h_0", "c_0", "a_0"):
            assert below(A).any() and above(A).any(), f"{name}: h_k goes up, back and down in time"


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "LSTM with peepholes", "GRU after z", "GRU before u", "GRU None u"])
@pytest.mark.parametrize("one_way", ["forward", "backward"])
def test_from_a_first_state_of_0_the_first_use_of_every_W_contributes_exactly_0(cell: str, one_way: str) -> None:
    net = Net(cell, one_way=one_way, initial=0.0, seed=90)
    first = 1 if one_way == "forward" else net.T
    for name, parameter in net.parameters.items():
        column = dense(terms(net.losses, parameter), net.T)[:, first]
        nothing = name.startswith(("W", "p_i")) or name[-2:] == ("_r" if cell == "GRU before u" else "_f")
        assert column.any() == (not nothing), name


# --------------------------------------------------------------------------------------------- masks, encoder, by hand
def test_what_is_padded_has_gradients_of_exactly_0_and_each_row_has_those_of_its_unpadded_run() -> None:
    for label in ("RNN, masked", "LSTM, backward, masked", "GRU, both, masked", "RNN, stack, both, masked"):
        net = NETS[label]
        assert net.lengths is not None
        x = net.parameters["x"]
        dx = terms(net.losses, x).total
        values = {name: p.data for name, p in net.parameters.items()}
        for row, length in enumerate(net.lengths):
            assert (dx[length:, row] == 0).all() and dx[:length, row].all(), label
            alone = replace(net, T=length, B=1, lengths=None, changed=values | {"x": x.data[:length, [row]]})
            for t in range(1, length + 1):
                ours, theirs = row_loss(net, t, row), row_loss(alone, t, 0)
                for name in net.parameters:
                    got, want = explain(ours, net.parameters[name]), explain(theirs, alone.parameters[name])
                    there = got.total[:length, [row]] if name == "x" else got.total
                    assert apart(there, want.total) < EXACT, (label, name, row, t)


def row_loss(net: Net, t: int, row: int) -> Tensor:
    """Σ of the squares of one row of what E_t is made of: q_t."""
    q = net.losses[t - 1].inputs[0]
    while q.shape[-1:] != (net.V,) or q.ndim != 2:
        q = q.inputs[0]
    with scope(t=t):
        return (q[row] * q[row]).sum()


def encoder_decoder() -> tuple[dict[str, Tensor], list[Tensor], Callable[..., list[Any]]]:
    """A GRU reads four steps, an RNN goes on from its last state for three, with a loss at each; and in NumPy."""
    rng = np.random.default_rng(7)
    encoder, decoder = nn.GRUCell(3, 4, initial="learned", rng=rng), nn.RNNCell(2, 4, rng=rng)
    for q in encoder.parameters():
        q.name = f"{q.name}_e"
    p = {str(q.name): q for q in (*encoder.parameters(), *decoder.parameters())}
    for q in p.values():
        q.data = rng.normal(0, 0.6, q.shape)
    x, y = rng.normal(size=(4, 2, 3)), rng.normal(size=(3, 2, 2))
    with scope(sequence="encoder"):
        _, state = nn.unroll(encoder, x)
    with scope(sequence="decoder"):
        states, _ = nn.unroll(decoder, y, state)
        losses = []
        for t, h in enumerate(states, 1):
            with scope(t=t):
                losses.append((h * h * h).sum().named("E"))

    def run(copies: dict[str, list[Any]], held: bool = False) -> list[Any]:
        def at(k: int, place: str) -> Callable[[str], Any]:
            def get(name: str) -> Any:
                copied = name + place in copies
                a = copies[name + place][k] if copied else p[name + place].data
                return a[..., None, :] if a.ndim - copied == 1 else a
            return get

        s, found = (at(0, "_e")("h_0") + np.zeros((2, 4)),), []
        for k in range(1, 5):
            s = tuple(part.real for part in s) if held else s
            s = CELLS["GRU after z"][2](at(k, "_e"), x[k - 1], s)
        for k in range(1, 4):
            s = tuple(part.real for part in s) if held else s
            s = CELLS["RNN"][2](at(k, ""), y[k - 1], s)
            found.append((s[0] ** 3).sum((-1, -2)))
        return found

    return p, losses, run


def test_an_encoder_is_behind_the_first_step_of_its_decoder_and_all_that_it_contributes_is_implicit() -> None:
    p, losses, run = encoder_decoder()
    for name, q in p.items():
        A, held = (term_matrix(lambda copies, name=name, h=h: run({name: copies}, h), q.data, 6) for h in (False, True))
        assert apart(dense(terms(losses, q), 4), A) < EXACT, name
        for t, E in enumerate(losses, 1):
            e, size = explain(E, q), np.abs(A[t - 1]).max()
            assert close(e.explicit, held[t - 1].sum(0), size) and close(e.total, A[t - 1].sum(0), size), name
            assert prove(e)
            if name.endswith("_e"):
                assert not e.explicit.any(), "every path crosses from the decoder's first state into its first step"


def test_both_directions_of_a_loop_by_hand_need_nothing_but_their_scopes() -> None:
    net = NETS["RNN, both, sum of two projections"]
    p, T = net.parameters, net.T
    found: dict[str, dict[int, Tensor]] = {"": {}, "'": {}}
    for mark, direction, steps in (("", "forward", range(1, T + 1)), ("'", "backward", range(T, 0, -1))):
        h = F.broadcast_to(p["h_0" + mark], (net.B, net.H))
        for t in steps:
            with scope(direction=direction, t=t):
                z = p["x"][t - 1] @ p["U" + mark] + h @ p["W" + mark] + p["b" + mark]
                h = found[mark][t] = F.tanh(z).named("h")
    losses = []
    for t in range(1, T + 1):
        with scope(t=t):
            q = found[""][t] @ p["V"] + found["'"][t] @ p["V'"] + p["c"]
            losses.append(F.cross_entropy(q, net.built[2][t - 1], reduction="sum").named("E"))
    for name, q in p.items():
        if name.startswith("h_0"):
            continue
        assert apart(dense(terms(losses, q), T), net.A(name)) < EXACT, name
        assert apart(explain(losses[1], q).explicit, net.A(name, held=True)[1].sum(0)) < EXACT, name
        assert prove(explain(losses[1], q))


@pytest.mark.parametrize("name", ["U", "W", "M", "R"])
@pytest.mark.parametrize("differ", ["sequence", "layer", "direction"])
def test_what_is_read_from_another_recurrence_is_input_whatever_its_step(differ: str, name: str) -> None:
    """b_t = tanh(a_{t+1} M + b_{t-1} R) looks one step ahead into a_t = tanh(x_t U + a_{t-1} W)."""
    T, rng = 4, np.random.default_rng(8)
    arrays = {"U": rng.normal(size=(3, 4)), "W": rng.normal(0, 0.6, (4, 4)), "M": rng.normal(0, 0.7, (4, 5)),
              "R": rng.normal(0, 0.6, (5, 5))}
    x, a_0, b_0 = rng.normal(size=(T + 1, 2, 3)), rng.normal(size=(2, 4)), rng.normal(size=(2, 5))
    p = {n: Tensor(v, requires_grad=True, name=n) for n, v in arrays.items()}
    a, b, seen, losses = Tensor(a_0), Tensor(b_0), {}, []
    for t in range(1, T + 1):
        with scope(t=t, **{differ: "one"}):
            a = seen[t] = F.tanh(x[t - 1] @ p["U"] + a @ p["W"])
    for t in range(1, T + 1):
        with scope(t=t, **{differ: "other"}):
            b = F.tanh(seen[min(t + 1, T)] @ p["M"] + b @ p["R"])
        with scope(t=t):
            losses.append((b * b * b).sum().named("E"))

    def run(copies: list[Any], held: bool) -> list[Any]:
        c = {n: copies if n == name else [v] * (T + 2) for n, v in arrays.items()}
        a, b, seen, found = a_0, b_0, {}, []
        for k in range(1, T + 1):
            a = seen[k] = np.tanh(x[k - 1] @ c["U"][k] + (a.real if held else a) @ c["W"][k])
        for k in range(1, T + 1):
            b = np.tanh(seen[min(k + 1, T)] @ c["M"][k] + (b.real if held else b) @ c["R"][k])
            found.append((b**3).sum((-1, -2)))
        return found

    A, held = (term_matrix(lambda copies, h=h: run(copies, h), arrays[name], T + 2) for h in (False, True))
    assert apart(dense(terms(losses, p[name]), T), A) < EXACT
    for t, E in enumerate(losses, 1):
        e = explain(E, p[name])
        assert close(e.explicit, held[t - 1].sum(0), np.abs(A[t - 1]).max())
        assert close(e.implicit, (A - held)[t - 1].sum(0), np.abs(A[t - 1]).max())
        if name in ("U", "W") and t < T:
            assert e.explicit_terms[t + 1].any() and not e.explicit_terms.get(t, np.zeros(1)).any()
        assert prove(e)


# --------------------------------------------------------------------- 200 steps, against the closed forms (23), (24)
def inputs_of(T: int, B: int, D: int, H: int, V: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(T, B, D)), rng.integers(0, V, (T, B)), rng.normal(0, 0.7, (H, V))


def losses_on(outputs: list[Tensor], V: Any, y: np.ndarray) -> list[Tensor]:
    found = []
    for t, h in enumerate(outputs, 1):
        with scope(t=t):
            found.append(F.cross_entropy(h @ V, y[t - 1], reduction="sum").named("E"))
    return found


def output_error(h: np.ndarray, V: np.ndarray, y: np.ndarray) -> np.ndarray:
    e = np.exp(h @ V)
    epsilon: np.ndarray = e / e.sum(-1, keepdims=True)
    epsilon[np.arange(len(y)), y] -= 1
    return epsilon


def test_200_steps_of_an_lstm_are_the_closed_form_23() -> None:
    T, B, D, H = 200, 3, 2, 4
    x, y, V = inputs_of(T, B, D, H, 5)
    cell = nn.LSTMCell(D, H, forget_bias=2.0, initial="learned", rng=np.random.default_rng(4))
    assert isinstance(cell.h_0, Tensor) and isinstance(cell.c_0, Tensor)  # type: ignore[attr-defined]
    cell.h_0.data, cell.c_0.data = np.full(H, 0.3), np.linspace(-1, 1, H)  # type: ignore[attr-defined]
    p = {str(q.name): q for q in cell.parameters()}
    a = {name: q.data for name, q in p.items()}
    losses = losses_on(nn.unroll(cell, x)[0], Tensor(V), y)
    h, c, gate = [np.tile(a["h_0"], (B, 1))], [np.tile(a["c_0"], (B, 1))], [dict[str, np.ndarray]()]
    for t in range(T):
        z = {g: x[t] @ a[f"U_{g}"] + h[-1] @ a[f"W_{g}"] + a[f"b_{g}"] for g in "fioc"}
        g = {k: sigmoid(v) if k != "c" else np.tanh(v) for k, v in z.items()}
        c.append(g["f"] * c[-1] + g["i"] * g["c"])
        h.append(g["o"] * np.tanh(c[-1]))
        gate.append(g)
    E = explain(losses[-1], p["W_f"])
    assert abs(E.loss.item() + np.log(np.exp(h[T] @ V) / np.exp(h[T] @ V).sum(-1, keepdims=True))[
        np.arange(B), y[-1]].sum()) < 1e-12
    expected: dict[str, dict[int, np.ndarray]] = {name: {} for name in p}
    dh, dc = output_error(h[T], V, y[-1]) @ V.T, np.zeros((B, H))
    for k in range(T, 0, -1):
        g, tanh_c = gate[k], np.tanh(c[k])
        dc = dc + dh * g["o"] * (1 - tanh_c**2)
        dz = {"o": dh * tanh_c * g["o"] * (1 - g["o"]), "f": dc * c[k - 1] * g["f"] * (1 - g["f"]),
              "i": dc * g["c"] * g["i"] * (1 - g["i"]), "c": dc * g["i"] * (1 - g["c"] ** 2)}
        for name, d in dz.items():
            expected[f"W_{name}"][k], expected[f"U_{name}"][k] = h[k - 1].T @ d, x[k - 1].T @ d
            expected[f"b_{name}"][k] = d.sum(0)
        dh, dc = sum(d @ a[f"W_{name}"].T for name, d in dz.items()), dc * g["f"]
    expected["h_0"][0], expected["c_0"][0] = dh.sum(0), dc.sum(0)
    for name, q in p.items():
        e = explain(losses[-1], q)
        assert set(e.terms) == set(expected[name])
        for k, term in expected[name].items():
            assert apart(e.terms[k], term) < 1e-11, (name, k)  # each by its own size, after 200 products
        assert apart(e.total, sum(expected[name].values())) < EXACT
        assert apart(e.explicit, expected[name][T]) < EXACT if name[-2:] != "_0" else not e.explicit.any()
    assert prove(explain(losses[-1], p["W_f"]))


def test_200_steps_of_a_gru_are_the_product_of_its_jacobians_24() -> None:
    T, B, D, H = 200, 3, 2, 4
    x, y, V = inputs_of(T, B, D, H, 5)
    cell = nn.GRUCell(D, H, initial=0.5, rng=np.random.default_rng(5))
    p = {str(q.name): q for q in cell.parameters()}
    a = {name: q.data for name, q in p.items()}
    losses = losses_on(nn.unroll(cell, x)[0], Tensor(V), y)
    h, direct, jacobians = [np.full((B, H), 0.5)], [], []
    for t in range(T):
        r, z = (sigmoid(x[t] @ a[f"U_{g}"] + h[-1] @ a[f"W_{g}"] + a[f"b_{g}"]) for g in "rz")
        m = h[-1] @ a["W_n"] + a["b_hn"]
        n = np.tanh(x[t] @ a["U_n"] + a["b_n"] + r * m)
        to_n, to_z = (1 - z) * (1 - n * n), (h[-1] - n) * z * (1 - z)
        slope_r = m * r * (1 - r)
        # ∂h_t/∂h_{t-1}, row j what h_{t-1}[j] does: the transpose of (24)
        K = a["W_n"] * r[:, None, :] + a["W_r"] * slope_r[:, None, :]
        jacobians.append(z[:, None, :] * np.eye(H) + a["W_z"] * to_z[:, None, :] + K * to_n[:, None, :])
        direct.append({"W_z": (h[-1], to_z), "W_n": (h[-1], to_n * r), "W_r": (h[-1], to_n * slope_r),
                       "U_z": (x[t], to_z), "U_n": (x[t], to_n), "U_r": (x[t], to_n * slope_r),
                       "b_z": (None, to_z), "b_n": (None, to_n), "b_r": (None, to_n * slope_r),
                       "b_hn": (None, to_n * r)})
        h.append((1 - z) * n + z * h[-1])
    delta = output_error(h[T], V, y[-1]) @ V.T
    expected: dict[str, dict[int, np.ndarray]] = {name: {} for name in p}
    for k in range(T, 0, -1):
        for name, (seen, slope) in direct[k - 1].items():
            expected[name][k] = (delta * slope).sum(0) if seen is None else seen.T @ (delta * slope)
        delta = np.einsum("bi,bji->bj", delta, jacobians[k - 1])
    for name, q in p.items():
        e = explain(losses[-1], q)
        assert set(e.terms) == set(range(1, T + 1))
        for k, term in expected[name].items():
            assert apart(e.terms[k], term) < 1e-11, (name, k)
        assert apart(e.explicit, expected[name][T]) < EXACT and apart(e.total, sum(expected[name].values())) < EXACT
    assert prove(explain(losses[-1], p["W_z"]))


def as_reference(net: Net, **changed: Any) -> BiRNN:
    p = {name: q.data for name, q in net.parameters.items()} | changed
    one, other = (Direction(p["U" + mark], p["W" + mark], p["b" + mark], p["V" + mark],
                            p.get("h_0" + mark, np.full((net.B, net.H), net.initial))) for mark in ("", "'"))
    return BiRNN(one, other, p["c"], p["x"], net.built[2])


def test_200_steps_of_a_birnn_are_the_derivation_25() -> None:
    net = Net("RNN", both=True, merge="sum", T=200, B=3, seed=6, scale=0.8)
    reference = as_reference(net)
    for name, q in net.parameters.items():
        gradient = terms(net.losses, q).total
        assert apart(gradient, reference.gradients()[name]) < EXACT, name
    for name in ("W", "W'", "h_0'"):
        for t in (1, 100, 200):
            e = explain(net.losses[t - 1], net.parameters[name])
            if (t, name) in ((1, "W'"), (200, "W"), (100, "h_0'")):
                assert prove(e, reference), (t, name)
            for k, term in reference.closed_form(t, name).items():
                if np.abs(term).max() > 1e-250:
                    assert apart(e.terms[k], term) < 1e-11, (t, k)


# ----------------------------------------------------------------------------------- what must be noticed, and by whom
ALL_BUT_SHARED = {COPIES, COMPLEX, DIFFERENCES}  # who shares no rule, of the implicit part and of the whole


@pytest.mark.parametrize("label", ["LSTM, forward", "LSTM, backward", "LSTM, both", "LSTM with peepholes, forward",
                                   "GRU after z, forward", "GRU before u, backward", "LSTM, masked",
                                   "GRU, stack, both"])
def test_a_gate_whose_rule_is_off_by_1e_6_is_noticed_by_all_that_share_no_rule(
        label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS[label]
    right = {name: explain(net.losses[1], q) for name, q in net.parameters.items()}
    wrong_rule(monkeypatch, ops.SIGMOID, 0)
    noticed = 0
    for name, q in net.parameters.items():
        e = explain(net.losses[1], q)
        expected = set() if apart(e.total, right[name].total) < 1e-10 else set(ALL_BUT_SHARED)
        if e.explicit.any() and apart(e.explicit, right[name].explicit) > 1e-10:
            expected.add(HELD)
        if name in ("V", "V'", "c"):
            assert not expected
        if name.startswith(("U", "W", "b")) and bare(name)[-2:] in ("_f", "_o", "_r", "_z", "_u"):
            assert HELD in expected or not right[name].explicit.any(), name
        found = notice(prove(e))
        assert found >= expected & {COPIES} and not found & {SUM_OF_PARTS, SUM_OF_TERMS, UNTIED}, name
        if expected:
            assert found & ALL_BUT_SHARED and found <= expected | {HELD, *ALL_BUT_SHARED}, name
            assert HELD not in expected or HELD in found, name
        noticed += bool(found)
    assert noticed >= len(net.parameters) // 2


@pytest.mark.parametrize("op", ["MUL", "MATMUL", "WHERE", "CONCAT"])
def test_a_wrong_rule_of_products_masks_and_joints_is_noticed(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS["RNN, stack, both, masked"] if op in ("WHERE", "CONCAT") else NETS["LSTM, both"]
    name = "W_l0'" if op in ("WHERE", "CONCAT") else "W_f'"
    broken = getattr(ops, op)
    if broken.joint:
        right = broken.joint
        monkeypatch.setattr(broken, "joint", lambda g, *saved, **s: [d * (1 + 1e-6) for d in right(g, *saved, **s)])
    else:
        wrong_rule(monkeypatch, broken, 0)
    assert notice(prove(explain(net.losses[1], net.parameters[name]))) >= {COPIES, COMPLEX, DIFFERENCES}


class Miswired(nn.LSTMCell):
    """One wire of an LSTM is wrong; its rules are right."""

    wire = ""

    def forward(self, x: Any, state: Any) -> Any:
        h, c = state
        if self.wire == "the gates read c":
            return super().forward(x, (c, c))
        new_h, new_c = super().forward(x, state)
        if self.wire == "the gates read h_t":
            return super().forward(x, (new_h, c))
        return (new_h, (new_c - c + h).named("c")) if self.wire == "c_t goes on from h" else (new_c, new_c)


@pytest.mark.parametrize("wire", ["the gates read c", "the gates read h_t", "c_t goes on from h", "the output is c"])
def test_a_wrong_wire_of_an_lstm_is_seen_by_its_equations_in_numpy_and_by_no_route_over_its_own_graph(
        wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Miswired, "wire", wire)
    monkeypatch.setitem(CELLS, "miswired", (Miswired, {}, CELLS["LSTM"][2]))
    net = Net("miswired", seed=91)
    assert apart([E.item() for E in net.losses], np.real(net.run({}))) > 1e-3
    for name in ("U_f", "W_i", "b_c"):
        e = explain(net.losses[-1], net.parameters[name])
        assert apart(e.total, net.A(name)[-1].sum(0)) > 1e-3, name
        assert prove(e), "what is drawn and differentiated is the wrong graph, and rightly so"


BIRNN = NETS["RNN, both, sum of two projections"]


def wrong_birnn(kind: str) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Both directions by hand, with one mistake in the backward one."""
    p = BIRNN.parameters
    one, _ = nn.unroll(lambda x, h: F.tanh(x @ p["U"] + h @ p["W"] + p["b"]).named("h"), p["x"],
                       F.broadcast_to(p["h_0"], (BIRNN.B, BIRNN.H)))
    start = F.broadcast_to(p["h_0'"], (BIRNN.B, BIRNN.H))
    xs: Any = list(p["x"])
    if kind == "it starts from 0":
        start = Tensor(np.zeros((BIRNN.B, BIRNN.H)))
    if kind == "it starts from h_T":
        start = one[-1].detach()
    if kind == "it reads x from its front":
        xs = xs[::-1]

    def cell(x: Any, h: Tensor) -> Tensor:
        return F.tanh(x @ p["U'"] + h @ p["W" if kind == "it uses W" else "W'"] + p["b'"]).named("h")

    direction: Any = "forward" if kind == "it goes forward" else "backward"
    other, _ = nn.unroll(cell, xs, start, direction=direction, layer=7)
    if kind == "its outputs are in the order in which it makes them":
        other = other[::-1]
    losses = []
    for t, (h, h_) in enumerate(zip(one, other), 1):
        with scope(t=t):
            losses.append(F.cross_entropy(h @ p["V"] + h_ @ p["V'"] + p["c"], BIRNN.built[2][t - 1], "sum").named("E"))
    return p, losses


def test_both_directions_by_hand_without_a_mistake_are_proved_by_the_derivation() -> None:
    p, losses = wrong_birnn("no mistake")
    for name in p:
        assert prove(explain(losses[1], p[name]), as_reference(BIRNN)), name


@pytest.mark.parametrize("kind", ["it starts from 0", "it starts from h_T", "it reads x from its front",
                                  "it goes forward", "its outputs are in the order in which it makes them",
                                  "it uses W"])
def test_a_backward_direction_that_is_wrong_is_seen_by_the_derivation_and_by_no_route_over_its_own_graph(
        kind: str) -> None:
    p, losses = wrong_birnn(kind)
    for name in ("U", "U'", "b'", "V'"):
        e = explain(losses[1], p[name])
        blind = {("implicit", "derivation (25)")} if name == "V'" else set()
        found = notice(prove(e, as_reference(BIRNN)))
        assert found == NUMPY_25 - blind, (name, found ^ NUMPY_25)
        assert not found & GRAPH


@pytest.mark.parametrize("changed", ["h_0'", "U'", "W'", "b'", "V'", "x", "c", "W"])
def test_a_reference_that_differs_in_anything_disagrees(changed: str) -> None:
    other = as_reference(BIRNN, **{changed: BIRNN.parameters[changed].data * (1 + 1e-6) + 1e-6})
    assert VALUE in notice(prove(explain(BIRNN.losses[1], BIRNN.parameters["b"]), other))
    with pytest.raises(ValueError, match="no parameter"):
        prove(explain(BIRNN.losses[1], BIRNN.parameters[changed]), other)


def test_a_first_state_that_counts_at_the_wrong_end_is_seen_by_the_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    right = uses.step_of
    last = BIRNN.T + 1
    monkeypatch.setattr(uses, "step_of", lambda x: 0 if right(x) == last else right(x))
    e = explain(BIRNN.losses[1], BIRNN.parameters["h_0'"])
    assert list(e.terms) == [0]
    assert notice(prove(e, as_reference(BIRNN))) == {("terms", "derivation (25)")}


def test_a_mask_of_the_outputs_alone_is_not_a_mask() -> None:
    """Masking the loss alone is wrong for the backward direction (15): its state has seen the padding."""
    net = NETS["LSTM, backward, masked"]
    wrong = replace(net, lengths=None, changed={n: p.data for n, p in net.parameters.items()})
    assert net.lengths is not None
    for row, length in enumerate(net.lengths):
        right, masked = (explain(row_loss(m, length, row), m.parameters["x"]).total for m in (net, wrong))
        assert not right[length:].any()
        assert masked[length:].any() == (length < net.T)


def test_masks_that_are_wrong_are_seen_by_the_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    for lengths in ([4, 4, 4], [4, 2, 3]):
        net = Net("GRU after z", both=True, lengths=[2, 4, 3], B=3, seed=92)
        assert net.losses
        net.lengths = lengths  # now the equations in NumPy mask otherwise
        assert apart([E.item() for E in net.losses], np.real(net.run({}))) > 1e-4
        assert apart(terms(net.losses, net.parameters["W_z"]).rows, net.A("W_z").sum(1)) > 1e-4
