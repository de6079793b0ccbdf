"""What the pictures of every model promise: lanes on rows, gates in a row, two directions opposed, layer over layer."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from test_viz import box_named, check_geometry, needs_graphviz, overlaps, picture_of, rectangle, segments, title

from tinygrad_rnn import Tensor, models, nn, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt.tables import SUBSCRIPTS as LOW
from tinygrad_rnn.recording import record
from tinygrad_rnn.steps import is_recurrence, lane_of
from viz import Term, draw
from viz.graph import Graph
from viz.notation import steps_removed, text_width
from viz.picture import Box, Picture, Wire

B, D, H, V = 2, 4, 3, 5


class MinimalGatedUnit(nn.Cell):
    """A reader's own cell (Zhou et al. 2016): f = σ(…), h̃ = tanh(U_h x + W_h (f∘h) + b_h), h' = (1-f)∘h + f∘h̃."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, **options: Any) -> None:
        super().__init__(input_size, hidden_size, bias, **options)
        self.U_f, self.W_f, self.b_f = self.gate("f")
        self.U_h, self.W_h, self.b_h = self.gate("h")

    def forward(self, x: Any, h: Tensor) -> Tensor:
        assert self.b_f is not None and self.b_h is not None
        f = F.sigmoid(x @ self.U_f + h @ self.W_f + self.b_f).named("f")
        candidate = F.tanh(x @ self.U_h + (f * h) @ self.W_h + self.b_h).named("h̃")
        return ((1 - f) * h + f * candidate).named("h")


def loss(outputs: list[Tensor], rng: np.random.Generator) -> Tensor:
    """E = Σ_t E_t of one linear head."""
    head = nn.Linear(outputs[0].shape[-1], V, rng=rng)
    losses = []
    for t, h in enumerate(outputs, 1):
        with scope(t=t):
            losses.append(F.cross_entropy(head(h), rng.integers(0, V, len(h.data)), "sum").named("E"))
    return F.stack(losses).sum().named("E")


def unrolled(kind: Callable[..., nn.Cell], T: int, missing: int = 0) -> Tensor:
    """A cell over T steps, from a random state; the last row of the batch lacks its last steps."""
    rng = np.random.default_rng(3)
    cell = kind(D, H, rng=rng)
    parts = tuple(Tensor(rng.normal(size=(B, H)), name=name) for name in cell.states)
    lengths = [T, max(1, T - missing)] if missing else None
    outputs, _ = nn.unroll(cell, rng.normal(size=(T, B, D)), parts if len(parts) > 1 else parts[0], lengths=lengths)
    return loss(outputs, rng)


def layered(kind: Callable[..., Any], T: int, **options: Any) -> Tensor:
    rng = np.random.default_rng(4)
    outputs, _ = kind(D, H, rng=rng, **options).steps([Tensor(x, name="x") for x in rng.normal(size=(T, B, D))])
    return loss(outputs, rng)


def encoder_decoder(T: int) -> Tensor:
    rng = np.random.default_rng(5)
    with scope(sequence="encoder"):
        _, h = nn.unroll(nn.RNNCell(D, H, rng=rng), rng.normal(size=(T, B, D)))
    with scope(sequence="decoder"):
        hs, _ = nn.unroll(nn.RNNCell(D, H, rng=rng), rng.normal(size=(T, B, D)), h)
        return loss(hs, rng)


def by_hand(T: int) -> Tensor:
    """A loop that says its step and nothing else, and adds its loss up as it goes."""
    rng = np.random.default_rng(6)
    shapes = {"U": (D, H), "W": (H, H), "b": (H,), "V": (H, V)}
    U, W, b, head = (nn.Parameter(rng.normal(size=shape), name=name) for name, shape in shapes.items())
    h, E = Tensor(rng.normal(size=(B, H)), name="h_0"), 0.0
    for t in range(1, T + 1):
        with scope(t=t):
            x = Tensor(rng.normal(size=(B, D)), name="x")
            h = F.tanh(x @ U + h @ W + b).named("h")
            E = E + (h @ head).sum()
    return E


def many_to_one(T: int) -> Tensor:
    """The last state alone is read."""
    rng = np.random.default_rng(7)
    _, (h, _) = nn.LSTM(D, H, rng=rng)(rng.normal(size=(T, B, D)))
    return F.cross_entropy(nn.Linear(H, V, rng=rng)(h[0]), [1, 2], "sum").named("E")


MODELS: dict[str, Callable[[int], Tensor]] = {
    "RNN": partial(unrolled, nn.RNNCell),
    "LSTM": partial(unrolled, nn.LSTMCell),
    "LSTM, peepholes": partial(unrolled, partial(nn.LSTMCell, peepholes=True)),
    "LSTM, no bias": partial(unrolled, partial(nn.LSTMCell, bias=False)),
    **{f"GRU, reset {reset}, update {update}": partial(unrolled, partial(nn.GRUCell, reset=reset, update=update))
       for reset in ("after", "before", None) for update in "zu"},
    "minimal gated unit": partial(unrolled, MinimalGatedUnit),
    "BiRNN": partial(layered, nn.RNN, bidirectional=True),
    "BiLSTM": partial(layered, nn.LSTM, bidirectional=True),
    "BiGRU": partial(layered, nn.GRU, bidirectional=True),
    "two layers": partial(layered, nn.RNN, num_layers=2),
    "three layers of LSTM": partial(layered, nn.LSTM, num_layers=3),
    "two layers of BiRNN": partial(layered, nn.RNN, num_layers=2, bidirectional=True),
    "two layers of BiGRU": partial(layered, nn.GRU, num_layers=2, bidirectional=True),
    "masked RNN": partial(unrolled, nn.RNNCell, missing=2),
    "masked LSTM": partial(unrolled, nn.LSTMCell, missing=2),
    "encoder-decoder": encoder_decoder,
    "by hand": by_hand,
    "many to one": many_to_one,
}


@cache
def model(name: str, T: int) -> Tensor:
    """A graph that many tests look at."""
    return MODELS[name](T)


