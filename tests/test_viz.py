"""What the pictures promise: order, no overlaps, two kinds of edges, honest gradient rows, the same bytes.

To renew the golden files after a change that is meant: `PYTHONPATH=. python tests/test_viz.py`, then look at the
pictures of both and at the diff.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import Tensor, functional, nn, scope
from tinygrad_rnn.bptt.tables import SUBSCRIPTS as LOW
from tinygrad_rnn.recording import record
from tinygrad_rnn.steps import is_recurrence
from viz import Drawing, NoRendererError, Term, dot, draw, drawing, notebook, render, svg
from viz.graph import Graph
from viz.picture import Box, Picture, Wire

GOLDEN = Path(__file__).parent / "golden"
needs_graphviz = pytest.mark.skipif(not shutil.which("neato"), reason="Graphviz is not installed: no neato on the PATH")


class Model:
    """A tanh RNN with a loss at every step; `E` is their sum."""

    def __init__(self, T: int, ids: bool = False, bias: bool = True, chain: bool = False,
                 squares: bool = False) -> None:
        rng = np.random.default_rng(7)
        self.cell = nn.RNNCell(4 if ids else 2, 3, bias=bias, rng=rng)
        self.head = nn.Linear(3, 4, bias=bias, rng=rng)
        xs: Any = rng.integers(0, 4, size=(T, 1)) if ids else rng.normal(size=(T, 1, 2))
        self.hs, _ = nn.unroll(self.cell, xs)
        self.losses = []
        for t, h in enumerate(self.hs, 1):
            with scope(t=t):
                q = self.head(h)
                loss = functional.mse_loss(q, q.data + 1) if squares else functional.cross_entropy(q, [t % 4], "sum")
                self.losses.append(loss.named("E"))
        self.E = sum(self.losses[1:], self.losses[0]) if chain else functional.stack(self.losses).sum()
        self.E.named("E")


def lstm(T: int) -> Tensor:
    """A graph that no table knows: four gates, two states."""
    rng = np.random.default_rng(3)
    U, W = ([nn.Parameter(rng.normal(size=(2, 2)), name=f"{name}_{gate}") for gate in "ifgo"] for name in "UW")
    h = c = Tensor(np.zeros((1, 2)), name="h_0")
    with scope(layer=0, direction="forward"):
        for t in range(1, T + 1):
            with scope(t=t):
                x = Tensor(rng.normal(size=(1, 2)), name="x")
                i, f, g, o = (functional.tanh(x @ u + h @ w) for u, w in zip(U, W))
                c = (f * c + i * g).named("c")
                h = (o * functional.tanh(c)).named("h")
    return h.sum().named("E")


def both_directions(T: int) -> Tensor:
    rng = np.random.default_rng(4)
    ahead, back = nn.RNNCell(2, 2, rng=rng), nn.RNNCell(2, 2, rng=rng)
    xs = [Tensor(rng.normal(size=(1, 2)), name=f"x_{t}") for t in range(1, T + 1)]
    hs, _ = nn.unroll(ahead, xs)
    with scope(layer=0, direction="backward", t=T + 1):
        h = Tensor(np.zeros((1, 2)), name="h")
    losses = []
    for t in range(T, 0, -1):
        with scope(layer=0, direction="backward", t=t):
            h = back(xs[t - 1], h)
        with scope(t=t):
            losses.append((h * hs[t - 1]).sum().named("E"))
    return functional.stack(losses).sum().named("E")


def by_hand(T: int) -> Tensor:
    """A loop that says its step and nothing else, cut in the middle; E is added up within the steps."""
    w, s, E = Tensor([0.2], requires_grad=True, name="w"), Tensor([0.9], name="s_0"), 0.0
    for t in range(1, T + 1):
        with scope(t=t):
            s = ((s.detach() if t == T else s) * w).named("s")
            E = E + (s * s).sum()
    return E


def stacked(T: int) -> Tensor:
    rng = np.random.default_rng(5)
    hs, _ = nn.unroll(nn.RNNCell(2, 2, rng=rng), rng.normal(size=(T, 1, 2)))
    _, last = nn.unroll(nn.RNNCell(2, 2, rng=rng), hs, layer=1)
    return functional.cross_entropy(nn.Linear(2, 3, rng=rng)(last), [1], "sum").named("E")


GRAPHS = {
    "rnn": lambda T: Model(T).E,
    "ids": lambda T: Model(T, ids=True).E,
    "no bias": lambda T: Model(T, bias=False).E,
    "chain": lambda T: Model(T, chain=True).E,
    "squares": lambda T: Model(T, squares=True).E,
    "lstm": lstm,
    "both directions": both_directions,
    "by hand": by_hand,
    "stacked": stacked,
}


def picture_of(root: Tensor, **settings: Any) -> Picture:
    picture = draw(root, **settings).picture
    assert picture is not None
    return picture


def title(box: Box) -> str:
    return box.rows[0].text


def box_named(picture: Picture, name: str) -> Box:
    (found,) = [box for box in picture.boxes if title(box) == name]
    return found


def rectangle(box: Box) -> tuple[float, float, float, float]:
    return box.x - box.width / 2, box.y - box.height / 2, box.x + box.width / 2, box.y + box.height / 2


def segments(wire: Wire) -> list[tuple[float, float, float, float]]:
    return [(min(a, c), min(b, d), max(a, c), max(b, d)) for (a, b), (c, d) in pairwise(wire.points)]


# ------------------------------------------------------------------------------------------------------------- order
@pytest.mark.parametrize("T", [4, 64])
@pytest.mark.parametrize("ids", [False, True])
def test_every_row_is_ordered_by_time_and_every_step_looks_the_same(T: int, ids: bool) -> None:
    picture = picture_of(Model(T, ids).E, detail="ops")
    bands = picture.bands
    assert [band.title for band in bands] == [f"t = {t}" for t in range(1, T + 1)]
    assert len({round(band.width, 6) for band in bands}) == 1
    inside = [[box for box in picture.boxes if band.x < box.x < band.x + band.width] for band in bands]
    places = [sorted((round(box.x - band.x, 6), box.y) for box in boxes) for band, boxes in zip(bands, inside)]
    assert all(place == places[0] for place in places)
    assert len(places[0]) == 10 - ids  # ids make no x
    lane = sorted((box for box in picture.boxes if box.y == box_named(picture, "h₁").y), key=lambda box: box.x)
    names = [re.sub("[₀-₉]", "", title(box)) for box in lane]
    assert names == ["h", *["Wh", "U[w]+Wh" if ids else "Ux+Wh", "z", "h"] * T]
    assert title(lane[-1]) == "h" + str(T).translate(LOW)


@needs_graphviz
@pytest.mark.parametrize("T", [4, 64])
def test_neato_keeps_the_order_of_every_row(T: int) -> None:
    drawn = draw(Model(T).E, detail="ops")
    assert drawn.picture is not None
    plain = render.graphviz(drawn.dot, "neato", "plain")[0].decode()
    seen = {line.split()[1]: tuple(map(float, line.split()[2:4])) for line in plain.splitlines()
            if line.startswith("node n")}
    ours = {box.id: box for box in drawn.picture.boxes}
    assert seen.keys() == ours.keys()
    for one, two in pairwise(sorted(ours, key=lambda id: (ours[id].y, ours[id].x))):
        if ours[one].y == ours[two].y:
            assert seen[one][0] < seen[two][0]
            assert seen[one][1] == pytest.approx(seen[two][1], abs=1e-3)


# ---------------------------------------------------------------------------------------------------------- geometry
def check_geometry(picture: Picture) -> None:
    """No boxes overlap, no line crosses a box, no line lies on another but the one it branches off."""
    boxes = np.array([rectangle(box) for box in picture.boxes])
    over = np.argwhere(np.triu(overlaps(boxes, boxes).min(0) > 0, 1))
    assert not over.size, [(title(picture.boxes[i]), title(picture.boxes[j])) for i, j in over]
    parts = [(wire, part) for wire in picture.wires if not wire.id.startswith("sample") for part in segments(wire)]
    lines = np.array([part for _, part in parts])
    crossed = np.argwhere(overlaps(lines, boxes).min(0) > 0.01)
    assert not crossed.size, [(parts[i][0].id, title(picture.boxes[j])) for i, j in crossed]
    along = overlaps(lines, lines)
    flat = lines[:, 1] == lines[:, 3]
    source = np.unique([wire.id if wire.cut else wire.tail + wire.kind for wire, _ in parts], return_inverse=True)[1]
    covered = np.triu((along.max(0) > 0.5) & (abs(along.min(0)) < 1e-6) & (flat[:, None] == flat)
                      & (source[:, None] != source), 1)
    assert not covered.any(), [(parts[i][0].id, parts[j][0].id) for i, j in np.argwhere(covered)]


def overlaps(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(2, len(a), len(b)): how far two rectangles overlap along x and y, less than 0 where they do not."""
    a, b = a[:, None], b[None]
    found: np.ndarray[Any, Any] = np.stack([np.minimum(a[..., i + 2], b[..., i + 2]) - np.maximum(a[..., i], b[..., i])
                                            for i in range(2)])
    return found


