"""What shows itself in a notebook: tables that hold what is printed, pictures, nothing that raises or could run.

A real notebook is executed where nbclient, nbformat and ipykernel (the extra 'notebook') are installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import viz
from tinygrad_rnn import Tensor, bptt, gradcheck, nn, ops, record, scope, weights
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt.tables import Printed, table
from tinygrad_rnn.doctor import Case, diagnose
from tinygrad_rnn.errata import find
from tinygrad_rnn.language import CharRNN
from tinygrad_rnn.text import Vocabulary
from viz import notebook

ROOT = Path(__file__).parent.parent
Patch = pytest.MonkeyPatch
EVIL = ["</script><script>alert(1)</script>", '<img src=x onerror="alert(1)">', "'\"><b>&amp;", "W\n\nhm", "─── ──",
        "\u202eW", ""]
OURS = {"style", "div", "p", "table", "thead", "tbody", "tr", "th", "td", "span", "pre"}
PICTURE = {"svg", "g", "title", "rect", "path", "text", "tspan", "polygon", "polyline", "circle", "ellipse", "line",
           "defs", "marker", "a", "desc"}


class Page(HTMLParser):
    """The tables, paragraphs and tags of a piece of HTML; every tag that is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self.styles: list[list[list[str]]] = []
        self.classes: list[list[list[str]]] = []
        self.paragraphs: list[str] = []
        self.said = ""
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "table":
            self.tables.append([])
            self.styles.append([])
            self.classes.append([])
        elif tag == "tr":
            for found in (self.tables, self.styles, self.classes):
                found[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self.styles[-1][-1].append(dict(attrs).get("style") or "")
            self.classes[-1][-1].append(dict(attrs).get("class") or "")
        elif tag == "p":
            self.paragraphs.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.said += data
        if "table" in self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data
        elif "p" in self.open:
            self.paragraphs[-1] += data


def page(x: Any) -> Page:
    html = x if isinstance(x, str) else x._repr_html_()
    assert isinstance(html, str)
    found = Page(html)
    assert set(found.tags) <= OURS | PICTURE and not any(name.startswith("on") for name in found.attributes)
    return found


def model_of(name: str = "W", h0: float = 0.5) -> tuple[list[Tensor], Tensor]:
    """E_1 … E_4 of an RNN on numbers, B = 2, D = 3, H = 5, from a state that is not zero."""
    rng = np.random.default_rng(3)
    cell, head = nn.RNNCell(3, 5, rng=rng), nn.Linear(5, 4, rng=rng)
    cell.W.name = name
    hs, _ = nn.unroll(cell, rng.normal(size=(4, 2, 3)), Tensor(rng.normal(size=(2, 5)) * h0, name="h"))
    losses = []
    for t, h in enumerate(hs, 1):
        with scope(t=t):
            losses.append(F.cross_entropy(head(h), rng.integers(0, 4, 2), "sum").named("E"))
    return losses, cell.W


def everything(name: str = "W") -> Iterator[Any]:
    """One of each thing that shows itself, about a parameter of that name."""
    losses, W = model_of(name)
    e = bptt.explain(losses[-1], W)
    yield from (losses[-1], W, e, bptt.inside(e), bptt.prove(e), bptt.terms(losses, W))
    truncated = bptt.truncation(losses, W, [1, 2])
    yield from (truncated, bptt.prove_truncation(truncated), bptt.decay(losses[-1]), record(losses[-1]))
    yield viz.draw(losses[-1])
    linear = nn.Linear(2, 3, rng=np.random.default_rng(0))
    linear.V.name = name
    yield from (linear, weights.names(linear))
    yield gradcheck(lambda x: (x * x).sum(), [Tensor([1.0, -2.0], requires_grad=True, name=name)])
    yield find("E9").demonstrate(0)


# ---------------------------------------------------------------------------------------------------- text as HTML
cells = st.text(st.characters(exclude_characters="\n\r─", exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(0, 5))
def test_a_printed_table_is_read_back_cell_by_cell(data: Any, columns: int, count: int) -> None:
    rows = data.draw(st.lists(st.lists(cells, min_size=columns, max_size=columns).filter(
        lambda row: any(cell.strip() for cell in row)), min_size=count + 1, max_size=count + 1))
    left = tuple(data.draw(st.sets(st.integers(0, columns - 1))))
    if any("  ".join(rows[0]).strip() == "" or not "".join(row).strip() for row in rows):
        return
    text = f"dE/dW of it\n\n{table(rows[0], rows[1:], left=left)}\n\n  A word.\n"
    widths = [max(len(row[i]) for row in rows) for i in range(columns)]
    if not all(widths):
        return  # a column without a single character is none
    found = page(notebook.html_of(text))
    assert found.tables == [[[cell.strip() for cell in row] for row in rows]]
    assert found.paragraphs == ["dE/dW of it", "A word."]


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    text = table(["use", "kind", "‖·‖"], [["k = 3", "explicit ∂⁺", "0.5"], ["k = 10", "implicit", "12.25"]],
                 left=(0, 1))
    assert page(notebook.html_of(text)).classes == [[["", "", "rnn-n"]] * 3]


def test_what_an_empty_row_sets_apart_stays_one_table_and_what_follows_it_does_not() -> None:
    rows = [["k = 1", "a", "1.0"], ["", "", ""], ["all", "b", "2.0"]]
    html = notebook.html_of(f"title\n\n{table(['use', 'kind', 'n'], rows)}\n\n  Seen:\n    one: thing")
    assert html.count('<tr class="rnn-apart"><td>all') == 1
    found = page(html)
    assert found.tables == [[["use", "kind", "n"], rows[0], rows[2]]]
    assert found.paragraphs == ["title", "Seen:", "one: thing"]


def test_a_broken_paragraph_is_one_again_and_lines_of_their_own_stay_so() -> None:
    words = " ".join(f"word{i}" for i in range(60))
    text = f"{bptt.tables.paragraph(words)}\n  short\n  lines"
    assert page(notebook.html_of(text)).paragraphs == [words, "short", "lines"]


# ----------------------------------------------------------------------------------------------- each thing, by content
@pytest.mark.parametrize("number", range(15))
def test_everything_shows_itself_without_a_tag_that_is_not_ours(number: int) -> None:
    found = page(list(everything())[number])
    assert len(found.said) > 20


def test_what_is_shown_is_what_is_printed() -> None:
    for x in everything():
        if isinstance(x, Printed):
            shown, printed = page(x).said, repr(x)
            if (scale := "on a log scale") in shown:
                shown = re.sub(rf"\S+ +\S+, {scale}", "", shown)
            assert re.sub(r"[\s─]", "", shown) == re.sub(r"[\s─]", "", printed), type(x)


def test_the_matrix_of_terms_is_coloured_by_size_and_prints_every_number() -> None:
    losses, W = model_of()
    a = bptt.terms(losses, W)
    found = page(a)
    (cells_, styles) = found.tables[0], found.styles[0]
    assert cells_[0] == ["", "k = 1", "k = 2", "k = 3", "k = 4", "‖sum‖"]
    expected = np.array([[np.linalg.norm(bptt.explain(loss, W).terms.get(k, np.zeros(()))) for k in range(1, 5)]
                         for loss in losses])
    opacities = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            text, style = cells_[1 + i][1 + j], styles[1 + i][1 + j]
            assert float(text) == pytest.approx(expected[i, j], rel=6e-3, abs=0)
            assert bool(style) == (j <= i)
            if style:
                opacities[i, j] = float(re.search(r"rgba\(\d+, \d+, \d+, ([\d.]+)\)", style)[1])  # type: ignore[index]
    order = expected[np.tril_indices(4)].argsort()
    assert (np.diff(opacities[np.tril_indices(4)][order]) >= 0).all()
    assert opacities.max() == 1.0 and opacities[opacities > 0].min() == pytest.approx(0.08)
    assert not any(styles[-1]) and not any(row[-1] for row in styles)
    assert "on a log scale" in found.said


def test_an_explanation_shows_its_kinds_as_the_pictures_draw_them() -> None:
    losses, W = model_of()
    found = page(bptt.explain(losses[-1], W))
    kinds = {cell: style for row, styles in zip(found.tables[0], found.styles[0]) for cell, style in zip(row, styles)}
    assert "solid" in kinds["explicit ∂⁺"] and "dashed" in kinds["implicit"]
    assert found.paragraphs[0].startswith("dE₄/dW = Σ_k") and "k = 4" in found.said


def test_a_proof_that_fails_stands_out_and_one_that_holds_does_not(monkeypatch: Patch) -> None:
    losses, W = model_of()
    assert "#a33b00" not in bptt.prove(bptt.explain(losses[-1], W))._repr_html_()  # type: ignore[operator]
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: (g - g * y * y) * (1 + 1e-6),))
    losses, W = model_of()
    html = bptt.prove(bptt.explain(losses[-1], W))._repr_html_()
    assert re.search(r'<td style="background:#a33b00[^"]*">DISAGREES', html) and "NOT PROVED" in html