@cache
def drawn(name: str, T: int, detail: Any) -> Picture:
    return picture_of(model(name, T), detail=detail)


def sequences(model: Any, T: int, rng: np.random.Generator) -> Tensor:
    """E of a model of `tinygrad_rnn.models` that reads vectors: a loss for each step, or one at the end."""
    xs = rng.normal(size=(T, B, D))
    if hasattr(model, "losses"):
        return F.stack(model.losses(xs, rng.integers(0, V, (T, B)))).sum().named("E")
    E: Tensor = model.loss(xs, rng.integers(0, 2, B))
    return E


def wiring(name: str, T: int) -> Tensor:
    """Each wiring of `tinygrad_rnn.models` with a layer of another kind."""
    rng = np.random.default_rng(5)
    ids = rng.integers(0, V, (T, B))
    if name == "one to one":
        return models.OneToOne(nn.RNN(D, H, rng=rng), V, rng=rng).loss(rng.normal(size=(B, D)), ids[0])
    if name == "one to many":
        told = models.OneToMany(nn.RNN(V, H, num_layers=2, rng=rng), D, start=0, end=1, rng=rng)
        return F.stack(told.losses(rng.normal(size=(B, D)), ids)).sum().named("E")
    if name == "cloze":
        cloze = models.Cloze(nn.RNN(V, H, bidirectional=True, rng=rng), V, rng=rng)
        return F.stack(cloze.losses(ids, ids)).sum().named("E")
    if name == "encoder-decoder":
        layers = (nn.LSTM(size, H, rng=rng) for size in (D, V))
        return sequences(models.EncoderDecoder(*layers, start=0, end=1, rng=rng), T, rng)
    built = {"many to one": lambda: models.ManyToOne(nn.GRU(D, H, bidirectional=True, rng=rng), V, rng=rng),
             "sentiment": lambda: models.Sentiment(nn.LSTM(D, H, rng=rng), rng=rng),
             "tagging": lambda: models.ManyToMany(nn.LSTM(D, H, bidirectional=True, rng=rng), V, rng=rng),
             "both directions": lambda: models.BiRNN(nn.RNN(D, H, bidirectional=True, rng=rng), V, rng=rng)}
    return sequences(built[name](), T, rng)


WIRINGS = ("one to one", "one to many", "many to one", "sentiment", "tagging", "both directions", "cloze",
           "encoder-decoder")
ORDERED = ("LSTM", "GRU, reset after, update z", "BiRNN")
MASKED = ("masked RNN", "masked LSTM")
GATED = [name for name in MODELS if "GRU, " in name]


def named(picture: Picture, stem: str) -> list[Box]:
    """The boxes with this name at any step, from left to right."""
    return sorted([box for box in picture.boxes if steps_removed(title(box)) == stem != title(box)],
                  key=lambda box: box.x)


def row_of(picture: Picture, stem: str) -> float:
    """The y of the one row in which all boxes of a name stand."""
    (y,) = {box.y for box in named(picture, stem)}
    return y


def recurrence(picture: Picture, *, backward: bool) -> list[Wire]:
    """The dashed wires of one direction between the boxes of the steps and of the initial states."""
    names = {box.id: title(box) for box in picture.boxes}
    return [wire for wire in picture.wires if wire.kind == "implicit" and not wire.id.startswith("sample")
            and ("′" in names[wire.tail]) == backward]


# ------------------------------------------------------------------------------------------- the picture and the source
CELLS: dict[str, Callable[..., nn.Cell]] = {
    **{f"RNN, {phi}": partial(nn.RNNCell, nonlinearity=phi) for phi in ("tanh", "sigmoid", "relu")},
    "LSTM": nn.LSTMCell, "LSTM, peepholes": partial(nn.LSTMCell, peepholes=True),
    **{f"GRU, reset {reset}, update {update}": partial(nn.GRUCell, reset=reset, update=update)
       for reset in ("after", "before", None) for update in "zu"},
    "minimal gated unit": MinimalGatedUnit,
}


@pytest.mark.parametrize(("name", "bias"), [(name, bias) for name in CELLS for bias in (True, False)
                                            if bias or name != "minimal gated unit"])
def test_every_name_that_the_source_of_a_cell_gives_is_a_box_at_every_step(name: str, bias: bool) -> None:
    """So that picture and source can be laid side by side. What is named z there is z_f where U_f is read."""
    T, given = 4, list[tuple[int, str]]()
    cell = CELLS[name](D, H, bias, rng=np.random.default_rng(3))
    original = Tensor.named

    def named(self: Tensor, text: str) -> Tensor:
        given.append((self.scope["t"], text))
        return original(self, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "named", named)
        outputs, _ = nn.unroll(cell, np.random.default_rng(4).normal(size=(T, B, D)))
    lines = re.findall(r'\.named\("(.+?)"\)', inspect.getsource(type(cell)))
    assert {text for _, text in given} & set(lines) and len(set(given)) >= 2 * T
    titles = [title(box) for box in picture_of(F.stack(outputs).sum(), detail="ops").boxes]
    assert [text + str(t) for t, text in given if text + str(t).translate(LOW) not in titles] == []


# ---------------------------------------------------------------------------------------------------------- geometry
@pytest.mark.parametrize(("T", "detail"), [(1, "ops"), (3, "ops"), (4, "cells"), (12, "cells"), (64, "folded")])
@pytest.mark.parametrize("name", MODELS)
def test_no_boxes_overlap_and_no_line_crosses_a_box_or_covers_another(name: str, T: int, detail: str) -> None:
    check_geometry(drawn(name, T, detail))


