"""What the witnesses of `prove` see and what they cannot see: every break names exactly who must notice it.

A witness is (part, route). The breaks: a rule, the wiring, the forward pass, the bookkeeping of steps and recurrence
edges, and the numbers of the explanation themselves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bptt_models import (
    CASES,
    CLOSED,
    COMPLEX,
    COPIES,
    DIFFERENCES,
    EVERY_RULE,
    EXPLICIT,
    GRAPH,
    HELD,
    IMPLICIT,
    MODELS,
    NUMPY,
    OFF,
    SUM_OF_PARTS,
    SUM_OF_TERMS,
    TOTAL,
    UNTIED,
    VALUE,
    Model,
    PlainLoop,
    key,
    notice,
    wrong_rule,
)

from tinygrad_rnn import Tensor, nn, ops, scope, steps
from tinygrad_rnn import functional as F
from tinygrad_rnn.bptt import Explanation, Proof, explain, parts, proof, prove
from tinygrad_rnn.bptt import uses as bptt_uses


def proof_of(m: Model, name: str, t: int | None = None) -> Proof:
    return prove(explain(m.losses[(t or m.T) - 1], m.parameters[name]), m.reference())


# --------------------------------------------------------------------------------------------------- nothing is broken
@pytest.mark.parametrize(("label", "name"), [c for c in CASES if not (c[1] == "h_0" and c[0] == "learned h_0")],
                         ids=lambda v: v)
def test_every_part_of_the_intact_model_is_proved_by_all_twelve(label: str, name: str) -> None:
    m = MODELS[label]
    for t in range(1, m.T + 1):
        proof = proof_of(m, name, t)
        assert proof, str(proof)
        assert {key(w) for w in proof.witnesses} == GRAPH | NUMPY and len(proof.witnesses) == 12
        for w in proof.witnesses:
            assert w.tolerance <= 1e-12 if key(w) != DIFFERENCES else w.tolerance < 1e-6
    alone = prove(explain(m.losses[-1], m.parameters[name]))
    assert alone and {key(w) for w in alone.witnesses} == GRAPH and len(alone.witnesses) == 7


@pytest.mark.parametrize("T", [3, 5, 25, 200])
@pytest.mark.parametrize("B", [1, 3])
def test_the_intact_model_is_proved_at_every_length_and_batch(T: int, B: int) -> None:
    m = Model(T=T, B=B, H=3 if T == 200 else 4)
    for name in ("W", "V", "h_0") if T == 200 else m.names:
        proof = proof_of(m, name)
        assert proof, str(proof)


def test_a_hand_written_loop_of_200_steps_is_proved() -> None:
    loop = PlainLoop(T=200)
    p, _, losses = loop.build()
    proof = prove(explain(losses[-1], p["W"]))
    assert proof, str(proof)


def test_a_learned_h_0_is_proved_from_the_graph() -> None:
    m = MODELS["learned h_0"]
    for E in m.losses:
        assert prove(explain(E, m.parameters["h_0"]))


def test_a_given_h_0_is_split_by_the_recursion_as_by_the_graph_also_at_step_1() -> None:
    m = MODELS["tanh"]
    assert notice(proof_of(m, "h_0", 1)) == set()


def test_a_loss_outside_the_scopes_is_proved_against_the_reference_too() -> None:
    m = Model()
    p = m.parameters
    E = F.cross_entropy(m.states[-1] @ p["V"] + p["c"], m.y[-1], reduction="sum")
    for name in m.names:
        proof = prove(explain(E, p[name]), m.reference())
        assert proof and len(proof.witnesses) == 12, str(proof)


@pytest.mark.parametrize("ts", [(1, 5), (2, 3), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("how", ["stack", "+"])
def test_a_sum_of_losses_is_proved_against_the_sum_of_the_reference(ts: tuple[int, ...], how: str) -> None:
    m = Model()
    some = [m.losses[t - 1] for t in ts]
    E = F.stack(some).sum() if how == "stack" else sum(some[1:], some[0])
    for name in m.names:
        proof = prove(explain(E, m.parameters[name]), m.reference())
        assert proof and len(proof.witnesses) == 12, str(proof)
        assert [w.part for w in proof.witnesses][7] == f"Σ E_t, {len(ts)} steps"
    assert ("E", "plain NumPy") not in notice(prove(explain(some[0], m.parameters["W"]), m.reference()))
    twice = explain(E + some[0], m.parameters["W"])  # a summand that counts twice is not the sum
    assert not prove(twice, m.reference())


def test_a_running_total_is_told_from_a_sum_and_refused_beside_a_reference() -> None:
    m = Model()
    E = m.losses[0]
    for t in range(2, 6):
        with scope(t=t):
            E = (E + m.losses[t - 1]).named("E")
    for name in ("W", "V"):
        e = explain(E, m.parameters[name])
        assert "is a running total made inside the steps" in " ".join(str(e).split())
        assert np.allclose(e.explicit, explain(m.losses[-1], m.parameters[name]).explicit, rtol=1e-12)
        assert prove(e)
        with pytest.raises(ValueError, match="add them up outside the steps"):
            prove(e, m.reference())
    assert "running total" not in str(explain(F.stack(m.losses).sum(), m.parameters["W"]))


def test_a_loss_of_steps_that_the_reference_has_not_is_refused() -> None:
    m = Model()
    W = m.parameters["W"]
    with scope(t=9):
        E = (F.tanh(Tensor(m.arrays["h_0"]) @ W)).sum().named("E")
    with pytest.raises(ValueError, match=r"the loss reads the steps \[9\]; the reference has E_1 … E_5"):
        prove(explain(E, W), m.reference())


def test_a_mean_over_the_batch_is_proved_with_its_weight_and_only_with_it() -> None:
    m = Model(weight=1 / 3)
    assert proof_of(m, "W")
    e = explain(m.losses[-1], m.parameters["W"])
    assert notice(prove(e, m.reference(weight=1.0))) == NUMPY


# ---------------------------------------------------------------------------------------------------- (a) a wrong rule
# z = (x U + h W) + b, h = φ(z), q = h V + c. What each rule touches follows from these equations alone.
ALL = {"U", "W", "b", "V", "c", "h_0"}
RULES = {
    "tanh": (ops.TANH, 0, {"U", "W", "b", "h_0"}),
    "the second argument of matmul": (ops.MATMUL, 1, {"U", "W", "V"}),
    "the first argument of matmul": (ops.MATMUL, 0, {"U", "W", "b", "h_0"}),
    "the second argument of add": (ops.ADD, 1, {"U", "W", "b", "c", "h_0"}),
    "the first argument of add": (ops.ADD, 0, {"U", "W", "b", "V", "h_0"}),
    "cross_entropy": (ops.CROSS_ENTROPY, 0, ALL),
    "sum": (ops.SUM, 0, ALL),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", sorted(ALL))
def test_a_rule_that_is_off_by_1e_6_is_seen_by_all_that_share_no_rule(
        rule: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, position, touched = RULES[rule]
    m = Model()
    wrong_rule(monkeypatch, op, position)
    expected = EVERY_RULE if name in touched else set()
    if name in ("V", "c"):
        expected = expected - {IMPLICIT}  # 0 and rightly so
    if name == "h_0":
        expected = expected - {HELD, EXPLICIT}  # 0 and rightly so
    if name == "U" and rule == "the second argument of add":
        expected = expected - {HELD, EXPLICIT}  # step T's x U is the first argument; its earlier uses come through h W
    e = explain(m.losses[-1], m.parameters[name])
    if name == "U" and rule == "the second argument of add":
        with monkeypatch.context() as other:  # the output's h V is a first argument too
            other.setattr(ops.ADD, "rules", (ops.passed, ops.passed))
            assert np.array_equal(e.explicit, explain(m.losses[-1], m.parameters[name]).explicit)
    assert notice(prove(e, m.reference())) == expected
    assert notice(prove(e)) == expected & GRAPH


@pytest.mark.parametrize("name", ["U", "W", "b", "V", "c", "h_0"])
def test_the_sigmoid_rule_is_seen_where_the_cell_uses_it_and_there_only(
        name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_rule(monkeypatch, ops.SIGMOID, 0)
    assert notice(proof_of(Model(), name)) == set()
    expected = set() if name in ("V", "c") else EVERY_RULE - ({HELD, EXPLICIT} if name == "h_0" else set())
    assert notice(proof_of(Model(nonlinearity="sigmoid"), name)) == expected


def test_a_rule_that_is_wrong_in_a_hand_written_loop_is_seen_without_any_reference(
        monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_rule(monkeypatch, ops.TANH, 0)
    p, _, losses = PlainLoop(before="mask", twice=True).build()
    assert notice(prove(explain(losses[-1], p["W"]))) == EVERY_RULE & GRAPH


# ------------------------------------------------------------------------------------------------------ (b) the wiring
class TwoStepsAgo(nn.RNNCell):
    """Reads h_{t-2} where h_{t-1} is meant."""

    def forward(self, x: Any, h: Tensor) -> Tensor:
        before = getattr(self, "before", h)
        self.before = h
        return super().forward(x, before)


class NewState(nn.RNNCell):
    """Reads its own new state h_t where h_{t-1} is meant."""

    def forward(self, x: Any, h: Tensor) -> Tensor:
        return super().forward(x, super().forward(x, h))


class Transposed(nn.RNNCell):
    """Multiplies by Wᵀ."""

    def forward(self, x: Any, h: Tensor) -> Tensor:
        assert self.b is not None
        return F.tanh(Tensor(x) @ self.U + h @ self.W.T + self.b).named("h")


class InitialState(nn.RNNCell):
    """Reads h_0 at every step: nothing recurs."""

    def forward(self, x: Any, h: Tensor) -> Tensor:
        self.first = getattr(self, "first", h)
        return super().forward(x, self.first)


class Slightly(nn.RNNCell):
    """z is 1 + 1e-6 times what it should be."""

    def forward(self, x: Any, h: Tensor) -> Tensor:
        assert self.b is not None
        return F.tanh((x @ self.U + h @ self.W + self.b) * OFF).named("h")


@pytest.mark.parametrize("cell", [TwoStepsAgo, NewState, Transposed, InitialState, Slightly])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_wrong_wiring_is_seen_by_plain_numpy_and_by_nothing_else(cell: type[nn.RNNCell], name: str) -> None:
    m = Model(cell_class=cell)
    proof = proof_of(m, name)
    assert notice(proof) == NUMPY
    assert prove(proof.explanation), "every route over the recorded graph shares its wiring"


@pytest.mark.parametrize(("name", "blind"), [("V", {IMPLICIT}), ("c", {IMPLICIT}), ("W", set()), ("U", set())])
def test_an_output_that_reads_the_state_before_is_seen_by_plain_numpy_and_by_nothing_else(
        name: str, blind: set[Any]) -> None:
    m = Model()
    p = m.parameters
    with scope(t=m.T):
        E = F.cross_entropy(m.states[-2] @ p["V"] + p["c"], m.y[-1], reduction="sum").named("E")
    assert notice(prove(explain(E, p[name]), m.reference())) == NUMPY - blind


# ------------------------------------------------------------------------------------------------ (c) the forward pass
@pytest.mark.parametrize("name", ["U", "W", "b", "h_0"])
def test_a_wrong_forward_equation_with_its_own_right_rule_is_seen_by_plain_numpy_alone(
        name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.TANH, "forward", lambda x: OFF * np.tanh(x))
    monkeypatch.setattr(ops.TANH, "rules", (lambda g, y, x: g * (OFF - y * y / OFF),))
    proof = proof_of(Model(), name)
    assert notice(proof) == NUMPY - ({EXPLICIT} if name == "h_0" else set())
    assert prove(proof.explanation)


def test_a_forward_pass_that_is_wrong_for_complex_numbers_alone_is_not_believed_by_differences(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(x: Any) -> Any:
        y = np.tanh(x)
        return y.real + 1j * y.imag * OFF if y.dtype.kind == "c" else y

    monkeypatch.setattr(ops.TANH, "forward", forward)
    assert notice(proof_of(Model(), "W")) == {HELD, COPIES, COMPLEX}


# ----------------------------------------------------------------------------------------------------- (d) the numbers
def example(t: int | None = None, name: str = "W") -> tuple[Model, Explanation]:
    m = Model()
    return m, explain(m.losses[(t or m.T) - 1], m.parameters[name])


def vanishing() -> Model:
    return Model(T=60, arrays={"W": Model().arrays["W"] / 3})


def seen(m: Model, wrong: Explanation) -> set[tuple[str, str]]:
    everyone = notice(prove(wrong, m.reference()))
    assert notice(prove(wrong)) == everyone & GRAPH
    return everyone


def test_terms_shifted_by_one_step_are_seen_by_whoever_makes_each_term() -> None:
    m, e = example()
    shifted = {k: e.terms[k - 1 if k and k > 1 else m.T] for k in e.terms}
    assert seen(m, replace(e, terms=shifted)) == {UNTIED, COPIES, CLOSED}


def test_two_neighbouring_terms_exchanged_are_seen() -> None:
    m, e = example()
    for k in range(1, m.T):
        swapped = {**e.terms, k: e.terms[k + 1], k + 1: e.terms[k]}
        assert seen(m, replace(e, terms=swapped)) == {UNTIED, COPIES, CLOSED}, k


def test_explicit_and_implicit_exchanged_are_seen_by_whoever_makes_the_parts() -> None:
    m, e = example()
    assert seen(m, replace(e, explicit=e.implicit, implicit=e.explicit)) == {HELD, EXPLICIT, IMPLICIT}


def test_every_term_that_is_off_by_1e_6_is_seen() -> None:
    m, e = example()
    for k in e.terms:
        wrong = replace(e, terms={**e.terms, k: e.terms[k] * OFF})
        assert seen(m, wrong) == {SUM_OF_TERMS, UNTIED, COPIES, CLOSED}, k


@pytest.mark.parametrize("k", [1, 12, 25])
def test_one_term_of_25_that_is_off_by_2e_11_is_not_averaged_away(k: int) -> None:
    m = Model(T=25)
    e = explain(m.losses[-1], m.parameters["W"])
    assert {UNTIED, COPIES, CLOSED} <= seen(m, replace(e, terms={**e.terms, k: e.terms[k] * (1 + 2e-11)}))


def test_a_missing_term_and_an_invented_one_are_seen() -> None:
    m, e = example()
    for k in e.terms:
        without = {j: term for j, term in e.terms.items() if j != k}
        assert seen(m, replace(e, terms=without)) == {SUM_OF_TERMS, UNTIED, COPIES, CLOSED}, k
    assert {SUM_OF_TERMS, CLOSED} <= seen(m, replace(e, terms={**e.terms, 77: e.terms[1]}))
    assert {SUM_OF_TERMS} <= notice(prove(replace(e, terms={**e.terms, None: e.terms[1]})))


def test_invented_terms_that_cancel_are_seen_without_a_reference() -> None:
    _, e = example()
    wrong = replace(e, terms={**e.terms, 77: e.explicit, 78: -e.explicit})
    assert {UNTIED, COPIES} <= notice(prove(wrong))


def test_a_far_term_is_held_against_its_own_size() -> None:
    """Vanishing terms are what the tables are for: one that is 7 times too large is wrong, however small."""
    m = vanishing()
    e = explain(m.losses[-1], m.parameters["W"])
    assert 0 < np.abs(e.terms[1]).max() < 1e-12 * np.abs(e.total).max()
    assert notice(prove(replace(e, terms={**e.terms, 1: 7 * e.terms[1]}), m.reference())) == {UNTIED, COPIES, CLOSED}


@pytest.mark.parametrize(("part", "who"), [
    ("total", {SUM_OF_PARTS, SUM_OF_TERMS, COMPLEX, TOTAL}),  # differences are only good to 1e-7
    ("explicit", {SUM_OF_PARTS, HELD, EXPLICIT}),
    ("implicit", {SUM_OF_PARTS, IMPLICIT}),
])
@pytest.mark.parametrize("name", ["U", "W", "b"])
def test_one_element_that_is_off_by_1e_9_is_seen_wherever_it_is(part: str, who: set[Any], name: str) -> None:
    m, e = example(name=name)
    right = getattr(e, part)
    scale = max(np.abs(e.total).max(), np.abs(right).max())
    tried = 0
    for index in np.ndindex(right.shape):
        if abs(right[index]) > 0.02 * scale:
            wrong = right.copy()
            wrong[index] *= 1 + 1e-9
            assert seen(m, replace(e, **{part: wrong})) == who, index
            tried += 1
    assert tried >= right.size // 2


@pytest.mark.parametrize(("off", "who"), [(2e-12, {SUM_OF_PARTS, HELD, EXPLICIT}), (5e-13, set())])
def test_one_wrong_element_is_held_against_the_largest_and_not_averaged_away(off: float, who: set[Any]) -> None:
    m, e = example()
    at = np.unravel_index(np.abs(e.total).argmax(), e.total.shape)
    wrong = e.explicit.copy()
    wrong[at] += off * max(np.abs(e.total).max(), np.abs(e.explicit).max())
    if who:
        assert seen(m, replace(e, explicit=wrong)) == who
    else:  # within what is allowed against the larger of the two
        assert EXPLICIT not in notice(prove(replace(e, explicit=wrong))) and off < 1e-12


def test_a_total_that_is_off_by_1e_6_is_seen_by_differences_too() -> None:
    m, e = example()
    assert seen(m, replace(e, total=e.total * OFF)) == {SUM_OF_PARTS, SUM_OF_TERMS, COMPLEX, DIFFERENCES, TOTAL}


def test_a_shift_from_implicit_to_explicit_that_leaves_the_sum_is_seen() -> None:
    m, e = example()
    wrong = replace(e, explicit=e.explicit + 1e-9, implicit=e.implicit - 1e-9)
    assert seen(m, wrong) == {HELD, EXPLICIT, IMPLICIT}


def test_transposed_parts_are_seen() -> None:
    m, e = example()
    wrong = replace(e, explicit=e.explicit.T, implicit=e.implicit.T, total=e.total.T,
                    terms={k: term.T for k, term in e.terms.items()})
    assert seen(m, wrong) == (GRAPH | NUMPY) - {SUM_OF_PARTS, SUM_OF_TERMS, VALUE}


def test_an_explanation_of_another_loss_is_seen() -> None:
    m, e = example(t=3)
    wrong = {HELD, COPIES, UNTIED, COMPLEX, DIFFERENCES, EXPLICIT, IMPLICIT, TOTAL, CLOSED}
    for other in (0, 1, 3, 4):
        assert seen(m, replace(e, loss=m.losses[other])) == wrong, other


def test_nothing_at_all_is_not_proved() -> None:
    m, e = example()
    zero = np.zeros_like(e.total)
    nothing = replace(e, explicit=zero, implicit=zero, total=zero, terms={k: zero for k in e.terms})
    assert seen(m, nothing) == (GRAPH | NUMPY) - {SUM_OF_PARTS, SUM_OF_TERMS, VALUE}


@pytest.mark.parametrize("weight", [1.0, 1e-6])
def test_an_implicit_part_where_none_belongs_is_seen_even_where_gradients_are_small(weight: float) -> None:
    """V has no implicit part: exactly 0, and 1e-9 of the total is not that, whatever the size of the total."""
    m = Model(weight=weight)
    e = explain(m.losses[-1], m.parameters["V"])
    assert (e.implicit == 0).all()
    assert {SUM_OF_PARTS, IMPLICIT} <= seen(m, replace(e, implicit=e.total * 1e-9))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("part", "who"), [
    ("explicit", {SUM_OF_PARTS, HELD, EXPLICIT}), ("implicit", {SUM_OF_PARTS, IMPLICIT}),
    ("terms", {SUM_OF_TERMS, UNTIED, COPIES, CLOSED}),
])
def test_what_is_not_a_number_is_not_proved_anywhere(bad: float, part: str, who: set[Any]) -> None:
    m, e = example()
    for index in ((0, 0), (2, 3)):
        if part == "terms":
            wrong = {k: term.copy() for k, term in e.terms.items()}
            wrong[2][index] = bad
            broken = replace(e, terms=wrong)
        else:
            array = getattr(e, part).copy()
            array[index] = bad
            broken = replace(e, **{part: array})
        assert who <= seen(m, broken)


def test_a_total_that_is_not_a_number_is_not_proved() -> None:
    m, e = example()
    total = e.total.copy()
    total[1, 2] = np.nan
    assert seen(m, replace(e, total=total)) == {SUM_OF_PARTS, SUM_OF_TERMS, COMPLEX, DIFFERENCES, TOTAL}


def test_a_model_whose_weights_are_not_numbers_is_not_proved() -> None:
    W = Model().arrays["W"].copy()
    W[1, 2] = np.nan
    m = Model(arrays={"W": W})
    with np.errstate(all="ignore"):
        assert not prove(explain(m.losses[-1], m.parameters["W"]))
        assert not prove(explain(m.losses[-1], m.parameters["U"]), m.reference())


# --------------------------------------------------------------------------- (e) the bookkeeping of edges and of steps
def broken_edges(m: Model, rule: Any, monkeypatch: pytest.MonkeyPatch, *places: Any) -> set[tuple[str, str]]:
    for place in places:
        monkeypatch.setattr(place, "is_recurrence", rule)
    e = explain(m.losses[-1], m.parameters["W"])
    found = notice(prove(e, m.reference()))
    assert notice(prove(e)) == found & GRAPH
    return found


BROKEN_EDGES = {"none is found": lambda node, position: False,
                "the sums count too": lambda node, position: node.op is ops.ADD}


@pytest.mark.parametrize("kind", ["none is found", "the sums count too"])
def test_a_cut_at_the_wrong_edges_is_seen_by_whoever_holds_the_states(
        kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_edges(Model(), BROKEN_EDGES[kind], monkeypatch, parts) == {HELD, EXPLICIT, IMPLICIT}


@pytest.mark.parametrize("kind", ["none is found", "the sums count too"])
def test_recurrence_edges_read_wrongly_from_the_scopes_are_seen_by_plain_numpy_alone(
        kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_edges(Model(), BROKEN_EDGES[kind], monkeypatch, parts, steps) == {EXPLICIT, IMPLICIT}


def test_steps_that_are_confused_are_seen_by_the_closed_form_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies of W are made by the same reading of the steps: only plain NumPy counts them on its own."""
    m = Model()
    right = steps.step_of
    monkeypatch.setattr(bptt_uses, "step_of", lambda x: {1: 2, 2: 1}.get(right(x), right(x)))
    assert notice(proof_of(m, "W")) == {CLOSED}