@pytest.mark.parametrize("detail", ["ops", "cells"])
@pytest.mark.parametrize("T", [1, 3, 4, 6])
@pytest.mark.parametrize("name", GRAPHS)
def test_no_boxes_overlap_and_no_line_crosses_a_box_or_covers_another(name: str, T: int, detail: str) -> None:
    check_geometry(picture_of(GRAPHS[name](T), detail=detail))


def random_program(seed: int) -> Tensor:
    """Operations on whatever was made before, in steps, lanes and outside of both: no network at all."""
    rng = np.random.default_rng(seed)
    made = [Tensor(rng.normal(size=2), requires_grad=name == "a" or rng.random() < 0.7, name=name) for name in "abc"]
    for t in range(rng.integers(3, 8)):
        lane = {"direction": rng.choice(["forward", "backward"])} if rng.random() < 0.3 else {}
        with scope(t=t, **lane) if rng.random() < 0.8 else nullcontext():
            for _ in range(rng.integers(0, 5)):
                a, b = (made[i] for i in rng.integers(len(made), size=2))
                kind = rng.integers(5)
                y = (a * b if kind == 0 else a + b if kind == 1 else functional.tanh(a) if kind == 2
                     else a.detach() * b if kind == 3 else functional.stack([a, b, made[-1]]).sum(0))
                made.append(y.named("h") if rng.random() < 0.3 else y)
    return functional.stack([made[0], *made[-4:]]).sum()


