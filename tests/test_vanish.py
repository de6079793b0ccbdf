"""The verb `vanish` and its plot: numbers that NumPy alone confirms, words made of them, proofs that can fail."""

from __future__ import annotations

import argparse
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import nn, ops
from tinygrad_rnn.bptt.proof import Witness
from tinygrad_rnn.cli import common, vanish
from tinygrad_rnn.text import Vocabulary, language_reference

Captured = pytest.CaptureFixture[str]
STEPS, HIDDEN = 12, 5


def run(out: Path, *arguments: object) -> tuple[dict[str, Any], bool]:
    """The verb through the options that it defines for itself."""
    top = argparse.ArgumentParser()
    verbs = top.add_subparsers()

    def add(name: str, verb: common.Verb, what: str, example: str, files: bool = False) -> argparse.ArgumentParser:
        added = verbs.add_parser(name)
        added.set_defaults(run=verb)
        added.add_argument("--seed", type=int, default=0)
        added.add_argument("--out", type=Path, default=out)
        added.add_argument("--json", action="store_true")
        return added

    vanish.verbs(add)
    options = top.parse_args(["vanish", *map(str, arguments)])
    result, good = options.run(options)
    json.dumps(result, allow_nan=False)
    return result, good


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result, good = run(tmp_path_factory.mktemp("out"), "--steps", STEPS, "--hidden", HIDDEN, "--seed", 3, "--json")
    assert good and result["proved"]
    return result


def in_numpy(cell: nn.Cell, ids: Any) -> tuple[list[Any], list[Any]]:
    """The Jacobians by lag, from one complex step after the other, and what one step keeps of itself, newest first."""
    p = {name: q.data for name, q in cell.named_parameters()}

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    def step(s: Any, i: int) -> tuple[Any, Any]:
        h = s[:, :HIDDEN]

        def z(g: str) -> Any:
            return p[f"U{g}"][i] + h @ p[f"W{g}"] + p[f"b{g}"]

        if isinstance(cell, nn.RNNCell):
            return (np.tanh if cell.nonlinearity == "tanh" else sigmoid)(z("")), None
        if isinstance(cell, nn.LSTMCell):
            f = sigmoid(z("_f"))
            c = f * s[:, HIDDEN:] + sigmoid(z("_i")) * np.tanh(z("_c"))
            return np.concatenate([sigmoid(z("_o")) * np.tanh(c), c], -1), f
        kept, r = sigmoid(z("_z")), sigmoid(z("_r"))
        n = np.tanh(p["U_n"][i] + p["b_n"] + r * (h @ p["W_n"] + p["b_hn"]))
        return (1 - kept) * n + kept * h, kept

    n = HIDDEN * len(cell.states)
    s, one_step, gates = np.zeros((1, n)), [], []
    for i in ids:
        moved, _ = step(s + 1e-20j * np.eye(n), i)
        one_step.append(moved.imag.T / 1e-20)
        s, gate = step(s, i)
        gates.append(gate)
    product, jacobians = np.eye(n), []
    for J in one_step[::-1]:
        product = product @ J
        jacobians.append(product)
    return jacobians, gates[::-1]


@pytest.mark.parametrize("name", vanish.MODELS)
def test_norms_direct_paths_and_bounds_are_those_of_numpy(found: dict[str, Any], name: str) -> None:
    text = language_reference().partition("\n\n")[2]
    vocabulary = Vocabulary.of(text)
    kind, settings = vanish.MODELS[name]
    cell = kind(len(vocabulary), HIDDEN, rng=np.random.default_rng(3), **settings)
    jacobians, gates = in_numpy(cell, vocabulary.encode(text[:STEPS]))
    got = found["models"][name]
    assert got["norms"] == pytest.approx([np.linalg.norm(J, 2) for J in jacobians], rel=1e-11)
    if kind is nn.RNNCell:
        gamma = 0.25 if "sigmoid" in name else 1.0
        loose = gamma * np.linalg.norm(cell.W.data, 2)
        assert got["(γλ)^lag"] == pytest.approx([loose**lag for lag in range(1, STEPS + 1)], rel=1e-12)
        steps = [jacobians[0], *(np.linalg.solve(a, b) for a, b in pairwise(jacobians[:4]))]
        assert got["Π‖D_j W‖"][:4] == pytest.approx(np.cumprod([np.linalg.norm(J, 2) for J in steps]), rel=1e-6)
    else:
        products = np.cumprod(np.concatenate(gates), axis=0)
        assert got["direct path"] == pytest.approx(products.max(-1), rel=1e-12)