def test_a_model_shows_its_parameters_counts_and_equations() -> None:
    model = CharRNN(Vocabulary.of("hello"), 3, "lstm", rng=np.random.default_rng(0))
    found = page(model)
    assert found.tables[0][0] == ["parameter", "called", "shape", "numbers"]
    for row in (["layer.cells.l0.W_f", "W_f", "3 × 3", "9"], ["head.c", "c", "4", "4"]):
        assert row in found.tables[0]
    numbers = sum(int(row[3]) for row in found.tables[0][1:])
    assert numbers == 4 * (4 * 3 + 3 * 3 + 3) + 3 * 4 + 4
    assert f"{numbers} numbers in 14 parameters" in found.paragraphs[0] and "lstm, 1 layer of 3 units" in found.said
    assert "c_t = f_t∘c_{t-1} + i_t∘c̃_t" in found.paragraphs and "layer.cells.l0:" in found.paragraphs


def test_cells_with_the_same_equations_share_them() -> None:
    layer = nn.GRU(2, 3, num_layers=2, bidirectional=True, rng=np.random.default_rng(0))
    found = page(layer)
    assert found.said.count("h_t =") == 1 and "cells.l0, cells.l0_reverse, cells.l1, cells.l1_reverse:" in found.said
    assert page(nn.RNNCell(2, 3, rng=np.random.default_rng(0))).paragraphs[-1] == "h_t = tanh(z_t)"


