"""Six routes to every gradient: they agree; each sees the mistakes that it does not share, and only those."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import apart

from tinygrad_rnn import Tensor, nn, ops, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import gated, proof, reference, routes
from tinygrad_rnn.bptt.routes import CLOSED, COMPLEX, COPIES, DIFFERENCE, REVERSE, RTRL, Agreement, compare, plain
from tinygrad_rnn.cli import prove
from tinygrad_rnn.language import CELLS, CharRNN
from tinygrad_rnn.text import Vocabulary

Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
OFF = 1 + 1e-6
PLAIN = [cell for cell in CELLS if cell != "lstm-peepholes"]
EVERY = {RTRL, CLOSED, COPIES, COMPLEX, DIFFERENCE}
NUMPY = {RTRL, CLOSED}
FORWARD = {RTRL, CLOSED, COMPLEX, DIFFERENCE}  # who use no rule of the engine


def parsed(*arguments: object) -> argparse.Namespace:
    """The options as the command line gives them."""
    top = argparse.ArgumentParser()
    verbs = top.add_subparsers(dest="verb")

    def add(name: str, run: Any, what: str, example: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=what, description=what, epilog=example)
        added.set_defaults(run=run)
        added.add_argument("--seed", type=int, default=0)
        added.add_argument("--json", action="store_true")
        return added

    prove.verbs(add)
    return top.parse_args(["prove", *map(str, arguments)])


def run(*arguments: object) -> tuple[dict[str, Any], bool]:
    options = parsed(*arguments)
    found: tuple[dict[str, Any], bool] = options.run(options)
    assert found[0]["proved"] == found[1]
    return found


def disagreeing(data: dict[str, Any]) -> set[str]:
    """The routes that disagree with reverse mode in any gradient."""
    return {route for row in data["rows"] if row["parameter"] for route, cell in row["routes"].items()
            if not cell.get("agrees", True)}


# ----------------------------------------------------------------------------------------------------- all is well
@pytest.mark.parametrize("both", [[], ["--bidirectional"]], ids=["one way", "both ways"])
@pytest.mark.parametrize("cell", PLAIN)
def test_all_six_routes_agree_each_with_each_in_every_gradient(cell: str, both: list[str], capsys: Captured) -> None:
    data, good = run("--cell", cell, "--steps", 4, "--hidden", 3, *both)
    assert good and data["sides"] == [[REVERSE, RTRL, CLOSED, COPIES, COMPLEX, DIFFERENCE]]
    kind, settings = CELLS[cell]
    parameters = len(kind(2, 3, rng=np.random.default_rng(0), **settings).parameters()) * (1 + bool(both)) + 2
    rows = [row for row in data["rows"] if row["parameter"]]
    assert [row["loss"] for row in rows] == ["E₄"] * parameters + ["E"] * parameters
    for row in rows:
        assert set(row["routes"]) == EVERY and len(row["pairs"]) == 10 and row["agrees"]
        for route, found in row["routes"].items():
            assert found["agrees"] and found["error"] <= found["allowed"]
            assert found["allowed"] == 1e-12 or (route == DIFFERENCE and found["allowed"] < 1e-4)
    equation = "25" if both and cell == "rnn" else {"r": 22, "l": 23, "g": 24}[cell[0]]
    said = capsys.readouterr().out
    assert f"closed form ({equation})" in said and said.rstrip().endswith(f"in {len(rows)} gradients.")
    assert max(map(len, said.splitlines())) <= 120


SIZES = {"T": 4, "B": 3, "D": 2, "H": 5, "V": 6}


def built(cell: type[nn.Cell], both: bool, **settings: Any) -> tuple[list[Tensor], list[Tensor], Any]:
    """A model of vectors whose first state is not 0: losses, parameters, and what `plain` makes of it."""
    T, B, D, H, V = SIZES.values()
    rng = np.random.default_rng(3)
    layer = nn.Recurrent(cell, D, H, bidirectional=both, rng=rng, initial=0.5, **settings)
    head = nn.Linear(H * (1 + both), V, rng=rng)
    x, y = rng.normal(size=(T, B, D)), rng.integers(0, V, (T, B))
    losses = []
    for t, h in enumerate(layer.steps(x)[0], 1):
        with scope(t=t):
            losses.append(F.cross_entropy(head(h), y[t - 1], "sum").named("E"))
    return losses, [*layer.parameters(), *head.parameters()], plain(layer, head, x, y)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", PLAIN)
def test_they_agree_with_a_batch_of_vectors_and_a_first_state_that_is_not_zero(cell: str, both: bool) -> None:
    kind, settings = CELLS[cell]
    losses, parameters, model = built(kind, both, **settings)
    for t in (1, 3):
        found = compare(losses, t, parameters, model, total=t == 3)
        assert found, found
        assert found.sides() == [[REVERSE, RTRL, CLOSED, COPIES, COMPLEX, DIFFERENCE]]


def test_the_gradients_compared_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    data, _ = run("--cell", "lstm", "--hidden", 3, "--text", "hello", "--steps", 4, "--json")
    model = CharRNN(Vocabulary.of("hello"), 3, "lstm", rng=np.random.default_rng(0))
    a = {str(p.name): torch.tensor(np.array(p.data), requires_grad=True) for p in model.parameters()}
    net = torch.nn.LSTM(len(model.vocabulary), 3).double()
    values = {"weight_ih_l0": torch.cat([a[f"U_{g}"].T for g in "ifco"]),
              "weight_hh_l0": torch.cat([a[f"W_{g}"].T for g in "ifco"]),
              "bias_ih_l0": torch.cat([a[f"b_{g}"] for g in "ifco"]), "bias_hh_l0": torch.zeros(12).double()}
    ids = model.vocabulary.encode("hello")
    x = torch.nn.functional.one_hot(torch.tensor(ids[:-1]), len(model.vocabulary)).double()
    output, _ = torch.func.functional_call(net, values, (x[:, None],))
    E = torch.nn.functional.cross_entropy(output[:, 0] @ a["V"] + a["c"], torch.tensor(ids[1:]), reduction="none")
    for label, loss in (("E₄", E[-1]), ("E", E.sum())):
        theirs = dict(zip(a, torch.autograd.grad(loss, list(a.values()), retain_graph=True)))
        rows = {row["parameter"]: row for row in data["rows"] if row["loss"] == label}
        assert rows.pop(None)["norm"] == pytest.approx(loss.item(), rel=1e-12)
        assert set(rows) == set(theirs)
        for name, row in rows.items():
            assert row["norm"] == pytest.approx(float(theirs[name].norm()), rel=1e-12)
            assert row["numbers"] == theirs[name].numel()


def test_a_trained_model_is_taken_from_its_file(tmp_path: Path) -> None:
    saved = CharRNN(Vocabulary.of("The state."), 3, "gru", rng=np.random.default_rng(7)).save(tmp_path / "model")
    data, good = run("--model", saved, "--text", "The state", "--steps", 4, "--loss", 3, "--json")
    assert good and {row["loss"] for row in data["rows"]} == {"E₃"}


def test_a_short_text_is_read_over_and_over(capsys: Captured) -> None:
    assert run("--text", "ab", "--steps", 5)[1]
    assert "T=5: reads 'ababa', predicts 'babab'" in capsys.readouterr().out


def test_json_prints_nothing_else_and_holds_no_nan(capsys: Captured) -> None:
    data, _ = run("--cell", "gru", "--json", "--steps", 3)
    assert not capsys.readouterr().out
    assert json.loads(json.dumps(data, allow_nan=False)) == data


@pytest.mark.parametrize("arguments", [["--loss", 7], ["--loss", 0], ["--text", ""], ["--text", "a"],
                                       ["--model", "no such file"]])
def test_wrong_input_is_refused(arguments: list[object]) -> None:
    with pytest.raises((ValueError, OSError)):
        run(*arguments)


def test_float32_is_refused(tmp_path: Path) -> None:
    rough = CharRNN(Vocabulary.of("abc"), 2, rng=np.random.default_rng(0), dtype=np.float32).save(tmp_path / "model")
    with pytest.raises(ValueError, match="float32"):
        run("--model", rough, "--text", "abc", "--steps", 2)


# --------------------------------------------------------------------------------------------- where there is no route
class Own(nn.LSTMCell):
    """A reader's cell."""

    def forward(self, x: Any, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = super().forward(x, state)
        return h * c, c


@pytest.mark.parametrize(("arguments", "reason"), [
    (["--cell", "lstm-peepholes"], "none: peepholes"), (["--layers", 2], "none: 2 layers"),
    (["--cell", "lstm-peepholes", "--layers", 2, "--loss", 2], "none: peepholes, 2 layers"),
    (["--cell", "rnn", "--layers", 3, "--bidirectional", "--loss", 2], "none: 3 layers")])
def test_where_there_is_no_closed_form_the_columns_say_why(arguments: list[object], reason: str,
                                                          capsys: Captured) -> None:
    data, good = run(*arguments, "--steps", 3, "--hidden", 2)
    assert good and data["sides"] == [[REVERSE, COPIES, COMPLEX, DIFFERENCE]]
    for row in data["rows"]:
        assert row["routes"][RTRL] == row["routes"][CLOSED] == {"none": reason}
    said = capsys.readouterr().out
    assert all(len(line) <= 120 for line in said.splitlines()) and said.count(f"{reason}. There is no RTRL") == 1
    assert len(re.findall(r" none +none ", said)) == len(data["rows"])
    assert "no route here can see it" in " ".join(said.split())


@pytest.mark.parametrize(("cell", "settings", "reason"), [
    (Own, {}, "own cell"), (nn.RNNCell, {"nonlinearity": "relu"}, "relu"), (nn.GRUCell, {"bias": False}, "no bias")])
def test_cells_without_a_counterpart_in_numpy_keep_the_other_routes(cell: Any, settings: Any, reason: str) -> None:
    losses, parameters, model = built(cell, False, **settings)
    assert model == reason
    found = compare(losses, 4, parameters, model)
    assert found and found.sides() == [[REVERSE, COPIES, COMPLEX, DIFFERENCE]] and f"none: {reason}" in repr(found)


def test_a_learned_first_state_has_no_counterpart_here() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Recurrent(nn.RNNCell, 2, 3, rng=rng, initial="learned")
    assert plain(layer, nn.Linear(3, 2, rng=rng), np.zeros((1, 1, 2)), np.zeros((1, 1), int)) == "learned s_0"


def test_a_route_that_needs_too_much_memory_is_left_out_and_says_so(monkeypatch: Patch, capsys: Captured) -> None:
    monkeypatch.setattr(routes, "MOST_NUMBERS", 100)
    data, good = run("--steps", 3, "--hidden", 5, "--loss", 3)
    assert good
    found = {row["parameter"]: row["routes"][RTRL] for row in data["rows"] if row["parameter"]}
    assert {name for name, cell in found.items() if "none" in cell} == {"U", "W"}
    assert "left out" in found["W"]["none"] and "left out" in capsys.readouterr().out
    monkeypatch.setattr(routes, "MOST", 8)
    row = next(row for row in run("--steps", 3, "--hidden", 5, "--loss", 3)[0]["rows"] if row["parameter"] == "U")
    assert all("left out" in row["routes"][route]["none"] for route in (COMPLEX, DIFFERENCE))


def test_differences_of_a_gradient_too_small_for_them_are_left_out(monkeypatch: Patch, capsys: Captured) -> None:
    monkeypatch.setattr(routes, "WORTHLESS", 1e-8)  # as if all gradients here were
    data, good = run("--steps", 3, "--loss", 3)
    assert good and data["sides"] == [[REVERSE, RTRL, CLOSED, COPIES, COMPLEX]]
    assert all(row["routes"][DIFFERENCE] == {"none": "rounding"} for row in data["rows"] if row["parameter"])
    assert "rounding" in capsys.readouterr().out


def test_a_gradient_of_another_shape_is_refused_not_broadcast(monkeypatch: Patch) -> None:
    right = reference.RNN.recursion
    monkeypatch.setattr(reference.RNN, "recursion", lambda self, t, name: reference.Split(
        right(self, t, name).explicit[None], right(self, t, name).implicit[None]))
    with pytest.raises(ValueError, match="shape"):
        run("--steps", 3)


def test_of_many_elements_random_directions_see_a_wrong_rule_too(monkeypatch: Patch,
                                                                 breaking: Callable[..., None]) -> None:
    for module in (proof, routes):
        monkeypatch.setattr(module, "MOST", 8)
    data, good = run("--steps", 4, "--hidden", 5, "--loss", 4)
    assert good
    row = next(row for row in data["rows"] if row["parameter"] == "U")
    assert [RTRL, COMPLEX] not in [pair["routes"] for pair in row["pairs"]]  # all numbers, and some directions
    assert [COMPLEX, DIFFERENCE] in [pair["routes"] for pair in row["pairs"]]
    breaking(ops.TANH, 0, lambda g, d: d * OFF)
    assert disagreeing(run("--steps", 4, "--hidden", 5, "--loss", 4)[0]) == FORWARD


# ------------------------------------------------------------------------------------- each mistake, and who notices it
@pytest.mark.parametrize("cell", PLAIN)
@pytest.mark.parametrize(("op", "position"), [(ops.TANH, 0), (ops.SIGMOID, 0), (ops.MATMUL, 0), (ops.MATMUL, 1),
                                              (ops.MUL, 0), (ops.ADD, 1), (ops.CROSS_ENTROPY, 0), (ops.GETITEM, 0)],
                         ids=lambda v: getattr(v, "name", str(v)))
def test_a_wrong_rule_is_noticed_by_all_who_do_not_use_it(cell: str, op: ops.Op, position: int,
                                                          breaking: Callable[..., None]) -> None:
    used = {"rnn": {ops.MUL, ops.SIGMOID}, "rnn-sigmoid": {ops.MUL, ops.TANH}}.get(cell, set())

    def off(g: Any, d: Any) -> Any:
        if isinstance(d, ops.Indexed):
            return ops.Indexed(d.g * OFF, d.index, d.shape, d.lead)
        return d * OFF

    breaking(op, position, off)
    data, good = run("--cell", cell, "--steps", 4, "--loss", 4, "--json")
    assert disagreeing(data) == (set() if op in used else FORWARD)
    assert good == (op in used)
    if not good:
        assert data["sides"] == [[REVERSE, COPIES], [RTRL, CLOSED, COMPLEX, DIFFERENCE]]


def test_the_table_says_who_stands_against_whom(breaking: Callable[..., None], capsys: Captured) -> None:
    breaking(ops.TANH, 0, lambda g, d: d * OFF)
    assert not run("--steps", 4)[1]
    said = capsys.readouterr().out
    assert "✗" in said and "DISAGREES" in said
    assert ("NOT PROVED: routes disagree in 6 of 12 rows. These agree with one another: reverse mode, untied copies; "
            "against: RTRL, closed form, complex step, differences.") in " ".join(said.split())


def test_a_primitive_that_computes_another_number_is_noticed_by_all_who_do_not_use_its_rule(monkeypatch: Patch) -> None:
    right = ops.TANH.forward
    monkeypatch.setattr(ops.TANH, "forward", lambda x: right(x) * OFF)
    data, _ = run("--steps", 4, "--loss", 4)
    assert disagreeing(data) == FORWARD
    assert data["sides"] == [[REVERSE, COPIES], [RTRL, CLOSED], [COMPLEX, DIFFERENCE]]
    assert not data["rows"][0]["routes"][RTRL]["agrees"]


@pytest.mark.parametrize(("wrong", "value_too"), [
    (lambda z, x, h, cell: z * OFF, True), (lambda z, x, h, cell: z + (h.detach() - h) @ cell.W, False)],
    ids=["an equation", "a wiring"])
def test_a_wrong_graph_is_noticed_by_numpy_alone(wrong: Callable[..., Tensor], value_too: bool,
                                                 monkeypatch: Patch) -> None:
    """Everything else reads that graph. A detached state leaves the loss as it is."""
    def forward(self: nn.RNNCell, x: Any, h: Tensor) -> Tensor:
        assert self.b is not None
        return F.tanh(wrong(nn.layers.times(x, self.U) + h @ self.W + self.b, x, h, self)).named("h")

    monkeypatch.setattr(nn.RNNCell, "forward", forward)
    data, _ = run("--steps", 5, "--loss", 5)
    assert disagreeing(data) == NUMPY
    assert data["sides"] == [[REVERSE, COPIES, COMPLEX, DIFFERENCE], [RTRL, CLOSED]]
    assert data["rows"][0]["routes"][RTRL]["agrees"] == (not value_too)


def off(found: Any) -> Any:
    """A result of an equation in plain NumPy by a millionth off."""
    if isinstance(found, dict):
        return {key: off(value) for key, value in found.items()}
    if isinstance(found, tuple):
        return tuple(map(off, found))
    if isinstance(found, reference.Split):
        return reference.Split(off(found.explicit), off(found.implicit))
    if isinstance(found, gated.Step):
        return gated.Step(found.x, found.before, found.gates, off(found.state))
    return found * OFF


@pytest.mark.parametrize(("owner", "method", "arguments", "notice"), [
    (reference.RNN, "closed_form", [], {CLOSED}), (reference.RNN, "recursion", [], {RTRL}),
    (reference.RNN, "slope", [], NUMPY), (reference.RNN, "errors", [], NUMPY),
    (reference.Direction, "deltas", ["--bidirectional"], {CLOSED}),
    (reference.Direction, "states", ["--bidirectional"], {CLOSED}),
    (reference.RNN, "recursion", ["--bidirectional"], {RTRL}),
    *((owner, method, ["--cell", cell, *both], notice)
      for owner, cells in ((gated.LSTM, ["lstm"]), (gated.GRU, ["gru", "gru-before", "gru-update"])) for cell in cells
      for both in ([], ["--bidirectional"])
      for method, notice in (("deltas", {CLOSED}), ("slopes", {RTRL}), ("jacobian", {RTRL}), ("step", NUMPY))),
], ids=lambda v: " ".join(map(str, v)) if isinstance(v, list | set) else getattr(v, "__name__", v))
def test_a_wrong_equation_in_numpy_is_noticed_in_its_own_column_alone(
        owner: type, method: str, arguments: list[str], notice: set[str], monkeypatch: Patch) -> None:
    right = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda self, *given: off(right(self, *given)))
    data, good = run("--steps", 4, "--loss", 3, "--hidden", 3, "--json", *arguments)
    assert not good and disagreeing(data) == notice


