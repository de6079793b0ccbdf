"""The plain NumPy witness itself, against PyTorch, a loop written out here, the definition and its own slopes."""

from __future__ import annotations

import ast
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bptt_cells import NETS, Net, term_matrix
from bptt_models import CASES, EXACT, MODELS, Model, apart

from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import reference

each_case = pytest.mark.parametrize(("label", "name"), [c for c in CASES if c != ("learned h_0", "h_0")],
                                    ids=lambda v: v)


def losses_at(m: Model, name: str, index: tuple[int, ...], step: float) -> np.ndarray:
    """E (T,) of the reference with one element of one parameter moved."""
    array = np.array(getattr(m.reference(), name))
    array[index] += step
    E: np.ndarray = m.reference(**{name: array}).forward()[2]
    return E


def test_it_imports_nothing_of_the_engine() -> None:
    tree = ast.parse(Path(str(reference.__file__)).read_text(encoding="utf-8"))
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert names == {"__future__", "dataclasses", "typing", "numpy", "numpy.typing"}
    assert not any(n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom))


def test_one_step_of_one_unit_worked_out_by_hand() -> None:
    one = reference.RNN(U=np.array([[0.5]]), W=np.array([[-0.25]]), b=np.array([0.1]), V=np.array([[2.0, -1.0]]),
                        c=np.array([0.0, 0.5]), h_0=np.array([[0.8]]), x=np.array([[[1.5]]]), y=np.array([[1]]),
                        nonlinearity="sigmoid")
    h_1 = 1 / (1 + exp(-(0.75 - 0.2 + 0.1)))
    q = 2 * h_1, 0.5 - h_1
    p = exp(q[1]) / (exp(q[0]) + exp(q[1]))
    h, y_hat, E = one.forward()
    assert h[:, 0, 0].tolist() == pytest.approx([0.8, h_1], rel=1e-15)
    assert y_hat[0, 0].tolist() == pytest.approx([1 - p, p], rel=1e-14)
    assert E.tolist() == pytest.approx([-log(p)], rel=1e-14)
    dE_dh = (1 - p) * 2 + (p - 1) * -1
    delta = h_1 * (1 - h_1) * dE_dh
    expected = {"U": 1.5 * delta, "W": 0.8 * delta, "b": delta, "h_0": -0.25 * delta}
    for name, d in expected.items():
        assert one.closed_form(1, name)[0 if name == "h_0" else 1].item() == pytest.approx(d, rel=1e-14)
        assert one.recursion(1, name).total.item() == pytest.approx(d, rel=1e-14)
    assert one.closed_form(1, "V")[1][0].tolist() == pytest.approx([h_1 * (1 - p), h_1 * (p - 1)], rel=1e-14)
    assert one.closed_form(1, "c")[1].tolist() == pytest.approx([1 - p, p - 1], rel=1e-14)


@pytest.mark.parametrize("label", MODELS)
def test_forward_is_the_loop_written_out_element_by_element(label: str) -> None:
    m = MODELS[label]
    h, y_hat, E = m.reference().forward()
    assert h.shape == (m.T + 1, m.B, m.H) and y_hat.shape == (m.T, m.B, m.V) and E.shape == (m.T,)
    assert np.array_equal(h[0], m.h_0)
    a = m.arrays
    for t in range(1, m.T + 1):
        loss = 0.0
        for row in range(m.B):
            for j in range(m.H):
                z = a["b"][j] + sum(h[t - 1, row, i] * a["W"][i, j] for i in range(m.H))
                z += sum(m.vectors[t - 1, row, i] * a["U"][i, j] for i in range(m.D))
                expected = (exp(2 * z) - 1) / (exp(2 * z) + 1) if m.nonlinearity == "tanh" else 1 / (1 + exp(-z))
                assert h[t, row, j] == pytest.approx(expected, rel=1e-12, abs=1e-14)
            e = [exp(a["c"][v] + sum(h[t, row, i] * a["V"][i, v] for i in range(m.H))) for v in range(m.V)]
            assert y_hat[t - 1, row].tolist() == pytest.approx([v / sum(e) for v in e], rel=1e-13)
            loss -= log(e[m.y[t - 1, row]] / sum(e))
        assert E[t - 1] == pytest.approx(loss, rel=1e-13)


