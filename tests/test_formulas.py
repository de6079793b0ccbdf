"""An explanation opened up: levels that add up, against the recursion (16) run forward in NumPy; Markdown whose numbers
are the gradient's; plain data; and what the command line makes of them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from bptt_cells import NETS
from bptt_models import EXACT, MODELS, Model, apart

from tinygrad_rnn import nn, ops, scope
from tinygrad_rnn.bptt import explain, inside
from tinygrad_rnn.bptt.formulas import as_data, markdown
from tinygrad_rnn.cli import main

Captured = pytest.CaptureFixture[str]
NUMBER = r"[+-]\d[\d.]*(?:e[+-]\d+)?"
LANES = ["RNN, forward", "LSTM, forward", "GRU before u, backward", "LSTM, backward, masked", "RNN, masked",
         "RNN, both", "GRU, both, masked"]


@pytest.mark.parametrize("label", MODELS)
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_each_level_is_dE_ds_k_times_the_recursion_16_run_forward(label: str, name: str) -> None:
    m = MODELS[label]
    if name not in m.names:
        return
    for t in (1, m.T):
        expected = np.zeros((3, t + 1, *m.arrays[name].shape))  # whole, use, behind; by k
        for row in range(m.B):
            ds, deltas = np.zeros((m.H, *m.arrays[name].shape)), {t: m.dE_ds(t)[row]}
            for k in range(t, 1, -1):
                deltas[k - 1] = deltas[k] @ m.jacobian(k, row)
            for k in range(1, t + 1):
                direct, carried = m.direct(name, k, row), np.tensordot(m.jacobian(k, row), ds, 1)
                ds = direct + carried  # (16)
                for i, part in enumerate((ds, direct, carried)):
                    expected[i, k] += np.tensordot(deltas[k], part, 1)
        levels = inside(explain(m.losses[t - 1], m.parameters[name])).levels
        assert [level.k for level in levels] == list(range(t, 0, -1))
        for level in levels:
            for ours, theirs in zip((level.whole, level.use, level.behind), expected[:, level.k or 0]):
                assert np.abs(ours - theirs).max() < EXACT * np.abs(expected).max(), (t, level.k)


@pytest.mark.parametrize("label", LANES)
def test_levels_add_up_exactly_from_the_loss_to_the_first_state_in_the_order_of_the_direction(label: str) -> None:
    net, opened = NETS[label], 0
    for name, W in net.parameters.items():
        lane = net.lane_of(name)
        if lane is None or not net.A(name)[1].any():
            continue
        e, A = explain(net.losses[1], W), net.A(name)[1]
        levels = inside(e).levels
        steps = [k for level in levels if (k := level.k) is not None]
        assert steps == sorted(e.terms, reverse=lane[1] == "forward"), name  # type: ignore[type-var]
        for level, after in zip(levels, [*levels[1:], None]):
            assert np.array_equal(level.whole, level.use + level.behind)
            assert np.array_equal(level.behind, after.whole if after else np.zeros(W.shape))
            assert np.abs(level.use - A[level.k]).max() < EXACT * np.abs(A).max()
        assert apart(levels[0].whole, e.total) < EXACT
        opened += 1
    assert opened >= 4


@pytest.mark.parametrize(("label", "name"), [("RNN, forward", "V"), ("RNN, both", "x"), ("RNN, stack", "W_l0"),
                                             ("LSTM, stack, both", "U_f_l0'")])
def test_where_no_one_state_leads_to_the_loss_it_is_refused_and_markdown_does_without(label: str, name: str) -> None:
    e = explain(NETS[label].losses[1], NETS[label].parameters[name])
    with pytest.raises(ValueError, match="not the loss of one step"):
        inside(e)
    assert "What is inside" not in markdown(e) and f"| total | dE₂/d{name} |" in markdown(e)


@pytest.mark.parametrize("label", ["RNN, forward", "LSTM, forward", "LSTM, backward, masked", "GRU, both, masked"])
def test_the_printed_levels_open_one_line_each_and_add_up(label: str) -> None:
    net = NETS[label]
    for name, W in net.parameters.items():
        if net.lane_of(name) is None or not net.A(name)[1].any() or name == "x":
            continue
        opened = inside(explain(net.losses[1], W))
        lines = str(opened).splitlines()
        assert all(len(line) <= 120 for line in lines), name
        body = lines[4:lines.index("", 4)]
        found = [(len(line) - len(line.lstrip()), float(line.split()[-1])) for line in body]
        depth, open_line = 2, found[0]
        i = 1
        while i < len(found):
            assert found[i][0] == depth and body[i].lstrip().startswith("= ")
            behind = found[i + 1] if i + 1 < len(found) else (depth, 0.0)
            assert behind[0] == depth
            size = abs(found[i][1]) + abs(behind[1])
            assert abs(found[i][1] + behind[1] - open_line[1]) <= 2e-5 * size, (name, i)
            open_line, depth, i = behind, depth + 4, i + 2
        assert body[0].split()[-3] == "total" and "explicit ∂⁺ " in body[1]


def test_of_many_levels_the_middle_is_left_out() -> None:
    m = Model(T=40, H=3)
    lines = str(inside(explain(m.losses[-1], m.parameters["W"]))).splitlines()
    assert len(lines) < 30 and sum("31 levels more" in line for line in lines) == 1
    assert "∂⁺h₃₅/∂W" in "".join(lines) and "∂⁺h₃/∂W" in "".join(lines) and "∂⁺h₂₀/∂W" not in "".join(lines)


def test_the_data_hold_what_is_inside_level_by_level() -> None:
    m = Model()
    e = explain(m.losses[2], m.parameters["W"])
    d = json.loads(json.dumps(as_data(e)))
    assert [level["k"] for level in d["inside"]] == [3, 2, 1] and d["graph"] == []
    assert d["inside"][0]["formulas"] == {"total": "dE₃/dW", "explicit": "dE₃/dh₃ · ∂⁺h₃/∂W",
                                          "implicit": "dE₃/dh₂ · dh₂/dW"}
    assert apart(d["inside"][0]["total"], e.total) < EXACT and apart(d["inside"][0]["implicit"], e.implicit) < EXACT
    assert apart(d["inside"][1]["explicit"], e.terms[2]) < EXACT
    assert as_data(explain(m.losses[2], m.parameters["V"]))["inside"] == []


def test_a_sum_of_losses_of_several_steps_is_refused() -> None:
    m = Model(seed=41)
    with scope(t=5):
        both = m.losses[1] + m.losses[4]
    with pytest.raises(ValueError, match="not the loss of one step"):
        inside(explain(both, m.parameters["W"]))


def sums(text: str) -> list[tuple[float, list[float]]]:
    """total = part part … of every line that says so in numbers."""
    found = []
    for total, parts in re.findall(rf": ({NUMBER}) = ({NUMBER}(?: {NUMBER})*)$", text, re.M):
        found.append((float(total), [float(part) for part in parts.split()]))
    return found


@pytest.mark.parametrize(("label", "name"), [
    ("RNN, forward", "W"), ("RNN, forward", "h_0"), ("LSTM, backward, masked", "c_0"), ("GRU, both, masked", "U_z'"),
    ("RNN, both", "V"), ("LSTM, stack", "W_f_l0"), ("RNN, stack, both", "b_l0")])
def test_the_numbers_of_markdown_are_those_of_the_terms_and_add_up(label: str, name: str) -> None:
    net = NETS[label]
    e, A = explain(net.losses[1], net.parameters[name]), net.A(name)[1]
    text, total = markdown(e), A.sum(0)
    entry = np.unravel_index(int(np.abs(e.total).argmax()), total.shape)
    element = f"{name}[{', '.join(str(int(i)) for i in entry)}]"
    for whole, parts in sums(text):
        assert abs(whole - sum(parts)) < 1e-5 * max(map(abs, parts), default=1) * len(parts)
    assert len(sums(text)) == 1 + text.count("\n- ") and abs(sums(text)[0][0] - total[entry]) < 1e-5 * abs(total[entry])
    assert f"E₂ = {net.losses[1].item():.6g}\n" in text and f"{element}: " in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert all(line.count("|") == 6 for line in text.splitlines() if line.startswith("|"))
    used = {int(use.removeprefix("k = ")): numbers for use, *numbers in rows if use.startswith("k = ")}
    assert set(used) == {int(k) for k in np.flatnonzero(A.reshape(len(A), -1).any(1))}
    for k, (*_, size, number) in used.items():
        assert abs(float(size) - np.linalg.norm(A[k])) < 6e-4 * np.linalg.norm(A[k])
        assert abs(float(number) - A[k][entry]) < 1e-5 * abs(A[k][entry])
    last = {kind: float(number) for use, kind, *_, number in rows if use == "all"}
    assert abs(last["explicit ∂⁺"] + last["implicit"] - last["total"]) < 1e-5
    held = net.A(name, held=True)[1].sum(0)[entry]
    assert abs(last["explicit ∂⁺"] - held) < 1e-5


@pytest.mark.parametrize("name", ["W", "h_0", "c", "b"])
def test_the_data_survive_json_and_add_up(name: str) -> None:
    net = NETS["RNN, both"]
    e, A = explain(net.losses[2], net.parameters[name]), net.A(name)[2]
    d = json.loads(json.dumps(as_data(e), allow_nan=False))
    assert d["t"] == 3 and d["parameter"] == name and d["loss"] == net.losses[2].item()
    assert apart(d["total"], A.sum(0)) < EXACT
    assert np.abs(np.add(d["explicit"], d["implicit"]) - A.sum(0)).max() < EXACT * np.abs(A).max()
    assert apart(d["explicit"], net.A(name, held=True)[2].sum(0)) < EXACT if np.any(d["explicit"]) else name == "h_0"
    for k, term in d["terms"].items():
        assert apart(term["values"], A[int(k)]) < EXACT and set(term) == {"kind", "norm", "values"}
        assert abs(term["norm"] - np.linalg.norm(A[int(k)])) < EXACT
    assert set(d["terms"]) == {str(k) for k in np.flatnonzero(A.reshape(len(A), -1).any(1))}
    for part, size in d["norms"].items():
        assert abs(size - np.linalg.norm(d[part])) < EXACT


# -------------------------------------------------------------------------------------------------- on the command line
def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("model", [[], ["--cell", "lstm"], ["--cell", "gru", "--layers", "2"], ["--bidirectional"],
                                   ["--bidirectional", "--layers", "2"]])
def test_terms_are_given_as_json_that_adds_up_and_is_proved(model: list[str], capsys: Captured) -> None:
    for parameter in ([], ["--parameter", "V"], ["--parameter", "U"])[:2 if model else 3]:
        assert run("terms", "--text", "abcab", "--windows", 1, 2, 4, "--json", *model, *parameter) == 0
        d: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert d["proved"] is True and d["windows"] == [1, 2, 4] and d["steps"] == [1, 2, 3, 4]
        assert np.shape(d["norms"]) == np.shape(d["cosines"]) == (4, 4)
        assert apart(d["chunked"][2], d["total"]) < EXACT  # one chunk of all four steps
        assert apart(d["sliding"][2], d["total"]) < EXACT
        total = np.array(d["total"])  # the parts of all terms along the total add up to its norm
        assert abs((np.array(d["norms"]) * d["cosines"]).sum() - np.linalg.norm(total)) < EXACT * np.linalg.norm(total)


@pytest.mark.parametrize("arguments", [["--text", "ab"], ["--text", "abca", "--parameter", "b"], ["--text", "abab",
                                       "--parameter", "U", "--cell", "lstm", "--parameter", "U_f"]])
def test_terms_are_printed_with_their_proof(arguments: list[str], capsys: Captured) -> None:
    assert run("terms", *arguments) == 0
    said = capsys.readouterr().out
    assert "chunked" in said and "sliding" in said and "agrees" in said and "DISAGREES" not in said


def test_terms_and_markdown_fail_with_1_if_a_rule_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: (g - g * y * y) * (1 + 1e-6),))
    assert run("terms", "--text", "abc") == 1 and "DISAGREES" in capsys.readouterr().out
    assert run("explain", "--text", "abc", "--markdown") == 1 and "NOT PROVED" in capsys.readouterr().out
    assert run("explain", "--text", "abc", "--markdown", "--json") == 1
    assert json.loads(capsys.readouterr().out)["proved"] is False


@pytest.mark.parametrize("arguments", [["terms", "--windows", "0"], ["terms", "--windows"], ["terms", "--text", "a"],
                                       ["terms", "--parameter", "Q"], ["explain", "--markdown", "--loss", "9"],
                                       ["explain", "--markdown", "--parameter", "Q"]])
def test_wrong_input_is_status_2(arguments: list[str], capsys: Captured) -> None:
    try:
        status = run(*arguments)
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status == 2 and not capsys.readouterr().out


@pytest.mark.parametrize("model", [[], ["--cell", "gru"], ["--bidirectional"]])
def test_markdown_is_printed_with_its_verdict_or_given_as_data(model: list[str], capsys: Captured) -> None:
    arguments = ["explain", "--text", "hello", "--loss", "3", "--markdown", *model]
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("## dE₃/dW") and "What is inside" in said and "Proved by" in said and len(sums(said)) >= 3
    assert run(*arguments, "--json") == 0
    d = json.loads(capsys.readouterr().out)
    assert d["proved"] is True and set(d["terms"]) == {"1", "2", "3"}
    assert apart(np.add(d["explicit"], d["implicit"]), d["total"]) < EXACT


def test_an_rnn_of_one_step_is_all_explicit() -> None:
    cell = nn.RNNCell(2, 3, initial=0.4, rng=np.random.default_rng(1))
    h, _ = nn.unroll(cell, np.ones((1, 2, 2)))
    with scope(t=1):
        E = (h[0] * np.arange(3.0)).sum().named("E")
    (level,) = inside(explain(E, cell.W)).levels
    expected = np.full((3, 2), 0.4) @ ((1 - h[0].data**2) * np.arange(3.0))
    assert apart(level.whole, expected) < EXACT and apart(level.use, expected) < EXACT and not level.behind.any()