@pytest.mark.parametrize("detail", ["ops", "cells"])
@pytest.mark.parametrize("seed", range(60))
def test_the_geometry_holds_for_programs_that_are_no_network(seed: int, detail: str) -> None:
    root = random_program(seed)
    drawn = draw(root, detail=detail, recording=record(root))  # type: ignore[arg-type]
    assert drawn.dot.startswith("digraph")
    if drawn.picture:
        check_geometry(drawn.picture)
        ids = [element.get("id") for element in ET.fromstring(drawn.svg).iter() if element.get("id")]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", GRAPHS)
def test_every_edge_ends_at_the_boxes_it_joins_and_nothing_leaves_the_picture(name: str) -> None:
    root = GRAPHS[name](4)
    picture = picture_of(root, detail="ops")
    graph = Graph(root, None, ())
    boxes = {box.id: rectangle(box) for box in picture.boxes}
    dots = {dot.id: (dot.x, dot.y, dot.x, dot.y) for dot in picture.dots}
    ids = {wire.id for wire in picture.wires}
    assert {f"e{graph.number[node]}_{i}" for node, i in graph.edges()} <= ids
    for wire in picture.wires:
        if not wire.id.startswith("sample"):
            for end, (x, y) in ((wire.tail, wire.points[0]), (wire.head, wire.points[-1])):
                left, top, right, bottom = (boxes | dots)[end]
                assert left - 0.01 <= x <= right + 0.01 and top - 0.01 <= y <= bottom + 0.01, wire.id
        assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in wire.points)


def test_a_parameter_is_one_box_with_a_dot_for_every_use() -> None:
    model = Model(4)
    picture = picture_of(model.E)
    for name in "UWbVc":
        box = box_named(picture, name)
        assert "Σ 4 uses" in box.rows[-1].text
        (bus,) = [wire for wire in picture.wires if wire.kind == "bus" and wire.tail == box.id]
        dots = [dot for dot in picture.dots if dot.kind == "explicit" and dot.y == bus.points[0][1]]
        assert len(dots) == 4 and max(dot.x for dot in dots) == bus.points[-1][0]


# ------------------------------------------------------------------------------------------------- what lines mean
@pytest.mark.parametrize("name", GRAPHS)
def test_edges_that_carry_a_state_and_only_these_are_dashed(name: str) -> None:
    root = GRAPHS[name](4)
    graph, drawn = Graph(root, None, ()), draw(root, detail="ops")
    expected = {f"e{graph.number[node]}_{i}" for node, i in graph.edges() if is_recurrence(node, i)
                and not (name == "by hand" and node.op.name == "add")}  # E = E + (s * s).sum() is no state
    assert expected
    svg = {g.get("id") for g in ET.fromstring(drawn.svg) if any(p.get("stroke-dasharray") for p in g)}
    dot = set(re.findall(r'\[id="(e\d+_\d+)", [^\n]*style=dashed', drawn.dot))
    assert {id for id in svg if not str(id).startswith("sample")} == expected == dot


def test_a_square_has_two_edges_in_dot_and_in_columns() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    assert len(re.findall("n0 -> n1", draw(x * x).dot)) == 2
    root = by_hand(3)
    picture = picture_of(root)
    pairs = [(wire.tail, wire.head) for wire in picture.wires]
    assert sum(pairs.count(pair) == 2 for pair in set(pairs)) == 3


def test_detached_and_cut_edges_are_drawn_with_a_gap() -> None:
    root = by_hand(3)
    (wire,) = [wire for wire in picture_of(root).wires if wire.cut and not wire.id.startswith("sample")]
    assert wire.kind == "implicit" and "no gradient" in wire.tooltip
    model = Model(3)
    graph = Graph(model.E, None, ())
    edge = next(edge for edge in graph.edges() if edge in graph.implicit)
    for settings in ({"cut": {edge}}, {"recording": record(model.E, cut={edge})}):
        found = [wire.id for wire in picture_of(model.E, **settings).wires if wire.cut]
        assert found == [f"e{graph.number[edge[0]]}_{edge[1]}", "sample_cut"]
    assert f'id="e{graph.number[edge[0]]}_{edge[1]}_end"' in draw(model.E, cut={edge}).dot


