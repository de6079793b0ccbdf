"""The tables of bptt as a learner reads them: the notes' symbols, and numbers that add up as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bptt_cells import NETS, Net
from bptt_models import MODELS, Model, PlainLoop

from tinygrad_rnn import Tensor, nn, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import Explanation, explain, prove, terms
from tinygrad_rnn.bptt.parts import by_step
from tinygrad_rnn.bptt.tables import cosines_table
from tinygrad_rnn.bptt.uses import Recurrence, recurrence_of

LINES = MODELS["tanh"]


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def rows_of(e: Explanation) -> dict[str, tuple[str, float, float, float]]:
    """The printed table: {first cell, or its second where that is empty: (kind, norm, entry, share)}."""
    out: dict[str, tuple[str, float, float, float]] = {}
    body = str(e).split("─\n", 1)[1].split("explicit:")[0]
    for line in body.splitlines():
        found = cells(line)
        if len(found) < 4:
            continue
        kind = next(c for c in found if c in ("explicit ∂⁺", "implicit", "both", "total"))
        share = float("nan") if found[-1] == "–" else float(found[-1].removesuffix(" %"))
        label = found[0] if found[0].startswith(("k =", "outside")) else f"all: {kind}"
        assert label not in out
        out[label] = kind, float(found[-3]), float(found[-2]), share
    return out


def uses_of(rows: dict[str, Any]) -> dict[str, Any]:
    return {label: row for label, row in rows.items() if not label.startswith("all")}


def largest(e: Explanation) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.abs(e.total).argmax(), e.total.shape))


def example(t: int = 5, name: str = "W", **settings: Any) -> Explanation:
    m = Model(**settings)
    return explain(m.losses[t - 1], m.parameters[name])


# -------------------------------------------------------------------------------------------------------- explanations
def test_an_explanation_speaks_the_language_of_the_notes() -> None:
    text = str(example(3))
    assert text.startswith("dE₃/dW = Σ_k ∂E₃/∂W⁽ᵏ⁾")
    for line in ("∂E₃/∂h₃ · ∂⁺h₃/∂W", "∂E₃/∂h₃ · ∂h₃/∂h₂ · ∂⁺h₂/∂W", "∂E₃/∂h₃ · ∂h₃/∂h₁ · ∂⁺h₁/∂W", "∂⁺E₃/∂W", "dE₃/dW",
                 "explicit ∂⁺", "implicit", "(4 × 4)"):
        assert line in text
    E = Model().losses[2]
    assert f"E₃ = {E.item():.6g}" in text


@pytest.mark.parametrize("name", ["U", "W", "b", "V", "c", "h_0"])
@pytest.mark.parametrize("t", [1, 3, 5])
def test_every_printed_number_is_the_number_meant(name: str, t: int) -> None:
    e = example(t, name)
    entry, rows = largest(e), rows_of(e)
    square = float((e.total**2).sum())
    expected = {f"k = {k}": part for k, part in e.terms.items()}
    expected |= {"all: explicit ∂⁺": e.explicit, "all: implicit": e.implicit, "all: total": e.total}
    assert set(rows) == set(expected)
    for label, part in expected.items():
        _, norm, printed, share = rows[label]
        assert norm == pytest.approx(np.linalg.norm(part.ravel()), rel=6e-4)
        assert printed == pytest.approx(part[entry], rel=6e-6)
        assert share == pytest.approx(100 * (part * e.total).sum() / square, abs=0.0501)
    heading = str(e).split("\n")[2]
    assert f"{name}[{', '.join(map(str, entry))}]" in heading


@pytest.mark.parametrize("T", [3, 5, 12, 13, 25, 200])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_the_printed_entries_add_up_to_the_printed_total(T: int, name: str) -> None:
    e = example(T, name, T=T, H=3)
    rows = rows_of(e)
    entries = [entry for _, _, entry, _ in uses_of(rows).values()]
    printed = 5e-6 * (sum(map(abs, entries)) + abs(rows["all: total"][2]))  # six digits each
    assert abs(sum(entries) - rows["all: total"][2]) <= printed
    both = rows["all: explicit ∂⁺"][2] + rows["all: implicit"][2]
    assert abs(both - rows["all: total"][2]) <= printed
    explicit = [row[2] for row in uses_of(rows).values() if row[0] == "explicit ∂⁺"]
    assert explicit == [rows["all: explicit ∂⁺"][2]], "the one explicit use of E_T is the explicit part"


@pytest.mark.parametrize("T", [3, 5, 25, 200])
def test_the_printed_shares_add_up_to_100_percent(T: int) -> None:
    rows = rows_of(example(T, "W", T=T, H=3))
    shares = [share for *_, share in uses_of(rows).values()]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares) + 1e-9)
    assert rows["all: total"][3] == 100
    assert rows["all: explicit ∂⁺"][3] + rows["all: implicit"][3] == pytest.approx(100, abs=0.101)


def test_of_200_uses_the_middle_is_one_row_that_adds_up() -> None:
    e = example(200, "W", T=200, H=3)
    rows, entry = rows_of(e), largest(e)
    assert len(str(e).split("explicit:")[0].splitlines()) <= 20, "heading and table fit a screen"
    label = next(label for label in rows if "…" in label)
    first, last = map(int, re.findall(r"\d+", label))
    single = {int(k.removeprefix("k = ")) for k in uses_of(rows) if "…" not in k}
    assert single | set(range(first, last + 1)) == set(range(1, 201)) and not single & set(range(first, last + 1))
    together = sum(e.terms[k] for k in range(first, last + 1))
    _, norm, printed, share = rows[label]
    assert printed == pytest.approx(together[entry], rel=6e-6)
    assert norm == pytest.approx(np.linalg.norm(together), rel=6e-4)
    assert share == pytest.approx(100 * (together * e.total).sum() / (e.total**2).sum(), abs=0.0501)


@pytest.mark.parametrize(("T", "elided"), [(11, False), (12, False), (13, True)])
def test_up_to_12_uses_are_listed_one_by_one(T: int, elided: bool) -> None:
    text = str(example(T, "W", T=T, H=3))
    assert ("…" in text.split("explicit:")[0]) == elided
    assert text.count("k = ") == (T if not elided else 10)


def test_a_use_outside_the_steps_has_a_row_and_the_entries_add_up() -> None:
    loop = PlainLoop(T=30)
    p, _, losses = loop.build()
    for E in (losses[-1] + (p["W"] ** 2).sum(), losses[3] + (p["W"] ** 2).sum()):
        e = explain(E, p["W"])
        rows = rows_of(e)
        assert rows["outside the steps"][0] == "explicit ∂⁺"
        entries = [entry for _, _, entry, _ in uses_of(rows).values()]
        assert abs(sum(entries) - rows["all: total"][2]) <= 5e-6 * 2 * sum(map(abs, entries))


def test_for_a_sum_of_losses_no_row_claims_more_than_it_is() -> None:
    m = LINES
    e = explain(F.sum(F.stack(m.losses)), m.parameters["W"])
    rows = rows_of(e)
    assert [rows[f"k = {k}"][0] for k in range(1, 5)] == ["both"] * 4
    assert abs(sum(row[2] for row in uses_of(rows).values()) - rows["all: total"][2]) <= 1e-4
    assert "dE/dh₁ · ∂⁺h₁/∂W" in str(e)


@pytest.mark.parametrize("case", ["V under a sum", "W under a sum, last use", "a penalty on W"])
def test_a_use_that_is_all_explicit_or_all_implicit_is_called_so(case: str) -> None:
    m = LINES
    E = F.sum(F.stack(m.losses))
    if case == "V under a sum":
        kinds = [row[0] for row in uses_of(rows_of(explain(E, m.parameters["V"]))).values()]
        assert kinds == ["explicit ∂⁺"] * m.T
    elif case == "W under a sum, last use":
        assert rows_of(explain(E, m.parameters["W"]))[f"k = {m.T}"][0] == "explicit ∂⁺"
    else:
        rows = uses_of(rows_of(explain(m.losses[-1] + (m.parameters["W"] ** 2).sum(), m.parameters["W"])))
        assert [row[0] for row in rows.values()] == ["explicit ∂⁺", *["implicit"] * (m.T - 1), "explicit ∂⁺"]


def test_a_sum_of_losses_is_not_called_the_loss_of_its_last_step() -> None:
    m = LINES
    e = explain(F.sum(F.stack(m.losses)).named("E"), m.parameters["W"])
    assert "E₅" not in str(e)


def test_of_a_sum_of_losses_it_is_told_how_much_of_each_use_is_explicit() -> None:
    m = LINES
    e = explain(F.stack(m.losses).sum(), m.parameters["W"])
    lines = str(e).splitlines()
    column = cells(lines[2]).index("‖explicit‖")
    for line, k in zip(lines[4:], range(m.T, 0, -1), strict=False):
        # one loss alone has as its explicit part its own use
        expected = np.linalg.norm(explain(m.losses[k - 1], m.parameters["W"]).explicit)
        assert float(cells(line)[column]) == pytest.approx(expected, rel=6e-4), k
    assert "both: paths of both kinds lead from this use to E" in unwrapped(e)
    assert "‖explicit‖" not in str(explain(m.losses[2], m.parameters["W"]))


@pytest.mark.parametrize("t", [1, 2, 5])
def test_a_use_that_contributes_0_has_the_kind_of_its_paths(t: int) -> None:
    m = Model(initial=0.0)
    rows = rows_of(explain(m.losses[t - 1], m.parameters["W"]))
    assert rows["k = 1"][:3] == ("explicit ∂⁺" if t == 1 else "implicit", 0, 0)
    e = explain(F.stack(m.losses[:t]).sum(), m.parameters["W"])
    assert rows_of(e)["k = 1"][0] == ("explicit ∂⁺" if t == 1 else "both")


@pytest.mark.parametrize(("index", "shown"), [((0, 2), "0, 2"), ((-1, 1), "-1, 1")])
def test_an_element_of_a_state_is_called_by_its_name(index: tuple[int, int], shown: str) -> None:
    cell = nn.RNNCell(2, 3, rng=np.random.default_rng(0))
    hs, _ = nn.unroll(cell, np.random.default_rng(1).normal(size=(4, 2, 2)))
    text = str(explain(hs[2][index], cell.W))
    assert text.startswith(f"dh₃[{shown}]/dW = Σ_k ∂h₃[{shown}]/∂W⁽ᵏ⁾") and f"h₃[{shown}] = " in text
    assert f"∂h₃[{shown}]/∂h₃ · ∂h₃/∂h₁ · ∂⁺h₁/∂W" in text and "E" not in text
    with scope(t=3):
        assert str(explain(hs[2][index].named("E"), cell.W)).startswith("dE₃/dW"), "a name of its own comes first"


def test_the_place_of_the_largest_entry_is_one_of_the_stored_array() -> None:
    e = example()
    assert f"W[{', '.join(map(str, largest(e)))}] is the largest entry (as stored, counted from 0)" in unwrapped(e)


# ------------------------------------------------------------------------------------------------- what the graph lacks
def loop(cut_after: tuple[int, ...], where: str) -> tuple[Tensor, list[Tensor]]:
    """A loop by hand of 6 steps, whose state is detached after some of them: in the step, or outside every step."""
    rng = np.random.default_rng(3)
    W, h = Tensor(rng.normal(size=(3, 3)), requires_grad=True, name="W"), Tensor(rng.normal(size=(2, 3)))
    losses = []
    for t in range(1, 7):
        with scope(t=t):
            h = F.tanh(h @ W).named("h")
            losses.append((h * h).sum().named("E"))
            if t in cut_after and where == "inside":
                h = h.detach()
        if t in cut_after and where == "outside":
            h = h.detach()
    return W, losses


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("cut_after", [(), (3,), (2, 4), (5,)])
def test_a_graph_that_is_cut_says_where_in_every_table(cut_after: tuple[int, ...], where: str) -> None:
    W, losses = loop(cut_after, where)
    newest = max(cut_after, default=0) + 1
    alone = explain(losses[-1], W)
    assert set(alone.terms) == set(range(newest, 7))
    for text, steps in ((alone, [newest] if newest not in (1, 6) else []),
                        (explain(F.stack(losses).sum(), W), [t + 1 for t in cut_after]),
                        (terms(losses, W), [t + 1 for t in cut_after])):
        said = re.findall(r"The graph is cut: into step ([\d, ]+) goes no state", unwrapped(text))
        if newest == 6 and text is alone:  # the newest step alone: nothing tells it from a sequence of one step
            continue
        assert said == [", ".join(map(str, steps))] * bool(steps), (text, steps)
        assert ("truncated gradient" in unwrapped(text)) == bool(steps)


@pytest.mark.parametrize("label", NETS)
def test_no_whole_graph_is_said_to_be_cut(label: str) -> None:
    net = NETS[label]
    for parameter in net.parameters.values():
        assert "cut" not in unwrapped(terms(net.losses, parameter))


def test_one_weight_of_two_sequences_says_that_k_counts_in_both() -> None:
    cell = nn.RNNCell(2, 3, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(3, 2, 2))
    with scope(sequence="encoder"):
        _, h = nn.unroll(cell, x)
    with scope(sequence="decoder"):
        hs, _ = nn.unroll(cell, x[:2], h)
    text = unwrapped(explain(hs[-1].sum(), cell.W))
    assert "W is read in 2 places that count steps of their own" in text
    assert "sequence encoder" in text and "sequence decoder" in text
    assert "count steps" not in unwrapped(example())


def test_a_use_that_contributes_exactly_0_is_explained() -> None:
    m = Model(initial=0.0)
    text = unwrapped(explain(m.losses[-1], m.parameters["W"]))
    assert "k = 1 contributes exactly 0: what W multiplies there is 0" in text
    relu = nn.RNNCell(2, 3, nonlinearity="relu", rng=np.random.default_rng(0))
    relu.b.data = np.full(3, -9.0)
    hs, _ = nn.unroll(relu, np.ones((3, 1, 2)), Tensor(np.ones((1, 3))))
    text = unwrapped(explain(hs[-1].sum(), relu.U))
    assert "contributes exactly 0: on every path from there to E a factor is 0" in text
    assert "exactly 0" not in str(explain(m.losses[-1], m.parameters["U"]))
    assert "exactly 0" not in str(example())


def test_the_matrix_says_why_a_column_and_a_row_are_0() -> None:
    for initial, why in ((0.0, True), (1.0, False)):
        m = Model(initial=initial)
        text = unwrapped(terms(m.losses, m.parameters["W"]))
        assert ("What is used at k = 1 contributes exactly 0: what W multiplies there is 0" in text) is why
        assert ("No other use leads to E₁, so its row is 0 too" in text) is why
        assert "exactly 0" not in unwrapped(terms(m.losses, m.parameters["U"]))
    m = Model(initial=0.0)
    assert "its row is 0" not in unwrapped(terms(m.losses[1:], m.parameters["W"]))


@pytest.mark.parametrize(("carry", "total"), [
    (lambda s, x: 0.5 * s, False), (lambda s, x: F.tanh(s), False), (lambda s, x: s + x, True),
    (lambda s, x: F.stack([s, x]).sum(), True), (lambda s, x: x + s * 1.0, False)])
def test_only_what_is_added_up_is_called_a_running_total(carry: Callable[..., Tensor], total: bool) -> None:
    w, s = Tensor([0.2, 0.3], requires_grad=True, name="w"), Tensor(0.9, name="s")
    for t in (1, 2, 3):
        with scope(t=t):
            s = carry((w * s).sum() if t == 1 else s, (w * t).sum()).named("s")
    assert ("running total" in unwrapped(explain(s, w))) is total


def test_a_gradient_that_is_0_everywhere_has_no_shares() -> None:
    w, s = Tensor(0.5, requires_grad=True, name="w"), Tensor(0.0)
    for t in (1, 2, 3):
        with scope(t=t):
            s = F.tanh(w * s)
    e = explain(s, w)
    assert (e.total == 0).all()
    rows = rows_of(e)
    assert all(np.isnan(row[3]) and row[2] == 0 for row in rows.values())
    assert prove(e)


def test_a_scalar_weight_is_called_one_number_and_needs_no_index() -> None:
    w, s = Tensor(0.2, requires_grad=True, name="w"), Tensor(0.9, name="s")
    for t in (1, 2, 3):
        with scope(t=t):
            s = (w * s).named("s")
    text = str(explain(s, w))
    assert "(one number)" in text and "w[" not in text and "running total" not in text
    assert text.count("+0.036") == 4 and "+0.072" in text and "+0.108" in text and "33.3 %" in text
    assert "ds₃/dw" in text and "∂s₃/∂s₁ · ∂⁺s₁/∂w" in text


# ------------------------------------------------------------------ other cells, directions, stacks: formulas and notes
def formulas(e: Explanation) -> dict[str, str]:
    """{use: formula} of the printed table."""
    body = str(e).split("─\n", 1)[1].split("\n\n")[0]
    return {cells(line)[0]: cells(line)[2] for line in body.splitlines()}


def unwrapped(x: Any) -> str:
    return " ".join(str(x).split())


def part(label: str, name: str, t: int) -> Explanation:
    net = NETS[label]
    return explain(net.losses[t - 1], net.parameters[name])


def test_a_backward_direction_has_states_called_h_prime_and_its_uses_run_to_the_end() -> None:
    for label, W in (("RNN, backward", "W"), ("RNN, both", "W'")):
        e = part(label, W, 2)
        assert formulas(e) == {"k = 2": f"∂E₂/∂h'₂ · ∂⁺h'₂/∂{W}", "k = 3": f"∂E₂/∂h'₂ · ∂h'₂/∂h'₃ · ∂⁺h'₃/∂{W}",
                               "k = 4": f"∂E₂/∂h'₂ · ∂h'₂/∂h'₄ · ∂⁺h'₄/∂{W}"}
        text = unwrapped(e)
        assert "h'_k: the state at step k of the backward direction, which goes from the last step to the first" in text
        assert "earlier" not in text and "before" not in text


def test_of_200_uses_of_a_backward_direction_those_next_to_the_loss_are_listed() -> None:
    net = Net("RNN", one_way="backward", T=200, H=3)
    e = explain(net.losses[99], net.parameters["W"])
    assert list(formulas(e)) == ["k = 100", "k = 101", "k = 102", "k = 103", "k = 104", "k = 105", "k = 106 … 197",
                                 "k = 198", "k = 199", "k = 200"]
    rows = rows_of(e)
    assert rows["k = 100"][0] == "explicit ∂⁺" and rows["k = 106 … 197"][0] == "implicit"
    assert sum(row[2] for row in uses_of(rows).values()) == pytest.approx(rows["all: total"][2], rel=1e-4)


def test_a_state_of_several_parts_is_called_s_and_its_parts_are_named() -> None:
    e = part("LSTM, forward", "W_f", 3)
    assert formulas(e) == {"k = 3": "∂E₃/∂s₃ · ∂⁺s₃/∂W_f", "k = 2": "∂E₃/∂s₃ · ∂s₃/∂s₂ · ∂⁺s₂/∂W_f",
                           "k = 1": "∂E₃/∂s₃ · ∂s₃/∂s₁ · ∂⁺s₁/∂W_f"}
    assert "s_k: the state [h; c] at step k." in unwrapped(e)
    assert "s'_k: the state [h; c] at step k of the backward direction" in unwrapped(part("LSTM, backward", "b_o", 2))


def test_below_another_layer_no_product_over_one_state_is_claimed() -> None:
    e = part("RNN, stack, both", "W_l0", 2)
    assert formulas(e) == {f"k = {k}": f"dE₂/dh{sub} · ∂⁺h{sub}/∂W_l0" for k, sub in zip((1, 2, 3, 4), "₁₂₃₄")}
    assert rows_of(e)["k = 2"][0] == "both" and rows_of(e)["k = 1"][0] == rows_of(e)["k = 4"][0] == "implicit"
    assert "h_k: the state at step k of the forward direction of layer 0." in unwrapped(e)
    assert "dE₂/dh_k: along all paths from h_k to E₂." in unwrapped(e)
    top = part("RNN, stack", "W_l1", 3)
    assert formulas(top)["k = 1"] == "∂E₃/∂h₃ · ∂h₃/∂h₁ · ∂⁺h₁/∂W_l1", "of the top layer the product is true"
    assert "h_k: the state at step k of layer 1." in unwrapped(top)


def test_an_encoder_reaches_the_loss_by_its_last_state() -> None:
    rng = np.random.default_rng(1)
    encoder, decoder = nn.RNNCell(2, 3, rng=rng), nn.GRUCell(2, 3, rng=rng)
    with scope(sequence="encoder"):
        _, state = nn.unroll(encoder, rng.normal(size=(4, 5, 2)))
    with scope(sequence="decoder"):
        states, _ = nn.unroll(decoder, rng.normal(size=(3, 5, 2)), state)
        losses = []
        for t, h in enumerate(states, 1):
            with scope(t=t):
                losses.append((h * h).sum().named("E"))
    e = explain(losses[2], encoder.U)
    assert formulas(e)["k = 4"] == "∂E₃/∂h₄ · ∂⁺h₄/∂U" and formulas(e)["k = 2"] == "∂E₃/∂h₄ · ∂h₄/∂h₂ · ∂⁺h₂/∂U"
    assert {row[0] for row in uses_of(rows_of(e)).values()} == {"implicit"}
    assert "of sequence encoder" in unwrapped(e)
    assert "All of it is implicit" in unwrapped(terms(losses, encoder.W))
    assert "below it (k < t) implicit" in unwrapped(terms(losses, decoder.W_z))


def test_a_weight_of_two_recurrences_and_one_that_the_output_reads_too_get_no_formula_that_is_false() -> None:
    rng = np.random.default_rng(2)
    cell = nn.RNNCell(4, 4, rng=rng)
    x = rng.normal(size=(3, 2, 4))
    lower, _ = nn.unroll(cell, x)
    upper, _ = nn.unroll(cell, lower, layer=1)
    e = explain((upper[-1] * upper[-1]).sum().named("E"), cell.W)
    assert formulas(e) == {"k = 3": "∂⁺E/∂W", "k = 2": "∂E/∂W⁽²⁾", "k = 1": "∂E/∂W⁽¹⁾"}
    h = Tensor(rng.normal(size=(2, 4)))
    for t in (1, 2, 3):
        with scope(t=t):
            h = F.tanh(x[t - 1] + h @ cell.W).named("h")
            E = ((h @ cell.W) ** 2).sum().named("E")
    assert formulas(explain(E, cell.W)) == {"k = 3": "∂⁺E₃/∂W", "k = 2": "∂E₃/∂h₃ · ∂h₃/∂h₂ · ∂⁺h₂/∂W",
                                            "k = 1": "∂E₃/∂h₃ · ∂h₃/∂h₁ · ∂⁺h₁/∂W"}


def test_a_use_that_skips_the_state_of_its_own_step_gets_no_formula_through_it() -> None:
    W, s, late = Tensor(np.array([0.4, -0.7]), requires_grad=True, name="W"), Tensor(np.array([0.5, 0.2])), None
    for t in (1, 2, 3):
        with scope(t=t):
            s = F.tanh(s * 0.8 if late is None else s * 0.8 + late).named("s")
            read = W * float(t)
        late = read * 2.0  # what step t reads reaches the state of step t + 1 from outside the steps
    e = explain((s * s).sum().named("E"), W)
    assert formulas(e) == {"k = 2": "∂⁺E/∂W", "k = 1": "∂E/∂W⁽¹⁾"}


def without(e: Explanation, through: Recurrence, step: int) -> dict[Any, Any]:
    """The terms without what goes through the states of one step."""
    states = {x for x, k in through.states.items() if k == step}
    return dict(by_step({e.loss: np.ones(())}, e.parameter, lambda node, i: node.inputs[i] in states))


@pytest.mark.parametrize("label", NETS)
def test_each_printed_formula_is_true_for_cutting_its_states_cuts_its_term(label: str) -> None:
    """A term written with ∂⁺h_k/∂W goes through h_k, all of it; one with ∂E_t/∂h_t through h_t."""
    net, tried = NETS[label], 0
    for t in (2, net.T):
        for name, parameter in net.parameters.items():
            e = explain(net.losses[t - 1], parameter)
            through = recurrence_of(e.loss, parameter)
            if through is None:
                assert name in ("V", "V'", "c", "x") and (name != "x" or net.both), name
                continue

            for k in e.terms:
                if through.carries(k):
                    assert k is not None and not np.any(without(e, through, k).get(k, 0.0)), (name, k)
                    tried += 1
            if len(through.last) == 1:
                (last,) = through.last
                assert not any(term.any() for k, term in without(e, through, last).items()
                               if through.carries(k) and k != last), name
    assert tried > 2 * net.T


@pytest.mark.parametrize(("label", "name", "note"), [
    ("RNN, forward", "W", "On the diagonal (k = t) all is explicit, below it (k < t) implicit."),
    ("LSTM, stack", "U_c_l0", "On the diagonal (k = t) all is explicit, below it (k < t) implicit."),
    ("GRU, both, masked", "W_z'", "On the diagonal (k = t) all is explicit, above it (k > t) implicit"),
    ("RNN, stack, both", "W_l1'", "above it (k > t) implicit"),
    ("RNN, stack, both", "W_l0'", "Off the diagonal (k ≠ t) all is implicit, on both sides of it"),
    ("RNN, both", "x", "Off the diagonal (k ≠ t) all is implicit, on both sides of it"),
    ("RNN, both", "V", "All of it is explicit"), ("RNN, backward", "h_0", "All of it is implicit"),
])
def test_the_matrix_says_which_of_its_terms_are_explicit(label: str, name: str, note: str) -> None:
    net = NETS[label]
    assert note in unwrapped(terms(net.losses, net.parameters[name]))


@pytest.mark.parametrize("label", NETS)
def test_what_the_matrix_says_about_its_diagonal_is_what_each_explanation_says(label: str) -> None:
    net = NETS[label]
    for name, parameter in net.parameters.items():
        text = unwrapped(terms(net.losses, parameter))
        parts = {(t, k): (term, e.explicit_terms.get(k, np.zeros_like(term)))
                 for t, e in enumerate((explain(E, parameter) for E in net.losses), 1) for k, term in e.terms.items()}
        off = [explicit.any() for (t, k), (_, explicit) in parts.items() if t != k]
        both = [not np.allclose(*pair, rtol=1e-12, atol=0) for (t, k), pair in parts.items() if t == k]
        sides = {int(np.sign(k - t)) for (t, k), (term, _) in parts.items() if k is not None and term.any()}
        if "On the diagonal (k = t) all is explicit" in text:
            assert not any(off) and not any(both), name
            assert sides <= ({0, -1} if "below it" in text else {0, 1}), name
        elif "All of it is explicit" in text:
            assert not any(both) and sides == {0}, name
        elif "All of it is implicit" in text:
            assert not any(explicit.any() for _, explicit in parts.values()), name
        else:
            assert "Off the diagonal" in text and not any(off) and sides == {-1, 0, 1}, name


def test_of_a_loss_outside_the_steps_the_matrix_claims_no_step() -> None:
    m = LINES
    a = terms([F.sum(F.stack(m.losses)).named("E"), m.losses[0]], m.parameters["W"])
    assert [cells(line)[0] for line in str(a).splitlines()[4:6]] == ["E (loss 1)", "E₁"]
    assert "`explain` tells what of a term is explicit" in unwrapped(a)


@pytest.mark.parametrize("label", NETS)
def test_no_line_about_any_cell_is_longer_than_120_characters(label: str) -> None:
    net = NETS[label]
    for parameter in net.parameters.values():
        for text in (str(explain(net.losses[1], parameter)), str(terms(net.losses, parameter))):
            assert all(len(line) <= 120 and line == line.rstrip() for line in text.splitlines())


# ----------------------------------------------------------------------------------------------------- the term matrix
@pytest.mark.parametrize("T", [3, 5, 12])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_the_term_matrix_is_printed_whole_where_it_is_small(T: int, name: str) -> None:
    m = Model(T=T, H=3)
    a = terms(m.losses, m.parameters[name])
    lines = str(a).splitlines()
    assert f"∂E_t/∂{name}⁽ᵏ⁾" in lines[0] and "left out" not in lines[0]
    assert cells(lines[2]) == [f"k = {k}" for k in range(1, T + 1)] + ["‖sum‖"]
    subscripts = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
    for t in range(1, T + 1):
        label, *numbers, total = cells(lines[3 + t])
        assert label == "E" + str(t).translate(subscripts)
        assert [float(n) for n in numbers] == pytest.approx(list(a.norms[t - 1]), rel=6e-3)
        assert numbers[t:] == ["0"] * (T - t) and "0" not in numbers[:t]
        assert float(total) == pytest.approx(np.linalg.norm(a.rows[t - 1].ravel()), rel=6e-3)
    label, *numbers, total = cells(lines[4 + T])
    assert label == "all losses"
    assert [float(n) for n in numbers] == pytest.approx([np.linalg.norm(c.ravel()) for c in a.columns], rel=6e-3)
    assert float(total) == pytest.approx(np.linalg.norm(a.columns.sum(0).ravel()), rel=6e-3)


def test_of_200_losses_the_first_and_last_are_shown_and_the_table_says_so() -> None:
    m = Model(T=200, H=3)
    a = terms(m.losses, m.parameters["W"])
    lines = str(a).splitlines()
    assert "the middle is left out" in lines[0] and len(lines) <= 20
    shown = [1, 2, 3, 4, 197, 198, 199, 200]
    labels = [f"k = {k}" for k in shown]
    assert cells(lines[2]) == [*labels[:4], "…", *labels[4:], "‖sum‖"]
    body = [cells(line) for line in lines[4:13]]
    assert set(body.pop(4)) == {"…"} and {row.pop(5) for row in body} == {"…"}
    assert [row[0] for row in body] == ["E₁", "E₂", "E₃", "E₄", "E₁₉₇", "E₁₉₈", "E₁₉₉", "E₂₀₀"]
    for row, t in zip(body, shown):
        assert [float(n) for n in row[1:-1]] == pytest.approx([a.norms[t - 1, k - 1] for k in shown], rel=6e-3)


@pytest.mark.parametrize("T", [4, 12, 30])
def test_the_cosines_stand_where_the_norms_do_and_are_those_of_the_terms(T: int) -> None:
    m = Model(T=T, H=3, initial=0.0)
    a = terms(m.losses, m.parameters["W"])
    lines = cosines_table(a).splitlines()
    shown = list(range(1, T + 1)) if T <= 12 else [1, 2, 3, 4, T - 3, T - 2, T - 1, T]
    assert [c for c in cells(lines[2]) if c != "…"] == [f"k = {k}" for k in shown]
    body = [[c for c in cells(line)[1:] if c != "…"] for line in lines[4:4 + len(shown) + (T > 12)]]
    total = a.arrays.sum((0, 1))
    for row, t in zip([row for row in body if row], shown, strict=True):
        for cell, k in zip(row, shown, strict=True):
            term = a.arrays[t - 1, k - 1]
            if 1 < k <= t:
                cosine = (term * total).sum() / np.linalg.norm(term) / np.linalg.norm(total)
                assert float(cell) == pytest.approx(cosine, abs=0.00501)
            else:
                assert cell == "–"  # above the diagonal, and the first use of W, which multiplies h_0 = 0


def test_the_losses_keep_the_names_and_the_order_in_which_they_are_given() -> None:
    m = Model(T=4)
    lines = str(terms([m.losses[3], m.losses[1]], m.parameters["W"])).splitlines()
    assert [cells(line)[0] for line in lines[4:7]] == ["E₄", "E₂", "all losses"]


# ----------------------------------------------------------------------------------------------------------- the proof
def verdicts(text: str) -> dict[tuple[str, str], str]:
    lines = text.splitlines()[4:]
    body = [cells(line) for line in lines[: lines.index("")]]
    assert all(len(row) == 6 for row in body)
    return {(row[0], row[1]): row[5] for row in body}


def test_a_proof_says_agrees_everywhere_and_proved() -> None:
    e = example()
    text = str(prove(e, Model().reference()))
    assert text.startswith("dE₅/dW: proved by 12 witnesses") and "NOT" not in text
    assert set(verdicts(text).values()) == {"agrees"} and len(verdicts(text)) == 12
    assert "DISAGREES" not in text


@pytest.mark.parametrize("part", ["explicit", "implicit", "total", "terms"])
def test_a_proof_says_disagrees_exactly_where_a_witness_fails(part: str) -> None:
    e = example()
    wrong = {k: term * 1.01 for k, term in e.terms.items()} if part == "terms" else getattr(e, part) * 1.01
    proof = prove(replace(e, **{part: wrong}), Model().reference())
    text = str(proof)
    found = verdicts(text)
    assert not proof and text.startswith("dE₅/dW: NOT PROVED")
    assert len(found) == len(proof.witnesses)
    for w in proof.witnesses:
        assert found[w.part, w.route] == ("agrees" if w else "DISAGREES")
    assert set(found.values()) == {"agrees", "DISAGREES"}
    assert text.count("DISAGREES") == sum(not w for w in proof.witnesses)


def test_a_proof_that_meets_a_nan_prints_it_and_disagrees() -> None:
    e = example()
    proof = prove(replace(e, explicit=e.explicit * np.nan))
    assert not proof and "nan" in str(proof) and "NOT PROVED" in str(proof)


# ----------------------------------------------------------------------------------------------- shape and determinism
@pytest.mark.parametrize("T", [3, 12, 13, 200])
def test_no_line_of_any_table_is_longer_than_120_characters(T: int) -> None:
    m = Model(T=T, H=3)
    for name in m.names:
        e = explain(m.losses[-1], m.parameters[name])
        for text in (str(e), str(prove(e, m.reference()) if T < 100 else prove(e)),
                     str(terms(m.losses, m.parameters[name]))):
            for line in text.splitlines():
                assert len(line) <= 120, line


def test_no_line_is_longer_than_120_characters_where_terms_vanish() -> None:
    m = Model(T=12, H=3, arrays={"W": np.eye(3) * 1e-9})
    for text in (str(terms(m.losses, m.parameters["W"])), str(explain(m.losses[-1], m.parameters["W"]))):
        assert max(map(len, text.splitlines())) <= 120


def test_no_line_is_longer_than_120_characters_where_three_uses_are_0() -> None:
    m = Model(T=200, H=3)
    m.x[:5] = 0
    text = str(explain(m.losses[-1], m.parameters["U"]))
    assert "exactly 0" in text
    assert max(map(len, text.splitlines())) <= 120


def test_all_uses_that_contribute_exactly_0_are_named_or_counted() -> None:
    m = Model(T=10, H=3)
    m.x[:5] = 0
    text = str(explain(m.losses[-1], m.parameters["U"]))
    note = next(line for line in text.splitlines() if "exactly 0" in line)
    assert all(f"k = {k}" in note for k in range(1, 6)) or "3 more" in note, note


@pytest.mark.parametrize("label", ["tanh", "no bias", "ids"])
def test_no_line_ends_in_a_space(label: str) -> None:
    m = MODELS[label]
    e = explain(m.losses[-1], m.parameters["W"])
    for text in (str(e), str(prove(e, m.reference())), str(terms(m.losses, m.parameters["W"]))):
        assert all(line == line.rstrip() for line in text.splitlines())


def test_two_runs_print_the_same_text_whatever_the_hash_seed() -> None:
    program = ("from bptt_models import Model\nfrom tinygrad_rnn.bptt import explain, prove, terms\n"
               "m = Model()\ne = explain(m.losses[-1], m.parameters['W'])\n"
               "print(e, prove(e, m.reference()), terms(m.losses, m.parameters['W']), sep='\\n')")
    here = Path(__file__).parent
    texts = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8",
                       "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True,
                              encoding="utf-8")
        texts.append(done.stdout)
    assert texts[0] == texts[1] and texts[0].count("\n") > 35