@needs_graphviz
@pytest.mark.parametrize(("T", "detail"), [(1, "ops"), (3, "ops"), (5, "cells"), (64, "folded")])
@pytest.mark.parametrize("name", WIRINGS)
def test_every_wiring_is_drawn_without_overlaps_and_graphviz_has_no_complaint(name: str, T: int, detail: Any) -> None:
    root = wiring(name, T)
    drawn = draw(root, detail=detail, recording=record(root))
    assert drawn.picture is not None
    check_geometry(drawn.picture)
    sequences = 2 if name == "encoder-decoder" else 1
    assert len(drawn.picture.bands) == (1 if name == "one to one" else (7 if detail == "folded" else T) * sequences)
    done = subprocess.run(["neato", "-n2", "-Tplain"], input=drawn.dot, capture_output=True, check=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("T", [4, 64])
@pytest.mark.parametrize("name", [name for name in MODELS if name not in (*MASKED, "three layers of LSTM")])
def test_every_step_looks_the_same_and_time_runs_to_the_right(name: str, T: int) -> None:
    picture = drawn(name, T, "ops")
    assert [band.x for band in picture.bands] == sorted(band.x for band in picture.bands)
    assert len({round(band.width, 6) for band in picture.bands}) == 1
    sequences = {band.title.split("t =")[0] for band in picture.bands}
    for sequence in sequences:
        bands = [band for band in picture.bands if band.title.startswith(f"{sequence}t =")]
        assert [band.title for band in bands] == [f"{sequence}t = {t}" for t in range(1, T + 1)]
        inner = bands[1:-1]  # a sum may begin at the first step, a state may be handed on at the last one
        places = [{(round(box.x - band.x, 6), box.y) for box in picture.boxes if band.x < box.x < band.x + band.width}
                  for band in inner]
        assert all(place == places[0] for place in places) and len(places[0]) > 3


@needs_graphviz
@pytest.mark.parametrize(("name", "T", "detail"), [
    *((name, 4, "ops") for name in MODELS), *((name, 64, "ops") for name in ORDERED),
    *((name, 64, "cells") for name in (*ORDERED, "masked LSTM", "two layers of BiGRU", "encoder-decoder"))])
def test_neato_keeps_the_order_of_every_row_and_finds_room_for_every_text(name: str, T: int, detail: Any) -> None:
    """Graphviz measures the text and complains of a box that is too small for it."""
    root = model(name, T)
    drawing = draw(root, detail=detail, recording=record(root))
    done = subprocess.run(["neato", "-n2", "-Tplain"], input=drawing.dot, capture_output=True, check=True, text=True)
    assert done.stderr == ""
    seen = {line.split()[1]: tuple(map(float, line.split()[2:4])) for line in done.stdout.splitlines()
            if line.startswith("node n")}
    assert drawing.picture is not None
    ours = {box.id: box for box in drawing.picture.boxes}
    assert seen.keys() == ours.keys()
    for one, two in pairwise(sorted(ours, key=lambda id: (ours[id].y, ours[id].x))):
        if ours[one].y == ours[two].y:
            assert seen[one][0] < seen[two][0] and seen[one][1] == pytest.approx(seen[two][1], abs=1e-3)


# ------------------------------------------------------------------------------------------------- what lines mean
@pytest.mark.parametrize("name", MODELS)
def test_edges_that_carry_a_state_and_only_these_are_dashed(name: str) -> None:
    root = model(name, 4)
    graph, picture = Graph(root, None, ()), picture_of(root, detail="ops")
    expected = {f"e{graph.number[node]}_{i}" for node, i in graph.edges() if is_recurrence(node, i)
                and not (name == "by hand" and node.op.name == "add")}  # E = E + … is no state
    assert expected == {w.id for w in picture.wires if w.kind == "implicit" and not w.id.startswith("sample")}


@pytest.mark.parametrize("name", MODELS)
def test_a_parameter_is_one_box_and_one_line_with_a_dot_for_each_of_its_uses(name: str) -> None:
    root = model(name, 4)
    graph, picture = Graph(root, None, ()), picture_of(root, detail="ops")
    shared = [x for x in graph.tensors if type(x) is nn.Parameter and len(graph.readers[x]) > 1]
    assert shared
    for x in shared:
        (bus,) = [w for w in picture.wires if w.kind == "bus" and w.tail == f"n{graph.number[x]}"]
        (box,) = [box for box in picture.boxes if box.id == bus.tail]
        assert len(bus.points) == 2 and bus.points[0][1] == bus.points[1][1] == box.y
        dots = [dot for dot in picture.dots if dot.kind == "explicit" and dot.y == box.y]
        assert len(dots) == 4 and "Σ 4 uses" in box.rows[-1].text


@pytest.mark.parametrize("name", MODELS)
def test_lines_with_one_source_have_a_dot_wherever_they_part(name: str) -> None:
    picture = drawn(name, 4, "ops")
    trunks: dict[Any, list[Wire]] = {}
    for wire in picture.wires:
        if len(wire.points) > 3:
            trunks.setdefault(wire.points[:-2], []).append(wire)
    marked = {(dot.x, dot.y) for dot in picture.dots}
    for wires in trunks.values():
        ends = {wire.points[-2] for wire in wires}
        start = wires[0].points[-3][0]
        inner = {(x, y) for x, y in ends if any((x - start) * (further - x) > 0 for further, _ in ends)}
        assert inner <= marked


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("detail", ["ops", "cells"])
def test_every_cut_edge_has_a_gap_that_no_other_line_hides(name: str, detail: Any) -> None:
    root = model(name, 4)
    graph = Graph(root, None, ())
    cut = {(node, i) for node, i in graph.implicit if node.scope["t"] == 3}
    picture = picture_of(root, detail=detail, recording=record(root, cut=cut), label_edges=True)
    check_geometry(picture)
    found = {wire.id for wire in picture.wires if wire.cut and not wire.id.startswith("sample")}
    expected = {f"e{graph.number[node]}_{i}" for node, i in cut}
    assert found == expected if detail == "ops" else found and found <= expected


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("detail", "T", "least"), [("ops", 3, 30), ("cells", 4, 8)])
def test_what_stands_beside_a_line_lies_on_no_line_no_box_and_no_other_text(name: str, detail: Any, T: int,
                                                                            least: int) -> None:
    root = model(name, T)
    picture = picture_of(root, detail=detail, recording=record(root), label_edges=True)
    texts = np.array([(note.x, note.y - 3.5, note.x + text_width(note.text, note.size), note.y + 3.5)
                      for note in picture.notes if note.id.endswith("_label")])
    there = np.array([rectangle(box) for box in picture.boxes] + [
        part for wire in picture.wires if not wire.id.startswith("sample") for part in segments(wire)])
    assert len(texts) >= least
    assert not (overlaps(texts, there).min(0) > 0).any()
    assert not np.triu(overlaps(texts, texts).min(0) > 0, 1).any()