# ------------------------------------------------------------------------------------------------------- gradients
def test_without_a_recording_every_gradient_row_is_a_dash() -> None:
    picture = picture_of(Model(3).E)
    rows = [row for box in picture.boxes for row in box.rows if row.text.startswith("∇") or ".grad" in row.text]
    assert len(rows) == len(picture.boxes)
    assert {(re.sub(r"\w\.grad = Σ 3 uses =", "∇", row.text), row.fill) for row in rows} == {("∇ –", "")}


def test_a_recording_fills_the_rows_of_everything_that_has_a_gradient() -> None:
    model = Model(3)
    recording = record(model.E)
    picture = picture_of(model.E, recording=recording)
    h, x = box_named(picture, "h₂"), box_named(picture, "x₂")
    expected = " ".join(f"{g:+.2f}" for g in recording.gradients[model.hs[1]].ravel())
    assert h.rows[2].text == f"∇ {expected}" and h.rows[2].fill
    assert x.rows[2].text == "∇ –"
    (scale,) = [note.text for note in picture.notes if note.id == "legend_scale"]
    low, high = (float(n) for n in re.findall(r"from (\S+) to (\S+) on a log scale", scale)[0])
    norms = [np.linalg.norm(recording.gradients[y]) for y in recording.gradients]
    assert (low, high) == (pytest.approx(min(norms), rel=0.06), pytest.approx(max(norms), rel=0.06))


def test_after_backward_parameters_show_their_grad_and_inner_nodes_a_dash() -> None:
    model = Model(3)
    model.E.backward()
    picture = picture_of(model.E)
    assert re.match(r"W.grad = Σ 3 uses = [+-]\d", box_named(picture, "W").rows[1].text)
    assert box_named(picture, "h₂").rows[2].text == "∇ –"


def test_a_tiny_gradient_is_never_shown_as_zero() -> None:
    x = Tensor(1e-9, requires_grad=True, name="x")
    assert "+1e-9" in draw(x * 1.0).dot and "+0.00" not in draw(x * 1.0).dot


@pytest.mark.parametrize(("t", "k"), [(4, 2), (3, 3), (4, 1)])
def test_a_term_lights_its_path_alone_and_shows_the_gradient_of_its_loss_alone(t: int, k: int) -> None:
    model = Model(5)
    picture = picture_of(model.E, term=Term(model.losses[t - 1], model.cell.W, k))
    low = [str(j).translate(LOW) for j in range(6)]
    lane = {f"{name}{low[j]}" for j in range(k, t + 1) for name in "zh"} | {f"Wh{low[j - 1]}" for j in range(k, t + 1)}
    lane |= {f"Ux{low[j]}+Wh{low[j - 1]}" for j in range(k, t + 1)}
    head = {f"{name}{low[t]}" for name in ("Vh", "q", "−ln ŷ", "E")}
    assert {title(box) for box in picture.boxes if box.lit} == {"W"} | lane | head
    assert all(box.dim != box.lit for box in picture.boxes)
    alone = record(model.losses[t - 1])
    box = box_named(picture, f"h{low[k]}")
    assert box.rows[2].text == "δ " + " ".join(f"{g:+.2f}" if abs(g) >= 0.005 else f"{g:+.0e}".replace("e-0", "e-")
                                               for g in alone.gradients[model.hs[k - 1]].ravel())
    unlit = [box for box in picture.boxes if box.dim]
    assert unlit and not any(row.text.startswith(("∇", "δ")) for box in unlit for row in box.rows)
    crossed = [wire for wire in picture.wires if wire.kind == "implicit" and wire.lit]
    assert len(crossed) == t - k
    factors = [f"∂E{low[t]}/∂h{low[t]}", *[f"∂h{low[j]}/∂h{low[j - 1]}" for j in range(t, k, -1)], f"∂⁺h{low[k]}/∂W"]
    notes = {note.id: note.text for note in picture.notes}
    assert notes["formula"].split(" = ")[1] == " · ".join(factors)
    numbers = [alone.gradients[model.hs[j - 1]] for j in range(t, k - 1, -1)]  # ∂E_t/∂h_t, then one factor more each
    (use,) = [d for (node, i), d in alone.contributions.items()
              if node.inputs[i] is model.cell.W and node.scope["t"] == k]
    sizes = [notes[f"factor{i}_size"] for i in range(len(factors))]
    assert sizes == [f"‖·‖ = {np.linalg.norm(g):.2g}" for g in (*numbers, use)]
    assert notes["sentence"].split(". ")[1].startswith("It is explicit" if t == k else
                                                       f"It is implicit: the path goes back over {t - k} step")


