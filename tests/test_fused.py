"""What a fused layer promises: the numbers of the readable loop, of PyTorch, and of the equations written in NumPy; and
the term matrix of its W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bptt_cells import NETS, Net
from conftest import apart, generator, gradients_of, leaf, normal
from make_fixtures import LAYERS
from test_matrix import is_matrix
from test_recurrent import KNOWN, against_torch

import viz
from tinygrad_rnn import Tensor, bptt, fused, nn, scope
from tinygrad_rnn import functional as F
from tinygrad_rnn.sweep import order
from tinygrad_rnn.ticks import ticks

PHI: dict[str, Callable[[Any], Any]] = {"tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
                                        "relu": lambda z: z * (z.real > 0)}
STEP = 1e-20
OF_THE_RNN = [(name, settings, lengths) for name, kind, settings, lengths in LAYERS if kind == "RNN"]


def written_out(a: Any, W: Any, h_0: Any, phi: str, backward: bool, lengths: Any) -> Any:
    """h (T, B, H), row by row, each only as far as it goes, by (1), (7) and (15)."""
    hs = np.zeros(a.shape, np.result_type(a, W, h_0))
    for b, n in enumerate([len(a)] * a.shape[1] if lengths is None else lengths):
        h = h_0[b]
        for t in reversed(range(n)) if backward else range(n):
            hs[t, b] = h = PHI[phi](a[t, b] + h @ W)
        for t in range(n, len(a)):
            hs[t, b] = h_0[b] if backward else h
    return hs


def present(lengths: Any, T: int) -> Any:
    return None if lengths is None else np.arange(T)[:, None, None] < np.array(lengths)[:, None]


@pytest.mark.parametrize("lengths", [None, [3, 5, 1]])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("phi", PHI)
def test_every_element_of_every_gradient_is_the_complex_step_of_the_equations(phi: str, backward: bool,
                                                                              lengths: Any) -> None:
    arrays = [normal(1, 5, 3, 4), normal(2, 4, 4), normal(3, 3, 4)]
    weights = normal(4, 5, 3, 4)

    def run(*leaves: Tensor) -> Tensor:
        return fused.rnn(*leaves, phi, backward=backward, present=present(lengths, 5))

    assert apart(run(*map(Tensor, arrays)).data, written_out(*arrays, phi, backward, lengths)) < 1e-14
    for position, got in enumerate(gradients_of(run, arrays, weights)):
        expected = np.zeros_like(got)
        for index in np.ndindex(got.shape):
            moved = [a.astype(complex) for a in arrays]
            moved[position][index] += STEP * 1j
            expected[index] = (weights * written_out(*moved, phi, backward, lengths).imag).sum() / STEP
        assert apart(got, expected) < 1e-13, position


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_derivative_that_is_wrong_by_1e_6_is_noticed(broken: int, breaking: Callable[..., None]) -> None:
    breaking(fused.RNN, broken, lambda g, d: d * (1 + 1e-6))
    with pytest.raises(AssertionError):
        test_every_element_of_every_gradient_is_the_complex_step_of_the_equations("tanh", False, None)


def test_many_seeds_at_once_give_what_each_gives_alone() -> None:
    arrays, seeds = (normal(1, 5, 3, 4), normal(2, 4, 4), normal(3, 3, 4)), normal(4, 2, 3, 5, 3, 4)
    node = fused.rnn(*map(leaf, arrays), backward=True, present=present([2, 5, 4], 5))
    together = fused.RNN.joint(seeds, *node.saved, **node.settings)
    for place in np.ndindex(2, 3):
        for all_of_them, alone in zip(together, fused.RNN.joint(seeds[place], *node.saved, **node.settings)):
            assert apart(all_of_them[place], alone) < 1e-14


@pytest.mark.parametrize(("name", "settings", "lengths"), OF_THE_RNN, ids=[name for name, *_ in OF_THE_RNN])
def test_a_fused_layer_has_the_outputs_last_states_and_every_gradient_of_pytorch(name: str, settings: dict[str, Any],
                                                                                 lengths: Any) -> None:
    far = against_torch("RNN", {**settings, "fused": True}, lengths, KNOWN[name])
    assert max(far.values()) <= 1e-12, far


@pytest.mark.parametrize("lengths", [None, [7, 3, 200]])
@pytest.mark.parametrize("settings", [
    {}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True, "nonlinearity": "relu"},
    {"batch_first": True, "bias": False}, {"initial": "learned", "nonlinearity": "sigmoid"}], ids=str)
def test_fused_and_graph_are_two_answers_to_one_question(settings: dict[str, Any], lengths: Any) -> None:
    T, B, D, H = 200, 3, 2, 4
    found = []
    for one_node in (False, True):
        net = nn.RNN(D, H, rng=generator(5), fused=one_node, **settings)
        places = len(net.cells)
        x, h_0 = leaf(normal(6, T, B, D)), leaf(normal(7, places, B, H))
        output, h_n = net(x.transpose(1, 0, 2) if net.batch_first else x,
                          None if "initial" in settings else h_0, lengths=lengths)
        loss = (output * normal(8, *output.shape)).sum() + (h_n * normal(9, places, B, H)).sum()
        loss.backward()
        grads = [x.grad, h_0.grad, *(p.grad for p in net.parameters())]
        found.append([output.data, h_n.data, *(g for g in grads if g is not None)])
        assert sum(node.op is fused.RNN for node in order([loss])) == one_node * places
    assert len(found[0]) == len(found[1]) > 4
    assert max(apart(ours, theirs) for ours, theirs in zip(*found)) < 1e-11


def test_ids_and_a_list_of_steps_mean_the_same_as_without_fusion() -> None:
    ids = generator(3).integers(0, 6, (5, 3))
    xs = [leaf(x) for x in normal(4, 5, 3, 6)]
    for given in (ids, list(ids), xs, normal(4, 5, 3, 6)):
        plain, one_node = (nn.RNN(6, 4, rng=generator(1), fused=f)(given)[0].data for f in (False, True))
        assert apart(one_node, plain) < 1e-14


@pytest.mark.parametrize("padding", [np.nan, 1e300])
def test_what_stands_in_the_padding_of_a_fused_layer_matters_to_nothing(padding: float) -> None:
    found = []
    for fill in (0.0, padding):
        net = nn.RNN(2, 4, bidirectional=True, rng=generator(1), fused=True)
        x = normal(2, 5, 3, 2)
        x[3:, 0] = fill
        xs = leaf(x)
        output, h_n = net(xs, lengths=[3, 5, 5])
        ((output * normal(3, *output.shape)).sum() + h_n.sum()).backward()
        assert not output.data[3:, 0].any() and not xs.grad[3:, 0].any()
        found.append([output.data, h_n.data, xs.grad, *(p.grad for p in net.parameters())])
    assert all((a == b).all() for a, b in zip(*found))


def test_float32_stays_float32() -> None:
    output, _ = nn.RNN(2, 4, dtype=np.float32, rng=generator(1), fused=True)(np.ones((3, 2, 2), np.float32))
    assert output.dtype == np.float32


# -------------------------------------------------------------------------------------------------- the matrix A of W
def one_node_each(net: Net) -> tuple[Tensor, dict[str, Tensor]]:
    """(E_1, …, E_T) of the same network with fused layers, and its parameters by name."""
    built = nn.RNN(net.D, net.H, net.layers, bidirectional=net.both, initial=net.initial, rng=generator(0), fused=True)
    given, _, y = net.built
    p = {str(q.name): q for q in built.parameters()}
    p |= {name: leaf(given[name].data, name) for name in given if name in ("V", "V'", "c")}
    for name, q in p.items():
        q.data = given[name].data
    h, _ = built(given["x"].data, lengths=net.lengths)
    q = h @ p["V"] if net.merge == "concat" else h[..., :net.H] @ p["V"] + h[..., net.H:] @ p["V'"]
    return F.cross_entropy(q + p["c"], y, "none").sum(-1), p


@pytest.mark.parametrize("label", ["RNN, forward", "RNN, both", "RNN, masked", "RNN, stack", "three layers",
                                   "RNN, stack, both", "RNN, stack, both, masked", "RNN, both, from 0.5"])
def test_every_number_of_the_matrix_of_each_w_is_the_definition_s(label: str) -> None:
    net = NETS[label]
    E, p = one_node_each(net)
    for name in [name for name in p if name.startswith("W")]:
        A = net.A(name)
        is_matrix(bptt.terms(E, p[name]), A)
        is_matrix(bptt.terms(list(E), p[name]), A)  # scalars: of such a seed is carried for each


@pytest.mark.parametrize("label", ["RNN, forward", "RNN, both", "RNN, masked"])
def test_where_each_loss_reads_its_own_step_no_seed_is_carried_further_than_it_goes(
        label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    E, p = one_node_each(NETS[label])
    monkeypatch.setattr(np, "eye", lambda *_, **__: pytest.fail("a seed was carried for every loss"))
    for name in [name for name in p if name.startswith("W")]:
        assert bptt.terms(E, p[name]).norms.any()


def losses_of(hs: Tensor, how: str) -> Tensor:
    """E (T,), from h (T, B, H), each of which reads more than its own step; T = B: shapes alone tell nothing."""
    if how == "transposed":
        return hs.transpose(1, 0, 2).sum(-1).sum(-1)
    if how == "reversed":
        return (hs * hs)[::-1].sum((-1, -2))
    if how == "shared":
        return (hs.sum(-1) * hs.sum((0, -1))).sum(-1)
    if how == "softmax over the steps":
        return F.softmax(hs, axis=0).sum((-1, -2))
    if how == "mixed by a product":
        return (normal(5, 4, 4) @ hs.sum(-1)).sum(-1)
    if how == "a row times a matrix":
        return hs.sum((-1, -2)) @ normal(5, 4, 4)
    if how == "times a stack":
        return (hs.sum(-1) @ normal(5, 4, 4, 3)).sum((-1, -2))
    if how == "spread over rows":
        return (hs.sum((-1, -2)) * normal(5, 4, 4)).sum(-1)
    return hs.sum(-1).sum(0)


@pytest.mark.parametrize("how", ["transposed", "reversed", "shared", "softmax over the steps", "mixed by a product",
                                 "a row times a matrix", "times a stack", "spread over rows", "summed over the steps"])
def test_losses_that_read_more_than_their_own_step_have_whole_terms(how: str) -> None:
    T = B = 4
    arrays = normal(1, T, B, 3), normal(2, 3, 3), normal(3, B, 3)
    W = leaf(arrays[1], "W")
    E = losses_of(fused.rnn(arrays[0], W, arrays[2]), how)
    h, hs = Tensor(arrays[2]), []
    for t in range(1, T + 1):
        with scope(t=t):
            h = F.tanh(arrays[0][t - 1] + h @ W)
            hs.append(h)
    stepwise = losses_of(F.stack(hs), how)
    a, b = bptt.terms(E, W), bptt.terms(list(stepwise), W)
    assert a.steps == b.steps == (1, 2, 3, 4)
    assert apart(a.arrays, b.arrays) < 1e-13 and apart(a.norms, b.norms) < 1e-13


def test_many_losses_of_one_step_each_have_their_term() -> None:
    W, h_0, c = leaf(normal(1, 3, 3), "W"), normal(2, 4, 3), normal(3, 5, 4, 3)
    a = bptt.terms((fused.rnn(np.zeros((1, 4, 3)), W, h_0) * c).sum((-1, -2)), W)
    slope = 1 - np.tanh(h_0 @ W.data) ** 2
    assert apart(a.arrays[:, 0], np.stack([h_0.T @ (part * slope) for part in c])) < 1e-14


def test_the_printed_matrix_says_which_terms_of_which_direction_are_explicit() -> None:
    E, p = one_node_each(NETS["RNN, both"])
    texts = {name: " ".join(repr(bptt.terms(E, p[name])).split()) for name in ("W", "W'")}
    assert "On the diagonal (k = t) all is explicit, below it (k < t) implicit." in texts["W"]
    assert "On the diagonal (k = t) all is explicit, above it (k > t) implicit" in texts["W'"]
    assert "`explain` tells what of a term is explicit" in " ".join(repr(bptt.terms(list(E), p["W"])).split())


@pytest.mark.parametrize("scale", [1.0, 1e-90, 1e-160, 1e160])
def test_of_a_long_sequence_norms_are_those_of_whole_terms_however_small(scale: float) -> None:
    T, B, H = 200, 3, 5
    W = leaf(normal(1, H, H) * 0.2, "W")
    hs = fused.rnn(normal(2, T, B, H), W, np.zeros((B, H)))
    a = bptt.terms((hs * normal(3, T, B, H) * scale).sum(-1).sum(-1), W)
    whole = np.abs(a.arrays).max((-1, -2), keepdims=True)
    expected = whole[..., 0, 0] * np.linalg.norm(a.arrays / np.where(whole > 0, whole, 1), axis=(-1, -2))
    assert not a.norms[:, 0].any() and not np.triu(a.norms, 1).any()  # h_0 = 0; what comes later
    there = expected > 1e-300
    assert there.sum() > 400
    assert np.abs(a.norms[there] / expected[there] - 1).max() < 1e-10


def test_the_gradient_stays_that_of_the_forward_pass_after_w_has_taken_new_values() -> None:
    E, p = one_node_each(NETS["RNN, forward"])
    before = bptt.terms(E, p["W"]).norms
    p["W"].data = p["W"].data * 2
    assert (bptt.terms(E, p["W"]).norms == before).all()


# --------------------------------------------------------------------------------------------------------- bad input
def test_a_cell_without_a_fused_form_says_so() -> None:
    with pytest.raises(ValueError, match=r"LSTMCell has no fused form; RNNCell has"):
        nn.LSTM(2, 3, rng=generator(0), fused=True)
    with pytest.raises(TypeError, match=r"fused 1: expected True or False"):
        nn.RNN(2, 3, rng=generator(0), fused=1)


@pytest.mark.parametrize(("a", "W", "h_0"), [((4, 2, 3), (3, 4), (2, 3)), ((4, 2, 3), (3, 3), (3,)),
                                             ((2, 3), (3, 3), (2, 3)), ((0, 2, 3), (3, 3), (2, 3))])
def test_shapes_that_do_not_fit_are_refused_with_all_three(a: Any, W: Any, h_0: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \(T, B, H\), \(H, H\), \(B, H\), and at least one step"):
        fused.rnn(np.ones(a), np.ones(W), np.ones(h_0))


def test_another_nonlinearity_and_another_mask_are_refused() -> None:
    given = np.ones((4, 2, 3)), np.ones((3, 3)), np.ones((2, 3))
    with pytest.raises(ValueError, match=r"nonlinearity 'gelu': expected one of tanh, sigmoid, relu"):
        fused.rnn(*given, "gelu")
    with pytest.raises(ValueError, match=r"present \(4, 3, 1\).*expected \(4, 2, 1\)"):
        fused.rnn(*given, present=np.ones((4, 3, 1), bool))


@pytest.mark.parametrize(("xs", "state", "message"), [
    (np.ones((4, 3, 5)), None, r"expected \(B, 2\)"), (np.ones(4), None, r"expected \(T, B, 2\)"),
    (np.ones((0, 3, 2)), None, "at least one step"), (np.ones((4, 3, 2)), np.ones((1, 2, 4)), r"expected \(3, 4\)"),
    (np.ones((4, 3, 2)), np.ones((2, 3, 4)), r"expected \(1, B, 4\)"), (np.array([[5]]), None, "ids from 5 to 5")])
def test_a_fused_layer_refuses_what_the_loop_refuses(xs: Any, state: Any, message: str) -> None:
    for one_node in (False, True):
        with pytest.raises((ValueError, IndexError), match=message if one_node else None):
            nn.RNN(2, 4, rng=generator(0), fused=one_node)(xs, state)


def test_other_parameters_and_paths_of_a_fused_layer_are_refused_with_the_way_out() -> None:
    E, p = one_node_each(NETS["RNN, forward"])
    for name in ("U", "b", "V", "h_0"):
        with pytest.raises(ValueError, match=rf"^{name}: where a layer of the graph is fused there are terms of"):
            bptt.terms(E, p[name])
    with pytest.raises(ValueError, match=r"a fused layer is one node.*fused=False"):
        bptt.explain(E.sum(), p["W"])


@pytest.mark.parametrize("sooner", [True, False])
def test_a_w_that_something_else_reads_too_is_refused(sooner: bool) -> None:
    W, xs = leaf(normal(1, 3, 3), "W"), normal(2, 4, 2, 3)
    hs = fused.rnn(Tensor(xs) @ W if sooner else xs, W, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="is read once"):
        bptt.terms((hs if sooner else hs @ W).sum(-1).sum(-1), W)


@pytest.mark.parametrize("position", [0, 2])
def test_what_a_fused_layer_reads_besides_its_w_has_no_terms(position: int) -> None:
    inputs = [leaf(normal(1, 4, 2, 3), "a"), leaf(normal(2, 3, 3), "W"), leaf(normal(3, 2, 3), "h_0")]
    with pytest.raises(ValueError, match="is fused there are terms of the W of such a layer alone"):
        bptt.terms(fused.rnn(*inputs).sum(-1).sum(-1), inputs[position])


def test_losses_as_one_tensor_have_one_axis() -> None:
    E, p = one_node_each(NETS["RNN, forward"])
    with pytest.raises(ValueError, match=r"losses of shape \(\); expected scalars, or one tensor \(T,\)"):
        bptt.terms(E.sum(), p["W"])


class Residual(nn.RNNCell):
    """A reader's own step, of which the fused form of its base knows nothing."""

    def forward(self, x: Any, h: Any) -> Any:
        return (super().forward(x, h) + h).named("h")


