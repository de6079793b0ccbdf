"""What layers over time promise: PyTorch's numbers, stacks, both directions, and rows of different lengths.

The reference runs every row of a batch by itself, only as far as it goes, with the NumPy cells of `test_cells`: no
batch, no padding, no mask. Its complex step is the gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import FIXTURES, apart, generator, leaf, normal
from hypothesis import given
from hypothesis import strategies as st
from make_fixtures import LAYERS
from test_cells import (
    VARIANTS,
    E,
    MinimalGatedUnit,
    Step,
    Values,
    by_numpy,
    complex_steps,
    gradients_of,
    mutate,
    np_minimal,
    repeatable,
    seeds,
    worst,
)

from tinygrad_rnn import Tensor, nn
from tinygrad_rnn import functional as F
from tinygrad_rnn.check import gradcheck
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.sweep import order

T, B, D, H = 4, 3, 2, 5
LENGTHS = [2, 4, 1]
KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
GATES = {"RNN": ("",), "LSTM": ("_i", "_f", "_c", "_o"), "GRU": ("_r", "_z", "_n")}  # PyTorch's i f g o and r z n


# -------------------------------------------------------------------------------------------------------------- PyTorch
def from_torch(kind: str, values: Values, prefix: str = "") -> Values:
    """PyTorch's weights, or (prefix 'd ') its gradients, under our names. A summed bias has the gradient of each."""
    ours: Values = {}
    for key in [key.removeprefix(prefix + "weight_ih_") for key in values if key.startswith(prefix + "weight_ih_")]:
        def parts(role: str, place: str = key) -> list[np.ndarray]:
            return np.split(values[f"{prefix}{role}_{place}"], len(GATES[kind]))
        for gate, U, W in zip(GATES[kind], parts("weight_ih"), parts("weight_hh"), strict=True):
            ours |= {f"cells.{key}.U{gate}": U.T, f"cells.{key}.W{gate}": W.T}
        if f"{prefix}bias_ih_{key}" in values:
            for gate, b, b_h in zip(GATES[kind], parts("bias_ih"), parts("bias_hh"), strict=True):
                if kind == "GRU" and gate == "_n":
                    ours |= {f"cells.{key}.b_n": b, f"cells.{key}.b_hn": b_h}
                else:
                    assert not prefix or apart(b, b_h) <= 1e-14
                    ours[f"cells.{key}.b{gate}"] = b if prefix else b + b_h
    return ours


def against_torch(kind: str, settings: dict[str, Any], lengths: Any, known: Values) -> dict[str, float]:
    """How far results and gradients are from PyTorch's."""
    D, H = known["x"].shape[-1], known["h_0"].shape[-1]
    net = KINDS[kind](D, H, rng=generator(1), **settings)
    net.load_state_dict(from_torch(kind, known))
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    leaves: dict[str, Tensor] = {key: leaf(known[key]) for key in ["x", *(f"{s}_0" for s in states)]}
    first = tuple(leaves[f"{s}_0"] for s in states)
    output, last = net(leaves["x"], first if len(first) > 1 else first[0], lengths=lengths)
    names = ["output", *(f"{s}_n" for s in states)]
    results = [output, *(last if isinstance(last, tuple) else [last])]
    far = {key: apart(y.data, known[key]) for key, y in zip(names, results, strict=True)}
    got = gradients_of(results, leaves | dict(net.named_parameters()), [known[f"g {key}"] for key in names])
    expected = from_torch(kind, known, "d ") | {key: known[f"d {key}"] for key in leaves}
    assert got.keys() == expected.keys()
    return far | {f"d {key}": apart(got[key], expected[key]) for key in expected}


def known_answers() -> dict[str, Values]:
    known: dict[str, Values] = {name: {} for name, *_ in LAYERS}
    with np.load(FIXTURES / "layers.npz") as archive:
        for path in archive.files:
            name, key = path.split("/")
            known[name][key] = archive[path]
    return known


KNOWN = known_answers()


@pytest.mark.parametrize(("name", "kind", "settings", "lengths"), LAYERS, ids=[name for name, *_ in LAYERS])
def test_a_layer_has_the_outputs_last_states_and_every_gradient_of_pytorch(name: str, kind: str, lengths: Any,
                                                                           settings: dict[str, Any]) -> None:
    far = against_torch(kind, settings, lengths, KNOWN[name])
    assert max(far.values()) <= 1e-12, far


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_the_arguments_of_pytorch_mean_the_same(torch: Any, kind: str, bidirectional: bool, batch_first: bool) -> None:
    settings = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": batch_first}
    theirs = getattr(torch.nn, kind)(D, H, **settings).double()
    ours = KINDS[kind](D, H, rng=generator(1), **settings)  # type: ignore[arg-type]
    ours.load_state_dict(from_torch(kind, {k: p.detach().numpy() for k, p in theirs.named_parameters()}))
    x = normal(2, *((B, T, D) if batch_first else (T, B, D)))
    h_0, c_0 = normal(3, 2 * (1 + bidirectional), B, H), normal(4, 2 * (1 + bidirectional), B, H)
    state = (h_0, c_0) if kind == "LSTM" else h_0
    for given_state in (None, state):
        as_theirs = (None if given_state is None else
                     tuple(map(torch.tensor, state)) if kind == "LSTM" else torch.tensor(state))
        expected, last = theirs(torch.tensor(x), as_theirs)
        output, got = ours(x, given_state)
        assert apart(output.data, expected.detach().numpy()) <= 1e-13
        for a, b in zip(got if kind == "LSTM" else [got], last if kind == "LSTM" else [last], strict=True):
            assert apart(a.data, b.detach().numpy()) <= 1e-13


# ---------------------------------------------------------------------------------------------------- the same in NumPy
def places(num_layers: int, bidirectional: bool) -> list[list[tuple[str, str]]]:
    """Layer by layer, the names and directions of its cells."""
    return [[(f"l{layer}", "forward"), (f"l{layer}_reverse", "backward")][:1 + bidirectional]
            for layer in range(num_layers)]