def test_the_parameter_of_a_term_shows_the_contribution_of_that_use() -> None:
    model = Model(4)
    term = Term(model.losses[3], model.cell.W, 2)
    shown = drawing.Shown(Graph(model.E, None, ()), term)
    per_use = [d for (node, i), d in record(model.losses[3]).contributions.items()
               if node.inputs[i] is model.cell.W and node.scope["t"] == 2]
    assert len(per_use) == 1
    np.testing.assert_array_equal(shown.gradient(model.cell.W), per_use[0])


def test_a_term_without_a_path_is_refused() -> None:
    model = Model(4)
    with pytest.raises(ValueError, match="no path"):
        draw(model.E, term=Term(model.losses[1], model.cell.W, 3))
    with pytest.raises(ValueError, match="must be in the graph"):
        draw(model.E, term=Term(model.E, Tensor([1.0], requires_grad=True), 3))


# ------------------------------------------------------------------------------------------- which way gradients run
@pytest.mark.parametrize("detail", ["ops", "cells"])
def test_a_hollow_head_shows_where_a_gradient_came_back_to_a_parameter_or_to_another_step(detail: str) -> None:
    model = Model(4)
    graph = Graph(model.E, None, ())
    cut = {edge for edge in graph.implicit if edge[0].scope["t"] == 3}
    for recording in (None, record(model.E), record(model.E, cut=cut)):
        picture = picture_of(model.E, recording=recording, detail=detail)
        wires = [wire for wire in picture.wires if wire.id.startswith("e")]
        hollow = {wire.id for wire in wires if wire.back}
        if recording is None:
            assert not hollow
            continue
        (before,) = [wire for wire in wires if wire.kind == "implicit" and wire.tail == box_named(picture, "h₀").id]
        expected = {wire.id for wire in wires if wire.kind in ("explicit", "implicit") and not wire.cut} - {before.id}
        assert hollow == expected and len(hollow) == (4 * 5 if detail == "ops" else 4 * 2) + 3 - bool(recording.cut)
        told = {note.id: note.text for note in picture.notes}
        assert "against them, from E on" in told["legend_forward"] and "Hollow heads" in told["legend_backward"]
        drawn = draw(model.E, recording=recording, detail=detail)  # type: ignore[arg-type]
        for wire in wires:  # the same in both writers: the tip at the end that values come from, pointing out of it
            (x, y), (x1, y1) = wire.points[:2]
            in_dot = re.search(rf'\[id="{wire.id}", [^\n]*pos="s,([\d.]+),([\d.]+) ', drawn.dot)
            assert (in_dot is not None) == bool(wire.back)
            if in_dot:
                tip = float(in_dot[1]), picture.height - float(in_dot[2])
                away = abs(tip[0] - x) + abs(tip[1] - y)
                assert 0 < away < 6 and abs(tip[0] - x1) + abs(tip[1] - y1) < abs(x - x1) + abs(y - y1)


def test_what_comes_back_through_several_edges_is_added_up_on_one_line() -> None:
    root = lstm(3)
    recording, graph = record(root), Graph(root, None, ())
    picture = picture_of(root, recording=recording, detail="cells", label_edges=True)
    labels = {note.id: note.text for note in picture.notes}
    h = next(x for x in graph.tensors if graph.labels[x] == "h₂")
    back = sum(np.asarray(recording.contributions[edge]) for edge in graph.readers[h] if edge in graph.implicit)
    assert len([edge for edge in graph.readers[h] if edge in graph.implicit]) == 4
    shown = [labels.get(f"{wire.id}_label") for wire in picture.wires if wire.kind == "implicit"]
    assert f"{np.linalg.norm(back):.2g}" in shown


# --------------------------------------------------------------------------------------------------------- details
@pytest.mark.parametrize(("T", "bands"), [(6, 6), (16, 16), (17, 7), (1000, 7)])
def test_the_level_of_detail_follows_the_number_of_steps(T: int, bands: int) -> None:
    picture = picture_of(Model(T).E)
    assert len(picture.bands) == bands
    assert any("= tanh(" in row.remark for box in picture.boxes for row in box.rows) == (T > 6)


def test_a_thousand_steps_fold_into_seven_columns_with_a_strip_of_gradient_norms() -> None:
    model = Model(1000)
    picture = picture_of(model.E, recording=record(model.E))
    assert [band.title for band in picture.bands][2:5] == ["t = 3", "t = 4 … 997", "t = 998"]
    strip = box_named(picture, "h₄ … h₉₉₇")
    assert strip.rows[0].remark == "994 steps" and len(strip.rows[1].cells) == 36
    assert len(set(strip.rows[1].cells)) > 1
    assert len(draw(model.E, recording=record(model.E)).svg) < 60_000