def test_a_module_prints_itself() -> None:
    rng = np.random.default_rng(0)
    assert repr(nn.RNNCell(3, 1000, rng=rng)) == ("RNNCell: 1,004,000 numbers in 3 parameters\n"
                                                  "  U  3 × 1000\n  W  1000 × 1000\n  b  1000")
    stack = repr(nn.RNN(3, 2, num_layers=2, rng=rng))
    assert stack.startswith("RNN: 22 numbers in 6 parameters\n") and "\n  cells.l1.W  2 × 2, called W_l1" in stack
    assert repr(nn.Module()) == "Module: 0 numbers in 0 parameters"
    model = CharRNN(Vocabulary.of("ab"), 3, "gru", num_layers=2, bidirectional=True, rng=rng)
    assert repr(model).startswith("CharRNN (gru, 2 layers of 3 units, both directions, 2 characters): ")


def test_a_recording_shows_the_picture_with_its_gradients() -> None:
    losses, _ = model_of()
    assert "W.grad = Σ 4 uses = " in record(losses[-1])._repr_html_()  # type: ignore[attr-defined]


def test_a_diagnosis_and_a_demonstration_keep_their_lines() -> None:
    rng = np.random.default_rng(0)
    layer, head = nn.RNN(3, 4, rng=rng), nn.Linear(4, 5, rng=rng)
    case = Case(layer, head, rng.normal(size=(4, 2, 3)), rng.integers(0, 5, (4, 2)))
    losses = case.truth()
    found = page(diagnose(case, {**losses, "W": -losses["W"]}))
    assert "W: the opposite sign" in found.paragraphs
    assert "What fails:" in page(find("E9").demonstrate(0)).paragraphs


# ---------------------------------------------------------------------------------------------- hostile and broken
@pytest.mark.parametrize("name", EVIL)
def test_hostile_names_are_shown_as_text(name: str) -> None:
    for x in everything(name):
        found = page(x)  # which refuses any tag and attribute that is not ours
        if "\n" not in name and isinstance(x, bptt.Explanation | nn.Module):
            assert name in found.said