def row_by_row(step: Step, values: Values, num_layers: int = 1, bidirectional: bool = False,
               lengths: Any = None) -> list[np.ndarray]:
    """output (T, B, K H), 0 where a row is over, and the parts of the last states (L K, B, H)."""
    T, B = values["x"].shape[:2]
    rows, lasts = [], []
    for b, n in enumerate([T] * B if lengths is None else lengths):
        xs, last, k = values["x"][:n, b:b + 1], [], 0
        for layer in places(num_layers, bidirectional):
            outputs = []
            for place, direction in layer:
                cell = {key.rpartition(".")[2]: a for key, a in values.items() if key.startswith(f"cells.{place}.")}
                cell |= {key: values[key][k, b:b + 1] for key in ("h_0", "c_0") if key in values}
                y, *state = by_numpy(step, {**cell, "x": xs}, direction)
                outputs.append(y)
                last.append(state)
                k += 1
            xs = np.concatenate(outputs, -1)
        rows.append(np.concatenate([xs, np.zeros((T - n, 1, xs.shape[-1]))]))
        lasts.append(last)
    parts = [np.stack([np.concatenate([last[i][part] for last in lasts]) for i in range(k)])
             for part in range(len(lasts[0][0]))]
    return [np.concatenate(rows, 1), *parts]


def net_of(name: str, **settings: Any) -> nn.Recurrent:
    kind, options, _ = VARIANTS[name]
    return nn.Recurrent(kind, D, H, rng=generator(1), **options, **settings)


def values_of(net: nn.Recurrent, seed: int = 2, steps: int = T, batch_size: int = B) -> Values:
    states = next(iter(net.cells.values())).states
    values = {"x": normal(seed, steps, batch_size, net.input_size)}
    values |= {f"{s}_0": normal(seed + 1 + i, len(net.cells), batch_size, net.hidden_size)
               for i, s in enumerate(states)}
    return values | net.state_dict()


def by_library(net: nn.Recurrent, values: Values, lengths: Any = None) -> tuple[list[Tensor], dict[str, Tensor]]:
    leaves: dict[str, Tensor] = dict(net.named_parameters())
    leaves |= {key: leaf(a) for key, a in values.items() if key not in leaves}
    parts = tuple(leaves[key] for key in ("h_0", "c_0") if key in leaves)
    output, last = net(leaves["x"], parts if len(parts) > 1 else parts[0] if parts else None, lengths=lengths)
    return [output, *(last if isinstance(last, tuple) else [last])], leaves


def random_weights(results: list[Tensor], seed: int = 8) -> list[np.ndarray]:
    return [normal(seed + i, *y.shape) for i, y in enumerate(results)]


def distances(net: nn.Recurrent, step: Step, values: Values, lengths: Any = None) -> tuple[float, float]:
    """How far results, and gradients, are from those of the rows one by one."""
    shape: Any = net.num_layers, net.bidirectional, lengths
    results, leaves = by_library(net, values, lengths)
    weights = random_weights(results)
    expected = row_by_row(step, values, *shape)
    forward = max(apart(y.data, e) for y, e in zip(results, expected, strict=True))

    def loss(moved: Values) -> Any:
        return sum((y * w).sum() for y, w in zip(row_by_row(step, moved, *shape), weights, strict=True))

    return forward, worst(gradients_of(results, leaves, weights), complex_steps(loss, values))


SMALL = {"num_layers": 1, "bidirectional": True}
STACK = {"num_layers": 2, "bidirectional": True}
CASES = [*((name, SMALL, LENGTHS) for name in VARIANTS), ("lstm with peepholes", SMALL, None),
         ("rnn sigmoid", {"num_layers": 3}, LENGTHS), ("rnn tanh", STACK, LENGTHS),
         ("lstm with peepholes", {"num_layers": 2}, LENGTHS), ("gru None u", {"num_layers": 3}, None),
         ("gru before z", STACK, LENGTHS)]


@pytest.mark.parametrize(("name", "settings", "lengths"), CASES)
def test_layers_and_every_gradient_are_those_of_the_rows_one_by_one(name: str, settings: Any, lengths: Any) -> None:
    kind, options, step = VARIANTS[name]
    net = nn.Recurrent(kind, 1, 2, rng=generator(1), **options, **settings)
    forward, gradients = distances(net, step, values_of(net), lengths)
    assert forward <= 1e-13 and gradients <= 1e-12


@pytest.mark.parametrize("name", ["rnn relu", "lstm", "gru after z"])
def test_every_cell_of_a_stack_learns_its_own_initial_state(name: str) -> None:
    net = net_of(name, num_layers=2, bidirectional=True, initial="learned")
    for i, p in enumerate(p for key, p in net.named_parameters() if key.endswith("_0")):
        assert not p.data.any()
        p.data = normal(30 + i, H)
    values = {"x": normal(2, T, B, D)} | net.state_dict()
    results, leaves = by_library(net, values, LENGTHS)
    weights, step = random_weights(results), VARIANTS[name][2]
    assert apart(results[0].data, row_by_row(step, values, 2, True, LENGTHS)[0]) <= 1e-13

    def loss(moved: Values) -> Any:
        found = row_by_row(step, values | moved, 2, True, LENGTHS)
        return sum((y * w).sum() for y, w in zip(found, weights, strict=True))

    learned = {key: a for key, a in values.items() if key.endswith("_0")}
    assert len(learned) == 4 * len(next(iter(net.cells.values())).states)
    got = gradients_of(results, leaves, weights)
    assert worst({key: got[key] for key in learned}, complex_steps(loss, learned)) <= 1e-12


@pytest.mark.parametrize("name", ["rnn tanh", "lstm", "gru before u"])
@pytest.mark.parametrize("initial", [0, 0.5])
def test_both_boundary_states_are_the_constant_that_was_asked_for(name: str, initial: float) -> None:
    net = net_of(name, num_layers=2, bidirectional=True, initial=initial)
    values = values_of(net)
    values |= {key: np.full(values[key].shape, float(initial)) for key in ("h_0", "c_0") if key in values}
    expected = row_by_row(VARIANTS[name][2], values, 2, True, LENGTHS)
    output, last = net(values["x"], lengths=LENGTHS)
    assert apart(output.data, expected[0]) <= 1e-13
    assert all(apart(a.data, b) <= 1e-13 for a, b in zip(last if isinstance(last, tuple) else [last], expected[1:]))


