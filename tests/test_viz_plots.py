"""What the plots promise: the numbers they were given, honest zeros, one legible look, the same bytes, no window."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tinygrad_rnn import Tensor, bptt, functional, nn, scope
from tinygrad_rnn.cli import main
from tinygrad_rnn.language import CharRNN
from tinygrad_rnn.text import Vocabulary
from tinygrad_rnn.trace import trace
from viz import plots

pytest.importorskip("matplotlib", reason="matplotlib (the extra 'plots') is not installed")


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def panels(figure: Any) -> dict[str, Any]:
    """{title: axes} of those that show an image and are no colour bar."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.images}


def losses_of(T: int, bidirectional: bool = False) -> tuple[Any, list[Tensor]]:
    """An RNN of 4 units that reads 3 numbers from a state that is not 0, with a loss at every step."""
    rng = np.random.default_rng(5)
    layer = nn.RNN(3, 4, bidirectional=bidirectional, rng=rng)
    head = nn.Linear(4 * (1 + bidirectional), 5, rng=rng)
    outputs, _ = layer.steps(list(rng.normal(size=(T, 2, 3))), Tensor(rng.normal(size=(1 + bidirectional, 2, 4))))
    losses = []
    for t, h in enumerate(outputs, start=1):
        with scope(t=t):
            losses.append(functional.cross_entropy(head(h), rng.integers(0, 5, 2), "sum").named("E"))
    return layer, losses


# ------------------------------------------------------------------------------------------------------------ training
def test_curves_draw_the_losses_and_every_baseline_with_its_name() -> None:
    figure = plots.training_curves([3.0, 2.0, 1.5], [1.0, 0.5, 0.1], {"uniform": 3.2, "bigram": 1.8})
    above, below = figure.axes[:2]
    np.testing.assert_array_equal(above.lines[0].get_xydata(), [[1, 3.0], [2, 2.0], [3, 1.5]])
    assert [line.get_ydata()[0] for line in above.lines[1:]] == [3.2, 1.8]
    assert {text.split(":")[0] for text in texts(figure)} == {"uniform", "bigram"}
    assert any("3.200 = ln 24.5" in text for text in texts(figure))
    np.testing.assert_array_equal(below.lines[0].get_ydata(), [1.0, 0.5, 0.1])
    assert below.get_yscale() == "log" and above.get_ylabel() == "loss in nats"


def test_many_losses_get_the_mean_of_as_many_as_the_title_says() -> None:
    losses = np.random.default_rng(0).normal(size=250)
    above = plots.training_curves(losses, losses).axes[0]
    x, mean = above.lines[1].get_data()
    np.testing.assert_allclose(mean, [losses[i - 5:i].mean() for i in range(5, 251)], rtol=1e-12, atol=1e-15)
    assert x[0] == 5 and x[-1] == 250 and "mean of 5 updates" in above.get_title(loc="left")


def test_baselines_close_together_keep_labels_that_can_be_read() -> None:
    from matplotlib.text import Text

    figure = plots.training_curves([3.0, 2.0], [1.0, 1.0], {"a": 1.80, "b": 1.79, "c": 1.81, "d": 2.5})
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without the line that leads to it
    assert len(boxes) == 4 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_gradient_norms_that_have_no_logarithm_leave_a_gap() -> None:
    figure = plots.training_curves([1.0] * 4, [1.0, 0.0, np.nan, np.inf])
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [1.0, np.nan, np.nan, np.nan])
    plots.training_curves([1.0], [0.0]).canvas.draw()


def test_no_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one loss"):
        plots.training_curves([], [])


