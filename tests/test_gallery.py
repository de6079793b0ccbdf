"""The gallery holds what its page promises: the committed bytes, and numbers found again by other routes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import Tensor
from tinygrad_rnn.bptt.jacobian import state_jacobian, states
from tinygrad_rnn.steps import lane_of, step_of
from viz import Drawing
from viz.gallery import make

PICTURES = {plate.name: plate for chapter in make.CHAPTERS[:-1] for plate in chapter.plates()}
PLOTS = ("vanish", "terms", "truncation", "gates")


def drawing(name: str) -> Drawing:
    picture = PICTURES[name].picture
    assert isinstance(picture, Drawing) and picture.picture is not None
    return picture


def numbers(name: str, tail: str, head: str) -> list[float]:
    """The numbers on the arrows from one box to another, by the first line of the boxes."""
    picture: Any = drawing(name).picture
    names = {box.id: box.rows[0].text for box in picture.boxes}
    labels = {note.id.removesuffix("_label"): note.text for note in picture.notes if note.id.endswith("_label")}
    found = [float(labels[wire.id]) for wire in picture.wires
             if (names.get(wire.tail), names.get(wire.head)) == (tail, head) and wire.id in labels]
    assert found, f"no arrow with a number from {tail} to {head}; there are {sorted(names.values())}"
    return found


def added(name: str, parameter: Tensor) -> list[float]:
    """The numbers beside the dots of a parameter, `+= …`, in the order of the steps."""
    drawn = drawing(name)
    picture: Any = drawn.picture
    uses = {step_of(node) or 0: f"d{drawn.graph.number[node]}_{i}" for node, i in drawn.graph.readers[parameter]}
    labels = {note.id.removesuffix("_label"): note.text for note in picture.notes}
    return [float(labels[uses[t]].removeprefix("+= ")) for t in sorted(uses)]


def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of a picture by their labels."""
    graph = drawing(name).graph
    return {label: x for x, label in graph.labels.items()}


def gradient(name: str, x: Tensor) -> Any:
    recording = drawing(name).graph.recording
    assert recording is not None
    return recording.gradients[x]


def printed(*values: Any) -> list[float]:
    """Norms as pictures print them, to two digits."""
    return [float(f"{np.sqrt((np.asarray(value) ** 2).sum()):.2g}") for value in values]


def softmax(q: Any) -> Any:
    return np.exp(q - q.max()) / np.exp(q - q.max()).sum()


class PlainRNN:
    """The RNN behind a picture in plain NumPy, column vectors, by (1), (2) and (22)."""

    def __init__(self, name: str, state: str, T: int, first: Any = None) -> None:
        x = tensors(name)
        self.U, self.W, self.b = (x[p].data.T for p in ("U", "W", "b"))
        self.V, self.c = (x[p].data.T for p in ("V", "c"))
        self.xs = [None, *(x[f"x{make_low(t)}"].data[0] for t in range(1, T + 1))]
        self.s = [x[f"{state}₀"].data[0] if first is None else first]
        for t in range(1, T + 1):
            self.s.append(np.tanh(self.U @ self.xs[t] + self.W @ self.s[-1] + self.b))

    def deltas(self, t: int, target: int) -> dict[int, Any]:
        """{k: ∂E_t/∂s_k}, and δ_t→k = D_k of it."""
        epsilon = softmax(self.V @ self.s[t] + self.c)
        epsilon[target] -= 1
        ds = {t: self.V.T @ epsilon}
        for k in range(t, 1, -1):
            ds[k - 1] = self.W.T @ ((1 - self.s[k] ** 2) * ds[k])
        return ds


def make_low(t: int) -> str:
    return str(t).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


# ------------------------------------------------------------------------------------------------------------ the files
@pytest.mark.parametrize("name", PICTURES)
def test_the_script_draws_the_committed_bytes(name: str) -> None:
    same = (make.HERE / f"{name}.svg").read_text(encoding="utf-8") == drawing(name).svg
    assert same, "run `python -m viz.gallery.make`, look at the pictures, and commit them"