@pytest.mark.parametrize("name", [name for name in MODELS if "LSTM" in name or "GRU" in name])
def test_the_parameters_of_a_cell_keep_the_colours_of_their_gradients(name: str) -> None:
    root = model(name, 4)
    recording = record(root)
    graph, picture = Graph(root, None, ()), picture_of(root, detail="cells", recording=recording)
    cells = [cell for box in picture.boxes for row in box.rows for cell in row.cells if cell.text]
    shown = {cell.text: cell.fill for cell in cells}
    text = {x: f"{graph.labels[x]} {np.linalg.norm(g):.2g}".replace("e-0", "e-")
            for x, g in recording.gradients.items() if graph.place[x] == "bus"}
    known = sorted([x for x in text if text[x] in shown], key=lambda x: float(np.linalg.norm(recording.gradients[x])))
    assert len(known) == len(shown) >= 6
    by_size = [shown[text[x]] for x in known]
    greens = [int(fill[1:3], 16) for fill in by_size]
    assert greens == sorted(greens, reverse=True) and len(set(greens)) > 3  # the larger, the darker


# --------------------------------------------------------------------------------------------------------- the LSTM
@pytest.mark.parametrize("name", ["LSTM", "LSTM, peepholes", "LSTM, no bias", "many to one"])
@pytest.mark.parametrize("T", [4, 64])
def test_an_lstm_has_its_cell_state_on_top_its_gates_below_and_its_hidden_state_at_the_foot(name: str, T: int) -> None:
    picture = drawn(name, T, "ops")
    c, h = row_of(picture, "c"), row_of(picture, "h")
    belt = sorted([box for box in picture.boxes if box.y == c], key=lambda box: box.x)
    assert [steps_removed(title(box)) for box in belt] == ["c", *["f∘c", "c"] * T]
    f, i, o = (row_of(picture, gate) for gate in "fio")
    assert f == i == o and c < f < h
    if "peepholes" not in name:
        assert row_of(picture, "c̃") == f
    assert row_of(picture, "x") == h
    assert row_of(picture, "W_f·h") == row_of(picture, "W_o·h") and f < row_of(picture, "W_f·h") < h
    W, U = box_named(picture, "W_i·h₁"), box_named(picture, "U_i·x₂")
    assert W.x == pytest.approx(U.x) and W.y < U.y
    step = [box_named(picture, f"{gate}{'2'.translate(LOW)}").x for gate in ("f", "i", "c̃", "o", "h")]
    assert step == sorted(step) and (len(set(step)) == 4 or "peepholes" in name)  # h stands below o


@pytest.mark.parametrize(("name", "most"), [("RNN", 580), ("LSTM", 680), ("GRU, reset after, update z", 620)])
def test_a_step_is_as_wide_as_its_row_of_gates_and_three_of_them_fit_a_page(name: str, most: float) -> None:
    """Under 9-point text, with all numbers: four columns, and what is made of h above them."""
    root = model(name, 3)
    picture = picture_of(root, detail="ops", recording=record(root))
    assert picture.bands[0].width < most and picture.width < 2550
    columns = {round(box.x - picture.bands[1].x) for box in picture.boxes
               if picture.bands[1].x < box.x < picture.bands[1].x + picture.bands[1].width}
    assert len(columns) == 4


@pytest.mark.parametrize("build", [MODELS["LSTM"], MODELS["GRU, reset after, update z"], partial(layered, nn.RNN)])
@pytest.mark.parametrize("detail", ["ops", "cells"])
def test_the_parameters_of_a_cell_stand_below_it_and_those_of_the_head_above(build: Any, detail: Any) -> None:
    root = build(4)
    graph, picture = Graph(root, None, ()), picture_of(root, detail=detail)
    y = {box.id: box.y for box in picture.boxes}
    inside = [n for x, n in graph.number.items() if f"n{n}" in y and graph.place[x] == "step" and x.op is not None]
    state = y[f"n{inside[0]}"]
    for x, n in graph.number.items():
        if type(x) is nn.Parameter and f"n{n}" in y:
            assert (y[f"n{n}"] > state) == (x.name not in ("V", "c")), x.name


def test_whatever_is_made_of_the_states_keeps_off_the_belt() -> None:
    rng = np.random.default_rng(8)
    outputs, _ = nn.unroll(nn.LSTMCell(D, H, rng=rng), rng.normal(size=(4, B, D)))
    tall = []
    for t, h in enumerate(outputs, 1):
        with scope(t=t):
            for _ in range(9):
                h = F.tanh(h)
            tall.append(h.sum().named("E"))
    picture = picture_of(F.stack(tall).sum(), detail="ops")
    check_geometry(picture)
    on_belt = {steps_removed(title(box)) for box in picture.boxes if box.y == box_named(picture, "c₂").y}
    assert on_belt == {"c", "f∘c"}
    belt = [w for w in recurrence(picture, backward=False) if w.points[0][1] == box_named(picture, "c₂").y]
    assert len(belt) == 4 and all(len(wire.points) == 2 for wire in belt)


def test_an_lstm_is_named_as_in_the_notes() -> None:
    names = [title(box) for box in drawn("LSTM", 3, "ops").boxes]
    assert len(names) == len(set(names))
    expected = ["f₂", "i₂", "o₂", "c̃₂", "c₂", "h₂", "z_f₂", "f₂∘c₁", "i₂∘c̃₂", "tanh(c₂)", "U_f·x₂", "W_f·h₁",
                "U_f·x₂+W_f·h₁", "W_f", "U_o", "b_c", "h₀", "c₀"]
    assert set(expected) <= set(names)