# -------------------------------------------------------------------------------------------------------- maps of terms
def test_a_map_shows_and_prints_its_numbers_up_to_twelve_steps() -> None:
    A = np.tril(np.arange(1.0, 10.0).reshape(3, 3))
    figure = plots.term_maps({"W": A})
    assert texts(figure) == ["1", "0", "0", "4", "5", "0", "7", "8", "9"]
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().filled(0.0), A)
    assert image.get_extent() == [0.5, 3.5, 3.5, 0.5]  # rows t downwards, columns k, both from 1
    assert texts(plots.term_maps({"W": np.ones((12, 12))})) and texts(plots.term_maps({"W": np.ones((13, 13))})) == []


def test_exact_zeros_stay_white_in_a_map() -> None:
    image = plots.term_maps({"W": np.tril(np.ones((3, 3)))}).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().mask, np.triu(np.ones((3, 3), bool), 1))
    plots.term_maps({"W": np.zeros((2, 2))}).canvas.draw()


def test_maps_side_by_side_share_one_scale_that_ends_where_terms_are_lost() -> None:
    large, small = np.full((2, 2), 10.0), np.array([[1e-30, 1.0], [1.0, 1.0]])
    figure = plots.term_maps({"W": large, "U": small})
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert images[0].norm is images[1].norm and figure.axes[1].get_title(loc="left").startswith("U:")
    assert images[0].norm.vmax == 10.0 and images[0].norm.vmin == pytest.approx(10 * plots.LOST, rel=1e-9, abs=0)
    light, dark = images[0].cmap(images[0].norm([1e-15, 10.0]))[:, :3].sum(axis=-1)
    assert light > dark + 1


def test_what_is_infinite_has_a_colour_of_its_own() -> None:
    image = plots.term_maps({"W": np.array([[1.0, np.inf], [0.0, 0.5]])}).axes[0].images[0]
    colors = image.cmap(image.norm(image.get_array()))
    assert image.norm.vmax == 1.0 and np.array_equal(colors[0, 1], image.cmap.get_over())
    assert len({tuple(color) for color in colors[~image.get_array().mask]}) == 3


def test_all_labels_lie_inside_the_figure_even_of_one_step() -> None:
    for T, names in ((1, "WU"), (3, "W"), (3, "WU"), (12, "WU")):
        figure = plots.term_maps({name: np.ones((T, T)) for name in names}, 1)
        figure.canvas.draw()
        inside = figure.get_tightbbox().padded(-0.001)
        assert inside.x0 >= 0 and inside.y0 >= 0
        assert inside.x1 <= figure.get_figwidth() and inside.y1 <= figure.get_figheight()