def test_a_cell_with_another_step_than_its_base_has_no_fused_form_of_it() -> None:
    with pytest.raises(ValueError, match="Residual has no fused form"):
        nn.Recurrent(Residual, 3, 2, fused=True, rng=generator(0))
    assert nn.Recurrent(type("Same", (nn.RNNCell,), {}), 3, 2, fused=True, rng=generator(0)).fused


@pytest.mark.parametrize("present", [np.array([[[2], [1]]]), np.array([[[0.5], [1]]]), [[[1], [0]]]])
def test_a_mask_that_is_not_of_booleans_is_refused(present: Any) -> None:
    with pytest.raises(TypeError, match="expected booleans"):
        fused.rnn(np.ones((1, 2, 3)), np.ones((3, 3)), np.ones((2, 3)), present=present)


def test_what_reads_a_graph_step_by_step_refuses_a_fused_layer() -> None:
    E, p = one_node_each(NETS["RNN, forward"])
    with scope(t=1):
        timed = E[0] + 0
    for read in (lambda: list(ticks(E.sum())), lambda: bptt.truncation([timed], p["W"], [1]),
                 lambda: bptt.explain(timed, p["W"]), lambda: viz.explore([timed])):
        with pytest.raises(ValueError, match=r"a fused layer is one node.*fused=False"):
            read()


def test_arguments_of_the_matrix_are_looked_at_for_a_fused_layer_too() -> None:
    E, p = one_node_each(NETS["RNN, forward"])
    hs = fused.rnn(normal(1, 4, 2, 3), leaf(normal(2, 3, 3)), np.ones((2, 3)))
    for losses in ([E], [hs[0].sum(0), hs[1].sum(0)]):
        with pytest.raises(ValueError, match="expected a scalar loss"):
            bptt.terms(losses, p["W"])
    for wrong in (lambda: bptt.terms([1.0], p["W"]), lambda: bptt.terms(E, "W")):  # type: ignore[list-item, arg-type]
        with pytest.raises(TypeError, match="expected tensors"):
            wrong()
    p["W"].requires_grad = False
    with pytest.raises(ValueError, match="asks for a gradient"):
        bptt.terms(E, p["W"])
