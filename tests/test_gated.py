"""The plain NumPy LSTM and GRU against the equations in bptt_cells.py, their own slopes, PyTorch and the engine."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bptt_cells import CELLS, NETS, Net
from bptt_models import EXACT, STEP, apart

from tinygrad_rnn import bptt
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import gated
from tinygrad_rnn.bptt.gated import GRU, LSTM, Gated

GRUS = [f"GRU {reset} {update}" for reset in ("after", "before", None) for update in "zu"]
LABELS = ["LSTM", *GRUS]
each_cell = pytest.mark.parametrize("label", LABELS)
OFF = 1 + 1e-6
SMALL = {label: Net(label, T=6, B=3, D=2, H=4, V=5, seed=100 + i) for i, label in enumerate(LABELS)}
LONG = {label: Net(label, T=200, B=3, D=2, H=4, V=5, seed=200 + i) for i, label in enumerate(LABELS)}


def mirrored(net: Net, **changed: Any) -> Gated:
    """The same model; what is changed is given by the names of the fields, or of the parameters."""
    theta = {name: np.array(changed.pop(name, p.data)) for name, p in net.parameters.items() if name != "x"}
    given: dict[str, Any] = {"theta": theta, "x": np.array(net.parameters["x"].data), "y": net.built[2], **changed}
    if net.cell == "LSTM":
        return LSTM(**given)
    _, reset, update = net.cell.split()
    return GRU(**given, reset=None if reset == "None" else reset, update=update)  # type: ignore[arg-type]


def names_of(net: Net) -> list[str]:
    return [name for name in net.parameters if name != "x"]


def total(terms: dict[int, np.ndarray]) -> np.ndarray:
    return np.sum(list(terms.values()), 0)


# -------------------------------------------------------------------------------------------------------- forward pass
def test_it_imports_nothing_of_the_engine() -> None:
    tree = ast.parse(Path(str(gated.__file__)).read_text(encoding="utf-8"))
    names = {f"{'.' * n.level}{n.module}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert names == {"__future__", "abc", "collections.abc", "dataclasses", "functools", "typing", "numpy",
                     ".reference"}


@each_cell
def test_losses_are_those_of_the_definition_and_of_the_library(label: str) -> None:
    net = SMALL[label]
    s, y_hat, E = mirrored(net).forward()
    assert s.shape == (net.T + 1, net.B, net.H * len(net.states)) and y_hat.shape == (net.T, net.B, net.V)
    assert apart(E, np.array([float(loss) for loss in net.run({})])) < EXACT
    assert apart(E, np.array([loss.item() for loss in net.losses])) < EXACT
    assert np.array_equal(s[0, :, :net.H], np.tile(net.parameters["h_0"].data, (net.B, 1)))


def test_the_gru_of_the_notes_gives_their_worked_number() -> None:
    """u = 0.4, c_{t-1} = 1, c̃ = 0 gives 0.6 (5)."""
    zero, b_u = np.zeros((1, 1)), np.log(np.array([0.4 / 0.6]))
    theta = {**dict.fromkeys(("U_u", "W_u", "U_n", "W_n", "V"), zero), "b_u": b_u, "b_n": np.zeros(1), "c": np.zeros(1),
             "h_0": np.ones((1, 1))}
    one = GRU(theta, np.zeros((1, 1, 1)), np.zeros((1, 1), int), reset=None, update="u")
    assert one.forward()[0][1].item() == pytest.approx(0.6, rel=1e-15)


def test_one_step_of_one_lstm_unit_worked_out_by_hand() -> None:
    theta = {f"{symbol}_{g}": np.full(shape, value + 0.1 * k) for k, g in enumerate("fioc")
             for symbol, shape, value in (("U", (1, 1), 0.5), ("W", (1, 1), -0.3), ("b", (1,), 0.2))}
    theta |= {"V": np.array([[1.0, -1.0]]), "c": np.zeros(2), "h_0": np.array([[0.4]]), "c_0": np.array([[-0.7]])}
    one = LSTM(theta, np.array([[[1.5]]]), np.array([[0]]))
    z = [1.5 * (0.5 + 0.1 * k) + 0.4 * (-0.3 + 0.1 * k) + 0.2 + 0.1 * k for k in range(4)]
    f, i, o = (1 / (1 + np.exp(-v)) for v in z[:3])
    c = f * -0.7 + i * np.tanh(z[3])
    h = o * np.tanh(c)
    p = 1 / (1 + np.exp(-2 * h))
    s, y_hat, E = one.forward()
    assert s[1, 0].tolist() == pytest.approx([h, c], rel=1e-14)
    assert y_hat[0, 0, 0] == pytest.approx(p, rel=1e-14) and E[0] == pytest.approx(-np.log(p), rel=1e-14)
    dc = 2 * (p - 1) * o * (1 - np.tanh(c) ** 2)
    assert total(one.closed_form(1, "c_0")).item() == pytest.approx(dc * f, rel=1e-13)
    assert one.recursion(1, "W_f").total.item() == pytest.approx(dc * -0.7 * f * (1 - f) * 0.4, rel=1e-13)


@each_cell
def test_extreme_gates_and_logits_stay_finite(label: str) -> None:
    net = SMALL[label]
    ref = mirrored(net, **{name: p.data * 1000 for name, p in net.parameters.items() if name[0] in "UWV"})
    assert all(np.isfinite(part).all() for part in ref.forward())
    assert np.isfinite(ref.recursion(net.T, "W_" + ("f" if label == "LSTM" else "n")).total).all()


# --------------------------------------------------------------------------------------------------------- Jacobians
def moved(run: Callable[[np.ndarray], np.ndarray], at: np.ndarray, method: str) -> np.ndarray:
    """∂run/∂at of each row, (B, n, m), one unit after the other in all rows at once."""
    columns = []
    for j in range(at.shape[1]):
        e = np.eye(at.shape[1])[j]
        if method == "complex step":
            columns.append(run(at + 1j * STEP * e).imag / STEP)
        else:
            near, far = (run(at + step * e) - run(at - step * e) for step in (1e-3, 2e-3))
            columns.append((8 * near - far) / 12e-3)
    return np.stack(columns, 2)


class Nudged(dict[str, np.ndarray]):
    """Parameters whose b_g carries one row for each row of the batch: z_g moves by as much."""

    def __init__(self, theta: Any, g: str, by: np.ndarray) -> None:
        super().__init__(theta)
        self[f"b_{g}"] = self[f"b_{g}"] + by


@each_cell
@pytest.mark.parametrize(("method", "allowed"), [("complex step", EXACT), ("differences", 1e-9)])
def test_the_one_step_jacobians_are_the_slopes_of_the_step(label: str, method: str, allowed: float) -> None:
    net, rng = SMALL[label], np.random.default_rng(5)
    ref = mirrored(net)
    x, s = rng.normal(size=(net.B, net.D)), rng.normal(size=(net.B, net.H * len(net.states)))
    step = ref.step(x, s)
    assert apart(ref.jacobian(step), moved(lambda s: ref.step(x, s).state, s, method)) < allowed
    slopes = ref.slopes(step)
    assert set(slopes) == {name[2:] for name in ref.theta if name.startswith("b_")}
    for g, S in slopes.items():
        def nudged(by: np.ndarray, g: str = g) -> np.ndarray:
            return replace(ref, theta=Nudged(ref.theta, g, by)).step(x, s).state

        assert apart(S, moved(nudged, np.zeros((net.B, net.H)), method)) < allowed, g


@each_cell
def test_carrying_deltas_back_is_multiplying_by_the_jacobians(label: str) -> None:
    """(23), (24) and the matrices are written apart; δs_{t-1} = J_tᵀ δs_t and δz_g = S_gᵀ δs_t join them."""
    net, rng = SMALL[label], np.random.default_rng(6)
    ref = mirrored(net)
    n = net.H * len(net.states)
    step = ref.step(rng.normal(size=(net.B, net.D)), rng.normal(size=(net.B, n)))
    ds = rng.normal(size=(net.B, n))
    dz, before = ref.deltas(step, ds)
    assert apart(before, np.einsum("bi,bij->bj", ds, ref.jacobian(step))) < EXACT
    slopes = ref.slopes(step)
    assert set(dz) == set(slopes)
    for g, d in dz.items():
        assert apart(d, np.einsum("bi,bij->bj", ds, slopes[g])) < EXACT, g


def test_the_direct_path_of_the_lstm_is_its_forget_gates() -> None:
    net = SMALL["LSTM"]
    ref, H = mirrored(net), net.H
    for step in ref.steps:
        assert np.array_equal(ref.jacobian(step)[:, H:, H:], gated.diag(step.gates["f"]))


# ------------------------------------------------------------------------------------------------------ both routes
@each_cell
def test_both_routes_are_the_row_of_the_definition_term_by_term(label: str) -> None:
    net = SMALL[label]
    ref = mirrored(net)
    for name in names_of(net):
        A = net.A(name)  # (T, T + 2, *shape) by the complex step through own copies of each step
        for t in (1, 2, net.T):
            closed, split = ref.closed_form(t, name), ref.recursion(t, name)
            assert sorted(closed) == ([t] if name in "Vc" else [0] if name.endswith("_0") else list(range(1, t + 1)))
            for k, term in closed.items():
                assert apart(term, A[t - 1, k]) < EXACT, (name, t, k)
            assert apart(split.total, A[t - 1].sum(0)) < EXACT, (name, t)
            own, size = A[t - 1, t] * (not name.endswith("_0")), np.abs(A[t - 1]).max()
            assert np.abs(split.explicit - own).max() <= EXACT * size, (name, t)
            assert np.abs(split.implicit - (A[t - 1].sum(0) - own)).max() <= EXACT * size, (name, t)


@each_cell
@pytest.mark.parametrize("nets", [SMALL, LONG], ids=["6 steps", "200 steps"])
def test_both_routes_are_what_the_engine_computes(label: str, nets: dict[str, Net]) -> None:
    net = nets[label]
    ref, loss = mirrored(net), net.losses[-1]
    loss.backward()
    for name in names_of(net):
        p = net.parameters[name]
        gradient, p.grad = p.grad, None
        assert np.abs(gradient).max() > (1e-300 if name.endswith("_0") else 1e-30)
        assert apart(ref.recursion(net.T, name).total, gradient) < EXACT, name
        assert apart(total(ref.closed_form(net.T, name)), gradient) < EXACT, name


@each_cell
def test_they_agree_with_an_explanation_part_by_part(label: str) -> None:
    assert not disagreeing(mirrored(SMALL[label]), SMALL[label])


@each_cell
def test_an_initial_state_for_each_row_gets_a_gradient_for_each_row(label: str) -> None:
    net = SMALL[label]
    learned = mirrored(net)
    whole = mirrored(net, h_0=np.tile(net.parameters["h_0"].data, (net.B, 1)))
    for route in (lambda ref, name: ref.recursion(net.T, name).total,
                  lambda ref, name: total(ref.closed_form(net.T, name))):
        assert route(whole, "h_0").shape == (net.B, net.H)
        assert apart(route(whole, "h_0").sum(0), route(learned, "h_0")) < EXACT
        assert apart(route(whole, "U_n" if label != "LSTM" else "U_f"),
                     route(learned, "U_n" if label != "LSTM" else "U_f")) < EXACT


@each_cell
def test_ids_are_one_hot_rows_and_the_weight_multiplies(label: str) -> None:
    net = SMALL[label]
    ids = np.random.default_rng(0).integers(0, net.D, (net.T, net.B))
    by_ids, by_rows = mirrored(net, x=ids), mirrored(net, x=np.eye(net.D)[ids], weight=1 / 3)
    assert apart(by_rows.forward()[2] * 3, by_ids.forward()[2]) < EXACT
    for name in names_of(net):
        one, third = by_ids.recursion(net.T, name).total, by_rows.recursion(net.T, name).total
        assert apart(third * 3, one) < EXACT
        assert apart(total(by_rows.closed_form(net.T, name)) * 3, one) < EXACT


@pytest.mark.parametrize("label", ["LSTM", "GRU after z"])
def test_forward_and_gradients_are_those_of_pytorch(label: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = SMALL[label]
    ref, rows = mirrored(net), ["i", "f", "c", "o"] if label == "LSTM" else ["r", "z", "n"]
    a = {name: torch.tensor(np.array(array), requires_grad=True) for name, array in ref.theta.items()}
    theirs = (torch.nn.LSTM if label == "LSTM" else torch.nn.GRU)(net.D, net.H).double()
    values = {"weight_ih_l0": torch.cat([a[f"U_{g}"].T for g in rows]),
              "weight_hh_l0": torch.cat([a[f"W_{g}"].T for g in rows]),
              "bias_ih_l0": torch.cat([a[f"b_{g}"] for g in rows]),
              "bias_hh_l0": torch.cat([a["b_hn"] if g == "n" else torch.zeros(net.H).double() for g in rows])}
    start = tuple(a[f"{part}_0"].expand(1, net.B, net.H).contiguous() for part in ref.states)
    output, _ = torch.func.functional_call(theirs, values, (torch.tensor(ref.x), start if len(start) > 1 else start[0]))
    E = torch.nn.functional.cross_entropy(output[-1] @ a["V"] + a["c"], torch.tensor(ref.y[-1]), reduction="sum")
    assert apart(ref.forward()[2][-1], E.item()) < EXACT
    assert apart(ref.forward()[0][1:, :, :net.H], output.detach().numpy()) < EXACT
    for name, d in zip(a, torch.autograd.grad(E, list(a.values()))):
        assert apart(ref.recursion(net.T, name).total, d.numpy()) < EXACT, name
        assert apart(total(ref.closed_form(net.T, name)), d.numpy()) < EXACT, name


# ----------------------------------------------------------------------------------- each equation off by a millionth
def disagreeing(ref: Gated, net: Net) -> set[str]:
    """What differs from the engine's explanation of any parameter: E, parts of the recursion, terms of (23, 24)."""
    t, found = net.T, set()
    for name in names_of(net):
        e, split, terms = explained(net.cell, name), ref.recursion(t, name), ref.closed_form(t, name)
        size = np.abs(e.total).max()
        apart = {"E": abs(ref.forward()[2][-1] / e.loss.item() - 1),
                 "explicit": np.abs(split.explicit - e.explicit).max() / size,
                 "implicit": np.abs(split.implicit - e.implicit).max() / size,
                 "total": np.abs(split.total - e.total).max() / size,
                 "terms": max(np.abs(terms.get(k, 0.0) - term).max() / size for k, term in e.terms.items())}
        found |= {part for part, distance in apart.items() if not distance < EXACT}
    return found