def test_a_cell_shows_its_state_and_the_gradient_there_and_what_it_adds_to_the_recurrent_weight() -> None:
    model = Model(8)
    recording = record(model.E)
    box = box_named(picture_of(model.E, recording=recording), "h₅")
    added = next(d for (node, i), d in recording.contributions.items()
                 if node.inputs[i] is model.cell.W and node.scope["t"] == 5)
    assert [row.text for row in box.rows[2:]] == [f"‖∂E/∂h₅‖ {np.linalg.norm(recording.gradients[model.hs[4]]):.2g}",
                                                 f"‖∂⁺W‖ {np.linalg.norm(added):.2g}"]
    assert box.rows[0].remark == "= tanh(Ux₅ + Wh₄ + b)"


def test_edges_are_labelled_with_their_contributions_on_request() -> None:
    model = Model(3)
    recording = record(model.E)
    graph = Graph(model.E, None, ())
    edge = next((node, 0) for node in graph.tensors if node is model.hs[1])
    label = f"e{graph.number[edge[0]]}_0_label"
    picture = picture_of(model.E, recording=recording, label_edges=True)
    labels = {note.id: note.text for note in picture.notes}
    assert labels[label] == f"{np.linalg.norm(recording.contributions[edge]):.2g}"
    assert label not in {note.id for note in picture_of(model.E, recording=recording).notes}


def test_without_steps_a_label_is_the_norm_of_a_contribution_too_and_the_text_says_so() -> None:
    x = Tensor([3.0, 4.0], requires_grad=True, name="x")
    y = (x * x).sum()
    drawn = draw(y, recording=record(y), label_edges=True).dot
    assert len(re.findall('n0 -> n1 .*label="5"', drawn)) == 2 and "their norms do not" in drawn
    assert "norm of the gradient" not in draw(y, recording=record(y)).dot


def test_the_strip_of_a_term_is_white_where_its_path_does_not_go() -> None:
    model = Model(40)
    strip = box_named(picture_of(model.E, term=Term(model.losses[38], model.cell.W, 36)), "h₄ … h₃₇")
    cells = strip.rows[1].cells
    assert [cell.fill == "#ffffff" for cell in cells] == [True] * 32 + [False] * 2


# ---------------------------------------------------------------------------------------------------- text and bytes
@pytest.mark.parametrize(("text", "expected"), [
    ("W_f", "W<tspan>f</tspan>"), ("U_f·x₁+W_f·h₀", "U<tspan>f</tspan><tspan>·x₁+W</tspan><tspan>f</tspan><tspan>·h₀"
                                                     "</tspan>"),
    ("dE/dW_hh", "dE/dW<tspan>hh</tspan>"), ("W_f_l0'", "W<tspan>f,l0</tspan><tspan>'</tspan>"),
    ("my_weight", "my_weight"), ("h_1", "h_1"), ("a_b_c", "a_b_c"), ("U_<b>", "U_&lt;b&gt;")])
def test_subscripts_are_set_as_such_and_other_names_left_alone(text: str, expected: str) -> None:
    assert re.sub("<tspan [^>]*>", "<tspan>", svg.set_text(text)) == expected
    lows = re.findall("<tspan>([^<·']*)</tspan>", expected)
    assert re.findall("<sub>(.*?)</sub>", dot.set_text(text)) == lows


def test_the_picture_has_a_ground_of_its_own_under_all_of_it() -> None:
    """So that it can be read on a dark page."""
    tree = ET.fromstring(draw(Model(3).E).svg)
    assert {key: tree[0].get(key) for key in ("width", "height", "x", "y")} == {
        "width": tree.get("width"), "height": tree.get("height"), "x": None, "y": None}
    assert tree.get("viewBox") == f"0 0 {tree.get('width')} {tree.get('height')}"
    assert 'bgcolor="#ffffff"' in draw(Model(3).E).dot


def test_no_coordinate_is_minus_zero_whichever_came_first() -> None:
    svg.n.cache_clear()
    assert [svg.n(x) for x in (-0.0, 0.0, -0.04, 1.04, -1.0)] == ["0", "0", "0", "1", "-1"]


HOSTILE = ["h:1", "<b>bold</b>", 'a"b', "</script>", "a\\nb", "λ𝒘", "a&amp;b", "\x00\x1b", "\ud800", "-->", "]]>",
           "{x|y}", ""]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("stepped", [True, False])
def test_hostile_names_stay_text(name: str, stepped: bool) -> None:
    w, x = (Tensor([2.0], requires_grad=True, name=name + end) for end in "wx")
    if stepped:
        with scope(t=1):
            y = (w * x).named(name)
        with scope(t=2):
            y = (w * y).named(name)
    else:
        y = (w * x).named(name)
    drawn = draw(y)
    assert "<b>bold" not in drawn.dot and "</script>" not in drawn.dot
    assert not re.search(r"(^| )h:1", re.sub("<table.*?</table>|\"[^\"]*\"", "", drawn.dot))
    drawn.dot.encode()
    if stepped:
        text = "".join(ET.fromstring(drawn.svg.encode()).itertext())
        if name.isprintable() and name.isascii():
            assert name in text
    if shutil.which("neato"):
        ET.fromstring(render.graphviz(drawn.dot, "neato" if stepped else "dot", "svg")[0])


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("detail", ["ops", "cells", "folded"])
def test_two_identical_programs_give_the_same_bytes(name: str, detail: str) -> None:
    one, two = GRAPHS[name](9), GRAPHS[name](9)
    first, second = (draw(root, recording=record(root), detail=detail) for root in (one, two))  # type: ignore[arg-type]
    assert first.dot == second.dot and first.svg == second.svg