def test_the_folder_holds_the_pictures_and_the_plots_and_nothing_else() -> None:
    expected = {*PICTURES, *PLOTS}
    assert {path.stem for path in make.HERE.glob("*.svg")} == expected
    for name in expected:
        path = make.HERE / f"{name}.svg"
        assert path.stat().st_size < 200_000
        assert ET.parse(path).getroot().tag.endswith("svg")


def test_the_page_shows_every_file_with_what_to_look_at() -> None:
    page = (make.HERE / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((\w+)\.svg\)$", page, re.MULTILINE) == [*PICTURES, *PLOTS]
    words = " ".join(page.split())
    assert all(plate.look in words and f"### {plate.heading} " in words for plate in PICTURES.values())
    assert max(map(len, page.splitlines())) <= 200


def test_plots_are_the_same_bytes_twice_and_the_page_is_the_scripts(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'plots') is not installed")
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        make.write(folder)
    for name in PLOTS:
        assert (tmp_path / "a" / f"{name}.svg").read_bytes() == (tmp_path / "b" / f"{name}.svg").read_bytes()
    assert (tmp_path / "a" / "README.md").read_text("utf-8") == (make.HERE / "README.md").read_text("utf-8")


# --------------------------------------------------------------------------------------------- the RNN and its gradient
def test_sum_shows_three_equal_terms_of_the_smallest_case() -> None:
    w = tensors("sum")["w"]
    assert added("sum", w) == [0.036, 0.036, 0.036]
    assert float(gradient("sum", w)) == pytest.approx(3 * 0.2**2 * 0.9, rel=1e-15)
    assert numbers("sum", "s₂", "s₃") == [0.2] and numbers("sum", "s₁", "s₂") == [0.04]


def test_rnn_has_the_gradients_of_plain_numpy_at_every_dot_of_w() -> None:
    plain, x = PlainRNN("rnn", "h", 3), tensors("rnn")
    y = make.targets(3)[:, 0]
    terms = {k: 0 for k in (1, 2, 3)}
    for t in (1, 2, 3):
        for k, ds in plain.deltas(t, y[t - 1]).items():
            terms[k] = terms[k] + np.outer((1 - plain.s[k] ** 2) * ds, plain.s[k - 1])
    assert added("rnn", x["W"]) == printed(*terms.values())
    np.testing.assert_allclose(gradient("rnn", x["W"]).T, sum(terms.values()), rtol=1e-12)


def test_e3_carries_its_derivatives_back_along_the_dashed_arrows() -> None:
    plain, x = PlainRNN("e3", "s", 3), tensors("e3")
    ds = plain.deltas(3, make.targets(3)[2, 0])
    assert numbers("e3", "s₂", "Ws₂") == printed(ds[2]) and numbers("e3", "s₁", "Ws₁") == printed(ds[1])
    terms = [np.outer((1 - plain.s[k] ** 2) * ds[k], plain.s[k - 1]) for k in (1, 2, 3)]
    assert added("e3", x["W"]) == printed(*terms)
    assert drawing("e3").graph.root is x["E₃"]


def test_the_arrow_from_s2_to_s3_carries_the_norm_that_state_jacobians_give() -> None:
    graph = drawing("e3_path").graph
    E = next(x for x, label in graph.labels.items() if label == "E₃")
    s = states(E)
    dE = PlainRNN("e3_path", "s", 3).deltas(3, make.targets(4)[2, 0])[3]
    back = [dE @ state_jacobian(s[3], s[k])[0] for k in (2, 1)]  # ∂E_3/∂s_3 · ∂s_3/∂s_k
    assert [numbers("e3_path", "s₂", "s₃"), numbers("e3_path", "s₁", "s₂")] == [[n] for n in printed(*back)]
    for n, arrow in zip(printed(*back), (", ", ". s₄")):
        assert f"{n:.2g}{arrow}" in PICTURES["e3_path"].look
    picture: Any = drawing("e3_path").picture
    boxes = {box.rows[0].text: box for box in picture.boxes}
    assert [name for name in ("s₁", "s₂", "s₃", "s₄") if boxes[name].lit] == ["s₁", "s₂", "s₃"] and boxes["s₄"].dim


def test_joined_has_the_states_and_the_gradients_of_the_rnn() -> None:
    one, two = tensors("rnn"), tensors("joined")
    for t in "₁₂₃":
        np.testing.assert_allclose(two[f"h{t}"].data, one[f"h{t}"].data, rtol=1e-13)
    both = np.vstack([gradient("rnn", one["U"]), gradient("rnn", one["W"])])
    np.testing.assert_allclose(gradient("joined", two["[U; W]"]), both, rtol=1e-12)


def test_vanishing_fades_by_one_jacobian_for_each_step_while_states_do_not() -> None:
    plain = PlainRNN("vanishing", "h", 10)
    ds = plain.deltas(10, make.targets(1)[0, 0])
    shown = [numbers("vanishing", f"h{make_low(k)}", f"h{make_low(k + 1)}")[0] for k in range(1, 10)]
    assert shown == printed(*[ds[k] for k in range(1, 10)]) and shown[0] < 1e-4 * shown[-1]
    assert min(np.linalg.norm(s) for s in plain.s[1:]) > 0.5


def test_deep_rnn_has_a_lane_and_weights_of_its_own_for_each_layer() -> None:
    graph = drawing("deep_rnn").graph
    assert {lane_of(node) for node, _ in graph.implicit} == {(None, layer, "forward") for layer in range(3)}
    shared = [x.name for x in graph.shared]
    assert sorted(shared) == sorted([*(f"{p}_l{layer}" for p in "UWb" for layer in range(3)), "V", "c"])
    first = next(x for x in graph.shared if x.name == "W_l0")
    assert np.abs(gradient("deep_rnn", first)).max() > 0


# ----------------------------------------------------------------------------------------------------- cells with gates
def test_lstm_cell_gives_back_along_the_belt_what_the_forget_gate_leaves() -> None:
    x = tensors("lstm_cell")
    o, c, f = (next(t.data for t in drawing("lstm_cell").graph.tensors if t.name == name and step_of(t) == 1)
               for name in "ocf")
    dc = o * (1 - np.tanh(c) ** 2)
    assert numbers("lstm_cell", "f₁∘c₀", "c₁") == printed(dc) and numbers("lstm_cell", "c₀", "f₁∘c₀") == printed(dc * f)
    np.testing.assert_allclose(gradient("lstm_cell", x["c₀"]), dc * f, rtol=1e-12)
    graph = drawing("lstm_cell").graph
    assert {other.name for node, _ in graph.readers[x["h₀"]] for other in node.inputs} == {
        "h", "W_f", "W_i", "W_o", "W_c"}


@pytest.mark.parametrize("name", ["lstm", "gru", "birnn"])
def test_every_parameter_of_a_cell_has_one_dot_in_each_of_three_steps(name: str) -> None:
    graph = drawing(name).graph
    for x in graph.shared:
        assert sorted(step_of(node) or 0 for node, _ in graph.readers[x]) == [1, 2, 3] and len(added(name, x)) == 3


def test_gru_cell_is_the_example_of_s2_in_its_first_unit() -> None:
    picture: Any = drawing("gru_cell").picture
    boxes = {box.rows[0].text: box.rows[-2:][0].text for box in picture.boxes}
    assert [boxes[name].split()[0] for name in ("u₁", "n₁", "h₀", "h₁")] == ["+0.40", "+0.00", "+1.00", "+0.60"]
    x = tensors("gru_cell")
    h, u, n, old = (x[name].data for name in ("h₁", "u₁", "n₁", "h₀"))
    np.testing.assert_allclose(h, u * n + (1 - u) * old, rtol=1e-14)
    assert abs(h[0, 0] - 0.6) < 1e-15 and len(set(h[0])) == 3
    assert len(drawing("gru_cell").graph.readers[x["h₀"]]) == 3


def test_gru_has_four_dashed_ways_into_each_step_after_the_first() -> None:
    graph = drawing("gru").graph
    assert [sum(step_of(node) == t for node, _ in graph.implicit) for t in (1, 2, 3)] == [4, 4, 4]


def test_two_hundred_steps_are_six_and_a_strip() -> None:
    picture: Any = drawing("lstm_200_steps").picture
    titles = [band.title for band in picture.bands]
    assert [title for title in titles if title in {f"t = {t}" for t in (1, 2, 3, 198, 199, 200)}] == [
        "t = 1", "t = 2", "t = 3", "t = 198", "t = 199", "t = 200"] and len(titles) == 7


# ------------------------------------------------------------------------------------------------------- two directions
@pytest.mark.parametrize("name", ["birnn", "bilstm"])
def test_no_arrow_leads_from_one_direction_to_the_other(name: str) -> None:
    graph = drawing(name).graph
    for ahead in ("forward", "backward"):
        reached = {x for x in graph.tensors if lane_of(x)[2] == ahead}
        for x in graph.tensors:
            if any(y in reached for y in x.inputs):
                reached.add(x)
        assert {lane_of(x)[2] for x in reached} == {ahead, None}


def test_birnn_starts_from_one_half_and_its_backward_weights_hear_of_earlier_losses() -> None:
    from tinygrad_rnn import bptt

    graph, x = drawing("birnn").graph, tensors("birnn")
    assert (x["h₀"].data == 0.5).all() and (x["h′₄"].data == 0.5).all()
    losses = [x[f"E{t}"] for t in "₁₂₃"]
    back = bptt.terms(losses, next(p for p in graph.shared if p.name == "W'")).norms
    ahead = bptt.terms(losses, next(p for p in graph.shared if p.name == "W")).norms
    assert (np.triu(back) > 0).sum() == 6 == (np.tril(ahead) > 0).sum()
    assert not np.tril(back, -1).any() and not np.triu(ahead, 1).any()


def test_bilstm_has_two_sets_of_weights() -> None:
    names = {str(x.name) for x in drawing("bilstm").graph.shared} - {"V", "c"}
    assert len(names) == 24 and sum(name.endswith("'") for name in names) == 12


# --------------------------------------------------------------------------------------------------------- types of RNN
def test_one_to_one_has_no_use_for_w() -> None:
    x = tensors("one_to_one")
    assert added("one_to_one", x["W"]) == [0.0] and not gradient("one_to_one", x["W"]).any()
    plain = np.tanh(x["x₁"].data @ x["U"].data + x["b"].data) @ x["V"].data + x["c"].data
    np.testing.assert_allclose(x["q₁"].data, plain, rtol=1e-13)


def of_kind(name: str, prefix: str) -> list[str]:
    """The labels of the boxes of a picture that begin with a letter and are a symbol of a step."""
    picture: Any = drawing(name).picture
    return sorted(text for box in picture.boxes if re.fullmatch(f"{prefix}[₀-₉]+", text := box.rows[0].text))


@pytest.mark.parametrize(("name", "inputs", "losses"), [
    ("one_to_one", 1, 1), ("one_to_many", 0, 3), ("many_to_one", 0, 1), ("many_to_many", 3, 3),
    ("encoder_decoder", 3, 2)])
def test_types_differ_in_which_steps_have_an_input_and_which_a_loss(name: str, inputs: int, losses: int) -> None:
    graph = drawing(name).graph
    read = {graph.column[x] for x in graph.tensors if x.name == "x" and graph.place[x] == "step"}
    asked = {graph.column[x] for x in graph.tensors if x.name == "E" and graph.place[x] == "step"}
    assert (len(read), len(asked)) == (inputs, losses)
    assert len(of_kind(name, "E")) == losses


def test_many_to_one_hears_of_each_word_only_through_the_states() -> None:
    graph = drawing("many_to_one").graph
    U = next(x for x in graph.shared if x.name == "U")
    assert sorted(step_of(node) or 0 for node, _ in graph.readers[U]) == [1, 2, 3, 4]
    assert gradient("many_to_one", U).any(axis=1).all()  # a row for each word
    first = {node for node, _ in graph.readers[U] if step_of(node) == 1}
    for node in graph.tensors:
        if any(y in first and (node, i) not in graph.implicit for i, y in enumerate(node.inputs)):
            first.add(node)
    assert graph.root not in first


def test_many_to_many_adds_at_h1_what_e1_says_and_what_came_back() -> None:
    plain = PlainRNN("many_to_many", "h", 3)
    y = make.targets(3)[:, 0]
    ds = [plain.deltas(t, y[t - 1]) for t in (1, 2, 3)]
    assert numbers("many_to_many", "h₁", "h₂") == printed(ds[1][1] + ds[2][1])
    assert numbers("many_to_many", "h₁", "E₁") == printed(ds[0][1])
    h1 = next(x for x in drawing("many_to_many").graph.tensors if x.name == "h" and step_of(x) == 1)
    np.testing.assert_allclose(gradient("many_to_many", h1)[0], ds[0][1] + ds[1][1] + ds[2][1], rtol=1e-12)


def test_encoder_and_decoder_meet_in_one_state() -> None:
    graph = drawing("encoder_decoder").graph
    inside = {x for x in graph.tensors if lane_of(x)[0] == "encoder"}
    for x in graph.tensors:  # what the encoder alone has made
        if x.op is not None and all(y in inside for y in x.inputs):
            inside.add(x)
    crossing = {y for x in graph.tensors if x not in inside for y in x.inputs if y in inside and y.op is not None}
    assert len(crossing) == 1


# ---------------------------------------------------------------------------------------------------------------- plots
@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'plots') is not installed")
    return {plate.name: plate.picture for plate in make.plot_plates()}