def test_between_the_cells_of_an_lstm_run_two_lines_the_cell_state_above_the_hidden_state() -> None:
    picture = drawn("LSTM", 4, "cells")
    boxes = named(picture, "c")
    assert [[row.text for row in box.rows if row.bold] for box in boxes] == [
        [name + str(t).translate(LOW) for name in "ch"] for t in range(5)]
    assert [row.remark for row in boxes[2].rows if row.bold] == ["= f₂∘c₁+i₂∘c̃₂", "= o₂∘tanh(c₂)"]
    assert len({box.y for box in boxes}) == 1
    for t, (one, two) in enumerate(pairwise(boxes)):
        lines = sorted([w for w in picture.wires if (w.tail, w.head) == (one.id, two.id)], key=lambda w: w.points[0][1])
        labels = {note.id: note.text for note in picture.notes}
        assert [labels[f"{line.id}_label"] for line in lines] == [f"{name}{str(t).translate(LOW)}" for name in "ch"]
        assert all(line.kind == "implicit" and len(line.points) == 2 for line in lines)


# ---------------------------------------------------------------------------------------------------------- the GRU
@pytest.mark.parametrize("name", [*GATED, "minimal gated unit"])
@pytest.mark.parametrize("T", [4, 64])
def test_a_gru_carries_its_state_on_top_and_has_its_gates_below(name: str, T: int) -> None:
    picture = drawn(name, T, "ops")
    gates = "fh̃" if name not in GATED else ("r" if "None" not in name else "") + name[-1] + "n"
    h = row_of(picture, "h")
    kept = {"z": "z∘h", "u": "(1−u)∘h", "t": "(1−f)∘h"}[name[-1]]
    line = sorted([box for box in picture.boxes if box.y == h], key=lambda box: box.x)
    assert [steps_removed(title(box)) for box in line] == ["h", *[kept, "h"] * T]
    for gate in ("f", "h̃") if gates == "fh̃" else gates:
        assert row_of(picture, gate) > h
    if name in GATED and "None" not in name:
        assert row_of(picture, "r") == row_of(picture, name[-1]) > row_of(picture, "n")


@pytest.mark.parametrize("name", [*GATED, "minimal gated unit", "LSTM"])
def test_a_state_enters_the_next_step_at_its_left_edge_and_goes_along_below_its_gates(name: str) -> None:
    picture = drawn(name, 3, "ops")
    second = picture.bands[1]
    left = min(box.x - box.width / 2 for box in picture.boxes if second.x < box.x < second.x + second.width)
    bent = [wire for wire in recurrence(picture, backward=False)
            if len(wire.points) > 4 and second.x < wire.points[-1][0] < second.x + second.width]
    assert bent and all(second.x < wire.points[2][0] < left for wire in bent)


# ----------------------------------------------------------------------------------------------------- two directions
@pytest.mark.parametrize("name", ["BiRNN", "BiLSTM", "BiGRU"])
@pytest.mark.parametrize(("T", "detail"), [(4, "ops"), (4, "cells"), (64, "folded")])
def test_the_two_directions_run_against_each_other_on_rows_of_their_own(name: str, T: int, detail: str) -> None:
    picture = drawn(name, T, detail)
    ahead, back = (recurrence(picture, backward=backward) for backward in (False, True))
    assert len(ahead) == len(back) >= 4
    boxes = {box.id: box for box in picture.boxes}
    assert all(boxes[wire.tail].x < boxes[wire.head].x for wire in ahead)
    assert all(boxes[wire.tail].x > boxes[wire.head].x for wire in back)
    assert max(boxes[wire.tail].y for wire in back) < min(boxes[wire.head].y for wire in ahead)
    if name == "BiRNN":  # from the state straight to the next step's first product
        assert all(len(wire.points) == 2 for wire in (*ahead, *back))
    first, last = picture.bands[0], picture.bands[-1]
    low = str(T + 1).translate(LOW)
    (start,) = [box for box in picture.boxes if "h₀" in [row.text for row in box.rows] and box.x < first.x]
    (end,) = [box for box in picture.boxes if f"h′{low}" in [row.text for row in box.rows]]
    assert end.x > last.x + last.width and start.y > end.y


def test_an_input_has_no_prime_in_the_backward_direction() -> None:
    rng = np.random.default_rng(9)
    hs, _ = nn.unroll(nn.RNNCell(D, H, rng=rng), rng.normal(size=(3, B, D)), direction="backward")
    titles = {title(box) for box in picture_of(loss(hs, rng), detail="ops").boxes}
    assert {"x₂", "h′₂", "h′₄", "z′₂"} <= titles and "x′₂" not in titles


def test_the_directions_meet_above_both_under_a_name_of_their_own() -> None:
    picture = drawn("BiRNN", 3, "ops")
    both, h, back = (box_named(picture, name) for name in ("[h₂, h′₂]", "h₂", "h′₂"))
    assert both.y < back.y < h.y
    assert {"U'", "W'", "b'", "U", "W", "b", "V[h₂, h′₂]", "U'x₂", "W'h′₃"} <= {title(box) for box in picture.boxes}
    assert len([box for box in picture.boxes if title(box) == "x₂"]) == 1


# ----------------------------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize("name", ["two layers", "three layers of LSTM", "two layers of BiRNN", "two layers of BiGRU"])
@pytest.mark.parametrize("detail", ["ops", "cells"])
def test_a_layer_stands_above_the_layer_that_it_reads(name: str, detail: str) -> None:
    root = model(name, 3)
    graph, picture = Graph(root, None, ()), picture_of(root, detail=detail)
    y = {box.id: box.y for box in picture.boxes}
    rows: dict[int, list[float]] = {}
    for x in graph.tensors:
        at = y.get(f"n{graph.number[x]}")
        if at is not None and x.op is not None and lane_of(x)[2] is not None and graph.place[x] == "step":
            rows.setdefault(lane_of(x)[1], []).append(at)  # type: ignore[arg-type]
    assert len(rows) == (3 if "three" in name else 2)
    for lower, upper in pairwise(sorted(rows)):
        assert max(rows[upper]) < min(rows[lower])
    titles = {row.text for box in picture.boxes for row in box.rows if row.bold}
    assert any("h⁰₂" in text for text in titles) and any("h¹₂" in text for text in titles)
    if detail == "ops":
        assert {"U_l0" if "LSTM" not in name and "GRU" not in name else "U_i_l0" if "LSTM" in name else "U_n_l0"} \
            <= titles