# -------------------------------------------------------------------------------------------------------------- lengths
def padding(lengths: Any, T: int) -> np.ndarray:
    """(T, B): is this step of this row beyond its end?"""
    return np.arange(T)[:, None] >= np.asarray(lengths)


@pytest.mark.parametrize("name", ["rnn relu", "lstm with peepholes", "gru after z", "gru before u"])
@pytest.mark.parametrize("filling", [np.nan, np.inf, 1e300, 0.0])
def test_what_stands_in_the_padding_matters_to_nothing(name: str, filling: float) -> None:
    net = net_of(name, num_layers=2, bidirectional=True)
    values, over = values_of(net), padding(LENGTHS, T)
    padded = values | {"x": np.where(over[..., None], filling, values["x"])}
    results, leaves = by_library(net, padded, LENGTHS)
    for y, e in zip(results, row_by_row(VARIANTS[name][2], values, 2, True, LENGTHS), strict=True):
        assert apart(y.data, e) <= 1e-13
    weights = random_weights(results)
    got = gradients_of(results, leaves, weights)
    expected = gradients_of(*by_library(net, values, LENGTHS), weights)
    assert all(np.array_equal(got[key], expected[key]) for key in expected)
    assert not results[0].data[over].any() and not got["x"][over].any()
    assert got["x"][~over].all() and results[0].data[~over].any(-1).all()


@pytest.mark.parametrize("name", ["rnn tanh", "lstm", "gru after u"])
@pytest.mark.parametrize("filling", [-1, 10**9])
def test_an_id_in_the_padding_need_not_be_one(name: str, filling: int) -> None:
    net, ids = net_of(name, num_layers=2, bidirectional=True), np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
    values, over = values_of(net) | {"x": np.eye(D)[ids]}, padding(LENGTHS, T)
    state = tuple(Tensor(values[key]) for key in ("h_0", "c_0") if key in values)
    output, last = net(np.where(over, filling, ids), state if len(state) > 1 else state[0], lengths=LENGTHS)
    results = [output, *(last if isinstance(last, tuple) else [last])]
    weights = random_weights(results)
    expected_results, leaves = by_library(net, values, LENGTHS)
    got = gradients_of(results, dict(net.named_parameters()), weights)
    expected = gradients_of(expected_results, leaves, weights)
    assert worst(got, {key: expected[key] for key in got}) <= 1e-13
    for y, e in zip(results, row_by_row(VARIANTS[name][2], values, 2, True, LENGTHS), strict=True):
        assert apart(y.data, e) <= 1e-13
    narrow = nn.RNN(1, 2, rng=generator(1))  # whose only id is 0
    assert apart(narrow(np.where(over, filling, 0), lengths=LENGTHS)[0].data[~over],
                 narrow(np.ones((T, B, 1)))[0].data[~over]) <= 1e-14
    with pytest.raises(IndexError, match="2 rows of U"):
        net(np.where(over, filling, ids), lengths=[4, 4, 4])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_200_padded_steps_are_the_unpadded_rows_with_every_gradient(kind: str) -> None:
    T, lengths = 200, [37, 200, 1]
    net = KINDS[kind](D, H, 2, bidirectional=True, rng=generator(1))
    x = normal(2, T, B, D)
    over = padding(lengths, T)
    x[over] = np.nan
    states = tuple(normal(3 + i, 4, B, H) for i in range(2 if kind == "LSTM" else 1))
    weights = normal(5, T, B, 2 * H)

    def run(x: np.ndarray, states: Any, weights: np.ndarray, lengths: Any = None) -> list[np.ndarray]:
        net.zero_grad()
        xs, parts = leaf(x), tuple(map(leaf, states))
        output, last = net(xs, parts if len(parts) > 1 else parts[0], lengths=lengths)
        F.stack([(output * weights).sum(), *((y * y).sum() for y in (last if len(parts) > 1 else [last]))]
                ).sum().backward()
        return [output.data, xs.grad, *(y.data for y in (last if len(parts) > 1 else [last])),  # type: ignore[list-item]
                *(p.grad for p in parts), *(p.grad for p in net.parameters())]

    together, total = run(x, states, weights, lengths), None
    for b, n in enumerate(lengths):
        alone = run(x[:n, b:b + 1], [s[:, b:b + 1] for s in states], weights[:n, b:b + 1])
        for y, mine in zip(together[:2], alone):
            assert apart(y[:n, b:b + 1], mine) <= 1e-12 and not y[n:, b].any()
        for y, mine in zip(together[2:2 + 2 * len(states)], alone[2:]):
            assert apart(y[:, b:b + 1], mine) <= 1e-12
        gradients = alone[2 + 2 * len(states):]
        total = gradients if total is None else [a + g for a, g in zip(total, gradients)]
    assert total is not None and len(total) == len(net.parameters())
    assert all(apart(a, g) <= 1e-12 for a, g in zip(together[2 + 2 * len(states):], total))


def test_full_lengths_change_nothing_and_all_kinds_of_integers_are_lengths() -> None:
    net, x = net_of("lstm", bidirectional=True), normal(2, T, B, D)
    plain = net(x)[0].data
    for full in ([T] * B, np.full(B, T), np.full(B, T, np.uint8), (T,) * B):
        assert np.array_equal(net(x, lengths=full)[0].data, plain)
    for some in (np.array(LENGTHS), tuple(LENGTHS), np.array(LENGTHS, np.int8)):
        assert np.array_equal(net(x, lengths=some)[0].data, net(x, lengths=LENGTHS)[0].data)
    assert net(x[:, :0], lengths=np.zeros(0, int))[0].shape == (T, 0, 2 * H)
    short = net(x, lengths=[2, 1, 2])  # no row reaches the last steps
    assert apart(short[0].data[:2], net(x[:2], lengths=[2, 1, 2])[0].data) <= 1e-14 and not short[0].data[2:].any()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_where_a_row_is_over_its_state_is_held(direction: Any) -> None:
    cell, x, h_0 = net_of("gru after z").cells["l0"], normal(2, T, B, D), leaf(normal(3, B, H))
    outputs, last = nn.unroll(cell, x, h_0, lengths=LENGTHS, direction=direction)
    last.backward(np.ones((B, H)))
    for b, n in enumerate(LENGTHS):
        end = outputs[n - 1 if direction == "forward" else 0].data[b]
        assert np.array_equal(last.data[b], end) and end.all()
    assert h_0.grad is not None and h_0.grad.all()