def test_witnesses_that_share_the_reading_of_steps_and_edges_say_so() -> None:
    """As the tests above show, the scopes are shared by what holds states and by what copies W for each step."""
    m, e = example()
    shares = {key(w): w.shares for w in prove(e, m.reference()).witnesses}
    for witness in (HELD, UNTIED, COPIES):
        assert any(word in shares[witness] for word in ("scope", "step", "edge")), (witness, shares[witness])


def test_what_each_witness_says_it_shares_is_what_the_breaks_above_show() -> None:
    m, e = example()
    shares = {key(w): w.shares for w in prove(e, m.reference()).witnesses}
    assert all("forward" in shares[w] for w in GRAPH - {SUM_OF_PARTS, SUM_OF_TERMS})
    assert {w for w in GRAPH if "rule" in shares[w]} == {UNTIED}
    assert {w for w in GRAPH if "sweep" in shares[w]} == {SUM_OF_PARTS, SUM_OF_TERMS}
    assert all(shares[w] == "nothing" for w in NUMPY)


# --------------------------------------------------------------------------------------------------- (f) the reference
@pytest.mark.parametrize("name", ["U", "W", "b", "V", "c", "h_0"])
def test_a_reference_whose_parameter_is_another_is_refused(name: str) -> None:
    m, e = example(name=name)
    other = m.arrays[name].copy()
    other.flat[-1] = np.nextafter(other.flat[-1], 9)
    with pytest.raises(ValueError, match=f"no parameter '{name}' with the values explained"):
        prove(e, m.reference(**{name: other}))