@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_stairs_of_truncation_part_what_it_keeps_from_what_it_drops(window: int, bidirectional: bool) -> None:
    layer, losses = losses_of(5, bidirectional)
    W = layer.cells["l0_reverse" if bidirectional else "l0"].W
    terms = bptt.terms(losses, W)
    kept = bptt.truncation(losses, W, [window])
    figure = plots.term_maps({"W": terms.norms}, window)
    stairs = {line.get_linestyle(): line.get_xydata() for line in figure.axes[0].lines if line.get_color() == "black"}
    sums = {}
    for style, stair in stairs.items():
        inside = np.zeros((5, 5), bool)
        for t in range(1, 6):
            (x,) = {x for x, y in stair if (t - 0.5, t + 0.5) == (y, y + 1) or y == t - 0.5} & {
                x for x, y in stair if y == t + 0.5}
            inside[t - 1] = np.arange(1, 6) < x if bidirectional else np.arange(1, 6) > x
        sums[style] = np.einsum("tk,tkij->ij", inside, terms.arrays)
    np.testing.assert_allclose(sums["-"], kept.sliding[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sums["--"], kept.chunked[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("wrong", [{}, {"W": np.ones((2, 3))}, {"W": np.ones(4)}, {"W": -np.ones((2, 2))},
                                   {"W": np.full((2, 2), np.nan)}, {"W": [[]]}, {"W": np.zeros((0, 0))},
                                   {"W": np.ones((2, 2)), "U": np.ones((3, 3))}])
def test_what_is_no_map_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"\(T, T\)"):
        plots.term_maps(wrong)


def test_a_window_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="window 0"):
        plots.term_maps({"W": np.ones((2, 2))}, 0)
    for window in (1.5, True):
        with pytest.raises(TypeError, match=f"window {window}; expected a number of steps"):
            plots.term_maps({"W": np.ones((2, 2))}, window)  # type: ignore[arg-type]


def test_a_title_says_nothing_of_a_model_that_norms_do_not_tell() -> None:
    """In a stacked bidirectional model there are implicit terms on the diagonal too."""
    title = plots.term_maps({"W": np.ones((2, 2))}, 1).get_suptitle()
    assert title.startswith("What each loss says about each use") and "plicit" not in title


@pytest.mark.parametrize("size", [5e-324, 1e-320, 1e-300, 1e300, 1e308])
def test_norms_at_the_ends_of_what_floats_hold_have_a_map(size: float) -> None:
    mixed = np.array([[size, 0, 0], [np.inf] * 3, [1] * 3])
    figure = plots.term_maps({"W": np.tril(np.full((3, 3), size)), "U": mixed})
    figure.canvas.draw()
    alone = plots.term_maps({"W": np.full((3, 3), size)})
    alone.canvas.draw()
    for axes in (*figure.axes[:2], alone.axes[0]):
        image = axes.images[0]
        shown = image.cmap(image.norm(image.get_array()))
        infinite = np.isinf([float(text.get_text()) for text in axes.texts]).reshape(3, 3)
        np.testing.assert_array_equal((shown == image.cmap.get_over()).all(axis=-1), infinite)


# ------------------------------------------------------------------------------------------------------- truncated BPTT
def test_truncation_is_drawn_by_its_angle_and_its_length() -> None:
    layer, losses = losses_of(6)
    truncated = bptt.truncation(losses, layer.cells["l0"].W, [6, 1, 3])
    figure = plots.truncation_curves(truncated)
    whole = truncated.terms.total.ravel()
    for axes, expected in ((figure.axes[0], lambda a: a @ whole / np.sqrt((a @ a) * (whole @ whole))),
                           (figure.axes[1], lambda a: np.sqrt(a @ a / (whole @ whole)))):
        for line, kind in zip(axes.lines, ("chunked", "sliding")):
            np.testing.assert_array_equal(line.get_xdata(), [1, 3, 6])
            parts = dict(zip(truncated.windows, getattr(truncated, kind)))
            np.testing.assert_allclose(line.get_ydata(), [expected(parts[w].ravel()) for w in (1, 3, 6)], rtol=1e-12)
        assert {text.get_text() for text in axes.texts} == {"chunked", "sliding"}
        assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_a_gradient_that_is_zero_has_no_angle() -> None:
    cell = nn.RNNCell(3, 4, initial=0.0, rng=np.random.default_rng(0))
    (h,), _ = nn.unroll(cell, np.ones((1, 2, 3)))
    with scope(t=1):
        E = h.sum().named("E")
    figure = plots.truncation_curves(bptt.truncation([E], cell.W, [1, 2]))
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).all()
    figure.canvas.draw()