@cache
def explained(label: str, name: str) -> bptt.Explanation:
    return bptt.explain(SMALL[label].losses[-1], SMALL[label].parameters[name])


def spoiled(ref: Gated, method: str, change: Callable[[Any], Any]) -> Gated:
    """The same with one method of it changed."""
    right = getattr(type(ref), method)
    wrong = type(f"Wrong{type(ref).__name__}", (type(ref),),
                 {method: lambda self, *given: change(right(self, *given))})
    made: Gated = wrong(**{f.name: getattr(ref, f.name) for f in fields(ref)})
    return made


def gates_of(label: str) -> list[str]:
    return [name[2:] for name in mirrored(SMALL[label]).theta if name.startswith("b_")]


EVERY_GATE = [(label, g) for label in LABELS for g in gates_of(label)]
BY_Z = [(label, g) for label, g in EVERY_GATE if g != "hn" and (g != "n" or "after" not in label)]
each_gate = pytest.mark.parametrize(("label", "g"), EVERY_GATE, ids=[f"{label}, {g}" for label, g in EVERY_GATE])


@each_gate
def test_a_delta_of_the_closed_form_off_by_a_millionth_is_noticed_in_its_terms_alone(label: str, g: str) -> None:
    net = SMALL[label]
    wrong = spoiled(mirrored(net), "deltas", lambda found: ({**found[0], g: found[0][g] * OFF}, found[1]))
    assert disagreeing(wrong, net) == {"terms"}