def test_forget_gates_open_with_their_bias(found: dict[str, Any]) -> None:
    direct = [found["models"][f"LSTM b_f={bias}"]["direct path"][-1] for bias in (0, 1, 3, 5)]
    assert direct == sorted(direct) and direct[0] < 0.01 < 0.7 < direct[-1]


def test_what_it_says_is_computed_from_the_numbers(found: dict[str, Any]) -> None:
    ends = {name: m["norms"][-1] for name, m in found["models"].items()}
    first, second = found["seen"]
    most, least = max(ends, key=ends.__getitem__), min(ends, key=ends.__getitem__)
    assert f"Over {STEPS} steps" in first and f"{ends[most]:.2g} in {most}" in first
    assert f"{ends[least]:.2g} in {least}" in first
    for name, m in found["models"].items():
        below = [lag for lag, norm in enumerate(m["norms"], 1) if norm < 1e-3]
        assert (f"{name} at lag {below[0]}" if below else f"{name} never") in first
        if "direct path" in m:
            assert f"{m['direct path'][-1]:.2g} of {ends[name]:.2g} in {name}" in second


def test_tables_show_every_cell_by_lag_and_every_witness(tmp_path: Path, capsys: Captured) -> None:
    result, good = run(tmp_path / "new", "--steps", 7, "--hidden", 3)
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert good and "∂s_T/∂s_k: proved by 28 witnesses" in said and "DISAGREES" not in said
    for lag in (1, 2, 5, 7):
        assert [str(lag), *(f"{m['norms'][lag - 1]:.2g}" for m in result["models"].values())] in rows
    assert repr(language_reference().partition("\n\n")[2][:7]) in said and " …" not in said.splitlines()[0]
    assert result["files"] == [str(tmp_path / "new" / "vanish.svg")] and Path(result["files"][0]).exists()


@pytest.mark.parametrize(("op", "cells"), [(ops.TANH, 6), (ops.SIGMOID, 6)])
def test_a_rule_that_is_wrong_by_a_millionth_is_no_success(op: ops.Op, cells: int, tmp_path: Path, capsys: Captured,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    rule = op.rules[0]
    monkeypatch.setattr(op, "rules", (lambda g, y, x: rule(g, y, x) * (1 + 1e-6),))
    _, good = run(tmp_path, "--steps", 4, "--hidden", 3)
    said = capsys.readouterr().out
    assert not good and "NOT PROVED" in said
    wrong = {line.split("  ")[1] for line in said.splitlines() if "DISAGREES" in line}
    assert len(wrong) == cells


def test_a_norm_above_its_bound_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                              capsys: Captured) -> None:
    true = vanish.bounds
    monkeypatch.setattr(vanish, "bounds", lambda *given: [a * (1 - 1e-6) for a in true(*given)])
    assert not run(tmp_path, "--steps", 4, "--hidden", 3)[1]
    lines = [line for line in capsys.readouterr().out.splitlines() if "DISAGREES" in line]
    assert lines and all("(21)" in line and "RNN" in line for line in lines)