# ---------------------------------------------------------------------------------------------------------------- gates
def run(kind: Any, T: int = 5, **options: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    layer = nn.Recurrent(kind, 3, 4, rng=rng, **options)
    x = rng.normal(size=(T, 2, 3))
    parts = tuple(Tensor(rng.normal(size=(1, 2, 4))) for _ in kind.states)
    output, _ = layer(x, parts if len(parts) > 1 else parts[0])
    return layer, output


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def test_strips_of_an_lstm_show_what_plain_numpy_computes() -> None:
    rng = np.random.default_rng(1)
    cell = nn.LSTMCell(3, 4, rng=rng)
    xs, h, c = rng.normal(size=(5, 2, 3)), rng.normal(size=(2, 4)), 40 * rng.normal(size=(2, 4))
    outputs, _ = nn.unroll(cell, xs, (Tensor(h), Tensor(c)))
    figure = plots.gate_strips(trace(outputs[-1]), "ab\n d", row=1)
    expected: dict[str, list[Any]] = {name: [] for name in ("f", "i", "o", "c̃", "c", "h")}
    p = {parameter.name: parameter.data for parameter in cell.parameters()}
    for x in xs:
        g = {gate: x @ p[f"U_{gate}"] + h @ p[f"W_{gate}"] + p[f"b_{gate}"] for gate in "fioc"}
        f, i, o, n = sigmoid(g["f"]), sigmoid(g["i"]), sigmoid(g["o"]), np.tanh(g["c"])
        c = f * c + i * n
        h = o * np.tanh(c)
        for name, value in zip(expected, (f, i, o, n, c, h)):
            expected[name].append(value[1])
    shown = panels(figure)
    assert [title.split(",")[0] for title in shown] == list(expected)
    for (name, values), axes in zip(expected.items(), shown.values()):
        image = axes.images[0]
        np.testing.assert_allclose(image.get_array(), np.transpose(values), rtol=1e-12)  # units × steps
        most = max(1.0, np.abs(values).max())
        assert (image.norm.vmin, image.norm.vmax) == ((0, 1) if name in "fio" else (pytest.approx(-most), most))
    assert most == 1.0 and np.abs(expected["c"]).max() > 1  # c has a scale of its own, h has that of tanh
    assert [label.get_text() for label in list(shown.values())[-1].get_xticklabels()] == ["a", "b", "↵", "␣", "d"]


@pytest.mark.parametrize(("kind", "options", "expected"), [
    (nn.RNNCell, {}, ["h"]), (nn.GRUCell, {}, ["r", "z", "n", "h"]),
    (nn.GRUCell, {"reset": "before"}, ["r", "z", "n", "h"]),
    (nn.GRUCell, {"reset": None, "update": "u"}, ["u", "n", "h"]),
    (nn.LSTMCell, {"peepholes": True}, ["f", "i", "o", "c̃", "c", "h"])])
def test_strips_of_every_cell_are_its_gates_its_candidate_and_its_state(kind: Any, options: Any, expected: Any) -> None:
    _, output = run(kind, **options)
    shown = panels(plots.gate_strips(trace(output)))
    assert [title.split(",")[0] for title in shown] == expected
    assert all(axes.images[0].get_array().shape == (4, 5) for axes in shown.values())


def test_strips_of_a_backward_direction_and_of_masked_steps_go_from_the_first_step_to_the_last() -> None:
    rng = np.random.default_rng(1)
    layer = nn.GRU(3, 4, bidirectional=True, rng=rng)
    output, _ = layer(rng.normal(size=(5, 2, 3)), lengths=[5, 3])
    traced = trace(output, layer=0, direction="backward")
    axes = list(panels(plots.gate_strips(traced, "abcde")).values())[-1]
    expected = np.stack([traced["h"][t][0] for t in range(1, 6)], axis=1)
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    assert list(traced["h"]) == [1, 2, 3, 4, 5, 6]  # 6 is h'_{T+1}, which nothing has read


def test_a_gate_of_ones_own_cell_can_be_named() -> None:
    traced = {"k": {1: np.full((1, 2), 0.25)}, "h": {0: np.zeros((1, 2)), 1: np.ones((1, 2))}}
    own, h = (axes.images[0].norm for axes in panels(plots.gate_strips(traced, gates={"k"})).values())
    assert (own.vmin, own.vmax, h.vmin, h.vmax) == (0, 1, -1, 1)
    assert panels(plots.gate_strips(traced))["k"].images[0].norm.vmin == -1


def test_long_runs_number_their_steps_and_short_ones_name_them() -> None:
    long = {"h": {t: np.zeros((1, 2)) for t in range(11, 311)}}
    axes = next(iter(panels(plots.gate_strips(long, "x" * 300)).values()))
    axes.figure.canvas.draw()
    labels = {round(tick.get_position()[0]): tick.get_text() for tick in axes.get_xticklabels() if tick.get_text()}
    assert len(labels) > 3 and all(int(text) == place + 10 for place, text in labels.items())
    short = plots.gate_strips({"h": {t: np.zeros((1, 2)) for t in (4, 5)}})
    assert [tick.get_text() for tick in short.axes[0].get_xticklabels()] == ["4", "5"]


@pytest.mark.parametrize(("traced", "text", "match"), [
    ({}, None, "made at the same steps"), ({"x": {1: np.zeros((1, 2))}}, None, "made at the same steps"),
    ({"f": {1: np.zeros((1, 2))}, "h": {2: np.zeros((1, 2))}}, None, "made at the same steps"),
    ({"h": {1: np.zeros((1, 2))}}, "ab", "2 characters for 1 steps"),
    ({"f": {1: np.full((1, 2), 1.5)}}, None, "gate f"), ({"f": {1: np.full((1, 2), np.nan)}}, None, "gate f")])
def test_what_has_no_strips_is_refused(traced: Any, text: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        plots.gate_strips(traced, text)


def test_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(IndexError):
        plots.gate_strips({"h": {1: np.zeros((1, 2))}}, row=1)


@pytest.mark.parametrize(("norms", "top"), [([1, 0, np.inf], 100), ([0, 0, 0], 10), ([np.nan, np.inf, 0], 10),
                                            ([1.0, 1e308, 1e30], 1e200)])
def test_curves_leave_a_gap_for_what_has_no_place_on_their_axis(norms: Any, top: float) -> None:
    figure = plots.decay_curves({"a": norms}, {"a": {"bound": [np.inf, np.nan, 0.5]}})
    figure.canvas.draw()
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [x if 0 < x < np.inf else np.nan for x in norms])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [np.nan, np.nan, 0.5])
    np.testing.assert_allclose(axes.get_ylim(), (1e-16, top), rtol=1e-12)
    plots.decay_curves({"a": [0.0]}, {}).canvas.draw()