@each_gate
def test_a_slope_of_the_recursion_off_by_a_millionth_is_noticed_in_its_parts_alone(label: str, g: str) -> None:
    net = SMALL[label]
    wrong = spoiled(mirrored(net), "slopes", lambda S: {**S, g: S[g] * OFF})
    assert disagreeing(wrong, net) == {"explicit", "implicit", "total"}


@each_cell
@pytest.mark.parametrize(("method", "parts"), [("jacobian", {"implicit", "total"}), ("deltas", {"terms"})])
def test_what_is_handed_on_from_step_to_step_off_by_a_millionth_is_noticed(label: str, method: str,
                                                                         parts: set[str]) -> None:
    net = SMALL[label]
    wrong = spoiled(mirrored(net), method, lambda found: found * OFF if method == "jacobian"
                    else (found[0], found[1] * OFF))
    assert disagreeing(wrong, net) == parts


@pytest.mark.parametrize(("label", "g"), BY_Z, ids=[f"{label}, {g}" for label, g in BY_Z])
def test_the_sum_of_a_gate_off_by_a_millionth_is_noticed_in_the_loss_and_in_every_part(label: str, g: str) -> None:
    net = SMALL[label]
    ref = mirrored(net)

    class Wrong(type(ref)):  # type: ignore[misc]
        def z(self, gate: str, x: np.ndarray, h: np.ndarray) -> Any:
            return super().z(gate, x, h) * (OFF if gate == g else 1.0)

    wrong = Wrong(**{f.name: getattr(ref, f.name) for f in fields(ref)})
    assert disagreeing(wrong, net) == {"E", "explicit", "implicit", "total", "terms"}