# ----------------------------------------------------------------------------------------- masks, sequences, by hand
def test_a_masked_step_holds_the_state_before_or_takes_its_candidate() -> None:
    picture = drawn("masked RNN", 4, "ops")
    held, candidate, before = (box_named(picture, name) for name in ("h₄", "h̃₄", "h₃"))
    into = {wire.tail: wire.kind for wire in picture.wires if wire.head == held.id}
    assert into == {candidate.id: "step", before.id: "implicit"}
    assert held.y == before.y == candidate.y
    assert held.x > candidate.x


def test_a_decoder_goes_on_where_its_encoder_ends_and_both_are_folded() -> None:
    picture = picture_of(encoder_decoder(4), detail="ops")
    assert len(picture.bands) == 8
    (y,) = {box.y for box in picture.boxes if re.fullmatch("h[₁-₄]", title(box))}
    copied = [box for box in picture.boxes if title(box) == "h₀" and box.x > picture.bands[0].x]
    assert len(copied) == 1 and picture.bands[3].x < copied[0].x < picture.bands[4].x and copied[0].y < y
    owners = [box.rows[0].remark.split()[-1] for box in picture.boxes if title(box) == "W"]
    assert sorted(owners) == ["decoder", "encoder"]
    titles = [band.title for band in picture_of(encoder_decoder(64)).bands]
    assert titles[3] == "encoder, t = 4 … 61" and titles[10] == "decoder, t = 4 … 61" and len(titles) == 14


def test_a_running_total_does_not_take_the_place_of_the_state() -> None:
    picture = picture_of(by_hand(4), detail="ops")
    lane = sorted([box for box in picture.boxes if box.y == box_named(picture, "h₁").y], key=lambda box: box.x)
    assert [steps_removed(title(box)) for box in lane] == ["h", *["Wh", "Ux+Wh", "Ux+Wh+b", "h"] * 4]
    dashed = recurrence(picture, backward=False)
    assert len(dashed) == 3 and {y for wire in dashed for _, y in wire.points} == {lane[0].y}
    added = [wire for wire in picture.wires if wire.kind == "collect" and wire.id.startswith("e")]
    (y,) = {y for wire in added for _, y in wire.points}
    assert len(added) == 3 and y < lane[0].y and all(wire.arrow and not wire.back for wire in added)


def test_a_sum_that_is_all_that_is_carried_on_is_the_state() -> None:
    s, w = Tensor([0.5], name="s_0"), nn.Parameter(np.array([2.0]), name="w")
    for t in (1, 2, 3):
        with scope(t=t):
            s = (s + w * t).named("s")
    assert len(recurrence(picture_of(s.sum(), detail="ops"), backward=False)) == 2


def test_a_decoder_says_whose_state_it_starts_from_and_goes_on_in_the_rows_of_its_encoder() -> None:
    rng = np.random.default_rng(5)
    model = models.EncoderDecoder(nn.RNN(D, H, num_layers=2, rng=rng), nn.RNN(V, H, num_layers=2, rng=rng), start=0,
                                  end=1, rng=rng)
    E = F.stack(model.losses(rng.normal(size=(3, B, D)), rng.integers(0, V, (3, B)))).sum()
    picture = picture_of(E, detail="ops")
    copies = [box for box in picture.boxes if title(box) in ("h⁰₀", "h¹₀") and box.rows[0].remark.startswith("= ")]
    assert sorted(f"{title(box)} {box.rows[0].remark}" for box in copies) == ["h¹₀ = h¹₃", "h⁰₀ = h⁰₃"]
    for layer in "⁰¹":
        states = [box for t in "₁₂₃" for box in picture.boxes if title(box) == f"h{layer}{t}"]
        assert len(states) == 6 and len({box.y for box in states}) == 1


def test_a_cloze_has_a_column_for_each_step_and_none_for_the_states_it_starts_from() -> None:
    rng = np.random.default_rng(5)
    model = models.Cloze(nn.RNN(V, H, bidirectional=True, rng=rng), V, rng=rng)
    ids = rng.integers(0, V, (3, B))
    picture = picture_of(F.stack(model.losses(ids, ids)).sum(), detail="ops")
    assert [band.title for band in picture.bands] == ["t = 1", "t = 2", "t = 3"]
    check_geometry(picture)


# ------------------------------------------------------------------------------------------- boxes and what they hold
def read_by(kind: Any, T: int) -> Tensor:
    """A layer that reads rows of an embedding, made in the steps and outside the layer; one loss, at the last step."""
    rng = np.random.default_rng(10)
    embedding, head = nn.Embedding(V, D, rng=rng), nn.Linear(H, V, rng=rng)
    xs = []
    for t in range(1, T + 1):
        with scope(t=t):
            xs.append(embedding(rng.integers(0, V, B)))
    outputs, _ = nn.unroll(kind(D, H, rng=rng), xs, None)
    with scope(t=T):
        return F.cross_entropy(head(outputs[-1]), [1, 2], "sum").named("E")


def tanh_by_hand(T: int) -> list[Tensor]:
    """s_1 … s_T of a loop that says its step and nothing else."""
    rng = np.random.default_rng(11)
    U, W = (nn.Parameter(rng.normal(size=shape), name=name) for name, shape in (("U", (D, H)), ("W", (H, H))))
    s, states = Tensor(rng.normal(size=(B, H)), name="s_0"), []
    for t in range(1, T + 1):
        with scope(t=t):
            s = F.tanh(Tensor(rng.normal(size=(B, D)), name="x") @ U + s @ W).named("s")
            states.append(s)
    return states