@pytest.mark.parametrize(("norms", "beside"), [({}, {}), ({}, {"a": {"bound": [1.0]}}), ({"a": []}, {}),
                                               ({"a": [1.0], "b": [1.0, 2.0]}, {})])
def test_what_are_no_curves_is_refused(norms: Any, beside: Any) -> None:
    with pytest.raises(ValueError, match="decay_curves: expected curves of one length"):
        plots.decay_curves(norms, beside)


# ------------------------------------------------------------------------------------------------------------ the verb
@pytest.mark.parametrize(("text", "shown"), [
    ("".join(map(chr, range(0x20))), "".join({9: "⇥", 10: "↵", 13: "↵"}.get(i, chr(0x2400 + i)) for i in range(0x20))),
    ("a\x7fb\x85\ud800\uffff", "a␡b\ufffd\ufffd\ufffd"), ("日本 $$é", "日本␣$$é")])
def test_whatever_was_read_stands_below_its_step_in_an_svg_that_is_xml(text: str, shown: str, tmp_path: Path) -> None:
    figure = plots.gate_strips({"h": {t: np.zeros((1, 2)) for t in range(1, len(text) + 1)}}, text)
    root = ElementTree.parse(plots.save(figure, tmp_path / "gates.svg")).getroot()  # a warning would be an error here
    written = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert written[:len(text)] == list(shown)


def test_a_word_between_dollars_is_no_formula(tmp_path: Path) -> None:
    figure = plots.gate_strips({"h": {1: np.zeros((1, 2))}}, ["$x$"])
    assert ">$x$<" in plots.save(figure, tmp_path / "gates.svg").read_text(encoding="utf-8")