@each_cell
def test_a_state_off_by_a_millionth_is_noticed_in_the_loss_and_in_every_part(label: str) -> None:
    net = SMALL[label]
    wrong = spoiled(mirrored(net), "step", lambda step: replace(step, state=step.state * OFF))
    assert disagreeing(wrong, net) == {"E", "explicit", "implicit", "total", "terms"}


def test_a_prediction_off_by_a_millionth_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gated.predicted
    monkeypatch.setattr(gated, "predicted", lambda q, y, weight: right(q * OFF, y, weight))
    for label in LABELS:
        assert disagreeing(mirrored(SMALL[label]), SMALL[label]) == {"E", "explicit", "implicit", "total", "terms"}


def test_every_cell_of_the_library_that_has_a_closed_form_is_here() -> None:
    assert set(LABELS) == set(CELLS) - {"RNN", "own", "LSTM with peepholes"}
    assert all(label in NETS or f"{label}, forward" in NETS for label in LABELS)
    assert F.sigmoid(0.0).item() == gated.sigmoid(np.zeros(())) == 0.5


@each_cell
def test_prove_takes_them_as_witnesses_of_every_parameter(label: str) -> None:
    net = SMALL[label]
    ref = mirrored(net)
    for name in names_of(net):
        proof = bptt.prove(bptt.explain(net.losses[-1], net.parameters[name]), ref)
        assert proof, f"{name}: {proof}"
        assert sum(w.shares == "nothing" for w in proof.witnesses) == 5