def test_a_reference_is_refused_where_the_parameter_has_no_name_that_it_knows() -> None:
    m = Model()
    nameless = Tensor(m.arrays["W"], requires_grad=True)
    for parameter in (nameless, Tensor(m.arrays["W"], requires_grad=True, name="weight_hh")):
        with scope(t=1):
            E = F.tanh(Tensor(m.arrays["h_0"]) @ parameter).sum()
        with pytest.raises(ValueError, match="no parameter"):
            prove(explain(E, parameter), m.reference())


def test_a_learned_h_0_has_another_shape_than_the_reference_and_is_refused() -> None:
    m = MODELS["learned h_0"]
    with pytest.raises(ValueError, match="no parameter 'h_0'"):
        proof_of(m, "h_0")


def test_the_inputs_are_no_parameter_of_the_reference_and_are_refused_by_name() -> None:
    m = Model()
    x = Tensor(m.x, requires_grad=True, name="x")
    states, _ = nn.unroll(Same(m), x)
    with scope(t=m.T):
        E = F.cross_entropy(states[-1] @ m.arrays["V"] + m.arrays["c"], m.y[-1], reduction="sum")
    e = explain(E, x)
    assert prove(e)
    with pytest.raises(ValueError, match="no parameter 'x'"):
        prove(e, m.reference())


