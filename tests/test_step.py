"""The backward pass op by op: local derivatives, ticks with their sums and kinds, and the verb `step` in a terminal.

What is right comes from NumPy written from scratch below, and from the complex step.
"""

from __future__ import annotations

import codecs
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import STEP, Case, every_case, value_of

from tinygrad_rnn import Tensor, nn, no_grad, ops, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.cli import main
from tinygrad_rnn.language import CELLS, CharRNN
from tinygrad_rnn.local import equation, jacobian, product, rule
from tinygrad_rnn.tensor import apply
from tinygrad_rnn.text import Vocabulary
from tinygrad_rnn.ticks import Tick, ticks

ROOT = Path(__file__).parent.parent
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


# -------------------------------------------------------------------------------------------------- local derivatives
@every_case
def test_the_jacobian_of_every_primitive_is_that_of_the_complex_step(case: Case) -> None:
    leaves = [Tensor(a, requires_grad=True) for a in case.arrays]
    y = case.run(*leaves)
    for position, array in enumerate(case.arrays):
        expected = np.zeros((y.size, array.size))
        for column, index in enumerate(np.ndindex(array.shape)):
            moved = [np.array(a, complex if i == position else float) for i, a in enumerate(case.arrays)]
            moved[position][index] += 1j * STEP
            expected[:, column] = value_of(case.run, moved).imag.ravel() / STEP
        found = jacobian(y, position)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max(initial=0) <= 1e-12 * max(1.0, np.abs(expected).max(initial=0))


def test_the_jacobian_by_a_constant_is_refused() -> None:
    y = Tensor([1.0, 2.0]) * Tensor([3.0, 4.0], requires_grad=True)
    assert np.array_equal(jacobian(y, 1), np.diag([1.0, 2.0]))
    with pytest.raises(ValueError, match="requires no gradient"):
        jacobian(y, 0)


TEXTS: dict[str, Callable[..., Any]] = {  # what the words of a rule say, evaluated
    "1": lambda y, a, b: np.ones_like(y), "-1": lambda y, a, b: -np.ones_like(y), "B": lambda y, a, b: b,
    "A": lambda y, a, b: a, "1 / B": lambda y, a, b: 1 / b, "-Y / B": lambda y, a, b: -y / b,
    "B A^(B - 1)": lambda y, a, b: b * a ** (b - 1), "Y ln A": lambda y, a, b: y * np.log(a),
    "1 - Y²": lambda y, a, b: 1 - y**2, "Y (1 - Y)": lambda y, a, b: y * (1 - y), "Y": lambda y, a, b: y,
    "1 where A > 0, else 0": lambda y, a, b: 1.0 * (a > 0), "1 / A": lambda y, a, b: 1 / a,
    "1 / (2 Y)": lambda y, a, b: 1 / (2 * y), "the sign of A": lambda y, a, b: np.sign(a),
    "1 where A is larger, ½ on a tie, else 0": lambda y, a, b: 1.0 * (a > b),
    "1 where B is larger, ½ on a tie, else 0": lambda y, a, b: 1.0 * (b > a),
}


@every_case
def test_the_words_of_an_elementwise_rule_are_true(case: Case) -> None:
    if not case.op.elementwise or case.op is ops.WHERE or len({a.shape for a in case.arrays}) > 1:
        return
    leaves = [Tensor(a, requires_grad=True) for a in case.arrays]
    y = case.run(*leaves)
    a, b = (*case.arrays, case.arrays[0])[:2]
    for position in range(len(leaves)):
        said = TEXTS[rule(y, position, "Y", ["A", "B"])](y.data, a, b)
        np.testing.assert_allclose(jacobian(y, position), np.diag(np.ravel(said)), rtol=1e-12)