@pytest.mark.parametrize(("lengths", "error", "told"), [
    ([2.0, 4.0, 1.0], TypeError, "integers, got float64"), ([True, True, True], TypeError, "integers, got bool"),
    (["2", "4", "1"], TypeError, "integers, got"), (Tensor([2, 4, 1]), TypeError, "integers, got float64"),
    ([2, 0, 1], ValueError, r"\[2, 0, 1\].*from 1 to 4"), ([2, 4, -1], ValueError, r"\[2, 4, -1\].*from 1 to 4"),
    ([2, 5, 1], ValueError, r"\[2, 5, 1\].*from 1 to 4"), ([2, 4], ValueError, r"expected 3.*\(2,\)"),
    ([2, 4, 1, 1], ValueError, r"expected 3.*\(4,\)"), (3, ValueError, r"expected 3.*\(\)"),
    ([[2], [4], [1]], ValueError, r"expected 3.*\(3, 1\)")])
@pytest.mark.parametrize("batch_first", [True, False])
def test_wrong_lengths_are_refused_and_nothing_changes(lengths: Any, error: Any, told: str, batch_first: bool) -> None:
    net = net_of("lstm", bidirectional=True, batch_first=batch_first)
    unchanged = unchanged_by(net)
    with pytest.raises(error, match=f"lengths.*{told}"):
        net(normal(2, *((B, T, D) if batch_first else (T, B, D))), lengths=lengths)
    unchanged()


# ----------------------------------------------------------------------------------------------------------- properties
shapes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
names = st.sampled_from(list(VARIANTS))


def made(name: str, shape: Any, seed: int, **settings: Any) -> tuple[nn.Recurrent, Values]:
    T, B, D, H = shape
    kind, options, _ = VARIANTS[name]
    net = nn.Recurrent(kind, D, H, rng=generator(seed), **options, **settings)
    return net, values_of(net, seed, T, B)


@repeatable
@given(name=names, shape=shapes, seed=seeds, num_layers=st.integers(1, 2), bidirectional=st.booleans(), data=st.data())
def test_a_mask_is_the_unpadded_row(name: str, shape: Any, seed: int, num_layers: int, bidirectional: bool,
                                    data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, shape[0]), min_size=shape[1], max_size=shape[1]))
    net, values = made(name, shape, seed, num_layers=num_layers, bidirectional=bidirectional)
    expected = row_by_row(VARIANTS[name][2], values, num_layers, bidirectional, lengths)
    values["x"][padding(lengths, shape[0])] = np.nan
    results, leaves = by_library(net, values, lengths)
    assert all(apart(y.data, e) <= 1e-12 for y, e in zip(results, expected, strict=True))
    got = gradients_of(results, leaves, random_weights(results))
    assert not got["x"][padding(lengths, shape[0])].any() and all(np.isfinite(g).all() for g in got.values())