@pytest.mark.parametrize("name", GRAPHS)
def test_the_svg_is_valid_and_needs_nothing_else(name: str) -> None:
    root = GRAPHS[name](4)
    svg = draw(root, recording=record(root)).svg
    tree = ET.fromstring(svg)
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert "href" not in svg and "url(" not in svg and svg.count("http") == 1  # the name of the SVG format itself
    space = "{http://www.w3.org/2000/svg}"
    assert tree[0].tag == f"{space}rect" and tree[0].get("fill") == "#ffffff"
    tips = "".join(title.text or "" for title in tree.iter(f"{space}title"))
    assert "contribution of norm" in tips and "shape (" in tips and "t=4" in tips


def test_dot_ids_are_opaque_and_everything_has_an_id() -> None:
    text = draw(Model(3).E).dot
    statements = [line for line in text.splitlines() if re.match(r"  (?!graph|node|edge)", line)]
    assert len(statements) > 50 and all(re.match(r'  [\w]+( -> [\w]+)? \[id="', line) for line in statements)
    assert not re.search(r"shape=M?record|[ \[]size=", text)


def golden(name: str) -> str:
    """The DOT text of a small model whose numbers are the same everywhere."""
    if name == "expression.dot":
        a, b = (Tensor(v, requires_grad=True, name=n) for n, v in (("a", [1.0, 2.0]), ("b", [0.5, -0.5])))
        y = ((a * a + b) * functional.tanh(b)).sum().named("y")
        return draw(y, recording=record(y)).dot
    rng = np.random.default_rng(0)
    cell, head = nn.RNNCell(1, 2, rng=rng), nn.Linear(2, 2, rng=rng)
    for parameter in (*cell.parameters(), *head.parameters()):
        parameter.data = np.arange(1, parameter.size + 1).reshape(parameter.shape) / 8
    hs, _ = nn.unroll(cell, np.array([[[1.0]], [[-0.5]]]))
    losses = []
    for t, h in enumerate(hs, 1):
        with scope(t=t):
            losses.append(functional.cross_entropy(head(h), [t % 2], "sum").named("E"))
    E = functional.stack(losses).sum().named("E")
    return draw(E, recording=record(E)).dot


@pytest.mark.parametrize("name", ["rnn_T2.dot", "expression.dot"])
def test_the_dot_text_is_the_reviewed_one(name: str) -> None:
    assert golden(name) == (GOLDEN / name).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------- speed
def seconds(work: Callable[[], object]) -> float:
    """Processor time of this process and of those it starts, the least of three."""
    found = []
    for _ in range(3):
        before = os.times()
        work()
        found.append(sum(os.times()[:4]) - sum(before[:4]))
    return min(found)


def test_a_thousand_steps_are_drawn_in_a_second_and_folded_in_a_fifth_of_one() -> None:
    model = Model(1000)
    recording = record(model.E)
    assert seconds(lambda: draw(model.E, recording=recording, detail="ops").svg) < 1.0
    assert seconds(lambda: draw(model.E, recording=recording).svg) < 0.2