@pytest.mark.parametrize(("name", "change", "notice"), [
    ("untied", lambda found: {k: term * (OFF if k == 2 else 1) for k, term in found.items()}, COPIES),
    ("slopes", lambda found: (found[0], found[1] * OFF, 0.0), None)])
@pytest.mark.parametrize("differences", [False, True])
def test_a_mistake_in_a_route_of_the_graph_is_noticed_in_its_own_column_alone(
        name: str, change: Callable[[Any], Any], notice: str | None, differences: bool, monkeypatch: Patch) -> None:
    right = getattr(routes, name)

    def wrong(*given: Any, **settings: Any) -> Any:
        found = right(*given, **settings)
        return change(found) if settings.get("differences", differences) == differences else found

    if name == "slopes":
        notice = DIFFERENCE if differences else COMPLEX
        monkeypatch.setattr(routes, name, lambda *given, differences=False: wrong(*given, differences=differences))
    else:
        monkeypatch.setattr(routes, name, wrong)
    data, good = run("--steps", 5, "--json")
    assert not good and disagreeing(data) == {notice}


def test_two_routes_that_differ_from_each_other_are_seen_though_each_is_near_enough_to_reverse_mode(
        monkeypatch: Patch) -> None:
    copies, slopes = routes.untied, routes.slopes

    def apart_by(*given: Any, differences: bool = False) -> Any:
        ours, theirs, far = slopes(*given, differences=differences)
        return ours, theirs if differences else theirs * (1 - 8e-13), far

    monkeypatch.setattr(routes, "untied", lambda e: {k: term * (1 + 8e-13) for k, term in copies(e).items()})
    monkeypatch.setattr(routes, "slopes", apart_by)
    data, good = run("--steps", 5, "--loss", 5)
    assert not good and not disagreeing(data)
    assert data["sides"] == [[REVERSE, RTRL, CLOSED, COPIES, DIFFERENCE], [COMPLEX]]


def test_a_nan_agrees_with_nothing_and_becomes_null(monkeypatch: Patch, capsys: Captured) -> None:
    right = reference.RNN.recursion
    monkeypatch.setattr(reference.RNN, "recursion", lambda self, t, name: reference.Split(
        right(self, t, name).explicit * np.nan, right(self, t, name).implicit))
    data, good = run("--steps", 3)
    assert not good and disagreeing(data) == {RTRL}
    assert data["rows"][1]["routes"][RTRL]["error"] is None and json.dumps(data, allow_nan=False)
    assert "nan ✗" in capsys.readouterr().out


def test_both_ways_computes_the_losses_of_the_model() -> None:
    losses, _, model = built(nn.GRUCell, True, reset="before", update="u")
    assert isinstance(model, routes.BothWays)
    assert apart(model.losses(), np.array([loss.item() for loss in losses])) < 1e-12


def test_an_agreement_is_false_where_one_row_is() -> None:
    losses, parameters, model = built(nn.RNNCell, False)
    good = compare(losses, 3, parameters, model)
    bad = routes.Row("E", "W", 1, 1.0, {RTRL: proof.Witness("W", RTRL, "nothing", 2.0, 1.0)})
    assert good and not Agreement((*good.rows, bad), "22")
