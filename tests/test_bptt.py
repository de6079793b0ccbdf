"""BPTT taken apart: every part of every gradient against known answers, other routes and identities (16 to 20, 26)."""

from __future__ import annotations

import tracemalloc
from math import tanh
from typing import Any

import numpy as np
import pytest
from bptt_models import CASES, EXACT, MODELS, STEP, Model, PlainLoop, apart, term_matrix
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn import Tensor, nn, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import explain, prove, terms
from tinygrad_rnn.steps import recurrence_edges
from tinygrad_rnn.sweep import order

each_case = pytest.mark.parametrize(("label", "name"), CASES, ids=[f"{label}-{name}" for label, name in CASES])
LOOPS = {"plain": PlainLoop(), "mask before": PlainLoop(before="mask"), "tanh before": PlainLoop(before="tanh"),
         "two before": PlainLoop(before="mask, tanh"), "W twice": PlainLoop(twice=True),
         "W twice, tanh before": PlainLoop(twice=True, before="tanh")}


def first_use(name: str) -> int:
    """h_0 is the state of step 0, given or learned."""
    return 0 if name == "h_0" else 1


def dense(a: Any, T: int, first: int = 1) -> np.ndarray:
    """Terms.arrays as (losses, T, *W.shape), zero where a step has no use."""
    out = np.zeros((len(a.losses), T, *a.parameter.shape))
    for j, k in enumerate(a.steps):
        out[:, k - first] = a.arrays[:, j]
    return out


# ------------------------------------------------------------------------------------------------------- known answers
def test_three_equal_terms_of_0_036_make_0_108() -> None:
    w, s = Tensor(0.2, requires_grad=True, name="w"), Tensor(0.9)
    for t in (1, 2, 3):
        with scope(t=t):
            s = w * s
    e = explain(s, w)
    assert e.total == pytest.approx(0.108, abs=1e-16)
    assert e.explicit == pytest.approx(0.036, abs=1e-16)
    assert e.implicit == pytest.approx(0.072, abs=1e-16)
    assert list(e.terms) == [1, 2, 3]
    assert [float(term) for term in e.terms.values()] == pytest.approx([0.036] * 3, abs=1e-16)
    assert prove(e)


def test_two_tanh_steps_worked_out_by_hand() -> None:
    w, u, b, s_0, x_1, x_2, y = 0.7, -0.4, 0.1, 0.9, 0.5, -1.3, 0.25
    s_1 = tanh(w * s_0 + u * x_1 + b)
    s_2 = tanh(w * s_1 + u * x_2 + b)
    D_1, D_2, dE = 1 - s_1**2, 1 - s_2**2, s_2 - y  # E = (s_2 - y)²/2
    J = D_2 * w
    expected = {"w": (dE * D_2 * s_1, dE * J * D_1 * s_0), "u": (dE * D_2 * x_2, dE * J * D_1 * x_1),
                "b": (dE * D_2, dE * J * D_1), "s_0": (0.0, dE * J * D_1 * w)}

    p = {name: Tensor(v, requires_grad=True, name=name) for name, v in {"w": w, "u": u, "b": b, "s_0": s_0}.items()}
    s = p["s_0"]
    for t, x in ((1, x_1), (2, x_2)):
        with scope(t=t):
            s = F.tanh(p["w"] * s + p["u"] * x + p["b"])
            E = (s - y) ** 2 / 2
    for name, (explicit, implicit) in expected.items():
        e = explain(E, p[name])
        assert float(e.explicit) == pytest.approx(explicit, rel=1e-14, abs=0), name
        assert float(e.implicit) == pytest.approx(implicit, rel=1e-14, abs=0), name
        assert float(e.total) == pytest.approx(explicit + implicit, rel=1e-14, abs=0), name
        assert float(e.terms[1]) == pytest.approx(implicit, rel=1e-14, abs=0), name
        if name != "s_0":
            assert float(e.terms[2]) == pytest.approx(explicit, rel=1e-14, abs=0), name
        assert list(e.terms) == ([1] if name == "s_0" else [1, 2])


def test_pytorch_with_one_copy_of_each_weight_per_step_gives_the_same_term_matrix() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    m = Model(T=4)
    copies = {name: [None] + [torch.tensor(a, dtype=torch.float64, requires_grad=True) for _ in range(m.T)]
              for name, a in m.arrays.items() if name != "h_0"}
    x, y, h, losses = torch.tensor(m.x), torch.tensor(m.y), torch.tensor(m.arrays["h_0"]), []
    for k in range(1, m.T + 1):
        h = torch.tanh(x[k - 1] @ copies["U"][k] + h @ copies["W"][k] + copies["b"][k])
        q = h @ copies["V"][k] + copies["c"][k]
        losses.append(torch.nn.functional.cross_entropy(q, y[k - 1], reduction="sum"))
    for name in copies:
        leaves = copies[name][1:]
        A = np.zeros((m.T, m.T, *m.arrays[name].shape))
        for t, E in enumerate(losses):
            found = torch.autograd.grad(E, leaves, retain_graph=True, allow_unused=True)
            for k, d in enumerate(found):
                A[t, k] = 0 if d is None else d.numpy()
        assert apart(dense(terms(m.losses, m.parameters[name]), m.T), A) < EXACT, name


