"""The data of the explorer page: every number against what the engine says by another road, for every model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import Tensor, bptt, models, nn, ops, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt.jacobian import parts_of, spectral_norm
from tinygrad_rnn.cli import main
from tinygrad_rnn.language import CharRNN
from tinygrad_rnn.recording import record
from tinygrad_rnn.steps import lane_of, recurrence_edges, step_of
from tinygrad_rnn.sweep import order
from tinygrad_rnn.text import Vocabulary
from viz import Explorer, explore

B, D, H, V = 2, 3, 4, 5
Losses = list[Tensor]


def tagger(kind: Any, T: int = 4, **settings: Any) -> Losses:
    rng = np.random.default_rng(3)
    model = models.ManyToMany(kind(D, H, rng=rng, **settings), V, rng=rng)
    return model.losses(rng.normal(size=(T, B, D)), rng.integers(0, V, (T, B)))


def rnn_of_a_state(T: int = 4) -> Losses:
    """h_0 ≠ 0, asks for a gradient."""
    rng = np.random.default_rng(4)
    cell, head = nn.RNNCell(D, H, rng=rng), nn.Linear(H, V, rng=rng)
    hs, _ = nn.unroll(cell, rng.normal(size=(T, B, D)), Tensor(rng.normal(size=(B, H)), requires_grad=True, name="h_0"))
    losses = []
    for t, h in enumerate(hs, 1):
        with scope(t=t):
            losses.append(F.cross_entropy(head(h), rng.integers(0, V, B), "sum").named("E"))
    return losses


def encoder_decoder() -> Losses:
    rng = np.random.default_rng(5)
    model = models.EncoderDecoder(nn.GRU(D, H, rng=rng), nn.GRU(V, H, rng=rng), start=0, end=1, rng=rng)
    return model.losses(rng.normal(size=(3, B, D)), rng.integers(2, V, (4, B)))


def one_to_many() -> Losses:
    rng = np.random.default_rng(6)
    model = models.OneToMany(nn.LSTM(V, H, rng=rng), D, start=0, end=1, rng=rng)
    return model.losses(rng.normal(size=(B, D)), rng.integers(2, V, (3, B)))


def by_hand() -> Losses:
    """w s_{t-1} (26), whose states are no rows of a batch; s_0 asks for a gradient."""
    w, losses = Tensor([0.2], requires_grad=True, name="w"), []
    with scope(t=0):
        s = Tensor([0.9], requires_grad=True, name="s_0")
    for t in range(1, 4):
        with scope(t=t):
            s = (w * s).named("s")
            losses.append(s.sum().named("E"))
    return losses[-1:]


def made_before_the_loop() -> Losses:
    """W is a product of two matrices, made once."""
    rng = np.random.default_rng(7)
    P, Q = (Tensor(rng.normal(size=(H, H)) / 2, requires_grad=True, name=name) for name in "PQ")
    W, h, losses = (P @ Q).named("W"), Tensor(rng.normal(size=(B, H)), name="h_0"), []
    for t in range(1, 5):
        with scope(t=t):
            h = F.tanh(h @ W + rng.normal(size=(B, H))).named("h")
            losses.append((h * h).sum().named("E"))
    return losses


def two_steps_back() -> Losses:
    """h_t = tanh(h_{t-1} W + h_{t-2} P): a state that jumps over a step."""
    rng = np.random.default_rng(9)
    W, P = (Tensor(rng.normal(size=(H, H)) / 2, requires_grad=True, name=name) for name in "WP")
    before = h = Tensor(rng.normal(size=(B, H)), name="h_0")
    losses = []
    for t in range(1, 6):
        with scope(t=t):
            before, h = h, F.tanh(h @ W + before @ P + rng.normal(size=(B, H))).named("h")
            losses.append((h * h).sum().named("E"))
    return losses


def pooled() -> Losses:
    """E of the sum of all states, made outside the steps: from each state a way leads round any cut, and one across."""
    rng = np.random.default_rng(10)
    W, total = Tensor(rng.normal(size=(H, H)) / 2, requires_grad=True, name="W"), 0.0
    h = Tensor(rng.normal(size=(1, H)), name="h_0")
    for t in range(1, 5):
        with scope(t=t):
            h = F.tanh(h @ W + rng.normal(size=(1, H))).named("h")
        total = h + total
    return [(total * total).sum().named("E")]


def ragged() -> Losses:
    rng = np.random.default_rng(8)
    model = models.ManyToMany(nn.GRU(D, H, rng=rng, bidirectional=True), V, rng=rng)
    return model.losses(rng.normal(size=(4, B, D)), rng.integers(0, V, (4, B)), lengths=[4, 2])


RUNS: dict[str, Callable[[], Losses]] = {
    "rnn": lambda: tagger(nn.RNN), "rnn of a state": rnn_of_a_state, "lstm": lambda: tagger(nn.LSTM),
    "lstm with peepholes": lambda: tagger(nn.LSTM, peepholes=True), "gru": lambda: tagger(nn.GRU),
    "gru, reset before": lambda: tagger(nn.GRU, reset="before"),
    "gru of S2": lambda: tagger(nn.GRU, reset=None, update="u"), "birnn": lambda: tagger(nn.RNN, bidirectional=True),
    "stack": lambda: tagger(nn.RNN, num_layers=2),
    "bidirectional stack": lambda: tagger(nn.GRU, T=3, num_layers=2, bidirectional=True),
    "encoder-decoder": encoder_decoder, "one to many": one_to_many, "by hand": by_hand,
    "made before the loop": made_before_the_loop, "two steps back": two_steps_back, "pooled": pooled,
    "ragged": ragged}
every_run = pytest.mark.parametrize("name", RUNS)


class Page:
    """A page and the run behind it."""

    def __init__(self, losses: Losses) -> None:
        self.losses, self.explorer = losses, explore(losses)
        self.data = self.explorer.data
        self.nodes = order(losses)
        leaves = {x for node in self.nodes for x in node.inputs if x.op is None}
        self.tensors = sorted({*self.nodes, *leaves}, key=lambda x: x.index)
        if len(losses) > 1:  # the page adds up E, with results of its own
            self.tensors += [None] * (len(self.data["nodes"]) - len(self.tensors))  # type: ignore[list-item]

    def array(self, place: int) -> Any:
        shape, values, *_ = self.data["arrays"][place]
        return np.reshape(np.array(values, float), shape)

    def parameters(self) -> list[tuple[Tensor, dict[str, Any]]]:
        return [(self.tensors[p["node"]], p) for p in self.data["parameters"]]


made: dict[str, Page] = {}


@pytest.fixture
def page(name: str) -> Page:
    return made.setdefault(name, Page(RUNS[name]()))


def close(a: Any, b: Any, digits: float = 1e-5) -> None:
    b = np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=digits, atol=digits * 1e-3 * float(np.abs(b).max(initial=0.0)) + 1e-300)


# -------------------------------------------------------------------------------------------------- numbers of the run
@every_run
def test_gradients_and_ledgers_are_what_backward_leaves_in_grad(page: Page) -> None:
    for W, _ in page.parameters():
        W.grad = None
    for E in page.losses:
        E.backward()
    assert {W for W, _ in page.parameters()} == {x for x in page.tensors if x is not None and x.op is None
                                                 and x.requires_grad and x.grad is not None}
    for W, p in page.parameters():
        entry = tuple(p["entry"])
        assert W.grad is not None and abs(W.grad[entry]) == np.abs(W.grad).max()
        close(page.array(p["total"]), W.grad)
        close(sum(use[2] for use in p["uses"]), W.grad[entry], 1e-8)
        close([p["sums"][0], p["sums"][1] + p["sums"][2]], [W.grad[entry]] * 2, 1e-8)
        close(p["norms"][0], np.linalg.norm(W.grad), 1e-8)


@every_run
def test_explicit_and_implicit_parts_are_those_of_explain(page: Page) -> None:
    for W, p in page.parameters():
        told = [bptt.explain(E, W) for E in page.losses if reaches(E, W)]
        explicit, implicit = (sum(getattr(e, part) for e in told) for part in ("explicit", "implicit"))
        size = float(np.abs(explicit).max() + np.abs(implicit).max())
        np.testing.assert_allclose(page.array(p["explicit"]), explicit, rtol=1e-5, atol=1e-9 * size)
        np.testing.assert_allclose(page.array(p["implicit"]), implicit, rtol=1e-5, atol=1e-9 * size)
        for k, _, entry, own, norm in p["uses"]:
            uses = [(e.terms[k], e.explicit_terms.get(k, np.zeros(W.shape))) for e in told if k in e.terms]
            term, alone = (sum((pair[i] for pair in uses), np.zeros(W.shape)) for i in (0, 1))
            np.testing.assert_allclose([entry, own, norm], [term[tuple(p["entry"])], alone[tuple(p["entry"])],
                                                            np.linalg.norm(term)], rtol=1e-8, atol=1e-12 * size)


@every_run
def test_the_map_is_A_and_its_kinds_are_true(page: Page) -> None:
    for W, p in page.parameters():
        reached = [E for E in page.losses if reaches(E, W)]
        a = bptt.terms(reached, W)
        assert [use[0] for use in p["uses"]] == list(a.steps)
        rows = [page.losses.index(E) for E in reached]
        A, entries = (filled(p[key], len(a.steps)) for key in ("A", "entries"))
        close(A[rows], a.norms, 1e-4)
        close(entries[rows], a.arrays[(slice(None), slice(None), *p["entry"])], 1e-6)
        close(np.array(p["rows"])[rows], np.sqrt((a.rows**2).reshape(len(rows), -1).sum(1)))
        for row, E in zip(rows, reached):
            e = bptt.explain(E, W)
            for k, kind in zip(a.steps, p["kinds"][row]):
                term, own = e.terms.get(k, np.zeros(1)), e.explicit_terms.get(k, np.zeros(1))
                expected = "." if not term.any() else "i" if not own.any() else \
                    "e" if np.allclose(term, own, rtol=1e-9, atol=0) else "b"
                assert kind == expected, (p["label"], E, k)


@every_run
def test_every_tick_is_an_edge_of_the_sweep_and_every_sum_adds_up(page: Page) -> None:
    gradients, contributions = summed_recordings(page.losses)
    totals, largest = dict[int, Any](), dict[int, float]()
    ran = [i for i, node in enumerate(page.data["nodes"]) if node[2]]
    ticks = page.data["backward"]
    assert [tick[0] for tick in ticks] == [i for i in reversed(ran) if i in {t[0] for t in ticks}]
    for node, _, incoming, edges in ticks:
        x = page.tensors[node]
        if node == page.data["root"]:
            assert page.array(incoming) == 1
        elif x is not None:
            close(page.array(incoming), gradients[x])
        for position, _, contribution, after, *_ in edges:
            source = page.data["nodes"][node][7][position]
            d = page.array(contribution)
            totals[source] = totals[source] + d if source in totals else d
            largest[source] = max(largest.get(source, 0.0), float(np.abs(d).max()))
            np.testing.assert_allclose(page.array(contribution if after is None else after), totals[source],
                                       rtol=1e-5, atol=1e-5 * largest[source])
            if x is not None:
                close(d, contributions[x, position])
    for W, p in page.parameters():
        np.testing.assert_allclose(totals[p["node"]], gradients[W], rtol=1e-5, atol=1e-5 * largest[p["node"]])


@every_run
def test_values_shapes_and_equations_are_those_of_the_nodes(page: Page) -> None:
    for x, (label, _, op, equation, _, _, value, inputs, *_) in zip(page.tensors, page.data["nodes"]):
        if x is not None:
            close(page.array(value), x.data)
            assert op == (x.op.name if x.op else "") and (label in equation if op else not equation)
            assert [page.tensors[i] for i in inputs] == list(x.inputs)


@every_run
def test_local_derivatives_that_are_shown_turn_the_incoming_gradient_into_the_contribution(page: Page) -> None:
    shown = 0
    for _, _, incoming, edges in page.data["backward"]:
        for _, _, contribution, _, _, _, jacobian, _ in edges:
            if jacobian is not None:
                shown += 1
                d = page.array(contribution)
                np.testing.assert_allclose(page.array(incoming).ravel() @ page.array(jacobian), d.ravel(), rtol=1e-3,
                                           atol=1e-5 * float(np.abs(d).max(initial=0)) + 1e-12)
    assert shown


def crossing(losses: Losses, cut: dict[str, Any]) -> list[tuple[Tensor, int]]:
    """The recurrence edges between a step up to s and one after it, in either direction, in the sequence."""
    return [(node, i) for node, i in recurrence_edges(order(losses))
            if str(node.scope.get("sequence") or "") == cut["sequence"] and node.inputs[i].requires_grad
            and (step_of(node) <= cut["after"]) != (step_of(node.inputs[i]) <= cut["after"])]


def detach(edges: list[tuple[Tensor, int]]) -> None:
    """Put a constant in the place of each state, as `state.detach()` in the program would have."""
    for node, i in edges:
        node.inputs = (*node.inputs[:i], node.inputs[i].detach(), *node.inputs[i + 1:])


@every_run
def test_cut_states_give_what_a_graph_with_really_detached_states_gives(name: str, page: Page) -> None:
    for cut in page.data["cuts"]:
        again = Page.__new__(Page)
        again.losses = RUNS[name]()
        numbered = sorted({x for node in order(again.losses) for x in (node, *node.inputs)}, key=lambda x: x.index)
        edges = crossing(again.losses, cut)
        assert sorted([numbered.index(node), i] for node, i in edges) == cut["edges"]
        detach(edges)
        gradients, _ = summed_recordings(again.losses)
        for (total, entry, size, cells), p in zip(cut["parameters"], page.data["parameters"]):
            W = numbered[p["node"]]
            grad = gradients.get(W, np.zeros(W.shape))
            close(page.array(total), grad)
            close([entry, size], [grad[tuple(p["entry"])], np.linalg.norm(grad)], 1e-8)
            A, entries = cut_map(page, p, cut, cells)
            for row, E in enumerate(again.losses):
                found = bptt.explain(E, W).terms if reaches(E, W) else {}
                terms = [found.get(use[0], np.zeros(W.shape)) for use in p["uses"]]
                np.testing.assert_allclose(A[row], [np.linalg.norm(term) for term in terms], rtol=1e-4, atol=1e-14)
                np.testing.assert_allclose(entries[row], [term[tuple(p["entry"])] for term in terms], rtol=1e-5,
                                           atol=1e-6 * abs(entry) + 1e-14)
        whole = summed_recordings(page.losses)[0]
        for node, size in cut["changed"].items():
            x = numbered[int(node)]
            close(size, np.linalg.norm(gradients.get(x, 0)), 1e-3)
        for i, x in enumerate(page.tensors):
            if x is not None and x.op is not None and str(i) not in cut["changed"] and x in whole:
                close(np.linalg.norm(gradients[numbered[i]]), np.linalg.norm(whole[x]), 1e-9)


def cut_map(page: Page, p: dict[str, Any], cut: dict[str, Any], cells: Any) -> tuple[Any, Any]:
    """Norms and entries under a cut as the page reads them: cells that differ, or without them, the block is 0."""
    A, entries = (filled(p[key], len(p["uses"])) for key in ("A", "entries"))
    if cells is not None:
        for row, column, size, entry in cells:
            A[row, column], entries[row, column] = size, entry
        return A, entries

    def inside(place: int) -> bool:
        return str(page.tensors[place].scope.get("sequence") or "") == cut["sequence"]

    for row, (loss, _, t) in enumerate(page.data["losses"]):
        for column, (k, edges, *_) in enumerate(p["uses"]):
            if t is not None and inside(loss) and inside(edges[0][0]) and (t > cut["after"]) != (k > cut["after"]):
                A[row, column] = entries[row, column] = 0
    return A, entries


@pytest.mark.parametrize("name", ["rnn of a state", "lstm", "birnn", "stack"])
def test_where_no_way_leads_round_a_cut_the_map_loses_exactly_its_block(page: Page) -> None:
    assert all(cells is None for cut in page.data["cuts"] for *_, cells in cut["parameters"])


@every_run
def test_there_is_a_cut_for_every_pair_of_steps_between_which_a_gradient_goes(page: Page) -> None:
    steps = [(str(node.scope.get("sequence") or ""), sorted([step_of(node), step_of(node.inputs[i])]))
             for node, i in recurrence_edges(order(page.losses)) if node.inputs[i].requires_grad]
    places = {(sequence, s) for sequence, (start, end) in steps for s in range(start, end)}
    assert [(cut["sequence"], cut["after"]) for cut in page.data["cuts"]] == sorted(places)


@every_run
def test_state_jacobians_and_their_losses_are_those_of_the_engine(page: Page) -> None:
    E = F.stack(page.losses).sum() if len(page.losses) > 1 else page.losses[0]
    lanes = {lane_of(node) for node, _ in recurrence_edges(order([E]))}
    assert len(page.data["lanes"]) == len(lanes)
    for lane in page.data["lanes"]:
        where = lane_of(page.tensors[lane["states"][-1][0]])
        states = bptt.states(E, **dict(zip(("sequence", "layer", "direction"), where)))
        assert lane["steps"] == list(states)
        run = list(states.values())
        assert [[page.tensors[x] for x in each] for each in lane["states"]] == [list(parts_of(s)) for s in run]
        assert (lane["J"] is None) == (parts_of(run[0])[0].ndim != 2)
        for n, row in enumerate(lane["J"] or ()):
            for m, size in enumerate(row):
                close(size, spectral_norm(bptt.state_jacobian(run[n], run[m])).max(), 1e-4)
        for r, loss in enumerate(page.losses):
            alone = record(loss).gradients
            for j, state in enumerate(run):
                for x, place in zip(parts_of(state), lane["deltas"][r * len(run) + j]):
                    if x.op is not None and place is not None:
                        expected = alone.get(x, np.zeros(x.shape))
                        _, values, *norm = page.data["arrays"][place]
                        close(np.linalg.norm(values) if values else norm[0], np.linalg.norm(expected), 1e-5)


# ------------------------------------------------------------------------------------------------------------- the page
def test_a_pass_that_is_wrong_by_a_millionth_is_seen_in_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    right = explore(rnn_of_a_state()).data["parameters"]
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: (g - g * y * y) * (1 + 1e-6),))
    wrong = explore(rnn_of_a_state()).data["parameters"]
    assert all(a["sums"] != b["sums"] for a, b in zip(right, wrong) if a["label"] in "UWb")


@cache
def page_of_text(T: int, cell: str = "rnn", hidden: int = 4) -> Explorer:
    text = ("the state of a step is what it read and what came before, " * 3)[: T + 1]
    model = CharRNN(Vocabulary.of(text), hidden, cell, rng=np.random.default_rng(0))
    ids = model.vocabulary.encode(text)
    return explore(model.losses(ids[:-1, None], ids[1:, None]), model=model, title=text)


def test_results_are_told_the_line_of_the_cell_that_made_them() -> None:
    lines = (Path(nn.__file__).parent / "cells.py").read_text(encoding="utf-8").splitlines()
    told = {}
    for label, _, op, _, _, source, *_ in page_of_text(3, "lstm").data["nodes"]:
        if source and op:
            file, _, number = source.partition(":")
            assert file == "nn/cells.py"
            told[label] = lines[int(number) - 1].strip()
    assert told["z_f₂"] == "z_f = affine(x, self.U_f, h, self.W_f, self.b_f)" == told["W_f·h₁"]
    assert told["c₂"].startswith("c = (f * c + i * candidate)") and told["f₂"] == told["i₂"]
    assert not any(label.startswith("q") for label in told)
    gru = {node[0]: node[5] for node in page_of_text(3, "gru-update").data["nodes"]}
    assert lines[int(gru["h₂"].partition(":")[2]) - 1].strip() == 'return (u * n + (1 - u) * h).named("h")'


@pytest.mark.parametrize(("T", "most"), [(4, 100_000), (20, 260_000), (100, 1_700_000)])
def test_a_page_is_no_larger_than_it_has_to_be(T: int, most: int) -> None:
    assert len(page_of_text(T).html.encode()) < most


def test_the_same_run_gives_the_same_bytes() -> None:
    assert page_of_text(5, "lstm").html == page_of_text.__wrapped__(5, "lstm").html


def hostile() -> Explorer:
    """Names that would be markup, script or template if anything took them for more than text."""
    name = '</script><img src=x onerror="document.title=1">{{js}} & \u2028\ud800漢"\''
    W, s, losses = Tensor([[0.5]], requires_grad=True, name=name), Tensor([[0.9]], name="s_0"), []
    for t in (1, 2, 3):
        with scope(t=t, sequence=name):
            s = F.tanh(s @ W).named(name)
            losses.append(s.sum().named("E"))
    return explore(losses, title=name)


def test_hostile_names_stay_text() -> None:
    html = hostile().html
    assert html.count("<script") == 2 == html.count("</script>") and "<img" not in html
    html.encode()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert data and "<" not in data[1] and "\u2028" not in data[1]
    assert any("</script><img" in node[0] for node in json.loads(data[1])["nodes"])


def test_what_is_not_finite_is_text_in_valid_json() -> None:
    W, s = Tensor([[800.0]], requires_grad=True, name="W"), Tensor([[1.0]], name="s_0")
    with scope(t=1), np.errstate(over="ignore", invalid="ignore"):
        E = (F.exp(s @ W) - F.exp(s @ W)).sum().named("E")
    with np.errstate(all="ignore"):
        explorer = explore(E)
    text = re.search(r'id="data">(.*?)</script>', explorer.html, re.S)
    assert text and json.loads(text[1], parse_constant=lambda word: pytest.fail(word))
    assert ["inf"] in [values for _, values, *_ in explorer.data["arrays"]]


def test_a_run_in_float32_has_the_same_kinds_and_cuts() -> None:
    def losses(dtype: Any) -> Losses:
        rng = np.random.default_rng(2)
        model = models.ManyToMany(nn.RNN(D, H, rng=rng, dtype=dtype), V, rng=rng)
        return model.losses(rng.normal(size=(4, B, D)).astype(dtype), rng.integers(0, V, (4, B)))

    single, double = (explore(losses(dtype)).data for dtype in (np.float32, np.float64))
    assert [p["kinds"] for p in single["parameters"]] == [p["kinds"] for p in double["parameters"]]
    assert all(cells is None for cut in single["cuts"] for *_, cells in cut["parameters"])


def test_nothing_is_loaded_from_anywhere() -> None:
    loading = r"""(src|href)=["'](?!data:,)|url\(|@import|fetch\(|import\(|https?://(?!www\.w3\.org)"""
    assert not re.search(loading, page_of_text(3).html)


def test_explore_refuses_what_it_cannot_show() -> None:
    W = Tensor([[0.5]], requires_grad=True, name="W")
    with scope(t=1):
        E = (Tensor([[1.0]]) @ W).sum()
    with pytest.raises(TypeError, match="float"):
        explore(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="str"):
        explore([E, "E"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least one"):
        explore([])
    with pytest.raises(ValueError, match="of 2 losses 1 are different"):
        explore([E, E])
    with pytest.raises(ValueError, match="scalar"):
        explore(Tensor([[1.0]]) @ W)
    with pytest.raises(ValueError, match="depend"):
        explore(E, Tensor(1.0, requires_grad=True))
    losses = made_before_the_loop()
    with pytest.raises(ValueError, match="expected a leaf as the parameter, got W"):
        explore(losses, next(x for x in order(losses) if x.name == "W"))
    with pytest.raises(ValueError, match="nothing in this graph has a step"):
        explore((Tensor([[1.0]]) @ W).sum())
    with pytest.raises(ValueError, match="nothing that requires"):
        explore(Tensor(1.0))
    with pytest.raises(ValueError, match=r"101 steps.*100 steps"):
        page_of_text(101)


def test_the_parameter_asked_for_is_shown_first_else_one_that_reads_a_state() -> None:
    losses = tagger(nn.LSTM)
    leaves = {x.name: x for node in order(losses) for x in node.inputs if x.requires_grad and x.op is None}
    for asked, first in (("b_o", "b_o"), (None, "W_f")):
        data = explore(losses, leaves[asked] if asked else None).data
        assert data["parameters"][data["chosen"]]["label"] == first


def test_a_page_is_written_and_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    explorer = page_of_text(3)
    assert explorer.write(tmp_path / "page.html").read_text(encoding="utf-8") == explorer.html
    assert explorer._repr_html_().startswith("<iframe srcdoc=") and "<script" not in explorer._repr_html_()


def test_the_verb_writes_names_and_proves_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    run = ["explore", "--cell", "lstm", "--text", "hello", "--parameter", "W_i", "--out", str(tmp_path)]
    assert main(run) == 0
    said = capsys.readouterr().out
    assert "dE/dW_i: proved" in said and f"{tmp_path / 'explorer.html'}" in said and "kB" in said
    assert main([*run, "--json", "--loss", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["proved"] and found["bytes"] == (tmp_path / "explorer.html").stat().st_size
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: (g - g * y * y) * (1 + 1e-6),))
    assert main(run) == 1


# -------------------------------------------------------------------------------------------------------------- helpers
def reaches(E: Tensor, W: Tensor) -> bool:
    return any(W in node.inputs for node in order([E]))


def filled(rows: list[list[Any]], columns: int) -> Any:
    """Rows whose zeros at the end were left out."""
    return np.array([row + [0] * (columns - len(row)) for row in rows], float)


def summed_recordings(losses: Losses) -> tuple[dict[Tensor, Any], dict[tuple[Tensor, int], Any]]:
    """dE/dx of every x, and what every edge contributes, of E = Σ E_t, from a recording of each loss alone."""
    gradients: dict[Tensor, Any] = {}
    contributions: dict[tuple[Tensor, int], Any] = {}
    for E in losses:
        recording = record(E)
        for x, g in recording.gradients.items():
            gradients[x] = gradients.get(x, 0) + g
        for edge, d in recording.contributions.items():
            contributions[edge] = contributions.get(edge, 0) + np.asarray(d)
    return gradients, contributions