def test_vanish_lies_under_its_bounds_though_they_grow(figures: Any) -> None:
    left, right = figures["vanish"].axes
    measured, tight, loose = (line.get_ydata() for line in left.lines)
    assert (measured <= tight * (1 + 1e-12)).all() and (tight <= loose * (1 + 1e-12)).all()
    assert loose[-1] > loose[0] > 1 and measured[-1] < 1e-8
    ends = {line.get_label(): line.get_ydata()[-1] for line in right.lines if line.get_linestyle() == "-"}
    none, two, five = ends.values()
    assert none < 1e-6 < two < five


def test_terms_start_with_a_column_of_zeros_for_w_and_fade(figures: Any) -> None:
    W, U = (axes.images[0].get_array().filled(0.0) for axes in figures["terms"].axes[:2])
    assert not W[:, 0].any() and (U[:, 0] > 0).all()
    for A in (W, U):
        assert A[11, 1] < 0.01 * A[11, 11] and not np.triu(A, 1).any()


def test_truncation_is_whole_only_at_the_full_length(figures: Any) -> None:
    cosines, sizes = ([line.get_ydata() for line in axes.lines[:2]] for axes in figures["truncation"].axes[:2])
    chunked, sliding = cosines
    assert (sliding[1:-1] > chunked[1:-1]).all() and np.allclose([chunked[-1], sliding[-1]], 1, atol=1e-12)
    assert (np.abs(np.array(sizes)[:, :-1] - 1) > 1e-6).all() and np.max(sizes) > 1.01


def test_gates_do_what_the_page_says_of_each_unit(figures: Any) -> None:
    strips = {axes.get_title(loc="left").split(",")[0]: np.asarray(axes.images[0].get_array())
              for axes in figures["gates"].axes if axes.images}
    text = np.array(list("aaaabbbbaaabbb"))
    c, h = strips["c"], strips["h"]
    steps = np.where(text == "a", np.tanh(0.3), -np.tanh(0.3))
    np.testing.assert_allclose(c[0], np.cumsum(steps), atol=0.01)
    np.testing.assert_allclose(c[1], np.where(text == "a", np.tanh(2), -np.tanh(2)), atol=0.01)
    assert np.abs(c[2][text == "b"]).max() < 0.01 < c[2][text == "a"].min()
    assert np.abs(h[3][text == "a"]).max() < 0.01 and np.abs(h[3][4:7] - np.tanh(c[0][4:7])).max() < 0.01
    assert strips["f"][0].min() > 0.99 and strips["f"][1].max() < 0.01