class Same(nn.Module):
    """The cell of a model as a function of the model's arrays."""

    def __init__(self, m: Model) -> None:
        self.m = m

    def forward(self, x: Any, h: Tensor) -> Tensor:
        a = self.m.arrays
        return F.tanh(x @ a["U"] + h @ a["W"] + a["b"]).named("h")

    def initial_state(self, batch_size: int) -> Tensor:
        return Tensor(self.m.arrays["h_0"])


@pytest.mark.parametrize("other", ["U", "b", "V", "c", "h_0", "x", "y", "nonlinearity"])
def test_a_reference_that_differs_in_anything_else_disagrees(other: str) -> None:
    m, e = example()
    if other == "nonlinearity":
        changed: Any = "sigmoid"
    elif other == "y":
        changed = (m.y + 1) % m.V
    else:
        changed = (m.x if other == "x" else m.arrays[other]) * OFF + 1e-6
    assert notice(prove(e, m.reference(**{other: changed}))) == NUMPY


# ---------------------------------------------------------------------------------------------------------- tolerances
def test_a_witness_agrees_up_to_its_tolerance_and_not_beyond() -> None:
    m, e = example()
    for w in prove(e, m.reference()).witnesses:
        assert bool(replace(w, error=w.tolerance)) and not replace(w, error=np.nextafter(w.tolerance, 1.0))
        assert not replace(w, error=float("nan")) and not replace(w, error=float("inf"))
        assert w.error < 1e-14 or key(w) == DIFFERENCES, "what is proved is proved with room to spare"