# ---------------------------------------------------------------------------------- every part, against the definition
@each_case
def test_the_term_matrix_is_what_moving_one_copy_of_the_parameter_says(label: str, name: str) -> None:
    m = MODELS[label]
    A, a = m.A(name), terms(m.losses, m.parameters[name])
    first = first_use(name)
    assert a.arrays is not None and a.arrays.shape == (m.T, len(a.steps), *m.arrays[name].shape)
    assert a.steps == ((first,) if name == "h_0" else tuple(range(1, m.T + 1)))
    ours = dense(a, m.T, first)
    assert apart(ours, A) < EXACT
    for t in range(m.T):
        assert (ours[t, t + 1:] == 0).all(), "above the diagonal"
        if name in ("V", "c"):
            assert (ours[t, :t] == 0).all(), "the output is used at its own step alone"
        for k in range(t + 1):  # every term against its own size: the far ones are small
            if A[t, k].any():
                assert apart(ours[t, k], A[t, k]) < EXACT, (t, k)


@each_case
def test_rows_columns_norms_and_total_are_those_of_the_matrix(label: str, name: str) -> None:
    m = MODELS[label]
    A, a = m.A(name), terms(m.losses, m.parameters[name])
    columns = A[:, :1] if name == "h_0" else A
    assert apart(a.rows, A.sum(1)) < EXACT
    assert apart(a.columns, columns.sum(0)) < EXACT
    assert apart(a.total, A.sum((0, 1))) < EXACT
    norms = np.array([[np.linalg.norm(d.ravel()) for d in row] for row in columns])
    assert apart(a.norms, norms) < EXACT
    assert a.parameter is m.parameters[name] and a.losses == tuple(m.losses)


@each_case
def test_each_explanation_is_the_row_of_the_matrix_split_at_the_diagonal(label: str, name: str) -> None:
    m = MODELS[label]
    A, first = m.A(name), first_use(name)
    for t, E in enumerate(m.losses, 1):
        e = explain(E, m.parameters[name])
        row = A[t - 1]
        explicit = row[t - 1] if first == 1 else np.zeros_like(row[0])
        implicit = row.sum(0) - explicit if t > 1 or first == 0 else np.zeros_like(row[0])
        assert np.abs(e.explicit - explicit).max() <= EXACT * np.abs(row).max()
        assert np.abs(e.implicit - implicit).max() <= EXACT * np.abs(row).max()
        assert apart(e.total, row.sum(0)) < EXACT
        assert apart(e.explicit + e.implicit, e.total) < EXACT
        assert apart(sum(e.terms.values()), e.total) < EXACT
        used = [t] if name in ("V", "c") else [first] if name == "h_0" else list(range(1, t + 1))
        assert list(e.terms) == used
        for k in used:
            assert apart(e.terms[k], row[k - first]) < EXACT
        assert e.step == t and e.loss is E and e.parameter is m.parameters[name]
        if name in ("V", "c") or (t == 1 and first == 1):
            assert (e.implicit == 0).all(), "no path crosses a recurrence edge"


@each_case
def test_terms_are_as_many_separate_explanations(label: str, name: str) -> None:
    m = MODELS[label]
    a = terms(m.losses, m.parameters[name])
    assert a.arrays is not None
    for t, E in enumerate(m.losses):
        e = explain(E, m.parameters[name])
        assert apart(a.rows[t], e.total) < EXACT
        for j, k in enumerate(a.steps):
            if k in e.terms:
                assert apart(a.arrays[t, j], e.terms[k]) < EXACT
            else:
                assert (a.arrays[t, j] == 0).all() and a.norms[t, j] == 0


@each_case
def test_the_sum_of_the_matrix_is_what_backward_adds_to_grad(label: str, name: str) -> None:
    m = MODELS[label]
    parameter = m.parameters[name]
    a = terms(m.losses, parameter)
    rows = []
    for E in m.losses:
        E.backward()
        rows.append(parameter.grad)
        parameter.grad = None
    assert apart(a.rows, np.stack(rows)) < EXACT
    F.sum(F.stack(m.losses)).backward()
    try:
        assert apart(a.total, parameter.grad) < EXACT
    finally:
        for p in m.parameters.values():
            p.grad = None


@pytest.mark.parametrize("label", ["tanh", "sigmoid", "no bias", "ids"])
def test_a_batch_is_the_sum_of_its_rows(label: str) -> None:
    m = MODELS[label]
    for name in m.names:
        first = first_use(name)
        together = dense(terms(m.losses, m.parameters[name]), m.T, first)
        alone = np.zeros_like(together)
        for row in range(m.B):
            one = Model(T=m.T, B=1, D=m.D, H=m.H, V=m.V, nonlinearity=m.nonlinearity, bias=m.bias, ids=m.ids,
                        arrays={**m.arrays, "h_0": m.arrays["h_0"][[row]]})
            one.x, one.y = m.x[:, [row]], m.y[:, [row]]
            found = dense(terms(one.losses, one.parameters[name]), m.T, first)
            if name == "h_0":
                alone[:, :, row] += found[:, :, 0]
            else:
                alone += found
        assert apart(together, alone) < EXACT, name


# ------------------------------------------------------------------------------------------------ equations 16, 17, 18
@pytest.mark.parametrize("label", ["tanh", "sigmoid", "one row", "constant 0.5"])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_term_k_is_the_product_of_the_jacobians_behind_step_k(label: str, name: str) -> None:
    m = MODELS[label]
    for t in (3, m.T):
        e, dE_ds = explain(m.losses[t - 1], m.parameters[name]), m.dE_ds(t)
        for k in range(1, t + 1):
            term = np.zeros(m.arrays[name].shape)
            for row in range(m.B):
                carried = dE_ds[row]
                for j in range(t, k, -1):
                    carried = carried @ m.jacobian(j, row)
                term += np.tensordot(carried, m.direct(name, k, row), 1)
            assert apart(e.terms[k], term) < EXACT, (t, k)


