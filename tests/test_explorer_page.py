"""The explorer page in a real headless Chromium, with real clicks and keys: a reader sees what the engine says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from chromium import PROGRAM, Browser
from test_explorer import RUNS, hostile, page_of_text

from tinygrad_rnn import Tensor, bptt, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt.tables import kinds_of
from tinygrad_rnn.cli import main
from tinygrad_rnn.recording import record
from viz import explore

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
TROUBLE = "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Any]:
    """show(explorer) opens its page; at the end nothing may have been loaded, logged or thrown."""
    opened: list[Path] = []

    def do(explorer: Any) -> Browser:
        opened.append(explorer.write(tmp_path / "page.html"))
        browser.resize(1280, 900)
        browser.media(prefers_color_scheme="light")
        browser.open(opened[-1])
        return browser

    yield do
    browser("0")  # so that all events are here
    assert not [event for event in browser.events if event.get("method") in TROUBLE]
    asked = {event["params"]["request"]["url"] for event in browser.events
             if event.get("method") == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} <= {path.as_uri() for path in opened}


def rnn() -> tuple[Any, Tensor, list[Tensor]]:
    """h_0 ≠ 0, a batch of two; the page, its W, and E_1 … E_4."""
    losses = RUNS["rnn of a state"]()
    W = next(x for node in bptt_nodes(losses) for x in node.inputs if x.name == "W")
    return explore(losses, W), W, losses


def bptt_nodes(losses: list[Tensor]) -> list[Tensor]:
    return list(record(losses[-1]).gradients)


def gradient(W: Tensor, losses: list[Tensor]) -> Any:
    W.grad = None
    for E in losses:
        E.backward()
    return W.grad


def numbers(text: str) -> list[float]:
    return [float(n.replace("−", "-").replace(" ", "")) for n in re.findall(r"[+−] ?\d[\d.]*(?:e[−]?\d+)?", text)]


# --------------------------------------------------------------------------------------------------- walking through
def test_at_the_end_of_the_slider_W_grad_is_what_backward_says(show: Any) -> None:
    explorer, W, losses = rnn()
    page = show(explorer)
    assert "before the backward pass" in page.text("#total") and page("at.tick") == 0
    page.click("#end")
    grad = gradient(W, losses)
    entry = np.unravel_index(np.abs(grad).argmax(), grad.shape)
    said = page.text("#total")
    assert said.startswith(f"W.grad[{entry[0]},{entry[1]}] = ") and "so far" not in said
    assert abs(float(said.rsplit("= ", 1)[1].replace("−", "-"))) == pytest.approx(abs(grad[entry]), rel=1e-3)
    *terms, _ = said.split("= ", 1)[1].split(" = ")
    first = "" if terms[0].startswith("−") else "+"
    assert sum(numbers(first + terms[0])) == pytest.approx(grad[entry], abs=2e-3 * abs(grad[entry]))
    box = page.text(f"[data-node='{explorer.data['parameters'][explorer.data['chosen']]['node']}']")
    assert numbers(box.split("W.grad =")[1].replace("-", "−"))[:3] == pytest.approx(grad.flat[:3], abs=0.006)


def test_every_use_adds_its_own_term_visibly(show: Any) -> None:
    explorer, W, losses = rnn()
    page = show(explorer)
    p = explorer.data["parameters"][explorer.data["chosen"]]
    sums = 0.0
    for k in (4, 3, 2, 1):
        page.click("#use")
        term = sum(bptt.explain(E, W).terms.get(k, np.zeros(W.shape)) for E in losses)[tuple(p["entry"])]
        said = page.text("#said .edge.chosen .add")
        assert " += " in said and " → " in said
        before, added, after = (numbers(part if part[0] in "+−" else f"+{part}")[0]
                                for part in re.split(r" \+= | → ", said.split(": ", 1)[1]))
        assert (before, added, after) == pytest.approx((sums, term, sums + term), abs=2e-3 * abs(p["sums"][0]))
        sums += term
        assert page.text("#ledger tr.lit td").endswith({1: "⁽¹⁾", 2: "⁽²⁾", 3: "⁽³⁾", 4: "⁽⁴⁾"}[k])
        assert page("document.querySelectorAll('#graph .dot.lit').length") >= 1
        assert page.text("#graph .plus").startswith("+= ")
        assert page("document.querySelectorAll('#ledger tbody tr:not(.waiting)').length") == 5 - k


def test_the_slider_has_a_tick_for_every_operation_forward_and_back_in_reverse_order(show: Any) -> None:
    explorer = page_of_text(3)
    page = show(explorer)
    labels = [node[0] for node in explorer.data["nodes"] if node[2]]
    assert page("+document.getElementById('tick').max") == 2 * len(labels)
    seen = page("Array.from({length: LAST}, (_, i) => {go(i + 1); return $('where').textContent})")
    assert [text.split(": ", 1)[1] for text in seen] == labels + labels[::-1]


def test_a_forward_tick_lights_what_it_reads_and_hides_what_is_still_to_come(show: Any) -> None:
    page = show(page_of_text(3))
    for _ in range(3):
        page.click("#next")
    assert page("document.querySelectorAll('#graph .box.lit').length") == 3  # two inputs and the result
    assert page("document.querySelectorAll('#graph .box:not(.waiting):not(.bus) .value').length") >= 3
    assert page("[...document.querySelectorAll('#graph .box.waiting .value')].every(x => x.textContent === '?')")
    assert page("[...document.querySelectorAll('#graph .gradient')].every(x => /–|none|^$/.test(x.textContent))")
    there = page("document.getElementById('graph').textContent")
    page("go(LAST); go(3)")
    assert page("document.getElementById('graph').textContent") == there


def test_all_of_it_works_by_keyboard_alone(show: Any) -> None:
    page = show(page_of_text(3))
    for _ in range(4):
        page.key("ArrowRight")
    assert page("at.tick") == 4
    page.key("ArrowLeft")
    assert page("at.tick") == 3
    page.key("End")
    assert page("at.tick === LAST")
    stops = []
    for _ in range(40):
        page.key("Tab")
        stops.append(page("document.activeElement.id || document.activeElement.getAttribute('class')"
                          " || document.activeElement.tagName"))
        if str(stops[-1]).startswith("map"):
            break
    assert {"tick", "parameter", "explicit", "implicit", "cut", "predict"} <= set(stops)
    assert stops[-1].startswith("map")
    page.key("Enter")
    page.key("ArrowRight")
    page.key("ArrowRight")
    assert page.text("#cell .formula").startswith("∂E₃/∂W⁽³⁾ = ∂E₃/∂h₃ · ∂⁺h₃/∂W")
    page("document.querySelector('#graph [tabindex=\"0\"]').focus()")
    first = page.text("#inspected .big")
    page.key("ArrowRight")
    assert page.text("#inspected .big") != first
    assert page("document.activeElement.getAttribute('aria-label').length") > 2
    page("document.querySelector('#ledger tbody tr').focus()")
    page.key("ArrowDown")
    assert page("document.querySelectorAll('#graph .dot.path').length") == 1
    page.key("Enter")
    assert page("backward[at.tick - N - 1].node.label") == "Wh₁"


# ------------------------------------------------------------------------------------------------- maps and cuts
def test_a_click_on_a_cell_lights_its_path_and_writes_its_formula_with_numbers(show: Any) -> None:
    explorer, W, losses = rnn()
    page = show(explorer)
    page.click("#end")
    page.click("#terms [data-r='3'][data-c='1']")
    assert page.text("#cell .formula") == "∂E₄/∂W⁽²⁾ = ∂E₄/∂h₄ · ∂h₄/∂h₃ · ∂h₃/∂h₂ · ∂⁺h₂/∂W"
    recorded, e = record(losses[3]), bptt.explain(losses[3], W)
    states = bptt.states(losses[3])
    sizes = [np.linalg.norm(recorded.gradients[states[t]]) for t in (4, 3, 2)] + [np.linalg.norm(e.terms[2])]
    said = page("[...document.querySelectorAll('#cell tr')].map(row => row.lastChild.textContent)")
    assert [float(text.split()[-1].replace("−", "-")) for text in said] == pytest.approx(sizes, rel=6e-3)
    assert "implicit: its way back crosses 2 dashed lines" in page.text("#cell").replace("implicit :", "implicit:")
    lit = set(page("[...document.querySelectorAll('#graph .box.path .name')].map(x => x.firstChild.textContent)"))
    assert {"W", "Wh₁", "h₂", "Wh₂", "h₃", "h₄", "E₄"} <= lit and not lit & {"h₁", "E₃", "U"}
    page.click("#states [data-r='3'][data-c='1']")
    assert page.text("#cell .formula") == "∂h₄/∂h₁ = ∂h₄/∂h₃ · ∂h₃/∂h₂ · ∂h₂/∂h₁"


def test_cutting_a_state_takes_its_block_from_the_map_and_changes_the_gradient(show: Any) -> None:
    explorer, W, losses = rnn()
    page = show(explorer)
    page.click("#end")
    before, p = page.text("#total"), explorer.data["parameters"][explorer.data["chosen"]]
    place = next(i for i, cut in enumerate(explorer.data["cuts"]) if cut["after"] == 2)
    page.choose("#cut", place)
    total = sum(part for E in losses for k, part in bptt.explain(E, W).terms.items()
                if (losses.index(E) + 1 > 2) == (k > 2))[tuple(p["entry"])]
    assert page.text("#total") != before
    assert float(page.text("#total").rsplit("= ", 1)[1].replace("−", "-")) == pytest.approx(total, rel=2e-3)
    gone = page("[...document.querySelectorAll('#terms .gone')].map(x => [+x.dataset.r, +x.dataset.c])")
    assert sorted(gone) == [[2, 0], [2, 1], [3, 0], [3, 1]]
    assert page("document.querySelectorAll('#graph .mark').length") == 1
    page.click("#terms [data-r='3'][data-c='1']")
    assert "the cut lies across every way" in page.text("#cell")
    page.choose("#cut", "")
    assert page.text("#total") == before and page("document.querySelectorAll('.gone, .mark').length") == 0


def test_under_a_cut_all_numbers_are_the_cut_ones_and_a_cell_without_a_way_has_no_rows(show: Any) -> None:
    explorer, W, losses = rnn()
    page = show(explorer)
    page.click("#end")
    assert page("getComputedStyle($('cut-said')).display") == "none"
    place = next(i for i, cut in enumerate(explorer.data["cuts"]) if cut["after"] == 1)
    page.choose("#cut", place)
    kept = [[term for k, term in bptt.explain(E, W).terms.items() if (t > 1) == (k > 1)]
            for t, E in enumerate(losses, 1)]
    size = np.linalg.norm(sum(term for row in kept for term in row))
    sums = sum(np.linalg.norm(term) for row in kept for term in row)
    said = re.search(r"sum to ([\d.]+); the norm of their sum, ‖W.grad‖, is ([\d.]+)", page.text("#norms"))
    assert said and [float(x) for x in said.groups()] == pytest.approx([sums, size], rel=6e-3)
    assert f"‖W.grad‖ = {said[2]}" in page.text("#parts")
    assert "values stay, no gradient passes: detach, as in truncated BPTT" in page.text("#cut-said")
    assert page("getComputedStyle($('cut-said')).display") != "none"
    page.click("#terms [data-r='3'][data-c='0']")
    assert page.text("#cell .formula") == "∂E₄/∂W⁽¹⁾ = 0" and not page("document.querySelectorAll('#cell tr').length")
    page.click("#terms [data-r='3'][data-c='2']")
    row = re.search(r"all the terms of E₄ sum to ([\d.]+), with the state cut", page.text("#cell"))
    assert row and float(row[1]) == pytest.approx(sum(np.linalg.norm(term) for term in kept[3]), rel=6e-3)


def crossings(data: dict[str, Any], target: int, uses: list[list[int]]) -> dict[int, int]:
    """Of the ways from `target` back to `uses`: how many there are that cross 0, 1, 2, … recurrence edges."""
    nodes, ends = data["nodes"], {(node, i) for node, i in uses}

    @cache
    def count(node: int) -> Counter[int]:
        found: Counter[int] = Counter()
        for i, x in enumerate(nodes[node][7]):
            for crossed, n in (Counter({0: 1}) if (node, i) in ends else count(x)).items():
                found[crossed + (i in nodes[node][9])] += n
        return found

    return count(target)


@pytest.mark.parametrize("name", ["rnn", "stack", "birnn", "bidirectional stack", "two steps back", "pooled"])
def test_a_term_is_a_chain_only_where_all_ways_go_by_every_state_and_its_kind_is_by_path(name: str, show: Any) -> None:
    losses = RUNS[name]()
    explorer = explore(losses)
    page, data, chains = show(explorer), explorer.data, 0
    places = {node[0]: i for i, node in enumerate(data["nodes"])}
    page.click("#end")
    for place, p in enumerate(data["parameters"]):
        if not p["label"].startswith(("W", "P")):
            continue
        page.choose("#parameter", place)
        W = next(x for x in record(losses[-1]).gradients if x.op is None and x.name == p["label"])
        for r, c in page("[...document.querySelectorAll('#terms .cell')].map(x => [+x.dataset.r, +x.dataset.c])"):
            page(f"chooseTerm({r}, {c})")
            formula, said = page.text("#cell .formula"), page.text("#cell > p:last-child")
            k, uses, *_ = p["uses"][c]
            ways = crossings(data, data["losses"][r][0], uses)
            assert said.startswith({"explicit ∂⁺": "explicit ∂⁺:", "implicit": "implicit:",
                                    "both": "explicit ∂⁺ and implicit:"}[kinds_of(bptt.explain(losses[r], W))[k]])
            assert [int(n) for n in re.findall(r"(\d+)(?= to| dashed)", said)] == \
                [n for n in sorted({min(ways), max(ways)}) if max(ways)]
            factors = formula.split(" = ")[1].split(" · ")
            assert re.fullmatch(r"∂⁺\S+/∂\S+", factors[-1])
            states = [factor.split("/")[1][1:] for factor in factors[:-1]]
            product, at = 1, data["losses"][r][0]  # all ways go by each state, so their numbers multiply
            for state in states:
                product *= crossings_to(data, at, places[state])
                at = places[state]
            assert product * sum(crossings(data, at, uses).values()) == sum(ways.values()), formula
            if factors[0].startswith("∂") and len(states) > 1:
                chains += 1
                assert formula.count("·") == page.text("#cell table").count("· ∂")
            elif factors[0].startswith("d"):
                assert "·" not in page.text("#cell table").replace("‖·‖", "")
    assert (chains > 0) == (name != "pooled")  # whose loss reads every state


def crossings_to(data: dict[str, Any], start: int, end: int) -> int:
    """How many ways lead from one node back to another."""
    found = Counter({start: 1})
    for node in range(start, end, -1):
        for x in data["nodes"][node][7]:
            found[x] += found[node]
    return found[end]


@pytest.mark.parametrize(("options", "formula", "kind"), [
    (["--layers", "2"], "∂E₃/∂W_l0⁽²⁾ = dE₃/dh⁰₂ · ∂⁺h⁰₂/∂W_l0", "implicit: each of its ways back crosses 1 dashed"),
    (["--layers", "2", "--bidirectional", "--cell", "gru"],
     "∂E₃/∂W_r_l0⁽²⁾ = dE₃/dh⁰₂ · ∂⁺h⁰₂/∂W_r_l0", "implicit: its ways back cross from 1 to 3 dashed lines")])
def test_a_term_of_a_stack_is_what_explain_prints(options: list[str], formula: str, kind: str, show: Any,
                                                  tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", *options, "--text", "hello", "--out", str(tmp_path)]) == 0
    page = show(SimpleNamespace(write=lambda _: tmp_path / "explorer.html"))
    page.click("#end")
    page.click("#terms [data-r='2'][data-c='1']")
    assert page.text("#cell .formula") == formula and page.text("#cell > p:last-child").startswith(kind)
    capsys.readouterr()
    assert main(["explain", *options, "--text", "hello", "--loss", "3"]) == 0
    told = next(line for line in capsys.readouterr().out.splitlines() if "k = 2" in line)
    assert formula.split(" = ")[1].replace("h⁰", "h") in told and kind.split(":")[0] in told


def test_a_tick_names_layer_and_direction_only_where_the_run_has_several(show: Any) -> None:
    for name, told in (("rnn", {"t"}), ("stack", {"t", "layer"}), ("bidirectional stack", {"t", "layer", "direction"})):
        page = show(explore(RUNS[name]()))
        seen = page("Array.from({length: LAST}, (_, i) => {go(i + 1); return $('said').firstChild.textContent})")
        assert {key for text in seen for key in re.findall(r", (\w+)=", text)} == told


def test_the_total_is_shown_as_soon_as_all_uses_have_added(show: Any) -> None:
    explorer, W, losses = rnn()
    page = show(explorer)
    for k in (4, 3, 2, 1):
        assert page.text("#ledger tfoot td:nth-child(3)") == "–" and page.text("#parts") == "", k
        page.click("#use")
    assert page("at.tick < LAST")
    entry = tuple(explorer.data["parameters"][explorer.data["chosen"]]["entry"])
    assert numbers(page.text("#ledger tfoot td:nth-child(3)"))[0] == pytest.approx(gradient(W, losses)[entry], rel=1e-3)
    norms = np.linalg.norm(sum(bptt.explain(E, W).explicit for E in losses))
    said = re.search(r"‖explicit‖ ([\d.]+)", page.text("#parts"))
    assert said and float(said[1]) == pytest.approx(norms, rel=6e-3)


def test_it_is_said_what_is_summed_which_norms_and_how_entries_are_counted(show: Any) -> None:
    page = show(rnn()[0])
    page.click("#end")
    assert "E = E₁ + … + E₄" in page.text("#why") and "no state goes from one step to another" in page.text("#why")
    assert "10 cells, one for each loss and use" in page.text("#norms")
    assert "the 4 terms of this table, one for each use, all losses together" in page.text("#parts")
    assert "counted from 0" in page.text("#sum") and "(in, out)" in page.text("#sum")
    assert "crosses no dashed line" in page.text(".legend")


def test_a_path_that_is_lit_can_be_seen_and_a_button_fits_the_graph(show: Any) -> None:
    page = show(rnn()[0])
    page.resize(1400, 900)
    page.click("#end")
    inside = """(list => { const view = $("scroller").getBoundingClientRect();
      return list.every(x => { const r = x.getBoundingClientRect(); return r.left >= view.left - 1 &&
        r.right <= view.right + 1 && r.top >= view.top - 1 && r.bottom <= view.bottom + 1; }); })"""
    boxes = "[...document.querySelectorAll('#graph .box.path:not(.bus)')]"
    size = page("at.scale")
    assert size >= 0.9
    for r, c in ((3, 0), (3, 1), (0, 0), (2, 2)):
        page(f"$('scroller').scrollTo(0, 0); chooseTerm({r}, {c})")
        assert page(f"{boxes}.length") >= 8 and page(f"{inside}({boxes})"), (r, c)
    page("$('scroller').click()")
    assert page("at.scale") == size and not page("document.querySelectorAll('.path').length")
    assert not page(f"{inside}([graph])")
    page.click("#fit")
    assert page(f"{inside}([graph])") and page("at.scale") < size


def test_the_two_parts_can_be_told_apart_and_switched_off(show: Any) -> None:
    explorer, W, losses = rnn()
    page = show(explorer)
    page.click("#end")
    p = explorer.data["parameters"][explorer.data["chosen"]]
    entry = tuple(p["entry"])
    explicit = sum(bptt.explain(E, W).explicit for E in losses)[entry]
    implicit = sum(bptt.explain(E, W).implicit for E in losses)[entry]

    def total() -> float:
        return float(page.text("#total").rsplit("= ", 1)[1].split(",")[0].replace("−", "-"))

    page.click("#implicit")
    assert total() == pytest.approx(explicit, rel=2e-3) and "explicit part alone" in page.text("#total")
    assert page("document.querySelectorAll('#terms .cell.i.off').length") == 6
    page.click("#implicit")
    page.click("#explicit")
    assert total() == pytest.approx(implicit, rel=2e-3)
    styles = page("['explicit', 'implicit', 'bus'].map(kind => "
                  "getComputedStyle(document.querySelector(`#graph .wire.${kind} .line`)).strokeDasharray)")
    assert styles[1] != "none" and styles[0] == styles[2] == "none"  # not by colour alone


def test_the_first_use_contributes_exactly_0_where_h_0_is_0_and_the_page_says_why(show: Any) -> None:
    page = show(page_of_text(3))
    for _ in range(3):
        page.click("#use")
    assert "+= 0 →" in page.text("#said .edge.chosen .add")
    assert "W multiplies h₀ here, and h₀ = 0" in page.text("#said .edge.chosen")
    page.click("#terms [data-r='2'][data-c='0']")
    assert "h₀ = 0" in page.text("#cell")


def test_another_parameter_has_its_own_ledger_and_map(show: Any) -> None:
    explorer = page_of_text(4, "lstm")
    page = show(explorer)
    page.click("#end")
    for place, p in enumerate(explorer.data["parameters"]):
        page.choose("#parameter", place)
        assert page.text("#total").startswith(f"{p['label']}.grad[")
        assert page("document.querySelectorAll('#ledger tbody tr').length") == len(p["uses"])
        assert float(page.text("#total").rsplit("= ", 1)[1].replace("−", "-")) == \
            pytest.approx(p["sums"][0], rel=6e-3)


def test_a_node_and_an_edge_tell_all_that_is_known_of_them(show: Any) -> None:
    explorer = page_of_text(3)
    page = show(explorer)
    page.click("#end")
    h = next(i for i, node in enumerate(explorer.data["nodes"]) if node[0] == "h₂")
    page.click(f"[data-node='{h}']")
    said = page.text("#inspected")
    for part in ("h₂ = tanh z₂", "1 × 4", "wheret=2", "nn/cells.py:", "dE/dh₂", "1 - h₂²",
                 "contribution ‖·‖"):
        assert part in said, part
    assert page(f"inspectEdge('e{h}_0'), $('inspected').textContent").startswith("z₂ → h₂")


# ------------------------------------------------------------------------------------------------------- prediction
def test_predict_hides_a_number_until_the_reader_has_guessed(show: Any) -> None:
    explorer, _, _ = rnn()
    page = show(explorer)
    page.click("#predict")
    page.click("#use")
    p = explorer.data["parameters"][explorer.data["chosen"]]
    right = next(use for use in p["uses"] if use[0] == 4)[2]
    assert page.text("#said .edge.chosen .add").endswith("+= ? → ?") and page.text("#graph .plus") == "+= ?"
    assert page("document.querySelectorAll('#ledger tbody tr:not(.waiting)').length") == 0
    page.click("#number")
    page.type(f"{right + 0.25:.6f}")
    page.key("Enter")
    assert "off by 0.25" in page.text("#off") and numbers(page.text("#off"))[0] == pytest.approx(right, rel=2e-3)
    assert "?" not in page.text("#said .edge.chosen .add")
    assert page("document.querySelectorAll('#ledger tbody tr:not(.waiting)').length") == 1
    page.click("#next")
    assert "?" in page.text("#said")
    page.click("#show")
    assert "?" not in page.text("#said")


# --------------------------------------------------------------------------------------------- everywhere, for everyone
def test_hostile_names_are_shown_as_text(show: Any) -> None:
    explorer = hostile()
    page = show(explorer)
    page.click("#end")
    assert page("document.title") != "1" and page("document.querySelectorAll('img').length") == 0
    assert "<img src=x onerror=" in page.text("#graph") and "<img src=x onerror=" in page.text("h1")
    page.click("#terms rect.cell")
    page.click("#graph .box")
    assert page("document.querySelectorAll('img').length") == 0


def test_numbers_that_are_not_finite_are_shown_as_such(show: Any) -> None:
    W, losses = Tensor([[800.0, 1.0], [2.0, 3.0]], requires_grad=True, name="W"), []
    s = Tensor([[1.0, 1.0]], name="s_0")
    with np.errstate(all="ignore"):
        for t in (1, 2, 3):
            with scope(t=t):
                s = F.exp(s @ W).named("s")
                losses.append(s.sum().named("E"))
        explorer = explore(losses)
    page = show(explorer)
    page.click("#end")
    page.click("#terms rect.cell")
    assert "Infinity" in page.text("#graph") and "NaN" in page.text("#total")


@pytest.mark.parametrize("name", RUNS)
def test_every_model_opens_runs_to_its_end_and_back(name: str, show: Any) -> None:
    explorer = explore(RUNS[name]())
    page = show(explorer)
    page("for (let i = 0; i <= LAST; i += 3) go(i); go(LAST)")
    assert page("document.querySelectorAll('#graph .box').length") == len(explorer.data["boxes"])
    for place in range(len(explorer.data["cuts"])):
        page.choose("#cut", place)
    page("[...document.querySelectorAll('.map .cell')].forEach(x => "
         "x.dispatchEvent(new MouseEvent('click', {bubbles: true})))")
    page("nodes.forEach(inspect); go(0)")
    assert page("[...document.querySelectorAll('main *')].every(x => !/NaN|undefined|\\[object/.test(x.textContent))")


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_a_page_never_scrolls_sideways(width: int, show: Any) -> None:
    page = show(page_of_text(12, "lstm"))
    page.resize(width, 740)
    page.click("#end")
    page("at.cut = null; chooseTerm(3, 1)")
    assert page("document.documentElement.scrollWidth") <= width
    assert page("[...document.querySelectorAll('nav button, nav select, nav input')].every(x => "
                "x.getBoundingClientRect().right <= innerWidth)")


def test_dark_ground_is_dark_and_text_can_be_read_on_both(show: Any) -> None:
    page = show(page_of_text(3))
    contrast = """(() => {
      const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
      const light = color => { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(x => (x /= 255) <= .04045 ? x / 12.92
          : ((x + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
      const style = getComputedStyle(document.documentElement), of = name => light(style.getPropertyValue(name).trim());
      const ground = of('--ground');
      return [ground, ...['--ink', '--quiet', '--blue', '--red', '--green'].map(name => {
        const [a, b] = [of(name), ground].sort(); return (b + .05) / (a + .05); })]; })()"""
    light, *ratios = page(contrast)
    assert light > 0.9 and min(ratios) >= 4.5
    page.media(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    dark, *ratios = page(contrast)
    assert dark < 0.02 and min(ratios) >= 4.5
    assert page("getComputedStyle(document.querySelector('#graph .box:not(.lit) rect')).fill") == \
        page("getComputedStyle(document.body).backgroundColor")


def test_readers_of_the_screen_hear_names_and_changes(show: Any) -> None:
    page = show(page_of_text(3))
    assert page("[...document.querySelectorAll('button, select, input, svg')].every(x => "
                "x.closest('label')?.textContent || x.getAttribute('aria-label') || x.textContent.trim() || x.hidden)")
    assert page("[...document.querySelectorAll('section')].every(x => document.getElementById("
                "x.getAttribute('aria-labelledby')))")
    assert page("document.getElementById('said').getAttribute('aria-live')") == "polite"
    page.key("ArrowRight")
    assert page("document.getElementById('tick').getAttribute('aria-valuetext')").startswith("forward 1/")


def test_motion_is_reduced_where_the_reader_asks_for_it(show: Any) -> None:
    page = show(page_of_text(3))
    duration = "getComputedStyle(document.querySelector('#graph .box rect')).transitionDuration"
    page.media(prefers_reduced_motion="reduce")
    assert page(duration) == "0s"


def test_a_tick_of_a_run_of_100_steps_is_little_work(show: Any) -> None:
    page = show(page_of_text(100))
    page("go(N + 40)")
    changes, milliseconds = page("""new Promise(done => {
      let changes = 0;
      const watch = new MutationObserver(found => changes += found.length);
      watch.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
      const start = performance.now();
      for (let i = 0; i < 50; i++) go(at.tick + 1);
      const spent = (performance.now() - start) / 50;
      setTimeout(() => done([changes / 50, spent]));
    })""")
    assert changes < 120 and milliseconds < 100, (changes, milliseconds)


def test_a_printed_page_has_no_controls(show: Any) -> None:
    page = show(page_of_text(3))
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert page("document.getElementById('graph').getBoundingClientRect().width <= innerWidth")
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