def test_the_words_of_a_product_and_of_a_softmax_are_true() -> None:
    rng = np.random.default_rng(0)
    a, b = (Tensor(rng.normal(size=shape), requires_grad=True) for shape in ((2, 3), (3, 4)))
    y, g = a @ b, rng.normal(size=(2, 4))
    assert rule(y, 0, "y", ["h₂", "W"]) == "Wᵀ" and rule(y, 1, "y", ["h₂", "W"]) == "h₂ᵀ"
    assert product(y, 0, "g", "Wᵀ") == "g Wᵀ" and product(y, 1, "g", "h₂ᵀ") == "h₂ᵀ g"
    np.testing.assert_allclose((g.ravel() @ jacobian(y, 0)).reshape(2, 3), g @ b.data.T, rtol=1e-12)
    np.testing.assert_allclose((g.ravel() @ jacobian(y, 1)).reshape(3, 4), a.data.T @ g, rtol=1e-12)
    q = Tensor(rng.normal(size=(1, 4)), requires_grad=True)
    p, E = F.softmax(q), F.cross_entropy(q, [2], "none")
    softmax = np.exp(q.data[0]) / np.exp(q.data[0]).sum()
    assert rule(p, 0, "ŷ", ["q"]) == "diag(ŷ) - ŷ ŷᵀ" and rule(E, 0, "E", ["q"]) == "ŷ - y, ŷ = softmax(q)"
    np.testing.assert_allclose(jacobian(p, 0), np.diag(softmax) - np.outer(softmax, softmax), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(jacobian(E, 0)[0], softmax - np.eye(4)[2], rtol=1e-12)


def test_equations_carry_the_names_and_sums_stand_in_brackets() -> None:
    a, b = Tensor([0.5, 2.0], requires_grad=True), Tensor([1.0, 3.0], requires_grad=True)
    assert equation(F.tanh(a), "h₃", ["z₃"]) == "h₃ = tanh z₃"
    assert equation(a * b, "x∘y", ["x", "u+v"]) == "x∘y = x ∘ (u+v)"
    assert equation(F.sigmoid(a), "o", ["z"]) == "o = 1 / (1 + e⁻ˣ), x = z"
    assert equation(F.relu(a), "r", ["z"]) == "r = max(z, 0)"
    assert equation(F.concat([a, b]), "c", ["a", "b"]) == "c = [a, b]"
    assert equation(a[np.array([1])], "U[w₂]", ["U"]) == "U[w₂] = U[1]"
    assert equation(a[0], "a₁", ["a"]) == "a₁ = a[0]"
    assert equation(a[np.zeros(30, int)], "rows", ["a"]) == "rows = a[…]"
    assert equation(F.cross_entropy(a, np.array(1), "none"), "E₁", ["q₁"]) == "E₁ = -ln softmax(q₁)[target]"
    assert rule(F.tanh(a), 0, "u+v", ["z"]) == "1 - (u+v)²"
    assert product(F.tanh(a), 0, "g", "1 - h²") == "g ∘ (1 - h²)" and product(a + b, 1, "g", "1") == "g"
    wide = Tensor(np.ones((3, 2)), requires_grad=True) + b
    assert product(wide, 1, "g", "1") == "Σ g over what was repeated" and product(wide, 0, "g", "1") == "g"
    own = ops.Op("cube", "y = x³", lambda x: x**3, lambda g, y, x: 3 * g * x * x)
    cube = apply(own, (a,))
    assert rule(cube, 0, "y", ["x"]) == "as in y = x³"
    np.testing.assert_allclose(jacobian(cube, 0), np.diag([0.75, 12.0]), rtol=1e-12)


# --------------------------------------------------------------------------------------------------------------- ticks
T, B, D, H, V = 3, 2, 4, 5, 6


class Scratch:
    """An RNN with a loss at every step, E = Σ E_t, and its backward pass, in NumPy, split as it goes."""

    def __init__(self, only: int | None = None) -> None:
        rng = np.random.default_rng(7)
        self.U, self.W, self.b = rng.normal(size=(D, H)), rng.normal(size=(H, H)) / 2, rng.normal(size=H)
        self.V, self.h0, self.x = rng.normal(size=(H, V)), rng.normal(size=(B, H)), rng.normal(size=(T, B, D))
        self.y, self.steps = rng.integers(0, V, (T, B)), range(1, T + 1) if only is None else (only,)

    def expected(self) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """dE/dz_k, its explicit part and its implicit part, for every k."""
        h, errors = {0: self.h0}, {}
        for t in range(1, T + 1):
            h[t] = np.tanh(self.x[t - 1] @ self.U + h[t - 1] @ self.W + self.b)
            q = h[t] @ self.V
            errors[t] = np.exp(q) / np.exp(q).sum(1, keepdims=True) - np.eye(V)[self.y[t - 1]]
        self.h = h
        explicit = {t: (1 - h[t] ** 2) * (errors[t] @ self.V.T) * (t in self.steps) for t in h if t}
        implicit = {T: np.zeros((B, H))}
        for t in range(T - 1, 0, -1):
            implicit[t] = (1 - h[t] ** 2) * ((explicit[t + 1] + implicit[t + 1]) @ self.W.T)
        return explicit, implicit

    def graph(self) -> tuple[Tensor, dict[str, Tensor]]:
        p = {name: Tensor(getattr(self, name), requires_grad=True, name=name) for name in ("U", "W", "b", "V")}
        with scope(t=0):
            h = Tensor(self.h0, name="h")
        losses = []
        for t in range(1, T + 1):
            with scope(t=t):
                h = F.tanh((Tensor(self.x[t - 1]) @ p["U"] + h @ p["W"] + p["b"]).named("z")).named("h")
                if t in self.steps:
                    losses.append(F.cross_entropy(h @ p["V"], self.y[t - 1], "sum").named("E"))
        return (losses[0] if len(losses) == 1 else F.stack(losses).sum().named("E")), p


def close(found: Any, expected: np.ndarray) -> None:
    assert np.shape(found) == expected.shape
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def by_name(E: Tensor, name: str) -> dict[int, Tick]:
    return {tick.node.scope["t"]: tick for tick in ticks(E) if tick.node.name == name}


@pytest.mark.parametrize("only", [None, 1, 2, 3])
def test_what_arrives_at_each_step_is_what_numpy_says(only: int | None) -> None:
    scratch = Scratch(only)
    E, _ = scratch.graph()
    explicit, implicit = scratch.expected()
    found = by_name(E, "z")
    assert set(found) == set(range(1, (only or T) + 1))
    for t, tick in found.items():
        close(tick.incoming, explicit[t] + implicit[t])
        kinds = {(True, False): "explicit", (False, True): "implicit", (True, True): "both"}
        assert tick.kind == kinds[bool(explicit[t].any()), bool(implicit[t].any())]


@pytest.mark.parametrize("only", [None, 3])
def test_the_contributions_to_a_weight_are_those_of_its_uses_and_add_up_one_by_one(only: int | None) -> None:
    scratch = Scratch(only)
    E, p = scratch.graph()
    explicit, implicit = scratch.expected()
    flows = [(tick.node.scope["t"], flow) for tick in ticks(E) for flow in tick.flows if flow.x is p["W"]]
    total = np.zeros((H, H))
    assert [k for k, _ in flows] == [3, 2, 1]
    for number, (k, flow) in enumerate(flows):
        close(flow.contribution, scratch.h[k - 1].T @ (explicit[k] + implicit[k]))
        alone = np.zeros((H, H)) if flow.explicit is None else flow.explicit
        close(alone, scratch.h[k - 1].T @ explicit[k])
        if number:
            close(flow.before, total)
        else:
            assert flow.before is None
        total = total + scratch.h[k - 1].T @ (explicit[k] + implicit[k])
        close(flow.after, total)
        assert not flow.carried


def test_the_edges_that_carry_the_state_are_implicit_and_no_others_begin_to_be() -> None:
    E, _ = Scratch(3).graph()
    for tick in ticks(E):
        for flow in tick.flows:
            step_before = flow.x.name == "h" and flow.x.scope["t"] == tick.node.scope["t"] - 1
            assert flow.carried == step_before
            assert flow.kind == ("implicit" if step_before else tick.kind)


def test_every_sum_is_what_the_next_operation_receives_and_what_backward_leaves_bit_by_bit() -> None:
    E, p = Scratch().graph()
    arrived: dict[Tensor, Any] = {E: np.ones(())}
    for tick in ticks(E):
        assert np.array_equal(tick.incoming, arrived.pop(tick.node))
        for flow in tick.flows:
            before = arrived.get(flow.x)
            assert (before is None) == (flow.before is None) and (before is None or np.array_equal(before, flow.before))
            arrived[flow.x] = flow.after
    E.backward()
    for x in p.values():
        assert np.array_equal(arrived.pop(x), np.asarray(x.grad))
    assert not arrived


def test_a_tensor_that_is_read_twice_by_one_operation_gets_two_contributions() -> None:
    x = Tensor(3.0, requires_grad=True)
    (tick,) = ticks(x * x)
    assert [(float(f.contribution), float(f.after)) for f in tick.flows] == [(3.0, 3.0), (3.0, 6.0)]


def test_a_tick_prints_itself_on_one_line() -> None:
    E, _ = Scratch(3).graph()
    found = by_name(E, "z")[2]
    assert repr(found) == "Tick(z: y = a + b at t=2, implicit, to add, b)"
    assert repr(found.flows[1]) == "Flow(to b, implicit, shape (5,))"


def test_ticks_changes_no_grad_and_refuses_what_is_no_loss() -> None:
    E, p = Scratch().graph()
    list(ticks(E))
    assert all(x.grad is None for x in p.values())
    with pytest.raises(ValueError, match="one number"):
        next(ticks(p["b"] * 2))
    with no_grad(), pytest.raises(RuntimeError, match="nothing"):
        next(ticks((p["b"] * 2).sum()))


# ------------------------------------------------------------------------------------------------------------ the verb
def session(commands: str, *arguments: object, monkeypatch: Patch, columns: int = 100) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(commands))
    monkeypatch.setenv("COLUMNS", str(columns))
    return main(["step", *map(str, arguments)])