@pytest.mark.parametrize("label", ["tanh", "sigmoid"])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_every_state_obeys_the_recursion_16_and_the_sum_17_is_exact(label: str, name: str) -> None:
    m = MODELS[label]
    row, parameter = 1, m.parameters[name]
    ds = np.zeros((m.H, *parameter.shape))
    for t in range(1, m.T + 1):
        with scope(t=t, layer=0, direction="forward"):
            elements = [m.states[t - 1][row, i] for i in range(m.H)]
        explicit = np.stack([explain(s, parameter).explicit for s in elements])
        implicit = np.stack([explain(s, parameter).implicit for s in elements])
        assert apart(explicit, m.direct(name, t, row)) < EXACT
        carried = np.tensordot(m.jacobian(t, row), ds, 1)
        assert apart(implicit, carried) < EXACT
        ds = m.direct(name, t, row) + carried
        assert apart(terms(elements, parameter).rows, ds) < EXACT


@pytest.mark.parametrize("name", ["W", "U"])
def test_with_h_0_zero_the_first_use_of_W_contributes_exactly_0(name: str) -> None:
    m = Model(initial=0.0, seed=9)
    a = terms(m.losses, m.parameters[name])
    assert a.arrays is not None
    assert (a.arrays[:, 0] == 0).all() == (name == "W")
    assert (a.norms[:, 0] == 0).all() == (name == "W")
    assert a.norms[1, 1] > 0
    assert (explain(m.losses[-1], m.parameters[name]).terms[1] == 0).all() == (name == "W")


# ----------------------------------------------------------------------------------------------- reductions and losses
@pytest.mark.parametrize("name", ["U", "W", "b", "V", "c", "h_0"])
def test_under_a_mean_over_the_steps_every_term_carries_1_over_T(name: str) -> None:
    m = MODELS["tanh"]
    losses = []
    for t, E in enumerate(m.losses, 1):
        with scope(t=t):
            losses.append(E / m.T)
    a = terms(losses, m.parameters[name])
    A, first = m.A(name), first_use(name)
    assert apart(dense(a, m.T, first), A / m.T) < EXACT
    mean = F.stack(m.losses).mean()
    e = explain(mean, m.parameters[name])
    assert apart(e.total, A.sum((0, 1)) / m.T) < EXACT
    diagonal = np.einsum("tt...->...", A) / m.T * first  # what h_0 does crosses an edge, always
    assert apart(e.explicit, diagonal) < EXACT
    assert np.abs(e.implicit - (e.total - diagonal)).max() <= EXACT * np.abs(e.total).max()
    for k, term in e.terms.items():
        assert apart(term, A[:, k - first].sum(0) / m.T) < EXACT


def test_a_loss_on_the_last_state_only_is_E_T() -> None:
    m = MODELS["sigmoid"]
    V, c = m.parameters["V"], m.parameters["c"]
    E = F.cross_entropy(m.states[-1] @ V + c, m.y[-1], reduction="sum")  # outside every scope
    for name in ("U", "W", "b", "h_0"):
        e, row = explain(E, m.parameters[name]), m.A(name)[-1]
        assert e.step == m.T
        assert np.abs(e.explicit - row[-1]).max() <= EXACT * np.abs(row).max()
        assert apart(e.implicit, row[:-1].sum(0)) < EXACT
        assert apart(np.stack(list(e.terms.values())), row[:len(e.terms)]) < EXACT
    e = explain(E, V)
    assert list(e.terms) == [None] and apart(e.terms[None], m.A("V")[-1, -1]) < EXACT
    assert (e.implicit == 0).all()


def test_losses_made_of_one_another_keep_their_own_rows() -> None:
    m = MODELS["tanh"]
    first, second, third = m.losses[:3]
    losses = [first, first + second, second, third * 2 + second]
    A = m.A("W").sum(1)
    a = terms(losses, m.parameters["W"])
    assert apart(a.rows, np.stack([A[0], A[0] + A[1], A[1], 2 * A[2] + A[1]])) < EXACT
    assert apart(terms(losses[::-1], m.parameters["W"]).rows, a.rows[::-1]) < EXACT


# ---------------------------------------------------------------------------------------------------------- truncation
@pytest.mark.parametrize("tau", [1, 2, 3])
def test_detaching_every_tau_steps_leaves_lower_triangular_blocks(tau: int) -> None:
    m = MODELS["tanh"]
    p = m.parameters
    state, losses = p["h_0"], []
    for t in range(1, m.T + 1):
        with scope(t=t):
            if t > 1 and (t - 1) % tau == 0:
                state = state.detach()
            state = F.tanh(Tensor(m.x[t - 1]) @ p["U"] + state @ p["W"] + p["b"])
            losses.append(F.cross_entropy(state @ p["V"] + p["c"], m.y[t - 1], reduction="sum"))
    block = np.arange(m.T) // tau
    same = block[:, None] == block
    for name in ("U", "W", "b"):
        A = m.A(name)
        ours = dense(terms(losses, p[name]), m.T)
        assert apart(ours, A * same[(..., *(None,) * p[name].ndim)]) < EXACT
        assert (ours[~same] == 0).all()
        assert np.abs(A[~same]).max() > 1e-3, "the full matrix has something to cut"