def halves_swapped(array: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(np.split(array, 2, axis)[::-1], axis)


@repeatable
@given(name=names, shape=shapes, seed=seeds)
def test_time_reversed_is_the_directions_swapped(name: str, shape: Any, seed: int) -> None:
    net, values = made(name, shape, seed, num_layers=2, bidirectional=True)

    def mirrored(values: Values) -> Values:
        """Time from its end, and each cell in the place of its twin; a U of the second layer reads [h'_t, h_t]."""
        found = {"x": values["x"][::-1]} | {s: values[s][[1, 0, 3, 2]] for s in ("h_0", "c_0") if s in values}
        for key in net.state_dict():
            _, place, parameter = key.split(".")
            twin = place.removesuffix("_reverse") if place.endswith("_reverse") else f"{place}_reverse"
            array = values[f"cells.{twin}.{parameter}"]
            found[key] = halves_swapped(array, 0) if place.startswith("l1") and parameter.startswith("U") else array
        return found

    def results_mirrored(output: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        return [halves_swapped(output, -1)[::-1], *(s[[1, 0, 3, 2]] for s in states)]

    results, leaves = by_library(net, values)
    weights = random_weights(results)
    expected = mirrored(gradients_of(results, leaves, weights))
    other = mirrored(values)
    net.load_state_dict({key: other[key] for key in net.state_dict()})
    others, leaves = by_library(net, other)
    for a, b in zip(others, results_mirrored(*(y.data for y in results)), strict=True):
        assert apart(a.data, b) <= 1e-12
    assert worst(gradients_of(others, leaves, results_mirrored(*weights)), expected) <= 1e-12


@repeatable
@given(name=names, shape=shapes, seed=seeds, data=st.data())
def test_rows_of_a_batch_can_come_in_any_order(name: str, shape: Any, seed: int, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(shape[1])))
    lengths = np.array(data.draw(st.lists(st.integers(1, shape[0]), min_size=shape[1], max_size=shape[1])))
    net, values = made(name, shape, seed, bidirectional=True)
    results, leaves = by_library(net, values, lengths)
    moved = values | {key: values[key][:, rows] for key in ("x", "h_0", "c_0") if key in values}
    others, other_leaves = by_library(net, moved, lengths[rows])
    assert all(apart(a.data, b.data[:, rows]) <= 1e-13 for a, b in zip(others, results, strict=True))
    weights = random_weights(results)
    expected = gradients_of(results, leaves, weights)
    got = gradients_of(others, other_leaves, [w[:, rows] for w in weights])
    assert worst(got, expected | {key: expected[key][:, rows] for key in ("x", "h_0", "c_0") if key in values}) <= 1e-12


@repeatable
@given(name=names, shape=shapes, seed=seeds, row=st.integers(0, 3))
def test_one_row_is_not_seen_by_another(name: str, shape: Any, seed: int, row: int) -> None:
    net, values = made(name, (shape[0], 4, *shape[2:]), seed, num_layers=2, bidirectional=True)
    results, _ = by_library(net, values)
    disturbed = {key: a.copy() for key, a in values.items()}
    disturbed["x"][:, row] = np.nan
    others, _ = by_library(net, disturbed)
    rest = [i for i in range(4) if i != row]
    assert all(np.array_equal(a.data[:, rest], b.data[:, rest]) for a, b in zip(others, results, strict=True))
    weights = random_weights(results)
    for w in weights:
        w[:, rest] = 0.0
    alone = gradients_of(*by_library(net, values), weights)
    assert not alone["x"][:, rest].any() and not alone["h_0"][:, rest].any()


# ----------------------------------------------------------------------------------------------------- shapes and names
@pytest.mark.parametrize(("kind", "blocks", "more"), [("RNN", 1, 0), ("LSTM", 4, 0), ("GRU", 3, 1)])
def test_a_layer_has_h_times_d_plus_h_plus_1_parameters_for_each_product(kind: str, blocks: int, more: int) -> None:
    def count(**settings: Any) -> list[int]:
        net = KINDS[kind](D, H, rng=generator(1), **settings)
        return [sum(p.size for p in cell.parameters()) for cell in net.cells.values()]

    of = {size: blocks * H * (size + H + 1) + more * H for size in (D, H, 2 * H)}
    assert count() == [of[D]]
    assert count(num_layers=3) == [of[D], of[H], of[H]]
    assert count(num_layers=3, bidirectional=True) == [of[D]] * 2 + [of[2 * H]] * 4
    assert count(num_layers=2, bias=False) == [blocks * H * (D + H), blocks * H * (H + H)]


def test_the_gru_of_s2_has_two_products() -> None:
    net = nn.GRU(D, H, 2, bidirectional=True, reset=None, update="u", rng=generator(1))
    assert [sum(p.size for p in cell.parameters()) for cell in net.cells.values()] == (
        [2 * H * (D + H + 1)] * 2 + [2 * H * (2 * H + H + 1)] * 2)


def test_cells_are_under_pytorchs_suffixes_and_parameters_named_by_layer_and_direction() -> None:
    assert list(nn.Recurrent(MinimalGatedUnit, D, H, rng=generator(1)).cells) == ["l0"]
    net = nn.RNN(D, H, 2, bidirectional=True, rng=generator(1))
    assert list(net.cells) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    assert list(net.state_dict())[:4] == ["cells.l0.U", "cells.l0.W", "cells.l0.b", "cells.l0_reverse.U"]
    assert [p.name for p in net.parameters()] == [f"{s}_l{layer}{mark}" for layer in (0, 1) for mark in ("", "'")
                                                  for s in "UWb"]
    assert [p.name for p in nn.RNN(D, H, bidirectional=True, rng=generator(1)).parameters()] == [
        "U", "W", "b", "U'", "W'", "b'"]
    assert len({p.data.ravel()[0] for p in net.parameters()}) == len(net.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_only_moves_the_axis(kind: str) -> None:
    settings: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    time_first = KINDS[kind](D, H, rng=generator(1), **settings)
    batch_first = KINDS[kind](D, H, rng=generator(1), batch_first=True, **settings)
    x = normal(2, T, B, D)
    output, last = time_first(x, lengths=LENGTHS)
    assert output.shape == (T, B, 2 * H)
    x_leaf = leaf(x.swapaxes(0, 1))
    for xs in (x.swapaxes(0, 1), x_leaf, Tensor(x.swapaxes(0, 1)), [leaf(row) for row in x.swapaxes(0, 1)],
               x.swapaxes(0, 1).tolist()):
        other, also = batch_first(xs, lengths=LENGTHS)
        assert other.shape == (B, T, 2 * H) and np.array_equal(other.data.swapaxes(0, 1), output.data)
        for a, b in zip(last if kind == "LSTM" else [last], also if kind == "LSTM" else [also]):
            assert a.shape == (4, B, H) and np.array_equal(a.data, b.data)
    ids = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
    assert np.array_equal(batch_first(ids)[0].data.swapaxes(0, 1), time_first(ids.T)[0].data)
    assert np.array_equal(batch_first(ids.tolist())[0].data, batch_first(ids)[0].data)


def test_rows_given_as_a_list_of_tensors_get_their_gradients_batch_first() -> None:
    net, x, g = net_of("gru after z", batch_first=True), normal(2, B, T, D), normal(3, B, T, H)
    whole, rows = leaf(x), [leaf(row) for row in x]
    net(whole)[0].backward(g)
    net(rows)[0].backward(g)
    assert apart(np.stack([row.grad for row in rows]), whole.grad) <= 1e-14  # type: ignore[arg-type]


def test_a_sequence_goes_on_with_the_state_of_an_earlier_call() -> None:
    for name in ("rnn tanh", "lstm", "gru before u"):
        net, x = net_of(name, num_layers=2), normal(2, 7, B, D)
        whole, last = net(x)
        first, state = net(x[:3])
        with pytest.raises(ValueError, match="start=4"):  # its steps could not be told from those before
            net(x[3:], state)
        second, end = net(x[3:], state, start=4)
        assert apart(np.concatenate([first.data, second.data]), whole.data) <= 1e-14
        for a, b in zip(last if isinstance(last, tuple) else [last], end if isinstance(end, tuple) else [end]):
            assert apart(b.data, a.data) <= 1e-14


def test_a_state_stacked_along_the_batch_is_the_array_that_it_is() -> None:
    net, x, first = net_of("rnn tanh", num_layers=2), normal(2, 4, 2, D), normal(3, 2, 2, H)
    by_rows = F.stack([Tensor(first[:, row], requires_grad=True) for row in range(2)], axis=1)
    np.testing.assert_array_equal(net(x, by_rows)[0].data, net(x, first)[0].data)


def test_the_backward_direction_in_two_calls_is_the_one_in_one() -> None:
    cell, x = net_of("lstm").cells["l0"], normal(2, 7, B, D)
    whole, (h, c) = nn.unroll(cell, x, direction="backward")
    late, state = nn.unroll(cell, x[4:], direction="backward", start=5)
    early, end = nn.unroll(cell, x[:4], state, direction="backward")
    assert all(np.array_equal(a.data, b.data) for a, b in zip([*early, *late], whole, strict=True))
    assert [y.scope["t"] for y in (*early, *late)] == [1, 2, 3, 4, 5, 6, 7]
    assert np.array_equal(end[0].data, h.data) and np.array_equal(end[1].data, c.data)
    with pytest.raises(ValueError, match=r"made at step 1 .*steps before 1\), or detach"):
        nn.unroll(cell, x[4:], (h, c), direction="backward", start=5)


@pytest.mark.parametrize(("direction", "start", "before"), [("forward", 1, 0), ("forward", 3, 2), ("backward", 1, 5),
                                                            ("backward", 3, 7)])
def test_the_first_state_belongs_to_the_step_before_the_first(direction: Any, start: int, before: int) -> None:
    cell, x, h_0 = net_of("rnn tanh", initial="learned").cells["l0"], normal(2, T, B, D), leaf(normal(3, B, H))
    for state in (None, h_0):
        nodes = order(nn.unroll(cell, x, state, direction=direction, start=start)[0])
        (first,) = [node for node in nodes if node.inputs[0] is (cell.h_0 if state is None else h_0)]
        assert first.scope == {"layer": 0, "direction": direction, "t": before} and first.name == "h"


def test_a_state_may_be_arrays_tensors_or_a_list_of_parts() -> None:
    net, x, h, c = net_of("lstm", num_layers=2), normal(2, T, B, D), normal(3, 2, B, H), normal(4, 2, B, H)
    expected = net(x, (Tensor(h), Tensor(c)))[0].data
    for state in ((h, c), [h, c], [Tensor(h), c], (leaf(h), leaf(c))):
        assert np.array_equal(net(x, state)[0].data, expected)


def test_the_last_state_of_the_backward_direction_is_the_one_at_the_first_step() -> None:
    net = nn.GRU(D, H, 2, bidirectional=True, rng=generator(1))
    output, h_n = net(normal(2, T, B, D), lengths=LENGTHS)
    assert np.array_equal(h_n.data[3], output.data[0, :, H:])
    for b, n in enumerate(LENGTHS):
        assert np.array_equal(h_n.data[2, b], output.data[n - 1, b, :H])


def test_what_is_made_says_layer_direction_and_step() -> None:
    net = net_of("lstm", num_layers=2, bidirectional=True)
    outputs, states = net.steps(normal(2, T, B, D))
    assert [y.scope["t"] for y in outputs] == [1, 2, 3, 4] and len(states) == 4
    assert [(h.scope["layer"], h.scope["direction"], h.scope["t"]) for h, _ in states] == [
        (0, "forward", T), (0, "backward", 1), (1, "forward", T), (1, "backward", 1)]
    outputs, states = net_of("gru after z", num_layers=2).steps(normal(2, T, B, D))
    assert outputs[-1] is states[-1]  # nothing is joined in one direction
    alone, _ = nn.unroll(net.cells["l0"], normal(2, T, B, D))
    assert alone[2].scope == {"layer": 0, "direction": "forward", "t": 3}


# -------------------------------------------------------------------------------------------------- a reader's own cell
def test_a_cell_of_ones_own_is_stacked_reversed_and_masked_as_it_is() -> None:
    for num_layers, bidirectional, lengths in ((2, False, None), (2, True, LENGTHS)):
        net = nn.Recurrent(MinimalGatedUnit, 1, 2, num_layers, bidirectional=bidirectional, rng=generator(1))
        forward, gradients = distances(net, np_minimal, values_of(net), lengths)
        assert forward <= 1e-13 and gradients <= 1e-12


@pytest.mark.parametrize("method", ["differences", "complex step"])
def test_a_cell_of_ones_own_passes_gradcheck_in_a_stack(method: Any) -> None:
    net = nn.Recurrent(MinimalGatedUnit, D, 3, 2, bidirectional=True, initial="learned", rng=generator(1))
    xs = leaf(normal(2, 3, B, D), "x")
    report = gradcheck(lambda *_: net(xs, lengths=[1, 3, 2])[0], [xs, *net.parameters()], method=method)
    assert report, report
    assert report.entries == xs.size + sum(p.size for p in net.parameters())


# -------------------------------------------------------------------------------------------------------------- dropout
class Pass(nn.Cell):
    """h_t = x_t, of a layer below with the first of its directions: what dropout did to it can be read off."""

    def forward(self, x: Any, h: Tensor) -> Tensor:
        return x[:, :self.hidden_size] * 1.0


def passing(num_layers: int, p: float = 0.25, seed: int = 3, **settings: Any) -> nn.Recurrent:
    return nn.Recurrent(Pass, 40, 40, num_layers, dropout=p, rng=generator(seed), **settings)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_dropout_is_between_layers_only_and_off_when_evaluating(bidirectional: bool) -> None:
    x = 1.0 + generator(2).random((T, B, 40))
    for num_layers in (1, 2, 3):
        net = passing(num_layers, bidirectional=bidirectional)
        output, h_n = (y.data for y in net(x))
        ratio = output[..., :40] / x
        kept = ratio != 0
        assert np.allclose(ratio[kept], (4 / 3) ** (num_layers - 1), rtol=1e-14)
        assert kept.all() == (num_layers == 1)
        assert np.array_equal(h_n[0], x[-1])  # the first layer saw everything
        assert np.array_equal(net.eval()(x)[0].data[..., :40], x)
        net.train()
        assert np.array_equal(net(x)[0].data[..., :40], x) == (num_layers == 1)


def test_dropout_keeps_the_mean_and_drops_every_element_of_every_step_by_itself() -> None:
    x, p = np.ones((50, 20, 40)), 0.25
    output = passing(2, p)(x)[0].data
    kept = output != 0
    n = output.size
    assert abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5
    assert abs(output.mean() - 1) < 5 * (p / (1 - p) / n) ** 0.5
    for axis in range(3):  # no two steps, rows or columns are dropped together
        other = np.roll(kept, 1, axis)
        assert abs((kept & other).mean() - (1 - p) ** 2) < 5 * 0.5 / n**0.5


def test_the_gradient_of_dropout_goes_where_the_values_went() -> None:
    x, g = leaf(1.0 + generator(2).random((T, B, 40))), normal(5, T, B, 40)
    output, _ = passing(2)(x)
    output.backward(g)
    assert apart(x.grad, g * (output.data / x.data)) <= 1e-14


def test_dropout_repeats_from_the_seed_and_draws_anew_at_every_call() -> None:
    x = normal(2, T, B, D)
    first, again, other = (nn.LSTM(D, H, 2, dropout=0.5, rng=generator(seed)) for seed in (1, 1, 2))
    other.load_state_dict(first.state_dict())
    a, b, c = (net(x)[0].data for net in (first, again, other))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert not np.array_equal(first(x)[0].data, a)
    first.eval(), other.eval()
    assert np.array_equal(first(x)[0].data, other(x)[0].data)
    before = first.rng.bit_generator.state
    first(x)
    assert first.rng.bit_generator.state == before


def test_without_dropout_nothing_is_drawn() -> None:
    for net in (nn.GRU(D, H, 2, rng=generator(1)), nn.GRU(D, H, 1, dropout=0.5, rng=generator(1))):
        before = net.rng.bit_generator.state
        net(normal(2, T, B, D))
        assert net.rng.bit_generator.state == before


def test_gradcheck_calls_dropout_not_deterministic_and_passes_without_it() -> None:
    net = nn.GRU(D, H, 2, dropout=0.5, rng=generator(1))
    xs = leaf(normal(2, 3, B, D), "x")
    report = gradcheck(lambda x: net(x)[0], xs)
    assert not report and not report.deterministic and "not deterministic" in str(report)
    net.eval()
    assert gradcheck(lambda x: net(x)[0], xs)


# ------------------------------------------------------------------------------------------------------------ bad input
def unchanged_by(net: nn.Recurrent) -> Any:
    """A check that parameters, their gradients and the generator are as they were when this was called."""
    for p in net.parameters():
        p.grad = np.ones(p.shape)
    before, rng = net.state_dict(), net.rng.bit_generator.state

    def check() -> None:
        assert all(np.array_equal(a, before[key]) for key, a in net.state_dict().items())
        assert all(p.grad is not None and (p.grad == 1).all() for p in net.parameters())
        assert net.rng.bit_generator.state == rng

    return check


def zeros(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape))


@pytest.mark.parametrize(("name", "state", "told"), [
    ("lstm", zeros(4, 3, 5), r"LSTMCell.*1 parts; expected the tuple \(h, c\)"),
    ("lstm", (zeros(4, 3, 5),), r"LSTMCell.*1 parts; expected the tuple \(h, c\)"),
    ("lstm", (zeros(4, 3, 5),) * 3, r"LSTMCell.*3 parts; expected the tuple \(h, c\)"),
    ("lstm", zeros(2, 4, 3, 5), r"\(2, 4, 3, 5\); expected \(4, B, 5\)"),
    ("lstm", (zeros(4, 3, 5), zeros(4, 3, 4)), r"\(4, 3, 4\); expected \(4, B, 5\)"),
    ("lstm", (zeros(4, 3, 5), zeros(4, 1, 5)), r"c of shape \(1, 5\); expected \(3, 5\)"),
    ("lstm", (zeros(4, 3, 5), zeros(2, 3, 5)), r"\(2, 3, 5\); expected \(4, B, 5\).*l0, l0_reverse, l1, l1_reverse"),
    ("gru after z", (zeros(4, 3, 5),) * 2, r"GRUCell.*2 parts; expected h"),
    ("gru after z", zeros(4, 1, 5), r"h of shape \(1, 5\); expected \(3, 5\)"),
    ("gru after z", zeros(1, 3, 5), r"\(1, 3, 5\); expected \(4, B, 5\)"),
    ("rnn tanh", zeros(3, 5), r"\(3, 5\); expected \(4, B, 5\)"),
    ("rnn tanh", [zeros(3, 5)] * 4, r"\(3, 5\); expected \(4, B, 5\)"),
    ("rnn tanh", zeros(4, 3, 1), r"\(4, 3, 1\); expected \(4, B, 5\)"),
    ("rnn tanh", 0.0, r"\(\); expected \(4, B, 5\)"),
])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_a_state_that_does_not_fit_the_layers_is_refused(name: str, state: Any, told: str, lengths: Any) -> None:
    net = net_of(name, num_layers=2, bidirectional=True, dropout=0.5)
    unchanged = unchanged_by(net)
    with pytest.raises(ValueError, match=told):
        net(normal(2, T, B, D), state, lengths=lengths)
    unchanged()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("xs", "told"), [
    (normal(1, T, B, D + 1), r"\(., 3\).*\(B, 2\)"), (normal(1, T, B), r"\(.,\).*\(B, 2\)"),
    (normal(1, T, B, D, 1), r"\(., 2, 1\).*\(B, 2\)"), (np.zeros((T, B, D), int), r"\(., 2\).*ids \(B,\)"),
    (Tensor(normal(1, T, B, D + 1)), r"\(., 3\).*\(B, 2\)"), (Tensor(normal(1, T)), r"shape \(4,\)"),
    (normal(1, T), r"shape \(4,\)"), (np.arange(T), r"shape \(4,\)"), (np.float64(1.0), r"shape \(\)"),
    ([1.0, 2.0], r"shape \("), ([0, 1], r"shape \("), ([Tensor(1.0), Tensor(2.0)], r"shape \(")])