def losses_by_hand(states: list[Tensor]) -> list[Tensor]:
    head, losses = nn.Parameter(np.random.default_rng(12).normal(size=(H, V)), name="V"), []
    for t, s in enumerate(states, 1):
        with scope(t=t):
            losses.append(F.cross_entropy(s @ head, [1, 2], "sum").named("E"))
    return losses


def last_rows(picture: Picture) -> dict[str, str]:
    """Of every parameter, or of several on one line: how many uses its gradient is the sum of."""
    return {title(box): found[0] for box in picture.boxes if (found := re.findall(r"Σ \d uses?", box.rows[-1].text))}


@pytest.mark.parametrize(("kind", "cell"), [(nn.RNNCell, "U, W, b"), (nn.LSTMCell, "12 parameters")])
def test_what_a_cell_reads_stands_before_it_and_what_reads_its_state_after_it(kind: Any, cell: str) -> None:
    picture = picture_of(read_by(kind, 4), detail="cells")
    check_geometry(picture)
    assert last_rows(picture) == {"M": "Σ 4 uses", cell: "Σ 4 uses", "V, c": "Σ 1 use"}
    state = "h" if kind is nn.RNNCell else "c"
    rows, states, (E,) = named(picture, "M[w]"), named(picture, state), named(picture, "E")
    joined = {(wire.tail, wire.head) for wire in picture.wires}
    for row, after in zip(rows, states[-4:], strict=True):
        assert row.y > after.y > E.y and row.x == after.x and (row.id, after.id) in joined
    assert (states[-1].id, E.id) in joined and "cross entropy" in E.rows[0].remark
    for bus in (box_named(picture, "M"), box_named(picture, cell)):
        assert bus.y > rows[0].y
    assert box_named(picture, "V, c").y < E.y


@pytest.mark.parametrize("total", ["stacked", "running"])
def test_a_loss_in_a_loop_by_hand_has_a_box_of_its_own_above_the_state(total: str) -> None:
    losses = losses_by_hand(tanh_by_hand(4))
    if total == "stacked":
        picture = picture_of(F.stack(losses).sum().named("E"), detail="cells")
        above = named(picture, "E")
    else:
        E: Any = 0.0
        for t, each in enumerate(losses, 1):
            with scope(t=t):
                E = (E + each).named("L")
        picture = picture_of(E, detail="cells")
        above = named(picture, "L")
    assert last_rows(picture) == {"U, W": "Σ 4 uses", "V": "Σ 4 uses"}
    states = named(picture, "s")[-4:]
    assert [box.x for box in above] == [box.x for box in states] and len({box.y for box in above}) == 1
    assert above[0].y < states[0].y


def test_a_state_that_is_the_root_stays_in_its_lane() -> None:
    for detail in ("ops", "cells"):
        picture = picture_of(tanh_by_hand(4)[-1], detail=detail)
        last = named(picture, "s")[-4:]
        assert len({box.y for box in last}) == 1
        assert len({round(box.x - band.x, 6) for box, band in zip(last, picture.bands, strict=True)}) == 1
        check_geometry(picture)


def test_between_cells_what_is_moved_only_is_a_part_of_the_arrow() -> None:
    rng = np.random.default_rng(5)
    for layer, starts in ((nn.RNN, {"h⁰₀": "of xP+p", "h¹₀": "of xP+p"}), (nn.GRU, {"h₀": "= xP+p"})):
        told = models.OneToMany(layer(V, H, num_layers=len(starts), rng=rng), D, start=0, end=1, rng=rng)
        root = F.stack(told.losses(rng.normal(size=(B, D)), rng.integers(0, V, (3, B)))).sum().named("E")
        recording = record(root)
        picture = picture_of(root, detail="cells", recording=recording, label_edges=True)
        check_geometry(picture)
        before = {title(box): box for box in picture.boxes if box.x < picture.bands[0].x}
        assert {name: before[name].rows[0].remark for name in starts} == starts
        assert not any(word in name for name in before for word in ("reshape", "transpose", "["))
        into = {wire.head: wire for wire in picture.wires}
        arrows = {name: into[before[name].id] for name in starts}
        assert {arrow.tail for arrow in arrows.values()} == {before["xP+p"].id}
        labels = {note.id: note.text for note in picture.notes}
        for x, name in Graph(root, None, ()).labels.items():  # a move does not change a norm
            if name in starts:
                size = f"{np.linalg.norm(recording.gradients[x]):.2g}"
                assert labels[f"{arrows[name].id}_label"] == size
        fine = {title(box) for box in picture_of(root, detail="ops").boxes}
        assert {"reshape(xP+p)", "transpose"} <= fine  # op by op each has its box


# ---------------------------------------------------------------------------------------------- the sum, and one term
@pytest.mark.parametrize(("name", "expected"), [
    ("GRU, reset None, update u", "dE/dW_u = Σ ∂Eₜ/∂hₜ · ∂hₜ/∂hₜ₋₁ · … · ∂⁺hₖ/∂W_u over all k ≤ t "
                                  "(k = t: explicit, k < t: implicit)"),
    ("LSTM", "dE/dW_f = Σ ∂Eₜ/∂sₜ · ∂sₜ/∂sₜ₋₁ · … · ∂⁺sₖ/∂W_f where s = (c, h) over all k ≤ t "
             "(k = t: explicit, k < t: implicit)"),
    ("BiRNN", "dE/dW = Σ ∂Eₜ/∂hₜ · ∂hₜ/∂hₜ₋₁ · … · ∂⁺hₖ/∂W over all k ≤ t "
              "(k = t: explicit, k < t: implicit; in the backward direction over all k ≥ t)"),
    ("many to one", "dE/dW_f = Σ ∂E/∂s₄ · ∂s₄/∂s₃ · … · ∂⁺sₖ/∂W_f where s = (c, h) over all k ≤ 4 "
                    "(k = 4: explicit, k < 4: implicit)"),
    ("two layers", None), ("encoder-decoder", None)])