@pytest.mark.parametrize("tau", [1, 2, 3])
def test_a_sliding_window_is_the_band_and_moving_the_newest_copies_together_proves_it(tau: int) -> None:
    m = MODELS["tanh"]
    W = m.arrays["W"]
    window = np.zeros((m.T, *W.shape))
    for t in range(1, m.T + 1):
        for index in np.ndindex(W.shape):
            moved = W.astype(complex)
            moved[index] += 1j * STEP
            copies = [None] + [moved if t - tau < k <= t else W for k in range(1, m.T + 1)]
            window[(t - 1, *index)] = m.run({"W": copies})[t - 1].imag / STEP
    A = terms(m.losses, m.parameters["W"]).arrays
    assert A is not None
    band = np.stack([A[t, max(0, t + 1 - tau):t + 1].sum(0) for t in range(m.T)])
    assert apart(band, window) < EXACT
    if tau > 1:
        chunks = np.stack([A[t, t // tau * tau:t + 1].sum(0) for t in range(m.T)])
        assert apart(chunks, window) > 1e-3, "sliding and chunked truncation are not the same"


# -------------------------------------------------------------------------------------------------- hand-written loops
@pytest.mark.parametrize("label", LOOPS)
@pytest.mark.parametrize("name", ["U", "W", "s_0"])
def test_a_loop_of_plain_tensors_needs_nothing_but_the_step(label: str, name: str) -> None:
    loop = LOOPS[label]
    p, _, losses = loop.build()
    A = loop.A(name)
    a = terms(losses, p[name])
    assert a.steps == ((1,) if name == "s_0" else tuple(range(1, loop.T + 1))), "uses are counted where steps read them"
    assert apart(dense(a, loop.T), A) < EXACT
    assert apart(a.rows, A.sum(1)) < EXACT
    for t, E in enumerate(losses, 1):
        e = explain(E, p[name])
        assert np.abs(e.explicit - A[t - 1, t - 1]).max() <= EXACT * np.abs(A[t - 1]).max()
        assert np.abs(e.implicit - A[t - 1, :t - 1].sum(0)).max() <= EXACT * np.abs(A[t - 1]).max()
        assert apart(np.stack(list(e.terms.values())), A[t - 1, :len(e.terms)]) < EXACT
        assert prove(e)


@pytest.mark.parametrize("label", LOOPS)
def test_a_penalty_on_the_weight_is_a_use_outside_the_steps(label: str) -> None:
    loop, rate = LOOPS[label], 0.3
    p, _, losses = loop.build()
    W, A = loop.arrays["W"], loop.A("W")
    E = losses[-1] + rate / 2 * (p["W"] ** 2).sum()
    e = explain(E, p["W"])
    assert list(e.terms) == [None, *range(1, loop.T + 1)]
    assert apart(e.terms[None], rate * W) < EXACT
    assert apart(np.stack([e.terms[k] for k in range(1, loop.T + 1)]), A[-1]) < EXACT
    assert apart(e.explicit, A[-1, -1] + rate * W) < EXACT
    assert apart(e.implicit, A[-1, :-1].sum(0)) < EXACT
    assert prove(e)
    a = terms([*losses, E], p["W"])
    assert a.steps == (None, *range(1, loop.T + 1)) and a.arrays is not None
    assert (a.arrays[:-1, 0] == 0).all() and apart(a.arrays[-1, 0], rate * W) < EXACT


def test_a_weight_transformed_by_what_a_step_has_made_is_used_where_it_is_transformed() -> None:
    """Only what no step has had a part in counts as made before the steps."""
    W, x = Tensor(np.full(3, 0.7), requires_grad=True, name="W"), np.array([0.3, -0.2, 0.9])
    with scope(t=1):
        made = Tensor(x)  # a constant of step 1
    W2 = W * made  # outside the steps
    with scope(t=2):
        E = (F.tanh(W2) * x).sum()
    e = explain(E, W)
    assert list(e.terms) == [None]
    assert apart(e.terms[None], x * x * (1 - np.tanh(0.7 * x) ** 2)) < EXACT
    assert prove(e)


def test_two_parameters_that_share_one_tensor_have_their_terms_added() -> None:
    T, B, H = 4, 3, 5
    rng = np.random.default_rng(31)
    x, s_0, shared = rng.normal(size=(T, B, H)), rng.normal(size=(B, H)), rng.normal(0, 0.5, (H, H))

    def run(U: list[Any], W: list[Any]) -> list[Any]:
        s, losses = s_0, []
        for k in range(1, T + 1):
            s = np.tanh(x[k - 1] @ U[k] + s @ W[k])
            losses.append((s**3).sum())
        return losses

    same = [None] + [shared] * T
    A = term_matrix(lambda c: run(c, same), shared, T) + term_matrix(lambda c: run(same, c), shared, T)
    both = Tensor(shared, requires_grad=True, name="both")
    s, losses = Tensor(s_0), []
    for t in range(1, T + 1):
        with scope(t=t):
            s = F.tanh(x[t - 1] @ both + s @ both)
            losses.append((s * s * s).sum())
    assert apart(dense(terms(losses, both), T), A) < EXACT
    e = explain(losses[-1], both)
    assert apart(e.explicit, A[-1, -1]) < EXACT
    assert prove(e)


def test_losses_that_read_a_stack_made_outside_the_scopes_have_the_same_terms() -> None:
    m = MODELS["tanh"]
    p, S = m.parameters, F.stack(m.states)
    losses = []
    for t in range(1, m.T + 1):
        with scope(t=t):
            losses.append(F.cross_entropy(S[t - 1] @ p["V"] + p["c"], m.y[t - 1], reduction="sum"))
    for name in m.names:
        A, a = m.A(name), terms(losses, p[name])
        ours = dense(a, m.T, first_use(name))
        assert apart(ours, A) < EXACT
        assert all((ours[t, t + 1:] == 0).all() for t in range(m.T))
        e = explain(losses[2], p[name])
        assert e.step == 3
        explicit = A[2, 2] if name != "h_0" else np.zeros_like(A[2, 2])
        assert np.abs(e.explicit - explicit).max() <= EXACT * np.abs(A[2]).max()
        assert apart(e.total, A[2].sum(0)) < EXACT


def test_one_projection_of_a_stack_of_states_gives_every_diagonal_at_once() -> None:
    m = MODELS["tanh"]
    p = m.parameters
    E = F.cross_entropy(F.stack(m.states) @ p["V"] + p["c"], m.y, reduction="sum")
    e, A = explain(E, p["W"]), m.A("W")
    assert apart(e.explicit, np.einsum("tt...->...", A)) < EXACT
    assert apart(np.stack([e.terms[k] for k in range(1, m.T + 1)]), A.sum(0)) < EXACT
    assert prove(e)
    e = explain(E, p["V"])
    assert list(e.terms) == [None] and apart(e.total, m.A("V").sum((0, 1))) < EXACT
    assert prove(e)


def stacked(T: int = 4, B: int = 3, D: int = 2, H: int = 4, G: int = 5) -> tuple[dict[str, Any], np.ndarray, Any]:
    """Two layers by hand: arrays, inputs, and run(copies, held), the losses in NumPy; held fixes the earlier states."""
    rng = np.random.default_rng(41)
    arrays = {"U1": rng.normal(size=(D, H)), "W1": rng.normal(0, 0.6, (H, H)), "U2": rng.normal(0, 0.7, (H, G)),
              "W2": rng.normal(0, 0.6, (G, G)), "a_0": rng.normal(size=(B, H)), "b_0": rng.normal(size=(B, G))}
    x = rng.normal(size=(T, B, D))

    def run(copies: dict[str, list[Any]], held: bool = False) -> list[Any]:
        c = {name: copies.get(name, [array] * (T + 1)) for name, array in arrays.items()}
        a, b, losses = c["a_0"][1], c["b_0"][1], []
        for k in range(1, T + 1):
            if held:
                a, b = a.real, b.real
            a = np.tanh(x[k - 1] @ c["U1"][k] + a @ c["W1"][k])
            b = np.tanh(a @ c["U2"][k] + b @ c["W2"][k])
            losses.append((b**3).sum())
        return losses

    return arrays, x, run


@pytest.mark.parametrize("name", ["U1", "W1", "U2", "W2"])
def test_in_two_hand_stacked_layers_explicit_means_paths_that_cross_no_recurrence_edge(name: str) -> None:
    arrays, x, run = stacked()
    T = len(x)
    p = {n: Tensor(a, requires_grad=True, name=n) for n, a in arrays.items()}
    a, b, losses = p["a_0"], p["b_0"], []
    for t in range(1, T + 1):
        with scope(t=t):
            with scope(layer=0):
                a = F.tanh(x[t - 1] @ p["U1"] + a @ p["W1"])
            with scope(layer=1):
                b = F.tanh(a @ p["U2"] + b @ p["W2"])
            losses.append((b * b * b).sum())
    A = term_matrix(lambda copies: run({name: copies}), arrays[name], T)
    found = terms(losses, p[name])
    assert apart(dense(found, T), A) < EXACT
    for t, E in enumerate(losses, 1):
        e = explain(E, p[name])
        explicit = np.zeros_like(arrays[name])
        for index in np.ndindex(explicit.shape):  # one W everywhere, the earlier states of both layers held
            moved = arrays[name].astype(complex)
            moved[index] += 1j * STEP
            explicit[index] = run({name: [moved] * (T + 1)}, held=True)[t - 1].imag / STEP
        assert apart(e.explicit, explicit) < EXACT
        assert np.abs(e.implicit - A[t - 1, :t - 1].sum(0)).max() <= EXACT * np.abs(A[t - 1]).max()
        layers = {node.scope["layer"] for node, _ in recurrence_edges(order([E]))}
        assert layers == (set() if t == 1 else {0, 1}), "each layer has recurrence edges of its own"
        assert prove(e)


def test_the_recurrence_edges_are_those_that_read_the_state_before() -> None:
    m = MODELS["tanh"]
    edges = {node.scope["t"]: node.inputs[i] for node, i in recurrence_edges(order([m.losses[3]]))}
    assert list(sorted(edges)) == [1, 2, 3, 4] and [edges[t] for t in (2, 3, 4)] == m.states[:3]
    assert edges[1].scope["t"] == 0 and edges[1].inputs == (m.parameters["h_0"],)
    assert [node.inputs[i].scope["t"] for node, i in recurrence_edges(order([m.losses[0]]))] == [0]


# --------------------------------------------------------------------------------------- random programs, path by path
def partials(node: Tensor) -> list[float]:
    """∂node/∂input at each position, by hand: the programs are made of scalars and of these primitives alone."""
    v = [float(x.data) for x in node.inputs]
    y = float(node.data)
    by_hand = {"add": lambda: [1, 1], "sub": lambda: [1, -1], "mul": lambda: [v[1], v[0]],
               "tanh": lambda: [1 - y * y], "sigmoid": lambda: [y * (1 - y)]}
    return by_hand[node.op.name]()


def stepped(x: Tensor) -> bool:
    """Has a step had a part in x?"""
    return "t" in x.scope or any(stepped(i) for i in x.inputs)


def paths(node: Tensor, w: Tensor, product: float = 1.0, size: float = 1.0, crossed: bool = False,
          reader: Any = None) -> Any:
    """(product of partials, its size, crosses a recurrence edge?, step that reads w) for every path from node to w.

    The size is what the product is made of: 1 - y² of a saturated tanh is rounded as 1 is.
    """
    for d, x in zip(partials(node), node.inputs):
        a, b = ((n.scope.get("t"), n.scope.get("layer")) for n in (node, x))
        over = crossed or (None not in (a[0], b[0]) and a[0] != b[0] and a[1] == b[1])
        k = node.scope.get("t") if stepped(node) else reader
        large = size * (1.0 if node.op.name in ("tanh", "sigmoid") else abs(d))
        if x is w:
            yield product * d, large, over, k
        elif x.op is not None:
            yield from paths(x, w, product * d, large, over, k)


def random_program(seed: int) -> tuple[Tensor, Tensor]:
    """A loss and a weight: three steps in two layers that read one another's results, and the weight, as they like."""
    rng = np.random.default_rng(seed)
    w = Tensor(rng.normal(), requires_grad=True, name="w")
    pool = [w, Tensor(rng.normal(), requires_grad=True), F.tanh(w * float(rng.normal())), w * w]

    def grow(n: int) -> None:
        for _ in range(n):
            a, b = (pool[int(i)] for i in rng.integers(0, len(pool), 2))
            if rng.random() < 0.6:
                b = pool[-1]
            kind = rng.integers(0, 5)
            y = [lambda a=a, b=b: a + b, lambda a=a, b=b: a * b, lambda a=a, b=b: a - b * 0.5,
                 lambda a=a, b=b: F.tanh(a + b), lambda a=a, b=b: F.sigmoid(a * b)][kind]()
            pool.append(y)

    for t in (1, 2, 3):
        for layer in rng.permutation(2)[: rng.integers(1, 3)]:
            with scope(t=t, layer=int(layer)):
                grow(int(rng.integers(1, 3)))
        if rng.random() < 0.3:
            grow(1)  # outside the steps
    return pool[-1] + pool[-2] * pool[-3], w


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 2**31))
def test_in_any_program_the_parts_are_the_sums_over_its_paths(seed: int) -> None:
    E, w = random_program(seed)
    every = list(paths(E, w))
    size = sum(s for _, s, _, _ in every)  # paths cancel: rounding is relative to what is added up
    if not every or not stepped(E):
        return
    e = explain(E, w)
    assert abs(float(e.total) - sum(d for d, *_ in every)) <= EXACT * size
    assert abs(float(e.explicit) - sum(d for d, _, over, _ in every if not over)) <= EXACT * size
    assert abs(float(e.implicit) - sum(d for d, _, over, _ in every if over)) <= EXACT * size
    used = {k for *_, k in every}
    assert set(e.terms) == used
    for k in used:
        assert abs(float(e.terms[k]) - sum(d for d, _, _, j in every if j == k)) <= EXACT * size, k
    a = terms([E], w)
    assert a.arrays is not None and set(a.steps) == used
    for j, k in enumerate(a.steps):
        assert abs(float(a.arrays[0, j]) - float(e.terms[k])) <= EXACT * size


def test_the_random_programs_reach_every_kind_of_path() -> None:
    seen: set[tuple[bool, Any]] = set()
    for seed in range(60):
        E, w = random_program(seed)
        seen |= {(over, k) for *_, over, k in paths(E, w)}
    assert {(False, None), (False, 1), (False, 2), (False, 3), (True, 1), (True, 2)} <= seen


# ----------------------------------------------------------------------------------------------------------- long runs
def long_loop(T: int, B: int, H: int, before: bool = False) -> tuple[Tensor, list[Tensor], np.ndarray, np.ndarray]:
    """W, losses, inputs z and states s (T+1, B, H): a loop by hand whose losses are made in it."""
    rng = np.random.default_rng(51)
    x, s_0 = rng.normal(0, 0.3, (T, B, H)), rng.normal(0, 0.5, (B, H))
    W = Tensor(np.linalg.qr(rng.normal(size=(H, H)))[0], requires_grad=True, name="W")
    used = W * 1.0 if before else W
    s, states, losses = Tensor(s_0), [s_0], []
    for t in range(1, T + 1):
        with scope(t=t):
            s = F.tanh(x[t - 1] + s @ used).named("s")
            losses.append((s * s).sum().named("E"))
        states.append(s.data)
    return W, losses, x, np.stack(states)


def test_at_T_200_every_term_of_a_hand_written_loop_equals_the_closed_form() -> None:
    T = 200
    W, losses, _, s = long_loop(T, 3, 4)
    e = explain(losses[-1], W)
    delta = (1 - s[T] ** 2) * 2 * s[T]
    total = np.zeros(W.shape)
    for k in range(T, 0, -1):
        term = s[k - 1].T @ delta
        assert apart(e.terms[k], term) < EXACT, k  # each against its own size
        total += term
        if k == T:
            assert apart(e.explicit, term) < EXACT
        delta = (1 - s[k - 1] ** 2) * (delta @ W.data.T)
    assert apart(e.total, total) < EXACT
    assert apart(e.implicit, total - s[T - 1].T @ ((1 - s[T] ** 2) * 2 * s[T])) < EXACT
    a = terms(losses, W)
    assert apart(a.rows[-1], total) < EXACT
    assert apart(a.norms[-1], [np.linalg.norm(e.terms[k]) for k in range(1, T + 1)]) < EXACT
    assert (np.triu(a.norms, 1) == 0).all() and (np.tril(a.norms) > 0).sum() == T * (T + 1) // 2
    F.sum(F.stack(losses)).backward()
    assert W.grad is not None and apart(a.total, W.grad) < EXACT


@pytest.mark.parametrize("before", [False, True], ids=["W read by the steps", "W transformed before the loop"])
def test_terms_without_arrays_keep_no_T_by_T_arrays_of_the_weight(before: bool) -> None:
    T, B, H = 300, 1, 16
    W, losses, _, _ = long_loop(T, B, H, before)
    weight = H * H * 8
    tracemalloc.start()
    try:
        terms(losses, W)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # rows, columns, one step's sum with two temporaries of it, and room for two more: all (T, H, H); seeds (T, T) and
    # the edges of the states: (T, B, H) for the few tensors between a loss and the step before.
    bound = 7 * T * weight + 2 * T * T * 8 + 20 * T * B * H * 8 + 2_000_000
    assert bound < T * T * weight / 20
    assert peak < bound, f"{peak / 1e6:.1f} MB, allowed {bound / 1e6:.1f} MB"


# ------------------------------------------------------------------------------------------------ errors, side effects
def test_a_loss_that_is_no_scalar_is_refused() -> None:
    m = MODELS["tanh"]
    for call in (lambda: explain(m.states[-1], m.parameters["W"]), lambda: terms([m.states[-1]], m.parameters["W"]),
                 lambda: terms([m.losses[0], m.states[-1]], m.parameters["W"]),
                 lambda: explain(m.losses[0].reshape(1), m.parameters["W"]),
                 lambda: terms([m.losses[0].reshape(1, 1)], m.parameters["W"])):
        with pytest.raises(ValueError, match="scalar loss"):
            call()


def test_a_parameter_outside_the_graph_is_refused_and_what_is_inside_is_listed() -> None:
    m = MODELS["tanh"]
    other = Tensor(np.ones((4, 4)), requires_grad=True, name="stranger")
    for call, last in ((lambda: explain(m.losses[1], other), 2), (lambda: terms(m.losses, other), len(m.losses))):
        with pytest.raises(ValueError, match="E does not depend on this stranger") as error:
            call()
        assert str(error.value).endswith(f"in its graph: U, V, W, b, c, h_0; steps 0 … {last}")


def test_a_constant_is_refused_as_a_parameter() -> None:
    loop = LOOPS["plain"]
    _, _, losses = loop.build()
    constant = Tensor(np.ones(3), name="constant")
    with pytest.raises(ValueError, match="does not depend on this constant"):
        explain(losses[0], constant)
    x = Tensor(np.ones((2, 3)), name="x")
    w = Tensor(np.ones((3,)), requires_grad=True)
    with scope(t=1):
        E = (x @ w).sum()
    with pytest.raises(ValueError, match="does not depend on this x; in its graph: an unnamed leaf"):
        explain(E, x)


def test_a_graph_without_steps_is_refused_with_the_remedy() -> None:
    w = Tensor(0.5, requires_grad=True, name="w")
    for call in (lambda: explain(F.tanh(w * 2), w), lambda: terms([F.tanh(w * 2)], w)):
        with pytest.raises(ValueError, match=r"with scope\(t=t\)"):
            call()


def test_losses_given_twice_or_not_at_all_are_refused() -> None:
    m = MODELS["tanh"]
    with pytest.raises(ValueError, match="of 3 losses 2 are different"):
        terms([m.losses[0], m.losses[1], m.losses[0]], m.parameters["W"])
    with pytest.raises(ValueError, match="of 0 losses 0 are different"):
        terms([], m.parameters["W"])


def test_taking_apart_and_proving_changes_nothing() -> None:
    m = Model(T=4)
    everything = [*m.parameters.values(), *m.states, *m.losses]
    before = [x.data.copy() for x in everything]
    m.parameters["U"].grad = marked = np.full((m.D, m.H), 7.0)
    prove(explain(m.losses[-1], m.parameters["W"]), m.reference())
    prove(explain(m.losses[-1], m.parameters["U"]))
    terms(m.losses, m.parameters["U"])
    assert m.parameters["U"].grad is marked and (marked == 7).all()
    assert all(x.grad is None for x in everything if x is not m.parameters["U"])
    assert all(np.array_equal(x.data, old) for x, old in zip(everything, before))


def test_the_parts_are_arrays_of_their_own() -> None:
    m = Model(T=3)
    e = explain(m.losses[-1], m.parameters["W"])
    parts = [e.explicit, e.implicit, e.total, *e.terms.values()]
    copies = [part.copy() for part in parts]
    for i, part in enumerate(parts):
        part += 1.0
        assert all(np.array_equal(p, c) for j, (p, c) in enumerate(zip(parts, copies)) if j > i)
    w = Tensor(np.ones(3), requires_grad=True)
    with scope(t=1):
        simple = explain(w.sum(), w)  # what reaches w is a view of one number
    with scope(t=1):
        state = w * 2
    with scope(t=2):
        carried = explain(state.sum(), state)  # and so is what a recurrence edge brings to a state
    for part in (simple.explicit, simple.implicit, simple.total, simple.terms[1],
                 carried.explicit, carried.implicit, carried.total, carried.terms[1]):
        part[0] = 5.0
        assert part[1] != 5.0
    again = explain(m.losses[-1], m.parameters["W"])
    assert np.array_equal(again.total, copies[2]) and np.array_equal(again.explicit, copies[0])


def test_a_tensor_made_inside_the_graph_can_be_explained_too() -> None:
    """`explain` promises any tensor of the graph that requires a gradient: dE/ds_k, or a weight made of another."""
    loop = LOOPS["mask before"]
    p, states, losses = loop.build()
    total = explain(losses[-1], p["W"]).total
    masked = next(x for x in states[0].inputs[0].inputs[1].inputs if x.shape == p["W"].shape)
    for parameter in (states[1], masked):
        e = explain(losses[-1], parameter)
        assert apart(e.explicit + e.implicit, e.total) < EXACT
        assert apart(sum(e.terms.values()), e.total) < EXACT
    assert apart(explain(losses[-1], masked).total * loop.mask, total) < EXACT
    assert apart(terms(losses, masked).rows[-1] * loop.mask, total) < EXACT


def test_a_module_cell_in_a_loop_by_hand_is_the_unrolled_one() -> None:
    m = MODELS["tanh"]
    cell = nn.RNNCell(m.D, m.H, rng=np.random.default_rng(0))
    assert cell.b is not None
    cell.U.data, cell.W.data, cell.b.data = m.arrays["U"], m.arrays["W"], m.arrays["b"]
    state, losses = Tensor(m.arrays["h_0"]), []
    for t in range(1, m.T + 1):
        with scope(t=t):
            state = cell(Tensor(m.x[t - 1]), state)
            losses.append(F.cross_entropy(state @ m.arrays["V"] + m.arrays["c"], m.y[t - 1], reduction="sum"))
    assert apart(dense(terms(losses, cell.W), m.T), m.A("W")) < EXACT


def test_one_initial_state_given_to_two_layers_is_an_earlier_state_of_both() -> None:
    rng = np.random.default_rng(61)
    h_0 = Tensor(rng.normal(size=(3, 4)), requires_grad=True, name="h_0")
    lower, upper = nn.RNNCell(2, 4, rng=rng), nn.RNNCell(4, 4, rng=rng)
    states, _ = nn.unroll(lower, rng.normal(size=(3, 3, 2)), h_0)
    states, _ = nn.unroll(upper, states, h_0, layer=1)
    with scope(t=1):
        E = (states[0] * states[0]).sum()
    assert (explain(E, h_0).explicit == 0).all()


def test_a_weight_that_is_made_inside_the_first_step_is_still_used_by_every_step() -> None:
    loop = PlainLoop()
    s, W, losses = Tensor(loop.arrays["s_0"]), None, []
    for t in range(1, loop.T + 1):
        with scope(t=t):
            if W is None:
                W = Tensor(loop.arrays["W"], requires_grad=True, name="W")
            s = F.tanh(loop.x[t - 1] @ loop.arrays["U"] + s @ W)
            losses.append(((s - loop.y[t - 1]) ** 2).sum() / 2)
    assert W is not None
    a = terms(losses, W)
    assert a.steps == (1, 2, 3, 4)
    assert apart(dense(a, loop.T), loop.A("W")) < EXACT


def test_the_norm_of_a_term_whose_squares_vanish_is_not_zero() -> None:
    w, s = Tensor(1e-60, requires_grad=True, name="w"), Tensor(1.0)
    for t in (1, 2, 3, 4):
        with scope(t=t):
            s = (w * s).named("s")
    a = terms([s], w)  # each of the four terms is w³
    assert a.norms[0].tolist() == pytest.approx([1e-180] * 4, rel=1e-12)


def test_what_a_refused_graph_holds_is_told_with_its_sequences_and_where_it_was_cut() -> None:
    rng = np.random.default_rng(5)
    cell, stranger = nn.RNNCell(2, 3, rng=rng), Tensor(np.ones(2), requires_grad=True, name="stranger")
    with scope(sequence="decoder"):
        h = Tensor(rng.normal(size=(1, 3)))
        hs, _ = nn.unroll(cell, rng.normal(size=(5, 1, 2)), h)
        hs, _ = nn.unroll(cell, rng.normal(size=(3, 1, 2)), hs[-1].detach(), start=6)
    with pytest.raises(ValueError, match=r"U, W, b; the sequence decoder; steps 6 … 8; and nothing of what came "
                                         r"before, if it was detached$"):
        explain(hs[-1].sum(), stranger)


def test_the_state_from_which_a_backward_direction_starts_is_a_state_wherever_it_was_made() -> None:
    rng = np.random.default_rng(6)
    W, x = rng.normal(size=(3, 3)), rng.normal(size=(4, 2, 3))
    with scope(direction="backward", t=5):
        start = Tensor(rng.normal(size=(2, 3)), requires_grad=True, name="h'_5")
    h = start
    for t in (4, 3, 2, 1):
        with scope(direction="backward", t=t):
            h = F.tanh(x[t - 1] + h @ W)
    e = explain(h.sum(), start)
    assert list(e.terms) == [5] and not e.explicit.any() and e.implicit.any()