def test_differences_may_be_noisy_where_the_gradient_is_small_but_never_worthless() -> None:
    """An allowance above 1 would let any number pass: such a witness must not say that it agrees."""
    m = vanishing()
    e = explain(m.losses[-1], m.parameters["h_0"])
    assert 0 < np.abs(e.total).max() < 1e-16
    wrong = replace(e, total=np.ones_like(e.total) * np.abs(e.total).max() * 7)
    assert DIFFERENCES in notice(prove(wrong)) or not any(
        key(w) == DIFFERENCES for w in prove(wrong).witnesses)


@pytest.mark.parametrize("largest", [3 * 64, 1])  # of 16 elements three at a time, or one
def test_large_weights_are_proved_in_several_pieces(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    m = Model()
    at_once = prove(explain(m.losses[-1], m.parameters["W"]))
    monkeypatch.setattr(proof, "LARGEST", largest)
    pieces = prove(explain(m.losses[-1], m.parameters["W"]))
    assert at_once and pieces
    assert notice(prove(replace(pieces.explanation, total=pieces.explanation.total * OFF))) >= {COMPLEX, DIFFERENCES}


def test_two_proofs_of_one_explanation_are_the_same_numbers() -> None:
    """The random directions are not random from run to run."""
    m, e = example()
    assert prove(e, m.reference()).witnesses == prove(e, m.reference()).witnesses


# ------------------------------------------------------------------------------------------ found by those who tried it
def test_a_proof_is_of_the_graph_as_it_was_made_also_after_an_optimiser_step() -> None:
    m = Model()
    e, reference = explain(m.losses[-1], m.parameters["W"]), m.reference()
    m.parameters["W"].data = m.parameters["W"].data + 1.0
    assert prove(e, reference)


@pytest.mark.parametrize(("T", "nonlinearity"), [(560, "sigmoid"), (700, "sigmoid")])
def test_terms_that_vanish_below_the_range_of_floats_do_not_spoil_a_proof(T: int, nonlinearity: str) -> None:
    m = Model(T=T, nonlinearity=nonlinearity)
    e = explain(m.losses[-1], m.parameters["W"])
    assert np.abs(e.terms[1]).max() < 1e-250 and prove(e, m.reference())
    assert "vanished" in str(e) or all(term.any() for term in e.terms.values())


def test_a_steep_net_is_held_to_1e_11_and_an_ordinary_one_to_1e_12() -> None:
    ordinary, steep = Model(), Model()
    steep.arrays["W"] = steep.arrays["W"] * 20
    for m, allowed in ((ordinary, 1e-12), (steep, 1e-11)):
        h, losses = Tensor(m.arrays["h_0"]), []
        W = Tensor(m.arrays["W"], requires_grad=True, name="W")
        for t in range(1, m.T + 1):
            with scope(t=t):
                h = F.tanh(h @ W + 0.3).named("h")
                losses.append((h * h).sum())
        proof = prove(explain(losses[-1], W))
        assert proof, str(proof)
        assert {w.tolerance for w in proof.witnesses if "complex step" in w.route} == {allowed}


def test_float32_is_refused_with_a_word_about_it() -> None:
    w = Tensor(np.float32(0.5), requires_grad=True, name="w")
    with scope(t=1):
        s = w * np.float32(0.3)
    with pytest.raises(ValueError, match=r"float32.*expected float64"):
        prove(explain(s, w))


def test_a_large_weight_is_proved_along_random_directions_and_a_millionth_is_seen() -> None:
    m = Model(T=3, H=70)
    e = explain(m.losses[-1], m.parameters["W"])
    proof = prove(e)
    routes = {w.route for w in proof.witnesses}
    assert proof and {"complex step, 4096 directions", "differences, 4096 directions"} <= routes
    wrong = e.total.copy()
    wrong[np.unravel_index(np.abs(wrong).argmax(), wrong.shape)] *= 1 + 1e-6
    assert ("total", "complex step, 4096 directions") in notice(prove(replace(e, total=wrong)))


def test_a_weight_made_at_step_0_is_not_taken_for_an_initial_state() -> None:
    W, s = None, Tensor(np.ones((1, 2)))
    for t in range(3):
        with scope(t=t):
            W = W if W is not None else Tensor(np.eye(2), requires_grad=True, name="W")
            s = F.tanh(s @ W).named("s")
    with pytest.raises(ValueError, match=r"made at step 0.*outside the loop"):
        explain(s.sum(), W)
