"""The errata lab: 34 rows, 13 demonstrations, their numbers against plain NumPy, and each of them turned around.

The expected numbers are computed here from the demonstrations' own random draws, by other means: complex steps through
forward passes written out below, closed forms, and powers.
"""

import argparse
import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import apart

from tinygrad_rnn import nn, ops
from tinygrad_rnn.cli import errata as verb
from tinygrad_rnn.errata import ERRATA, NOTES, Demonstration, Erratum, errata_table, find, gradients, models, vanishing
from tinygrad_rnn.language import generate
from tinygrad_rnn.models import Cloze, ManyToMany

DEMOS = {3, 4, 5, 6, 9, 15, 17, 20, 23, 26, 27, 31, 32}
STEP = 1e-20
Array = np.ndarray[Any, Any]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def row(d: Demonstration, what: str) -> list[Any]:
    """The values of the one row of this name, or whose name begins with these words."""
    (found,) = [values for name, *values in d.rows if name == what] or [
        values for name, *values in d.rows if name.startswith(what)]
    return found


def sigma(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def complex_jacobian(f: Callable[[Array], Array], x: Array) -> Array:
    """∂f/∂x, (f.size, x.size)."""
    columns = []
    for i in range(x.size):
        moved = x.astype(complex).ravel()
        moved[i] += 1j * STEP
        columns.append(f(moved.reshape(x.shape)).imag.ravel() / STEP)
    return np.stack(columns, 1)


# -------------------------------------------------------------------------------------------------------- the table
def test_all_34_rows_are_there_in_order_and_the_13_demonstrations_among_them() -> None:
    assert [e.number for e in ERRATA] == [f"E{i}" for i in range(1, 35)]
    assert {int(e.number[1:]) for e in ERRATA if e.demo} == DEMOS
    assert all(e.written and e.right and set(e.note.split(", ")) <= set(NOTES) for e in ERRATA)


@pytest.mark.parametrize("erratum", ERRATA, ids=lambda e: e.number)
def test_the_place_of_a_row_is_there_and_documented(erratum: Erratum) -> None:
    module, name = f"tinygrad_rnn.{erratum.place}".rsplit(".", 1)
    assert inspect.getdoc(getattr(importlib.import_module(module), name))


def test_find_takes_a_number_in_every_spelling_and_refuses_others() -> None:
    assert find("E9") is find("e9") is find("9")
    for wrong in ("E35", "0", "", "nine", "EE9"):
        with pytest.raises(ValueError, match="from E1 to E34"):
            find(wrong)


def test_the_printed_table_holds_every_row_with_its_verdict_or_its_place() -> None:
    shown = Demonstration("s", (), [], {}, {}, "It was seen.")
    lines = errata_table({e.number: shown if e.demo else None for e in ERRATA}).splitlines()
    starts = [line.split()[0] for line in lines[2:] if line[2:3] == "E"]
    assert starts == [e.number for e in ERRATA] and max(map(len, lines)) <= 120
    text = "\n".join(lines)
    assert text.count("It was seen.") == 13 and text.count("note: see") == 21
    words = " ".join(text.split())
    assert "note: see functional.cross_entropy" in words and "insert gate" in words


# ----------------------------------------------------------------------------------------------- what each shows
@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("number", sorted(DEMOS))
def test_every_demonstration_shows_what_it_claims(number: int, seed: int) -> None:
    demonstration = find(str(number)).demonstrate(seed)
    assert demonstration and demonstration.fails and demonstration.holds
    assert demonstration.verdict == demonstration.conclusion
    printed = repr(demonstration)
    assert "What fails:" in printed and "What does not fail:" in printed and "NOT SEEN" not in printed
    assert all(len(values) == len(demonstration.columns) for _, *values in demonstration.rows)


CORRECTED: dict[int, Callable[[np.random.Generator], Demonstration]] = {
    3: lambda rng: gradients.exact_sum(rng, kept=8),
    4: lambda rng: vanishing.one_bound_two_fates(rng, vanishing.explodes_by_the_product),
    5: lambda rng: vanishing.values_are_not_gradients(rng, vanishing.controlled_by_the_jacobian),
    6: lambda rng: vanishing.forget_gates_multiply(rng, vanishing.product_of_gates),
    9: lambda rng: models.gates_that_read_gates(rng, nn.LSTMCell),
    15: lambda rng: models.one_cell_for_any_length(rng, models.the_same_cell),
    17: lambda rng: models.one_gate_or_two(rng, "before"),
    20: lambda rng: gradients.lost_sign_and_factor(rng, gradients.prediction_minus_target),
    23: lambda rng: models.leakage(rng, bidirectional=False),
    26: lambda rng: models.greedy_loops(rng, temperature=1.0),
    27: lambda rng: gradients.one_weight_one_update(rng, gradients.one_update),
    31: lambda rng: gradients.remedies(rng, shrinking=1.0),
    32: lambda rng: vanishing.large_states_small_jacobians(rng, vanishing.vanishes_by_the_jacobians),
}


@pytest.mark.parametrize("number", sorted(DEMOS))
def test_with_the_corrected_form_in_place_of_the_printed_one_nothing_is_shown(number: int) -> None:
    demonstration = CORRECTED[number](generator())
    assert not demonstration and demonstration.verdict.startswith("Not shown: ") and "NOT SEEN" in repr(demonstration)


@pytest.mark.parametrize("name", ["SIGMOID", "TANH"])
def test_a_rule_that_is_wrong_by_a_millionth_is_no_gradient_check_passed(name: str,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    (rule,) = getattr(ops, name).rules
    monkeypatch.setattr(getattr(ops, name), "rules", (lambda g, y, x: rule(g, y, x) * (1 + 1e-6),))
    demonstration = models.gates_that_read_gates(generator())
    assert [what for what, so in demonstration.holds.items() if not so] == [
        "every gradient check passes, for it tests the gradient of what was written"]


# --------------------------------------------------------------------------------------- the numbers, in plain NumPy
def test_e3_the_truncated_sum_is_off_by_what_a_complex_step_through_the_last_uses_says() -> None:
    rng = generator()
    cell, h_0, xs = nn.RNNCell(3, 4, rng=rng), rng.normal(size=(1, 4)), rng.normal(size=(8, 1, 3))
    U, W, b = cell.U.data, cell.W.data, cell.b.data

    def run(late: Array, uses: int) -> Array:
        h = h_0
        for t, x in enumerate(xs):
            h = np.tanh(x @ U + h @ (late if t >= len(xs) - uses else W) + b)
        return h

    whole, last = (complex_jacobian(lambda V, uses=uses: run(V, uses), W) for uses in (8, 3))
    expected = np.linalg.norm(last - whole) / np.linalg.norm(whole)
    error, off = row(gradients.exact_sum(generator()), "relative distance")
    assert error < 1e-14 and apart(off, expected) < 1e-12


def test_e4_and_e5_are_powers_and_products_of_slopes() -> None:
    def derivative(w: float, h: float) -> float:
        z = complex(h, STEP)
        for _ in range(20):
            z = np.tanh(w * z)
        return z.imag / STEP

    half = derivative(3, 0.5)
    assert 3**20 == 3_486_784_401 and 1.4e-29 < half < 1.6e-29
    d = vanishing.one_bound_two_fates(generator())
    zero, other = row(d, "∂h_20/∂h_0, computed")
    assert zero == 3**20 and apart(other, half) < 1e-10  # 1 - h² of a flat tanh has few digits
    assert row(d, "so the Jacobian") == ["explodes", "vanishes"] and row(d, "the note's forecast") == ["explodes"] * 2
    assert any("stretches by 4.06" in claim for claim in d.fails) and apart(
        np.linalg.svd([[0.5, 4], [0, 0.5]])[1][0], 4.06) < 1e-3
    d = vanishing.values_are_not_gradients(generator())
    for got, (w, h_0) in zip(row(d, "∂h_20/∂h_0, computed"), [(3, 0), (3, 0.5), (0.5, 0.5)]):
        assert apart(got, derivative(w, h_0)) < 1e-10
    assert apart(row(d, "∂h_20/∂h_0 without tanh"), [3.0**20, 3.0**20, 0.5**20]) < 1e-14
    assert row(d, "largest |h_t|")[0] == 0 and row(d, "largest |h_t|")[2] == 0.5
    fixed = row(d, "largest |h_t|")[1]
    assert apart(fixed, np.tanh(3 * fixed)) < 1e-12 and fixed > 0.9


def test_e6_the_direct_path_is_a_power_of_the_gate_and_all_paths_a_complex_step() -> None:
    d, rng = vanishing.forget_gates_multiply(generator()), generator()
    xs, expected = rng.normal(size=(50, 1, 2)), []
    for b_f in (1.0, 5.0):
        p = nn.LSTMCell(2, 3, forget_bias=b_f, rng=rng).state_dict()

        def last(c: Array, p: dict[str, Array] = p, f: float = float(sigma(np.array(b_f)))) -> Array:
            h = np.zeros((1, 3))
            for x in xs:
                z = {g: x @ p[f"U_{g}"] + h @ p[f"W_{g}"] + p[f"b_{g}"] for g in "ioc"}
                c = f * c + sigma(z["i"]) * np.tanh(z["c"])
                h = sigma(z["o"]) * np.tanh(c)
            return c

        expected.append(np.linalg.svd(complex_jacobian(last, np.zeros((1, 3))))[1][0])
    powers = sigma(np.array([1.0, 5.0])) ** 50
    assert apart(powers, [1.6e-7, 0.71]) < 0.01
    for what in ("f^50", "direct path, computed"):
        assert np.allclose(row(d, what), powers, rtol=1e-12, atol=0)
    assert np.allclose(row(d, "all paths, computed"), expected, rtol=1e-9, atol=0)


def test_e9_is_off_by_what_s1s_gates_give_in_numpy() -> None:
    d, rng = models.gates_that_read_gates(generator()), generator()
    xs, p = rng.normal(size=(5, 2, 3)), nn.LSTMCell(3, 4, rng=rng).state_dict()

    def run(printed: bool) -> Array:
        h = c = i = o = np.zeros((2, 4))
        hs = []
        for x in xs:
            f = sigma(x @ p["U_f"] + h @ p["W_f"] + p["b_f"])
            i = sigma(x @ p["U_i"] + (i @ p["W_f"] if printed else h @ p["W_i"]) + p["b_i"])
            o = sigma(x @ p["U_o"] + (o @ p["W_f"] if printed else h @ p["W_o"]) + p["b_o"])
            c = f * c + i * np.tanh(x @ p["U_c"] + h @ p["W_c"] + p["b_c"])
            h = o * np.tanh(c)
            hs.append(h)
        return np.stack(hs)

    expected = np.abs(run(True) - run(False)).max(axis=(1, 2))
    assert expected[0] == 0 and expected[1:].min() > 0.01
    for t in range(5):
        off, right = row(d, f"distance of h_{t + 1}")
        assert abs(off - expected[t]) < 1e-14 and right < 1e-14
    assert apart(models.lstm_in_numpy(p, xs), run(False)) < 1e-15
    for method in ("differences", "complex step"):
        assert row(d, f"gradient check of all weights, {method}") == ["passed", "passed"]


def test_e15_counts_weights_and_runs_as_numpy_does() -> None:
    d, rng = models.one_cell_for_any_length(generator()), generator()
    p, xs = nn.LSTMCell(3, 4, rng=rng).state_dict(), rng.normal(size=(40, 2, 3))
    one = 4 * 4 * (3 + 4 + 1)
    assert row(d, "weights, had each") == [4 * one, 40 * one] and row(d, "weights of the cell") == [one, one]
    assert apart(row(d, "first unit of h_4"), [models.lstm_in_numpy(p, xs)[3, 0, 0]] * 2) < 1e-14
    assert max(row(d, "last state: padded")) < 1e-14


def test_e17_the_variants_are_those_of_numpy() -> None:
    d, rng = models.one_gate_or_two(generator()), generator()
    xs, h_0 = rng.normal(size=(6, 1, 3)), rng.normal(size=(1, 4))
    nn.GRUCell(3, 4, reset=None, update="u", rng=rng)
    p = nn.GRUCell(3, 4, reset="before", update="u", rng=rng).state_dict()

    def run(reset: str | None, steps: int, h: Array) -> Array:
        for x in xs[:steps]:
            u, r = (sigma(x @ p[f"U_{g}"] + h @ p[f"W_{g}"] + p[f"b_{g}"]) for g in "ur")
            seen = {None: h @ p["W_n"], "before": (r * h) @ p["W_n"], "after": r * (h @ p["W_n"])}[reset]
            h = u * np.tanh(x @ p["U_n"] + seen + p["b_n"]) + (1 - u) * h
        return h[0]

    last, first = ([run(kind, steps, h) for kind in (None, "before", "after")]
                   for steps, h in ((6, h_0), (1, np.zeros((1, 4)))))
    assert apart(row(d, "first unit of h_6"), [h[0] for h in last]) < 1e-13
    assert apart(row(d, "first unit of h_1"), [h[0] for h in first]) < 1e-13
    assert apart(row(d, "distance of h_6"), [np.abs(h - last[0]).max() for h in last]) < 1e-12
    assert row(d, "weights") == [2 * 32, 3 * 32, 3 * 32 + 4] and max(row(d, "the same with the reset gate")) < 1e-14


def test_e20_the_columns_are_the_printed_line_its_correction_and_the_truth() -> None:
    d, q = gradients.lost_sign_and_factor(generator()), generator().normal(size=5)
    y, y_hat = np.eye(5)[2], np.exp(q) / np.exp(q).sum()
    truth = complex_jacobian(lambda q: np.log(np.exp(q).sum()) - q[2], q)[0]
    printed = [-y[i] / y_hat[i] * y_hat[i] + sum(y[k] / y_hat[k] * -y_hat[k] * y_hat[i] for k in range(5) if k != i)
               for i in range(5)]
    got = np.array([row(d, f"∂E/∂q_{i}") for i in range(5)])
    assert apart(got, np.stack([printed, truth, truth], 1)) < 1e-14
    assert apart(row(d, "sum over l")[0], -2 + y_hat[2]) < 1e-14


class Recorded:
    """A generator that keeps the last integers it gave."""

    def __init__(self, seed: int) -> None:
        self.rng, self.last = generator(seed), np.zeros(0)

    def integers(self, *arguments: Any) -> Array:
        self.last = self.rng.integers(*arguments)
        return self.last


def in_numpy(model: ManyToMany, ids: Array) -> Array:
    """h_t and h'_t of a bidirectional RNN, (2, T, B, H)."""
    found = []
    for cell, order in zip(model.layer.cells.values(), (ids, ids[::-1])):
        p, h, hs = cell.state_dict(), np.zeros((ids.shape[1], cell.hidden_size)), []
        for x in order:
            h = np.tanh(p["U"][x] + h @ p["W"] + p["b"])
            hs.append(h)
        found.append(hs)
    return np.array([found[0], found[1][::-1]])


def mean_loss(q: Array, y: Array) -> float:
    log_p = q - np.log(np.exp(q).sum(-1, keepdims=True))
    return float(-np.take_along_axis(log_p, y[..., None], -1).mean())


def test_e23_the_losses_on_noise_are_those_of_numpy_and_only_the_peeking_one_is_below_the_least_possible() -> None:
    rng = generator(3)
    one = ManyToMany(nn.RNN(4, 8, bidirectional=True, rng=rng), 4, rng=rng)
    gap = Cloze(nn.RNN(4, 8, bidirectional=True, rng=rng), 4, rng=rng)
    seen: Any = Recorded(1)
    loss = models.loss_on_noise(one, 1, seen, 8, 4)
    h, back = in_numpy(one, seen.last[:8])
    q = np.concatenate([h, back], -1) @ one.head.V.data + one.head.c.data
    assert apart(loss, mean_loss(q, seen.last[1:])) < 1e-12 and np.log(4) / 8 * 0.97 < loss < np.log(4) - 0.3
    loss = models.loss_on_noise(gap, 0, seen, 8, 4)
    h, back = in_numpy(gap, seen.last[:8])
    none = np.zeros((1, *h.shape[1:]))
    q = (np.concatenate([none, h[:-1]]) @ gap.head.V.data + np.concatenate([back[1:], none]) @ gap.head_reverse.V.data
         + gap.head.c.data)
    assert apart(loss, mean_loss(q, seen.last[:8])) < 1e-12 and abs(loss - np.log(4)) < 0.1


def test_e23_its_bounds_are_the_entropy_of_the_symbols() -> None:
    d = models.leakage(generator(1))
    assert apart(row(d, "least honest"), [np.log(4)] * 3) < 1e-15
    assert apart(row(d, "least loss of who peeks")[1], np.log(4) / 8) < 1e-15
    losses = row(d, "mean loss")
    assert apart(row(d, "perplexity"), np.exp(losses)) < 1e-14 and losses[1] < 0.4 < 1.3 < min(losses[0], losses[2])


def test_e23_sees_whether_the_library_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.refuses_both_directions(generator())
    monkeypatch.setattr(models, "train", lambda *given, **settings: None)
    assert not models.refuses_both_directions(generator())


def test_e26_the_greedy_text_is_that_of_numpy() -> None:
    d, rng = models.greedy_loops(generator()), generator()
    model, text = models.writer(rng)
    (cell,), symbols = model.layer.cells.values(), model.vocabulary.symbols
    p, h, written, reading = cell.state_dict(), np.zeros(16), "", list("the ")
    while len(written) < 600:
        for symbol in reading:
            h = np.tanh(p["U"][symbols.index(symbol)] + h @ p["W"] + p["b"])
        reading = [symbols[int((h @ model.head.V.data + model.head.c.data).argmax())]]
        written += reading[0]
    assert row(d, "begins with")[0] == repr(written[:30]) and row(d, "ends with")[0] == repr(written[-30:])
    sampled = "".join(generate(model, "the ", 600, temperature=1.0, rng=rng))
    assert row(d, "different pieces") == [len({text[i:i + 12] for i in range(589)}) for text in (written, sampled)]
    assert row(d, "begins with")[1] == repr(sampled[:30])
    period = int(row(d, "repeats for ever")[0].split()[0])
    assert written[-300:] == (written[-period:] * 300)[-300:] and text.startswith("the ")


@pytest.mark.parametrize(("text", "loop"), [("abc" * 10, (0, 3)), ("xyz" + "ab" * 20, (3, 2)), ("a" * 16, (0, 1)),
                                            ("abcdefgh" * 2, None), ("abababababcd", None), ("", None)])
def test_a_loop_is_what_repeats_to_the_end_and_often_enough(text: str, loop: tuple[int, int] | None) -> None:
    assert models.loop_in(text) == loop


def test_e27_the_last_row_of_a_is_the_closed_form() -> None:
    d, rng = gradients.one_weight_one_update(generator()), generator()
    cell, head = nn.RNNCell(3, 4, rng=rng), nn.Linear(4, 5, rng=rng)
    W = 0.6 * np.linalg.qr(rng.normal(size=(4, 4)))[0]
    xs, h = rng.normal(size=(20, 1, 3)), rng.normal(size=(1, 4))
    hs = [h]
    for x in xs:
        hs.append(np.tanh(x @ cell.U.data + hs[-1] @ W + cell.b.data))
    q = hs[-1] @ head.V.data + head.c.data
    delta = (1 - hs[-1] ** 2) * ((np.exp(q) / np.exp(q).sum() - np.eye(5)[1]) @ head.V.data.T)
    terms = {}
    for k in range(20, 0, -1):
        terms[k] = hs[k - 1].T @ delta
        delta = (1 - hs[k - 1] ** 2) * (delta @ W.T)
    total = np.linalg.norm(sum(terms.values()))
    for k in (20, 19, 15, 10, 5, 1):
        assert np.allclose(row(d, f"k = {k}"), [np.linalg.norm(terms[k])] * 2 + [total], rtol=1e-12, atol=0)


def test_e31_the_sizes_are_those_of_a_linear_net() -> None:
    d, rng = gradients.remedies(generator()), generator()
    xs, U = rng.uniform(0.5, 1.5, (30, 1, 3)), rng.uniform(0.1, 0.3, (3, 4))
    for column, scale in enumerate((1.5, 0.5)):
        W = scale * (0.7 * np.eye(4) + 0.3 * np.roll(np.eye(4), 1, 1))
        hs = [np.ones((1, 4))]
        for x in xs:
            hs.append(x @ U + hs[-1] @ W)
        terms = [hs[k - 1].T @ np.ones((1, 4)) @ np.linalg.matrix_power(W.T, 30 - k) for k in range(1, 31)]
        whole = np.linalg.norm(sum(terms))
        clip = min(1, 1 / (whole + 1e-6))
        expected = [whole, whole * clip, np.linalg.norm(sum(terms[-5:])), np.linalg.norm(terms[0]),
                    np.linalg.norm(terms[0]) * clip, 0, 1]
        assert np.allclose([values[column] for _, *values in d.rows], expected, rtol=1e-12, atol=0)


def test_e32_the_jacobians_are_those_of_a_complex_step() -> None:
    d, rng = vanishing.large_states_small_jacobians(generator()), generator()
    W, inputs = np.linalg.qr(rng.normal(size=(4, 4)))[0], rng.uniform(-1, 1, (20, 1, 3))
    U, states = nn.RNNCell(3, 4, rng=rng).U.data, []

    def last(h: Array) -> Array:
        for x in inputs:
            h = np.tanh(x @ U + h @ W + 4.0)
            states.append(np.abs(h.real).min())
        return h

    small = np.linalg.svd(complex_jacobian(last, np.full((1, 4), np.tanh(4.0))))[1][0]
    assert np.allclose(row(d, "largest singular value"), [small, 1], rtol=1e-8, atol=0) and small < 1e-30
    assert np.allclose(row(d, "smallest |h_t|"), [min(states), 0], rtol=1e-12, atol=0) and min(states) > 0.4


# ------------------------------------------------------------------------------------------------ the command line
def run(*arguments: str) -> tuple[dict[str, Any], bool]:
    verbs = argparse.ArgumentParser().add_subparsers()
    made = {}

    def add(name: str, function: Any, what: str, example: str, files: bool = False) -> argparse.ArgumentParser:
        made[name] = verbs.add_parser(name, help=what, epilog=example)
        made[name].set_defaults(run=function)
        made[name].add_argument("--seed", type=int, default=0)
        made[name].add_argument("--json", action="store_true")
        made[name].add_argument("--out", type=Path)
        return made[name]

    verb.verbs(add)
    options = made["errata"].parse_args(arguments)
    result, good = options.run(options)
    return result, good


def test_one_erratum_prints_what_is_said_what_is_right_the_numbers_and_a_verdict(
        capsys: pytest.CaptureFixture[str]) -> None:
    result, good = run("e4")
    said = capsys.readouterr().out
    assert good and result["shown"] and "review" not in said
    for part in ("E4 (S0, notes on RNN", "as written", "right", "3.487e+09", "1.518e-29", "What fails:",
                 "What does not fail:", "Verdict: With γλ = 3"):
        assert part in said
    assert max(map(len, said.splitlines())) <= 120


def test_an_erratum_without_a_demonstration_prints_where_the_right_form_is_documented(
        capsys: pytest.CaptureFixture[str]) -> None:
    result, good = run("E13")
    said = capsys.readouterr().out
    assert good and "shown" not in result and "insert gate" in said and "tinygrad_rnn.nn.LSTMCell" in said


def test_all_errata_print_as_one_table_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    result, good = run()
    said = capsys.readouterr().out
    assert good and "13 of 13 demonstrations show" in said and [r["number"] for r in result["errata"]] == [
        e.number for e in ERRATA]
    rows = {r["number"]: r for r in result["errata"]}
    one, _ = run("E20", "--json")
    assert rows["E20"] == one and all(("verdict" in r) == (int(r["number"][1:]) in DEMOS) for r in rows.values())
    assert json.loads(json.dumps(result, allow_nan=False))["errata"][19]["rows"][2][1] == pytest.approx(-1)
    assert not capsys.readouterr().out, "--json prints nothing of its own"


def test_the_seed_decides_every_number() -> None:
    assert run("E17", "--json") == run("E17", "--json") and run("E17", "--json") != run("E17", "--json", "--seed", "1")


def test_a_demonstration_that_shows_nothing_is_no_success(monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    broken = Erratum("E20", "S3", "a", "b", "nn.RNNCell", CORRECTED[20])
    monkeypatch.setattr(verb, "ERRATA", (broken,))
    monkeypatch.setattr(verb, "find", lambda number: broken)
    monkeypatch.setattr(verb, "errata_table", lambda seen: "")
    assert run("E20")[1] is False and "Verdict: Not shown: " in capsys.readouterr().out
    result, good = run()
    assert not good and result["errata"][0]["shown"] is False and "0 of 1" in capsys.readouterr().out


def test_an_unknown_number_is_refused() -> None:
    with pytest.raises(ValueError, match="from E1 to E34"):
        run("E99")
