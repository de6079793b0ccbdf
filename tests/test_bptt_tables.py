"""The tables of bptt as a learner reads them: the notes' symbols, and numbers that add up as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bptt_models import MODELS, Model, PlainLoop

from tinygrad_rnn import Tensor, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import Explanation, explain, prove, terms

LINES = MODELS["tanh"]


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def rows_of(e: Explanation) -> dict[str, tuple[str, float, float, float]]:
    """The printed table: {first cell, or its second where that is empty: (kind, norm, entry, share)}."""
    out: dict[str, tuple[str, float, float, float]] = {}
    body = str(e).split("─\n", 1)[1].split("explicit:")[0]
    for line in body.splitlines():
        found = cells(line)
        if len(found) < 4:
            continue
        kind = next(c for c in found if c in ("explicit ∂⁺", "implicit", "both", "total"))
        share = float("nan") if found[-1] == "–" else float(found[-1].removesuffix(" %"))
        label = found[0] if found[0].startswith(("k =", "outside")) else f"all: {kind}"
        assert label not in out
        out[label] = kind, float(found[-3]), float(found[-2]), share
    return out


def uses_of(rows: dict[str, Any]) -> dict[str, Any]:
    return {label: row for label, row in rows.items() if not label.startswith("all")}


def largest(e: Explanation) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.abs(e.total).argmax(), e.total.shape))


def example(t: int = 5, name: str = "W", **settings: Any) -> Explanation:
    m = Model(**settings)
    return explain(m.losses[t - 1], m.parameters[name])


# -------------------------------------------------------------------------------------------------------- explanations
def test_an_explanation_speaks_the_language_of_the_notes() -> None:
    text = str(example(3))
    assert text.startswith("dE₃/dW = Σ_k ∂E₃/∂W⁽ᵏ⁾")
    for line in ("∂E₃/∂h₃ · ∂⁺h₃/∂W", "∂E₃/∂h₃ · ∂h₃/∂h₂ · ∂⁺h₂/∂W", "∂E₃/∂h₃ · ∂h₃/∂h₁ · ∂⁺h₁/∂W", "∂⁺E₃/∂W", "dE₃/dW",
                 "explicit ∂⁺", "implicit", "(4 × 4)"):
        assert line in text
    E = Model().losses[2]
    assert f"E₃ = {E.item():.6g}" in text


@pytest.mark.parametrize("name", ["U", "W", "b", "V", "c", "h_0"])
@pytest.mark.parametrize("t", [1, 3, 5])
def test_every_printed_number_is_the_number_meant(name: str, t: int) -> None:
    e = example(t, name)
    entry, rows = largest(e), rows_of(e)
    square = float((e.total**2).sum())
    expected = {f"k = {k}": part for k, part in e.terms.items()}
    expected |= {"all: explicit ∂⁺": e.explicit, "all: implicit": e.implicit, "all: total": e.total}
    assert set(rows) == set(expected)
    for label, part in expected.items():
        _, norm, printed, share = rows[label]
        assert norm == pytest.approx(np.linalg.norm(part.ravel()), rel=6e-4)
        assert printed == pytest.approx(part[entry], rel=6e-6)
        assert share == pytest.approx(100 * (part * e.total).sum() / square, abs=0.0501)
    heading = str(e).split("\n")[2]
    assert f"{name}[{', '.join(map(str, entry))}]" in heading


@pytest.mark.parametrize("T", [3, 5, 12, 13, 25, 200])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_the_printed_entries_add_up_to_the_printed_total(T: int, name: str) -> None:
    e = example(T, name, T=T, H=3)
    rows = rows_of(e)
    entries = [entry for _, _, entry, _ in uses_of(rows).values()]
    printed = 5e-6 * (sum(map(abs, entries)) + abs(rows["all: total"][2]))  # six digits each
    assert abs(sum(entries) - rows["all: total"][2]) <= printed
    both = rows["all: explicit ∂⁺"][2] + rows["all: implicit"][2]
    assert abs(both - rows["all: total"][2]) <= printed
    explicit = [row[2] for row in uses_of(rows).values() if row[0] == "explicit ∂⁺"]
    assert explicit == [rows["all: explicit ∂⁺"][2]], "the one explicit use of E_T is the explicit part"


@pytest.mark.parametrize("T", [3, 5, 25, 200])
def test_the_printed_shares_add_up_to_100_percent(T: int) -> None:
    rows = rows_of(example(T, "W", T=T, H=3))
    shares = [share for *_, share in uses_of(rows).values()]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares) + 1e-9)
    assert rows["all: total"][3] == 100
    assert rows["all: explicit ∂⁺"][3] + rows["all: implicit"][3] == pytest.approx(100, abs=0.101)


def test_of_200_uses_the_middle_is_one_row_that_adds_up() -> None:
    e = example(200, "W", T=200, H=3)
    rows, entry = rows_of(e), largest(e)
    assert len(str(e).split("explicit:")[0].splitlines()) <= 20, "heading and table fit a screen"
    label = next(label for label in rows if "…" in label)
    first, last = map(int, re.findall(r"\d+", label))
    single = {int(k.removeprefix("k = ")) for k in uses_of(rows) if "…" not in k}
    assert single | set(range(first, last + 1)) == set(range(1, 201)) and not single & set(range(first, last + 1))
    together = sum(e.terms[k] for k in range(first, last + 1))
    _, norm, printed, share = rows[label]
    assert printed == pytest.approx(together[entry], rel=6e-6)
    assert norm == pytest.approx(np.linalg.norm(together), rel=6e-4)
    assert share == pytest.approx(100 * (together * e.total).sum() / (e.total**2).sum(), abs=0.0501)


@pytest.mark.parametrize(("T", "elided"), [(11, False), (12, False), (13, True)])
def test_up_to_12_uses_are_listed_one_by_one(T: int, elided: bool) -> None:
    text = str(example(T, "W", T=T, H=3))
    assert ("…" in text.split("explicit:")[0]) == elided
    assert text.count("k = ") == (T if not elided else 10)


def test_a_use_outside_the_steps_has_a_row_and_the_entries_add_up() -> None:
    loop = PlainLoop(T=30)
    p, _, losses = loop.build()
    for E in (losses[-1] + (p["W"] ** 2).sum(), losses[3] + (p["W"] ** 2).sum()):
        e = explain(E, p["W"])
        rows = rows_of(e)
        assert rows["outside the steps"][0] == "explicit ∂⁺"
        entries = [entry for _, _, entry, _ in uses_of(rows).values()]
        assert abs(sum(entries) - rows["all: total"][2]) <= 5e-6 * 2 * sum(map(abs, entries))


def test_for_a_sum_of_losses_no_row_claims_more_than_it_is() -> None:
    m = LINES
    e = explain(F.sum(F.stack(m.losses)), m.parameters["W"])
    rows = rows_of(e)
    assert [rows[f"k = {k}"][0] for k in range(1, 5)] == ["both"] * 4
    assert abs(sum(row[2] for row in uses_of(rows).values()) - rows["all: total"][2]) <= 1e-4
    assert "dE/dh₁ · ∂⁺h₁/∂W" in str(e)


@pytest.mark.parametrize("case", ["V under a sum", "W under a sum, last use", "a penalty on W"])
def test_a_use_that_is_all_explicit_or_all_implicit_is_called_so(case: str) -> None:
    m = LINES
    E = F.sum(F.stack(m.losses))
    if case == "V under a sum":
        kinds = [row[0] for row in uses_of(rows_of(explain(E, m.parameters["V"]))).values()]
        assert kinds == ["explicit ∂⁺"] * m.T
    elif case == "W under a sum, last use":
        assert rows_of(explain(E, m.parameters["W"]))[f"k = {m.T}"][0] == "explicit ∂⁺"
    else:
        rows = uses_of(rows_of(explain(m.losses[-1] + (m.parameters["W"] ** 2).sum(), m.parameters["W"])))
        assert [row[0] for row in rows.values()] == ["explicit ∂⁺", *["implicit"] * (m.T - 1), "explicit ∂⁺"]


def test_a_sum_of_losses_is_not_called_the_loss_of_its_last_step() -> None:
    m = LINES
    e = explain(F.sum(F.stack(m.losses)).named("E"), m.parameters["W"])
    assert "E₅" not in str(e)


def test_a_use_that_contributes_exactly_0_is_explained() -> None:
    m = Model(initial=0.0)
    text = str(explain(m.losses[-1], m.parameters["W"]))
    assert "k = 1 contributes exactly 0" in text
    assert "exactly 0" not in str(explain(m.losses[-1], m.parameters["U"]))
    assert "exactly 0" not in str(example())


def test_a_gradient_that_is_0_everywhere_has_no_shares() -> None:
    w, s = Tensor(0.5, requires_grad=True, name="w"), Tensor(0.0)
    for t in (1, 2, 3):
        with scope(t=t):
            s = F.tanh(w * s)
    e = explain(s, w)
    assert (e.total == 0).all()
    rows = rows_of(e)
    assert all(np.isnan(row[3]) and row[2] == 0 for row in rows.values())
    assert prove(e)


def test_a_scalar_weight_is_called_one_number_and_needs_no_index() -> None:
    w, s = Tensor(0.2, requires_grad=True, name="w"), Tensor(0.9, name="s")
    for t in (1, 2, 3):
        with scope(t=t):
            s = (w * s).named("s")
    text = str(explain(s, w))
    assert "(one number)" in text and "w[" not in text
    assert text.count("+0.036") == 4 and "+0.072" in text and "+0.108" in text and "33.3 %" in text
    assert "ds₃/dw" in text and "∂s₃/∂s₁ · ∂⁺s₁/∂w" in text


# ----------------------------------------------------------------------------------------------------- the term matrix
@pytest.mark.parametrize("T", [3, 5, 12])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_the_term_matrix_is_printed_whole_where_it_is_small(T: int, name: str) -> None:
    m = Model(T=T, H=3)
    a = terms(m.losses, m.parameters[name])
    lines = str(a).splitlines()
    assert f"∂E_t/∂{name}⁽ᵏ⁾" in lines[0] and "left out" not in lines[0]
    assert cells(lines[2]) == [f"k = {k}" for k in range(1, T + 1)] + ["‖sum‖"]
    subscripts = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
    for t in range(1, T + 1):
        label, *numbers, total = cells(lines[3 + t])
        assert label == "E" + str(t).translate(subscripts)
        assert [float(n) for n in numbers] == pytest.approx(list(a.norms[t - 1]), rel=6e-3)
        assert numbers[t:] == ["0"] * (T - t) and "0" not in numbers[:t]
        assert float(total) == pytest.approx(np.linalg.norm(a.rows[t - 1].ravel()), rel=6e-3)
    label, *numbers, total = cells(lines[4 + T])
    assert label == "all losses"
    assert [float(n) for n in numbers] == pytest.approx([np.linalg.norm(c.ravel()) for c in a.columns], rel=6e-3)
    assert float(total) == pytest.approx(np.linalg.norm(a.columns.sum(0).ravel()), rel=6e-3)


def test_of_200_losses_the_first_and_last_are_shown_and_the_table_says_so() -> None:
    m = Model(T=200, H=3)
    a = terms(m.losses, m.parameters["W"])
    lines = str(a).splitlines()
    assert "the middle is left out" in lines[0] and len(lines) <= 20
    shown = [1, 2, 3, 4, 197, 198, 199, 200]
    assert cells(lines[2]) == [f"k = {k}" for k in shown] + ["‖sum‖"]
    body = [cells(line) for line in lines[4:12]]
    assert [row[0] for row in body] == ["E₁", "E₂", "E₃", "E₄", "E₁₉₇", "E₁₉₈", "E₁₉₉", "E₂₀₀"]
    for row, t in zip(body, shown):
        assert [float(n) for n in row[1:-1]] == pytest.approx([a.norms[t - 1, k - 1] for k in shown], rel=6e-3)


def test_the_losses_keep_the_names_and_the_order_in_which_they_are_given() -> None:
    m = Model(T=4)
    lines = str(terms([m.losses[3], m.losses[1]], m.parameters["W"])).splitlines()
    assert [cells(line)[0] for line in lines[4:7]] == ["E₄", "E₂", "all losses"]


# ----------------------------------------------------------------------------------------------------------- the proof
def verdicts(text: str) -> dict[tuple[str, str], str]:
    lines = text.splitlines()[4:]
    body = [cells(line) for line in lines[: lines.index("")]]
    assert all(len(row) == 6 for row in body)
    return {(row[0], row[1]): row[5] for row in body}


def test_a_proof_says_agrees_everywhere_and_proved() -> None:
    e = example()
    text = str(prove(e, Model().reference()))
    assert text.startswith("dE₅/dW: proved by 12 witnesses") and "NOT" not in text
    assert set(verdicts(text).values()) == {"agrees"} and len(verdicts(text)) == 12
    assert "DISAGREES" not in text


@pytest.mark.parametrize("part", ["explicit", "implicit", "total", "terms"])
def test_a_proof_says_disagrees_exactly_where_a_witness_fails(part: str) -> None:
    e = example()
    wrong = {k: term * 1.01 for k, term in e.terms.items()} if part == "terms" else getattr(e, part) * 1.01
    proof = prove(replace(e, **{part: wrong}), Model().reference())
    text = str(proof)
    found = verdicts(text)
    assert not proof and text.startswith("dE₅/dW: NOT PROVED")
    assert len(found) == len(proof.witnesses)
    for w in proof.witnesses:
        assert found[w.part, w.route] == ("agrees" if w else "DISAGREES")
    assert set(found.values()) == {"agrees", "DISAGREES"}
    assert text.count("DISAGREES") == sum(not w for w in proof.witnesses)


def test_a_proof_that_meets_a_nan_prints_it_and_disagrees() -> None:
    e = example()
    proof = prove(replace(e, explicit=e.explicit * np.nan))
    assert not proof and "nan" in str(proof) and "NOT PROVED" in str(proof)


# ----------------------------------------------------------------------------------------------- shape and determinism
@pytest.mark.parametrize("T", [3, 12, 13, 200])
def test_no_line_of_any_table_is_longer_than_120_characters(T: int) -> None:
    m = Model(T=T, H=3)
    for name in m.names:
        e = explain(m.losses[-1], m.parameters[name])
        for text in (str(e), str(prove(e, m.reference()) if T < 100 else prove(e)),
                     str(terms(m.losses, m.parameters[name]))):
            for line in text.splitlines():
                assert len(line) <= 120, line


def test_no_line_is_longer_than_120_characters_where_terms_vanish() -> None:
    m = Model(T=12, H=3, arrays={"W": np.eye(3) * 1e-9})
    for text in (str(terms(m.losses, m.parameters["W"])), str(explain(m.losses[-1], m.parameters["W"]))):
        assert max(map(len, text.splitlines())) <= 120


def test_no_line_is_longer_than_120_characters_where_three_uses_are_0() -> None:
    m = Model(T=200, H=3)
    m.x[:5] = 0
    text = str(explain(m.losses[-1], m.parameters["U"]))
    assert "exactly 0" in text
    assert max(map(len, text.splitlines())) <= 120


def test_all_uses_that_contribute_exactly_0_are_named_or_counted() -> None:
    m = Model(T=10, H=3)
    m.x[:5] = 0
    text = str(explain(m.losses[-1], m.parameters["U"]))
    note = next(line for line in text.splitlines() if "exactly 0" in line)
    assert all(f"k = {k}" in note for k in range(1, 6)) or "3 more" in note, note


@pytest.mark.parametrize("label", ["tanh", "no bias", "ids"])
def test_no_line_ends_in_a_space(label: str) -> None:
    m = MODELS[label]
    e = explain(m.losses[-1], m.parameters["W"])
    for text in (str(e), str(prove(e, m.reference())), str(terms(m.losses, m.parameters["W"]))):
        assert all(line == line.rstrip() for line in text.splitlines())


def test_two_runs_print_the_same_text_whatever_the_hash_seed() -> None:
    program = ("from bptt_models import Model\nfrom tinygrad_rnn.bptt import explain, prove, terms\n"
               "m = Model()\ne = explain(m.losses[-1], m.parameters['W'])\n"
               "print(e, prove(e, m.reference()), terms(m.losses, m.parameters['W']), sep='\\n')")
    here = Path(__file__).parent
    texts = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8",
                       "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True,
                              encoding="utf-8")
        texts.append(done.stdout)
    assert texts[0] == texts[1] and texts[0].count("\n") > 35