def test_a_sequence_that_does_not_fit_is_refused_with_its_shape(xs: Any, told: str, batch_first: bool) -> None:
    net = net_of("gru after z", bidirectional=True, batch_first=batch_first)
    unchanged = unchanged_by(net)
    with pytest.raises(ValueError, match=told):
        net(xs)
    unchanged()


@pytest.mark.parametrize("empty", [[], np.zeros((0, B, D)), zeros(0, B, D)])
def test_a_sequence_without_steps_is_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        net_of("lstm")(empty)
    with pytest.raises(ValueError, match="at least one step"):
        net_of("lstm", batch_first=True)(np.zeros((B, 0, D)))


@pytest.mark.parametrize(("build", "error", "told"), [
    (lambda: nn.RNN(D, H, nonlinearity="gelu", rng=generator(1)), ValueError, "gelu"),
    (lambda: nn.RNN(D, H, reset="after", rng=generator(1)), TypeError, "reset"),
    (lambda: nn.LSTM(D, H, nonlinearity="tanh", rng=generator(1)), TypeError, "nonlinearity"),
    (lambda: nn.LSTM(D, H, proj_size=3, rng=generator(1)), TypeError, "proj_size"),
    (lambda: nn.LSTM(D, H, bias=False, forget_bias=1.0, rng=generator(1)), ValueError, r"forget_bias 1\.0"),
    (lambda: nn.GRU(D, H, reset="never", rng=generator(1)), ValueError, "never"),
    (lambda: nn.GRU(D, H, update="x", rng=generator(1)), ValueError, "'x'"),
    (lambda: nn.GRU(D, H, initial="random", rng=generator(1)), ValueError, "random"),
    (lambda: nn.GRU(D, H, 0, rng=generator(1)), ValueError, "num_layers.*0"),
    (lambda: nn.GRU(D, H, 1.5, rng=generator(1)), TypeError, r"num_layers.*1\.5"),  # type: ignore[arg-type]
    (lambda: nn.GRU(D, 0, rng=generator(1)), ValueError, "hidden_size.*0"),
    (lambda: nn.GRU(D, H, rng=7), TypeError, "rng.*7"),
    (lambda: nn.GRU(D, H), TypeError, "rng"),
    *((lambda p=p: nn.GRU(D, H, 2, dropout=p, rng=generator(1)), ValueError if isinstance(p, float) else TypeError,
       f"dropout {p!r}.*0 to below 1") for p in (1.0, -0.1, 1.5, float("nan"), float("inf"), "0.5", None)),
])
def test_a_layer_refuses_an_unknown_option_with_what_was_given(build: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        build()


@pytest.mark.parametrize("direction", ["reverse", "Forward", None, 1, "both"])
def test_an_unknown_direction_is_refused(direction: Any) -> None:
    with pytest.raises(ValueError, match=f"direction {direction!r}.*'forward' or 'backward'"):
        nn.unroll(net_of("rnn tanh").cells["l0"], normal(2, T, B, D), direction=direction)


# ----------------------------------------------------------------------------------------------------- the tests notice
def far_from_rows() -> float:
    net = nn.RNN(1, 2, 2, bidirectional=True, rng=generator(1))
    return max(distances(net, VARIANTS["rnn tanh"][2], values_of(net), LENGTHS))


@pytest.mark.parametrize(("function", "old", "new"), [
    (nn.unroll, "range(T)[::-1], start + T", "range(T), start + T"),
    (nn.unroll, "outputs[i] = output_of(state)", "outputs[i] = output_of(state) * (1 + 1e-6)"),
    (nn.unroll, "state = cell(x, state)\n                    outputs[i] = output_of(state)",
     "outputs[i] = output_of(state)\n                    state = cell(x, state)"),
    (nn.unroll, "return [outputs[i] for i in range(T)]", "return [outputs[i] for i in steps]"),
    (nn.unroll, "first(state, ", f"first(state * {E}, "),
    (nn.unroll.__globals__["masked"], "where(present, new, old)", "where(True, new, old)"),
    (nn.unroll.__globals__["masked"], "where(present, new, old)", f"where(present, new, old * {E})"),
    (nn.unroll.__globals__["masked"], "where(present, new, old)", "where(present, new, 0.0)"),
    (nn.unroll.__globals__["masked"], "where(present, h, 0.0)", "where(True, h, 0.0)"),
    (nn.unroll.__globals__["presence"], "np.arange(T)[:, None, None] <", "np.arange(T)[:, None, None] <="),
    (nn.unroll.__globals__["presence"], "< array[:, None]", "< array[::-1, None]"),
    (Recurrent.given, "one_of(part, i)", "one_of(part, 0)"),
    (Recurrent.joined, "F.concat(parts, -1)", "F.concat(parts[::-1], -1)"),
    (Recurrent.steps, "self.cells[suffix(layer, direction)]", "self.cells[suffix(layer, 'forward')]"),
    (Recurrent.steps, "lengths=lengths,", "lengths=lengths if layer == 0 else None,"),
    (Recurrent.forward, "F.stack(parts)", "F.stack(parts[::-1])"),
])
def test_the_comparison_with_the_rows_notices(monkeypatch: pytest.MonkeyPatch, function: Any, old: str,
                                              new: str) -> None:
    assert far_from_rows() <= 1e-12
    mutate(monkeypatch, function, old, new)
    assert far_from_rows() > 1e-9


@pytest.mark.parametrize(("name", "function", "old", "new"), [
    ("lstm", nn.LSTMCell.forward, "f * c +", f"f * c * {E} +"),
    ("lstm, 2 layers, both directions", nn.LSTMCell.forward, "sigmoid(z_i)", "sigmoid(z_o)"),
    ("gru, 3 layers, both directions", nn.GRUCell.forward, "z * h", f"z * h * {E}"),
    ("rnn, both directions, without bias", nn.unroll, "range(T)[::-1], start + T", "range(T), start + T"),
    ("gru, 2 layers, lengths", nn.unroll.__globals__["masked"], "where(present, new, old)", "where(True, new, old)"),
])
def test_the_comparison_with_pytorch_notices(monkeypatch: pytest.MonkeyPatch, name: str, function: Any, old: str,
                                             new: str) -> None:
    _, kind, settings, lengths = next(case for case in LAYERS if case[0] == name)
    mutate(monkeypatch, function, old, new)
    assert max(against_torch(kind, settings, lengths, KNOWN[name]).values()) > 1e-9


def test_the_dropout_tests_notice_dropout_after_the_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, Recurrent.joined, "layer < self.num_layers - 1", "True")
    with pytest.raises(AssertionError):
        test_dropout_is_between_layers_only_and_off_when_evaluating(False)