def test_a_direct_path_that_is_no_product_of_gates_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                                 capsys: Captured) -> None:
    true = vanish.trace
    monkeypatch.setattr(vanish, "trace", lambda x: {gate: {t: a * (1 + 1e-9) for t, a in steps.items()}
                                                    for gate, steps in true(x).items()})
    assert not run(tmp_path, "--steps", 4, "--hidden", 3)[1]
    assert capsys.readouterr().out.count("DISAGREES") == 5


def test_without_matplotlib_there_are_tables_and_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                            capsys: Captured) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result, good = run(tmp_path / "new", "--steps", 4, "--hidden", 3)
    assert good and result["files"] == [] and not (tmp_path / "new").exists()
    assert re.search(r"No plot, only the tables: .*pip install", capsys.readouterr().out)


def test_more_steps_than_the_text_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the text has [0-9,]+ characters"):
        run(tmp_path, "--steps", 10**8)


def test_what_is_beyond_floats_is_null_in_the_result() -> None:
    m = vanish.Measured(np.array([1.0, np.inf]), {"bound": np.array([np.nan, 2.0])}, [Witness("a", "b", "c", 0.0, 1.0)])
    data = vanish.as_data(m)
    assert data["norms"] == [1.0, None] and data["bound"] == [None, 2.0] and data["witnesses"][0]["agrees"]


# ------------------------------------------------------------------------------------------------------------- the plot
def curves() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    lags = np.arange(1, 31)
    norms = {"a": 0.1**lags, "b": 0.9**lags, "c": 1.0 + 0 * lags}
    beside = {"a": {"low": 0.2**lags, "high": 2.0**lags}, "b": {"path": 0.5**lags}, "c": {"path": 0.0 * lags}}
    return norms, beside


def test_the_plot_draws_every_curve_down_to_where_terms_are_lost() -> None:
    pytest.importorskip("matplotlib")
    from viz import plots

    norms, beside = curves()
    figure = plots.decay_curves(norms, beside)
    left, right = figure.axes
    assert [len(axes.lines) for axes in figure.axes] == [3, 4] and left.get_yscale() == right.get_yscale() == "log"
    assert left.get_ylim() == right.get_ylim() and left.get_ylim()[0] == plots.LOST
    y = left.lines[0].get_ydata()
    np.testing.assert_array_equal(y[:15], norms["a"][:15])
    assert np.isnan(y[16:]).all()
    np.testing.assert_array_equal(right.lines[0].get_xdata(), np.arange(1, 31))
    np.testing.assert_array_equal(right.lines[1].get_ydata(), beside["b"]["path"])
    assert [line.get_linestyle() for line in left.lines] == ["-", "--", "-."]
    assert left.get_ylabel().startswith("‖∂s_T/∂s_k‖ (log scale")
    figure.canvas.draw()
    for axes in figure.axes:
        ticks = axes.get_xticks()
        assert ticks.max() == 30 < axes.get_xlim()[1] and len(ticks) > 3
    assert left.get_title().endswith("dashed: low; dash-dotted: high") and "dashed: path" in right.get_title()


def test_every_visible_curve_has_its_label_and_none_runs_into_another() -> None:
    pytest.importorskip("matplotlib")
    from viz import plots

    figure = plots.decay_curves(*curves())
    labels = [{text.get_text() for text in axes.texts} for axes in figure.axes]
    assert labels == [{"a", "a: low", "a: high"}, {"b", "b: path", "c"}]
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        colors = [line.get_color() for line in axes.lines if line.get_linestyle() == "-"]
        assert len(set(colors)) == len(colors) == len({line.get_marker() for line in axes.lines} - {"None"})


@pytest.mark.parametrize("wrong", [{}, {"a": []}, {"a": [1.0, 2.0], "b": [1.0]}, {"a": np.ones((2, 2))}])
def test_what_is_no_set_of_curves_is_refused(wrong: Any) -> None:
    pytest.importorskip("matplotlib")
    from viz import plots

    with pytest.raises(ValueError, match="curves of one length"):
        plots.decay_curves(wrong, {})