@pytest.mark.parametrize("broken", ["html_of", "table_of", "logical_line", "equations_of", "table", "Warm"])
def test_what_breaks_inside_is_shown_as_text(broken: str, monkeypatch: Patch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken on purpose")

    things = list(everything())
    monkeypatch.setattr(notebook, broken, fail)
    for x in things:
        page(x)
    e = next(x for x in things if isinstance(x, bptt.Explanation))
    if broken in ("html_of", "table_of", "logical_line"):
        assert page(e).said == repr(e)


def test_what_cannot_even_be_printed_is_shown_all_the_same(monkeypatch: Patch) -> None:
    def fail(*_: Any) -> Any:
        raise RecursionError("broken on purpose")

    things = list(everything())
    for x in things:
        monkeypatch.setattr(type(x), "__repr__", fail)
        monkeypatch.setattr(type(x), "__str__", fail)
    for x in things:
        assert page(x).said


def test_modules_that_are_not_whole_are_shown() -> None:
    class Empty(nn.Cell):
        def __init__(self) -> None:
            pass

    class Wrong(nn.RNNCell):
        def forward(self, x: Any, h: Tensor) -> Any:
            raise ValueError("no step")

    own = nn.Module()
    own.me = own  # type: ignore[attr-defined]
    for x in (Empty(), nn.Module(), own):
        page(x)
    assert ["W", "W", "3 × 3", "9"] in page(Wrong(2, 3, rng=np.random.default_rng(0))).tables[0]


def test_showing_a_model_changes_nothing_in_it() -> None:
    class Noisy(nn.RNNCell):
        def forward(self, x: Any, h: Tensor) -> Tensor:
            return F.dropout(super().forward(x, h), 0.5, rng=self.rng).named("h")

    cell = Noisy(2, 3, rng=np.random.default_rng(0))
    before = str(cell.rng.bit_generator.state)
    assert "dropout" in page(cell).said or "h_t" in page(cell).said
    assert str(cell.rng.bit_generator.state) == before and all(p.grad is None for p in cell.parameters())


def test_the_same_bytes_every_time() -> None:
    first, second = ([x._repr_html_() for x in everything()] for _ in range(2))
    assert first == second


def test_without_viz_the_library_shows_its_text() -> None:
    code = ("import sys, numpy as np\nfrom tinygrad_rnn import bptt, nn, Tensor\n"
            "c = nn.RNNCell(2, 3, rng=np.random.default_rng(0))\nhs, _ = nn.unroll(c, np.ones((2, 1, 2)))\n"
            "e = bptt.explain(hs[-1].sum(), c.W)\n"
            "assert e._repr_html_().startswith('<pre>') and not hasattr(c, '_repr_html_')\n"
            "assert 'viz' not in sys.modules\n"
            "import viz\nassert e._repr_html_().startswith('<style>') and '<table' in c._repr_html_()\n")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------- a notebook, executed
CELLS = {
    "setup": """
import numpy as np, viz
from tinygrad_rnn import Tensor, bptt, functional as F, gradcheck, nn, record, weights
from tinygrad_rnn.language import CharRNN
from tinygrad_rnn.text import Vocabulary
from tinygrad_rnn.trace import trace
model = CharRNN(Vocabulary.of("hello"), 3, "lstm", rng=np.random.default_rng(0))
ids = model.vocabulary.encode("hello")
losses = model.losses(ids[:-1, None], ids[1:, None])
W = model.layer.cells["l0"].W_f
e = bptt.explain(losses[-1], W)
""",
    "model": "model", "explanation": "e", "inside": "bptt.inside(e)", "proof": "bptt.prove(e)",
    "terms": "bptt.terms(losses, W)", "truncation": "bptt.truncation(losses, W, [1, 2])",
    "truncation proof": "bptt.prove_truncation(bptt.truncation(losses, W, [2]))", "decay": "bptt.decay(losses[-1])",
    "names": "weights.names(model)", "tensor": "losses[1]", "leaf": "W", "recording": "record(losses[1])",
    "drawing": "viz.draw(losses[1])", "trace": "trace(losses[-1])",
    "report": "gradcheck(lambda x: (x * x).sum(), [Tensor([1.0], requires_grad=True)])",
    "hostile": "W.name = '</script><img src=x onerror=alert(1)>'\nmodel",
    "broken": "model.layer = None\nmodel.vocabulary = None\nmodel",
}


@pytest.mark.filterwarnings("ignore")  # those of the programs that run notebooks
def test_a_real_notebook_shows_every_object_and_raises_nothing(tmp_path: Path, monkeypatch: Patch) -> None:
    reason = "nbclient, nbformat or ipykernel is not installed: the extra 'notebook'"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS.values()])
    nbclient.NotebookClient(made, timeout=60, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown: dict[str, dict[str, str]] = {}
    for name, cell in zip(CELLS, made.cells):
        for output in cell.outputs:
            assert output.output_type == "execute_result", (name, output)
            shown[name] = dict(output.data)
    assert set(shown) == set(CELLS) - {"setup"}
    for name, data in shown.items():
        assert data["text/plain"].strip(), name
        page(data["text/html"])
        assert len(data["text/plain"]) < 20_000
    for name, content in {"model": "c_t = f_t∘c_{t-1} + i_t∘c̃_t", "explanation": "dE₄/dW_f = Σ_k", "inside": "dE₄/dW_f",
                          "proof": "proved by 7 witnesses", "terms": "‖A[t,k]‖", "truncation": "τ = 2",
                          "truncation proof": "proved by", "decay": "smallest σ", "names": "weight_hh_l0[3:6]",
                          "leaf": "Tensor(", "trace": "f: t = 1 … 4, each (1, 3)", "report": "gradcheck passed",
                          "hostile": "onerror=alert(1)>"}.items():
        assert content in page(shown[name]["text/html"]).said, name
    for name in ("tensor", "recording", "drawing"):
        assert shown[name]["text/html"].startswith("<svg") and "W_f" in page(shown[name]["text/html"]).said
    assert shown["drawing"]["image/svg+xml"].startswith("<svg")
    assert "head.V" in shown["broken"]["text/html"]