@pytest.mark.parametrize("label", MODELS)
def test_losses_are_those_of_the_definition_and_of_the_library(label: str) -> None:
    m = MODELS[label]
    E = m.reference().forward()[2]
    assert apart(E, np.array(m.run({}))) < EXACT
    assert apart(E, np.array([loss.item() for loss in m.losses])) < EXACT


@each_case
def test_the_recursion_and_the_closed_form_are_the_row_of_the_definition(label: str, name: str) -> None:
    m = MODELS[label]
    A, ref = m.A(name), m.reference()
    for t in range(1, m.T + 1):
        row, closed, split = A[t - 1], ref.closed_form(t, name), ref.recursion(t, name)
        used = [t] if name in ("V", "c") else [0] if name == "h_0" else list(range(1, t + 1))
        assert sorted(closed) == used
        for k in used:
            assert apart(closed[k], row[max(k, 1) - 1]) < EXACT
        assert apart(split.total, row.sum(0)) < EXACT
        assert apart(split.explicit + split.implicit, sum(closed.values())) < EXACT
        size = np.abs(row).max()
        if name != "h_0":
            assert np.abs(split.explicit - row[t - 1]).max() <= EXACT * size
            assert np.abs(split.implicit - (row.sum(0) - row[t - 1])).max() <= EXACT * size
        else:
            assert (split.explicit == 0).all(), "h_0 is an earlier state of every step"


@each_case
def test_both_routes_are_the_slope_of_its_own_forward_pass(label: str, name: str) -> None:
    """By fourth-order differences: its ln Σ eˣ is real only. Model.A, above, is the complex step of these equations."""
    m, step = MODELS[label], 1e-3
    ref = m.reference()
    slopes = np.zeros((m.T, *getattr(ref, name).shape))
    for index in np.ndindex(slopes.shape[1:]):
        near, far = (losses_at(m, name, index, h) - losses_at(m, name, index, -h) for h in (step, 2 * step))
        slopes[(slice(None), *index)] = (8 * near - far) / (12 * step)
    for t in range(1, m.T + 1):
        # What differences can tell: 1e-9 for the step itself (h⁴ times a fifth derivative), and the rounding of E / h.
        allowed = 1e-9 * np.abs(slopes[t - 1]).max() + 4e-16 * ref.forward()[2][t - 1] / step
        assert allowed < 1e-6 * np.abs(slopes[t - 1]).max()
        for route in (ref.recursion(t, name).total, sum(ref.closed_form(t, name).values())):
            assert np.abs(route - slopes[t - 1]).max() <= allowed


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid"])
def test_recursion_and_closed_form_agree_at_200_steps(nonlinearity: str) -> None:
    m = Model(T=200, H=3, nonlinearity=nonlinearity)
    ref = m.reference()
    for name in m.names:
        assert apart(ref.recursion(200, name).total, sum(ref.closed_form(200, name).values())) < EXACT


def test_the_weight_multiplies_losses_and_gradients() -> None:
    m = Model()
    plain, third = m.reference(), m.reference(weight=1 / 3)
    assert apart(third.forward()[2] * 3, plain.forward()[2]) < EXACT
    assert apart(third.forward()[1], plain.forward()[1]) < EXACT
    for name in m.names:
        for route in ("recursion", "closed_form"):
            one, other = (getattr(ref, route)(m.T, name) for ref in (plain, third))
            one, other = ((r.total if route == "recursion" else sum(r.values())) for r in (one, other))
            assert apart(other * 3, one) < EXACT, (name, route)


def test_ids_are_one_hot_rows() -> None:
    m = MODELS["ids"]
    ref, rows = m.reference(), m.reference(x=np.eye(m.D)[m.x])
    for one, other in zip(ref.forward(), rows.forward()):
        assert np.array_equal(one, other)
    assert np.array_equal(ref.recursion(m.T, "U").total, rows.recursion(m.T, "U").total)