def test_the_verb_has_null_for_what_is_not_finite(tmp_path: Path, capsys: Any) -> None:
    model = CharRNN(Vocabulary.of("abc"), 3, "rnn", rng=np.random.default_rng(0))
    W = model.layer.cells["l0"].W
    W.data = np.where(np.eye(3)[1], np.nan, W.data)  # into the second unit
    model.save(tmp_path / "model.npz")
    arguments = ["--model", str(tmp_path / "model.npz"), "--text", "abc", "--out", str(tmp_path), "--json"]
    assert main(["gates", *arguments]) == 0
    h = json.loads(capsys.readouterr().out)["recurrences"]["l0"]["h"]
    assert [[x is None for x in row] for row in h[:2]] == [[False, True, False], [True, True, True]]


def test_the_verb_writes_one_plot_for_each_recurrence_with_its_numbers(tmp_path: Path, capsys: Any) -> None:
    arguments = ["--cell", "gru", "--bidirectional", "--hidden", "3", "--text", "to be", "--out", str(tmp_path)]
    assert main(["gates", *arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = ["l0", "l0_reverse"]
    assert result["files"] == [str(tmp_path / f"gates_{name}.svg") for name in names]
    assert list(result["recurrences"]) == names
    assert all(Path(file).read_text(encoding="utf-8").count("</svg>") == 1 for file in result["files"])
    strips = result["recurrences"]["l0"]
    assert list(strips) == ["r", "z", "n", "h"] and all(np.shape(a) == (5, 3) for a in strips.values())
    z, n, h = (np.array(strips[name]) for name in "znh")
    before = np.vstack([np.zeros(3), h[:-1]])
    np.testing.assert_allclose(h, (1 - z) * n + z * before, rtol=1e-12)
    back = {name: np.array(a) for name, a in result["recurrences"]["l0_reverse"].items()}
    after = np.vstack([back["h"][1:], np.zeros(3)])
    np.testing.assert_allclose(back["h"], (1 - back["z"]) * back["n"] + back["z"] * after, rtol=1e-12)


def test_the_verb_counts_how_much_is_closed_and_open(tmp_path: Path, capsys: Any) -> None:
    from tinygrad_rnn.cli import gates
    table = gates.summary({"f": np.array([[0.05, 0.95], [0.99, 0.5]]), "h": np.array([[-1.0, 0.0], [1.0, 1.0]])})
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[2:]}
    assert rows == {"f": ["0.050", "0.623", "0.990", "25%", "50%"], "h": ["-1.000", "0.250", "1.000"]}
    assert main(["gates", "--text", "a", "--cell", "rnn", "--out", str(tmp_path)]) == 0
    assert "gates.svg" in capsys.readouterr().out and (tmp_path / "gates.svg").exists()
    assert main(["gates", "--text", "", "--out", str(tmp_path / "none")]) == 2 and not (tmp_path / "none").exists()


def test_the_verb_says_what_every_gate_did_at_every_character(tmp_path: Path, capsys: Any) -> None:
    for text, shown in (("to be or not", range(12)), ("to be or not to", [0, 1, 2, 3, 11, 12, 13, 14])):
        assert main(["gates", "--cell", "gru", "--text", text, "--out", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        main(["gates", "--cell", "gru", "--text", text, "--out", str(tmp_path), "--json"])
        strips = json.loads(capsys.readouterr().out)["recurrences"]["l0"]
        rows = re.findall(r"^ +(\d+)  '(.)'  +(.*)$", said, re.M)
        assert [(int(t), c) for t, c, _ in rows] == [(t + 1, text[t]) for t in shown]
        for (_, _, numbers), t in zip(rows, shown):
            expected = [np.mean(strips[name][t]) for name in ("r", "z", "n", "h")]
            np.testing.assert_allclose([float(x) for x in numbers.split()], expected, atol=5.1e-4)
        assert said.startswith("gru, 1 layer, H=8, random weights (seed 0): reads") and said.count("…") % 6 == 0


def test_the_verb_says_that_gates_are_half_open_of_a_model_that_is_untrained_and_no_other(tmp_path: Path,
                                                                                         capsys: Any) -> None:
    rng = np.random.default_rng(0)
    for cell, gated in (("lstm", True), ("rnn", False)):
        main(["gates", "--cell", cell, "--out", str(tmp_path)])
        said = capsys.readouterr().out
        assert ("This model is untrained" in said) is gated is ("open forget gate" in said)
        model = CharRNN(Vocabulary.of("hello world"), 3, cell, rng=rng).save(tmp_path / cell)
        main(["gates", "--model", str(model), "--out", str(tmp_path)])
        said = capsys.readouterr().out
        assert "untrained" not in said and f"weights of {model}" in said


def test_strips_have_a_title() -> None:
    assert "Gates and states" in plots.gate_strips(trace(run(nn.LSTMCell)[1])).get_suptitle()
    assert plots.gate_strips(trace(run(nn.RNNCell)[1])).get_suptitle().startswith("The state of every unit")


def test_the_verb_needs_no_matplotlib_for_its_table(tmp_path: Path, capsys: Any,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["gates", "--out", str(tmp_path / "none")]) == 0
    printed = capsys.readouterr().out
    assert "No plot" in printed and "pip install" in printed and not (tmp_path / "none").exists()


# ------------------------------------------------------------------------------------------------------------ one look
def all_plots() -> dict[str, Any]:
    layer, losses = losses_of(4)
    W = layer.cells["l0"].W
    lags = np.arange(1, 21)
    return {"training": plots.training_curves([2.0, 1.0], [1.0, 2.0], {"x": 1.5}),
            "maps": plots.term_maps({"W": bptt.terms(losses, W).norms}, 2),
            "truncation": plots.truncation_curves(bptt.truncation(losses, W, [1, 2, 4])),
            "gates": plots.gate_strips(trace(run(nn.LSTMCell)[1]), "hello"),
            "decay": plots.decay_curves({"a": 0.5**lags, "b": 1.0 + 0 * lags}, {"a": {"bound": 0.9**lags}})}


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_figures_give_the_same_bytes_whatever_the_readers_settings(form: str, tmp_path: Path) -> None:
    import matplotlib

    def written() -> dict[str, bytes]:
        return {name: plots.save(figure, tmp_path / f"{name}.{form}").read_bytes()
                for name, figure in all_plots().items()}

    first = written()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": None}):
        assert written() == first and all(first.values())
        assert matplotlib.rcParams["font.size"] == 30
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_no_text_is_smaller_than_nine_points() -> None:
    from matplotlib.text import Text

    for name, figure in all_plots().items():
        figure.canvas.draw()
        sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
        assert min(sizes) >= plots.LABEL == 9, name


def lightness(rgb: Any) -> Any:
    """L* of sRGB colours (n, 3), 0 to 100."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(linear) - 16


def deuteranopia(rgb: Any) -> Any:
    """As seen without the green cones (Machado et al. 2009)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                                      [-0.011820, 0.042940, 0.968881]]).T, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


def test_every_colour_map_keeps_its_order_in_grey_and_for_the_colour_blind() -> None:
    figures = all_plots()
    maps = {axes.images[0].cmap.name: axes.images[0].cmap for name in ("maps", "gates") for axes in figures[name].axes
            if axes.images}
    assert len(maps) == 3
    for name, colors in maps.items():
        rgb = colors(np.linspace(0, 1, 33))[:, :3]
        for seen in (rgb, deuteranopia(rgb)):
            steps = np.diff(lightness(seen))
            assert (steps > 0).all() or (steps < 0).all(), name
            assert abs(steps.sum()) > 60, name


def test_lines_differ_in_more_than_colour() -> None:
    figures = all_plots()
    for name in ("truncation", "decay"):
        for axes in figures[name].axes:
            looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
            assert len(set(looks)) == len(looks), name


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install"):
        plots.term_maps({"W": np.ones((2, 2))})
