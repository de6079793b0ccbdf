"""What replaying, recording and the reading of steps promise: a graph alone can be perturbed, untied and cut."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from conftest import CASES, Case, apart, every_case, leaf, normal

from tinygrad_rnn import Tensor, nn, no_grad, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.recording import record, walk
from tinygrad_rnn.replay import evaluate, replay
from tinygrad_rnn.steps import is_recurrence, lane_of, recurrence_edges, step_of
from tinygrad_rnn.sweep import order

T, B, D, H = 5, 2, 3, 4
XS, WEIGHTS = normal(1, T, B, D), normal(2, T, B, H)


def states(W: Any, U: Any, h: Any, held: dict[int, Any] | None = None) -> list[Any]:
    """[h_0, …, h_T]; `held` replaces the states of some steps. W may be a list, one copy per step."""
    made = [h]
    for t in range(1, T + 1):
        with scope(layer=0, t=t):
            z = (Tensor(XS[t - 1]) @ U + h @ (W[t - 1] if isinstance(W, list) else W)).named("z")
            h = F.tanh(z).named("h")
        h = (held or {}).get(t, h)
        made.append(h)
    return made


def loss_of(made: list[Any]) -> Tensor:
    return F.stack([(h * w).sum() for h, w in zip(made[1:], WEIGHTS)]).sum()


def given() -> tuple[Tensor, Tensor, Tensor]:
    return leaf(0.7 * normal(3, H, H), "W"), leaf(normal(4, D, H), "U"), leaf(normal(5, B, H), "h_0")


# --------------------------------------------------------------------------------------------------------------- replay
def test_a_replay_with_a_leaf_changed_is_the_program_run_again() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    for key, other in ((W, normal(6, H, H)), (U, normal(7, D, H)), (h_0, normal(8, B, H))):
        changed = [other if x is key else x.data for x in (W, U, h_0)]
        expected = loss_of(states(*[Tensor(x) for x in changed]))
        assert replay(loss, {key: other}).item() == expected.item() != loss.item()


def test_a_replay_with_everything_changed_is_the_program_run_again_with_its_gradients() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    others = leaf(0.5 * normal(6, H, H)), leaf(normal(7, D, H)), leaf(normal(8, B, H))
    again = replay(loss, dict(zip((W, U, h_0), others)))
    again.backward()
    twins = [leaf(x.data) for x in others]
    fresh = loss_of(states(*twins))
    fresh.backward()
    assert again.item() == fresh.item()
    assert all(np.array_equal(x.grad, y.grad) for x, y in zip(others, twins))
    assert all(x.grad is None for x in (W, U, h_0))


def test_one_copy_of_the_weight_per_use_splits_its_gradient() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    uses = [(node, i) for node in reversed(order([loss])) for i, x in enumerate(node.inputs) if x is W]
    assert len(uses) == T
    copies = [leaf(W.data) for _ in uses]
    untied = replay(loss, dict(zip(uses, copies)))
    assert untied.item() == loss.item()
    untied.backward()
    loss.backward()
    assert apart(sum(c.grad for c in copies), W.grad) <= 1e-15
    by_hand = [leaf(W.data) for _ in uses]
    loss_of(states(by_hand, Tensor(U.data), Tensor(h_0.data))).backward()
    for got, expected in zip(copies, by_hand):
        assert apart(got.grad, expected.grad) <= 1e-15


def test_one_copy_changed_leaves_the_other_uses_alone() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    third = [(node, i) for node in reversed(order([loss])) for i, x in enumerate(node.inputs) if x is W][2]
    other = normal(6, H, H)
    copies = [Tensor(other if t == 2 else W.data) for t in range(T)]
    assert replay(loss, {third: other}).item() == loss_of(states(copies, U, h_0)).item()
    everywhere = normal(7, H, H)
    copies = [Tensor(other if t == 2 else everywhere) for t in range(T)]
    assert replay(loss, {third: other, W: everywhere}).item() == loss_of(states(copies, U, h_0)).item()


def test_a_state_held_fixed_blocks_what_is_behind_it() -> None:
    W, U, h_0 = given()
    made = states(W, U, h_0)
    loss = loss_of(made)
    W_2, held = leaf(W.data), leaf(made[3].data)
    again = replay(loss, {W: W_2, made[3]: held})
    assert again.item() == loss.item()
    again.backward()
    W_3, held_3 = leaf(W.data), leaf(made[3].data)
    loss_of(states(W_3, Tensor(U.data), Tensor(h_0.data), {3: held_3})).backward()
    assert apart(W_2.grad, W_3.grad) <= 1e-15 and apart(held.grad, held_3.grad) <= 1e-15
    assert h_0.grad is None


def test_what_a_replay_does_not_reach_keeps_the_values_of_the_forward_pass() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    other = normal(6, B, H)
    expected = replay(loss, {h_0: other}).item()
    W.data = np.zeros((H, H))
    assert replay(loss, {h_0: other}).item() == expected


def test_a_replay_keeps_names_scopes_and_primitives() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    with scope(t=99, gate="outside"):
        again = replay(loss, {W: leaf(normal(6, H, H)), U: leaf(U.data), h_0: leaf(h_0.data)})
    was, now = ([(x.op, x.name, dict(x.scope), x.shape) for x in order([root])] for root in (loss, again))
    assert was == now
    assert {x.name for x in order([again])} >= {"z", "h"}


def test_the_root_itself_can_be_replaced() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    assert replay(loss, {loss: 3.0}).item() == 3.0
    assert replay(W, {W: np.ones((H, H))}).data.tolist() == np.ones((H, H)).tolist()
    assert replay(loss, {}) is loss


def test_a_key_that_is_not_in_the_graph_is_refused() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    foreign = leaf(normal(6, H, H), "foreign")
    node = order([loss])[0]
    for key in (foreign, F.tanh(foreign), (F.tanh(foreign), 0), (node, 9)):
        with pytest.raises(ValueError, match="not in the graph"):
            replay(loss, {W: W.data, key: 1.0})
        with pytest.raises(ValueError, match="not in the graph"):
            evaluate(loss, {W: W.data[None], key: np.ones((1, H, H))})
    with pytest.raises(ValueError, match="not in the graph"):
        replay(W, {U: U.data})


def test_a_key_behind_a_state_that_is_held_is_in_the_graph() -> None:
    W, U, h_0 = given()
    made = states(W, U, h_0)
    other, held = normal(6, B, H), normal(7, B, H)
    assert np.array_equal(replay(made[-1], {h_0: other, made[2]: held}).data, replay(made[-1], {made[2]: held}).data)
    expected = loss_of(states(W, U, Tensor(other), {2: Tensor(held)})).item()
    assert replay(loss_of(made), {h_0: other, made[2]: held}).item() == expected


def test_a_tensor_all_of_whose_uses_are_replaced_is_in_the_graph() -> None:
    x = leaf([1.0, 2.0])
    y = F.tanh(x)
    assert np.array_equal(replay(y, {x: np.zeros(2), (y, 0): np.ones(2)}).data, np.tanh(np.ones(2)))


def test_one_edge_of_a_product_with_itself_can_be_replaced() -> None:
    x = leaf([3.0])
    y = x * x
    assert replay(y, {(y, 0): [5.0]}).data.tolist() == [15]
    other = leaf([5.0])
    replay(y, {(y, 1): other}).backward([1.0])
    assert other.grad is not None and other.grad.tolist() == [3] and x.grad is None


@every_case
def test_every_primitive_can_be_replayed(case: Case) -> None:
    leaves = [leaf(a) for a in case.arrays]
    root = case.run(*leaves)
    others = [a * 1.5 for a in case.arrays]
    again = replay(root, dict(zip(leaves, others)))
    with no_grad():
        assert np.array_equal(again.data, case.run(*[Tensor(a) for a in others]).data)


# ------------------------------------------------------------------------------------------------------------- evaluate
@every_case
def test_many_substitutions_at_once_are_as_many_replays(case: Case) -> None:
    leaves = [leaf(a) for a in case.arrays]
    root = case.run(*leaves)
    for size in range(1, len(leaves) + 1):
        for chosen in combinations(range(len(leaves)), size):
            stacks = {i: np.stack([leaves[i].data * f for f in (1.0, 1.5, 0.75)]) for i in chosen}
            together = evaluate(root, {leaves[i]: stack for i, stack in stacks.items()})
            assert together.shape == (3, *root.shape)
            for p in range(3):
                alone = replay(root, {leaves[i]: stack[p] for i, stack in stacks.items()})
                assert apart(together[p], alone.data) <= 1e-14


def test_many_substitutions_in_a_recurrent_graph() -> None:
    W, U, h_0 = given()
    made = states(W, U, h_0)
    loss = loss_of(made)
    use = next((node, i) for node in order([loss]) for i, x in enumerate(node.inputs) if x is W)
    keys: list[Any] = [W, h_0, made[2], use]
    for key, shape in zip(keys, [(H, H), (B, H), (B, H), (H, H)]):
        stack = 0.5 * normal(9, 7, *shape)
        together = evaluate(loss, {key: stack})
        assert together.shape == (7,)
        for p in range(7):
            assert together[p] == pytest.approx(replay(loss, {key: stack[p]}).item(), rel=1e-13)


def test_many_complex_substitutions_are_the_complex_step() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    steps = np.zeros((H * H, H, H), complex) + W.data
    for p, index in enumerate(np.ndindex(H, H)):
        steps[(p, *index)] += 1e-20j
    numeric = evaluate(loss, {W: steps}).imag.reshape(H, H) / 1e-20
    loss.backward()
    assert apart(W.grad, numeric) <= 1e-13


def test_evaluation_refuses_different_numbers_of_substitutions() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    with pytest.raises(ValueError, match="leading axis"):
        evaluate(loss, {W: np.ones((2, H, H)), U: np.ones((3, D, H))})


# ------------------------------------------------------------------------------------------------------------ recording
def test_a_recording_has_the_gradient_of_every_tensor_and_touches_no_grad() -> None:
    W, U, h_0 = given()
    made = states(W, U, h_0)
    loss = loss_of(made)
    recording = record(loss)
    assert all(x.grad is None for x in (W, U, h_0))
    loss.backward()
    for x in (W, U, h_0):
        assert np.array_equal(recording.gradients[x], x.grad)
    assert recording.gradients[loss] == 1 and recording.root is loss
    for t in range(1, T + 1):  # by a graph in which the state is a leaf
        held = leaf(made[t].data)
        loss_of(states(Tensor(W.data), Tensor(U.data), Tensor(h_0.data), {t: held})).backward()
        assert apart(recording.gradients[made[t]], held.grad) <= 1e-14


def test_recorded_contributions_add_up_to_every_recorded_gradient() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0)) + (W[[0, 0, 1]] * 2.0).sum() + W[1:, 0].sum()
    recording = record(loss, 3.0)
    sums: dict[Tensor, Any] = {loss: np.array(3.0)}
    for (node, position), d in recording.contributions.items():
        x = node.inputs[position]
        assert d.shape == x.shape
        sums[x] = sums.get(x, 0.0) + np.asarray(d)
    assert sums.keys() == recording.gradients.keys()
    for x, gradient in recording.gradients.items():
        assert apart(sums[x], gradient) <= 1e-14


def test_a_cut_edge_is_a_detach() -> None:
    W, U, h_0 = given()
    made = states(W, U, h_0)
    loss = loss_of(made)
    cut = {edge for edge in recurrence_edges(order([loss])) if step_of(edge[0]) == 4}
    assert len(cut) == 1
    recording = record(loss, cut=cut)
    W_2, h = leaf(W.data), leaf(h_0.data)
    first = states(W_2, Tensor(U.data), h)[:4]
    rest = first[:]
    for t in (4, 5):
        state = rest[-1].detach() if t == 4 else rest[-1]
        rest.append(F.tanh(Tensor(XS[t - 1]) @ Tensor(U.data) + state @ W_2))
    loss_of(rest).backward()
    assert apart(recording.gradients[W], W_2.grad) <= 1e-14
    assert apart(recording.gradients[h_0], h.grad) <= 1e-14
    assert not cut & recording.contributions.keys() and recording.cut is cut


def test_when_every_path_is_cut_a_leaf_has_no_gradient() -> None:
    x, y = leaf([1.0]), leaf([2.0])
    z = F.tanh(x) * y
    recording = record(z, [1.0], cut={(z, 0)})
    assert x not in recording.gradients and z.inputs[0] not in recording.gradients and y in recording.gradients


def test_a_recording_is_not_changed_by_what_comes_after() -> None:
    W, U, h_0 = given()
    loss = loss_of(states(W, U, h_0))
    recording = record(loss)
    kept = {x: np.array(g) for x, g in recording.gradients.items()}
    loss.backward()
    W.grad += 1.0
    record(loss)
    assert all(np.array_equal(recording.gradients[x], g) for x, g in kept.items())
    h = states(W, U, h_0)[-1] + 1.0
    gradient = normal(9, B, H)
    recording = record(h, gradient)
    kept = {key: np.array(d) for key, d in recording.contributions.items()}
    gradient[:] = 0.0
    assert recording.gradients[h].all()
    assert all(np.array_equal(recording.contributions[key], d) for key, d in kept.items())


def test_a_recording_refuses_what_backward_refuses() -> None:
    W, U, h_0 = given()
    h = states(W, U, h_0)[-1]
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        record(h)
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(2, 4\)"):
        record(h, np.ones((4, 2)))
    with pytest.raises(RuntimeError, match="nothing that requires a gradient"):
        record(Tensor(1.0))
    with pytest.raises(TypeError, match="complex"):
        record((h * Tensor(1j)).sum())


def test_walking_shows_every_edge_once_and_can_cut() -> None:
    x = leaf([2.0])
    y = F.exp(x) * x
    totals = {y: np.array([1.0])}
    edges = walk(totals, lambda node, position: (node.op.name, position) == ("mul", 0))
    seen = [(node.op.name, position) for node, position, _, _ in edges]
    assert seen == [("mul", 0), ("mul", 1)]
    assert totals[x].tolist() == [np.exp(2.0)]


# ---------------------------------------------------------------------------------------------------------------- steps
def test_steps_and_lanes_are_read_from_scopes() -> None:
    with scope(sequence="encoder", layer=1, direction="backward", t=3, gate="f"):
        x = leaf([1.0])
    assert step_of(x) == 3 and lane_of(x) == ("encoder", 1, "backward")
    assert step_of(leaf([1.0])) is None and lane_of(leaf([1.0])) == (None, None, None)


def test_recurrence_edges_join_steps_of_one_lane_only() -> None:
    def made(**where: Any) -> Tensor:
        with scope(**where):
            return leaf([1.0]) * 1.0
    base = {"sequence": "a", "layer": 0, "direction": "forward"}
    earlier = made(**base, t=1)
    for where, expected in (({**base, "t": 2}, True), ({**base, "t": 1}, False), ({**base, "t": 0}, True),
                            ({**base, "layer": 1, "t": 2}, False), ({**base, "direction": "backward", "t": 2}, False),
                            ({**base, "sequence": "b", "t": 2}, False), (base, False), ({}, False)):
        with scope(**where):
            node = F.tanh(earlier)
        assert is_recurrence(node, 0) is expected, where
    with scope(**base, t=5):
        weight = F.tanh(leaf([1.0]))  # a leaf made outside every step
    assert not is_recurrence(weight, 0)


@pytest.mark.parametrize("learned", [False, True])
def test_the_recurrence_edges_of_an_unrolled_cell_are_one_per_step(learned: bool) -> None:
    cell = nn.RNNCell(D, H, initial="learned" if learned else 0.5, rng=np.random.default_rng(1))
    _, h = nn.unroll(cell, XS)
    edges = recurrence_edges(order([h]))
    steps = sorted((step_of(node), step_of(node.inputs[i])) for node, i in edges)
    assert steps == [(t, t - 1) for t in range(1, T + 1)]
    assert all(node.inputs[i].name == "h" for node, i in edges)


def test_the_cases_are_the_ones_that_the_primitives_are_tested_with() -> None:
    assert len(CASES) > 150


def test_a_recording_of_many_slices_does_not_spread_each_over_the_whole_array() -> None:
    x = leaf(np.ones((1000, 50)))
    recording = record(F.stack([x[t].sum() for t in range(1000)]).sum())
    held = sum(np.asarray(d.g).nbytes for d in recording.contributions.values() if not isinstance(d, np.ndarray))
    assert held == x.data.nbytes  # each row once; spread out it would be a thousand times as much
    assert np.array_equal(recording.gradients[x], np.ones((1000, 50)))