def test_extreme_states_and_logits_stay_finite() -> None:
    for nonlinearity in ("tanh", "sigmoid"):
        m = Model(nonlinearity=nonlinearity)
        arrays = {name: m.arrays[name] * 1000 for name in ("U", "W", "V")}
        ref = m.reference(**arrays)
        assert all(np.isfinite(part).all() for part in ref.forward())
        assert np.isfinite(ref.recursion(m.T, "W").total).all()


@pytest.mark.parametrize("label", ["tanh", "no bias", "ids", "one row", "learned h_0"])
def test_forward_and_gradients_are_those_of_pytorch(label: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    m, ref = MODELS[label], MODELS[label].reference()
    net = torch.nn.RNN(m.D, m.H, nonlinearity="tanh", bias=m.bias).double()
    out = torch.nn.Linear(m.H, m.V).double()
    a = {name: torch.tensor(np.array(v)) for name, v in m.arrays.items()}
    with torch.no_grad():
        net.weight_ih_l0.copy_(a["U"].T)
        net.weight_hh_l0.copy_(a["W"].T)
        out.weight.copy_(a["V"].T)
        out.bias.copy_(a["c"])
        if m.bias:
            net.bias_ih_l0.copy_(a["b"] * 0.25)
            net.bias_hh_l0.copy_(a["b"] * 0.75)
    h_0 = torch.tensor(np.array(m.h_0), requires_grad=True)
    states, _ = net(torch.tensor(m.vectors), h_0[None])
    losses = torch.nn.functional.cross_entropy(out(states).flatten(0, 1), torch.tensor(m.y).flatten(), reduction="none")
    E = losses.reshape(m.T, m.B).sum(1)
    h, y_hat, ours = ref.forward()
    assert apart(h[1:], states.detach().numpy()) < EXACT
    assert apart(y_hat, out(states).softmax(-1).detach().numpy()) < EXACT
    assert apart(ours, E.detach().numpy()) < EXACT
    leaves: dict[str, Any] = {"U": net.weight_ih_l0, "W": net.weight_hh_l0, "V": out.weight, "c": out.bias, "h_0": h_0}
    if m.bias:
        leaves["b"] = net.bias_hh_l0
    for t in range(1, m.T + 1):
        found = dict(zip(leaves, torch.autograd.grad(E[t - 1], list(leaves.values()), retain_graph=True)))
        for name, d in found.items():
            theirs = d.numpy().T if name in ("U", "W", "V") else d.numpy()
            assert apart(ref.recursion(t, name).total, theirs) < EXACT, (name, t)
            assert apart(sum(ref.closed_form(t, name).values()), theirs) < EXACT, (name, t)


def test_it_cannot_be_changed_by_accident() -> None:
    ref = Model().reference()
    with pytest.raises(AttributeError):
        ref.W = np.zeros(3)  # type: ignore[misc]
    changed = replace(ref, weight=2.0)
    assert changed.weight == 2.0 and ref.weight == 1.0


def test_neither_route_writes_into_the_arrays_given() -> None:
    m = Model()
    ref = m.reference()
    before = {name: np.array(getattr(ref, name)) for name in ("U", "W", "b", "V", "c", "h_0", "x", "y")}
    for name in m.names:
        ref.recursion(m.T, name)
        ref.closed_form(m.T, name)
    assert all(np.array_equal(getattr(ref, name), array) for name, array in before.items())


# ------------------------------------------------------------------------------------ BiRNN: the end of S3's derivation
def mirrored(label: str, **changed: Any) -> tuple[Net, reference.BiRNN]:
    net = NETS[label]
    p = {name: q.data for name, q in net.parameters.items()}
    one, other = (reference.Direction(p["U" + mark], p["W" + mark], p["b" + mark], p["V" + mark],
                                      p.get("h_0" + mark, np.full((net.B, net.H), 0.5))) for mark in ("", "'"))
    return net, reference.BiRNN(**{"one": one, "other": other, "c": p["c"], "x": p["x"], "y": net.built[2], **changed})


BIRNNS = ["RNN, both, sum of two projections", "RNN, both, from 0.5"]
NAMES = ["U", "W", "b", "V", "h_0", "U'", "W'", "b'", "V'", "h_0'", "c", "x"]


@pytest.mark.parametrize("label", BIRNNS)
def test_a_birnn_computes_the_equations_of_the_notes_element_by_element(label: str) -> None:
    net, birnn = mirrored(label)
    h, h_, y_hat, E = birnn.forward()
    one, other, (B, H) = birnn.one, birnn.other, (net.B, net.H)
    assert h.shape == h_.shape == (net.T + 1, B, H)
    assert np.array_equal(h[0], np.broadcast_to(one.h_0, (B, H)))
    assert np.array_equal(h_[-1], np.broadcast_to(other.h_0, (B, H)))
    for t in range(1, net.T + 1):
        loss = 0.0
        for row in range(B):
            for j in range(H):
                for way, now, before in ((one, h[t], h[t - 1]), (other, h_[t - 1], h_[t])):
                    z = way.b[j] + sum(before[row, i] * way.W[i, j] for i in range(H))
                    z += sum(birnn.x[t - 1, row, i] * way.U[i, j] for i in range(net.D))
                    assert now[row, j] == pytest.approx((exp(2 * z) - 1) / (exp(2 * z) + 1), rel=1e-12, abs=1e-14)
            e = [exp(birnn.c[v] + sum(h[t, row, i] * one.V[i, v] + h_[t - 1, row, i] * other.V[i, v] for i in range(H)))
                 for v in range(net.V)]
            assert y_hat[t - 1, row].tolist() == pytest.approx([v / sum(e) for v in e], rel=1e-12)
            loss -= log(e[birnn.y[t - 1, row]] / sum(e))
        assert E[t - 1] == pytest.approx(loss, rel=1e-12)
    assert apart(E, np.array([loss.item() for loss in net.losses])) < EXACT


def run(birnn: reference.BiRNN, copies: dict[str, list[Any]], T: int) -> list[Any]:
    """E_1 … E_T by the equations (7) alone, with one copy of each parameter for each step, each (P, …)."""
    values = birnn.parameters()

    def p(name: str, k: int) -> Any:
        copied = name in copies
        a = copies[name][k] if copied else values[name]
        return a[..., None, :] if a.ndim - copied == 1 else a

    def x(k: int) -> Any:
        return (copies["x"][k] if "x" in copies else values["x"])[..., k - 1, :, :]

    h, h_ = {0: p("h_0", 0)}, {T + 1: p("h_0'", T + 1)}
    for k in range(1, T + 1):
        h[k] = np.tanh(x(k) @ p("U", k) + h[k - 1] @ p("W", k) + p("b", k))
    for k in range(T, 0, -1):
        h_[k] = np.tanh(x(k) @ p("U'", k) + h_[k + 1] @ p("W'", k) + p("b'", k))
    found = []
    for k in range(1, T + 1):
        q = h[k] @ p("V", k) + h_[k] @ p("V'", k) + p("c", k)
        log_y = q - np.log(np.exp(q).sum(-1, keepdims=True))
        found.append(-birnn.weight * log_y[..., np.arange(q.shape[-2]), birnn.y[k - 1]].sum(-1))
    return found


@pytest.mark.parametrize("label", BIRNNS)
@pytest.mark.parametrize("weight", [1.0, 1 / 4])
@pytest.mark.parametrize("name", NAMES)
def test_the_finished_derivation_is_the_complex_step_term_by_term(label: str, weight: float, name: str) -> None:
    net, birnn = mirrored(label, weight=weight)
    T, theta = net.T, birnn.parameters()[name]
    A = term_matrix(lambda copies: run(birnn, {name: copies}, T), theta, T + 2)
    gradient = birnn.gradients()[name]
    assert apart(gradient, A.sum((0, 1))) < EXACT
    for t in range(1, T + 1):
        closed, split = birnn.closed_form(t, name), birnn.split(t, name)
        for k in range(T + 2):
            assert apart(closed.get(k, np.zeros(theta.shape)), A[t - 1, k]) < EXACT, (t, k)
        own = A[t - 1, t] if not name.startswith("h_0") else np.zeros(theta.shape)
        size = np.abs(A[t - 1]).max()
        assert np.abs(split.explicit - own).max() <= EXACT * size
        assert np.abs(split.implicit - (A[t - 1].sum(0) - own)).max() <= EXACT * size
        first, last = {"W": (1, t), "W'": (t, T), "b'": (t, T), "V'": (t, t), "h_0": (0, 0), "h_0'": (T + 1, T + 1),
                       "x": (1, T)}.get(name, (None, None))
        if first is not None:
            assert sorted(closed) == list(range(first, last + 1)), "the BPTT of W' runs forward in time"


@pytest.mark.parametrize("label", BIRNNS)
def test_the_finished_derivation_is_what_the_engine_computes(label: str) -> None:
    net, birnn = mirrored(label)
    gradients = birnn.gradients()
    assert set(gradients) == set(NAMES)
    F.sum(F.stack(net.losses)).backward()
    for name, parameter in net.parameters.items():
        gradient, parameter.grad = parameter.grad, None
        assert apart(gradient, gradients[name]) < EXACT, name


def test_learned_boundaries_of_one_row_collect_the_gradients_of_all_rows() -> None:
    net, learned = mirrored(BIRNNS[0])
    whole = [np.tile(way.h_0, (net.B, 1)) for way in (learned.one, learned.other)]
    given = replace(learned, one=replace(learned.one, h_0=whole[0]), other=replace(learned.other, h_0=whole[1]))
    assert apart(given.forward()[3], learned.forward()[3]) == 0
    for name in ("h_0", "h_0'"):
        assert given.gradients()[name].shape == (net.B, net.H)
        assert apart(given.gradients()[name].sum(0), learned.gradients()[name]) < EXACT
    assert apart(given.gradients()["W'"], learned.gradients()["W'"]) < EXACT


def test_ids_stand_for_one_hot_rows_in_both_directions() -> None:
    net, birnn = mirrored(BIRNNS[0])
    ids = np.random.default_rng(0).integers(0, net.D, (net.T, net.B))
    by_ids, by_rows = replace(birnn, x=ids), replace(birnn, x=np.eye(net.D)[ids])
    assert np.array_equal(by_ids.forward()[3], by_rows.forward()[3])
    for name in NAMES:
        assert np.array_equal(by_ids.gradients()[name], by_rows.gradients()[name])


def test_one_step_of_both_directions_worked_out_by_hand() -> None:
    one = reference.Direction(*(np.array(a) for a in ([[0.5]], [[-0.25]], [0.1], [[2.0, -1.0]], [[0.8]])))
    other = reference.Direction(*(np.array(a) for a in ([[-0.3]], [[0.6]], [0.2], [[0.4, 1.2]], [[-0.5]])))
    birnn = reference.BiRNN(one, other, np.array([0.0, 0.5]), np.array([[[1.5]]]), np.array([[1]]))
    h, h_ = np.tanh(0.75 - 0.2 + 0.1), np.tanh(-0.45 - 0.3 + 0.2)
    q = 2 * h + 0.4 * h_, 0.5 - h + 1.2 * h_
    p = exp(q[0]) / (exp(q[0]) + exp(q[1]))
    d, d_ = (1 - h * h) * (2 * p + p), (1 - h_ * h_) * (0.4 * p - 1.2 * p)  # ε = (p, -p)
    expected = {"U": 1.5 * d, "W": 0.8 * d, "b": d, "h_0": -0.25 * d, "U'": 1.5 * d_, "W'": -0.5 * d_, "b'": d_,
                "h_0'": 0.6 * d_, "x": 0.5 * d - 0.3 * d_}
    gradients = birnn.gradients()
    for name, value in expected.items():
        assert gradients[name].item() == pytest.approx(value, rel=1e-14), name
    for name, values in {"V": (h * p, -h * p), "V'": (h_ * p, -h_ * p), "c": (p, -p)}.items():
        assert gradients[name].ravel().tolist() == pytest.approx(list(values), rel=1e-14), name