def test_under_the_picture_stands_the_sum_that_the_gradient_is(name: str, expected: str | None) -> None:
    """Nothing where the states of one layer are not the whole of it."""
    found = {note.text for note in picture_of(model(name, 4)).notes if note.id == "formula"}
    assert found == ({expected} if expected else set())


def one_loss(kind: str) -> Tensor:
    """E_3 alone, of a cell over five steps."""
    rng = np.random.default_rng(13)
    if kind == "by hand":
        return losses_by_hand(tanh_by_hand(5))[2]
    if kind == "BiRNN":
        outputs = nn.RNN(D, H, bidirectional=True, rng=rng).steps(list(rng.normal(size=(5, B, D))))[0]
    else:
        outputs = nn.unroll((nn.LSTMCell if kind == "LSTM" else nn.RNNCell)(D, H, rng=rng),
                            rng.normal(size=(5, B, D)))[0]
    with scope(t=3):
        return F.cross_entropy(nn.Linear(outputs[2].shape[-1], V, rng=rng)(outputs[2]), [1, 2], "sum").named("E")


@pytest.mark.parametrize(("kind", "expected"), [
    ("RNN", "dE₃/dW = Σ ∂E₃/∂h₃ · ∂h₃/∂h₂ · … · ∂⁺hₖ/∂W over all k ≤ 3 (k = 3: explicit, k < 3: implicit)"),
    ("by hand", "dE₃/dW = Σ ∂E₃/∂s₃ · ∂s₃/∂s₂ · … · ∂⁺sₖ/∂W over all k ≤ 3 (k = 3: explicit, k < 3: implicit)"),
    ("LSTM", "dE₃/dW_f = Σ ∂E₃/∂s₃ · ∂s₃/∂s₂ · … · ∂⁺sₖ/∂W_f where s = (c, h) over all k ≤ 3 "
             "(k = 3: explicit, k < 3: implicit)"),
    ("BiRNN", "dE₃/dW = Σ ∂E₃/∂h₃ · ∂h₃/∂h₂ · … · ∂⁺hₖ/∂W over all k ≤ 3 (k = 3: explicit, k < 3: implicit; in the "
              "backward direction over all k ≥ 3)")])
def test_under_one_loss_stands_the_sum_over_the_uses_up_to_its_step(kind: str, expected: str) -> None:
    root = one_loss(kind)
    for detail in ("ops", "cells"):
        assert {note.text for note in picture_of(root, detail=detail).notes if note.id == "formula"} == {expected}


def test_no_sum_is_claimed_where_a_loss_reads_several_states_or_the_weight_itself() -> None:
    states = tanh_by_hand(4)
    W = states[0].inputs[0].inputs[1].inputs[1]
    with scope(t=4):
        roots = [(states[3] * states[1]).sum().named("E"), ((states[3] @ W).sum() + (W * W).sum()).named("E")]
    rng = np.random.default_rng(14)
    ends = models.ManyToOne(nn.RNN(D, H, bidirectional=True, rng=rng), V, rng=rng)  # reads h_T and h'_1
    roots += [ends.loss(rng.normal(size=(4, B, D)), [1, 2]), states[3]]
    assert W.name == "W"
    for root in roots:
        assert not [note for note in picture_of(root).notes if note.id == "formula"]


def test_numbers_on_arrows_are_explained_and_a_parameter_says_the_norm_of_its_sum() -> None:
    root = model("RNN", 3)
    recording = record(root)
    picture = picture_of(root, recording=recording, label_edges=True)
    (said,) = [note.text for note in picture.notes if note.id == "legend_number"]
    assert "norm of the gradient that comes back along it" in said and "norms do not" in said
    graph = Graph(root, None, ())
    for x in graph.shared:
        size = float(np.linalg.norm(recording.gradients[x]))
        assert box_named(picture, graph.labels[x]).rows[-1].text.endswith(f", ‖·‖ = {size:.2g}")
    for settings in ({"recording": recording}, {"label_edges": True}):
        other = picture_of(root, **settings)
        assert not [note for note in other.notes if note.id == "legend_number"]
        assert not any("‖·‖" in row.text for box in other.boxes for row in box.rows)


@pytest.mark.parametrize("name", ["LSTM", "GRU, reset after, update z", "BiRNN", "minimal gated unit"])
def test_a_term_of_any_cell_is_lit_from_its_loss_back_to_its_use(name: str) -> None:
    root = model(name, 4)
    graph = Graph(root, None, ())
    last = next(x for x in graph.tensors if graph.labels[x] == "E₄")
    parameter = next(x for x in graph.tensors if type(x) is nn.Parameter and (x.name or "").startswith("W"))
    picture = picture_of(root, term=Term(last, parameter, 2), detail="ops")
    lit = {steps_removed(title(box)) for box in picture.boxes if box.lit}
    assert {parameter.name, "h", "E", "q"} <= lit and "x" not in lit
    lines = [wire for wire in picture.wires if wire.lit and wire.kind == "implicit"]
    assert len(lines) >= 2 and all(wire.dim != wire.lit for wire in picture.wires if wire.id.startswith("e"))


@pytest.mark.parametrize("name", ["LSTM", "BiLSTM", "GRU, reset before, update u", "two layers of BiRNN"])
@pytest.mark.parametrize("detail", ["ops", "cells", "folded"])
def test_two_identical_programs_give_the_same_bytes(name: str, detail: Any) -> None:
    one, two = (MODELS[name](9) for _ in range(2))
    first, second = (draw(root, recording=record(root), detail=detail) for root in (one, two))
    assert first.dot == second.dot and first.svg == second.svg


def test_what_a_gate_was_before_its_peephole_has_a_label_of_its_own() -> None:
    cell = nn.LSTMCell(2, 3, peepholes=True, rng=np.random.default_rng(0))
    hs, _ = nn.unroll(cell, np.random.default_rng(1).normal(size=(3, 1, 2)))
    labels = draw(hs[-1].sum()).graph.labels
    assert [list(labels.values()).count(f"z_{gate}₂") for gate in "fico"] == [1, 1, 1, 1]