def by_complex_step(text: str, name: str, t: int, hidden: int = 4) -> np.ndarray:
    """dE_t/dW of the fresh model that the command line makes, by a forward pass of its own."""
    model = CharRNN(Vocabulary.of(text), hidden, rng=np.random.default_rng(0))
    values = {str(p.name): np.array(p.data, complex) for p in model.parameters()}
    ids = model.vocabulary.encode(text)

    def loss() -> complex:
        h: Any = np.zeros(hidden)
        for k in range(t):
            h = np.tanh(values["U"][ids[k]] + h @ values["W"] + values["b"])
        q = h @ values["V"] + values["c"]
        return complex(np.log(np.exp(q).sum()) - q[ids[t]])

    found = np.zeros(values[name].shape)
    for index in np.ndindex(found.shape):
        values[name][index] += 1j * STEP
        found[index] = loss().imag / STEP
        values[name][index] -= 1j * STEP
    return found


def test_the_readers_session_shows_the_sum_and_its_kinds(monkeypatch: Patch, capsys: Captured) -> None:
    assert session("n\n\nw W\nw\nt 2\nb\np\ng\nq\n", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert "W is one parameter, used 4 times on the way to E₄" in said
    assert said.startswith("rnn, 1 layer, H=4, random weights (seed 0): reads 'hell', E₄ asks for 'o'.\n")
    assert said.count("w₁ = 'h' row 1, so U[w₁] = U[1]") == 1
    assert " ".join(said.split()).count("Of a matrix one row is shown") == 1
    titles = re.findall(r"^── (\d+) of 24, step (\d)", said, re.M)
    assert titles == [("1", "4"), ("2", "4"), ("8", "4"), ("13", "3"), ("15", "2"), ("14", "3"), ("14", "3")]
    assert "h₂ = tanh z₂" in said and "∂h₂/∂z₂ = 1 - h₂² = diag[" in said and "∂Wh₃/∂h₃ = Wᵀ\n" in said
    assert "→ W  explicit, k = 4: ∂E₄/∂h₄ · ∂⁺h₄/∂W" in said
    assert "→ W  implicit, k = 3: ∂E₄/∂h₄ · ∂h₄/∂h₃ · ∂⁺h₃/∂W" in said
    assert "→ h₂  implicit, for it is the state of step 2, which step 3 has read" in said
    assert "k = 1 adds exactly 0, for h₀ = 0" in said and "every bit is the same" in said
    assert "\x1b" not in said


def test_the_numbers_of_the_session_add_up_to_the_gradient(monkeypatch: Patch, capsys: Captured) -> None:
    session("g\n", monkeypatch=monkeypatch)
    said = capsys.readouterr().out
    expected = by_complex_step("hello", "W", 4)
    i, j = np.unravel_index(np.abs(expected).argmax(), expected.shape)
    assert f"W.grad[{i}, {j}]" in said
    rows = re.findall(r"k = (\d)  (explicit|implicit) .* ([+-][\d.e-]+) +([+-][\d.e-]+)$", said, re.M)
    assert [row[:2] for row in rows] == [("4", "explicit"), ("3", "implicit"), ("2", "implicit"), ("1", "implicit")]
    running = np.cumsum([float(row[2]) for row in rows])
    np.testing.assert_allclose([float(row[3]) for row in rows], running, rtol=2e-3)
    assert running[-1] == pytest.approx(expected[i, j], rel=2e-3)


def test_a_block_of_the_session_is_before_plus_contribution(monkeypatch: Patch, capsys: Captured) -> None:
    session("w\nw\nw\nw\n", monkeypatch=monkeypatch)
    found = re.findall(r"W\.grad\[(\d)\]  (.*)\n +\+=  \[(.*?)\].*\n +->  \[(.*)\]", capsys.readouterr().out)
    assert {row for row, *_ in found} == {str(np.abs(by_complex_step("hello", "W", 4)).max(1).argmax())}
    blocks = [block for _, *block in found]  # the last adds 0, to the same row
    assert len(blocks) == 4 and blocks[0][0] == "0"
    last = "0 0 0 0"
    for before, added, after in blocks:
        numbers = [np.array([float(x) for x in row.strip("[]").split()]) for row in (before, added, after, last)]
        np.testing.assert_allclose(numbers[0] + numbers[1], numbers[2], atol=1.1e-4)
        np.testing.assert_allclose(np.zeros(4) + numbers[0], numbers[3], atol=1.1e-4)
        last = after


@pytest.mark.parametrize(("command", "answer"), [
    ("x", "'x' is no command"), ("n 3", "'3': this command takes nothing more"), ("q now", "takes nothing more"),
    ("t", "to which step? ahead are operations of step 4, 3, 2, 1"), ("t 9", "ahead are operations of step 4"),
    ("t two", "ahead are"), ("t -1", "ahead are"), ("w nix", "E₄ is made with U, W, b, V, c"),
    ("b", "Nothing is behind"),
    ("?", "Enter or n   the next operation"), ("h", "to step N"), ("help w", "to step N"), ("!ls", "no command"),
    ("\x00", "no command"), ("w W W", "is made with"), ("p", "E₄ = 1.405 is the loss at step 4")])
def test_bad_input_gets_a_sensible_sentence_and_the_session_goes_on(command: str, answer: str, monkeypatch: Patch,
                                                                    capsys: Captured) -> None:
    assert session(f"{command}\nn\n", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert answer in " ".join(said.out.split("0/24>", 1)[1].split()) or answer in said.out.split("0/24>", 1)[1]
    assert "── 1 of 24" in said.out and not said.err


def test_past_the_end_nothing_breaks(monkeypatch: Patch, capsys: Captured) -> None:
    assert session("g\nn\nn\nt 1\nw W\nw c\nb\nb\n", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert "t 1: no step is ahead" in said and "No more contributions to W are ahead" in said
    assert "── 23 of 24" in said and "── 22 of 24" in said


def test_who_leaves_early_still_hears_the_verdict(monkeypatch: Patch, capsys: Captured) -> None:
    for commands in ("", "n\nq\n", "n"):
        assert session(commands, monkeypatch=monkeypatch) == 0
        assert capsys.readouterr().out.count("every bit is the same") == 1


def test_disagreement_with_backward_is_said_and_is_status_1(monkeypatch: Patch, capsys: Captured) -> None:
    right = Tensor.backward

    def wrong(self: Tensor, *arguments: Any) -> None:
        right(self, *arguments)
        for x in {x for tick in ticks(self) for x in tick.node.inputs if x.name == "W"}:
            x.grad = np.asarray(x.grad) * (1 + 1e-9)

    monkeypatch.setattr(Tensor, "backward", wrong)
    assert session("g\n", monkeypatch=monkeypatch) == 1
    said = capsys.readouterr().out
    assert "W.grad IS NOT what backward() gives: off by 1.0e-09" in said and "U.grad IS NOT" not in said
    assert session("", "--json", monkeypatch=monkeypatch) == 1
    assert json.loads(capsys.readouterr().out)["agrees"] is False


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(columns: int, monkeypatch: Patch, capsys: Captured) -> None:
    session("w\nw\nt 1\ng\nh\n", "--cell", "lstm", "--text", "abc", monkeypatch=monkeypatch, columns=columns)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns and any("W_f" in line for line in lines)


@pytest.mark.parametrize("arguments", [
    *(["--cell", cell] for cell in CELLS), ["--layers", "2"], ["--bidirectional"], ["--loss", "1"],
    ["--bidirectional", "--layers", "2", "--cell", "gru", "--loss", "2"], ["--hidden", "1"], ["--parameter", "b"],
    ["--parameter", "c"], ["--text", "aaaaaaaaaaaaaaaaaaaa"], ["--hidden", "12"]], ids=" ".join)
def test_every_model_can_be_walked_through_to_its_end(arguments: list[str], monkeypatch: Patch,
                                                      capsys: Captured) -> None:
    text = [] if "--text" in arguments else ["--text", "abca"]
    assert session("\n" * 320, *arguments, *text, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    count = int(re.search(r"by (\d+)\s+operations", said)[1])  # type: ignore[index]
    assert len(re.findall(rf"^── \d+ of {count},", said, re.M)) == count
    assert "is a sum over the uses" in said and "nan" not in said.lower()


def test_the_parts_of_what_is_both_add_up(monkeypatch: Patch, capsys: Captured) -> None:
    """In a lower layer of both directions one use of W is both."""
    session("", "--json", "--bidirectional", "--layers", "2", "--loss", "2", "--text", "abca", monkeypatch=monkeypatch)
    edges = [edge for tick in json.loads(capsys.readouterr().out)["ticks"] for edge in tick["edges"]]
    assert {edge["kind"] for edge in edges} == {"explicit", "implicit", "both"}
    for edge in edges:
        if edge["kind"] == "explicit":
            assert edge["explicit"] == edge["contribution"]
        assert (edge["explicit"] is None) == (edge["kind"] == "implicit")


def test_json_holds_every_tick_and_its_sums_are_the_gradient(monkeypatch: Patch, capsys: Captured) -> None:
    assert session("", "--json", "--loss", 3, monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agrees"] and found["t"] == 3 and [tick["number"] for tick in found["ticks"]] == list(range(1, 20))
    sums: dict[str, Any] = {}
    for tick in found["ticks"]:
        for edge in tick["edges"]:
            if edge["input"] in "UWbVc":
                sums[edge["input"]] = sums.get(edge["input"], 0) + np.array(edge["contribution"])
            if edge["jacobian"]:  # incoming gradient times local derivative is the contribution
                back = np.ravel(tick["incoming"]) @ np.array(edge["jacobian"])
                np.testing.assert_allclose(back, np.ravel(edge["contribution"]), rtol=1e-12, atol=1e-18)
    for name, total in sums.items():
        np.testing.assert_allclose(total, by_complex_step("hello", name, 3), rtol=1e-10, atol=1e-17)
        np.testing.assert_allclose(total, found["gradients"][name]["backward"], rtol=1e-12, atol=1e-18)


def test_out_keeps_the_ticks_of_a_session(tmp_path: Path, monkeypatch: Patch, capsys: Captured) -> None:
    assert session("n\n", "--out", tmp_path, monkeypatch=monkeypatch) == 0
    assert len(json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))["ticks"]) == 24


@pytest.mark.parametrize("arguments", [["--text", ""], ["--text", "a"], ["--loss", "0"], ["--loss", "9"],
                                       ["--parameter", "nix"], ["--model", "no such file"], ["--hidden", "0"]])
def test_wrong_options_are_one_sentence_and_status_2(arguments: list[str], monkeypatch: Patch,
                                                     capsys: Captured) -> None:
    try:
        status = session("n\n", *arguments, monkeypatch=monkeypatch)
    except SystemExit as stop:
        status = int(stop.code or 0)
    said = capsys.readouterr()
    assert status == 2 and said.err.splitlines()[-1].startswith("tinygrad-rnn step: ") and not said.out


def test_a_trained_model_that_is_large_shows_shapes_and_rows(tmp_path: Path, monkeypatch: Patch,
                                                            capsys: Captured) -> None:
    path = CharRNN(Vocabulary.of("hello"), 40, rng=np.random.default_rng(1)).save(tmp_path / "model")
    assert session("w\nw\ng\n", "--model", path, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert " …]" in said and "every bit is the same" in said and max(map(len, said.splitlines())) <= 100


def test_learned_first_states_count_as_a_use_too() -> None:
    cell = nn.RNNCell(2, 3, initial="learned", rng=np.random.default_rng(0))
    hs, _ = nn.unroll(cell, np.ones((2, 1, 2)))
    with scope(t=2):
        E = (hs[-1] * hs[-1]).sum().named("E")
    kinds = [flow.kind for tick in ticks(E) for flow in tick.flows if flow.x is cell.h_0]
    assert kinds == ["implicit"]


# -------------------------------------------------------------------------------------------------- pipes and terminals
def test_from_a_pipe_the_commands_are_seen_and_no_colour_is() -> None:
    done = subprocess.run([sys.executable, "-m", "tinygrad_rnn", "step"], input="n\nn\nq\n", cwd=ROOT, text=True,
                          capture_output=True, check=False, env=os.environ | {"TERM": "xterm-256color"})
    assert done.returncode == 0 and not done.stderr and "\x1b" not in done.stdout
    assert "\n0/24> n\n" in done.stdout and "\n2/24> q\n" in done.stdout


class Terminal:
    """A pseudo-terminal with the verb running in it. Our end of it stays open, so that nothing said is lost."""

    def __init__(self, columns: int) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
        self.process = subprocess.Popen([sys.executable, "-m", "tinygrad_rnn", "step"], stdin=self.theirs, cwd=ROOT,
                                        stdout=self.theirs, stderr=self.theirs, start_new_session=True,
                                        env=environment | {"TERM": "xterm-256color"})
        self.text, self.decoded = "", codecs.getincrementaldecoder("utf-8")()

    def until(self, what: str, seconds: float = 30) -> str:
        """All that is said from here on, until `what` is."""
        end, start = time.monotonic() + seconds, len(self.text)
        while what not in self.text[start:] and time.monotonic() < end:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += self.decoded.decode(os.read(self.ours, 65536))
        return self.text[start:]

    def types(self, keys: str, what: str) -> str:
        os.write(self.ours, keys.encode())
        return self.until(what)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal(72)
    yield opened
    if opened.process.poll() is None:
        opened.process.kill()
    opened.process.wait()
    os.close(opened.ours)
    os.close(opened.theirs)


def test_in_a_terminal_there_is_colour_and_ctrl_c_is_130(terminal: Terminal) -> None:
    assert "explicit" in terminal.until("0/24> ")
    assert "\x1b[36mexplicit\x1b[0m" in terminal.types("\n", "1/24> ")
    said = terminal.types("w W\n", "8/24> ")
    plain = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", said)
    assert max(len(line) for line in plain.splitlines()) <= 72 and "\x1b[33mimplicit\x1b[0m" in said
    for _ in range(5):  # readline does not hear what comes while it prints its prompt
        terminal.process.send_signal(signal.SIGINT)  # what a terminal makes of Ctrl-C
        if "interrupted" in terminal.until("interrupted", seconds=2):
            break
    assert terminal.process.wait(10) == 130


def test_in_a_terminal_ctrl_d_leaves_with_the_verdict(terminal: Terminal) -> None:
    terminal.until("0/24> ")
    assert "every bit is the same" in " ".join(terminal.types("\x04", "same").split())
    assert terminal.process.wait(10) == 0


def test_a_product_of_sums_stands_in_brackets_wherever_it_is_a_factor() -> None:
    a, b, c, d = (Tensor(np.eye(2) + n + 1, requires_grad=True, name=name) for n, name in enumerate("abcd"))
    m = (a + b) * (c + d)
    called = "(a+b)∘(c+d)"
    assert rule(m / a, 1, "y", [called, "a"]) == "-y / a" and rule(a / m, 0, "y", ["a", called]) == f"1 / ({called})"
    assert rule(m @ a, 1, "y", [called, "a"]) == f"({called})ᵀ"
    assert rule(m * a, 1, "y", ["tanh(a+b)", "a"]) == "tanh(a+b)" and rule(m * a, 1, "y", ["(a+b)", "a"]) == "(a+b)"