@needs_graphviz
def test_graphviz_draws_twenty_steps_of_an_lstm_within_three_tenths_of_a_second(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    outputs, _ = nn.unroll(nn.LSTMCell(4, 3, rng=rng), rng.normal(size=(20, 2, 4)))
    root = functional.stack(outputs).sum().named("E")
    recording = record(root)
    assert seconds(lambda: draw(root, recording=recording, detail="ops").render(tmp_path / "lstm.svg")) < 0.3


def test_drawing_leaves_the_cycle_collector_as_it_was() -> None:
    E = Model(2).E
    for switch in (gc.disable, gc.enable):
        switch()
        was_on = gc.isenabled()
        draw(E)
        with pytest.raises(ValueError, match="no path"):
            draw(E, term=Term(E, E.inputs[0], 9))
        assert gc.isenabled() == was_on


# --------------------------------------------------------------------------------------------------------- renderers
@pytest.fixture
def no_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


def test_without_graphviz_the_built_in_writer_draws_unrolled_graphs(no_graphviz: None, tmp_path: Path) -> None:
    drawn = draw(Model(3).E)
    path = drawn.render(tmp_path / "E.svg")
    assert drawn.rendered_by == "built-in" and path.read_text(encoding="utf-8") == drawn.svg
    with pytest.raises(NoRendererError, match="Graphviz"):
        drawn.render(tmp_path / "E.png")
    assert not (tmp_path / "E.png").exists()


def test_without_graphviz_other_graphs_give_one_sentence_and_their_dot(no_graphviz: None, tmp_path: Path) -> None:
    x = Tensor([1.0], requires_grad=True, name="x")
    drawn = draw(x * x)
    with pytest.raises(RuntimeError) as caught:
        _ = drawn.svg
    sentence = str(caught.value)
    assert "'dot'" in sentence and "install Graphviz" in sentence and ". " not in sentence
    assert drawn._repr_svg_() is None and "digraph" in drawn._repr_html_() and "install" in drawn._repr_html_()
    drawn.render(tmp_path / "x.dot")
    assert (tmp_path / "x.dot").read_text(encoding="utf-8") == drawn.dot


@needs_graphviz
@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
@pytest.mark.parametrize("stepped", [True, False])
def test_graphviz_draws_both_kinds_without_a_complaint(form: str, stepped: bool, tmp_path: Path) -> None:
    x = Tensor([1.0], requires_grad=True, name="x")
    drawn = draw(Model(3).E) if stepped else draw(x * x)
    path = drawn.render(tmp_path / f"picture.{form}")
    assert drawn.rendered_by == ("neato" if stepped else "dot")
    assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF", b"<?xm")
    program = ["neato", "-n2"] if stepped else ["dot"]
    assert subprocess.run([*program, "-Tsvg"], input=drawn.dot.encode(), capture_output=True, check=True).stderr == b""


@needs_graphviz
def test_a_layout_that_takes_too_long_is_stopped_and_says_so() -> None:
    with pytest.raises(NoRendererError, match=r"after 0\.001 seconds"):
        render.graphviz("digraph {" + "".join(f"a{i} -> a{i * 7 % 500};" for i in range(500)) + "}", "dot", "svg", 1e-3)


def test_a_name_without_a_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suffix"):
        draw(Model(2).E).render(tmp_path / "picture")


def test_what_cannot_be_drawn_is_refused_with_what_was_expected() -> None:
    with pytest.raises(TypeError, match="Tensor"):
        draw(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'folded'"):
        draw(Model(2).E, detail="fine")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- notebook
def in_notebook(x: Any) -> str:
    text = x._repr_html_()
    assert isinstance(text, str)
    return text


def test_a_tensor_shows_its_graph_and_a_leaf_its_numbers() -> None:
    model = Model(3)
    assert in_notebook(model.E).startswith("<svg")
    assert in_notebook(model.cell.W).startswith("<pre>Tensor(")


def test_a_huge_graph_shows_itself_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST", 5)
    assert in_notebook(Model(3).E).startswith("<pre>")


@pytest.mark.parametrize("broken", ["order", "draw", "Graph", "lay_out"])
def test_a_notebook_never_sees_an_error(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken on purpose")

    E = Model(2).E
    monkeypatch.setattr(notebook if broken == "order" else drawing, broken, fail)
    assert in_notebook(E).startswith("<pre>Tensor(")
    monkeypatch.setattr(Tensor, "__repr__", fail)
    assert in_notebook(E).startswith("<pre>&lt;tinygrad_rnn")


def test_a_drawing_never_raises_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw(Model(2).E)
    monkeypatch.setattr(Drawing, "svg", property(lambda self: 1 / 0))
    assert drawn._repr_svg_() is None and "digraph" in drawn._repr_html_()
    monkeypatch.setattr(Drawing, "dot", property(lambda self: 1 / 0))
    assert drawn._repr_html_().startswith("<pre>")


def test_a_recurrence_of_one_number_is_drawn() -> None:
    w, s = Tensor(0.2, requires_grad=True, name="w"), Tensor(0.9, name="s")
    for t in (1, 2, 3):
        with scope(t=t):
            s = (w * s).named("s")
    svg = draw(s, recording=record(s)).svg
    assert "s₃" in svg and "w.grad = Σ 3 uses" in svg


def test_without_graphviz_on_the_path_pygraphviz_draws_at_the_same_positions(tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygraphviz", reason="the optional extra graphviz is not installed")
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    for t in (1, 2, 3):
        with scope(t=t):
            x = (x * x).named("h")
    monkeypatch.setenv("PATH", str(tmp_path))
    drawing = draw(x)
    drawing.render(tmp_path / "chain.svg")
    assert drawing.rendered_by == "pygraphviz"
    width = float(ET.parse(tmp_path / "chain.svg").getroot().attrib["width"].removesuffix("pt"))
    assert drawing.picture is not None and width == pytest.approx(drawing.picture.width, rel=0.1)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for file in ("rnn_T2.dot", "expression.dot"):
        (GOLDEN / file).write_text(golden(file), encoding="utf-8", newline="\n")
